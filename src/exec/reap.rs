//! Zombies that nobody of us started: as process 1 they are ours.
//!
//! Whoever started a child reaps it by its number, at once: nobody may take that away. So a zombie
//! is left alone until it was one at two looks; then nobody waits for it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// Time between two looks while there are zombies.
const LOOK: Duration = Duration::from_secs(2);

/// Reaps orphans as long as the process lives, if it is process 1. Must be called within a tokio
/// runtime.
pub fn start() {
    if getpid().is_init() {
        tokio::spawn(orphans());
    }
}

async fn orphans() {
    let Ok(mut ended) = signal(SignalKind::child()) else {
        tracing::warn!("ends of children cannot be noticed; zombies stay");
        return;
    };
    let mut seen: BTreeSet<i32> = BTreeSet::new();
    loop {
        if seen.is_empty() && ended.recv().await.is_none() {
            return;
        }
        sleep(LOOK).await;
        let Ok(now) = tokio::task::spawn_blocking(zombies).await else { return };
        let left = now.intersection(&seen).filter_map(|id| Pid::from_raw(*id));
        for pid in left {
            // Otherwise whoever waits for it came first.
            if let Ok(Some(_)) = waitpid(Some(pid), WaitOptions::NOHANG) {
                tracing::debug!(pid = pid.as_raw_nonzero(), "an orphan was reaped");
            }
        }
        seen = now;
    }
}

/// Our children that have ended and that nobody has waited for.
fn zombies() -> BTreeSet<i32> {
    let own = getpid().as_raw_nonzero().get();
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id: &i32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        is_zombie_of(&stat, own)
    })
    .collect()
}

/// Whether `/proc/PID/stat` tells of a zombie whose parent is `parent`: behind the name in
/// parentheses stand the state and the parent (proc(5)).
fn is_zombie_of(stat: &str, parent: i32) -> bool {
    let Some((_, behind)) = stat.rsplit_once(") ") else { return false };
    let mut words = behind.split(' ');
    words.next() == Some("Z") && words.next() == Some(&*parent.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_known_by_its_state_and_its_parent() {
        for (case, stat, want) in [
            ("ours", "5 (sh) Z 1 5 5 0", true),
            ("another's", "5 (sh) Z 12 5 5 0", false),
            ("alive", "5 (sh) S 1 5 5 0", false),
            ("a name that misleads", "5 (a) Z 1) S 1 5", false),
            ("nothing", "", false),
        ] {
            assert_eq!(is_zombie_of(stat, 1), want, "{case}");
        }
    }

    #[tokio::test]
    async fn a_child_that_was_not_waited_for_is_a_zombie_of_ours() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        while !zombies().contains(&id) {
            sleep(Duration::from_millis(5)).await;
        }
        assert!(child.wait().unwrap().success(), "a look takes nothing away");
        assert!(!zombies().contains(&id));
    }
}
