//! Go's `text/template`, exactly: parsed once, evaluated often.
//!
//! Pure: no files, no clock but for the deadline, no catalog. What a template can reach is its data
//! and its functions.

pub mod format;
pub mod function;
pub mod text;
pub mod types;
pub mod value;
