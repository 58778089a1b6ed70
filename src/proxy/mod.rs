//! The proxy: carries connections and requests to the endpoints of a service.
//!
//! What goes where is decided in pure code ([`route`], [`upstream`], [`balance`],
//! [`http::sanitize`]) over one immutable [`table::ProxyTable`]; the lanes ([`http::full`],
//! [`tcp`]) only carry.

pub mod added_metrics;
pub mod balance;
pub mod clock;
pub mod config;
pub mod cut;
pub mod departed;
mod downed;
pub mod explain;
mod explain_asked;
mod explain_sni;
mod explain_tls;
pub mod forwarded;
pub mod front;
pub mod hash_on;
pub mod http;
pub mod labels;
pub mod limit;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod out;
pub mod overlay;
pub mod ports;
pub mod queue;
pub mod route;
pub mod route_metrics;
pub mod serve;
pub mod settings;
pub mod sni;
mod standing;
pub mod sticky;
pub mod table;
pub mod tcp;
pub mod udp;
pub mod upstream;
pub mod waiting;
#[cfg(test)]
mod work;

pub use config::{HttpListenerConfig, ListenerConfig, RouteConfig, TcpListenerConfig};
pub use table::{ProxyTable, Settings};
