//! `portolan reload`: asks the running process to read its configuration again.

use std::path::Path;
use std::process::ExitCode;

use super::ask::{accepted, ask};
use super::{complain, exit, load, say};
use crate::api::Report;

pub(super) fn reload(file: &Path) -> ExitCode {
    let config = match load(file) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let answer = ask(&config, "POST", "/v1/reload");
    if let Ok((422, body)) = &answer {
        let problems = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
        for problem in problems["problems"].as_array().into_iter().flatten() {
            complain(problem.as_str().unwrap_or_default());
        }
        complain("refused; the configuration stays as it is");
        return ExitCode::from(exit::CONFIG);
    }
    let body = match accepted(answer) {
        Ok(body) => body,
        Err(code) => return code,
    };
    let told = match serde_json::from_str::<Report>(&body) {
        Ok(report) if report.changed.is_empty() => "nothing differs".to_owned(),
        Ok(report) => format!("changed: {}", report.changed.join(", ")),
        Err(_) => body,
    };
    say(&format!("reloaded; {told}"));
    ExitCode::SUCCESS
}
