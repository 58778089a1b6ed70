//! HAProxy: one thread, in the foreground.

use std::path::Path;
use std::process::Command;

use super::{Peer, Role, Site};
use crate::trouble::Trouble;

pub(super) const PEER: Peer = Peer {
    name: "haproxy",
    install: "apt-get install haproxy",
    find: |machine, _| machine.program("haproxy"),
    prepare,
    readyz: false,
};

fn prepare(program: &Path, role: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let (mode, options) = match role {
        Role::Http => ("http", "  http-reuse always\n  option forwardfor\n"),
        Role::Dns | Role::DnsViews | Role::Tcp => ("tcp", ""),
    };
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4000\n\
         defaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 300s\n  \
         timeout server 300s\n{options}\
         frontend bench\n  bind {}\n  default_backend origin\n\
         backend origin\n  server origin {}\n",
        site.listen, site.origin
    );
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(site.write("haproxy.cfg", &text)?);
    Ok(command)
}
