//! Drain, maintenance and weight, asked for by operators: `POST /v1/drain` and its siblings,
//! `GET /v1/operations`. What is asked for is decided by one task, one after the other.

pub mod audit;
mod config;
pub mod drained;
pub mod order;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Registry};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use super::admin::Admin;
use crate::catalog::operations::{Does, Operation, Operations, Target};
use crate::telemetry::metrics::Register as _;
pub use config::{OperationsConfig, WebhookConfig};
use order::{Order, Refused, Wanted};

/// One wish of an operator, and where the answer goes.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub who: Arc<str>,
    /// What is asked for.
    pub wish: Wish,
    /// What came of it, as the API tells it.
    pub answer: oneshot::Sender<Result<Value, Refused>>,
}

/// What an operator may ask for.
#[derive(Debug)]
pub enum Wish {
    /// That something counts from now on, or no more.
    Say(Wanted, Order),
    /// That an instance or node is neither drained nor in maintenance any more.
    Ready(Order),
    /// That the operation of this number is taken back.
    Remove(u64),
}

/// The way to those who carry wishes out.
#[derive(Clone)]
pub struct Operate {
    /// Where wishes go.
    pub wishes: mpsc::Sender<Asked>,
    /// Tells every operation, with what runs at whom it is about.
    pub overview: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Where changes are noted.
    pub audit: audit::Audit,
}

/// What operations count.
#[derive(Debug, Clone)]
pub struct Metrics {
    changes: IntCounterVec,
    current: IntGaugeVec,
    /// Changes that could not be noted.
    pub audit_failures: IntCounter,
    events: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let current = registry.gauge_vec(
            "portolan_operations",
            "Operations of operators that are in force.",
            &["does"],
        )?;
        let audit_failures = registry.counter(
            "portolan_operations_audit_failures_total",
            "Changes that could not be noted in the audit log.",
        )?;
        Ok(Self {
            changes: registry.counter_vec(
                "portolan_operations_changes_total",
                "Wishes of operators, by what was asked for and whether it was done.",
                &["what", "result"],
            )?,
            current,
            audit_failures,
            events: registry.counter_vec(
                "portolan_operations_drained_events_total",
                "Events about instances that are empty, by what became of them.",
                &["end"],
            )?,
        })
    }

    /// Counts a wish, carried out or refused; rare, so the labels are looked up here.
    pub fn changed(&self, what: &str, done: bool) {
        self.changes.with_label_values(&[what, if done { "done" } else { "refused" }]).inc();
    }

    /// Tells how many operations of each kind there are.
    pub fn in_force(&self, operations: &Operations) {
        for word in ["drain", "maintenance", "weight"] {
            let count = operations.iter().filter(|o| o.does.word() == word).count();
            self.current.with_label_values(&[word]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts an event: `acknowledged`, `given_up` or `dropped`.
    pub fn event(&self, end: &str) {
        self.events.with_label_values(&[end]).inc();
    }
}

/// Who is at the other end of a connection to the admin face.
#[derive(Debug, Clone)]
pub struct Who(pub Arc<str>);

impl Connected<IncomingStream<'_, TcpListener>> for Who {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let peer: &SocketAddr = stream.remote_addr();
        Self(peer.to_string().into())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Who {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(peer) => Self(format!("uid {}", peer.uid()).into()),
            Err(_) => Self("the admin socket".into()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let known = parts.extensions.get::<ConnectInfo<Self>>();
        Ok(known.map_or_else(|| Self("somebody".into()), |ConnectInfo(who)| who.clone()))
    }
}

pub(super) async fn drain(admin: State<Arc<Admin>>, who: Who, body: Bytes) -> Response {
    say(&admin, who, Wanted::Drain, &body).await
}

pub(super) async fn maintenance(admin: State<Arc<Admin>>, who: Who, body: Bytes) -> Response {
    say(&admin, who, Wanted::Maintenance, &body).await
}

pub(super) async fn weight(admin: State<Arc<Admin>>, who: Who, body: Bytes) -> Response {
    say(&admin, who, Wanted::Weight, &body).await
}

pub(super) async fn ready(admin: State<Arc<Admin>>, who: Who, body: Bytes) -> Response {
    match order(&body) {
        Ok(order) => ask(&admin, who, Wish::Ready(order)).await,
        Err(refused) => refuse(&refused),
    }
}

pub(super) async fn remove(
    admin: State<Arc<Admin>>,
    who: Who,
    Path(number): Path<String>,
) -> Response {
    match number.parse() {
        Ok(number) => ask(&admin, who, Wish::Remove(number)).await,
        Err(_) => refuse(&Refused::Unknown(format!("there is no operation {number:?}"))),
    }
}

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json((admin.operate.overview)())
}

async fn say(admin: &Admin, who: Who, wanted: Wanted, body: &[u8]) -> Response {
    match order(body) {
        Ok(order) => ask(admin, who, Wish::Say(wanted, order)).await,
        Err(refused) => refuse(&refused),
    }
}

fn order(body: &[u8]) -> Result<Order, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        let form = r#"{"id": "web-1", "reason": "why"} or {"node": "host-1"}"#;
        Refused::Unreadable(format!("the body is not of the form {form}: {error}"))
    })
}

async fn ask(admin: &Admin, who: Who, wish: Wish) -> Response {
    let (answer, told) = oneshot::channel();
    let asked = Asked { who: who.0, wish, answer };
    let sent = admin.operate.wishes.send(asked).await.is_ok();
    match (sent, told.await) {
        (true, Ok(Ok(told))) => Json(told).into_response(),
        (true, Ok(Err(refused))) => refuse(&refused),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the process is ending\n").into_response(),
    }
}

fn refuse(refused: &Refused) -> Response {
    let status = match refused {
        Refused::Unreadable(_) => StatusCode::BAD_REQUEST,
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::Conflict(_) => StatusCode::CONFLICT,
        Refused::Unkept(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{}\n", refused.message())).into_response()
}

/// A reload or an upgrade as the audit log notes it.
pub(super) fn noted(who: &Who, what: &'static str, result: String) -> audit::Entry {
    audit::Entry {
        at: SystemTime::now(),
        who: Arc::clone(&who.0),
        what,
        target: String::new(),
        operation: None,
        weight: None,
        deadline: None,
        reason: "".into(),
        result,
    }
}

/// An operation as the API tells it.
#[must_use]
pub fn told(operation: &Operation) -> Value {
    let moment = |at: SystemTime| {
        crate::units::rfc3339(&at, serde_json::value::Serializer).unwrap_or_default()
    };
    let mut told = json!({
        "number": operation.number,
        "does": operation.does.word(),
        "who": operation.who,
        "since": moment(operation.since),
        "reason": operation.reason,
        "deadline": operation.deadline.map(moment),
        "over": operation.over,
    });
    if let Some(told) = told.as_object_mut() {
        match &operation.target {
            Target::Instance { service, registry, id } => {
                told.insert("service".into(), json!(service));
                told.insert("registry".into(), json!(registry));
                told.insert("id".into(), json!(id));
            }
            Target::Node(node) => {
                told.insert("node".into(), json!(node));
            }
        }
        if let Does::Weight(weight) = operation.does {
            told.insert("weight".into(), json!(weight.value()));
        }
    }
    told
}
