//! Which Marathon is asked next, and who may see the credentials. Pure.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use crate::net::http::Origin;

/// How long a leader that could not be reached is not tried by that name.
const SHUNNED: Duration = Duration::from_secs(60);

/// The nodes of one Marathon.
#[derive(Debug)]
pub(super) struct Nodes {
    configured: Vec<Origin>,
    /// The leader, as an answer or ZooKeeper named it.
    leader: Option<Origin>,
    shunned: Option<(Origin, Instant)>,
    next: usize,
    /// Whether nodes whose scheme nobody names are asked over TLS.
    tls: bool,
}

/// Who may see the credentials: the configured nodes, and the leader that one of them named.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trust {
    all: Arc<[Origin]>,
    /// Only over TLS: that is how all of them are configured.
    tls: bool,
}

impl Trust {
    /// Whether `origin` may see them. Its path says nothing: it is the same server.
    pub(super) fn covers(&self, origin: &Origin) -> bool {
        (origin.tls() || !self.tls)
            && self.all.iter().any(|one| {
                (one.host(), one.port(), one.tls()) == (origin.host(), origin.port(), origin.tls())
            })
    }

    /// The same, and `origin` too.
    pub(super) fn with(&self, origin: Origin) -> Self {
        Self { all: self.all.iter().cloned().chain([origin]).collect(), tls: self.tls }
    }
}

impl Nodes {
    /// Those that are configured; with none, ZooKeeper names them, and `tls` says how they are
    /// asked.
    pub(super) fn new(configured: Vec<Origin>, tls: bool) -> Self {
        let tls = if configured.is_empty() { tls } else { configured.iter().all(Origin::tls) };
        Self { configured, leader: None, shunned: None, next: 0, tls }
    }

    /// Who may see the credentials now.
    pub(super) fn trust(&self) -> Trust {
        Trust { all: self.configured.iter().chain(&self.leader).cloned().collect(), tls: self.tls }
    }

    /// The node to ask next: the leader if it is known and could be reached, else each configured
    /// one in its turn. None while nobody is known.
    pub(super) fn pick(&mut self, now: Instant) -> Option<Origin> {
        if let Some(leader) = &self.leader
            && !self.shunned.as_ref().is_some_and(|(who, until)| who == leader && now < *until)
        {
            return Some(leader.clone());
        }
        let node = self.configured.get(self.next % self.configured.len().max(1)).cloned();
        self.next = self.next.wrapping_add(1);
        node
    }

    /// A stream of `node` did not come to anything: a leader that was only named is not tried by
    /// that name for a while, for it may have no route from here.
    pub(super) fn failed(&mut self, node: &Origin, now: Instant) {
        if self.leader.as_ref() == Some(node) {
            if self.configured.is_empty() {
                // There is nobody else to ask.
                return;
            }
            self.shunned = Some((node.clone(), now + SHUNNED));
            self.leader = None;
        }
    }

    /// A trusted answer, or ZooKeeper, names the leader: `http://host:port` or `host:port`.
    pub(super) fn named(&mut self, leader: &str, now: Instant) {
        let Some(named) = self.read(leader) else { return };
        let shunned =
            self.shunned.as_ref().is_some_and(|(who, until)| *who == named && now < *until);
        if !shunned {
            // One that is configured keeps its path and its way of being written.
            let same = |one: &&Origin| {
                (one.host(), one.port(), one.tls()) == (named.host(), named.port(), named.tls())
            };
            let known = self.configured.iter().find(same).cloned();
            self.leader = Some(known.unwrap_or(named));
        }
    }

    /// The leader that is known.
    pub(super) const fn leader(&self) -> Option<&Origin> {
        self.leader.as_ref()
    }

    fn read(&self, leader: &str) -> Option<Origin> {
        named_origin(leader, self.tls)
    }
}

/// What a name of a leader stands for: `http://host:port`, or `host:port` with `tls` as it is.
pub(super) fn named_origin(leader: &str, tls: bool) -> Option<Origin> {
    let leader = leader.trim();
    if leader.contains("://") {
        return bare(leader);
    }
    bare(&format!("{}://{leader}", if tls { "https" } else { "http" }))
}

/// The origin of `url`, without its path.
fn bare(url: &str) -> Option<Origin> {
    let uri: Uri = url.parse().ok()?;
    Origin::parse(&format!("{}://{}", uri.scheme_str()?, uri.authority()?)).ok()
}

