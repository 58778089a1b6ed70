//! Portolan beside the servers it replaces: CPU time per operation and memory per connection,
//! measured in one run on one machine, so that the ratios hold where the figures don't.
//!
//! `make bench` runs all of it, `make bench-check` judges it by `bounds.toml`. CPU time of the
//! server's processes is compared, not throughput: on a small machine the load generator shares
//! the cores with the server, and what gets through says more about the generator.

// What a harness finds goes to the terminal: that is its job.
#![allow(clippy::print_stdout)]
// Cargo sets `cfg(test)` for a bench without a test runner too: the tests are dropped, what only
// they use is not. `tests.rs` has the same modules and is checked for both.
#![allow(dead_code, unused_imports)]

mod added;
mod bounds;
mod changes;
mod churn;
mod fleet;
mod helpers;
mod idle;
mod load;
mod machine;
mod peer;
mod peers;
mod probe;
mod process;
mod report;
mod rounds;
mod run;
mod tasks;
mod tls;
mod trouble;
mod zone;

fn main() -> std::process::ExitCode {
    run::main()
}
