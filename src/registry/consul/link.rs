//! Whether the agent can be reached, and who leads its cluster. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::registry::backoff::Backoff;

/// Least time between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Time between looks while nobody leads.
const LEADERLESS: Duration = Duration::from_secs(1);
/// Looks that must fail in a row, without an answer to anything else, before the agent is given up.
const FAILURES: u32 = 2;

#[derive(Debug)]
pub(super) struct Link {
    up: bool,
    heartbeat: Duration,
    /// Last answer to anything.
    heard_at: Instant,
    failures: u32,
    /// A watch lost its connection since the last look.
    troubled: bool,
    looking: bool,
    not_before: Instant,
    backoff: Backoff,
    /// Address of the leader; empty: none; unknown before the first look.
    leader: Option<String>,
}

/// What a look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing new.
    None,
    /// The agent answers (again).
    Up,
    /// It does not answer any more.
    Down,
    /// It did not answer before, and does not now.
    StillDown,
    /// Another server leads, or none.
    OtherLeader,
    /// Somebody leads again after nobody did.
    LeaderBack,
}

impl Link {
    pub(super) const fn new(heartbeat: Duration, now: Instant) -> Self {
        Self {
            up: false,
            heartbeat,
            heard_at: now,
            failures: 0,
            troubled: false,
            looking: false,
            not_before: now,
            backoff: Backoff::usual(),
            leader: None,
        }
    }

    pub(super) const fn up(&self) -> bool {
        self.up
    }

    /// Something was answered.
    pub(super) const fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.failures = 0;
    }

    /// A connection broke.
    pub(super) const fn trouble(&mut self) {
        self.troubled = true;
    }

    /// Whether to look now; whoever does says so to [`Self::looked`].
    pub(super) fn look(&mut self, now: Instant) -> bool {
        if self.looking || now < self.not_before {
            return false;
        }
        let silent = now.saturating_duration_since(self.heard_at) >= self.heartbeat;
        let leaderless = self.leader.as_deref() == Some("");
        self.looking = !self.up || self.troubled || silent || leaderless;
        self.looking
    }

    /// What a look brought: the leader, if the agent tells, or nothing.
    pub(super) fn looked(
        &mut self,
        result: Result<Option<String>, ()>,
        now: Instant,
        random: u64,
    ) -> Turn {
        self.looking = false;
        let Ok(leader) = result else {
            if !self.up {
                self.not_before = now + self.backoff.failed(random);
                return Turn::StillDown;
            }
            self.failures += 1;
            self.troubled = true;
            self.not_before = now + LOOK_PAUSE;
            if self.failures < FAILURES {
                return Turn::None;
            }
            self.up = false;
            self.backoff.succeeded();
            self.not_before = now + self.backoff.failed(random);
            return Turn::Down;
        };
        self.heard(now);
        self.troubled = false;
        let leaderless = leader.as_deref() == Some("");
        self.not_before = now + if leaderless { LEADERLESS } else { LOOK_PAUSE };
        let before = match leader {
            Some(leader) => self.leader.replace(leader),
            None => None,
        };
        if !std::mem::replace(&mut self.up, true) {
            self.backoff.succeeded();
            return Turn::Up;
        }
        match (before.as_deref(), self.leader.as_deref()) {
            (Some(""), Some(now)) if !now.is_empty() => Turn::LeaderBack,
            (Some(before), Some(now)) if before != now => Turn::OtherLeader,
            _ => Turn::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(10);

    fn leader(name: &str) -> String {
        name.into()
    }

    #[test]
    fn an_agent_is_given_up_after_two_failed_looks_with_no_answer_between() {
        let now = Instant::now();
        let mut link = Link::new(HEARTBEAT, now);
        assert!(link.look(now) && !link.look(now), "one look at a time");
        assert_eq!(link.looked(Ok(Some(leader("a"))), now, 0), Turn::Up);
        assert!(!link.look(now + HEARTBEAT / 2), "all is well");
        let mut at = now + HEARTBEAT;
        assert!(link.look(at), "silence");
        assert_eq!(link.looked(Err(()), at, 0), Turn::None);
        link.heard(at);
        at += LOOK_PAUSE;
        assert!(link.look(at));
        assert_eq!(link.looked(Err(()), at, 0), Turn::None, "a watch was answered between");
        at += LOOK_PAUSE;
        assert!(link.look(at));
        assert_eq!(link.looked(Err(()), at, u64::MAX), Turn::Down);
        assert!(!link.look(at + Duration::from_millis(200)), "a pause before the next look");
        at += Duration::from_millis(250);
        assert!(link.look(at));
        assert_eq!(link.looked(Err(()), at, u64::MAX), Turn::StillDown);
        at += Duration::from_millis(500);
        assert!(link.look(at));
        assert_eq!(link.looked(Ok(None), at, 0), Turn::Up);
    }

    #[test]
    fn a_broken_connection_makes_for_a_look_at_once() {
        let now = Instant::now();
        let mut link = Link::new(HEARTBEAT, now);
        link.look(now);
        link.looked(Ok(Some(leader("a"))), now, 0);
        link.trouble();
        assert!(link.look(now + LOOK_PAUSE));
    }

    #[test]
    fn another_leader_none_and_one_again_are_told() {
        let mut now = Instant::now();
        let mut link = Link::new(HEARTBEAT, now);
        for (name, want) in [
            ("a", Turn::Up),
            ("a", Turn::None),
            ("b", Turn::OtherLeader),
            ("", Turn::OtherLeader),
            ("", Turn::None),
            ("a", Turn::LeaderBack),
        ] {
            now += HEARTBEAT;
            assert!(link.look(now));
            assert_eq!(link.looked(Ok(Some(leader(name))), now, 0), want, "{name:?}");
        }
    }
}
