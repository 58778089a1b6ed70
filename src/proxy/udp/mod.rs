//! UDP: the datagrams of each client to an endpoint of one service, and the replies back.
//!
//! Who sends, and to which of our addresses, makes a *flow*. Each has a socket of its own that is
//! connected to its endpoint: by its port replies are told apart, and the kernel tells of an endpoint
//! where nobody listens. The kernel shares out clients among the workers (`SO_REUSEPORT`), so that a
//! worker's flows are nobody else's, and need no lock.
//!
//! One task carries for all flows of a worker at a listener. It waits for all of their sockets by an
//! epoll of its own: what comes from clients is taken in batches, what comes from endpoints in turns, a
//! few datagrams of each flow, and goes to clients in batches.

mod carry;
mod follow;
mod forward;
mod lead;
pub mod metrics;
mod table;

use std::cell::RefCell;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::cut;
use super::serve::Worker;
use crate::lifecycle::Phase;
use crate::net::mmsg::Slots;
use crate::net::ready::Told;
use carry::Carrier;

/// Turns in a row, before others on this thread have theirs.
const TURNS: usize = 8;

/// One worker's share of a UDP listener.
#[derive(Debug)]
pub struct UdpShare {
    /// Name of the listener.
    pub name: Arc<str>,
    /// Those sockets of one address that no other worker reads; at least one.
    pub sockets: Vec<UdpSocket>,
    /// Turns true when a reload takes the listener away.
    pub closed: watch::Receiver<bool>,
}

/// What the carriers of one thread work with, in turn.
#[derive(Debug, Default)]
struct Desk {
    slots: Slots,
    told: Told,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
}

impl Worker {
    /// Carries datagrams until the listener is taken away, which ends its flows.
    ///
    /// A drain goes on until the flows that are there then have ended; whoever comes meanwhile is
    /// served too, for nobody else answers at that port, but not waited for. When another process has
    /// taken over, it has the sockets: nothing more is read then, and flows still get their replies.
    pub async fn serve_udp(self, share: UdpShare) {
        let (name, mut closed) = (Arc::clone(&share.name), share.closed.clone());
        let mut phases = self.phases.clone();
        let carrier = Carrier::new(share, &self);
        let carrier = carrier.and_then(|carrier| Ok((carrier.ready().wait()?, carrier)));
        let (waiting, mut carrier) = match carrier {
            Ok(both) => both,
            Err(error) => {
                tracing::error!(listener = &*name, %error, "cannot serve this listener");
                return;
            }
        };
        let mut cuts = cut::told();
        let mut tick = pin!(sleep(carrier.period()));
        let (mut listening, mut draining) = (true, false);
        while listening || !carrier.is_empty() {
            let busy = tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed), if listening => {
                    if phases.now() < Phase::Replaced {
                        return carrier.close();
                    }
                    listening = false;
                    carrier.deafen();
                    false
                }
                () = phases.reached(Phase::Draining), if !draining => {
                    draining = true;
                    carrier.drains();
                    false
                }
                Some(cut) = cuts.recv() => {
                    carrier.cut(&cut);
                    false
                }
                () = &mut tick, if !carrier.is_empty() => {
                    carrier.tick();
                    tick.as_mut().reset(Instant::now() + carrier.period());
                    false
                }
                ready = waiting.readable() => {
                    let Ok(mut ready) = ready else { return };
                    let done = turns(&mut carrier);
                    if done {
                        ready.clear_ready();
                    }
                    !done
                }
            };
            if busy {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Some turns; whether nothing was left after the last of them.
fn turns(carrier: &mut Carrier) -> bool {
    let mut turn = || DESK.with_borrow_mut(|desk| carrier.turn(&mut desk.slots, &mut desk.told));
    (0..TURNS).any(|_| !turn())
}
