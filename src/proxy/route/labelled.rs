//! Routes that labels of services ask for, at one listener.
//!
//! A version of the table shares with the one before it every host that did not change, so that one
//! label among those of ten thousand services costs what it costs among ten.

use std::collections::HashMap;
use std::sync::Arc;

use super::compile::{ALIKE_MAX, HostRule, One, PATTERNS_MAX, Shared};
use super::explain::{Explained, explained};
use super::matching::{Candidate, HOST_MAX, PathRule, Paths, host_name};
use super::{RequestView, Route};
use crate::catalog::Shards;
use crate::proxy::config::RouteConfig;
use crate::proxy::table::Unfit;

/// The header by which some listeners go: `X-Marathon-App-Id`.
const APP_ID: &str = "x-marathon-app-id";

/// One compiled route of labels, and where it belongs.
#[derive(Debug)]
pub struct LabelledRoute {
    at: At,
    path: PathRule,
    candidate: Candidate,
}

/// Where a route belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum At {
    /// To a host.
    Exact(Box<str>),
    /// To all below a suffix, dot included.
    Below(Box<str>),
    /// To requests for an app, in lower case.
    App(Box<str>),
    /// To all.
    Any,
}

impl LabelledRoute {
    /// Compiles the route called `name`, which the labels of `service` ask for; with `app` it is for
    /// requests with that `X-Marathon-App-Id`, in any case of letters.
    ///
    /// # Errors
    /// Everything that can't be about it.
    pub fn compile(
        service: &Arc<str>,
        name: &str,
        config: &RouteConfig,
        app: Option<&str>,
    ) -> Result<Self, Vec<Unfit>> {
        #[cfg(test)]
        crate::proxy::work::note(1);
        let mut problems = Vec::new();
        let one = One::compile(name, config, Some(service), &mut Shared::default(), &mut problems);
        let Some(One { host, path, candidate }) = one else { return Err(problems) };
        let at = match (app, host) {
            (Some(app), _) => At::App(app.to_ascii_lowercase().into()),
            (None, HostRule::Exact(name)) => At::Exact(name),
            (None, HostRule::Below(suffix)) => At::Below(suffix),
            (None, HostRule::Any) => At::Any,
        };
        Ok(Self { at, path, candidate })
    }

    /// The route itself.
    #[must_use]
    pub const fn route(&self) -> &Arc<Route> {
        &self.candidate.route
    }
}

/// The routes of one place.
#[derive(Debug, Default)]
struct Place {
    paths: Paths,
    /// All that are asked for, in the order of their names.
    routes: Vec<Arc<LabelledRoute>>,
}

type Places = Shards<Box<str>, Place>;

/// The routes of one listener. Cloning costs some reference counts.
#[derive(Debug, Clone, Default)]
pub struct LabelledRoutes {
    exact: Places,
    below: Places,
    apps: Places,
    any: Option<Arc<Place>>,
}

impl LabelledRoutes {
    /// The same without `gone` and with `came`: only the places of these are made anew. `seen` is told
    /// of every route of those places, with the reason where it will never be taken.
    #[must_use]
    pub fn changed(
        &self,
        gone: &[Arc<LabelledRoute>],
        came: &[Arc<LabelledRoute>],
        mut seen: impl FnMut(&Arc<LabelledRoute>, Option<String>),
    ) -> Self {
        let mut touched: HashMap<&At, (Vec<_>, Vec<_>)> = HashMap::new();
        for route in gone {
            touched.entry(&route.at).or_default().0.push(route);
        }
        for route in came {
            touched.entry(&route.at).or_default().1.push(route);
        }
        let mut next = self.clone();
        for (at, (gone, came)) in touched {
            let mut routes = self.at(at).map_or_else(Vec::new, |place| place.routes.clone());
            routes.retain(|known| !gone.iter().any(|gone| Arc::ptr_eq(known, gone)));
            routes.extend(came.into_iter().cloned());
            routes.sort_by(|a, b| a.route().name.cmp(&b.route().name));
            let place = (!routes.is_empty()).then(|| Arc::new(Place::compile(routes, &mut seen)));
            next.put(at, place);
        }
        next
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty() && self.apps.is_empty() && self.any.is_none()
    }

    /// The route that takes the request of `view`. Allocates nothing, never waits.
    #[must_use]
    pub fn route(&self, view: &RequestView<'_>) -> Option<&Arc<Route>> {
        let mut best = None;
        self.visit(view, |place| {
            place.paths.find(view, &mut best);
        });
        best.map(|candidate| &candidate.route)
    }

