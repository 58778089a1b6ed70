//! How a new state goes out: one pointer, swapped once, read by everyone.

use std::sync::Arc;

/// A read-only view of what was published last, for one reader's part of it.
///
/// Loading costs one atomic load and one reference count; it never waits and never allocates.
/// Load after the bytes to answer have arrived, once per batch, request or connect: only then is
/// an answer never older than what any other face has already shown.
pub struct Current<T: ?Sized>(Arc<dyn Fn() -> Arc<T> + Send + Sync>);

impl<T: ?Sized> Current<T> {
    /// A view that asks `load` each time.
    pub fn new(load: impl Fn() -> Arc<T> + Send + Sync + 'static) -> Self {
        Self(Arc::new(load))
    }

    /// What was published last.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        (self.0)()
    }
}

impl<T: ?Sized> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
