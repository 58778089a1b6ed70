//! What operators say, from the API to the catalog: taken, kept on disk, noted, undone, forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::operated::{View, found};
use crate::api::operate::audit::{Audit, Entry};
use crate::api::operate::order::{Order, Refused, Wanted, spelled};
use crate::api::operate::{Asked, Metrics, OperationsConfig, Wish};
use crate::catalog::RegistryStatus;
use crate::catalog::operations::{Aspect, Does, Operation, Operations, Target};
use crate::catalog::operations_store::OperationsStore;

/// Longest time that an operator's word may take to be in force; it counts all the same.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(10);
/// How often to look for instances that are gone.
const LOOK: Duration = Duration::from_secs(10);

/// The one who changes what operators say.
pub(super) struct Desk {
    pub(super) operations: watch::Sender<Arc<Operations>>,
    pub(super) heard: watch::Receiver<u64>,
    pub(super) store: Option<OperationsStore>,
    pub(super) audit: Audit,
    pub(super) config: watch::Receiver<Arc<OperationsConfig>>,
    pub(super) view: View,
    pub(super) metrics: Metrics,
    /// Since when the instances are gone that operations are about, by number.
    pub(super) gone: HashMap<u64, Instant>,
    /// Held by others while orders must wait.
    pub(super) orders: Arc<Mutex<()>>,
}

/// What is to be done next.
enum Next {
    Answer(Asked),
    Pass,
    Forget,
}

