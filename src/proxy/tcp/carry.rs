//! Both directions of a connection, and the times that end it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::super::config::TcpTimeouts;
use super::super::metrics::ListenerMetrics;
use super::super::upstream::Endpoint;
use super::ends::{End, Mixed, Plain};
use super::metrics::End as Outcome;
use super::secure::Socket;
use super::way::{Fault, Through, Way};
use crate::catalog::observed::Failure;
use crate::net::stream::Stream;

/// Looks in an idle time: how late it is found to be over, in parts of itself.
const LOOKS: u32 = 4;
/// Longer than any connection.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a connection ended otherwise than by both sides' word.
#[derive(Debug)]
pub(super) struct Broken {
    /// What is counted.
    pub(super) end: Outcome,
    /// What happened.
    pub(super) error: io::Error,
}

/// Carries bytes between `client` and the `socket` of `endpoint` until both have ended.
///
/// # Errors
/// One of them broke, or its time is over.
pub(super) async fn carry(
    client: &mut Stream,
    (endpoint, socket): (&Endpoint, &mut Socket),
    timeouts: &TcpTimeouts,
    metrics: &ListenerMetrics,
) -> Result<(), Broken> {
    match (client, socket) {
        (Stream::Plain(client), Socket::Plain(socket)) => {
            let ends = (Plain::new(client), Plain::new(socket));
            between(ends, endpoint, timeouts, metrics).await
        }
        // Boxed: what is carried in the clear needs no room for the others.
        (Stream::Plain(client), Socket::Tls(socket)) => {
            let ends = (Plain::new(client), Mixed(&mut **socket));
            Box::pin(between(ends, endpoint, timeouts, metrics)).await
        }
        (client @ Stream::Tls(_), Socket::Plain(socket)) => {
            let ends = (Mixed(client), Plain::new(socket));
            Box::pin(between(ends, endpoint, timeouts, metrics)).await
        }
        (client @ Stream::Tls(_), Socket::Tls(socket)) => {
            let ends = (Mixed(client), Mixed(&mut **socket));
            Box::pin(between(ends, endpoint, timeouts, metrics)).await
        }
    }
}

async fn between(
    (mut client, mut socket): (impl End, impl End),
    endpoint: &Endpoint,
    timeouts: &TcpTimeouts,
    metrics: &ListenerMetrics,
) -> Result<(), Broken> {
    let through = |side: usize| Through {
        bytes: &metrics.bytes[side],
        tally: &endpoint.tally().bytes()[side],
        spliced: &metrics.tcp.spliced[side],
        pipes: &metrics.tcp.pipes,
    };
    let (ahead, back) = (through(0), through(1));
    let (mut there, mut here) = (Way::default(), Way::default());
    // Moves so far, of both sides together and of the endpoint.
    let (mut moved, mut heard) = (0, 0);
    let mut told = false;
    let (mut times, look) = Times::new(timeouts);
    let mut look = pin!(look);
    poll_fn(|cx| {
        let before = moved + heard;
        let went = there.poll(cx, (&mut client, &mut socket), ahead, here.ended(), &mut moved);
        // The system tells of a break once: after it was told while writing, a read finds an end, which
        // must not be passed on as one.
        let came = match went {
            Poll::Ready(Err(_)) => Poll::Pending,
            _ => here.poll(cx, (&mut socket, &mut client), back, there.ended(), &mut heard),
        };
        if heard > 0 && !told {
            told = true;
            endpoint.succeeded();
        }
        let (by_client, by_endpoint) = (Outcome::Client, Outcome::Endpoint);
        let (end, error) = match (went, came) {
            (Poll::Ready(Err(Fault::From(error))), _) => (by_client, error),
            (Poll::Ready(Err(Fault::To(error))), _) | (_, Poll::Ready(Err(Fault::From(error)))) => {
                (by_endpoint, error)
            }
            (_, Poll::Ready(Err(Fault::To(error)))) => (by_client, error),
            _ if there.ended() && here.ended() => {
                if !told {
                    endpoint.succeeded();
                }
                return Poll::Ready(Ok(()));
            }
            _ => match times.poll(look.as_mut(), cx, moved + heard > before) {
                Poll::Ready(end) => (end, io::Error::new(io::ErrorKind::TimedOut, end.word())),
                Poll::Pending => return Poll::Pending,
            },
        };
        if end == Outcome::Endpoint && !told {
            endpoint.failed(Failure::Reset);
        }
        Poll::Ready(Err(Broken { end, error }))
    })
    .await
}

