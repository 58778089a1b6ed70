//! Words to the service manager that started us (`sd_notify(3)`): one datagram each.
//!
//! Forty lines of our own instead of a crate: docs/decisions/0078.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Tells the service manager; nobody, where there is none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Option<Arc<Socket>>);

#[derive(Debug)]
struct Socket {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Notifier {
    /// To the socket that `NOTIFY_SOCKET` names, given its value: a path, or an abstract name behind
    /// an `@`. None: to nobody.
    ///
    /// # Errors
    /// The value is neither, or no socket can be had.
    pub fn to(name: Option<&str>) -> io::Result<Self> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let manager = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
            None => {
                let what = format!("NOTIFY_SOCKET={name:?} is neither a path nor an abstract name");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self(Some(Arc::new(Socket { socket, manager }))))
    }

    /// Whether anybody listens.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Sends `words`, lines of `NAME=value`. A manager that does not listen costs nothing.
    pub fn tell(&self, words: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.socket.send_to_addr(words.as_bytes(), &socket.manager) {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }

    /// It serves, and `status` is how it stands.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}\nMAINPID={}", std::process::id()));
    }

    /// It reads its configuration again; [`Self::ready`] ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reloading"));
    }

    /// It ends, for `why`.
    pub fn stopping(&self, why: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={why}"));
    }

    /// From now on `pid` is the process of this service.
    pub fn replaced_by(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\nSTATUS=Upgraded to process {pid}"));
    }
}

/// How often the manager wants to hear that all is well, given the values of `WATCHDOG_USEC` and
/// `WATCHDOG_PID`; none: never, or not from us (`sd_watchdog_enabled(3)`).
#[must_use]
pub fn watchdog(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let own = std::process::id();
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = micros?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_at_a_path_and_at_an_abstract_name_and_nowhere_without_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("portolan-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (to, manager) in
            [(path.to_str().unwrap().to_owned(), by_path), (format!("@{name}"), by_name)]
        {
            Notifier::to(Some(&to)).unwrap().ready("serving");
            let mut bytes = [0; 200];
            let length = manager.recv(&mut bytes).unwrap();
            let want = format!("READY=1\nSTATUS=serving\nMAINPID={}", std::process::id());
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), want);
        }
        for nobody in [None, Some("")] {
            let notifier = Notifier::to(nobody).unwrap();
            assert!(!notifier.is_there());
            notifier.stopping("nobody hears it");
        }
        Notifier::to(path.to_str()).unwrap().stopping("nobody is there any more");
        assert!(Notifier::to(Some("relative")).unwrap_err().to_string().contains("NOTIFY_SOCKET"));
    }

    #[test]
    fn a_watchdog_counts_for_the_process_that_it_names() {
        let own = std::process::id().to_string();
        let ten = Some(Duration::from_secs(10));
        for (case, micros, pid, want) in [
            ("ours", Some("10000000"), Some(&*own), ten),
            ("any", Some("10000000"), None, ten),
            ("another's", Some("10000000"), Some("1"), None),
            ("none", None, None, None),
            ("zero", Some("0"), None, None),
            ("garbage", Some("x"), None, None),
        ] {
            assert_eq!(watchdog(micros, pid), want, "{case}");
        }
    }
}
