//! What one evaluation of a template carries along: whom it asks and what it remembers.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::value::Value;
use super::mutable::Mutables;
use super::source::{Answer, Query, Source, World};

/// The host that the functions of both dialects expect in their [`Context`].
///
/// Made anew for every evaluation: answers are kept within it, so that a template sees one state.
pub struct Host {
    source: Arc<dyn Source>,
    world: Arc<dyn World>,
    answers: Mutex<HashMap<Query, Known, FixedState>>,
    scratch: Arc<Mutex<BTreeMap<String, Value>>>,
    mutables: Mutables,
}

/// What became of a question.
enum Known {
    Value(Value),
    Missing,
}

impl Host {
    /// For one evaluation.
    pub fn new(source: Arc<dyn Source>, world: Arc<dyn World>) -> Self {
        Self {
            source,
            world,
            answers: Mutex::default(),
            scratch: Arc::default(),
            mutables: Mutables::default(),
        }
    }

    /// Everything that was asked so far, sorted, and whether it was answered. The output counts only
    /// when nothing is missing.
    pub fn asked(&self) -> Vec<(Query, bool)> {
        let answers = locked(&self.answers);
        let answered = |known: &Known| matches!(known, Known::Value(_));
        let mut asked: Vec<_> =
            answers.iter().map(|(query, known)| (query.clone(), answered(known))).collect();
        asked.sort_unstable();
        asked
    }

    /// Whether some answer is missing.
    pub fn waits(&self) -> bool {
        locked(&self.answers).values().any(|known| matches!(known, Known::Missing))
    }

    /// What `scratch` keeps.
    pub(super) fn scratch(&self) -> &Arc<Mutex<BTreeMap<String, Value>>> {
        &self.scratch
    }

    /// The maps that this evaluation may change.
    pub(super) const fn mutables(&self) -> &Mutables {
        &self.mutables
    }

    /// The world beside the catalog.
    pub(super) fn world(&self) -> &dyn World {
        self.world.as_ref()
    }

    /// The answer to `query`; `None` when it is not there yet.
    pub(super) fn ask(&self, query: Query) -> Result<Option<Value>, FunctionError> {
        let mut answers = locked(&self.answers);
        let known = match answers.entry(query) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let known = match self.source.ask(unknown.key()) {
                    Answer::Ready(value) => Known::Value(value),
                    Answer::NotYet => Known::Missing,
                    Answer::Failed(why) => return Err(FunctionError::failed(why)),
                };
                unknown.insert(known)
            }
        };
        Ok(match known {
            Known::Value(value) => Some(value.clone()),
            Known::Missing => None,
        })
    }

    /// Lets `query` count as unanswered, whatever the answer was.
    pub(super) fn wait_for(&self, query: Query) {
        locked(&self.answers).insert(query, Known::Missing);
    }
}

/// The host of an evaluation.
pub(super) fn of<'a>(context: &Context<'a>) -> Result<&'a Host, FunctionError> {
    context.host::<Host>().ok_or_else(|| {
        FunctionError::failed("there is no catalog and no world to ask in this evaluation")
    })
}

/// The content of `mutex`, also after a panic of who held it: every change is one step.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
