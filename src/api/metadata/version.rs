//! The versions of the API, and in what they differ for what the catalog tells.

use std::sync::Arc;

/// The versions that there are, the newest of which is `latest` too.
pub(super) const KNOWN: [&str; 3] = ["2015-07-25", "2015-12-19", "2016-07-29"];

/// A version: from which one on it is like which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(u8);

impl Version {
    /// The version called `name`; one that is not known counts as the newest.
    pub(super) fn named(name: &str) -> Self {
        let at = KNOWN.iter().position(|known| *known == name);
        Self(at.unwrap_or(KNOWN.len() - 1) as u8)
    }

    /// The first one.
    pub(super) const fn oldest() -> Self {
        Self(0)
    }

    /// Whether a service lists its containers by name only, and a stack its services.
    pub(super) const fn names_only(self) -> bool {
        self.0 == 0
    }

    /// Whether names are in lower case.
    pub(super) const fn lower(self) -> bool {
        self.0 >= 2
    }

    /// Whether hosts have a `hostId`.
    pub(super) const fn tells_host_id(self) -> bool {
        self.0 < 2
    }

    /// `name` as it is told.
    pub(super) fn cased(self, name: &Arc<str>) -> Arc<str> {
        if self.lower() && name.chars().any(char::is_uppercase) {
            name.to_lowercase().into()
        } else {
            Arc::clone(name)
        }
    }
}
