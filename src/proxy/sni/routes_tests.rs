use super::*;
use crate::proxy::config::{ListenerConfig, RespondConfig, RespondWhen};

fn route(host: Option<&str>, service: &str) -> RouteConfig {
    RouteConfig {
        listener: "edge".into(),
        host: host.map(Into::into),
        service: Some(service.into()),
        ..RouteConfig::default()
    }
}

fn compile(routes: &[(&str, RouteConfig)]) -> Result<Routes, Vec<String>> {
    Routes::compile(routes.iter().map(|(name, route)| (*name, route)))
        .map_err(|found| found.into_iter().map(|unfit| unfit.message).collect())
}

/// The content of a hello that asks for `name` and offers `protocols`.
fn content(name: Option<&str>, protocols: &[&str]) -> Vec<u8> {
    let long = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let mut all = Vec::new();
    if let Some(name) = name {
        all.extend([0, 0]);
        all.extend(long(&long(&[&[0][..], &long(name.as_bytes())].concat())));
    }
    if !protocols.is_empty() {
        let list = protocols.iter().flat_map(|one| [&[one.len() as u8], one.as_bytes()].concat());
        all.extend([0, 16]);
        all.extend(long(&long(&list.collect::<Vec<u8>>())));
    }
    let mut content = vec![3, 3];
    content.extend([0; 32]);
    content.extend([0, 0, 2, 0x13, 1, 1, 0]);
    content.extend(long(&all));
    content
}

fn found(routes: &Routes, name: Option<&str>, protocols: &[&str], client: &str) -> Option<String> {
    let content = content(name, protocols);
    let hello = Hello::read(&content).unwrap();
    routes.find(&hello, client.parse().unwrap()).map(|route| route.name.to_string())
}

#[test]
fn the_very_name_wins_over_a_star_for_one_label_and_that_over_any() {
    let routes = compile(&[
        ("exact", route(Some("Www.Shop.example."), "a")),
        ("wild", route(Some("*.shop.example"), "b")),
        ("other", route(Some("other.example"), "c")),
        ("any", route(None, "d")),
    ])
    .unwrap();
    for (case, name, want) in [
        ("exact", Some("www.shop.example"), "exact"),
        ("another case", Some("WWW.shop.EXAMPLE"), "exact"),
        ("a dot behind it", Some("www.shop.example."), "exact"),
        ("a label more", Some("api.shop.example"), "wild"),
        ("two labels more", Some("a.b.shop.example"), "any"),
        ("the domain itself", Some("shop.example"), "any"),
        ("none like it", Some("nobody.example"), "any"),
        ("no name", None, "any"),
        ("another", Some("other.example"), "other"),
    ] {
        assert_eq!(found(&routes, name, &[], "10.0.0.1").as_deref(), Some(want), "{case}");
    }
    let named = compile(&[("exact", route(Some("a.example"), "a"))]).unwrap();
    for name in [None, Some("b.example"), Some("x.a.example")] {
        assert_eq!(found(&named, name, &[], "10.0.0.1"), None, "{name:?}");
    }
    let star = compile(&[("any", route(Some("*"), "a"))]).unwrap();
    assert_eq!(found(&star, None, &[], "10.0.0.1").as_deref(), Some("any"));
}

