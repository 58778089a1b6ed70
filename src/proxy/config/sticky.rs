//! `sticky = { … }` of routes and TCP listeners.

use serde::Deserialize;

use crate::units::Period;

/// How a client comes back to the endpoint that it had: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StickyConfig {
    /// Name of a signed cookie, which names no address. HTTP only.
    pub cookie: Option<String>,
    /// By the client's address, for so long after it was last seen.
    pub source: Option<Period>,
}
