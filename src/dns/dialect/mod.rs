//! Naming schemes: which records a service has in a zone.
//!
//! A dialect is a pure function, deterministic to the byte: the zone calls it with the service as
//! it was to take records out, and with the service as it is to put records in. A new dialect is
//! one file here and one line in [`DIALECTS`].

mod consul;
mod kubernetes;
pub mod mesos;
mod plain;
mod rancher;
mod records;
mod skydns;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::labels::Labels;
use super::set::Rules;
use super::wire::Name;
use super::zone_settings::ZoneSettings;
use crate::catalog::model::{Instance, Service};
pub use records::{Alike, Records};

/// Every dialect, as `dialect = "…"` names it.
pub const DIALECTS: &[&Dialect] = &[
    &plain::PLAIN,
    &consul::CONSUL,
    &mesos::MESOS,
    &rancher::RANCHER,
    &kubernetes::KUBERNETES,
    &skydns::SKYDNS,
];

/// What a star in a question means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stars {
    /// Nothing: it is a label like others.
    Plain,
    /// It is left out of the name.
    Dropped,
    /// It stands for one label, and `any` does too; the names with stars are listed.
    Match,
}

/// What services belong to, in dialects whose names say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belonging {
    /// An environment, as in `rancher`.
    Environment,
    /// A namespace, as in `kubernetes`.
    Namespace,
    /// A framework, as in `mesos`.
    Framework,
}

/// A naming scheme.
#[derive(Debug)]
pub struct Dialect {
    /// Name in the configuration.
    pub name: &'static str,
    /// Set when names may carry the label of a datacenter below the apex; its usual value.
    pub datacenter: Option<&'static str>,
    /// Set when every address has a name in hexadecimal below this label.
    pub addresses: Option<&'static str>,
    /// TTL of records where the configuration says none, in seconds.
    pub ttl: u32,
    /// TTL of negative answers where the configuration says none, in seconds.
    pub negative_ttl: u32,
    /// Other domains of a zone where the configuration says none.
    pub alternatives: &'static [&'static str],
    /// Set when services belong to something; what a service belongs to that does not tell.
    pub belongs: Option<(Belonging, &'static str)>,
    /// Whether clients have names of their own, by their address or an identity in the question.
    pub scopes: bool,
    /// What a star in a question means.
    pub stars: Stars,
    /// How the records of a name are compiled.
    pub rules: Rules,
    /// Lists the records of a zone that need no service. Pure.
    pub own: fn(&ZoneSettings, &[SocketAddr], &mut Records),
    /// Lists the records of one service in one zone. Pure, and the same for the same arguments.
    pub list: fn(&ZoneSettings, &Service, &mut Records),
}

impl Dialect {
    /// The dialect called `name` that lists the records of a service by `list`, and has nothing
    /// else out of the ordinary. Answers are not kept, negative ones for five seconds.
    #[must_use]
    pub const fn new(name: &'static str, list: fn(&ZoneSettings, &Service, &mut Records)) -> Self {
        Self {
            name,
            datacenter: None,
            addresses: None,
            ttl: 0,
            negative_ttl: 5,
            alternatives: &[],
            belongs: None,
            scopes: false,
            stars: Stars::Plain,
            rules: Rules { hundred: None, groups: false },
            own: |_, _, _| {},
            list,
        }
    }

    /// Whether the dialect adds the domain `apex` of itself.
    pub(super) fn is_usual(&self, apex: &Name) -> bool {
        self.alternatives.iter().any(|usual| Name::parse(usual).is_ok_and(|usual| usual == *apex))
    }
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

/// The eligible instances that show in `zone`.
pub(super) fn shown<'a>(zone: &ZoneSettings, service: &'a Service) -> Vec<&'a Arc<Instance>> {
    service.eligible.iter().filter(|instance| zone.shows(&instance.registry)).collect()
}

/// Whether `zone` has to do with `service` at all, be it that nobody is eligible.
pub(super) fn concerns(zone: &ZoneSettings, service: &Service) -> bool {
    service.instances.is_empty()
        || service.instances.iter().any(|instance| zone.shows(&instance.registry))
}

/// The fact `key` of the service, or else of the first of its instances that tells it.
pub(super) fn meta<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    let of_instances = || service.instances.iter().find_map(|instance| instance.meta.get(key));
    service.meta.get(key).or_else(of_instances).map(|told| &**told)
}

/// Whether `text` may be a label of a host name (RFC 1123 §2.1, and `_` inside as many use it).
pub(super) fn is_host_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !text.starts_with(['-', '_'])
        && !text.ends_with('-')
}

/// The address with dashes, as one label: `10-0-0-1`.
pub(super) fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
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
    let mut labels = Labels::upon(&Name::root());
    labels.prepend("arpa")?;
    match ip {
        IpAddr::V4(ip) => {
            labels.prepend("in-addr")?;
            for octet in ip.octets() {
                let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                let first = if octet < 10 { 2 } else { usize::from(octet < 100) };
                labels.prepend(std::str::from_utf8(&digits[first..]).unwrap_or_default())?;
            }
        }
        IpAddr::V6(ip) => {
            labels.prepend("ip6")?;
            for octet in ip.octets() {
                for digit in [octet >> 4, octet & 15] {
                    let digit = char::from_digit(digit.into(), 16).unwrap_or('0');
                    labels.prepend(digit.encode_utf8(&mut [0; 4]))?;
                }
            }
        }
    }
    Ok(labels.name())
}

#[cfg(test)]
pub(crate) mod testing {
    //! Services in a line of text, for tables of tests.

    use std::sync::Arc;

    use super::*;
    use crate::catalog::health::{WhenNoneHealthy, eligible};
    use crate::catalog::model::{Address, Health, Meta, Node, Port, Presence, Weight};
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
        let records = settings.zones[0].list(service);
        let beside = records.reverse.iter().chain(&records.views);
        let mut lines: Vec<String> = records
            .in_zone()
            .chain(beside.map(|(owner, record)| (owner, record)))
            .map(|(owner, record)| format!("{owner} {}", record.data))
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
        assert!(
            error.contains(
                "plain, consul, mesos, rancher, kubernetes, skydns; did you mean \"consul\"?"
            ),
            "{error}"
        );
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
