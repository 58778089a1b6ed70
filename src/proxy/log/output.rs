//! Where lines are written: standard output, a file, a syslog daemon. Blocks; only the writer's
//! thread comes here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::proxy::config::LogTarget;

/// Pause between two looks whether a file still lies where it was, and between two tries to reach
/// a syslog daemon.
const LOOK: Duration = Duration::from_secs(1);
/// A syslog server's name is looked up again after this long.
const RESOLVE: Duration = Duration::from_secs(60);

/// An open log.
#[derive(Debug)]
pub(super) struct Output {
    to: LogTarget,
    name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Stdout(File),
    File(LogFile),
    Syslog(Syslog),
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    looked: Instant,
}

#[derive(Debug, Default)]
struct Syslog {
    socket: Option<(Socket, Instant)>,
    /// When it could not be reached last.
    failed: Option<Instant>,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// What could not be written.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// Lines lost by an error.
    pub(super) lines: u64,
    /// Lines that no datagram can hold.
    pub(super) too_long: u64,
    /// What the system said last.
    pub(super) error: Option<io::Error>,
}

impl Output {
    /// Opens `to`; a file is made if need be. A syslog daemon is reached with the first line.
    pub(super) fn open(to: &LogTarget) -> io::Result<Self> {
        let kind = match to {
            LogTarget::File(path) => Kind::File(LogFile {
                path: path.clone(),
                file: append_to(path)?,
                looked: Instant::now(),
            }),
            LogTarget::Syslog(_) | LogTarget::Unix(_) => Kind::Syslog(Syslog::default()),
            LogTarget::Stdout | LogTarget::None => {
                Kind::Stdout(File::from(io::stdout().as_fd().try_clone_to_owned()?))
            }
        };
        Ok(Self { to: to.clone(), name: to.to_string(), kind })
    }

    /// What it is called in the configuration.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Opens a file anew by its name.
    pub(super) fn reopen(&mut self) {
        if let Kind::File(file) = &mut self.kind {
            file.reopen();
        }
    }

    /// Writes `lines` lines, each with its end.
    pub(super) fn write(&mut self, bytes: &[u8], lines: u64) -> Failed {
        let written = match &mut self.kind {
            Kind::Stdout(file) => write_all(file, bytes),
            Kind::File(log) => {
                log.look();
                write_all(&mut log.file, bytes)
            }
            Kind::Syslog(syslog) => return syslog.write(&self.to, bytes),
        };
        match written {
            Ok(()) => Failed::default(),
            Err(error) => Failed { lines, too_long: 0, error: Some(error) },
        }
    }
}

/// Opens a file to write at its end. Never waits for the reader of a pipe: without one there is an
/// error.
fn append_to(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).custom_flags(flags.cast_signed());
    options.open(path)
}

/// Writes all of `bytes`; waits for a pipe that takes nothing now.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for_room(file),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns once `file` takes bytes again, or is broken, which the next write will tell.
fn wait_for_room(file: &File) {
    // An error is an interruption: then it is tried again.
    let _ = poll(&mut [PollFd::new(file, PollFlags::OUT)], None);
}

impl LogFile {
    /// Whether the file still lies where it was, at most once a second.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let there = std::fs::metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
        let ours = self.file.metadata().ok().map(|ours| (ours.dev(), ours.ino()));
        if there != ours {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        match append_to(&self.path) {
            Ok(file) => self.file = file,
            // The old file still takes lines, wherever it lies now.
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the access log cannot be opened anew");
            }
        }
    }
}

impl Syslog {
    fn write(&mut self, to: &LogTarget, bytes: &[u8]) -> Failed {
        let mut failed = Failed::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match self.send(to, line) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                    failed.too_long += 1;
                }
                Err(error) => {
                    failed.lines += 1;
                    failed.error = Some(error);
                }
            }
        }
        failed
    }

    /// Sends one message; over a new socket once more, for a daemon that started anew.
    fn send(&mut self, to: &LogTarget, line: &[u8]) -> io::Result<()> {
        if self.socket.as_ref().is_some_and(|(_, since)| since.elapsed() > RESOLVE) {
            self.socket = None;
        }
        let sent = match &self.socket {
            Some((socket, _)) => socket.send(line),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match sent {
            Err(error) if error.raw_os_error() != Some(Errno::MSGSIZE.raw_os_error()) => {}
            sent => return sent,
        }
        self.socket = None;
        if self.failed.is_some_and(|failed| failed.elapsed() < LOOK) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let reached = Socket::reach(to).and_then(|socket| socket.send(line).map(|()| socket));
        match reached {
            Ok(socket) => {
                self.failed = None;
                self.socket = Some((socket, Instant::now()));
                Ok(())
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                Err(error)
            }
        }
    }
}

impl Socket {
    #[allow(
        clippy::disallowed_methods,
        reason = "it blocks on DNS in the writer's own thread, where nobody is carried"
    )]
    fn reach(to: &LogTarget) -> io::Result<Self> {
        match to {
            LogTarget::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Self::Unix(socket))
            }
            LogTarget::Syslog(address) => {
                let nobody = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let address = address.to_socket_addrs()?.next().ok_or_else(nobody)?;
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                    SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Ok(Self::Udp(socket))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn send(&self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(line).map(|_| ()),
            Self::Unix(socket) => socket.send(line).map(|_| ()),
        }
    }
}
