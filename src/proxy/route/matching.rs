//! The table of routes and the way through it: a hash look-up per host and per segment of the
//! path, then a short list of routes that ask for the same host and path.
//!
//! Places are visited from the most to the least specific; a route replaces the best one so far
//! only by a higher priority. Every place knows the highest priority in it, so that the search
//! ends as soon as nothing behind can win: with equal priorities, at the first route that takes
//! the request.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use regex::Regex;

use super::begins::Begins;
use super::conditions::{Conditions, failing};
use super::{RequestView, Route};

/// Longest host name; a longer one is nobody's (RFC 1035 §2.3.4).
pub(super) const HOST_MAX: usize = 255;

pub(super) type Map<T> = HashMap<Box<str>, T, FixedState>;

/// The routes of one listener.
#[derive(Debug, Default)]
pub struct RouteTable {
    pub(super) exact: Map<Paths>,
    /// By the suffix behind the `*`, dot included.
    pub(super) below: Map<Paths>,
    pub(super) any: Paths,
    /// Highest priority in `below`.
    pub(super) below_highest: i32,
}

/// The routes of one host, or of all names below one, or of any.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: Map<Slot>,
    /// Highest priority first.
    patterns: Vec<(Regex, Candidate)>,
    begins: Begins,
    /// By the prefix without a slash at its end; `""` takes every path.
    prefix: Map<Slot>,
    /// Length of the longest prefix: what is longer is cut at once.
    longest: usize,
    /// Highest priority.
    pub(super) highest: i32,
}

/// The candidates of one path, in the order in which they are asked. One, as there most often is,
/// stands in the map itself: nothing more has to be waited for.
#[derive(Debug)]
pub(super) enum Slot {
    One(Candidate),
    Many(Box<[Candidate]>),
}

/// A route that takes the path, if its conditions hold. What matching looks at stands here, so
/// that the route itself is not touched.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) priority: i32,
    pub(super) conditions: Option<Conditions>,
    pub(super) route: Arc<Route>,
}

/// Which paths a route takes.
#[derive(Debug, Clone)]
pub(super) enum PathRule {
    Exact(Box<str>),
    Pattern(Regex),
    /// Letter by letter; the flag: in lower case, for both cases.
    Begins(Box<str>, bool),
    /// Without a slash at its end.
    Prefix(Box<str>),
}

impl RouteTable {
    /// The route that takes the request of `view`. Allocates nothing, never waits.
    #[must_use]
    pub fn route(&self, view: &RequestView<'_>) -> Option<&Arc<Route>> {
        let mut best = None;
        self.visit(view.host, |paths| paths.find(view, &mut best));
        best.map(|candidate| &candidate.route)
    }

    /// Every route, in no order that means anything.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let paths = self.exact.values().chain(self.below.values()).chain([&self.any]);
        paths.flat_map(|paths| {
            let patterns = paths.patterns.iter().map(|(_, candidate)| candidate);
            let slots = paths.exact.values().chain(paths.begins.slots());
            let slots = slots.chain(paths.prefix.values());
            slots.flat_map(Slot::all).chain(patterns).map(|candidate| &candidate.route)
        })
    }

    /// Shows `look` the routes of `host` (as it was sent), the most specific first, and tells it
    /// which priority the next ones have at most; ends when it says so.
    pub(super) fn visit<'t>(&'t self, host: &str, mut look: impl FnMut(&'t Paths) -> Option<i32>) {
        let mut buffer = [0; HOST_MAX];
        let host = host_name(host, &mut buffer);
        // The priority that has to be beaten.
        let mut reached = None;
        let beaten = |reached: Option<i32>, highest| reached.is_some_and(|best| best >= highest);
        if let Some(paths) = self.exact.get(host) {
            reached = look(paths);
        }
        if !self.below.is_empty() && !beaten(reached, self.below_highest) {
            // The longest suffix first: every dot from the left.
            for (dot, _) in host.match_indices('.') {
                if let Some(paths) = self.below.get(&host[dot..])
                    && !beaten(reached, paths.highest)
                {
                    reached = look(paths);
                }
            }
        }
        if !beaten(reached, self.any.highest) {
            look(&self.any);
        }
    }
}

