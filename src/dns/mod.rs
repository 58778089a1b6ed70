//! Authoritative DNS for services: questions in, precompiled answers out.
//!
//! [`ZoneTable::compile`] turns a snapshot into bytes on the control side; [`respond()`] picks among
//! them for each question without waiting or allocating; [`DnsServer`] carries questions and
//! replies. Which names a service has is the matter of a [`dialect`], one file each. Names outside
//! the zones are forwarded for those who may, and REFUSED for all others.

mod answer;
#[cfg(test)]
mod answer_tests;
mod build;
pub mod config;
mod counted;
pub mod dialect;
pub mod edns;
pub mod explain;
pub mod forward;
pub mod full;
#[cfg(test)]
mod hostile;
pub mod inquire;
mod lookup;
pub mod mesos_api;
pub mod metrics;
pub mod node;
#[cfg(test)]
mod oracle;
pub mod respond;
mod set;
pub mod settings;
mod soa;
mod tcp;
pub mod wire;
pub mod zone;
mod zone_settings;

pub use config::{DnsConfig, ForwardConfig, WhenEmpty, ZoneConfig};
pub use full::DnsServer;
pub use metrics::Metrics;
pub use respond::{Action, Transport, respond};
pub use settings::{Settings, ZoneSettings};
pub use zone::ZoneTable;
