//! One question to the running process.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use super::{complain, exit};
use crate::app::admin_socket_path;
use crate::config::Config;

/// A reload compiles everything anew; nobody waits longer for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest answer that is read.
const ANSWER_MAX: u64 = 64 << 20;

/// Asks the running process by its unix socket, or else by its admin address: the status of its
/// answer, and the body.
///
/// # Errors
/// What could not be reached or read, and what to do about it.
pub(super) fn ask(config: &Config, method: &str, path: &str) -> io::Result<(u16, String)> {
    ask_with(config, method, path, "")
}

/// The body of an answer with status 200.
///
/// # Errors
/// What the program ends with; why has been told then.
pub(super) fn accepted(answer: io::Result<(u16, String)>) -> Result<String, ExitCode> {
    match answer {
        Ok((200, body)) => return Ok(body),
        Ok((status, body)) => {
            complain(&format!("the running process answered {status}: {}", body.trim_end()));
        }
        Err(error) => complain(&format!("portolan: {error}")),
    }
    Err(ExitCode::from(exit::UNAVAILABLE))
}

/// As [`ask`], with a body.
///
/// # Errors
/// What could not be reached or read, and what to do about it.
pub(super) fn ask_with(
    config: &Config,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    ask_within(config, method, path, body, PATIENCE)
}

/// As [`ask_with`], with another patience.
///
/// # Errors
/// What could not be reached or read, and what to do about it.
pub(super) fn ask_within(
    config: &Config,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let data_dir = config.node.data_dir.as_ref().map(|dir| config.base_dir.join(dir));
    let because = |what: String| move |error| io::Error::other(format!("{what}: {error}"));
    if let Some(socket) = admin_socket_path(config, data_dir.as_ref()) {
        let hint = format!("cannot reach the running process at {}; is it up?", socket.display());
        let stream = UnixStream::connect(&socket).map_err(because(hint))?;
        stream.set_read_timeout(Some(patience))?;
        return exchange(stream, method, path, "", body);
    }
    let Some(admin) = &config.admin else {
        return Err(io::Error::other(
            "this configuration has neither [node] data_dir nor [admin] by which the running \
             process could be asked",
        ));
    };
    let Some(listen) = admin.listen else {
        return Err(io::Error::other("[admin] has neither `socket` nor `listen`"));
    };
    let token = match &admin.token_file {
        Some(file) => std::fs::read_to_string(config.base_dir.join(file))
            .map_err(because(format!("cannot read [admin] token_file {}", file.display())))?,
        // On loopback reading is free.
        None if method == "GET" => String::new(),
        None => {
            let (what, instead) = match path {
                "/v1/reload" => ("a reload needs", "; send SIGHUP instead"),
                "/v1/upgrade" => ("an upgrade needs", "; send SIGUSR2 instead"),
                _ => ("this needs", ""),
            };
            return Err(io::Error::other(format!(
                "{what} [admin] token_file or socket, or [node] data_dir{instead}"
            )));
        }
    };
    let hint = format!("cannot reach the running process at {listen}; is it up?");
    let stream = TcpStream::connect(listen).map_err(because(hint))?;
    stream.set_read_timeout(Some(patience))?;
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    exchange(stream, method, path, if token.is_empty() { "" } else { &bearer }, body)
}

/// One request and its whole answer.
fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: portolan\r\nContent-Length: {}\r\n{headers}\
         Connection: close\r\n\r\n{body}",
        body.len()
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
