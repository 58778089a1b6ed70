//! HTTP: what is refused before anything is done with it, and the lanes that carry the rest.

pub mod carrier;
pub mod chunks;
pub mod connection;
pub mod exchange;
pub mod full;
pub mod kept;
pub mod refusal;
pub mod sanitize;
