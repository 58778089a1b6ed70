//! HTTP: what is refused before anything is done with it, and the lanes that carry the rest.

pub mod access;
pub mod auth;
pub mod broken;
pub mod came;
pub mod carrier;
pub mod chunks;
pub mod connection;
pub mod edits;
pub mod error_page;
pub mod exchange;
pub mod full;
pub mod h2;
pub mod kept;
pub mod lenient;
mod limited;
mod linger;
pub mod location;
mod paced;
pub mod redirect;
pub mod refusal;
pub mod retry;
pub mod rewrite;
pub mod sanitize;
pub mod slow;
mod stick;
mod story;
pub mod terms;
pub mod trace;
pub mod variable;

/// Cases of each property of the parsers; ten thousand times as much work with `PORTOLAN_FULL`.
#[cfg(test)]
pub(super) fn fuzz_cases() -> u32 {
    if std::env::var_os("PORTOLAN_FULL").is_some() { 1_000_000 } else { 512 }
}
