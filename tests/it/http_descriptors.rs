//! The real binary at its limit of open files.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::process::Command;

use crate::child::{PORTOLAN, Running};
use crate::clients::get_by_socket;
use crate::peers::own_address;
use crate::rig::{Client, within};
use crate::support::until;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// One more client at `address` that asks: with an answer, or closed without one.
async fn ask(address: SocketAddr) -> Option<Client> {
    let mut client = Client::connect(address).await;
    // It may be closed by now.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, GET.as_bytes()).await;
    let mut first = [0];
    match within("an answer or a close", client.stream.peek(&mut first)).await {
        Ok(1..) => {
            assert_eq!(client.answer().await.status, 200);
            Some(client)
        }
        _ => None,
    }
}

#[tokio::test]
async fn row_43_at_the_limit_of_open_files_those_who_come_are_closed_and_those_who_are_in_served() {
    let directory = tempfile::tempdir().unwrap();
    let (web, other) = (own_address(), own_address());
    let (file, socket) =
        (directory.path().join("portolan.toml"), directory.path().join("admin.sock"));
    let route = |name| {
        format!(
            "[route.{name}]\nlistener = \"{name}\"\nrespond = {{ status = 200, body = \"ok\" }}\n"
        )
    };
    let config = format!(
        "[node]\nworkers = 1\n[admin]\nsocket = \"admin.sock\"\n\
         [listener.web.http]\nbind = [\"{web}\"]\n[listener.other.http]\nbind = [\"{other}\"]\n{}{}",
        route("web"),
        route("other")
    );
    fs::write(&file, config).unwrap();
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg("ulimit -n 100 && exec \"$0\" run --config \"$1\"")
        .arg(PORTOLAN)
        .arg(&file);
    let portolan = Running::spawn(limited);
    portolan.logged("serving").await;
    let mut at_other = ask(other).await.unwrap();

    let mut held = Vec::new();
    let mut closed = 0;
    for _ in 0..150 {
        match ask(web).await {
            Some(client) => held.push(client),
            None => closed += 1,
        }
    }
    assert!(held.len() >= 20 && closed >= 50, "{} are in, {closed} were closed", held.len());
    // Nobody waits for anything: those who are in go on, at each listener.
    for client in held.iter_mut().chain([&mut at_other]) {
        client.send(GET).await;
        assert_eq!(client.answer().await.status, 200);
    }
    // As soon as somebody leaves there is room again, at the other listener too.
    for address in [web, other] {
        held.truncate(held.len() - 3);
        let served = async {
            while ask(address).await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("room", served).await;
    }
    drop((held, at_other));
    let name =
        "portolan_listener_connections_refused_total{listener=\"web\",reason=\"descriptors\"} ";
    // A client sees its close before it is counted.
    until(&format!("{closed} refused"), async || {
        let page = get_by_socket(&socket, "/metrics").await;
        let counted = page.body.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
        counted.filter(|counted: &f64| page.status == 200 && *counted >= f64::from(closed))
    })
    .await;
    portolan.logged("accept failed; trying again").await;
}
