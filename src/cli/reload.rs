//! `portolan reload`: asks the running process, by its unix socket or by its admin address.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::{complain, exit, load, say};
use crate::api::Report;
use crate::app::admin_socket_path;
use crate::config::Config;

/// A reload compiles everything anew; nobody waits longer for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest answer that is read.
const ANSWER_MAX: u64 = 1 << 20;

pub(super) fn reload(file: &Path) -> ExitCode {
    let config = match load(file) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    match ask(&config) {
        Ok((200, body)) => {
            let told = match serde_json::from_str::<Report>(&body) {
                Ok(report) if report.changed.is_empty() => "nothing differs".to_owned(),
                Ok(report) => format!("changed: {}", report.changed.join(", ")),
                Err(_) => body,
            };
            say(&format!("reloaded; {told}"));
            ExitCode::SUCCESS
        }
        Ok((422, body)) => {
            let problems = serde_json::from_str::<serde_json::Value>(&body).unwrap_or_default();
            for problem in problems["problems"].as_array().into_iter().flatten() {
                complain(problem.as_str().unwrap_or_default());
            }
            complain("refused; the configuration stays as it is");
            ExitCode::from(exit::CONFIG)
        }
        Ok((status, body)) => {
            complain(&format!("the running process answered {status}: {}", body.trim_end()));
            ExitCode::from(exit::UNAVAILABLE)
        }
        Err(error) => {
            complain(&format!("portolan: {error}"));
            ExitCode::from(exit::UNAVAILABLE)
        }
    }
}

fn ask(config: &Config) -> io::Result<(u16, String)> {
    let data_dir = config.node.data_dir.as_ref().map(|dir| config.base_dir.join(dir));
    let because = |what: String| move |error| io::Error::other(format!("{what}: {error}"));
    if let Some(path) = admin_socket_path(config, data_dir.as_ref()) {
        let hint = format!("cannot reach the running process at {}; is it up?", path.display());
        let stream = UnixStream::connect(&path).map_err(because(hint))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        return exchange(stream, "");
    }
    let Some(admin) = &config.admin else {
        return Err(io::Error::other(
            "this configuration has neither [node] data_dir nor [admin]; send SIGHUP instead",
        ));
    };
    let Some(listen) = admin.listen else {
        return Err(io::Error::other("[admin] has neither `socket` nor `listen`"));
    };
    let token = match &admin.token_file {
        Some(file) => std::fs::read_to_string(config.base_dir.join(file))
            .map_err(because(format!("cannot read [admin] token_file {}", file.display())))?,
        None => {
            return Err(io::Error::other(
                "a reload needs [admin] token_file or socket, or [node] data_dir; \
                 send SIGHUP instead",
            ));
        }
    };
    let hint = format!("cannot reach the running process at {listen}; is it up?");
    let stream = TcpStream::connect(listen).map_err(because(hint))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, &format!("Authorization: Bearer {}\r\n", token.trim()))
}

/// One request and its whole answer.
fn exchange(mut stream: impl Read + Write, headers: &str) -> io::Result<(u16, String)> {
    let request = format!(
        "POST /v1/reload HTTP/1.1\r\nHost: portolan\r\nContent-Length: 0\r\n{headers}\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status
        .zip(body)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
}
