//! What template labels, raw text of HAProxy, come to: a whitelist with a meaning here.

use super::balance::{self, BalanceLabels, time};
use super::edits::Schemed;
use super::lines::{beginning, lines};
use super::{line, server, templates};
use crate::proxy::config::StickyConfig;
use crate::units::Period;

/// What template labels of one port say.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Extras {
    pub(super) balance: BalanceLabels,
    pub(super) timeouts: Timeouts,
    pub(super) request: Schemed,
    pub(super) response: Schemed,
    /// Name of the cookie, instead of marathon-lb's.
    pub(super) cookie: Option<String>,
    /// How long clients are known by their address.
    pub(super) source: Option<Period>,
    /// A stick-table was declared, with this time.
    pub(super) table: Option<Period>,
    /// Endpoints speak HTTP/2.
    pub(super) h2: bool,
    /// HAProxy was to check by itself.
    pub(super) checks: bool,
}

/// Timeouts, by HAProxy's names.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Timeouts {
    pub(super) connect: Option<Period>,
    pub(super) client: Option<Period>,
    pub(super) server: Option<Period>,
    pub(super) tunnel: Option<Period>,
    pub(super) request: Option<Period>,
    pub(super) keep_alive: Option<Period>,
}

/// What it costs that something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// Nothing: it is told.
    Told,
    /// The route by the app's id.
    App,
    /// The virtual hosts: what they would take is not known.
    Hosts,
    /// The port with all that leads to it: more might be let in than was meant.
    Port,
}

/// Something that is refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refused {
    pub(super) cost: Cost,
    pub(super) what: String,
}

impl Refused {
    /// A line, by its first words.
    pub(super) fn new<S: AsRef<str>>(cost: Cost, words: &[S], what: &str) -> Self {
        Self { cost, what: format!("{:?}: {what}", beginning(words)) }
    }
}

/// What has been said about the port besides.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct About {
    pub(super) http: bool,
    pub(super) hosts: bool,
    pub(super) sticky: bool,
    pub(super) hsts: bool,
    pub(super) auth: bool,
    pub(super) networks: bool,
}

impl Extras {
    /// Reads one template label, given by its name without `HAPROXY_{n}_`. False: there is no such
    /// template.
    pub(super) fn read(
        &mut self,
        name: &str,
        text: &str,
        about: About,
        tell: &mut dyn FnMut(Refused),
    ) -> bool {
        use templates::Kind;
        let Some(kind) = templates::kind(name) else { return false };
        match kind {
            Kind::Lines if !templates::in_use(name, about) => {}
            Kind::Lines => {
                for words in lines(text) {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    line::read(self, &words, about, tell);
                }
            }
            Kind::Server => {
                for words in lines(text) {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    server::line(self, &words, tell);
                }
            }
            Kind::Checks => {
                for words in lines(text) {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    server::read(self, &words, tell);
                }
            }
            Kind::Refused(cost, instead) => {
                let cost = if templates::in_use(name, about) { cost } else { Cost::Told };
                let first = lines(text).next().unwrap_or_default();
                tell(Refused::new(cost, &first, instead));
            }
        }
        true
    }

    /// What is known only when all labels have been read.
    pub(super) fn settle(&mut self) {
        server::settle(self);
    }

    /// Reads `timeout NAME TIME`.
    pub(super) fn timeout(&mut self, words: &[&str]) -> Result<(), String> {
        let [name, value] = words else {
            return Err("is not understood; write it as timeout server 30s".into());
        };
        // Marathon checks, and its times are its own.
        if *name == "check" {
            self.checks = true;
            return Ok(());
        }
        let place = match *name {
            "connect" => &mut self.timeouts.connect,
            "client" => &mut self.timeouts.client,
            "server" => &mut self.timeouts.server,
            "tunnel" => &mut self.timeouts.tunnel,
            "http-request" => &mut self.timeouts.request,
            "http-keep-alive" => &mut self.timeouts.keep_alive,
            "queue" => &mut self.balance.queue_timeout,
            _ => {
                return Err("has no counterpart; there are connect, client, server, tunnel, \
                            http-request, http-keep-alive and queue"
                    .into());
            }
        };
        *place = Some(time(value)?);
        Ok(())
    }

    /// Reads what follows `balance`.
    pub(super) fn balance(&mut self, words: &[&str]) -> Result<(), String> {
        // The template's own words stand for the label of that name.
        if words == ["{balance}"] {
            return Ok(());
        }
        self.balance.policy = Some(balance::policy(words)?);
        Ok(())
    }

    /// Reads what follows `cookie`.
    pub(super) fn cookie(&mut self, words: &[&str]) -> Result<(), String> {
        let (name, options) = words.split_first().ok_or("names no cookie")?;
        let known = ["insert", "indirect", "nocache", "postonly", "httponly", "secure", "dynamic"];
        if let Some(odd) = options.iter().find(|option| !known.contains(option)) {
            return Err(format!("{odd:?} has no counterpart; our cookie is inserted by us alone"));
        }
        if !options.contains(&"insert") {
            return Err("is not inserted; write cookie NAME insert indirect nocache".into());
        }
        let sticky = StickyConfig { cookie: Some((*name).to_owned()), source: None };
        if let Some(what) = sticky.problem(true) {
            return Err(what);
        }
        self.cookie = sticky.cookie;
        Ok(())
    }

    /// Reads what follows `stick-table`.
    pub(super) fn stick_table(&mut self, words: &[&str]) -> Result<(), String> {
        let behind = |key: &str| {
            let at = words.iter().position(|word| *word == key)?;
            words.get(at + 1).copied()
        };
        if !matches!(behind("type"), Some("ip" | "ipv6")) {
            return Err("is not by clients' addresses; there is type ip".into());
        }
        let expire = behind("expire").map(time).transpose()?;
        self.table = Some(expire.unwrap_or(Period::from_secs(1800)));
        Ok(())
    }

    /// Reads what follows `stick`.
    pub(super) fn stick(&mut self, words: &[&str]) -> Result<(), String> {
        let by_source =
            matches!(words, ["on" | "match" | "store-request", "src"] | ["on", "src", "table", _]);
        match self.table {
            Some(time) if by_source => {
                let sticky = StickyConfig { cookie: None, source: Some(time) };
                self.source = sticky.source;
                sticky.problem(false).map_or(Ok(()), |what| {
                    self.source = None;
                    Err(what)
                })
            }
            None if by_source => Err("comes before its stick-table".into()),
            _ => Err("is not by clients' addresses; there is stick on src".into()),
        }
    }
}

#[cfg(test)]
#[path = "extras_tests.rs"]
mod tests;
