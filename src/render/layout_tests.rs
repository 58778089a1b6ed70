use std::cell::RefCell;

use super::*;
use crate::catalog::model::{Meta, Node, Port};
use crate::catalog::{Health, Weight};

/// Services that remember what was asked.
#[derive(Default)]
struct Services {
    services: Vec<Arc<Service>>,
    asked: RefCell<Vec<String>>,
}

impl Shown for Services {
    fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.asked.borrow_mut().push(name.to_owned());
        self.services.iter().find(|service| &*service.name == name).cloned()
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.asked.borrow_mut().push("*".to_owned());
        self.services.iter().map(|service| Arc::clone(&service.name)).collect()
    }

    fn generation(&self) -> u64 {
        self.asked.borrow_mut().push("#".to_owned());
        7
    }
}

fn meta(entries: &[(&str, &str)]) -> Meta {
    entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn sample() -> Services {
    let one = Instance {
        ports: Arc::new([
            Port { name: "admin".into(), number: 81 },
            Port { name: "http".into(), number: 80 },
        ]),
        tags: Arc::new(["v1".into()]),
        meta: meta(&[("shard", "7")]),
        weight: Weight::try_from(5).unwrap(),
        group: Some("blue".into()),
        locality: Some("eu-1".into()),
        node: Some(Node {
            name: "n1".into(),
            address: Some(Address::parse("10.0.0.9").unwrap()),
            meta: meta(&[("rack", "a")]),
        }),
        health: Health::Healthy,
        ..Instance::bare("dc1", "web/1", Address::parse("fd00::1").unwrap())
    };
    let two = Instance {
        ports: Arc::new([Port { name: "".into(), number: 8080 }]),
        health: Health::Unhealthy,
        presence: Presence::Draining,
        ..Instance::bare("dc1", "web2", Address::parse("web2.internal").unwrap())
    };
    let (one, two) = (Arc::new(one), Arc::new(two));
    let web = Service {
        name: "web".into(),
        tags: Arc::new(["v1".into()]),
        meta: Arc::new(meta(&[("team", "shop")])),
        instances: Arc::new([Arc::clone(&one), two]),
        eligible: Arc::new([one]),
        problems: Arc::new([]),
    };
    let gone = Service {
        name: "web-old".into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: Arc::new([]),
        eligible: Arc::new([]),
        problems: Arc::new([]),
    };
    Services { services: vec![Arc::new(web), Arc::new(gone)], ..Services::default() }
}

fn keys(services: &Services, prefix: &str) -> Vec<String> {
    let mut pairs = Pairs::new();
    add(services, prefix, &mut pairs);
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[test]
fn everything_that_is_known_of_an_instance_is_a_key() {
    assert_eq!(
        keys(&sample(), "/services"),
        [
            "/services/web/web%2F1/address=fd00::1",
            "/services/web/web%2F1/endpoint=[fd00::1]:81",
            "/services/web/web%2F1/group=blue",
            "/services/web/web%2F1/health=healthy",
            "/services/web/web%2F1/id=web/1",
            "/services/web/web%2F1/locality=eu-1",
            "/services/web/web%2F1/meta/shard=7",
            "/services/web/web%2F1/node=n1",
            "/services/web/web%2F1/port=81",
            "/services/web/web%2F1/ports/admin=81",
            "/services/web/web%2F1/ports/http=80",
            "/services/web/web%2F1/registry=dc1",
            "/services/web/web%2F1/tags/v1=v1",
            "/services/web/web%2F1/weight=5",
        ]
    );
    assert_eq!(
        keys(&sample(), "/instances/web/web2"),
        [
            "/instances/web/web2/address=web2.internal",
            "/instances/web/web2/eligible=false",
            "/instances/web/web2/endpoint=web2.internal:8080",
            "/instances/web/web2/health=unhealthy",
            "/instances/web/web2/id=web2",
            "/instances/web/web2/port=8080",
            "/instances/web/web2/presence=draining",
            "/instances/web/web2/registry=dc1",
            "/instances/web/web2/weight=1",
        ]
    );
}

#[test]
fn services_are_found_by_name_tag_fact_and_node() {
    for (prefix, want) in [
        ("/names", &["/names/web=1", "/names/web-old=0"][..]),
        ("/names/web", &["/names/web=1"]),
        ("names/web-old/", &["/names/web-old=0"]),
        ("/tags", &["/tags/v1/web=web"]),
        ("/tags/v2", &[]),
        ("/meta", &["/meta/web/team=shop"]),
        (
            "/nodes",
            &[
                "/nodes/n1/address=10.0.0.9",
                "/nodes/n1/meta/rack=a",
                "/nodes/n1/name=n1",
                "/nodes/n1/services/web/web%2F1=web/1",
            ],
        ),
        ("/generation", &["/generation=7"]),
        (
            "/services/web/web%2F1/ports",
            &["/services/web/web%2F1/ports/admin=81", "/services/web/web%2F1/ports/http=80"],
        ),
        ("/service", &[]),
        ("/none/web", &[]),
    ] {
        assert_eq!(keys(&sample(), prefix), want, "{prefix}");
    }
    let all = keys(&sample(), "/");
    assert_eq!(all.len(), 14 + 16 + 9 + 2 + 1 + 1 + 4, "{all:#?}");
    assert!(!all.iter().any(|key| key.starts_with("/generation")), "it would change every time");
}

#[test]
fn only_what_the_prefix_names_is_asked_for() {
    for (prefix, want) in [
        ("/services/web", &["web"][..]),
        ("/instances/web/web2/port", &["web"]),
        ("/names/none", &["none"]),
        ("/services/a%2Fb", &["a/b"]),
        ("/generation", &["#"]),
        ("/names", &["*", "web", "web-old"]),
        ("/tags/v1", &["*", "web", "web-old"]),
        ("/other", &[]),
    ] {
        let services = sample();
        keys(&services, prefix);
        assert_eq!(*services.asked.borrow(), want, "{prefix}");
    }
}

#[test]
fn names_that_would_meet_or_leave_stay_apart() {
    for (name, want) in
        [("web", "web"), ("a/b", "a%2Fb"), ("a%2Fb", "a%252Fb"), ("..", "%2E%2E"), ("a.b", "a.b")]
    {
        assert_eq!(segment(name), want);
        assert_eq!(plain(want), name);
    }
}
