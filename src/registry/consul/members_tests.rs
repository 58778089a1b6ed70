use super::*;
use crate::catalog::model::Presence;

const OLD: &str = r#"[{"Node":{"Node":"n1","Address":"10.1.10.12",
    "TaggedAddresses":{"wan":"10.1.10.12"},"CreateIndex":3,"ModifyIndex":4},
  "Service":{"ID":"redis","Service":"redis","Tags":null,"Address":"","Port":8000,
    "EnableTagOverride":false,"CreateIndex":4,"ModifyIndex":4},
  "Checks":[{"Node":"n1","CheckID":"serfHealth","Name":"Serf Health Status","Status":"passing",
    "Notes":"","Output":"Agent alive and reachable","ServiceID":"","ServiceName":""}]}]"#;

const MIDDLE: &str = r#"[{"Node":{"ID":"40e4a748-2192-161a-0510-9bf59fe950b5","Node":"foobar",
    "Address":"10.1.10.12","Datacenter":"dc1","TaggedAddresses":{"lan":"10.1.10.12","wan":"192.0.2.1"},
    "Meta":{"instance_type":"t2.medium"}},
  "Service":{"ID":"redis 1","Service":"redis","Tags":["primary","primary"],"Address":"10.1.10.13",
    "TaggedAddresses":{"lan":{"address":"10.1.10.13","port":8000},"wan":{"Address":"198.18.1.2","Port":80}},
    "Meta":{"redis_version":"4.0"},"Port":8000,"Weights":{"Passing":10,"Warning":1},
    "EnableTagOverride":false,"Proxy":{"Mode":"","MeshGateway":{}},"Connect":{}},
  "Checks":[{"Node":"foobar","CheckID":"service:redis","Name":"Service 'redis' check",
    "Status":"warning","Notes":"","Output":"took 3 ms","ServiceID":"redis","ServiceTags":["primary"],
    "Definition":{}}]}]"#;

const NEW: &str = r#"[{"Node":{"ID":"","Node":"n","Address":"10.0.0.1","Datacenter":"dc2",
    "TaggedAddresses":{"lan":"10.0.0.1","lan_ipv4":"10.0.0.1"},"Meta":{"consul-version":"1.22.0"},
    "Partition":"default","PeerName":"east","Locality":{"Region":"eu-1","Zone":"eu-1a"}},
  "Service":{"ID":"web","Service":"web","Kind":"","Tags":[],"Address":"2001:db8::1",
    "TaggedAddresses":{"virtual":{"Address":"240.0.0.1","Port":8080},"consul-virtual":{"Address":"240.0.0.2","Port":80}},
    "Meta":null,"Port":0,"SocketPath":"","Weights":{"Passing":1,"Warning":0},
    "Partition":"default","Namespace":"team","PeerName":"east","Locality":null},
  "Checks":[]}]"#;

fn wish() -> Wish {
    Wish {
        registry: "dc1".into(),
        tags: Vec::new(),
        address_tag: None,
        services_max: 10,
        instances_max: 10,
        keys_max: 10,
    }
}

fn read(body: &str, wish: &Wish) -> Option<SourceService> {
    members(body.as_bytes(), &"redis".into(), wish, None).unwrap()
}

fn only(body: &str) -> Instance {
    let service = read(body, &wish()).unwrap();
    assert_eq!(service.problems, [], "{body}");
    assert_eq!(service.instances.len(), 1);
    Instance::clone(&service.instances[0])
}

