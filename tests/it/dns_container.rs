//! A container whose resolver is this process, run by a Docker daemon of the test's own.

use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::dns_clients::forbidden;
use crate::dns_forward::unbound;
use crate::peers::{output, own_address, own_ip};
use crate::rig::within;
use crate::support::consul::{Consul, Entry};
use crate::support::{known, start, until};

/// Debian's statically linked busybox, which is all that the image holds.
const BUSYBOX: &str = "/bin/busybox";

/// The client that belongs to Debian's daemon; another one in `PATH` may be too new for it.
const DOCKER: &str = "/usr/bin/docker";

/// The files of the image: busybox under a few of its names.
fn image(directory: &Path) -> PathBuf {
    let root = directory.join("image");
    for folder in ["bin", "etc", "tmp", "proc"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let own = root.join("bin/busybox");
    std::fs::copy(BUSYBOX, &own).unwrap_or_else(|error| {
        panic!("{BUSYBOX}: {error}; `scripts/install-peers --debian` installs it")
    });
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["sh", "nslookup", "cat"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    root
}

/// A Docker daemon that has nothing in common with one that may run on this machine: its files,
/// its socket and its processes are its own, and all of them end with it.
struct Docker {
    socket: String,
    cgroup: String,
    daemon: Child,
}

impl Docker {
    /// Starts it; the reason when it cannot run here.
    async fn start(directory: &Path) -> Result<Self, String> {
        let at = |name: &str| directory.join(name).display().to_string();
        let socket = format!("unix://{}", at("docker.sock"));
        let cgroup = format!("portolan-{}", std::process::id());
        let log = std::fs::File::create(directory.join("docker.log")).unwrap();
        let mut command = Command::new("unshare");
        // In namespaces of its own all its children and mounts go when it goes.
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "dockerd"])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("docker.pid"), "--host", &socket])
            // No network of its own: nothing on this machine is changed.
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"])
            .args(["--storage-driver", "vfs", "--log-level", "warn"])
            .args(["--cgroup-parent", &format!("/{cgroup}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true);
        let mut daemon = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let why = || {
            let log = std::fs::read_to_string(directory.join("docker.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            last.join(" | ")
        };
        let up = until("the Docker daemon", async || {
            if let Ok(Some(status)) = daemon.try_wait() {
                return Some(Err(format!("the Docker daemon ended with {status}: {}", why())));
            }
            let version = output(DOCKER, &["--host", &socket, "version"]).await;
            version.contains("Server").then_some(Ok(()))
        });
        up.await?;
        Ok(Self { socket, cgroup, daemon })
    }

    /// Ends it, and takes away the groups that its containers were in.
    async fn stop(mut self) {
        self.daemon.start_kill().unwrap();
        within("the end of the Docker daemon", self.daemon.wait()).await.unwrap();
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Only some have it, and only an empty one goes.
            let _ = std::fs::remove_dir(controller.path().join(&self.cgroup));
        }
    }

    async fn run(&self, arguments: &[&str]) -> String {
        output(DOCKER, &[&["--host", &*self.socket], arguments].concat()).await
    }
}

/// What `nslookup` says of each name, by a way to run a command where `resolver` is asked.
async fn lookups(names: &[&str], run: impl AsyncFn(&str) -> String) -> Vec<String> {
    let mut told = Vec::new();
    for name in names {
        told.push(run(name).await);
    }
    told
}

/// The same without Docker: a root of one's own in a mount namespace.
async fn in_root(root: &Path, resolver: IpAddr, name: &str) -> String {
    std::fs::write(root.join("etc/resolv.conf"), format!("nameserver {resolver}\n")).unwrap();
    let root = root.display().to_string();
    output("unshare", &["--mount", "chroot", &root, "/bin/nslookup", name]).await
}

#[tokio::test]
async fn a_container_resolves_a_service_of_consul_and_a_name_of_others() {
    let ip = own_ip();
    if let Some(why) = forbidden(ip).await {
        println!("left out: {why}");
        return;
    }
    let consul = Consul::start().await;
    consul.register(&Entry::new("web", "web-1", "10.9.0.1:80".parse().unwrap())).await;
    consul.register(&Entry::new("web", "web-2", "10.9.0.2:80".parse().unwrap())).await;
    let directory = tempfile::tempdir().unwrap();
    let upstream = own_address();
    let outside = "local-zone: \"outside.example.\" static\n\
                   local-data: \"www.outside.example. A 192.0.2.77\"\n";
    let _unbound = unbound(directory.path(), upstream, outside).await;
    let config = format!(
        "[node]\nworkers = 1\n[registry.dc1.consul]\naddress = \"http://{}\"\n\
         [dns]\nlisten = [\"{ip}:53\"]\n[dns.zone.consul]\ndialect = \"consul\"\n\
         [dns.forward]\nupstreams = [\"{upstream}\"]\n[admin]\nsocket = \"admin.sock\"\n",
        consul.address()
    );
    let app = start(&config, directory.path()).await;
    known(&app, "web", 2).await;

    let root = image(directory.path());
    let names = ["web.service.consul", "www.outside.example", "nobody.service.consul"];
    let told = match Docker::start(directory.path()).await {
        Ok(docker) => {
            let archive = directory.path().join("image.tar").display().to_string();
            let root = root.display().to_string();
            assert_eq!(output("tar", &["-C", &root, "-cf", &archive, "."]).await, "");
            let imported = docker.run(&["import", &archive, "portolan-test"]).await;
            assert!(imported.contains("sha256:"), "{imported}");
            let resolver = ip.to_string();
            println!(
                "a container of {}",
                docker.run(&["version", "-f", "{{.Server.Version}}"]).await.trim()
            );
            let told = lookups(&names, async |name| {
                docker
                    .run(&[
                        "run",
                        "--rm",
                        "--network",
                        "host",
                        "--dns",
                        &resolver,
                        "portolan-test",
                        "/bin/nslookup",
                        name,
                    ])
                    .await
            })
            .await;
            docker.stop().await;
            told
        }
        Err(why) => {
            println!("no container, a root in a mount namespace instead: {why}");
            lookups(&names, async |name| in_root(&root, ip, name).await).await
        }
    };
    for (name, wanted, text) in [
        (names[0], ["Address: 10.9.0.1", "Address: 10.9.0.2"].as_slice(), &told[0]),
        (names[1], &["Address: 192.0.2.77"], &told[1]),
        (names[2], &["NXDOMAIN"], &told[2]),
    ] {
        let server = format!("{ip}:53");
        for word in wanted.iter().copied().chain([&*server]) {
            assert!(text.contains(word), "{name}, {word}: {text}");
        }
        println!("{}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    within("the end", app.stop()).await;
}
