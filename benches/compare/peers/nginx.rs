//! nginx: one worker process; for TCP with its stream module.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::{Peer, Role, Site};
use crate::fleet::{self, CANARY, CONDITION, HOSTS, MIDDLE};
use crate::trouble::Trouble;

/// Where Debian's libnginx-mod-stream puts the module.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) const PEER: Peer = Peer {
    name: "nginx",
    install: "apt-get install nginx libnginx-mod-stream",
    find: |machine, role| {
        let complete = !is_stream(role) || Path::new(STREAM).is_file();
        machine.program("nginx").filter(|_| complete)
    },
    prepare,
    readyz: false,
};

/// Whether the stream module is needed.
fn prepare(program: &Path, role: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let Site { listen, origin, .. } = site;
    let dir = site.folder();
    // Started by root it would give its worker another user, who can't enter the folder.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let (h2, secure) = match role {
        Role::Https => {
            let [cert, key] = site.write_pair()?;
            let secure = format!(
                "  ssl_certificate {cert};\n  ssl_certificate_key {key};\n  \
                 ssl_protocols TLSv1.2 TLSv1.3;\n"
            );
            (" ssl http2", secure)
        }
        _ => ("", String::new()),
    };
    let face = match role {
        Role::Http | Role::Https => format!(
            "http {{\n  access_log off;\n{}{secure}  \
             upstream origin {{ server {origin}; {KEPT} }}\n  \
             server {{\n    listen {listen}{h2};\n{SERVER}    \
             location / {{ proxy_pass http://origin; }}\n  }}\n}}\n",
            folders(&dir)
        ),
        Role::HttpRouted => routed(site),
        Role::Dns | Role::DnsViews | Role::Tcp | Role::TcpBulk => {
            format!("stream {{ server {{ listen {listen}; proxy_pass {origin}; }} }}\n")
        }
        Role::Udp => {
            format!("stream {{ server {{ listen {listen} udp; proxy_pass {origin}; }} }}\n")
        }
    };
    let module = if is_stream(role) { format!("load_module {STREAM};\n") } else { String::new() };
    let text = format!(
        "{module}{user}daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\n\
         error_log stderr warn;\nevents {{ worker_connections 4096; }}\n{face}"
    );
    let config = site.write("nginx.conf", &text)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(site.dir).arg("-c").arg(config).args(["-e", "stderr"]);
    Ok(command)
}

const fn is_stream(role: Role) -> bool {
    matches!(role, Role::Tcp | Role::TcpBulk | Role::Udp)
}

/// Without a high number of requests per connection it would close each after 1,000.
const KEPT: &str = "keepalive 64; keepalive_requests 100000000;";
/// What each of its servers says.
const SERVER: &str = "    keepalive_requests 100000000;\n    keepalive_timeout 300s;\n    \
    proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    \
    proxy_set_header Host $host;\n    \
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n";

fn folders(dir: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("  {kind}_temp_path {dir}/{kind};\n")).concat()
}

/// Servers by host, locations by path; the log in JSON, gathered before it is written as in
/// Portolan and Envoy. Of metrics it has none by route.
fn routed(site: &Site<'_>) -> String {
    let (header, value) = CONDITION;
    let mut text = format!(
        "http {{\n{}  log_format bench escape=json '{{\"time\":\"$time_iso8601\",\
         \"client\":\"$remote_addr\",\"method\":\"$request_method\",\"host\":\"$host\",\
         \"path\":\"$request_uri\",\"protocol\":\"$server_protocol\",\"status\":$status,\
         \"bytes_in\":$request_length,\"bytes_out\":$body_bytes_sent,\
         \"duration\":$request_time,\"first_byte\":\"$upstream_header_time\",\
         \"service\":\"$proxy_host\",\"endpoint\":\"$upstream_addr\"}}';\n  \
         access_log {} bench buffer=64k flush=1s;\n  \
         map $http_{} $middle {{ {value} {}; default {}; }}\n",
        folders(&site.folder()),
        site.access_log(),
        header.replace('-', "_"),
        fleet::name(CANARY),
        fleet::name(MIDDLE),
    );
    for service in 0..fleet::SERVICES {
        let _ = write!(text, "  upstream {} {{ ", fleet::name(service));
        for instance in fleet::instances(service, site.origin.port()) {
            let _ = write!(text, "server {instance}; ");
        }
        let _ = writeln!(text, "{KEPT} }}");
    }
    let each = fleet::SERVICES / HOSTS;
    for first in (0..fleet::SERVICES).step_by(each as usize) {
        let _ = writeln!(
            text,
            "  server {{\n    listen {};\n    server_name {};\n{SERVER}",
            site.listen,
            fleet::host(first)
        );
        for service in first..first + each {
            let to = if service == MIDDLE { "$middle".into() } else { fleet::name(service) };
            let prefix = fleet::prefix(service);
            let _ = writeln!(text, "    location {prefix}/ {{ proxy_pass http://{to}; }}");
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}
