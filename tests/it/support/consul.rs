//! A real Consul beside a test: one server that is its own agent, on ports of its own.
//!
//! It is the one of Debian's last package (1.8), or whatever `CONSUL_BIN` names. Limits of the
//! agent stand at their defaults.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{LOOK, PATIENCE, within};
use crate::peers::own_ip;

/// The datacenter that it serves.
pub(crate) const DATACENTER: &str = "dc1";

/// A running Consul, or one that was killed and may come back. Dropping it kills it.
pub(crate) struct Consul {
    directory: TempDir,
    ip: IpAddr,
    http: u16,
    https: Option<u16>,
    dns: Option<u16>,
    child: Option<Child>,
}

/// One service instance, as an agent is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) at: SocketAddr,
    pub(crate) tags: Vec<String>,
    pub(crate) weight: u16,
}

impl Entry {
    /// An instance of weight one without tags.
    pub(crate) fn new(service: &str, id: &str, at: SocketAddr) -> Self {
        Self { id: id.into(), service: service.into(), at, tags: Vec::new(), weight: 1 }
    }

    pub(crate) fn tagged(mut self, tag: &str) -> Self {
        self.tags.push(tag.into());
        self
    }

    pub(crate) const fn weighing(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// As the catalog spells it, without an agent.
    pub(crate) fn in_catalog(&self) -> Value {
        json!({
            "ID": self.id, "Service": self.service, "Address": self.at.ip(),
            "Port": self.at.port(), "Tags": self.tags,
            "Weights": {"Passing": self.weight, "Warning": 1},
        })
    }

    fn for_agent(&self) -> Value {
        json!({
            "ID": self.id, "Name": self.service, "Address": self.at.ip(), "Port": self.at.port(),
            "Tags": self.tags, "Weights": {"Passing": self.weight, "Warning": 1},
            "Check": {"CheckID": self.check(), "TTL": "1h", "Status": "passing"},
        })
    }

    /// Id of its check.
    pub(crate) fn check(&self) -> String {
        format!("check:{}", self.id)
    }
}

/// Where the program is.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("CONSUL_BIN") {
        return named.into();
    }
    let below = |target: &Path| target.join("peers/consul/usr/bin/consul");
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let built = below(tmp.parent().unwrap_or(tmp));
    if built.exists() {
        built
    } else {
        below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("target"))
    }
}

impl Consul {
    /// Starts one that speaks plaintext, and returns once it leads itself.
    pub(crate) async fn start() -> Self {
        Self::launch(false, false).await
    }

    /// Starts one that answers DNS too.
    pub(crate) async fn start_with_dns() -> Self {
        Self::launch(false, true).await
    }

    /// Starts one that speaks HTTPS too, with a certificate by an authority of its own.
    pub(crate) async fn start_with_tls() -> Self {
        Self::launch(true, false).await
    }

    async fn launch(tls: bool, dns: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ip = own_ip();
        // All are held until all are chosen, so that no two are the same.
        let held: Vec<_> = (0..5).map(|_| TcpListener::bind((ip, 0)).unwrap()).collect();
        let [http, https, server, serf, dns_port] =
            [0, 1, 2, 3, 4].map(|n: usize| held[n].local_addr().unwrap().port());
        drop(held);
        let mut config = json!({
            "server": true, "bootstrap_expect": 1, "datacenter": DATACENTER, "node_name": "agent",
            "data_dir": directory.path().join("data"), "bind_addr": ip, "client_addr": ip,
            "log_level": "warn", "disable_update_check": true, "leave_on_terminate": false,
            "performance": {"raft_multiplier": 1}, "check_update_interval": "0s",
            "ports": {"http": http, "https": if tls { i32::from(https) } else { -1 }, "dns": if dns { i32::from(dns_port) } else { -1 },
                "grpc": -1, "serf_lan": serf, "serf_wan": -1, "server": server},
        });
        if tls {
            certify(directory.path(), ip);
            config["cert_file"] = json!(directory.path().join("server.pem"));
            config["key_file"] = json!(directory.path().join("server.key"));
        }
        std::fs::write(directory.path().join("agent.json"), config.to_string()).unwrap();
        let https = tls.then_some(https);
        let dns = dns.then_some(dns_port);
        let mut consul = Self { directory, ip, http, https, dns, child: None };
        consul.come().await;
        consul
    }

