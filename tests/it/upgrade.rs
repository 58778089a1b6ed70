//! Upgrades under load: nobody is refused, nothing is lost, and what was known is known.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get as on_get;
use hickory_proto::rr::RecordType;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::clients::{Http, get_by_socket, question};
use crate::support::load::Wrk;
use crate::support::successors::{Line, left};
use crate::support::{echo, listing, until, within};

/// As large as the whole is: `make soak`.
fn whole() -> bool {
    std::env::var_os("PORTOLAN_FULL").is_some()
}

const fn if_whole(whole: bool, large: usize, small: usize) -> usize {
    if whole { large } else { small }
}

/// Targets of the checks that are counted, and how often each is asked.
const CHECKED: usize = 20;
const INTERVAL: Duration = Duration::from_secs(2);

/// What stands behind: three web servers, one that fails its checks, an echo, one of datagrams, and a
/// counter of checks.
struct Behind {
    web: Vec<SocketAddr>,
    echo: SocketAddr,
    datagrams: SocketAddr,
    counted: SocketAddr,
    checks: Arc<AtomicUsize>,
}

impl Behind {
    async fn start() -> Self {
        let mut web = Vec::new();
        for number in 0..4 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            web.push(listener.local_addr().unwrap());
            let check = move || async move {
                if number == 3 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
            };
            let name = format!("web-{number}");
            let router = Router::new()
                .route("/check", on_get(check))
                .fallback(move || std::future::ready(name.clone()));
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        let echo = echo().await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let datagrams = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut room = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut room).await {
                let _ = socket.send_to(&room[..length], from).await;
            }
        });
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let counted = listener.local_addr().unwrap();
        let checks = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&checks);
        let router = Router::new().fallback(move || {
            seen.fetch_add(1, Ordering::Relaxed);
            async { "well" }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { web, echo, datagrams, counted, checks }
    }

    fn services(&self) -> String {
        let names = ["web-0", "web-1", "web-2", "web-3"];
        let web: Vec<_> = names.into_iter().zip(self.web.iter().copied()).collect();
        let mut text = listing("web", &web) + &listing("echo", &[("echo", self.echo)]);
        text += &listing("datagrams", &[("datagrams", self.datagrams)]);
        for number in 0..CHECKED {
            let at = SocketAddr::from(([127, 0, 9, number as u8 + 1], self.counted.port()));
            text += &listing("counted", &[(&format!("c-{number}"), at)]);
        }
        text
    }
}

fn config(workers: usize) -> String {
    format!(
        "[node]\nworkers = {workers}\ndata_dir = \"data\"\n[limits]\ndrain = \"300s\"\n\
         [registry.local.file]\npath = \"services.toml\"\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\nexpress_workers = {workers}\n[dns.zone.test]\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [listener.echo.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"echo\"\n\
         [listener.datagrams.udp]\nbind = [\"127.0.0.1:0\"]\nservice = \"datagrams\"\n\
         timeouts = {{ idle = \"1s\" }}\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [route.bound]\nlistener = \"web\"\npath = \"/bound\"\nservice = \"web\"\n\
         sticky = {{ source = \"1h\" }}\n\
         [service.web.check.http]\npath = \"/check\"\ninterval = \"500ms\"\n\
         [service.counted.check.http]\npath = \"/\"\ninterval = \"{}s\"\n\
         [metadata]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nsocket = \"admin.sock\"\nlisten = \"127.0.0.1:0\"\n",
        INTERVAL.as_secs()
    )
}

/// Clients that go on until they are told to stop, and what went wrong for them.
struct Load {
    stop: watch::Sender<bool>,
    done: Arc<AtomicU64>,
    tasks: JoinSet<Vec<String>>,
}

