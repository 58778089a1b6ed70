//! Portolan itself, from the same file registry that its users have.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::{Peer, Role, SERVICES, Site};
use crate::fleet::{self, CANARY, CONDITION, MIDDLE};
use crate::trouble::Trouble;
use crate::zone::{TTL, ZONE};

pub(super) const PEER: Peer = Peer {
    name: super::PORTOLAN,
    install: "cargo build --release",
    find: |machine, _| machine.portolan.is_file().then(|| machine.portolan.clone()),
    prepare,
    readyz: true,
};

fn prepare(program: &Path, role: Role, site: &Site<'_>) -> Result<Command, Trouble> {
    let Site { listen, admin, origin, .. } = site;
    let services = match role {
        Role::Dns | Role::DnsViews => site.zone.services.clone(),
        Role::HttpRouted => site.write(SERVICES, &fleet::services(origin.port(), |_| 0))?,
        Role::Http | Role::Https | Role::Tcp | Role::TcpBulk | Role::Udp => site.write(
            SERVICES,
            &format!(
                "[[service.origin.instance]]\naddress = \"{}\"\nport = {}\n",
                origin.ip(),
                origin.port()
            ),
        )?,
    };
    let face = match role {
        Role::Dns | Role::DnsViews => format!(
            "[dns]\nlisten = [\"{listen}\"]\nexpress_workers = 1\n\
             [registry.changing.file]\npath = \"{}\"\n\
             [dns.zone.\"{ZONE}\"]\ndialect = \"plain\"\nttl = \"{TTL}s\"\n{}",
            site.zone.changing.display(),
            if role == Role::DnsViews { views() } else { String::new() },
        ),
        Role::Http => format!(
            "[listener.bench.http]\nbind = [\"{listen}\"]\n\
             [route.all]\nlistener = \"bench\"\npath = \"/\"\nservice = \"origin\"\n"
        ),
        Role::Https => {
            let [cert, key] = site.write_pair()?;
            format!(
                "[certificate.bench]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n\
                 [listener.bench.https]\nbind = [\"{listen}\"]\ncertificates = [\"bench\"]\n\
                 [route.all]\nlistener = \"bench\"\npath = \"/\"\nservice = \"origin\"\n"
            )
        }
        Role::HttpRouted => format!(
            "[access_log]\nto = \"{}\"\n[listener.bench.http]\nbind = [\"{listen}\"]\n{}",
            site.access_log(),
            routes(),
        ),
        Role::Tcp | Role::TcpBulk => {
            format!("[listener.bench.tcp]\nbind = [\"{listen}\"]\nservice = \"origin\"\n")
        }
        Role::Udp => {
            format!("[listener.bench.udp]\nbind = [\"{listen}\"]\nservice = \"origin\"\n")
        }
    };
    let text = format!(
        "[node]\nname = \"bench\"\nworkers = 1\ndata_dir = \"{}\"\n\
         [registry.bench.file]\npath = \"{}\"\n\
         [admin]\nlisten = \"{admin}\"\n{face}",
        site.dir.join("data").display(),
        services.display(),
    );
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(site.write("portolan.toml", &text)?);
    Ok(command)
}

/// A route for each service, and the one with a condition.
fn routes() -> String {
    let mut text = String::new();
    for service in 0..fleet::SERVICES {
        text.push_str(&route(&fleet::name(service), service, service));
    }
    let (header, value) = CONDITION;
    text.push_str(&route("condition", MIDDLE, CANARY));
    let _ = writeln!(text, "headers = {{ {header} = \"{value}\" }}");
    text
}

/// The route called `name` by host and path of `asked` to `service`.
fn route(name: &str, asked: u32, service: u32) -> String {
    format!(
        "[route.{name}]\nlistener = \"bench\"\nhost = \"{}\"\npath = \"{}\"\nservice = \"{}\"\n",
        fleet::host(asked),
        fleet::prefix(asked),
        fleet::name(service)
    )
}

/// Views of so many clients, each with a name of its own; the first is the load generator's.
fn views() -> String {
    const VIEWS: u32 = 1_000;
    let mut text = String::new();
    for number in 0..VIEWS {
        let client = match number {
            0 => "127.0.0.1".to_owned(),
            _ => format!("10.77.{}.{}", number / 250, number % 250),
        };
        let _ = writeln!(
            text,
            "[dns.view.v{number}]\nnetworks = [\"{client}/32\"]\n\
             records = {{ \"own-{number}.{ZONE}\" = [\"A 10.78.{}.{}\"] }}",
            number / 250,
            number % 250
        );
    }
    text
}