/// Where a redirect of `from` leads (RFC 9110 §10.2.2): the origin, and the path with its query.
pub(super) fn target(from: &Origin, location: &str) -> Option<(Origin, String)> {
    if let Some(path) = from.here(location) {
        // The path is whole: the path that stands before others is in it already.
        let scheme = if from.tls() { "https" } else { "http" };
        let origin = Origin::parse(&format!("{scheme}://{}", from.authority())).ok()?;
        return Some((origin, path));
    }
    let uri: Uri = location.parse().ok()?;
    let path = uri.path_and_query().map_or_else(|| "/".into(), ToString::to_string);
    Some((bare(location)?, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    fn nodes(urls: &[&str]) -> Nodes {
        Nodes::new(urls.iter().map(|url| origin(url)).collect(), false)
    }

    #[test]
    fn nodes_take_turns_until_a_leader_is_named_and_again_when_it_cannot_be_reached() {
        let mut now = Instant::now();
        let mut nodes = nodes(&["http://a:8080", "http://b:8080/marathon"]);
        let pick = |nodes: &mut Nodes, now| nodes.pick(now).unwrap().to_string();
        assert_eq!(pick(&mut nodes, now), "http://a:8080");
        assert_eq!(pick(&mut nodes, now), "http://b:8080/marathon");
        assert_eq!(pick(&mut nodes, now), "http://a:8080");
        nodes.named("http://10.0.0.9:8080", now);
        assert_eq!(pick(&mut nodes, now), "http://10.0.0.9:8080");
        nodes.failed(&origin("http://a:8080"), now);
        assert_eq!(pick(&mut nodes, now), "http://10.0.0.9:8080", "another one failed");
        nodes.failed(&origin("http://10.0.0.9:8080"), now);
        assert_eq!(pick(&mut nodes, now), "http://b:8080/marathon");
        nodes.named("10.0.0.9:8080", now);
        assert_eq!(pick(&mut nodes, now), "http://a:8080", "it is known not to be reached");
        now += SHUNNED;
        nodes.named("10.0.0.9:8080", now);
        assert_eq!(pick(&mut nodes, now), "http://10.0.0.9:8080");
        nodes.named("b:8080", now);
        assert_eq!(pick(&mut nodes, now), "http://b:8080/marathon", "with the path it is given");
    }

    #[test]
    fn without_configured_nodes_there_is_none_until_zookeeper_names_one_and_it_stays() {
        let now = Instant::now();
        let mut nodes = Nodes::new(Vec::new(), true);
        assert_eq!(nodes.pick(now), None);
        nodes.named("m1:8443", now);
        nodes.failed(&origin("https://m1:8443"), now);
        assert_eq!(nodes.pick(now), Some(origin("https://m1:8443")));
        nodes.named("no host at all", now);
        assert_eq!(nodes.pick(now), Some(origin("https://m1:8443")), "nonsense names nobody");
    }

    #[test]
    fn credentials_are_for_configured_nodes_and_the_leader_and_never_for_less_than_they_ask() {
        let now = Instant::now();
        let mut plain = nodes(&["http://a:8080", "https://b"]);
        plain.named("http://l:8080", now);
        let mut secure = nodes(&["https://a:8443/x"]);
        secure.named("http://l:8080", now);
        for (case, nodes, who, want) in [
            ("configured", &plain, "http://a:8080", true),
            ("configured, another path", &plain, "http://a:8080/v2", true),
            ("the usual port", &plain, "https://b:443", true),
            ("the leader", &plain, "http://l:8080", true),
            ("another port", &plain, "http://a:8081", false),
            ("another scheme", &plain, "https://a:8080", false),
            ("anybody", &plain, "http://c:8080", false),
            ("TLS", &secure, "https://a:8443", true),
            ("a leader without TLS where all have it", &secure, "http://l:8080", false),
        ] {
            assert_eq!(nodes.trust().covers(&origin(who)), want, "{case}");
        }
        let more = plain.trust().with(origin("http://c:8080"));
        assert!(more.covers(&origin("http://c:8080")) && more.covers(&origin("http://a:8080")));
    }

    #[test]
    fn a_redirect_leads_where_it_says_and_never_with_a_password_in_it() {
        let from = origin("http://a:8080/base");
        for (location, want) in [
            ("http://b:80/v2/events?x=1", Some(("http://b", "/v2/events?x=1"))),
            ("https://b/v2/events", Some(("https://b", "/v2/events"))),
            ("http://b", Some(("http://b", "/"))),
            ("/v2/events?x=1", Some(("http://a:8080", "/v2/events?x=1"))),
            ("http://a:8080/base/v2/x", Some(("http://a:8080", "/base/v2/x"))),
            ("http://user:secret@b/", None),
            ("ftp://b/", None),
            ("v2/events", None),
            ("", None),
        ] {
            let got = target(&from, location).map(|(to, path)| (to.to_string(), path));
            let want = want.map(|(to, path): (&str, &str)| (to.to_owned(), path.to_owned()));
            assert_eq!(got, want, "{location:?}");
        }
    }
}
