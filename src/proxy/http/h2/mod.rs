//! HTTP/2 from clients (RFC 9113): one connection, and its streams, each a request of its own.
//!
//! The library speaks the protocol; here is who is let in, what one connection may cost, and how it
//! ends. What becomes of a request is decided and carried as those of HTTP/1.1 are.

mod check;
mod frames;
pub mod grpc;
pub mod incoming;
pub mod reply;
mod wire;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::came::Came;
use super::carrier::Carrier;
use super::connection::{HttpService, Rules, rules};
use super::exchange::Arrival;
use super::story;
use crate::lifecycle::{Phase, Phases};
use crate::proxy::clock;
use crate::proxy::cut::{Kind, unless_cut};
use crate::proxy::limit::bandwidth::Pace;
use frames::{Flood, PREFACE};
use incoming::Incoming;
use reply::Reply;
use wire::{Meter, Wire};

/// Unread bytes of one stream, and of all streams of a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer that wait for the socket, per stream.
const SEND_BUFFER: usize = 64 << 10;
/// A head that is beyond the listener's limit by less than this is answered and counted here;
/// beyond that, the library answers 431, and hangs up on what is four times as large.
const HEAD_SLACK: usize = 16 << 10;
/// Streams that we may have to reset for what the client did wrong, in the life of a connection.
const ERRORS_MAX: usize = 128;
/// How long a connection takes to end after its last word.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long a client may be silent about a GOAWAY before it gets the last one.
const GRACE: Duration = Duration::from_secs(1);

/// Reads on while what came may be the preface (RFC 9113 §3.4); true when it is. It stays unread.
pub(super) async fn is_preface(carrier: &mut Carrier, deadline: Instant) -> bool {
    loop {
        let known = carrier.unread().len().min(PREFACE.len());
        if carrier.unread()[..known] != PREFACE[..known] {
            return false;
        }
        if known == PREFACE.len() {
            return true;
        }
        if !matches!(timeout_at(deadline, carrier.read_more()).await, Ok(Ok(1..))) {
            return false;
        }
    }
}

/// What happened on a connection.
#[allow(clippy::large_enum_variant, reason = "it is made once and matched at once")]
enum Event {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    /// A stream's task has ended.
    Ended,
    Flood(Flood),
    Drain,
    /// No stream has run for a while.
    Quiet,
    /// The connection has ended, or broke.
    Over(Option<h2::Error>),
}

/// How a connection stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    /// The client was told to open no more streams.
    Draining,
    /// The last word was said.
    Closing,
}

/// Serves the streams of one connection until either side closes it, none has run for too long, or
/// the process drains and the last one has ended.
pub(super) async fn serve(service: Arc<HttpService>, carrier: Carrier, mut phases: Phases) {
    let Some(begin) = rules(&service) else { return };
    let (peer, tls) = (carrier.peer(), carrier.tls().cloned());
    let (secure, server) = (carrier.is_tls(), carrier.tcp().local_addr().ok());
    let meter = Arc::new(Meter::default());
    let wire = Wire::new(carrier, Arc::clone(&meter));
    let handshake = options(&begin).handshake(wire);
    let handshake = tokio::select! {
        biased;
        done = timeout(begin.request_head, handshake) => done,
        () = phases.reached(Phase::Draining) => return,
    };
    let Ok(Ok(mut connection)) = handshake else { return };
    let mut streams = JoinSet::new();
    let mut standing = Standing::Open;
    let (mut quiet_since, mut patience) = (Instant::now(), begin.idle);
    let mut clock = Box::pin(sleep_until(quiet_since + patience));
    loop {
        let event = tokio::select! {
            biased;
            _ = streams.join_next(), if !streams.is_empty() => Event::Ended,
            event = next(&mut connection, &meter, standing == Standing::Closing) => event,
            () = phases.reached(Phase::Replaced), if standing == Standing::Open => Event::Drain,
            () = &mut clock, if streams.is_empty() || standing == Standing::Closing => Event::Quiet,
        };
        match event {
            Event::Request(request, mut respond) => {
                if let Some(now) = rules(&service) {
                    patience = if standing == Standing::Open { now.idle } else { patience };
                    let arrival = Arrival {
                        service: Arc::clone(&service),
                        peer,
                        server,
                        received: clock::micros(),
                        pace: Pace::default(),
                        secure,
                        head: Came::Nothing,
                        tls: tls.clone(),
                    };
                    streams.spawn(carry(request, respond, arrival, now));
                    continue;
                }
                // A reload took the listener away: the client may ask elsewhere.
                respond.send_reset(Reason::REFUSED_STREAM);
                if standing == Standing::Open {
                    connection.graceful_shutdown();
                    standing = Standing::Draining;
                    patience = GRACE;
                }
            }
            Event::Ended => quiet_since = Instant::now(),
            Event::Drain => {
                connection.graceful_shutdown();
                standing = Standing::Draining;
                (quiet_since, patience) = (Instant::now(), GRACE);
                clock.as_mut().reset(quiet_since + patience);
            }
            Event::Flood(flood) => {
                service.metrics.h2_closed(flood.word());
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                standing = Standing::Closing;
                clock.as_mut().reset(Instant::now() + FAREWELL);
            }
            Event::Quiet if standing == Standing::Closing => break,
            Event::Quiet if Instant::now() < quiet_since + patience => {
                clock.as_mut().reset(quiet_since + patience);
            }
            Event::Quiet => {
                connection.abrupt_shutdown(Reason::NO_ERROR);
                standing = Standing::Closing;
                clock.as_mut().reset(Instant::now() + FAREWELL);
            }
            Event::Over(error) => {
                let error = error.filter(|error| error.is_library() && error.is_go_away());
                match error.and_then(|error| error.reason()) {
                    Some(Reason::ENHANCE_YOUR_CALM) => service.metrics.h2_closed("calm"),
                    Some(_) => service.metrics.h2_closed("protocol"),
                    None => {}
                }
                break;
            }
        }
    }
    // What is left of the streams sees that the connection is gone, and ends.
    drop(connection);
    while streams.join_next().await.is_some() {}
}

