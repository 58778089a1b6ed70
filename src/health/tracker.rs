//! From single results to a health: pure, one tracker for each probed target.
//!
//! The first result decides at once. After that a failed target needs `rise` successes in a row and
//! a healthy one `fall` failures, as with the checks of HAProxy and keepalived; a result that is a
//! statement and not a symptom ([`Observation::definite`]) needs no repetition.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::catalog::model::Health;

/// What one probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// All is well.
    Passed,
    /// It serves, and somebody should look.
    Warned,
    /// It does not serve.
    Failed,
}

impl Outcome {
    /// Lower-case word, as metrics and status write it.
    #[must_use]
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warned => "warned",
            Self::Failed => "failed",
        }
    }

    const fn health(self) -> Health {
        match self {
            Self::Passed => Health::Healthy,
            Self::Warned => Health::Warning,
            Self::Failed => Health::Unhealthy,
        }
    }
}

/// One result with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Observation {
    /// How it went.
    pub(super) outcome: Outcome,
    /// What the target said, or why there is no answer: one line.
    pub(super) text: Arc<str>,
    /// The target says so itself, so that there is no need to ask again.
    pub(super) definite: bool,
    /// Rank of a target that could be the one of its service, the lowest first.
    pub(super) candidate: Option<u64>,
}

/// Longest text of a result in bytes.
const TEXT_MAX: usize = 200;

impl Observation {
    /// A result with its text, of which the first line is kept, 200 bytes of it.
    #[must_use]
    pub(super) fn new(outcome: Outcome, text: &str) -> Self {
        let line = text.trim().lines().next().unwrap_or_default();
        let mut end = line.len().min(TEXT_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = line[..end].trim_end().chars().map(clean).collect();
        Self { outcome, text: text.into(), definite: false, candidate: None }
    }

    /// All is well.
    #[must_use]
    pub(super) fn passed(text: &str) -> Self {
        Self::new(Outcome::Passed, text)
    }

    /// It does not serve.
    #[must_use]
    pub(super) fn failed(text: &str) -> Self {
        Self::new(Outcome::Failed, text)
    }

    /// The target's own word, which counts at once.
    #[must_use]
    pub(super) fn definite(self) -> Self {
        Self { definite: true, ..self }
    }
}

/// How many results in a row turn a health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rules {
    /// Successes in a row that make a failed target healthy, at least 1.
    pub(super) rise: u32,
    /// Failures in a row that make a healthy target fail, at least 1.
    pub(super) fall: u32,
}

/// What the results so far come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tracker {
    decided: Option<Decided>,
    successes: u32,
    failures: u32,
}

/// A health that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Decided {
    /// The health.
    pub(super) health: Health,
    /// The text of the result that decided.
    pub(super) cause: Arc<str>,
    /// When it did.
    pub(super) since: SystemTime,
}

impl Tracker {
    /// What is decided; none before the first result.
    #[must_use]
    pub(super) const fn decided(&self) -> Option<&Decided> {
        self.decided.as_ref()
    }

    /// Successes and failures in a row; one of them is 0.
    #[must_use]
    pub(super) const fn in_a_row(&self) -> (u32, u32) {
        (self.successes, self.failures)
    }

    /// Whether the last results speak against what is decided: time to look more often.
    #[must_use]
    pub(super) fn changing(&self) -> bool {
        self.decided.as_ref().is_some_and(|decided| {
            if decided.health.serves() { self.failures > 0 } else { self.successes > 0 }
        })
    }

    /// Takes one result in; returns whether the health is another one than before.
    pub(super) fn observe(&mut self, seen: &Observation, rules: Rules, now: SystemTime) -> bool {
        let failed = seen.outcome == Outcome::Failed;
        if failed {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
        } else {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
        }
        let next = seen.outcome.health();
        let turns = match &self.decided {
            None => true,
            Some(decided) if decided.health == next => false,
            _ if seen.definite => true,
            Some(decided) if decided.health.serves() && failed => self.failures >= rules.fall,
            // Healthy or with a warning: nothing has failed that should be counted.
            Some(decided) if decided.health.serves() => true,
            Some(_) => self.successes >= rules.rise,
        };
        if turns {
            let cause = Arc::clone(&seen.text);
            self.decided = Some(Decided { health: next, cause, since: now });
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { rise: 2, fall: 3 };

    /// Plays results, one letter each: `p`assed, `w`arned, `f`ailed, `F`ailed by its own word. Gives
    /// the health after each: `h`ealthy, `w`arning, `u`nhealthy.
    fn play(results: &str) -> (String, Tracker) {
        let mut tracker = Tracker::default();
        let healths = results.chars().map(|result| {
            let seen = match result {
                'p' => Observation::passed("ok"),
                'w' => Observation::new(Outcome::Warned, "hm"),
                'f' => Observation::failed("no"),
                'F' => Observation::failed("no").definite(),
                other => panic!("{other}"),
            };
            let before = tracker.decided().map(|decided| decided.health);
            let turned = tracker.observe(&seen, RULES, SystemTime::UNIX_EPOCH);
            let now = tracker.decided().unwrap().health;
            assert_eq!(turned, before != Some(now), "{results}");
            now.word().chars().next().unwrap()
        });
        let healths = healths.collect();
        (healths, tracker)
    }

    #[test]
    fn health_turns_after_rise_and_fall_results_and_at_once_by_the_first() {
        for (case, results, want) in [
            ("first success", "p", "h"),
            ("first failure", "f", "u"),
            ("fall", "pfff", "hhhu"),
            ("an interrupted fall", "pffpffpff", "hhhhhhhhh"),
            ("rise", "fpp", "uuh"),
            ("an interrupted rise", "fpfpfp", "uuuuuu"),
            ("a warning serves and shows at once", "pwp", "hwh"),
            ("a rise with warnings", "fww", "uuw"),
            ("a fall out of a warning", "wfff", "wwwu"),
            ("its own word counts at once", "pFpp", "huuh"),
        ] {
            assert_eq!(play(results).0, want, "{case}");
        }
    }

    #[test]
    fn a_target_is_changing_while_its_last_results_speak_against_its_health() {
        for (results, want) in
            [("", false), ("p", false), ("pf", true), ("pff", true), ("pfff", false), ("fp", true)]
        {
            assert_eq!(play(results).1.changing(), want, "{results:?}");
        }
    }

    #[test]
    fn the_cause_is_the_text_of_the_result_that_decided() {
        let mut tracker = Tracker::default();
        tracker.observe(&Observation::failed("first"), RULES, SystemTime::UNIX_EPOCH);
        tracker.observe(&Observation::failed("second"), RULES, SystemTime::UNIX_EPOCH);
        assert_eq!(&*tracker.decided().unwrap().cause, "first");
    }

    #[test]
    fn a_text_is_one_short_line_without_control_characters() {
        let long = "ä".repeat(300);
        for (text, want) in [
            ("\n ok\tthen \nmore", "ok then"),
            ("", ""),
            (&long, &"ä".repeat(100)),
            ("a\u{1b}[31mb", "a [31mb"),
        ] {
            assert_eq!(&*Observation::passed(text).text, want);
        }
    }
}
