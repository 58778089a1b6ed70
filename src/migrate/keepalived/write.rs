//! Writes the configuration and the list of instances.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;

use super::super::text::string;
use super::super::{Plan, Text};
use super::Migrated;
use super::check::Check;
use super::note::Notes;
use super::server::{Real, Virtual};
use crate::units::Period;

/// The largest weight of an instance.
const WEIGHT_MAX: u32 = 1000;

pub(super) fn write(found: &[Virtual], mut notes: Notes) -> Migrated {
    let mut text = Text::default();
    text.table(&["node"]);
    text.string("data_dir", "/var/lib/portolan");
    text.table(&["registry", "keepalived", "file"]);
    text.string("path", "services.toml");
    let mut services = String::from("# services.toml: the real servers.\n");
    for one in found {
        one.write(&mut text, &mut services, &mut notes);
    }
    text.table(&["admin"]);
    text.string("listen", "127.0.0.1:8611");
    if found.iter().any(|one| !one.servers.is_empty()) {
        notes.once(
            "Servers see connections from this host's address, not the client's: for HTTP write \
             [listener.NAME.http], which adds X-Forwarded-For.",
        );
    }
    if found.iter().flat_map(|one| &one.servers).any(|real| !real.checks.is_empty()) {
        notes.once(
            "A server that is checked gets work once it has passed, as with `alpha`; one that fails \
             keeps the connections that it has, as with `inhibit_on_failure`.",
        );
    }
    let plan = Plan {
        text: text.finish(),
        differences: notes.differences,
        notices: notes.notices,
        ..Plan::default()
    };
    Migrated { plan, services }
}

/// What a scheduler comes to.
struct Scheduling {
    policy: &'static str,
    hashes: bool,
    weighted: bool,
    /// What differs.
    but: Option<&'static str>,
}

impl Scheduling {
    fn of(scheduler: &str) -> Self {
        let weighted = |policy| Self { policy, hashes: false, weighted: true, but: None };
        match scheduler {
            "rr" => Self { weighted: false, ..weighted("round-robin") },
            "wrr" => weighted("round-robin"),
            "lc" => Self { weighted: false, ..weighted("least-connections") },
            "wlc" => weighted("least-connections"),
            "sed" | "nq" => Self {
                but: Some("least-connections is the nearest to it"),
                ..weighted("least-connections")
            },
            "twos" => weighted("p2c"),
            "sh" | "mh" => Self { hashes: true, ..weighted("maglev") },
            "dh" | "lblc" | "lblcr" => Self {
                hashes: true,
                but: Some(
                    "it is for caches that stand between networks; clients are told by address",
                ),
                ..weighted("maglev")
            },
            "fo" | "ovf" => Self {
                but: Some(
                    "all get work by weight; for one after the other, put the others into a \
                     service of their own and name it as `backup`",
                ),
                ..weighted("round-robin")
            },
            _ => Self {
                but: Some("this scheduler is not known; least-connections is taken"),
                ..weighted("least-connections")
            },
        }
    }
}

