//! Labels of marathon-lb take effect while running: hosts and paths on listeners that are configured,
//! listeners of their own for service ports, problems under the app that has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portolan::catalog::SourceService;
use portolan::catalog::model::Presence;
use serde_json::json;
use tokio::net::TcpStream;

use crate::child::Running;
use crate::clients::get_by_socket;
use crate::origin::Origin;
use crate::peers::own_ip;
use crate::rig::{Answer, Client, Rig, service, within};
use crate::secure::Authority;
use crate::support::load::Wrk;
use crate::support::replace;
use crate::support::successors::Line;

/// Listeners `web` and `apps`, and what labels may ask for at an address of their own.
async fn rig(more: &str, services: Vec<SourceService>) -> (Rig, IpAddr) {
    let ip = own_ip();
    let config = format!(
        "[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [listener.apps.http]\nbind = [\"127.0.0.1:0\"]\n\
         [labels.marathon-lb]\ngroup = [\"external\"]\nhttp = \"web\"\napp_id = \"apps\"\n\
         bind = [\"{ip}\"]\n{more}"
    );
    (Box::pin(Rig::start(&config, services)).await, ip)
}

/// A service of the group `external` with these labels, the first part of each left out.
fn app(name: &str, at: &[SocketAddr], labels: &[(&str, &str)]) -> SourceService {
    let mut meta: BTreeMap<Arc<str>, Arc<str>> = labels
        .iter()
        .map(|(key, text)| (format!("HAPROXY_{key}").into(), (*text).into()))
        .collect();
    meta.entry("HAPROXY_GROUP".into()).or_insert_with(|| "external".into());
    SourceService { meta: Arc::new(meta), ..service(name, at) }
}

fn get(host: &str, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")
}

async fn ask(at: SocketAddr, request: &str) -> Answer {
    let mut client = Client::connect(at).await;
    client.send(request).await;
    client.answer().await
}

