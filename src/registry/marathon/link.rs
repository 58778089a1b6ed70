//! The shell around [`Machine`]: it holds the stream, asks what is to be asked, and tells what is
//! known. Everything that decides is in `step`, `nodes` and `roster`.

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::app::Kind;
use super::asks::One;
use super::config::{MarathonConfig, Masters};
use super::late::Late;
use super::listing::Listing;
use super::metrics::Meters;
use super::nodes::{Nodes, Trust};
use super::resolve::Resolve;
use super::rest::{Answer, Failure, Rest};
use super::roster::Roster;
use super::sse::Sse;
use super::step::Machine;
use super::tell::loses;
use super::wanted::Naming;
use super::words::{Action, Input, Outcome, Phase, Read, Rules};
use super::zk::{self, Election};
use crate::net::http::{HttpError, Origin, Stream};
use crate::random;
use crate::registry::outlet::Outlet;

/// How often names of agents are looked at.
const NAMES: Duration = Duration::from_secs(5);
/// Least time for which marks are gathered.
const COALESCE_MIN: Duration = Duration::from_millis(1);
/// How long the first word of ZooKeeper is waited for before it is told as missing.
const FIRST_WORD: Duration = Duration::from_secs(3);

/// The link to one Marathon.
pub(super) struct Link {
    pub(super) outlet: Outlet,
    pub(super) meters: Meters,
    pub(super) rest: Arc<Rest>,
    nodes: Nodes,
    pub(super) machine: Machine,
    pub(super) roster: Roster,
    /// Name of the framework.
    pub(super) framework: String,
    event_max: usize,
    /// The node that was asked for its events last.
    node: Option<Origin>,
    pub(super) following: Option<Following>,
    tasks: JoinSet<(u64, Done)>,
    pub(super) late: Late,
    pub(super) resolve: Resolve,
    /// Events are asked for without saying which: the node refused to be told.
    plain: bool,
    /// What the roster holds came from a listing.
    pub(super) listed: bool,
    /// Something is to be told.
    pub(super) changed: bool,
    /// It was told that what is known may be old.
    pub(super) stale: bool,
    /// How it stands has changed.
    pub(super) noteworthy: bool,
    pub(super) told_at: Option<Instant>,
    pub(super) election: watch::Receiver<Election>,
    /// Follows ZooKeeper; ends with this.
    zk: JoinSet<()>,
}

/// A stream of events, and who sends it.
pub(super) struct Following {
    pub(super) origin: Origin,
    pub(super) trust: Trust,
    pub(super) stream: Stream,
    pub(super) sse: Sse,
}

/// What came of a question.
enum Done {
    Stream(Result<Box<Answer>, Failure>),
    Full(Result<(Box<Listing>, Option<Arc<str>>), Failure>),
    One(Arc<str>, Kind, Result<(One, Option<Arc<str>>), Failure>),
}

impl Link {
    pub(super) fn new(config: &MarathonConfig, base_dir: &Path, outlet: Outlet) -> Self {
        let rules = Rules {
            resync: config.resync.0.max(Duration::from_millis(100)),
            idle: config.idle.0.max(Duration::from_millis(100)),
            coalesce: config.coalesce.0.max(COALESCE_MIN),
            in_flight: config.in_flight.max(1),
            backoff_max: config.backoff_max.0.max(Duration::from_millis(10)),
            hold: outlet.hold(),
            settle: config.settle.0,
        };
        let (told, election) = watch::channel(Election::default());
        let mut zk = JoinSet::new();
        let configured = match &config.urls {
            Masters::Nodes(nodes) => nodes.clone(),
            Masters::ZooKeeper(url) => {
                zk.spawn(zk::follow(url.clone(), rules.backoff_max, told));
                Vec::new()
            }
        };
        let mut roster = Roster::new(Arc::clone(outlet.name()), config.naming());
        roster.restore(&outlet.last());
        Self {
            meters: outlet.marathon().meters(outlet.name()),
            outlet,
            rest: Arc::new(Rest::new(config, base_dir)),
            nodes: Nodes::new(configured, config.leader_tls),
            machine: Machine::new(rules, Instant::now()),
            roster,
            framework: config.framework.clone(),
            event_max: usize::try_from(config.event_max.0).unwrap_or(usize::MAX / 2),
            node: None,
            following: None,
            tasks: JoinSet::new(),
            late: Late::default(),
            resolve: Resolve::default(),
            plain: false,
            listed: false,
            changed: false,
            stale: false,
            noteworthy: true,
            told_at: None,
            election,
            zk,
        }
    }

