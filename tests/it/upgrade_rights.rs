//! Rights: given up after binding, in every thread, and kept as far as they are needed.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::clients::get;
use crate::peers::own_ip;
use crate::support::successors::{Line, left};

const NOBODY: u32 = 65534;

/// What the kernel says of every thread of a process. The allocator's own one is older than `main`, starts
/// nothing, and is left out of what each thread promises for itself.
fn threads(pid: u32, what: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("status")).unwrap()
    };
    let promised = what == "NoNewPrivs";
    let counts = |status: &String| !(promised && status.starts_with("Name:\tjemalloc_bg_thd\n"));
    let word = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{what}:"))).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let words: Vec<String> = tasks.map(read).filter(counts).map(word).collect();
    assert!(words.len() > 4, "{words:?}");
    words
}

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

fn config(process: &str, ports: &[(IpAddr, u16)]) -> String {
    let binds: Vec<String> =
        ports.iter().map(|(ip, port)| format!("\"{}\"", SocketAddr::new(*ip, *port))).collect();
    format!(
        "[node]\nworkers = 2\ndata_dir = \"data\"\n[process]\n{process}\n\
         [listener.web.http]\nbind = [{}]\n\
         [route.all]\nlistener = \"web\"\nrespond = {{ status = 200, body = \"here\" }}\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.test]\n\
         [admin]\nsocket = \"admin.sock\"\n",
        binds.join(", ")
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_given_up_after_binding_and_low_ports_can_still_be_bound_also_after_an_upgrade()
{
    if !rustix::process::geteuid().is_root() {
        println!("only root can give rights up; nothing is shown here");
        return;
    }
    let ip = own_ip();
    let mut line = Line::start(directory(), &config("user = \"nobody\"", &[(ip, 81)]), &[]).await;
    let is_nobody = |pid| {
        let nobody = [NOBODY.to_string().as_str(); 4].join(" ");
        for what in ["Uid", "Gid"] {
            assert!(threads(pid, what).iter().all(|found| *found == nobody), "{what}");
        }
        assert!(threads(pid, "Groups").iter().all(|groups| *groups == NOBODY.to_string()));
        assert!(threads(pid, "NoNewPrivs").iter().all(|word| word == "1"));
        // CAP_NET_BIND_SERVICE is number 10. The allocator's own thread may have none at all.
        for sets in ["CapEff", "CapPrm"] {
            let found = threads(pid, sets);
            let few = |set: &String| u64::from_str_radix(set, 16).unwrap() & !(1 << 10) == 0;
            assert!(found.iter().all(few), "{sets}: {found:?}");
        }
    };
    is_nobody(line.pid);
    assert_eq!(get((ip, 81).into(), "/").await.body, "here");

    let more = [(ip, 81), (ip, 82)];
    std::fs::write(&line.file, config("user = \"nobody\"", &more)).unwrap();
    line.signal(Signal::HUP);
    line.first.logged("configuration reloaded").await;
    assert_eq!(get((ip, 82).into(), "/").await.body, "here");

    let more = [(ip, 81), (ip, 82), (ip, 83)];
    std::fs::write(&line.file, config("user = \"nobody\"", &more)).unwrap();
    line.upgrade().await;
    is_nobody(line.pid);
    for (ip, port) in more {
        assert_eq!(get((ip, port).into(), "/").await.body, "here", "{port}");
    }
    line.signal(Signal::TERM);
    left(line.pid, &line.file).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_capabilities_what_was_bound_before_serves_and_a_reload_says_why_it_cannot() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can give rights up; nothing is shown here");
        return;
    }
    let ip = own_ip();
    let process = "user = \"nobody\"\ncapabilities = []";
    let line = Line::start(directory(), &config(process, &[(ip, 84)]), &[]).await;
    assert!(threads(line.pid, "CapEff").iter().all(|set| set.trim_matches('0').is_empty()));
    assert_eq!(get((ip, 84).into(), "/").await.body, "here");
    std::fs::write(&line.file, config(process, &[(ip, 84), (ip, 85)])).unwrap();
    line.signal(Signal::HUP);
    let refused = line.first.logged("reload refused; the configuration stays as it is").await;
    assert!(refused["problem"].to_string().contains("Permission denied"), "{refused}");
    assert_eq!(get((ip, 84).into(), "/").await.body, "here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_of_system_calls_lets_everything_run_and_holds_for_what_is_started() {
    let directory = directory();
    let text = "[registry.local.file]\npath = \"services.toml\"\n\
         [service.web]\ncheck.exec = { command = \"unshare --user true && exit 1; exit 0\" }\n\
         [template.list]\nsource = \"list.j2\"\ndestination = \"list\"\n";
    let at = "127.0.0.1:9".parse().unwrap();
    let services = crate::support::listing("web", &[("web", at)]);
    std::fs::write(directory.path().join("services.toml"), services).unwrap();
    std::fs::write(directory.path().join("list.j2"), "rendered").unwrap();
    let config = config("seccomp = \"enforce\"", &[(own_ip(), 0)]) + text;
    let mut line = Line::start(directory, &config, &[]).await;
    let all = async |line: &Line| {
        assert!(threads(line.pid, "Seccomp").iter().all(|mode| mode == "2"));
        let web = line.first.address("web").await;
        assert_eq!(get(web, "/").await.body, "here");
        crate::support::says(&line.directory.path().join("list"), "rendered").await;
        // The check is well where another namespace cannot be had.
        crate::support::until("the check's word", async || {
            let told =
                crate::clients::get_by_socket(&line.socket(), "/v1/services/web").await.json();
            (told["instances"][0]["health"] == "healthy").then_some(())
        })
        .await;
        let dns = crate::clients::Dns::to(line.first.address("dns").await).await;
        assert_eq!(dns.addresses("web.test").await.len(), 1);
    };
    all(&line).await;
    line.upgrade().await;
    all(&line).await;
}
