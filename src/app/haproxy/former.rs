//! The process that this one replaces, by a descriptor that is its own: a number may be another's
//! when it has left, and stays a while as that of nobody where no parent asks how it ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The process before this one, for as long as it runs.
#[derive(Debug, Clone)]
pub(super) struct Former {
    pid: u32,
    process: Arc<OwnedFd>,
}

impl Former {
    /// The process of this number; none when it has left, or the kernel gives no descriptors of
    /// processes (before Linux 5.3).
    pub(super) fn of(pid: u32) -> Option<Self> {
        let known = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let process = pidfd_open(known, PidfdFlags::empty()).ok()?;
        Some(Self { pid, process: Arc::new(process) })
    }

    /// Its number while it runs.
    pub(super) fn runs(&self) -> Option<u32> {
        let mut process = [PollFd::new(&*self.process, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // What can be read is its end.
        matches!(poll(&mut process, Some(&at_once)), Ok(0)).then_some(self.pid)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_runs_until_it_ends_whether_or_not_somebody_asks_how() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let former = Former::of(child.id()).unwrap();
        assert_eq!(former.runs(), Some(child.id()));
        child.kill().unwrap();
        let mut end = [PollFd::new(&*former.process, PollFlags::IN)];
        poll(&mut end, None).unwrap();
        assert_eq!(former.runs(), None, "nobody has asked how it ended");
        child.wait().unwrap();
        assert_eq!(former.runs(), None);
        assert!(Former::of(child.id()).is_none());
    }
}
