//! Which certificate a client is shown, for people who ask.

use std::sync::Arc;

use serde::Serialize;

use super::table::ProxyTable;

/// A certificate that would be shown.
#[derive(Debug, Serialize)]
pub(super) struct CertificateWhy {
    name: Arc<str>,
    /// The names in it.
    names: Vec<String>,
    /// When it runs out, in seconds since 1970.
    expires: i64,
    /// No certificate is for the host: this one is shown to clients of whom that is so.
    default: bool,
}

/// Whether the listener called `name` speaks TLS.
pub(super) fn speaks_tls(table: &ProxyTable, name: &str) -> bool {
    table.secured(name).is_some()
}

/// What the listener called `name` shows to who asks for `host`; none without TLS. An error says why
/// nothing is shown.
pub(super) fn certificate(
    table: &ProxyTable,
    name: &str,
    host: &str,
) -> Result<Option<CertificateWhy>, String> {
    let Some(secured) = table.secured(name) else { return Ok(None) };
    let names = secured.shown().now();
    let own = !names.find(host).is_empty();
    if !own && secured.refuses_unknown_names() {
        return Err(format!("no certificate of this listener is for {host:?}"));
    }
    let shown = names.shown(Some(host)).first();
    Ok(shown.map(|shown| CertificateWhy {
        name: Arc::clone(&shown.name),
        names: shown.names.iter().map(ToString::to_string).collect(),
        expires: shown.expires(),
        default: !own,
    }))
}
