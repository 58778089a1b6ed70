//! The routes of one listener: those of the configuration, and those that labels ask for.
//!
//! A configured route goes before one of labels when its host is at least as specific. By a `priority`
//! above 0 it goes before all of them, by one below 0 after all of them.

use std::sync::Arc;

use super::explain::{Explained, PassedOver, explained, host_rank};
use super::{LabelledRoutes, RequestView, Route, RouteTable};

/// All routes of one listener. Cloning costs two reference counts.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    configured: Arc<RouteTable>,
    labelled: Option<Arc<LabelledRoutes>>,
}

impl From<RouteTable> for Routes {
    fn from(configured: RouteTable) -> Self {
        Self { configured: Arc::new(configured), labelled: None }
    }
}

impl Routes {
    /// The same, with these routes of labels instead of those that there were.
    #[must_use]
    pub fn with(&self, labelled: LabelledRoutes) -> Self {
        let labelled = (!labelled.is_empty()).then(|| Arc::new(labelled));
        Self { configured: Arc::clone(&self.configured), labelled }
    }

    /// Those that labels ask for, if there are any.
    #[must_use]
    pub fn labelled(&self) -> Option<&Arc<LabelledRoutes>> {
        self.labelled.as_ref()
    }

    /// The route that takes the request of `view`. Allocates nothing, never waits.
    #[must_use]
    pub fn route(&self, view: &RequestView<'_>) -> Option<&Arc<Route>> {
        let configured = self.configured.route(view);
        let Some(labelled) = &self.labelled else { return configured };
        match (configured, labelled.route(view)) {
            (Some(configured), Some(labelled)) if goes_first(configured, labelled) => {
                Some(configured)
            }
            (configured, labelled) => labelled.or(configured),
        }
    }

    /// Every route, in no order that means anything.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let labelled = self.labelled.iter().flat_map(|labelled| labelled.routes());
        self.configured.routes().chain(labelled)
    }

    /// Who takes the request of `view`, and why. For people: allocates.
    #[must_use]
    pub fn explain(&self, view: &RequestView<'_>) -> Explained {
        let mut first = self.configured.explain(view);
        let Some(labelled) = &self.labelled else { return first };
        let mut second = labelled.explain(view);
        let (why, swapped) = match (&first.winner, &second.winner) {
            (Some(configured), Some(labelled)) if goes_first(configured, labelled) => {
                (format!("{} goes first: it is configured", configured.shown()), false)
            }
            (Some(configured), Some(_)) if configured.config.priority < 0 => {
                ("its priority is below 0: routes of labels go first".to_owned(), true)
            }
            (Some(_), Some(labelled)) => {
                (format!("{} goes first: its host is more specific", labelled.shown()), true)
            }
            (None, Some(_)) => (String::new(), true),
            (Some(_), None) => (String::new(), false),
            (None, None) => {
                let (mut all, hosts) = self.configured.candidates(view);
                let (more, more_hosts) = labelled.candidates(view);
                all.extend(more);
                return explained(all, hosts + more_hosts, view);
            }
        };
        if swapped {
            std::mem::swap(&mut first, &mut second);
        }
        let Explained { winner, passed_over, .. } = second;
        first.passed_over.extend(winner.map(|route| PassedOver { route, why }));
        first.passed_over.extend(passed_over);
        first
    }
}

/// Whether a route of the configuration goes before one of labels, both of which take a request.
fn goes_first(configured: &Route, labelled: &Route) -> bool {
    match configured.config.priority {
        1.. => true,
        0 => host_rank(configured) >= host_rank(labelled),
        _ => false,
    }
}
