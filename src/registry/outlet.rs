//! How a registry's task speaks: states by a channel, transitions in the log, counts in metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use tokio::sync::watch;

use super::{Report, marathon};
use crate::catalog::{Interest, RegistryState, RegistryView, SourceService};
use crate::telemetry::metrics::Register as _;

/// Metrics of all registries.
#[derive(Debug, Clone)]
pub struct Metrics {
    reads: IntCounterVec,
    refused: IntGaugeVec,
    marathon: marathon::Metrics,
}

/// Metrics of one registry.
#[derive(Debug, Clone)]
pub(super) struct Meters {
    read: IntCounter,
    failed: IntCounter,
    refused: IntGauge,
    marathon: marathon::Metrics,
}

impl Metrics {
    /// Registers the metrics of this room.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let reads = registry.counter_vec(
            "portolan_registry_reads_total",
            "Complete reads of a registry that changed what is known, and failed ones, by result.",
            &["registry", "result"],
        )?;
        let refused = registry.gauge_vec(
            "portolan_registry_refused_entries",
            "Services, instances and keys that the registry states now and that are refused.",
            &["registry"],
        )?;
        Ok(Self { reads, refused, marathon: marathon::Metrics::register(registry)? })
    }

    pub(super) fn meters(&self, name: &str) -> Meters {
        Meters {
            read: self.reads.with_label_values(&[name, "ok"]),
            failed: self.reads.with_label_values(&[name, "failed"]),
            refused: self.refused.with_label_values(&[name]),
            marathon: self.marathon.clone(),
        }
    }
}

/// The channels that join one registry with the rest; they outlive its task.
#[derive(Debug, Clone)]
pub(super) struct Mouth {
    pub(super) states: Arc<watch::Sender<RegistryState>>,
    pub(super) report: Arc<watch::Sender<Report>>,
    pub(super) interest: watch::Receiver<Interest>,
    pub(super) hold: Duration,
}

/// How one registry's task speaks and hears.
#[derive(Debug)]
pub(super) struct Outlet {
    name: Arc<str>,
    mouth: Mouth,
    /// Last contact, when there was one.
    heard_at: Option<SystemTime>,
    /// What was logged last, so that a failure is told once.
    failure: Option<Arc<str>>,
    /// What is refused of all services together.
    refused: usize,
    meters: Meters,
}

impl Outlet {
    pub(super) fn new(name: Arc<str>, mouth: Mouth, meters: Meters) -> Self {
        let mut heard_at = None;
        mouth.states.send_if_modified(|state| {
            let (next, contact) = match state {
                RegistryState::Syncing => return false,
                RegistryState::Stale { since, .. } => {
                    heard_at = Some(*since);
                    return false;
                }
                // Only a task that panicked finds its registry live at its start.
                RegistryState::Live(view) => {
                    let since = SystemTime::now();
                    let why = "its task failed and was started again; see the log".into();
                    (RegistryState::Stale { last: view.clone(), since, why }, since)
                }
            };
            heard_at = Some(contact);
            *state = next;
            true
        });
        let refused =
            mouth.states.borrow().view().map_or(0, |view| {
                view.services.values().map(|service| service.problems.len()).sum()
            });
        Self { name, mouth, heard_at, failure: None, refused, meters }
    }

    /// Name of the registry.
    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What is wanted of the registry, now and whenever that changes.
    pub(super) fn interest(&self) -> watch::Receiver<Interest> {
        self.mouth.interest.clone()
    }

    /// How long the registry is suspect after it came back, unless it is read twice before.
    pub(super) const fn hold(&self) -> Duration {
        self.mouth.hold
    }

    /// The metrics of registries that are a Marathon.
    pub(super) const fn marathon(&self) -> &marathon::Metrics {
        &self.meters.marathon
    }

    /// Tells how the work goes; wakes nobody.
    pub(super) fn note(&self, report: Report) {
        self.mouth.report.send_replace(report);
    }

    /// What was said last, or an empty view: the one that the next view should share with.
    pub(super) fn last(&self) -> RegistryView {
        self.mouth.states.borrow().view().cloned().unwrap_or_default()
    }

