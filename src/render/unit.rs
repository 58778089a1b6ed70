//! What changes together: one template, or all templates of a group. Drawn, staged, checked, placed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus::IntCounter;
use tokio::sync::watch;

use super::attributes::Attributes;
use super::data::Asked;
use super::debt::{Debt, Ledger};
use super::fault;
use super::format;
use super::journal::{Intent, Key};
use super::place::{Move, Way};
use super::reload::{Reloader, Witness};
use super::resource::{Evaluation, RenderError, Resource};
use super::stage::{self, Staged, Standing};
use super::status::{CheckStatus, Meters, ResourceStatus};
use super::writing::{GroupConfig, WriteMode};
use crate::catalog::Snapshot;
use crate::exec::{self, Files, Terms};

/// One template of a unit.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) resource: Resource,
    pub(super) status: Arc<watch::Sender<ResourceStatus>>,
    pub(super) meters: Meters,
    pub(super) reloader: Option<Arc<Reloader>>,
}

/// A template, or the templates of a group.
#[derive(Debug)]
pub(super) struct Unit {
    /// Of the template or the group; a group's is told apart by what stands before it.
    pub(super) name: Arc<str>,
    pub(super) key: Key,
    pub(super) group: Option<GroupConfig>,
    pub(super) members: Vec<Member>,
    pub(super) ledger: Arc<Ledger>,
    roll_backs: IntCounter,
    /// Whether its time is over; held while files are replaced, so that nothing of an old
    /// configuration is written once the new one is in force.
    ended: Mutex<bool>,
}

/// What rendering a member came to.
#[derive(Debug)]
pub(super) enum Rendered {
    /// The file says what it should; how it was replaced, if it had to be for that.
    Current(Option<Way>),
    /// A registry must be heard first.
    Held(Arc<str>),
    /// The template fails on what it saw; it will until that changes.
    Refused(RenderError),
    /// Something around it failed that may pass.
    Failed(RenderError),
    /// It is ready, but another member of its group is not, which is named.
    Behind(Arc<str>),
}

/// What one evaluation saw, how long it took, and what it came to.
pub(super) struct Draft {
    pub(super) asked: Option<Asked>,
    pub(super) took: Duration,
    drawn: Result<Option<Staged>, Rendered>,
}

/// A unit whose files were all brought to what they should say, or none.
pub(super) struct Round {
    pub(super) drafts: Vec<(Option<Asked>, Duration)>,
    pub(super) rendered: Vec<Rendered>,
    /// What follows from it, if anything was replaced that a reader must be told of.
    pub(super) debt: Option<Arc<Debt>>,
}

impl Member {
    /// Evaluates the template and stages what is not current. Blocks.
    fn draw(&self, snapshot: &Arc<Snapshot>) -> Draft {
        let start = Instant::now();
        let Evaluation { asked, output } = self.resource.evaluate(snapshot);
        let took = start.elapsed();
        let drawn = match asked.waits_for() {
            Some(registry) => Err(Rendered::Held(Arc::clone(registry))),
            None => output.map_err(Rendered::Refused).and_then(|bytes| self.stage(&bytes)),
        };
        Draft { asked: Some(asked), took, drawn }
    }

    fn stage(&self, bytes: &[u8]) -> Result<Option<Staged>, Rendered> {
        let Resource { config, destination, name, .. } = &self.resource;
        let wanted = Attributes::wanted(config)
            .map_err(|error| stage::failed("find the owner of", destination, error))
            .map_err(Rendered::Failed)?;
        match stage::standing(destination, bytes, &wanted) {
            Standing::Current => return Ok(None),
            Standing::OtherAttributes => {
                wanted
                    .repair(destination)
                    .map_err(|error| stage::failed("correct mode and owner of", destination, error))
                    .map_err(Rendered::Failed)?;
                self.meters.repaired.inc();
                tracing::info!(template = &**name, "mode and owner of the file corrected");
                return Ok(None);
            }
            Standing::Other => {}
        }
        let staged = stage::stage(destination, config, &wanted, bytes).map_err(Rendered::Failed)?;
        if let Some(Err(problem)) = config.output_format.map(|of| format::validate(of, bytes)) {
            let (name, kept) = (Arc::clone(name), staged.reject());
            return Err(Rendered::Refused(RenderError::Format { name, problem, kept }));
        }
        Ok(Some(staged))
    }

