//! What labels of apps ask the proxy for. Pure: labels in, fragments of configuration out.

mod balance;
mod bind;
mod config;
mod edits;
mod extras;
mod fragments;
mod hosts;
mod known;
mod line;
mod lines;
mod marathon_lb;
mod names;
mod paths;
mod server;
mod target;
mod templates;
mod wish;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::config::{HttpTimeouts, RouteConfig, StickyConfig, TcpTimeouts};
use super::route::ServiceRef;
use crate::catalog::model::Service;

pub use balance::BalanceLabels;
pub use config::{LabelPorts, LabelsConfig, MarathonLbConfig};
pub use names::{backend_name, cookie_value, server_name};

/// What the labels of one service ask for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Labelled {
    /// Routes of configured listeners: the listener, the route's name, the route. Names are unique
    /// over all services; of two that take the same requests the one of the smaller name counts.
    pub routes: Vec<(Arc<str>, String, RouteConfig)>,
    /// Routes by the header `X-Marathon-App-Id`.
    pub apps: Vec<AppRoute>,
    /// Ports of their own.
    pub ports: Vec<LabelledPort>,
    /// How work is spread, by port; ports of which nothing is said are not there.
    pub rules: Vec<(ServiceRef, BalanceLabels)>,
    /// What can't be, each with the label, its value and what to write instead.
    pub problems: Vec<String>,
}

impl Labelled {
    /// Whether nothing is asked for, and nothing was refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
            && self.apps.is_empty()
            && self.ports.is_empty()
            && self.rules.is_empty()
            && self.problems.is_empty()
    }
}

/// A route by the header `X-Marathon-App-Id`, whose value is compared without case.
#[derive(Debug, Clone, PartialEq)]
pub struct AppRoute {
    /// The listener, one of HTTP.
    pub listener: Arc<str>,
    /// The app's id, in lower case.
    pub app: Arc<str>,
    /// The route's name.
    pub name: String,
    /// The route, without that condition.
    pub route: RouteConfig,
}

/// A port of its own that a service asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledPort {
    /// Name of its listener: `<app_with_underscores>_<service port>`, HAProxy's name of the backend.
    pub name: Arc<str>,
    /// The address to listen on; none: those of [`MarathonLbConfig::bind`].
    pub bind: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Who gets what comes in.
    pub target: ServiceRef,
    /// How it is carried.
    pub mode: Mode,
    /// Whether clients speak TLS, with what [`MarathonLbConfig::https`] says about it.
    pub tls: bool,
    /// With [`Mode::Tcp`]: networks that are let in; none: all.
    pub allow: Vec<IpNet>,
    /// With [`Mode::Tcp`]: how a client comes back to the endpoint that it had. Routes have their own.
    pub sticky: Option<StickyConfig>,
}

/// How a labelled port carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// Byte by byte.
    Tcp(TcpTimeouts),
    /// As HTTP, by these routes, by name; their `listener` is the port's name.
    Http(HttpTimeouts, Vec<(String, RouteConfig)>),
}

/// Reads the labels that `service` has in its meta. Cheap, and empty at once where there is none.
#[must_use]
pub fn read(config: &LabelsConfig, service: &Service) -> Labelled {
    config
        .marathon_lb
        .as_ref()
        .map_or_else(Labelled::default, |config| marathon_lb::read(config, service))
}
