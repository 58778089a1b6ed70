//! The ports of an app by their index, as its registry tells them.

use crate::catalog::model::{Service, parse_name, parse_port};
use crate::proxy::config::PortRange;
use crate::proxy::route::ServiceRef;

use sha1::{Digest as _, Sha1};

/// What a registry told about an app, beside its labels.
#[derive(Debug)]
pub(super) struct App<'a> {
    service: &'a Service,
    /// Its id: `/prod/shop/web`.
    pub(super) id: String,
    /// Its service ports; none where the registry knows no such thing.
    pub(super) service_ports: Option<Vec<u16>>,
}

impl<'a> App<'a> {
    /// What is known of `service`.
    pub(super) fn of(service: &'a Service) -> Self {
        let told = |key: &str| service.meta.get(key);
        let id = told("marathon.app").map_or_else(
            || format!("/{}", service.name.trim_start_matches('/')),
            |id| (**id).to_owned(),
        );
        let ports = told("marathon.service-ports");
        let service_ports = ports.map(|ports| numbers(ports).collect());
        Self { service, id, service_ports }
    }

    /// Whether it is a pod, of which marathon-lb knows nothing.
    pub(super) fn pod(&self) -> bool {
        self.service.meta.get("marathon.kind").is_some_and(|kind| &**kind == "pod")
    }

    /// Whether the port of this index is checked by HTTP.
    pub(super) fn checked_by_http(&self, index: usize) -> bool {
        let told = self.service.meta.get("marathon.http-checks");
        told.is_some_and(|told| told.split(',').any(|one| one.trim().parse() == Ok(index)))
    }

    /// Whether the port of this index is for datagrams alone.
    pub(super) fn datagrams(&self, index: usize) -> bool {
        let told = self.service.meta.get("marathon.protocols");
        told.and_then(|told| told.split(',').nth(index)).is_some_and(|told| told.trim() == "udp")
    }

    /// The service port of this index: Marathon's, else the one out of `ranges` that marathon-lb gives
    /// to an app whose tasks have addresses of their own, as long as no other has it.
    pub(super) fn service_port(&self, index: usize, ranges: &[PortRange]) -> Option<u16> {
        match self.service_ports.as_ref()?.get(index)? {
            0 => assigned(&self.id, self.number(index)?, ranges),
            port => Some(*port),
        }
    }

    /// The number that the port of this index has at the first instance that has it.
    fn number(&self, index: usize) -> Option<u16> {
        self.service.instances.iter().find_map(|instance| {
            let told = instance.meta.get("marathon.ports")?;
            numbers(told).nth(index).filter(|port| *port != 0)
        })
    }

    /// The service with the port of this index.
    pub(super) fn target(&self, index: usize) -> ServiceRef {
        let name = &self.service.name;
        let named = |port: &str| {
            let port = parse_name("port name", port).ok().filter(|port| !port.contains(':'));
            port.map(|port| ServiceRef::parse(&format!("{name}:{port}")))
        };
        let names = self.service.meta.get("marathon.port-names");
        if let Some(names) = names {
            let port = names.split(',').nth(index).unwrap_or_default();
            return named(port).unwrap_or_else(|| ServiceRef::parse(name));
        }
        let numbered = self.service.instances.iter().find_map(|instance| {
            let told = instance.meta.get("marathon.ports")?;
            let number = numbers(told).nth(index)?;
            instance.ports.iter().find(|port| port.number == number)
        });
        let counted = || self.service.instances.iter().find_map(|known| known.ports.get(index));
        let found = match &self.service_ports {
            Some(_) => numbered,
            None => counted(),
        };
        match found {
            Some(port) => named(&port.name).unwrap_or_else(|| ServiceRef::parse(name)),
            // Nobody is there yet: by the name that an unnamed port of an app gets.
            None if self.service_ports.is_some() => {
                ServiceRef::parse(&format!("{name}:port-{index}"))
            }
            None => ServiceRef::parse(name),
        }
    }
}

fn numbers(text: &str) -> impl Iterator<Item = u16> {
    text.split(',')
        .map(|one| one.trim().parse().ok().and_then(|port| parse_port(port).ok()).unwrap_or(0))
}

/// The service port that marathon-lb tries first for the `port` of the app's tasks: by a hash of both,
/// within `ranges`.
fn assigned(app: &str, port: u16, ranges: &[PortRange]) -> Option<u16> {
    let digest = Sha1::digest(format!("{app}-{port}-0").as_bytes());
    let first = digest.iter().take(4).fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    let size = |range: &PortRange| u32::from(range.last - range.first) + 1;
    let many = ranges.iter().map(size).fold(0, u32::saturating_add);
    let mut at = first.checked_rem(many)?;
    for range in ranges {
        match u16::try_from(at) {
            Ok(at) if at <= range.last - range.first => return Some(range.first + at),
            _ => at -= size(range).min(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_marathon_gave_none_are_those_of_marathon_lb() {
        // python3: int(sha1(b"/app-8080-0").hexdigest()[:8], 16) % 51 + 10050
        let usual = [PortRange { first: 10_050, last: 10_100 }];
        for (app, port, want) in [("/app", 8080, 10_098), ("/prod/shop/web", 80, 10_086)] {
            assert_eq!(assigned(app, port, &usual), Some(want), "{app} {port}");
        }
        assert_eq!(assigned("/app", 8080, &[]), None);
        let two =
            [PortRange { first: 10_050, last: 10_060 }, PortRange { first: 20_000, last: 20_039 }];
        assert_eq!(assigned("/app", 8080, &two), Some(20_037), "the 49th of 51");
        let all = [PortRange { first: 1, last: u16::MAX }];
        assert!(assigned("/app", 8080, &all).is_some());
    }
}
