//! `slowhttptest` against the real binary: slow heads, slow bodies and slow readers at the same time.
//! Meanwhile everybody else is served, and what is slow is closed.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use crate::child::Running;
use crate::clients::get_by_socket;
use crate::origin::Origin;
use crate::peers::{output, own_address};
use crate::rig::{Client, within};

/// How long each attack lasts, in seconds.
const SECONDS: u64 = 6;
const CONNECTIONS: u32 = 50;

/// An origin whose answer to `/large` has 4 MB.
async fn origin() -> Origin {
    Origin::start(|mut exchange| async move {
        loop {
            let request = exchange.request().await?;
            let length = if request.contains("/large") { 4 << 20 } else { 2 };
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await?;
            exchange.send(vec![b'x'; length]).await?;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_31_slowhttptest_finds_everybody_else_served_and_its_own_connections_closed() {
    let origin = origin().await;
    let directory = tempfile::tempdir().unwrap();
    let (address, socket) = (own_address(), directory.path().join("admin.sock"));
    let (ip, port) = (origin.address.ip(), origin.address.port());
    let services =
        format!("[[service.web.instance]]\nid = \"web\"\naddress = \"{ip}\"\nport = {port}\n");
    fs::write(directory.path().join("services.toml"), services).unwrap();
    let config = format!(
        "[node]\nworkers = 2\n[admin]\nsocket = \"admin.sock\"\n\
         [registry.local.file]\npath = \"services.toml\"\n\
         [listener.web.http]\nbind = [\"{address}\"]\n\
         timeouts = {{ request_head = \"2s\", idle = \"2s\" }}\n\
         min_rates = {{ body = \"240B\", send = \"10kB\", over = \"2s\" }}\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n"
    );
    let file = directory.path().join("portolan.toml");
    fs::write(&file, config).unwrap();
    let portolan = Running::start(&file).await;
    portolan.ready(&socket).await;

    let count = CONNECTIONS.to_string();
    let length = SECONDS.to_string();
    let url = |path: &str| format!("http://{address}{path}");
    let attack = |more: &[&str], path: &str| {
        let mut arguments = vec!["-c".to_owned(), count.clone(), "-r".into(), "200".into()];
        arguments.extend(["-l".into(), length.clone(), "-p".into(), "5".into()]);
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        arguments.extend(["-u".into(), url(path)]);
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            output("slowhttptest", &arguments).await
        }
    };
    let probe = async {
        let (began, mut served, mut slowest) = (Instant::now(), 0, Duration::ZERO);
        while began.elapsed() < Duration::from_secs(SECONDS) {
            let asked = Instant::now();
            let mut client = Client::connect(address).await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(client.answer().await.status, 200);
            slowest = slowest.max(asked.elapsed());
            served += 1;
        }
        (served, slowest)
    };
    let (heads, bodies, readers, (served, slowest)) = tokio::join!(
        attack(&["-H", "-i", "1", "-x", "8"], "/"),
        attack(&["-B", "-i", "1", "-x", "8", "-s", "100000"], "/"),
        attack(&["-X", "-n", "1", "-z", "32", "-w", "512", "-y", "1024"], "/large"),
        probe,
    );
    let page = within("metrics", get_by_socket(&socket, "/metrics")).await.body;
    let metric = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_default()
    };
    let mut report = format!("{served} requests served meanwhile, the slowest in {slowest:?}");
    for (what, name, said) in [
        ("heads", "portolan_proxy_refused_total{listener=\"web\",reason=\"head-timeout\"}", heads),
        ("bodies", "portolan_proxy_slow_total{listener=\"web\",what=\"body\"}", bodies),
        ("readers", "portolan_proxy_slow_total{listener=\"web\",what=\"reader\"}", readers),
    ] {
        let closed = metric(name);
        let _ = write!(report, "; {closed} slow {what} closed");
        assert!(closed >= f64::from(CONNECTIONS) / 2.0, "{report}\n{said}");
        let available = said.to_ascii_lowercase();
        assert!(available.contains("yes"), "{what}: was the service available?\n{said}");
    }
    eprintln!("{report}");
    assert!(served >= 5, "{report}");
}
