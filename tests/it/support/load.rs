//! Load that counts whatever goes wrong: a real wrk, and WebSocket sessions at a steady rate.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::websocket::{self, CLOSE, NORMAL, TEXT};
use super::within;
use crate::rig::{find, header};

/// Longer than any answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages of one session, and the pause before each.
const WORDS: u64 = 5;
const PAUSE: Duration = Duration::from_millis(80);

/// `wrk` while it runs.
pub(crate) struct Wrk(Child);

/// What `wrk` saw.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    /// Answers with a status other than 200, and the first of them.
    pub(crate) refused: u64,
    pub(crate) first: String,
    /// Connections that failed or broke, and answers that took too long.
    pub(crate) socket_errors: u64,
    text: String,
}

impl Wrk {
    /// Asks for `path` over so many connections, each pausing for `pause` between two requests.
    /// With `posts` each tenth request is a POST.
    pub(crate) fn start(
        to: SocketAddr,
        path: &str,
        directory: &Path,
        connections: u32,
        pause: Duration,
        posts: bool,
    ) -> Self {
        Self::start_for("", to, path, directory, connections, pause, posts)
    }

    /// The same for the virtual host `host`, unless it is empty.
    pub(crate) fn start_for(
        host: &str,
        to: SocketAddr,
        path: &str,
        directory: &Path,
        connections: u32,
        pause: Duration,
        posts: bool,
    ) -> Self {
        let pause = match pause.as_millis() {
            0 => String::new(),
            millis => format!("function delay() return {millis} end"),
        };
        let script = format!(
            r#"
local threads = {{}}
if "{host}" ~= "" then wrk.headers["Host"] = "{host}" end
function setup(thread) table.insert(threads, thread) end
function init()
  asked, refused, first = 0, 0, ""
  get, post = wrk.format("GET"), wrk.format("POST", nil, nil, "a=b")
end
function request()
  asked = asked + 1
  if {posts} and asked % 10 == 0 then return post end
  return get
end
{pause}
function response(status, headers, body)
  if status ~= 200 then
    refused = refused + 1
    if first == "" then first = status .. " " .. string.gsub(body, "%s+", " ") end
  end
end
function done(summary)
  local sum, what, e = 0, "", summary.errors
  for _, thread in ipairs(threads) do
    sum = sum + thread:get("refused")
    if what == "" then what = thread:get("first") end
  end
  print(string.format("counted: %d %d %d %s", summary.requests, sum,
    e.connect + e.read + e.write + e.timeout, what))
end
"#
        );
        let file = directory.join("load.lua");
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new("wrk");
        command.args(["--threads", "2", "--duration", "1h"]);
        command.args(["--timeout", &format!("{}s", PATIENCE.as_secs())]);
        command.args(["--connections", &connections.to_string(), "--script"]).arg(file);
        command.arg(format!("http://{to}{path}"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(crate::peers::start(&mut command))
    }

    /// Ends it, and gives what it counted.
    pub(crate) async fn end(self) -> Counted {
        let id = i32::try_from(self.0.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
        let output = within("the end of wrk", self.0.wait_with_output()).await.unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("counted: "));
        let mut words = line.unwrap_or_else(|| panic!("wrk: {text}")).splitn(4, ' ');
        let mut number = || words.next().unwrap().parse().unwrap();
        let (requests, refused, socket_errors) = (number(), number(), number());
        let first = words.next().unwrap_or_default().to_owned();
        Counted { requests, refused, first, socket_errors, text }
    }
}

impl Counted {
    /// Panics unless every request got its 200.
    pub(crate) fn is_clean(&self) {
        let unsaid = ["Socket errors", "Non-2xx"].iter().all(|word| !self.text.contains(word));
        let clean = self.refused == 0 && self.socket_errors == 0 && unsaid;
        assert!(clean && self.requests > 0, "first {:?}: {}", self.first, self.text);
    }
}

/// WebSocket sessions that come one after the other while this runs.
pub(crate) struct Sessions {
    stop: watch::Sender<bool>,
    running: JoinHandle<Held>,
}

/// How the sessions were.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) sessions: u64,
    pub(crate) failed: Vec<String>,
    pub(crate) longest: Duration,
}

impl Sessions {
    /// One more begins in each `interval`.
    pub(crate) fn start(to: SocketAddr, interval: Duration) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let running = tokio::spawn(async move {
            let (mut held, mut all) = (Held::default(), JoinSet::new());
            let mut beat = tokio::time::interval(interval);
            loop {
                tokio::select! {
                    _ = stopped.changed() => break,
                    Some(ended) = all.join_next() => held.note(ended.unwrap()),
                    _ = beat.tick() => {
                        held.sessions += 1;
                        all.spawn(timed(to, held.sessions));
                    }
                }
            }
            while let Some(ended) = all.join_next().await {
                held.note(ended.unwrap());
            }
            held
        });
        Self { stop, running }
    }

