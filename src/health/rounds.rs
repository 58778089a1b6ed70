//! The rounds of the roster: what starts now, and what came of it. Pure.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::asked::Listed;
use super::check::{Asked, Check, Manner, Target};
use super::roster::{Last, Roster};
use super::schedule::{LATE, share};
use super::tracker::Observation;
use crate::units::Period;

/// A probe to start.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) id: u64,
    pub(super) check: Arc<Check>,
    pub(super) target: Target,
}

/// Why a pushed result is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// There is no push check.
    #[error("the service {0:?} has no check.push; add it to [service.{0}]")]
    NoCheck(String),
    /// No registry tells of the instance.
    #[error("the service {0:?} has no instance {1:?}; results count for instances that are known")]
    NoInstance(String, String),
}

impl Roster {
    /// Everything that is to start at `now`, as far as the limits allow. What was pushed and has
    /// expired fails here.
    pub(super) fn due(&mut self, now: Instant, clock: SystemTime) -> Vec<Start> {
        while let Some((at, id)) = self.expiries.first().filter(|(at, _)| *at <= now).copied() {
            self.expiries.remove(&(at, id));
            if let Some(probed) = self.probes.get_mut(&id) {
                probed.due = None;
                let Manner::Push(ttl) = probed.check.manner else { continue };
                let text = format!("nothing was pushed within {}", Period(ttl));
                let seen = Observation::failed(&text).definite();
                self.observe(id, seen, true, Duration::ZERO, clock);
            }
        }
        let mut starts = Vec::new();
        for commands in [false, true] {
            loop {
                let lane = if commands { &mut self.commands } else { &mut self.sockets };
                let Some((due, id)) = lane.take(now) else { break };
                let Some(probed) = self.probes.get_mut(&id) else {
                    lane.ended();
                    continue;
                };
                if now.duration_since(due) > LATE {
                    self.metrics.late.inc();
                }
                probed.due = None;
                if let Some(beat) = &mut probed.beat {
                    beat.advance(now);
                }
                let check = Arc::clone(&probed.check);
                starts.push(Start { id, check, target: probed.target.clone() });
            }
        }
        self.metrics.running.set((self.sockets.running() + self.commands.running()) as i64);
        starts
    }

    /// When to call [`Roster::due`] again, if nothing happens before.
    pub(super) fn next(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        [self.sockets.next(), self.commands.next(), expiry].into_iter().flatten().min()
    }

    /// Takes the result of a probe in that was started at `started`. A place is free again also
    /// when its target is gone, or there is no result.
    pub(super) fn finished(
        &mut self,
        id: u64,
        manner: Manner,
        asked: Option<Asked>,
        started: Instant,
        now: Instant,
        clock: SystemTime,
    ) {
        match manner {
            Manner::Connect => self.sockets.ended(),
            Manner::Command => self.commands.ended(),
            Manner::Push(_) => {}
        }
        if !self.probes.contains_key(&id) {
            return;
        }
        let asked = asked.unwrap_or_else(|| Asked {
            seen: Observation::failed("the check itself failed; see the log"),
            in_time: true,
        });
        self.observe(id, asked.seen, asked.in_time, now.duration_since(started), clock);
        let stray = share((self.random)());
        let jitter = self.settings.jitter;
        let Some(probed) = self.probes.get_mut(&id) else { return };
        let Some(beat) = &mut probed.beat else { return };
        let check = Arc::clone(&probed.check);
        if probed.tracker.changing() && check.times.fast_interval < check.times.interval {
            beat.hurry(started, check.times.fast_interval);
        }
        let due = beat.due(jitter, stray).max(now);
        probed.due = Some(due);
        if let Some(lane) = self.lane(&check) {
            lane.put(due, id);
        }
    }

    fn observe(
        &mut self,
        id: u64,
        seen: Observation,
        in_time: bool,
        took: Duration,
        clock: SystemTime,
    ) {
        let Some(probed) = self.probes.get_mut(&id) else { return };
        if let Some(kind) = self.metrics.kind(probed.check.kind) {
            kind.count(seen.outcome, in_time);
        }
        let turned = probed.tracker.observe(&seen, probed.check.times.rules, clock);
        if turned {
            probed.cause = format!("{}: {}", probed.check.kind, seen.text).into();
        }
        let other_rank = probed.candidate != seen.candidate && probed.check.elects.is_some();
        probed.candidate = seen.candidate;
        probed.last = Some(Last { seen, took, at: clock });
        if turned || other_rank {
            self.dirty.extend(probed.users.keys().cloned());
        }
    }

    /// Takes in what was said of the instances `id` of `service`; returns how many there are.
    ///
    /// # Errors
    /// Nobody waits for it.
    pub(super) fn push(
        &mut self,
        service: &str,
        id: &str,
        seen: &Observation,
        now: Instant,
        clock: SystemTime,
    ) -> Result<usize, PushError> {
        let no_check = || PushError::NoCheck(service.to_owned());
        let watched = self.services.get(service).ok_or_else(no_check)?;
        let pushed = |listed: &&Listed| matches!(listed.check.manner, Manner::Push(_));
        watched.checks.iter().find(pushed).ok_or_else(no_check)?;
        let named = watched.instances.iter().filter(|((_, own), _)| &**own == id);
        let probes = named.flat_map(|(_, entry)| entry.probes.iter().flatten().copied());
        let probes: Vec<u64> = probes.collect();
        let mut count = 0;
        for probe in probes {
            let Some(probed) = self.probes.get_mut(&probe) else { continue };
            let Manner::Push(ttl) = probed.check.manner else { continue };
            count += 1;
            if let Some(due) = probed.due.replace(now + ttl) {
                self.expiries.remove(&(due, probe));
            }
            self.expiries.insert((now + ttl, probe));
            self.observe(probe, seen.clone().definite(), true, Duration::ZERO, clock);
        }
        if count == 0 {
            return Err(PushError::NoInstance(service.to_owned(), id.to_owned()));
        }
        Ok(count)
    }
}
