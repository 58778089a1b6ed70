//! What labels of services ask for, laid over what is configured. Pure.
//!
//! Made with the tables of each generation, from what changed since the one before: a label of one
//! service makes the routes of its own hosts anew, and nothing else; instances that come and go make
//! nothing anew here.

mod ports;
mod said;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::config::{OnUnhealthy, ServiceBalance};
use super::labels;
use super::limit::Retries;
use super::listener::Listener;
use super::route::{LabelledRoute, LabelledRoutes, ServiceRef};
use super::settings::Settings;
use super::upstream::Rules;
use crate::catalog::{Shards, Snapshot};
pub use ports::{OwnListener, OwnPorts};
use said::Said;

/// What labels ask for at one moment.
#[derive(Debug, Default)]
pub struct Overlay {
    /// By service; of those whose labels say anything.
    said: Shards<Arc<str>, Said>,
    /// Services that have problems of their own.
    troubled: Shards<Arc<str>, ()>,
    /// Configured listeners with the routes of labels.
    listeners: HashMap<Arc<str>, Arc<Listener>, FixedState>,
    /// Routes that will never be taken, by name: the service that asks for it, and why.
    shadowed: Shards<Arc<str>, (Arc<str>, Arc<str>)>,
    ports: Arc<OwnPorts>,
    /// Services with rules that announce clients to endpoints.
    announcing: usize,
}

/// A problem of labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct LabelProblem {
    /// Whose labels they are.
    pub service: Arc<str>,
    /// What is wrong, and what to write or do.
    pub why: Arc<str>,
}

/// Routes that left a listener, and that came to it.
type Moves = (Vec<Arc<LabelledRoute>>, Vec<Arc<LabelledRoute>>);

impl Overlay {
    /// What the labels of `snapshot` ask for. With the one from before, the snapshot that it came from
    /// and the same settings, only services that changed are read; with `held` ports stay with whom
    /// they were.
    #[must_use]
    pub fn compile(
        settings: &Settings,
        before: Option<(&Arc<Self>, &Snapshot)>,
        held: Option<&Self>,
        snapshot: &Snapshot,
    ) -> Arc<Self> {
        let (Some(labels), Some(config)) = (
            &settings.labels,
            settings.labels.as_ref().and_then(|labels| labels.marathon_lb.as_ref()),
        ) else {
            return before.map_or_else(Arc::default, |(before, _)| Arc::clone(before));
        };
        let known = before.map(|(before, _)| &**before);
        let mut draft = Draft { said: Vec::new(), moves: HashMap::new(), ports: false };
        let mut read = |name: &Arc<str>| {
            let before = known.and_then(|known| known.said.get(name)).map(|said| &**said);
            let service = snapshot.service(name);
            #[cfg(test)]
            super::work::note(1);
            let read = service.map(|service| labels::read(labels, service)).unwrap_or_default();
            let same = before.map_or_else(|| read.is_empty(), |before| before.read == read);
            if !same {
                let now =
                    (!read.is_empty()).then(|| Said::compile(settings, config, name, read, before));
                draft.note(name, before, now);
            }
        };
        match before {
            Some((_, since)) => snapshot.changes_since(since, |(name, _, _)| read(name)),
            None => snapshot.services.iter().for_each(|(name, _)| read(name)),
        }
        if let (Some((before, _)), true) = (before, draft.said.is_empty()) {
            return Arc::clone(before);
        }
        let mut next = known.map_or_else(Self::default, |known| Self {
            said: known.said.clone(),
            troubled: known.troubled.clone(),
            listeners: known.listeners.clone(),
            shadowed: known.shadowed.clone(),
            ports: Arc::clone(&known.ports),
            announcing: known.announcing,
        });
        for (name, said) in draft.said {
            next.put(name, said);
        }
        for (listener, moves) in &draft.moves {
            next.route(settings, listener, moves);
        }
        if draft.ports || (before.is_none() && held.is_some()) {
            let none = OwnPorts::default();
            let held = known.or(held).map_or(&none, |held| &*held.ports);
            let asked = next.said.values().flat_map(|said| &said.ports).collect();
            let configured = |name: &str| settings.listeners.contains_key(name);
            let shared = OwnPorts::share_out(asked, config.ports.max, held, configured);
            next.ports = Arc::new(shared);
        }
        Arc::new(next)
    }

    fn put(&mut self, name: Arc<str>, said: Option<Said>) {
        let announces =
            |said: &Said| said.rules.iter().any(|ruled| ruled.balance.proxy_protocol.is_some());
        let before = if let Some(said) = said {
            if said.problems.is_empty() {
                self.troubled.remove(&*name);
            } else {
                self.troubled.insert(Arc::clone(&name), Arc::new(()));
            }
            self.announcing += usize::from(announces(&said));
            self.said.insert(name, Arc::new(said))
        } else {
            self.troubled.remove(&*name);
            self.said.remove(&*name)
        };
        self.announcing -= usize::from(before.is_some_and(|before| announces(&before)));
    }