    pub(super) async fn run(mut self) {
        if !self.zk.is_empty() && timeout(FIRST_WORD, self.election.changed()).await.is_ok() {
            self.elected();
        }
        self.step(Input::Tick);
        let mut names = tokio::time::interval(NAMES);
        names.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.tell();
            let due = self.machine.due();
            tokio::select! {
                read = next(&mut self.following) => self.streamed(read),
                Some(done) = self.tasks.join_next() => match done {
                    Ok((epoch, done)) if epoch == self.machine.epoch() => self.done(done),
                    // Asked for under a stream that is over.
                    Ok(_) => {}
                    Err(error) => self.step(Input::Lost(error.to_string().into())),
                },
                found = self.resolve.next() => self.found(found),
                // An error means that nobody follows ZooKeeper: there is none.
                Ok(()) = self.election.changed() => self.elected(),
                _ = names.tick() => self.names(),
                () = sleep_until(due) => self.step(Input::Tick),
            }
        }
    }

    /// An address was found, or not; and more of them, so that they are told together.
    fn found(&mut self, found: (Arc<str>, Option<IpAddr>)) {
        let mut found = Some(found);
        while let Some((host, address)) = found {
            self.changed |= self.roster.resolved(&host, address);
            found = self.resolve.ready();
        }
    }

    /// Takes something in that happened, and does what follows.
    pub(super) fn step(&mut self, input: Input) {
        let mut input = Some(input);
        while let Some(now) = input.take() {
            for action in self.machine.step(now, Instant::now(), random::bits()) {
                self.noteworthy = true;
                if let Err(why) = self.act(action) {
                    input = Some(Input::Lost(why));
                }
            }
        }
        let live = matches!(self.machine.phase(), Phase::Live(_));
        self.meters.streaming.set(i64::from(live));
        self.meters.dirty.set(i64::try_from(self.machine.waiting()).unwrap_or(i64::MAX));
    }

    /// Does what was decided; an error when there is nobody to ask.
    fn act(&mut self, action: Action) -> Result<(), Arc<str>> {
        match action {
            Action::Connect => {
                let Some(node) = self.nodes.pick(Instant::now()) else {
                    let trouble = self.election.borrow().trouble.clone();
                    return Err(trouble.unwrap_or_else(|| "ZooKeeper has not answered yet".into()));
                };
                let (rest, trust, plain) = (Arc::clone(&self.rest), self.nodes.trust(), self.plain);
                self.node = Some(node.clone());
                self.spawn(async move {
                    Done::Stream(rest.events(&node, trust, plain).await.map(Box::new))
                });
            }
            Action::Close => self.close(),
            Action::Stale(why) => {
                self.stale = true;
                self.outlet.failed(&why);
            }
            Action::ReadAll => {
                self.late.full_begins();
                if let Some((rest, node, trust)) = self.asks() {
                    let listing = self.roster.listing();
                    self.spawn(async move {
                        let read = rest.everything(&node, trust, listing).await;
                        Done::Full(read.map(|(listing, leader)| (Box::new(listing), leader)))
                    });
                }
            }
            Action::ReadApp(id) => {
                self.late.app_begins(&id);
                if let Some((rest, node, trust)) = self.asks() {
                    let kind = self.roster.knows(&id).unwrap_or(Kind::App);
                    self.spawn(async move {
                        let read = rest.one(&node, trust, kind, &id).await;
                        Done::One(id, kind, read)
                    });
                }
            }
            Action::Settle => self.changed |= self.roster.settle(),
        }
        Ok(())
    }

    /// Whom to ask: the node that sends its events.
    fn asks(&self) -> Option<(Arc<Rest>, Origin, Trust)> {
        let at = self.following.as_ref()?;
        Some((Arc::clone(&self.rest), at.origin.clone(), at.trust.clone()))
    }

    fn spawn(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        let epoch = self.machine.epoch();
        self.tasks.spawn(async move { (epoch, work.await) });
    }

    /// Lets go of everything that hangs on the stream.
    fn close(&mut self) {
        let now = Instant::now();
        self.meters.breaks.inc();
        // Dropping the old set ends what is in it, without a word.
        self.tasks = JoinSet::new();
        self.late.clear();
        for origin in self.following.take().map(|at| at.origin).iter().chain(&self.node.take()) {
            self.rest.forget(origin);
            self.nodes.failed(origin, now);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Stream(Ok(answer)) => self.opened(*answer),
            Done::Stream(Err(failure)) => {
                let refused = [StatusCode::BAD_REQUEST, StatusCode::METHOD_NOT_ALLOWED];
                self.plain |= failure.status.is_some_and(|status| refused.contains(&status));
                self.step(Input::Lost(failure.why));
            }
            Done::Full(Ok((listing, leader))) => {
                self.meters.full.count(true);
                self.full(*listing);
                self.named(leader);
            }
            Done::Full(Err(failure)) => {
                self.meters.full.count(false);
                self.late.full_ended();
                self.step(Input::Full(Err(failure.why)));
                self.named(failure.leader);
            }
            Done::One(id, kind, Ok((one, leader))) => {
                let outcome = self.one(&id, kind, &one);
                self.step(Input::App(id, outcome));
                self.named(leader);
            }
            Done::One(id, _, Err(failure)) => {
                self.meters.app.count(false);
                self.late.app_ended(&id);
                self.step(Input::App(id, Outcome::Failed(failure.why)));
                self.named(failure.leader);
            }
        }
    }

    fn opened(&mut self, answer: Answer) {
        let Answer { origin, stream, leader, trust } = answer;
        if let Some(leader) = &leader {
            self.nodes.named(leader, Instant::now());
        }
        let leads = leader.as_deref().map_or_else(|| origin.to_string(), ToOwned::to_owned);
        self.changed |= self.roster.leader(Some(&leads));
        self.following = Some(Following { origin, trust, stream, sse: Sse::new(self.event_max) });
        self.step(Input::Opened(leader));
    }

    /// An answer behind the stream named this leader.
    fn named(&mut self, leader: Option<Arc<str>>) {
        let Some(leader) = leader else { return };
        if self.machine.leader() == Some(&leader) {
            return;
        }
        self.step(Input::Leader(Arc::clone(&leader)));
        // Only now: a stream that fell because of this one must not have it shunned.
        self.nodes.named(&leader, Instant::now());
        self.changed |= self.roster.leader(Some(&leader));
    }

    fn full(&mut self, listing: Listing) {
        let before = self.outlet.last();
        self.roster.replace(listing);
        for event in self.late.full_ended() {
            self.roster.event(&event);
        }
        let lost = loses(&self.framework, &before, &self.roster.view(&before));
        let counts = self.roster.counts();
        self.meters.ignored_fields.set(i64::try_from(counts.ignored_fields).unwrap_or(i64::MAX));
        self.meters.tasks.set(i64::try_from(counts.tasks).unwrap_or(i64::MAX));
        (self.listed, self.changed) = (true, true);
        self.step(Input::Full(Ok(Read { apps: counts.apps + counts.pods, lost })));
        self.names();
    }

    fn one(&mut self, id: &str, kind: Kind, one: &One) -> Outcome {
        let known = self.roster.knows(id).is_some();
        let read = match one {
            One::Gone => Ok(self.roster.gone(id)),
            One::Whole(body) => self.roster.one(kind, id, body),
            One::TooLong => Ok(self.roster.too_long(id)),
        };
        let late = self.late.app_ended(id);
        self.meters.app.count(read.is_ok());
        match read {
            Ok(changed) => self.changed |= changed,
            // It says nothing about the app: nobody knows what it is by now.
            Err(error) => return Outcome::Failed(format!("app {id}: {error}").into()),
        }
        for event in late {
            self.changed |= self.roster.event(&event);
        }
        match one {
            One::Gone if known => Outcome::Gone,
            One::Gone => Outcome::Unknown,
            One::Whole(_) | One::TooLong => Outcome::Read,
        }
    }

    /// ZooKeeper said something.
    fn elected(&mut self) {
        self.noteworthy = true;
        let Election { leader, .. } = self.election.borrow_and_update().clone();
        let Some(leader) = leader else { return };
        let before = self.nodes.leader().cloned();
        self.nodes.named(&leader, Instant::now());
        if before.as_ref() != self.nodes.leader() {
            self.step(Input::Elected);
        }
    }
}

impl MarathonConfig {
    fn naming(&self) -> Naming {
        Naming {
            advertise: self.advertise.clone(),
            checks: self.checks,
            app_max: usize::try_from(self.app_max.0).unwrap_or(usize::MAX),
            apps_max: self.apps_max,
            tasks_max: self.tasks_max,
            ..Naming::new(&self.framework)
        }
    }
}

/// The next bytes of the stream; pending for ever while there is none.
async fn next(following: &mut Option<Following>) -> Result<Option<Bytes>, HttpError> {
    match following {
        Some(following) => following.stream.next().await,
        None => std::future::pending().await,
    }
}
