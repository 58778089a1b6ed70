//! Why a name is answered as it is: every instance that is in the answer, and every one that could
//! be and is not.
//!
//! Asked by people, not by the network: it lists every service once.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::config::Near;
use super::inquire::{inquire, rcode_word};
use super::node::Data;
use super::wire::Name;
use super::zone::ZoneTable;
use super::zone_settings::ZoneSettings;
use crate::catalog::Snapshot;
use crate::catalog::model::{Instance, Service};

/// Most services that are told of one name.
const SERVICES_MAX: usize = 200;

/// What a client is told for a name, and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The name that was asked for.
    pub name: String,
    /// The type that was asked for, as it was written.
    #[serde(rename = "type")]
    pub qtype: String,
    /// Who asks.
    pub client: IpAddr,
    /// The generation that this is true of.
    pub generation: u64,
    /// The zone that the name is in; none: no zone of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its dialect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<&'static str>,
    /// Where the client is, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<Arc<str>>,
    /// The response code, or `forwarded`.
    pub code: &'static str,
    /// The records of the answer by TCP, sorted.
    pub answers: Vec<String>,
    /// The services that the name is about.
    pub services: Vec<ServiceExplained>,
    /// What there is to say besides.
    pub notes: Vec<String>,
}

/// One service that a name is about.
#[derive(Debug, Serialize)]
pub struct ServiceExplained {
    /// Its name.
    pub service: Arc<str>,
    /// Its instances that this name is about.
    pub instances: Vec<InstanceExplained>,
    /// What of it could not be put into the zone.
    pub problems: Vec<String>,
}

/// One instance that a name is about.
#[derive(Debug, Serialize)]
pub struct InstanceExplained {
    /// Its registry.
    pub registry: Arc<str>,
    /// Its id there.
    pub id: Arc<str>,
    /// Its address.
    pub address: String,
    /// Whether it is in the answer.
    pub answered: bool,
    /// Why it is not, as far as DNS decides that; none: the catalog says.
    pub reason: Option<String>,
}

/// Why `client` is told what it is told for `name`. `table` was compiled from `snapshot`.
#[must_use]
pub fn explain(
    table: &ZoneTable,
    snapshot: &Snapshot,
    name: &Name,
    (word, qtype): (&str, u16),
    client: IpAddr,
) -> Explanation {
    let told = inquire(table, name, qtype, client);
    let settings = table.settings();
    let zone = table.zone_of(name.wire()).map(|(zone, _)| zone);
    let mut answers: Vec<String> =
        told.answers.iter().map(|(owner, ttl, data)| format!("{owner} {ttl} {data}")).collect();
    answers.sort();
    let mut wanted: HashSet<Name> = HashSet::from([name.clone()]);
    for (owner, _, data) in &told.answers {
        wanted.insert(owner.clone());
        if let Data::Cname(target) = data {
            wanted.insert(target.clone());
        }
    }
    let given: BTreeSet<&Data> = told.answers.iter().map(|(_, _, data)| data).collect();
    let mut services = Vec::new();
    let mut all: Vec<&Arc<Service>> = snapshot.services.values().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    // A name outside the zones, or a search, may lead into any zone of clients with views.
    let zones: Vec<&ZoneSettings> = match zone {
        Some(zone) if !zone.dialect.scopes => vec![zone],
        _ => settings.zones.iter().filter(|zone| !zone.alternative).collect(),
    };
    for zone in zones {
        let wanted = spellings(zone, &wanted, &table.searched(client));
        for service in &all {
            if services.len() == SERVICES_MAX {
                break;
            }
            services.extend(explain_service(
                zone,
                service,
                &wanted,
                &given,
                (word, settings.localities.of(client)),
            ));
        }
    }
    let mut notes = Vec::new();
    if told.rcode == Some(2) {
        notes.push("a registry of the zone was never heard: the name may exist".to_owned());
    }
    if zone.is_none() && told.answers.is_empty() {
        notes.push("the name is in none of the zones".to_owned());
    }
    Explanation {
        name: name.to_string(),
        qtype: word.to_owned(),
        client,
        generation: table.generation(),
        zone: zone.map(|zone| zone.apex.to_string()),
        dialect: zone.map(|zone| zone.dialect.name),
        locality: settings.localities.name(settings.localities.of(client)).cloned(),
        code: rcode_word(told.rcode),
        answers,
        services,
        notes,
    }
}

