//! Runs the tests that stand beside the harness's code: `main.rs` has no test runner of its own.

// What a harness finds goes to the terminal: that is its job.
#![allow(clippy::print_stdout)]

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

/// Reaches all that only `main.rs` calls, so that it isn't dead code here.
const _: fn() -> std::process::ExitCode = run::main;
