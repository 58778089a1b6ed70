//! keepalived's `virtual_server` blocks as listeners, services and instances of ours.
//!
//! VRRP stays with keepalived: it moves the address, and asks us whether we are ready. Facts about it
//! are those of release 2.2; older spellings (`lb_algo`, `lb_kind`, `nb_get_retry`) are understood.

mod addresses;
mod check;
mod lines;
mod note;
mod server;
mod tree;
mod write;

use std::path::Path;

use super::{Plan, Refused};

/// What a keepalived.conf comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Migrated {
    /// A configuration of ours that reads the instances from `services.toml`, with what differs.
    pub plan: Plan,
    /// The text of that file.
    pub services: String,
}

/// What the keepalived.conf `file` comes to; `id` is what its `@` conditions ask for. Blocks on
/// reading it and what it includes.
///
/// # Errors
/// A file cannot be read, or its blocks, quotes and parameters cannot be resolved: every problem,
/// with its place.
pub fn plan(file: &Path, id: &str) -> Result<Migrated, Refused> {
    lines::of_file(file, id).and_then(|lines| of_lines(&lines)).map_err(Refused::Configuration)
}

fn of_lines(lines: &[lines::Line]) -> Result<Migrated, Vec<String>> {
    let statements = tree::parse(lines)?;
    let mut notes = note::Notes::default();
    let found = server::read(&statements, &mut notes);
    if found.is_empty() {
        notes.once("There is no `virtual_server` in it: nothing is carried.");
    }
    Ok(write::write(&found, notes))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
