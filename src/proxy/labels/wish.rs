//! The labels of one port that have a meaning of their own, each with marathon-lb's exact reading.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::balance;
use super::config::MarathonLbConfig;
use super::extras::{About, Cost, Extras, Refused};
use super::paths::Paths;
use super::target::App;
use super::{bind, known};
use crate::proxy::config::BasicAuthConfig;
use crate::proxy::route::canonical;

/// The labels of one port, by their names without `HAPROXY_{n}_`.
pub(super) type Labels<'a> = BTreeMap<&'a str, &'a str>;

/// What one port of an app wants.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// Virtual hosts, in lower case.
    pub(super) hosts: Vec<String>,
    pub(super) paths: Option<Paths>,
    /// The order of routes; the largest first.
    pub(super) weight: i32,
    /// The port of its own, if it gets one.
    pub(super) port: Option<u16>,
    pub(super) bind: Option<IpAddr>,
    pub(super) tls: bool,
    pub(super) http: bool,
    pub(super) sticky: bool,
    pub(super) redirect: bool,
    pub(super) hsts: bool,
    pub(super) auth: Option<BasicAuthConfig>,
    /// Taken off the front of paths.
    pub(super) pass: Option<String>,
    /// Put before the paths of answers that lead back.
    pub(super) back: Option<String>,
    /// Where `/` leads.
    pub(super) root: Option<String>,
    pub(super) allow: Vec<IpNet>,
    pub(super) extras: Extras,
    /// Whether the app's id leads here.
    pub(super) by_app: bool,
}

/// Reads the labels of the port of this `index`. `None`: the port is refused.
pub(super) fn read(
    config: &MarathonLbConfig,
    app: &App<'_>,
    index: usize,
    labels: &Labels<'_>,
    problems: &mut Vec<String>,
) -> Option<Wish> {
    let mut reading = Reading { index, labels, problems, refused: Vec::new() };
    let mut wish = Wish::default();
    reading.mode_and_hosts(config, app, &mut wish);
    wish.weight = reading.weight(wish.paths.is_some());
    wish.sticky = reading.flag("STICKY");
    wish.redirect = reading.flag("REDIRECT_TO_HTTPS");
    wish.hsts = reading.flag("USE_HSTS");
    wish.auth = reading.auth();
    wish.allow = reading.networks();
    reading.paths_of_answers(&mut wish);
    reading.templates(&mut wish);
    reading.balance(&mut wish);
    reading.fit(&mut wish);
    reading.own_port(config, app, &mut wish);
    let refused = |cost| reading.refused.contains(&cost);
    if refused(Cost::Port) {
        return None;
    }
    if refused(Cost::Hosts) {
        wish.hosts.clear();
    }
    wish.by_app = !refused(Cost::App);
    Some(wish)
}

/// The labels of one port while they are read.
pub(super) struct Reading<'a, 'l> {
    pub(super) index: usize,
    labels: &'a Labels<'l>,
    problems: &'a mut Vec<String>,
    refused: Vec<Cost>,
}

