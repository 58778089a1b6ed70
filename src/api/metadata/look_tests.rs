use std::sync::Arc;

use proptest::prelude::*;

use super::super::form::Form;
use super::super::place::Sieve;
use super::*;
use crate::catalog::model::{Address, Instance, Meta, Service};
use crate::catalog::{RegistryStatus, Snapshot};

fn service(name: &str, instances: &[(&str, u8)]) -> (Arc<str>, Arc<Service>) {
    let instance = |(id, ip): &(&str, u8)| {
        Arc::new(Instance::bare("live", id, Address::Ip([10, 0, 0, *ip].into())))
    };
    let instances: Arc<[Arc<Instance>]> = instances.iter().map(instance).collect();
    let service = Service {
        name: name.into(),
        tags: Arc::new([]),
        meta: Arc::new(Meta::from([("role".into(), "a b".into())])),
        eligible: Arc::clone(&instances),
        instances,
        problems: Arc::new([]),
    };
    (name.into(), Arc::new(service))
}

fn chart(answers: Option<&str>, live: bool) -> Chart {
    let mut services = crate::catalog::Shards::new();
    let mut registries = Vec::new();
    if live {
        for (name, told) in [
            service("Web.Shop", &[("Web-1", 1), ("web-2", 2)]),
            service("db.shop", &[("db-1", 3)]),
            service("empty", &[]),
        ] {
            services.insert(name, told);
        }
        registries.push(RegistryStatus {
            name: "live".into(),
            heard: true,
            ..RegistryStatus::default()
        });
    }
    if answers.is_some() {
        registries.push(RegistryStatus { name: "file".into(), ..RegistryStatus::default() });
    }
    let documents = answers.iter().map(|text| ("file".into(), Arc::from(*text))).collect();
    let snapshot = Snapshot {
        generation: 7,
        services,
        registries: registries.into(),
        documents,
        ..Snapshot::default()
    };
    let sieve = Sieve { registries: None, environment: "prod".into() };
    Chart::next(None, &Arc::new(snapshot), &Arc::new(sieve))
}

const ANSWERS: &str = r#"{"default": {"who": "all", "things": [{"name": "a", "n": 1},
    {"uuid": "u-2", "n": 2}, {"n": 3}, [4, 5], "six", {"name": "a", "n": 7}],
    "upper": {"Key": 1, "key": 2}, "services": [], "a/b": {"c d": true}},
    "10.0.0.1": {"who": "one"}}"#;

fn asked(chart: &Chart, version: &str, client: &str, path: &str) -> String {
    let Some(look) = Look::new(chart, version, client.parse().unwrap()) else {
        return "no such version".to_owned();
    };
    let path: Vec<String> = path.split('|').filter(|p| !p.is_empty()).map(Into::into).collect();
    let Some(node) = look.at(&path) else { return "nothing".to_owned() };
    Form::Text.write(&look, &node, 1 << 20).unwrap().replace('\n', " ").trim_end().to_owned()
}

#[test]
fn a_path_leads_by_key_by_index_by_name_and_by_identity() {
    let file = chart(Some(ANSWERS), false);
    let catalog = chart(None, true);
    let both = chart(Some(ANSWERS), true);
    for (case, chart, path, want) in [
        ("a value", &file, "who", "all"),
        ("a list", &file, "things", "0=a 1=u-2 2/ 3/ 4 5=a"),
        ("by index", &file, "things|0|n", "1"),
        ("by name, the first", &file, "things|a|n", "1"),
        ("by identity", &file, "things|u-2|n", "2"),
        ("a list in a list", &file, "things|3|1", "5"),
        ("behind the end", &file, "things|6", "nothing"),
        ("before the start", &file, "things|-1", "nothing"),
        ("far away", &file, "things|99999999999999999999", "nothing"),
        ("below a value", &file, "who|more", "nothing"),
        ("case counts", &file, "upper|Key", "1"),
        ("unless nothing is there", &file, "UPPER|KEY", "2"),
        ("a slash in a name", &file, "a/b|c d", "true"),
        ("a listing of it", &file, "a/b", "c+d"),
        ("dots", &file, "..", "nothing"),
        ("nul", &file, "\0", "nothing"),
        ("the generation", &file, "version", "7"),
        ("no catalog", &file, "containers", "nothing"),
        ("the root", &file, "", "a%2Fb/ services/ things/ upper/ version who"),
        (
            "the root of a catalog",
            &catalog,
            "",
            "containers/ environment_name environment_uuid environments/ hosts/ networks/ \
             services/ stacks/ version",
        ),
        ("services", &catalog, "services", "0=empty 1=db 2=web"),
        ("stacks", &catalog, "stacks", "0=default 1=shop"),
        ("containers", &catalog, "containers", "0=db-1 1=web-1 2=web-2"),
        ("by name", &catalog, "services|web|scale", "2"),
        ("in any case", &catalog, "Services|WEB|scale", "2"),
        ("containers by name", &catalog, "containers|WEB-1|primary_ip", "10.0.0.1"),
        ("containers of a service", &catalog, "services|web|containers|1|name", "web-2"),
        ("the same by name", &catalog, "services|web|containers|web-2|service_name", "web"),
        ("services of a stack", &catalog, "stacks|shop|services|db|containers|0|name", "db-1"),
        ("labels", &catalog, "services|db|labels|role", "a b"),
        ("an environment", &catalog, "environment_name", "prod"),
        ("what is null", &catalog, "services|db|vip", ""),
        ("no such container", &catalog, "containers|nobody", "nothing"),
        ("the file comes first", &both, "services", ""),
        ("the catalog behind it", &both, "containers|0|name", "db-1"),
        ("and who", &both, "who", "all"),
    ] {
        assert_eq!(asked(chart, "latest", "192.0.2.1", path), want, "{case}: {path}");
    }
    assert_eq!(asked(&file, "latest", "10.0.0.1", "who"), "one");
    assert_eq!(asked(&file, "2015-07-25", "10.0.0.1", "who"), "one");
    assert_eq!(asked(&file, "1999-01-01", "10.0.0.1", "who"), "one", "the file has no versions");
    assert_eq!(asked(&catalog, "1999-01-01", "10.0.0.1", "who"), "no such version");
}

