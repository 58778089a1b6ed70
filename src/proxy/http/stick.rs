//! Stickiness of one request: what the client brought, where it leads, and what the answer tells it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use ipnet::IpNet;

use super::exchange::Exchange;
use crate::proxy::config::StickyRule;
use crate::proxy::forwarded;
use crate::proxy::route::{ServiceRef, Target};
use crate::proxy::sticky::cookie::{Brought, set_cookie, without};
use crate::proxy::sticky::{Identity, Outcome, Stay, Sticking, Visit};
use crate::proxy::table::ProxyTable;
use crate::proxy::upstream::Endpoint;

/// How a request is bound.
#[derive(Debug, Default)]
pub(super) enum Stick {
    /// Not at all.
    #[default]
    Loose,
    /// By a cookie.
    Cookie(ByCookie),
    /// By the client's address.
    Source(BySource),
}

/// A request of a route whose clients bring a cookie.
#[derive(Debug)]
pub(super) struct ByCookie {
    sticking: Arc<Sticking>,
    brought: Brought,
    /// The cookie that was brought is for a service that the route leads to.
    ours: bool,
    /// The request goes where the cookie leads.
    bound: bool,
    /// Where it goes instead.
    target: Option<ServiceRef>,
    /// The client came by https.
    secure: bool,
}

/// A request of a route whose clients are known by their address.
#[derive(Debug)]
pub(super) struct BySource {
    visit: Visit,
    bound: bool,
    stay: Option<Stay>,
}

/// What an answer tells the client.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Value of the `Set-Cookie` line.
    pub(super) set_cookie: Option<String>,
    /// `Cache-Control: private` is to be added, for the cookie is this client's.
    pub(super) private: bool,
}

impl Exchange {
    /// Sees by what the client may be bound, when the route is sticky. Before the pick.
    pub(super) fn stick(&mut self, request: &Parts) {
        let (Some(arrival), Some(route)) = (&self.arrival, &self.route) else { return };
        let Some(sticky) = &route.config.sticky else { return };
        let (Some(rule), Some(config)) = (sticky.rule(), self.config()) else { return };
        let table = arrival.service.current.load();
        self.stick = match rule {
            StickyRule::Cookie(name) => {
                let Some(sticking) = table.sticking() else { return };
                let Some(keys) = &sticking.keys else { return };
                let lines = request.headers.get_all("cookie").into_iter();
                let lines = lines.map(http::HeaderValue::as_bytes);
                let brought = keys.read(name, lines, sticking.clock.seconds());
                Stick::Cookie(ByCookie {
                    sticking: Arc::clone(sticking),
                    brought,
                    ours: false,
                    bound: false,
                    target: None,
                    secure: secure(request, arrival.peer, &config.trusted_proxies),
                })
            }
            StickyRule::Source(_) => {
                let client = client(arrival.peer, &request.headers, &config.trusted_proxies);
                match Visit::of(&table, Some(sticky), client) {
                    Some(visit) => Stick::Source(BySource { visit, bound: false, stay: None }),
                    None => Stick::Loose,
                }
            }
        };
    }

    /// Of a route that leads to several services, the one to whose endpoint the client is bound.
    pub(super) fn keep_to_service(&mut self) {
        let (Some(arrival), Some(route)) = (&self.arrival, self.route.clone()) else { return };
        let Target::Split(split) = &route.target else { return };
        let table = arrival.service.current.load();
        if let Some((choice, _)) = self.bound(&table, split.services()) {
            self.choice = choice;
        }
    }

    /// The endpoint that the client is bound to, and which of `candidates` (the services that the
    /// route leads to) it belongs to. Asked before the first pick of a request only: once that endpoint
    /// has failed, another one is picked. Never blocks.
    ///
    /// An endpoint whose `max_connections` are reached is given all the same: whoever counts them lets
    /// the client wait, or picks another one.
    pub(super) fn bound<'a>(
        &mut self,
        table: &ProxyTable,
        candidates: impl Iterator<Item = &'a ServiceRef>,
    ) -> Option<(usize, Arc<Endpoint>)> {
        if !self.tried.is_empty() {
            return None;
        }
        match &mut self.stick {
            Stick::Loose => None,
            Stick::Cookie(by) => by.bound(table, candidates),
            Stick::Source(by) => by.visit.bound(table, candidates),
        }
    }

    /// The request goes to `endpoint` of `wanted`; `bound`: because the client is bound to it.
    pub(super) fn goes(&mut self, wanted: &ServiceRef, endpoint: &Endpoint, bound: bool) {
        let watched = self.upgrade;
        match &mut self.stick {
            Stick::Loose => {}
            Stick::Cookie(by) => {
                by.bound = bound;
                by.target = Some(wanted.clone());
            }
            Stick::Source(by) => {
                by.bound = bound;
                // Bound from now on, not from its answer on: a browser asks several things at once.
                by.stay = Some(by.visit.goes(wanted, endpoint, watched));
            }
        }
    }

    /// The endpoint has answered: counts what became of the binding, and gives what is to be told with
    /// the `answer`. For final answers, once.
    pub(super) fn settle(&mut self, answer: &HeaderMap) -> Told {
        let mut told = Told::default();
        let outcome = match &self.stick {
            Stick::Loose => return told,
            Stick::Source(by) => by.visit.outcome(by.bound),
            Stick::Cookie(by) => {
                let name = self.cookie().unwrap_or_default();
                if let (Some(endpoint), Some(target), Some(keys), true) =
                    (&self.endpoint, &by.target, &by.sticking.keys, by.wants_another())
                {
                    let identity = Identity::of(target, endpoint);
                    let value = keys.seal(name, identity, by.sticking.clock.seconds());
                    told.set_cookie = Some(set_cookie(name, &value, by.secure));
                    told.private = !kept_private(answer);
                }
                by.outcome()
            }
        };
        if let Some(arrival) = &self.arrival {
            arrival.service.metrics.sticky.count(outcome);
        }
        told
    }

    /// The `Cookie` line to send on instead of the client's: without the one that is ours. Empty when
    /// nothing is left; `None` when there is nothing to take out.
    pub(super) fn cookies_left(&self, request: &HeaderMap) -> Option<Vec<u8>> {
        match &self.stick {
            Stick::Cookie(by) if by.brought != Brought::Nothing => {
                let lines = request.get_all("cookie").into_iter();
                without(self.cookie()?, lines.map(http::HeaderValue::as_bytes))
            }
            _ => None,
        }
    }

    /// The name of the route's cookie.
    fn cookie(&self) -> Option<&str> {
        self.route.as_ref()?.config.sticky.as_ref()?.cookie.as_deref()
    }
}

