//! HAProxy's face: its statistics as those read them who were written for HAProxy, beside a real one;
//! its socket, with changes under load and hostile lines; marathon-lb's pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use portolan::catalog::{Health, Presence, SourceService};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};

use crate::clients::{get, get_by_socket};
use crate::origin::{OK, Origin};
use crate::peers::{own_address, own_ip, serving, start};
use crate::rig::{Client, Rig, instance, service, within};
use crate::support::successors::Line;
use crate::support::{PATIENCE, listing, until};

pub(crate) const CSV: &str = "/haproxy?stats;csv";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// So many bytes has [`OK`].
const OK_BYTES: &str = "40";

/// A row by the names of its columns.
pub(crate) type Row = BTreeMap<String, String>;

/// What the stats socket at `path` answers to `line`, up to its end.
async fn told(path: &Path, line: &str) -> String {
    let mut stream = within("the stats socket", UnixStream::connect(path)).await.unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(line, stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn csv(rig: &Rig) -> String {
    let answer = get(rig.address("haproxy").await, CSV).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    answer.body
}

/// Rows as zdd.py of marathon-lb reads them: the header makes names of a tuple in Python, each row ends
/// with a comma behind which there is nothing, and a single quote is the quote.
pub(crate) fn as_zdd(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    let header = header.trim_start_matches(['#', ' ']).trim_end_matches([',', '\n']);
    let names: Vec<&str> = header.split(',').collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len(), "a tuple has each name once");
    for name in &names {
        let first = name.chars().next().unwrap();
        let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        assert!((first.is_ascii_alphabetic()) && rest, "{name:?} is no name in Python");
    }
    let rows = lines.filter(|line| !line.starts_with('#')).map(|line| {
        assert!(!line.contains('\''), "a quote would join columns: {line}");
        let mut values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.pop(), Some(""), "{line}");
        assert_eq!(values.len(), names.len(), "{line}");
        names.iter().zip(values).map(|(name, value)| ((*name).into(), value.into())).collect()
    });
    rows.collect()
}

/// What marathon-lb-autoscale adds up: `rate` and `qcur` of the rows whose name has `kind` in it, by
/// proxy. That is FRONTEND, or BACKEND where it is told so.
pub(crate) fn as_autoscale(text: &str, kind: &str) -> BTreeMap<String, u64> {
    let mut lines = text.split('\n');
    let header = lines.next().unwrap();
    let names: Vec<&str> = header[2..header.len() - 1].split(',').collect();
    let at = |name: &str| names.iter().position(|known| *known == name).unwrap();
    let (rate, queued) = (at("rate"), at("qcur"));
    let rows = lines.map(|line| line.split(',').collect::<Vec<_>>());
    let rows = rows.filter(|row| row.get(1).is_some_and(|name| name.contains(kind)));
    // In Ruby nothing counts as 0.
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    rows.map(|row| (row[0].to_owned(), number(row[rate]) + number(row[queued]))).collect()
}

/// What Rancher's host-api and health check read off the socket: the state of each server whose name
/// begins with `cattle-`, unless it is on its way.
async fn as_rancher(path: &Path) -> BTreeMap<String, String> {
    let text = told(path, "show stat").await;
    let mut lines = text.lines();
    let header = lines.next().unwrap().strip_prefix("# ").expect("a header");
    let names: Vec<&str> = header.split(',').collect();
    let at = |name: &str| names.iter().position(|known| *known == name).unwrap();
    let mut found = BTreeMap::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let row: Vec<&str> = line.split(',').collect();
        assert_eq!(row.len(), names.len(), "{line}");
        let (name, status) = (row[at("svname")], row[at("status")]);
        if name.starts_with("cattle-") && !status.contains('/') {
            found.insert(name.to_owned(), status.to_owned());
        }
    }
    found
}

fn row<'a>(rows: &'a [Row], proxy: &str, server: &str) -> &'a Row {
    let found = rows.iter().find(|row| row["pxname"] == proxy && row["svname"] == server);
    found.unwrap_or_else(|| panic!("no row {proxy}/{server}"))
}

