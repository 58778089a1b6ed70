//! One blocking query as a machine: an answer goes in, the next question comes out. Pure.
//!
//! The rules are those of Consul's "Blocking Queries": the index that an answer told goes into the
//! next question; one that goes backwards starts anew at none; none or 0 counts as 1; an answer is
//! no proof of a change; a failure asks again with the same index, and at first for a moment only,
//! so that a server that came back with less says so at once.

use std::time::Duration;

use tokio::time::Instant;

use super::pace::{Brought, Pace};
use crate::registry::backoff::Backoff;

/// Time that the first question after a failure may park.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// How an answer may be come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consistency {
    /// Any server's, also without a leader.
    Stale,
    /// The leader's, by its lease.
    Leader,
    /// The leader's, after it asked the others.
    Consistent,
}

/// What to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    /// Wait until the index is beyond this, for so long; none: answer at once.
    pub(super) after: Option<(u64, Duration)>,
    pub(super) consistency: Consistency,
}

impl Query {
    /// Whether the server may keep it for longer than a moment.
    pub(super) fn parks(&self) -> bool {
        self.after.is_some_and(|(_, wait)| wait > PROBE_WAIT)
    }
}

/// What the headers of an answer tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    /// `X-Consul-Index`; none when missing or unreadable.
    pub(super) index: Option<u64>,
    /// `X-Consul-LastContact`: since when the server that answered has not heard its leader.
    pub(super) last_contact: Option<Duration>,
    /// `X-Consul-KnownLeader`.
    pub(super) known_leader: Option<bool>,
    /// `X-Consul-Results-Filtered-By-ACLs`.
    pub(super) filtered: bool,
}

/// What to do with the body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It counts.
    It,
    /// It counts, but may tell less than is true, for this reason.
    Doubted(&'static str),
    /// It does not: the index went backwards. The next question asks for all there is.
    Reset,
    /// It does not: it is too old. The next question asks the leader.
    AskLeader,
}

/// How a watch asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Longest time that one question may park.
    pub(super) wait: Duration,
    /// Answers of any server are taken if they are not older than this; none: the leader's only.
    pub(super) stale_max: Option<Duration>,
    /// Longest pause between questions while answers bring nothing that counts.
    pub(super) pause_max: Duration,
}

/// The state of one watch.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    rules: Rules,
    /// 0: never answered, or reset.
    index: u64,
    /// Why the next answer may tell less than is true.
    doubt: Option<&'static str>,
    ask_leader: bool,
    /// The last question failed, or went to another server: the next one parks a moment only.
    unsure: bool,
    asked: Option<(Query, Instant)>,
    pace: Pace,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Watch {
    pub(super) const fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            index: 0,
            // What is known from before is perhaps more than what is told now.
            doubt: Some("it was asked for the first time"),
            ask_leader: false,
            unsure: false,
            asked: None,
            pace: Pace::new(rules.pause_max, now),
            backoff: Backoff::usual(),
            not_before: None,
        }
    }

    /// Whether the next question is a first one, or one after a failure.
    pub(super) const fn begins(&self) -> bool {
        self.unsure || self.index == 0
    }

    /// What to ask next, and not before when.
    pub(super) fn next(&mut self, now: Instant) -> (Instant, Query) {
        let at = self.pace.call(now).max(self.not_before.take().unwrap_or(now));
        let wait = if self.unsure { self.rules.wait.min(PROBE_WAIT) } else { self.rules.wait };
        let stale = self.rules.stale_max.is_some() && !self.ask_leader;
        let query = Query {
            after: (self.index > 0 && !self.ask_leader).then_some((self.index, wait)),
            consistency: if stale { Consistency::Stale } else { Consistency::Leader },
        };
        self.asked = Some((query, at));
        (at, query)
    }

    /// A connection broke, perhaps because the server forgot all it knew: `query`, which is not sent
    /// yet, parks a moment only, and its answer is doubted.
    pub(super) fn shaken(&mut self, query: Query, at: Instant) -> Query {
        self.unsure = true;
        self.doubt.get_or_insert("a connection to it broke just before");
        let after = query.after.map(|(index, wait)| (index, wait.min(PROBE_WAIT)));
        let query = Query { after, ..query };
        self.asked = Some((query, at));
        query
    }

    /// An answer came. Its body is to be treated as told; [`Self::weighed`] follows if it counts.
    pub(super) fn answered(&mut self, told: Told) -> Use {
        let index = told.index.unwrap_or(0).max(1);
        self.backoff.succeeded();
        let too_old = self.rules.stale_max.is_some_and(|max| told.last_contact > Some(max));
        if too_old && !self.ask_leader {
            self.ask_leader = true;
            return Use::AskLeader;
        }
        if index < self.index {
            self.index = 0;
            self.doubt = Some("its index went backwards");
            return Use::Reset;
        }
        self.ask_leader = false;
        self.doubt.take().map_or(Use::It, Use::Doubted)
    }

    /// The body of an answer with `told` was read; `changed` tells whether it brought anything.
    pub(super) fn weighed(&mut self, told: Told, changed: bool, now: Instant) {
        let index = told.index.unwrap_or(0).max(1);
        let parked = match self.asked {
            Some((Query { after: Some((_, wait)), .. }, at)) => {
                now.saturating_duration_since(at) >= wait.mul_f64(0.9)
            }
            _ => false,
        };
        let first = self.index == 0;
        let brought = match (changed || first, index == self.index) {
            (true, _) => Brought::News,
            (false, false) => Brought::Noise,
            (false, true) if parked || self.unsure => Brought::Timeout,
            (false, true) => Brought::Nothing,
        };
        self.index = index;
        self.unsure = false;
        self.pace.heard(brought, now);
    }

    /// No answer, or none that can be used: ask again with the same index, after a pause of at
    /// least `pause`.
    pub(super) fn failed(&mut self, pause: Option<Duration>, now: Instant, random: u64) {
        self.unsure = true;
        self.doubt.get_or_insert("it had not answered before");
        let wait = self.backoff.failed(random).max(pause.unwrap_or_default());
        self.not_before = Some(now + wait);
    }

    /// The way to the server is there again, perhaps to another one. Indexes of the `same` cluster
    /// go on.
    pub(super) const fn reconnected(&mut self, same: bool) {
        self.unsure = true;
        self.doubt = Some("the connection to it was lost before");
        self.not_before = None;
        self.backoff.succeeded();
        if !same {
            self.index = 0;
        }
    }

    /// Until when an answer to `query` must have begun; then the connection is taken for dead.
    /// The server parks up to a sixteenth longer than it is asked to.
    pub(super) fn deadline(query: Query, slack: Duration) -> Duration {
        query.after.map_or(slack, |(_, wait)| wait + wait / 16 + slack)
    }
}

#[cfg(test)]
#[path = "blocking_tests.rs"]
mod tests;
