//! Those who ask: small clients that wait for nothing but the answer, and the real tools.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, RecordType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::process::Command;

use crate::support::{until, within};

/// Asks one DNS server by UDP, and for its NSID.
pub(crate) struct Dns(UdpSocket);

/// A reply that answers the question.
pub(crate) struct Reply(pub(crate) Message);

impl Dns {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server).await.unwrap();
        Self(socket)
    }

    /// The reply to one question.
    pub(crate) async fn ask(&self, name: &str, wanted: RecordType) -> Reply {
        static IDS: AtomicU16 = AtomicU16::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        self.0.send(&question(id, name, wanted)).await.unwrap();
        let mut bytes = [0; 4096];
        loop {
            let length = within(name, self.0.recv(&mut bytes)).await.unwrap();
            let message = Message::from_vec(&bytes[..length]).unwrap();
            if message.metadata.id == id {
                return Reply(message);
            }
        }
    }

    /// The IPv4 addresses of `name`.
    pub(crate) async fn addresses(&self, name: &str) -> BTreeSet<IpAddr> {
        self.ask(name, RecordType::A).await.addresses()
    }
}

impl Reply {
    pub(crate) fn addresses(&self) -> BTreeSet<IpAddr> {
        let address = |record: &hickory_proto::rr::Record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            _ => None,
        };
        self.0.answers.iter().filter_map(address).collect()
    }

    pub(crate) const fn code(&self) -> ResponseCode {
        self.0.metadata.response_code
    }

    /// What NSID tells: `node gen=n`.
    pub(crate) fn generation(&self) -> u64 {
        let edns = self.0.edns.as_ref().unwrap();
        let Some(EdnsOption::NSID(nsid)) = edns.option(EdnsCode::NSID) else {
            panic!("no NSID in {edns:?}")
        };
        let text = std::str::from_utf8(nsid.as_ref()).unwrap();
        text.rsplit_once(" gen=").unwrap().1.parse().unwrap()
    }
}

/// A question with EDNS, and in it the wish for an NSID (RFC 5001).
pub(crate) fn question(id: u16, name: &str, wanted: RecordType) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(u16::from(wanted).to_be_bytes());
    bytes.extend([0, 1]);
    // Root, OPT, 1232 bytes, no flags, 4 bytes of options: NSID, empty.
    bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0]);
    bytes
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection that speaks HTTP/1.1, with whatever is behind it.
pub(crate) struct Http {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }

    /// The generation in the header.
    pub(crate) fn generation(&self) -> u64 {
        self.header("x-portolan-generation").unwrap().parse().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Http {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let stream = within("connect", TcpStream::connect(server)).await.unwrap();
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    pub(crate) async fn to_socket(path: &Path) -> Self {
        let stream = within("connect", UnixStream::connect(path)).await.unwrap();
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    /// Sends a request without a body; `headers` are whole lines.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Asks `host` for its first page; an error when the other side has closed meanwhile.
    pub(crate) async fn ask(&mut self, host: &str) -> io::Result<Response> {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        self.receive().await
    }

    /// The next response, or what is there of one when the connection ends.
    pub(crate) async fn receive(&mut self) -> io::Result<Response> {
        loop {
            if let Some((response, end)) = whole(&self.read) {
                self.read.drain(..end);
                return Ok(response);
            }
            if within("a response", self.stream.read_buf(&mut self.read)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, "").await;
        self.receive().await.unwrap()
    }

    /// Returns once the other side has closed; nothing else came before.
    pub(crate) async fn closed(&mut self) {
        let read = within("a close", self.stream.read_buf(&mut self.read)).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{:?}", String::from_utf8_lossy(&self.read));
    }
}

/// The response at the front of `bytes`, once all of it is there, and where it ends.
pub(crate) fn whole(bytes: &[u8]) -> Option<(Response, usize)> {
    let start = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..start].to_vec()).unwrap();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response { status, head, body: String::new() };
    let length: usize = response.header("content-length").map_or(0, |text| text.parse().unwrap());
    let body = bytes.get(start..start + length)?;
    response.body = String::from_utf8(body.to_vec()).unwrap();
    Some((response, start + length))
}

/// One GET on a connection of its own.
pub(crate) async fn get(server: SocketAddr, path: &str) -> Response {
    Http::to(server).await.get(path).await
}

/// One GET over a unix socket.
pub(crate) async fn get_by_socket(path: &Path, target: &str) -> Response {
    Http::to_socket(path).await.get(target).await
}

/// Who answers: the bodies of as many requests in a row as there may be instances.
pub(crate) async fn answering(client: &mut Http, requests: usize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..requests {
        names.insert(client.get("/").await.body);
    }
    names
}

/// Returns once nobody accepts connections on `server` any more.
pub(crate) async fn refuses(server: SocketAddr) {
    let refused = async || TcpStream::connect(server).await.is_err().then_some(());
    until(&format!("{server} refuses connections"), refused).await;
}

/// What the real `program` says on its standard output. Missing, it fails the test with the
/// command that installs it.
pub(crate) async fn tool(program: &str, arguments: &[&str]) -> String {
    let output = tool_with(program, arguments, "").await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {:?}\n{text}", output.status);
    text
}

/// As [`tool`], with something to read on its standard input, and however it ends.
pub(crate) async fn tool_with(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!("{program} is not installed; install it with: scripts/install-peers --debian")
        }
        running => running.unwrap(),
    };
    let mut stdin = running.stdin.take().unwrap();
    let fed = async move {
        // Whoever reads nothing may be gone by now.
        let _ = stdin.write_all(input.as_bytes()).await;
    };
    let ((), output) =
        within(program, async { tokio::join!(fed, running.wait_with_output()) }).await;
    output.unwrap()
}

/// `dig`, one server, one question; the lines of its short answer.
pub(crate) async fn dig(server: SocketAddr, name: &str, wanted: &str) -> BTreeSet<String> {
    let (ip, port) = (format!("@{}", server.ip()), server.port().to_string());
    let arguments = [&ip, "-p", &port, "+short", "+time=5", "+tries=2", name, wanted];
    tool("dig", &arguments).await.lines().map(str::to_owned).collect()
}
