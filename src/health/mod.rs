//! Health: what checks and the proxy find out about instances, beyond what their registries say.
//!
//! Outlier detection ([`outlier`], pure; [`outlier_task`] looks and tells) ejects instances by what
//! the proxy saw of them. [`verdicts`] unites its word with that of the checks, for the catalog.
//! [`strategy`] (pure) decides when an unhealthy instance is to be recreated, and [`recreate`] tells
//! it, by [`deliver`].

pub mod deliver;
pub mod outlier;
pub mod outlier_config;
pub mod outlier_task;
mod post;
pub mod recreate;
mod siblings;
pub mod strategy;
pub mod verdicts;

pub use outlier_config::OutlierConfig;
pub use outlier_task::{OutlierMetrics, Outliers};
pub use strategy::{OnFailureConfig, Strategies};
