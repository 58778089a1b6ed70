//! What idle connections cost the real binary, and that it gives it back.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::process::Command;
use tokio::time::Instant;

use crate::peers::{own_address, serving, start};
use crate::rig::Client;

const CONNECTIONS: u64 = 1000;
/// Bytes for one, when the code is optimised and when it is not.
const MOST: u64 = if cfg!(debug_assertions) { 16 << 10 } else { 8 << 10 };

/// Resident memory of a process, and its proportional part, in bytes.
fn memory(process: u32) -> (u64, u64) {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    (field("Rss:"), field("Pss:"))
}

/// `count` connections, each of which has had an answer.
async fn idle(address: SocketAddr, count: u64) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn an_idle_connection_costs_little_and_gives_it_back_when_it_closes() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (address, file) = (own_address(), directory.path().join("portolan.toml"));
    let config = format!(
        "[node]\nworkers = 2\n[listener.web.http]\nbind = [\"{address}\"]\n\
         [route.all]\nlistener = \"web\"\nrespond = {{ status = 200, body = \"ok\" }}\n"
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.arg("run").arg("--config").arg(&file).stderr(std::process::Stdio::null());
    let mut portolan = start(&mut command);
    serving(&mut portolan, address).await;
    let process = portolan.id().unwrap();

    // What is set up once, by the first few, is not the price of an idle connection.
    drop(idle(address, 20).await);
    let (before, _) = memory(process);
    let clients = idle(address, CONNECTIONS).await;
    let (with, with_pss) = memory(process);
    let each = with.saturating_sub(before) / CONNECTIONS;
    let mut report = format!(
        "{CONNECTIONS} idle connections: {each} bytes each (Rss {before} before, {with} with them, \
         Pss {with_pss})"
    );
    drop(clients);
    let closed = Instant::now();
    let after = loop {
        let (after, _) = memory(process);
        // A quarter of what came may stay for the next ones: the allocator keeps whole pages.
        if after <= before + (with - before) / 4 {
            break Some(after);
        }
        if closed.elapsed() > Duration::from_secs(60) {
            break None;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let (last, _) = memory(process);
    let _ = write!(report, "; {:?} after their close: {last}", closed.elapsed());
    eprintln!("{report}");
    assert!(each <= MOST, "more than {MOST} bytes: {report}");
    assert!(after.is_some(), "not given back within a minute: {report}");
}
