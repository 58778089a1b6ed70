//! No request lost: origins are replaced, the configuration is reloaded and the registry goes away
//! while a real wrk asks and WebSocket sessions come and go.
//!
//! `PORTOLAN_FULL` asks for the long form: 20 origins, 60 reloads, two minutes without the registry.

use std::time::Duration;

use crate::support::LOOK;
use crate::support::fleet::{Edge, Fleet};
use crate::support::load::{Sessions, Wrk};
use crate::support::nginx::Nginx;

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
struct Size {
    origins: usize,
    replaced_under_reloads: usize,
    reloads: usize,
    /// Without a registry, each time.
    outage: Duration,
    connections: u32,
    /// Of each connection of wrk between two requests. The short form leaves the machine to the
    /// tests beside it.
    pause: Duration,
    /// From one session to the next.
    beat: Duration,
}

const SHORT: Size = Size {
    origins: 6,
    replaced_under_reloads: 2,
    reloads: 14,
    outage: Duration::from_secs(2),
    connections: 8,
    pause: Duration::from_millis(20),
    beat: Duration::from_millis(80),
};
const FULL: Size = Size {
    origins: 20,
    replaced_under_reloads: 20,
    reloads: 60,
    outage: Duration::from_secs(60),
    connections: 16,
    pause: Duration::ZERO,
    beat: Duration::from_millis(40),
};

fn size() -> Size {
    if std::env::var_os("PORTOLAN_FULL").is_some() { FULL } else { SHORT }
}

/// What a reload changes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Variant {
    registry: &'static str,
    listener: &'static str,
    route: &'static str,
    service: &'static str,
    more: &'static str,
}

const CHECK: &str = "check.http = { path = \"/healthz\", interval = \"1s\", fast_interval = \"200ms\", fall = 2 }\n";
const PLAIN: Variant = Variant { registry: "", listener: "", route: "", service: CHECK, more: "" };

/// Each differs from the one before, and from the one behind. Some take the check away and bring
/// it back, or start the registry's task anew: these may lose what is known.
pub(crate) const VARIANTS: [Variant; 14] = [
    Variant { service: "policy = \"round-robin\"\n", ..PLAIN },
    PLAIN,
    Variant { registry: "heartbeat = \"7s\"\n", ..PLAIN },
    Variant {
        more: "[listener.other.http]\nbind = [\"127.0.0.1:0\"]\n\
               [route.other]\nlistener = \"other\"\nservice = \"web\"\n",
        ..PLAIN
    },
    Variant { service: "check.tcp = { interval = \"1s\" }\n", ..PLAIN },
    Variant { route: "sticky = { cookie = \"portolan\" }\n", ..PLAIN },
    Variant {
        service: "policy = \"least-connections\"\nmax_connections = 100\nkeep_alive = 4\n",
        ..PLAIN
    },
    Variant { listener: "timeouts = { idle = \"30s\" }\nhead_max = \"8KiB\"\n", ..PLAIN },
    Variant {
        more: "[route.chat]\nlistener = \"web\"\npath = \"/backend/chat\"\nservice = \"web\"\n",
        ..PLAIN
    },
    Variant {
        registry: "priority = 3\n",
        service: "outlier = {}\nretries = { attempts = 1 }\n",
        ..PLAIN
    },
    Variant { service: "policy = \"maglev\"\nslow_start = \"2s\"\ndrain = \"10s\"\n", ..PLAIN },
    Variant { route: "requests_max = 1000\nadd_prefix = \"/\"\n", ..PLAIN },
    Variant { more: "[dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.consul]\n", ..PLAIN },
    Variant { registry: "address_tag = \"lan\"\n", ..PLAIN },
];

/// The configuration of one of them; over TLS by the tables of `certificates`, unless there are
/// none. Calls go to the origins' servers of HTTP/2.
pub(crate) fn config(fleet: &Fleet, variant: &Variant, certificates: &str) -> String {
    let Variant { registry, listener, route, service, more } = variant;
    let kind = if certificates.is_empty() { "http" } else { "https" };
    format!(
        "[node]\nworkers = 2\ndata_dir = \"data\"\n\
         [registry.dc1.consul]\naddress = \"{consul}\"\n{registry}\
         {certificates}[listener.web.{kind}]\nbind = [\"127.0.0.1:0\"]\n{listener}\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n{route}\
         [service.web]\n{service}\
         [route.calls]\nlistener = \"web\"\npath = \"/calls.Echo\"\nservice = \"calls\"\n\
         [service.calls]\nprotocol = \"h2c\"\n\
         {more}\
         [admin]\nsocket = \"admin.sock\"\n",
        consul = fleet.consul.url()
    )
}

/// Load until it is told to end.
struct Load(Wrk, Sessions);

