//! Which endpoint a connection goes to.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::super::clock;
use super::super::sticky::{Bond, Outcome, Stay, Visit};
use super::super::upstream::{Endpoint, Missed, Upstream, Work};
use super::super::waiting::{self, Refused};
use super::{Course, TcpService};

/// A place at an endpoint.
pub(super) struct Choice {
    pub(super) endpoint: Arc<Endpoint>,
    /// What became of the client's binding, and how long it counts as seen.
    pub(super) sticky: Option<(Outcome, Stay)>,
    _work: Work,
}

/// A place at an endpoint from the newest table: the one that the client is bound to, or by the
/// policy, after waiting for it if need be. A connection holds its place, never the table.
pub(super) async fn choose(
    service: &TcpService,
    course: &Course,
    client: &TcpStream,
    peer: SocketAddr,
    tried: &[SocketAddr],
) -> Result<Choice, Refused> {
    let target = &course.target;
    let (mut visit, placed, home) = {
        let table = service.current.load();
        let mut visit = Visit::of(&table, course.sticky.as_ref(), peer.ip());
        let bound = visit.as_mut().and_then(|visit| visit.bound(&table, std::iter::once(target)));
        // One that has failed is not tried again.
        let home = bound.map(|(_, endpoint)| endpoint);
        let home = home.filter(|endpoint| !tried.contains(&endpoint.address));
        let key = |upstream: &Upstream| upstream.key(peer.ip(), None, clock::micros());
        let bound = home.clone().and_then(|home| waiting::place_at(&table, target, home).ok());
        // One that is full gives way this time.
        let placed = bound.map_or_else(|| waiting::place(&table, target, key, tried), Ok);
        let placed = match placed {
            Err(Missed::Full) => Err(table.upstream(target).map(|upstream| key(upstream))),
            Err(Missed::Nobody) => Err(None),
            Ok(placed) => Ok(placed),
        };
        (visit, placed, home)
    };
    let placed = match placed {
        Ok(placed) => placed,
        Err(key) => {
            let (key, left) = (key.ok_or(Refused::Nobody)?, waiting::left(client, true));
            let (current, queue) = (&service.current, &service.metrics.queue);
            Box::pin(waiting::wait(current, target, key, tried, left, queue)).await?
        }
    };
    let stays = |visit: Visit| {
        let bond = Bond::of(home.as_deref(), &placed.endpoint);
        let bound_to = home.as_deref().unwrap_or(&placed.endpoint);
        (visit.outcome(bond), visit.goes(target, bound_to, true))
    };
    let sticky = visit.take().map(stays);
    Ok(Choice { endpoint: placed.endpoint, sticky, _work: placed.work })
}
