//! Questions to a Marathon over HTTP, with its redirects. Credentials go to configured nodes and to
//! the leader that one of them names, and to nobody else.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use http::{Method, StatusCode};

use super::config::MarathonConfig;
use super::credentials::Credentials;
use super::nodes::{Trust, named_origin, target};
use crate::net::http::{Client, HttpError, Origin, Request, Settings, Stream};
use crate::net::tls::TlsFiles;

/// Longest answer of `/v2/leader`, and longest part of an error's body that is repeated.
pub(super) const LEADER_MAX: u64 = 4 << 10;
const TOLD_MAX: usize = 200;
/// Least time for a read of everything.
const SNAPSHOT_MIN: Duration = Duration::from_millis(100);
/// Most clients that are kept: nodes that were configured and leaders that were named.
const CLIENTS_MAX: usize = 32;

/// Why there is no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: Arc<str>,
    /// What the node answered, if it did.
    pub(super) status: Option<StatusCode>,
    /// The leader that this answer named, or one on the way; from trusted nodes only.
    pub(super) leader: Option<Arc<str>>,
}

impl Failure {
    /// One without an answer that says anything.
    pub(super) fn new(why: impl Into<Arc<str>>) -> Self {
        Self { why: why.into(), status: None, leader: None }
    }
}

/// The head of an answer, and who gave it.
pub(super) struct Answer {
    /// The node that answered, behind all redirects.
    pub(super) origin: Origin,
    pub(super) stream: Stream,
    /// The leader that it, or a node on the way, named; from trusted nodes only.
    pub(super) leader: Option<Arc<str>>,
    /// Who may see the credentials, those learnt on the way included.
    pub(super) trust: Trust,
}

/// Limits of one question.
pub(super) struct Limits {
    /// For its head.
    pub(super) head: Duration,
    /// Longest silence in its body.
    pub(super) silence: Duration,
    /// What is to be answered.
    pub(super) accept: &'static str,
}

/// Speaks to the nodes of one Marathon.
pub(super) struct Rest {
    credentials: Credentials,
    settings: Settings,
    clients: Mutex<Vec<Client>>,
    redirects: u8,
    pub(super) timeout: Duration,
    pub(super) idle: Duration,
    /// For a read of everything.
    pub(super) snapshot: Duration,
    pub(super) app_max: u64,
    pub(super) listing_max: u64,
    requests: AtomicU64,
}

impl Rest {
    pub(super) fn new(config: &MarathonConfig, base_dir: &Path) -> Self {
        let settings = Settings {
            tls: TlsFiles {
                ca_file: config.ca_file.clone(),
                cert_file: config.cert_file.clone(),
                key_file: config.key_file.clone(),
                unverified: !config.verify,
                only_13: false,
            }
            .below(base_dir),
            server_name: config.server_name.clone(),
            connect_timeout: config.timeout.0.min(Duration::from_secs(5)),
            // The stream, a listing, a question for the leader, and apps.
            connections_max: config.in_flight.max(1) + 3,
            ..Settings::default()
        };
        Self {
            credentials: Credentials::new(config, base_dir),
            settings,
            clients: Mutex::new(Vec::new()),
            redirects: config.redirects,
            timeout: config.timeout.0,
            idle: config.idle.0,
            snapshot: config.snapshot_timeout.0.max(SNAPSHOT_MIN),
            app_max: config.app_max.0,
            listing_max: config.listing_max.0,
            requests: AtomicU64::new(0),
        }
    }

    /// Questions so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Forgets the connections to `origin`: they led to what is gone.
    pub(super) fn forget(&self, origin: &Origin) {
        self.clients().retain(|client| client.origin() != origin);
    }