impl Load {
    fn start(edge: &Edge, size: Size) -> Self {
        let directory = edge.directory.path();
        let wrk = Wrk::start(edge.web, "/", directory, size.connections, size.pause, true);
        Self(wrk, Sessions::start(edge.web, size.beat))
    }

    /// Prints what came of it, and panics if anything was lost.
    async fn end(self, what: &str, edge: &Edge) {
        let (counted, held) = tokio::join!(self.0.end(), self.1.end());
        println!(
            "{what}: {} requests, {} refused, {} socket errors; {} sessions of 5 echoes, {} \
             failed, the longest {:?}; retries {:?}, cut {:?}",
            counted.requests,
            counted.refused,
            counted.socket_errors,
            held.sessions,
            held.failed.len(),
            held.longest,
            edge.metric("portolan_proxy_retries_total").await,
            edge.metric("portolan_proxy_cut_total").await,
        );
        counted.is_clean();
        assert!(held.failed.is_empty() && held.sessions > 0, "{:#?}", held.failed);
        assert_eq!(edge.metric("portolan_proxy_cut_total").await, [""; 0]);
    }
}

/// Replaces so many, each once it has had requests of wrk.
async fn replace(fleet: &mut Fleet, edge: &Edge, count: usize) {
    for _ in 0..count {
        was_asked(fleet.oldest()).await;
        fleet.replace_oldest(edge).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_origins_are_replaced() {
    let size = size();
    let mut fleet = Fleet::start(size.origins).await;
    let edge = Edge::start(&config(&fleet, &PLAIN, ""), &fleet).await;
    let load = Load::start(&edge, size);
    replace(&mut fleet, &edge, size.origins).await;
    load.end(&format!("{} origins replaced one by one", size.origins), &edge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_through_reloads_and_without_the_registry() {
    let size = size();
    let mut fleet = Fleet::start(size.origins).await;
    let mut edge = Edge::start(&config(&fleet, &PLAIN, ""), &fleet).await;
    let mut variants = VARIANTS.iter().cycle();

    let load = Load::start(&edge, size);
    let per_origin = size.reloads / size.replaced_under_reloads;
    for _ in 0..size.replaced_under_reloads {
        // What a new origin takes to be known, and its predecessor to end, is beside the reloads.
        let mut texts = Vec::new();
        for _ in 0..per_origin {
            texts.push(config(&fleet, variants.next().unwrap(), ""));
        }
        reloads_beside(&mut fleet, &mut edge, texts).await;
    }
    let reloads = per_origin * size.replaced_under_reloads;
    let replaced = size.replaced_under_reloads;
    load.end(&format!("{reloads} reloads while {replaced} origins are replaced"), &edge).await;

    let load = Load::start(&edge, size);
    fleet.consul.kill().await;
    edge.stale(true).await;
    for _ in 0..3 {
        tokio::time::sleep(size.outage / 3).await;
        edge.reload(&config(&fleet, variants.next().unwrap(), "")).await;
    }
    fleet.consul.back().await;
    edge.stale(false).await;
    replace(&mut fleet, &edge, 1).await;
    load.end(&format!("the registry killed for {:?}, back with its data", size.outage), &edge)
        .await;

    let load = Load::start(&edge, size);
    fleet.consul.freeze(true);
    for _ in 0..3 {
        tokio::time::sleep(size.outage / 3).await;
        edge.reload(&config(&fleet, variants.next().unwrap(), "")).await;
    }
    fleet.consul.freeze(false);
    edge.stale(false).await;
    replace(&mut fleet, &edge, 1).await;
    load.end(&format!("the registry frozen for {:?}", size.outage), &edge).await;
}

/// Reloads by each of `texts`, as soon as the one before is in force, while an origin is replaced.
pub(crate) async fn reloads_beside(fleet: &mut Fleet, edge: &mut Edge, texts: Vec<String>) {
    was_asked(fleet.oldest()).await;
    let new = fleet.grow().await;
    let (first, rest) = texts.split_at(texts.len() / 2);
    for text in first {
        edge.reload(text).await;
    }
    edge.serves(&new, true).await;
    let leaving = fleet.deregister_oldest().await;
    for text in rest {
        edge.reload(text).await;
    }
    leaving.end(edge).await;
}

/// Returns once it has answered a request of wrk or h2load: one that nobody asks is replaced without
/// a loss by anybody. By the default policy one whose first answer took a second waits a minute for
/// the next request, until that has decayed.
async fn was_asked(origin: &Nginx) {
    let asked = tokio::time::timeout(Duration::from_secs(120), async {
        while !origin.log().contains("\"GET / HTTP/1.1\" 200") {
            tokio::time::sleep(LOOK).await;
        }
    });
    assert!(asked.await.is_ok(), "{} was never asked: {}", origin.name, origin.log());
}