impl<'l> Reading<'_, 'l> {
    pub(super) fn get(&self, name: &str) -> Option<&'l str> {
        self.labels.get(name).copied()
    }

    /// Tells what is wrong with a label, without its value.
    pub(super) fn tell(&mut self, cost: Cost, name: &str, what: &str) {
        self.refused.push(cost);
        let what = what.replace("{n}", &self.index.to_string());
        let end = if cost == Cost::Port { "; the port is not served" } else { "" };
        self.problems.push(format!("HAPROXY_{}_{name}: {what}{end}", self.index));
    }

    /// Python's `string_to_bool` of marathon-lb: everything else is false.
    fn flag(&mut self, name: &str) -> bool {
        let Some(text) = self.get(name) else { return false };
        let truth = known::truth(text);
        if truth.is_none() {
            let what =
                format!("{:?} counts as false, as it does with marathon-lb; write true", cut(text));
            self.tell(Cost::Told, name, &what);
        }
        truth.unwrap_or(false)
    }

    fn auth(&mut self) -> Option<BasicAuthConfig> {
        let text = self.get("AUTH")?;
        let unfit = |c: char| !(c == ' ' || c.is_ascii_graphic()) || c == '"' || c == '\\';
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(realm), Some(user), Some(hash), None)
                if !user.is_empty() && !hash.is_empty() && !realm.contains(unfit) =>
            {
                Some(BasicAuthConfig {
                    realm: realm.to_owned(),
                    users: BTreeMap::from([(user.to_owned(), hash.to_owned())]),
                    // HAProxy passes it on.
                    forward: true,
                    ..BasicAuthConfig::default()
                })
            }
            _ => {
                let what = "is not realm:user:encryptedpassword; no virtual host is served";
                self.tell(Cost::Hosts, "AUTH", what);
                None
            }
        }
    }

    fn networks(&mut self) -> Vec<IpNet> {
        const NETWORKS_MAX: usize = 256;
        let name = "BACKEND_NETWORK_ALLOWED_ACL";
        let mut found = Vec::new();
        for word in self.get(name).unwrap_or_default().split_whitespace() {
            let network = word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
            match network {
                Ok(_) if found.len() >= NETWORKS_MAX => {
                    let what = format!("names more than {NETWORKS_MAX} networks");
                    self.tell(Cost::Port, name, &what);
                    break;
                }
                Ok(network) => found.push(network),
                Err(_) => {
                    let what = format!("{:?} is no address and no network", cut(word));
                    self.tell(Cost::Port, name, &what);
                }
            }
        }
        found
    }

    fn paths_of_answers(&mut self, wish: &mut Wish) {
        let rooted = |text: &str| text.starts_with('/') && !text.starts_with("//");
        for (name, place) in [
            ("HTTP_BACKEND_PROXYPASS_PATH", &mut wish.pass),
            ("HTTP_BACKEND_REVPROXY_PATH", &mut wish.back),
            ("HTTP_BACKEND_REDIR", &mut wish.root),
        ] {
            let Some(text) = self.get(name).map(str::trim).filter(|text| !text.is_empty()) else {
                continue;
            };
            let whole = name == "HTTP_BACKEND_REDIR"
                && (text.starts_with("http://") || text.starts_with("https://"));
            let odd = |c: char| c.is_whitespace() || c.is_control() || "?#$\\\"<>^`|".contains(c);
            let fits = text.len() <= PATH_MAX
                && !text.contains(odd)
                && text.is_ascii()
                && (whole || canonical(text).is_ok());
            if (rooted(text) || whole) && fits {
                *place = Some(text.to_owned());
            } else {
                let what = format!("{:?} is no path; write it as /my/content", cut(text));
                self.tell(Cost::Told, name, &what);
            }
        }
    }

    fn balance(&mut self, wish: &mut Wish) {
        let Some(text) = self.get("BALANCE") else { return };
        let words: Vec<&str> = text.split_whitespace().collect();
        // A BACKEND_HEAD of its own counts above it, unless it says {balance}.
        if wish.extras.balance.policy.is_some() {
            return;
        }
        match balance::policy(&words) {
            Ok(policy) => wish.extras.balance.policy = Some(policy),
            Err(what) => {
                self.tell(Cost::Told, "BALANCE", &format!("{:?} {what}", cut(text)));
            }
        }
    }

    fn templates(&mut self, wish: &mut Wish) {
        let about = About {
            http: wish.http,
            hosts: !wish.hosts.is_empty(),
            sticky: wish.sticky,
            hsts: wish.hsts,
            auth: wish.auth.is_some(),
            networks: !wish.allow.is_empty(),
        };
        let labels = self.labels;
        for (name, text) in labels {
            let mut refused: Vec<Refused> = Vec::new();
            let known = wish.extras.read(name, text, about, &mut |one| refused.push(one));
            for Refused { cost, what } in refused {
                self.tell(cost, name, &what);
            }
            if !known && !known::KNOWN.contains(name) {
                let near = crate::suggest::nearest(name, &known::KNOWN);
                let near = near.map(|near| format!("; did you mean HAPROXY_{{n}}_{near}?"));
                let what = format!("there is no such label{}", near.unwrap_or_default());
                self.tell(Cost::Told, name, &what);
            }
        }
        if wish.hsts && !wish.extras.response.names("strict-transport-security") {
            wish.extras.response.add("Strict-Transport-Security", "max-age=15768000");
        }
        wish.extras.settle();
    }

    /// What does not go together.
    fn fit(&mut self, wish: &mut Wish) {
        if wish.http {
            return;
        }
        for name in [
            "STICKY",
            "USE_HSTS",
            "AUTH",
            "REDIRECT_TO_HTTPS",
            "HTTP_BACKEND_PROXYPASS_PATH",
            "HTTP_BACKEND_REVPROXY_PATH",
            "HTTP_BACKEND_REDIR",
        ] {
            if self.get(name).is_some_and(|text| known::truth(text) != Some(false)) {
                self.tell(
                    Cost::Told,
                    name,
                    "means nothing in tcp mode; write HAPROXY_{n}_MODE=http",
                );
            }
        }
    }

    fn own_port(&mut self, config: &MarathonLbConfig, app: &App<'_>, wish: &mut Wish) {
        if let Some(text) = self.get("SSL_CERT") {
            if config.https.is_some() {
                wish.tls = !text.trim().is_empty();
            } else {
                let what = "needs `https` in [labels.marathon-lb]: a listener whose certificates are \
                            shown";
                self.tell(Cost::Port, "SSL_CERT", what);
            }
        }
        if let Some(text) = self.get("BIND_OPTIONS") {
            let mut told = Vec::new();
            wish.tls |= bind::options(text, config.https.is_some(), &mut |cost, what| {
                told.push((cost, what));
            });
            for (cost, what) in told {
                self.tell(cost, "BIND_OPTIONS", &what);
            }
        }
        match self.get("BIND_ADDR").map(str::trim) {
            None | Some("" | "*") => {}
            Some(text) => {
                wish.bind = text.parse().ok();
                if wish.bind.is_none() {
                    let what = format!("{:?} is no IP address", cut(text));
                    self.tell(Cost::Port, "BIND_ADDR", &what);
                }
            }
        }
        let port = match self.get("PORT").map(str::trim) {
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port != 0 => Some(port),
                _ => {
                    let what = format!("{:?} is no port", cut(text));
                    return self.tell(Cost::Port, "PORT", &what);
                }
            },
            None => app.service_port(self.index, &config.assigned),
        };
        match port {
            Some(port) if config.ports.allows(port) => wish.port = Some(port),
            Some(port) => {
                let allowed: Vec<String> =
                    config.ports.allowed.iter().map(ToString::to_string).collect();
                let what = format!(
                    "port {port} is not among those allowed ({}); extend `ports` in \
                     [labels.marathon-lb]",
                    allowed.join(", ")
                );
                self.tell(Cost::Told, "PORT", &what);
            }
            None => {}
        }
    }
}

/// Longest path that is taken off, put before or led to.
const PATH_MAX: usize = 400;

/// A value to be told of, cut where it gets long.
pub(super) fn cut(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(at, _)| &text[..at])
}
