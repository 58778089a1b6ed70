//! What users write about the metadata API.

use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::units::{Period, Size};

/// `[metadata]`: what services, containers and hosts there are, as rancher-metadata tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataConfig {
    /// Where to listen: one address or a list of them.
    pub listen: Addresses,
    /// Registries that are shown; all of them unless told.
    pub registries: Option<Vec<String>>,
    /// Environment of services that tell none.
    #[serde(default = "default_environment")]
    pub environment: String,
    /// Whose `X-Forwarded-For` tells who asks.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// How long a poll waits that does not say how long.
    #[serde(default = "a_minute")]
    pub wait: Period,
    /// The longest that a poll may wait; one that asks for more waits this long.
    #[serde(default = "two_minutes")]
    pub wait_max: Period,
    /// Most polls that wait at once; one more is answered 503.
    #[serde(default = "twenty_thousand")]
    pub polls: usize,
    /// Most open connections; one more is closed at once.
    #[serde(default = "twenty_thousand")]
    pub connections: usize,
    /// How long a connection may be without a request, or take to send one or to take an answer.
    #[serde(default = "a_minute")]
    pub idle: Period,
    /// Largest head of a request; beyond it 431.
    #[serde(default = "sixteen_kibibytes")]
    pub head_max: Size,
    /// Largest answer; beyond it 500.
    #[serde(default = "sixty_four_mebibytes")]
    pub response_max: Size,
    /// Answers of a generation that are kept for others who ask the same.
    #[serde(default = "a_thousand")]
    pub cache: usize,
}

fn default_environment() -> String {
    "default".to_owned()
}

const fn a_minute() -> Period {
    Period::from_secs(60)
}

const fn two_minutes() -> Period {
    Period::from_secs(120)
}

const fn twenty_thousand() -> usize {
    20_000
}

const fn sixteen_kibibytes() -> Size {
    Size(16 << 10)
}

const fn sixty_four_mebibytes() -> Size {
    Size(64 << 20)
}

const fn a_thousand() -> usize {
    1000
}

impl MetadataConfig {
    /// The key that makes no sense, and why, if one does.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.listen.0.is_empty() {
            return Some(("listen", "is empty; leave [metadata] out to serve nothing".to_owned()));
        }
        for (key, zero) in [
            ("wait", self.wait.0.is_zero()),
            ("wait_max", self.wait_max.0.is_zero()),
            ("idle", self.idle.0.is_zero()),
            ("connections", self.connections == 0),
            ("head_max", self.head_max.0 == 0),
            ("response_max", self.response_max.0 == 0),
        ] {
            if zero {
                return Some((key, format!("{key} = 0 would serve nobody; leave it out")));
            }
        }
        let name = crate::catalog::model::parse_name("environment", &self.environment);
        name.err().map(|why| ("environment", why))
    }
}

/// One address, or a list of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub Vec<SocketAddr>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"127.0.0.1:8112\", or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Addresses, E> {
                let refused =
                    |_| E::custom(format!("{text:?} is no address such as \"127.0.0.1:8112\""));
                text.parse().map(|address| Addresses(vec![address])).map_err(refused)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut all = Vec::new();
                while let Some(address) = list.next_element()? {
                    all.push(address);
                }
                Ok(Addresses(all))
            }
        }
        from.deserialize_any(Either)
    }
}