    /// Every route, in no order that means anything.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let places = self.exact.values().chain(self.below.values()).chain(self.apps.values());
        places.chain(&self.any).flat_map(|place| place.routes.iter().map(|route| route.route()))
    }

    /// As [`super::RouteTable::explain`].
    #[must_use]
    pub fn explain(&self, view: &RequestView<'_>) -> Explained {
        let (candidates, hosts) = self.candidates(view);
        explained(candidates, hosts, view)
    }

    pub(super) fn candidates(&self, view: &RequestView<'_>) -> (Vec<&Candidate>, usize) {
        let mut candidates: Vec<&Candidate> = Vec::new();
        let mut hosts = 0;
        self.visit(view, |place| {
            hosts += 1;
            place.paths.each(view.path, |candidate| candidates.push(candidate));
        });
        (candidates, hosts)
    }

    /// Shows `look` the places that `view` belongs to, the most specific first. None is passed over for
    /// its priorities: a route replaces a better one by its own only.
    fn visit<'t>(&'t self, view: &RequestView<'_>, mut look: impl FnMut(&'t Place)) {
        let mut buffer = [0; HOST_MAX];
        let host = host_name(view.host, &mut buffer);
        if let Some(place) = self.exact.get(host) {
            look(place);
        }
        if !self.below.is_empty() {
            for (dot, _) in host.match_indices('.') {
                if let Some(place) = self.below.get(&host[dot..]) {
                    look(place);
                }
            }
        }
        if !self.apps.is_empty() {
            let mut buffer = [0; HOST_MAX];
            for app in view.headers.get_all(APP_ID) {
                let Some(lower) = buffer.get_mut(..app.len()) else { continue };
                lower.copy_from_slice(app.as_bytes());
                lower.make_ascii_lowercase();
                let place = std::str::from_utf8(lower).ok().and_then(|app| self.apps.get(app));
                if let Some(place) = place {
                    look(place);
                }
            }
        }
        if let Some(place) = &self.any {
            look(place);
        }
    }

    fn at(&self, at: &At) -> Option<&Arc<Place>> {
        match at {
            At::Exact(host) => self.exact.get(host),
            At::Below(suffix) => self.below.get(suffix),
            At::App(app) => self.apps.get(app),
            At::Any => self.any.as_ref(),
        }
    }

    fn put(&mut self, at: &At, place: Option<Arc<Place>>) {
        let (places, key) = match at {
            At::Exact(host) => (&mut self.exact, host),
            At::Below(suffix) => (&mut self.below, suffix),
            At::App(app) => (&mut self.apps, app),
            At::Any => {
                self.any = place;
                return;
            }
        };
        match place {
            Some(place) => places.insert(key.clone(), place),
            None => places.remove(key),
        };
    }
}

impl Place {
    /// Compiles `routes`, which come in the order of their names: of two that take the same requests the
    /// first one counts.
    fn compile(
        routes: Vec<Arc<LabelledRoute>>,
        seen: &mut impl FnMut(&Arc<LabelledRoute>, Option<String>),
    ) -> Self {
        #[cfg(test)]
        crate::proxy::work::note(routes.len());
        let mut alike: HashMap<(u8, Box<str>), Vec<&Candidate>> = HashMap::new();
        let mut patterns = 0;
        let mut taken = Vec::with_capacity(routes.len());
        for route in &routes {
            let LabelledRoute { path, candidate, .. } = &**route;
            let others = alike.entry(path.key()).or_default();
            let same = |other: &&&Candidate| {
                candidate.conditions == other.conditions && candidate.priority == other.priority
            };
            let why = if let Some(other) = others.iter().find(same) {
                let owner = other.route.by.as_deref().unwrap_or_default();
                Some(format!(
                    "the route {:?} asks for what {:?} of the service {owner:?} has",
                    candidate.route.name, other.route.name
                ))
            } else if others.len() >= ALIKE_MAX {
                Some(format!(
                    "the route {:?} is one of more than {ALIKE_MAX} with this host and path",
                    candidate.route.name
                ))
            } else if matches!(path, PathRule::Pattern(_)) && patterns >= PATTERNS_MAX {
                Some(format!(
                    "the route {:?} is one of more than {PATTERNS_MAX} of this host with expressions",
                    candidate.route.name
                ))
            } else {
                patterns += usize::from(matches!(path, PathRule::Pattern(_)));
                others.push(candidate);
                taken.push((path.clone(), candidate.clone()));
                None
            };
            seen(route, why);
        }
        let mut paths = Paths::default();
        paths.fill(taken);
        Self { paths, routes }
    }
}

#[cfg(test)]
#[path = "labelled_tests.rs"]
mod tests;
