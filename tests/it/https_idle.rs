//! What idle connections over TLS cost the real binary.

use std::fs;
use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::process::Command;

use crate::peers::{own_address, serving, start};
use crate::secure::{Authority, Secure, shake};

const CONNECTIONS: u64 = 500;
/// Bytes for one, when the code is optimised and when it is not.
const MOST: u64 = if cfg!(debug_assertions) { 32 << 10 } else { 20 << 10 };

/// Resident memory of a process in bytes.
fn memory(process: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// `count` connections, each of which has had an answer.
async fn idle(authority: &Authority, address: SocketAddr, count: u64) -> Vec<Secure> {
    let config = authority.trusting().config();
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = shake(&config, address, "a.example").await.unwrap();
        client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn an_idle_connection_over_tls_costs_little() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let authority = Authority::new();
    authority.server("a", &["a.example"]);
    let (address, file) = (own_address(), authority.path("portolan.toml"));
    let config = format!(
        "{}[node]\nworkers = 2\n[listener.web.https]\nbind = [\"{address}\"]\n\
         [route.all]\nlistener = \"web\"\nrespond = {{ status = 200, body = \"ok\" }}\n",
        authority.tables(&["a"])
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.arg("run").arg("--config").arg(&file).stderr(std::process::Stdio::null());
    let mut portolan = start(&mut command);
    serving(&mut portolan, address).await;
    let process = portolan.id().unwrap();

    // What is set up once, by the first few, is not the price of an idle connection.
    drop(idle(&authority, address, 50).await);
    let before = memory(process);
    let clients = idle(&authority, address, CONNECTIONS).await;
    let with = memory(process);
    let each = with.saturating_sub(before) / CONNECTIONS;
    let report = format!(
        "{CONNECTIONS} idle connections over TLS: {each} bytes each (Rss {before} before, {with} \
         with them)"
    );
    drop(clients);
    eprintln!("{report}");
    assert!(each <= MOST, "more than {MOST} bytes: {report}");
}
