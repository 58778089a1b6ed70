//! Keys: what a registry's key-value store holds, as far as somebody asked for it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shards::Shards;

/// Keys by path.
pub type Keys = Shards<Arc<str>, Key>;

/// One key of a registry's key-value store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its whole path, without a slash at the start; one at the end marks a folder.
    pub path: Arc<str>,
    /// Its value. A value that is no UTF-8 is refused where it is read.
    pub value: Arc<str>,
    /// A number that its writer chose.
    #[serde(default)]
    pub flags: u64,
    /// The registry's index when it was made.
    #[serde(default)]
    pub create_index: u64,
    /// The registry's index when it was changed last.
    #[serde(default)]
    pub modify_index: u64,
    /// How often it was locked.
    #[serde(default)]
    pub lock_index: u64,
    /// The session that holds its lock, or `""`.
    #[serde(default)]
    pub session: Arc<str>,
}

impl Key {
    /// The key of a source that keeps a path and a value, and nothing else.
    #[must_use]
    pub fn bare(path: Arc<str>, value: Arc<str>) -> Self {
        Self {
            path,
            value,
            flags: 0,
            create_index: 0,
            modify_index: 0,
            lock_index: 0,
            session: "".into(),
        }
    }
}
