//! Upgrades that do not come about: the process goes on and says why.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;

use crate::clients::{get, get_by_socket};
use crate::support::successors::Line;
use crate::support::until;

const CONFIG: &str = "[node]\nworkers = 1\n[process]\nupgrade_timeout = \"2s\"\n\
     [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
     [route.all]\nlistener = \"web\"\nrespond = { status = 200, body = \"here\" }\n\
     [admin]\nsocket = \"admin.sock\"\n";

async fn line(more: &str) -> Line {
    Line::start(tempfile::tempdir().unwrap(), &format!("{CONFIG}{more}"), &[]).await
}

/// The same process serves, and nothing of the other one is left.
async fn goes_on(line: &Line) {
    assert_eq!(get(line.first.address("web").await, "/").await.body, "here");
    let status = get_by_socket(&line.socket(), "/v1/status").await.json();
    assert_eq!((&status["pid"], &status["phase"]), (&line.pid.into(), &"serving".into()));
    let pids = children(line.pid);
    assert_eq!(pids, [0; 0], "children are left");
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let told =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    told.flat_map(|told| {
        told.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    })
    .collect()
}

fn script(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_crashes_or_hangs_or_is_none_changes_nothing_and_the_reason_is_told() {
    let line = line("").await;
    let hangs = script(line.directory.path(), "hangs", "exec sleep 600");
    let crashes = script(line.directory.path(), "crashes", "exit 3");
    for (case, binary, told) in [
        ("crash", "/bin/false", "the new process ended before it served (exit status: 1)"),
        ("another crash", &*crashes, "the new process ended before it served (exit status: 3)"),
        ("hang", &hangs, "did not serve within [process] upgrade_timeout = 2s"),
        ("none", "/nowhere/portolan", "cannot start /nowhere/portolan: No such file"),
        ("no program", line.file.to_str().unwrap(), "Permission denied"),
    ] {
        let ended = line.ask(&["--binary", binary]).await;
        assert_eq!(ended.code, Some(69), "{case}: {ended:?}");
        assert!(ended.stderr.contains(told), "{case}: {ended:?}");
        assert!(ended.stderr.ends_with("the running process goes on as before\n"), "{ended:?}");
        goes_on(&line).await;
    }
    let metrics = get_by_socket(&line.socket(), "/metrics").await.body;
    assert!(metrics.contains("portolan_process_upgrades_refused_total 5"));
    assert!(line.first.logged("no upgrade; this process goes on").await["error"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_refused_leaves_the_old_process_with_its_own() {
    let mut line = line("").await;
    std::fs::write(&line.file, format!("{CONFIG}[listener.other]\nhttp = 1\n")).unwrap();
    // The command looks at it first.
    assert_eq!(line.ask(&[]).await.code, Some(78));
    line.signal(Signal::USR2);
    let why = line.first.logged("no upgrade; this process goes on").await["error"].to_string();
    assert!(
        why.contains("the new process does not start") && why.contains("portolan.toml:"),
        "{why}"
    );
    goes_on(&line).await;

    // It is right, and cannot be had.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let more = format!("[listener.more.http]\nbind = [\"127.0.0.1:{port}\"]\n");
    std::fs::write(&line.file, format!("{CONFIG}{more}")).unwrap();
    let ended = line.ask(&[]).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.stderr.contains("[listener.more.http] bind: it is in use"), "{ended:?}");
    goes_on(&line).await;

    // And then it can: what was refused before has cost nothing.
    drop(taken);
    line.upgrade().await;
    assert_eq!(get(line.first.address("web").await, "/").await.body, "here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_upgrade_at_a_time_and_none_with_a_child_of_exec() {
    let line = line("").await;
    let hangs = script(line.directory.path(), "hangs", "exec sleep 600");
    let with = ["--binary", &*hangs];
    let first = line.ask(&with);
    let second = async {
        line.first.logged("handing over to a new process").await;
        line.ask(&[]).await
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.stderr.contains("upgrade_timeout"), "{first:?}");
    assert_eq!(second.code, Some(69));
    assert!(second.stderr.contains("an upgrade is under way already"), "{second:?}");
    goes_on(&line).await;

    let with_child = self::line("[exec]\ncommand = \"exec sleep 600\"\n").await;
    until("the child runs", async || (!children(with_child.pid).is_empty()).then_some(())).await;
    let ended = with_child.ask(&[]).await;
    assert_eq!(ended.code, Some(69));
    assert!(ended.stderr.contains("[exec] runs a child"), "{ended:?}");
}
