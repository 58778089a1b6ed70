//! One reloader for each distinct way to tell a reader, shared by all templates that state it.
//!
//! A reload runs when files were written, at most once for all that one generation changed: it
//! waits until every template that shares it is done with that generation, as long as they get on.
//! One that fails is repeated with growing pauses, one that comes too soon is put off; none is
//! dropped, for what is owed stands in the journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};
use tokio::time::Instant;

use super::action::Action;
use super::debt::{Debt, Ledger};
use super::fault;
use super::journal::Identity;
use super::status::{Meters, ResourceStatus};
use crate::net::http::Client;

/// Pause after the first failure; each further one doubles it, up to [`RETRY_MAX`].
pub(super) const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a reload waits for another template that does not get on with the same generation.
const ROUND_SILENCE: Duration = Duration::from_secs(1);
/// How long it waits for all of them.
const ROUND_MAX: Duration = Duration::from_secs(10);

/// The pause after so many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(RETRY_MAX)
}

/// What a template's wish for a reload is told of.
#[derive(Debug, Clone)]
pub(super) struct Witness {
    pub(super) name: Arc<str>,
    pub(super) status: Arc<watch::Sender<ResourceStatus>>,
    pub(super) meters: Meters,
}

/// Limits of a reload; of several templates the largest count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// Longest time for one run.
    pub(super) limit: Duration,
    /// Least time from the start of one run to the next.
    pub(super) interval: Duration,
}

/// Tells one reader in one way.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) identity: Identity,
    action: Action,
    client: Option<Hidden>,
    ledger: Arc<Ledger>,
    wishes: Mutex<Wishes>,
    /// How many wishes there have been.
    wished: watch::Sender<u64>,
    /// Held by the reload that runs, and by who replaces files that belong together.
    quiet: Arc<RwLock<()>>,
    /// The generation that each template or group that shares it is done with.
    sharers: watch::Sender<BTreeMap<Arc<str>, u64>>,
}

/// A client has nothing to show.
struct Hidden(Client);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

#[derive(Debug, Default)]
struct Wishes {
    pace: Pace,
    waiting: Vec<Wish>,
}

/// A reload that is due.
#[derive(Debug, Clone)]
struct Wish {
    debt: Arc<Debt>,
    generation: u64,
    witnesses: Vec<Witness>,
}

impl Reloader {
    pub(super) fn new(action: Action, ledger: Arc<Ledger>) -> Self {
        Self {
            identity: action.identity(),
            client: action.client().map(Hidden),
            action,
            ledger,
            wishes: Mutex::default(),
            wished: watch::Sender::new(0),
            quiet: Arc::default(),
            sharers: watch::Sender::default(),
        }
    }

    /// From now on these limits count, and these templates and groups share it.
    pub(super) fn follow(&self, pace: Pace, sharers: &[Arc<str>]) {
        self.wishes().pace = pace;
        self.sharers.send_modify(|known| {
            known.retain(|name, _| sharers.contains(name));
            for name in sharers {
                known.entry(Arc::clone(name)).or_insert(0);
            }
        });
    }

    /// `sharer` is done with `generation`: it has asked for what has to follow from it.
    pub(super) fn done(&self, sharer: &Arc<str>, generation: u64) {
        self.sharers.send_if_modified(|known| match known.get_mut(sharer) {
            Some(known) if *known != generation => {
                *known = generation;
                true
            }
            _ => false,
        });
    }

    /// A file was written at `generation`; its reader is to be told.
    pub(super) fn wish(&self, debt: &Arc<Debt>, generation: u64, witnesses: Vec<Witness>) {
        for witness in &witnesses {
            witness.status.send_modify(|status| {
                let reload = status.reload.get_or_insert_default();
                reload.due = true;
                reload.pending_since = Some(debt.since());
                reload.durable = debt.durable();
            });
        }
        let mut wishes = self.wishes();
        // What the same files wished before is fulfilled with this, once it has run.
        wishes.waiting.push(Wish { debt: Arc::clone(debt), generation, witnesses });
        drop(wishes);
        self.wished.send_modify(|count| *count += 1);
    }

