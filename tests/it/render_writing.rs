//! Files whose way is hard: checks and reloads that hang, directories that are gone, full disks,
//! bind mounts.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::child::{PORTOLAN, Running};
use crate::clients::get_by_socket;
use crate::support::{Memory, listing, replace, says, start_with, until};

/// How a template of a process stands, asked by its admin socket.
async fn status(directory: &Path, template: &str) -> Value {
    let status = get_by_socket(&directory.join("admin.sock"), "/v1/status").await.json();
    let all = status["templates"].as_array().unwrap();
    all.iter().find(|one| one["name"] == template).unwrap().clone()
}

async fn stands(directory: &Path, template: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = async || Some(status(directory, template).await).filter(&wanted);
    until(template, look).await
}

fn addresses(count: u8) -> Vec<std::net::SocketAddr> {
    (1..=count).map(|last| ([10, 0, 0, last], 80).into()).collect()
}

fn error(status: &Value) -> String {
    status["error"].as_str().unwrap_or_default().to_owned()
}

const PLAIN: &str = "{{ service('web') | length }}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_hangs_and_a_directory_that_is_gone_cost_no_other_template_anything() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(directory.join("a.j2"), PLAIN).unwrap();
    let text = "[node]\nworkers = 1\n[admin]\nsocket = \"admin.sock\"\n\
        [template.hangs]\nsource = \"a.j2\"\ndestination = \"hangs\"\ncheck_timeout = \"200ms\"\n\
        check = \"echo up; if grep -q 2 {{.src}}; then sleep 600; fi\"\n\
        [template.gone]\nsource = \"a.j2\"\ndestination = \"gone/file\"\n\
        [template.fine]\nsource = \"a.j2\"\ndestination = \"fine\"\n";
    std::fs::write(directory.join("hangs"), "1").unwrap();
    let registry = Memory::new("memory");
    let app = start_with(text, directory, &[&registry]).await;
    registry.tell("web", &addresses(2));
    says(&directory.join("fine"), "2").await;
    let status =
        stands(directory, "hangs", |status| error(status).contains("[template.hangs]")).await;
    assert!(error(&status).contains("did not end within 200ms and was killed: up"), "{status}");
    assert_eq!(status["check"]["passed"], false);
    assert_ne!(std::fs::read_to_string(directory.join("hangs")).unwrap(), "2");
    let status = stands(directory, "gone", |status| !error(status).is_empty()).await;
    assert!(error(&status).ends_with("or set `create_dirs = true`"), "{status}");
    std::fs::create_dir(directory.join("gone")).unwrap();
    says(&directory.join("gone/file"), "2").await;
    let status = stands(directory, "gone", |status| error(status).is_empty()).await;
    assert!(status["written_at"].is_string() && status["inputs"] == 1, "{status}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_hangs_is_ended_with_all_it_forked_and_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(directory.join("a.j2"), PLAIN).unwrap();
    let log = directory.join("log");
    // The first time it hangs with a process in the background, then it leaves a daemon behind.
    let reload = format!(
        "cd {}; echo run >> log; if test -e once; then sleep 5 & exit 0; fi; touch once; \
         (sleep 2; touch orphan) & sleep 600",
        directory.display()
    );
    let text = format!(
        "[node]\nworkers = 1\ndata_dir = \"data\"\n[admin]\nsocket = \"admin.sock\"\n\
         [template.a]\nsource = \"a.j2\"\ndestination = \"out\"\nreload_timeout = \"300ms\"\n\
         reload = [\"sh\", \"-c\", '''{reload}''']\n"
    );
    let registry = Memory::new("memory");
    let app = start_with(&text, directory, &[&registry]).await;
    registry.tell("web", &addresses(1));
    let failed = stands(directory, "a", |status| status["reload"]["error"].is_string()).await;
    let reload = &failed["reload"];
    assert!(reload["error"].as_str().unwrap().contains("did not end within 300ms"), "{failed}");
    assert!(reload["due"] == true && reload["durable"] == true, "{failed}");
    assert!(reload["pending_since"].is_string(), "{failed}");
    let done = stands(directory, "a", |status| status["reload"]["due"] == false).await;
    assert!(done["reload"]["error"].is_null() && done["reload"]["succeeded_at"].is_string());
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "run\nrun\n");
    assert!(!directory.join("orphan").exists(), "what hung was killed with all that it forked");
    app.stop().await;
}

