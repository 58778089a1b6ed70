//! Functions of templates: everything that consul-template and confd know.
//!
//! One file per family of functions, one table per dialect, because the same function takes its
//! arguments in another order there. Pure functions compute; what asks the catalog goes through
//! [`Source`], what touches the world through [`World`], both carried by a [`Host`].

mod args;
mod case;
mod encoding;
mod host;
mod json;
mod layout;
pub mod objects;
pub mod query;
mod regexes;
mod source;
mod catalog;
mod consul_template;
mod convert;
mod effects;
mod numbers;
mod text;
mod math;
mod scratch;
mod strconv;
mod strings;
mod times;
mod toml_text;
mod yaml;

pub use host::Host;
pub use source::{Answer, FileToWrite, PLUGIN_OUTPUT_MAX, Query, Sealed, Source, Unheard, World};