async fn next(connection: &mut Connection<Wire, Bytes>, meter: &Meter, closing: bool) -> Event {
    poll_fn(|cx| match connection.poll_accept(cx) {
        Poll::Ready(Some(Ok((request, respond)))) => Poll::Ready(Event::Request(request, respond)),
        Poll::Ready(Some(Err(error))) => Poll::Ready(Event::Over(Some(error))),
        Poll::Ready(None) => Poll::Ready(Event::Over(None)),
        Poll::Pending => match meter.flood() {
            Some(flood) if !closing => Poll::Ready(Event::Flood(flood)),
            _ => Poll::Pending,
        },
    })
    .await
}

/// Every limit that the library knows is set here, whatever its defaults are.
fn options(rules: &Rules) -> Builder {
    let mut options = Builder::new();
    options
        .max_header_list_size((rules.limits.head_max + HEAD_SLACK) as u32)
        .max_concurrent_streams(u32::from(rules.streams_max))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_frame_size(16 << 10)
        .header_table_size(4096)
        .max_concurrent_reset_streams(50)
        .reset_stream_duration(Duration::from_secs(1))
        .max_pending_accept_reset_streams(usize::from(rules.streams_max).max(20))
        .max_local_error_reset_streams(Some(ERRORS_MAX));
    options
}

/// Carries one request, or refuses it.
async fn carry(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    mut arrival: Arrival,
    rules: Rules,
) {
    let (mut head, body) = request.into_parts();
    if rules.logged {
        arrival.head = Came::parts(&head);
    }
    let mut reply = Reply::new(respond, arrival.pace.clone());
    let _running = Running::begin(&arrival.service);
    let began = Instant::now();
    if let Err(refusal) = check::check(&head, rules.limits) {
        let line = format!("{} {} HTTP/2.0\r\n", head.method, head.uri.path());
        reply.refuse(refusal, grpc::asks(&head.headers));
        return story::tell_refused(
            &arrival.service,
            arrival.peer.ip(),
            line.as_bytes(),
            refusal,
            began,
        );
    }
    check::settle(&mut head);
    let service = Arc::clone(&arrival.service);
    let carried = service.lane.carry_h2(head, Incoming::new(body), reply, arrival);
    if let Err(reason) = Box::pin(unless_cut(Kind::Request, None, carried)).await {
        service.metrics.cut(reason);
    }
}

/// A stream that runs; dropping it counts it out.
struct Running(Arc<HttpService>);

impl Running {
    fn begin(service: &Arc<HttpService>) -> Self {
        service.metrics.h2_streams.inc();
        Self(Arc::clone(service))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.metrics.h2_streams.dec();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::stream::Stream;

    #[tokio::test]
    async fn a_preface_is_known_as_a_whole_however_it_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (sent, first, known) in [
            (&PREFACE[..], 1, true),
            (&PREFACE[..], 23, true),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 10, false),
            (b"PROPFIND / HTTP/1.1\r\n\r\n", 2, false),
            (&PREFACE[..23], 5, false),
        ] {
            let mut client = TcpStream::connect(address).await.unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            let mut carrier = Carrier::new(Stream::Plain(stream), peer);
            client.write_all(&sent[..first]).await.unwrap();
            assert_eq!(carrier.read_more().await.unwrap(), first);
            let rest = async {
                client.write_all(&sent[first..]).await.unwrap();
                client.shutdown().await.unwrap();
            };
            let deadline = Instant::now() + Duration::from_secs(30);
            let ((), told) = tokio::join!(rest, is_preface(&mut carrier, deadline));
            assert_eq!(told, known, "{first} of {sent:?} first");
            assert!(sent.starts_with(carrier.unread()), "it stays unread");
        }
    }
}
