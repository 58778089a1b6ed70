//! Endpoints whose instance turned unhealthy, of services whose connections end then
//! (`on_unhealthy = "close"`). Pure, as [`super::departed`] is, which keeps them in mind.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cut::{Cut, Reason};
use super::departed::{Severed, TELL_AFTER};
use super::upstream::{Endpoint, Load};
use crate::catalog::operations::MAINTENANCE;
use crate::catalog::{Health, Instance};

/// Whether an instance is unhealthy by itself: an operator who takes one out lets go on what runs there.
pub(super) fn is_down(instance: &Instance) -> bool {
    instance.health == Health::Unhealthy && !instance.cause.starts_with(MAINTENANCE)
}

/// What becomes of the connections there.
#[derive(Debug)]
pub(super) struct Down {
    since: Instant,
    order: Option<(Instant, Arc<Cut>)>,
    told: bool,
}

impl Down {
    /// It is down since `now`.
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, order: None, told: false }
    }

    /// Whether its connections were ordered to be cut.
    pub(super) const fn ordered(&self) -> bool {
        self.order.is_some()
    }

    /// Cuts, by `cut`, as soon as anything runs there, and tells once what that was.
    pub(super) fn pass(
        &mut self,
        (service, endpoint): (&Arc<str>, &Arc<Endpoint>),
        now: Instant,
        cut: &mut impl FnMut(&Arc<Load>, Reason) -> Arc<Cut>,
    ) -> Option<Severed> {
        let running = endpoint.in_flight() > 0;
        if running && self.order.is_none() {
            self.order = Some((now, cut(endpoint.load(), Reason::Unhealthy)));
        }
        let (at, order) = self.order.as_ref()?;
        if self.told || (running && now < *at + TELL_AFTER) {
            return None;
        }
        self.told = true;
        let counts = order.counts();
        let after: Duration = *at - self.since;
        (counts != [0; 3]).then(|| Severed {
            service: Arc::clone(service),
            endpoint: Arc::clone(endpoint),
            reason: Reason::Unhealthy,
            counts,
            after,
        })
    }
}