    /// Runs the check on the staged file, if there is one.
    async fn check(&self, staged: &Staged) -> Result<(), String> {
        let config = &self.resource.config;
        let Some(check) = &config.check else { return Ok(()) };
        let destination = Some(&*self.resource.destination);
        let line = check.with(Files { source: Some(staged.path()), destination });
        let limit = config.check_timeout.unwrap_or(config.timeout).0;
        let terms = Terms { grace: super::action::GRACE, ..Terms::within(limit) };
        let outcome = exec::run_line(&line, terms).await.map_err(|failure| failure.to_string());
        match &outcome {
            Ok(_) => self.meters.checked.inc(),
            Err(_) => self.meters.check_failed.inc(),
        }
        let (passed, output) = match &outcome {
            Ok(output) => (true, output.clone()),
            Err(failure) => (false, failure.clone()),
        };
        let output = output.trim_end().to_owned();
        let check = CheckStatus { at: SystemTime::now(), passed, output };
        self.status.send_modify(|status| status.check = Some(check));
        outcome.map(drop)
    }

    pub(super) fn witness(&self) -> Witness {
        Witness {
            name: Arc::clone(&self.resource.name),
            status: Arc::clone(&self.status),
            meters: self.meters.clone(),
        }
    }
}

impl Unit {
    pub(super) fn new(
        name: Arc<str>,
        key: Key,
        group: Option<GroupConfig>,
        members: Vec<Member>,
        ledger: Arc<Ledger>,
        roll_backs: IntCounter,
    ) -> Self {
        Self { name, key, group, members, ledger, roll_backs, ended: Mutex::new(false) }
    }

    /// Nothing is written any more from when this returns on.
    pub(super) fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// The reloaders of its members, each once.
    pub(super) fn reloaders(&self) -> impl Iterator<Item = &Arc<Reloader>> {
        let distinct: BTreeMap<_, _> = self
            .members
            .iter()
            .filter_map(|member| member.reloader.as_ref())
            .map(|reloader| (&reloader.identity, reloader))
            .collect();
        distinct.into_values()
    }

    /// Brings all files to what they should say at `snapshot`, or leaves them all as they are.
    pub(super) async fn round(self: &Arc<Self>, snapshot: &Arc<Snapshot>) -> Round {
        let (unit, from) = (Arc::clone(self), Arc::clone(snapshot));
        let drawn = tokio::task::spawn_blocking(move || {
            unit.members.iter().map(|member| member.draw(&from)).collect::<Vec<_>>()
        });
        let drafts = drawn.await.unwrap_or_else(|error| {
            let message = format!("{}: rendering failed: {error}", self.name);
            let failed = |_| {
                let error = RenderError::Template(message.clone());
                Draft { asked: None, took: Duration::ZERO, drawn: Err(Rendered::Refused(error)) }
            };
            self.members.iter().map(failed).collect()
        });
        let mut seen = Vec::new();
        let mut results = Vec::new();
        for Draft { asked, took, drawn } in drafts {
            seen.push((asked, took));
            results.push(drawn);
        }
        for (member, result) in self.members.iter().zip(&mut results) {
            let Ok(Some(staged)) = result else { continue };
            if let Err(outcome) = member.check(staged).await {
                let (name, old) =
                    (Arc::clone(&member.resource.name), std::mem::replace(result, Ok(None)));
                let kept = old.ok().flatten().map(Staged::reject).unwrap_or_default();
                *result = Err(Rendered::Failed(RenderError::Check { name, outcome, kept }));
                // The others of the group are not needed then.
                break;
            }
        }
        let (rendered, debt) = self.settle(results, snapshot.generation).await;
        Round { drafts: seen, rendered, debt }
    }

