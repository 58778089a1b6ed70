//! Knot DNS: one UDP worker.

use std::path::Path;
use std::process::Command;

use super::{Peer, Role, Site};
use crate::trouble::Trouble;
use crate::zone::ZONE;

pub(super) const PEER: Peer = Peer {
    name: "knot",
    install: "apt-get install knot",
    find: |machine, _| machine.program("knotd"),
    prepare,
    readyz: false,
};

fn prepare(program: &Path, _: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let text = format!(
        "server:\n    listen: {ip}@{port}\n    rundir: {dir}\n    udp-workers: 1\n    \
         tcp-workers: 1\n    background-workers: 1\n\
         log:\n  - target: stderr\n    any: warning\n\
         database:\n    storage: {dir}\n\
         template:\n  - id: default\n    storage: {dir}\n    journal-content: none\n    \
         zonefile-sync: -1\n\
         zone:\n  - domain: {ZONE}\n    file: {master}\n",
        ip = site.listen.ip(),
        port = site.listen.port(),
        dir = site.folder(),
        master = site.zone.master.display(),
    );
    let mut command = Command::new(program);
    command.arg("-c").arg(site.write("knot.conf", &text)?);
    Ok(command)
}
