//! Services that are no apps: who leads, the framework itself, and names that are told beside
//! Marathon's own. Pure.
//!
//! Their names hold an underscore, which no app's can, but for those that the configuration gives.

use std::net::IpAddr;
use std::sync::Arc;

use super::service::Hosts;
use super::wanted::{Naming, Words};
use crate::catalog::model::{Meta, Port, parse_name, parse_port};
use crate::catalog::{Address, Instance, SourceService};

/// Port of a Marathon that tells none.
const PORT: u16 = 8080;

/// The Marathon that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    /// Its host as it was told, an address or a name.
    pub(super) host: Arc<str>,
    told: Address,
    port: u16,
}

impl Leader {
    /// Reads `host:8080`, `http://host:8080`, `[fd00::1]:8080`, `host`; none when it is none of
    /// them.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let text = text.split('/').next()?;
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, PORT),
            Some((host, port)) => (host, port.strip_prefix(':')?.parse().ok()?),
            None => match text.split_once(':') {
                Some((host, port)) => (host, parse_port(port.parse().ok()?).ok()?),
                None => (text, PORT),
            },
        };
        let host = parse_name("host", host).ok()?;
        Some(Self { told: Address::parse(&host).ok()?, host, port })
    }

    fn address(&self, hosts: &Hosts) -> Address {
        hosts.get(&self.host).map_or_else(|| self.told.clone(), |ip| Address::Ip(*ip))
    }
}

/// The name of the service of the Marathon that leads.
pub(super) fn leader_name(naming: &Naming) -> Arc<str> {
    format!("{}_leader", naming.framework).into()
}

/// The name of the service of the framework.
pub(super) fn framework_name(naming: &Naming) -> Arc<str> {
    format!("{}_framework", naming.framework).into()
}

/// Where Marathon leads: `leader.mesos` of the dialect `mesos`.
pub(super) fn leader(
    registry: &Arc<str>,
    naming: &Naming,
    words: &Words,
    leader: &Leader,
    hosts: &Hosts,
) -> SourceService {
    let tags: Arc<[Arc<str>]> = Arc::new([Arc::clone(&words.leader)]);
    let meta = Meta::from([(Arc::clone(&words.mesos_kind), Arc::clone(&words.kind_master))]);
    let own = Instance { tags: Arc::clone(&tags), ..at(registry, leader, hosts) };
    SourceService { tags, ..service(leader_name(naming), meta, vec![own]) }
}

/// Where the framework is: `marathon.mesos` of the dialect `mesos`.
pub(super) fn framework(
    registry: &Arc<str>,
    naming: &Naming,
    words: &Words,
    leader: &Leader,
    hosts: &Hosts,
) -> SourceService {
    let meta = Meta::from([
        (Arc::clone(&words.mesos_kind), Arc::clone(&words.kind_framework)),
        (Arc::clone(&words.framework), Arc::clone(&naming.framework)),
    ]);
    service(framework_name(naming), meta, vec![at(registry, leader, hosts)])
}

/// A name that points at `addresses`, as if it were a task of the framework.
pub(super) fn advertised(
    registry: &Arc<str>,
    naming: &Naming,
    words: &Words,
    name: &Arc<str>,
    addresses: &[IpAddr],
) -> SourceService {
    let meta = Meta::from([(Arc::clone(&words.framework), Arc::clone(&naming.framework))]);
    let instances =
        addresses.iter().map(|ip| Instance::bare(registry, &ip.to_string(), Address::Ip(*ip)));
    service(Arc::clone(name), meta, instances.collect())
}

fn at(registry: &str, leader: &Leader, hosts: &Hosts) -> Instance {
    let id = format!("{}:{}", leader.host, leader.port);
    let ports = Arc::new([Port { name: "".into(), number: leader.port }]);
    Instance { ports, ..Instance::bare(registry, &id, leader.address(hosts)) }
}

fn service(name: Arc<str>, meta: Meta, mut instances: Vec<Instance>) -> SourceService {
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    SourceService {
        name,
        tags: Arc::new([]),
        meta: Arc::new(meta),
        instances: instances.into_iter().map(Arc::new).collect(),
        problems: Vec::new(),
        suspect: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_read_as_marathon_and_zookeeper_write_it() {
        for (text, want) in [
            ("10.0.0.1:8080", Some(("10.0.0.1", 8080))),
            ("http://m1.shop.test:8081/", Some(("m1.shop.test", 8081))),
            ("https://m1:8443", Some(("m1", 8443))),
            ("m1", Some(("m1", 8080))),
            ("[fd00::1]:8080", Some(("fd00::1", 8080))),
            ("[fd00::1]", Some(("fd00::1", 8080))),
            ("", None),
            ("m1:0", None),
            ("m1:x", None),
            ("m 1:8080", None),
        ] {
            let read = Leader::read(text);
            assert_eq!(read.as_ref().map(|l| (&*l.host, l.port)), want, "{text}");
        }
    }
}
