//! Hosts of a small network: a network namespace each, on a bridge in one more. The machine's own
//! interfaces are not touched. All of it, with whatever still runs inside, is gone when it is dropped.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command as Plain, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpListener;
use tokio::process::Command;

/// The network 192.0.2.0/24; the host in place n has the address 192.0.2.(n + 11).
pub(crate) struct Lan {
    prefix: String,
    hosts: &'static [&'static str],
}

/// Runs `ip` with `arguments`, and says what it said.
fn ip(arguments: &[&str]) -> Result<String, String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match Plain::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => Err(format!("{program} {}: {}", arguments.join(" "), told(&output))),
        Err(error) => Err(format!("{program} cannot be run: {error}")),
    }
}

impl Lan {
    /// A network of `hosts`; `None`, with the reason printed, where this machine allows none.
    pub(crate) fn new(hosts: &'static [&'static str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let lan = Self { prefix: format!("pt{}-{count}", std::process::id()), hosts };
        match lan.build() {
            Ok(()) => Some(lan),
            Err(why) => {
                println!("skipped: no network namespaces here ({why}); they need root on Linux");
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let switch = self.namespace("sw");
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for host in self.hosts {
            let (name, port) = (self.namespace(host), format!("to-{host}"));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            let pair = ["type", "veth", "peer", "name", "eth0", "netns", &name];
            ip(&[&["-n", &switch, "link", "add", &port][..], &pair].concat())?;
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            let address = format!("{}/24", self.address(host));
            ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// The host's own address.
    pub(crate) fn address(&self, host: &str) -> Ipv4Addr {
        let place = self.hosts.iter().position(|other| *other == host).unwrap();
        Ipv4Addr::new(192, 0, 2, 11 + u8::try_from(place).unwrap())
    }

    /// A command that runs `program` on `host`.
    pub(crate) fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// Runs a tool on `host` to its end.
    pub(crate) fn tool(&self, host: &str, words: &[&str]) -> Result<String, String> {
        let name = self.namespace(host);
        run("ip", &[&["netns", "exec", &name][..], words].concat())
    }

    /// `ip` about `host`.
    pub(crate) fn ip(&self, host: &str, arguments: &[&str]) -> String {
        ip(&[&["-n", &self.namespace(host)][..], arguments].concat()).unwrap()
    }

    /// Whether `host` has `address` at one of its interfaces.
    pub(crate) fn has(&self, host: &str, address: Ipv4Addr) -> bool {
        self.ip(host, &["-4", "-o", "address"]).contains(&format!(" {address}/"))
    }

    /// Pulls the cable of `host` out of the switch, or puts it back.
    pub(crate) fn cable(&self, host: &str, there: bool) {
        let way = if there { "up" } else { "down" };
        self.ip("sw", &["link", "set", &format!("to-{host}"), way]);
    }

    /// What comes to `host` comes at this rate from now on, as `tc` has it: `64kbit`.
    pub(crate) fn slow(&self, host: &str, rate: &str) -> Result<String, String> {
        let port = format!("to-{host}");
        let shape = ["root", "tbf", "rate", rate, "burst", "1600", "latency", "400ms"];
        self.tool("sw", &[&["tc", "qdisc", "replace", "dev", &port][..], &shape].concat())
    }

    /// Calls `work` on a thread that stands on `host`: sockets that it makes are that host's, also
    /// when others use them.
    pub(crate) fn inside<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        let name = self.namespace(host);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let namespace = File::open(format!("/run/netns/{name}")).unwrap();
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// A listening socket on `host`.
    pub(crate) fn listen(&self, host: &str, port: u16) -> TcpListener {
        let at = SocketAddr::from((self.address(host), port));
        let socket = self.inside(host, move || std::net::TcpListener::bind(at).unwrap());
        socket.set_nonblocking(true).unwrap();
        TcpListener::from_std(socket).unwrap()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in self.hosts.iter().chain(&["sw"]) {
            let name = self.namespace(host);
            // Those of ours that were left behind: nobody else lives in there.
            let left = ip(&["netns", "pids", &name]).unwrap_or_default();
            for pid in left.lines().filter_map(|line| line.trim().parse().ok()) {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}
