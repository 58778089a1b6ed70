//! What cannot be read as a whole: the listing, the answer or the event it stood in is dropped, and
//! what was known before counts on. Faults of one app are no such thing; they are told under it.

use thiserror::Error;

/// Why a body or an event says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::registry) enum Broken {
    /// It is no JSON of the shape that Marathon sends.
    #[error("{what} is nothing that Marathon sends: {why}")]
    Shape {
        /// What was read.
        what: &'static str,
        /// What is wrong, and where.
        why: String,
    },
    /// It ends before its end.
    #[error("{what} ends after {bytes} bytes, in the middle; the connection was cut")]
    Cut {
        /// What was read.
        what: &'static str,
        /// Bytes that came.
        bytes: u64,
    },
    /// There is more of it than the configuration allows.
    #[error("there are more than {max} {what}; raise `{key}` of [registry.{registry}.marathon]")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
        /// Its key.
        key: &'static str,
        /// Name of the registry.
        registry: String,
    },
    /// An event lacks what its kind always has.
    #[error("an event {kind:?} has no `{field}`")]
    Lacks {
        /// Kind of the event.
        kind: String,
        /// What it lacks.
        field: &'static str,
    },
}
