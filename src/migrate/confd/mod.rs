//! Installations of confd: `conf.d`, `confd.toml` and its command line, as a configuration of ours.
//!
//! Both generations are read: 0.16 and what came before, and today's. Where they differ, the prefix
//! rule tells them apart ([`PrefixRule`]). [`plan`] is for running it: its text has one `[confd]`
//! table, which is written out when it is loaded, so that a reload sees another `conf.d`.
//! [`written_out`] is for whoever moves over: its text has the templates and registries themselves.

mod command;
mod config;
mod duration;
mod expand;
mod flags;
mod plan;
mod resource;
mod source;

pub use config::{Backend, ConfdConfig, PrefixRule, Scheme, Token};
pub use expand::{Around, Broken, Expansion, Template, expand};
pub use plan::{Check, Planned, plan, written_out};
