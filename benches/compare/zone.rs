//! The names that DNS servers are asked for: one set of data, written for each server and for the
//! load generator.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::trouble::{Doing, Trouble};

/// The zone that all servers serve.
pub(crate) const ZONE: &str = "bench.test";
/// A name that exists, for the first look at a server.
pub(crate) const HIT: &str = "svc-00000.bench.test";
/// Names in the zone.
const NAMES: u32 = 10_000;
/// Addresses of each name.
const ADDRESSES: u32 = 3;
/// Addresses of the one name that has many.
const MANY: u32 = 5_000;
/// Services that may change.
const CHANGING: u32 = 100;
/// Changes that one version of those makes.
pub(crate) const CHANGES: u32 = 10;
/// TTL of every record, in seconds; Portolan is told the same.
pub(crate) const TTL: u32 = 60;

/// Files that all rounds share, in the run's own folder.
#[derive(Debug)]
pub(crate) struct Zone {
    /// RFC 1035 master file.
    pub(crate) master: PathBuf,
    /// The same as Portolan's file registry.
    pub(crate) services: PathBuf,
    /// Questions for names that exist, for dnsperf, in a shuffled order.
    pub(crate) hits: PathBuf,
    /// Questions for names that don't.
    pub(crate) misses: PathBuf,
    /// Questions for the name with many addresses.
    pub(crate) many: PathBuf,
    /// Services of Portolan's second file registry, which [`crate::changes`] rewrites.
    pub(crate) changing: PathBuf,
}

impl Zone {
    /// Writes all files into `dir`.
    pub(crate) fn write(dir: &Path) -> Result<Self, Trouble> {
        let put = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
            Ok(path)
        };
        Ok(Self {
            master: put("bench.zone", master())?,
            services: put("services.toml", services())?,
            hits: put("hits", questions("svc"))?,
            misses: put("misses", questions("non"))?,
            many: put("many", format!("many.{ZONE} A\n"))?,
            changing: put("changing.toml", changing(0))?,
        })
    }
}

fn address(name: u32, nth: u32) -> String {
    let [_, a, b, c] = (name * ADDRESSES + nth).to_be_bytes();
    format!("10.{a}.{b}.{c}")
}

fn master() -> String {
    let mut text = format!(
        "$ORIGIN {ZONE}.\n$TTL {TTL}\n@ IN SOA ns hostmaster 1 3600 600 86400 5\n@ IN NS ns\nns IN A 127.0.0.1\n"
    );
    for name in 0..NAMES {
        for nth in 0..ADDRESSES {
            let _ = writeln!(text, "svc-{name:05} IN A {}", address(name, nth));
        }
    }
    for nth in 0..MANY {
        let _ = writeln!(text, "many IN A {}", address(NAMES, nth));
    }
    text
}

/// The version of that number of the services that change: each differs from the one before in the
/// address of [`CHANGES`] of them.
pub(crate) fn changing(version: u32) -> String {
    let mut text = String::new();
    for service in 0..CHANGING {
        let turn = service / CHANGES;
        let turns = CHANGING / CHANGES;
        // How often this one has had its turn.
        let changed = (version + turns - 1 - turn) / turns;
        let _ = writeln!(
            text,
            "[[service.changing-{service}.instance]]\naddress = \"10.200.{service}.{}\"\nport = 80",
            changed % 250
        );
    }
    text
}

fn services() -> String {
    let mut text = String::new();
    for name in 0..NAMES {
        for nth in 0..ADDRESSES {
            let address = address(name, nth);
            let _ = writeln!(
                text,
                "[[service.svc-{name:05}.instance]]\naddress = \"{address}\"\nport = 80"
            );
        }
    }
    for nth in 0..MANY {
        let address = address(NAMES, nth);
        let _ = writeln!(text, "[[service.many.instance]]\naddress = \"{address}\"\nport = 80");
    }
    text
}

/// Every name once. The stride is prime to the number of names, so that the order visits all of
/// them and neighbours in the file aren't neighbours in the zone.
fn questions(prefix: &str) -> String {
    const STRIDE: u32 = 6_151;
    let mut text = String::new();
    for nth in 0..NAMES {
        let _ = writeln!(text, "{prefix}-{:05}.{ZONE} A", nth * STRIDE % NAMES);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_asked_once_and_has_three_addresses_in_both_forms() {
        let questions = questions("svc");
        assert_eq!(questions.lines().collect::<HashSet<_>>().len(), NAMES as usize);
        assert!(questions.contains(&format!("{HIT} A\n")));
        assert_eq!(master().matches("svc-09999 IN A ").count(), 3);
        assert_eq!(services().matches("[[service.svc-09999.instance]]").count(), 3);
        assert_eq!(services().matches("[[service.many.instance]]").count(), MANY as usize);
    }

    #[test]
    fn each_version_of_the_services_that_change_differs_in_ten_of_them() {
        for version in 0..40 {
            let (before, now) = (changing(version), changing(version + 1));
            let differ = before.lines().zip(now.lines()).filter(|(a, b)| a != b).count();
            assert_eq!(differ, CHANGES as usize, "after {version}");
        }
    }
}
