//! Functions of templates: everything that consul-template and confd know.
//!
//! One file per family of functions, one table per dialect, because the same function takes its
//! arguments in another order there. Pure functions compute; what asks the catalog goes through
//! [`Source`], what touches the world through [`World`], both carried by a [`Host`].

#![allow(clippy::unnecessary_wraps, reason = "the functions of a table have one type")]

mod args;
mod case;
mod catalog;
mod confd;
mod confd_store;
mod confd_text;
mod consul_template;
mod convert;
mod effects;
mod encoding;
mod host;
mod json;
mod layout;
mod math;
mod mutable;
mod numbers;
pub mod objects;
pub mod query;
mod regexes;
mod scratch;
mod semver;
mod source;
mod sprig;
mod sprig_lists;
mod sprig_maps;
mod sprig_misc;
mod sprig_names;
mod sprig_numbers;
mod sprig_regex;
mod sprig_text;
mod strconv;
mod strings;
mod system;
mod text;
mod times;
mod toml_text;
mod urls;
mod yaml;

pub use host::Host;
pub use source::{Answer, FileToWrite, PLUGIN_OUTPUT_MAX, Query, Sealed, Source, Unheard, World};
pub use system::System;
pub(in crate::render) use system::id_of;

/// Whether `name` matches the glob `pattern`, as Go's `path.Match` has it; a broken one matches none.
pub(in crate::render) fn glob(pattern: &str, name: &str) -> bool {
    strings::matches(pattern, name).unwrap_or(false)
}

use super::engine::go::function::{FunctionError, Functions};
use args::Entry;

/// Whose functions a template is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// consul-template 0.42, the `sprig_` functions among them.
    ConsulTemplate,
    /// confd as it is kept today.
    Confd,
    /// confd as it was up to 0.16: `seq` only counts upwards.
    LegacyConfd,
}

/// The functions of `dialect`. Those that `denied` names are there, but each call of them is an
/// error that says so.
#[must_use]
pub fn functions(dialect: Dialect, denied: &[String]) -> Functions {
    let tables: &[&'static [Entry]] = match dialect {
        Dialect::ConsulTemplate => &[consul_template::TABLE, sprig::TABLE],
        Dialect::Confd => &[confd::TABLE],
        Dialect::LegacyConfd => &[confd::TABLE, confd::LEGACY],
    };
    let mut functions = Functions::new();
    for entry in tables.iter().flat_map(|table| table.iter()) {
        if denied.iter().any(|denied| denied == entry.name) {
            functions.add(entry.name, entry.signature, |_, _| {
                Err(FunctionError::failed("function is disabled"))
            });
        } else {
            let code = entry.code;
            functions.add(entry.name, entry.signature, move |context, args| {
                args::bounded(code(context, args)?)
            });
        }
    }
    functions
}

#[cfg(test)]
mod testing;

#[cfg(test)]
#[path = "page_tests.rs"]
mod page_tests;

#[cfg(test)]
#[path = "rows_tests.rs"]
mod rows_tests;

#[cfg(test)]
#[path = "go_tests.rs"]
mod go_tests;

#[cfg(test)]
#[path = "host_tests.rs"]
mod host_tests;
