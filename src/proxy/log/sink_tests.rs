use std::io::Read as _;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use rustix::fs::Mode;

use super::*;
use crate::proxy::config::{Facility, LogFormat};
use crate::proxy::log::{Record, RequestLine, Rule, flush, note};
use crate::units::{Share, Size};

/// Longer than anything here takes on a busy machine: whoever waits so long waits in vain.
const PATIENCE: Duration = Duration::from_secs(20);

struct Log {
    rule: Rule,
    sinks: Sinks,
}

fn log(to: &str, buffer: u64) -> Log {
    let config = AccessLogConfig {
        to: to.parse().unwrap(),
        format: LogFormat::Json,
        sample: Share(1.0),
        buffer: Size(buffer),
        app_name: "edge".to_owned(),
        facility: Facility::default(),
    };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let (rule, sinks) = (Rule::compile(&config).unwrap(), Sinks::new(metrics));
    rule.opened(sinks.sink(&config, Path::new("")).unwrap());
    Log { rule, sinks }
}

impl Log {
    /// Notes a request with this path.
    fn note(&self, path: &str) {
        let target = path.as_bytes();
        let request = RequestLine::Read { method: b"GET", target, protocol: b"HTTP/1.1" };
        let bare = Record::bare("web", [127, 0, 0, 1].into(), request);
        note(&self.rule, &Record { status: 200, ..bare });
    }

    /// What was noted is written.
    fn finish(&self) {
        flush();
        self.sinks.finish();
    }

    fn counts(&self) -> [u64; 4] {
        let metrics = &self.sinks.metrics;
        [&metrics.written, &metrics.full, &metrics.failed, &metrics.too_long].map(IntCounter::get)
    }
}

#[allow(clippy::disallowed_methods, reason = "a file tells nobody when it changes")]
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "{what}: waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The paths in lines of JSON.
fn paths(text: &str) -> Vec<String> {
    let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines().map(|line| read(line)["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew_and_no_line_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (file, moved) = (directory.path().join("a.log"), directory.path().join("a.log.1"));
    let log = log(file.to_str().unwrap(), 1 << 20);
    log.note("/1");
    log.finish();
    std::fs::rename(&file, &moved).unwrap();
    // Nothing tells the writer: it sees by itself, at most a second later.
    until("a new file", || {
        log.note("/2");
        log.finish();
        file.exists()
    });
    std::fs::rename(&file, directory.path().join("a.log.2")).unwrap();
    log.sinks.reopen();
    log.note("/3");
    log.finish();
    assert_eq!(paths(&std::fs::read_to_string(&file).unwrap()), ["/3"], "at once when it is told");
    assert_eq!(paths(&std::fs::read_to_string(&moved).unwrap())[0], "/1");
    let all = ["a.log", "a.log.1", "a.log.2"].map(|name| directory.path().join(name));
    let lines = all.map(|file| std::fs::read_to_string(file).unwrap().lines().count() as u64);
    assert_eq!(log.counts(), [lines.iter().sum(), 0, 0, 0]);
}

#[test]
fn a_reader_that_takes_nothing_costs_lines_which_are_counted_and_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let mut options = std::fs::OpenOptions::new();
    // Reading and writing, so that opening a pipe waits for nobody.
    let mut reader = options.read(true).write(true).open(&pipe).unwrap();
    let log = log(pipe.to_str().unwrap(), 64 << 10);
    let path = format!("/{}", "x".repeat(1000));
    let mut noted = 0;
    until("lines are dropped", || {
        for _ in 0..100 {
            log.note(&path);
            noted += 1;
        }
        log.counts()[1] > 0
    });
    flush();

    // Once somebody reads again, what waits comes, whole lines all of it.
    let (ended, all) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let mut piece = vec![0; 65_536];
        loop {
            let read = reader.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..read]);
            if text.ends_with(b"\"path\":\"/last\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes_in\":0,\"bytes_out\":0,\"duration_ms\":0.000}\n") {
                let _ = ended.send(String::from_utf8(text).unwrap());
                return;
            }
        }
    });
    until("there is room", || log.sinks.all()[0].shared.waiting.load(Relaxed) == 0);
    log.note("/last");
    noted += 1;
    log.finish();
    let all = paths(&all.recv_timeout(PATIENCE).unwrap());
    assert_eq!(all.last().unwrap(), "/last");
    let [written, full, failed, too_long] = log.counts();
    assert_eq!((all.len() as u64, failed, too_long), (written, 0, 0));
    assert_eq!(written + full, noted, "every line is written or counted");
}