#[test]
fn conditions_have_to_hold_and_priorities_go_above_all_that_is_specific() {
    let alpn = |host, list: &[&str]| RouteConfig {
        alpn: list.iter().map(|one| (*one).to_owned()).collect(),
        ..route(host, "s")
    };
    let inner = || vec!["10.0.0.0/8".parse().unwrap()];
    let a = Some("a.example");
    let routes = compile(&[
        ("plain", route(a, "s")),
        ("web", alpn(a, &["h2", "http/1.1"])),
        ("inner", RouteConfig { clients: inner(), ..alpn(a, &["h2"]) }),
        ("db", RouteConfig { priority: 5, ..alpn(None, &["postgresql"]) }),
        ("mail", alpn(Some("*.example"), &["imap"])),
    ])
    .unwrap();
    for (case, name, offers, client, want) in [
        ("nothing offered", a, &[][..], "192.0.2.1", Some("plain")),
        ("the second of both", a, &["http/1.1"], "192.0.2.1", Some("web")),
        ("among others", a, &["x", "h2"], "192.0.2.1", Some("web")),
        ("most conditions", a, &["h2"], "10.1.1.1", Some("inner")),
        ("of a client as IPv6 writes it", a, &["h2"], "::ffff:10.1.1.1", Some("inner")),
        ("by priority", a, &["postgresql"], "10.1.1.1", Some("db")),
        ("by a star", Some("b.example"), &["imap"], "10.1.1.1", Some("mail")),
        ("another protocol", Some("b.example"), &["imaps"], "10.1.1.1", None),
    ] {
        assert_eq!(found(&routes, name, offers, client).as_deref(), want, "{case}");
    }
}

#[test]
fn routes_that_can_never_be_taken_or_lead_nowhere_are_told() {
    for (case, routes, want) in [
        (
            "the same",
            vec![("a", route(Some("a.example"), "s")), ("b", route(Some("A.example."), "t"))],
            "matches the same connections as [route.a]",
        ),
        (
            "the same conditions",
            vec![
                ("a", RouteConfig { alpn: vec!["x".into(), "y".into()], ..route(None, "s") }),
                ("b", RouteConfig { alpn: vec!["y".into(), "x".into()], ..route(None, "s") }),
            ],
            "matches the same connections as [route.a]",
        ),
        ("nowhere", vec![("a", RouteConfig::default())], "leads nowhere"),
        ("no host", vec![("a", route(Some("a.example:443"), "s"))], "is no host name"),
        (
            "no protocol",
            vec![("a", RouteConfig { alpn: vec![String::new()], ..route(None, "s") })],
            "is no name of a protocol",
        ),
    ] {
        let told = compile(&routes).unwrap_err();
        assert!(told[0].contains(want), "{case}: {told:?}");
    }
}

#[test]
fn keys_about_requests_are_refused_at_listeners_that_see_none_and_the_other_way_round() {
    let tls = "bind = [\"127.0.0.1:1\"]\n";
    let of = |kind: &str, more: &str| -> ListenerConfig {
        toml::from_str(&format!("[{kind}]\n{tls}{more}")).unwrap()
    };
    let respond = RespondConfig { status: 200, body: String::new(), when: RespondWhen::Always };
    let busy = RouteConfig {
        path: Some("/a".into()),
        methods: vec!["GET".into()],
        respond: Some(respond),
        requests_max: Some(1),
        ..route(None, "s")
    };
    let keys = |config: &RouteConfig, listener: &ListenerConfig| -> Vec<&'static str> {
        let found = super::super::unfit("a", config, Some(listener));
        found.iter().filter_map(|unfit| unfit.key).collect()
    };
    assert_eq!(keys(&busy, &of("tls", "")), ["path", "methods", "respond", "requests_max"]);
    assert_eq!(keys(&busy, &of("http", "")), [""; 0]);
    let sealed = RouteConfig { alpn: vec!["h2".into()], terminate: true, ..route(None, "s") };
    assert_eq!(keys(&sealed, &of("https", "")), ["alpn", "terminate"]);
    assert_eq!(keys(&sealed, &of("tls", "")), [""; 0]);
}

#[test]
fn a_thousand_names_are_looked_up() {
    let routes: Vec<(String, RouteConfig)> =
        (0..1000).map(|n| (format!("r{n}"), route(Some(&format!("n{n}.example")), "s"))).collect();
    let routes = Routes::compile(routes.iter().map(|(name, route)| (&**name, route))).unwrap();
    assert_eq!(routes.exact.len(), 1000);
    assert_eq!(found(&routes, Some("n777.example"), &[], "::1").as_deref(), Some("r777"));
    let lists = routes.candidates(Some("n777.example"));
    assert_eq!(lists.map(<[_]>::len), [1, 0, 0], "no other route is looked at");
}
