//! `GET /v1/dns/explain`: why a name is answered as it is.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::admin::Admin;

/// Tells why a name is answered as it is: name, type, client. An error says what is wrong with the
/// question.
pub type Explain = Arc<dyn Fn(&str, &str, IpAddr) -> Result<Value, String> + Send + Sync>;

/// What may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    name: String,
    #[serde(rename = "type", default = "a")]
    qtype: String,
    client: Option<IpAddr>,
}

fn a() -> String {
    "A".to_owned()
}

pub(super) async fn explain(
    State(admin): State<Arc<Admin>>,
    question: Result<Query<Question>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(question)) = question else {
        let message = "ask as /v1/dns/explain?name=NAME&type=A&client=ADDRESS; type and client \
                       may be left out\n";
        return (StatusCode::BAD_REQUEST, message).into_response();
    };
    let client = question.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let explain = Arc::clone(&admin.explain);
    // It goes through all services: others are served meanwhile.
    let told =
        tokio::task::spawn_blocking(move || explain(&question.name, &question.qtype, client));
    match told.await {
        Ok(Ok(told)) => Json(told).into_response(),
        Ok(Err(message)) => (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response(),
        Err(error) => {
            tracing::error!(%error, "a name could not be explained");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
