//! Reload: all or nothing, by every way to ask for it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use portolan::app::App;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::child::{Running, portolan};
use crate::clients::{Dns, Http, get, get_by_socket, question, refuses};
use crate::rig::{Rig, service};
use crate::support::{address, backend, known, listing, load, replace, says, start, within};

const NODE: &str =
    "[node]\nworkers = 1\n[dns]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nsocket = \"admin.sock\"\n";
const FIRST: &str = r#"
[registry.alpha.file]
path = "alpha.toml"
[dns.zone."alpha.test"]
[listener.alpha.http]
bind = ["127.0.0.1:0"]
[route.alpha]
listener = "alpha"
service = "alpha"
[template.alpha]
source = "alpha.j2"
destination = "alpha"
"#;

/// `FIRST` by the name of `second`.
fn second() -> String {
    FIRST.replace("alpha", "beta")
}

async fn lay_out(directory: &Path) -> SocketAddr {
    let at = backend("hello", 1).await;
    for name in ["alpha", "beta"] {
        std::fs::write(directory.join(name).with_extension("toml"), listing(name, &[(name, at)]))
            .unwrap();
        let template = format!("{{% for i in service('{name}') %}}{{{{ i.id }}}}{{% endfor %}}");
        std::fs::write(directory.join(name).with_extension("j2"), template).unwrap();
    }
    at
}

async fn reloaded(app: &App, directory: &Path, text: &str) -> Vec<String> {
    let loaded = load(text, directory).unwrap();
    within("reload", app.reload(loaded)).await.unwrap().changed
}