/// Waits until the CSV has what `wanted` sees.
async fn until_csv(rig: &Rig, what: &str, wanted: impl Fn(&[Row]) -> bool) -> Vec<Row> {
    within(what, async {
        loop {
            let rows = as_zdd(&csv(rig).await);
            if wanted(&rows) {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_csv_is_what_its_three_readers_expect() {
    let origin = Origin::answering(OK).await;
    let files = TempDir::new().unwrap();
    let port = origin.address.port();
    let services = format!(
        "[service.nginx.meta]\n\"marathon.app\" = \"/nginx\"\n\
         [[service.nginx.instance]]\nid = \"nginx.1\"\naddress = \"127.0.0.1\"\nport = {port}\n\
         meta = {{ \"marathon.host\" = \"srv4.hw.example\" }}\n\
         [[service.nginx.instance]]\nid = \"nginx.2\"\naddress = \"127.0.0.2\"\nport = {port}\n\
         meta = {{ \"marathon.host\" = \"127.0.0.2\" }}\n\
         [[service.shop.instance]]\nid = \"cattle-8f1a_1\"\naddress = \"127.0.0.1\"\nport = {port}\n"
    );
    std::fs::write(files.path().join("services.toml"), services).unwrap();
    let path = files.path().display();
    let rig = Rig::start_beside(&format!(
        "[node]\nworkers = 1\n[registry.local.file]\npath = \"{path}/services.toml\"\n\
         [listener.nginx_10000.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"nginx\"\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.shop]\nlistener = \"web\"\nhost = \"shop.example\"\nservice = \"shop\"\n\
         [haproxy]\nlisten = \"127.0.0.1:0\"\nsocket = \"haproxy.sock\"\n"
    ))
    .await;
    let rows = until_csv(&rig, "all rows", |rows| rows.len() == 7).await;
    let names: Vec<String> =
        rows.iter().map(|row| format!("{}/{}", row["pxname"], row["svname"])).collect();
    assert_eq!(
        names,
        [
            "nginx_10000/FRONTEND",
            &format!("nginx_10000/srv4_hw_example_127_0_0_1_{port}"),
            &format!("nginx_10000/127_0_0_2_{port}"),
            "nginx_10000/BACKEND",
            "web/FRONTEND",
            "shop/cattle-8f1a_1",
            "shop/BACKEND",
        ]
    );
    // As zdd counts listeners of a deployment: neither FRONTEND nor BACKEND of the group's port.
    let own = |row: &&Row| {
        row["pxname"] == "nginx_10000" && !["FRONTEND", "BACKEND"].contains(&&*row["svname"])
    };
    for row in rows.iter().filter(own) {
        assert!(row["scur"].parse::<u32>().is_ok() && row["qcur"].parse::<u32>().is_ok());
    }

    let mut client = rig.client().await;
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
    // A request is counted when it has ended, which its client may know first.
    let rows = until_csv(&rig, "requests", |rows| {
        row(rows, "shop", "BACKEND")["stot"] == "5"
            && row(rows, "shop", "cattle-8f1a_1")["hrsp_2xx"] == "5"
            && row(rows, "web", "FRONTEND")["req_tot"] == "5"
    })
    .await;
    assert_eq!(row(&rows, "web", "FRONTEND")["stot"], "1", "of one connection");
    assert_eq!(row(&rows, "shop", "cattle-8f1a_1")["hrsp_2xx"], "5");
    assert_eq!(row(&rows, "shop", "cattle-8f1a_1")["bout"], "10");
    let rates = as_autoscale(&csv(&rig).await, "FRONTEND");
    let apps: Vec<&str> = rates.keys().map(String::as_str).collect();
    assert_eq!(apps, ["nginx_10000", "web"]);

    let socket = rig.directory().join("haproxy.sock");
    let states = as_rancher(&socket).await;
    assert_eq!(states, BTreeMap::from([("cattle-8f1a_1".into(), "no check".into())]));

    let face = rig.address("haproxy").await;
    assert_eq!(get(face, "/_haproxy_getvhostmap").await.body, "shop.example shop\n");
    assert_eq!(get(face, "/_haproxy_getappmap").await.body, "/nginx nginx_10000\n");
}

#[tokio::test]
async fn rates_are_those_of_the_last_second() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http("[haproxy]\nlisten = \"127.0.0.1:0\"\n", &[origin.address]).await;
    // Somebody has looked once, so that what comes now is new.
    until_csv(&rig, "a row", |rows| rows.iter().any(|row| row["svname"] == "FRONTEND")).await;
    let total = AtomicU64::new(0);
    let rows = within("a rate", async {
        loop {
            assert_eq!(rig.ask(GET).await.status, 200);
            let sent = total.fetch_add(1, SeqCst) + 1;
            // All is counted just after the answer.
            let counted = |rows: &[Row]| row(rows, "web", "FRONTEND")["stot"] == sent.to_string();
            let rows = until_csv(&rig, "the connection is counted", counted).await;
            let front = row(&rows, "web", "FRONTEND");
            // Who looks late finds a session that is a second old.
            let fresh = row(&rows, "web", "BACKEND")["lastsess"] == "0";
            if fresh && front["rate"] != "0" && front["req_rate"] != "0" {
                return rows;
            }
        }
    })
    .await;
    assert_ne!(row(&rows, "web", "FRONTEND")["rate_max"], "0");
    // And wears off.
    until_csv(&rig, "no rate", |rows| row(rows, "web", "FRONTEND")["rate"] == "0").await;
}

/// An origin whose answers have the status that the path tells.
async fn by_path() -> Origin {
    Origin::start(|mut exchange| async move {
        loop {
            let head = exchange.request().await?;
            let status = head.split(['/', ' ']).nth(2)?.to_owned();
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok");
            exchange.send(answer).await?;
        }
    })
    .await
}

/// A real HAProxy with two frontends, one of them before nobody, and its stats.
async fn haproxy(directory: &Path, app: SocketAddr, gone: SocketAddr) -> (Child, [SocketAddr; 3]) {
    let ports = [own_address(), own_address(), own_address()];
    let [web, dead, stats] = ports;
    let mut config = "global\nmaxconn 100\n".to_owned();
    let socket = directory.join("real.sock");
    let _ = writeln!(config, "stats socket {} level admin", socket.display());
    config.push_str(
        "defaults\nmode http\noption http-ignore-probes\nretries 0\ntimeout connect 5s\ntimeout client 5s\ntimeout server 5s\n",
    );
    let _ = write!(
        config,
        "frontend web\nbind {web}\ndefault_backend app\nbackend app\nserver s1 {app}\n\
         frontend dead\nbind {dead}\ndefault_backend gone\nbackend gone\nserver g1 {gone}\n\
         frontend stats\nbind {stats}\nstats enable\nstats uri /haproxy?stats\n"
    );
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut child = start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
    for at in ports {
        serving(&mut child, at).await;
    }
    // It gets its name behind the listeners.
    until("HAProxy's stats socket", async || UnixStream::connect(&socket).await.ok()).await;
    (child, ports)
}

/// The same requests to `web` and `dead`, of one client each.
async fn requests(web: SocketAddr, dead: SocketAddr) {
    let mut client = Client::connect(web).await;
    for status in [200, 200, 200, 302, 404, 404, 503] {
        client.send(format!("GET /{status} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status);
    }
    let mut client = Client::connect(dead).await;
    client.send(GET).await;
    let refused = client.answer().await.status;
    assert!(matches!(refused, 502 | 503), "{refused}");
}

fn services(app: SocketAddr, gone: SocketAddr) -> Vec<SourceService> {
    [("app", "s1", app), ("gone", "g1", gone)]
        .into_iter()
        .map(|(name, id, address)| {
            let mut told = service(name, &[]);
            told.instances = vec![Arc::new(instance(id, address))];
            told
        })
        .collect()
}

#[tokio::test]
async fn beside_haproxy_the_columns_are_the_same_and_so_is_what_is_counted() {
    let directory = TempDir::new().unwrap();
    let (origin, gone) = (by_path().await, own_address());
    let (_haproxy, [web, dead, _]) = haproxy(directory.path(), origin.address, gone).await;
    // Who looked whether it serves is none of ours, and may be counted a moment later.
    let looked = within("HAProxy has counted who looked", async {
        loop {
            let rows = rows_of(&told(&directory.path().join("real.sock"), "show stat").await);
            let of = |proxy| row(&rows, proxy, "FRONTEND")["stot"].parse::<u64>().unwrap();
            if of("web") > 0 && of("dead") > 0 {
                return (of("web"), of("dead"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    requests(web, dead).await;

    let rig = Rig::start(
        "[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [listener.dead.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.web]\nlistener = \"web\"\nservice = \"app\"\n\
         [route.dead]\nlistener = \"dead\"\nservice = \"gone\"\n\
         [haproxy]\nlisten = \"127.0.0.1:0\"\nsocket = \"haproxy.sock\"\n",
        services(origin.address, gone),
    )
    .await;
    requests(rig.address("web").await, rig.address("dead").await).await;
    // A request is counted when it has ended, which its client may know first.
    let counted = async |socket: PathBuf| {
        within("all requests are counted", async {
            loop {
                let text = told(&socket, "show stat").await;
                let rows = rows_of(&text);
                let of = |proxy| -> u64 {
                    let row = row(&rows, proxy, "FRONTEND");
                    let classes = ["hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"];
                    classes.iter().map(|class| row[*class].parse::<u64>().unwrap()).sum()
                };
                if (of("web"), of("dead")) == (7, 1) {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    };
    let real = counted(directory.path().join("real.sock")).await;
    let ours = counted(rig.directory().join("haproxy.sock")).await;

    assert_eq!(ours.lines().next(), real.lines().next(), "the header is the same");
    let over_http = csv(&rig).await;
    let header = over_http.lines().next().unwrap();
    assert!(real.starts_with(header), "over HTTP it ends before the columns of modules");

    // What is told beside the classes may be counted a moment later still.
    let mut other = Vec::new();
    let same = tokio::time::timeout(PATIENCE, async {
        loop {
            let ours = rows_of(&told(&rig.directory().join("haproxy.sock"), "show stat").await);
            let real = rows_of(&told(&directory.path().join("real.sock"), "show stat").await);
            other = differences(&ours, &real, looked);
            if other.is_empty() {
                println!("columns: {} of {}", ours[0].len(), real[0].len());
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(same.await.is_ok(), "after {PATIENCE:?}: {other:#?}");
}

/// What we tell otherwise than HAProxy, before whose frontends `looked` connections were others'.
fn differences(ours: &[Row], real: &[Row], looked: (u64, u64)) -> Vec<String> {
    let mut found = Vec::new();
    for (proxy, server, columns) in [
        (
            "web",
            "FRONTEND",
            &["status", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "req_tot"][..],
        ),
        (
            "app",
            "s1",
            &[
                "stot", "lbtot", "econ", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "status",
                "weight", "act", "bck", "type", "qcur", "scur", "smax", "wretr", "wredis",
            ],
        ),
        (
            "app",
            "BACKEND",
            &[
                "stot", "econ", "hrsp_2xx", "hrsp_4xx", "hrsp_5xx", "status", "act", "scur",
                "smax", "qcur", "type",
            ],
        ),
        ("dead", "FRONTEND", &["hrsp_2xx", "hrsp_5xx", "req_tot"]),
        ("gone", "g1", &["stot", "econ", "eresp", "hrsp_2xx", "hrsp_5xx", "status"]),
        ("gone", "BACKEND", &["econ", "hrsp_2xx", "hrsp_5xx", "stot", "wretr"]),
    ] {
        let (own, other) = (row(ours, proxy, server), row(real, proxy, server));
        for column in columns.iter().filter(|column| own[**column] != other[**column]) {
            let (own, other) = (&own[*column], &other[*column]);
            found.push(format!("{proxy}/{server} {column}: ours {own}, and HAProxy's {other}"));
        }
    }
    for (proxy, looked) in [("web", looked.0), ("dead", looked.1)] {
        let of = |rows| row(rows, proxy, "FRONTEND")["stot"].parse::<u64>().unwrap();
        let (own, other) = (of(ours), of(real));
        if own != other - looked {
            found.push(format!("{proxy} stot: ours {own}, and HAProxy's {other} - {looked}"));
        }
    }
    found
}

/// Rows by the names of their columns, whichever those are.
fn rows_of(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let header = lines.next().unwrap().strip_prefix("# ").unwrap();
    let names: Vec<&str> = header.split(',').collect();
    let rows = lines.filter(|line| !line.is_empty()).map(|line| {
        let values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.len(), names.len(), "{line}");
        names.iter().zip(values).map(|(name, value)| ((*name).into(), value.into())).collect()
    });
    rows.collect()
}

#[tokio::test]
async fn each_state_is_told_in_its_word() {
    let origin = Origin::answering(OK).await;
    let config = "[node]\nworkers = 1\n[listener.app_1.tcp]\nbind = [\"127.0.0.1:0\"]\n\
                  service = \"app\"\n[haproxy]\nlisten = \"127.0.0.1:0\"\n";
    let mut told = service("app", &[]);
    let mut add = |id: &str, health: Health, presence: Presence| {
        let mut one = instance(id, origin.address);
        (one.health, one.presence) = (health, presence);
        told.instances.push(Arc::new(one));
    };
    add("a", Health::Healthy, Presence::Active);
    add("b", Health::Unknown, Presence::Active);
    add("c", Health::Unhealthy, Presence::Active);
    add("d", Health::Healthy, Presence::Draining);
    add("e", Health::Healthy, Presence::Leaving);
    let rig = Rig::start(config, vec![told]).await;
    let rows = as_zdd(&csv(&rig).await);
    let states: Vec<(&str, &str)> =
        rows.iter().map(|row| (&*row["svname"], &*row["status"])).collect();
    assert_eq!(
        states,
        [
            ("FRONTEND", "OPEN"),
            ("a", "UP"),
            ("b", "no check"),
            ("c", "DOWN"),
            ("d", "MAINT"),
            ("BACKEND", "UP")
        ]
    );
}

/// A rig whose listener `web` leads to `s1` and `s2`, with a stats socket that may change things.
async fn operated(origins: [&Origin; 2]) -> (Rig, PathBuf) {
    let mut told = service("app", &[]);
    told.instances = ["s1", "s2"]
        .iter()
        .zip(origins)
        .map(|(id, origin)| Arc::new(instance(id, origin.address)))
        .collect();
    let rig = Rig::start(
        "[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.web]\nlistener = \"web\"\nservice = \"app\"\n[service.app]\npolicy = \"round-robin\"\n\
         [haproxy]\nlisten = \"127.0.0.1:0\"\nsocket = \"haproxy.sock\"\noperate = true\n",
        vec![told],
    )
    .await;
    let socket = rig.directory().join("haproxy.sock");
    (rig, socket)
}

#[tokio::test]
async fn set_server_takes_effect_under_load_and_nobody_sees_an_error() {
    let origins = [Origin::answering(OK).await, Origin::answering(OK).await];
    let (rig, socket) = operated([&origins[0], &origins[1]]).await;
    let (web, stop) = (rig.address("web").await, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut client = Client::connect(web).await;
                let mut answered = 0;
                while !stop.load(SeqCst) {
                    client.send(GET).await;
                    assert_eq!(client.answer().await.status, 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let both = |received: &[crate::origin::Received]| !received.is_empty();
    origins[0].seen("work at s1", both).await;
    for (line, state) in [
        ("set server app/s1 state maint", "MAINT"),
        ("set server app/s1 state ready", "no check"),
        ("set server app/s1 state drain", "DRAIN"),
        ("enable server app/s1", "no check"),
        ("disable server app/s1", "MAINT"),
    ] {
        assert_eq!(told(&socket, line).await, "\n", "{line}");
        // In force when it is answered: whoever asks now sees it.
        let rows = as_zdd(&csv(&rig).await);
        assert_eq!(row(&rows, "app", "s1")["status"], state, "{line}");
    }
    // What runs there ends, and after that nothing comes.
    let idle = |rows: &[Row]| {
        let (s1, came) = (row(rows, "app", "s1"), origins[0].text().matches("\r\n\r\n").count());
        // The last ones may be counted a moment after they ended.
        s1["scur"] == "0" && s1["stot"] == came.to_string()
    };
    let rows = until_csv(&rig, "s1 is idle", idle).await;
    let before = row(&rows, "app", "s1")["stot"].clone();
    let more: u64 = row(&rows, "app", "s2")["stot"].parse::<u64>().unwrap() + 50;
    let went_on = |rows: &[Row]| row(rows, "app", "s2")["stot"].parse::<u64>().unwrap() > more;
    let rows = until_csv(&rig, "work at s2", went_on).await;
    assert_eq!(row(&rows, "app", "s1")["stot"], before);
    assert_eq!(row(&rows, "app", "BACKEND")["act"], "1");

    // It is an operator's word like any other, with who said it.
    let admin = rig.directory().join("admin.sock");
    let operations: Value = get_by_socket(&admin, "/v1/operations").await.json();
    let operation = &operations["operations"][0];
    assert_eq!(operation["does"], "maintenance");
    assert!(operation["who"].as_str().unwrap().ends_with("by the stats socket"), "{operation}");
    let why = get_by_socket(&admin, "/v1/why?service=app").await.body;
    assert!(why.contains("maintenance by uid"), "{why}");

    stop.store(true, SeqCst);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    println!("{answered} requests, none failed");
}

#[tokio::test]
async fn weights_are_told_and_set_and_set_back() {
    let origins = [Origin::answering(OK).await, Origin::answering(OK).await];
    let (rig, socket) = operated([&origins[0], &origins[1]]).await;
    for (line, answer, weight) in [
        ("get weight app/s1", "1 (initial 1)\n\n", "1"),
        ("set server app/s1 weight 8", "\n", "8"),
        ("get weight app/s1", "8 (initial 1)\n\n", "8"),
        ("set weight app/s1 300%", "\n", "3"),
        ("set server app/s1 weight 0", "\n", "0"),
        ("set server app/s1 weight 100%", "\n", "1"),
        ("set server app/s1 weight 100%", "\n", "1"),
    ] {
        assert_eq!(told(&socket, line).await, answer, "{line}");
        let rows = as_zdd(&csv(&rig).await);
        assert_eq!(row(&rows, "app", "s1")["weight"], weight, "{line}");
    }
    let state = told(&socket, "show servers state app").await;
    assert!(
        state.starts_with("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state"),
        "{state}"
    );
}

#[tokio::test]
async fn where_it_is_not_said_nothing_can_be_changed_and_by_tcp_never() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http(
        "[haproxy]\nsocket = \"haproxy.sock\"\nsocket_listen = \"127.0.0.1:0\"\n",
        &[origin.address],
    )
    .await;
    let socket = rig.directory().join("haproxy.sock");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let server = origin.address;
    let line = format!("disable server web/{server}");
    assert_eq!(told(&socket, &line).await, "Permission denied\n\n");
    let mut stream = TcpStream::connect(rig.address("haproxy-socket").await).await.unwrap();
    stream.write_all(format!("{line};show version\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, format!("Permission denied\n\n{}\n\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn hostile_lines_cost_their_own_connection_only() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http(
        "[haproxy]\nlisten = \"127.0.0.1:0\"\nsocket = \"haproxy.sock\"\noperate = true\n\
         line_max = \"4KiB\"\nconnections = 8\nidle = \"1s\"\n",
        &[origin.address],
    )
    .await;
    let socket = rig.directory().join("haproxy.sock");
    let long = "x".repeat(5000);
    let many = "show version;".repeat(300);
    for line in [
        "",
        ";;;;;;",
        "\u{0}\u{1}\u{1b}[2J",
        "set server \u{202e}/../../etc/passwd state maint",
        "set server a/b/c/d state ready",
        "set server web/x weight 999999999999999999999",
        "show stat 999999999999999999999 -9223372036854775808 4294967296",
        "\\",
        &long,
        &many,
    ] {
        let answer = told(&socket, line).await;
        assert!(!answer.is_empty(), "{line}");
    }
    assert!(told(&socket, &long).await.starts_with("The line is longer than 4096 bytes"));
    // Bytes that are no text, and a side that ends without the end of a line.
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(&[0xff, 0xfe, b'\n']).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"Unknown command."));
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"show version").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, format!("{}\n\n", env!("CARGO_PKG_VERSION")).into_bytes());
    // Eight who say nothing fill the house, and one more is closed at once, until they are let go.
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(UnixStream::connect(&socket).await.unwrap());
    }
    within("a full house", async {
        loop {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            if stream.write_all(b"show version\n").await.is_err() {
                return;
            }
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            if answer.is_empty() {
                return;
            }
        }
    })
    .await;
    for mut stream in idle {
        let mut rest = Vec::new();
        within("being let go", stream.read_to_end(&mut rest)).await.unwrap();
    }
    // And by HTTP.
    let face = rig.address("haproxy").await;
    for (request, status) in [
        ("POST /haproxy?stats HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
        ("nonsense\r\n\r\n", 400),
        ("GET /haproxy HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /haproxy?statistics HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /_mlb_signal/hup HTTP/1.1\r\nHost: a\r\n\r\n", 403),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /_haproxy_health_check HTTP/1.0\r\n\r\n", 200),
    ] {
        let mut client = Client::connect(face).await;
        client.send(request).await;
        assert_eq!(client.answer().await.status, status, "{request}");
    }
    let mut client = Client::connect(face).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {long}\r\n")).await;
    assert_eq!(client.answer().await.status, 431);
    assert_eq!(rig.ask(GET).await.status, 200, "and those it is all for have noticed nothing");
}

#[tokio::test]
async fn the_pages_of_marathon_lb_are_there() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::http(
        "[route.all.request_headers.set]\nauthorization = \"t0psecret\"\n\
         [haproxy]\nlisten = \"127.0.0.1:0\"\nsignals = true\n",
        &[origin.address],
    )
    .await;
    let face = rig.address("haproxy").await;
    let health = get(face, "/_haproxy_health_check").await;
    assert_eq!((health.status, health.body.contains("200 OK")), (200, true));
    let pids = get(face, "/_haproxy_getpids").await.body;
    assert_eq!(pids, format!("{}\n", std::process::id()));
    let config = get(face, "/_haproxy_getconfig").await.body;
    assert!(config.contains("[listener.web.http]") && config.contains("# web (http, listens)"));
    assert!(!config.contains("t0psecret"), "{config}");
    let page = get(face, "/haproxy?stats").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.body.contains("<h2 id=\"web\">") && !page.body.contains("<script"));
    let json: Value = serde_json::from_str(&get(face, "/haproxy?stats;json").await.body).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert!(get(face, "/metrics").await.body.contains("portolan_generation"));
    // Started without a file, it has none to read again: but it was asked to.
    let signal = get(face, "/_mlb_signal/usr1").await;
    assert_eq!(signal.status, 500);
    assert!(signal.body.starts_with("USR1: refused:"), "{}", signal.body);
}

#[tokio::test]
async fn ports_that_labels_ask_for_are_told_under_marathon_lbs_names() {
    let origin = Origin::answering(OK).await;
    let ip = own_ip();
    let labelled = |name: &str, labels: &[(&str, &str)]| {
        let mut one = instance(&format!("{name}.task-1"), origin.address);
        one.meta.insert("marathon.host".into(), "agent-1.example".into());
        one.health = Health::Healthy;
        let meta = labels.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let app = ("marathon.app".into(), format!("/prod/{name}").into());
        SourceService {
            meta: Arc::new(meta.chain([app]).collect()),
            instances: vec![Arc::new(one)],
            ..service(name, &[])
        }
    };
    let group = ("HAPROXY_GROUP", "external");
    let rig = Box::pin(Rig::start(
        &format!(
            "[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
             [labels.marathon-lb]\ngroup = [\"external\"]\nhttp = \"web\"\nbind = [\"{ip}\"]\n\
             [haproxy]\nlisten = \"127.0.0.1:0\"\n"
        ),
        vec![
            labelled("db", &[group, ("HAPROXY_0_PORT", "20001")]),
            labelled(
                "shop",
                &[group, ("HAPROXY_0_PORT", "20002"), ("HAPROXY_0_VHOST", "shop.example")],
            ),
        ],
    ))
    .await;
    let rows = until_csv(&rig, "both ports", |rows| rows.len() == 7).await;
    let names: Vec<String> = rows
        .iter()
        .map(|row| format!("{}/{} {} {}", row["pxname"], row["svname"], row["status"], row["mode"]))
        .collect();
    let server = format!("agent-1_example_127_0_0_1_{}", origin.address.port());
    assert_eq!(
        names,
        [
            "prod_db_20001/FRONTEND OPEN tcp".to_owned(),
            format!("prod_db_20001/{server} UP tcp"),
            "prod_db_20001/BACKEND UP tcp".to_owned(),
            "prod_shop_20002/FRONTEND OPEN http".to_owned(),
            format!("prod_shop_20002/{server} UP http"),
            "prod_shop_20002/BACKEND UP http".to_owned(),
            "web/FRONTEND OPEN http".to_owned(),
        ]
    );
    let face = rig.address("haproxy").await;
    let hosts = get(face, "/_haproxy_getvhostmap").await.body;
    assert_eq!(hosts, "shop.example prod_shop_20002\n");
    let apps = get(face, "/_haproxy_getappmap").await.body;
    assert_eq!(apps, "/prod/db prod_db_20001\n/prod/shop prod_shop_20002\n");
    // A request to the virtual host counts at the backend of the port.
    let answer = rig.ask("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let shop = "prod_shop_20002";
    let rows = until_csv(&rig, "the request", |rows| row(rows, shop, "BACKEND")["stot"] == "1");
    let front = row(&rows.await, shop, "FRONTEND").clone();
    assert_eq!((&*front["stot"], &*front["req_tot"]), ("0", "0"), "it came by another listener");
    // One to the port counts at the port's own listener, and so in the rate by which others scale.
    let mut client = Client::connect_once_there(SocketAddr::new(ip, 20_002)).await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 200);
    until_csv(&rig, "the other one", |rows| {
        let front = row(rows, shop, "FRONTEND");
        let ones = ["req_tot", "hrsp_2xx", "scur", "smax", "stot", "conn_tot"];
        ones.map(|column| &*front[column]) == ["1"; 6] && front["bout"] == "2"
    })
    .await;
    let mut client = Client::connect_once_there(SocketAddr::new(ip, 20_001)).await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 200);
    drop(client);
    until_csv(&rig, "the connection", |rows| {
        let front = row(rows, "prod_db_20001", "FRONTEND");
        ["scur", "stot", "bout"].map(|column| &*front[column]) == ["0", "1", OK_BYTES]
    })
    .await;
    // Metrics have them as one.
    let accepted = "portolan_listener_connections_accepted_total{listener=\"(labels)\"}";
    rig.metric_is(accepted, 2.0).await;
    let page = get(face, "/metrics").await.body;
    assert!(page.contains(accepted), "{page}");
    assert!(!page.contains("listener=\"prod_"), "{page}");
}

#[tokio::test]
async fn after_an_upgrade_both_processes_are_told_until_the_old_one_has_left() {
    let (origin, ip) = (by_path().await, own_ip());
    let directory = TempDir::new().unwrap();
    std::fs::write(
        directory.path().join("services.toml"),
        listing("app", &[("s1", origin.address)]),
    )
    .unwrap();
    let config = format!(
        "[node]\nworkers = 1\n[limits]\ndrain = \"300s\"\n\
         [registry.local.file]\npath = \"services.toml\"\n\
         [listener.db.tcp]\nbind = [\"{ip}:5432\"]\nservice = \"app\"\n\
         [haproxy]\nlisten = \"{ip}:9090\"\n[admin]\nsocket = \"admin.sock\"\n"
    );
    let mut line = Box::pin(Line::start(directory, &config, &[])).await;
    let face = SocketAddr::new(ip, 9090);
    let pids = async || {
        let told = get(face, "/_haproxy_getpids").await.body;
        told.lines().map(|pid| pid.parse().unwrap()).collect::<BTreeSet<u32>>()
    };
    let old = line.pid;
    assert_eq!(pids().await, [old].into());
    // As long as this connection is open, the old process has something to do.
    let mut held = Client::connect(SocketAddr::new(ip, 5432)).await;
    held.send("GET /200 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(held.answer().await.status, 200);
    let new = line.upgrade().await;
    assert_eq!(pids().await, [old, new].into());
    held.send("GET /200 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(held.answer().await.status, 200);
    drop(held);
    within("the old process is told no more", async {
        while pids().await != [new].into() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
