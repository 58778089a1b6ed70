//! NSD: one server process; its rate limit off, for it would answer a load generator with silence.

use std::path::Path;
use std::process::Command;

use super::{Peer, Role, Site};
use crate::trouble::Trouble;
use crate::zone::ZONE;

pub(super) const PEER: Peer = Peer {
    name: "nsd",
    install: "apt-get install nsd",
    find: |machine, _| machine.program("nsd"),
    prepare,
    readyz: false,
};

fn prepare(program: &Path, _: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let text = format!(
        "server:\n  ip-address: {ip}@{port}\n  server-count: 1\n  do-ip6: no\n  username: \"\"\n  \
         database: \"\"\n  zonesdir: \"{dir}\"\n  pidfile: \"{dir}/nsd.pid\"\n  \
         xfrdfile: \"{dir}/xfrd.state\"\n  xfrdir: \"{dir}\"\n  \
         zonelistfile: \"{dir}/zone.list\"\n  minimal-responses: yes\n  rrl-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: {ZONE}\n  zonefile: {master}\n",
        ip = site.listen.ip(),
        port = site.listen.port(),
        dir = site.folder(),
        master = site.zone.master.display(),
    );
    let mut command = Command::new(program);
    command.arg("-d").arg("-c").arg(site.write("nsd.conf", &text)?);
    Ok(command)
}
