use super::*;

const LIMITS: Limits = Limits { clients: 5, entries: 20 };
const ANSWERS: &str = r#"{
    "2015-07-25": {"default": {"containers": []}},
    "latest": {
        "default": {
            "unknown": {"to": ["us"]},
            "hosts": [{"name": "h1", "uuid": "hu1", "agent_ip": "192.0.2.1", "labels": {"rack": "a"}}],
            "services": [{"name": "Web", "stack_name": "Shop", "uuid": "su1", "vip": null,
                          "labels": {"role": "front"}, "links": {"database": "shop/db"}},
                         {"name": "empty", "stack_name": "shop"}],
            "containers": [
                {"name": "shop-web-2", "primary_ip": "10.42.0.2", "uuid": "cu2", "service_name": "Web",
                 "stack_name": "Shop", "create_index": 2, "health_state": "unhealthy",
                 "host_uuid": "hu1", "ports": ["0.0.0.0:8080:80/tcp", "0.0.0.0:53:53/udp"],
                 "labels": {"a": "b"}, "state": "running"},
                {"name": "shop-web-1", "primary_ip": "10.42.0.1", "uuid": "cu1", "service_name": "Web",
                 "stack_name": "Shop", "state": "stopping"},
                {"name": "agent", "primary_ip": "10.42.0.9", "service_name": null},
                {"name": "bad", "primary_ip": "10.42.0.300", "uuid": "cu9", "service_name": "Web",
                 "stack_name": "Shop"}
            ]
        },
        "10.42.0.1": {"self": {}},
        "nobody": {}
    }
}"#;

fn read(notation: Notation, text: &str, limits: Limits) -> Result<RegistryView, String> {
    decode(&"r".into(), "answers", text, notation, limits, &RegistryView::default())
}

#[test]
fn the_file_is_kept_word_for_word_and_its_containers_become_instances() {
    for notation in [Notation::Json, Notation::Yaml] {
        let view = read(notation, ANSWERS, LIMITS).unwrap();
        let kept: Value = serde_json::from_str(view.document.as_ref().unwrap()).unwrap();
        assert_eq!(kept, serde_json::from_str::<Value>(ANSWERS).unwrap());
        let problems: Vec<String> =
            view.problems.iter().map(|p| format!("{}: {}", p.place, p.message)).collect();
        let want = [
            "nobody: is no address, and not `default`: nobody is told this",
            "bad: primary_ip \"10.42.0.300\" is no IP address",
        ];
        assert_eq!(problems, want);
        let web = view.services.get("web.shop").unwrap();
        let facts: Vec<String> = web.meta.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(facts, ["rancher.link.database=db.shop", "rancher.uuid=su1", "role=front"]);
        let [second, first] = &web.instances[..] else { panic!("{:?}", web.instances) };
        assert_eq!((&*first.id, first.presence), ("cu1", Presence::Leaving));
        assert_eq!((second.health, second.port("")), (Health::Unhealthy, Some(80)));
        assert_eq!(&*second.node.as_ref().unwrap().name, "h1");
        assert_eq!(second.meta.get("rancher.create_index").map(|told| &**told), Some("2"));
        assert!(view.services.get("empty.shop").is_some_and(|empty| empty.instances.is_empty()));
        assert_eq!(view.services.len(), 2);
    }
}

#[test]
fn the_same_file_again_shares_everything() {
    let first = read(Notation::Json, ANSWERS, LIMITS).unwrap();
    let again = decode(&"r".into(), "answers", ANSWERS, Notation::Json, LIMITS, &first).unwrap();
    assert!(again.services.same(&first.services));
    assert!(Arc::ptr_eq(&first.document.unwrap(), &again.document.unwrap()));
}

#[test]
fn a_comma_too_many_is_not_minded_and_another_shape_is_refused() {
    let view = read(Notation::Json, "{\"default\": {\"key\": \"value\"},\n}\n", LIMITS).unwrap();
    assert_eq!(view.document.as_deref(), Some(r#"{"default":{"key":"value"}}"#));
    for (case, text, limits, want) in [
        ("a list", "[]", LIMITS, "no table of clients"),
        ("half", "{\"default\": {\"a\"", LIMITS, "answers:1:"),
        ("saved", "{\"Version\": \"1\", \"Data\": \"eJw\"}", LIMITS, "subscriber"),
        ("clients", ANSWERS, Limits { clients: 2, entries: 20 }, "`max_clients` = 2"),
        ("entries", ANSWERS, Limits { clients: 5, entries: 3 }, "`max_entries` = 3"),
    ] {
        let error = read(Notation::Json, text, limits).unwrap_err();
        assert!(error.contains(want), "{case}: {error}");
    }
}
