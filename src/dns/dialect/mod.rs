//! Naming schemes: which records a service has in a zone.
//!
//! A dialect is a pure function, deterministic to the byte: the zone calls it with the service as
//! it was to take records out, and with the service as it is to put records in. A new dialect is
//! one file here and one line in [`DIALECTS`].

mod consul;
mod plain;

use std::net::IpAddr;
use std::sync::Arc;

use super::node::Data;
use super::settings::ZoneSettings;
use super::wire::Name;
use crate::catalog::model::{Instance, Meta, Service};

/// Every dialect, as `dialect = "…"` names it.
pub const DIALECTS: &[&Dialect] = &[&plain::PLAIN, &consul::CONSUL];

/// Most problems that are told of one service in one zone.
const PROBLEMS_MAX: usize = 16;

/// A naming scheme.
#[derive(Debug)]
pub struct Dialect {
    /// Name in the configuration.
    pub name: &'static str,
    /// Set when names may carry the label of a datacenter below the apex; its usual value.
    pub datacenter: Option<&'static str>,
    /// Set when every address has a name in hexadecimal below this label.
    pub addresses: Option<&'static str>,
    /// Lists the records of one service in one zone. Pure, and the same for the same arguments.
    pub list: fn(&ZoneSettings, &Service, &mut Records),
}

/// The dialect called `name`.
///
/// # Errors
/// Names all dialects, and the nearest one.
pub fn by_name(name: &str) -> Result<&'static Dialect, String> {
    DIALECTS.iter().find(|dialect| dialect.name == name).copied().ok_or_else(|| {
        let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
        let near = names
            .iter()
            .min_by_key(|known| strsim::damerau_levenshtein(known, name))
            .filter(|known| strsim::damerau_levenshtein(known, name) <= 3);
        let near = near.map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
        format!("dialect = {name:?} is unknown; there are {}{near}", names.join(", "))
    })
}

/// What a dialect lists: records by owner, and what could not be listed.
#[derive(Debug, Default)]
pub struct Records {
    /// Records below the apex of the zone.
    pub zone: Vec<(Name, Data)>,
    /// Records below `in-addr.arpa` and `ip6.arpa`.
    pub reverse: Vec<(Name, Data)>,
    /// What was left out and why.
    pub problems: Vec<String>,
}

impl Records {
    /// Puts `data` under `owner`.
    pub fn put(&mut self, owner: &Name, data: Data) {
        self.zone.push((owner.clone(), data));
    }

    /// Puts the address of `instance` under `owner`; a host name only when it stands `alone`.
    ///
    /// A name holds either addresses or one alias (RFC 1034 §3.6.2), so that a host name beside
    /// other instances is left out: they answer, and it is told as a problem.
    pub fn put_address(&mut self, owner: &Name, instance: &Instance, alone: bool) {
        match (instance.address.ip(), alone) {
            (Some(ip), _) => self.put(owner, Data::address(ip)),
            (None, true) => {
                let target = Name::parse(&instance.address.to_string());
                if let Some(target) = self.checked(target) {
                    self.put(owner, Data::Cname(target));
                }
            }
            (None, false) => self.problem(format!(
                "instance {:?} is left out of {owner}: its address {} is a host name, and an \
                 alias cannot stand beside addresses; give it an IP address",
                instance.id, instance.address
            )),
        }
    }

    /// The value, or none and a problem more.
    pub fn checked<T>(&mut self, value: Result<T, String>) -> Option<T> {
        value.map_err(|problem| self.problem(problem)).ok()
    }

    /// Adds one more problem, up to the limit.
    pub fn problem(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Says that `ip` is called `target`.
    pub fn put_reverse(&mut self, ip: IpAddr, target: Name) {
        if let Ok(owner) = reverse_name(ip) {
            self.reverse.push((owner, Data::Ptr(target)));
        }
    }

    /// Puts each entry of `meta` under `owner` as text (RFC 1464).
    pub fn put_meta(&mut self, owner: &Name, meta: &Meta) {
        for (key, value) in meta {
            self.put(owner, Data::text(&format!("{key}={value}")));
        }
    }
}

/// The eligible instances that show in `zone`.
pub(super) fn shown<'a>(zone: &ZoneSettings, service: &'a Service) -> Vec<&'a Arc<Instance>> {
    service.eligible.iter().filter(|instance| zone.shows(&instance.registry)).collect()
}

