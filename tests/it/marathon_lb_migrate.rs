//! What marathon-lb's command line and one of its labels come to, on real sockets and files.

use std::fs;

use crate::child::portolan;
use crate::origin::Origin;
use crate::rig::{Rig, service};

#[tokio::test]
async fn addresses_that_lead_back_bear_the_prefix_that_clients_know() {
    let origin = Origin::start(|mut exchange| async move {
        loop {
            let request = exchange.request().await?;
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let head = format!(
                "HTTP/1.1 302 Found\r\nLocation: http://shop.example:8080{path}?a=b\r\n\
                 Content-Location: https://other.example/\r\nContent-Length: 0\r\n\r\n"
            );
            exchange.send(head).await?;
        }
    })
    .await;
    let config = "[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n[route.all]\nlistener = \"web\"\n\
                  service = \"web\"\nstrip_prefix = \"/shop\"\nlocation_prefix = \"/shop\"\n";
    let rig = Rig::start(config, vec![service("web", &[origin.address])]).await;
    for (path, want) in [("/shop/login", "/shop/login?a=b"), ("/shop", "/shop/?a=b")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        let answer = rig.ask(&request).await;
        assert_eq!(answer.header("location"), Some(want), "{path}: {answer:?}");
        let other = answer.header("content-location");
        assert_eq!(other, Some("https://other.example/"), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn what_migrate_prints_for_marathon_lb_can_be_started() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).unwrap();
    // HAProxy's files hold the certificate and its key.
    let pem = made.cert.pem() + &made.signing_key.serialize_pem();
    fs::write(place("site.pem"), pem).unwrap();
    fs::write(place("credentials"), "ada:secret\n").unwrap();
    let printed = portolan(&[
        "migrate",
        "marathon-lb",
        "sse",
        "--marathon",
        "http://127.0.0.1:1",
        "--group",
        "external",
        "--strict-mode",
        "--haproxy-map",
        "--ssl-certs",
        &place("site.pem"),
        "--marathon-auth-credential-file",
        &place("credentials"),
        "--max-serv-port-ip-per-task",
        "10200",
    ])
    .await;
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stderr, printed.stdout);
    for want in [
        "# - --haproxy-map: hosts and apps are looked up by hash in any case",
        "username = \"ada\"",
        "assigned = [\"10050-10200\"]",
        "strict = true",
        "# What would differ:",
    ] {
        assert!(printed.stdout.contains(want), "{want}: {}", printed.stdout);
    }
    assert!(!printed.stdout.contains("secret\n"), "{}", printed.stdout);
    fs::write(place("portolan.toml"), &printed.stdout).unwrap();
    let checked = portolan(&["check", "--config", &place("portolan.toml")]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let refused = portolan(&["migrate", "marathon-lb", "sse", "--gruop", "a"]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("did you mean --group?"), "{}", refused.stderr);
}
