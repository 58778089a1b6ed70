//! `portolan upgrade`: asks the running process to let another one take over.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::ask::ask_within;
use super::{Source, complain, exit, load, say};
use crate::app::upgrade::Upgraded;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Upgrade {
    #[command(flatten)]
    source: Source,
    /// The program to start. Default: the path that the running process was started by, where the new
    /// version was installed.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

impl Upgrade {
    pub(super) fn run(self) -> ExitCode {
        // One that has a mistake would be refused by the new process as well, and later.
        let config = match load(&self.source.config) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let body = match self.binary.map(std::path::absolute).transpose() {
            Ok(None) => String::new(),
            Ok(Some(binary)) => json!({ "binary": binary }).to_string(),
            Err(error) => {
                complain(&format!("portolan: {error}"));
                return ExitCode::from(exit::USAGE);
            }
        };
        say("asked the running process to hand over to a new one");
        // The new one has its time, and then what is kept is written once more.
        let limit = config.process.upgrade_timeout.0 + std::time::Duration::from_secs(30);
        match ask_within(&config, "POST", "/v1/upgrade", &body, limit) {
            Ok((200, body)) => {
                match serde_json::from_str::<Upgraded>(&body) {
                    Ok(Upgraded { pid, sockets, ready_millis, total_millis }) => say(&format!(
                        "process {pid} serves: {sockets} sockets handed over, ready after \
                         {ready_millis} ms, in place after {total_millis} ms; the process before it \
                         drains"
                    )),
                    Err(_) => say(&body),
                }
                ExitCode::SUCCESS
            }
            Ok((status, body)) => {
                let told = serde_json::from_str::<serde_json::Value>(&body).unwrap_or_default();
                let why = told["message"].as_str().unwrap_or_else(|| body.trim_end());
                complain(&format!("no upgrade ({status}): {why}"));
                complain("the running process goes on as before");
                ExitCode::from(exit::UNAVAILABLE)
            }
            Err(error) => {
                complain(&format!("portolan: {error}"));
                ExitCode::from(exit::UNAVAILABLE)
            }
        }
    }
}
