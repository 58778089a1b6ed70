//! What the process may do: raised before it binds, given up before it has threads.
//!
//! All of it happens in the first thread while that is the only one of ours, so that what is set for
//! one thread is set for all that it starts later. User and group are changed by the C library all the
//! same, which does it in every thread: the allocator has one of its own.

mod seccomp;

use std::io;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, setgid, setgroups, setuid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities,
    set_no_new_privs,
};

use crate::config::{Capability, LimitsConfig, ProcessConfig, Seccomp};

/// Descriptors beside those of connections: listeners, files, registries, checks.
const BESIDE: u64 = 512;

/// Why the process cannot become what it is to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    #[error("[process] user = {0:?} is no user of this system; make it, or write another one")]
    User(String),
    #[error("[process] group = {0:?} is no group of this system; make it, or write another one")]
    Group(String),
    #[error(
        "[process] cannot become {wanted}: {source}; start as root, or as that user, or remove the \
         setting"
    )]
    Become { wanted: String, source: io::Error },
    #[error("[process] {what}: {source}")]
    Refused { what: &'static str, source: io::Error },
}

/// Lifts the soft limit of open files to the hard one, and says when that is less than what is wanted:
/// a connection takes two, one to its client and one to its endpoint.
pub(super) fn raise_descriptors(process: &ProcessConfig, limits: &LimitsConfig) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(?current, ?maximum, %error, "cannot raise the limit of open files");
    }
    let need = limits.connections as u64 * 2 + BESIDE;
    let wanted = process.open_files.unwrap_or(need);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        tracing::warn!(
            ?current,
            ?maximum,
            wanted,
            connections = limits.connections,
            "fewer files may be open than are wanted; beyond that connections are closed: raise \
             LimitNOFILE= or `ulimit -n`, or lower [limits] connections"
        );
    }
}

/// Becomes who `[process]` says, with the rights that it says. `inherits`: it was started by a process
/// that had done so.
pub(super) fn confine(process: &ProcessConfig, inherits: bool) -> Result<(), ConfineError> {
    if let Some(user) = &process.user {
        become_user(process, user)?;
    }
    let filtered = process.seccomp != Seccomp::Off;
    let none_new = process.no_new_privs.unwrap_or_else(|| process.user.is_some());
    // Without the right to administer the system, a filter takes the promise.
    if none_new || filtered {
        set_no_new_privs(true).map_err(|error| ConfineError::Refused {
            what: "no_new_privs",
            source: error.into(),
        })?;
    }
    seccomp::apply(process.seccomp, inherits)
        .map_err(|source| ConfineError::Refused { what: "seccomp", source })
}

fn become_user(process: &ProcessConfig, name: &str) -> Result<(), ConfineError> {
    let (uid, first_group) = find_user(name)?;
    let gid = match &process.group {
        Some(group) => find_group(group)?,
        None => first_group,
    };
    if Uid::effective() == uid && nix::unistd::getegid() == gid {
        return Ok(());
    }
    let refused = |source: nix::Error| ConfineError::Become {
        wanted: format!("user {uid}, group {gid}"),
        source: source.into(),
    };
    let keep = process.capabilities.iter().map(|capability| set_of(*capability));
    let keep = keep.fold(CapabilitySet::empty(), CapabilitySet::union);
    let unset = |source: rustix::io::Errno| ConfineError::Refused {
        what: "capabilities",
        source: source.into(),
    };
    // What a container has taken away cannot be kept, and is not missed: it is no right then.
    let keep = capabilities(None).map_err(unset)?.permitted.intersection(keep);
    set_keep_capabilities(true).map_err(unset)?;
    setgroups(&[gid]).map_err(refused)?;
    setgid(gid).map_err(refused)?;
    setuid(uid).map_err(refused)?;
    let sets =
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(unset)?;
    set_keep_capabilities(false).map_err(unset)
}

fn find_user(name: &str) -> Result<(Uid, Gid), ConfineError> {
    let unknown = || ConfineError::User(name.to_owned());
    if let Ok(number) = name.parse() {
        let uid = Uid::from_raw(number);
        let known = User::from_uid(uid).ok().flatten();
        return Ok((uid, known.map_or_else(|| Gid::from_raw(number), |user| user.gid)));
    }
    let user = User::from_name(name).ok().flatten().ok_or_else(unknown)?;
    Ok((user.uid, user.gid))
}

fn find_group(name: &str) -> Result<Gid, ConfineError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let group = Group::from_name(name).ok().flatten();
    group.map(|group| group.gid).ok_or_else(|| ConfineError::Group(name.to_owned()))
}

const fn set_of(capability: Capability) -> CapabilitySet {
    match capability {
        Capability::NetBindService => CapabilitySet::NET_BIND_SERVICE,
        Capability::Kill => CapabilitySet::KILL,
        Capability::Chown => CapabilitySet::CHOWN,
        Capability::DacOverride => CapabilitySet::DAC_OVERRIDE,
    }
}

/// The file with our number. Dropping it removes the file, if the number in it is ours still.
#[derive(Debug)]
pub(super) struct PidFile(Option<PathBuf>);

impl PidFile {
    /// Writes it aside and renames it, so that nobody reads half a number. One that cannot be written
    /// is no reason not to serve.
    pub(super) fn write(process: &ProcessConfig) -> Self {
        let Some(path) = &process.pid_file else { return Self(None) };
        let staged = path.with_extension("pid.new");
        let number = format!("{}\n", std::process::id());
        let written = std::fs::write(&staged, number).and_then(|()| std::fs::rename(&staged, path));
        match written {
            Ok(()) => Self(Some(path.clone())),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "[process] pid_file is not written");
                Self(None)
            }
        }
    }

    /// It is another process's now.
    pub(super) fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let Some(path) = &self.0 else { return };
        let ours = std::process::id().to_string();
        if std::fs::read_to_string(path).is_ok_and(|found| found.trim() == ours) {
            // Nobody misses it when it cannot be removed: the number is nobody's then.
            let _ = std::fs::remove_file(path);
        }
    }
}
