//! The real binary at its limit of open files, by TCP and by DNS over TCP.

use std::net::SocketAddr;

use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::child::{PORTOLAN, Running};
use crate::clients::{Dns, question};
use crate::peers::own_address;
use crate::support::{echo, listing, until, within};

/// A connection over which `asked` was answered; none when it was closed instead.
async fn answered(at: SocketAddr, asked: &[u8]) -> Option<TcpStream> {
    let mut stream = within("connect", TcpStream::connect(at)).await.unwrap();
    // It may be closed by now.
    let _ = stream.write_all(asked).await;
    let mut some = [0; 1];
    match within("an answer or a close", stream.read(&mut some)).await {
        Ok(1) => Some(stream),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_limit_of_open_files_connections_by_tcp_are_closed_and_those_who_are_in_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let echo = echo().await;
    std::fs::write(directory.path().join("services.toml"), listing("web", &[("a", echo)])).unwrap();
    let (raw, dns) = (own_address(), own_address());
    let config = format!(
        "[node]\nworkers = 1\n[registry.local.file]\npath = \"services.toml\"\n\
         [listener.raw.tcp]\nbind = [\"{raw}\"]\nservice = \"web\"\n\
         [dns]\nlisten = [\"{dns}\"]\nexpress_workers = 1\ntcp_max_per_client = 1000\n\
         [dns.zone.test]\n[admin]\nsocket = \"admin.sock\"\n"
    );
    let file = directory.path().join("portolan.toml");
    std::fs::write(&file, config).unwrap();
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg("ulimit -n 120 && exec \"$0\" run --config \"$1\"")
        .arg(PORTOLAN)
        .arg(&file);
    let portolan = Running::spawn(limited);
    portolan.logged("serving").await;
    portolan.ready(&directory.path().join("admin.sock")).await;
    let told = portolan.line("the warning", |line| line.contains("fewer files may be open")).await;
    assert!(told.contains("\"wanted\":20512"), "{told}");

    let mut query = question(7, "web.test", RecordType::A);
    query.splice(0..0, u16::try_from(query.len()).unwrap().to_be_bytes());
    for (what, at, asked) in [("TCP", raw, &b"h"[..]), ("DNS", dns, &query)] {
        let (mut held, mut closed) = (Vec::new(), 0);
        for _ in 0..150 {
            match answered(at, asked).await {
                Some(stream) => held.push(stream),
                None => closed += 1,
            }
        }
        assert!(held.len() >= 20 && closed >= 30, "{what}: {} in, {closed} closed", held.len());
        for stream in &mut held {
            stream.write_all(asked).await.unwrap();
            let mut some = [0; 1];
            within("an answer", stream.read_exact(&mut some)).await.unwrap();
        }
        // Questions by UDP need no descriptor.
        assert_eq!(Dns::to(dns).await.addresses("web.test").await.len(), 1, "{what}");
        drop(held);
        until("there is room again", async || answered(at, asked).await.map(drop)).await;
    }
}
