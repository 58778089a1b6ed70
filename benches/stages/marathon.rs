//! What it costs to read 10,000 apps of five tasks again and again: CPU and memory of the real
//! program, and what its DNS threads take for an answer meanwhile.
//!
//! Marathon is the scripted one of the tests, in a process of its own. Programs that read all of it
//! once a second and programs that read it once are measured in turns.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::say;
use super::wire::query;

#[path = "../../tests/it/support/marathon/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use all of it")]
#[allow(clippy::unwrap_used, clippy::panic, reason = "it belongs to tests")]
mod scripted;

const APPS: usize = 10_000;
const TASKS: usize = 5;
/// Bytes of environment in each app.
const PADDING: usize = 5500;
/// What this program is called with to be Marathon.
pub(crate) const SERVE: &str = "--as-marathon";
/// Length of each measurement.
const LENGTH: Duration = Duration::from_secs(12);
/// Questions a second.
const RATE: u32 = 10_000;
/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most CPU seconds for one read of everything.
const CPU_MAX: f64 = 1.0;
/// Most memory at the peak, in that of a program that has read everything once.
const PEAK_MAX: f64 = 2.0;
/// Most that an answer may take at the 99th percentile, in what it takes without reads.
const P99_MAX: f64 = 1.5;

/// What was found out, the median of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// CPU seconds of one read of everything.
    cpu: f64,
    /// Bytes of a program that has read everything once, and at the peak of one that goes on.
    memory: (f64, f64),
    /// Microseconds of the DNS threads for an answer, 99 of 100, without reads and with them.
    p99: (f64, f64),
}

/// One program's figures.
#[derive(Debug, Clone, Copy)]
struct Figures {
    reads: f64,
    /// CPU seconds in a second without questions.
    cpu: f64,
    rss: f64,
    peak: f64,
    p99: f64,
    /// What the client saw, and how many answers it did not see.
    seen: (f64, u64),
}

/// So many programs of each kind in turns; prints what each of them gave.
pub(crate) fn measure(rounds: usize) -> io::Result<Measured> {
    let mut marathon = Marathon::start()?;
    let mut all: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in 0..2 {
            let again = (round + turn) % 2 == 1;
            let figures = one(&mut marathon, again)?;
            say(&format!(
                "round {round}, {}: {:.1} reads, {:.2} CPU seconds a second, {:.0} MB resident, \
                 {:.0} MB at the peak; DNS p99 {:.1} µs by itself, {:.0} µs seen, {} lost",
                if again { "with reads" } else { "without" },
                figures.reads,
                figures.cpu,
                figures.rss / 1e6,
                figures.peak / 1e6,
                figures.p99,
                figures.seen.0,
                figures.seen.1,
            ));
            all[usize::from(again)].push(figures);
        }
    }
    let median = |kind: usize, of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all[kind].iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::INFINITY)
    };
    let seconds = LENGTH.as_secs_f64();
    let idle = median(0, |figures| figures.cpu);
    let reads = median(1, |figures| figures.reads);
    Ok(Measured {
        cpu: (median(1, |figures| figures.cpu) - idle) * seconds / reads.max(1.0),
        memory: (median(0, |figures| figures.rss), median(1, |figures| figures.peak)),
        p99: (median(0, |figures| figures.p99), median(1, |figures| figures.p99)),
    })
}

/// Prints, and says whether all holds.
pub(crate) fn holds(measured: &Measured, allowance: f64) -> bool {
    let (memory, p99) = (measured.memory, measured.p99);
    let mut holds = true;
    for (what, got, most) in [
        ("CPU seconds of a read of everything", measured.cpu, CPU_MAX),
        ("memory at the peak, in what is resident without", memory.1 / memory.0, PEAK_MAX),
        ("DNS threads' p99 with reads, in what it is without", p99.1 / p99.0, P99_MAX),
    ] {
        let most = most * allowance;
        let word = if got <= most { "holds" } else { "BROKEN" };
        holds &= got <= most;
        say(&format!("{what}: {got:.2}, at most {most:.2}: {word}"));
    }
    holds
}

