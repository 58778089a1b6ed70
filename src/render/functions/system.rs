//! The real world, as far as templates may touch it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::source::{FileToWrite, PLUGIN_OUTPUT_MAX, World};

/// The world of this process. Calls may block: for a lookup, for a command up to its time limit.
#[derive(Debug, Clone)]
pub struct System {
    /// Files outside of this folder are refused, symbolic links followed; none for everywhere.
    pub sandbox: Option<PathBuf>,
    /// Longest time that a command may take; 30 s in consul-template.
    pub plugin_timeout: Duration,
}

impl Default for System {
    /// No sandbox, 30 seconds.
    fn default() -> Self {
        Self { sandbox: None, plugin_timeout: Duration::from_secs(30) }
    }
}

impl System {
    /// `path`, if the sandbox allows it. A file that is not there yet is judged by its folder.
    pub(in crate::render) fn allowed(&self, path: &Path) -> Result<(), String> {
        let Some(sandbox) = &self.sandbox else { return Ok(()) };
        let outside = || format!("'{}' is outside of sandbox", path.display());
        let sandbox = sandbox.canonicalize().map_err(|_| outside())?;
        let mut known = path;
        loop {
            match known.canonicalize() {
                Ok(real) if real.starts_with(&sandbox) => break,
                Ok(_) => return Err(outside()),
                Err(_) => known = known.parent().ok_or_else(outside)?,
            }
        }
        // What is not there yet must not climb out again.
        let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
        if climbs { Err(outside()) } else { Ok(()) }
    }
}

impl World for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn zone(&self) -> TimeZone {
        TimeZone::system()
    }

    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        Ok(std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn hostname(&self) -> Result<String, String> {
        Ok(rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    #[allow(clippy::disallowed_methods, reason = "the template has to wait for it anyway")]
    fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let found = (host, 0).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
        Ok(found.map(|address| address.ip()).collect())
    }

    /// From `/proc/net`: addresses of IPv4 by the subnet of their route.
    fn interfaces(&self) -> Result<Vec<(String, IpAddr)>, String> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let v4 = addresses_v4(&read("/proc/net/fib_trie")?, &read("/proc/net/route")?);
        let v6 = addresses_v6(&read("/proc/net/if_inet6").unwrap_or_default());
        Ok(v4.into_iter().chain(v6).collect())
    }

    fn exists(&self, path: &Path) -> Result<bool, String> {
        self.allowed(path)?;
        Ok(path.exists())
    }

    fn run(&self, program: &str, args: &[String]) -> Result<Vec<u8>, String> {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("exec {program:?}: {error}"))?;
        let group = rustix::process::Pid::from_child(&child);
        let result = output_of(child, program, self.plugin_timeout);
        if matches!(result, Err(Ended::Cut(_))) {
            // The whole group, so that nothing that it started stays behind; as long as something
            // of it lives, its number is its own.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        result.map_err(|(Ended::Cut(why) | Ended::Badly(why))| why)
    }

    fn write(&self, file: &FileToWrite) -> Result<(), String> {
        let path = Path::new(&file.path);
        self.allowed(path)?;
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(told)?;
        }
        let mut options = fs::OpenOptions::new();
        options.create(true).mode(file.mode).append(file.append);
        options.write(true).truncate(!file.append);
        let mut open = options.open(path).map_err(told)?;
        open.write_all(&file.content).map_err(told)?;
        open.set_permissions(fs::Permissions::from_mode(file.mode)).map_err(told)?;
        let user = id_of(&file.user, "/etc/passwd")?;
        let group = id_of(&file.group, "/etc/group")?;
        std::os::unix::fs::fchown(&open, user, group).map_err(told)
    }
}

/// The number of a user or group, given as such or by name; none of an empty name.
pub(in crate::render) fn id_of(name: &str, table: &str) -> Result<Option<u32>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let lines = fs::read_to_string(table).map_err(|error| format!("{table}: {error}"))?;
    let found = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    found.map(Some).ok_or_else(|| format!("{name:?} is not in {table}; use its number"))
}

/// Why a command gave nothing.
enum Ended {
    /// It still runs and is to be killed.
    Cut(String),
    /// By itself, but not well.
    Badly(String),
}

