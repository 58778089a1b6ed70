//! The routes of the admin face, and who may use them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use prometheus::TextEncoder;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::collect::states;
use super::explain::{Explain, explain};
use super::operate::{self, Operate};
use super::push::{Push, push};
use super::upgrade::{UpgradeWish, upgrade};
use super::why::{Reasons, UrlReasons, why};
use crate::catalog::publish::Current;
use crate::catalog::{Instance, Service, Snapshot};
use crate::lifecycle::Readiness;

/// Asks the application to load its configuration again; the answer lists what is wrong with it.
pub type Reload = oneshot::Sender<Result<Report, Vec<String>>>;

/// What a reload did.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// The generation from which the new configuration counts.
    pub generation: u64,
    /// What changed, by table.
    pub changed: Vec<String>,
}

/// Tells what is refused of the service of this name.
pub type Problems = Arc<dyn Fn(&str) -> Vec<Arc<str>> + Send + Sync>;

/// Everything that the admin face shows.
#[derive(Clone)]
pub struct Admin {
    /// The newest snapshot.
    pub snapshot: Current<Snapshot>,
    /// All metrics.
    pub metrics: prometheus::Registry,
    /// Whether the process is ready.
    pub readiness: Readiness,
    /// The parts of the status that other rooms tell: phase, templates, connections.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Why services answer as they do.
    pub why: Reasons,
    /// What is refused of a service beside what the catalog knows.
    pub problems: Problems,
    /// Why requests go where they go.
    pub why_url: UrlReasons,
    /// Takes pushed results of checks.
    pub push: Push,
    /// Why names are answered as they are.
    pub explain: Explain,
    /// Drain, maintenance and weight.
    pub operate: Operate,
    /// Where reloads are asked for.
    pub reloads: mpsc::Sender<Reload>,
    /// Where upgrades are asked for.
    pub upgrades: mpsc::Sender<UpgradeWish>,
    /// The token for changes, and for reading off loopback.
    pub token: Option<Arc<str>>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin")
    }
}

/// By which door a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The unix socket: its mode decides who may.
    Socket,
    /// TCP on loopback.
    Loopback,
    /// TCP from elsewhere.
    Outside,
}

impl Admin {
    /// The routes for a TCP listener on `listen`.
    pub fn over_tcp(self, listen: SocketAddr) -> Router {
        let door = if listen.ip().is_loopback() { Door::Loopback } else { Door::Outside };
        self.routes(door)
    }

    /// The routes for a unix socket that only its owner can open.
    pub fn over_socket(self) -> Router {
        self.routes(Door::Socket)
    }

    fn routes(self, door: Door) -> Router {
        let token = self.token.clone();
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/v1/status", get(status))
            .route("/v1/services", get(services))
            .route("/v1/services/{name}", get(service))
            .route("/v1/why", get(why))
            .route("/v1/health/{service}/{*id}", put(push))
            .route("/v1/dns/explain", get(explain))
            .route("/v1/operations", get(operate::list))
            .route("/v1/operations/{number}", delete(operate::remove))
            .route("/v1/drain", post(operate::drain))
            .route("/v1/maintenance", post(operate::maintenance))
            .route("/v1/weight", post(operate::weight))
            .route("/v1/ready", post(operate::ready))
            .route("/v1/reload", post(reload))
            .route("/v1/upgrade", post(move |admin, who, body| upgrade(door, admin, who, body)))
            .fallback(unknown)
            .layer(from_fn_with_state((door, token), guard))
            .with_state(Arc::new(self))
    }
}

/// Lets a request through, or says what it lacks.
async fn guard(
    State((door, token)): State<(Door, Option<Arc<str>>)>,
    request: Request,
    next: Next,
) -> Response {
    let reads = request.method() == "GET" || request.method() == "HEAD";
    let probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    let open = match door {
        Door::Socket => true,
        Door::Loopback => reads,
        Door::Outside => probe,
    };
    if open || bears(request.headers(), token.as_deref()) {
        return next.run(request).await;
    }
    let message = "needs the token: send it as `Authorization: Bearer TOKEN` (see [admin] \
                   token_file), or use the unix socket\n";
    (StatusCode::UNAUTHORIZED, message).into_response()
}

