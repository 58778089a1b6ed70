use std::collections::BTreeMap;

use super::*;
use crate::catalog::Service;
use crate::proxy::ProxyTable;
use crate::proxy::config::{HttpListenerConfig, ListenerConfig};
use crate::proxy::labels::LabelsConfig;
use crate::proxy::upstream::tests::instance;
use crate::proxy::work;

fn settings(more: &str) -> Arc<Settings> {
    let http = || ListenerConfig {
        http: Some(HttpListenerConfig::usual(vec!["127.0.0.1:0".parse().unwrap()])),
        ..ListenerConfig::default()
    };
    let listeners = BTreeMap::from([("web".to_owned(), http()), ("apps".to_owned(), http())]);
    let labels =
        format!("[marathon-lb]\ngroup = [\"*\"]\nhttp = \"web\"\napp_id = \"apps\"\n{more}");
    let labels: LabelsConfig = toml::from_str(&labels).unwrap();
    let settings = Settings::compile(&listeners, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    Arc::new(settings.labelled(&labels))
}

fn service(name: &str, address: &str, meta: &[(&str, &str)]) -> Arc<Service> {
    let meta = meta.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let instances: Arc<[_]> = Arc::new([instance("a", address, 80, 1)]);
    Arc::new(Service {
        name: name.into(),
        tags: Arc::new([]),
        meta: Arc::new(meta),
        eligible: Arc::clone(&instances),
        instances,
        problems: Arc::new([]),
    })
}

fn snapshot(generation: u64, services: &[Arc<Service>]) -> Snapshot {
    let services = services.iter().map(|of| (Arc::clone(&of.name), Arc::clone(of))).collect();
    Snapshot { generation, services, registries: Arc::new([]), ..Snapshot::default() }
}

fn ports(table: &ProxyTable) -> Vec<String> {
    let all = table.overlay().ports().iter();
    let mut all: Vec<_> = all.map(|(name, own)| format!("{name} {}", own.service)).collect();
    all.sort();
    all
}

fn problems(table: &ProxyTable) -> Vec<String> {
    let all = table.overlay().problems(None);
    all.iter().map(|problem| format!("{}: {}", problem.service, problem.why)).collect()
}

#[test]
fn instances_come_and_go_and_nothing_that_labels_ask_for_is_made_anew() {
    let settings = settings("");
    let labels = [("HAPROXY_0_VHOST", "a.example"), ("HAPROXY_0_PORT", "10001")];
    let first = snapshot(1, &[service("a", "10.0.0.1", &labels)]);
    let table = ProxyTable::compile(&settings, None, &first);
    assert_eq!(table.overlay().problems(None), []);
    assert_eq!(ports(&table), ["a_10001 a"]);
    assert_eq!(table.endpoints("a").count(), 1);

    let second = snapshot(2, &[service("a", "10.0.0.2", &labels)]);
    let next = ProxyTable::compile(&settings, Some((&table, &first)), &second);
    assert!(Arc::ptr_eq(table.overlay(), next.overlay()));
    assert_eq!(next.endpoints("a").next().unwrap().address.ip().to_string(), "10.0.0.2");

    // What is asked for no more is gone; its upstream serves who is accepted in this moment, and goes
    // with its service.
    let third = snapshot(3, &[service("a", "10.0.0.2", &[])]);
    let next = ProxyTable::compile(&settings, Some((&next, &second)), &third);
    assert!(ports(&next).is_empty() && next.listener("a_10001").is_none());
    assert!(next.wants("a"));
    assert!(next.overlay().listeners.is_empty());
    let fourth = snapshot(4, &[]);
    let next = ProxyTable::compile(&settings, Some((&next, &third)), &fourth);
    assert!(!next.wants("a"));
}

#[test]
fn a_port_stays_with_whom_it_is_and_others_are_told() {
    let settings = settings("ports = { allowed = [\"10000-10010\"], max = 2 }");
    let asks = |name: &str, port: &str| service(name, "10.0.0.1", &[("HAPROXY_0_PORT", port)]);
    let first = snapshot(1, &[asks("b", "10001"), asks("x", "10002")]);
    let table = ProxyTable::compile(&settings, None, &first);
    assert_eq!(ports(&table), ["b_10001 b", "x_10002 x"]);

    let second = snapshot(
        2,
        &[
            asks("a", "10001"),
            asks("b", "10001"),
            asks("c", "10003"),
            asks("d", "22"),
            asks("x", "10002"),
        ],
    );
    let next = ProxyTable::compile(&settings, Some((&table, &first)), &second);
    assert_eq!(ports(&next), ["b_10001 b", "x_10002 x"]);
    let told = problems(&next);
    for want in [
        "a: port 10001 is that of the service \"b\"",
        "c: port 10003 is one too many; let [labels.marathon-lb] ports.max be above 2",
        "d: ",
    ] {
        assert!(told.iter().any(|told| told.starts_with(want)), "{want}: {told:#?}");
    }
    // A process that begins with the same has no memory: the first by name gets it.
    let fresh = ProxyTable::compile(&settings, None, &second);
    assert_eq!(ports(&fresh), ["a_10001 a", "c_10003 c"]);
    // Another configuration in the same process keeps them.
    let other = self::settings("ports = { allowed = [\"10000-10010\"], max = 3 }");
    let kept = ProxyTable::compile(&other, Some((&next, &second)), &second);
    assert_eq!(ports(&kept), ["b_10001 b", "c_10003 c", "x_10002 x"]);
}

#[test]
fn two_services_that_ask_for_the_same_host_are_told_apart() {
    let settings = settings("");
    let asks = |name: &str| service(name, "10.0.0.1", &[("HAPROXY_0_VHOST", "shop.example")]);
    let first = snapshot(1, &[asks("b")]);
    let table = ProxyTable::compile(&settings, None, &first);
    assert_eq!(problems(&table), [""; 0]);
    let second = snapshot(2, &[asks("a"), asks("b")]);
    let next = ProxyTable::compile(&settings, Some((&table, &first)), &second);
    let told = problems(&next);
    assert!(told.len() == 1 && told[0].starts_with("b: ") && told[0].contains("\"a\""), "{told:?}");
    assert_eq!(next.overlay().problems(Some("b")).len(), 1);
    assert_eq!(next.overlay().problems(Some("a")), []);
    let third = snapshot(3, &[asks("b")]);
    let last = ProxyTable::compile(&settings, Some((&next, &second)), &third);
    assert_eq!(problems(&last), [""; 0]);
}

#[test]
fn a_policy_by_label_is_of_its_port_and_lies_over_what_is_configured() {
    let settings = settings("");
    let labels = [("HAPROXY_0_PORT", "10001"), ("HAPROXY_0_BALANCE", "leastconn")];
    let all = snapshot(1, &[service("a", "10.0.0.1", &labels)]);
    let table = ProxyTable::compile(&settings, None, &all);
    let own = table.overlay().ports().get("a_10001").unwrap();
    let balance = table.balance(&own.asked.target).unwrap();
    assert_eq!(balance.policy.as_deref(), Some("least-connections"));
    assert!(table.retries("a").is_some() && table.retries("b").is_none());
}

/// What is compiled for one label, for one instance, and for all of so many services.
fn costs(services: usize) -> (Vec<usize>, Vec<usize>, usize) {
    let settings = settings("ports = { allowed = [\"1024-65535\"], max = 20000 }");
    let labels = |n: usize, host: &str| {
        let (host, port) = (format!("{host}{n}.example"), (10_000 + n).to_string());
        service(
            &format!("s{n}"),
            "10.0.0.1",
            &[("HAPROXY_0_VHOST", &host), ("HAPROXY_0_PORT", &port), ("HAPROXY_0_MODE", "http")],
        )
    };
    let all: Vec<_> = (0..services).map(|n| labels(n, "h")).collect();
    let mut known = snapshot(1, &all);
    work::done();
    let mut table = ProxyTable::compile(&settings, None, &known);
    let all = work::done();
    let (mut by_label, mut by_instance) = (Vec::new(), Vec::new());
    for n in 0..10 {
        let labelled = labels(n, "g");
        let mut moved = labels(n, "g");
        let at: Arc<[_]> = Arc::new([instance("a", "10.0.0.9", 80, 1)]);
        let service = Arc::get_mut(&mut moved).unwrap();
        (service.instances, service.eligible) = (Arc::clone(&at), at);
        for (now, costs) in [(labelled, &mut by_label), (moved, &mut by_instance)] {
            let mut next = known.clone();
            next.generation += 1;
            next.services.insert(Arc::clone(&now.name), now);
            let compiled = ProxyTable::compile(&settings, Some((&table, &known)), &next);
            costs.push(work::done());
            // What is counted is all that differs, too.
            let mut others = 0;
            compiled.changes_since(&table, |_, _, _| others += 1);
            assert_eq!(others, 1, "one upstream");
            (table, known) = (compiled, next);
        }
    }
    (by_label, by_instance, all)
}

#[test]
fn a_label_among_those_of_thousands_of_services_costs_what_it_costs_among_ten() {
    let (few_labels, few_instances, few) = costs(10);
    let (labels, instances, all) = costs(2_000);
    assert_eq!((&labels, &instances), (&few_labels, &few_instances));
    assert_eq!(all, 200 * few, "everything costs what there is");
    let dearest = |costs: &[usize]| costs.iter().max().copied();
    let (label, instance) = (dearest(&labels), dearest(&instances));
    // The labels, the route and its host, the upstream with its endpoint.
    assert_eq!((label, instance), (Some(5), Some(3)), "{all} in all");
}
