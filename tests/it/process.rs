//! The process: its signals, its end, its logs, its help, and the sockets that others hand over.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::child::{PORTOLAN, Running, command, portolan};
use crate::clients::{Dns, Http, get, get_by_socket, refuses};
use crate::support::{Held, listing, until, within};

/// A process with one HTTP listener before `backend`.
async fn before(backend: &Held, more: &str) -> (TempDir, PathBuf, Running) {
    let directory = tempfile::tempdir().unwrap();
    let services = listing("web", &[("web", backend.address)]);
    std::fs::write(directory.path().join("services.toml"), services).unwrap();
    let text = format!(
        "[node]\nworkers = 1\n[registry.local.file]\npath = \"services.toml\"\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.test]\n\
         [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
         [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [admin]\nsocket = \"admin.sock\"\n{more}"
    );
    let file = directory.path().join("portolan.toml");
    std::fs::write(&file, text).unwrap();
    let process = Running::start(&file).await;
    process.ready(&directory.path().join("admin.sock")).await;
    (directory, file, process)
}

/// A request that waits at the backend.
async fn waiting(process: &Running, backend: &mut Held) -> Http {
    let mut client = Http::to(process.address("web").await).await;
    client.send("GET", "/held", "").await;
    backend.arrived().await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_closes_idle_connections_at_once_and_lets_a_request_finish() {
    let mut backend = Held::start().await;
    let (directory, _, mut process) = before(&backend, "").await;
    let mut running = waiting(&process, &mut backend).await;
    let web = process.address("web").await;
    let mut idle = Http::to(web).await;
    assert_eq!(idle.get("/").await.body, "soon");
    let dns = Dns::to(process.address("dns").await).await;

    process.signal(Signal::TERM);
    idle.closed().await;
    refuses(web).await;
    assert_eq!(dns.addresses("web.test").await, [backend.address.ip()].into(), "DNS answers");
    let admin = directory.path().join("admin.sock");
    assert_eq!(get_by_socket(&admin, "/readyz").await.status, 503);
    assert_eq!(get_by_socket(&admin, "/healthz").await.status, 200);
    let one_left = async || {
        let status = get_by_socket(&admin, "/v1/status").await.json();
        assert_eq!(status["phase"], "draining");
        (status["connections"] == 1).then_some(())
    };
    until("only the request that runs is left", one_left).await;

    backend.release();
    let response = running.receive().await.unwrap();
    assert_eq!((response.status, &*response.body), (200, "late"));
    running.closed().await;
    assert_eq!(process.ended().await.code(), Some(0));
    assert_eq!(process.logged("draining").await["deadline_seconds"], 30.0);
    assert_eq!(process.logged("drained").await["cut"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)]
    {
        let mut backend = Held::start().await;
        let (_directory, _, mut process) = before(&backend, "").await;
        let mut running = waiting(&process, &mut backend).await;
        process.signal(first);
        process.logged("draining").await;
        process.signal(second);
        assert_eq!(process.ended().await.code(), Some(0));
        process.logged("told twice to leave; cutting what still runs").await;
        assert!(running.receive().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_cuts_what_still_runs_and_the_log_says_how_many() {
    let mut backend = Held::start().await;
    let (_directory, _, mut process) = before(&backend, "[limits]\ndrain = \"200ms\"\n").await;
    let mut clients = vec![waiting(&process, &mut backend).await];
    clients.push(waiting(&process, &mut backend).await);
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    assert_eq!(process.logged("drained").await["cut"], 2);
    for client in &mut clients {
        assert!(client.receive().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_lines_of_json_where_nobody_reads_them_on_a_terminal() {
    let backend = Held::start().await;
    let (_directory, _, mut process) = before(&backend, "").await;
    process.signal(Signal::TERM);
    process.ended().await;
    let lines = process.said();
    assert!(lines.len() > 4, "{lines:#?}");
    for line in lines {
        let log: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(log[field].is_string(), "{field}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_of_logs_is_obeyed_and_one_that_cannot_be_read_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portolan.toml");
    std::fs::write(&file, "[node]\nworkers = 1\ndata_dir = \"data\"\n").unwrap();
    let arguments = ["run", "--config", file.to_str().unwrap()];
    let with = |filter: &str| {
        let mut asked = Command::new("env");
        // The variable is set behind the back of `spawn`, which takes it away.
        asked.arg(format!("PORTOLAN_LOG={filter}")).arg(PORTOLAN).args(arguments);
        Running::spawn(asked)
    };
    let mut process = with("portolan=nonsense");
    let log = process.logged("PORTOLAN_LOG cannot be read; logging at the default level").await;
    assert_eq!(log["value"], "portolan=nonsense");
    process.logged("serving").await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());

    let mut process = with("portolan=debug");
    process.logged("published").await;
    process.logged("serving").await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn help_tells_what_an_operator_asks() {
    for (arguments, words) in [
        (&["--help"][..], &["run", "check", "demo", "reload", "--version"][..]),
        (
            &["run", "--help"],
            &[
                "--config",
                "/etc/portolan/portolan.toml",
                "SIGTERM",
                "SIGHUP",
                "[limits] drain",
                "JSON",
                "PORTOLAN_LOG",
            ],
        ),
        (&["check", "--help"], &["--config", "file:line:column", "78", "Nothing is started"]),
        (
            &["demo", "--help"],
            &[
                "--dns",
                "127.0.0.1:5300",
                "--http",
                "127.0.0.1:8080",
                "--admin",
                "127.0.0.1:8611",
                "--every",
            ],
        ),
        (&["reload", "--help"], &["--config", "running process"]),
    ] {
        let ended = portolan(arguments).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}");
        // Lines are wrapped by the width of whoever reads; words are what counts.
        let text = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(text.contains(word), "{arguments:?} lacks {word:?}:\n{}", ended.stdout);
        }
    }
    let version = portolan(&["--version"]).await;
    assert_eq!(version.stdout, format!("portolan {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(portolan(&[]).await.code, Some(2));
    assert_eq!(portolan(&["fly"]).await.code, Some(2));
}

#[tokio::test]
async fn a_start_that_fails_names_the_setting_and_exits_with_71() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portolan.toml");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (text, told) in [
        (
            format!("[listener.web.http]\nbind = [\"127.0.0.1:{port}\"]\n"),
            format!(
                "portolan: cannot listen on TCP 127.0.0.1:{port} for [listener.web.http] bind: it is \
                 in use; see who holds it with `ss -lnp '( sport = :{port} )'`, then stop that or \
                 change [listener.web.http] bind\n"
            ),
        ),
        (
            format!("[admin]\nlisten = \"127.0.0.1:{port}\"\n"),
            format!(
                "portolan: cannot listen on TCP 127.0.0.1:{port} for [admin] listen: it is in use; "
            ),
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"gone\"\n".to_owned(),
            format!(
                "portolan: cannot read [admin] token_file {}: ",
                directory.path().join("gone").display()
            ),
        ),
        (
            "[node]\ndata_dir = \"portolan.toml\"\n".to_owned(),
            format!("portolan: cannot make the directory {} of `data_dir`: ", file.display()),
        ),
        (
            "[admin]\nsocket = \"no/admin.sock\"\n".to_owned(),
            format!(
                "portolan: cannot make the admin socket {}: ",
                directory.path().join("no/admin.sock").display()
            ),
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let ended = portolan(&["run", "--config", file.to_str().unwrap()]).await;
        assert_eq!(ended.code, Some(71), "{ended:?}");
        let words: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(format!("{}\n", words.join("\n")).starts_with(&told), "{told}\n{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_socket_is_for_its_owner_and_for_one_process_at_a_time() {
    let backend = Held::start().await;
    let (directory, file, mut process) = before(&backend, "").await;
    let socket = directory.path().join("admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = portolan(&["run", "--config", file.to_str().unwrap()]).await;
    assert_eq!(second.code, Some(71));
    let told = format!(
        "cannot make the admin socket {}: another process answers on it; stop that one first; ",
        socket.display()
    );
    assert!(second.stderr.contains(&told), "{second:?}");
    assert_eq!(get_by_socket(&socket, "/healthz").await.status, 200, "the first one goes on");
    // One that nobody answers on is what a crash leaves behind, and is replaced.
    process.signal(Signal::KILL);
    process.ended().await;
    let mut process = Running::start(&file).await;
    assert_eq!(get_by_socket(&socket, "/healthz").await.status, 200);
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
}

/// Runs the binary with `socket` as descriptor 3, as systemd hands it over.
fn handed_over(socket: TcpListener, file: &Path) -> Running {
    let mut shell = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" run --config \"$1\"";
    shell.arg("-c").arg(script).arg(PORTOLAN).arg(file).stdin(OwnedFd::from(socket));
    Running::spawn(shell)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_was_handed_over_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portolan.toml");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let text = format!(
        "[node]\nworkers = 2\n[listener.web.http]\nbind = [\"{at}\"]\n\
         [route.here]\nlistener = \"web\"\nrespond = {{ status = 200, body = \"adopted\" }}\n"
    );
    std::fs::write(&file, &text).unwrap();
    // A connection from before the process is there waits in the socket's queue.
    let mut early = Http::to(at).await;
    early.send("GET", "/", "").await;
    let mut process = handed_over(socket, &file);
    process.logged("serving").await;
    assert_eq!(early.receive().await.unwrap().body, "adopted");
    assert_eq!(get(at, "/").await.body, "adopted");
    drop(early);
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());

    let unasked = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = handed_over(unasked, &file);
    let log = process.logged("sockets were handed over that no setting asks for").await;
    assert_eq!(log["count"], 1);
}

fn demo(directory: &Path, options: &[&str]) -> Running {
    let mut demo = command(&["demo"]);
    demo.args(options).env("TMPDIR", directory);
    Running::spawn(demo)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_all_faces_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let options = [
        "--dns",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--every",
        "300ms",
    ];
    let mut process = demo(directory.path(), &options);
    for words in ["dig @127.0.0.1", "curl -i http://", "cat ", "Ctrl-C ends the demo."] {
        process.line(words, |line| line.contains(words)).await;
    }
    let dns = Dns::to(process.address("dns").await).await;
    let web = process.address("web").await;
    // One leaves now and then, and comes back.
    until("three instances", async || {
        (dns.addresses("web.demo.test").await.len() == 3).then_some(())
    })
    .await;
    assert!(get(web, "/").await.body.starts_with("hello from web-"));
    assert_eq!(get(process.address("admin").await, "/readyz").await.status, 200);
    process.line("one leaves", |line| line.starts_with("web-3 has left: ask again")).await;
    process.line("and is back", |line| line.starts_with("web-3 is back: ask again")).await;
    process.signal(Signal::INT);
    assert_eq!(process.ended().await.code(), Some(0), "{:#?}", process.said());
    process
        .line("its last word", |line| line == "The demo has ended; nothing of it is left.")
        .await;
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_the_demo_lacks_is_told_with_the_setting_and_the_option() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let at = format!("127.0.0.1:{port}");
    for (option, setting) in [
        ("--dns", "[dns] listen"),
        ("--http", "[listener.web.http] bind"),
        ("--admin", "[admin] listen"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Vec::new();
        for other in ["--dns", "--http", "--admin"] {
            options.extend([other, if other == option { &at } else { "127.0.0.1:0" }]);
        }
        let mut process = demo(directory.path(), &options);
        assert_eq!(process.ended().await.code(), Some(71), "{option}");
        let text = process.said().join("\n");
        assert!(text.contains(&format!("{at} for {setting}: it is in use")), "{text}");
        assert!(
            text.contains(&format!("In the demo: portolan demo {option} 127.0.0.1:PORT")),
            "{text}"
        );
        assert!(text.contains(&format!("make run DEMO=\"{option} 127.0.0.1:PORT\"")), "{text}");
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_leaves_when_its_last_connection_does_and_not_at_the_deadline() {
    let mut backend = Held::start().await;
    let (_directory, _, mut process) = before(&backend, "[limits]\ndrain = \"1h\"\n").await;
    let mut running = waiting(&process, &mut backend).await;
    process.signal(Signal::INT);
    process.logged("draining").await;
    backend.release();
    assert_eq!(running.receive().await.unwrap().body, "late");
    let ended = tokio::time::timeout(Duration::from_secs(20), process.ended()).await;
    assert_eq!(within("the end", async { ended }).await.unwrap().code(), Some(0));
}
