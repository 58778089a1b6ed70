//! What comes next at a Marathon: pick a node, connect, read everything, follow, read again. Pure.
//!
//! Marathon's events have no numbers, come in no order, and get lost without a word: they say only
//! that something changed. So an event marks its app as dirty, a mark is served by reading that
//! app, and all is read anew now and then. A stream is believed only once it has spoken, and
//! nothing is live before everything was read behind it.
//!
//! A read that fails says nothing against the stream: what events say goes on to count, and the read
//! is tried again. Several failures in a row are a reason to look at another node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::failing::{Comes, Failing};
use super::marks::Marks;
use super::words::{Action, Change, Input, Outcome, Phase, Read, Rules};
use crate::registry::backoff::{Backoff, share};
use crate::units::Period;

/// More marks than this, and everything is read; more with many apps, one in a hundred.
const DIRTY_MAX: usize = 20;
/// The first pause, at most.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// A stream that lived for so long was a success: the next pause is short again.
const STEADY: Duration = Duration::from_secs(10);
/// Longest pause between two reads of everything that events ask for.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Most ids that are remembered as being nothing.
const ABSENT_MAX: usize = 1000;

/// A read of everything under way.
#[derive(Debug)]
struct Full {
    began: Instant,
    /// Apps that changed, or were read alone, since it began: it may tell less of them than is known.
    touched: BTreeSet<Arc<str>>,
}

/// The state.
#[derive(Debug)]
pub(super) struct Machine {
    rules: Rules,
    phase: Phase,
    backoff: Backoff,
    /// Grows with every stream that ends: what was asked for before is of no use after.
    epoch: u64,
    /// When the stream said something last.
    heard_at: Instant,
    leader: Option<Arc<str>>,
    /// Apps to read, and those that are being read.
    marks: Marks,
    full: Option<Full>,
    failing: Failing,
    /// When everything is to be read because of an event.
    wanted_at: Option<Instant>,
    resync_at: Instant,
    /// No earlier than then is everything read because of events.
    rested_at: Instant,
    /// A read of everything that begins no earlier than then is believed whatever is missing.
    confirm_at: Option<Instant>,
    settle_at: Option<Instant>,
    /// Ids that are no apps: events of them have everything read once, not each time.
    absent: BTreeSet<Arc<str>>,
    apps: usize,
}

impl Machine {
    /// One that connects at once.
    pub(super) fn new(rules: Rules, now: Instant) -> Self {
        let backoff = Backoff::new(PAUSE_FIRST.min(rules.backoff_max), rules.backoff_max);
        let longest = rules.backoff_max.min(rules.resync);
        Self {
            failing: Failing::new(PAUSE_FIRST.min(longest), longest),
            rules,
            phase: Phase::Pick(now),
            backoff,
            epoch: 0,
            heard_at: now,
            leader: None,
            marks: Marks::default(),
            full: None,
            wanted_at: None,
            resync_at: now,
            rested_at: now,
            confirm_at: None,
            settle_at: None,
            absent: BTreeSet::new(),
            apps: 0,
        }
    }

    /// Where it stands.
    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether what is missing since this stream began is doubted.
    pub(super) const fn doubts(&self) -> bool {
        self.confirm_at.is_some()
    }

    /// Whether what is known may be old: something that was to be read could not be.
    pub(super) const fn fails(&self) -> bool {
        self.failing.any()
    }

    /// Number of the stream; answers that were asked for under another one do not count.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The leader that was named last, as it was written.
    pub(super) const fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    /// Apps that wait to be read, or are being read.
    pub(super) fn waiting(&self) -> usize {
        self.marks.waiting()
    }

    /// When it must be looked at again though nothing happens.
    pub(super) fn due(&self) -> Instant {
        let idle = self.heard_at + self.rules.idle;
        let again = self.failing.full_at();
        let all = match self.phase {
            Phase::Pick(at) => return at,
            Phase::Connect => [None; 4],
            Phase::Snapshot => [again.filter(|_| self.full.is_none()), None, None, None],
            Phase::Live(_) => {
                let begins = self.full.is_none().then(|| self.begins_at());
                let room = self.marks.reading() < self.rules.in_flight && again.is_none();
                let flush = self.marks.due().filter(|_| room);
                let settle = self.settle_at.filter(|_| self.full.is_none());
                [begins, flush, self.failing.apps_at(), settle]
            }
        };
        all.into_iter().flatten().fold(idle, Instant::min)
    }

