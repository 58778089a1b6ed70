//! Ports that the registry opens.

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Who says which ports a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum PortsFrom {
    /// The registry: each service that asks for a port gets it.
    #[serde(rename = "from-registry")]
    Registry,
}

/// Which ports services get, and how they ask.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryPorts {
    /// The key of the meta entry, and of the tag `KEY=VALUE`, by which a service asks: `3306`, or
    /// `3306:mysql` for its port of that name; several with commas.
    pub key: Arc<str>,
    /// Ports that may be had.
    pub allowed: Vec<PortRange>,
    /// How many at once.
    pub max: usize,
}

impl Default for RegistryPorts {
    fn default() -> Self {
        Self {
            key: "portolan-port".into(),
            allowed: vec![PortRange { first: 1024, last: u16::MAX }],
            max: 1024,
        }
    }
}

impl RegistryPorts {
    /// Whether `port` may be had.
    #[must_use]
    pub fn allows(&self, port: u16) -> bool {
        self.allowed.iter().any(|range| (range.first..=range.last).contains(&port))
    }
}

/// Ports in a row, both ends included: `"8080"` or `"10000-10100"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err(D::Error::custom(format!(
                "{text:?} is no range of ports; write \"10000-10100\", or \"8080\" for one"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RegistryPorts, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn ranges_hold_both_ends_and_others_are_refused_with_an_example() {
        let ports = read("allowed = [\"80\", \"1000-1010\"]").unwrap();
        for (port, allowed) in
            [(79, false), (80, true), (81, false), (1000, true), (1010, true), (1011, false)]
        {
            assert_eq!(ports.allows(port), allowed, "{port}");
        }
        for wrong in ["0", "2-1", "a", "1-70000", "-", ""] {
            let error = read(&format!("allowed = [{wrong:?}]")).unwrap_err();
            assert!(error.contains("write \"10000-10100\""), "{wrong}: {error}");
        }
        assert!(!RegistryPorts::default().allows(22), "not those of the host's own servers");
    }
}
