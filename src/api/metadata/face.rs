//! One answer: the newest chart, what stands at a path of it, written once for all who ask the same.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use sha1::{Digest, Sha1};
use tokio::sync::{Semaphore, watch};

use super::chart::Chart;
use super::config::MetadataConfig;
use super::form::Form;
use super::look::{Look, versions};
use super::metrics::Metrics;
use super::node::{Node, Record};
use super::place::Sieve;
use super::request::{Request, Target};
use crate::catalog::Snapshot;
use crate::catalog::publish::Current;
use crate::lifecycle::Phases;
use crate::net::accept::{self, Connections};

/// Services and containers beyond which work on all of them is done aside.
const LARGE: usize = 500;
/// Pieces of such work at once.
const ASIDE: usize = 2;

/// The metadata API: everything that its connections share. Cheap to clone.
#[derive(Clone)]
pub struct Metadata(Arc<Face>);

/// What the metadata API is made from.
#[derive(Debug)]
pub struct Surroundings {
    /// The newest snapshot.
    pub current: Current<Snapshot>,
    /// Each snapshot, told after it is the newest one.
    pub published: watch::Receiver<Arc<Snapshot>>,
    /// The life of the process.
    pub phases: Phases,
    /// What the accept loops count.
    pub accept: accept::Metrics,
    /// What it counts itself.
    pub metrics: Metrics,
}

pub(super) struct Face {
    pub(super) around: Surroundings,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) connections: Arc<Connections>,
    polls: AtomicUsize,
    page: ArcSwapOption<Page>,
    /// Whoever holds it makes the next page.
    turn: tokio::sync::Mutex<()>,
    aside: Semaphore,
}

/// What the configuration says.
pub(super) struct Settings {
    pub(super) config: MetadataConfig,
    sieve: Arc<Sieve>,
}

/// The chart of a generation, and the answers that were written from it.
#[derive(Debug)]
struct Page {
    chart: Chart,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Key, Arc<Answer>>,
    bytes: usize,
}

/// What makes two questions the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    version: String,
    path: Vec<String>,
    form: Form,
    /// Set when the answer depends on who asks.
    client: Option<IpAddr>,
}

/// An answer, written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) generation: u64,
    /// Names the value with all of its parts: `ETag`, and something short for `value`.
    pub(super) tag: String,
    /// What a client calls the value when it knows it: as text, or as JSON when it has parts.
    known_as: Option<String>,
}

impl Answer {
    /// One that tells why there is none.
    pub(super) fn refusal(status: u16, generation: u64, body: String) -> Self {
        Self { status, body, generation, tag: String::new(), known_as: None }
    }

    /// Whether there is something else now than `value`: the value as text, or of what has parts
    /// its tag or JSON. What is not found, or not known, has not come yet.
    pub(super) fn is_news(&self, value: &str) -> bool {
        match (&self.known_as, self.status) {
            (_, 404 | 503) => false,
            (Some(known), _) if known == value => false,
            _ => self.tag.is_empty() || self.tag != value.trim_matches('"'),
        }
    }
}

/// Sixteen digits that stand for `text`.
fn tag(text: &str) -> String {
    let hash = Sha1::digest(text.as_bytes());
    let first = hash.iter().take(8).fold(0, |all: u64, byte| all << 8 | u64::from(*byte));
    format!("{first:016x}")
}

/// One poll that waits; dropping it counts it out.
pub(super) struct Waiting<'a>(&'a Face);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.polls.fetch_sub(1, Ordering::AcqRel);
        self.0.around.metrics.polls.dec();
    }
}

impl Settings {
    fn new(config: &MetadataConfig) -> Self {
        let environment = config.environment.as_str().into();
        let sieve = Sieve { registries: config.registries.clone(), environment };
        Self { config: config.clone(), sieve: Arc::new(sieve) }
    }
}

impl Metadata {
    /// The metadata API by `config`; it answers nobody before it is given a listener.
    #[must_use]
    pub fn new(config: &MetadataConfig, around: Surroundings) -> Self {
        Self(Arc::new(Face {
            around,
            settings: ArcSwap::from_pointee(Settings::new(config)),
            connections: Connections::new(config.connections),
            polls: AtomicUsize::new(0),
            page: ArcSwapOption::empty(),
            turn: tokio::sync::Mutex::new(()),
            aside: Semaphore::new(ASIDE),
        }))
    }

    /// From now on `config` counts, for connections that are open too.
    pub fn follow(&self, config: &MetadataConfig) {
        if self.0.settings.load().config == *config {
            return;
        }
        self.0.connections.set_max(config.connections);
        self.0.settings.store(Arc::new(Settings::new(config)));
    }

    pub(super) const fn face(&self) -> &Arc<Face> {
        &self.0
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metadata")
    }
}

