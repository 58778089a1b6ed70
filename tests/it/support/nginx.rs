//! A real nginx as an origin: a process of its own, that is stopped or killed as real ones are.

use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{until, within};
use crate::peers::{own_address, serving, start};

/// A running nginx, master and worker. Dropping it kills both.
pub(crate) struct Nginx {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// Where it speaks HTTP/2, and passes calls of gRPC on.
    pub(crate) calls: SocketAddr,
    directory: TempDir,
    master: Child,
}

impl Nginx {
    /// Starts one that says its `name` in `X-Origin`, and asks `backend` for what takes time, or
    /// `echo` when it is called by gRPC.
    pub(crate) async fn start(name: &str, backend: SocketAddr, echo: SocketAddr) -> Self {
        let (address, calls) = (own_address(), own_address());
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log error.log warn;\n\
             events {{}}\n\
             http {{\naccess_log access.log;\ndefault_type text/plain;\n\
             client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
             map $http_upgrade $upgrade {{ default upgrade; '' ''; }}\n\
             server {{\nlisten {address};\nadd_header X-Origin {name} always;\n\
             location / {{ return 200 \"{name}\\n\"; }}\n\
             location /backend/ {{\nproxy_pass http://{backend}/;\nproxy_http_version 1.1;\n\
             proxy_buffering off;\nproxy_set_header X-Origin {name};\n\
             proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection $upgrade;\n}}\n\
             }}\n\
             server {{\nlisten {calls} http2;\nlocation / {{ grpc_pass grpc://{echo}; }}\n}}\n\
             }}\n"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut master =
            start(Command::new("nginx").arg("-p").arg(directory.path()).arg("-c").arg(file));
        serving(&mut master, address).await;
        serving(&mut master, calls).await;
        Self { name: name.to_owned(), address, calls, directory, master }
    }

    /// What it noted of the requests that have ended.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("access.log")).unwrap()
    }

    /// SIGTERM: it closes its connections at once, and waits for nothing that runs.
    pub(crate) async fn stop(&mut self) {
        signal(self.processes()[0], Signal::TERM);
        within("the end of nginx", self.master.wait()).await.unwrap();
    }

    /// SIGKILL to all of its processes.
    pub(crate) async fn kill(&mut self) {
        // It listens before it has one.
        let all = async || Some(self.processes()).filter(|all| all.len() > 1);
        let all = until(&format!("a worker of {}", self.name), all).await;
        for pid in all {
            signal(pid, Signal::KILL);
        }
        within("the end of nginx", self.master.wait()).await.unwrap();
    }

    /// The master, if it has not been waited for, and behind it its workers.
    fn processes(&self) -> Vec<Pid> {
        let Some(master) = self.master.id() else { return Vec::new() };
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        let all = i32::try_from(master).into_iter().chain(children);
        all.filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
    }
}

/// To a process that may have ended just now.
fn signal(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}
