//! A TLS connection behind a pair of sockets: the library that speaks HTTP keeps and finds its
//! connections by their descriptors, and takes no stream of ours. So it gets one end of the pair, and
//! a task here carries what passes between the other end and TLS.
//!
//! An endpoint that goes without saying goodbye (`close_notify`, RFC 8446 §6.1) may have been cut off
//! by somebody on the way: that is remembered, for an answer that ends with its connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::secure::{Secure, in_words};

/// What is carried at once in one direction: a whole record of TLS (RFC 8446 §5.1).
const PIECE: usize = 16 << 10;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// What is known of a bridge by those who use it.
#[derive(Debug)]
pub struct Bridge {
    tcp: RawFd,
    broken: AtomicBool,
}

impl Bridge {
    /// The socket to the endpoint, to look at; it is open as long as somebody else holds the bridge.
    #[must_use]
    pub const fn tcp(&self) -> RawFd {
        self.tcp
    }

    /// Whether the connection ended without a goodbye.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.broken.load(Relaxed)
    }
}

/// Puts `tls`, a connection to `endpoint`, behind a socket. It lives until either side closes.
///
/// # Errors
/// There are no descriptors left.
pub fn lay(
    tls: TlsStream<TcpStream>,
    secure: Arc<Secure>,
    endpoint: SocketAddr,
) -> io::Result<(UnixStream, Arc<Bridge>)> {
    let (ours, theirs) = UnixStream::pair()?;
    let bridge = Arc::new(Bridge { tcp: tls.get_ref().0.as_raw_fd(), broken: false.into() });
    let known = Arc::clone(&bridge);
    tokio::spawn(async move {
        let heard = || secure.succeeded(endpoint);
        if let End::Broken(error) = carry(tls, ours, &known, heard).await
            && error.kind() == io::ErrorKind::InvalidData
        {
            // With TLS 1.3 an endpoint may say only now that it does not like our certificate.
            secure.failed(endpoint, &in_words(&error));
        }
    });
    Ok((theirs, bridge))
}

/// Who ended it.
#[derive(Debug)]
enum End {
    /// The library.
    Near,
    /// The endpoint, with a goodbye.
    Far,
    /// The endpoint, or somebody on the way.
    Broken(io::Error),
}

async fn carry(
    mut tls: impl AsyncRead + AsyncWrite + Unpin,
    mut near: UnixStream,
    bridge: &Bridge,
    heard: impl FnOnce(),
) -> End {
    let (mut up, mut down) = (Piece::default(), Piece::default());
    let mut heard = Some(heard);
    let end = std::future::poll_fn(|cx| {
        let (near, far) = (&mut near, &mut tls);
        // What the endpoint said goes first: it may say why before it takes no more.
        let said = down.poll(far, near, cx);
        if down.carried
            && let Some(heard) = heard.take()
        {
            heard();
        }
        match said {
            Poll::Ready(Stopped::End) => return Poll::Ready(End::Far),
            Poll::Ready(Stopped::Reading(error)) => return Poll::Ready(End::Broken(error)),
            Poll::Ready(Stopped::Writing(_)) => return Poll::Ready(End::Near),
            Poll::Pending => {}
        }
        match up.poll(near, far, cx) {
            Poll::Ready(Stopped::End | Stopped::Reading(_)) => Poll::Ready(End::Near),
            Poll::Ready(Stopped::Writing(error)) => Poll::Ready(End::Broken(error)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    if matches!(end, End::Broken(_)) {
        bridge.broken.store(true, Relaxed);
    }
    drop(near);
    // The endpoint may be gone already; nobody waits for its answer.
    let _ = tokio::time::timeout(GOODBYE, tls.shutdown()).await;
    end
}

/// What is on its way in one direction.
#[derive(Debug, Default)]
struct Piece {
    /// Empty while nothing passes: a connection that rests holds no memory for it.
    bytes: Vec<u8>,
    sent: usize,
    unflushed: bool,
    /// Whether anything ever passed.
    carried: bool,
}

/// Why a direction has ended.
enum Stopped {
    End,
    Reading(io::Error),
    Writing(io::Error),
}

impl Piece {
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Stopped> {
        loop {
            while self.sent < self.bytes.len() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.bytes[self.sent..])) {
                    Ok(0) => return Poll::Ready(Stopped::Writing(io::ErrorKind::WriteZero.into())),
                    Ok(sent) => self.sent += sent,
                    Err(error) => return Poll::Ready(Stopped::Writing(error)),
                }
                self.unflushed = true;
            }
            self.sent = 0;
            self.bytes.resize(PIECE, 0);
            let mut room = ReadBuf::new(&mut self.bytes);
            let read = Pin::new(&mut *from).poll_read(cx, &mut room);
            let read = read.map_ok(|()| room.filled().len());
            self.bytes.truncate(if let Poll::Ready(Ok(read)) = &read { *read } else { 0 });
            match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(Stopped::End),
                Poll::Ready(Ok(_)) => self.carried = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Stopped::Reading(error)),
                Poll::Pending => {
                    self.bytes = Vec::new();
                    if self.unflushed {
                        if let Err(error) = ready!(Pin::new(&mut *to).poll_flush(cx)) {
                            return Poll::Ready(Stopped::Writing(error));
                        }
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn bridge() -> Bridge {
        Bridge { tcp: -1, broken: false.into() }
    }

    #[tokio::test]
    async fn all_that_is_said_arrives_on_the_other_side_in_both_directions() {
        let (far, mut endpoint) = tokio::io::duplex(100);
        let (ours, mut library) = UnixStream::pair().unwrap();
        let known = bridge();
        let said: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let library = async {
            let (mut read, mut write) = library.split();
            let mut got = vec![0; said.len()];
            let (sent, heard) = tokio::join!(write.write_all(&said), read.read_exact(&mut got));
            sent.and(heard).unwrap();
            assert_eq!(got, said);
            drop(library);
        };
        let endpoint = async {
            let (mut read, mut write) = tokio::io::split(&mut endpoint);
            let mut got = vec![0; said.len()];
            let (sent, heard) = tokio::join!(write.write_all(&said), read.read_exact(&mut got));
            sent.and(heard).unwrap();
            assert_eq!(got, said);
            assert_eq!(read.read(&mut got).await.unwrap(), 0, "the library has closed");
        };
        let (end, (), ()) = tokio::join!(carry(far, ours, &known, || ()), library, endpoint);
        assert!(matches!(end, End::Near) && !known.broken(), "{end:?}");
    }

    #[tokio::test]
    async fn what_an_endpoint_said_before_it_went_arrives_before_the_end() {
        let (far, mut endpoint) = tokio::io::duplex(100);
        let (ours, mut library) = UnixStream::pair().unwrap();
        let known = bridge();
        let endpoint = async move { endpoint.write_all(&[7; 300]).await.unwrap() };
        let mut got = Vec::new();
        let (end, (), read) =
            tokio::join!(carry(far, ours, &known, || ()), endpoint, library.read_to_end(&mut got));
        assert!(matches!(end, End::Far) && !known.broken(), "{end:?}");
        assert_eq!((read.unwrap(), got), (300, vec![7; 300]));
    }

    /// Breaks when it is read.
    struct Cut;

    impl AsyncRead for Cut {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    impl AsyncWrite for Cut {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_end_without_a_goodbye_is_remembered() {
        let (ours, mut library) = UnixStream::pair().unwrap();
        let known = bridge();
        let end = carry(Cut, ours, &known, || panic!("nothing was heard")).await;
        assert!(matches!(end, End::Broken(_)) && known.broken(), "{end:?}");
        assert_eq!(library.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