/// Whether the request bears the token. Compares without a hint of where they differ.
fn bears(headers: &HeaderMap, token: Option<&str>) -> bool {
    let Some(token) = token else { return false };
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(sent) = sent.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
    let differs = sent.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    sent.len() == token.len() && differs == 0
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.readiness.ready() {
        return "ready\n".into_response();
    }
    let waiting: Vec<String> = admin
        .snapshot
        .load()
        .registries
        .iter()
        .filter(|registry| !registry.heard || registry.silent)
        .map(|registry| {
            let why = if registry.heard {
                "is silent for longer than max_stale"
            } else {
                "was not heard yet"
            };
            format!("registry {} {why}\n", registry.name)
        })
        .collect();
    let body = if waiting.is_empty() { "not serving\n".to_owned() } else { waiting.concat() };
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    match TextEncoder::new().encode_to_string(&admin.metrics.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let snapshot = admin.snapshot.load();
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": snapshot.generation,
        "ready": admin.readiness.ready(),
        "services": snapshot.services.len(),
    });
    if let (Some(all), Value::Object(told)) = (status.as_object_mut(), (admin.status)()) {
        all.extend(told);
    }
    Json(status)
}

async fn services(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let snapshot = admin.snapshot.load();
    let mut services: Vec<_> = snapshot.services.values().collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let services: Vec<Value> = services.iter().map(|service| summary(&admin, service)).collect();
    Json(json!({ "generation": snapshot.generation, "services": services }))
}

async fn service(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    let snapshot = admin.snapshot.load();
    let Some(service) = snapshot.service(&name) else {
        let message = format!("no registry tells of a service {name:?}\n");
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    let mut told = summary(&admin, service);
    if let Some(told) = told.as_object_mut() {
        let eligible = |instance: &Arc<Instance>| {
            service.eligible.iter().any(|other| Arc::ptr_eq(other, instance))
        };
        let instances: Vec<Value> = service
            .instances
            .iter()
            .map(|instance| {
                let mut value = serde_json::to_value(&**instance).unwrap_or_default();
                if let Some(value) = value.as_object_mut() {
                    value.insert("address".into(), instance.address.to_string().into());
                    value.insert("eligible".into(), eligible(instance).into());
                }
                value
            })
            .collect();
        told.insert("generation".into(), snapshot.generation.into());
        told.insert("instances".into(), instances.into());
        told.insert("meta".into(), json!(*service.meta));
    }
    Json(told).into_response()
}

fn summary(admin: &Admin, service: &Service) -> Value {
    // What its registries refuse, and what its labels ask for and can't have.
    let mut problems = service.problems.to_vec();
    for why in (admin.problems)(&service.name) {
        if !problems.contains(&why) {
            problems.push(why);
        }
    }
    json!({
        "name": service.name,
        "tags": service.tags,
        "states": states(service),
        "eligible": service.eligible.len(),
        "problems": problems,
    })
}

async fn reload(State(admin): State<Arc<Admin>>, who: operate::Who) -> Response {
    let (answer, told) = oneshot::channel();
    let asked = admin.reloads.send(answer).await.is_ok();
    let told = told.await;
    let result = match &told {
        Ok(Ok(_)) => "done".to_owned(),
        Ok(Err(problems)) => format!("refused: {}", problems.join("; ")),
        Err(_) => "the process is ending".to_owned(),
    };
    admin.operate.audit.note(operate::noted(&who, "reload", result)).await;
    match (asked, told) {
        (true, Ok(Ok(report))) => Json(report).into_response(),
        (true, Ok(Err(problems))) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "problems": problems })))
                .into_response()
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the process is ending\n").into_response(),
    }
}

async fn unknown() -> Response {
    let message = "there are /healthz, /readyz, /metrics, /v1/status, /v1/services, \
                   /v1/services/NAME, /v1/why?service=NAME, /v1/why?url=URL, \
                   /v1/dns/explain?name=NAME, \
                   PUT /v1/health/SERVICE/ID, GET /v1/operations, DELETE /v1/operations/NUMBER, \
                   POST /v1/drain, /v1/maintenance, /v1/weight, /v1/ready, /v1/reload \
                   and /v1/upgrade\n";
    (StatusCode::NOT_FOUND, message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_counts() {
        let headers =
            |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        for (case, value, token, want) in [
            ("right", "Bearer secret", Some("secret"), true),
            ("wrong", "Bearer secreT", Some("secret"), false),
            ("longer", "Bearer secrets", Some("secret"), false),
            ("shorter", "Bearer ", Some("secret"), false),
            ("another scheme", "Basic secret", Some("secret"), false),
            ("no token is set", "Bearer ", None, false),
        ] {
            assert_eq!(bears(&headers(value), token), want, "{case}");
        }
        assert!(!bears(&HeaderMap::new(), Some("secret")));
    }
}
