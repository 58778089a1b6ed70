//! The way from the threads that note to the one that writes, and that one.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, Registry};

use super::output::Output;
use crate::proxy::config::{AccessLogConfig, LogTarget};
use crate::proxy::table::Settings;
use crate::telemetry::metrics::Register as _;

/// Lines are handed over in pieces of about this size.
pub(super) const PIECE: usize = 16 << 10;
/// Empty buffers that are kept to be used again.
const SPARE: usize = 64;
/// A buffer that grew beyond this is not kept.
const SPARE_SIZE: usize = 4 * PIECE;
/// How long the end of the process waits for a log that does not take its lines.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What the access log counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    written: IntCounter,
    full: IntCounter,
    failed: IntCounter,
    too_long: IntCounter,
}

impl Metrics {
    /// Registers the metrics of the access log.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let written =
            registry.counter("portolan_access_log_lines_total", "Lines that were written.")?;
        let dropped = registry.counter_vec(
            "portolan_access_log_dropped_total",
            "Lines that were not written: too many waited, writing failed, or it was longer \
             than a datagram may be.",
            &["reason"],
        )?;
        let dropped = |reason| dropped.with_label_values(&[reason]);
        let [full, failed, too_long] = ["full", "failed", "too_long"].map(dropped);
        Ok(Self { written, full, failed, too_long })
    }
}

/// A log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot open the access log {to}: {source}; name a file in a directory that this user may \
     write to"
)]
pub struct OpenError {
    /// Where it was to go.
    pub to: LogTarget,
    /// What the system said.
    pub source: io::Error,
}

/// The open logs of the process, each written to by one thread, however many listeners use it.
#[derive(Debug)]
pub struct Sinks {
    open: Mutex<HashMap<LogTarget, Weak<Sink>>>,
    metrics: Metrics,
}

impl Sinks {
    /// None is open yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { open: Mutex::default(), metrics }
    }

    /// Opens every log that `settings` want and that is not open yet; relative paths begin at
    /// `base_dir`. Logs that no settings want any more close by themselves.
    ///
    /// # Errors
    /// A file cannot be opened. Syslog is not asked: a daemon may come later.
    pub fn open(&self, settings: &Settings, base_dir: &Path) -> Result<(), OpenError> {
        for rule in settings.logs() {
            rule.opened(self.sink(rule.config(), base_dir)?);
        }
        Ok(())
    }

    fn sink(&self, config: &AccessLogConfig, base_dir: &Path) -> Result<Arc<Sink>, OpenError> {
        let to = match &config.to {
            LogTarget::File(path) => LogTarget::File(base_dir.join(path)),
            other => other.clone(),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, sink| sink.strong_count() > 0);
        if let Some(known) = open.get(&to).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let sink = Output::open(&to)
            .and_then(|output| Sink::start(output, config.buffer.0 as usize, &self.metrics))
            .map_err(|source| OpenError { to: to.clone(), source })?;
        open.insert(to, Arc::downgrade(&sink));
        Ok(sink)
    }

    fn all(&self) -> Vec<Arc<Sink>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().filter_map(Weak::upgrade).collect()
    }

    /// Files are opened anew by their names, from the next line on.
    pub fn reopen(&self) {
        for sink in self.all() {
            sink.reopen();
        }
    }

    /// Returns once everything that was handed over is written, or after two seconds. Blocks.
    pub fn finish(&self) {
        let deadline = Instant::now() + LAST_WAIT;
        for sink in self.all() {
            sink.finish(deadline);
        }
    }
}

/// One open log. When nobody holds it any more, its thread writes what waits, and ends.
#[derive(Debug)]
pub(super) struct Sink {
    writer: SyncSender<Message>,
    shared: Arc<Shared>,
    metrics: Metrics,
}

/// What both sides know.
#[derive(Debug)]
struct Shared {
    /// Bytes that wait to be written, and most of them.
    waiting: AtomicUsize,
    most: usize,
    spare: Mutex<Vec<Vec<u8>>>,
    reopen: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Lines(Vec<u8>, u64),
    /// Look at the flags.
    Wake,
    /// Say that everything before this is written.
    Done(SyncSender<()>),
}