    /// Where it answers in plaintext, now or once it is back.
    pub(crate) const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.http)
    }

    /// Where it answers DNS.
    pub(crate) fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.dns.unwrap())
    }

    /// The URL for Portolan: HTTPS when it was started with it.
    pub(crate) fn url(&self) -> String {
        match self.https {
            Some(port) => format!("https://{}:{port}", self.ip),
            None => format!("http://{}", self.address()),
        }
    }

    /// The certificate of the authority that signed its own.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    async fn come(&mut self) {
        let program = program();
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(&program);
        command.arg("agent").arg("-config-file").arg(self.directory.path().join("agent.json"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.kill_on_drop(true).spawn().unwrap_or_else(|error| {
            panic!(
                "cannot run {}: {error}; get it with scripts/install-peers --debian, or set \
                 CONSUL_BIN",
                program.display()
            )
        });
        self.child = Some(child);
        let log = self.directory.path().join("log");
        let said = || std::fs::read_to_string(&log).unwrap();
        let leads = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                    panic!("consul ended, {status}: {}", said());
                }
                // A leader takes writes; that it is known comes a little sooner.
                let body = Some(json!({"Node": "ready", "Address": "127.0.0.1"}));
                let answer = exchange(self.address(), "PUT", "/v1/catalog/register", body).await;
                if answer.is_some_and(|(status, _)| status == 200) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        assert!(leads.await.is_ok(), "consul does not lead after {PATIENCE:?}: {}", said());
        self.put("/v1/catalog/deregister", json!({"Node": "ready"})).await;
    }

    /// Ends it at once, as a crash would.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.start_kill().unwrap();
        within("the end of consul", child.wait()).await.unwrap();
    }

    /// Stops it where it is, without a word to anybody, or lets it go on.
    pub(crate) fn freeze(&self, on: bool) {
        let id = self.child.as_ref().and_then(Child::id).unwrap();
        let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(id, if on { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    /// Starts it again where it was, with what it knew.
    pub(crate) async fn back(&mut self) {
        self.come().await;
    }

    /// Starts it again where it was, knowing nothing.
    pub(crate) async fn back_empty(&mut self) {
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
        self.come().await;
    }

    /// One PUT that must succeed.
    pub(crate) async fn put(&self, path: &str, body: Value) {
        let answer = within(path, exchange(self.address(), "PUT", path, Some(body))).await;
        let (status, body) = answer.unwrap_or_else(|| panic!("{path}: no answer"));
        assert_eq!(status, 200, "{path}: {body}");
    }

    /// One GET that must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = within(path, exchange(self.address(), "GET", path, None)).await;
        let (status, body) = answer.unwrap_or_else(|| panic!("{path}: no answer"));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Registers at the agent, or changes what was registered; its check passes then.
    pub(crate) async fn register(&self, entry: &Entry) {
        self.put("/v1/agent/service/register", entry.for_agent()).await;
    }

    /// Takes an instance away.
    pub(crate) async fn deregister(&self, id: &str) {
        self.put(&format!("/v1/agent/service/deregister/{id}"), Value::Null).await;
    }

    /// Maintenance of an instance, or of the whole node.
    pub(crate) async fn maintenance(&self, id: Option<&str>, on: bool) {
        let of = id.map_or_else(String::new, |_| "service/".to_owned());
        let id = id.map_or_else(String::new, |id| format!("/{id}"));
        let path = format!("/v1/agent/{of}maintenance{id}?enable={on}&reason=test");
        self.put(&path, Value::Null).await;
    }

    /// What the check of an instance says from now on: `pass`, `warn` or `fail`.
    pub(crate) async fn check(&self, entry: &Entry, verdict: &str) {
        self.put(&format!("/v1/agent/check/{verdict}/{}", entry.check()), Value::Null).await;
    }

    /// Writes many instances to the catalog, each service on a node of its own.
    pub(crate) async fn fill(&self, entries: &[Entry]) {
        for some in entries.chunks(30) {
            let mut operations = Vec::new();
            for entry in some {
                let node = format!("node-{}", entry.service);
                let at = json!({"Node": node, "Address": "127.0.0.1"});
                operations.push(json!({"Node": {"Verb": "set", "Node": at}}));
                let service = json!({"Node": node, "Service": entry.in_catalog()});
                let mut set = json!({"Verb": "set"});
                for (key, value) in service.as_object().unwrap() {
                    set[key] = value.clone();
                }
                operations.push(json!({"Service": set}));
            }
            self.put("/v1/txn", Value::Array(operations)).await;
        }
    }

    /// A connection for many writes in a row.
    pub(crate) async fn writer(&self) -> Writer {
        let stream = TcpStream::connect(self.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Writer { stream, unread: Vec::new() }
    }
}

/// Writes over one connection, as fast as they are answered.
pub(crate) struct Writer {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Writer {
    /// One PUT whose answer is short and good.
    pub(crate) async fn put(&mut self, path: &str, body: &Value) {
        let body = body.to_string();
        let length = body.len();
        let request =
            format!("PUT {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        loop {
            if let Some((answer, end)) = crate::clients::whole(&self.unread) {
                self.unread.drain(..end);
                assert_eq!(answer.status, 200, "{path}: {}", answer.body);
                return;
            }
            let read = within(path, self.stream.read_buf(&mut self.unread)).await.unwrap();
            assert_ne!(read, 0, "{path}: closed");
        }
    }
}

/// One request on a connection of its own; none: nobody answered. HTTP/1.0, so that the end of
/// the connection is the end of the body.
async fn exchange(
    to: SocketAddr,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Option<(u16, String)> {
    let body =
        body.filter(|body| !body.is_null()).map_or_else(String::new, |body| body.to_string());
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut stream = TcpStream::connect(to).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Makes an authority and a certificate by it for `ip`: `ca.pem`, `server.pem`, `server.key`.
pub(crate) fn certify(directory: &Path, ip: IpAddr) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let own = authority.self_signed(&key).unwrap();
    std::fs::write(directory.join("ca.pem"), own.pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec![ip.to_string(), "localhost".into()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    std::fs::write(directory.join("server.pem"), server.pem()).unwrap();
    std::fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
}
