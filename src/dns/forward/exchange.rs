//! One question to one upstream, by UDP, and by TCP when that has to be.
//!
//! Each query has a socket of its own, whose port the kernel chooses at random, and a random id; the
//! socket takes datagrams of the upstream's address and port only. So nobody who does not see the
//! traffic can answer in the upstream's place (RFC 5452), and who tries again and again on one
//! socket only makes the question go by TCP.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::super::wire::rcode;
use super::key::Key;
use super::message::{Stored, Ttls, Worth, Wrong};
use super::metrics::Metrics;

/// Largest datagram that is taken: more than upstreams are asked for.
const DATAGRAM_MAX: usize = 4096;
/// Replies to other questions on one socket, after which it is not listened to any more.
const STRANGERS_MAX: u32 = 8;
/// No id is outstanding.
pub(super) const NO_ID: u32 = u32::MAX;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The network says so.
    #[error("{0}")]
    Network(#[from] io::Error),
    /// There is one that cannot be read.
    #[error("its reply cannot be read")]
    Garbled,
    /// It would be asked of ourselves.
    #[error("it is Portolan itself; name another in upstreams")]
    Ourselves,
}

/// What is asked, and what is needed for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) key: &'a Key,
    /// Whether the whole answer is wanted, however long.
    pub(super) whole: bool,
    pub(super) ttls: Ttls,
    /// Where we listen ourselves.
    pub(super) listen: &'a [SocketAddr],
    pub(super) metrics: &'a Metrics,
    /// The id that is outstanding, or [`NO_ID`].
    pub(super) outstanding: &'a AtomicU32,
}

impl Ask<'_> {
    /// What `upstream` says. Waits for as long as it takes: the caller sets the time.
    pub(super) async fn of(&self, upstream: SocketAddr) -> Result<Stored, Trouble> {
        let told = self.once(upstream, true).await;
        self.outstanding.store(NO_ID, Ordering::Relaxed);
        match told {
            // It may be that old that it does not know EDNS (RFC 6891 §7).
            Ok(told) if matches!(told.rcode, rcode::FORMERR | rcode::NOTIMP) => {
                let told = self.once(upstream, false).await;
                self.outstanding.store(NO_ID, Ordering::Relaxed);
                told
            }
            told => told,
        }
    }

    async fn once(&self, upstream: SocketAddr, edns: bool) -> Result<Stored, Trouble> {
        match self.by_udp(upstream, edns).await {
            Ok(Some(told)) if !self.whole || told.worth() != Worth::Truncated => Ok(told),
            Ok(_) => self.by_tcp(upstream, edns).await,
            // Perhaps only datagrams do not get there.
            Err(Trouble::Network(_)) if self.whole => self.by_tcp(upstream, edns).await,
            Err(trouble) => Err(trouble),
        }
    }

    fn query(&self, edns: bool) -> (u16, Vec<u8>) {
        let id = random_id();
        self.outstanding.store(id.into(), Ordering::Relaxed);
        (id, self.key.query(id, edns))
    }

    /// None: too many strangers answered.
    async fn by_udp(&self, upstream: SocketAddr, edns: bool) -> Result<Option<Stored>, Trouble> {
        let any: IpAddr = match upstream {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(upstream).await?;
        refuse_loop(upstream, socket.local_addr()?, self.listen)?;
        let (id, query) = self.query(edns);
        socket.send(&query).await?;
        let mut reply = vec![0; DATAGRAM_MAX];
        for _ in 0..STRANGERS_MAX {
            let length = socket.recv(&mut reply).await?;
            let message = reply.get(..length).unwrap_or_default();
            match Stored::read(message, self.key, id, self.ttls) {
                Ok(told) => return Ok(Some(told)),
                Err(Wrong::Garbled) => {
                    self.metrics.rejected_garbled.inc();
                    return Err(Trouble::Garbled);
                }
                Err(Wrong::Id) => self.metrics.rejected_id.inc(),
                Err(Wrong::Question) => self.metrics.rejected_question.inc(),
            }
        }
        self.metrics.rejected_many.inc();
        Ok(None)
    }

    async fn by_tcp(&self, upstream: SocketAddr, edns: bool) -> Result<Stored, Trouble> {
        let mut stream = TcpStream::connect(upstream).await?;
        refuse_loop(upstream, stream.local_addr()?, self.listen)?;
        let (id, query) = self.query(edns);
        stream.write_all(&super::super::tcp::framed(&query)).await?;
        let length = stream.read_u16().await?;
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await?;
        Stored::read(&reply, self.key, id, self.ttls).map_err(|wrong| {
            match wrong {
                Wrong::Id => self.metrics.rejected_id.inc(),
                Wrong::Question => self.metrics.rejected_question.inc(),
                Wrong::Garbled => self.metrics.rejected_garbled.inc(),
            }
            Trouble::Garbled
        })
    }
}

/// An upstream that has our own address, on a port that we listen on, is ourselves: the kernel
/// takes the same address for both ends.
fn refuse_loop(
    upstream: SocketAddr,
    local: SocketAddr,
    listen: &[SocketAddr],
) -> Result<(), Trouble> {
    let own = |addr: &SocketAddr| {
        addr.port() == upstream.port() && (addr.ip().is_unspecified() || addr.ip() == upstream.ip())
    };
    if local.ip() == upstream.ip() && listen.iter().any(own) {
        return Err(Trouble::Ourselves);
    }
    Ok(())
}

/// An id that cannot be guessed: the output of a keyed hash, whose key the system chose.
fn random_id() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_is_ourselves_is_refused() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (case, upstream, local, listen, ok) in [
            ("wildcard", "10.0.0.1:53", "10.0.0.1:4000", "0.0.0.0:53", false),
            ("other port", "10.0.0.1:53", "10.0.0.1:4000", "0.0.0.0:5300", true),
            ("other host", "10.0.0.2:53", "10.0.0.1:4000", "0.0.0.0:53", true),
            ("a server of its own", "127.0.0.1:53", "127.0.0.1:4000", "10.0.0.1:53", true),
        ] {
            let got = refuse_loop(addr(upstream), addr(local), &[addr(listen)]);
            assert_eq!(got.is_ok(), ok, "{case}");
        }
    }

    #[test]
    fn ids_are_spread_over_all_bits() {
        let (mut any, mut all) = (0, u16::MAX);
        for _ in 0..200 {
            let id = random_id();
            any |= id;
            all &= id;
        }
        assert_eq!((any, all), (u16::MAX, 0));
    }
}
