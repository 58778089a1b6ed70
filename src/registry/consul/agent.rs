//! Questions to Consul's agents over HTTP: one is asked until it cannot be reached, then the next.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};

use super::blocking::{Consistency, Query, Told, Watch};
use super::config::ConsulConfig;
use crate::registry::secret::Secret;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::net::http::{Client, HttpError, Reply, Request, Settings, escaped};
use crate::net::tls::TlsFiles;

/// Pause after "too many requests" when the agent names none, and the longest that it may name.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Longest part of an error's body that is repeated.
const TOLD_MAX: usize = 200;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    /// The names of all services.
    Names,
    /// The instances of one service.
    Service(Arc<str>),
    /// The keys below a prefix.
    Keys(Arc<str>),
    /// All nodes.
    Nodes,
}

impl Target {
    fn path(&self) -> String {
        match self {
            Self::Names => "/v1/catalog/services?".into(),
            Self::Nodes => "/v1/catalog/nodes?".into(),
            Self::Service(name) => format!("/v1/health/service/{}?", escaped(name)),
            Self::Keys(prefix) => {
                let parts: Vec<String> = prefix.split('/').map(escaped).collect();
                format!("/v1/kv/{}?recurse&", parts.join("/"))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names => f.write_str("list of services"),
            Self::Nodes => f.write_str("list of nodes"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Keys(prefix) => write!(f, "keys {prefix:?}"),
        }
    }
}

/// Why there is no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) why: Arc<str>,
    /// How long not to ask again.
    pub(super) pause: Option<Duration>,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The way to the agent, or the agent as a whole.
    Connection,
    /// The token.
    Forbidden,
    /// Too many questions.
    Busy,
    /// The agent answers, with an error or with nothing that can be read.
    Answer,
}

impl Failure {
    pub(super) fn answer(why: impl Into<Arc<str>>) -> Self {
        Self { kind: Kind::Answer, why: why.into(), pause: None }
    }
}

/// The agents of one registry.
pub(super) struct Agents {
    clients: Vec<Client>,
    current: AtomicUsize,
    token: ArcSwapOption<HeaderValue>,
    /// User name and password, as they are sent.
    login: Option<HeaderValue>,
    /// Datacenter and the like, as every query ends.
    scope: String,
    timeout: Duration,
    silence_max: Duration,
    body_max: u64,
    requests: AtomicU64,
}

impl Agents {
    /// `broken` is told of connections that agents ended while nothing was under way.
    pub(super) fn new(
        config: &ConsulConfig,
        base_dir: &Path,
        broken: watch::Sender<Option<Instant>>,
    ) -> Self {
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
            connections_max: config.max_watches.max(4),
            broken,
        };
        let client = |origin| Client::new(origin, settings.clone());
        let mut scope = String::new();
        for (key, value) in [
            ("dc", &config.datacenter),
            ("ns", &config.namespace),
            ("partition", &config.partition),
        ] {
            if let Some(value) = value {
                _ = write!(scope, "&{key}={}", escaped(value));
            }
        }
        Self {
            clients: config.agents().into_iter().map(client).collect(),
            current: AtomicUsize::new(0),
            token: ArcSwapOption::empty(),
            login: login(config),
            scope,
            timeout: config.timeout.0,
            silence_max: config.heartbeat.0,
            body_max: config.max_body.0,
            requests: AtomicU64::new(0),
        }
    }