/// Returns once a request gets `want`: labels take effect with the next tables.
async fn becomes(what: &str, at: SocketAddr, request: &str, want: (u16, &str)) {
    within(what, async {
        loop {
            if let Ok(stream) = TcpStream::connect(at).await {
                let mut client = Client::over(stream);
                client.send(request).await;
                let answer = client.answer().await;
                if (answer.status, &*answer.body) == want {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn hosts_paths_weights_redirects_headers_and_networks_are_as_labels_say() {
    let origins: Vec<Origin> = vec![
        Origin::saying("shop").await,
        Origin::saying("api").await,
        Origin::saying("heavy").await,
        Origin::saying("long").await,
        Origin::saying("closed").await,
    ];
    let at = |n: usize| vec![origins[n].address];
    let (rig, _) = rig(
        "",
        vec![
            app("shop", &at(0), &[("0_VHOST", "Shop.example,www.example"), ("0_USE_HSTS", "true")]),
            app("api", &at(1), &[("0_VHOST", "shop.example"), ("0_PATH", "-i /API /v2")]),
            app(
                "heavy",
                &at(2),
                &[("0_VHOST", "w.example"), ("0_PATH", "/a"), ("0_BACKEND_WEIGHT", "9")],
            ),
            app("long", &at(3), &[("0_VHOST", "w.example"), ("0_PATH", "/ab")]),
            app(
                "closed",
                &at(4),
                &[("0_VHOST", "c.example"), ("0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8")],
            ),
            app("moved", &at(0), &[("0_VHOST", "m.example"), ("0_REDIRECT_TO_HTTPS", "true")]),
            app("other", &at(0), &[("GROUP", "internal"), ("0_VHOST", "i.example")]),
        ],
    )
    .await;
    for (host, path, status, body) in [
        ("shop.example", "/", 200, "shop"),
        ("WWW.example:80", "/x", 200, "shop"),
        ("shop.example", "/api", 200, "api"),
        ("shop.example", "/ApiS/1", 200, "api"),
        ("shop.example", "/v20", 200, "api"),
        ("shop.example", "/V2", 200, "api"),
        ("www.example", "/api", 200, "shop"),
        ("w.example", "/abc", 200, "heavy"),
        ("c.example", "/", 403, "this client is not let in here\n"),
        ("i.example", "/", 404, "no route leads there\n"),
        ("nobody.example", "/", 404, "no route leads there\n"),
    ] {
        let answer = rig.ask(&get(host, path, "")).await;
        assert_eq!((answer.status, &*answer.body), (status, body), "{host}{path}: {}", answer.head);
    }
    let shop = rig.ask(&get("shop.example", "/", "")).await;
    assert_eq!(shop.header("strict-transport-security"), Some("max-age=15768000"));
    let moved = rig.ask(&get("m.example", "/a?b=c", "")).await;
    let to = moved.header("location");
    assert_eq!((moved.status, to), (301, Some("https://m.example/a?b=c")));

    // By the header, on a listener of its own.
    let apps = rig.address("apps").await;
    let by_id = |id: &str| get("any", "/", &format!("X-Marathon-App-Id: {id}\r\n"));
    assert_eq!(ask(apps, &by_id("/SHOP")).await.body, "shop");
    assert_eq!(ask(apps, &by_id("/nobody")).await.status, 404);

    // Another label: the next requests go by it, on connections that are open too.
    let mut held = rig.client().await;
    held.send(get("shop.example", "/", "")).await;
    assert_eq!(held.answer().await.body, "shop");
    rig.tell(vec![app("api", &at(1), &[("0_VHOST", "shop.example")])]).await;
    let web = rig.address("web").await;
    becomes("another path", web, &get("shop.example", "/x", ""), (200, "api")).await;
    held.send(get("shop.example", "/", "")).await;
    assert_eq!(held.answer().await.body, "api");
    becomes("no host", web, &get("www.example", "/", ""), (404, "no route leads there\n")).await;
}

#[tokio::test]
async fn why_names_the_service_of_a_route_and_problems_stand_under_theirs() {
    let origin = Origin::saying("shop").await;
    let at = [origin.address];
    let mut thief = app("thief", &at, &[("0_VHOST", "shop.example"), ("0_PORT", "20001")]);
    // What its registry refuses of it stands beside what its labels ask for in vain.
    let refused_label = "label \"A\": its value is no text";
    thief.problems.push(refused_label.into());
    let (rig, ip) = rig(
        "ports = { allowed = [\"20000-20009\"], max = 10 }\n",
        vec![
            app("shop", &at, &[("0_VHOST", "shop.example"), ("0_PORT", "20001")]),
            thief,
            app("wrong", &at, &[("0_VHOST", "w.example"), ("0_PORT", "22")]),
        ],
    )
    .await;
    becomes("the port", SocketAddr::new(ip, 20_001), &get("a", "/", ""), (200, "shop")).await;
    let socket = rig.directory().join("admin.sock");
    let url = "/v1/why?url=http%3A%2F%2Fshop.example%2F&method=GET";
    let told = get_by_socket(&socket, url).await.json();
    assert_eq!(told["listeners"][0]["route"]["labels_of"], "shop", "{told:#}");

    let status = get_by_socket(&socket, "/v1/status").await.json();
    let refused: Vec<String> = status["refused_labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{}: {}", one["service"], one["why"]))
        .collect();
    for want in ["\"thief\": ", "port 20001 is that of the service", "\"wrong\": "] {
        assert!(refused.iter().any(|told| told.contains(want)), "{want}: {refused:#?}");
    }
    let entries = json!([{ "service": "thief", "why": refused_label }]);
    assert_eq!(status["refused_entries"], entries, "{status:#}");
    let listed = get_by_socket(&socket, "/v1/services").await.json();
    let listed = listed["services"].as_array().unwrap().iter().find(|s| s["name"] == "thief");
    let mut all = vec![("/v1/services", listed.unwrap().clone())];
    for path in ["/v1/services/thief", "/v1/why?service=thief"] {
        all.push((path, get_by_socket(&socket, path).await.json()));
    }
    for (path, told) in all {
        let problems: Vec<String> =
            told["problems"].as_array().unwrap().iter().map(ToString::to_string).collect();
        let once = |part: &str| problems.iter().filter(|told| told.contains(part)).count() == 1;
        assert!(once("port 20001 is that of"), "{path}: {told:#}");
        assert!(once("its value is no text"), "{path}: {told:#}");
        let different: BTreeSet<&String> = problems.iter().collect();
        assert_eq!(different.len(), problems.len(), "{path}: {told:#}");
    }
    let troubled = get_by_socket(&socket, "/v1/why").await.json();
    assert_eq!(troubled["services"], json!(["thief", "wrong"]), "shop has nothing to be asked");
    let clean = get_by_socket(&socket, "/v1/why?service=shop").await.json();
    assert_eq!(clean["problems"].as_array().map(Vec::len), Some(0), "{clean:#}");
    let count = refused.len() as f64;
    rig.metric_is("portolan_labels_problems", count).await;
    rig.metric_is("portolan_listener_ports{listener=\"(labels)\",state=\"open\"}", 1.0).await;
}

#[tokio::test]
async fn a_port_speaks_what_its_labels_say_and_leads_where_they_say() {
    let (a, b, web) =
        (Origin::lettered('a').await, Origin::lettered('b').await, Origin::saying("web").await);
    let authority = Authority::new();
    authority.server("site", &["shop.example"]);
    let https = format!(
        "https = \"secure\"\n[listener.secure.https]\nbind = [\"127.0.0.1:0\"]\n{}",
        authority.tables(&["site"])
    );
    let (rig, ip) = rig(&https, Vec::new()).await;
    let at = |port| SocketAddr::new(ip, port);
    let letter = async |port| {
        within("a letter", async {
            loop {
                if let Ok(stream) = TcpStream::connect(at(port)).await {
                    let mut client = Client::over(stream);
                    let first = client.bytes(1).await[0];
                    return (client, char::from(first));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    };
    let db = |to: &Origin| app("db", &[to.address], &[("0_PORT", "20001")]);
    let site = |mode: &str| {
        let labels = [("0_PORT", "20002"), ("0_MODE", mode), ("0_SSL_CERT", "/etc/ssl/site.pem")];
        app("site", &[web.address], &labels)
    };
    rig.tell(vec![db(&a), site("http")]).await;
    let (mut held, first) = letter(20_001).await;
    assert_eq!(first, 'a');
    let mut secure = within("the port", async {
        loop {
            let shaken = authority.trusting().connect(at(20_002), "shop.example").await;
            match shaken {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    secure.send(get("shop.example", "/", "")).await;
    assert_eq!(secure.answer().await.body, "web");

    // Another service gets the port, and its socket stays open meanwhile.
    let other = app("other", &[b.address], &[("0_PORT", "20001")]);
    rig.tell(vec![other, app("db", &[a.address], &[])]).await;
    within("the other one", async {
        while letter(20_001).await.1 != 'b' {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // A connection to an instance that is there goes on.
    held.send("x").await;
    assert_eq!(held.bytes(1).await, b"x");
    within("the port is closed", async {
        while TcpStream::connect(at(20_002)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // A label taken away closes its port, a reload without labels closes all.
    rig.reload("[node]\nworkers = 1\n").await;
    within("the port is closed", async {
        while TcpStream::connect(at(20_001)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn instances_that_drain_keep_their_own_clients_and_get_no_others() {
    let (old, new) = (Origin::saying("old").await, Origin::saying("new").await);
    let labels = [("0_VHOST", "shop.example"), ("0_STICKY", "true"), ("0_PORT", "20001")];
    let both = [old.address, new.address];
    let (rig, _) = rig("", vec![app("shop", &both, &labels)]).await;
    let ask = async |cookie: &str| {
        let more = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        let answer = rig.ask(&get("shop.example", "/", &more)).await;
        let set =
            answer.header("set-cookie").map(|line| line.split(';').next().unwrap().to_owned());
        (answer.body, set)
    };
    let cookie = loop {
        let (body, set) = ask("").await;
        if body == "old" {
            break set.unwrap();
        }
    };
    assert!(cookie.starts_with("mesosphere_server_id="), "{cookie}");
    // A deployment in blue and green: the old instance drains.
    let mut group = app("shop", &both, &labels);
    for instance in &mut group.instances {
        if *instance.id == *old.address.to_string() {
            Arc::make_mut(instance).presence = Presence::Draining;
        }
    }
    rig.tell(vec![group]).await;
    for _ in 0..20 {
        assert_eq!(ask("").await.0, "new", "no new session goes there");
        assert_eq!(ask(&cookie).await.0, "old", "its own clients stay");
    }
    rig.tell(vec![app("shop", &[new.address], &labels)]).await;
    assert_eq!(ask(&cookie).await.0, "new");
}

/// A file of apps: one that is always there, and one for each of `ports`.
fn apps(ports: std::ops::Range<u16>, to: SocketAddr) -> String {
    let mut text = format!(
        "[service.steady]\nmeta = {{ HAPROXY_GROUP = \"external\", HAPROXY_0_MODE = \"http\", \
         HAPROXY_0_PORT = \"19999\", HAPROXY_0_VHOST = \"steady.example\" }}\n\
         [[service.steady.instance]]\naddress = \"{}\"\nport = {}\n",
        to.ip(),
        to.port()
    );
    for port in ports {
        let _ = write!(
            text,
            "[service.s{port}]\nmeta = {{ HAPROXY_GROUP = \"external\", HAPROXY_0_MODE = \"{}\", \
             HAPROXY_0_PORT = \"{port}\", HAPROXY_0_VHOST = \"s{port}.example\" }}\n\
             [[service.s{port}.instance]]\naddress = \"{}\"\nport = {}\n",
            if port % 2 == 0 { "http" } else { "tcp" },
            to.ip(),
            to.port()
        );
    }
    text
}

#[tokio::test]
async fn three_hundred_ports_come_and_go_under_load_and_nobody_else_notices() {
    const PORTS: std::ops::Range<u16> = 20_000..20_300;
    let (origin, ip) = (Origin::saying("here").await, own_ip());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    replace(&file("services.toml"), &apps(0..0, origin.address));
    let config = format!(
        "[node]\nworkers = 2\n[registry.apps.file]\npath = \"services.toml\"\n\
         [listener.web.http]\nbind = [\"{ip}:19998\"]\n\
         [labels.marathon-lb]\ngroup = [\"external\"]\nhttp = \"web\"\nbind = [\"{ip}\"]\n\
         [admin]\nsocket = \"admin.sock\"\n"
    );
    fs::write(file("portolan.toml"), config).unwrap();
    let portolan = Running::start(&file("portolan.toml")).await;
    portolan.ready(&file("admin.sock")).await;
    let at = |port| SocketAddr::new(ip, port);
    becomes("the steady port", at(19_999), &get("a", "/", ""), (200, "here")).await;
    let load = Wrk::start(at(19_999), "/", directory.path(), 8, Duration::from_millis(2), true);
    for round in 0..3 {
        replace(&file("services.toml"), &apps(PORTS, origin.address));
        for port in PORTS.rev().step_by(7) {
            becomes("a port", at(port), &get("a", "/", ""), (200, "here")).await;
            // What is carried byte by byte has no host.
            let answer = ask(at(19_998), &get(&format!("s{port}.example"), "/", "")).await;
            let want = if port % 2 == 0 { 200 } else { 404 };
            assert_eq!(answer.status, want, "round {round}, {port}: {answer:?}");
        }
        replace(&file("services.toml"), &apps(0..0, origin.address));
        for port in PORTS {
            within("a closed port", async {
                while TcpStream::connect(at(port)).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }
    load.end().await.is_clean();
}

#[tokio::test]
async fn an_upgrade_hands_ports_of_labels_over_and_no_request_is_lost() {
    let (origin, ip) = (Origin::saying("here").await, own_ip());
    let directory = tempfile::tempdir().unwrap();
    replace(&directory.path().join("services.toml"), &apps(20_000..20_020, origin.address));
    let config = format!(
        "[node]\nworkers = 1\n[registry.apps.file]\npath = \"services.toml\"\n\
         [labels.marathon-lb]\ngroup = [\"external\"]\nbind = [\"{ip}\"]\n\
         [admin]\nsocket = \"admin.sock\"\n"
    );
    let mut line = Box::pin(Line::start(directory, &config, &[])).await;
    let at = |port| SocketAddr::new(ip, port);
    becomes("the port", at(20_018), &get("a", "/", ""), (200, "here")).await;
    let pause = Duration::from_millis(2);
    let load = Wrk::start(at(20_000), "/", line.directory.path(), 8, pause, true);
    for _ in 0..2 {
        line.upgrade().await;
        for port in 20_000..20_020 {
            assert_eq!(ask(at(port), &get("a", "/", "")).await.body, "here", "{port}");
        }
    }
    load.end().await.is_clean();
}
