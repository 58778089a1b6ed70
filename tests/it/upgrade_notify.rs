//! What a service manager hears, played by the test: ready, reloading, alive, replaced, stopping.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::UnixDatagram;

use crate::support::successors::{Line, left};
use crate::support::within;

/// The next message that has `wanted` among its names, by name.
async fn heard(manager: &UnixDatagram, wanted: &str) -> BTreeMap<String, String> {
    within(wanted, async {
        loop {
            let mut bytes = [0; 4096];
            let length = manager.recv(&mut bytes).await.unwrap();
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            let pairs = text.lines().map(|line| line.split_once('=').unwrap());
            let words: BTreeMap<_, _> =
                pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            if words.contains_key(wanted) {
                return words;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_hears_of_every_step_and_of_life_in_between() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let config = "[node]\nworkers = 2\n[process]\npid_file = \"PID\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.all]\nlistener = \"web\"\nrespond = { status = 200, body = \"here\" }\n\
         [admin]\nsocket = \"admin.sock\"\n";
    let pid_file = directory.path().join("portolan.pid");
    let config = config.replace("PID", pid_file.to_str().unwrap());
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let mut line = Line::start(directory, &config, &environment).await;
    let number = || std::fs::read_to_string(&pid_file).unwrap().trim().parse::<u32>().unwrap();

    let ready = heard(&manager, "READY").await;
    assert_eq!((&*ready["READY"], &*ready["STATUS"]), ("1", "Serving"));
    assert_eq!((ready["MAINPID"].parse().unwrap(), number()), (line.pid, line.pid));
    assert_eq!(heard(&manager, "WATCHDOG").await["WATCHDOG"], "1");

    line.signal(Signal::HUP);
    let reloading = heard(&manager, "RELOADING").await;
    assert!(reloading["MONOTONIC_USEC"].parse::<u64>().unwrap() > 0, "{reloading:?}");
    assert_eq!(heard(&manager, "READY").await["STATUS"], "Serving");
    std::fs::write(&line.file, "nonsense").unwrap();
    line.signal(Signal::HUP);
    heard(&manager, "RELOADING").await;
    let refused = &heard(&manager, "READY").await["STATUS"];
    assert!(refused.contains("refused"), "{refused}");
    std::fs::write(&line.file, &config).unwrap();

    // The old one names its successor while its word counts, and then says nothing any more.
    let old = line.pid;
    let new = line.upgrade().await.to_string();
    let mut seen = heard(&manager, "MAINPID").await;
    assert_eq!((&seen["MAINPID"], seen.get("READY")), (&new, None));
    seen = heard(&manager, "READY").await;
    assert_eq!(seen["MAINPID"], new);
    assert_eq!(heard(&manager, "WATCHDOG").await["WATCHDOG"], "1", "the new one lives");
    assert!(line.first.exited().await.success());
    assert_ne!(number(), old);
    let told = async {
        loop {
            let stopping = heard(&manager, "STOPPING").await;
            assert_eq!(stopping["STATUS"], "", "nobody stops");
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(50), told).await.is_err());

    line.signal(Signal::TERM);
    assert_eq!(heard(&manager, "STOPPING").await["STATUS"], "Draining");
    left(line.pid, &line.file).await;
    assert!(!pid_file.exists());
}
