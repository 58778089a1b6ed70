//! When a new state goes out, and the one pointer by which everyone reads it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::assemble::{Inputs, Settings, Source, assemble};
use super::snapshot::Snapshot;
use super::source::RegistryState;

/// Pause between two publishes; the first change after a quiet time goes out at once.
pub const PAUSE: Duration = Duration::from_millis(10);

/// A read-only view of what was published last, for one reader's part of it.
///
/// Loading costs one atomic load and one reference count; it never waits and never allocates.
/// Load after the bytes to answer have arrived, once per batch, request or connect: only then is
/// an answer never older than what any other face has already shown.
pub struct Current<T: ?Sized>(Arc<dyn Fn() -> Arc<T> + Send + Sync>);

impl<T: ?Sized> Current<T> {
    /// A view that asks `load` each time.
    pub fn new(load: impl Fn() -> Arc<T> + Send + Sync + 'static) -> Self {
        Self(Arc::new(load))
    }

    /// What was published last.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        (self.0)()
    }
}

impl<T: ?Sized> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> std::fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

/// A registry's states as they come, with what the configuration says about it.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Who wins for the same instance id.
    pub priority: i32,
    /// What it says now, and wakes when it says something else.
    pub state: watch::Receiver<RegistryState>,
}

/// What the publisher works from; a reload replaces it as a whole.
#[derive(Debug)]
pub struct Plan<C> {
    /// Every registry.
    pub feeds: Vec<Feed>,
    /// Settings by service.
    pub settings: Arc<Settings>,
    /// What the tables are compiled by; handed to `publish` untouched.
    pub compile: C,
}

/// What one publish is made of.
#[derive(Debug)]
pub struct Publication<'a, C> {
    /// The snapshot that went out before, while its tables were compiled by the same plan.
    pub previous: Option<&'a Arc<Snapshot>>,
    /// The new one.
    pub snapshot: &'a Arc<Snapshot>,
    /// What it was assembled from.
    pub inputs: &'a Inputs,
    /// The plan's compile settings.
    pub compile: &'a C,
}

/// The generation to start with: Unix time in milliseconds, or one above `stored` if the clock
/// stands before it.
#[must_use]
pub fn first_generation(now: SystemTime, stored: u64) -> u64 {
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(millis).unwrap_or(u64::MAX).max(stored.saturating_add(1))
}