fn facts(meta: &Meta) -> Vec<String> {
    meta.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[test]
fn answers_of_old_middling_and_new_consuls_are_read() {
    let old = only(OLD);
    assert_eq!((&*old.id, old.address.to_string()), ("n1/redis", "10.1.10.12".into()));
    assert_eq!((old.port(""), old.weight.value(), old.health), (Some(8000), 1, Health::Healthy));
    assert_eq!(&*old.cause, "");

    let middle = only(MIDDLE);
    assert_eq!(&*middle.id, "foobar/redis%201");
    assert_eq!(middle.address.to_string(), "10.1.10.13");
    assert_eq!(middle.tags[..], ["primary".into()]);
    assert_eq!((middle.weight.value(), middle.health), (1, Health::Warning));
    assert_eq!(&*middle.cause, "Consul check \"Service 'redis' check\" is warning");
    assert_eq!(
        facts(&middle.meta),
        [
            "consul.address.lan=10.1.10.13:8000",
            "consul.address.wan=198.18.1.2:80",
            "consul.datacenter=dc1",
            "consul.id=redis 1",
            "redis_version=4.0"
        ]
    );
    let node = middle.node.unwrap();
    assert_eq!((&*node.name, node.address.unwrap().to_string()), ("foobar", "10.1.10.12".into()));
    assert_eq!(
        facts(&node.meta),
        [
            "consul.address.lan=10.1.10.12",
            "consul.address.wan=192.0.2.1",
            "instance_type=t2.medium"
        ]
    );

    let new = only(NEW);
    assert_eq!((&*new.id, new.address.to_string()), ("east:n/web", "2001:db8::1".into()));
    assert_eq!((new.port(""), new.health), (None, Health::Unknown));
    assert_eq!(new.locality.as_deref(), Some("eu-1a"));
    for fact in
        ["consul.address.virtual=240.0.0.1:8080", "consul.namespace=team", "consul.peer=east"]
    {
        assert!(facts(&new.meta).contains(&fact.into()), "{fact}");
    }
}

#[test]
fn what_changes_without_meaning_changes_nothing() {
    let before = read(MIDDLE, &wish()).unwrap();
    let noisy = MIDDLE
        .replace("took 3 ms", "took 4 ms")
        .replace("\"Port\":8000,\"Weights\"", "\"ModifyIndex\":9,\"Port\":8000,\"Weights\"");
    assert_ne!(noisy, MIDDLE);
    assert_eq!(read(&noisy, &wish()).unwrap(), before);
    let last = Some(&before);
    let after = members(noisy.as_bytes(), &"redis".into(), &wish(), last).unwrap().unwrap();
    assert!(Arc::ptr_eq(&after.instances[0], &before.instances[0]), "shared with before");
}

#[test]
fn the_worst_check_decides_and_maintenance_takes_out_of_work() {
    let check = |id: &str, status: &str, notes: &str| {
        format!(
            "{{\"CheckID\":\"{id}\",\"Name\":\"{id}\",\"Status\":\"{status}\",\"Notes\":\"{notes}\"}}"
        )
    };
    let serf = check("serfHealth", "passing", "");
    use Health::{Healthy, Unhealthy, Unknown, Warning};
    use Presence::{Active, Draining};
    for (case, checks, want, cause) in [
        ("none", vec![], (Unknown, Active), ""),
        ("passing", vec![serf.clone()], (Healthy, Active), ""),
        (
            "worst of three",
            vec![serf.clone(), check("b", "critical", ""), check("a", "warning", "")],
            (Unhealthy, Active),
            "Consul check \"b\" is critical",
        ),
        (
            "first of two warnings",
            vec![check("b", "warning", ""), check("a", "warning", "")],
            (Warning, Active),
            "Consul check \"a\" is warning",
        ),
        ("a status of old", vec![check("a", "unknown", "")], (Unknown, Active), ""),
        (
            "service in maintenance",
            vec![serf.clone(), check("_service_maintenance:web", "critical", "new disk")],
            (Healthy, Draining),
            "the service is in maintenance: new disk",
        ),
        (
            "node in maintenance, and failing",
            vec![
                check("_service_maintenance:web", "critical", "x"),
                check("_node_maintenance", "critical", ""),
                check("c", "critical", ""),
            ],
            (Unhealthy, Draining),
            "the node is in maintenance",
        ),
    ] {
        let body = OLD.split("\"Checks\"").next().unwrap();
        let body = format!("{body}\"Checks\":[{}]}}]", checks.join(","));
        let instance = only(&body);
        assert_eq!((instance.health, instance.presence), want, "{case}");
        assert_eq!(&*instance.cause, cause, "{case}");
    }
}

#[test]
fn a_tagged_address_is_used_where_there_is_one() {
    for (case, body, tag, want) in [
        ("of the service", MIDDLE, "wan", "198.18.1.2:80"),
        ("of the node, without one of the service", OLD, "wan", "10.1.10.12:8000"),
        ("none of that name", MIDDLE, "lan_ipv6", "10.1.10.13:8000"),
    ] {
        let wish = Wish { address_tag: Some(tag.into()), ..wish() };
        let service = read(body, &wish).unwrap();
        assert_eq!(service.instances[0].socket("").unwrap().to_string(), want, "{case}");
    }
}

#[test]
fn only_instances_with_all_wanted_tags_count_and_none_is_no_service() {
    for (case, tags, found) in [
        ("none wanted", vec![], true),
        ("borne", vec!["primary".into()], true),
        ("one is missing", vec!["primary".into(), "prod".into()], false),
    ] {
        let wish = Wish { tags, ..wish() };
        assert_eq!(read(MIDDLE, &wish).is_some(), found, "{case}");
    }
    assert_eq!(read("[]", &wish()), None);
}

#[test]
fn what_breaks_a_rule_costs_its_owner_and_is_told() {
    for (case, from, to, left, want) in [
        (
            "port",
            "\"Port\":8000,\"W",
            "\"Port\":70000,\"W",
            0,
            "instance foobar/redis 1: port 70000",
        ),
        ("address", "10.1.10.13\",", "a b\",", 0, "address \"a b\""),
        ("tag", "[\"primary\"", "[\"a\\u0000\"", 1, "control character"),
        ("meta value", "\"4.0\"", "\"4\\n0\"", 1, "control character"),
        ("weight", "\"Warning\":1", "\"Warning\":2000", 1, "the largest is used"),
    ] {
        let body = MIDDLE.replacen(from, to, 1);
        assert_ne!(body, MIDDLE, "{case}");
        let service = read(&body, &wish()).unwrap();
        assert_eq!(service.instances.len(), left, "{case}");
        assert!(service.problems[0].contains(want), "{case}: {:?}", service.problems);
    }
    let twice = format!("[{0},{0}]", &MIDDLE[1..MIDDLE.len() - 1]);
    let service = read(&twice, &wish()).unwrap();
    assert_eq!((service.instances.len(), service.problems.len()), (1, 1));
}

#[test]
fn an_answer_that_is_none_or_too_long_counts_for_nothing() {
    for (case, body) in [
        ("garbage", "\0[]not json"),
        ("another answer", "{\"web\": 5}"),
        ("cut", &MIDDLE[..300]),
        ("null in it", "[null]"),
        ("no service", "[{\"Node\":{\"Node\":\"a\"}}]"),
    ] {
        let read = members(body.as_bytes(), &"redis".into(), &wish(), None);
        assert!(read.unwrap_err().contains("no list of instances"), "{case}");
    }
    let entries: Vec<_> =
        (0..11).map(|n| MIDDLE[1..MIDDLE.len() - 1].replace("redis 1", &format!("r{n}"))).collect();
    let body = format!("[{}]", entries.join(","));
    let error = members(body.as_bytes(), &"redis".into(), &wish(), None).unwrap_err();
    assert!(error.contains("raise `max_instances` of [registry.dc1.consul]"), "{error}");
}
