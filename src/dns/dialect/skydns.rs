//! The names of SkyDNS: every name answers for all that stands below it.
//!
//! | name | records |
//! |---|---|
//! | `id.service.zone` | one instance: A or AAAA, SRV, TXT, MX |
//! | any name above it, the zone itself included | those of all below |
//! | the same with `*` or `any` for labels | those that fit |
//!
//! A dot in the name of a service parts labels (`rails.production.east`). SRV weights are shares
//! of a hundred among those of one priority; the target is the instance's own name. Meta of an
//! instance tells `skydns.priority` (default 10), `skydns.text`, `skydns.mail` (`true`),
//! `skydns.ttl` and `skydns.targetstrip`, how many labels a target lacks in front. The group of an
//! instance leaves out those of other groups where it stands highest. Addresses point back to their
//! instances. Names of more than five labels below the zone have no names with stars.

use std::net::SocketAddr;

use super::{Dialect, Records, Stars, concerns, hex, is_host_label, shown};
use crate::catalog::model::{Instance, Service};
use crate::dns::config::WhenEmpty;
use crate::dns::node::{Data, Srv};
use crate::dns::set::Rules;
use crate::dns::wire::Name;
use crate::dns::zone_settings::ZoneSettings;

/// The dialect `skydns`.
pub(super) const SKYDNS: Dialect = Dialect {
    ttl: 3600,
    negative_ttl: 30,
    stars: Stars::Match,
    rules: Rules { hundred: Some(0), groups: true },
    own,
    ..Dialect::new("skydns", list)
};

/// Priority of an instance that tells none.
const PRIORITY: u16 = 10;
/// Preference of a mail exchanger.
const PREFERENCE: u16 = 10;
/// Most labels below the zone of a name that has names with stars: each doubles their number.
const STARRED_MAX: usize = 5;

fn own(zone: &ZoneSettings, listen: &[SocketAddr], out: &mut Records) {
    let server = zone.apex.child("dns").and_then(|dns| dns.child("ns"));
    let Some(server) = out.checked(server) else { return };
    for addr in listen.iter().filter(|addr| !addr.ip().is_unspecified()) {
        out.put(&server, Data::address(addr.ip()));
    }
}

fn list(zone: &ZoneSettings, service: &Service, out: &mut Records) {
    let Some(base) = out.checked(zone.apex.under(&service.name)) else { return };
    let shown = shown(zone, service);
    if shown.is_empty() && zone.when_empty == WhenEmpty::Nodata && concerns(zone, service) {
        out.put(&base, Data::Here);
    }
    let ttl = out.mark().ttl;
    for instance in shown {
        let own = match instance.address.ip() {
            _ if is_host_label(&instance.id) => base.child(&instance.id),
            Some(ip) => base.child(&format!("ip-{}", hex(ip))),
            None => base.child(&instance.id.replace(|c: char| !c.is_ascii_alphanumeric(), "-")),
        };
        let Some(own) = out.checked(own) else { continue };
        out.about(instance);
        let told = fact::<u32>(instance, "skydns.ttl", out).unwrap_or(ttl);
        let mark = out.mark();
        mark.ttl = told;
        mark.group.clone_from(&instance.group);
        mark.depth = (own.labels() - zone.apex.labels()) as u8;
        list_instance(zone, &own, instance, out);
    }
}

fn list_instance(zone: &ZoneSettings, own: &Name, instance: &Instance, out: &mut Records) {
    if let Some(ip) = instance.address.ip() {
        out.put_reverse(ip, own.clone());
    }
    let host = Name::parse(&instance.address.to_string());
    let outside = instance.address.ip().is_none();
    let strip = fact::<usize>(instance, "skydns.targetstrip", out).unwrap_or(0);
    let target = if outside { out.checked(host) } else { stripped(zone, own, strip) };
    let Some(target) = target else { return };
    let mut all = Vec::new();
    if let Some(ip) = instance.address.ip() {
        all.push(Data::address(ip));
        if target != *own {
            out.put(&target, Data::address(ip));
        }
    }
    if let Some(port) = instance.port("") {
        let priority = fact(instance, "skydns.priority", out).unwrap_or(PRIORITY);
        let (weight, glue) = (instance.weight.value(), instance.address.ip());
        all.push(Data::Srv(Srv { target: target.clone(), port, priority, weight, glue }));
    }
    if let Some(text) = instance.meta.get("skydns.text") {
        all.push(Data::text(text));
    }
    if instance.meta.get("skydns.mail").is_some_and(|told| **told == *"true") {
        all.push(Data::Mx(PREFERENCE, target.clone()));
    }
    // The zone's own addresses are those of its instances all the same.
    let all = all.into_iter().map(|data| out.record(data)).collect();
    out.put_alike(names(zone, own), all);
    if outside {
        // A host name answers for the instance's own name only: elsewhere others stand beside it.
        out.put(own, Data::Cname(target));
    }
}

