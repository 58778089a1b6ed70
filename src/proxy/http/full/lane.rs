//! The way into the library: one request of a connection of HTTP/1, or one stream of HTTP/2.

use std::sync::Arc;

use http::request::Parts;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::watch;

use super::{Full, h2};
use crate::lifecycle::{Phases, Readiness};
use crate::proxy::http::auth::Verifying;
use crate::proxy::http::carrier::Carrier;
use crate::proxy::http::exchange::Arrival;
use crate::proxy::http::h2::incoming::Incoming;
use crate::proxy::http::h2::reply::Reply;

/// More attempts than our own deciding ever allows for one request: it ends them, not the library.
const ATTEMPTS_MAX: usize = 1024;

/// The full lane of one worker, with the worker's own pool of connections to endpoints.
pub struct FullLane {
    proxy: Arc<HttpProxy<Full>>,
    /// Pingora wants one; draining is told to it per request instead.
    shutdown: watch::Receiver<bool>,
    _never: watch::Sender<bool>,
}

impl std::fmt::Debug for FullLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FullLane")
    }
}

impl FullLane {
    /// A lane that keeps at most `idle_max` idle connections to endpoints.
    #[must_use]
    pub fn new(
        idle_max: usize,
        readiness: Readiness,
        phases: Phases,
        verifying: Verifying,
    ) -> Arc<Self> {
        let conf = ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: idle_max,
            max_retries: ATTEMPTS_MAX,
            ..ServerConf::default()
        };
        let proxy = http_proxy(&Arc::new(conf), Full::new(readiness, phases, verifying));
        let (never, shutdown) = watch::channel(false);
        Arc::new(Self { proxy: Arc::new(proxy), shutdown, _never: never })
    }

    /// Carries the request at the front of `carrier`; gives the connection back when it can carry
    /// another one. While the process drains, the answer says that the connection closes.
    pub async fn carry(&self, carrier: Carrier, arrival: Arrival) -> Option<Carrier> {
        let mut session = ServerSession::new_http1(Box::new(carrier));
        session.set_connection_user_context(Some(Box::new(arrival)));
        let reused = self.proxy.process_new_http(session, &self.shutdown).await?;
        let (stream, _) = reused.consume();
        stream.into_any().downcast::<Carrier>().ok().map(|carrier| *carrier)
    }

    /// Carries one stream of HTTP/2, whose `head` was checked.
    pub async fn carry_h2(&self, head: Parts, body: Incoming, reply: Reply, arrival: Arrival) {
        let session = h2::Streamed::session(head, body, reply, arrival);
        self.proxy.process_new_http(session, &self.shutdown).await;
    }
}
