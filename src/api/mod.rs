//! The admin face: health, readiness, metrics, status, services, and what can be done by
//! it: a reload, drain, maintenance, weight. And the metadata API, for the containers themselves.

mod admin;
mod collect;
mod config;
mod explain;
pub mod haproxy;
mod mesos;
pub mod operate;
mod push;
mod upgrade;
mod why;

pub mod metadata;

pub use admin::{Admin, Problems, Reload, Report};
pub use collect::Services;
pub use config::AdminConfig;
pub use explain::Explain;
pub use mesos::{MesosAnswers, MesosQuestion, mesos};
pub use operate::{Operate, OperationsConfig};
pub use push::{Push, PushRefusal};
pub use upgrade::{UpgradeRefused, UpgradeWish};
pub use why::{Inquiry as UrlInquiry, Reasons, UrlReasons};
