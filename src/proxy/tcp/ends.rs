//! The two kinds of ends that bytes are carried between.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// One end of what is carried.
pub(super) trait End {
    /// Reads what is there, as far as `buffer` has room; 0 at the end.
    fn take(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of `bytes`.
    fn give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends what was given and not sent yet.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says that nothing more will be given. The other side may have closed both ways already: then
    /// there is nothing to say.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when the connection broke, while nobody reads from it; only sockets can tell.
    fn broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>;

    /// The socket, when what is sent is what is seen on the wire.
    fn socket(&self) -> Option<&TcpStream>;
}

/// A socket in the clear.
pub(super) struct Plain<'a> {
    tcp: &'a TcpStream,
    /// Waits for the socket to break; there since that was first asked.
    breaks: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
}

impl<'a> Plain<'a> {
    pub(super) const fn new(tcp: &'a TcpStream) -> Self {
        Self { tcp, breaks: None }
    }
}

impl End for Plain<'_> {
    fn take(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            // Less than there was room for: that was all, and no second call has to find that out.
            // What comes later is a new event.
            let mut some = None;
            let read = self.tcp.try_io(Interest::READABLE, || {
                let (read, _) = rustix::net::recv(self.tcp, &mut *buffer, RecvFlags::empty())?;
                if 0 < read && read < buffer.len() {
                    some = Some(read);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(read)
            });
            match (some, read) {
                (Some(read), _) | (None, Ok(read)) => return Poll::Ready(Ok(read)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            let mut some = None;
            let written = self.tcp.try_io(Interest::WRITABLE, || {
                let written = rustix::net::send(self.tcp, bytes, SendFlags::NOSIGNAL)?;
                if 0 < written && written < bytes.len() {
                    some = Some(written);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(written)
            });
            match (some, written) {
                (Some(written), _) | (None, Ok(written)) => return Poll::Ready(Ok(written)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, _: &mut Context<'_>) -> Poll<()> {
        let _ = socket2::SockRef::from(self.tcp).shutdown(Shutdown::Write);
        Poll::Ready(())
    }

    fn broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let tcp = self.tcp;
        let breaks = self.breaks.get_or_insert_with(|| {
            Box::pin(async move {
                // It ends early only with the runtime.
                let _ = tcp.ready(Interest::ERROR).await;
            })
        });
        ready!(breaks.as_mut().poll(cx));
        self.breaks = None;
        let error = tcp.take_error().ok().flatten();
        Poll::Ready(error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self.tcp)
    }
}

/// Anything that can be read and written, TLS for example.
pub(super) struct Mixed<'a, S>(pub(super) &'a mut S);

impl<S: AsyncRead + AsyncWrite + Unpin> End for Mixed<'_, S> {
    fn take(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut *self.0).poll_shutdown(cx).map(|_| ())
    }

    fn broken(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }

    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}