impl Load {
    fn start<F: Future<Output = Result<(), String>> + Send + 'static>(
        count: usize,
        once: impl Fn(usize) -> F + Clone + Send + 'static,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (stopped, done, once) = (stopped.clone(), Arc::clone(&done), once.clone());
            tasks.spawn(async move {
                let mut failed = Vec::new();
                while !*stopped.borrow() {
                    match once(number).await {
                        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(why) => failed.push(why),
                    }
                }
                failed
            });
        }
        Self { stop, done, tasks }
    }

    /// Ends it: how often all was well. Anything else fails.
    async fn end(self, what: &str) -> u64 {
        self.stop.send_replace(true);
        let failed: Vec<String> =
            within(what, self.tasks.join_all()).await.into_iter().flatten().collect();
        let done = self.done.load(Ordering::Relaxed);
        assert!(
            failed.is_empty(),
            "{what}: {} of {done} failed: {:?}",
            failed.len(),
            &failed[..failed.len().min(5)]
        );
        assert!(done > 0, "{what}");
        done
    }
}

/// One connection that says three things and hears them.
async fn speak(echo: SocketAddr) -> Result<(), String> {
    let told = |step: &str| {
        let step = step.to_owned();
        move |error| format!("{step}: {error}")
    };
    let mut stream = TcpStream::connect(echo).await.map_err(told("connect"))?;
    for _ in 0..3 {
        stream.write_all(b"hello").await.map_err(told("write"))?;
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.map_err(told("read"))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// One question by UDP from a socket of its own.
async fn ask(dns: SocketAddr, id: u16) -> Result<(), String> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    socket.connect(dns).await.map_err(|error| error.to_string())?;
    let query = question(id, "web.test", RecordType::A);
    for _ in 0..20 {
        socket.send(&query).await.map_err(|error| format!("send: {error}"))?;
        let mut reply = [0; 1500];
        let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut reply));
        let length =
            received.await.map_err(|_| "lost")?.map_err(|error| format!("recv: {error}"))?;
        // NOERROR, and answers.
        if length < 12 || reply[3] & 15 != 0 || reply[7] == 0 {
            return Err(format!("a bad reply: {:?}", &reply[..length]));
        }
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(())
}

