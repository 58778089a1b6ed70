//! Tables for people, and every round as JSON for those who look closer.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::bounds::Verdict;
use crate::churn::Churn;
use crate::idle::Idle;
use crate::machine::Machine;
use crate::peers::{PEERS, PORTOLAN};
use crate::rounds::{Round, Spread, Summary};
use crate::trouble::{Doing, Trouble};

/// What one task gave.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) task: &'static str,
    pub(crate) title: &'static str,
    pub(crate) summaries: Vec<Summary>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) churn: Vec<Churn>,
    /// Servers without figures, and why.
    pub(crate) failed: Vec<(&'static str, String)>,
    pub(crate) rounds: Vec<Round>,
}

/// All that a run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) unix_seconds: u64,
    pub(crate) cores: usize,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) verdicts: Vec<Verdict>,
}

impl Run {
    /// A run that begins now.
    pub(crate) fn begin(rounds: u32, seconds: u32) -> Self {
        Self {
            unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |age| age.as_secs()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            rounds,
            seconds,
            outcomes: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// Writes everything to `target/bench/compare-<unix seconds>.json`.
    pub(crate) fn save(&self, machine: &Machine) -> Result<PathBuf, Trouble> {
        let folder = machine.target.join("bench");
        let path = folder.join(format!("compare-{}.json", self.unix_seconds));
        let write = || {
            fs::create_dir_all(&folder)?;
            fs::write(&path, serde_json::to_vec_pretty(self)?)
        };
        write().doing(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// Prints one task.
pub(crate) fn print(outcome: &Outcome) {
    println!("\n{}: {}", outcome.task, outcome.title);
    if !outcome.summaries.is_empty() {
        print_cpu(&outcome.summaries);
    }
    if !outcome.idle.is_empty() {
        print_idle(&outcome.idle);
    }
    for one in &outcome.churn {
        print_churn(one);
    }
    print_answer_sizes(&outcome.rounds);
    for round in outcome.rounds.iter().filter(|round| round.void) {
        println!(
            "  VOID: {} round {}: {} of {} failed",
            round.peer,
            round.number + 1,
            round.load.errors,
            round.load.errors + round.load.operations
        );
    }
    for (peer, why) in &outcome.failed {
        println!("  NO FIGURE: {peer}: {why}");
    }
}

/// Prints what was held against the bounds.
pub(crate) fn print_verdicts(verdicts: &[Verdict]) {
    println!("\nbounds (benches/compare/bounds.toml)");
    for Verdict { task, kept, why } in verdicts {
        println!("  {} {task}: {why}", if *kept { "kept  " } else { "BROKEN" });
    }
}

fn print_cpu(summaries: &[Summary]) {
    println!("  CPU time per operation, µs: median (min–max)");
    println!(
        "  {:<11} {:>20} {:>20} {:>20} {:>9} {:>6} {:>13}",
        "", "total", "user", "system", "ops/s", "rounds", "RSS MB"
    );
    for one in summaries {
        println!(
            "  {:<11} {:>20} {:>20} {:>20} {:>9.0} {:>6} {:>13}",
            one.peer,
            figures(&one.total),
            figures(&one.user),
            figures(&one.system),
            one.per_second.median,
            one.rounds,
            format!("{:.1} → {:.1}", megabytes(one.rss_first), megabytes(one.rss_last)),
        );
    }
    for one in summaries.iter().filter(|one| one.aside.median > 0.0) {
        println!("  {} beside that, for the changes: {}", one.peer, figures(&one.aside));
    }
    for one in summaries {
        if let Some(p99) = &one.added_p99 {
            println!("  {}: its own p99, recv to send, µs: {}", one.peer, figures(p99));
        }
    }
    let own = summaries.iter().find(|one| one.peer == PORTOLAN);
    if let (Some(own), Some(best)) = (own, best(summaries)) {
        println!(
            "  portolan to the best of the others ({}): {:.2}",
            best.peer,
            own.total.median / best.total.median
        );
    }
}

/// The cheapest server that isn't Portolan.
pub(crate) fn best(summaries: &[Summary]) -> Option<&Summary> {
    let other = |one: &&Summary| PEERS.iter().any(|peer| peer.name == one.peer);
    summaries
        .iter()
        .filter(|one| other(one) && one.peer != PORTOLAN)
        .min_by(|a, b| a.total.median.total_cmp(&b.total.median))
}

fn print_idle(idle: &[Idle]) {
    println!(
        "  {:<9} {:>14} {:>16} {:>22} {:>12}",
        "", "bytes for one", "(shared once)", "given back", "RSS MB"
    );
    for one in idle {
        println!(
            "  {:<9} {:>14.0} {:>16.0} {:>22} {:>12}",
            one.peer,
            one.bytes_each,
            one.pss_each,
            format!("{:.0} % after {:.1} s", one.given_back * 100.0, one.after_seconds),
            format!("{:.1} → {:.1}", megabytes(one.before.rss), megabytes(one.with.rss)),
        );
    }
}

fn print_churn(one: &Churn) {
    println!(
        "  {:<11} RSS MB {:.2} after warming up → {:.2}, {:+.1} %; {} changes in {:.0} s, {} of {} \
         requests failed",
        one.peer,
        megabytes(one.warm),
        megabytes(one.last),
        one.growth() * 100.0,
        one.changes,
        one.seconds,
        one.errors,
        one.requests,
    );
    let tenth = (one.rss.len() / 10).max(1);
    let course = one.rss.chunks(tenth).filter_map(|part| part.iter().max());
    let course: Vec<String> = course.map(|rss| format!("{:.1}", megabytes(*rss))).collect();
    println!("  {:<11} most in each tenth: {}", "", course.join(" "));
}

/// Servers whose answers differ in size don't do the same work: one line says so.
fn print_answer_sizes(rounds: &[Round]) {
    let mut sizes: Vec<(&str, u32)> = Vec::new();
    for round in rounds {
        if let Some(bytes) = round.load.answer_bytes
            && !sizes.iter().any(|(peer, _)| *peer == round.peer)
        {
            sizes.push((round.peer, bytes));
        }
    }
    if !sizes.is_empty() {
        let each: Vec<String> =
            sizes.iter().map(|(peer, bytes)| format!("{peer} {bytes}")).collect();
        println!("  bytes in an answer: {}", each.join(", "));
    }
}

fn figures(spread: &Spread) -> String {
    format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_never_portolan_itself() {
        let one = |peer, median| {
            let total = Spread { median, min: median, max: median };
            let (user, system, per_second, aside) = (total, total, total, total);
            let (rounds, rss_first, rss_last) = (1, 0, 0);
            Summary {
                peer,
                total,
                user,
                system,
                aside,
                added_p99: None,
                per_second,
                rounds,
                rss_first,
                rss_last,
            }
        };
        let all = [one(PORTOLAN, 1.0), one("nsd", 3.0), one("knot", 2.0)];
        assert_eq!(best(&all).map(|best| best.peer), Some("knot"));
    }

    #[test]
    fn a_run_is_saved_as_json_with_every_round() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { portolan: PathBuf::new(), target: dir.path().into() };
        let path = Run::begin(1, 1).save(&machine).unwrap();
        let text = fs::read_to_string(path).unwrap();
        let run: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(run["outcomes"].is_array() && run["unix_seconds"].as_u64().unwrap() > 0);
    }
}