    /// Asks `node`, and follows where it sends us.
    pub(super) async fn ask(
        &self,
        node: &Origin,
        path: String,
        mut trust: Trust,
        limits: &Limits,
    ) -> Result<Answer, Failure> {
        let (mut origin, mut path) = (node.clone(), path);
        let mut leader = None;
        for _ in 0..=self.redirects {
            let trusted = trust.covers(&origin);
            let stream = self.open(&origin, &path, trusted, limits).await?;
            if trusted {
                leader = named(&stream.headers).or(leader);
            }
            if !stream.status.is_redirection() {
                return Ok(Answer { origin, stream, leader, trust });
            }
            let location = stream.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            let Some((to, next)) = location.and_then(|location| target(&origin, location)) else {
                let why = format!("{origin}: a redirect that leads nowhere");
                return Err(Failure { status: Some(stream.status), leader, ..Failure::new(why) });
            };
            if trusted && !trust.covers(&to) {
                if leader.is_none() {
                    leader = self.leader(&origin).await;
                }
                let leads = leader.as_deref().and_then(|name| named_origin(name, to.tls()));
                if leads.is_some_and(|leads| leads == to) {
                    trust = trust.with(to.clone());
                }
            }
            (origin, path) = (to, next);
        }
        let why = format!("{node}: more than {} redirects; see `redirects`", self.redirects);
        Err(Failure { leader, ..Failure::new(why) })
    }

    /// The head of one answer. `trusted`: with the credentials.
    pub(super) async fn open(
        &self,
        origin: &Origin,
        path: &str,
        trusted: bool,
        limits: &Limits,
    ) -> Result<Stream, Failure> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut request = Request {
            method: Method::GET,
            head_within: limits.head,
            silence_max: limits.silence,
            headers: vec![(ACCEPT, HeaderValue::from_static(limits.accept))],
            ..Request::get(path)
        };
        if trusted {
            let header = self.credentials.header().await;
            let header = header.map_err(Failure::new)?;
            request.headers.extend(header.map(|header| (AUTHORIZATION, header)));
        }
        let client = self.client(origin);
        client.open(&request).await.map_err(|error| failed(origin, &error))
    }

    /// The answer, if it is one: 200.
    pub(super) async fn accepted(&self, answer: Answer) -> Result<Answer, Failure> {
        let status = answer.stream.status;
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let Answer { origin, mut stream, trust, leader } = answer;
        let help = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.credentials.refused();
                if self.credentials.any() && !trust.covers(&origin) {
                    "; it is no configured node and not the leader that one names, so it was told \
                     no credentials: add it to `urls`"
                } else {
                    "; check `username` and `password_file`, or `token_file`"
                }
            }
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
                "; it knows no leader now, or cannot reach it"
            }
            StatusCode::NOT_FOUND => "; is that a Marathon?",
            _ => "",
        };
        // What it says is of use, but not worth waiting for.
        let body = whole(&origin, &mut stream, LEADER_MAX);
        let body = tokio::time::timeout(Duration::from_secs(1), body).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        let said = String::from_utf8_lossy(&body[..body.len().min(TOLD_MAX)]);
        let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let why = format!("{origin}: {} {}{help}", status.as_u16(), said.trim());
        Err(Failure { status: Some(status), leader, ..Failure::new(why) })
    }

    fn client(&self, origin: &Origin) -> Client {
        let mut clients = self.clients();
        if let Some(client) = clients.iter().find(|client| client.origin() == origin) {
            return client.clone();
        }
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        let client = Client::new(origin.clone(), self.settings.clone());
        clients.push(client.clone());
        client
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of a body may still come.
pub(super) struct Room {
    max: u64,
    left: u64,
}

impl Room {
    pub(super) const fn new(max: u64) -> Self {
        Self { max, left: max }
    }

    /// The next bytes of a body; None at its end.
    pub(super) async fn chunk(
        &mut self,
        origin: &Origin,
        stream: &mut Stream,
    ) -> Result<Option<Bytes>, Failure> {
        let next = stream.next().await.map_err(|error| failed(origin, &error))?;
        let Some(chunk) = next else { return Ok(None) };
        let left = self.left.checked_sub(chunk.len() as u64);
        self.left = left.ok_or_else(|| failed(origin, &HttpError::TooLarge(self.max)))?;
        Ok(Some(chunk))
    }
}

/// A body to its end.
pub(super) async fn whole(
    origin: &Origin,
    stream: &mut Stream,
    max: u64,
) -> Result<BytesMut, Failure> {
    let (mut all, mut room) = (BytesMut::new(), Room::new(max));
    while let Some(chunk) = room.chunk(origin, stream).await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

pub(super) fn failed(origin: &Origin, error: &HttpError) -> Failure {
    Failure::new(format!("{origin}: {error}"))
}

/// The leader that an answer names.
fn named(headers: &HeaderMap) -> Option<Arc<str>> {
    let leader = headers.get("x-marathon-leader")?.to_str().ok()?.trim();
    (!leader.is_empty()).then(|| leader.into())
}
