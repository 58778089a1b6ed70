//! How fast a client sends its body, and takes its answer.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora_core::protocols::l4::ext::get_tcp_info;
use tokio::io::{AsyncRead, ReadBuf};

use super::{Carrier, Remaining};
use crate::proxy::http::broken::Broken;
use crate::proxy::http::slow::Watch;

impl Carrier {
    /// The client does not take what there is for it: ready when it is too slow.
    pub(super) fn poll_reader(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.terms.send.rate == 0 {
            return Poll::Pending;
        }
        let socket = self.stream.tcp().as_raw_fd();
        // What the client's kernel has taken: ours may hold megabytes, and says so only now and then.
        let taken = || get_tcp_info(socket).map_or(u64::MAX, |info| info.tcpi_bytes_acked);
        let least = self.terms.send;
        let watch = self.reader.get_or_insert_with(|| Box::new(Watch::new(least, taken())));
        watch.poll_waits(cx, taken)
    }

    /// Closes without waiting for what the client has not taken.
    pub(super) fn give_up(&self) -> io::Error {
        // It may be closed already; then there is nothing to give up.
        let socket = socket2::SockRef::from(self.stream.tcp());
        let _ = socket.set_linger(Some(std::time::Duration::ZERO));
        Broken::SlowReader.into()
    }

    /// Reads of the body, or of a tunnel.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, out);
        if read.is_ready() {
            self.expects = false;
            self.came += (out.filled().len() - before) as u64;
            if let Some(watch) = &mut self.body {
                watch.moves();
            }
            return read;
        }
        let (least, came) = (self.terms.body, self.came);
        let waits = !self.expects && least.rate > 0 && !matches!(self.request, Remaining::All);
        if !waits {
            return Poll::Pending;
        }
        let watch = self.body.get_or_insert_with(|| Box::new(Watch::new(least, came)));
        ready!(watch.poll_waits(cx, || came));
        Poll::Ready(Err(Broken::SlowBody.into()))
    }
}