/// The binary in a mount namespace of its own, in which `mounts` have been made.
async fn in_namespace(directory: &Path, mounts: &str) -> Option<Running> {
    let probe = tokio::process::Command::new("unshare").args(["-rm", "true"]).output().await;
    match probe {
        Ok(output) if output.status.success() => {}
        other => {
            println!("skipped: no mount namespace can be had: {other:?}");
            return None;
        }
    }
    let script = format!(
        "set -e; cd {}; {mounts}; exec \"$0\" run --config portolan.toml",
        directory.display()
    );
    let mut unshare = tokio::process::Command::new("unshare");
    unshare.args(["-rm", "sh", "-c", &script, PORTOLAN]);
    let process = Running::spawn(unshare);
    process.logged("serving").await;
    process.ready(&directory.join("admin.sock")).await;
    Some(process)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_the_old_file_and_a_bind_mount_is_written_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let services = |count| {
        let all = addresses(count);
        let named: Vec<_> = all.iter().map(|at| at.to_string()).collect();
        let listed: Vec<_> = named.iter().zip(&all).map(|(id, at)| (&**id, *at)).collect();
        listing("web", &listed)
    };
    std::fs::write(directory.join("services.toml"), services(1)).unwrap();
    // Three instances fill the disk, two do not.
    let large = "{% set n = service('web') | length %}{{ n }}\
                 {% if n == 3 %}{% for i in range(20000) %}0123456789{% endfor %}{% endif %}";
    std::fs::write(directory.join("large.j2"), large).unwrap();
    std::fs::write(directory.join("a.j2"), PLAIN).unwrap();
    let text = "[node]\nworkers = 1\n[admin]\nsocket = \"admin.sock\"\n\
        [registry.local.file]\npath = \"services.toml\"\n\
        [template.small]\nsource = \"large.j2\"\ndestination = \"small/file\"\n\
        [template.bound]\nsource = \"a.j2\"\ndestination = \"bound\"\n\
        [template.fine]\nsource = \"a.j2\"\ndestination = \"fine\"\n";
    std::fs::write(directory.join("portolan.toml"), text).unwrap();
    std::fs::create_dir(directory.join("small")).unwrap();
    std::fs::write(directory.join("real"), "0").unwrap();
    std::fs::write(directory.join("bound"), "").unwrap();
    let mounts = "mount -t tmpfs -o size=64k tmpfs small; mount --bind real bound";
    let Some(mut process) = in_namespace(directory, mounts).await else { return };
    let inside = Path::new("/proc").join(process.id().to_string()).join("root");
    let small = inside.join(directory.strip_prefix("/").unwrap()).join("small/file");
    let inode = || std::fs::metadata(directory.join("real")).unwrap().ino();
    let before = inode();
    says(&small, "1").await;
    says(&directory.join("real"), "1").await;
    replace(&directory.join("services.toml"), &services(3));
    says(&directory.join("fine"), "3").await;
    says(&directory.join("real"), "3").await;
    assert_eq!(inode(), before, "whoever mounted it sees the change");
    let bound = stands(directory, "bound", |status| error(status).is_empty()).await;
    assert_eq!(bound["in_place"], true, "{bound}");
    let full = stands(directory, "small", |status| !error(status).is_empty()).await;
    assert!(error(&full).ends_with("make room on that disk"), "{full}");
    assert_eq!(std::fs::read_to_string(&small).unwrap(), "1");
    let names = std::fs::read_dir(small.parent().unwrap()).unwrap().count();
    assert_eq!(names, 1, "nothing is left of the attempt");
    replace(&directory.join("services.toml"), &services(2));
    says(&small, "2").await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
}
