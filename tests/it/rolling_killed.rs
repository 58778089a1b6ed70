//! An origin that is killed under load: what had not begun is answered by another one, what had
//! ends visibly broken, and no POST is delivered twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::clients::whole;
use crate::rig::{end_of_chunks, find, header};
use crate::support::backend::{Backend, HALF};
use crate::support::fleet::{Edge, Fleet};
use crate::support::load::{Chat, Wrk};
use crate::support::{until, within};

const ORIGINS: usize = 4;
/// Clients that post.
const POSTING: u64 = 6;

/// Health as a user would set it up.
fn config(fleet: &Fleet) -> String {
    format!(
        "[node]\nworkers = 2\ndata_dir = \"data\"\n\
         [registry.dc1.consul]\naddress = \"{consul}\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [service.web]\n\
         check.http = {{ path = \"/healthz\", interval = \"1s\", fast_interval = \"200ms\", fall = 2 }}\n\
         outlier = {{ consecutive_failures = 5, base_ejection = \"10s\" }}\n\
         [admin]\nsocket = \"admin.sock\"\n",
        consul = fleet.consul.url()
    )
}

/// How the answer to a download is framed, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Length,
    Chunked,
    /// To a client that knows neither: to the end of the connection.
    Close,
}

const KINDS: [Kind; 3] = [Kind::Length, Kind::Chunked, Kind::Close];

/// A download of which one half has come.
struct Download {
    kind: Kind,
    origin: String,
    stream: TcpStream,
    bytes: Vec<u8>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The client can tell that something is missing.
    Broken,
    /// It can't.
    Short,
}

/// How many bytes of a body have come, of whatever framing: it has no others than these.
fn body(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(*byte == b'x')).sum()
}

