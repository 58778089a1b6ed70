//! `[health] from_registry`: whether services may ask for checks in their registry, and for how much.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::units::Period;

/// Whether services may ask for checks: `true`, `false`, or a table of limits, which is a yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FromRegistry {
    /// Nobody may.
    #[default]
    No,
    /// They may, within limits.
    Yes(AskedLimits),
}

/// How much a service may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AskedLimits {
    /// Most checks of an instance; what is behind them is refused.
    pub max: usize,
    /// Least time from one start to the next; a shorter one that is asked for becomes this.
    pub interval_min: Period,
    /// Longest time for one answer; a longer one that is asked for becomes this.
    pub timeout_max: Period,
}

impl Default for AskedLimits {
    fn default() -> Self {
        Self { max: 8, interval_min: Period::from_secs(1), timeout_max: Period::from_secs(30) }
    }
}

impl FromRegistry {
    /// The limits, when services may ask.
    #[must_use]
    pub const fn limits(&self) -> Option<&AskedLimits> {
        match self {
            Self::No => None,
            Self::Yes(limits) => Some(limits),
        }
    }
}

impl<'de> Deserialize<'de> for FromRegistry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = FromRegistry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a table such as { max = 8, interval_min = \"1s\" }")
            }

            fn visit_bool<E>(self, yes: bool) -> Result<FromRegistry, E> {
                Ok(if yes { FromRegistry::Yes(AskedLimits::default()) } else { FromRegistry::No })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FromRegistry, A::Error> {
                AskedLimits::deserialize(MapAccessDeserializer::new(map)).map(FromRegistry::Yes)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::HealthConfig;
    use super::*;

    #[test]
    fn a_yes_has_limits_of_its_own_and_a_table_is_a_yes() {
        let read = |text: &str| toml::from_str::<HealthConfig>(text);
        let limits = |text: &str| read(text).unwrap().from_registry.limits().copied();
        assert_eq!(limits(""), None);
        assert_eq!(limits("from_registry = false"), None);
        assert_eq!(limits("from_registry = true"), Some(AskedLimits::default()));
        let own = limits("from_registry = { max = 2, interval_min = \"5s\" }").unwrap();
        assert_eq!((own.max, own.interval_min), (2, Period::from_secs(5)));
        assert_eq!(own.timeout_max, AskedLimits::default().timeout_max);
        for (wrong, want) in [
            ("from_registry = \"yes\"", "true, false, or a table"),
            ("from_registry = { most = 2 }", "unknown field `most`"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(want), "{wrong}: {error}");
        }
    }
}
