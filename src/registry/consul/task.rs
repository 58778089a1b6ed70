//! The tasks that ask: one for each watch, a short one for each turn and each second read.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::agent::{Agents, Failure, Kind, Target};
use super::blocking::{Consistency, Query, Rules, Told, Use, Watch};
use super::decode::{self, Keys, Names, Wish};
use super::members;
use super::nodes::{self, NodeList};
use super::pace::Ramp;
use crate::catalog::SourceService;
use crate::random;

/// Answers from this size on are decoded where they hold nobody up.
const LARGE: usize = 128 << 10;

/// What an answer says.
#[derive(Debug, Clone)]
pub(super) enum Said {
    Names(Arc<Names>),
    /// `None`: no instance.
    Members(Option<Arc<SourceService>>),
    Keys(Arc<Keys>),
    Nodes(Arc<NodeList>),
}

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A watch.
    Watch,
    /// A service's turn.
    Turn,
    /// A second, consistent read.
    Confirm,
}

/// What came of a question.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) target: Target,
    pub(super) asker: Asker,
    pub(super) result: Result<Heard, Failure>,
}

/// An answer that can be used.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) said: Said,
    pub(super) told: Told,
    /// Why it may tell less than is true.
    pub(super) doubt: Option<&'static str>,
}

/// Whether watches may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) open: bool,
    /// Grows with each time that the way to the agent is found again.
    pub(super) epoch: u64,
    /// Whether indexes from before go on.
    pub(super) same: bool,
}

/// What all tasks of a registry share.
pub(super) struct Shared {
    pub(super) agents: Agents,
    pub(super) wish: Wish,
    pub(super) rules: Rules,
    pub(super) hold: Duration,
    pub(super) ramp: Mutex<Ramp>,
    /// When a connection broke last: for a while losses are doubted.
    pub(super) broken: watch::Sender<Option<Instant>>,
    /// How long an agent may be gone and back before anybody notices.
    pub(super) unnoticed_max: Duration,
    /// How often the index of the list went backwards: the cluster forgot something.
    pub(super) resets: AtomicU64,
    pub(super) events: mpsc::Sender<Event>,
}

impl Shared {
    fn slot(&self) -> Instant {
        let mut ramp = self.ramp.lock().unwrap_or_else(PoisonError::into_inner);
        ramp.slot(Instant::now(), random::bits())
    }

    fn broke(&self) {
        self.broken.send_replace(Some(Instant::now()));
    }

    /// Why an answer that has just come may lack what is there. An agent that was started anew ends
    /// its idle connections too: whoever then asks over a new one would not notice.
    fn doubt(&self) -> Option<&'static str> {
        let recently = self.broken.borrow().is_some_and(|at| at.elapsed() < self.hold);
        recently.then_some("a connection to it broke just before")
    }

    async fn tell(&self, target: &Target, asker: Asker, result: Result<Heard, Failure>) {
        // Nobody listens any more: the registry is ending.
        let _ = self.events.send(Event { target: target.clone(), asker, result }).await;
    }

    /// Decodes an answer; shares with `last` what is equal, and is `last` when nothing changed.
    async fn decode(
        &self,
        target: &Target,
        body: Option<Bytes>,
        last: Option<&Said>,
    ) -> Result<(Said, bool), Failure> {
        let (wish, target, known) = (self.wish.clone(), target.clone(), last.cloned());
        let large = body.as_ref().is_some_and(|body| body.len() >= LARGE);
        let decode = move || said(&target, body.as_deref(), &wish, known.as_ref());
        let decoded = if large {
            tokio::task::spawn_blocking(decode).await.unwrap_or_else(|e| Err(e.to_string()))
        } else {
            decode()
        };
        decoded.map_err(Failure::answer)
    }
}

fn said(
    target: &Target,
    body: Option<&[u8]>,
    wish: &Wish,
    last: Option<&Said>,
) -> Result<(Said, bool), String> {
    match (target, last) {
        (Target::Names, last) => {
            let new = decode::names(body.unwrap_or_default(), wish)?;
            Ok(match last {
                Some(Said::Names(old)) if **old == new => (Said::Names(Arc::clone(old)), false),
                _ => (Said::Names(Arc::new(new)), true),
            })
        }
        (Target::Service(name), last) => {
            let old = if let Some(Said::Members(old)) = last { old.as_ref() } else { None };
            let body = body.unwrap_or_default();
            let new = members::members(body, name, wish, old.map(AsRef::as_ref))?;
            Ok(match (old, new) {
                (Some(old), Some(new)) if **old == new => {
                    (Said::Members(Some(Arc::clone(old))), false)
                }
                (None, None) => (Said::Members(None), last.is_none()),
                (_, new) => (Said::Members(new.map(Arc::new)), true),
            })
        }
        (Target::Nodes, last) => {
            let old = if let Some(Said::Nodes(old)) = last { Some(old) } else { None };
            let body = body.unwrap_or_default();
            let new = nodes::nodes(body, wish, old.map(AsRef::as_ref))?;
            Ok(match old {
                Some(old) if **old == new => (Said::Nodes(Arc::clone(old)), false),
                _ => (Said::Nodes(Arc::new(new)), true),
            })
        }
        (Target::Keys(_), last) => {
            let old = if let Some(Said::Keys(old)) = last { Some(old) } else { None };
            let new = match body {
                Some(body) => decode::keys(body, wish, old.map(AsRef::as_ref))?,
                None => Keys::default(),
            };
            Ok(match old {
                Some(old) if **old == new => (Said::Keys(Arc::clone(old)), false),
                _ => (Said::Keys(Arc::new(new)), true),
            })
        }
    }
}