    /// Waits for a reload that runs; none begins as long as this is held. A reader that reads
    /// several files would else see one from before and one from after.
    pub(super) async fn at_rest(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.quiet).read_owned().await
    }

    /// Fulfils wishes as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) {
        let mut wished = self.wished.subscribe();
        let mut failures = 0;
        let mut retry_at: Option<Instant> = None;
        let mut started: Option<Instant> = None;
        loop {
            wished.mark_unchanged();
            while self.waiting().is_empty() {
                retry_at = None;
                failures = 0;
                if wished.changed().await.is_err() {
                    return;
                }
            }
            if let Some(at) = retry_at.take() {
                self.put_off(at);
                // New content is tried at once.
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    _ = wished.changed() => {}
                }
            }
            let interval = self.wishes().pace.interval;
            let allowed = started.map(|started| started + interval);
            if let Some(at) = allowed.filter(|at| *at > Instant::now()) {
                self.put_off(at);
                tokio::time::sleep_until(at).await;
            }
            self.gather().await;
            let batch = self.waiting();
            if batch.is_empty() {
                continue;
            }
            started = Some(Instant::now());
            if self.fulfil(batch).await {
                failures = 0;
            } else {
                failures += 1;
                retry_at = Some(Instant::now() + pause(failures));
            }
        }
    }

    /// Waits until all that share it are done with the generation for which it was wished, or do
    /// not get on.
    async fn gather(&self) {
        let mut sharers = self.sharers.subscribe();
        let end = Instant::now() + ROUND_MAX;
        loop {
            let wanted = self.waiting().iter().map(|wish| wish.generation).max().unwrap_or(0);
            if sharers.borrow_and_update().values().all(|done| *done >= wanted) {
                return;
            }
            let until = end.min(Instant::now() + ROUND_SILENCE);
            if tokio::time::timeout_at(until, sharers.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Runs it once for all of `batch`; whether it succeeded.
    async fn fulfil(&self, batch: Vec<Wish>) -> bool {
        let limit = self.wishes().pace.limit;
        fault::point();
        let client = self.client.as_ref().map(|hidden| &hidden.0);
        let running = self.quiet.write().await;
        let outcome = self.action.run(client, limit).await;
        drop(running);
        fault::point();
        let witnesses: BTreeMap<Arc<str>, Witness> = batch
            .iter()
            .flat_map(|wish| wish.witnesses.iter())
            .map(|witness| (Arc::clone(&witness.name), witness.clone()))
            .collect();
        let by = self.action.to_string();
        match &outcome {
            Ok(()) => {
                let (ledger, identity) = (Arc::clone(&self.ledger), Arc::clone(&self.identity));
                let debts: Vec<_> = batch.iter().map(|wish| Arc::clone(&wish.debt)).collect();
                // It only fails when the runtime ends, and then the journal still knows.
                let _ = tokio::task::spawn_blocking(move || {
                    for debt in debts {
                        ledger.pay(&debt, &identity);
                    }
                })
                .await;
                fault::point();
                let names: Vec<&str> = witnesses.keys().map(|name| &**name).collect();
                tracing::info!(templates = names.join(", "), by, "reloaded");
            }
            Err(error) => {
                for wish in &batch {
                    wish.debt.failed(error);
                }
            }
        }
        self.wishes().waiting.retain(|wish| wish.debt.owes(&self.identity));
        let left = self.waiting();
        for (name, witness) in witnesses {
            // Written again in the meantime, it is due again.
            let again = left.iter().any(|wish| wish.witnesses.iter().any(|w| w.name == name));
            tell(&witness, &outcome, again);
        }
        outcome.is_ok()
    }

    fn waiting(&self) -> Vec<Wish> {
        let mut wishes = self.wishes();
        // What was rolled back, or is told in another way now, is owed no more.
        wishes.waiting.retain(|wish| wish.debt.owes(&self.identity));
        wishes.waiting.clone()
    }

    /// Tells that nothing will be tried before `at`.
    fn put_off(&self, at: Instant) {
        let next = SystemTime::now() + at.saturating_duration_since(Instant::now());
        for witness in self.waiting().iter().flat_map(|wish| &wish.witnesses) {
            witness.status.send_modify(|status| {
                status.reload.get_or_insert_default().next_at = Some(next);
            });
        }
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts the outcome into status, metrics and log.
fn tell(witness: &Witness, outcome: &Result<(), String>, due: bool) {
    let template = &*witness.name;
    let error = outcome
        .as_ref()
        .err()
        .map(|failure| format!("the reload of [template.{template}] {failure}"));
    match &error {
        None => witness.meters.reloaded.inc(),
        Some(_) => witness.meters.reload_failed.inc(),
    }
    witness.status.send_modify(|status| {
        let reload = status.reload.get_or_insert_default();
        if let Some(error) = &error
            && reload.error.as_ref() != Some(error)
        {
            tracing::warn!(template, error, "reload failed; trying again");
        }
        let now = Some(SystemTime::now());
        reload.tried_at = now;
        reload.next_at = None;
        reload.due = due;
        if error.is_none() {
            reload.succeeded_at = now;
        }
        if !due {
            reload.pending_since = None;
        }
        reload.error = error;
    });
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