#[test]
fn a_pipe_that_nobody_reads_is_refused_instead_of_waiting_for_a_reader() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let config = AccessLogConfig {
        to: pipe.to_str().unwrap().parse().unwrap(),
        format: LogFormat::Json,
        sample: Share(1.0),
        buffer: Size(1 << 20),
        app_name: "edge".to_owned(),
        facility: Facility::default(),
    };
    let sinks = Sinks::new(Metrics::register(&Registry::new()).unwrap());
    let refused = sinks.sink(&config, Path::new("")).unwrap_err().to_string();
    assert!(refused.contains(pipe.to_str().unwrap()), "{refused}");
}

/// Priority, app name and message of one message to syslog (RFC 5424 §6).
fn message(datagram: &[u8]) -> (String, String, String) {
    let text = std::str::from_utf8(datagram).unwrap();
    let fields: Vec<&str> = text.splitn(8, ' ').collect();
    let [head, time, host, app, process, kind, data, message] = fields[..] else {
        panic!("{text}");
    };
    time.parse::<jiff::Timestamp>().unwrap();
    assert!(!host.is_empty() && (kind, data) == ("access", "-"), "{text}");
    assert_eq!(process, std::process::id().to_string());
    (head.to_owned(), app.to_owned(), message.to_owned())
}

#[test]
fn syslog_gets_one_message_of_rfc_5424_for_each_request_by_udp() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = log(&format!("syslog://{}", server.local_addr().unwrap()), 1 << 20);
    log.note("/1");
    log.note("/2");
    log.note(&format!("/{}", "x".repeat(70_000)));
    log.note("/3");
    log.finish();
    let mut datagram = vec![0; 65_536];
    for path in ["/1", "/2", "/3"] {
        let length = server.recv(&mut datagram).unwrap();
        let (head, app, text) = message(&datagram[..length]);
        assert_eq!((&*head, &*app), ("<190>1", "edge"), "local7, informational");
        assert_eq!(paths(&text), [path]);
    }
    assert_eq!(log.counts(), [3, 0, 0, 1], "what no datagram holds is counted");
}

#[test]
fn a_syslog_daemon_that_comes_later_or_starts_anew_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = log(&format!("unix:{}", path.display()), 1 << 20);
    log.note("/early");
    log.finish();
    assert_eq!(log.counts(), [0, 0, 1, 0], "nobody was there");
    for _ in 0..2 {
        let daemon = UnixDatagram::bind(&path).unwrap();
        daemon.set_nonblocking(true).unwrap();
        let mut datagram = [0; 4096];
        until("a message", || {
            log.note("/late");
            log.finish();
            let Ok(length) = daemon.recv(&mut datagram) else { return false };
            paths(&message(&datagram[..length]).2) == ["/late"]
        });
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn one_thread_writes_what_several_listeners_log_to_one_place() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(directory.path().join("a.log").to_str().unwrap(), 1 << 20);
    let again = log.sinks.sink(log.rule.config(), Path::new("")).unwrap();
    assert!(Arc::ptr_eq(&again, &log.sinks.all()[0]));
    assert_eq!(log.sinks.all().len(), 1);
    drop(again);
    let Log { rule, sinks } = log;
    drop(rule);
    assert_eq!(sinks.all().len(), 0, "a log that nobody wants is closed");
}
