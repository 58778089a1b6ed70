//! What Portolan is held to: `bounds.toml`, and whether the figures keep it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portolan::units::{Share, Size};
use serde::Deserialize;

use crate::peers::{PEERS, PORTOLAN};
use crate::report::{Outcome, best};
use crate::tasks::TASKS;
use crate::trouble::Trouble;

/// The file as a whole.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bounds {
    task: BTreeMap<String, Bound>,
}

/// The reference that stands for whichever other server costs least.
pub(crate) const BEST: &str = "best";

/// The bounds of one task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    reference: Option<String>,
    ratio_max: Option<f64>,
    /// Further references, each with its ratio; not in the short check.
    #[serde(default)]
    also: BTreeMap<String, f64>,
    own_max: Option<f64>,
    p99_max: Option<f64>,
    growth_max: Option<Share>,
    memory_max: Option<Size>,
    given_back_min: Option<Share>,
}

/// One comparison with a bound.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Verdict {
    pub(crate) task: String,
    pub(crate) kept: bool,
    /// The figure, the bound, and what is missing if there is no figure.
    pub(crate) why: String,
}

/// How strictly the bounds are meant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Measure {
    /// As they stand.
    Full,
    /// Twice as much, and nothing about what takes a minute to see.
    Smoke,
}

impl Bounds {
    /// The bounds beside the harness.
    pub(crate) fn read() -> Result<Self, Trouble> {
        let path: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "benches/compare/bounds.toml"].iter().collect();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Trouble::Bounds { path: path.clone(), why: error.to_string() })?;
        Self::parse(&path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Trouble> {
        let refuse = |why: String| Trouble::Bounds { path: path.to_path_buf(), why };
        let bounds: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        for (name, bound) in &bounds.task {
            let Some(task) = TASKS.iter().find(|task| task.name == name) else {
                return Err(refuse(format!("[task.{name}] bounds a task that isn't there")));
            };
            if bound.reference.is_some() != bound.ratio_max.is_some() {
                return Err(refuse(format!(
                    "[task.{name}] needs both `reference` and `ratio_max`, or none of them"
                )));
            }
            let beside_own =
                [("own_max", bound.own_max.is_some()), ("p99_max", bound.p99_max.is_some())];
            let set = beside_own.into_iter().find(|(_, set)| *set);
            if let Some((key, _)) = set.filter(|_| task.own.is_none()) {
                return Err(refuse(format!(
                    "[task.{name}] has `{key}`, but isn't played beside another task of our own"
                )));
            }
            let all = bound.reference.iter().chain(bound.also.keys());
            let absent = |name: &&String| *name != BEST && !task.peers.contains(&name.as_str());
            if let Some(reference) = all.into_iter().find(absent) {
                return Err(refuse(format!(
                    "[task.{name}] reference {reference:?} isn't measured there; take one of {:?}",
                    task.peers
                )));
            }
        }
        Ok(bounds)
    }

    /// The peer that Portolan is compared with in `task`.
    pub(crate) fn reference(&self, task: &str) -> Option<&str> {
        self.task.get(task)?.reference.as_deref()
    }

    /// Judges the tasks that were played; a figure that is missing breaks its bound.
    pub(crate) fn judge(&self, outcomes: &[Outcome], measure: Measure) -> Vec<Verdict> {
        let factor = match measure {
            Measure::Full => 1.0,
            Measure::Smoke => 2.0,
        };
        let mut verdicts = Vec::new();
        for outcome in outcomes {
            let Some(bound) = self.task.get(outcome.task) else { continue };
            let mut say = |(kept, why)| {
                verdicts.push(Verdict { task: outcome.task.into(), kept, why });
            };
            if let (Some(reference), Some(most)) = (&bound.reference, bound.ratio_max) {
                say(judge_ratio(outcome, reference, most * factor));
            }
            if measure == Measure::Full {
                for (reference, most) in &bound.also {
                    say(judge_ratio(outcome, reference, *most));
                }
            }
            let own = TASKS.iter().find(|task| task.name == outcome.task).and_then(|task| task.own);
            if let (Some(own), Some(most)) = (own, bound.own_max) {
                say(judge_own(outcome, own, most * factor));
            }
            if let (Some(own), Some(most)) = (own, bound.p99_max) {
                say(judge_p99(outcome, own, most * factor));
            }
            if let Some(most) = bound.growth_max {
                say(judge_growth(outcome, most.0 * factor));
            }
            if let Some(most) = bound.memory_max {
                say(judge_memory(outcome, most.0 as f64 * factor));
            }
            if let Some(least) = bound.given_back_min
                && measure == Measure::Full
            {
                say(judge_given_back(outcome, least.0));
            }
        }
        verdicts
    }
}

