//! Which route a connection takes by what its hello asks for: the highest priority, then the most
//! specific name, then the most conditions, then the route's name.
//!
//! A name is looked up, never searched for: a thousand routes cost what one does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::super::config::RouteConfig;
use super::super::forwarded;
use super::super::http::access::Access;
use super::super::route::{HostRule, Target, host, target, unfit};
use super::super::table::Unfit;
use super::unfit::conditions;
use crate::net::tls::hello::Hello;

/// Longest name of DNS in text (RFC 1035 §3.1).
const NAME_MAX: usize = 253;
/// Most routes for one name: their conditions are tried one by one.
const ALIKE_MAX: usize = 256;

/// One compiled route.
#[derive(Debug)]
pub struct Route {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it leads: to a service, or a split.
    pub target: Target,
    /// Which clients are let in.
    pub access: Access,
    /// As it was configured.
    pub config: RouteConfig,
}

impl Route {
    /// Whether its conditions hold, the name aside.
    #[must_use]
    pub fn takes(&self, hello: &Hello<'_>, client: IpAddr) -> bool {
        self.takes_client(client) && self.takes_protocols(hello)
    }

    pub(in crate::proxy) fn takes_client(&self, client: IpAddr) -> bool {
        self.config.clients.is_empty() || forwarded::within(client, &self.config.clients)
    }

    pub(in crate::proxy) fn takes_protocols(&self, hello: &Hello<'_>) -> bool {
        let own = &self.config.alpn;
        let offered = |own: &String| hello.protocols().any(|protocol| protocol == own.as_bytes());
        own.is_empty() || own.iter().any(offered)
    }

    /// How many conditions there are beside the name.
    fn conditions(&self) -> usize {
        usize::from(!self.config.alpn.is_empty()) + usize::from(!self.config.clients.is_empty())
    }
}

type ByName = HashMap<Box<str>, Vec<Arc<Route>>, foldhash::fast::RandomState>;

/// The routes of one listener, each list in the order in which it is tried.
#[derive(Debug, Default)]
pub struct Routes {
    exact: ByName,
    /// `*.example.com`, by what is behind `*.`.
    wildcard: ByName,
    any: Vec<Arc<Route>>,
}

impl Routes {
    /// Compiles routes given by name.
    ///
    /// # Errors
    /// Everything that can't be, all at once.
    pub fn compile<'a>(
        routes: impl IntoIterator<Item = (&'a str, &'a RouteConfig)>,
    ) -> Result<Self, Vec<Unfit>> {
        let mut problems = Vec::new();
        let mut compiled = Self::default();
        for (name, config) in routes {
            let known = problems.len();
            let target = target(name, config, &mut problems);
            let mut tell = |key, message| problems.push(unfit(name, Some(key), message));
            let host = host(config, &mut tell);
            let access = Access::compile(&config.allow, &config.deny, &mut tell);
            conditions(config, &mut tell);
            let (Some(host), Some(target)) = (host, target) else { continue };
            if problems.len() > known {
                continue;
            }
            let route = Route { name: name.into(), target, access, config: config.clone() };
            let alike = match host {
                HostRule::Exact(name) => compiled.exact.entry(name).or_default(),
                HostRule::Below(suffix) => {
                    let parent = suffix.strip_prefix('.').unwrap_or(&suffix);
                    compiled.wildcard.entry(parent.into()).or_default()
                }
                HostRule::Any => &mut compiled.any,
            };
            match pointless(alike, &route) {
                Some(message) => problems.push(unfit(name, None, message)),
                None => alike.push(Arc::new(route)),
            }
        }
        let Self { exact, wildcard, any } = &mut compiled;
        for alike in exact.values_mut().chain(wildcard.values_mut()).chain([any]) {
            alike.sort_by(|a, b| {
                let rank = |route: &Route| (route.config.priority, route.conditions());
                rank(b).cmp(&rank(a)).then_with(|| a.name.cmp(&b.name))
            });
        }
        if problems.is_empty() { Ok(compiled) } else { Err(problems) }
    }

    /// The route of a client that says `hello`; none when there is none. Allocates nothing.
    #[must_use]
    pub fn find(&self, hello: &Hello<'_>, client: IpAddr) -> Option<&Arc<Route>> {
        let lists = self.candidates(hello.name).into_iter();
        let first = |list: &'_ [Arc<Route>]| list.iter().position(|one| one.takes(hello, client));
        let found = lists.filter_map(|list| first(list).and_then(|at| list.get(at)));
        // The more specific ones come first, and stay where others are not above them.
        found.reduce(
            |best, other| {
                if other.config.priority > best.config.priority { other } else { best }
            },
        )
    }

    /// The routes for `name` in any case, with or without a final dot: those with that very name,
    /// those with `*` in place of its first label (RFC 9525 §6.3), and those for any.
    pub(in crate::proxy) fn candidates(&self, name: Option<&str>) -> [&[Arc<Route>]; 3] {
        let mut lower = [0; NAME_MAX];
        let name = name.unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
        let known = lower.get_mut(..name.len()).and_then(|lower| {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            std::str::from_utf8(lower).ok()
        });
        let (mut exact, mut wildcard): (&[_], &[_]) = (&[], &[]);
        if let Some(name) = known.filter(|name| !name.is_empty()) {
            exact = self.exact.get(name).map_or(&[], |found| found);
            let parent = name.split_once('.').filter(|(label, _)| !label.is_empty());
            let found = parent.and_then(|(_, parent)| self.wildcard.get(parent));
            wildcard = found.map_or(&[], |found| found);
        }
        [exact, wildcard, &self.any]
    }

    /// Every route, in no order that means anything.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.exact.values().chain(self.wildcard.values()).chain([&self.any]).flatten()
    }
}

/// Why `route` beside those of the same name makes no sense.
fn pointless(alike: &[Arc<Route>], route: &Route) -> Option<String> {
    let of = |route: &Route| {
        let (mut alpn, mut clients) = (route.config.alpn.clone(), route.config.clients.clone());
        alpn.sort();
        clients.sort();
        (route.config.priority, alpn, clients)
    };
    let same = of(route);
    if let Some(other) = alike.iter().find(|other| of(other) == same) {
        return Some(format!(
            "matches the same connections as [route.{}]; give it a condition, or another `priority`, \
             or take one of them away",
            other.name
        ));
    }
    (alike.len() >= ALIKE_MAX)
        .then(|| format!("is one of more than {ALIKE_MAX} routes with this host; split the host"))
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
