//! Room `config`.

mod decode;
pub mod document;
mod environment;