/// The names of `wanted` as the records of `zone` have them: without the datacenter, and below the
/// names where the client searches.
fn spellings(zone: &ZoneSettings, wanted: &HashSet<Name>, searched: &[Name]) -> HashSet<Name> {
    let mut all = wanted.clone();
    for name in wanted {
        if let Some(datacenter) = &zone.datacenter {
            all.extend(name.moved(datacenter, &zone.apex));
        }
        for domain in &zone.others {
            all.extend(name.moved(domain, &zone.apex));
        }
        for suffix in searched {
            all.extend(name.onto(suffix));
            all.extend(name.moved(&zone.apex, suffix));
            for domain in &zone.others {
                all.extend(name.moved(domain, suffix));
            }
        }
    }
    all
}

fn explain_service(
    zone: &ZoneSettings,
    service: &Arc<Service>,
    wanted: &HashSet<Name>,
    given: &BTreeSet<&Data>,
    (word, locality): (&str, u16),
) -> Option<ServiceExplained> {
    let only = |instances: Arc<[Arc<Instance>]>, eligible: Arc<[Arc<Instance>]>| Service {
        name: Arc::clone(&service.name),
        tags: Arc::clone(&service.tags),
        meta: Arc::clone(&service.meta),
        problems: Arc::clone(&service.problems),
        instances,
        eligible,
    };
    let of = |service: &Service, shown: &ZoneSettings| -> Option<BTreeSet<Data>> {
        let records = shown.list(service);
        let reverse = records.reverse.iter().map(|(owner, record)| (owner, record));
        let own: BTreeSet<Data> = records
            .in_zone()
            .chain(reverse)
            .filter(|(owner, record)| wanted.contains(*owner) && record.data != Data::Here)
            .map(|(_, record)| record.data.clone())
            .collect();
        (!own.is_empty()).then_some(own)
    };
    // As if everybody were well, of whatever registry.
    let every = zone.of_all_registries();
    let everybody = unite(&service.instances, &service.eligible);
    of(&only(Arc::clone(&everybody), Arc::clone(&everybody)), &every)?;
    let mut instances = Vec::new();
    for instance in everybody.iter() {
        let alone: Arc<[_]> = Arc::new([Arc::clone(instance)]);
        let Some(own) = of(&only(Arc::clone(&alone), alone), &every) else { continue };
        let eligible = service.eligible.iter().any(|other| Arc::ptr_eq(other, instance));
        let shows = zone.shows(&instance.registry);
        // SRV shares of a hundred are not as listed: the rest of the record is.
        let in_answer = own.iter().any(|data| given.iter().any(|given| same(given, data)));
        let standing_in = service.eligible.is_empty() && zone.dialect.scopes;
        let answered = in_answer && shows && (eligible || standing_in);
        let reason = if answered {
            None
        } else if !shows {
            Some(format!("the zone shows no instances of the registry {}", instance.registry))
        } else if !eligible {
            None
        } else {
            Some(left_out(zone, instance, &own, (word, locality)))
        };
        instances.push(InstanceExplained {
            registry: Arc::clone(&instance.registry),
            id: Arc::clone(&instance.id),
            address: instance.address.to_string(),
            answered,
            reason,
        });
    }
    let problems = zone.list(service).problems;
    Some(ServiceExplained { service: Arc::clone(&service.name), instances, problems })
}

fn unite(instances: &[Arc<Instance>], eligible: &[Arc<Instance>]) -> Arc<[Arc<Instance>]> {
    let mut all = instances.to_vec();
    for instance in eligible {
        if !all.iter().any(|known| Arc::ptr_eq(known, instance)) {
            all.push(Arc::clone(instance));
        }
    }
    all.into()
}