    /// The token for all that is asked from now on; false when it was this one already, or is none
    /// that a header can carry.
    pub(super) fn set_token(&self, token: Option<&str>) -> bool {
        let value = token.map(str::trim).filter(|token| !token.is_empty()).and_then(|token| {
            let mut value = HeaderValue::from_str(token).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let known = self.token.load();
        if known.as_deref() == value.as_ref() {
            return false;
        }
        self.token.store(value.map(Arc::new));
        true
    }

    /// Asks the next agent from now on; false when there is only one.
    pub(super) fn next(&self) -> bool {
        self.client().reconnect();
        self.current.fetch_add(1, Ordering::Relaxed);
        self.clients.len() > 1
    }

    /// Whether the agent carries many questions over one connection.
    pub(super) fn multiplexed(&self) -> bool {
        self.client().multiplexed()
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// URL of the agent that is asked now.
    pub(super) fn now(&self) -> String {
        self.client().origin().to_string()
    }

    fn client(&self) -> &Client {
        &self.clients[self.current.load(Ordering::Relaxed) % self.clients.len()]
    }

    /// Asks; no body stands for keys that there are not.
    pub(super) async fn ask(
        &self,
        target: &Target,
        query: Query,
    ) -> Result<(Told, Option<Bytes>), Failure> {
        let mut path = target.path();
        path.push_str(match query.consistency {
            Consistency::Stale => "stale",
            Consistency::Leader => "",
            Consistency::Consistent => "consistent",
        });
        if let Some((index, wait)) = query.after {
            _ = write!(path, "&index={index}&wait={}ms", wait.as_millis());
        }
        path.push_str(&self.scope);
        let path = path.replace("?&", "?").replace("&&", "&");
        let reply = self.get(path, Watch::deadline(query, self.timeout)).await?;
        let told = told(&reply.headers);
        match reply.status {
            StatusCode::OK => Ok((told, Some(reply.body))),
            // Without an index it is somebody else's: a proxy's, or that of another program.
            StatusCode::NOT_FOUND if matches!(target, Target::Keys(_)) && told.index.is_some() => {
                Ok((told, None))
            }
            _ => Err(self.refused(&reply)),
        }
    }

    /// Asks for the leader: its address, empty when there is none; no answer when the agent does
    /// not know the question.
    pub(super) async fn leader(&self) -> Result<Option<String>, Failure> {
        let path = format!("/v1/status/leader?{}", self.scope.trim_start_matches('&'));
        let reply = self.get(path.trim_end_matches('?').to_owned(), self.timeout).await?;
        if reply.status.is_server_error() {
            let refused = self.refused(&reply);
            return Err(Failure { kind: Kind::Connection, ..refused });
        }
        let known = reply.status == StatusCode::OK;
        Ok(known.then(|| serde_json::from_slice(&reply.body).ok()).flatten())
    }

    async fn get(&self, path: String, head_within: Duration) -> Result<Reply, Failure> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut request = Request {
            method: Method::GET,
            head_within,
            body_within: self.timeout.max(Duration::from_secs(30)),
            silence_max: self.silence_max,
            body_max: self.body_max,
            ..Request::get(path)
        };
        if let Some(token) = self.token.load_full() {
            let name = HeaderName::from_static("x-consul-token");
            request.headers.push((name, HeaderValue::clone(&token)));
        }
        if let Some(login) = &self.login {
            request.headers.push((AUTHORIZATION, login.clone()));
        }
        let client = self.client();
        let failed = |error: HttpError| {
            let kind = match error {
                HttpError::TooLarge(_) | HttpError::Request(_) => Kind::Answer,
                _ => Kind::Connection,
            };
            let why = format!("{}: {error}", client.origin()).into();
            Failure { kind, why, pause: None }
        };
        client.send(request).await.map_err(failed)
    }

    fn refused(&self, reply: &Reply) -> Failure {
        let said = String::from_utf8_lossy(&reply.body[..reply.body.len().min(TOLD_MAX)]);
        let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (kind, help) = match reply.status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                (Kind::Forbidden, "; check `token_file` and the policies of its token")
            }
            StatusCode::TOO_MANY_REQUESTS => (Kind::Busy, "; asking less for a while"),
            _ => (Kind::Answer, ""),
        };
        let pause = (kind == Kind::Busy).then(|| {
            let named = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let named = named.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            named.unwrap_or(BUSY_PAUSE).min(BUSY_PAUSE_MAX)
        });
        let why = format!("{}: {} {}{help}", self.now(), reply.status.as_u16(), said.trim()).into();
        Failure { kind, why, pause }
    }
}

/// User name and password of `config` as RFC 7617 §2 sends them.
fn login(config: &ConsulConfig) -> Option<HeaderValue> {
    let user = config.username.as_ref()?;
    let password = config.password.as_ref().map_or("", Secret::reveal);
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {both}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn told(headers: &HeaderMap) -> Told {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let truth = |name: &str| text(name).and_then(|text| text.parse().ok());
    Told {
        index: text("x-consul-index").and_then(|text| text.parse().ok()),
        last_contact: text("x-consul-lastcontact")
            .and_then(|text| text.parse().ok())
            .map(Duration::from_millis),
        known_leader: truth("x-consul-knownleader"),
        filtered: truth("x-consul-results-filtered-by-acls").unwrap_or(false),
    }
}