/// Follows `target` for as long as it is let.
pub(super) async fn follow(
    shared: Arc<Shared>,
    target: Target,
    mut gate: watch::Receiver<Gate>,
    mut last: Option<Said>,
) {
    let mut watch = Watch::new(shared.rules, Instant::now());
    let mut epoch = None;
    let mut broken = shared.broken.subscribe();
    // Whether the token has seen all there is.
    let mut clear = false;
    // An error means that the registry is ending.
    while let Ok(now) = gate.wait_for(|gate| gate.open).await.map(|gate| *gate) {
        if epoch.replace(now.epoch).is_some_and(|before| before != now.epoch) {
            watch.reconnected(now.same);
        }
        let (mut at, mut query) = watch.next(Instant::now());
        if watch.begins() {
            at = at.max(shared.slot());
        }
        let Some(()) = unless_changed(&mut gate, sleep_until(at)).await else { continue };
        if broken.has_changed().unwrap_or(false) {
            broken.mark_unchanged();
            query = watch.shaken(query, Instant::now());
        }
        let asked = Box::pin(shared.agents.ask(&target, query));
        let asked = unless_broken(&mut broken, &shared, query, asked);
        let Some(answer) = unless_changed(&mut gate, asked).await else { continue };
        let Some(answer) = answer else {
            watch.shaken(query, Instant::now());
            continue;
        };
        let result = take(&shared, &target, &mut watch, answer, &mut last, &mut clear).await;
        match result {
            Ok(Some(heard)) => shared.tell(&target, Asker::Watch, Ok(heard)).await,
            Ok(None) => {}
            Err(failure) => {
                watch.failed(failure.pause, Instant::now(), random::bits());
                shared.tell(&target, Asker::Watch, Err(failure)).await;
            }
        }
    }
}

/// What a watch makes of an answer; `None`: it does not count, and the next question will tell.
async fn take(
    shared: &Shared,
    target: &Target,
    watch: &mut Watch,
    answer: Result<(Told, Option<Bytes>), Failure>,
    last: &mut Option<Said>,
    clear: &mut bool,
) -> Result<Option<Heard>, Failure> {
    let (told, body) = answer.inspect_err(|failure| {
        if failure.kind == Kind::Connection {
            shared.broke();
        }
    })?;
    let used = watch.answered(told);
    let doubt = match used {
        Use::It => shared.doubt(),
        Use::Doubted(why) => Some(why),
        Use::Reset => {
            if *target == Target::Names {
                shared.resets.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(None);
        }
        Use::AskLeader => return Ok(None),
    };
    let (said, changed) = shared.decode(target, body, last.as_ref()).await?;
    if told.filtered && *clear && loses(last.as_ref(), &said) {
        // The index is not taken over: what is hidden now may be shown again without a change.
        return Err(Failure {
            kind: Kind::Forbidden,
            why: "the answer is filtered by ACLs and lacks what was there before; \
                  check the policies of the token"
                .into(),
            pause: None,
        });
    }
    watch.weighed(told, changed, Instant::now());
    *clear = !told.filtered;
    *last = Some(said.clone());
    Ok(Some(Heard { said, told, doubt }))
}

/// Whether `now` lacks names, instances or keys that `last` had.
fn loses(last: Option<&Said>, now: &Said) -> bool {
    match (last, now) {
        (Some(Said::Names(last)), Said::Names(now)) => {
            last.tags.keys().any(|name| !now.tags.contains_key(name))
        }
        (Some(Said::Members(Some(last))), Said::Members(now)) => {
            let now = now.iter().flat_map(|now| &now.instances);
            let ids: std::collections::HashSet<_> = now.map(|instance| &instance.id).collect();
            last.instances.iter().any(|instance| !ids.contains(&instance.id))
        }
        (Some(Said::Keys(last)), Said::Keys(now)) => {
            last.keys.keys().any(|path| !now.keys.contains_key(path))
        }
        (Some(Said::Nodes(last)), Said::Nodes(now)) => {
            last.nodes.keys().any(|name| !now.nodes.contains_key(name))
        }
        _ => false,
    }
}

/// Asks once, without parking, and tells what came.
pub(super) async fn once(shared: Arc<Shared>, target: Target, asker: Asker, last: Option<Said>) {
    sleep_until(shared.slot()).await;
    let consistency = match (asker, shared.rules.stale_max) {
        (Asker::Confirm, _) => Consistency::Consistent,
        (_, Some(_)) => Consistency::Stale,
        (_, None) => Consistency::Leader,
    };
    let query = Query { after: None, consistency };
    let result = async {
        let (told, body) = Box::pin(shared.agents.ask(&target, query)).await?;
        let (said, _) = shared.decode(&target, body, last.as_ref()).await?;
        Ok(Heard { said, told, doubt: if asker == Asker::Turn { shared.doubt() } else { None } })
    };
    let result: Result<Heard, Failure> = result.await;
    if let Err(Failure { kind: Kind::Connection, .. }) = result {
        shared.broke();
    }
    shared.tell(&target, asker, result).await;
}

/// `None` when a connection broke while a question was parked that had not been so for long: the
/// server may have been started anew before it got it, and has forgotten the index that it waits for.
async fn unless_broken<T>(
    broken: &mut watch::Receiver<Option<Instant>>,
    shared: &Shared,
    query: Query,
    work: impl Future<Output = T>,
) -> Option<T> {
    let until = Instant::now() + shared.unnoticed_max;
    if !query.parks() {
        return Some(work.await);
    }
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return Some(done),
        _ = broken.changed() => return None,
        () = sleep_until(until) => {}
    }
    Some(work.await)
}

/// `None` when the gate moved before `work` was done.
async fn unless_changed<T>(
    gate: &mut watch::Receiver<Gate>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        _ = gate.changed() => None,
        done = work => Some(done),
    }
}