impl Desk {
    /// Answers wishes, one after the other, until nobody can have any.
    pub(super) async fn run(mut self, mut wishes: mpsc::Receiver<Asked>) {
        loop {
            let due = self.operations.borrow().due();
            let due = async {
                match due {
                    Some(at) => {
                        sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let empty = self.operations.borrow().is_empty();
            let next = tokio::select! {
                asked = wishes.recv() => match asked {
                    Some(asked) => Next::Answer(asked),
                    None => return,
                },
                () = due => Next::Pass,
                () = sleep(LOOK), if !empty => Next::Forget,
            };
            let orders = Arc::clone(&self.orders);
            let _carried_out = orders.lock().await;
            match next {
                Next::Answer(asked) => self.answer(asked).await,
                Next::Pass => self.pass().await,
                Next::Forget => self.forget().await,
            }
        }
    }

    async fn answer(&mut self, Asked { who, wish, answer }: Asked) {
        let what = match &wish {
            Wish::Say(wanted, order) if !order.undo => wanted.word(),
            _ => "undo",
        };
        let mut entry = Entry {
            at: SystemTime::now(),
            who: Arc::clone(&who),
            what,
            target: String::new(),
            operation: None,
            weight: None,
            deadline: None,
            reason: "".into(),
            result: "done".to_owned(),
        };
        if let Wish::Say(_, order) | Wish::Ready(order) = &wish {
            entry.target = wanted_target(order);
            entry.reason = order.reason.as_deref().unwrap_or_default().into();
        }
        let result = self.carry_out(&wish, &who, entry.at).await;
        match &result {
            Ok(operation) => {
                entry.target = spelled(&operation.target);
                entry.operation = Some(operation.number);
                entry.deadline = operation.deadline.filter(|_| what != "undo");
                if let (Does::Weight(weight), true) = (operation.does, what != "undo") {
                    entry.weight = Some(weight.value());
                }
            }
            Err(refused) => entry.result = format!("refused: {}", refused.message()),
        }
        self.metrics.changed(what, result.is_ok());
        self.audit.note(entry).await;
        let told = result.map(|operation| {
            let snapshot = Arc::clone(&self.view.tables.load().snapshot);
            json!({
                "generation": snapshot.generation,
                "kept": self.store.is_some(),
                "undone": what == "undo",
                "operation": self.view.told(&operation, &snapshot),
            })
        });
        // Whoever asked may be gone; the word stands all the same.
        let _ = answer.send(told);
    }

    /// Changes what is said, so that it is on disk and in force when this returns.
    async fn carry_out(
        &self,
        wish: &Wish,
        who: &str,
        now: SystemTime,
    ) -> Result<Arc<Operation>, Refused> {
        let mut next = Operations::clone(&self.operations.borrow());
        let snapshot = Arc::clone(&self.view.tables.load().snapshot);
        let max = self.config.borrow().max as usize;
        let operation = match wish {
            Wish::Say(wanted, order) => {
                let target = order.target(&snapshot, &next)?;
                if order.undo {
                    undo(&mut next, &target, Some(*wanted))?
                } else {
                    let operation = order.operation(*wanted, target, who, now)?;
                    next.put(operation, max).map_err(|full| Refused::Conflict(full.to_string()))?
                }
            }
            Wish::Ready(order) => {
                let target = order.target(&snapshot, &next)?;
                undo(&mut next, &target, None)?
            }
            Wish::Remove(number) => {
                let none = || Refused::Unknown(format!("there is no operation {number}"));
                next.remove(*number).ok_or_else(none)?
            }
        };
        self.say(next)
            .await
            .map_err(|error| Refused::Unkept(format!("nothing has changed: {error}")))?;
        Ok(operation)
    }

    /// Keeps `next` on disk and hands it to the catalog; returns once it is in force.
    async fn say(&self, next: Operations) -> Result<(), String> {
        let next = Arc::new(next);
        if let Some(store) = self.store.clone() {
            let saved = Arc::clone(&next);
            let written = tokio::task::spawn_blocking(move || store.save(&saved)).await;
            written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        let version = next.version;
        self.metrics.in_force(&next);
        self.operations.send_replace(next);
        let mut heard = self.heard.clone();
        let in_force = heard.wait_for(|heard| *heard >= version);
        if tokio::time::timeout(IN_FORCE_WITHIN, in_force).await.is_err() {
            tracing::error!(version, "an operator's word is not in force yet");
        }
        Ok(())
    }

    /// Deadlines that are over.
    async fn pass(&self) {
        let mut next = Operations::clone(&self.operations.borrow());
        let over = next.pass(SystemTime::now());
        if over.is_empty() {
            // The clock may stand a little before the moment that was slept to.
            sleep(Duration::from_millis(1)).await;
            return;
        }
        if let Err(error) = self.say(next.clone()).await {
            tracing::error!(error, "that a deadline is over cannot be kept on disk");
            // It is over all the same.
            self.operations.send_replace(Arc::new(next));
        }
        for operation in over {
            self.note("deadline", &operation, "what still ran there is cut").await;
        }
    }

    /// What is said of instances that are gone for long.
    async fn forget(&mut self) {
        let snapshot = Arc::clone(&self.view.tables.load().snapshot);
        let operations = Arc::clone(&self.operations.borrow());
        let limit = self.config.borrow().forget.0;
        let now = Instant::now();
        let mut next = Operations::clone(&operations);
        let mut forgotten = Vec::new();
        for operation in operations.iter() {
            let Target::Instance { registry, .. } = &operation.target else { continue };
            let live = |r: &RegistryStatus| r.name == *registry && r.stale.is_none() && r.heard;
            let sure = snapshot.registries.iter().any(live)
                || snapshot.registries.iter().all(|known| known.name != *registry);
            if !sure || found(&operation.target, &snapshot).is_some() {
                self.gone.remove(&operation.number);
                continue;
            }
            if *self.gone.entry(operation.number).or_insert(now) + limit <= now {
                forgotten.extend(next.remove(operation.number));
            }
        }
        self.gone.retain(|number, _| next.iter().any(|operation| operation.number == *number));
        if forgotten.is_empty() {
            return;
        }
        match self.say(next).await {
            Ok(()) => {
                for operation in forgotten {
                    self.note("forget", &operation, "its instance has been gone for long").await;
                }
            }
            Err(error) => {
                tracing::warn!(error, "operations about who is gone are not forgotten yet");
            }
        }
    }

    async fn note(&self, what: &'static str, operation: &Operation, result: &str) {
        self.metrics.changed(what, true);
        let entry = Entry {
            at: SystemTime::now(),
            who: "portolan".into(),
            what,
            target: spelled(&operation.target),
            operation: Some(operation.number),
            weight: None,
            deadline: operation.deadline,
            reason: Arc::clone(&operation.reason),
            result: result.to_owned(),
        };
        self.audit.note(entry).await;
    }
}

/// Takes back what is said of `target`: what was `wanted`, or drain and maintenance alike.
fn undo(
    next: &mut Operations,
    target: &Target,
    wanted: Option<Wanted>,
) -> Result<Arc<Operation>, Refused> {
    let aspect = if wanted == Some(Wanted::Weight) { Aspect::Weight } else { Aspect::State };
    let name = spelled(target);
    let undone = next.undo(target, aspect).ok_or_else(|| {
        let what = wanted.map_or("drain or maintenance", Wanted::word);
        Refused::Unknown(format!(
            "no {what} is said of {name} itself; what is said of its node is undone for the node"
        ))
    })?;
    match wanted {
        Some(wanted) if wanted.word() != undone.does.word() => Err(Refused::Conflict(format!(
            "{name} is in {}, not in {}; `portolan ready` undoes either",
            undone.does.word(),
            wanted.word()
        ))),
        _ => Ok(undone),
    }
}

/// Whom an order is about, as it was asked.
fn wanted_target(order: &Order) -> String {
    let parts = [&order.registry, &order.service, &order.id, &order.node];
    parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/")
}
