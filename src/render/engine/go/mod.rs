//! Go's `text/template`, exactly: parsed once, evaluated often.
//!
//! Pure: no files, no clock but for the deadline, no catalog. What a template can reach is its data
//! and its functions. [`Templates`] is the face: [`Templates::parse`], [`Templates::execute`].
//!
//! The language, its error messages and its corners are those of Go 1.27; `tests/go/` compares
//! with the real one. Beyond Go there are limits ([`Limits`]): errors, never panics.

mod ast;
mod builtins;
mod call;
mod collection;
mod compare;
mod error;
mod escape;
mod exec;
mod field;
pub mod format;
pub mod function;
mod lex;
mod lex_action;
mod number;
mod parse;
mod parse_pipe;
mod pipeline;
mod quote;
mod templates;
pub mod text;
mod token;
pub mod types;
mod val;
pub mod value;
mod walk;

pub use error::{Error, ErrorKind};
pub use format::NumberFormat;
pub use function::{
    Budget, Context, Function, FunctionError, Functions, Limit, Limits, Runner, Signature,
};
pub use templates::{MissingKey, Options, Templates};
pub use text::Text;
pub use types::{FloatKind, IntKind, Named, Type, UintKind};
pub use value::{Entries, Items, List, Map, Object, Sequence, Step, Value};