    /// The registry answers, and this is all that it says.
    pub(super) fn live(&mut self, view: RegistryView) {
        self.heard_at = Some(SystemTime::now());
        let before = self.last();
        let refused_before = self.refused;
        // Counted by what changed: a registry speaks for one service of many thousands.
        let count = |service: Option<&Arc<SourceService>>| service.map_or(0, |s| s.problems.len());
        view.services.changes_since(&before.services, |(_, before, now)| {
            self.refused = (self.refused + count(now)).saturating_sub(count(before));
        });
        let refused = self.refused;
        self.meters.read.inc();
        let all = refused + view.problems.len();
        self.meters.refused.set(i64::try_from(all).unwrap_or(i64::MAX));
        if self.failure.take().is_some() {
            tracing::info!(registry = &*self.name, "registry answers again");
        }
        self.mouth.states.send_if_modified(|state| {
            if let RegistryState::Live(known) = state
                && known.services.same(&view.services)
                && known.keys.same(&view.keys)
                && known.document == view.document
                && known.problems == view.problems
                && known.suspect == view.suspect
                && known.known == view.known
                && known.nodes.same(&view.nodes)
                && known.parts == view.parts
                && known.datacenter == view.datacenter
            {
                return false;
            }
            let (registry, services) = (&*self.name, view.services.len());
            if matches!(state, RegistryState::Live(_)) && refused == refused_before {
                tracing::debug!(registry, services, refused, "registry read");
            } else {
                tracing::info!(registry, services, refused, "registry read");
            }
            *state = RegistryState::Live(view);
            true
        });
    }

    /// What the registry said last, with single facts that it added to it before all was read anew:
    /// they count at once, and the rest is as old as it was.
    pub(super) fn amended(&self, view: RegistryView) {
        self.mouth.states.send_if_modified(|state| {
            let RegistryState::Stale { last, .. } = state else { return false };
            let new = !last.services.same(&view.services);
            *last = view;
            new
        });
    }

    /// The registry does not answer, or nothing that can be read: what it said last stays.
    pub(super) fn failed(&mut self, why: &str) {
        self.meters.failed.inc();
        if self.failure.as_deref() == Some(why) {
            return;
        }
        let why: Arc<str> = why.into();
        tracing::warn!(
            registry = &*self.name,
            why = &*why,
            "registry cannot be read; keeping what it said last"
        );
        self.failure = Some(Arc::clone(&why));
        let since = self.heard_at;
        self.mouth.states.send_if_modified(|state| {
            let (RegistryState::Live(last) | RegistryState::Stale { last, .. }) = state else {
                return false;
            };
            let since = since.unwrap_or(SystemTime::UNIX_EPOCH);
            *state = RegistryState::Stale { last: std::mem::take(last), since, why };
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Parts;

    fn mouth() -> (Mouth, watch::Receiver<RegistryState>) {
        let (states, receiver) = watch::channel(RegistryState::Syncing);
        let (report, _) = watch::channel(Report::default());
        let (_, interest) = watch::channel(Interest::everything());
        let (states, report) = (Arc::new(states), Arc::new(report));
        (Mouth { states, report, interest, hold: Duration::ZERO }, receiver)
    }

    #[test]
    fn a_task_that_starts_again_finds_its_registry_stale_and_nothing_lost() {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let (mouth, states) = mouth();
        let start = || Outlet::new("r".into(), mouth.clone(), metrics.meters("r"));
        let mut outlet = start();
        outlet.failed("nothing there");
        assert!(matches!(*states.borrow(), RegistryState::Syncing), "a failure is no empty view");
        outlet.live(RegistryView::default());
        assert!(matches!(*states.borrow(), RegistryState::Live(_)));
        let mut outlet = start();
        assert!(matches!(*states.borrow(), RegistryState::Stale { .. }));
        outlet.live(RegistryView::default());
        assert!(matches!(*states.borrow(), RegistryState::Live(_)));
    }

    #[test]
    fn a_fact_that_comes_before_all_is_read_anew_changes_what_is_stale_and_nothing_else() {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let (mouth, mut states) = mouth();
        let mut outlet = Outlet::new("r".into(), mouth, metrics.meters("r"));
        let service = |name: &str| SourceService {
            name: name.into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances: Vec::new(),
            problems: Vec::new(),
            suspect: None,
        };
        outlet.amended(RegistryView::default().with(service("early")));
        assert!(matches!(*states.borrow(), RegistryState::Syncing), "nothing was read yet");
        outlet.live(RegistryView::default().with(service("a")));
        outlet.failed("gone");
        outlet.amended(outlet.last().with(service("b")));
        let state = states.borrow_and_update().clone();
        assert!(matches!(&state, RegistryState::Stale { last, .. } if last.services.len() == 2));
        outlet.amended(outlet.last());
        assert!(!states.has_changed().unwrap());
    }

    #[test]
    fn the_same_view_again_wakes_nobody() {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let (mouth, mut states) = mouth();
        let mut outlet = Outlet::new("r".into(), mouth, metrics.meters("r"));
        outlet.live(RegistryView::default());
        states.mark_unchanged();
        outlet.live(outlet.last());
        assert!(!states.has_changed().unwrap());
        let mut read = outlet.last();
        read.parts = Arc::new(Parts { keys: Some(["a".into()].into()), ..Parts::default() });
        outlet.live(read);
        assert!(states.has_changed().unwrap(), "what was read is news, though nothing was there");
    }
}