/// Whether the service, zone, listener, route and file called `name` are all there.
async fn all_there(app: &App, directory: &Path, name: &str) {
    known(app, name, 1).await;
    let dns = Dns::to(address(app, "dns").await).await;
    let shown = dns.addresses(&format!("{name}.{name}.test")).await;
    assert_eq!(shown.len(), 1, "{name}");
    assert_eq!(get(address(app, name).await, "/").await.body, "hello", "{name}");
    says(&directory.join(name), name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_routes_zones_registries_and_templates_come_and_go_with_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    lay_out(directory).await;
    let app = start(&format!("{NODE}{FIRST}"), directory).await;
    all_there(&app, directory, "alpha").await;
    let alpha = address(&app, "alpha").await;

    let changed = reloaded(&app, directory, &format!("{NODE}{FIRST}{}", second())).await;
    assert_eq!(changed, ["dns", "listener.beta", "registry.beta", "route.beta", "template.beta"]);
    all_there(&app, directory, "beta").await;
    all_there(&app, directory, "alpha").await;
    assert_eq!(address(&app, "alpha").await, alpha, "what stays keeps its socket");

    let changed = reloaded(&app, directory, &format!("{NODE}{}", second())).await;
    assert_eq!(
        changed,
        ["dns", "listener.alpha", "registry.alpha", "route.alpha", "template.alpha"]
    );
    all_there(&app, directory, "beta").await;
    refuses(alpha).await;
    assert!(app.addresses("alpha").await.is_empty());
    let dns = Dns::to(address(&app, "dns").await).await;
    assert_eq!(dns.ask("alpha.alpha.test", RecordType::A).await.code(), ResponseCode::Refused);
    assert_eq!(
        get_by_socket(&directory.join("admin.sock"), "/v1/services/alpha").await.status,
        404
    );
    assert_eq!(std::fs::read_to_string(directory.join("alpha")).unwrap(), "alpha", "a file stays");

    let before = app.tables().snapshot.generation;
    assert!(reloaded(&app, directory, &format!("{NODE}{}", second())).await.is_empty());
    assert!(app.tables().snapshot.generation > before, "a reload is a generation of its own");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_can_move_from_one_listener_to_another_while_what_runs_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    lay_out(directory).await;
    let raw = "[listener.raw.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"alpha\"\n";
    let app = start(&format!("{NODE}{FIRST}{raw}"), directory).await;
    known(&app, "alpha", 1).await;
    let port = address(&app, "raw").await;
    let mut through_tcp = Http::to(port).await;
    assert_eq!(through_tcp.get("/").await.body, "hello");

    // Another name and another kind for the same port.
    let front = format!(
        "[listener.front.http]\nbind = [\"{port}\"]\n[route.front]\nlistener = \"front\"\n\
         service = \"alpha\"\nstrip_prefix = \"/front\"\n"
    );
    let changed = reloaded(&app, directory, &format!("{NODE}{FIRST}{front}")).await;
    assert_eq!(changed, ["listener.front", "listener.raw", "route.front"]);
    assert_eq!(address(&app, "front").await, port);
    assert_eq!(get(port, "/front/").await.body, "hello");
    assert_eq!(through_tcp.get("/").await.body, "hello", "what runs goes on");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_can_move_to_another_service_and_a_listener_keep_its_connections() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    lay_out(directory).await;
    let other = backend("other", 2).await;
    std::fs::write(directory.join("beta.toml"), listing("beta", &[("beta", other)])).unwrap();
    let both = "[registry.beta.file]\npath = \"beta.toml\"\n[listener.raw.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"alpha\"\n";
    let text = format!("{NODE}{FIRST}{both}");
    let app = start(&text, directory).await;
    known(&app, "alpha", 1).await;
    known(&app, "beta", 1).await;
    let mut http = Http::to(address(&app, "alpha").await).await;
    assert_eq!(http.get("/").await.body, "hello");
    let mut raw = Http::to(address(&app, "raw").await).await;
    assert_eq!(raw.get("/").await.body, "hello");

    // The route changes, and the TCP listener goes away under its connection.
    let moved = format!("{NODE}{FIRST}{both}")
        .replace("service = \"alpha\"\n[template", "service = \"beta\"\n[template");
    let moved =
        moved.replace("[listener.raw.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"alpha\"\n", "");
    let raw_address = address(&app, "raw").await;
    assert_eq!(reloaded(&app, directory, &moved).await, ["listener.raw", "route.alpha"]);
    assert_eq!(http.get("/").await.body, "other", "the same connection, the new route");
    refuses(raw_address).await;
    assert_eq!(raw.get("/").await.body, "hello", "a connection outlives its listener");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_refuses_the_reload_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    lay_out(directory).await;
    let app = start(&format!("{NODE}{FIRST}"), directory).await;
    all_there(&app, directory, "alpha").await;
    let (alpha, before) = (address(&app, "alpha").await, app.tables().snapshot.generation);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!(
        "{NODE}{}\n[listener.x.http]\nbind = [\"127.0.0.1:0\", \"127.0.0.1:{port}\"]\n",
        second()
    );
    let loaded = load(&text, directory).unwrap();
    let refused = within("reload", app.reload(loaded)).await.unwrap_err();
    assert_eq!(
        refused,
        [format!(
            "cannot listen on TCP 127.0.0.1:{port} for [listener.x.http] bind: it is in use; see \
             who holds it with `ss -lnp '( sport = :{port} )'`, then stop that or change \
             [listener.x.http] bind"
        )]
    );
    all_there(&app, directory, "alpha").await;
    assert_eq!(address(&app, "alpha").await, alpha);
    assert_eq!(app.tables().snapshot.generation, before);
    assert!(app.addresses("beta").await.is_empty() && app.addresses("x").await.is_empty());
    let dns = Dns::to(address(&app, "dns").await).await;
    assert_eq!(dns.ask("beta.beta.test", RecordType::A).await.code(), ResponseCode::Refused);
    let status = get_by_socket(&directory.join("admin.sock"), "/v1/status").await.json();
    assert_eq!(status["last_reload"]["refused"][0], refused[0].as_str());
    assert!(!directory.join("beta").exists());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_change_while_running_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let app = start("[node]\nworkers = 1\n", directory.path()).await;
    for (text, setting) in [
        ("[node]\nworkers = 2\n", "[node]"),
        ("[node]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n", "[admin]"),
        (
            "[node]\nworkers = 1\n[limits]\nidle_endpoint_connections = 7\n",
            "[limits] idle_endpoint_connections",
        ),
    ] {
        let refused = app.reload(load(text, directory.path()).unwrap()).await.unwrap_err();
        let want = format!(
            "{setting} can't change while the process runs: undo the change, restart, or `portolan upgrade`"
        );
        assert_eq!(refused, [want]);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_was_edited_is_rendered_anew_by_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    lay_out(directory).await;
    let text = format!("{NODE}{FIRST}");
    let app = start(&text, directory).await;
    says(&directory.join("alpha"), "alpha").await;
    std::fs::write(directory.join("alpha.j2"), "{{ services() | join(',') }}!").unwrap();
    assert_eq!(reloaded(&app, directory, &text).await, ["template.alpha"]);
    says(&directory.join("alpha"), "alpha!").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_and_the_command_reload_the_file_and_a_mistake_in_it_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    lay_out(directory).await;
    let file = directory.join("portolan.toml");
    let name = file.to_str().unwrap();
    replace(&file, &format!("{NODE}{FIRST}"));
    let mut process = Running::start(&file).await;
    process.ready(&directory.join("admin.sock")).await;
    let alpha = process.address("alpha").await;
    let mut open = Http::to(alpha).await;
    assert_eq!(open.get("/").await.body, "hello");

    replace(&file, &format!("{NODE}{FIRST}{}", second()));
    process.signal(Signal::HUP);
    let log = process.logged("configuration reloaded").await;
    assert_eq!(log["changed"], "dns, listener.beta, registry.beta, route.beta, template.beta");
    let beta = process.address("beta").await;
    says(&directory.join("beta"), "beta").await;
    process.ready(&directory.join("admin.sock")).await;
    assert_eq!(get(beta, "/").await.body, "hello");

    replace(&file, &format!("{NODE}{}lissten = 1\n", second()));
    let problem = format!(
        "{name}:19:1: unknown key `lissten` in [template.beta]; known keys: source, contents, \
         dialect, missing_key, number_format, delimiters, denied_functions, sandbox, keys, prefix, \
         catalog_keys, registry, include_dir, destination, create_dirs, owner, backup, write, output_format, \
         check, check_timeout, reload, reload_signal, reload_http, reload_timeout, \
         reload_interval, group, wait, mode, timeout, output_max, steps_max"
    );
    process.signal(Signal::HUP);
    let log = process.logged("reload refused; the configuration stays as it is").await;
    assert_eq!(log["problem"], problem);
    let ended = portolan(&["reload", "--config", name]).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert_eq!(ended.stderr, format!("{problem}\n1 problem in the configuration\n"));
    assert_eq!(open.get("/").await.body, "hello", "the connection goes on");
    assert_eq!(get(alpha, "/").await.body, "hello", "the old socket answers");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    replace(&file, &format!("{NODE}[listener.x.http]\nbind = [\"127.0.0.1:{port}\"]\n"));
    let ended = portolan(&["reload", "--config", name]).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.starts_with("cannot listen on TCP"), "{ended:?}");
    assert!(ended.stderr.ends_with("refused; the configuration stays as it is\n"), "{ended:?}");
    assert_eq!(get(alpha, "/").await.body, "hello");

    replace(&file, &format!("{NODE}{FIRST}"));
    let ended = portolan(&["reload", "--config", name]).await;
    let told = "reloaded; changed: dns, listener.beta, registry.beta, route.beta, template.beta\n";
    assert_eq!((ended.code, &*ended.stdout), (Some(0), told), "{ended:?}");
    refuses(beta).await;
    let ended = portolan(&["reload", "--config", name]).await;
    assert_eq!((ended.code, &*ended.stdout), (Some(0), "reloaded; nothing differs\n"), "{ended:?}");

    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    let ended = portolan(&["reload", "--config", name]).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    let socket = directory.join("admin.sock");
    let told =
        format!("portolan: cannot reach the running process at {}; is it up?: ", socket.display());
    assert!(ended.stderr.starts_with(&told), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_reloads_over_tcp_with_the_token_and_is_refused_without() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(directory.join("token"), "s3cret\n").unwrap();
    std::fs::write(directory.join("wrong"), "secret\n").unwrap();
    let configuration = |listen: &str, token: &str| {
        format!("[node]\nworkers = 1\n[admin]\nlisten = \"{listen}\"\n{token}\n")
    };
    let file = directory.join("portolan.toml");
    std::fs::write(&file, configuration("127.0.0.1:0", "token_file = \"token\"")).unwrap();
    let process = Running::start(&file).await;
    // The port is only known now: whoever asks has a file of its own that names it.
    let asks = directory.join("asks.toml");
    let listen = process.address("admin").await.to_string();
    for (token, code, told) in [
        ("token_file = \"token\"", 0, "reloaded; nothing differs\n"),
        ("token_file = \"wrong\"", 69, "the running process answered 401: needs the token: "),
        (
            "",
            69,
            "portolan: a reload needs [admin] token_file or socket, or [node] data_dir; send SIGHUP instead\n",
        ),
        ("token_file = \"gone\"", 69, "portolan: cannot read [admin] token_file gone: "),
    ] {
        std::fs::write(&asks, configuration(&listen, token)).unwrap();
        let ended = portolan(&["reload", "--config", asks.to_str().unwrap()]).await;
        assert_eq!(ended.code, Some(code), "{token}: {ended:?}");
        assert!(
            format!("{}{}", ended.stdout, ended.stderr).starts_with(told),
            "{token}: {ended:?}"
        );
    }
}

/// The reply by TCP to a question for the address of `alpha`.
async fn asked(stream: &mut TcpStream) -> Message {
    let question = question(1, "alpha.alpha.test", RecordType::A);
    stream.write_u16(question.len() as u16).await.unwrap();
    stream.write_all(&question).await.unwrap();
    let length = within("a reply", stream.read_u16()).await.unwrap();
    let mut reply = vec![0; usize::from(length)];
    within("a reply", stream.read_exact(&mut reply)).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_connections_outlive_a_reload_that_moves_dns_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    lay_out(directory).await;
    let app = start(&format!("{NODE}{FIRST}"), directory).await;
    known(&app, "alpha", 1).await;
    let before = address(&app, "dns").await;
    let mut open = TcpStream::connect(before).await.unwrap();
    assert_eq!(asked(&mut open).await.answers.len(), 1);
    let elsewhere = NODE.replace("127.0.0.1:0", "127.0.0.2:0");
    assert_eq!(reloaded(&app, directory, &format!("{elsewhere}{FIRST}")).await, ["dns"]);
    let now = address(&app, "dns").await;
    assert_eq!(now.ip().to_string(), "127.0.0.2");
    assert_eq!(Dns::to(now).await.addresses("alpha.alpha.test").await.len(), 1);
    refuses(before).await;
    let reply = asked(&mut open).await;
    assert_eq!(reply.answers.len(), 1, "by the connection from before: {reply}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_that_reloads_bring_and_take_away_leave_nobody_without_an_endpoint() {
    let origins = [backend("hello", 1).await];
    let rig = Rig::http("", &origins).await;
    let config = |check: &str| {
        format!(
            "[node]\nworkers = 1\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
             [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n[service.web]\n{check}"
        )
    };
    let reloads = async {
        for round in 0..24 {
            // Results have become verdicts: what a reload changes of them is told at once.
            tokio::time::sleep(Duration::from_millis(60)).await;
            let checks = ["check.tcp = {}\n", "check.http = { path = \"/\" }\n", ""];
            rig.reload(&config(checks[round % checks.len()])).await;
        }
    };
    // Something else changes all the time: generations are on their way while plans wait.
    let changes = async {
        for number in 0_u16.. {
            let other = SocketAddr::from(([10, 0, 0, 1], number % 1000 + 1));
            rig.say(vec![service("web", &origins), service("other", &[other])]);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let nobody = rig.app.published(|snapshot| {
        snapshot.service("web").is_some_and(|service| service.eligible.is_empty())
    });
    tokio::select! {
        () = reloads => {}
        () = changes => unreachable!(),
        () = nobody => panic!("a generation in which nobody gets work"),
    }
}
