//! Authoritative DNS for services: questions in, precompiled answers out.
//!
//! [`ZoneTable::compile`] turns a snapshot into bytes on the control side; [`respond()`] picks among
//! them for each question without waiting or allocating; [`DnsServer`] carries questions and
//! replies, plain ones by UDP in the express lane, all others in the full lane. Which names a service has is the matter of a [`dialect`], one file each. Names outside
//! the zones are forwarded for those who may, and REFUSED for all others.

mod ahead;
mod answer;
#[cfg(test)]
mod answer_tests;
mod asked;
mod build;
mod codes;
pub mod config;
pub mod cookie;
mod counted;
pub mod dialect;
pub mod edns;
pub mod explain;
pub mod express;
pub mod forward;
pub mod full;
mod gather;
#[cfg(test)]
mod guards_tests;
#[cfg(test)]
mod hostile;
pub mod inquire;
mod labels;
pub mod limits;
mod lookup;
pub mod mesos_api;
pub mod metrics;
pub mod node;
mod opt;
#[cfg(test)]
mod oracle;
pub mod rate;
pub mod respond;
mod set;
pub mod settings;
mod soa;
mod stated;
mod tcp;
mod trees;
pub mod wire;
pub mod zone;
mod zone_settings;

pub use config::{DnsConfig, WhenEmpty, ZoneConfig};
pub use forward::{ForwardConfig, Forwarder};
pub use full::DnsServer;
pub use metrics::Metrics;
pub use respond::{Action, Asker, Outcome, Transport, respond, respond_to};
pub use settings::{Settings, ZoneSettings};
pub use zone::ZoneTable;
