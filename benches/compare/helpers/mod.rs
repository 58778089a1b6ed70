//! This same program in processes of their own: origins, loads and the idle connections.
//!
//! A helper prints one line per fact and ends when its standard input does, so none outlives a
//! harness that was killed.

mod client;
pub(crate) mod handshakes;
mod origin;
mod paced;
mod udp;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use crate::probe;
use crate::trouble::{Doing, Trouble};

/// What the program does instead of measuring when the harness starts it again.
#[derive(Debug, Clone, clap::Subcommand)]
#[command(rename_all = "kebab-case")]
pub(crate) enum Helper {
    /// Answers every HTTP request with a small body; prints its address.
    #[command(hide = true)]
    OriginHttp,
    /// The same on every address of loopback; prints one of them.
    #[command(hide = true)]
    OriginHttpEverywhere,
    /// Sends back what it receives; prints its address.
    #[command(hide = true)]
    OriginTcp,
    /// Sends back datagrams; prints its address.
    #[command(hide = true)]
    OriginUdp,
    /// Sends 64-byte datagrams to and fro, one under way in each flow; prints the same as `tcp-load`.
    #[command(hide = true)]
    UdpLoad { address: SocketAddr, flows: u32, seconds: u32 },
    /// Sends 64-byte messages to and fro; prints the operations, the errors and the seconds.
    #[command(hide = true)]
    TcpLoad { address: SocketAddr, connections: u32, seconds: u32 },
    /// Reads streams as fast as they come; prints the megabytes, the errors and the seconds.
    #[command(hide = true)]
    TcpBulk { address: SocketAddr, connections: u32, seconds: u32 },
    /// Connects, sends 64 bytes to and fro and closes, so many at a time; prints the operations, the
    /// errors and the seconds.
    #[command(hide = true)]
    TcpConnects { address: SocketAddr, connections: u32, seconds: u32 },
    /// Makes so many requests a second through the route in the middle; prints the same.
    #[command(hide = true)]
    HttpLoad { address: SocketAddr, connections: u32, rate: u32, seconds: u32 },
    /// Makes TLS handshakes, full or resumed ones; prints the same.
    #[command(hide = true)]
    TlsLoad {
        address: SocketAddr,
        threads: u32,
        seconds: u32,
        #[arg(long)]
        resumed: bool,
    },
    /// Opens connections over TLS, makes one request on each and keeps them; prints how many are open.
    #[command(hide = true)]
    IdleTls { address: SocketAddr, connections: u32 },
    /// Opens connections, sends 64 bytes to and fro on each and keeps them; prints how many are open.
    #[command(hide = true)]
    IdleTcp { address: SocketAddr, connections: u32 },
    /// Opens connections, makes one request on each and keeps them; prints how many are open.
    #[command(hide = true)]
    Idle { address: SocketAddr, connections: u32 },
}

/// A helper that runs.
#[derive(Debug)]
pub(crate) struct Helping {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Helping {
    /// Starts this program again with a helper's `arguments`.
    pub(crate) fn start(arguments: &[String]) -> Result<Self, Trouble> {
        let doing = || format!("start the helper {}", arguments.join(" "));
        let harness = std::env::current_exe().doing(doing)?;
        let mut child = Command::new(harness)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .doing(doing)?;
        let stdin = child.stdin.take();
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| std::io::ErrorKind::BrokenPipe.into())
            .doing(doing)?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Starts an origin and gives the address it listens on.
    pub(crate) fn origin(kind: &str) -> Result<(Self, SocketAddr), Trouble> {
        let mut origin = Self::start(&[kind.into()])?;
        let line = origin.line()?;
        let address = line.parse().map_err(|_| Trouble::Load {
            generator: "an origin",
            why: "no address".into(),
            output: line,
        })?;
        Ok((origin, address))
    }

    /// The next line that it prints; empty when it has ended.
    pub(crate) fn line(&mut self) -> Result<String, Trouble> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).doing(|| "read from a helper".into())?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Helping {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends with its input; an error means that it had ended before.
        let _ = self.child.wait();
    }
}

/// Runs as a helper until standard input ends.
pub(crate) fn run(helper: &Helper) -> ExitCode {
    std::thread::spawn(|| {
        // An error is an end, too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let done = match *helper {
        Helper::OriginHttp => origin::http(),
        Helper::OriginHttpEverywhere => origin::http_everywhere(),
        Helper::OriginTcp => origin::tcp(),
        Helper::OriginUdp => udp::origin(),
        Helper::UdpLoad { address, flows, seconds } => udp::ping_pong(address, flows, seconds),
        Helper::TcpLoad { address, connections, seconds } => {
            client::ping_pong(address, connections, seconds)
        }
        Helper::TcpBulk { address, connections, seconds } => {
            client::bulk(address, connections, seconds)
        }
        Helper::TcpConnects { address, connections, seconds } => {
            client::connects(address, connections, seconds)
        }
        Helper::HttpLoad { address, connections, rate, seconds } => {
            paced::requests(address, connections, rate, seconds);
            Ok(())
        }
        Helper::TlsLoad { address, threads, seconds, resumed } => {
            handshakes::handshakes(address, threads, seconds, resumed);
            Ok(())
        }
        Helper::IdleTls { address, connections } => handshakes::idle(address, connections),
        Helper::IdleTcp { address, connections } => {
            client::idle(address, connections, probe::echoes)
        }
        Helper::Idle { address, connections } => client::idle(address, connections, client::asked),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{helper:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime of one thread, for helpers with many connections.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