/// `own` without so many labels in front, but never above the zone.
fn stripped(zone: &ZoneSettings, own: &Name, labels: usize) -> Option<Name> {
    let mut name = own.clone();
    for _ in 0..labels {
        let parent = name.parent()?;
        if parent == zone.apex {
            break;
        }
        name = parent;
    }
    Some(name)
}

/// `own`, every name above it down to the zone, and all of these with stars.
fn names(zone: &ZoneSettings, own: &Name) -> Vec<Name> {
    let mut above = vec![own.clone()];
    while let Some(parent) = above.last().filter(|name| **name != zone.apex).and_then(Name::parent)
    {
        above.push(parent);
    }
    // From the zone down: each name is one label before what was made so far.
    let mut names: Vec<Name> = vec![zone.apex.clone()];
    let mut row: Vec<Name> = names.clone();
    for name in above.iter().rev().skip(1) {
        let starred = above.len() <= STARRED_MAX + 1;
        let label = name.first_label();
        let mut next = Vec::with_capacity(2 * row.len());
        for below in &row {
            next.extend(below.child_bytes(label));
            if starred {
                next.extend(below.child_bytes(b"*"));
            }
        }
        names.extend(next.iter().cloned());
        row = next;
    }
    names
}

/// The number that an instance tells.
fn fact<T: std::str::FromStr>(instance: &Instance, key: &str, out: &mut Records) -> Option<T> {
    let told = instance.meta.get(key)?;
    let read =
        told.parse().map_err(|_| format!("{key} {told:?} of {:?} is no number", instance.id));
    out.checked(read)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{instance, listed, service_of, settings};

    const ZONE: &str = "listen = []\n[zone.sky]\ndialect = \"skydns\"";

    #[test]
    fn an_instance_answers_under_each_name_above_it_and_under_stars() {
        let mut one = instance("1 10.0.0.1 80");
        one.meta.insert("skydns.text".into(), "hi".into());
        one.meta.insert("skydns.mail".into(), "true".into());
        let (lines, problems) = listed(&settings(ZONE), &service_of("rails.east", vec![one]));
        let addresses: Vec<&str> =
            lines.iter().filter_map(|line| line.strip_suffix(" A 10.0.0.1")).collect();
        assert_eq!(
            addresses,
            [
                "*.*.*.sky.",
                "*.*.east.sky.",
                "*.*.sky.",
                "*.east.sky.",
                "*.rails.*.sky.",
                "*.rails.east.sky.",
                "*.sky.",
                "1.*.*.sky.",
                "1.*.east.sky.",
                "1.rails.*.sky.",
                "1.rails.east.sky.",
                "east.sky.",
                "rails.*.sky.",
                "rails.east.sky.",
                "sky."
            ]
        );
        for line in [
            "east.sky. SRV 10 1 80 1.rails.east.sky.",
            "sky. TXT \"\\u{2}hi\"",
            "rails.east.sky. MX 10 1.rails.east.sky.",
            "1.0.0.10.in-addr.arpa. PTR 1.rails.east.sky.",
        ] {
            assert!(lines.iter().any(|known| known == line), "{line}: {lines:#?}");
        }
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn targets_lack_labels_on_wish_and_host_names_are_targets() {
        let mut one = instance("1 10.0.0.1 80");
        one.meta.insert("skydns.targetstrip".into(), "1".into());
        one.meta.insert("skydns.priority".into(), "7".into());
        let (lines, problems) =
            listed(&settings(ZONE), &service_of("a", vec![one, instance("2 h.example 81")]));
        for line in [
            "a.sky. SRV 7 1 80 a.sky.",
            "a.sky. A 10.0.0.1",
            "a.sky. SRV 10 1 81 h.example.",
            "2.a.sky. CNAME h.example.",
        ] {
            assert!(lines.iter().any(|known| known == line), "{line}: {lines:#?}");
        }
        assert!(problems.is_empty(), "{problems:?}");
    }
}
