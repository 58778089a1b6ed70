//! The metadata API: what services, containers, stacks and hosts there are, told to the containers
//! themselves, with the routes, versions and forms of rancher-metadata.
//!
//! A request is answered from one snapshot: `chart` puts it in order, `look` walks a path of it
//! as the client is told it, `form` writes what stands there as text, JSON or YAML. A poll waits
//! until what stands at its path is something else; it is woken by one watch.

mod answers;
mod chart;
mod config;
mod face;
mod form;
mod live;
mod look;
mod metrics;
mod node;
mod place;
mod request;
mod serve;
mod version;

pub use config::{Addresses, MetadataConfig};
pub use face::{Metadata, Surroundings};
pub use metrics::Metrics;
