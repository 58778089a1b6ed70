//! The registry `consul`: services and keys of a Consul cluster, followed by blocking queries.
//!
//! One task holds all that is known and decides; each watch is a small task that asks, decodes and
//! tells it. What arrives together is published together, so that a storm costs one view.

mod agent;
mod assign;
mod blocking;
mod checks;
mod config;
mod decode;
mod doubt;
mod known;
mod link;
mod members;
mod nodes;
mod pace;
mod roster;
mod task;
mod view;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::catalog::Interest;
use crate::catalog::stale::StalePolicy;
use crate::random;
use crate::registry::outlet::Outlet;
use crate::registry::{Report, Source};
use agent::{Agents, Failure, Kind, Target};
use blocking::Rules;
pub use config::ConsulConfig;
use decode::Wish;
use known::Known;
use link::{Link, Turn};
use pace::Ramp;
use roster::Roster;
use task::{Asker, Event, Gate, Shared};

/// Answers that may wait to be taken in; tasks then wait with theirs.
const EVENTS_MAX: usize = 1024;
/// Least time between two views; what arrives meanwhile goes out together.
const GATHER: Duration = Duration::from_millis(5);
/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(200);
/// How often a view that did not change is told again, as a sign of life.
const ALIVE: Duration = Duration::from_secs(1);
/// How often the token file is read at most when the token is refused.
const TOKEN_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait that Consul allows.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Least time between two changes of agent because of too many requests.
const SWITCH_PAUSE: Duration = Duration::from_secs(5);

impl Source for ConsulConfig {
    async fn run(self, base_dir: PathBuf, outlet: Outlet) {
        let (control, events) = Control::new(self, &base_dir, outlet);
        Box::pin(control.run(events)).await;
    }

    fn stale(&self) -> StalePolicy {
        StalePolicy { max: self.max_stale.map(|max| max.0), then: self.when_stale }
    }
}

