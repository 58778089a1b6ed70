//! Which upstream is asked: the one that answers fastest of those that answer. Pure: the time is
//! an argument.
//!
//! Passive: each exchange tells how an upstream does. Active: one that failed `fall` times in a row
//! is suspected, asked only when no other is left, and probed with growing pauses until it answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

/// Weight of the newest measurement in the mean.
const NEWEST: f64 = 0.3;
/// What is left of the mean of an upstream each time another one is asked instead: sooner or later
/// it is tried again.
const FORGET: f64 = 0.98;

/// When an upstream is suspected, and how often it is looked at then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// Failures in a row.
    pub fall: u32,
    /// Pause before the first probe; each later one is twice as long.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// What an exchange that came to nothing counts as.
    pub timeout: Duration,
}

/// How an exchange with an upstream went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// It answered, after so long.
    Well(Duration),
    /// It said that it cannot, after so long.
    Refused(Duration),
    /// It said nothing, or nothing that could be read.
    Badly,
}

/// What an exchange changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// Nothing.
    Not,
    /// It is suspected from now on.
    Suspected,
    /// It answers again.
    Well,
}

/// One upstream and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// Mean time to an answer, in seconds; none: it was never asked.
    pub(super) mean: Option<f64>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Set while it is suspected.
    pub(super) suspected: Option<Suspected>,
}

/// Since when an upstream is suspected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspected {
    pub(super) since: SystemTime,
    probes: u32,
    last_failure: Instant,
}

impl Upstream {
    pub(super) const fn new(address: SocketAddr) -> Self {
        Self { address, mean: None, failures: 0, suspected: None }
    }

    /// Takes in how an exchange went.
    pub(super) fn went(&mut self, went: Went, how: &Suspicion, now: Instant) -> Turned {
        let timeout = how.timeout.as_secs_f64();
        let sample = match went {
            Went::Well(took) => took.as_secs_f64(),
            // Who cannot say is asked later, but is there.
            Went::Refused(took) => took.as_secs_f64().max(timeout / 2.0),
            Went::Badly => timeout,
        };
        self.mean = Some(match self.mean {
            Some(mean) if self.suspected.is_none() => mean + (sample - mean) * NEWEST,
            _ => sample,
        });
        if went == Went::Badly {
            self.failures = self.failures.saturating_add(1);
            if let Some(suspected) = &mut self.suspected {
                suspected.last_failure = now;
            } else if self.failures >= how.fall {
                let since = SystemTime::now();
                self.suspected = Some(Suspected { since, probes: 0, last_failure: now });
                return Turned::Suspected;
            }
            return Turned::Not;
        }
        self.failures = 0;
        if self.suspected.take().is_some() { Turned::Well } else { Turned::Not }
    }

    /// How long to wait before the next probe; none when it is not suspected.
    pub(super) fn pause(&mut self, how: &Suspicion) -> Option<Duration> {
        let suspected = self.suspected.as_mut()?;
        let factor = 1_u32.checked_shl(suspected.probes.min(31)).unwrap_or(u32::MAX);
        suspected.probes = suspected.probes.saturating_add(1);
        Some(how.first.saturating_mul(factor).min(how.longest))
    }
}

