use super::*;

const PLAIN: &str = r#"
[service.web]
tags = ["v2", "prod"]
meta = { team = "shop" }

[[service.web.instance]]
id = "web-1"
address = "10.0.0.11"
ports = { metrics = 9100, http = 8080 }
weight = 10
locality = "eu-1a"
tags = ["canary", "prod"]
meta = { version = "2.1" }
group = "blue"
node = { name = "n1", address = "10.0.0.1", meta = { rack = "r1" } }
health = "unhealthy"
draining = true

[[service.web.instance]]
address = "fd00::1"
port = 8080

[[service.web.instance]]
address = "db.internal"
"#;

fn decoded(notation: Notation, text: &str) -> Decoded {
    decode(&"local".into(), "s.toml", text, notation, 100).unwrap()
}

#[test]
fn every_field_of_an_instance_is_read() {
    let decoded = decoded(Notation::Toml, PLAIN);
    assert!(decoded.problems.is_empty());
    let [web] = &decoded.services[..] else { panic!("one service, not {:?}", decoded.services) };
    assert!(web.problems.is_empty(), "{:?}", web.problems);
    assert_eq!(web.meta.get("team").map(|v| &**v), Some("shop"));
    let ids: Vec<&str> = web.instances.iter().map(|i| &*i.id).collect();
    assert_eq!(ids, ["web-1", "[fd00::1]:8080", "db.internal"], "the default is address:port");
    let first = &web.instances[0];
    assert_eq!(first.tags.iter().map(|t| &**t).collect::<Vec<_>>(), ["v2", "prod", "canary"]);
    assert_eq!(
        first.ports.iter().map(|p| (&*p.name, p.number)).collect::<Vec<_>>(),
        [("http", 8080), ("metrics", 9100)]
    );
    assert_eq!(first.weight.value(), 10);
    assert_eq!((first.health, first.presence), (Health::Unhealthy, Presence::Draining));
    assert_eq!(&*first.registry, "local");
    let node = first.node.as_ref().unwrap();
    assert_eq!((&*node.name, node.meta.len()), ("n1", 1));
    assert_eq!(first.group.as_deref(), Some("blue"));
    assert_eq!(first.locality.as_deref(), Some("eu-1a"));
}

#[test]
fn a_bad_instance_is_refused_under_its_service_and_its_neighbours_stay() {
    for (case, line, want) in [
        ("port", "port = 70000", "s.toml:5:8: port 70000 is not between 1 and 65535"),
        (
            "weight",
            "weight = 1000000000",
            "s.toml:5:10: weight 1000000000 is not between 0 (no new work) and 1000",
        ),
        (
            "type",
            "port = \"80\"",
            "s.toml:5:8: `port` must be a whole number without quotes, not the string \"80\"",
        ),
        (
            "unknown key",
            "prot = 1",
            "s.toml:5:1: unknown key `prot` in an instance; did you mean `port`? Known keys: id, \
             address, port, ports, weight, locality, tags, meta, group, node, health, draining",
        ),
        (
            "health",
            "health = \"healty\"",
            "s.toml:5:10: unknown health `healty`; did you mean `healthy`? \
             Known values: unknown, healthy, warning, unhealthy",
        ),
        (
            "control character",
            "tags = [\"a\\u0007\"]",
            "s.toml:5:9: tag \"a\\u{7}\" contains the control character '\\u{7}'",
        ),
        (
            "two kinds of ports",
            "port = 1\nports = { a = 1 }",
            "s.toml:3:1: the instance has both `port` and `ports`; keep one of them",
        ),
        (
            "taken id",
            "id = \"10.0.0.1\"",
            "s.toml:3:1: the id \"10.0.0.1\" is taken by an instance above it; \
             give each instance its own `id`",
        ),
    ] {
        let good = "[[service.web.instance]]\naddress = \"10.0.0.1\"\n";
        let text = format!("{good}[[service.web.instance]]\naddress = \"10.0.0.2\"\n{line}\n");
        let decoded = decoded(Notation::Toml, &text);
        let web = &decoded.services[0];
        let problems: Vec<&str> = web.problems.iter().map(|p| &**p).collect();
        assert_eq!(problems, [want], "{case}");
        assert_eq!(web.instances.len(), 1, "{case}: the neighbour stays");
    }
}

