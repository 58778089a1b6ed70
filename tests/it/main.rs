//! Black-box tests: the application on real sockets, asked by real clients. One binary, so that
//! everything is linked once and all tests run beside each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed; helpers are tests too"
)]

mod documents;
mod examples;
mod support;
