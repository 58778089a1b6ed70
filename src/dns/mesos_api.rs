//! What the HTTP API of Mesos-DNS tells, from the table that answers the questions too.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::dialect::mesos::Task;
use super::inquire::inquire;
use super::node::Data;
use super::wire::{Name, rtype};
use super::zone::ZoneTable;
use super::zone_settings::ZoneSettings;
use crate::catalog::Snapshot;

/// Who asks, for views: nobody in particular.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The zone called `apex`, as it is now.
fn zone<'a>(table: &'a ZoneTable, apex: &str) -> Option<&'a ZoneSettings> {
    let apex = Name::parse(apex).ok()?;
    table.settings().zones.iter().find(|zone| zone.apex == apex)
}

/// `/v1/config`: what of the configuration a client may want to know.
#[must_use]
pub fn config(table: &ZoneTable, apex: &str) -> Value {
    let zone = zone(table, apex);
    let listen = table.settings().listen.first();
    json!({
        "Domain": apex,
        "TTL": zone.map(|zone| zone.ttl),
        "SOAMinttl": zone.map(|zone| zone.negative_ttl),
        "Port": listen.map(std::net::SocketAddr::port),
        "Listener": listen.map(|listen| listen.ip().to_string()),
        "Resolvers": table.settings().forward.as_ref().map(|forward| {
            forward.upstreams().map(ToString::to_string).collect::<Vec<_>>()
        }),
        "DNSOn": true,
        "HTTPOn": true,
        "ExternalOn": table.settings().forward.is_some(),
        "RecurseOn": table.settings().forward.is_some(),
        "IPSources": ["netinfo", "mesos", "host"],
        "EnforceRFC952": false,
    })
}

/// `/v1/hosts/NAME`: the addresses of a name. One entry of empty texts when it has none.
#[must_use]
pub fn hosts(table: &ZoneTable, host: &str) -> Value {
    let mut found = Vec::new();
    if let Ok(name) = Name::parse(host) {
        for qtype in [rtype::A, rtype::AAAA] {
            for (_, _, data) in inquire(table, &name, qtype, NOBODY).answers {
                if let Some(ip) = address(&data) {
                    found.push(json!({ "host": name.to_string(), "ip": ip.to_string() }));
                }
            }
        }
    }
    if found.is_empty() {
        found.push(json!({ "host": "", "ip": "" }));
    }
    found.into()
}

/// `/v1/services/NAME`: host, address and port of each SRV record. One entry of empty texts when
/// there is none.
#[must_use]
pub fn services(table: &ZoneTable, service: &str) -> Value {
    let mut found = Vec::new();
    if let Ok(name) = Name::parse(service) {
        let told = inquire(table, &name, rtype::SRV, NOBODY);
        for (_, _, data) in &told.answers {
            let Data::Srv(srv) = data else { continue };
            let ip = told.additional.iter().find(|(owner, ..)| *owner == srv.target);
            let ip = ip.and_then(|(_, _, data)| address(data)).map(|ip| ip.to_string());
            found.push(json!({
                "service": name.to_string(),
                "host": srv.target.to_string(),
                "ip": ip.unwrap_or_default(),
                "port": srv.port.to_string(),
            }));
        }
    }
    if found.is_empty() {
        found.push(json!({ "service": "", "host": "", "ip": "", "port": "" }));
    }
    found.into()
}

const fn address(data: &Data) -> Option<IpAddr> {
    match data {
        Data::A(ip) => Some(IpAddr::V4(*ip)),
        Data::Aaaa(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// `/v1/enumerate`: every framework with its tasks and their records.
#[must_use]
pub fn enumerate(table: &ZoneTable, snapshot: &Snapshot, apex: &str) -> Value {
    let Some(zone) = zone(table, apex) else { return json!({ "frameworks": [] }) };
    let mut frameworks: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut services: Vec<_> = snapshot.services.values().collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    for service in services {
        for instance in service.eligible.iter().filter(|i| zone.shows(&i.registry)) {
            let Some(task) = Task::of(zone, service, instance) else { continue };
            let alone = crate::catalog::model::Service {
                name: service.name.clone(),
                tags: service.tags.clone(),
                meta: service.meta.clone(),
                problems: service.problems.clone(),
                instances: [instance.clone()].into(),
                eligible: [instance.clone()].into(),
            };
            let records: Vec<Value> = zone
                .list(&alone)
                .in_zone()
                .filter_map(|(owner, record)| {
                    let (rtype, host) = match &record.data {
                        Data::A(ip) => ("A", ip.to_string()),
                        Data::Aaaa(ip) => ("AAAA", ip.to_string()),
                        Data::Srv(srv) => ("SRV", format!("{}:{}", srv.target, srv.port)),
                        _ => return None,
                    };
                    Some(json!({ "name": owner.to_string(), "host": host, "rtype": rtype }))
                })
                .collect();
            let told = json!({ "name": task.name, "id": task.id, "records": records });
            frameworks.entry(task.framework).or_default().push(told);
        }
    }
    let frameworks: Vec<Value> = frameworks
        .into_iter()
        .map(|(name, tasks)| json!({ "name": name, "tasks": tasks }))
        .collect();
    json!({ "frameworks": frameworks })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::dialect::testing::{service, settings};
    use super::*;

    #[test]
    fn it_tells_hosts_services_and_everything_as_mesos_dns_does() {
        let settings = settings("listen = [\"10.0.0.53:53\"]\n[zone.mesos]\ndialect = \"mesos\"");
        let web = service("web", &["abc 10.0.0.1 31000"]);
        let services = [(Arc::clone(&web.name), Arc::new(web))].into_iter().collect();
        let snapshot = Snapshot { services, ..Snapshot::default() };
        let table = ZoneTable::compile(&settings, None, &snapshot);
        let host = "web.marathon.mesos.";
        assert_eq!(hosts(&table, host), json!([{ "host": host, "ip": "10.0.0.1" }]));
        assert_eq!(hosts(&table, "nobody.mesos"), json!([{ "host": "", "ip": "" }]));
        assert_eq!(
            super::services(&table, "_web._tcp.marathon.mesos"),
            json!([{
                "service": "_web._tcp.marathon.mesos.",
                "host": "web-igcuh.marathon.slave.mesos.",
                "ip": "10.0.0.1",
                "port": "31000",
            }])
        );
        assert_eq!(super::services(&table, "x")[0]["port"], "");
        let all = enumerate(&table, &snapshot, "mesos");
        let task = &all["frameworks"][0]["tasks"][0];
        assert_eq!(
            (&all["frameworks"][0]["name"], &task["id"]),
            (&json!("marathon"), &json!("abc"))
        );
        assert_eq!(task["records"].as_array().unwrap().len(), 8);
        assert_eq!(config(&table, "mesos")["TTL"], 60);
    }
}
