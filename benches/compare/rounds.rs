//! Interleaved rounds: all servers of a task run at once and are loaded in turn, so that whatever
//! else the machine does meets all of them alike. Figures are medians with the smallest and
//! largest; a round with too many errors is void.

use std::net::SocketAddr;

use serde::Serialize;

use crate::added::Added;
use crate::changes::Changes;
use crate::fleet;
use crate::load::Load;
use crate::machine::Machine;
use crate::peer::Running;
use crate::process::Cpu;
use crate::tasks::Work;
use crate::trouble::{Doing, Trouble};
use crate::zone::{self, Zone};

/// How Portolan calls the threads that answer by UDP.
const EXPRESS: &str = "dns-express";
/// Above this share of failed operations a round says nothing.
const VOID_ABOVE: f64 = 0.001;

/// Who is loaded in turn with the others, and how.
#[derive(Clone, Copy)]
pub(crate) struct Player<'a> {
    /// What its figures are called.
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) server: &'a Running,
}

/// One round of one server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) peer: &'static str,
    pub(crate) number: u32,
    /// CPU time per operation in microseconds.
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// CPU time per operation of threads that answer nobody, when those are told apart.
    pub(crate) aside_us: f64,
    /// Portolan's own time for a request, its 99th percentile in microseconds, where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) added_p99_us: Option<f64>,
    pub(crate) void: bool,
    /// Resident memory after the round, in bytes.
    pub(crate) rss: u64,
    #[serde(flatten)]
    pub(crate) load: Load,
}

/// A figure over rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// All rounds of one server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) peer: &'static str,
    /// CPU time per operation in microseconds.
    pub(crate) total: Spread,
    pub(crate) user: Spread,
    pub(crate) system: Spread,
    /// Of threads that answer nobody; zero where they are not told apart.
    pub(crate) aside: Spread,
    /// Portolan's own time for a request, 99th percentile in microseconds.
    pub(crate) added_p99: Option<Spread>,
    pub(crate) per_second: Spread,
    pub(crate) rounds: usize,
    /// Resident memory after the first and the last round, in bytes.
    pub(crate) rss_first: u64,
    pub(crate) rss_last: u64,
}

