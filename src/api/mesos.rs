//! The HTTP API of Mesos-DNS, for clients that were written for it: `/v1/version`, `/v1/config`,
//! `/v1/hosts/NAME`, `/v1/services/NAME`, `/v1/enumerate`.
//!
//! It has a listener of its own: its paths are those of the admin face, and it needs no token.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MesosQuestion {
    /// What of the configuration a client may want to know.
    Config,
    /// The addresses of a name.
    Hosts(String),
    /// The SRV records of a name.
    Services(String),
    /// Every framework with its tasks.
    Enumerate,
}

/// Answers for one zone.
pub type MesosAnswers = Arc<dyn Fn(&MesosQuestion) -> Value + Send + Sync>;

/// The routes, answered by `answers`.
pub fn mesos(answers: MesosAnswers) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/config", get(|State(told): State<MesosAnswers>| async move {
            Json(told(&MesosQuestion::Config))
        }))
        .route("/v1/enumerate", get(|State(told): State<MesosAnswers>| async move {
            Json(told(&MesosQuestion::Enumerate))
        }))
        .route("/v1/hosts/{name}", get(hosts))
        .route("/v1/services/{name}", get(services))
        .with_state(answers)
}

async fn version() -> Json<Value> {
    Json(json!({
        "Service": "Portolan",
        "Version": env!("CARGO_PKG_VERSION"),
    }))
}

async fn hosts(State(told): State<MesosAnswers>, Path(name): Path<String>) -> Json<Value> {
    Json(told(&MesosQuestion::Hosts(name)))
}

async fn services(State(told): State<MesosAnswers>, Path(name): Path<String>) -> Json<Value> {
    Json(told(&MesosQuestion::Services(name)))
}