    /// Takes `input` in; `random` is any 64 bits.
    pub(super) fn step(&mut self, input: Input, now: Instant, random: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let streaming = matches!(self.phase, Phase::Snapshot | Phase::Live(_));
        match input {
            Input::Opened(leader) if self.phase == Phase::Connect => {
                self.heard_at = now;
                self.leader = leader;
            }
            Input::Alive if self.phase != Phase::Connect => self.heard_at = now,
            Input::Proven => {
                self.heard_at = now;
                if self.phase == Phase::Connect {
                    self.phase = Phase::Snapshot;
                    self.read_all(now, &mut actions);
                }
            }
            Input::Changed(change) if streaming => {
                self.heard_at = now;
                self.changed(change, now);
            }
            Input::Full(result) if streaming && self.full.is_some() => match result {
                Ok(read) => self.read(read, now, random),
                Err(why) => {
                    self.full = None;
                    let comes = self.failing.full(now, random);
                    self.failed(comes, why, now, random, &mut actions);
                }
            },
            Input::App(id, outcome) => {
                match (self.marks.ended(&id, now + self.rules.coalesce), outcome) {
                    (Some(began), Outcome::Failed(why)) => {
                        let comes = self.failing.app(&id, began, now, random);
                        self.mark(id, now);
                        self.failed(comes, why, now, random, &mut actions);
                    }
                    (Some(_), outcome) => self.app(&id, &outcome, now),
                    (None, _) => {}
                }
            }
            Input::Leader(named) if streaming => {
                if let Some(before) = self.leader.as_ref().filter(|before| **before != named) {
                    let why = format!("the leader changed from {before} to {named}");
                    self.fall(why.into(), now, random, &mut actions);
                }
                self.leader = Some(named);
            }
            Input::Elected => match self.phase {
                Phase::Pick(at) => self.phase = Phase::Pick(at.min(now + self.rules.coalesce)),
                _ => self.fall("another leader was elected".into(), now, random, &mut actions),
            },
            Input::Lost(why) if !matches!(self.phase, Phase::Pick(_)) => {
                self.fall(why, now, random, &mut actions);
            }
            // A tick, or something that is over, or not begun.
            _ => {}
        }
        self.work(now, random, &mut actions);
        actions
    }

    fn changed(&mut self, change: Change, now: Instant) {
        match change {
            Change::App(id) => {
                if let Some(full) = &mut self.full {
                    full.touched.insert(Arc::clone(&id));
                }
                self.mark(id, now);
            }
            Change::Everything => self.want(now),
        }
    }

    /// `id` is to be read.
    fn mark(&mut self, id: Arc<str>, now: Instant) {
        self.marks.mark(id, now + self.rules.coalesce);
    }

    /// Everything is to be read anew; no sooner than what the last read took, for a storm of such
    /// events would otherwise keep Marathon busy with nothing else.
    fn want(&mut self, now: Instant) {
        let at = (now + self.rules.coalesce).max(self.rested_at);
        self.wanted_at.get_or_insert(at);
    }

    fn read_all(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // What was marked before is served by this.
        self.marks.serve();
        self.wanted_at = None;
        self.full = Some(Full { began: now, touched: self.marks.being_read() });
        actions.push(Action::ReadAll);
    }

    /// Everything was read.
    fn read(&mut self, read: Read, now: Instant, random: u64) {
        let Some(full) = self.full.take() else { return };
        self.apps = read.apps;
        self.failing.full_read();
        let took = now.duration_since(full.began);
        self.rested_at = now + took.min(PAUSE_MAX);
        // A fifth less to a fifth more.
        self.resync_at =
            now + self.rules.resync.mul_f64(0.8) + share(self.rules.resync.mul_f64(0.4), random);
        if self.phase == Phase::Snapshot {
            self.phase = Phase::Live(now);
            self.settle_at = Some(now + self.rules.settle);
            self.confirm_at = read.lost.then(|| now + self.rules.hold);
        } else if self.confirm_at.is_some_and(|at| full.began >= at) {
            self.confirm_at = None;
        }
        for id in full.touched {
            self.mark(id, now);
        }
    }

