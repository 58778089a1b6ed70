//! The maps that marathon-lb wrote for HAProxy: which virtual host, and which app, has which backend.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::lines::{Line, lines};
use crate::app::publish::Tables;
use crate::proxy::config::RouteConfig;
use crate::proxy::route::ServiceRef;
use crate::proxy::table::Listener;

/// `host backend`, for each virtual host whose requests all go to one service.
pub(super) fn hosts(tables: &Tables) -> String {
    let lines = lines(&tables.proxy);
    let mut found = BTreeSet::new();
    for (_, listener) in tables.proxy.listeners() {
        let Listener::Http { routes, .. } = &**listener else { continue };
        for route in routes.routes().filter(|route| whole(&route.config)) {
            if let (Some(host), Some(service)) = (&route.config.host, route.target.service(0)) {
                found.extend(backend(&lines, service).map(|name| format!("{host} {name}")));
            }
        }
    }
    written(found)
}

/// `/app/id backend`, for each service port of each app.
pub(super) fn apps(tables: &Tables) -> String {
    let mut found = BTreeSet::new();
    for line in lines(&tables.proxy) {
        let Some(target) = &line.back else { continue };
        let service = tables.snapshot.service(&target.service);
        if let Some(app) = service.and_then(|service| service.meta.get("marathon.app")) {
            found.insert(format!("{app} {}", line.name));
        }
    }
    written(found)
}

fn backend<'a>(lines: &'a [Line], service: &ServiceRef) -> Option<&'a str> {
    let own = |line: &&Line| line.back.as_ref().is_some_and(|back| back.key == service.key);
    lines.iter().find(own).map(|line| &*line.name)
}

/// Whether nothing but the host decides on the route.
fn whole(config: &RouteConfig) -> bool {
    let paths = [&config.path, &config.path_exact, &config.path_regex, &config.path_begins];
    paths.into_iter().all(Option::is_none)
        && config.methods.is_empty()
        && config.headers.is_empty()
        && config.query.is_empty()
        && config.clients.is_empty()
}

fn written(lines: BTreeSet<String>) -> String {
    let mut text = String::new();
    for line in lines {
        // Writing to a string never fails.
        let _ = writeln!(text, "{line}");
    }
    text
}
