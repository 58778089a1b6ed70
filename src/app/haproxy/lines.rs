//! What HAProxy would call proxies, and under which names, by the tables of now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::proxy::ProxyTable;
use crate::proxy::route::ServiceRef;
use crate::proxy::table::Listener;

/// What listens, who serves, or both under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The name that is told.
    pub(super) name: Arc<str>,
    pub(super) http: bool,
    /// The listener, by its own name.
    pub(super) front: Option<Arc<str>>,
    /// Whether labels ask for it, so that metrics have it under one name with all others of these.
    pub(super) labelled: bool,
    /// The upstream.
    pub(super) back: Option<ServiceRef>,
}

/// All of them: listeners by name, then the upstreams that none of these has for its own, by name.
///
/// A listener that leads to one service is told with it, as HAProxy's `listen` has it; all others stand
/// alone, as a `frontend` does.
pub(super) fn lines(table: &ProxyTable) -> Vec<Line> {
    let mut fronts: BTreeMap<Arc<str>, Line> = BTreeMap::new();
    let mut http: HashSet<&Arc<str>> = HashSet::new();
    for (name, listener) in table.listeners() {
        // Those that labels ask for lead to one service each, whatever they carry.
        let own = table.overlay().ports().get(name).map(|own| own.asked.target.clone());
        let labelled = own.is_some();
        let line = |http, back| {
            let front = Some(Arc::clone(name));
            Line { name: named(name), http, front, labelled, back }
        };
        let line = match &**listener {
            Listener::Http { routes, .. } => {
                let targets = routes.routes().flat_map(|route| route.target.services());
                http.extend(targets.map(|target| &target.key));
                line(true, own)
            }
            Listener::Tls { .. } => line(false, None),
            // Those whose ports the registry tells lead to one service each.
            Listener::Tcp { target, .. } if target.key.is_empty() => line(false, None),
            Listener::Tcp { target, .. } => line(false, Some(target.clone())),
            // HAProxy knows no datagrams.
            Listener::Udp { .. } => continue,
        };
        fronts.insert(Arc::clone(name), line);
    }
    let owned: HashSet<Arc<str>> = fronts
        .values()
        .filter_map(|line| line.back.as_ref())
        .map(|back| Arc::clone(&back.key))
        .collect();
    let mut alone: BTreeMap<Arc<str>, Line> = BTreeMap::new();
    for wanted in table.wanted().filter(|wanted| !owned.contains(&wanted.key)) {
        let line = Line {
            name: named(&wanted.key),
            http: http.contains(&wanted.key),
            front: None,
            labelled: false,
            back: Some(wanted.clone()),
        };
        alone.insert(Arc::clone(&wanted.key), line);
    }
    let mut lines: Vec<Line> = fronts.into_values().collect();
    let places: HashMap<Arc<str>, usize> =
        lines.iter().enumerate().map(|(at, line)| (Arc::clone(&line.name), at)).collect();
    for line in alone.into_values() {
        // A `frontend` and a `backend` may have one name, and are told as one then.
        let front = places.get(&line.name).and_then(|at| lines.get_mut(*at));
        match front.filter(|front| front.http == line.http && front.back.is_none()) {
            Some(front) => front.back = line.back,
            None => lines.push(line),
        }
    }
    apart(&mut lines);
    lines
}

/// Lets no two of them have one name.
fn apart(lines: &mut [Line]) {
    let mut taken = HashSet::new();
    for line in lines {
        let mut name = Arc::clone(&line.name);
        let mut number = 2;
        while !taken.insert(Arc::clone(&name)) {
            name = format!("{}_{number}", line.name).into();
            number += 1;
        }
        line.name = name;
    }
}

/// `name` of the characters that HAProxy takes in names, with `_` for any other.
pub(super) fn named(name: &str) -> Arc<str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if name.chars().all(fits) {
        return name.into();
    }
    name.chars().map(|c| if fits(c) { c } else { '_' }).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_character_that_would_part_them() {
        for (name, want) in [
            ("web", "web"),
            ("web:http", "web:http"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:80", "_::1_:80"),
            ("a/b,c\"d;e f", "a_b_c_d_e_f"),
            ("wörk", "w_rk"),
        ] {
            assert_eq!(&*named(name), want);
        }
    }

    #[test]
    fn of_two_alike_the_second_has_another_name() {
        let line = |name: &str| Line {
            name: name.into(),
            http: false,
            front: None,
            labelled: false,
            back: None,
        };
        let mut lines = vec![line("web"), line("api"), line("web"), line("web_2"), line("web")];
        apart(&mut lines);
        let names: Vec<&str> = lines.iter().map(|line| &*line.name).collect();
        assert_eq!(names, ["web", "api", "web_2", "web_2_2", "web_3"]);
    }
}