#[test]
fn identities_lead_to_what_bears_them() {
    let chart = chart(None, true);
    for path in ["services|web", "stacks|shop", "containers|web-1", "services|web|containers|0"] {
        let uuid = asked(&chart, "latest", "::1", &format!("{path}|uuid"));
        let list = path.rsplit_once('|').unwrap().0;
        let name = asked(&chart, "latest", "::1", &format!("{list}|{uuid}|name"));
        assert_eq!(name, asked(&chart, "latest", "::1", &format!("{path}|name")), "{path}");
    }
}

#[test]
fn versions_differ_in_names_and_in_what_is_listed() {
    let chart = chart(None, true);
    for (version, path, want) in [
        ("2015-07-25", "services", "0=empty 1=db 2=Web"),
        ("2015-07-25", "services|Web|containers", "0 1"),
        ("2015-07-25", "services|Web|containers|0", "Web-1"),
        ("2015-12-19", "services|Web|containers", "0=Web-1 1=web-2"),
        ("2015-12-19", "stacks|shop|services", "0=db 1=Web"),
        ("2015-07-25", "stacks|shop|services|1", "Web"),
        ("2015-12-19", "services|web", "nothing"),
        ("2016-07-29", "services|web|containers", "0=web-1 1=web-2"),
        ("latest", "services|web|containers", "0=web-1 1=web-2"),
    ] {
        assert_eq!(asked(&chart, version, "192.0.2.1", path), want, "{version} {path}");
    }
}

#[test]
fn who_asks_is_found_by_address() {
    let chart = chart(None, true);
    for (client, path, want) in [
        ("10.0.0.1", "self", "container/ host service/ stack/"),
        ("10.0.0.1", "self|container|name", "web-1"),
        ("::ffff:10.0.0.3", "self|service|name", "db"),
        ("10.0.0.3", "self|stack|services", "0=db 1=web"),
        ("192.0.2.1", "self", "nothing"),
    ] {
        assert_eq!(asked(&chart, "latest", client, path), want, "{client} {path}");
    }
}

proptest! {
    #[test]
    fn no_path_and_no_file_makes_it_fall(
        path in prop::collection::vec(
            prop_oneof![
                Just("services".to_owned()), Just("containers".to_owned()), Just("stacks".to_owned()),
                Just("hosts".to_owned()), Just("self".to_owned()), Just("things".to_owned()),
                Just("0".to_owned()), Just("1".to_owned()), Just("-1".to_owned()),
                Just("18446744073709551616".to_owned()), ".{0,6}",
            ],
            0..40,
        ),
        version in prop_oneof![Just("latest".to_owned()), Just("2015-07-25".to_owned()), ".{0,10}"],
        form in prop_oneof![Just(Form::Text), Just(Form::Json), Just(Form::Yaml("text/yaml"))],
    ) {
        for chart in [chart(Some(ANSWERS), true), chart(None, true), chart(Some("[1"), false)] {
            if let Some(look) = Look::new(&chart, &version, [10, 0, 0, 1].into())
                && let Some(node) = look.at(&path)
            {
                let written = form.write(&look, &node, 4096);
                prop_assert!(written.is_err() || written.is_ok_and(|text| text.len() < 8192));
            }
        }
    }

    #[test]
    fn json_and_yaml_say_what_was_in_the_file(value in json()) {
        let text = serde_json::json!({"default": {"value": value}}).to_string();
        let chart = chart(Some(&text), false);
        let look = Look::new(&chart, "latest", [10, 0, 0, 1].into()).unwrap();
        let node = look.at(&["value".to_owned()]).unwrap();
        let told = Form::Json.write(&look, &node, 1 << 20).unwrap();
        prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&told).unwrap(), &value);
        let told = Form::Yaml("text/yaml").write(&look, &node, 1 << 20).unwrap();
        let read: serde_json::Value = serde_saphyr::from_str(&told).unwrap();
        prop_assert_eq!(&read, &value, "{}", told);
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let words =
        "(yes|No|null|~|1|0x1f|1e3|1:2|10\\.0\\.0\\.1|2015-07-25|- a|a: b|#|\\?|NaN|\\.inf)";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        words.prop_map(Value::from),
        "[a-zA-Z0-9_./ -]{0,8}".prop_map(Value::from),
        "\\PC{0,8}|[\u{80}-\u{9f}\n\t\"]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z.]{1,4}|true|1|- |: ", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
