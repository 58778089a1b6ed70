//! Logs and the registry of metrics.

pub mod logs;