    /// Makes the routes of the configured `listener` anew, as far as some came or left.
    fn route(&mut self, settings: &Settings, listener: &Arc<str>, (gone, came): &Moves) {
        let known = self.listeners.get(listener).or_else(|| settings.listeners.get(listener));
        let Some(known) = known.cloned() else { return };
        let Listener::Http { routes, .. } = &*known else { return };
        let none = LabelledRoutes::default();
        let before = routes.labelled().map_or(&none, |labelled| labelled);
        for route in gone {
            self.shadowed.remove(&route.route().name);
        }
        let shadowed = &mut self.shadowed;
        let next = before.changed(gone, came, |route, why| {
            let route = route.route();
            match (why, &route.by) {
                (Some(why), Some(service)) => {
                    let told = Arc::new((Arc::clone(service), why.into()));
                    shadowed.insert(Arc::clone(&route.name), told);
                }
                _ => {
                    shadowed.remove(&route.name);
                }
            }
        });
        if next.is_empty() {
            self.listeners.remove(listener);
        } else if let Some(next) = known.with(next) {
            self.listeners.insert(Arc::clone(listener), Arc::new(next));
        }
    }

    /// The listener called `name`: a configured one that has routes of labels, or one of a service's
    /// own.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        if self.said.is_empty() {
            return None;
        }
        let own = || self.ports.get(name).map(|own| &own.listener);
        self.listeners.get(name).or_else(own)
    }

    /// Listeners of services' own.
    #[must_use]
    pub const fn ports(&self) -> &Arc<OwnPorts> {
        &self.ports
    }

    /// What labels of `service` lead to, and whether what is led to by `key` is sticky.
    pub(super) fn wants(&self, service: &str) -> &[ServiceRef] {
        self.said.get(service).map_or(&[], |said| &said.wants)
    }

    /// Whether labels make the upstream of `wanted` sticky.
    pub(super) fn sticks(&self, wanted: &ServiceRef) -> bool {
        self.said.get(&*wanted.service).is_some_and(|said| said.sticky.contains(&wanted.key))
    }

    /// How the work of the upstream of `wanted` is spread, if labels say anything about it.
    #[must_use]
    pub fn rules(&self, wanted: &ServiceRef) -> Option<&Arc<Rules>> {
        Some(&self.said.get(&*wanted.service)?.ruled(&wanted.key)?.rules)
    }

    /// The same as it was asked for, over what is configured.
    #[must_use]
    pub fn balance(&self, wanted: &ServiceRef) -> Option<&ServiceBalance> {
        Some(&self.said.get(&*wanted.service)?.ruled(&wanted.key)?.balance)
    }

    /// How requests to `service` are sent again, if its labels ask for anything.
    #[must_use]
    pub fn retries(&self, service: &str) -> Option<&Arc<Retries>> {
        Some(&self.said.get(service)?.retries)
    }

    /// Whether labels want connections to an instance of `service` to end when it turns unhealthy.
    #[must_use]
    pub fn closes_unhealthy(&self, service: &str) -> bool {
        let closes = |said: &Arc<Said>| {
            said.rules.iter().any(|ruled| ruled.balance.on_unhealthy == OnUnhealthy::Close)
        };
        self.said.get(service).is_some_and(closes)
    }

    /// Whether labels have endpoints told who connects.
    #[must_use]
    pub const fn announces(&self) -> bool {
        self.announcing > 0
    }

    /// What labels ask for and can't have: of all services in their order, or of one.
    #[must_use]
    pub fn problems(&self, service: Option<&str>) -> Vec<LabelProblem> {
        let services: BTreeSet<Arc<str>> = if let Some(service) = service {
            BTreeSet::from([service.into()])
        } else {
            let shadowed = self.shadowed.values().map(|shadowed| &shadowed.0);
            let troubled = self.troubled.iter().map(|(name, _)| name);
            troubled.chain(shadowed).chain(self.ports.refused.keys()).cloned().collect()
        };
        let mut found = Vec::new();
        for service in services {
            let Some(said) = self.said.get(&*service) else { continue };
            let shadowed = said.routes.iter().filter_map(|(_, route)| {
                self.shadowed.get(&route.route().name).map(|shadowed| &shadowed.1)
            });
            let refused = self.ports.refused.get(&service).into_iter().flatten();
            let all = said.problems.iter().chain(shadowed).chain(refused);
            let told = |why| LabelProblem { service: Arc::clone(&service), why: Arc::clone(why) };
            found.extend(all.map(told));
        }
        found
    }
}

/// What changes on the way to the next overlay.
struct Draft {
    said: Vec<(Arc<str>, Option<Said>)>,
    moves: HashMap<Arc<str>, Moves>,
    /// Whether other ports are asked for.
    ports: bool,
}

impl Draft {
    fn note(&mut self, name: &Arc<str>, before: Option<&Said>, now: Option<Said>) {
        let (mut old, mut new): (&[_], &[_]) = (&[], &[]);
        let (mut old_ports, mut new_ports): (&[_], &[_]) = (&[], &[]);
        if let Some(before) = before {
            (old, old_ports) = (&before.routes, &before.ports);
        }
        if let Some(now) = &now {
            (new, new_ports) = (&now.routes, &now.ports);
        }
        let within = |all: &[(Arc<str>, Arc<LabelledRoute>)], route: &Arc<LabelledRoute>| {
            all.iter().any(|(_, known)| Arc::ptr_eq(known, route))
        };
        for (listener, route) in old.iter().filter(|(_, route)| !within(new, route)) {
            self.moves.entry(Arc::clone(listener)).or_default().0.push(Arc::clone(route));
        }
        for (listener, route) in new.iter().filter(|(_, route)| !within(old, route)) {
            self.moves.entry(Arc::clone(listener)).or_default().1.push(Arc::clone(route));
        }
        let same = |(a, b): (&Arc<OwnListener>, &Arc<OwnListener>)| Arc::ptr_eq(a, b);
        self.ports |=
            old_ports.len() != new_ports.len() || !old_ports.iter().zip(new_ports).all(same);
        self.said.push((Arc::clone(name), now));
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
