//! Room `dns`.
