//! Black-box tests: the application on real sockets, asked by real clients. One binary, so that
//! everything is linked once and all tests run beside each other.

mod documents;
mod examples;
mod support;
