//! One generation: whoever asks after any face has shown a state is never told an older one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hickory_proto::rr::RecordType;

use crate::clients::{Dns, Http};
use crate::support::{Memory, address, backend, known, says, start_with, until, within};

const CHANGES: u64 = 2000;

const CONFIGURATION: &str = r#"
[node]
workers = 2
[dns]
listen = ["127.0.0.1:0"]
[dns.zone.test]
[listener.web.http]
bind = ["127.0.0.1:0"]
show_generation = ["127.0.0.0/8"]
[route.all]
listener = "web"
service = "web"
[template.list]
source = "list.j2"
destination = "list"
[admin]
socket = "admin.sock"
"#;

/// What the askers know of each other.
#[derive(Default)]
struct Shared {
    /// The highest generation that any of them was shown.
    highest: AtomicU64,
    done: AtomicBool,
    /// The generation in which the instance is the first of the two; odd ones later it is not.
    first: u64,
    pair: [String; 2],
}

impl Shared {
    /// What must not be undercut by an answer to whoever asks from here on.
    fn floor(&self) -> u64 {
        self.highest.load(Ordering::SeqCst)
    }

    /// Checks an answer that has been read to its end.
    fn shown(&self, face: &str, floor: u64, generation: u64) {
        assert!(generation >= floor, "{face} told {generation} after somebody was shown {floor}");
        self.highest.fetch_max(generation, Ordering::SeqCst);
    }

    /// Checks that what is told is what was so in that generation.
    fn agrees(&self, face: &str, generation: u64, told: &str) {
        let wanted = &self.pair[((generation - self.first) % 2) as usize];
        assert_eq!(told, wanted, "{face} in generation {generation}");
    }

    fn done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}

async fn by_dns(shared: Arc<Shared>, server: SocketAddr) -> u64 {
    let dns = Dns::to(server).await;
    let mut asked = 0;
    while !shared.done() {
        let floor = shared.floor();
        let reply = dns.ask("web.test", RecordType::A).await;
        let generation = reply.generation();
        shared.shown("DNS", floor, generation);
        let told: Vec<String> = reply.addresses().iter().map(ToString::to_string).collect();
        shared.agrees("DNS", generation, &told.join(" "));
        asked += 1;
    }
    asked
}

async fn by_http(shared: Arc<Shared>, server: SocketAddr) -> u64 {
    let mut client = Http::to(server).await;
    let mut asked = 0;
    while !shared.done() {
        let floor = shared.floor();
        let response = client.get("/").await;
        assert_eq!(response.status, 200);
        let generation = response.generation();
        shared.shown("the proxy", floor, generation);
        shared.agrees("the proxy", generation, &response.body);
        asked += 1;
    }
    asked
}

async fn by_status(shared: Arc<Shared>, socket: PathBuf) -> u64 {
    let mut client = Http::to_socket(&socket).await;
    let mut asked = 0;
    while !shared.done() {
        let floor = shared.floor();
        let generation = client.get("/v1/status").await.json()["generation"].as_u64().unwrap();
        shared.shown("the status", floor, generation);
        let floor = shared.floor();
        let told = client.get("/v1/services/web").await.json();
        let generation = told["generation"].as_u64().unwrap();
        shared.shown("the services", floor, generation);
        let address = told["instances"][0]["address"].as_str().unwrap();
        shared.agrees("the services", generation, address);
        asked += 1;
        // Nobody polls a status as fast as it answers.
        tokio::task::yield_now().await;
    }
    asked
}

/// A file may come late; what it tells holds for all the others.
async fn by_file(shared: Arc<Shared>, file: PathBuf) -> u64 {
    let mut looked = 0;
    while !shared.done() {
        let text = std::fs::read_to_string(&file).unwrap();
        let (generation, told) = text.split_once(' ').unwrap();
        let generation = generation.parse().unwrap();
        shared.shown("the file", 0, generation);
        shared.agrees("the file", generation, told);
        looked += 1;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    looked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_two_thousand_changes_no_face_falls_behind_what_another_has_shown() {
    let directory = tempfile::tempdir().unwrap();
    let template = "{{ generation() }} {% for i in service('web') %}{{ i.address }}{% endfor %}";
    std::fs::write(directory.path().join("list.j2"), template).unwrap();
    let pair = [backend("127.0.0.31", 31).await, backend("127.0.0.32", 32).await];
    let registry = Memory::new("memory");
    registry.tell("web", &pair[..1]);
    let app = start_with(CONFIGURATION, directory.path(), &[&registry]).await;
    known(&app, "web", 1).await;
    let first = app.tables().snapshot.generation;
    let file = directory.path().join("list");
    // One from before the registry was heard says nothing of the two.
    says(&file, &format!("{first} {}", pair[0].ip())).await;

    let pair_names = pair.map(|at| at.ip().to_string());
    let shared = Arc::new(Shared { first, pair: pair_names, ..Shared::default() });
    let (dns, web) = (address(&app, "dns").await, address(&app, "web").await);
    let asking = [
        ("DNS", tokio::spawn(by_dns(Arc::clone(&shared), dns))),
        ("the proxy", tokio::spawn(by_http(Arc::clone(&shared), web))),
        (
            "the status",
            tokio::spawn(by_status(Arc::clone(&shared), directory.path().join("admin.sock"))),
        ),
        ("the file", tokio::spawn(by_file(Arc::clone(&shared), file.clone()))),
    ];
    for change in 1..=CHANGES {
        let now = &pair[(change % 2) as usize..][..1];
        registry.tell("web", now);
        within("published", app.applied(first + change)).await;
    }
    assert_eq!(app.tables().snapshot.generation, first + CHANGES, "each change is one generation");
    let last = until("the last change is in the file", async || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.starts_with(&(first + CHANGES).to_string()).then_some(text)
    });
    last.await;
    shared.done.store(true, Ordering::SeqCst);
    for (face, asked) in asking {
        let asked = asked.await.unwrap();
        println!("{face} was asked {asked} times");
        assert!(asked > 100, "{face} was asked {asked} times only");
    }
    app.stop().await;
}
