//! Why a request takes the route that it takes, in words for people.

use std::fmt::Write as _;
use std::sync::Arc;

use super::conditions::failing;
use super::matching::{Candidate, RouteTable};
use super::{RequestView, Route};

/// What becomes of one request, and why.
#[derive(Debug)]
pub struct Explained {
    /// The route that takes it; none: 404.
    pub winner: Option<Arc<Route>>,
    /// Why that one, or why none, as a clause without a full stop.
    pub why: String,
    /// Other routes of its host and path, in the order in which they are asked, each with the
    /// reason why it does not take the request.
    pub passed_over: Vec<PassedOver>,
}

/// A route that might have taken a request.
#[derive(Debug)]
pub struct PassedOver {
    /// The route.
    pub route: Arc<Route>,
    /// The condition that failed, or what makes the winner go before it.
    pub why: String,
}

impl RouteTable {
    /// Who takes the request of `view`, and why. For people: allocates, and looks at every route of
    /// the host and the path. The winner is the one of [`RouteTable::route`].
    #[must_use]
    pub fn explain(&self, view: &RequestView<'_>) -> Explained {
        let (candidates, hosts) = self.candidates(view);
        explained(candidates, hosts, view)
    }

    /// Every route of the host and the path, and how many rules for hosts are for the request's.
    pub(super) fn candidates(&self, view: &RequestView<'_>) -> (Vec<&Candidate>, usize) {
        let mut candidates: Vec<&Candidate> = Vec::new();
        let mut hosts = 0;
        self.visit(view.host, |paths| {
            hosts += usize::from(!paths.is_empty());
            paths.each(view.path, |candidate| candidates.push(candidate));
            None
        });
        (candidates, hosts)
    }
}

/// Who of `candidates`, which came by host and path and those of one path in their order, takes the
/// request; `hosts`: how many rules for hosts are for its.
pub(super) fn explained(
    mut candidates: Vec<&Candidate>,
    hosts: usize,
    view: &RequestView<'_>,
) -> Explained {
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
    let failed = |candidate: &Candidate| {
        let conditions = candidate.conditions.as_ref()?;
        failing(conditions, view).map(|failing| failing.to_string())
    };
    let winner = candidates.iter().position(|candidate| failed(candidate).is_none());
    let why = match winner {
        Some(index) => favour(candidates[index]),
        None if hosts == 0 => format!("no route is for the host {:?}", view.host),
        None if candidates.is_empty() => {
            format!("no route of the host {:?} takes the path {:?}", view.host, view.path)
        }
        None => "no route of this host and path has conditions that hold".to_owned(),
    };
    let passed = candidates.iter().enumerate().filter(|(index, _)| Some(*index) != winner);
    let passed_over = passed.map(|(_, candidate)| {
        let before = || winner.map(|index| advantage(candidates[index], candidate));
        let why = failed(candidate).or_else(before).unwrap_or_default();
        PassedOver { route: Arc::clone(&candidate.route), why }
    });
    let passed_over = passed_over.collect();
    let winner = winner.map(|index| Arc::clone(&candidates[index].route));
    Explained { winner, why, passed_over }
}

/// What speaks for a route.
fn favour(candidate: &Candidate) -> String {
    let route = &*candidate.route;
    let mut why = format!("{}, {}", host(route), path(route));
    match candidate.conditions() {
        0 => {}
        1 => why.push_str(", and its condition holds"),
        count => {
            // Writing to a string never fails.
            let _ = write!(why, ", and its {count} conditions hold");
        }
    }
    if candidate.priority != 0 {
        let _ = write!(why, "; its priority is {}", candidate.priority);
    }
    why
}

/// Why `winner` is asked before `other`.
fn advantage(winner: &Candidate, other: &Candidate) -> String {
    let (first, second) = (&*winner.route, &*other.route);
    let before = format!("{} goes first", first.shown());
    if winner.priority != other.priority {
        return format!("{before}: its priority is {}, not {}", winner.priority, other.priority);
    }
    if host_rank(first) != host_rank(second) {
        return format!("{before}: its host is more specific; here {}", host(second));
    }
    if path_rank(first) != path_rank(second) {
        return format!("{before}: its path is more specific; here {}", path(second));
    }
    let (more, fewer) = (winner.conditions(), other.conditions());
    if more != fewer {
        return format!("{before}: it has more conditions, {more} instead of {fewer}");
    }
    format!("{before} by its name, all else being equal")
}

fn host(route: &Route) -> String {
    match host_rank(route) {
        (2, _) => "the host is its own".to_owned(),
        (1, _) => {
            format!("the host is one below {}", route.config.host.as_deref().unwrap_or_default())
        }
        _ => "any host will do".to_owned(),
    }
}

fn path(route: &Route) -> String {
    let config = &route.config;
    if let Some(text) = &config.path_begins {
        return format!("the path begins with the text {text:?}");
    }
    match (&config.path, &config.path_exact, &config.path_regex) {
        (_, Some(_), _) => "the path is its own".to_owned(),
        (_, _, Some(regex)) => format!("the path matches {regex:?}"),
        (Some(path), ..) if path_rank(route).1 > 0 => format!("the path begins with {path:?}"),
        _ => "any path will do".to_owned(),
    }
}

/// How specific the host is: the kind, then the length of what is given.
pub(super) fn host_rank(route: &Route) -> (u8, usize) {
    match route.config.host.as_deref() {
        None | Some("*") => (0, 0),
        Some(host) if host.starts_with('*') => (1, host.trim_end_matches('.').len()),
        Some(_) => (2, 0),
    }
}

/// How specific the path is: the kind, then the length of a prefix.
fn path_rank(route: &Route) -> (u8, usize) {
    let config = &route.config;
    if let Some(text) = &config.path_begins {
        return (1, super::canonical(text).unwrap_or_default().len());
    }
    match (&config.path, &config.path_exact, &config.path_regex) {
        (_, Some(_), _) => (3, 0),
        (_, _, Some(_)) => (2, 0),
        (Some(path), ..) => {
            let path = super::canonical(path).unwrap_or_default();
            (0, path.trim_end_matches('/').len())
        }
        (None, None, None) => (0, 0),
    }
}