fn same(given: &Data, listed: &Data) -> bool {
    match (given, listed) {
        (Data::Srv(a), Data::Srv(b)) => {
            (&a.target, a.port, a.priority) == (&b.target, b.port, b.priority)
        }
        _ => given == listed,
    }
}

fn left_out(
    zone: &ZoneSettings,
    instance: &Instance,
    own: &BTreeSet<Data>,
    (word, locality): (&str, u16),
) -> String {
    let is_type = |data: &Data| data.to_string().split(' ').next() == Some(word);
    if !own.iter().any(is_type) {
        return format!("it has no record of type {word} under this name");
    }
    let elsewhere = instance.locality.as_ref().map_or(0, |name| zone.localities.number(name));
    if zone.near == Near::Only && locality != 0 && elsewhere != locality {
        return "others are nearer to the client, and near = \"only\"".to_owned();
    }
    if zone.addresses_max != usize::MAX {
        return format!("a_record_limit = {} leaves out some at random", zone.addresses_max);
    }
    "it does not fit beside the others under this name; see the problems".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::dialect::testing::{instance, service, service_of, settings};
    use super::*;
    use crate::catalog::RegistryStatus;
    use crate::catalog::model::Health;
    use crate::dns::inquire::type_of;

    #[test]
    fn every_instance_is_told_with_what_keeps_it_out() {
        let settings = settings(
            "listen = []\n[zone.consul]\ndialect = \"consul\"\nregistries = [\"test\"]\ndatacenter = \"dc1\"",
        );
        let mut down = instance("down 10.0.0.2 80");
        down.health = Health::Unhealthy;
        let mut other = instance("other 10.0.0.4 80");
        other.registry = "far".into();
        let web = service_of(
            "web",
            vec![instance("up 10.0.0.1 80 prod"), down, instance("six ::1 80"), other],
        );
        let services = [web, service("db", &["x 10.0.0.9 1"])];
        let services = services.into_iter().map(|s| (Arc::clone(&s.name), Arc::new(s)));
        let heard =
            RegistryStatus { name: "test".into(), heard: true, ..RegistryStatus::default() };
        let snapshot = Snapshot {
            generation: 9,
            services: services.collect(),
            registries: Arc::new([heard]),
            ..Snapshot::default()
        };
        let table = ZoneTable::compile(&settings, None, &snapshot);
        let of = |name: &str, word: &str| {
            let name = Name::parse(name).unwrap();
            let qtype = type_of(word).unwrap();
            explain(&table, &snapshot, &name, (word, qtype), "10.1.1.1".parse().unwrap())
        };
        for name in ["web.service.consul", "web.service.dc1.consul"] {
            let told = of(name, "A");
            assert_eq!((told.code, told.answers.len(), told.services.len()), ("NOERROR", 1, 1));
            let reasons: Vec<(&str, bool, Option<&str>)> = told.services[0]
                .instances
                .iter()
                .map(|i| (&*i.id, i.answered, i.reason.as_deref()))
                .collect();
            assert_eq!(
                reasons,
                [
                    ("up", true, None),
                    ("down", false, None),
                    ("six", false, Some("it has no record of type A under this name")),
                    ("other", false, Some("the zone shows no instances of the registry far")),
                ]
            );
        }
        let tagged = of("prod.web.service.consul", "SRV");
        assert_eq!(tagged.services[0].instances.len(), 1, "the others do not bear the tag");
        assert!(tagged.services[0].instances[0].answered);
        let pointer = of("1.0.0.10.in-addr.arpa", "PTR");
        assert_eq!((pointer.answers.len(), pointer.services.len()), (1, 1));
        let nobody = of("nobody.consul", "A");
        assert_eq!((nobody.code, nobody.services.len()), ("NXDOMAIN", 0));
        assert_eq!(of("a.example", "A").notes, ["the name is in none of the zones"]);
    }
}