    /// Places what was staged if every member is ready.
    async fn settle(
        self: &Arc<Self>,
        results: Vec<Result<Option<Staged>, Rendered>>,
        generation: u64,
    ) -> (Vec<Rendered>, Option<Arc<Debt>>) {
        let unready = results.iter().position(Result::is_err);
        if let Some(at) = unready {
            let guilty = Arc::clone(&self.members[at].resource.name);
            let held = match &results[at] {
                Err(Rendered::Held(registry)) => Some(Arc::clone(registry)),
                _ => None,
            };
            let of = |result: Result<Option<Staged>, Rendered>| match (result, &held) {
                (Err(rendered), _) => rendered,
                (Ok(_), Some(registry)) => Rendered::Held(Arc::clone(registry)),
                (Ok(_), None) => Rendered::Behind(Arc::clone(&guilty)),
            };
            return (results.into_iter().map(of).collect(), None);
        }
        let staged: Vec<Option<Staged>> = results.into_iter().map(|r| r.ok().flatten()).collect();
        if staged.iter().all(Option::is_none) {
            return (staged.iter().map(|_| Rendered::Current(None)).collect(), None);
        }
        fault::point();
        let unit = Arc::clone(self);
        let mut quiet = Vec::new();
        // A single file that is renamed is the old one or the new one at any time.
        let in_place = |m: &Member| m.resource.config.write == WriteMode::InPlace;
        if self.group.is_some() || self.members.iter().any(in_place) {
            for reloader in self.reloaders() {
                quiet.push(reloader.at_rest().await);
            }
        }
        let placed = tokio::task::spawn_blocking(move || {
            let placed = unit.place(staged, generation);
            drop(quiet);
            placed
        });
        let placed = placed.await;
        placed.unwrap_or_else(|error| {
            let message = format!("{}: replacing failed: {error}", self.name);
            let failed = |_: &Member| Rendered::Failed(RenderError::Template(message.clone()));
            (self.members.iter().map(failed).collect(), None)
        })
    }

