//! `PUT /v1/health/SERVICE/ID`: somebody says how an instance is.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::admin::Admin;

/// Why what was pushed does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushRefusal {
    /// The body cannot be read.
    Unreadable(String),
    /// There is no such check or instance.
    Unknown(String),
}

/// Takes service, id and the body of a push; returns how many instances it counts for.
pub type Push = Arc<dyn Fn(&str, &str, &[u8]) -> Result<usize, PushRefusal> + Send + Sync>;

pub(super) async fn push(
    State(admin): State<Arc<Admin>>,
    Path((service, id)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    match (admin.push)(&service, &id, &body) {
        Ok(instances) => Json(json!({ "instances": instances })).into_response(),
        Err(PushRefusal::Unreadable(why)) => {
            (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
        }
        Err(PushRefusal::Unknown(why)) => {
            (StatusCode::NOT_FOUND, format!("{why}\n")).into_response()
        }
    }
}
