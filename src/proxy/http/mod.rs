//! HTTP: what is refused before anything is done with it, and the lanes that carry the rest.

pub mod access;
pub mod carrier;
pub mod chunks;
pub mod connection;
pub mod edits;
pub mod error_page;
pub mod exchange;
pub mod full;
pub mod kept;
mod limited;
mod linger;
mod paced;
pub mod redirect;
pub mod refusal;
pub mod retry;
pub mod rewrite;
pub mod sanitize;
mod stick;
mod story;
pub mod trace;