    /// Replaces the files of what was staged: all of them, or none; asks for the reloads that have
    /// to follow. Blocks.
    fn place(
        &self,
        staged: Vec<Option<Staged>>,
        generation: u64,
    ) -> (Vec<Rendered>, Option<Arc<Debt>>) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return (staged.iter().map(|_| Rendered::Current(None)).collect(), None);
        }
        let placed = self.replace(staged);
        if let (_, Some(debt)) = &placed {
            self.wish(debt, generation);
        }
        placed
    }

    fn replace(&self, staged: Vec<Option<Staged>>) -> (Vec<Rendered>, Option<Arc<Debt>>) {
        let mut moves: Vec<Option<Move>> =
            staged.into_iter().map(|staged| staged.map(Staged::into_move)).collect();
        let owed = self.members.iter().zip(&moves).filter(|(_, step)| step.is_some());
        let owed =
            owed.filter_map(|(m, _)| Some(Arc::clone(&m.reloader.as_ref()?.identity))).collect();
        let mut outcome = Ok(());
        // One alone needs no way back: it is replaced or it is not.
        if self.group.is_some() {
            outcome = moves.iter_mut().flatten().try_for_each(Move::keep);
        }
        let steps: Vec<Move> = moves.iter().flatten().cloned().collect();
        let intent = Intent::new(&self.name, steps.clone(), owed);
        // Nothing to finish and nobody to tell: the next start renders anew all the same.
        let worth = !intent.owed.is_empty() || steps.len() > 1;
        let before = self.ledger.debt(&self.key);
        let debt = (outcome.is_ok() && worth).then(|| self.ledger.note(&self.key, intent));
        fault::point();
        let mut ways = Vec::new();
        for step in &steps {
            if outcome.is_err() {
                break;
            }
            match step.place() {
                Ok(way) => ways.push(way),
                Err(error) => outcome = Err(error),
            }
            fault::point();
        }
        if let Err(error) = outcome {
            let debt = self.give_up(&steps, debt.as_deref(), before.as_ref());
            return (self.blame(&moves, ways.len(), error), debt);
        }
        let keeps = self.group.is_some_and(|group| group.roll_back)
            && debt.as_ref().is_some_and(|d| !d.owed().is_empty());
        if !keeps {
            steps.iter().for_each(Move::forget);
        }
        let mut ways = ways.into_iter();
        let of = |step: &Option<Move>| Rendered::Current(step.as_ref().and_then(|_| ways.next()));
        let rendered = moves.iter().map(of).collect();
        let debt = debt.filter(|debt| {
            if debt.owed().is_empty() {
                self.ledger.settle(debt);
            }
            !debt.owed().is_empty()
        });
        (rendered, debt)
    }

    /// What was placed so far goes back, and what was noted is withdrawn; gives what is owed still.
    fn give_up(
        &self,
        steps: &[Move],
        debt: Option<&Debt>,
        before: Option<&Arc<Debt>>,
    ) -> Option<Arc<Debt>> {
        for step in steps {
            // One whose file was not replaced yet has it brought back all the same.
            let undone = if step.kept.is_some() || step.new { step.undo() } else { Ok(()) };
            if let Err(error) = undone {
                let error = error.to_string();
                tracing::error!(group = &*self.name, error, "an old file cannot be brought back");
            }
            step.drop_it();
        }
        debt.and_then(|debt| self.ledger.withdraw(debt, before))
    }

    /// The member at which placing stopped has failed, the others wait for it.
    fn blame(&self, moves: &[Option<Move>], placed: usize, error: RenderError) -> Vec<Rendered> {
        let mut at: Vec<usize> =
            moves.iter().enumerate().filter_map(|(at, step)| step.as_ref().map(|_| at)).collect();
        let guilty = if placed < at.len() { at.remove(placed) } else { 0 };
        let name = &self.members[guilty].resource.name;
        let mut error = Some(error);
        let of = |at: usize| match (at == guilty).then(|| error.take()).flatten() {
            Some(error) => Rendered::Failed(error),
            None => Rendered::Behind(Arc::clone(name)),
        };
        (0..self.members.len()).map(of).collect()
    }

    /// Asks the reloaders for what `debt` owes; whom it tells are the members that have them.
    pub(super) fn wish(&self, debt: &Arc<Debt>, generation: u64) {
        for reloader in self.reloaders().filter(|reloader| debt.owes(&reloader.identity)) {
            let mine = |member: &&Member| {
                member.reloader.as_ref().is_some_and(|other| Arc::ptr_eq(other, reloader))
            };
            let witnesses = self.members.iter().filter(mine).map(Member::witness).collect();
            reloader.wish(debt, generation, witnesses);
        }
    }

    /// Puts the old files back, for the reload of the new ones failed with `why`. Their readers are
    /// told again. Blocks.
    pub(super) fn roll_back(&self, debt: &Debt) -> Result<(), RenderError> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Ok(());
        }
        for step in &debt.intent.moves {
            step.undo()?;
            fault::point();
        }
        self.roll_backs.inc();
        let owed = debt.owed();
        let owed = if owed.is_empty() { debt.intent.owed.clone() } else { owed };
        debt.owe(BTreeSet::new());
        // It holds all reloads, also those that had succeeded: they have read the new files.
        let all = owed.into_iter().chain(debt.intent.owed.iter().cloned()).collect();
        let again = self.ledger.note(&self.key, Intent::new(&self.name, Vec::new(), all));
        self.wish(&again, 0);
        Ok(())
    }
}