impl Sink {
    /// Starts the thread that writes to `output`, before which at most `most` bytes wait.
    fn start(output: Output, most: usize, metrics: &Metrics) -> io::Result<Arc<Self>> {
        // Pieces are smaller than PIECE only when they are handed over for their age.
        let (writer, messages) = sync_channel((most / PIECE * 4).max(16));
        let shared = Arc::new(Shared {
            waiting: AtomicUsize::new(0),
            most,
            spare: Mutex::default(),
            reopen: AtomicBool::new(false),
        });
        let (theirs, counted) = (Arc::clone(&shared), metrics.clone());
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write(output, &messages, &theirs, &counted))?;
        Ok(Arc::new(Self { writer, shared, metrics: metrics.clone() }))
    }

    /// An empty buffer for lines. Never blocks.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let spare = self.shared.spare.try_lock().ok().and_then(|mut spare| spare.pop());
        spare.unwrap_or_else(|| Vec::with_capacity(PIECE + PIECE / 4))
    }

    /// Gives `lines` lines to the writer, or drops and counts them. Never blocks.
    pub(super) fn hand_over(&self, bytes: Vec<u8>, lines: u64) {
        if lines == 0 {
            return;
        }
        let size = bytes.len();
        let waiting = self.shared.waiting.fetch_add(size, Relaxed);
        let sent = if waiting + size > self.shared.most && waiting > 0 {
            Err(TrySendError::Full(Message::Wake))
        } else {
            self.writer.try_send(Message::Lines(bytes, lines))
        };
        if let Err(error) = sent {
            self.shared.waiting.fetch_sub(size, Relaxed);
            match error {
                TrySendError::Full(_) => self.metrics.full.inc_by(lines),
                TrySendError::Disconnected(_) => self.metrics.failed.inc_by(lines),
            }
        }
    }

    fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
        // A writer that has no room for this has work, and looks at the flag by itself.
        let _ = self.writer.try_send(Message::Wake);
    }

    fn finish(&self, deadline: Instant) {
        let (done, finished) = sync_channel(1);
        let writer = self.writer.clone();
        // One that takes nothing any more must not hold us up: another thread waits for it.
        let asking = thread::Builder::new().name("access-log-end".into());
        let asked = asking.spawn(move || writer.send(Message::Done(done)));
        if asked.is_ok() {
            // An error means that it does not take its lines: they are lost with the process.
            let _ = finished.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// Writes what comes until nobody is left to send it.
fn write(mut output: Output, messages: &Receiver<Message>, shared: &Shared, metrics: &Metrics) {
    let mut failing = false;
    while let Ok(message) = messages.recv() {
        if shared.reopen.swap(false, Relaxed) {
            output.reopen();
        }
        match message {
            Message::Wake => {}
            Message::Done(done) => {
                // Whoever asked may not wait any more.
                let _ = done.try_send(());
            }
            Message::Lines(mut bytes, lines) => {
                let failed = output.write(&bytes, lines);
                metrics.failed.inc_by(failed.lines);
                metrics.too_long.inc_by(failed.too_long);
                metrics.written.inc_by(lines - failed.lines - failed.too_long);
                match &failed.error {
                    Some(error) if !failing => {
                        let to = output.name();
                        tracing::warn!(to, %error, "the access log cannot be written; its lines are lost");
                    }
                    None if failing => {
                        tracing::info!(to = output.name(), "the access log is written again");
                    }
                    _ => {}
                }
                failing = failed.error.is_some();
                shared.waiting.fetch_sub(bytes.len(), Relaxed);
                if bytes.capacity() <= SPARE_SIZE {
                    bytes.clear();
                    let mut spare = shared.spare.lock().unwrap_or_else(PoisonError::into_inner);
                    if spare.len() < SPARE {
                        spare.push(bytes);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