impl ByCookie {
    fn bound<'a>(
        &mut self,
        table: &ProxyTable,
        candidates: impl Iterator<Item = &'a ServiceRef>,
    ) -> Option<(usize, Arc<Endpoint>)> {
        let Brought::Good(opened) = self.brought else { return None };
        for (number, wanted) in candidates.enumerate() {
            let Some(index) = table.index(wanted) else { continue };
            if index.upstream == opened.identity.upstream {
                self.ours = true;
                let endpoint = index.endpoint(opened.identity.endpoint)?;
                return Some((number, Arc::clone(endpoint)));
            }
        }
        None
    }

    /// Whether the client gets a cookie with this answer: unless it has one that is good.
    const fn wants_another(&self) -> bool {
        match self.brought {
            Brought::Good(opened) => !self.bound || opened.stale,
            Brought::Nothing | Brought::Bad => true,
        }
    }

    const fn outcome(&self) -> Outcome {
        match self.brought {
            Brought::Nothing => Outcome::New,
            Brought::Good(_) if self.bound => Outcome::Bound,
            Brought::Good(_) if self.ours => Outcome::Broken,
            Brought::Good(_) | Brought::Bad => Outcome::Forged,
        }
    }
}

/// Whether caches that several people share keep the answer out already.
fn kept_private(answer: &HeaderMap) -> bool {
    let lines = answer.get_all("cache-control").into_iter();
    let mut words = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    words.any(|word| {
        let word = word.trim();
        word.eq_ignore_ascii_case("private") || word.eq_ignore_ascii_case("no-store")
    })
}

/// Whether the client came by https: what a trusted proxy says of the first hop.
fn secure(request: &Parts, peer: SocketAddr, trusted: &[IpNet]) -> bool {
    let told = request.headers.get(forwarded::PROTO).and_then(|value| value.to_str().ok());
    let first = told.and_then(|told| told.split(',').next());
    first.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"))
        && forwarded::within(peer.ip(), trusted)
}

/// Who asks: the peer, or whom trusted proxies tell of, the last one that is no such proxy itself.
fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let told = headers.get_all(forwarded::FOR).into_iter();
    forwarded::client(peer.ip(), told.map(|line| line.to_str().unwrap_or("?")), trusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (case, peer, lines, want) in [
            ("a stranger who lies", "1.2.3.4", &["5.6.7.8"][..], "1.2.3.4"),
            ("a proxy that tells nothing", "10.0.0.1", &[][..], "10.0.0.1"),
            ("a proxy", "10.0.0.1", &["5.6.7.8"][..], "5.6.7.8"),
            ("a client that lies to a proxy", "10.0.0.1", &["9.9.9.9, 5.6.7.8"][..], "5.6.7.8"),
            ("two proxies", "10.0.0.1", &["9.9.9.9, 5.6.7.8, 10.0.0.2"][..], "5.6.7.8"),
            ("two lines", "10.0.0.1", &["9.9.9.9", "5.6.7.8,10.0.0.2"][..], "5.6.7.8"),
            ("only proxies", "10.0.0.1", &["10.0.0.3, 10.0.0.2"][..], "10.0.0.3"),
            ("what is no address", "10.0.0.1", &["5.6.7.8, unknown, 10.0.0.2"][..], "10.0.0.2"),
            ("mapped", "::ffff:10.0.0.1", &["::ffff:5.6.7.8"][..], "5.6.7.8"),
            ("IPv6", "10.0.0.1", &["fd00::1"][..], "fd00::1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(forwarded::FOR, line.parse().unwrap());
            }
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            assert_eq!(client(peer, &headers, &trusted).to_string(), want, "{case}");
        }
    }

    #[test]
    fn the_client_came_by_https_only_if_a_trusted_proxy_says_so() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (case, peer, told, want) in [
            ("nobody says so", "10.0.0.1", None, false),
            ("a trusted proxy", "10.0.0.1", Some("https"), true),
            ("the first hop counts", "10.0.0.1", Some("HTTPS, http"), true),
            ("by http", "10.0.0.1", Some("http"), false),
            ("a stranger", "1.2.3.4", Some("https"), false),
        ] {
            let mut request = http::Request::new(()).into_parts().0;
            if let Some(told) = told {
                request.headers.insert(forwarded::PROTO, told.parse().unwrap());
            }
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            assert_eq!(secure(&request, peer, &trusted), want, "{case}");
        }
    }

    #[test]
    fn an_answer_that_shared_caches_keep_out_already_is_not_told_so_again() {
        for (lines, want) in [
            (&[][..], false),
            (&["public, max-age=60"][..], false),
            (&["max-age=60, Private"][..], true),
            (&["max-age=60", "no-store"][..], true),
            (&["x-private"][..], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("cache-control", line.parse().unwrap());
            }
            assert_eq!(kept_private(&headers), want, "{lines:?}");
        }
    }
}