fn one(marathon: &mut Marathon, again: bool) -> io::Result<Figures> {
    let directory = tempfile::tempdir()?;
    let portolan = Portolan::start(directory.path(), marathon.address, again)?;
    // What starting cost is given back by then.
    pause(Duration::from_secs(4));
    let (rss, _) = portolan.memory()?;
    let (cpu, reads) = (portolan.cpu()?, marathon.lists()?);
    let since = Instant::now();
    pause(LENGTH);
    let took = since.elapsed().as_secs_f64();
    let cpu = (portolan.cpu()? - cpu) / took;
    let reads = marathon.lists()? - reads;
    let before = portolan.latencies()?;
    let seen = ask(portolan.dns)?;
    let p99 = p99(&before, &portolan.latencies()?);
    let (_, peak) = portolan.memory()?;
    Ok(Figures { reads: reads as f64, cpu, rss, peak, p99, seen })
}

/// The scripted Marathon in a process of its own; it ends with its standard input.
struct Marathon {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Marathon {
    fn start() -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SERVE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, stdin, stdout, address })
    }

    /// How many lists of all apps it has sent.
    fn lists(&mut self) -> io::Result<u64> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(b"lists\n")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        line.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for Marathon {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends with its input; an error means that it had ended before.
        let _ = self.child.wait();
    }
}

/// This process as Marathon, until standard input ends.
pub(crate) fn serve() -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let fake = runtime.block_on(scripted::Fake::start(scripted::Era::V1_11, 1));
    fake.world(fill);
    // The bodies are made once, before anybody waits for them.
    let bytes: usize = fake.world(|world| world.listed(true).iter().map(bytes::Bytes::len).sum());
    say(&fake.nodes()[0].to_string());
    let mut stderr = io::stderr();
    let _ = writeln!(stderr, "{APPS} apps of {TASKS} tasks in {} MB", bytes / 1_000_000);
    for _ in io::stdin().lock().lines().map_while(Result::ok) {
        say(&fake.listed().to_string());
    }
    Ok(())
}

fn fill(world: &mut scripted::World) {
    for number in 0..APPS {
        let id = app_id(number);
        let net = if number % 3 == 0 { scripted::Net::Bridge } else { scripted::Net::Host };
        let mut app = scripted::App::new(net);
        app.checks = true;
        app.padding = PADDING;
        app.service_ports = vec![(10_000 + number % 20_000) as u16];
        app.labels.insert("HAPROXY_GROUP".into(), "external".into());
        app.labels.insert("HAPROXY_0_VHOST".into(), format!("app-{number}.example.com"));
        world.post(&id, app);
        for task in 0..TASKS {
            let [_, a, b, c] = ((number * TASKS + task) as u32).to_be_bytes();
            let at = SocketAddr::from(([10, a, b, c], 31_000 + (number % 1000) as u16));
            let (own, _) = world.stage(&id, at);
            world.becomes(&id, &own, scripted::State::Running);
            world.checked(&id, &own, true);
        }
    }
}

fn app_id(number: usize) -> String {
    format!("/group-{}/app-{number}", number % 100)
}

/// The program under test.
struct Portolan {
    child: Child,
    dns: SocketAddr,
    socket: PathBuf,
}