/// Whether `zone` has to do with `service` at all, be it that nobody is eligible.
pub(super) fn concerns(zone: &ZoneSettings, service: &Service) -> bool {
    service.instances.is_empty()
        || service.instances.iter().any(|instance| zone.shows(&instance.registry))
}

/// The address in hexadecimal: 8 digits, or 32.
pub(super) fn hex(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
        IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
    }
}

/// The name under which `ip` is asked for backwards (RFC 1035 §3.5, RFC 3596 §2.5).
///
/// # Errors
/// Never, in practice: every such name fits.
pub fn reverse_name(ip: IpAddr) -> Result<Name, String> {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            Name::parse(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"))
        }
        IpAddr::V6(ip) => {
            let bits = u128::from(ip);
            let nibbles = (0..32).flat_map(|index| {
                let digit = (bits >> (4 * index)) as u32 & 15;
                [char::from_digit(digit, 16).unwrap_or('0'), '.']
            });
            Name::parse(&(nibbles.collect::<String>() + "ip6.arpa"))
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Services in a line of text, for tables of tests.

    use std::sync::Arc;

    use super::*;
    use crate::catalog::health::{WhenNoneHealthy, eligible};
    use crate::catalog::model::{Address, Health, Node, Port, Presence, Weight};
    use crate::dns::config::DnsConfig;
    use crate::dns::settings::Settings;

    /// An instance from `id address port[,name=port…] [tag,…]`; `-` for none.
    pub(crate) fn instance(text: &str) -> Instance {
        let words: Vec<&str> = text.split_whitespace().collect();
        let list = |index: usize| {
            words.get(index).into_iter().flat_map(|p| p.split(',')).filter(|p| *p != "-")
        };
        let ports = list(2).map(|port| {
            let (name, number) = port.split_once('=').unwrap_or(("", port));
            Port { name: name.into(), number: number.parse().unwrap() }
        });
        Instance {
            id: words[0].into(),
            registry: "test".into(),
            address: Address::parse(words[1]).unwrap(),
            ports: ports.collect(),
            tags: list(3).map(Arc::from).collect(),
            meta: Meta::new(),
            weight: Weight::ONE,
            group: None,
            locality: None,
            node: words.get(4).map(|name| Node {
                name: Arc::from(*name),
                address: Some(Address::parse(words[1]).unwrap()),
                meta: Meta::new(),
            }),
            health: Health::Unknown,
            cause: "".into(),
            presence: Presence::Active,
        }
    }

    /// A service of `instances`.
    pub(crate) fn service_of(name: &str, instances: Vec<Instance>) -> Service {
        let instances: Arc<[Arc<Instance>]> = instances.into_iter().map(Arc::new).collect();
        Service {
            name: name.into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            eligible: eligible(&instances, &Arc::default(), WhenNoneHealthy::None),
            instances,
            problems: Arc::new([]),
        }
    }

    /// A service whose instances are read by [`instance`].
    pub(crate) fn service(name: &str, instances: &[&str]) -> Service {
        service_of(name, instances.iter().map(|text| instance(text)).collect())
    }

    /// Settings from the text of a `[dns]` table.
    pub(crate) fn settings(text: &str) -> Arc<Settings> {
        let config: DnsConfig = toml::from_str(text).unwrap();
        Arc::new(Settings::compile(&config, "edge-1").unwrap())
    }

    /// What the first zone of `settings` lists of `service`, one sorted line per record.
    pub(crate) fn listed(settings: &Settings, service: &Service) -> (Vec<String>, Vec<String>) {
        let zone = &settings.zones[0];
        let mut records = Records::default();
        (zone.dialect.list)(zone, service, &mut records);
        let mut lines: Vec<String> = records
            .zone
            .iter()
            .chain(&records.reverse)
            .map(|(owner, data)| format!("{owner} {data}"))
            .collect();
        lines.sort();
        lines.dedup();
        (lines, records.problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_dialect_is_refused_with_the_nearest() {
        let error = by_name("consol").unwrap_err();
        assert!(error.contains("plain, consul; did you mean \"consul\"?"), "{error}");
        assert_eq!(by_name("consul").unwrap().name, "consul");
    }

    #[test]
    fn addresses_are_spelled_backwards_and_in_hexadecimal() {
        for (ip, reverse, digits) in [
            ("10.0.0.1", "1.0.0.10.in-addr.arpa.", "0a000001"),
            (
                "fd00::12",
                "2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
                "fd000000000000000000000000000012",
            ),
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(reverse_name(ip).unwrap().to_string(), reverse);
            assert_eq!(hex(ip), digits);
        }
    }
}