/// The index of the upstream to ask next, of those in `group` that were not `tried` yet: the
/// fastest that is not suspected, else the one whose last failure is longest ago. All others are
/// that much nearer to their next turn.
pub(super) fn choose(
    upstreams: &mut [Upstream],
    group: &[usize],
    tried: &[usize],
) -> Option<usize> {
    let rank = |index: &usize| {
        let upstream = upstreams.get(*index)?;
        Some((upstream.suspected.map(|s| s.last_failure), upstream.mean.unwrap_or(0.0)))
    };
    let mut best: Option<(usize, (Option<Instant>, f64))> = None;
    for index in group.iter().filter(|index| !tried.contains(index)) {
        let Some(rank) = rank(index) else { continue };
        // Of equals the first one counts.
        if best.as_ref().is_none_or(|(_, known)| rank < *known) {
            best = Some((*index, rank));
        }
    }
    let (chosen, _) = best?;
    for index in group.iter().filter(|index| **index != chosen) {
        if let Some(mean) = upstreams.get_mut(*index).and_then(|upstream| upstream.mean.as_mut()) {
            *mean *= FORGET;
        }
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    fn how() -> Suspicion {
        Suspicion {
            fall: 3,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
        }
    }

    fn three() -> Vec<Upstream> {
        (0..3).map(|n| Upstream::new(address(n))).collect()
    }

    const fn well(millis: u64) -> Went {
        Went::Well(Duration::from_millis(millis))
    }

    #[test]
    fn each_is_measured_once_and_then_the_fastest_is_asked() {
        let (mut all, now) = (three(), Instant::now());
        let group = [0, 1, 2];
        for (want, took) in [(0, 30), (1, 5), (2, 20)] {
            assert_eq!(choose(&mut all, &group, &[]), Some(want));
            all[want].went(well(took), &how(), now);
        }
        for _ in 0..20 {
            assert_eq!(choose(&mut all, &group, &[]), Some(1));
            all[1].went(well(5), &how(), now);
        }
        assert_eq!(choose(&mut all, &group, &[1]), Some(2), "the next best for a second try");
        assert_eq!(choose(&mut all, &group, &[0, 1, 2]), None);
        assert_eq!(choose(&mut all, &[0], &[]), Some(0), "another zone has others");
    }

    #[test]
    fn a_slower_one_is_tried_again_after_a_while() {
        let (mut all, now) = (three(), Instant::now());
        for (index, took) in [(0, 5), (1, 20), (2, 40)] {
            all[index].went(well(took), &how(), now);
        }
        let asked: Vec<usize> = (0..200)
            .map(|_| {
                let index = choose(&mut all, &[0, 1, 2], &[]).unwrap();
                all[index].went(well([5, 20, 40][index]), &how(), now);
                index
            })
            .collect();
        let count = |index| asked.iter().filter(|asked| **asked == index).count();
        assert!(count(0) > 180, "{asked:?}");
        assert!(count(1) >= 1 && count(2) >= 1, "{asked:?}");
    }

    #[test]
    fn who_fails_again_and_again_is_suspected_asked_last_and_back_with_its_first_answer() {
        let (mut all, now) = (three(), Instant::now());
        let how = how();
        for (n, want) in
            [Turned::Not, Turned::Not, Turned::Suspected, Turned::Not].iter().enumerate()
        {
            assert_eq!(all[0].went(Went::Badly, &how, now), *want, "{n}");
        }
        for _ in 0..1000 {
            // However long it is forgotten, it is not asked while others answer.
            let index = choose(&mut all, &[0, 1, 2], &[]).unwrap();
            assert_ne!(index, 0);
            all[index].went(well(50), &how, now);
        }
        assert_eq!(choose(&mut all, &[0, 1], &[1]), Some(0), "nobody else is left");
        let pauses: Vec<u64> =
            (0..7).map(|_| all[0].pause(&how).unwrap().as_millis() as u64).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(all[0].went(well(1), &how, now), Turned::Well);
        assert_eq!(all[0].pause(&how), None);
        assert_eq!(choose(&mut all, &[0, 1, 2], &[]), Some(0), "the old failures are forgotten");
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew_and_a_refusal_is_no_failure() {
        let mut one = Upstream::new(address(0));
        let now = Instant::now();
        let went = [
            Went::Badly,
            Went::Badly,
            well(1),
            Went::Badly,
            Went::Badly,
            Went::Refused(Duration::from_millis(1)),
            Went::Badly,
        ];
        for went in went {
            assert_eq!(one.went(went, &how(), now), Turned::Not);
        }
        let (mut all, now) = (three(), Instant::now());
        all[0].went(Went::Refused(Duration::from_millis(1)), &how(), now);
        all[1].went(well(100), &how(), now);
        all[2].went(well(200), &how(), now);
        assert_eq!(choose(&mut all, &[0, 1, 2], &[]), Some(1), "who refuses is asked later");
    }

    #[test]
    fn when_all_are_suspected_the_one_that_failed_longest_ago_is_asked() {
        let (mut all, start) = (three(), Instant::now());
        for (index, second) in [(0, 3), (1, 1), (2, 2)] {
            for _ in 0..3 {
                all[index].went(Went::Badly, &how(), start + Duration::from_secs(second));
            }
        }
        assert_eq!(choose(&mut all, &[0, 1, 2], &[]), Some(1));
        assert_eq!(choose(&mut all, &[0, 1, 2], &[1]), Some(2));
    }
}
