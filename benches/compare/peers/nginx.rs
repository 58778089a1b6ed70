//! nginx: one worker process; for TCP with its stream module.

use std::path::Path;
use std::process::Command;

use super::{Peer, Role, Site};
use crate::trouble::Trouble;

/// Where Debian's libnginx-mod-stream puts the module.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) const PEER: Peer = Peer {
    name: "nginx",
    install: "apt-get install nginx libnginx-mod-stream",
    find: |machine, role| {
        let complete = role != Role::Tcp || Path::new(STREAM).is_file();
        machine.program("nginx").filter(|_| complete)
    },
    prepare,
    readyz: false,
};

fn prepare(program: &Path, role: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let Site { listen, origin, .. } = site;
    let dir = site.folder();
    // Started by root it would give its worker another user, who can't enter the folder.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    // Without a high number of requests per connection it would close each after 1,000.
    let face = match role {
        Role::Http => format!(
            "http {{\n  access_log off;\n  client_body_temp_path {dir}/body;\n  \
             proxy_temp_path {dir}/proxy;\n  fastcgi_temp_path {dir}/fastcgi;\n  \
             uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n  \
             upstream origin {{ server {origin}; keepalive 64; keepalive_requests 100000000; }}\n  \
             server {{\n    listen {listen};\n    keepalive_requests 100000000;\n    \
             keepalive_timeout 300s;\n    location / {{\n      proxy_pass http://origin;\n      \
             proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
             proxy_set_header Host $host;\n      \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n"
        ),
        Role::Dns | Role::DnsViews | Role::Tcp => {
            format!("stream {{ server {{ listen {listen}; proxy_pass {origin}; }} }}\n")
        }
    };
    let module = if role == Role::Tcp { format!("load_module {STREAM};\n") } else { String::new() };
    let text = format!(
        "{module}{user}daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\n\
         error_log stderr warn;\nevents {{ worker_connections 4096; }}\n{face}"
    );
    let config = site.write("nginx.conf", &text)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(site.dir).arg("-c").arg(config).args(["-e", "stderr"]);
    Ok(command)
}
