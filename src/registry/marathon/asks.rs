//! What a Marathon is asked for: its events, everything, one app, its leader.

use std::sync::Arc;

use bytes::BytesMut;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;

use super::app::Kind;
use super::listing::Listing;
use super::nodes::Trust;
use super::rest::{Answer, Failure, LEADER_MAX, Limits, Rest, Room, failed, whole};
use crate::net::http::{HttpError, Origin, escaped};
use crate::units::Period;

/// Everything in one question: Marathon answers it many times faster than one for each app.
const APPS: &str = "/v2/apps?embed=apps.tasks&embed=apps.deployments&embed=apps.readiness";
const PODS: &str = "/v2/pods/::status";
const EVENTS: &str = "/v2/events";
/// The types that say something of apps, pods and their tasks; others need not be sent.
const KINDS: [&str; 21] = [
    "event_stream_attached",
    "status_update_event",
    "instance_changed_event",
    "instance_health_changed_event",
    "health_status_changed_event",
    "add_health_check_event",
    "remove_health_check_event",
    "unhealthy_instance_kill_event",
    "api_post_event",
    "app_terminated_event",
    "group_change_success",
    "pod_created_event",
    "pod_updated_event",
    "pod_deleted_event",
    "deployment_info",
    "deployment_success",
    "deployment_failed",
    "deployment_step_success",
    "deployment_step_failure",
    "scheduler_registered_event",
    "scheduler_reregistered_event",
];
/// What may stand around an app in the answer about it.
const AROUND_MAX: usize = 1024;

/// An app or pod alone.
#[derive(Debug)]
pub(super) enum One {
    /// There is none of that name.
    Gone,
    /// All that was answered.
    Whole(BytesMut),
    /// It is longer than `app_max`.
    TooLong,
}

impl Rest {
    /// Asks `node` for its events; with `plain` without saying which, for nodes that refuse to be
    /// told. The answer is an event stream, which proves nothing yet.
    pub(super) async fn events(
        &self,
        node: &Origin,
        trust: Trust,
        plain: bool,
    ) -> Result<Answer, Failure> {
        let mut path = EVENTS.to_owned();
        if !plain {
            path.push_str("?plan-format=light");
            for kind in KINDS {
                path.push_str("&event_type=");
                path.push_str(kind);
            }
        }
        // The head comes with the first bytes where somebody between waits for them.
        let limits = Limits { head: self.idle, silence: self.idle, accept: "text/event-stream" };
        let answer = self.ask(node, path, trust, &limits).await?;
        let answer = self.accepted(answer).await?;
        let kind = answer.stream.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            let why = format!(
                "{}: {EVENTS} answers with {}, not with events; is that a Marathon?",
                answer.origin,
                kind.unwrap_or("nothing that says what it is")
            );
            return Err(Failure::new(why));
        }
        Ok(answer)
    }

    /// Reads all apps and pods of `node` into `listing`; the leader that the answers name.
    pub(super) async fn everything(
        &self,
        node: &Origin,
        trust: Trust,
        listing: Listing,
    ) -> Result<(Listing, Option<Arc<str>>), Failure> {
        let within = self.snapshot;
        tokio::time::timeout(within, self.all(node, trust, listing)).await.unwrap_or_else(|_| {
            let within = Period(within);
            let why = format!(
                "{node}: it did not list everything within {within}; see `snapshot_timeout`"
            );
            Err(Failure::new(why))
        })
    }

    async fn all(
        &self,
        node: &Origin,
        trust: Trust,
        mut listing: Listing,
    ) -> Result<(Listing, Option<Arc<str>>), Failure> {
        let limits = Limits { head: self.snapshot, silence: self.idle, accept: "application/json" };
        let broken = |origin: &Origin, what: &str, why: &dyn std::fmt::Display| {
            Failure::new(format!("{origin}: {what}: {why}"))
        };
        let answer = self.ask(node, APPS.into(), trust.clone(), &limits).await?;
        let Answer { origin, mut stream, leader, .. } = self.accepted(answer).await?;
        let mut room = Room::new(self.listing_max);
        while let Some(chunk) = room.chunk(&origin, &mut stream).await? {
            listing.apps(&chunk).map_err(|why| broken(&origin, "list of apps", &why))?;
        }
        let answer = self.ask(node, PODS.into(), trust, &limits).await?;
        if answer.stream.status == StatusCode::NOT_FOUND {
            // Before 1.4 there are none.
            listing.no_pods();
        } else {
            let Answer { origin, mut stream, .. } = self.accepted(answer).await?;
            let mut room = Room::new(self.listing_max);
            while let Some(chunk) = room.chunk(&origin, &mut stream).await? {
                listing.pods(&chunk).map_err(|why| broken(&origin, "list of pods", &why))?;
            }
        }
        listing.end().map_err(|why| broken(&origin, "list of apps and pods", &why))?;
        Ok((listing, leader))
    }

    /// Reads the app or pod `id` of `node`.
    pub(super) async fn one(
        &self,
        node: &Origin,
        trust: Trust,
        kind: Kind,
        id: &str,
    ) -> Result<(One, Option<Arc<str>>), Failure> {
        let parts = id.split('/').map(escaped).collect::<Vec<_>>().join("/");
        let path = match kind {
            Kind::App => format!(
                "/v2/apps/{parts}?embed=app.tasks&embed=app.deployments&embed=app.readiness"
            ),
            Kind::Pod => format!("/v2/pods/{parts}::status"),
        };
        let limits =
            Limits { head: self.timeout, silence: self.timeout, accept: "application/json" };
        let answer = self.ask(node, path, trust, &limits).await?;
        if answer.stream.status == StatusCode::NOT_FOUND {
            return Ok((One::Gone, answer.leader));
        }
        let Answer { origin, mut stream, leader, .. } = self.accepted(answer).await?;
        let (mut body, mut room) = (BytesMut::new(), Room::new(u64::MAX));
        let most = usize::try_from(self.app_max).unwrap_or(usize::MAX).saturating_add(AROUND_MAX);
        let whole = async {
            while let Some(chunk) = room.chunk(&origin, &mut stream).await? {
                if body.len() + chunk.len() > most {
                    return Ok(One::TooLong);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(One::Whole(body))
        };
        let late = || failed(&origin, &HttpError::Deadline(self.timeout));
        let one = tokio::time::timeout(self.timeout, whole).await.map_err(|_| late())??;
        Ok((one, leader))
    }

    /// The leader that a trusted `origin` names when it is asked.
    pub(super) async fn leader(&self, origin: &Origin) -> Option<Arc<str>> {
        #[derive(Deserialize)]
        struct Leads {
            leader: Arc<str>,
        }
        let limits =
            Limits { head: self.timeout, silence: self.timeout, accept: "application/json" };
        let mut stream = self.open(origin, "/v2/leader", true, &limits).await.ok()?;
        if stream.status != StatusCode::OK {
            return None;
        }
        let body = whole(origin, &mut stream, LEADER_MAX).await.ok()?;
        serde_json::from_slice::<Leads>(&body).ok().map(|leads| leads.leader)
    }
}
