//! What is known about services, and the one place where it changes.
//!
//! Registries say what they see ([`source`]); [`assemble`](mod@assemble) unites it into a
//! [`Snapshot`] that never changes again; [`publish`] decides when the next one goes out and hands
//! it to those who compile tables from it; [`store`] keeps the last good state on disk. Health
//! ([`health`]) is decided before a snapshot exists, so that every face of one generation agrees
//! on who is eligible.

pub mod assemble;
pub mod health;
pub mod model;
pub mod observed;
pub mod publish;
pub mod shards;
pub mod snapshot;
pub mod source;
pub mod store;

pub use model::{Address, Health, Instance, Presence, Service, Weight};
pub use shards::Shards;
pub use snapshot::{RegistryStatus, Snapshot};
pub use source::{Problem, RegistryState, RegistryView, SourceService};