fn judge_ratio(outcome: &Outcome, reference: &str, most: f64) -> (bool, String) {
    let best = best(&outcome.summaries).map(|one| one.peer);
    let reference = if reference == BEST { best.unwrap_or(reference) } else { reference };
    let cost = |name: &str| {
        outcome.summaries.iter().find(|one| one.peer == name).map(|one| one.total.median)
    };
    let (Some(own), Some(other)) = (cost(PORTOLAN), cost(reference)) else {
        let missing = if cost(PORTOLAN).is_none() { PORTOLAN } else { reference };
        return (false, no_figure(missing));
    };
    let ratio = own / other;
    (ratio <= most, format!("{ratio:.2} times {reference}'s CPU time, at most {most:.2}"))
}

/// Against what Portolan itself takes in another task that was played in turn with this one.
fn judge_own(outcome: &Outcome, task: &str, most: f64) -> (bool, String) {
    let cost = |name: &str| {
        outcome.summaries.iter().find(|one| one.peer == name).map(|one| one.total.median)
    };
    let (Some(own), Some(other)) = (cost(PORTOLAN), cost(task)) else {
        return (false, format!("no figure for it or for {task} beside it"));
    };
    let ratio = own / other;
    (ratio <= most, format!("{ratio:.2} times what {task} takes beside it, at most {most:.2}"))
}

/// Portolan's own time for a request, against the same in another task.
fn judge_p99(outcome: &Outcome, task: &str, most: f64) -> (bool, String) {
    let p99 = |name: &str| {
        let one = outcome.summaries.iter().find(|one| one.peer == name)?;
        one.added_p99.map(|p99| p99.median)
    };
    let (Some(own), Some(other)) = (p99(PORTOLAN), p99(task)) else {
        return (false, format!("no p99 of it or of {task} beside it"));
    };
    let ratio = own / other;
    let why =
        format!("its own p99 is {ratio:.2} times that of {task} beside it, at most {most:.2}");
    (ratio <= most, why)
}

fn judge_growth(outcome: &Outcome, most: f64) -> (bool, String) {
    let Some(churn) = outcome.churn.iter().find(|churn| churn.peer == PORTOLAN) else {
        return (false, no_figure(PORTOLAN));
    };
    let why = format!(
        "{:+.1} % of resident memory over {} changes, at most {:.1} %; {} of {} requests failed, none may",
        churn.growth() * 100.0,
        churn.changes,
        most * 100.0,
        churn.errors,
        churn.requests
    );
    (churn.growth() <= most && churn.errors == 0 && churn.requests > 0, why)
}

fn judge_memory(outcome: &Outcome, most: f64) -> (bool, String) {
    match own_idle(outcome) {
        Some(idle) => (
            idle.bytes_each <= most,
            format!("{:.0} bytes for an idle connection, at most {most:.0}", idle.bytes_each),
        ),
        None => (false, no_figure(PORTOLAN)),
    }
}

fn judge_given_back(outcome: &Outcome, least: f64) -> (bool, String) {
    match own_idle(outcome) {
        Some(idle) => (
            idle.given_back >= least,
            format!(
                "{:.0} % of that given back after {:.0} s, at least {:.0} %",
                idle.given_back * 100.0,
                idle.after_seconds,
                least * 100.0
            ),
        ),
        None => (false, no_figure(PORTOLAN)),
    }
}

