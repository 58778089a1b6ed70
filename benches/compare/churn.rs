//! What Portolan's memory does while its upstreams change and change.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::fleet::{self, INSTANCES, SERVICES};
use crate::machine::pause;
use crate::peer::Running;
use crate::probe;
use crate::trouble::{Doing, Trouble};

/// Looks at the memory, evenly over all changes.
const SAMPLES: u32 = 100;
/// Time for one version to be seen by everybody.
const SEEN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);
/// Pause of the client between two requests.
const REST: Duration = Duration::from_millis(1);
/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// One server's memory while its upstreams changed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Churn {
    pub(crate) peer: &'static str,
    /// Instances that were replaced.
    pub(crate) changes: u32,
    pub(crate) seconds: f64,
    /// Requests through all routes meanwhile, and those of them that failed.
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// Resident memory in bytes: the median over the second tenth of the changes, and over the last.
    pub(crate) warm: u64,
    pub(crate) last: u64,
    pub(crate) rss: Vec<u64>,
}

impl Churn {
    /// The last figure less the one after warming up, as a share of that.
    pub(crate) fn growth(&self) -> f64 {
        self.last as f64 / self.warm.max(1) as f64 - 1.0
    }
}

/// Replaces one instance of every service of `server` at once, again and again, each version once
/// the one before is published, until there were so many `changes`.
pub(crate) fn measure(server: &Running, changes: u32) -> Result<Churn, Trouble> {
    let versions = changes / SERVICES;
    let clients = Clients::start(server);
    let started = Instant::now();
    let mut rss = Vec::new();
    for version in 1..=versions {
        replace(server, version)?;
        if version % (versions / SAMPLES).max(1) == 0 {
            rss.push(server.memory().rss);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let (requests, errors) = clients.stop();
    let tenth = (rss.len() / 10).max(1);
    let over = |samples: &[u64]| {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    };
    Ok(Churn {
        peer: server.name,
        changes: versions * SERVICES,
        seconds,
        requests,
        errors,
        warm: over(rss.get(tenth..2 * tenth).unwrap_or(&rss)),
        last: over(&rss[rss.len() - tenth..]),
        rss,
    })
}

/// Writes a version and waits until the catalog tells of the instance that is new in its last
/// service: a version is published as a whole, in the generation that all faces answer from.
fn replace(server: &Running, version: u32) -> Result<(), Trouble> {
    let Some(admin) = server.admin else {
        let why = "it does not tell what it knows".into();
        return Err(Trouble::Load { generator: "the changes", why, output: server.name.into() });
    };
    let path = server.services();
    let next = path.with_extension("next");
    let port = server.origin.port();
    fs::write(&next, fleet::services(port, |_| version))
        .and_then(|()| fs::rename(&next, &path))
        .doing(|| format!("replace {}", path.display()))?;
    let nth = (version - 1) % INSTANCES;
    let new = format!("\"{}:{port}\"", fleet::address(SERVICES - 1, nth, version));
    let question = format!("/v1/services/{}", fleet::name(SERVICES - 1));
    let written = Instant::now();
    loop {
        let page = probe::page(admin, &question);
        if page.as_ref().is_ok_and(|page| page.contains(&new)) {
            return Ok(());
        }
        if written.elapsed() > SEEN {
            let why = format!("{new} is not there after {} s", SEEN.as_secs());
            let output = page.unwrap_or_else(|error| error.to_string());
            return Err(Trouble::Load { generator: "the changes", why, output });
        }
        pause(LOOK);
    }
}

/// A client that asks for each service in turn.
#[derive(Debug)]
struct Clients {
    stop: Arc<AtomicBool>,
    /// Requests, and those that failed.
    counts: Arc<[AtomicU64; 2]>,
    thread: JoinHandle<()>,
}

impl Clients {
    fn start(server: &Running) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let (address, stopped, counted) = (server.address, Arc::clone(&stop), Arc::clone(&counts));
        let thread = thread::spawn(move || {
            let mut stream = None;
            for service in (0..SERVICES).cycle() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut open = match stream.take() {
                    Some(open) => Ok(open),
                    None => probe::connect(address, ANSWER),
                };
                let answer = open.as_mut().map_err(|_| ()).and_then(|stream| {
                    let path = fleet::path(service);
                    probe::ask(stream, &fleet::host(service), &path).map_err(|_| ())
                });
                counted[0].fetch_add(1, Ordering::Relaxed);
                if answer == Ok(200) {
                    stream = open.ok();
                } else {
                    counted[1].fetch_add(1, Ordering::Relaxed);
                }
                pause(REST);
            }
        });
        Self { stop, counts, thread }
    }

    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        // One that is gone shows by its counts.
        let _ = self.thread.join();
        (self.counts[0].load(Ordering::Relaxed), self.counts[1].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_a_share_of_what_there_was_after_warming_up() {
        let churn = |warm, last| Churn {
            peer: "portolan",
            changes: 1,
            seconds: 1.0,
            requests: 1,
            errors: 0,
            warm,
            last,
            rss: Vec::new(),
        };
        assert!((churn(100, 104).growth() - 0.04).abs() < 1e-9);
        assert!(churn(100, 90).growth() < 0.0);
    }
}
