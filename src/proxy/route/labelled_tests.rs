use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::proxy::route::{RouteTable, Routes};

fn config(text: &str) -> RouteConfig {
    toml::from_str(&format!("listener = \"web\"\nservice = \"web\"\n{text}")).unwrap()
}

fn labelled(service: &str, name: &str, text: &str) -> Arc<LabelledRoute> {
    Arc::new(LabelledRoute::compile(&service.into(), name, &config(text), None).unwrap())
}

fn app(id: &str) -> Arc<LabelledRoute> {
    let name = format!("{id}@apps");
    Arc::new(LabelledRoute::compile(&id.into(), &name, &config(""), Some(id)).unwrap())
}

fn view<'a>(host: &'a str, path: &'a str, headers: &'a HeaderMap) -> RequestView<'a> {
    let client = IpAddr::from([192, 0, 2, 1]);
    RequestView { host, path, query: "", method: "GET", headers, client }
}

fn put(table: &LabelledRoutes, routes: &[Arc<LabelledRoute>]) -> (LabelledRoutes, Vec<String>) {
    let mut told = Vec::new();
    let next = table.changed(&[], routes, |_, why| told.extend(why));
    (next, told)
}

#[test]
fn a_configured_route_goes_first_where_its_host_is_as_specific_or_its_priority_says_so() {
    for (case, configured, host, want) in [
        ("no host", "", "shop.example", "label"),
        ("no host, above", "priority = 1", "shop.example", "configured"),
        ("a wider host", "host = \"*.example\"", "shop.example", "label"),
        ("the same host", "host = \"shop.example\"", "shop.example", "configured"),
        ("the same host, below", "host = \"shop.example\"\npriority = -1", "shop.example", "label"),
        ("another host", "host = \"a.example\"", "shop.example", "label"),
        ("nobody's", "", "b.example", "configured"),
    ] {
        let configured = config(configured);
        let table = RouteTable::compile([("configured", &configured)]).unwrap();
        let (labels, _) = put(
            &LabelledRoutes::default(),
            &[labelled("shop", "label", "host = \"shop.example\"\npriority = 7")],
        );
        let routes = Routes::from(table).with(labels);
        let headers = HeaderMap::new();
        let view = view(host, "/", &headers);
        let name = routes.route(&view).map(|route| &*route.name);
        assert_eq!(name, Some(want), "{case}");
        let explained = routes.explain(&view);
        assert_eq!(explained.winner.map(|route| route.name.to_string()).as_deref(), Some(want));
        let passed: Vec<_> = explained.passed_over.iter().map(|passed| &*passed.why).collect();
        assert!(passed.iter().all(|why| !why.is_empty()), "{case}: {passed:?}");
    }
}

#[test]
fn a_change_makes_its_own_hosts_anew_and_shares_all_others() {
    let routes: Vec<_> = (0..500)
        .map(|n| labelled("s", &format!("r{n}"), &format!("host = \"h{n}.example\"")))
        .collect();
    let (first, _) = put(&LabelledRoutes::default(), &routes);
    let other = labelled("s", "other", "host = \"h7.example\"\npath = \"/other\"");
    let second =
        first.changed(&[Arc::clone(&routes[9])], &[other], |_, why| assert!(why.is_none()));
    let mut changed = Vec::new();
    second.exact.changes_since(&first.exact, |(host, ..)| changed.push(host.to_string()));
    changed.sort();
    assert_eq!(changed, ["h7.example", "h9.example"]);
    let headers = HeaderMap::new();
    let name = |table: &LabelledRoutes, host: &str, path: &str| {
        table.route(&view(host, path, &headers)).map(|route| route.name.to_string())
    };
    assert_eq!(name(&second, "H7.example:80", "/other/x").as_deref(), Some("other"));
    assert_eq!(name(&second, "h7.example", "/x").as_deref(), Some("r7"));
    assert_eq!(name(&second, "h9.example", "/"), None);
    assert_eq!(name(&first, "h9.example", "/").as_deref(), Some("r9"), "the one before stays");
}

#[test]
fn of_two_that_take_the_same_requests_the_first_by_name_counts_until_it_goes() {
    let (a, b) = ("host = \"a.example\"\npath = \"/x\"", "host = \"A.example\"\npath = \"/x/\"");
    let (late, first) = (labelled("s2", "b", b), labelled("s1", "a", a));
    let (table, told) = put(&LabelledRoutes::default(), &[Arc::clone(&late)]);
    assert_eq!(told, [""; 0]);
    let (table, told) = put(&table, &[Arc::clone(&first)]);
    assert!(told.len() == 1 && told[0].contains("of the service \"s1\""), "{told:?}");
    let headers = HeaderMap::new();
    let name = |table: &LabelledRoutes| {
        table.route(&view("a.example", "/x", &headers)).map(|route| route.name.to_string())
    };
    assert_eq!(name(&table).as_deref(), Some("a"));
    let mut told = Vec::new();
    let table = table.changed(&[first], &[], |route, why| {
        told.push((route.route().name.to_string(), why));
    });
    assert_eq!((name(&table).as_deref(), &told[..]), (Some("b"), &[("b".to_owned(), None)][..]));
    assert!(table.changed(&[late], &[], |_, _| ()).is_empty());
}

#[test]
fn ten_thousand_apps_are_found_by_their_id_in_any_case() {
    let routes: Vec<_> = (0..10_000).map(|n| app(&format!("/Prod/app-{n}"))).collect();
    let (table, told) = put(&LabelledRoutes::default(), &routes);
    assert_eq!(told, [""; 0]);
    for (id, want) in [
        ("/prod/app-9999", Some("/Prod/app-9999@apps")),
        ("/PROD/APP-0", Some("/Prod/app-0@apps")),
        ("/prod/app-10000", None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("x-marathon-app-id", HeaderValue::from_static(id));
        let found = table.route(&view("any", "/", &headers)).map(|route| &*route.name);
        assert_eq!(found, want, "{id}");
    }
}