/// Waits for changes and publishes them until nobody can send plans any more.
///
/// The first snapshot goes out at once, from whatever the registries have said so far. After that
/// a snapshot goes out when it differs from the last, at most one per [`PAUSE`]. A new plan always
/// publishes. `publish` compiles and swaps; it is called from one place only, one at a time.
pub async fn run<C>(
    mut plan: Plan<C>,
    mut plans: mpsc::Receiver<Plan<C>>,
    first: u64,
    mut publish: impl FnMut(Publication<'_, C>),
) {
    let mut generation = first;
    let mut wakes = Wakes::of(&plan.feeds);
    let mut inputs = inputs_of(&plan);
    let mut snapshot = Arc::new(assemble(None, &inputs, generation).unwrap_or_default());
    publish(Publication {
        previous: None,
        snapshot: &snapshot,
        inputs: &inputs,
        compile: &plan.compile,
    });
    let mut quiet_from = Instant::now() + PAUSE;

    loop {
        let replaced = tokio::select! {
            () = wakes.changed() => None,
            next = plans.recv() => match next {
                Some(next) => Some(next),
                None => return,
            },
        };
        let fresh = replaced.is_some();
        if let Some(next) = replaced {
            plan = next;
            wakes = Wakes::of(&plan.feeds);
        } else {
            // What arrives while we wait goes out together with what woke us.
            tokio::time::sleep_until(quiet_from).await;
        }
        let now = inputs_of(&plan);
        let next = assemble(Some((&inputs, &snapshot)), &now, generation + 1);
        inputs = now;
        let next = match next {
            Some(next) => next,
            None if fresh => Snapshot { generation: generation + 1, ..Snapshot::clone(&snapshot) },
            None => continue,
        };
        generation += 1;
        let next = Arc::new(next);
        let previous = if fresh { None } else { Some(&snapshot) };
        publish(Publication { previous, snapshot: &next, inputs: &inputs, compile: &plan.compile });
        snapshot = next;
        quiet_from = Instant::now() + PAUSE;
    }
}

fn inputs_of<C>(plan: &Plan<C>) -> Inputs {
    let sources = plan
        .feeds
        .iter()
        .map(|feed| Source {
            name: Arc::clone(&feed.name),
            priority: feed.priority,
            state: feed.state.borrow().clone(),
        })
        .collect();
    Inputs::new(sources, Arc::clone(&plan.settings))
}

/// Wakes when any of several registries says something new.
struct Wakes {
    waiting: JoinSet<Option<watch::Receiver<RegistryState>>>,
}

impl Wakes {
    fn of(feeds: &[Feed]) -> Self {
        let mut wakes = Self { waiting: JoinSet::new() };
        for feed in feeds {
            let mut state = feed.state.clone();
            // What is there already is read with the first snapshot of this plan; a state that
            // comes between the two is new for this receiver and wakes it.
            state.mark_unchanged();
            wakes.wait_for(state);
        }
        wakes
    }

    fn wait_for(&mut self, mut state: watch::Receiver<RegistryState>) {
        // A registry that ended keeps its last state and never wakes again.
        self.waiting.spawn(async move { state.changed().await.ok().map(|()| state) });
    }

    async fn changed(&mut self) {
        loop {
            match self.waiting.join_next().await {
                Some(Ok(Some(state))) => {
                    self.wait_for(state);
                    // Others that are ready too belong to the same publish.
                    while let Some(Ok(Some(state))) = self.waiting.try_join_next() {
                        self.wait_for(state);
                    }
                    return;
                }
                Some(_) => {}
                None => std::future::pending::<()>().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::source::{RegistryView, SourceService};

    fn view(name: &str) -> RegistryView {
        let service = SourceService {
            name: name.into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances: Vec::new(),
            problems: Vec::new(),
        };
        RegistryView::default().with(service)
    }

    struct Played {
        registry: watch::Sender<RegistryState>,
        plans: mpsc::Sender<Plan<u8>>,
        told: mpsc::UnboundedReceiver<(u64, usize, bool, Instant)>,
    }

    fn play() -> Played {
        let (registry, state) = watch::channel(RegistryState::Syncing);
        let (plans, receiver) = mpsc::channel(1);
        let (tell, told) = mpsc::unbounded_channel();
        let feed = Feed { name: "r".into(), priority: 0, state };
        let plan = Plan { feeds: vec![feed], settings: Arc::default(), compile: 0 };
        tokio::spawn(run(plan, receiver, 100, move |p| {
            let services = p.snapshot.services.len();
            let _ =
                tell.send((p.snapshot.generation, services, p.previous.is_some(), Instant::now()));
        }));
        Played { registry, plans, told }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_goes_out_at_once_and_the_next_after_the_pause() {
        let mut played = play();
        let (generation, services, ..) = played.told.recv().await.unwrap();
        assert_eq!((generation, services), (100, 0));
        tokio::time::sleep(Duration::from_secs(1)).await;

        let start = Instant::now();
        played.registry.send_replace(RegistryState::Live(view("a")));
        let (generation, services, incremental, at) = played.told.recv().await.unwrap();
        assert_eq!((generation, services, incremental), (101, 1, true));
        assert_eq!(at - start, Duration::ZERO);

        for name in ["b", "c", "d"] {
            played.registry.send_replace(RegistryState::Live(view(name)));
        }
        let (generation, _, _, at) = played.told.recv().await.unwrap();
        assert_eq!(generation, 102, "three changes, one publish");
        assert!(at - start >= PAUSE && at - start < PAUSE * 2, "{:?}", at - start);
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_says_the_same_publishes_nothing() {
        let mut played = play();
        played.told.recv().await.unwrap();
        let same = view("a");
        played.registry.send_replace(RegistryState::Live(same.clone()));
        played.told.recv().await.unwrap();
        played.registry.send_replace(RegistryState::Live(same));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(played.told.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_plan_always_publishes_and_asks_for_all_to_be_compiled() {
        let mut played = play();
        played.told.recv().await.unwrap();
        let state = played.registry.subscribe();
        let feed = Feed { name: "r".into(), priority: 0, state };
        let plan = Plan { feeds: vec![feed], settings: Arc::default(), compile: 1 };
        played.plans.send(plan).await.unwrap();
        let (generation, _, incremental, _) = played.told.recv().await.unwrap();
        assert_eq!((generation, incremental), (101, false));
    }

    #[test]
    fn generations_start_at_the_clock_and_never_go_back() {
        let clock = UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(first_generation(clock, 0), 5000);
        assert_eq!(first_generation(clock, 9000), 9001);
    }
}
