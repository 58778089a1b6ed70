//! What is known about services, and the one place where it changes.
//!
//! Registries say what they see ([`source`]); the [`guard`] holds what one that is suspect would take
//! away; [`assemble`](mod@assemble) unites what counts with the verdicts of checks ([`verdict`]) into
//! a [`Snapshot`] that never changes again; [`publish`] decides when the next one goes out and hands
//! it to those who compile tables from it; [`store`] keeps the last good state on disk. Health
//! ([`health`]) is decided before a snapshot exists, so that every face of one generation agrees
//! on who is eligible.

pub mod assemble;
mod feeds;
pub mod guard;
pub mod health;
pub mod history;
pub mod interest;
pub mod keys;
pub mod locality;
pub mod model;
pub mod networks;
pub mod observed;
pub mod operations;
pub mod operations_store;
pub mod publish;
pub mod settings;
pub mod shards;
pub mod snapshot;
pub mod source;
pub mod stale;
pub mod store;
pub mod verdict;
pub mod why;
pub mod wish;

pub use interest::{Interest, Wanted};
pub use keys::{Key, Keys};
pub use model::{Address, Health, Instance, Nodes, Presence, Service, Weight};
pub use shards::Shards;
pub use snapshot::{RegistryStatus, Snapshot, Told};
pub use source::{Parts, Problem, RegistryState, RegistryView, SourceService};
pub use verdict::{Ejection, InstanceVerdict, ServiceVerdicts, Verdict, Verdicts};
