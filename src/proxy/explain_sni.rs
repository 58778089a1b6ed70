//! Why a connection of TLS that is passed on goes where it goes. For people who ask; the decision is
//! asked of the same code that decides about connections.

use std::fmt::Write as _;
use std::sync::Arc;

use super::config::TlsListenerConfig;
use super::explain::{
    Inquiry, ListenerWhy, PASSED_OVER, PassedOver, RouteWhy, UrlWhy, carried, likest, upstreams,
};
use super::explain_asked::AskedHello;
use super::explain_tls::certificate;
use super::sni::{Route, Routes};
use super::table::{Listener, ProxyTable};
use crate::net::tls::hello::Hello;

/// Why a connection whose hello asks so is treated as `table` treats it.
pub(super) fn explain(table: &ProxyTable, inquiry: &Inquiry<'_>, asked: &AskedHello) -> UrlWhy {
    let mut all: Vec<_> = table.settings().listeners().collect();
    all.sort_by_key(|(name, _)| Arc::clone(name));
    let sealed = all.into_iter().filter_map(|(name, listener)| match &**listener {
        Listener::Tls { config, routes } => Some((name, &**config, routes)),
        Listener::Http { .. } | Listener::Tcp { .. } | Listener::Udp { .. } => None,
    });
    let sealed: Vec<_> = sealed.collect();
    let at_port = |config: &TlsListenerConfig| {
        asked.port.is_some_and(|port| config.bind.iter().any(|at| at.port() == port))
    };
    let exact = sealed.iter().any(|(_, config, _)| at_port(config));
    let mut notes = Vec::new();
    match asked.port {
        _ if sealed.is_empty() => notes.push("there is no tls listener".to_owned()),
        Some(port) if !exact => {
            notes.push(format!("no tls listener is configured for port {port}: all are asked"));
        }
        _ => {}
    }
    let reached = sealed.iter().filter(|(_, config, _)| !exact || at_port(config));
    let listeners: Vec<ListenerWhy> = reached
        .map(|(name, config, routes)| at_listener(table, name, (config, routes), asked, inquiry))
        .collect();
    UrlWhy {
        url: inquiry.url.to_owned(),
        method: "hello".to_owned(),
        client: inquiry.client,
        generation: table.generation,
        known: listeners.iter().any(|listener| listener.route.is_some()),
        listeners,
        notes,
    }
}

fn at_listener(
    table: &ProxyTable,
    name: &Arc<str>,
    (config, routes): (&TlsListenerConfig, &Routes),
    asked: &AskedHello,
    inquiry: &Inquiry<'_>,
) -> ListenerWhy {
    let hello = Hello::asking(asked.name.as_deref(), &asked.protocols);
    let candidates = routes.candidates(hello.name).concat();
    let winner = routes.find(&hello, inquiry.client);
    let others =
        candidates.iter().filter(|route| !winner.is_some_and(|won| Arc::ptr_eq(won, route)));
    let passed_over = others.take(PASSED_OVER).map(|route| PassedOver {
        route: Arc::clone(&route.name),
        why: passed(route, &hello, inquiry, winner),
    });
    let mut told = ListenerWhy {
        listener: Arc::clone(name),
        bind: config.bind.iter().map(ToString::to_string).collect(),
        certificate: None,
        status: None,
        answer: "the TLS alert unrecognized_name".to_owned(),
        route: None,
        why: match hello.name {
            _ if !candidates.is_empty() => "no route of this name has conditions that hold".into(),
            Some(name) => format!("no route is for the name {name:?}"),
            None => "no route is for clients that name nothing".into(),
        },
        passed_over: passed_over.collect(),
        nearest: Vec::new(),
    };
    let Some(route) = winner else {
        told.nearest = nearest(routes, hello.name.unwrap_or_default());
        return told;
    };
    told.why = favour(route);
    let upstreams = upstreams(table, &route.config);
    let client = inquiry.client;
    told.answer = if !route.access.admits(client) {
        format!("the TLS alert access_denied: `allow` and `deny` keep {client} out")
    } else if let Some(carried) = carried(&upstreams) {
        let how = if route.config.terminate { "TLS ends here, and is" } else { "as it is" };
        format!("{how} {carried}")
    } else {
        "closed: no instance of the service is eligible".to_owned()
    };
    if route.config.terminate {
        let shown = certificate(table, name, hello.name.unwrap_or_default());
        told.certificate = shown.ok().flatten();
    }
    let (connect, idle) = (config.timeouts.connect.to_string(), config.timeouts.idle.to_string());
    let limits = vec![("connect", connect), ("idle", idle)];
    let name = Arc::clone(&route.name);
    told.route = Some(RouteWhy { name, labels_of: None, limits, upstreams });
    told
}

/// What speaks for a route.
fn favour(route: &Route) -> String {
    let mut why = name(route);
    let conditions =
        [("alpn", !route.config.alpn.is_empty()), ("clients", !route.config.clients.is_empty())];
    for (key, _) in conditions.iter().filter(|(_, set)| *set) {
        // Writing to a string never fails.
        let _ = write!(why, ", `{key}` holds");
    }
    if route.config.priority != 0 {
        let _ = write!(why, "; its priority is {}", route.config.priority);
    }
    why
}

/// Why `route` does not take the connection: a condition that does not hold, or the winner.
fn passed(
    route: &Route,
    hello: &Hello<'_>,
    inquiry: &Inquiry<'_>,
    winner: Option<&Arc<Route>>,
) -> String {
    if !route.takes_client(inquiry.client) {
        return format!("{} is in none of its `clients`", inquiry.client);
    }
    if !route.takes_protocols(hello) {
        return format!("it is for clients that offer {}", route.config.alpn.join(" or "));
    }
    let Some(winner) = winner else { return String::new() };
    let before = format!("[route.{}] goes first", winner.name);
    let (first, second) = (winner.config.priority, route.config.priority);
    if first != second {
        return format!("{before}: its priority is {first}, not {second}");
    }
    if name(winner) != name(route) {
        return format!("{before}: its host is more specific; here {}", name(route));
    }
    format!("{before}: by its conditions, or its name")
}

fn name(route: &Route) -> String {
    match route.config.host.as_deref() {
        None | Some("*") => "any name will do".to_owned(),
        Some(host) if host.starts_with('*') => format!("the name is one label below {host}"),
        Some(_) => "the name is its own".to_owned(),
    }
}

/// Routes whose host is like what was asked for.
fn nearest(routes: &Routes, asked: &str) -> Vec<String> {
    let asked = asked.to_ascii_lowercase();
    let near = routes.routes().filter_map(|route| {
        let host = route.config.host.as_deref()?;
        let distance = strsim::damerau_levenshtein(host, &asked);
        Some((distance, format!("[route.{}] {host}", route.name)))
    });
    likest(near.collect())
}
