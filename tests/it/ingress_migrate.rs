//! `portolan migrate keepalived`: what it prints is started, and behaves before real backends.

use std::fs;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::child::{Running, portolan};
use crate::clients::get_by_socket;
use crate::support::{listing, replace, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keepalived_balanced_is_balanced_by_what_migrate_prints() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    // Three servers: one is well, one fails its check, one says sorry.
    let serve = async |name: &'static str, status: StatusCode| {
        let router = Router::new()
            .route("/do_not_delete/lvs.html", get(move || std::future::ready(status)))
            .fallback(move || std::future::ready(name));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (address.port(), task)
    };
    let (well, task) = serve("well", StatusCode::OK).await;
    let (ill, _) = serve("ill", StatusCode::SERVICE_UNAVAILABLE).await;
    let (sorry, _) = serve("sorry", StatusCode::OK).await;
    let real = |port: u16| {
        format!(
            "    real_server 127.0.0.1 {port} {{\n        weight 1\n        HTTP_GET {{\n            \
             url {{\n                path /do_not_delete/lvs.html\n                status_code 200\n\
             }}\n            connect_timeout 3\n            connect_port {port}\n            \
             nb_get_retry 1\n            delay_before_retry 0.1\n        }}\n    }}\n"
        )
    };
    let names = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let named = names.local_addr().unwrap().port();
    let text = format!(
        "virtual_server 127.0.0.1 53 {{\n    lb_algo rr\n    lb_kind NAT\n    protocol UDP\n    \
         real_server 127.0.0.1 {named} {{\n        weight 1\n    }}\n}}\n\
         vrrp_instance VI_1 {{\n    interface eth0\n}}\nvirtual_server 127.0.0.1 80 {{\n    delay_loop \
         0.2\n    lb_algo wlc\n    lb_kind NAT\n    persistence_timeout 3600\n    protocol TCP\n    \
         sorry_server 127.0.0.1 {sorry}\n{}{}}}\n",
        real(well),
        real(ill)
    );
    fs::write(place("keepalived.conf"), text).unwrap();
    let file = place("keepalived.conf").display().to_string();

    let printed = portolan(&["migrate", "keepalived", &file]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let vrrp = format!("# - {file}:9: `vrrp_instance VI_1` stays with keepalived");
    assert!(printed.stdout.contains(&vrrp), "{}", printed.stdout);
    let listed = portolan(&["migrate", "keepalived", "--services", "-f", &file]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    fs::write(place("services.toml"), &listed.stdout).unwrap();
    // What this machine has not: the port, the directory of the state.
    let text = printed
        .stdout
        .replace("\"127.0.0.1:80\"", "\"127.0.0.1:0\"")
        .replace("\"127.0.0.1:53\"", "\"127.0.0.1:0\"")
        .replace("/var/lib/portolan", "state")
        .replace("127.0.0.1:8611", "127.0.0.1:0");
    fs::write(place("portolan.toml"), &text).unwrap();

    let process = Running::start(&place("portolan.toml")).await;
    let listener = process.address("vs-127-0-0-1-80").await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(process.address("vs-127-0-0-1-53-udp").await).await.unwrap();
    client.send(b"a question").await.unwrap();
    let mut room = [0; 100];
    let (length, from) = within("a datagram", names.recv_from(&mut room)).await.unwrap();
    assert_eq!(&room[..length], b"a question");
    names.send_to(b"an answer", from).await.unwrap();
    let length = within("its answer", client.recv(&mut room)).await.unwrap();
    assert_eq!(&room[..length], b"an answer");
    // While nobody is well, connections are reset, at whatever step of them.
    let answer = async || {
        let mut client = TcpStream::connect(listener).await.ok()?;
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.ok()?;
        answer.rsplit("\r\n\r\n").next().map(str::to_owned)
    };
    let says = async |wanted: &str| {
        let said = async || answer().await.filter(|said| said == wanted).map(drop);
        until(wanted, said).await;
    };
    let admin = place("state/admin.sock");
    let unhealthy = async |wanted: u64| {
        let known = async || {
            let status = get_by_socket(&admin, "/v1/services/vs-127-0-0-1-80").await;
            (status.json()["states"]["unhealthy"] == wanted).then_some(())
        };
        until(&format!("{wanted} unhealthy"), known).await;
    };
    says("well").await;
    unhealthy(1).await;
    for _ in 0..20 {
        assert_eq!(answer().await.as_deref(), Some("well"), "the one that fails gets nothing");
    }
    // The last one that is well goes, and the sorry server takes over.
    task.abort();
    says("sorry").await;
    unhealthy(2).await;
    // The list is followed like any other.
    let (again, _) = serve("again", StatusCode::OK).await;
    let at = format!("127.0.0.1:{again}").parse().unwrap();
    let other = listing("vs-127-0-0-1-80", &[("new", at)]);
    replace(&place("services.toml"), &other);
    says("again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_migrate_cannot_read_is_told_and_nothing_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("k.conf").display().to_string();
    fs::write(&file, "virtual_server 10.0.0.1 80 {\n").unwrap();
    for (arguments, code, want) in [
        (vec!["migrate", "keepalived", &file], 78, "k.conf:1: this block is never closed"),
        (vec!["migrate", "keepalived", "/nowhere/k"], 78, "cannot read /nowhere/k: No such file"),
        (vec!["migrate", "keepalived", "--odd"], 2, "\"--odd\" is not understood"),
        (vec!["migrate", "keepalived", "-i"], 2, "-i needs a value"),
        (vec!["migrate", "keepalived", "a", "b"], 2, "\"b\" is not understood"),
    ] {
        let ended = portolan(&arguments).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(want), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}
