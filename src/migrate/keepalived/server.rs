//! Virtual servers with their real servers, as they are written.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::addresses::{name, of_group, socket};
use super::check::{self, Check, Times, Whom, number, timer};
use super::lines::Place;
use super::note::Notes;
use super::tree::Statement;

/// `persistence_timeout` without a number.
const PERSISTENCE: Duration = Duration::from_secs(360);

/// A virtual server.
#[derive(Debug)]
pub(super) struct Virtual {
    pub(super) place: Place,
    /// What stands behind the keyword.
    pub(super) title: String,
    /// A name for it that nothing else has.
    pub(super) name: String,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) udp: bool,
    pub(super) scheduler: Option<(Place, String)>,
    /// How long clients stay, and where that is said.
    pub(super) persistence: Option<(Place, Duration)>,
    pub(super) servers: Vec<Real>,
    pub(super) sorry: Option<SocketAddr>,
}

/// A real server.
#[derive(Debug)]
pub(super) struct Real {
    pub(super) place: Place,
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) most: Option<u32>,
    pub(super) checks: Vec<Check>,
}

/// The groups of addresses, by name.
type Groups<'a> = BTreeMap<&'a str, &'a Statement>;

/// Reads all that is said about LVS in `statements`; what concerns keepalived itself is noted.
pub(super) fn read(statements: &[Statement], notes: &mut Notes) -> Vec<Virtual> {
    let groups: Groups<'_> = statements
        .iter()
        .filter(|statement| statement.keyword() == "virtual_server_group")
        .map(|statement| (statement.value(), statement))
        .collect();
    let mut found = Vec::new();
    for statement in statements {
        match statement.keyword() {
            "virtual_server" => found.extend(virtual_server(statement, &groups, notes)),
            "virtual_server_group" | "global_defs" => {}
            "SSL" => notes.differs(
                &statement.place,
                "checks by TLS show no certificate of ours; `check.http` has `tls`",
            ),
            keyword
                if keyword.starts_with("vrrp_")
                    || keyword.starts_with("track_")
                    || keyword.starts_with("static_")
                    || matches!(keyword, "bfd_instance" | "garp_group" | "linkbeat_interfaces") =>
            {
                let title = statement.words.join(" ");
                notes.differs(
                    &statement.place,
                    format_args!(
                        "`{title}` stays with keepalived, which goes on moving the address; \
                         config/ingress/keepalived.conf asks Portolan whether it is ready"
                    ),
                );
            }
            "net_namespace"
            | "net_namespace_ipvs"
            | "namespace_with_ipsets"
            | "instance"
            | "use_pid_dir" => {}
            _ => notes.unknown(statement),
        }
    }
    let mut taken: BTreeMap<(SocketAddr, bool), Place> = BTreeMap::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for one in &mut found {
        one.addresses.retain(|address| {
            let Some(first) = taken.get(&(*address, one.udp)) else {
                taken.insert((*address, one.udp), one.place.clone());
                return true;
            };
            notes
                .differs(&one.place, format_args!("{address} is that of {first}, and stays there"));
            false
        });
        let count = names.entry(one.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            one.name = format!("{}-{count}", one.name);
        }
    }
    found
}

fn virtual_server(
    statement: &Statement,
    groups: &Groups<'_>,
    notes: &mut Notes,
) -> Option<Virtual> {
    let title = statement.rest().join(" ");
    let place = &statement.place;
    let udp = match protocol(statement) {
        "SCTP" => {
            notes.differs(place, "SCTP is not carried; it is left out, and stays with LVS");
            return None;
        }
        protocol => protocol == "UDP",
    };
    let mut addresses = Vec::new();
    match statement.value() {
        "fwmark" => notes.differs(
            place,
            format_args!(
                "which packets bear the mark {} is up to the firewall: state the addresses and \
                 ports as `bind` of a listener",
                statement.words.get(2).map_or("", String::as_str)
            ),
        ),
        "group" => {
            let group = statement.words.get(2).map_or("", String::as_str);
            match groups.get(group) {
                Some(group) => {
                    for line in group.body() {
                        addresses.extend(of_group(line, notes));
                    }
                }
                None => notes.differs(
                    place,
                    format_args!(
                        "there is no virtual_server_group {group:?}: nothing is listened on"
                    ),
                ),
            }
        }
        _ => addresses.extend(socket(statement, &statement.words[1..], notes)),
    }
    let mut one = Virtual {
        place: place.clone(),
        name: name(&title, udp),
        title,
        udp,
        scheduler: None,
        persistence: None,
        servers: Vec::new(),
        sorry: None,
        addresses,
    };
    one.read(statement, notes);
    Some(one)
}

fn protocol(statement: &Statement) -> &str {
    let said = statement.body().iter().rfind(|inner| inner.keyword() == "protocol");
    said.map_or("TCP", Statement::value)
}

