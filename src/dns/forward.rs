//! Names outside the zones: the query goes to an upstream as it came, the reply comes back as it
//! came. Only the id is another one on the way, random, from a socket of its own, so that nobody
//! who does not see the traffic can answer in the upstream's place (RFC 5452).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::edns::extended;
use super::metrics::Metrics;
use super::respond::{Transport, failure};
use super::settings::Settings;
use super::wire::{Header, Question, rcode, set16};

/// Largest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// Forwards queries. Cheap to clone; clones share the limit.
#[derive(Debug, Clone)]
pub struct Forwarder {
    in_flight: Arc<AtomicUsize>,
    metrics: Metrics,
}

impl Forwarder {
    /// A forwarder that counts in `metrics`.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { in_flight: Arc::default(), metrics }
    }

    /// The reply to `query`: of the first upstream that has one, else the last refusal, else
    /// SERVFAIL. Takes at most `timeout` per upstream. A TCP client's query goes by TCP.
    pub async fn forward(
        &self,
        settings: &Settings,
        query: &[u8],
        transport: Transport,
    ) -> Vec<u8> {
        let fail = |rcode, why| {
            let mut out = Vec::new();
            failure(query, rcode, why, &mut out);
            out
        };
        let Some(forward) = &settings.forward else { return fail(rcode::REFUSED, None) };
        let Some(question) = Question::read(query) else { return fail(rcode::FORMERR, None) };
        let Some(_place) = Place::take(&self.in_flight, forward.max_in_flight) else {
            self.metrics.forwards_refused.inc();
            return fail(rcode::SERVFAIL, None);
        };
        let mut last = None;
        for upstream in &forward.upstreams {
            let exchange = async {
                let id = random_id();
                let asked = Asked { query, question: &question, id };
                match transport {
                    Transport::Udp => by_udp(*upstream, &asked, &settings.listen).await,
                    Transport::Tcp => by_tcp(*upstream, &asked, &settings.listen).await,
                }
            };
            match timeout(forward.timeout, exchange).await {
                Ok(Ok(reply)) if is_final(&reply) => {
                    self.metrics.forwards_answered.inc();
                    return reply;
                }
                Ok(Ok(reply)) => last = Some(reply),
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "upstream failed"),
                Err(_) => tracing::debug!(%upstream, "upstream did not answer in time"),
            }
        }
        self.metrics.forwards_failed.inc();
        let nobody = Some(extended::NO_REACHABLE_AUTHORITY);
        last.unwrap_or_else(|| fail(rcode::SERVFAIL, nobody))
    }
}

/// One of the places for queries under way; free again when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(in_flight: &'a AtomicUsize, max: usize) -> Option<Self> {
        let place = Self(in_flight);
        (in_flight.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A query and the id that it has on its way.
struct Asked<'a> {
    query: &'a [u8],
    question: &'a Question,
    id: u16,
}

impl Asked<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.query.to_vec();
        set16(&mut bytes, 0, self.id);
        bytes
    }

    /// Whether `reply` belongs to this query; if so, id and question are the client's again.
    ///
    /// The question is compared without regard to case, for some upstreams lower it, and put back
    /// as the client spelled it.
    fn restore(&self, reply: &mut [u8]) -> bool {
        let ours = Header::read(reply).is_some_and(|header| {
            header.id == self.id && header.flags & Header::QR != 0 && header.counts[0] == 1
        });
        let question = super::wire::HEADER..self.question.end;
        let (Some(theirs), Some(asked), true) =
            (reply.get_mut(question.clone()), self.query.get(question), ours)
        else {
            return false;
        };
        if !theirs.eq_ignore_ascii_case(asked) {
            return false;
        }
        theirs.copy_from_slice(asked);
        reply[..2].copy_from_slice(&self.query[..2]);
        true
    }
}

async fn by_udp(
    upstream: SocketAddr,
    asked: &Asked<'_>,
    listen: &[SocketAddr],
) -> io::Result<Vec<u8>> {
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    refuse_loop(upstream, socket.local_addr()?, listen)?;
    socket.send(&asked.bytes()).await?;
    let mut reply = vec![0; DATAGRAM_MAX];
    loop {
        let length = socket.recv(&mut reply).await?;
        if asked.restore(&mut reply[..length]) {
            reply.truncate(length);
            reply.shrink_to_fit();
            return Ok(reply);
        }
    }
}

async fn by_tcp(
    upstream: SocketAddr,
    asked: &Asked<'_>,
    listen: &[SocketAddr],
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    refuse_loop(upstream, stream.local_addr()?, listen)?;
    let query = asked.bytes();
    let mut framed = Vec::with_capacity(query.len() + 2);
    framed.extend_from_slice(&(query.len() as u16).to_be_bytes());
    framed.extend_from_slice(&query);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    if !asked.restore(&mut reply) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is to another question"));
    }
    Ok(reply)
}

