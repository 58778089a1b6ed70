//! Portolan.
pub mod api;
pub mod app;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod dns;
pub mod lifecycle;
pub mod net;
pub mod proxy;
pub mod random;
pub mod registry;
pub mod render;
pub mod suggest;
pub mod telemetry;
pub mod units;
