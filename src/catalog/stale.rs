//! How long what a registry said last counts, and what happens then.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::source::RegistryState;

/// What happens to the services of a registry that was silent for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenStale {
    /// They go on being served as they were said last.
    #[default]
    Serve,
    /// They count as never heard: SERVFAIL, or 503.
    Servfail,
    /// They take no new work; their own clients stay.
    Drain,
}

/// For how long a registry may be silent, and what happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StalePolicy {
    /// Longest silence; none: for ever.
    pub max: Option<Duration>,
    /// What happens after it.
    pub then: WhenStale,
}

impl StalePolicy {
    /// When `state` will have been silent for too long; none while it answers, or when nothing
    /// happens then.
    #[must_use]
    pub fn ends(&self, state: &RegistryState) -> Option<SystemTime> {
        match (state, self.max, self.then) {
            (_, _, WhenStale::Serve) | (RegistryState::Syncing | RegistryState::Live(_), ..) => {
                None
            }
            (RegistryState::Stale { since, .. }, Some(max), _) => since.checked_add(max),
            (RegistryState::Stale { .. }, None, _) => None,
        }
    }

    /// What counts for `state` at `now`: [`WhenStale::Serve`] until its time is over.
    #[must_use]
    pub fn at(&self, state: &RegistryState, now: SystemTime) -> WhenStale {
        if self.ends(state).is_some_and(|end| end <= now) { self.then } else { WhenStale::Serve }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::RegistryView;

    #[test]
    fn a_silence_ends_only_for_what_is_stale_and_only_when_something_happens_then() {
        let since = SystemTime::UNIX_EPOCH;
        let stale =
            || RegistryState::Stale { last: RegistryView::default(), since, why: "gone".into() };
        let minute = Duration::from_secs(60);
        for (case, max, then, state, want) in [
            ("serve", Some(minute), WhenStale::Serve, stale(), None),
            ("servfail", Some(minute), WhenStale::Servfail, stale(), Some(since + minute)),
            ("no limit", None, WhenStale::Drain, stale(), None),
            (
                "live",
                Some(minute),
                WhenStale::Drain,
                RegistryState::Live(RegistryView::default()),
                None,
            ),
            ("syncing", Some(minute), WhenStale::Drain, RegistryState::Syncing, None),
        ] {
            let policy = StalePolicy { max, then };
            assert_eq!(policy.ends(&state), want, "{case}");
            assert_eq!(policy.at(&state, since), WhenStale::Serve, "{case}");
        }
        let policy = StalePolicy { max: Some(minute), then: WhenStale::Drain };
        assert_eq!(policy.at(&stale(), since + minute), WhenStale::Drain);
    }
}