impl Face {
    /// Counts a poll in, or `None` when as many wait as may.
    pub(super) fn wait(&self) -> Option<Waiting<'_>> {
        let before = self.polls.fetch_add(1, Ordering::AcqRel);
        self.around.metrics.polls.inc();
        let waiting = Waiting(self);
        // The drop of `waiting` counts it out again.
        (before < self.settings.load().config.polls).then_some(waiting)
    }

    /// Who asks: `peer`, or whom trusted proxies tell of.
    pub(super) fn client(&self, peer: IpAddr, request: &Request) -> IpAddr {
        let settings = self.settings.load();
        let trusted = |ip: IpAddr| {
            settings.config.trusted_proxies.iter().any(|network| network.contains(&ip))
        };
        let mut client = peer.to_canonical();
        let told = request.forwarded.as_deref().unwrap_or_default();
        for hop in told.rsplit(',') {
            let hop = hop.trim();
            if !trusted(client) || hop.is_empty() {
                break;
            }
            // Some proxies write ports too.
            let own = hop.parse::<IpAddr>().ok();
            let own = own.or_else(|| Some(hop.parse::<std::net::SocketAddr>().ok()?.ip()));
            let Some(ip) = own else { break };
            client = ip.to_canonical();
        }
        client
    }

    /// The answer to `client`, of the newest generation.
    pub(super) async fn answer(&self, target: &Target, form: Form, client: IpAddr) -> Arc<Answer> {
        let page = self.page().await;
        let own = Look::new(&page.chart, &target.version, client)
            .is_some_and(|look| look.is_own(&target.path));
        let key = Key {
            version: target.version.clone(),
            path: target.path.clone(),
            form,
            client: own.then_some(client),
        };
        if let Some(known) = page.kept().answers.get(&key) {
            return Arc::clone(known);
        }
        self.around.metrics.rendered.inc();
        let max = self.settings.load().config.response_max.0;
        let large = page.chart.containers() + page.chart.services() > LARGE;
        // The generation itself is there without a look at anything.
        let answer = if large && key.path.first().is_none_or(|first| first != "version") {
            let _turn = self.aside.acquire().await;
            if let Some(known) = page.kept().answers.get(&key) {
                return Arc::clone(known);
            }
            let (page, key) = (Arc::clone(&page), key.clone());
            let written =
                tokio::task::spawn_blocking(move || write(&page.chart, &key, client, max));
            written.await.unwrap_or_else(|error| {
                tracing::error!(%error, "an answer of the metadata API could not be written");
                Answer::refusal(500, 0, form.error(500, "The answer could not be written"))
            })
        } else {
            write(&page.chart, &key, client, max)
        };
        let answer = Arc::new(answer);
        page.keep(key, &answer, self.settings.load().config.cache, max);
        answer
    }

    /// The page of the newest snapshot. Whoever comes first makes it, the others wait for that.
    async fn page(&self) -> Arc<Page> {
        let snapshot = self.around.current.load();
        let sieve = Arc::clone(&self.settings.load().sieve);
        let fits = |page: &Arc<Page>| {
            let chart = &page.chart;
            chart.snapshot.generation >= snapshot.generation && Arc::ptr_eq(&chart.sieve, &sieve)
        };
        if let Some(page) = self.page.load_full().filter(&fits) {
            return page;
        }
        let _turn = self.turn.lock().await;
        let before = self.page.load_full();
        if let Some(page) = before.clone().filter(&fits) {
            return page;
        }
        let services = snapshot.services.len();
        let known = before.as_ref().map_or(0, |page| page.chart.services());
        let other_files = !snapshot.documents.is_empty()
            && before.as_ref().is_none_or(|page| !page.chart.snapshot.same_documents(&snapshot));
        let make = move || {
            let chart = Chart::next(before.as_ref().map(|page| &page.chart), &snapshot, &sieve);
            Arc::new(Page { chart, kept: Mutex::default() })
        };
        let page = if services.abs_diff(known) > LARGE || other_files {
            match tokio::task::spawn_blocking(make.clone()).await {
                Ok(page) => page,
                Err(_) => make(),
            }
        } else {
            make()
        };
        self.page.store(Some(Arc::clone(&page)));
        page
    }
}

impl Page {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: Key, answer: &Arc<Answer>, count: usize, bytes: u64) {
        let mut kept = self.kept();
        let size = answer.body.len() + key.path.iter().map(String::len).sum::<usize>();
        if kept.answers.len() < count && (kept.bytes + size) as u64 <= bytes {
            kept.bytes += size;
            kept.answers.insert(key, Arc::clone(answer));
        }
    }
}

/// Writes the answer to one question; pure.
fn write(chart: &Chart, key: &Key, client: IpAddr, max: u64) -> Answer {
    let (form, generation) = (key.form, chart.snapshot.generation);
    let error = |code, message| Answer::refusal(code, generation, form.error(code, message));
    let (look, node) = if key.version.is_empty() {
        let all = versions(chart);
        let links: Record =
            all.iter().map(|name| (Arc::clone(name), Node::text(&format!("/{name}")))).collect();
        let first = all.first().map(|name| &**name).unwrap_or_default();
        (Look::new(chart, first, client), Some(Node::table(links)))
    } else {
        let look = Look::new(chart, &key.version, client);
        let node = look.as_ref().and_then(|look| look.at(&key.path));
        (look, node)
    };
    let missing = |message| {
        if chart.lacks_a_registry() {
            error(503, "Not found, and not every registry was heard yet")
        } else {
            error(404, message)
        }
    };
    let Some(look) = look else { return missing("Invalid version") };
    let Some(node) = node else { return missing("Not found") };
    let Ok(body) = form.write(&look, &node, max) else {
        return error(500, "The answer is larger than [metadata] response_max");
    };
    // A listing tells the names of parts only: what is in them counts too.
    let deep = match (node.plain(), form) {
        (Some(plain), _) => Some(plain),
        (None, Form::Json) => None,
        (None, _) => Form::Json.write(&look, &node, max).ok(),
    };
    let tag = tag(deep.as_ref().unwrap_or(&body));
    let known_as = node.plain().or_else(|| (form == Form::Json).then(|| body.clone()));
    Answer { status: 200, body, generation, tag, known_as }
}
