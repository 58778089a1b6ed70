//! `[route.NAME]`: which requests, where to, and what is done to them on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::basic_auth::BasicAuthConfig;
use super::limits::RateLimitConfig;
use super::sticky::StickyConfig;
use crate::units::{Period, Size};

/// `[route.NAME]`: the highest `priority` wins, then the most specific: host, path, and how many
/// conditions beside them; then the name.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// Name of the listener it belongs to: one of HTTP, or of TLS that is passed on.
    pub listener: String,
    /// Above all that is specific: higher first.
    pub priority: i32,

    // Which requests.
    /// `shop.example`, or `*.shop.example` for every name below; absent: any.
    pub host: Option<String>,
    /// A prefix by segment: `/api` takes `/api` and `/api/x`, never `/apis`.
    pub path: Option<String>,
    /// This path only.
    pub path_exact: Option<String>,
    /// A regular expression that the whole path matches.
    pub path_regex: Option<String>,
    /// What the path begins with, segments or not: `/api` takes `/apis` too.
    pub path_begins: Option<String>,
    /// With `path_begins`: whether the case of letters does not count.
    pub path_any_case: bool,
    /// Methods, in capitals; none: any.
    pub methods: Vec<String>,
    /// Header lines that must be there with this value; `"*"`: with any.
    pub headers: BTreeMap<String, String>,
    /// Parameters of the query that must be there with this value; `"*"`: with any.
    pub query: BTreeMap<String, String>,
    /// Networks of clients; none: any. Others are asked for the next route.
    pub clients: Vec<IpNet>,
    /// At listeners of TLS that is passed on: protocols of which the client offers one; none: any.
    pub alpn: Vec<String>,

    // Where to: exactly one.
    /// Who gets the requests: a service, or `service:port-name`.
    pub service: Option<String>,
    /// Several of them, with their shares: `{ web = 95, web-next = 5 }`.
    pub split: BTreeMap<String, u32>,
    /// An answer given here, without any service.
    pub respond: Option<RespondConfig>,
    /// Another address that the client is sent to.
    pub redirect: Option<RedirectConfig>,
    /// At listeners of TLS that is passed on: TLS ends here, and the endpoint gets what is inside.
    pub terminate: bool,

    // What is done on the way there and back.
    /// Taken off the front of the path before it goes on.
    pub strip_prefix: Option<String>,
    /// Put before the path, after `strip_prefix`.
    pub add_prefix: Option<String>,
    /// The path written anew, before the prefixes.
    pub rewrite: Option<RewriteConfig>,
    /// Edits of the request's header.
    pub request_headers: HeaderEdits,
    /// Edits of the response's header.
    pub response_headers: HeaderEdits,
    /// Put before the path of a `Location` or `Content-Location` that leads back here.
    pub location_prefix: Option<String>,
    /// Files that replace answers by status: `{ "503" = "errors/503.html", "5xx" = "errors/5xx.html" }`.
    pub error_pages: BTreeMap<String, PathBuf>,

    // Who, how long, how much.
    /// Networks that are let in; none: all but those of `deny`. Others get 403.
    pub allow: Vec<IpNet>,
    /// Networks that get 403; the narrower of `allow` and `deny` counts.
    pub deny: Vec<IpNet>,
    /// Who is let in by name and password; others get 401.
    pub basic_auth: Option<BasicAuthConfig>,
    /// Instead of the listener's.
    pub timeouts: RouteTimeouts,
    /// Largest body of a request; beyond it 413.
    pub body_max: Option<Size>,
    /// Bytes per second of each response, as nginx means them.
    pub limit_rate: Option<Size>,
    /// Bytes of a response before `limit_rate` counts.
    pub limit_rate_after: Option<Size>,
    /// Requests in a time, per client or in all; beyond it 429.
    pub rate_limit: Option<RateLimitConfig>,
    /// Requests that run at once; beyond it 503.
    pub requests_max: Option<u32>,
    /// How a client comes back to the endpoint that it had.
    pub sticky: Option<StickyConfig>,
}

/// Timeouts of a route; what is absent is the listener's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// To connect to an endpoint.
    pub connect: Option<Period>,
    /// Between two reads from the endpoint, or from the client within a body.
    pub read: Option<Period>,
    /// Without a byte in a tunnel (WebSocket).
    pub tunnel: Option<Period>,
}

/// Edits of a header: removed first, then set, then added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderEdits {
    /// Names of lines taken away.
    pub remove: Vec<String>,
    /// Lines that replace those of the same name.
    pub set: BTreeMap<String, String>,
    /// Lines beside those of the same name.
    pub add: BTreeMap<String, String>,
}

/// `rewrite = { pattern = "^/v1/(.*)", with = "/$1" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteConfig {
    /// A regular expression over the path.
    pub pattern: String,
    /// What stands there instead; `$1` or `${name}` for what was found.
    pub with: String,
}

/// `redirect = { … }`: what is absent stays as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedirectConfig {
    /// 301, 302, 303, 307 or 308; default 308, or 302 to a whole `to`.
    pub status: Option<u16>,
    /// `https` or `http`.
    pub scheme: Option<String>,
    /// Host name.
    pub host: Option<String>,
    /// Port; the scheme's own is left out.
    pub port: Option<u16>,
    /// Path, instead of the one asked for (after the route's edits of it); the query stays.
    pub path: Option<String>,
    /// A whole address, in which `${path}` and `${query}` stand for what was asked for.
    pub to: Option<String>,
}

/// `respond = { … }`: an answer that the proxy gives by itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RespondConfig {
    /// Status code of the answer, 200 to 599.
    pub status: u16,
    /// Body of the answer, as `text/plain`.
    #[serde(default)]
    pub body: String,
    /// Always, or only while the process is ready (else 503): what an outer balancer asks.
    #[serde(default)]
    pub when: RespondWhen,
}

/// When a `respond` route gives its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RespondWhen {
    /// Always.
    #[default]
    Always,
    /// While the process is ready and not draining; else 503.
    Ready,
}
