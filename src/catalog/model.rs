//! The words of the house as types: service, instance, address, port, weight, health.
//!
//! Values are parsed here, at the edge; inside there is no string that could still be wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shards::Shards;

/// Longest name of a service, id, tag, port, node or locality, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest value of a meta entry, in bytes.
pub const META_VALUE_MAX: usize = 4096;

/// Free-form facts about a service or an instance, by key.
pub type Meta = BTreeMap<Arc<str>, Arc<str>>;

/// A name without spaces and control characters, 1 to [`NAME_MAX`] bytes.
///
/// # Errors
/// Says which `what` is wrong, with the value and the rule that it breaks.
pub fn parse_name(what: &str, name: &str) -> Result<Arc<str>, String> {
    if name.is_empty() {
        return Err(format!("{what} is empty; give it at least one character"));
    }
    if name.len() > NAME_MAX {
        return Err(format!(
            "{what} of {} bytes is too long; the longest is {NAME_MAX} bytes",
            name.len()
        ));
    }
    if let Some(found) = name.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "{what} {name:?} contains {found:?}; use letters, digits, '-', '_' or '.' instead"
        ));
    }
    Ok(Arc::from(name))
}

/// Text that may hold spaces but no control character, for tags and meta values.
///
/// # Errors
/// Names `what`, the value and the character that is refused.
pub fn parse_text(what: &str, text: &str, max: usize) -> Result<Arc<str>, String> {
    if text.len() > max {
        return Err(format!("{what} of {} bytes is too long; the longest is {max}", text.len()));
    }
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        return Err(format!("{what} {text:?} contains the control character {found:?}"));
    }
    Ok(Arc::from(text))
}

/// The share of work that an instance wants beside its siblings, 0 (none) to [`Weight::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(u16);

impl Weight {
    /// The largest weight; what is above it is refused, never clamped in silence.
    pub const MAX: u16 = 1000;
    /// No new work.
    pub const NONE: Self = Self(0);
    /// The weight of an instance that states none.
    pub const ONE: Self = Self(1);

    /// The number, 0 to [`Weight::MAX`].
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl TryFrom<i64> for Weight {
    type Error = String;

    fn try_from(raw: i64) -> Result<Self, String> {
        u16::try_from(raw)
            .ok()
            .filter(|weight| *weight <= Self::MAX)
            .map(Self)
            .ok_or_else(|| format!("weight {raw} is not between 0 (no new work) and {}", Self::MAX))
    }
}

/// A port number, 1 to 65535.
///
/// # Errors
/// Names the value and the range.
pub fn parse_port(raw: i64) -> Result<u16, String> {
    u16::try_from(raw)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("port {raw} is not between 1 and 65535"))
}

/// Where an instance is reached: an address, or a name that somebody else resolves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Address {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A host name in lower case, without a dot at its end.
    Name(Arc<str>),
}

impl Address {
    /// Reads an address, or else a host name of labels of 1 to 63 letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// Names the value and what an address looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A last label of digits only is a mistyped address, never a host (RFC 1123 §2.1).
        let digits_last =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > 253 || digits_last || !name.split('.').all(label) {
            return Err(format!(
                "address {text:?} is neither an IP address such as \"10.0.0.1\" nor a host name"
            ));
        }
        Ok(Self::Name(Arc::from(name.to_ascii_lowercase())))
    }

    /// The IP address, when it is one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// What is known about the health of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nobody checks it: it is trusted because its registry lists it.
    #[default]
    Unknown,
    /// Its checks pass.
    Healthy,
    /// Its checks warn: it serves, and somebody should look.
    Warning,
    /// Its checks fail: it gets no work.
    Unhealthy,
}

impl Health {
    /// Whether an instance of this health may get work.
    #[must_use]
    pub const fn serves(self) -> bool {
        !matches!(self, Self::Unhealthy)
    }

    /// How bad it is: the worse, the larger; nobody's word is the least.
    #[must_use]
    pub const fn severity(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Healthy => 1,
            Self::Warning => 2,
            Self::Unhealthy => 3,
        }
    }

    /// Lower-case word, as metrics and status write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// Whether an instance stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It stays.
    #[default]
    Active,
    /// An operator empties it: its own clients stay, no new ones come.
    Draining,
    /// It is being killed: nothing new, stickiness broken.
    Leaving,
}

/// The machine that an instance runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the node.
    pub name: Arc<str>,
    /// Its own address, when the registry tells one.
    pub address: Option<Address>,
    /// What the registry says about it.
    #[serde(default)]
    pub meta: Meta,
}

/// Nodes by name, as far as a registry lists them.
pub type Nodes = Shards<Arc<str>, Node>;

