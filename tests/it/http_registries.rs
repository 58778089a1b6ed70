//! Registries that tell nonsense about one instance: it is left out, and everybody else is served.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use crate::origin::{OK, Origin};
use crate::rig::Client;
use crate::support::{Memory, address, known, start_with};

#[tokio::test]
async fn row_44_what_cannot_be_an_endpoint_is_left_out_and_seventy_thousand_are_none_too_many() {
    let origin = Origin::answering(OK).await;
    let directory = tempfile::tempdir().unwrap();
    let (ip, port) = (origin.address.ip(), origin.address.port());
    let mut services = String::new();
    for (id, line) in [
        ("weight", "address = \"10.0.0.1\"\nport = 80\nweight = 1000000000"),
        ("negative-weight", "address = \"10.0.0.1\"\nport = 80\nweight = -1"),
        ("no-port", "address = \"10.0.0.1\"\nport = 0"),
        ("large-port", "address = \"10.0.0.1\"\nport = 70000"),
        ("zone", "address = \"fe80::1%eth0\"\nport = 80"),
        ("spaces", "address = \"a host\"\nport = 80"),
        ("no-address", "address = \"\"\nport = 80"),
        ("same", &format!("address = \"{ip}\"\nport = {port}")),
        ("same", "address = \"10.0.0.1\"\nport = 80"),
    ] {
        let _ = write!(services, "[[service.web.instance]]\nid = \"{id}\"\n{line}\n");
    }
    fs::write(directory.path().join("services.toml"), services).unwrap();
    let config = "[node]\nworkers = 1\n[limits]\nconnections = 100\n\
         [registry.local.file]\npath = \"services.toml\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [route.large]\nlistener = \"web\"\npath = \"/large\"\nservice = \"large\"\n\
         [service.large]\npolicy = \"round-robin\"\n";
    let large = Memory::new("mem");
    let addresses: Vec<SocketAddr> = (0..70_000_u32)
        .map(|number| {
            let [_, high, middle, low] = number.to_be_bytes();
            SocketAddr::from(([10, high, middle, low], 80))
        })
        .collect();
    large.tell("large", &addresses);
    let app = start_with(config, directory.path(), &[&large]).await;
    known(&app, "web", 1).await;
    known(&app, "large", 70_000).await;
    let at = address(&app, "web").await;
    for _ in 0..10 {
        let mut client = Client::connect(at).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &*answer.body), (200, "ok"), "{answer:?}");
    }
    app.stop().await;
}