impl Paths {
    /// Puts the best route among `best` and those here into `best`; returns its priority.
    pub(super) fn find<'t>(
        &'t self,
        view: &RequestView<'_>,
        best: &mut Option<&'t Candidate>,
    ) -> Option<i32> {
        let reached = |best: Option<&Candidate>| best.map(|candidate| candidate.priority);
        let done = |best: Option<&Candidate>| {
            best.is_some_and(|candidate| candidate.priority >= self.highest)
        };
        if let Some(slot) = self.exact.get(view.path) {
            offer(slot.all(), view, best);
        }
        if done(*best) {
            return reached(*best);
        }
        for (pattern, candidate) in &self.patterns {
            if best.is_some_and(|best| best.priority >= candidate.priority) {
                break;
            }
            if candidate.takes(view) && pattern.is_match(view.path) {
                *best = Some(candidate);
                break;
            }
        }
        self.begins.find(view.path, |slot| {
            let open = !done(*best);
            if open {
                offer(slot.all(), view, best);
            }
            open
        });
        for slot in self.prefixes(view.path) {
            if done(*best) {
                break;
            }
            offer(slot.all(), view, best);
        }
        reached(*best)
    }

    /// Shows `look` every candidate that takes the path, in the order of [`Paths::find`].
    pub(super) fn each<'t>(&'t self, path: &str, mut look: impl FnMut(&'t Candidate)) {
        let exact = self.exact.get(path).map(Slot::all);
        exact.into_iter().flatten().for_each(&mut look);
        let matching = self.patterns.iter().filter(|(pattern, _)| pattern.is_match(path));
        matching.for_each(|(_, candidate)| look(candidate));
        self.begins.find(path, |slot| {
            slot.all().iter().for_each(&mut look);
            true
        });
        self.prefixes(path).flat_map(Slot::all).for_each(look);
    }

    /// Whether there is no route.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.prefix.is_empty()
            && self.patterns.is_empty()
            && self.begins.is_empty()
    }

    /// The slots of the prefixes that `path` has, the longest first.
    fn prefixes<'t>(&'t self, path: &str) -> impl Iterator<Item = &'t Slot> {
        let mut rest = if self.prefix.is_empty() { None } else { Some(path) };
        if path.len() > self.longest {
            // What follows the last slash that a known prefix could reach cannot be one.
            let reach = path.as_bytes()[..=self.longest].iter().rposition(|byte| *byte == b'/');
            rest = rest.map(|path| &path[..reach.unwrap_or(0)]);
        }
        std::iter::from_fn(move || {
            while let Some(prefix) = rest {
                // `OPTIONS *` asks about all of a host: a route for every path takes it.
                rest = (!prefix.is_empty()).then(|| &prefix[..prefix.rfind('/').unwrap_or(0)]);
                if let Some(slot) = self.prefix.get(prefix) {
                    return Some(slot);
                }
            }
            None
        })
    }

    /// Takes all routes of this place, each with its rule, in the order of their names.
    pub(super) fn fill(&mut self, routes: Vec<(PathRule, Candidate)>) {
        self.highest = routes.iter().map(|(_, route)| route.priority).max().unwrap_or_default();
        let mut slots: HashMap<(Kind, Box<str>), Vec<Candidate>> = HashMap::new();
        for (rule, candidate) in routes {
            let (kind, path) = match rule {
                PathRule::Exact(path) => (Kind::Exact, path),
                PathRule::Prefix(path) => (Kind::Prefix, path),
                PathRule::Begins(path, any_case) => (Kind::Begins { any_case }, path),
                PathRule::Pattern(pattern) => {
                    self.patterns.push((pattern, candidate));
                    continue;
                }
            };
            slots.entry((kind, path)).or_default().push(candidate);
        }
        self.patterns.sort_by(|(_, a), (_, b)| a.order(b));
        for ((kind, path), mut candidates) in slots {
            candidates.sort_by(Candidate::order);
            let slot = match <[Candidate; 1]>::try_from(candidates) {
                Ok([one]) => Slot::One(one),
                Err(several) => Slot::Many(several.into()),
            };
            match kind {
                Kind::Exact => {
                    self.exact.insert(path, slot);
                }
                Kind::Begins { any_case } => self.begins.insert(path, any_case, slot),
                Kind::Prefix => {
                    self.longest = self.longest.max(path.len());
                    self.prefix.insert(path, slot);
                }
            }
        }
    }
}

/// Where a path that is looked up stands.
#[derive(PartialEq, Eq, Hash)]
enum Kind {
    Exact,
    Prefix,
    Begins { any_case: bool },
}

impl Slot {
    pub(super) fn all(&self) -> &[Candidate] {
        match self {
            Self::One(candidate) => std::slice::from_ref(candidate),
            Self::Many(candidates) => candidates,
        }
    }
}

/// The first of `candidates` that beats `best` and takes the request.
fn offer<'t>(
    candidates: &'t [Candidate],
    view: &RequestView<'_>,
    best: &mut Option<&'t Candidate>,
) {
    for candidate in candidates {
        if best.is_some_and(|best| best.priority >= candidate.priority) {
            return;
        }
        if candidate.takes(view) {
            *best = Some(candidate);
            return;
        }
    }
}

impl Candidate {
    pub(super) fn conditions(&self) -> usize {
        self.conditions.as_ref().map_or(0, |conditions| conditions.len())
    }

    fn takes(&self, view: &RequestView<'_>) -> bool {
        self.conditions.as_ref().is_none_or(|conditions| failing(conditions, view).is_none())
    }

    /// Which of two with the same host and path is asked first.
    pub(super) fn order(&self, other: &Self) -> std::cmp::Ordering {
        let by_priority = other.priority.cmp(&self.priority);
        let by_conditions = other.conditions().cmp(&self.conditions());
        let by_name = self.route.name.cmp(&other.route.name);
        by_priority.then(by_conditions).then(by_name)
    }
}

/// The name in a `Host` header: without port and final dot, in lower case.
pub(super) fn host_name<'a>(host: &'a str, buffer: &'a mut [u8; HOST_MAX]) -> &'a str {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return name;
    }
    let Some(lower) = buffer.get_mut(..name.len()) else { return "" };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).unwrap_or_default()
}