#[test]
fn a_service_that_cannot_be_named_or_read_is_told_beside_the_others() {
    let text = "[service.\"my web\"]\n[service.ok]\n[service]\nflat = 5\n[srevice.x]\n";
    let decoded = decoded(Notation::Toml, text);
    let names: Vec<&str> = decoded.services.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["ok"]);
    let told: Vec<_> =
        decoded.problems.iter().map(|p| format!("{}: {}", p.place, p.message)).collect();
    assert_eq!(
        told,
        [
            "s.toml:4:8: `flat` must be a table, not the number 5",
            "s.toml:1:10: service name \"my web\" contains ' '; use letters, digits, '-', '_' or '.' instead",
            "s.toml:5:2: unknown key `srevice` in the file; did you mean `service`? Known keys: service",
        ]
    );
}

#[test]
fn where_the_notation_tells_no_position_the_path_does() {
    let json = r#"{"service": {"web": {"instance": [
        {"address": "10.0.0.1"}, {"address": "10.0.0.2", "meta": {"a": 2.1}}, {"port": 1}]}}}"#;
    let decoded = decoded(Notation::Json, json);
    let problems: Vec<&str> = decoded.services[0].problems.iter().map(|p| &**p).collect();
    assert_eq!(
        problems,
        [
            "s.toml: service.web.instance[1].meta.a: `a` must be a string in quotes, not the number 2.1",
            "s.toml: service.web.instance[2]: the instance has no `address`; add one",
        ]
    );
    assert_eq!(decoded.services[0].instances.len(), 1);
}

#[test]
fn the_three_notations_say_the_same() {
    let toml = "[service.web]\ntags = [\"a\"]\n[[service.web.instance]]\naddress = \"10.0.0.1\"\nport = 80\n[service.none]\n";
    let yaml = "service:\n  none:\n  web:\n    tags: [a]\n    instance:\n      - address: 10.0.0.1\n        port: 80\n";
    let json = r#"{"service": {"none": {}, "web": {"tags": ["a"], "instance": [{"address": "10.0.0.1", "port": 80}]}}}"#;
    let want = decoded(Notation::Toml, toml).services;
    assert_eq!(want.len(), 2);
    assert_eq!(decoded(Notation::Yaml, yaml).services, want);
    assert_eq!(decoded(Notation::Json, json).services, want);
}

#[test]
fn more_instances_than_allowed_refuse_the_file_as_a_whole() {
    let error = decode(&"local".into(), "s.toml", PLAIN, Notation::Toml, 2).unwrap_err();
    assert!(error.contains("3 instances, more than 2; raise `max_instances`"), "{error}");
}

#[test]
fn a_large_yaml_file_is_read_and_each_of_many_refusals_finds_its_line() {
    use std::fmt::Write as _;
    let mut yaml = "service:\n  web:\n    instance:\n".to_owned();
    let mut toml = String::new();
    for number in 0..40_000 {
        let (high, low) = (number / 250, number % 250 + 1);
        writeln!(yaml, "    - {{address: 10.0.{high}.{low}, port: 80, weight: 1}}").unwrap();
        if number < 5_000 {
            writeln!(toml, "[[service.s{number}.instance]]\naddress = \"x y\"").unwrap();
        }
    }
    let read = decode(&"l".into(), "s", &yaml, Notation::Yaml, 100_000).unwrap();
    assert_eq!(read.services[0].instances.len(), 40_000);
    let read = decoded(Notation::Toml, &toml);
    let last = read.services.iter().find(|service| &*service.name == "s4999").unwrap();
    assert!(last.problems[0].starts_with("s.toml:10000:11: address"), "{:?}", last.problems);
}