/// The idle time and the lifetime. No timer is set anew for what moves: a few times in an idle time is
/// looked whether anything did, so that it is over at most that much late.
struct Times {
    every: Duration,
    end: Option<Instant>,
    /// Looks in a row that found nothing moved.
    quiet: u32,
    moved: bool,
    waits: bool,
}

impl Times {
    /// Those of a connection that begins now, and when to look first.
    fn new(timeouts: &TcpTimeouts) -> (Self, Sleep) {
        let now = Instant::now();
        let end = timeouts.lifetime.and_then(|lifetime| now.checked_add(lifetime.0));
        let every = timeouts.idle.0 / LOOKS;
        let times = Self { every, end, quiet: 0, moved: false, waits: false };
        let look = sleep_until(times.next(now));
        (times, look)
    }

    fn next(&self, now: Instant) -> Instant {
        let look = now.checked_add(self.every).unwrap_or_else(|| now + FAR);
        self.end.map_or(look, |end| end.min(look))
    }

    /// Ready when one of them is over; `moved` says that something did just now.
    fn poll(
        &mut self,
        mut look: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
        moved: bool,
    ) -> Poll<Outcome> {
        self.moved |= moved;
        if moved && self.waits && !look.is_elapsed() {
            return Poll::Pending;
        }
        while look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.end.is_some_and(|end| end <= now) {
                return Poll::Ready(Outcome::Lifetime);
            }
            self.quiet = if self.moved { 0 } else { self.quiet + 1 };
            if self.quiet == LOOKS {
                return Poll::Ready(Outcome::Idle);
            }
            self.moved = false;
            look.as_mut().reset(self.next(now));
        }
        self.waits = true;
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Period;

    async fn over(timeouts: &TcpTimeouts, moves: &[u64]) -> (Outcome, Duration) {
        let began = Instant::now();
        let (mut times, look) = Times::new(timeouts);
        let mut look = pin!(look);
        for at in moves {
            let waits = poll_fn(|cx| Poll::Ready(times.poll(look.as_mut(), cx, false))).await;
            assert_eq!(waits, Poll::Pending);
            sleep_until(began + Duration::from_millis(*at)).await;
            let moved = poll_fn(|cx| Poll::Ready(times.poll(look.as_mut(), cx, true))).await;
            assert_eq!(moved, Poll::Pending, "{at}");
        }
        let end = poll_fn(|cx| times.poll(look.as_mut(), cx, false)).await;
        (end, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_time_is_never_over_early_and_at_most_a_quarter_late() {
        let idle = TcpTimeouts { idle: Period::from_secs(4), ..TcpTimeouts::default() };
        for moves in [&[][..], &[1], &[999], &[1001], &[500, 1500, 2500, 3500, 4500], &[3999, 7900]]
        {
            let (end, after) = over(&idle, moves).await;
            let last = Duration::from_millis(moves.last().copied().unwrap_or(0));
            let quiet = after.saturating_sub(last);
            assert_eq!(end, Outcome::Idle);
            assert!(quiet >= Duration::from_secs(4), "{moves:?}: {quiet:?}");
            assert!(quiet <= Duration::from_millis(5005), "{moves:?}: {quiet:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lifetime_is_over_whatever_moves() {
        let lifetime = Some(Period::from_secs(3));
        let timeouts = TcpTimeouts { lifetime, ..TcpTimeouts::default() };
        let (end, after) = over(&timeouts, &[500, 1500, 2500, 2990]).await;
        assert_eq!(end, Outcome::Lifetime);
        assert!(
            after >= Duration::from_secs(3) && after < Duration::from_millis(3010),
            "{after:?}"
        );
    }
}
