//! Where clients are, so that they can be sent to what is near.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use super::networks::Networks;

/// `[locality.NAME]`: the clients of one place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalityConfig {
    /// Networks whose clients are there; of several that hold a client the narrowest counts.
    pub networks: Vec<IpNet>,
}

/// The localities that are known, each by a number.
#[derive(Debug, Clone, Default)]
pub struct Localities {
    names: Vec<Arc<str>>,
    networks: Networks<u16>,
    own: u16,
}

impl Localities {
    /// Those of the configuration. `own` is where this process is, and where a client is of whom
    /// no network tells.
    #[must_use]
    pub fn new(tables: &BTreeMap<String, LocalityConfig>, own: Option<&str>) -> Self {
        let mut names: Vec<Arc<str>> = tables.keys().map(|name| Arc::from(&**name)).collect();
        if let Some(own) = own
            && !tables.contains_key(own)
        {
            names.push(own.into());
        }
        names.truncate(usize::from(u16::MAX));
        let mut localities = Self { names, ..Self::default() };
        for (name, table) in tables {
            let number = localities.number(name);
            for network in &table.networks {
                localities.networks.insert(*network, number);
            }
        }
        localities.own = own.map_or(0, |own| localities.number(own));
        localities
    }

    /// Whether nobody is anywhere.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The number of the locality called `name`, from 1; 0 when it is not known.
    #[must_use]
    pub fn number(&self, name: &str) -> u16 {
        let at = self.names.iter().position(|known| **known == *name);
        at.map_or(0, |at| at as u16 + 1)
    }

    /// The name of a number.
    #[must_use]
    pub fn name(&self, number: u16) -> Option<&Arc<str>> {
        self.names.get(usize::from(number).checked_sub(1)?)
    }

    /// The number of the locality where `client` is; 0 when that is not known. Allocates nothing.
    #[must_use]
    pub fn of(&self, client: IpAddr) -> u16 {
        if self.names.is_empty() {
            return 0;
        }
        self.networks.of(client).unwrap_or(self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_where_its_narrowest_network_says_or_else_where_we_are() {
        let table = |networks: &[&str]| LocalityConfig {
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        };
        let tables =
            [("east".into(), table(&["10.0.0.0/8"])), ("west".into(), table(&["10.2.0.0/16"]))];
        let localities = Localities::new(&tables.into(), Some("north"));
        for (client, want) in [("10.1.0.1", "east"), ("10.2.0.1", "west"), ("192.0.2.1", "north")] {
            let number = localities.of(client.parse().unwrap());
            assert_eq!(localities.name(number).map(|name| &**name), Some(want), "{client}");
        }
        assert_eq!(Localities::default().of("10.0.0.1".parse().unwrap()), 0);
    }
}
