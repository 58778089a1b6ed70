//! HAProxy: one thread, in the foreground. With routes its log goes to standard output, for it
//! writes no files, and its counters are always on.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::{Peer, Role, Site};
use crate::fleet::{self, CANARY, CONDITION, MIDDLE};
use crate::tls;
use crate::trouble::{Doing, Trouble};

pub(super) const PEER: Peer = Peer {
    name: "haproxy",
    install: "apt-get install haproxy",
    find: |machine, _| machine.program("haproxy"),
    prepare,
    readyz: false,
};

fn prepare(program: &Path, role: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let (mode, options) = match role {
        Role::Http | Role::Https => ("http", HTTP.to_owned()),
        Role::HttpRouted => {
            ("http", format!("{HTTP}  log stdout format raw local0\n  option httplog\n"))
        }
        Role::Dns | Role::DnsViews | Role::Tcp | Role::Udp => ("tcp", String::new()),
        Role::TcpBulk => ("tcp", SPLICE.to_owned()),
    };
    let secure = match role {
        Role::Https => {
            let pair = tls::pair().doing(|| "make a key".into())?;
            let path = site.write("pair.pem", &format!("{}{}", pair.cert, pair.key))?;
            format!(" ssl crt {} alpn h2,http/1.1", path.display())
        }
        _ => String::new(),
    };
    let ways = match role {
        Role::HttpRouted => routed(site),
        _ => format!("  default_backend origin\nbackend origin\n  server origin {}\n", site.origin),
    };
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4000\n\
         defaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 300s\n  \
         timeout server 300s\n{options}\
         frontend bench\n  bind {}{secure}\n{ways}",
        site.listen
    );
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(site.write("haproxy.cfg", &text)?);
    Ok(command)
}

/// Both directions, from the first byte on.
const SPLICE: &str = "  option splice-request\n  option splice-response\n";
const HTTP: &str = "  http-reuse always\n  option forwardfor\n";

/// The rules of the frontend, and the backends.
fn routed(site: &Site<'_>) -> String {
    let mut text = String::new();
    let (header, value) = CONDITION;
    let condition = format!(" {{ req.hdr({header}) -m str {value} }}");
    let ways = (0..fleet::SERVICES).map(|service| (service, service, ""));
    for (asked, service, condition) in [(MIDDLE, CANARY, &*condition)].into_iter().chain(ways) {
        let _ = writeln!(
            text,
            "  use_backend {} if {{ req.hdr(host) -i {} }} {{ path_beg {}/ }}{condition}",
            fleet::name(service),
            fleet::host(asked),
            fleet::prefix(asked)
        );
    }
    for service in 0..fleet::SERVICES {
        let _ = writeln!(text, "backend {}", fleet::name(service));
        for (nth, instance) in fleet::instances(service, site.origin.port()).enumerate() {
            let _ = writeln!(text, "  server s{nth} {instance}");
        }
    }
    text
}
