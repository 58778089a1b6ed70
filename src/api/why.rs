//! `GET /v1/why`: why a service answers as it does.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::admin::Admin;

/// Tells why a service answers as it does; without a name, the services worth asking about.
pub type Reasons = Arc<dyn Fn(Option<&str>) -> Option<Value> + Send + Sync>;

/// What may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    service: Option<String>,
}

pub(super) async fn why(
    State(admin): State<Arc<Admin>>,
    question: Result<Query<Question>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(question)) = question else {
        let message = "ask as /v1/why?service=NAME, or /v1/why for the services in trouble\n";
        return (StatusCode::BAD_REQUEST, message).into_response();
    };
    match (admin.why)(question.service.as_deref()) {
        Some(told) => Json(told).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing is published yet\n").into_response(),
    }
}