impl Download {
    async fn begin(to: SocketAddr, kind: Kind) -> Self {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let (path, version) = match kind {
            Kind::Length => ("length", "1.1"),
            Kind::Chunked => ("chunked", "1.1"),
            Kind::Close => ("chunked", "1.0"),
        };
        let request = format!("GET /backend/{path} HTTP/{version}\r\nHost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let begun = |bytes: &[u8]| find(bytes, b"\r\n\r\n").is_some() && body(bytes) >= HALF;
        while !begun(&bytes) {
            let read = within("half a download", stream.read_buf(&mut bytes)).await.unwrap();
            assert!(read > 0, "{kind:?} ended: {}", String::from_utf8_lossy(&bytes));
        }
        let head = String::from_utf8_lossy(&bytes).into_owned();
        let framing = (header(&head, "content-length"), header(&head, "transfer-encoding"));
        let wanted = match kind {
            Kind::Length => (Some("2000"), None),
            Kind::Chunked => (None, Some("chunked")),
            Kind::Close => (None, None),
        };
        assert_eq!(framing, wanted, "{kind:?}: {head}");
        let origin = header(&head, "x-origin").unwrap().to_owned();
        Self { kind, origin, stream, bytes }
    }

    async fn end(mut self) -> End {
        let ended = loop {
            let rest = &self.bytes[find(&self.bytes, b"\r\n\r\n").unwrap() + 4..];
            let all = match self.kind {
                Kind::Length => rest.len() == 2 * HALF,
                Kind::Chunked => end_of_chunks(rest).is_some(),
                Kind::Close => false,
            };
            if all {
                return End::Whole;
            }
            match within("the end of a download", self.stream.read_buf(&mut self.bytes)).await {
                Ok(0) => break End::Whole,
                Ok(_) => {}
                Err(_) => break End::Broken,
            }
        };
        let came = body(&self.bytes);
        match (self.kind, ended) {
            (_, End::Broken) | (Kind::Length | Kind::Chunked, _) => End::Broken,
            _ if came < 2 * HALF => End::Short,
            _ => End::Whole,
        }
    }
}

/// Downloads of every kind and sessions: at `doomed`, and at others.
async fn begun(edge: &Edge, doomed: &str) -> (Vec<Download>, Vec<Chat>) {
    let (mut downloads, mut chats) = (Vec::new(), Vec::new());
    for kind in KINDS {
        let both = |all: &[Download]| {
            let here = all.iter().filter(|one| one.kind == kind && one.origin == doomed).count();
            let all = all.iter().filter(|one| one.kind == kind).count();
            here > 0 && all > here
        };
        within("downloads at two origins", async {
            while !both(&downloads) {
                downloads.push(Download::begin(edge.web, kind).await);
            }
        })
        .await;
    }
    let both = |all: &[Chat]| {
        let here = all.iter().filter(|chat| chat.origin == doomed).count();
        here > 0 && all.len() > here
    };
    within("sessions at two origins", async {
        while !both(&chats) {
            chats.push(Chat::open(edge.web, chats.len() as u64).await.unwrap());
        }
    })
    .await;
    (downloads, chats)
}

/// Posts numbers until `stop`; what came of each: a status, or none when there was no answer.
async fn post(
    to: SocketAddr,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<(u64, Option<u16>)> {
    let mut told = Vec::new();
    let mut open: Option<TcpStream> = None;
    while !stop.load(SeqCst) {
        let number = next.fetch_add(1, SeqCst);
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => TcpStream::connect(to).await.unwrap(),
        };
        let status = within("an answer to a POST", answer(&mut stream, number)).await;
        told.push((number, status));
        if status == Some(200) {
            open = Some(stream);
        }
    }
    told
}

async fn answer(stream: &mut TcpStream, number: u64) -> Option<u16> {
    let request = format!(
        "POST /backend/post HTTP/1.1\r\nHost: test\r\nX-Number: {number}\r\n\
         Content-Length: 3\r\n\r\na=b"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    loop {
        if let Some((response, _)) = whole(&bytes) {
            return Some(response.status);
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Checks every number, and counts those that were refused, and of these the delivered ones.
fn judge(told: &[(u64, Option<u16>)], backend: &Backend) -> (usize, usize) {
    let mut refused = (0, 0);
    for (number, status) in told {
        let delivered = backend.delivered(*number);
        assert!(delivered <= 1, "{number} was delivered {delivered} times, {status:?}");
        match status {
            Some(200) => assert_eq!(delivered, 1, "{number}: 200, but nobody got it"),
            Some(502 | 504) => {
                refused.0 += 1;
                refused.1 += delivered as usize;
            }
            other => panic!("{number}: {other:?}; it was delivered {delivered} times"),
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_killed_costs_only_what_was_begun_there() {
    let rounds = if std::env::var_os("PORTOLAN_FULL").is_some() { 20 } else { 3 };
    let mut fleet = Fleet::start(ORIGINS).await;
    let edge = Edge::start(&config(&fleet), &fleet).await;
    let backend = fleet.backend.clone();

    let wrk =
        Wrk::start(edge.web, "/backend/slow", edge.directory.path(), 8, Duration::ZERO, false);
    let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let posting: Vec<_> = (0..POSTING)
        .map(|_| tokio::spawn(post(edge.web, Arc::clone(&next), Arc::clone(&stop))))
        .collect();

    let (mut broken, mut went_on, mut found_after) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        let doomed = fleet.oldest().name.clone();
        backend.go(false);
        let (downloads, chats) = begun(&edge, &doomed).await;
        if round % 2 == 0 {
            // Surely in the middle of one of each; otherwise whatever runs just then.
            backend.hold(Some(&doomed));
            until("a GET and a POST run there", async || {
                let runs = |method| backend.running(&doomed, method) > 0;
                (runs(Method::GET) && runs(Method::POST)).then_some(())
            })
            .await;
        }
        fleet.kill_oldest().await;
        let killed = Instant::now();
        backend.hold(None);
        backend.go(true);
        for download in downloads {
            let (kind, here) = (download.kind, download.origin == doomed);
            let wanted = if here { End::Broken } else { End::Whole };
            assert_eq!(download.end().await, wanted, "{kind:?}, round {round}, killed: {here}");
            *if here { &mut broken } else { &mut went_on } += 1;
        }
        for mut chat in chats {
            if chat.origin == doomed {
                assert!(!chat.ends_with_a_close().await, "a close that nobody sent");
                broken += 1;
            } else {
                chat.echoes("still here").await.unwrap();
                chat.close().await.unwrap();
                went_on += 1;
            }
        }
        edge.serves(&doomed, false).await;
        found_after = found_after.max(killed.elapsed());
        fleet.consul.deregister(&doomed).await;
        let new = fleet.grow().await;
        edge.serves(&new, true).await;
    }

    let counted = wrk.end().await;
    stop.store(true, SeqCst);
    let mut told = Vec::new();
    for posting in posting {
        told.extend(within("the last POST", posting).await.unwrap());
    }
    let (refused, of_these) = judge(&told, &backend);
    println!(
        "{rounds} origins killed: {} GETs, {} refused, {} socket errors; {} POSTs, {refused} answered \
         with an error, {of_these} of these delivered, none twice; of what had begun {broken} ended \
         broken there and {went_on} whole elsewhere; out after {found_after:?} at most; retries {:?}",
        counted.requests,
        counted.refused,
        counted.socket_errors,
        told.len(),
        edge.metric("portolan_proxy_retries_total").await,
    );
    counted.is_clean();
    assert!(of_these > 0, "no POST was under way at one that was killed");
}
