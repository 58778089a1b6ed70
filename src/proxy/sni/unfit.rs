//! What of a route can't be where TLS is passed on, and what can't be elsewhere.

use super::super::config::{ListenerConfig, RouteConfig};
use super::super::route;
use super::super::table::Unfit;

/// What of the route called `name` does not fit `listener`: keys about requests where none are seen,
/// and keys about hellos where none are read.
pub(in crate::proxy) fn unfit(
    name: &str,
    config: &RouteConfig,
    listener: Option<&ListenerConfig>,
) -> Vec<Unfit> {
    let Some(listener) = listener else { return Vec::new() };
    let (keys, why) = if listener.tls.is_some() {
        let why = "is about requests, and a tls listener sees none: what is inside is between the \
                   client and the endpoint; take it away, or let the route belong to an https listener";
        (about_requests(config), why)
    } else {
        let why = "is for routes of listeners that read the hello of TLS, [listener.NAME.tls]; take \
                   it away";
        (about_hellos(config), why)
    };
    let told = |key: &'static str| route::unfit(name, Some(key), format!("`{key}` {why}"));
    keys.into_iter().map(told).collect()
}

/// The keys that are set and mean something for requests only.
fn about_requests(config: &RouteConfig) -> Vec<&'static str> {
    let usual = RouteConfig::default();
    let keys = [
        ("path", config.path.is_some()),
        ("path_exact", config.path_exact.is_some()),
        ("path_regex", config.path_regex.is_some()),
        ("path_begins", config.path_begins.is_some()),
        ("path_any_case", config.path_any_case),
        ("basic_auth", config.basic_auth.is_some()),
        ("methods", !config.methods.is_empty()),
        ("headers", !config.headers.is_empty()),
        ("query", !config.query.is_empty()),
        ("respond", config.respond.is_some()),
        ("redirect", config.redirect.is_some()),
        ("strip_prefix", config.strip_prefix.is_some()),
        ("add_prefix", config.add_prefix.is_some()),
        ("rewrite", config.rewrite.is_some()),
        ("request_headers", config.request_headers != usual.request_headers),
        ("response_headers", config.response_headers != usual.response_headers),
        ("location_prefix", config.location_prefix.is_some()),
        ("error_pages", !config.error_pages.is_empty()),
        ("timeouts", config.timeouts != usual.timeouts),
        ("body_max", config.body_max.is_some()),
        ("limit_rate", config.limit_rate.is_some()),
        ("limit_rate_after", config.limit_rate_after.is_some()),
        ("rate_limit", config.rate_limit.is_some()),
        ("requests_max", config.requests_max.is_some()),
    ];
    keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
}

fn about_hellos(config: &RouteConfig) -> Vec<&'static str> {
    let keys = [("alpn", !config.alpn.is_empty()), ("terminate", config.terminate)];
    keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
}

/// What of the conditions of a route can't be, to `tell` with its key.
pub(super) fn conditions(config: &RouteConfig, tell: &mut dyn FnMut(&'static str, String)) {
    if let Some(wrong) = config.alpn.iter().find(|name| !(1..=255).contains(&name.len())) {
        let what = format!("{wrong:?} is no name of a protocol: one has 1 to 255 bytes");
        tell("alpn", what);
    }
}
