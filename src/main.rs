//! The `portolan` binary: reads the command line, everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use portolan::cli::Command;

/// Gives memory of closed connections back to the system, where glibc's allocator keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One process that knows where every service is and tells everyone who asks: by DNS, by carrying
/// connections and requests, and by rendering files.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    if let Some(code) = portolan::cli::by_name(std::env::args_os()) {
        return code;
    }
    Arguments::parse().command.execute()
}
