//! When a new state goes out, and the one pointer by which everyone reads it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::assemble::{Inputs, Settings, assemble};
pub use super::feeds::Feed;
use super::feeds::{Feeds, Wakes};
use super::guard::GuardConfig;
use super::operations::Spoken;
use super::snapshot::Snapshot;
use super::verdict::Verdicts;

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

/// What the publisher works from; a reload replaces it as a whole.
#[derive(Debug)]
pub struct Plan<C> {
    /// Every registry.
    pub feeds: Vec<Feed>,
    /// Settings by service.
    pub settings: Arc<Settings>,
    /// What a suspect registry may take away.
    pub guard: GuardConfig,
    /// What checks and the proxy find out, now and whenever that changes.
    pub verdicts: watch::Receiver<Verdicts>,
    /// What operators say, now and whenever that changes.
    pub spoken: Spoken,
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
    let mut wakes = Wakes::of(&plan);
    let mut feeds = Feeds::default();
    let mut inputs = feeds.inputs(&plan);
    let mut snapshot = Arc::new(assemble(None, &inputs, generation).unwrap_or_default());
    publish(Publication {
        previous: None,
        snapshot: &snapshot,
        inputs: &inputs,
        compile: &plan.compile,
    });
    plan.spoken.heard.send_replace(inputs.operations.version);
    let mut quiet_from = Instant::now() + PAUSE;

    loop {
        let replaced = tokio::select! {
            () = wakes.changed() => None,
            () = feeds.expires() => None,
            next = plans.recv() => match next {
                Some(next) => Some(next),
                None => return,
            },
        };
        let fresh = replaced.is_some();
        if let Some(next) = replaced {
            plan = next;
            wakes = Wakes::of(&plan);
        } else {
            // What arrives while we wait goes out together with what woke us.
            tokio::time::sleep_until(quiet_from).await;
        }
        let now = feeds.inputs(&plan);
        let next = assemble(Some((&inputs, &snapshot)), &now, generation + 1);
        inputs = now;
        let next = match next {
            Some(next) => next,
            None if fresh => Snapshot { generation: generation + 1, ..Snapshot::clone(&snapshot) },
            None => {
                plan.spoken.heard.send_replace(inputs.operations.version);
                continue;
            }
        };
        generation += 1;
        let next = Arc::new(next);
        let previous = if fresh { None } else { Some(&snapshot) };
        publish(Publication { previous, snapshot: &next, inputs: &inputs, compile: &plan.compile });
        plan.spoken.heard.send_replace(inputs.operations.version);
        snapshot = next;
        quiet_from = Instant::now() + PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::source::{RegistryState, RegistryView, SourceService};

    fn view(name: &str) -> RegistryView {
        let service = SourceService {
            name: name.into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances: Vec::new(),
            problems: Vec::new(),
            suspect: None,
        };
        RegistryView::default().with(service)
    }

    fn plan_of(feed: Feed, compile: u8) -> Plan<u8> {
        let (_, verdicts) = watch::channel(Verdicts::default());
        let guard = GuardConfig::default();
        let spoken = Spoken::default();
        Plan { feeds: vec![feed], settings: Arc::default(), guard, verdicts, spoken, compile }
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
        let feed = Feed::new("r", 0, state);
        let plan = plan_of(feed, 0);
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
        let feed = Feed::new("r", 0, state);
        let plan = plan_of(feed, 1);
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
