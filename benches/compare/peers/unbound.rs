//! Unbound: a resolver that serves the zone itself, one thread.

use std::path::Path;
use std::process::Command;

use super::{Peer, Role, Site};
use crate::trouble::Trouble;
use crate::zone::ZONE;

pub(super) const PEER: Peer = Peer {
    name: "unbound",
    install: "apt-get install unbound",
    find: |machine, _| machine.program("unbound"),
    prepare,
    readyz: false,
};

fn prepare(program: &Path, _: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    // By default it denies everything below `test.` itself (RFC 6761 §6.2).
    let text = format!(
        "server:\n  interface: {ip}@{port}\n  num-threads: 1\n  do-ip6: no\n  do-daemonize: no\n  \
         chroot: \"\"\n  username: \"\"\n  directory: \"{dir}\"\n  pidfile: \"\"\n  \
         use-syslog: no\n  logfile: \"\"\n  module-config: \"iterator\"\n  \
         minimal-responses: yes\n  access-control: 127.0.0.0/8 allow\n  \
         local-zone: \"test.\" nodefault\n\
         remote-control:\n  control-enable: no\n\
         auth-zone:\n  name: \"{ZONE}.\"\n  zonefile: \"{master}\"\n  for-downstream: yes\n  \
         for-upstream: no\n  fallback-enabled: no\n",
        ip = site.listen.ip(),
        port = site.listen.port(),
        dir = site.folder(),
        master = site.zone.master.display(),
    );
    let mut command = Command::new(program);
    command.arg("-d").arg("-c").arg(site.write("unbound.conf", &text)?);
    Ok(command)
}