/// What is heard of a command.
enum Heard {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Status(std::io::Result<ExitStatus>),
}

/// What `child` prints, once it has ended well and within `timeout`.
fn output_of(mut child: Child, program: &str, timeout: Duration) -> Result<Vec<u8>, Ended> {
    let deadline = Instant::now() + timeout;
    let (sender, receiver) = mpsc::channel();
    let streams = (child.stdout.take(), child.stderr.take());
    // Nobody listens any more after the time limit; sending fails then, which is all right.
    let (to, stream) = (sender.clone(), streams.0);
    std::thread::spawn(move || to.send(Heard::Stdout(all_of(stream))));
    let (to, stream) = (sender.clone(), streams.1);
    std::thread::spawn(move || to.send(Heard::Stderr(all_of(stream))));
    std::thread::spawn(move || sender.send(Heard::Status(child.wait())));
    let (mut stdout, mut stderr, mut status) = (None, None, None);
    while stdout.is_none() || stderr.is_none() || status.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(Heard::Stdout(bytes) | Heard::Stderr(bytes)) if bytes.len() > PLUGIN_OUTPUT_MAX => {
                let why = format!("exec {program:?}: printed more than {PLUGIN_OUTPUT_MAX} bytes");
                return Err(Ended::Cut(why));
            }
            Ok(Heard::Stdout(bytes)) => stdout = Some(bytes),
            Ok(Heard::Stderr(bytes)) => stderr = Some(bytes),
            Ok(Heard::Status(ended)) => {
                let told = |error| Ended::Badly(format!("exec {program:?}: {error}"));
                status = Some(ended.map_err(told)?);
            }
            Err(_) => {
                let seconds = timeout.as_secs_f64();
                return Err(Ended::Cut(format!("exec {program:?}: did not finish in {seconds}s")));
            }
        }
    }
    let text =
        |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    match status {
        Some(status) if status.success() => Ok(stdout.unwrap_or_default()),
        status => {
            let status = status.map_or_else(String::new, |status| status.to_string());
            let (stdout, stderr) = (text(stdout), text(stderr));
            Err(Ended::Badly(format!(
                "exec {program:?}: {status}\n\nstdout:\n\n{stdout}\n\nstderr:\n\n{stderr}"
            )))
        }
    }
}

/// All that comes out of `stream`, but no more than is needed to see that it is too much.
fn all_of(stream: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What was read before an error counts.
        let _ = stream.take(PLUGIN_OUTPUT_MAX as u64 + 1).read_to_end(&mut bytes);
    }
    bytes
}

/// Local addresses of `fib_trie`, each with the interface whose route in `route` holds it.
fn addresses_v4(trie: &str, route: &str) -> Vec<(String, IpAddr)> {
    let routes: Vec<(String, u32, u32)> = route
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
            // The kernel prints them as they lie in memory.
            Some((fields.first()?.to_string(), number(1)?.swap_bytes(), number(7)?.swap_bytes()))
        })
        .filter(|(_, _, mask)| *mask != 0)
        .collect();
    let mut found: Vec<(String, IpAddr)> = Vec::new();
    let mut before = None;
    for line in trie.lines() {
        let shown = line.trim_start_matches([' ', '|', '-', '+']);
        if let Ok(address) = shown.parse::<std::net::Ipv4Addr>() {
            before = Some(address);
        } else if shown.starts_with("/32 host LOCAL") {
            let Some(address) = before else { continue };
            let bits = u32::from(address);
            let on = routes.iter().filter(|(_, net, mask)| bits & mask == *net);
            let name = on.max_by_key(|(_, _, mask)| *mask).map(|(name, _, _)| name.clone());
            let name = if address.is_loopback() { Some("lo".into()) } else { name };
            found.extend(name.map(|name| (name, IpAddr::V4(address))));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn addresses_v6(table: &str) -> Vec<(String, IpAddr)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bits = u128::from_str_radix(fields.first()?, 16).ok()?;
        Some((fields.get(5)?.to_string(), IpAddr::V6(bits.into())))
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
#[path = "system_tests.rs"]
mod tests;
