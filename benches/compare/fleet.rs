//! A hundred services with a route each, and how their instances change: what the tasks with routes
//! are about. All instances are one origin, which listens on every address of loopback.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

/// Services, and routes by host and path to them.
pub(crate) const SERVICES: u32 = 100;
/// Instances of each.
pub(crate) const INSTANCES: u32 = 3;
/// The service that requests are for, in the middle of all.
pub(crate) const MIDDLE: u32 = 55;
/// A header and its value, with which requests to [`MIDDLE`] take another route, to [`CANARY`]. The
/// load never bears it: it is there to be looked for.
pub(crate) const CONDITION: (&str, &str) = ("x-canary", "1");
/// The service behind that route.
pub(crate) const CANARY: u32 = SERVICES - 1;
/// Hosts among which the routes are divided.
pub(crate) const HOSTS: u32 = 10;

/// Name of a service.
pub(crate) fn name(service: u32) -> String {
    format!("svc-{service:02}")
}

/// The host of its route.
pub(crate) fn host(service: u32) -> String {
    format!("h{}.bench.test", service / (SERVICES / HOSTS))
}

/// The path prefix of its route.
pub(crate) fn prefix(service: u32) -> String {
    format!("/p{}", service % (SERVICES / HOSTS))
}

/// What is asked for below that prefix.
pub(crate) fn path(service: u32) -> String {
    format!("{}/harbours/12?from=3", prefix(service))
}

/// Address of an instance once its service has changed `revision` times: each change replaces one
/// instance, in turns, by one that was not there for the last 16,000.
pub(crate) fn address(service: u32, nth: u32, revision: u32) -> Ipv4Addr {
    let replaced = (revision + INSTANCES - 1 - nth) / INSTANCES;
    let high = (nth << 6) + replaced % 16_000 / 250;
    Ipv4Addr::new(127, service as u8 + 1, high as u8, (replaced % 250 + 1) as u8)
}

/// The instances of a service before any change, of an origin on `port`.
pub(crate) fn instances(service: u32, port: u16) -> impl Iterator<Item = SocketAddr> {
    (0..INSTANCES).map(move |nth| (address(service, nth, 0), port).into())
}

/// The services file, with each service changed as often as `revision` says.
pub(crate) fn services(port: u16, revision: impl Fn(u32) -> u32) -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let (name, revision) = (name(service), revision(service));
        for nth in 0..INSTANCES {
            let _ = writeln!(
                text,
                "[[service.{name}.instance]]\naddress = \"{}\"\nport = {port}",
                address(service, nth, revision)
            );
        }
    }
    text
}

/// How often a service has changed when `changes` went round all of them.
pub(crate) fn in_turns(service: u32, changes: u32) -> u32 {
    (changes + SERVICES - 1 - service) / SERVICES
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_change_replaces_one_instance_by_an_address_that_was_not_there() {
        let all = |revision| (0..INSTANCES).map(move |nth| address(7, nth, revision));
        let mut seen: HashSet<Ipv4Addr> = all(0).collect();
        for revision in 1..6_000 {
            let before: HashSet<Ipv4Addr> = all(revision - 1).collect();
            let new: Vec<Ipv4Addr> = all(revision).filter(|now| !before.contains(now)).collect();
            assert_eq!(new.len(), 1, "{revision}");
            assert!(seen.insert(new[0]) && new[0].is_loopback(), "{revision}: {}", new[0]);
        }
    }

    #[test]
    fn changes_in_turns_change_one_service_each() {
        for changes in 0..250 {
            let (before, now) = (
                services(80, |service| in_turns(service, changes)),
                services(80, |service| in_turns(service, changes + 1)),
            );
            let differ = before.lines().zip(now.lines()).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 1, "after {changes}");
        }
    }

    #[test]
    fn routes_differ_by_host_or_path() {
        let routes: HashSet<_> = (0..SERVICES).map(|one| (host(one), prefix(one))).collect();
        assert_eq!(routes.len(), SERVICES as usize);
        assert!(path(MIDDLE).starts_with(&prefix(MIDDLE)));
    }
}
