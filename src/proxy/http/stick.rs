//! Stickiness of one request: what the client brought, where it leads, and what the answer tells it.

use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;

use super::exchange::Exchange;
use crate::proxy::config::StickyRule;
use crate::proxy::route::{ServiceRef, Target};
use crate::proxy::sticky::cookie::{Brought, set_cookie, without};
use crate::proxy::sticky::{Bond, Identity, Outcome, Stay, Sticking, Visit};
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
    /// Where the request goes.
    bond: Bond,
    /// Where it goes instead.
    target: Option<ServiceRef>,
    /// The client came by https.
    secure: bool,
}

/// A request of a route whose clients are known by their address.
#[derive(Debug)]
pub(super) struct BySource {
    visit: Visit,
    bond: Bond,
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
        let Some(rule) = sticky.rule() else { return };
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
                    bond: Bond::New,
                    target: None,
                    secure: self.secure(request),
                })
            }
            StickyRule::Source(_) => match Visit::of(&table, Some(sticky), self.source()) {
                Some(visit) => Stick::Source(BySource { visit, bond: Bond::New, stay: None }),
                None => Stick::Loose,
            },
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
    /// An endpoint whose `max_connections` are reached is given all the same: whoever counts them picks
    /// another one for this time, or lets the client wait for one. The client stays bound.
    pub(super) fn bound<'a>(
        &mut self,
        table: &ProxyTable,
        candidates: impl Iterator<Item = &'a ServiceRef>,
    ) -> Option<(usize, Arc<Endpoint>)> {
        if !self.tried.is_empty() {
            return None;
        }
        let bound = match &mut self.stick {
            Stick::Loose => None,
            Stick::Cookie(by) => by.bound(table, candidates),
            Stick::Source(by) => by.visit.bound(table, candidates),
        };
        self.home = bound.as_ref().map(|(_, endpoint)| Arc::clone(endpoint));
        bound
    }

    /// The request goes to `endpoint` of `wanted`. Unless the client is bound to another one that
    /// takes it again, it is bound to this one.
    pub(super) fn goes(&mut self, wanted: &ServiceRef, endpoint: &Endpoint) {
        let watched = self.upgrade;
        let home = self.home.as_deref().filter(|home| !self.tried.contains(&home.address));
        let bond = Bond::of(home, endpoint);
        match &mut self.stick {
            Stick::Loose => {}
            Stick::Cookie(by) => {
                by.bond = bond;
                by.target = Some(wanted.clone());
            }
            Stick::Source(by) => {
                by.bond = bond;
                // Bound from now on, not from its answer on: a browser asks several things at once.
                by.stay = Some(by.visit.goes(wanted, home.unwrap_or(endpoint), watched));
            }
        }
    }

    /// The endpoint has answered: counts what became of the binding, and gives what is to be told with
    /// the `answer`. For final answers, once.
    pub(super) fn settle(&mut self, answer: &HeaderMap) -> Told {
        let mut told = Told::default();
        let outcome = match &self.stick {
            Stick::Loose => return told,
            Stick::Source(by) => by.visit.outcome(by.bond),
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
            Brought::Good(opened) => match self.bond {
                Bond::New => true,
                Bond::Home => opened.stale,
                // It is renewed when the client is back where it leads.
                Bond::Elsewhere => false,
            },
            Brought::Nothing | Brought::Bad => true,
        }
    }

    const fn outcome(&self) -> Outcome {
        match self.brought {
            Brought::Nothing => Outcome::New,
            Brought::Good(_) => match self.bond {
                Bond::Home => Outcome::Bound,
                Bond::Elsewhere => Outcome::Elsewhere,
                Bond::New if self.ours => Outcome::Broken,
                Bond::New => Outcome::Forged,
            },
            Brought::Bad => Outcome::Forged,
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

#[cfg(test)]
mod tests {
    use super::*;

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