/// Plays all rounds. A server whose load fails altogether gives a message and no round.
pub(crate) fn play(
    players: &[Player<'_>],
    machine: &Machine,
    zone: &Zone,
    rounds: u32,
    seconds: u32,
) -> (Vec<Round>, Vec<(&'static str, Trouble)>) {
    let mut played = Vec::new();
    let mut failed = Vec::new();
    for round in 0..rounds {
        // Each round starts with another server: being first is no advantage for any.
        for nth in 0..players.len() {
            let Player { name, work, server } = players[(nth + round as usize) % players.len()];
            match one(work, server, machine, zone, seconds) {
                Ok(One { used, aside, added_p99_us, load }) => {
                    server.empty_logs();
                    let operations = load.operations.max(1) as f64;
                    played.push(Round {
                        peer: name,
                        number: round,
                        user_us: used.user * 1e6 / operations,
                        system_us: used.system * 1e6 / operations,
                        aside_us: aside * 1e6 / operations,
                        added_p99_us,
                        void: load.error_share() > VOID_ABOVE,
                        rss: server.memory().rss,
                        load,
                    });
                }
                Err(trouble) => failed.push((name, trouble)),
            }
        }
    }
    (played, failed)
}

/// What one round of one server gave.
struct One {
    used: Cpu,
    /// Seconds of CPU time beside that.
    aside: f64,
    added_p99_us: Option<f64>,
    load: Load,
}

fn one(
    work: Work,
    server: &Running,
    machine: &Machine,
    zone: &Zone,
    seconds: u32,
) -> Result<One, Trouble> {
    let address: SocketAddr = server.address;
    let used =
        |from: Cpu, to: Cpu| Cpu { user: to.user - from.user, system: to.system - from.system };
    let whole = server.cpu();
    if matches!(work, Work::Changing { .. }) {
        let express = server.cpu_of(EXPRESS);
        let changes = Changes::start(zone.changing.clone(), zone::changing);
        let load = work.load(machine, zone, address, seconds)?;
        drop(changes);
        let own = used(express, server.cpu_of(EXPRESS));
        let all = used(whole, server.cpu());
        let aside = all.user + all.system - own.user - own.system;
        return Ok(One { used: own, aside, added_p99_us: None, load });
    }
    let Work::Half { changing, .. } = work else {
        let load = work.load(machine, zone, address, seconds)?;
        return Ok(One { used: used(whole, server.cpu()), aside: 0.0, added_p99_us: None, load });
    };
    let before = added(server)?;
    let changes = changing.then(|| {
        let port = server.origin.port();
        Changes::start(server.services(), move |version| {
            fleet::services(port, |service| fleet::in_turns(service, version))
        })
    });
    let load = work.load(machine, zone, address, seconds)?;
    drop(changes);
    let added_p99_us = added(server)?.p99_since(&before);
    Ok(One { used: used(whole, server.cpu()), aside: 0.0, added_p99_us, load })
}

fn added(server: &Running) -> Result<Added, Trouble> {
    let admin = server.admin.ok_or_else(|| std::io::ErrorKind::Unsupported.into());
    admin.and_then(Added::read).doing(|| format!("read the metrics of {}", server.name))
}

/// The figures of each server over its rounds that aren't void, in the order of `peers`.
pub(crate) fn summarise(peers: &[&'static str], rounds: &[Round]) -> Vec<Summary> {
    peers
        .iter()
        .filter_map(|&peer| {
            let valid: Vec<&Round> =
                rounds.iter().filter(|round| round.peer == peer && !round.void).collect();
            let over = |figure: fn(&Round) -> f64| {
                spread(valid.iter().map(|round| figure(round)).collect())
            };
            Some(Summary {
                peer,
                total: over(|round| round.user_us + round.system_us)?,
                user: over(|round| round.user_us)?,
                system: over(|round| round.system_us)?,
                aside: over(|round| round.aside_us)?,
                added_p99: spread(valid.iter().filter_map(|round| round.added_p99_us).collect()),
                per_second: over(|round| round.load.operations as f64 / round.load.seconds)?,
                rounds: valid.len(),
                rss_first: valid.first()?.rss,
                rss_last: valid.last()?.rss,
            })
        })
        .collect()
}

/// Median, smallest and largest; of an even number the mean of the middle two.
pub(crate) fn spread(mut figures: Vec<f64>) -> Option<Spread> {
    figures.sort_by(f64::total_cmp);
    let (&min, &max) = (figures.first()?, figures.last()?);
    let half = figures.len() / 2;
    let median = if figures.len().is_multiple_of(2) {
        f64::midpoint(figures[half - 1], figures[half])
    } else {
        figures[half]
    };
    Some(Spread { median, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(peer: &'static str, user_us: f64, errors: u64) -> Round {
        let load = Load { operations: 1000, errors, seconds: 1.0, answer_bytes: None };
        let void = load.error_share() > VOID_ABOVE;
        Round {
            peer,
            number: 0,
            user_us,
            system_us: 1.0,
            aside_us: 0.0,
            added_p99_us: None,
            void,
            rss: 1,
            load,
        }
    }

    #[test]
    fn the_median_ignores_one_wild_round_and_the_spread_shows_it() {
        let spread = spread(vec![9.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 9.0 });
        let even = Spread { median: 2.0, min: 1.0, max: 3.0 };
        assert_eq!(super::spread(vec![1.0, 3.0]), Some(even));
        assert_eq!(super::spread(Vec::new()), None);
    }

    #[test]
    fn a_round_with_more_than_a_thousandth_of_errors_is_left_out() {
        let rounds = [round("a", 4.0, 1), round("a", 90.0, 2), round("b", 1.0, 500)];
        let summaries = summarise(&["a", "b"], &rounds);
        assert_eq!(summaries.len(), 1, "all rounds of b are void");
        assert_eq!((summaries[0].rounds, summaries[0].total.median), (1, 5.0));
    }
}
