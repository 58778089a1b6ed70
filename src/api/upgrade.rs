//! `POST /v1/upgrade`: asks for another process in this one's place, and tells what came of it.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::admin::{Admin, Door};
use super::operate;

/// A wish for an upgrade.
#[derive(Debug)]
pub struct UpgradeWish {
    /// The program; none: the one that this process was started by.
    pub binary: Option<PathBuf>,
    /// What came of it.
    pub answer: oneshot::Sender<Result<Value, UpgradeRefused>>,
}

/// Why there was no upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeRefused {
    /// It cannot be now, or never of this process.
    Conflict(String),
    /// The new process did not come to serve.
    Failed(String),
}

/// The body; an empty one asks for the program that this process was started by.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    binary: Option<PathBuf>,
}

pub(super) async fn upgrade(
    door: Door,
    State(admin): State<Arc<Admin>>,
    who: operate::Who,
    body: Bytes,
) -> Response {
    let order =
        if body.is_empty() { Ok(Order::default()) } else { serde_json::from_slice::<Order>(&body) };
    let order = match order {
        Ok(order) => order,
        Err(error) => {
            let message =
                format!("the body is not of the form {{\"binary\": \"/path\"}}: {error}\n");
            return (StatusCode::BAD_REQUEST, message).into_response();
        }
    };
    // A token is for what the configuration allows; to run any program takes the owner of the socket.
    if order.binary.is_some() && door != Door::Socket {
        let message = "a program is named by the unix socket only; without one the program that this \
                       process was started by is taken\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    let (answer, told) = oneshot::channel();
    let told = match admin.upgrades.try_send(UpgradeWish { binary: order.binary, answer }) {
        Ok(()) => told.await.ok(),
        Err(mpsc::error::TrySendError::Full(_)) => {
            let why = "an upgrade is under way already; wait for its end".to_owned();
            Some(Err(UpgradeRefused::Conflict(why)))
        }
        Err(mpsc::error::TrySendError::Closed(_)) => None,
    };
    let result = match &told {
        Some(Ok(_)) => "done".to_owned(),
        Some(Err(UpgradeRefused::Conflict(why) | UpgradeRefused::Failed(why))) => {
            format!("refused: {why}")
        }
        None => "the process is ending".to_owned(),
    };
    admin.operate.audit.note(operate::noted(&who, "upgrade", result)).await;
    let refused = |status, why| (status, Json(json!({ "message": why }))).into_response();
    match told {
        Some(Ok(told)) => Json(told).into_response(),
        Some(Err(UpgradeRefused::Conflict(why))) => refused(StatusCode::CONFLICT, why),
        Some(Err(UpgradeRefused::Failed(why))) => refused(StatusCode::UNPROCESSABLE_ENTITY, why),
        None => refused(StatusCode::SERVICE_UNAVAILABLE, "the process is ending".to_owned()),
    }
}