/// Portolan's worst round.
fn own_idle(outcome: &Outcome) -> Option<&crate::idle::Idle> {
    outcome
        .idle
        .iter()
        .filter(|idle| idle.peer == PORTOLAN)
        .max_by(|a, b| a.bytes_each.total_cmp(&b.bytes_each))
}

fn no_figure(name: &str) -> String {
    let install = PEERS.iter().find(|peer| peer.name == name).map_or("", |peer| peer.install);
    format!("no figure for {name}; see above, or install it with `{install}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Memory;
    use crate::rounds::{Spread, Summary};

    fn outcome(costs: &[(&'static str, f64)]) -> Outcome {
        let summaries = costs
            .iter()
            .map(|&(peer, cost)| {
                let total = Spread { median: cost, min: cost, max: cost };
                let (user, system, aside, per_second) = (total, total, total, total);
                Summary {
                    peer,
                    total,
                    user,
                    system,
                    aside,
                    added_p99: None,
                    per_second,
                    rounds: 1,
                    rss_first: 0,
                    rss_last: 0,
                }
            })
            .collect();
        Outcome { task: "dns-hit", title: "", summaries, ..Outcome::default() }
    }

    #[test]
    fn the_file_beside_the_harness_can_be_read_and_names_real_tasks_and_peers() {
        let bounds = Bounds::read().unwrap();
        assert_eq!(bounds.reference("dns-hit"), Some(BEST));
    }

    #[test]
    fn the_best_of_the_others_and_another_task_of_ones_own_are_references_too() {
        let text = "[task.dns-nxdomain]\nreference = \"best\"\nratio_max = 1.0\nown_max = 1.1\n";
        let bounds = Bounds::parse(Path::new("b"), text).unwrap();
        for (case, own, hits, want) in [
            ("both kept", 2.0, 2.0, [true, true]),
            ("dearer than the best", 2.6, 2.5, [false, true]),
            ("dearer than its own", 2.4, 2.0, [true, false]),
        ] {
            let costs = [("portolan", own), ("knot", 3.0), ("nsd", 2.5), ("dns-hit", hits)];
            let outcome = Outcome { task: "dns-nxdomain", ..outcome(&costs) };
            let verdicts = bounds.judge(&[outcome], Measure::Full);
            let kept: Vec<bool> = verdicts.iter().map(|verdict| verdict.kept).collect();
            assert_eq!(kept, want, "{case}: {verdicts:?}");
        }
        let alone = Outcome { task: "dns-nxdomain", ..outcome(&[("portolan", 1.0), ("nsd", 2.0)]) };
        let alone = bounds.judge(&[alone], Measure::Full);
        assert!(!alone[1].kept, "a figure that is missing breaks its bound: {alone:?}");
    }

    #[test]
    fn a_ratio_above_the_bound_breaks_it_and_the_short_check_allows_twice_as_much() {
        let bounds = Bounds::parse(
            Path::new("b"),
            "[task.dns-hit]\nreference = \"knot\"\nratio_max = 1.5\n",
        )
        .unwrap();
        for (case, costs, measure, want) in [
            ("below", vec![("portolan", 1.4), ("knot", 1.0)], Measure::Full, true),
            ("above", vec![("portolan", 2.0), ("knot", 1.0)], Measure::Full, false),
            ("short", vec![("portolan", 2.0), ("knot", 1.0)], Measure::Smoke, true),
            ("no reference", vec![("portolan", 1.0), ("nsd", 1.0)], Measure::Full, false),
            ("no portolan", vec![("knot", 1.0)], Measure::Smoke, false),
        ] {
            let verdicts = bounds.judge(&[outcome(&costs)], measure);
            assert_eq!(verdicts[0].kept, want, "{case}: {verdicts:?}");
        }
    }

    #[test]
    fn memory_is_judged_by_the_worst_round_and_what_is_kept_only_in_full() {
        let text = "[task.idle-1000]\nmemory_max = \"8KiB\"\ngiven_back_min = \"80%\"\n";
        let bounds = Bounds::parse(Path::new("b"), text).unwrap();
        let idle = |bytes_each| crate::idle::Idle {
            peer: PORTOLAN,
            connections: 1000,
            bytes_each,
            pss_each: bytes_each,
            given_back: 0.1,
            after_seconds: 1.0,
            before: Memory::default(),
            with: Memory::default(),
            after: Memory::default(),
        };
        let outcome = Outcome {
            task: "idle-1000",
            idle: vec![idle(100.0), idle(9000.0)],
            ..Outcome::default()
        };
        let kept = |measure| -> Vec<bool> {
            bounds.judge(std::slice::from_ref(&outcome), measure).iter().map(|v| v.kept).collect()
        };
        assert_eq!(kept(Measure::Full), [false, false]);
        assert_eq!(kept(Measure::Smoke), [true]);
    }

    #[test]
    fn further_references_the_own_p99_and_growth_are_judged_each_by_its_figure() {
        let bounds = Bounds::parse(
            Path::new("b"),
            "[task.http-keepalive]\nreference = \"haproxy\"\nratio_max = 2.0\n\
             also = { envoy = 1.0 }\n[task.http-changing]\np99_max = 1.5\n\
             [task.http-churn-memory]\ngrowth_max = \"5%\"\n",
        )
        .unwrap();
        let kept = |outcome: &Outcome, measure| -> Vec<bool> {
            let outcomes = std::slice::from_ref(outcome);
            bounds.judge(outcomes, measure).iter().map(|verdict| verdict.kept).collect()
        };
        let costs = [("portolan", 1.8), ("haproxy", 1.0), ("envoy", 1.7)];
        let keepalive = Outcome { task: "http-keepalive", ..outcome(&costs) };
        assert_eq!(kept(&keepalive, Measure::Full), [true, false]);
        assert_eq!(kept(&keepalive, Measure::Smoke), [true], "Debian has no Envoy");

        for (own, want) in [(Some(140.0), true), (Some(160.0), false), (None, false)] {
            let mut changing = outcome(&[("portolan", 1.0), ("http-half", 1.0)]);
            changing.task = "http-changing";
            let p99 = |median: f64| Spread { median, min: median, max: median };
            changing.summaries[0].added_p99 = own.map(p99);
            changing.summaries[1].added_p99 = Some(p99(100.0));
            assert_eq!(kept(&changing, Measure::Full), [want], "{own:?}");
        }

        for (last, errors, want) in [(104, 0, true), (106, 0, false), (90, 1, false)] {
            let churn = crate::churn::Churn {
                peer: PORTOLAN,
                changes: 100_000,
                seconds: 1.0,
                requests: 10,
                errors,
                warm: 100,
                last,
                rss: Vec::new(),
            };
            let outcome =
                Outcome { task: "http-churn-memory", churn: vec![churn], ..Outcome::default() };
            assert_eq!(kept(&outcome, Measure::Full), [want], "{last} {errors}");
        }
    }

    #[test]
    fn bounds_that_name_what_is_not_there_are_refused_by_name() {
        for (case, text, want) in [
            ("task", "[task.dns-hot]\n", "dns-hot"),
            ("peer", "[task.dns-hit]\nreference = \"nginx\"\nratio_max = 1.0\n", "nginx"),
            ("half", "[task.dns-hit]\nreference = \"knot\"\n", "ratio_max"),
            ("own", "[task.dns-hit]\nown_max = 1.0\n", "`own_max`"),
            ("p99", "[task.http-half]\np99_max = 1.0\n", "`p99_max`"),
            ("also", "[task.dns-hit]\nalso = { envoy = 1.0 }\n", "envoy"),
            ("key", "[task.dns-hit]\nratio = 1.0\n", "ratio"),
        ] {
            let error = Bounds::parse(Path::new("b"), text).unwrap_err().to_string();
            assert!(error.contains(want), "{case}: {error}");
        }
    }
}
