//! `portolan ready`: whether the process is ready, for scripts that look at the exit status; with an
//! instance or a node, drain and maintenance are undone.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::drain::{More, tell};
use super::{Source, complain, exit, load};
use crate::app::admin_socket_path;
use crate::config::Config;
use crate::units::Period;

/// What stands below the help.
pub(super) const STATUSES: &str = "\
Exit statuses without ID and --node:
  0   ready
  75  not ready: starting, leaving, or a registry was not heard, or is silent for too long
  69  nobody answers there, or not within --timeout
  78  the configuration that tells where to ask has a problem; --socket and --url need none
  2   the command line cannot be read

  portolan ready --url http://127.0.0.1:8611/readyz    # what vrrp_script of keepalived should run
  portolan ready --socket /var/lib/portolan/admin.sock # the same, as the user of the process";

/// Largest part of an answer that is read.
const ANSWER_MAX: usize = 64 << 10;

/// Tell whether the process is ready; or undo drain or maintenance.
#[derive(Debug, clap::Args)]
pub struct Ready {
    /// Undo drain and maintenance of the instance with this id, or `registry/service/id`.
    #[arg(value_name = "ID", conflicts_with = "node")]
    id: Option<String>,
    #[command(flatten)]
    more: More,
    /// Ask this unix socket of the admin face instead of the one in the configuration, which is not
    /// read then.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["id", "node", "url"])]
    socket: Option<PathBuf>,
    /// Ask this page, as `http://127.0.0.1:8611/readyz` or a route with `respond`; 2xx is ready.
    #[arg(long, value_name = "URL", conflicts_with_all = ["id", "node"])]
    url: Option<String>,
    /// How long the whole answer may take.
    #[arg(long, value_name = "PERIOD", default_value = "1s")]
    timeout: Period,
    #[command(flatten)]
    source: Source,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Door {
    Unix(PathBuf),
    Tcp { address: SocketAddr, host: String, path: String },
}

impl Ready {
    pub(super) fn run(&self) -> ExitCode {
        if self.id.is_some() || self.more.node.is_some() {
            let order = self.more.order(self.id.as_deref());
            return tell(&self.source, "/v1/ready", &order).err().unwrap_or(ExitCode::SUCCESS);
        }
        let doors = match self.doors() {
            Ok(doors) => doors,
            Err(code) => return code,
        };
        let mut failed = String::new();
        for door in &doors {
            match door.ask(self.timeout.0) {
                Ok((200..=299, _)) => return ExitCode::SUCCESS,
                Ok((status, body)) => {
                    let why = body.trim().lines().collect::<Vec<_>>().join("; ");
                    complain(&format!("not ready ({status}): {why}"));
                    return ExitCode::from(exit::NOT_YET);
                }
                Err(error) => {
                    failed = format!("{}: {error}", door.name());
                    // The socket is for its own user; reading by TCP is for all.
                    if error.kind() != io::ErrorKind::PermissionDenied {
                        break;
                    }
                }
            }
        }
        complain(&format!("not ready: nobody answers at {failed}"));
        ExitCode::from(exit::UNAVAILABLE)
    }

    fn doors(&self) -> Result<Vec<Door>, ExitCode> {
        if let Some(socket) = &self.socket {
            return Ok(vec![Door::Unix(socket.clone())]);
        }
        if let Some(url) = &self.url {
            let Some(door) = Door::of_url(url) else {
                complain(&format!(
                    "--url {url:?} is not understood; write it as http://ADDRESS:PORT/PATH, with an \
                     IP address or localhost"
                ));
                return Err(ExitCode::from(exit::USAGE));
            };
            return Ok(vec![door]);
        }
        let config = load(&self.source.config)?.config;
        let doors = Door::of(&config);
        if doors.is_empty() {
            complain(
                "this configuration has neither [node] data_dir nor [admin] by which the running \
                 process could be asked",
            );
            return Err(ExitCode::from(exit::CONFIG));
        }
        Ok(doors)
    }
}

impl Door {
    /// The doors of the admin face, the first is the better one.
    fn of(config: &Config) -> Vec<Self> {
        let data_dir = config.node.data_dir.as_ref().map(|dir| config.base_dir.join(dir));
        let mut doors: Vec<Self> =
            admin_socket_path(config, data_dir.as_ref()).into_iter().map(Self::Unix).collect();
        if let Some(address) = config.admin.as_ref().and_then(|admin| admin.listen) {
            let (host, path) = (address.to_string(), "/readyz".to_owned());
            doors.push(Self::Tcp { address, host, path });
        }
        doors
    }

    /// `http://ADDRESS[:PORT][/PATH]`.
    fn of_url(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let named = |host: &str| match host {
            "localhost" => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
            host => host.trim_start_matches('[').trim_end_matches(']').parse().ok(),
        };
        let address = match host.rsplit_once(':') {
            Some((name, port)) if !host.ends_with(']') => {
                SocketAddr::new(named(name)?, port.parse().ok()?)
            }
            _ => SocketAddr::new(named(host)?, 80),
        };
        Some(Self::Tcp { address, host: host.to_owned(), path: path.to_owned() })
    }

    fn name(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp { address, path, .. } => format!("http://{address}{path}"),
        }
    }

    /// Status and body of the answer, within `limit` as a whole.
    fn ask(&self, limit: Duration) -> io::Result<(u16, String)> {
        let end = Instant::now() + limit;
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                exchange(&stream, "portolan", "/readyz", |stream| {
                    let left = left(end)?;
                    stream.set_write_timeout(Some(left))?;
                    stream.set_read_timeout(Some(left))
                })
            }
            Self::Tcp { address, host, path } => {
                let stream = TcpStream::connect_timeout(address, left(end)?)?;
                exchange(&stream, host, path, |stream| {
                    let left = left(end)?;
                    stream.set_write_timeout(Some(left))?;
                    stream.set_read_timeout(Some(left))
                })
            }
        }
    }
}

/// What is left until `end`.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// One request; `limit` is asked before each read how long that may take.
fn exchange<S>(
    stream: &S,
    host: &str,
    path: &str,
    limit: impl Fn(&S) -> io::Result<()>,
) -> io::Result<(u16, String)>
where
    for<'a> &'a S: Read + Write,
{
    limit(stream)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    (&mut &*stream).write_all(request.as_bytes())?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    while answer.len() < ANSWER_MAX {
        limit(stream)?;
        match (&mut &*stream).read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Of sockets with a time limit.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    let garbled = || io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP");
    status.zip(body).ok_or_else(garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_an_address_a_port_and_a_page() {
        for (url, want) in [
            ("http://127.0.0.1:8611/readyz", Some(("127.0.0.1:8611", "127.0.0.1:8611", "/readyz"))),
            ("http://localhost/ready?a=b", Some(("127.0.0.1:80", "localhost", "/ready?a=b"))),
            ("http://[::1]:81", Some(("[::1]:81", "[::1]:81", "/"))),
            ("http://[::1]/x", Some(("[::1]:80", "[::1]", "/x"))),
            ("https://127.0.0.1/", None),
            ("http://shop.example/", None),
            ("http://127.0.0.1:x/", None),
            ("http://127.0.0.1/a b", None),
        ] {
            let want = want.map(|(address, host, path): (&str, &str, &str)| Door::Tcp {
                address: address.parse().unwrap(),
                host: host.to_owned(),
                path: path.to_owned(),
            });
            assert_eq!(Door::of_url(url), want, "{url}");
        }
    }
}