/// A port of an instance. The only port of an instance may have no name: `""`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name, or `""`.
    pub name: Arc<str>,
    /// Number, 1 to 65535.
    pub number: u16,
}

/// One registered process of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Identity within its registry and service; by default `address:port`.
    pub id: Arc<str>,
    /// Name of the registry that told of it.
    pub registry: Arc<str>,
    /// Where it is reached.
    pub address: Address,
    /// Ports; the first is the one of whoever names none. They stand in the order of their names,
    /// unless their registry has an order of its own. None for a service without ports.
    pub ports: Arc<[Port]>,
    /// Its own tags and those of the service, without duplicates, in the order given.
    pub tags: Arc<[Arc<str>]>,
    /// Facts about it.
    pub meta: Meta,
    /// Share of work.
    pub weight: Weight,
    /// Group that it belongs to, for dialects that know groups.
    pub group: Option<Arc<str>>,
    /// Where it is, for near picks.
    pub locality: Option<Arc<str>>,
    /// The machine below it.
    pub node: Option<Node>,
    /// Health as decided before the snapshot.
    pub health: Health,
    /// Who said so and why; empty when nobody did.
    pub cause: Arc<str>,
    /// Whether it stays.
    pub presence: Presence,
}

impl Instance {
    /// An instance of which nothing else is known: no port, tag or fact; weight one; it is trusted
    /// and stays.
    #[must_use]
    pub fn bare(registry: &str, id: &str, address: Address) -> Self {
        Self {
            id: id.into(),
            registry: registry.into(),
            address,
            ports: Arc::new([]),
            tags: Arc::new([]),
            meta: Meta::new(),
            weight: Weight::ONE,
            group: None,
            locality: None,
            node: None,
            health: Health::Unknown,
            cause: Arc::from(""),
            presence: Presence::Active,
        }
    }

    /// The port called `name`; for `""` the unnamed one, else the only one, else the first.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<u16> {
        let named = self.ports.iter().find(|port| &*port.name == name);
        let port = if name.is_empty() { named.or_else(|| self.ports.first()) } else { named };
        port.map(|port| port.number)
    }

    /// Address and port called `name`, when the address is an IP address.
    #[must_use]
    pub fn socket(&self, name: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address.ip()?, self.port(name)?))
    }

    /// Whether it bears `tag`, letter case included.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| &**own == tag)
    }
}

/// The instances of one name, united over all registries, with the decision who is eligible.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Name, as the registries spell it.
    pub name: Arc<str>,
    /// Tags of the service and of all its instances, sorted.
    pub tags: Arc<[Arc<str>]>,
    /// Meta of the service, from the registry of the highest priority that has some.
    pub meta: Arc<Meta>,
    /// All instances, by registry priority (highest first), then by id.
    pub instances: Arc<[Arc<Instance>]>,
    /// Who gets work: the same set for DNS, proxy and files, in the order of `instances`.
    pub eligible: Arc<[Arc<Instance>]>,
    /// What was refused about this service, in words.
    pub problems: Arc<[Arc<str>]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_or_control_characters_are_refused_with_the_character() {
        for (case, name, ok) in [
            ("plain", "web", true),
            ("dots and dashes", "web-1.prod_x", true),
            ("space", "my web", false),
            ("newline", "web\n", false),
            ("nul", "we\0b", false),
            ("empty", "", false),
        ] {
            assert_eq!(parse_name("service name", name).is_ok(), ok, "{case}");
        }
        let error = parse_name("service name", "my web").unwrap_err();
        assert!(error.contains("\"my web\" contains ' '"), "{error}");
    }

    #[test]
    fn ports_and_weights_out_of_range_are_refused_with_the_range() {
        assert_eq!(parse_port(70_000).unwrap_err(), "port 70000 is not between 1 and 65535");
        assert_eq!(parse_port(0).unwrap_err(), "port 0 is not between 1 and 65535");
        assert_eq!(parse_port(65_535), Ok(65_535));
        assert!(Weight::try_from(1_000_000_000).unwrap_err().contains("1000000000"));
        assert_eq!(Weight::try_from(0).map(Weight::value), Ok(0));
    }

    #[test]
    fn an_address_is_an_ip_or_a_host_name_and_nothing_else() {
        for (case, text, ok) in [
            ("v4", "10.0.0.1", true),
            ("v6", "fd00::1", true),
            ("name", "db-1.internal", true),
            ("name with a final dot", "db.internal.", true),
            ("mistyped v4", "10.0.0.300", false),
            ("space", "10.0.0.1 ", false),
            ("empty", "", false),
            ("v6 with a zone", "fe80::1%eth0", false),
        ] {
            assert_eq!(Address::parse(text).is_ok(), ok, "{case}: {text:?}");
        }
    }
}