struct Control {
    config: ConsulConfig,
    outlet: Outlet,
    shared: Arc<Shared>,
    gate: watch::Sender<Gate>,
    known: Known,
    roster: Roster,
    link: Link,
    watches: HashMap<Target, Task>,
    /// Turns and second reads.
    short: JoinSet<()>,
    looks: JoinSet<Result<Option<String>, Failure>>,
    tokens: JoinSet<std::io::Result<String>>,
    token_file: Option<PathBuf>,
    token_due: Instant,
    token_read_at: Option<Instant>,
    switched_at: Option<Instant>,
    resets: u64,
    told_at: Option<Instant>,
    /// Something was answered since.
    heard: bool,
    changed: bool,
    /// Names, prefixes or room changed: watches may have to.
    reassign: bool,
}

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Control {
    fn new(config: ConsulConfig, base_dir: &Path, outlet: Outlet) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let wish = Wish {
            registry: Arc::clone(outlet.name()),
            tags: config.tags.clone(),
            address_tag: config.address_tag.clone(),
            services_max: config.max_services,
            instances_max: config.max_instances,
            keys_max: config.max_keys,
        };
        let now = Instant::now();
        let broken = watch::Sender::default();
        let agents = Agents::new(&config, base_dir, broken.clone());
        agents.set_token(config.token.as_ref().map(crate::registry::secret::Secret::reveal));
        let wait = config.wait.0.clamp(Duration::from_millis(100), WAIT_MAX);
        let rules = Rules {
            wait,
            stale_max: config.stale.then_some(config.max_stale_read.0),
            pause_max: config.max_pause.0,
        };
        let interest = with_keys(outlet.interest().borrow().clone(), &config);
        let mut known = Known::new(wish.clone(), interest, outlet.last(), outlet.hold());
        if let Some(datacenter) = &config.datacenter {
            known.view.datacenter = Some(datacenter.as_str().into());
        }
        let shared = Shared {
            agents,
            wish,
            rules,
            hold: outlet.hold(),
            ramp: Mutex::new(Ramp::new(config.max_starts)),
            broken,
            unnoticed_max: config.heartbeat.0 + config.timeout.0,
            resets: AtomicU64::new(0),
            events,
        };
        let control = Self {
            token_file: config.token_file.as_ref().map(|path| base_dir.join(path)),
            link: Link::new(config.heartbeat.0.max(Duration::from_secs(1)), now),
            config,
            outlet,
            shared: Arc::new(shared),
            gate: watch::Sender::new(Gate { open: false, epoch: 0, same: true }),
            known,
            roster: Roster::default(),
            watches: HashMap::new(),
            short: JoinSet::new(),
            looks: JoinSet::new(),
            tokens: JoinSet::new(),
            token_due: now,
            token_read_at: None,
            switched_at: None,
            resets: 0,
            told_at: None,
            heard: false,
            changed: true,
            reassign: true,
        };
        (control, receiver)
    }

    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut interest = self.outlet.interest();
        let mut interest_open = true;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.token_file.is_some() {
            self.read_token();
            let read = self.tokens.join_next().await;
            self.token(read);
        }
        loop {
            self.step();
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.event(event);
                    self.rest(&mut events).await;
                }
                Some(look) = self.looks.join_next() => {
                    self.looked(look.unwrap_or_else(|e| Err(Failure::answer(e.to_string()))));
                }
                token = self.tokens.join_next(), if !self.tokens.is_empty() => self.token(token),
                Some(_) = self.short.join_next() => {}
                changed = interest.changed(), if interest_open => {
                    interest_open = changed.is_ok();
                    let wanted = interest.borrow_and_update().clone();
                    self.known.wants(with_keys(wanted, &self.config));
                    (self.changed, self.reassign) = (true, true);
                }
                _ = ticks.tick() => {}
            }
        }
    }

    /// Takes in what has arrived together with an event, and what comes before the next view may go
    /// out.
    async fn rest(&mut self, events: &mut mpsc::Receiver<Event>) {
        while let Ok(event) = events.try_recv() {
            self.event(event);
        }
        let Some(next) = self.told_at.map(|at| at + GATHER) else { return };
        if self.changed && next > Instant::now() {
            tokio::time::sleep_until(next).await;
            while let Ok(event) = events.try_recv() {
                self.event(event);
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        let service =
            if let Target::Service(name) = &event.target { Some(name.clone()) } else { None };
        let (asker, listed) = (event.asker, event.target == Target::Names);
        match &event.result {
            Ok(_) => {
                self.link.heard(now);
                self.heard = true;
            }
            Err(failure) => self.trouble(failure.kind, now),
        }
        let before = listed.then(|| self.known.last(&Target::Names));
        let doubts = self.known.doubts.len();
        let changed = self.known.heard(event, now);
        self.changed |= self.known.take_touched();
        self.reassign |= self.known.doubts.len() != doubts;
        for name in self.known.take_dropped() {
            self.roster.forget(&name);
            self.end(&Target::Service(name));
            self.reassign = true;
        }
        if let Some(before) = before
            && changed
        {
            self.reassign = true;
            self.hint(before);
        }
        if let Some(name) = service {
            if asker == Asker::Turn {
                let moves = self.roster.turned(&name, changed, now);
                self.follow(moves);
            } else if changed {
                self.roster.changed(&name, now);
            }
        }
    }

    /// Services whose tags changed come next among those that wait.
    fn hint(&mut self, before: Option<task::Said>) {
        let now = self.known.last(&Target::Names);
        let (Some(task::Said::Names(before)), Some(task::Said::Names(now))) = (before, now) else {
            return;
        };
        let changed = now.tags.iter().filter(|(name, tags)| before.tags.get(*name) != Some(tags));
        self.roster.hint(changed.map(|(name, _)| name));
    }

    fn trouble(&mut self, kind: Kind, now: Instant) {
        match kind {
            Kind::Connection => self.link.trouble(),
            Kind::Forbidden => {
                let earliest = self.token_read_at.map_or(now, |at| at + TOKEN_PAUSE);
                self.token_due = self.token_due.min(earliest.max(now));
            }
            Kind::Busy => {
                let lately = self.switched_at.is_some_and(|at| now < at + SWITCH_PAUSE);
                if !lately && self.config.agents().len() > 1 && self.link.up() {
                    self.switched_at = Some(now);
                    self.shared.agents.next();
                    self.again("the agent changed", self.same());
                }
            }
            Kind::Answer => {}
        }
    }

    /// Whether another agent goes on with the indexes of this one: with a named datacenter, all
    /// agents answer for the same one.
    fn same(&self) -> bool {
        self.config.datacenter.is_some() || self.config.agents().len() == 1
    }

    /// All watches ask again.
    fn again(&mut self, why: &str, same: bool) {
        self.known.reconnected(why, Instant::now());
        self.gate.send_modify(|gate| {
            *gate = Gate { open: true, epoch: gate.epoch + 1, same };
        });
        self.changed = true;
    }

    fn looked(&mut self, result: Result<Option<String>, Failure>) {
        let now = Instant::now();
        let why = result.as_ref().err().map(|failure| Arc::clone(&failure.why));
        let result = match result {
            Err(Failure { kind: Kind::Connection, .. }) => Err(()),
            // It is there, whatever it says to this.
            Err(_) => Ok(None),
            Ok(leader) => Ok(leader),
        };
        self.heard |= result.is_ok();
        match self.link.looked(result, now, random::bits()) {
            Turn::None => {}
            Turn::Up => self.again("the agent was just found", self.same()),
            Turn::LeaderBack => self.again("the cluster has just found a leader", true),
            Turn::OtherLeader => {
                self.known.doubts.open("the cluster has just changed its leader", None, now);
                self.changed = true;
            }
            turn @ (Turn::Down | Turn::StillDown) => {
                if turn == Turn::Down {
                    self.gate.send_modify(|gate| gate.open = false);
                }
                let why = why.as_deref().unwrap_or("the agent does not answer");
                self.outlet.failed(why);
                self.shared.agents.next();
            }
        }
    }

    /// Everything that time, or what was heard before, makes due.
    fn step(&mut self) {
        let now = Instant::now();
        if self.link.look(now) {
            let shared = Arc::clone(&self.shared);
            self.looks.spawn(async move { shared.agents.leader().await });
        }
        if self.token_file.is_some() && now >= self.token_due && self.tokens.is_empty() {
            self.read_token();
        }
        if !self.link.up() {
            return;
        }
        let resets = self.shared.resets.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.resets, resets) != resets {
            // Others may park at an index that the cluster has yet to reach again.
            self.again("the index of the cluster went backwards", true);
        }
        self.changed |= self.known.doubts.settle(now);
        if std::mem::take(&mut self.reassign) || self.roster.capacity() != self.capacity() {
            self.assign(now);
        }
        while let Some(name) = self.roster.turn(now) {
            self.ask_once(Target::Service(name), Asker::Turn);
        }
        for target in self.known.doubts.due(now) {
            self.ask_once(target, Asker::Confirm);
        }
        self.tell(now);
    }

    fn tell(&mut self, now: Instant) {
        let due = self.heard && self.told_at.is_none_or(|at| now >= at + ALIVE);
        if !self.changed && !due {
            return;
        }
        self.told_at = Some(now);
        (self.changed, self.heard) = (false, false);
        if let Some(why) = self.known.failed().cloned() {
            self.outlet.failed(&why);
        } else if self.known.speaks() {
            let view = self.known.view();
            self.outlet.live(view);
        }
        let (lost, failing) = (self.known.doubts.len(), self.known.failing());
        let mut detail = self.shared.agents.now();
        for (count, what) in [(failing, "cannot be read"), (lost, "wait for a second read")] {
            if count > 0 {
                _ = write!(detail, "; {count} {what}");
            }
        }
        self.outlet.note(Report {
            watches: self.watches.len(),
            waiting: self.roster.waiting(),
            requests: self.shared.agents.requests(),
            detail: detail.into(),
        });
    }
}

/// The keys of the configuration are wanted whatever anybody else wants.
fn with_keys(mut interest: Interest, config: &ConsulConfig) -> Interest {
    interest.keys.extend(config.keys.iter().cloned());
    interest
}
