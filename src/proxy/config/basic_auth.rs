//! `basic_auth = { … }` of routes: who is let in by name and password.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// `basic_auth = { realm = "staff", users = { ada = "$6$…" } }` (RFC 7617): others get 401.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuthConfig {
    /// What the client is told that it asks for.
    pub realm: String,
    /// Hashes of passwords, as `htpasswd` and `mkpasswd` print them, by the user's name.
    pub users: BTreeMap<String, String>,
    /// More of them, `name:hash` line by line.
    pub users_file: Option<PathBuf>,
    /// Whether endpoints get `Authorization` too.
    pub forward: bool,
}

impl fmt::Debug for BasicAuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Hashes can be tried against lists of passwords: they are secrets.
        f.debug_struct("BasicAuthConfig")
            .field("realm", &self.realm)
            .field("users", &self.users.keys())
            .field("users_file", &self.users_file)
            .field("forward", &self.forward)
            .finish()
    }
}
