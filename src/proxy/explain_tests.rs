use std::collections::BTreeMap;

use super::*;
use crate::catalog::Snapshot;
use crate::proxy::config::{ListenerConfig, ServiceBalance};
use crate::proxy::table::Settings;
use crate::proxy::upstream::tests::{instance, service};

/// A table of listeners, routes and services as they are written.
fn table(config: &str) -> ProxyTable {
    let text: toml::Table = config.parse().unwrap();
    let part = |name: &str| text.get(name).cloned().unwrap_or_else(|| toml::Table::new().into());
    let listeners: BTreeMap<String, ListenerConfig> = part("listener").try_into().unwrap();
    let routes: BTreeMap<String, RouteConfig> = part("route").try_into().unwrap();
    let policy = ServiceBalance { policy: Some("round-robin".into()), ..ServiceBalance::default() };
    let services = BTreeMap::from([("big".to_owned(), policy)]);
    let settings = Arc::new(Settings::compile(&listeners, &routes, &services).unwrap());
    let instances = [instance("a", "10.0.0.1", 80, 1), instance("b", "10.0.0.2", 80, 3)];
    let services = [("web", service("web", &instances)), ("big", service("big", &instances[..1]))];
    let services = services.map(|(name, service)| (Arc::from(name), service)).into_iter().collect();
    let snapshot = Snapshot { generation: 7, services, ..Snapshot::default() };
    ProxyTable::compile(&settings, None, &snapshot)
}

fn ask(table: &ProxyTable, url: &str) -> Result<UrlWhy, String> {
    let client = [192, 0, 2, 1].into();
    explain(table, &Inquiry { url, method: "GET", headers: HeaderMap::new(), client })
}

const CONFIG: &str = r#"
[listener.web.http]
bind = ["127.0.0.1:8080"]
[listener.inner.http]
bind = ["127.0.0.1:8081"]
timeouts = { read = "5s" }
[listener.raw.tcp]
bind = ["127.0.0.1:8082"]
service = "web"
[route.shop]
listener = "web"
host = "shop.example"
path = "/api"
service = "web"
timeouts = { read = "10s" }
body_max = "1MiB"
[route.big]
listener = "inner"
host = "big.example"
service = "big"
[route.gone]
listener = "inner"
host = "gone.example"
service = "gone"
[route.ping]
listener = "web"
host = "ping.example"
respond = { status = 204 }
[route.closed]
listener = "web"
host = "closed.example"
service = "web"
allow = ["192.0.2.0/25"]
deny = ["192.0.2.0/28"]
"#;

#[test]
fn a_request_is_told_with_its_listener_its_route_and_what_would_be_answered() {
    let table = table(CONFIG);
    for (url, listener, route, answer) in [
        (
            "http://shop.example:8080/api/x?y",
            "web",
            Some("shop"),
            "carried to service/web (2 endpoints)",
        ),
        ("http://big.example:8081", "inner", Some("big"), "carried to service/big (1 endpoint)"),
        ("http://big.example/", "inner", Some("big"), "carried to service/big (1 endpoint)"),
        (
            "http://gone.example:8081/",
            "inner",
            Some("gone"),
            "503: no instance of the service is eligible",
        ),
        ("http://ping.example:8080/", "web", Some("ping"), "204, given here"),
        (
            "http://closed.example:8080/",
            "web",
            Some("closed"),
            "403: `allow` and `deny` keep 192.0.2.1 out",
        ),
        ("http://shop.example:8080/apis", "web", None, "404: no route leads there"),
        ("http://shop.example:8080/a%2fb", "web", None, "400: the path can be read in two ways"),
    ] {
        let told = ask(&table, url).unwrap();
        assert_eq!((told.known, told.generation), (route.is_some(), 7), "{url}");
        let [told] = &told.listeners[..] else { panic!("{url}: {told:?}") };
        assert_eq!((&*told.listener, &*told.answer), (listener, answer), "{url}");
        assert_eq!(told.route.as_ref().map(|route| &*route.name), route, "{url}");
    }
}

#[test]
fn limits_are_those_in_force_and_endpoints_show_their_load() {
    let table = table(CONFIG);
    let web = ServiceRef::parse("web");
    let endpoint = Arc::clone(&table.upstream(&web).unwrap().endpoints[1]);
    let _work = endpoint.begin();
    endpoint.answered(200, 2500, 1);
    let told = ask(&table, "http://shop.example:8080/api").unwrap();
    let route = told.listeners[0].route.as_ref().unwrap();
    let limits = [("connect", "3s"), ("read", "10s"), ("tunnel", "1h"), ("body_max", "1MiB")];
    assert_eq!(route.limits, limits.map(|(key, value)| (key, value.to_owned())));
    let upstream = &route.upstreams[0];
    assert_eq!((&*upstream.policy, upstream.endpoints.len()), ("p2c", 2));
    let told = &upstream.endpoints[1];
    assert_eq!(
        (&*told.id, &*told.address, told.weight, told.in_flight),
        ("b", "10.0.0.2:80", 3, 1)
    );
    assert_eq!((told.latency_ms, told.staying), (Some(2.5), false));
    assert_eq!(upstream.endpoints[0].latency_ms, None, "it was never asked");

    let told = ask(&table, "http://big.example:8081/").unwrap();
    let route = told.listeners[0].route.as_ref().unwrap();
    assert_eq!(route.limits[1], ("read", "5s".to_owned()));
    assert_eq!(route.upstreams[0].policy, "round-robin");
}

#[test]
fn what_no_route_takes_is_told_with_those_that_are_alike() {
    let table = table(CONFIG);
    let told = ask(&table, "http://shpo.example:8080/api").unwrap();
    assert!(!told.known);
    let near = &told.listeners[0].nearest;
    assert_eq!(near[0], "[route.shop] shop.example/api");
    assert_eq!(near.len(), NEAREST);
    let told = ask(&table, "http://nobody.example/").unwrap();
    assert_eq!(told.listeners.len(), 2, "no listener is at port 80, and no route there: all tell");
    assert_eq!(told.notes, ["no HTTP listener is configured for port 80: all are asked"]);
    let told = ask(&table, "https://shop.example:8080/api").unwrap();
    assert!(told.known && told.notes[0].contains("TLS"), "{told:?}");
}

#[test]
fn what_is_no_url_is_told_how_to_write_one() {
    let table = table(CONFIG);
    for url in ["", "shop.example", "ftp://a/", "http:///a", "http://u:p@a/", "http://a b/"] {
        let message = ask(&table, url).unwrap_err();
        assert!(message.contains("write it as http://host/path"), "{url}: {message}");
    }
}