    /// A read failed, and what that comes to.
    fn failed(
        &mut self,
        comes: Comes,
        why: Arc<str>,
        now: Instant,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        match comes {
            Comes::Along => {}
            Comes::Counted => actions.push(Action::Stale(why)),
            // Its stream was none that came to nothing: the next one need not wait for long.
            Comes::Enough => {
                let pause = share(PAUSE_FIRST.min(self.rules.backoff_max), random);
                self.leave(why, now + pause, actions);
            }
        }
    }

    /// One app was read.
    fn app(&mut self, id: &Arc<str>, outcome: &Outcome, now: Instant) {
        self.failing.app_read(id);
        match outcome {
            Outcome::Unknown if !self.absent.contains(id) => {
                self.note_absent(id);
                self.want(now);
            }
            Outcome::Gone => self.note_absent(id),
            Outcome::Read => _ = self.absent.remove(id),
            Outcome::Unknown | Outcome::Failed(_) => {}
        }
    }

    /// Events of what is gone go on for a while, and lead nowhere.
    fn note_absent(&mut self, id: &Arc<str>) {
        if self.absent.len() >= ABSENT_MAX {
            self.absent.clear();
        }
        self.absent.insert(Arc::clone(id));
    }

    /// What time has made due.
    fn work(&mut self, now: Instant, random: u64, actions: &mut Vec<Action>) {
        if let Phase::Pick(at) = self.phase {
            if now >= at {
                self.phase = Phase::Connect;
                self.heard_at = now;
                actions.push(Action::Connect);
            }
            return;
        }
        if now >= self.heard_at + self.rules.idle {
            let why = match self.phase {
                Phase::Connect => "no sign of life on its event stream within",
                _ => "its event stream said nothing for",
            };
            return self.fall(
                format!("{why} {}", Period(self.rules.idle)).into(),
                now,
                random,
                actions,
            );
        }
        match self.phase {
            Phase::Live(_) => self.work_live(now, actions),
            Phase::Snapshot => {
                let again = self.failing.full_at().filter(|_| self.full.is_none());
                if again.is_some_and(|at| now >= at) {
                    self.read_all(now, actions);
                }
            }
            Phase::Pick(_) | Phase::Connect => {}
        }
    }

    fn work_live(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // Not while everything is being read: what is read then was begun without knowing of it.
        if self.full.is_none() && self.settle_at.is_some_and(|at| now >= at) {
            self.settle_at = None;
            actions.push(Action::Settle);
        }
        if self.failing.apps_at().is_some_and(|at| now >= at) {
            self.failing.begin();
            self.marks.look(Some(now));
        }
        // While everything is to be read again, nothing else is.
        if self.failing.full_at().is_none() && self.marks.due().is_some_and(|at| now >= at) {
            if self.marks.marked() > DIRTY_MAX.max(self.apps / 100) {
                self.want(now);
                self.marks.look(None);
            } else {
                let failing = &self.failing;
                for id in self.marks.begin(now, self.rules.in_flight, |id| failing.holds(id)) {
                    if let Some(full) = &mut self.full {
                        full.touched.insert(Arc::clone(&id));
                    }
                    actions.push(Action::ReadApp(id));
                }
            }
        }
        if self.full.is_none() && now >= self.begins_at() {
            self.read_all(now, actions);
        }
    }

    /// When everything is read next.
    fn begins_at(&self) -> Instant {
        if let Some(at) = self.failing.full_at() {
            return at;
        }
        let all = [self.wanted_at, self.confirm_at];
        all.into_iter().flatten().fold(self.resync_at, Instant::min)
    }

    /// Nothing is known for sure any more; another try comes after a pause.
    fn fall(&mut self, why: Arc<str>, now: Instant, random: u64, actions: &mut Vec<Action>) {
        if let Phase::Live(since) = self.phase
            && now >= since + STEADY
        {
            self.backoff.succeeded();
        }
        let pause = self.backoff.failed(random);
        self.leave(why, now + pause, actions);
    }

    /// Lets go of the stream, and of all that hangs on it.
    fn leave(&mut self, why: Arc<str>, until: Instant, actions: &mut Vec<Action>) {
        self.epoch += 1;
        self.phase = Phase::Pick(until);
        self.marks = Marks::default();
        self.failing.forget();
        (self.wanted_at, self.confirm_at) = (None, None);
        (self.full, self.settle_at, self.leader) = (None, None, None);
        actions.extend([Action::Close, Action::Stale(why)]);
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
