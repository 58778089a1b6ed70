//! Which route a request takes: the highest priority, then the most specific host and path, then
//! the most conditions, then the name.
//!
//! Matching looks at a normalised view of the request and never at the bytes that go on. Each
//! step is one hash look-up, per host candidate and per path segment, so that ten thousand routes
//! cost what ten do.

mod begins;
mod compile;
mod conditions;
pub mod explain;
mod labelled;
mod matching;
mod normalise;
pub(crate) mod pattern;
mod routes;
mod split;

use std::net::IpAddr;
use std::sync::Arc;

use super::config::{RespondConfig, RouteConfig};
use super::http::access::Access;
use super::http::auth::Users;
use super::http::edits::Edits;
use super::http::error_page::ErrorPages;
use super::http::location::LocationPrefix;
use super::http::redirect::Redirect;
use super::http::rewrite::PathEdits;
use super::route_metrics::RouteHandle;

pub(in crate::proxy) use compile::{HostRule, host, target, unfit};
pub use labelled::{LabelledRoute, LabelledRoutes};
pub use matching::RouteTable;
pub(crate) use normalise::{canonical, escape};
pub use normalise::{normalise, sendable};
pub use routes::Routes;
pub use split::Split;

/// What routes see of a request: a normalised view, never the bytes that go on.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// `Host` as it was sent, with or without a port; `""` if there is none.
    pub host: &'a str,
    /// The path as [`normalise`] gives it.
    pub path: &'a str,
    /// The query as it was sent, without its `?`; `""` if there is none.
    pub query: &'a str,
    /// The method as it was sent.
    pub method: &'a str,
    /// Header lines.
    pub headers: &'a http::HeaderMap,
    /// Address of the client: the peer, or whom trusted proxies tell.
    pub client: IpAddr,
}

/// One compiled route.
#[derive(Debug)]
pub struct Route {
    /// Its name in the configuration, or the one that it was given.
    pub name: Arc<str>,
    /// The service whose labels ask for it; none: it is configured.
    pub by: Option<Arc<str>>,
    /// Where it leads.
    pub target: Target,
    /// How its path is changed before it goes on.
    pub path_edits: PathEdits,
    /// What is done to the header of a request.
    pub request_edits: Edits,
    /// What is done to the header of an answer.
    pub response_edits: Edits,
    /// What is put before the paths of addresses that lead back.
    pub location: Option<LocationPrefix>,
    /// Which clients are let in.
    pub access: Access,
    /// Who is let in by name and password, when others are not.
    pub users: Option<Users>,
    /// What is shown instead of answers with an error.
    pub error_pages: ErrorPages,
    /// As it was configured.
    pub config: RouteConfig,
    /// What is counted of it.
    pub counters: RouteHandle,
}

impl Route {
    /// How people are told of it: `[route.NAME]`, or by its name and whose labels ask for it.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.by {
            None => format!("[route.{}]", self.name),
            Some(service) => format!("{} (labels of {service})", self.name),
        }
    }
}

/// Where a route leads.
#[derive(Debug, PartialEq)]
pub enum Target {
    /// To the endpoints of a service.
    Service(ServiceRef),
    /// To those of one of several, by shares.
    Split(Split),
    /// To an answer of our own.
    Respond(RespondConfig),
    /// To another address.
    Redirect(Redirect),
}

impl Target {
    /// The service that gets the request; of a split the one of `choice`, given by
    /// [`Split::choose`]. `None` when the answer is our own.
    #[must_use]
    pub fn service(&self, choice: usize) -> Option<&ServiceRef> {
        match self {
            Self::Service(service) => Some(service),
            Self::Split(split) => split.service(choice),
            Self::Respond(_) | Self::Redirect(_) => None,
        }
    }

    /// Every service that may get requests.
    pub fn services(&self) -> impl Iterator<Item = &ServiceRef> {
        let (one, several) = match self {
            Self::Service(service) => (Some(service), None),
            Self::Split(split) => (None, Some(split)),
            Self::Respond(_) | Self::Redirect(_) => (None, None),
        };
        one.into_iter().chain(several.into_iter().flat_map(Split::services))
    }
}

/// A service and one of its ports, as users write it: `web` or `web:metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceRef {
    /// As it is written; the key of the upstream.
    pub key: Arc<str>,
    /// The service.
    pub service: Arc<str>,
    /// The port's name, `""` for the unnamed one.
    pub port: Arc<str>,
}

impl ServiceRef {
    /// Reads `service` or `service:port-name`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (service, port) = text.split_once(':').unwrap_or((text, ""));
        Self { key: text.into(), service: service.into(), port: port.into() }
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