impl Virtual {
    fn read(&mut self, statement: &Statement, notes: &mut Notes) {
        let (mut times, mut host, mut reals) = (Times::default(), None, Vec::new());
        for inner in statement.body() {
            if times.take(inner, notes) {
                continue;
            }
            let place = &inner.place;
            match inner.keyword() {
                "real_server" => reals.push(inner),
                "lb_algo" | "lvs_sched" => {
                    self.scheduler = Some((place.clone(), inner.value().to_owned()));
                }
                "lb_kind" | "lvs_method" => match inner.value() {
                    "NAT" => {}
                    _ => notes.once(
                        "Answers go back through Portolan, also where LVS let servers answer \
                         directly (DR, TUN): take the virtual address off their `lo` once it is \
                         here",
                    ),
                },
                "protocol"
                | "alpha"
                | "omega"
                | "ha_suspend"
                | "snmp_name"
                | "ip_family"
                | "hysteresis"
                | "sorry_server_inhibit"
                | "sorry_server_lvs_method"
                | "inhibit_on_failure" => {}
                "persistence_timeout" => {
                    let time =
                        if inner.words.len() > 1 { timer(inner, notes) } else { Some(PERSISTENCE) };
                    // Ours is at least a second; 0 means none to keepalived.
                    self.persistence = time
                        .filter(|time| *time >= Duration::from_secs(1))
                        .map(|time| (place.clone(), time));
                }
                "persistence_granularity" => {
                    if !matches!(inner.value(), "255.255.255.255" | "128" | "32") {
                        notes.differs(
                            place,
                            "clients are told apart by their whole address, not by network",
                        );
                    }
                }
                "persistence_engine" => {
                    notes.differs(place, "there is none for SIP; clients are told by address");
                }
                "virtualhost" => host = Some(inner.value()),
                "quorum" => {
                    if !matches!(inner.value(), "1" | "") {
                        notes.differs(
                            place,
                            "`backup` takes over when no server is healthy, not below a quorum",
                        );
                    }
                }
                "quorum_up" | "quorum_down" | "notify_up" | "notify_down" => events(place, notes),
                "smtp_alert" => mail(place, notes),
                "sorry_server" => self.sorry = self.other(inner, notes),
                "flag-1" | "flag-2" | "flag-3" | "sh-port" | "sh-fallback" | "mh-port"
                | "mh-fallback" => notes.idle(
                    place,
                    "clients are told apart by address, and one whose server fails goes to another",
                ),
                "ops" => notes.differs(place, "datagrams of one client stay with one server"),
                _ => notes.unknown(inner),
            }
        }
        for real in reals {
            let Some(server) = self.real(real, &times, host, notes) else { continue };
            if self.servers.iter().any(|other| other.address == server.address) {
                let twice = format_args!("{} is there twice; the first one counts", server.address);
                notes.differs(&server.place, twice);
            } else {
                self.servers.push(server);
            }
        }
        if self.servers.is_empty() {
            notes.differs(&self.place, "it has no real server");
        }
    }

    /// The port of the clients, where all addresses have the same.
    fn port(&self) -> Option<u16> {
        let port = self.addresses.first()?.port();
        self.addresses.iter().all(|address| address.port() == port).then_some(port)
    }

    /// `IP [PORT]` of somebody behind it; without a port that of the clients counts.
    fn other(&self, statement: &Statement, notes: &mut Notes) -> Option<SocketAddr> {
        let port = match statement.words.get(2).map(String::as_str) {
            None | Some("0") => self.port(),
            Some(port) => port.parse().ok(),
        };
        let address = statement.value().parse().ok();
        let found = address.zip(port.filter(|port| *port > 0));
        if found.is_none() {
            let said = statement.rest().join(" ");
            notes.differs(
                &statement.place,
                format_args!("{said:?} is no address with a port; it is left out"),
            );
        }
        found.map(|(address, port): (IpAddr, u16)| SocketAddr::new(address, port))
    }

    fn real(
        &self,
        statement: &Statement,
        outer: &Times,
        host: Option<&str>,
        notes: &mut Notes,
    ) -> Option<Real> {
        let address = self.other(statement, notes)?;
        let (mut times, mut host, mut checkers) = (Times::default(), host, Vec::new());
        let mut real = Real {
            place: statement.place.clone(),
            address,
            weight: 1,
            most: None,
            checks: Vec::new(),
        };
        for inner in statement.body() {
            if times.take(inner, notes) {
                continue;
            }
            match inner.keyword() {
                "weight" => real.weight = number(inner, notes).unwrap_or(1),
                "uthreshold" => real.most = number(inner, notes).filter(|most| *most > 0),
                "lthreshold" => notes.differs(
                    &inner.place,
                    "a server is free again as soon as it has less than max_connections",
                ),
                "virtualhost" => host = Some(inner.value()),
                "notify_up" | "notify_down" => events(&inner.place, notes),
                "smtp_alert" => mail(&inner.place, notes),
                "inhibit_on_failure" | "lvs_method" | "lb_kind" | "alpha" | "snmp_name" => {}
                keyword if keyword.ends_with("_CHECK") || keyword.ends_with("_GET") => {
                    checkers.push(inner);
                }
                _ => notes.unknown(inner),
            }
        }
        let times = times.or(outer);
        let whom =
            Whom { address: address.ip(), port: address.port(), times: &times, virtualhost: host };
        for checker in checkers {
            let Some(check) = check::read(checker, whom, notes) else { continue };
            if real.checks.iter().any(|other| other.name() == check.name()) {
                notes.differs(
                    &checker.place,
                    format_args!(
                        "a service has one check.{}; let one stand for both, or write a check.exec",
                        check.name()
                    ),
                );
            } else {
                real.checks.push(check);
            }
        }
        Some(real)
    }
}

fn events(place: &Place, notes: &mut Notes) {
    notes.differs(
        place,
        "nothing is run when a server comes or goes; `[service.NAME] on_failure` has a command and \
         a webhook for those that fail",
    );
}

fn mail(place: &Place, notes: &mut Notes) {
    notes.idle(place, "no mail is sent; alert on portolan_service_instances");
}
