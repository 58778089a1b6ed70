//! Reloads that are owed: known to the journal, paid by reloaders, watched by who wrote the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::IntGauge;
use tokio::sync::watch;

use super::journal::{Identity, Intent, Journal, Key, Noted};

/// The reloads that follow from one intent, until all of them have succeeded.
#[derive(Debug)]
pub(super) struct Debt {
    key: Key,
    noted: Noted,
    pub(super) intent: Intent,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    owed: BTreeSet<Identity>,
    /// How the last attempt of one of them failed.
    failure: Option<String>,
}

impl Debt {
    /// Whose intent it came from.
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// Whether the file at `destination` is one of those that were written.
    pub(super) fn is_of(&self, destination: &Path) -> bool {
        // Symbolic links were followed when it was staged.
        let real = std::fs::canonicalize(destination);
        let real = real.as_deref().unwrap_or(destination);
        self.intent.moves.iter().any(|step| step.destination == real)
    }

    /// Since when it is due.
    pub(super) fn since(&self) -> SystemTime {
        self.intent.since()
    }

    /// Whether it survives a crash.
    pub(super) const fn durable(&self) -> bool {
        self.noted.durable
    }

    /// Whether this reload still has to run for it.
    pub(super) fn owes(&self, identity: &Identity) -> bool {
        self.state.borrow().owed.contains(identity)
    }

    /// The reloads that still have to run for it.
    pub(super) fn owed(&self) -> BTreeSet<Identity> {
        self.state.borrow().owed.clone()
    }

    /// From now on it is paid by these instead: the configuration tells the reader otherwise.
    pub(super) fn owe(&self, owed: BTreeSet<Identity>) {
        self.state.send_modify(|state| state.owed = owed);
    }

    /// A reload failed; it is still owed.
    pub(super) fn failed(&self, error: &str) {
        self.state.send_modify(|state| state.failure = Some(error.to_owned()));
    }

    /// Returns when nothing is owed any more, or with how the first attempt failed.
    pub(super) async fn outcome(&self) -> Result<(), String> {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| state.owed.is_empty() || state.failure.is_some()).await;
        match ended.ok().and_then(|state| state.failure.clone()) {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }
}

/// All debts of this process.
#[derive(Debug)]
pub(super) struct Ledger {
    journal: Journal,
    debts: Mutex<BTreeMap<Key, Arc<Debt>>>,
    pending: IntGauge,
}

impl Ledger {
    /// Over a journal and what it held.
    pub(super) fn new(
        journal: Journal,
        found: Vec<(Key, Intent, Noted)>,
        pending: IntGauge,
    ) -> Self {
        let debt = |(key, intent, noted): (Key, _, _)| (key.clone(), debt(key, intent, noted));
        let debts: BTreeMap<_, _> = found.into_iter().map(debt).collect();
        pending.set(debts.len() as i64);
        Self { journal, debts: Mutex::new(debts), pending }
    }

    /// Whether what is owed survives a crash, as far as the configuration goes.
    pub(super) const fn on_disk(&self) -> bool {
        self.journal.on_disk()
    }

    /// What is owed.
    pub(super) fn debts(&self) -> Vec<Arc<Debt>> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What is owed under this key.
    pub(super) fn debt(&self, key: &Key) -> Option<Arc<Debt>> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Takes note of `intent`, and of what was owed under its key before. Blocks on the disk.
    pub(super) fn note(&self, key: &Key, mut intent: Intent) -> Arc<Debt> {
        if let Some(before) = self.debt(key) {
            let owed = before.owed();
            if !owed.is_empty() {
                intent.since = intent.since.min(before.intent.since);
                intent.owed.extend(owed);
            }
        }
        self.replace(key, intent)
    }

    fn replace(&self, key: &Key, intent: Intent) -> Arc<Debt> {
        let noted = self.journal.note(key, &intent);
        let debt = debt(key.clone(), intent, noted);
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        debts.insert(key.clone(), Arc::clone(&debt));
        self.pending.set(debts.len() as i64);
        debt
    }

    /// Nothing was written after all. What was owed `before` is owed still, by the debt that this
    /// gives, which takes the place of both. Blocks.
    pub(super) fn withdraw(&self, debt: &Debt, before: Option<&Arc<Debt>>) -> Option<Arc<Debt>> {
        let Some(before) = before.filter(|before| !before.owed().is_empty()) else {
            self.settle(debt);
            return None;
        };
        let mut intent = before.intent.clone();
        // Its files are in their places.
        intent.moves.clear();
        intent.owed = before.owed();
        Some(self.replace(&debt.key, intent))
    }

    /// This reload ran for `debt`. Blocks on the disk.
    pub(super) fn pay(&self, debt: &Debt, identity: &Identity) {
        debt.state.send_modify(|state| {
            state.owed.remove(identity);
            if state.owed.is_empty() {
                state.failure = None;
            }
        });
        if debt.owed().is_empty() {
            self.settle(debt);
        }
    }

    /// Nothing follows from `debt` any more. Blocks on the disk.
    pub(super) fn settle(&self, debt: &Debt) {
        self.journal.clear(&debt.key, debt.noted.number);
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        if debts.get(&debt.key).is_some_and(|now| now.noted.number == debt.noted.number) {
            debts.remove(&debt.key);
            self.pending.set(debts.len() as i64);
        }
    }
}

fn debt(key: Key, intent: Intent, noted: Noted) -> Arc<Debt> {
    let state = State { owed: intent.owed.clone(), failure: None };
    Arc::new(Debt { key, noted, intent, state: watch::Sender::new(state) })
}
