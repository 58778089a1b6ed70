//! No request lost over HTTP/2 and TLS: origins and certificates are replaced and the configuration
//! is reloaded while a real h2load asks and calls of gRPC come and go.
//!
//! `PORTOLAN_FULL` asks for the long form: 20 origins, 60 reloads, 60 certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::peers::output;
use crate::rolling::{VARIANTS, config, reloads_beside};
use crate::secure::{Authority, shake, shown};
use crate::support::calls::Calls;
use crate::support::fleet::{Edge, Fleet};
use crate::support::within;

const NAME: &str = "a.example";

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
struct Size {
    origins: usize,
    /// Reloads, and as many new certificates, while one origin is replaced.
    per_origin: usize,
    /// Of one run of h2load.
    requests: u32,
    /// From one call to the next.
    beat: Duration,
}

const SHORT: Size =
    Size { origins: 3, per_origin: 4, requests: 200, beat: Duration::from_millis(80) };
const FULL: Size =
    Size { origins: 20, per_origin: 3, requests: 2000, beat: Duration::from_millis(40) };

/// Runs of h2load one after the other.
struct H2load {
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<u32, String>>,
}

impl H2load {
    /// Four connections at a time, each with eight streams.
    fn start(to: SocketAddr, requests: u32) -> Self {
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(async move {
            let mut done = 0;
            while !*stopped.borrow() {
                let url = format!("https://{NAME}:{}/", to.port());
                let number = requests.to_string();
                let at = format!("--connect-to={to}");
                let arguments = ["-n", &number, "-c", "4", "-m", "8", "-t", "1", &at, &url];
                let told = output("h2load", &arguments).await;
                let clean = [
                    format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout"),
                    format!("status codes: {requests} 2xx"),
                    "Application protocol: h2".to_owned(),
                ];
                if !clean.iter().all(|clean| told.contains(clean)) {
                    return Err(format!("after {done} requests: {told}"));
                }
                done += requests;
            }
            Ok(done)
        });
        Self { stop, running }
    }

    /// How many requests got their answers, all of them; or the run in which one did not.
    async fn end(self) -> Result<u32, String> {
        self.stop.send_replace(true);
        within("the last run of h2load", self.running).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_origins_certificates_and_the_configuration_change() {
    let size = if std::env::var_os("PORTOLAN_FULL").is_some() { FULL } else { SHORT };
    let authority = Arc::new(Authority::new());
    authority.server("a", &[NAME]);
    let tls = authority.tables(&["a"]);
    let mut fleet = Fleet::start(size.origins).await;
    let mut variants = VARIANTS.iter().cycle();
    let logged = tempfile::NamedTempFile::new().unwrap();
    // What is refused tells by its line how it came to that.
    let tls = format!("[access_log]\nto = {:?}\n{tls}", logged.path());
    let first = config(&fleet, &VARIANTS[1], &tls);
    let mut edge = Edge::start(&first, &fleet).await;
    let mut terms = authority.trusting();
    terms.alpn = vec![b"h2".to_vec()];
    let calls = Calls::start(edge.web, NAME, terms.config(), size.beat);
    let load = H2load::start(edge.web, size.requests);

    let (done, mut ended) = watch::channel(false);
    let (swapping, web) = (Arc::clone(&authority), edge.web);
    let wanted = size.origins * size.per_origin;
    let swaps = tokio::spawn(async move {
        let mut swaps = 0;
        // So many at least, and on until the last origin is replaced.
        while swaps < wanted || !*ended.borrow_and_update() {
            swaps += 1;
            swapping.server("a", &[NAME, &format!("swap-{swaps}.{NAME}")]);
            let new = swapping.certificate("a");
            let config = swapping.trusting().config();
            within("the new certificate", async {
                while shown(&shake(&config, web, NAME).await.unwrap()) != new {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        swaps
    });
    for _ in 0..size.origins {
        let texts = variants.by_ref().take(size.per_origin);
        let texts = texts.map(|variant| config(&fleet, variant, &tls)).collect();
        reloads_beside(&mut fleet, &mut edge, texts).await;
    }
    done.send_replace(true);
    let swaps = within("the last certificate", swaps).await.unwrap();
    let (requests, made) = tokio::join!(load.end(), calls.end());
    let requests = match requests {
        Ok(requests) => requests,
        Err(told) => panic!(
            "{told}\n{:#?}\n{:#?}\n{:#?}",
            edge.metric("portolan_proxy_request_errors_total").await,
            std::fs::read_to_string(logged.path())
                .unwrap()
                .lines()
                .filter(|line| !line.contains("\"status\":200"))
                .collect::<Vec<_>>(),
            edge.process.said()
        ),
    };
    println!(
        "{} origins, {wanted} reloads, {swaps} certificates: {requests} requests of h2load, 0 \
         failed; {} calls of 5 messages, {} failed, {} goodbyes; retries {:?}, cut {:?}",
        size.origins,
        made.calls,
        made.failed.len(),
        made.goodbyes,
        edge.metric("portolan_proxy_retries_total").await,
        edge.metric("portolan_proxy_cut_total").await,
    );
    assert!(made.failed.is_empty() && made.calls > 0, "{:#?}", made.failed);
    assert!(requests > 0);
    assert_eq!(edge.metric("portolan_proxy_cut_total").await, [""; 0]);
}
