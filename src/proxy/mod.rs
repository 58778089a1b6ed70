//! The proxy: carries connections and requests to the endpoints of a service.
//!
//! What goes where is decided in pure code ([`route`], [`upstream`], [`balance`],
//! [`http::sanitize`]) over one immutable [`table::ProxyTable`]; the lanes ([`http::full`],
//! [`tcp`]) only carry.

pub mod balance;
pub mod clock;
pub mod config;
pub mod cut;
pub mod departed;
pub mod explain;
pub mod forwarded;
pub mod hash_on;
pub mod http;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod queue;
pub mod route;
pub mod route_metrics;
pub mod serve;
pub mod settings;
pub mod sticky;
pub mod table;
pub mod tcp;
pub mod upstream;
pub mod waiting;

pub use config::{HttpListenerConfig, ListenerConfig, RouteConfig, TcpListenerConfig};
pub use table::{ProxyTable, Settings};