/// A flow: some datagrams from one port, each of which comes back before the next one goes.
async fn flow(to: SocketAddr, number: usize) -> Result<(), String> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    socket.connect(to).await.map_err(|error| error.to_string())?;
    for turn in 0..20 {
        let said = format!("{number} {turn}");
        socket.send(said.as_bytes()).await.map_err(|error| format!("send: {error}"))?;
        let mut back = [0; 100];
        let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut back));
        let length =
            received.await.map_err(|_| "lost")?.map_err(|error| format!("recv: {error}"))?;
        if back[..length] != *said.as_bytes() {
            return Err(format!("{said:?} came back as {:?}", &back[..length]));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Who answers the client at `from` on the sticky route.
async fn bound(web: SocketAddr, from: IpAddr) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(web).await.unwrap();
    stream.write_all(b"GET /bound HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    within("an answer", stream.read_to_string(&mut text)).await.unwrap();
    text.rsplit("\r\n").next().unwrap().to_owned()
}

/// Connections that stay, each with a word from time to time.
fn stay(echo: SocketAddr, count: usize) -> (watch::Sender<bool>, JoinHandle<Result<(), String>>) {
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(TcpStream::connect(echo).await.map_err(|error| error.to_string())?);
        }
        while !*stopped.borrow() {
            for stream in &mut streams {
                stream.write_all(b"still").await.map_err(|error| format!("write: {error}"))?;
                let mut back = [0; 5];
                let read = stream.read_exact(&mut back).await;
                read.map_err(|error| format!("read: {error}"))?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_under_load_refuse_nobody_lose_nothing_and_keep_what_was_known() {
    let whole = whole();
    let behind = Behind::start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("services.toml"), behind.services()).unwrap();
    let began = Instant::now();
    let mut line = Line::start(directory, &config(1), &[]).await;
    let (web, echo) = (line.first.address("web").await, line.first.address("echo").await);
    let (dns, admin) = (line.first.address("dns").await, line.first.address("admin").await);
    let socket = line.socket();

    // What is to be known all along: one that fails, one that is drained, clients that are bound.
    let health = async || {
        let told = get_by_socket(&socket, "/v1/services/web").await.json();
        let instances = told["instances"].as_array().unwrap().iter();
        let of = |i: &serde_json::Value| (i["id"].to_string(), i["health"].to_string());
        instances.map(of).collect::<BTreeSet<_>>()
    };
    until("the checks have found out", async || {
        let all = health().await;
        let word = |id: &str, health: &str| (format!("\"{id}\""), format!("\"{health}\""));
        let known = all.contains(&word("web-3", "unhealthy"))
            && (0..3).all(|n| all.contains(&word(&format!("web-{n}"), "healthy")));
        known.then_some(())
    })
    .await;
    let drained =
        crate::child::portolan(&["drain", "web-2", "--config", line.file.to_str().unwrap()]).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    let known = health().await;
    let clients: Vec<IpAddr> = (1..=8).map(|n| IpAddr::from([127, 0, 8, n])).collect();
    let mut homes = Vec::new();
    for client in &clients {
        homes.push(bound(web, *client).await);
    }
    let since = async || {
        let why = get_by_socket(&socket, "/v1/why?service=web").await.json();
        why.to_string().matches("unhealthy").count()
    };
    assert!(since().await > 0);
    let mut resting = Http::to(web).await;
    assert_eq!(resting.get("/").await.status, 200);

    let wrk = Wrk::start(
        web,
        "/",
        line.directory.path(),
        if_whole(whole, 2000, 100) as u32,
        Duration::from_millis(20),
        false,
    );
    let tcp = Load::start(if_whole(whole, 2000, 100), move |_| speak(echo));
    let questions =
        Load::start(if_whole(whole, 200, 20), move |number| ask(dns, number as u16 + 1));
    let datagrams = line.first.address("datagrams").await;
    let flows = Load::start(if_whole(whole, 200, 20), move |number| flow(datagrams, number));
    let (leave, staying) = stay(echo, if_whole(whole, 200, 20));

    let mut processes = vec![line.pid];
    for number in 0..if_whole(whole, 20, 3) {
        // Some have another number of workers.
        std::fs::write(&line.file, config(1 + (number + 1) % 3)).unwrap();
        processes.push(line.upgrade().await);
        let status = get_by_socket(&socket, "/v1/status").await.json();
        assert_eq!(status["pid"], line.pid, "the admin face is the new one's");
        assert_eq!(crate::clients::get(admin, "/readyz").await.status, 200);
        assert_eq!(health().await, known, "health is kept");
        for (client, home) in clients.iter().zip(&homes) {
            assert_eq!(bound(web, *client).await, *home, "{client} stays where it was");
        }
        assert_eq!(status["operations"].as_array().unwrap().len(), 1, "{status}");
        // One that was at rest through it all is answered, and told to come back by another one.
        let answer = resting.get("/").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        resting = Http::to(web).await;
        assert_eq!(resting.get("/").await.status, 200);
    }
    drop(resting);
    let carried = tcp.end("connections by TCP").await;
    let answered = questions.end("questions").await * 20;
    let returned = flows.end("flows of datagrams").await * 20;
    leave.send_replace(true);
    within("those who stay", staying).await.unwrap().unwrap();
    let counted = wrk.end().await;
    counted.is_clean();
    let (elapsed, checks) = (began.elapsed(), behind.checks.load(Ordering::Relaxed));
    println!(
        "{} upgrades in {elapsed:?}: {} requests, {carried} connections, {answered} questions, {returned} \
         datagrams, none lost; {checks} checks of {CHECKED} targets every {INTERVAL:?}",
        processes.len() - 1,
        counted.requests
    );
    // Each target once at the start, then on its beat: what jitter adds is less than a tenth.
    let rounds = elapsed.as_secs_f64() / INTERVAL.as_secs_f64() * 1.1 + 2.0;
    assert!(checks as f64 <= CHECKED as f64 * rounds, "a storm of checks: {checks} in {elapsed:?}");

    // Nobody holds on to them any more: they leave long before their deadline.
    let last = processes.pop().unwrap();
    assert!(line.first.exited().await.success());
    for pid in &processes[1..] {
        left(*pid, &line.file).await;
    }
    line.signal(Signal::TERM);
    left(last, &line.file).await;
}