/// An upstream that has our own address, on a port that we listen on, is ourselves: the kernel
/// takes the same address for both ends.
fn refuse_loop(upstream: SocketAddr, local: SocketAddr, listen: &[SocketAddr]) -> io::Result<()> {
    let own = |addr: &SocketAddr| {
        addr.port() == upstream.port() && (addr.ip().is_unspecified() || addr.ip() == upstream.ip())
    };
    if local.ip() == upstream.ip() && listen.iter().any(own) {
        return Err(io::Error::other("the upstream is Portolan itself; name another in upstreams"));
    }
    Ok(())
}

/// Whether the next upstream could not say more.
fn is_final(reply: &[u8]) -> bool {
    Header::read(reply)
        .is_some_and(|header| matches!(header.flags & 0xf, rcode::NOERROR | rcode::NXDOMAIN))
}

/// An id that cannot be guessed: the output of a keyed hash, whose key the system chose.
fn random_id() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}

#[cfg(test)]
mod tests {
    use super::super::dialect::testing::settings;
    use super::*;

    fn query(id: u16) -> Vec<u8> {
        let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        set16(&mut query, 0, id);
        query.extend_from_slice(b"\x07ExAmPle\x03oRg\0\0\x01\0\x01");
        query
    }

    fn metrics() -> Metrics {
        Metrics::register(&prometheus::Registry::new()).unwrap()
    }

    #[tokio::test]
    async fn the_reply_has_the_clients_id_and_spelling_and_strangers_are_not_believed() {
        let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = upstream.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, peer) = upstream.recv_from(&mut buffer).await.unwrap();
            let mut reply = buffer[..length].to_ascii_lowercase();
            reply[..2].copy_from_slice(&buffer[..2]);
            reply[2] |= 0x80;
            let mut wrong_id = reply.clone();
            wrong_id[1] ^= 1;
            let mut wrong_name = reply.clone();
            wrong_name[13] = b'y';
            for message in [&wrong_id, &wrong_name, &reply] {
                upstream.send_to(message, peer).await.unwrap();
            }
            buffer[..2].to_vec()
        });
        let settings = settings(&format!("listen = []\n[forward]\nupstreams = [\"{addr}\"]"));
        let forwarder = Forwarder::new(metrics());
        let sent = query(0x1234);
        let reply = forwarder.forward(&settings, &sent, Transport::Udp).await;
        answering.await.unwrap();
        assert_eq!(reply[..2], sent[..2]);
        assert_eq!(reply[12..], sent[12..], "the spelling is not the client's");
        assert_eq!(forwarder.in_flight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_next_upstream_is_asked_and_when_all_fail_it_is_servfail() {
        // A port that was just closed: the kernel refuses at once.
        let closed = {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap()
        };
        let settings = settings(&format!(
            "listen = []\n[forward]\nupstreams = [\"{closed}\", \"{closed}\"]\ntimeout = \"300ms\""
        ));
        let forwarder = Forwarder::new(metrics());
        let reply = forwarder.forward(&settings, &query(7), Transport::Udp).await;
        assert_eq!(reply[3] & 0xf, rcode::SERVFAIL as u8);
        assert_eq!(reply[..2], [0, 7]);
        let reply = forwarder.forward(&settings, &query(7), Transport::Tcp).await;
        assert_eq!(reply[3] & 0xf, rcode::SERVFAIL as u8);
        assert_eq!(forwarder.metrics.forwards_failed.get(), 2);
    }

    #[tokio::test]
    async fn beyond_the_limit_of_queries_under_way_it_is_servfail_at_once() {
        let settings =
            settings("listen = []\n[forward]\nupstreams = [\"127.0.0.1:9\"]\nmax_in_flight = 1");
        let forwarder = Forwarder::new(metrics());
        let _taken = Place::take(&forwarder.in_flight, 1).unwrap();
        let reply = forwarder.forward(&settings, &query(7), Transport::Udp).await;
        assert_eq!(reply[3] & 0xf, rcode::SERVFAIL as u8);
        assert_eq!(forwarder.metrics.forwards_refused.get(), 1);
        assert_eq!(forwarder.in_flight.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_upstream_that_is_ourselves_is_refused() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (case, upstream, local, listen, ok) in [
            ("wildcard", "10.0.0.1:53", "10.0.0.1:4000", "0.0.0.0:53", false),
            ("other port", "10.0.0.1:53", "10.0.0.1:4000", "0.0.0.0:5300", true),
            ("other host", "10.0.0.2:53", "10.0.0.1:4000", "0.0.0.0:53", true),
            (
                "a server of its own on this host",
                "127.0.0.1:53",
                "127.0.0.1:4000",
                "10.0.0.1:53",
                true,
            ),
        ] {
            let got = refuse_loop(addr(upstream), addr(local), &[addr(listen)]);
            assert_eq!(got.is_ok(), ok, "{case}");
        }
    }
}