impl Portolan {
    fn start(directory: &Path, marathon: SocketAddr, again: bool) -> io::Result<Self> {
        let file = directory.join("portolan.toml");
        let resync = if again { "1s" } else { "1h" };
        let config = format!(
            "[node]\nworkers = 1\n[registry.m.marathon]\nurls = [\"http://{marathon}\"]\n\
             resync = \"{resync}\"\n[dns]\nlisten = [\"127.0.0.1:0\"]\nexpress_workers = 1\n\
             [dns.zone.mesos]\ndialect = \"mesos\"\n[admin]\nsocket = \"admin.sock\"\n"
        );
        std::fs::write(&file, config)?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (told, lines) = std::sync::mpsc::channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
            child.stderr.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        ];
        for output in outputs.into_iter().flatten() {
            let told = told.clone();
            std::thread::spawn(move || {
                // It is read to its end, whoever listens, or the program would wait.
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = told.send(line);
                }
            });
        }
        let mut starting =
            Self { child, dns: ([127, 0, 0, 1], 0).into(), socket: directory.join("admin.sock") };
        let since = Instant::now();
        while starting.dns.port() == 0 {
            let line = lines
                .recv_timeout(PATIENCE.saturating_sub(since.elapsed()))
                .map_err(|_| io::Error::other("it says nowhere that its DNS listens"))?;
            let log: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if log["message"] == "listening" && log["listener"] == "dns" {
                let at = log["address"].as_str().and_then(|at| at.parse().ok());
                starting.dns = at.ok_or_else(|| io::Error::other(line))?;
            }
        }
        while !starting.get("/readyz").is_ok_and(|page| page.starts_with("HTTP/1.1 200")) {
            if since.elapsed() > PATIENCE {
                return Err(io::Error::other("it does not become ready"));
            }
            pause(Duration::from_millis(20));
        }
        Ok(starting)
    }

    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }

    /// CPU seconds so far.
    fn cpu(&self) -> io::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace());
        let ticks = fields.into_iter().flatten().skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Bytes that are resident, and that were at most.
    fn memory(&self) -> io::Result<(f64, f64)> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
            number.map_or(f64::NAN, |kibibytes: f64| kibibytes * 1024.0)
        };
        Ok((field("VmRSS:"), field("VmHWM:")))
    }

    /// Answers of the express lane by the most seconds that they took.
    fn latencies(&self) -> io::Result<Vec<(f64, f64)>> {
        let page = self.get("/metrics")?;
        let lines = page.lines().filter_map(|line| {
            let rest = line.strip_prefix("portolan_dns_latency_seconds_bucket{")?;
            let (labels, count) = rest.rsplit_once(' ')?;
            let (_, bound) = labels.split_once("le=\"")?;
            let bound = bound.split('"').next()?.replace("+Inf", "inf");
            let express = labels.contains("lane=\"express\"");
            Some((bound.parse().ok()?, count.parse().ok()?)).filter(|_| express)
        });
        Ok(lines.collect())
    }
}

impl Drop for Portolan {
    fn drop(&mut self) {
        // It is gone then, by this or before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The 99th percentile in microseconds of what came between; within a bucket times are taken to be
/// spread evenly.
fn p99(before: &[(f64, f64)], after: &[(f64, f64)]) -> f64 {
    let grown: Vec<(f64, f64)> = after
        .iter()
        .map(|(bound, count)| {
            let earlier = before.iter().find(|(other, _)| other.total_cmp(bound).is_eq());
            (*bound, count - earlier.map_or(0.0, |(_, count)| *count))
        })
        .collect();
    let wanted = grown.last().map_or(0.0, |(_, all)| *all) * 0.99;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in grown {
        if count >= wanted && count > below {
            let high = if bound.is_finite() { bound } else { low };
            return (low + (high - low) * (wanted - below) / (count - below)) * 1e6;
        }
        (low, below) = (bound, count);
    }
    f64::NAN
}

/// Asks for all apps in turn at a rate; the p99 in microseconds as it is seen from here, and how
/// many answers never came.
fn ask(server: SocketAddr) -> io::Result<(f64, u64)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    let queries: Vec<Vec<u8>> = (0..APPS)
        .map(|number| query(&format!("app-{number}-group-{}.marathon.mesos", number % 100)))
        .collect();
    let began = Instant::now();
    let mut sent_at = vec![began; 1 << 16];
    let (mut sent, mut times) = (0_u64, Vec::new());
    let mut reply = [0; 2048];
    while began.elapsed() < LENGTH + Duration::from_secs(1) {
        let due = (began.elapsed().min(LENGTH).as_secs_f64() * f64::from(RATE)) as u64;
        while sent < due {
            let mut query = queries[(sent * 7919 % APPS as u64) as usize].clone();
            let id = (sent & 0xffff) as u16;
            query[..2].copy_from_slice(&id.to_be_bytes());
            sent_at[usize::from(id)] = Instant::now();
            // What does not fit is as good as lost.
            let _ = socket.send(&query);
            sent += 1;
        }
        while let Ok(length) = socket.recv(&mut reply) {
            let answered = length > 12 && reply[6..8] != [0, 0];
            if answered {
                let id = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
                times.push(sent_at[id].elapsed().as_secs_f64() * 1e6);
            }
        }
        pause(Duration::from_micros(200));
    }
    times.sort_by(f64::total_cmp);
    let lost = sent.saturating_sub(times.len() as u64);
    if lost * 10 > sent {
        return Err(io::Error::other(format!("{lost} of {sent} questions had no answer")));
    }
    Ok((times.get(times.len() * 99 / 100).copied().unwrap_or(f64::INFINITY), lost))
}

// The bench is one plain thread, without a runtime: nobody else waits for it.
#[allow(clippy::disallowed_methods)]
fn pause(length: Duration) {
    std::thread::sleep(length);
}
