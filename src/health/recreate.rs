//! Follows what is published and tells the events that [`strategy`](super::strategy) decides on:
//! each in a task of its own, at most one at a time for each instance.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::deliver::{End, EventMetrics, deliver};
use super::ledger::{Ledger, Open};
use super::outlier::{Key, Now};
use super::strategy::{Decision, Event, Strategies, Strategist, Waiting};
use crate::catalog::Snapshot;

/// What is being told, and what waits, for the status.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<EventsStatus>>);

/// All events that are not through.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EventsStatus {
    /// Those that are being told.
    pub pending: Vec<PendingStatus>,
    /// Those that are not told yet.
    pub waiting: Vec<Waiting>,
}

/// An event that is being told.
#[derive(Debug, Clone, Serialize)]
pub struct PendingStatus {
    /// The event.
    pub event: Event,
    /// Tries that failed.
    pub tries: u32,
    /// Why the last one did.
    pub error: Option<String>,
}

impl Events {
    /// What is not through at this moment.
    #[must_use]
    pub fn status(&self) -> EventsStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut EventsStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Starts to follow `snapshots`, until one of the senders is gone; relative paths of the settings
/// begin in `base_dir`. What was not through when the process ended last, by the files in
/// `data_dir`, is told again as soon as the first snapshot still says so. Blocks for a moment.
#[must_use]
pub fn start(
    settings: watch::Receiver<Arc<Strategies>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    base_dir: PathBuf,
    data_dir: Option<PathBuf>,
    metrics: EventMetrics,
) -> Events {
    let events = Events::default();
    let (ledger, open) = Ledger::read(data_dir);
    let now = Now { instant: Instant::now(), wall: SystemTime::now() };
    let following = Following {
        strategist: Strategist::resumed(open, now),
        ledger,
        base_dir,
        metrics,
        telling: JoinSet::new(),
        handles: HashMap::new(),
        events: events.clone(),
    };
    tokio::spawn(following.run(settings, snapshots));
    events
}

/// Service and instance of an event.
type Subject = (Arc<str>, Key);

struct Following {
    strategist: Strategist,
    ledger: Ledger,
    base_dir: PathBuf,
    metrics: EventMetrics,
    telling: JoinSet<(Subject, Arc<str>, End)>,
    /// The event that is being told of each, by its id.
    handles: HashMap<Subject, (Arc<str>, AbortHandle)>,
    events: Events,
}

impl Following {
    async fn run(
        mut self,
        mut settings: watch::Receiver<Arc<Strategies>>,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
    ) {
        loop {
            let wanted = Arc::clone(&settings.borrow_and_update());
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let events = self.look(&wanted, &snapshot);
            // First, so that a restart knows of what anybody was asked for.
            self.ledger.keep(self.open(&events)).await;
            for event in events {
                self.tell(event, &wanted);
            }
            let due = self.strategist.due(&wanted);
            let due = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                changed = settings.changed() => if changed.is_err() { return },
                Some(ended) = self.telling.join_next() => {
                    // One that was aborted has been counted already.
                    if let Ok((subject, event, end)) = ended {
                        self.ended(&subject, &event, end);
                    }
                }
                () = due => {}
            }
        }
    }

    /// Every event that is not through, with those that are to be `told`.
    fn open(&self, told: &[Event]) -> Vec<Open> {
        let mut open = self.strategist.open();
        let pending = self.events.status().pending.into_iter().map(|pending| pending.event);
        open.extend(pending.chain(told.iter().cloned()).map(|event| Open {
            service: event.service,
            instance: (event.registry, event.instance),
            since: event.since,
            generation: event.generation,
        }));
        open.sort_by(|a, b| (&a.service, &a.instance).cmp(&(&b.service, &b.instance)));
        open
    }

    /// Takes in `snapshot`, and returns what is to be told.
    fn look(&mut self, settings: &Arc<Strategies>, snapshot: &Snapshot) -> Vec<Event> {
        let now = Now { instant: Instant::now(), wall: SystemTime::now() };
        let handles = &self.handles;
        let room = |service: &str| {
            let most = settings.get(service).map_or(0, |config| config.pending as usize);
            let pending = handles.keys().filter(|(name, _)| &**name == service).count();
            most.saturating_sub(pending)
        };
        let mut events = Vec::new();
        for decision in self.strategist.look(settings, snapshot, now, room) {
            match decision {
                Decision::Drop(service, key) => self.drop_event(&(service, key)),
                Decision::Tell(event) => events.push(event),
            }
        }
        let waiting = self.strategist.waiting();
        self.metrics.waiting.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        self.events.change(|status| status.waiting = waiting);
        events
    }

    fn tell(&mut self, event: Event, settings: &Strategies) {
        let Some(config) = settings.get(&event.service).cloned() else { return };
        tracing::warn!(
            service = &*event.service,
            instance = &*event.instance,
            event = &*event.id,
            cause = &*event.cause,
            "an instance is to be recreated"
        );
        let subject: Subject = (
            Arc::clone(&event.service),
            (Arc::clone(&event.registry), Arc::clone(&event.instance)),
        );
        self.events.change(|status| {
            let event = event.clone();
            status.pending.push(PendingStatus { event, tries: 0, error: None });
        });
        let (events, metrics, base_dir) =
            (self.events.clone(), self.metrics.clone(), self.base_dir.clone());
        let (about, id) = (subject.clone(), Arc::clone(&event.id));
        let handle = self.telling.spawn(async move {
            let note = |tries, why: &str| {
                if tries == 1 {
                    tracing::warn!(event = &*event.id, error = why, "an event is not taken yet");
                }
                events.change(|status| {
                    let mine = |pending: &&mut PendingStatus| pending.event.id == event.id;
                    if let Some(pending) = status.pending.iter_mut().find(mine) {
                        pending.tries = tries;
                        pending.error = Some(why.to_owned());
                    }
                });
            };
            let end = deliver(&event, &config, &base_dir, &metrics, note).await;
            if end == End::GivenUp {
                tracing::error!(event = &*event.id, "an event is given up");
            } else {
                tracing::info!(event = &*event.id, "an event is acknowledged");
            }
            (about, event.id, end)
        });
        self.handles.insert(subject, (id, handle));
        self.count();
    }

    /// The event about `subject` is not told any more, if it is still being told.
    fn drop_event(&mut self, subject: &Subject) {
        if let Some((event, handle)) = self.handles.get(subject) {
            handle.abort();
            let event = Arc::clone(event);
            self.ended(subject, &event, End::Dropped);
        }
    }

    fn ended(&mut self, subject: &Subject, event: &Arc<str>, end: End) {
        if self.handles.get(subject).is_none_or(|(telling, _)| telling != event) {
            // It was dropped while it ended.
            return;
        }
        self.handles.remove(subject);
        self.metrics.ended[end as usize].inc();
        self.events.change(|status| status.pending.retain(|p| p.event.id != *event));
        self.count();
    }

    fn count(&self) {
        self.metrics.pending.set(i64::try_from(self.handles.len()).unwrap_or(i64::MAX));
    }
}
