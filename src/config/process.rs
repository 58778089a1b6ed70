//! `[process]`: the process as the system sees it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::units::Period;

/// `[process]`: what the process may do, and how it is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// Who it becomes after binding, by name or number. None: who started it.
    pub user: Option<String>,
    /// Its group. None: the first one of `user`.
    pub group: Option<String>,
    /// What it may still do as `user`, by the system's words without `CAP_`.
    pub capabilities: Vec<Capability>,
    /// Whether nothing that it starts may gain rights (`sudo` and the like). None: if there is a
    /// `user`, or a filter of system calls.
    pub no_new_privs: Option<bool>,
    /// What becomes of system calls that neither we nor what we start should make.
    pub seccomp: Seccomp,
    /// Open files that it should have at least. None: as many as `[limits]` makes it need.
    pub open_files: Option<u64>,
    /// Where its number is written.
    pub pid_file: Option<PathBuf>,
    /// How long the new process of an upgrade may take until it serves.
    pub upgrade_timeout: Period,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            capabilities: vec![Capability::NetBindService],
            no_new_privs: None,
            seccomp: Seccomp::Off,
            open_files: None,
            pid_file: None,
            upgrade_timeout: Period::from_secs(60),
        }
    }
}

/// A right that can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Ports below 1024, also those that a reload brings.
    NetBindService,
    /// Signals to processes of other users, for `reload_signal`.
    Kill,
    /// Owners of files that templates render.
    Chown,
    /// Files of others.
    DacOverride,
}

/// What becomes of system calls that should not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// They are made.
    #[default]
    Off,
    /// They are made, and the kernel logs them.
    Log,
    /// They fail with EPERM.
    Enforce,
}