impl Virtual {
    fn write(&self, text: &mut Text, services: &mut String, notes: &mut Notes) {
        let title = format!("virtual_server {} ({})", self.title, self.place);
        // No comment may hold them.
        let title = title.replace(char::is_control, " ");
        let mut scheduling =
            Scheduling::of(self.scheduler.as_ref().map_or("wlc", |(_, name)| name));
        if let (Some((place, name)), Some(but)) = (&self.scheduler, scheduling.but) {
            notes.differs(place, format_args!("{name}: {but}"));
        }
        if let (Some((place, _)), true) = (&self.persistence, self.udp) {
            notes.differs(
                place,
                "a client of UDP stays with its server by its address (maglev), without an end",
            );
            scheduling = Scheduling::of("mh");
        }
        if !self.addresses.is_empty() {
            text.table(&["listener", &self.name, if self.udp { "udp" } else { "tcp" }]);
            text.comment(&title);
            let bind: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
            text.list("bind", &bind);
            text.string("service", &self.name);
            if let (Some((_, time)), false) = (&self.persistence, self.udp) {
                text.inline("sticky", &[("source", string(&seconds(*time)))]);
            }
        }
        text.table(&["service", &self.name]);
        if self.addresses.is_empty() {
            text.comment(&title);
        }
        text.string("policy", scheduling.policy);
        if scheduling.hashes {
            text.string("hash_on", "source");
        }
        if let Some(most) = self.most(notes) {
            text.bare("max_connections", most);
        }
        let sorry = format!("{}-sorry", self.name);
        if self.sorry.is_some() {
            text.string("backup", &sorry);
        }
        for check in self.checks(notes) {
            check.write(&self.name, text);
        }
        for (real, weight) in self.servers.iter().zip(self.weights(&scheduling, notes)) {
            instance(services, &self.name, real.address, weight);
        }
        if let Some(address) = self.sorry {
            instance(services, &sorry, address, 1);
        }
    }

    /// The most connections of one server.
    fn most(&self, notes: &mut Notes) -> Option<u32> {
        let all: BTreeSet<Option<u32>> = self.servers.iter().map(|real| real.most).collect();
        let most = self.servers.iter().filter_map(|real| real.most).max();
        if let (2.., Some(most)) = (all.len(), most) {
            let what = format_args!(
                "`uthreshold` differs between servers; max_connections = {most} counts for each"
            );
            notes.differs(&self.place, what);
        }
        most
    }

    /// The checks of the service: those that most servers have. Who has others is noted.
    fn checks(&self, notes: &mut Notes) -> &[Check] {
        let count =
            |real: &Real| self.servers.iter().filter(|other| other.checks == real.checks).count();
        // The first of those that are equally frequent.
        let usual =
            self.servers.iter().rev().max_by_key(|real| (!real.checks.is_empty(), count(real)));
        let usual = usual.map_or(&[][..], |real| &*real.checks);
        for real in self.servers.iter().filter(|real| real.checks != usual) {
            notes.differs(
                &real.place,
                format_args!(
                    "{} is checked otherwise than the others; a service has the same checks for \
                     all its instances: those that most have are written",
                    real.address
                ),
            );
        }
        usual
    }

    /// The weight of each server. A scheduler that goes by none only leaves out those of 0.
    fn weights(&self, scheduling: &Scheduling, notes: &mut Notes) -> Vec<u32> {
        let most = self.servers.iter().map(|real| real.weight).max().unwrap_or(0);
        if !scheduling.weighted {
            if self.servers.iter().any(|real| real.weight > 1 && real.weight != most) {
                notes.differs(
                    &self.place,
                    "its scheduler goes by no weights, so that all are written as 1",
                );
            }
            return self.servers.iter().map(|real| real.weight.min(1)).collect();
        }
        if most <= WEIGHT_MAX {
            return self.servers.iter().map(|real| real.weight).collect();
        }
        notes.differs(
            &self.place,
            format_args!("weights end at {WEIGHT_MAX}; those up to {most} are made smaller"),
        );
        let scaled = |weight: u32| {
            let scaled = u64::from(weight) * u64::from(WEIGHT_MAX) / u64::from(most);
            if weight == 0 { 0 } else { (scaled as u32).max(1) }
        };
        self.servers.iter().map(|real| scaled(real.weight)).collect()
    }
}

/// As keepalived has it, who counts in seconds.
fn seconds(time: std::time::Duration) -> String {
    if time.subsec_nanos() == 0 { format!("{}s", time.as_secs()) } else { Period(time).to_string() }
}

fn instance(services: &mut String, service: &str, address: SocketAddr, weight: u32) {
    // Writing to a string never fails. The names are bare keys.
    let _ = write!(
        services,
        "\n[[service.{service}.instance]]\naddress = \"{}\"\nport = {}\n",
        address.ip(),
        address.port()
    );
    if weight != 1 {
        let _ = writeln!(services, "weight = {weight}");
    }
}
