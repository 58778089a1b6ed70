//! Streams of events: to whom what is told, and how it goes over the wire.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::era::Era;
use super::events::{self, Said};
use super::fake::Shared;
use super::http::{Asked, chunk};

/// Head of a stream.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=utf-8\r\n\
    Cache-Control: no-cache\r\nServer: Jetty(9.3.z)\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The streams that are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Vec<Handle>,
    numbers: u64,
    /// When somebody who had listened was found to be gone.
    left: Vec<Instant>,
}

#[derive(Debug)]
struct Handle {
    number: u64,
    queue: mpsc::UnboundedSender<Bytes>,
    /// Only these kinds are wanted, or all.
    kinds: Option<HashSet<String>>,
    /// Plans are wanted without their groups.
    light: bool,
    /// Nothing comes by it any more but, perhaps, heartbeats.
    deaf: bool,
    /// Not even those.
    mute: Arc<AtomicBool>,
    /// Whether everything was read since it began: apps, and pods.
    read: (bool, bool),
}

impl Streams {
    /// Tells everybody; whether somebody heard of it who had read everything before.
    pub(super) fn send(&mut self, era: Era, plan: usize, said: &Said) -> bool {
        self.open.retain(|handle| !handle.queue.is_closed());
        let line = if era.has_instances() { "\r\n" } else { "\n" };
        let mut live = false;
        for handle in &self.open {
            let wanted = handle.kinds.as_ref().is_none_or(|kinds| kinds.contains(said.kind));
            if wanted && !handle.deaf {
                let _ = handle.queue.send(said.frame(line, handle.light, plan));
                live |= handle.read.0 && (handle.read.1 || !era.has_instances());
            }
        }
        live
    }

    /// Whether somebody was found to be gone in this time: what was told then may have reached nobody.
    pub(super) fn left_between(&self, from: Instant, to: Instant) -> bool {
        self.left.iter().any(|at| *at >= from && *at <= to)
    }

    /// They all end, behind what was told before.
    pub(super) fn end(&mut self) {
        self.open.clear();
    }

    pub(super) fn mute(&mut self, heartbeats: bool) {
        for handle in &mut self.open {
            handle.deaf = true;
            handle.mute.store(!heartbeats, Ordering::Relaxed);
        }
    }

    pub(super) fn hearing(&self) -> usize {
        self.open.iter().filter(|handle| !handle.deaf && !handle.queue.is_closed()).count()
    }

    /// The number of the stream that began last.
    pub(super) const fn newest(&self) -> u64 {
        self.numbers
    }

    /// The list of apps was read to its end, whose reading began when `newest` was the newest.
    pub(super) fn listed_apps(&mut self, newest: u64) {
        for handle in self.open.iter_mut().filter(|handle| handle.number <= newest) {
            handle.read.0 = true;
        }
    }

    /// The same of pods.
    pub(super) fn listed_pods(&mut self, newest: u64) {
        for handle in self.open.iter_mut().filter(|handle| handle.number <= newest) {
            handle.read.1 = true;
        }
    }
}

/// Accepts a wish for events and says nothing yet.
pub(super) async fn accept(stream: &mut TcpStream) -> Option<()> {
    stream.write_all(HEAD).await.ok()
}

/// Serves a stream until somebody ends it.
pub(super) async fn serve(
    stream: &mut TcpStream,
    shared: &Arc<Shared>,
    asked: &Asked,
) -> Option<()> {
    accept(stream).await?;
    let mute = Arc::new(AtomicBool::new(false));
    let (queue, mut queued) = mpsc::unbounded_channel();
    let heartbeat = {
        let mut model = shared.model.lock().unwrap();
        let (era, plan) = (model.world.era, model.script.plan);
        let kinds: HashSet<_> = asked.parameters("event_type").map(str::to_owned).collect();
        let light = asked.parameters("plan-format").any(|format| format == "light");
        model.streams.numbers += 1;
        let handle = Handle {
            number: model.streams.numbers,
            queue,
            // Before 1.3.7 nobody looks at it; light plans came with 1.7.
            kinds: (!kinds.is_empty() && era.has_instances()).then_some(kinds),
            light: light && era.has_networks(),
            deaf: false,
            mute: Arc::clone(&mute),
            read: (false, false),
        };
        model.streams.open.push(handle);
        // Everybody hears of a new stream, the new one too.
        model.streams.send(era, plan, &events::attached());
        model.script.heartbeat
    };
    let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + heartbeat, heartbeat);
    let telling = async {
        loop {
            tokio::select! {
                biased;
                frame = queued.recv() => match frame {
                    Some(frame) => chunk(stream, &frame).await?,
                    None => return Some(()),
                },
                () = gone(stream) => return None,
                _ = beats.tick() => if !mute.load(Ordering::Relaxed) {
                    // As its server does: first one byte, then the other.
                    chunk(stream, b"\r").await?;
                    chunk(stream, b"\n").await?;
                },
            }
        }
    };
    if telling.await.is_some() {
        // The last chunk: this stream has ended, and the connection with it.
        let _ = stream.write_all(b"0\r\n\r\n").await;
    } else {
        shared.model.lock().unwrap().streams.left.push(Instant::now());
    }
    None
}

/// Returns once the other side has closed.
pub(super) async fn gone(stream: &TcpStream) {
    // Who asks for more before the answer has come asks for trouble; nobody should.
    let read = stream.peek(&mut [0]).await;
    assert!(!matches!(read, Ok(1..)), "a second request before the first was answered");
}
