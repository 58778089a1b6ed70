//! What a start may be given.

use std::path::PathBuf;
use std::time::Duration;

use super::upgrade::Predecessor;
use crate::catalog::publish::Feed;
use crate::net::adopt::Adopted;
use crate::net::notify::Notifier;
use crate::proxy::sticky::Clock;

/// What a start may be given besides the configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// The file that a reload reads again; none: reloads come by `App::reload` only.
    pub file: Option<PathBuf>,
    /// Registries that no configuration names, for programs that embed us and for tests.
    pub feeds: Vec<Feed>,
    /// Sockets that somebody else opened.
    pub adopted: Adopted,
    /// What stickiness goes by.
    pub clock: Clock,
    /// The process that this one is to replace.
    pub predecessor: Option<Predecessor>,
    /// Who started us and wants to hear how it goes.
    pub notifier: Notifier,
    /// How often it wants to.
    pub watchdog: Option<Duration>,
}