    /// Lets those that run end, and tells of all.
    pub(crate) async fn end(self) -> Held {
        self.stop.send_replace(true);
        within("the last session", self.running).await.unwrap()
    }
}

impl Held {
    fn note(&mut self, ended: Result<Duration, String>) {
        match ended {
            Ok(took) => self.longest = self.longest.max(took),
            Err(error) => self.failed.push(error),
        }
    }
}

async fn timed(to: SocketAddr, number: u64) -> Result<Duration, String> {
    let began = Instant::now();
    let ended = tokio::time::timeout(PATIENCE, session(to, number)).await;
    let took = began.elapsed();
    match ended {
        Ok(Ok(())) => Ok(took),
        Ok(Err(error)) => Err(format!("session {number}, after {took:?}: {error}")),
        Err(_) => Err(format!("session {number} had not ended after {took:?}")),
    }
}

/// One session: every word comes back, and so does the close, and then the end.
async fn session(to: SocketAddr, number: u64) -> Result<(), String> {
    let mut chat = Chat::open(to, number).await?;
    for n in 0..WORDS {
        chat.echoes(&format!("{number}.{n}")).await?;
        tokio::time::sleep(PAUSE).await;
    }
    chat.close().await
}

/// A WebSocket connection.
pub(crate) struct Chat {
    stream: TcpStream,
    /// Which origin accepted it.
    pub(crate) origin: String,
}

impl Chat {
    pub(crate) async fn open(to: SocketAddr, number: u64) -> Result<Self, String> {
        let key = websocket::key(number);
        let mut stream =
            TcpStream::connect(to).await.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET /backend/chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(|error| format!("open: {error}"))?;
        let mut head = Vec::new();
        while find(&head, b"\r\n\r\n").is_none() {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(error) => return Err(format!("open: {error} after {}", text(&head))),
            }
        }
        let head = text(&head);
        let accepted = header(&head, "sec-websocket-accept") == Some(&websocket::accept(&key));
        if !head.starts_with("HTTP/1.1 101 ") || !accepted {
            return Err(format!("open: {head}"));
        }
        let origin = header(&head, "x-origin").unwrap_or_default().to_owned();
        Ok(Self { stream, origin })
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<(), String> {
        let frame = websocket::frame(opcode, Some([1, 2, 3, 4]), payload);
        self.stream.write_all(&frame).await.map_err(|error| format!("send: {error}"))
    }

    /// Says `word`, which comes back.
    pub(crate) async fn echoes(&mut self, word: &str) -> Result<(), String> {
        self.send(TEXT, word.as_bytes()).await?;
        match websocket::message(&mut self.stream).await {
            Ok(Some((TEXT, echo))) if echo == word.as_bytes() => Ok(()),
            other => Err(format!("{word} by {}: {other:?}", self.origin)),
        }
    }

    /// Closes; the other side does so too.
    pub(crate) async fn close(&mut self) -> Result<(), String> {
        self.send(CLOSE, &NORMAL).await?;
        let close = websocket::message(&mut self.stream).await;
        if !matches!(&close, Ok(Some((CLOSE, code))) if *code == NORMAL) {
            return Err(format!("close by {}: {close:?}", self.origin));
        }
        match websocket::message(&mut self.stream).await {
            Ok(None) => Ok(()),
            other => Err(format!("the end by {}: {other:?}", self.origin)),
        }
    }

    /// Waits for the end; whether the other side closed in the way of WebSockets.
    pub(crate) async fn ends_with_a_close(&mut self) -> bool {
        let next = within("the end of a session", websocket::message(&mut self.stream)).await;
        matches!(next, Ok(Some(_)))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
