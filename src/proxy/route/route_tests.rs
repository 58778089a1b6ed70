//! Which route wins, held to a naive matcher that asks every route; what is refused; what is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

type Routes = BTreeMap<String, RouteConfig>;

/// Routes of which each is given by its name and what follows in its table.
fn routes(list: &[(&str, &str)]) -> Routes {
    let route = |(name, text): &(&str, &str)| {
        let leads =
            ["service", "split", "respond", "redirect"].iter().any(|key| text.contains(key));
        let target = if leads { "" } else { "service = \"web\"\n" };
        ((*name).to_owned(), toml::from_str(&format!("{target}{text}")).unwrap())
    };
    list.iter().map(route).collect()
}

fn table(routes: &Routes) -> RouteTable {
    RouteTable::compile(routes.iter().map(|(name, route)| (&**name, route))).unwrap()
}

#[derive(Debug)]
struct Request {
    host: String,
    target: String,
    method: &'static str,
    headers: HeaderMap,
    client: IpAddr,
}

impl Request {
    fn get(host: &str, target: &str) -> Self {
        Self {
            host: host.into(),
            target: target.into(),
            method: "GET",
            headers: HeaderMap::new(),
            client: [192, 0, 2, 1].into(),
        }
    }

    fn see<T>(&self, look: impl FnOnce(&RequestView<'_>) -> T) -> T {
        let path = normalise(&self.target).unwrap();
        look(&RequestView {
            host: &self.host,
            path: &path,
            query: self.target.split_once('?').map_or("", |(_, query)| query),
            method: self.method,
            headers: &self.headers,
            client: self.client,
        })
    }
}

fn taken(table: &RouteTable, request: &Request) -> Option<String> {
    request.see(|view| table.route(view).map(|route| route.name.to_string()))
}

#[test]
fn the_most_specific_host_wins_and_then_the_most_specific_path() {
    let table = table(&routes(&[
        ("any", ""),
        ("below", "host = \"*.example\"\npath = \"/\""),
        ("deeper", "host = \"*.EU.example.\""),
        ("shop", "host = \"shop.example\"\npath = \"/shop\""),
        ("api", "host = \"shop.example\"\npath = \"/api\""),
        ("api2", "host = \"Shop.Example\"\npath = \"/api/v2/\""),
        ("exact", "host = \"shop.example\"\npath_exact = \"/api/exact\""),
        ("pattern", "host = \"shop.example\"\npath_regex = \"/api/v2/[0-9]+\""),
        ("spaced", "host = \"shop.example\"\npath = \"/a b\""),
    ]));
    for (case, host, target, want) in [
        ("prefix", "shop.example", "/api", "api"),
        ("prefix below", "shop.example", "/api/users", "api"),
        ("longer prefix", "shop.example", "/api/v2/users", "api2"),
        ("exact before prefix", "shop.example", "/api/exact", "exact"),
        ("exact is not a prefix", "shop.example", "/api/exact/", "api"),
        ("pattern before prefix", "shop.example", "/api/v2/17", "pattern"),
        ("pattern for the whole path", "shop.example", "/api/v2/17/x", "api2"),
        ("by segment only", "shop.example", "/apis", "below"),
        ("escapes undone", "shop.example", "/%61pi/%7Eme", "api"),
        ("a space", "shop.example", "/a%20b/c", "spaced"),
        ("dots resolved", "shop.example", "/x/../api", "api"),
        ("slashes merged", "shop.example", "//api//v2/x", "api2"),
        ("letter case and port", "SHOP.example:8080", "/shop/", "shop"),
        ("final dot", "shop.example.", "/shop", "shop"),
        ("wildcard", "a.example", "/x", "below"),
        ("longest wildcard", "A.b.eu.example", "/x", "deeper"),
        ("a wildcard is not its own apex", "example", "/x", "any"),
        ("no host", "", "/x", "any"),
        ("v6", "[::1]:80", "/x", "any"),
        ("all of a host", "a.example", "*", "below"),
    ] {
        let got = taken(&table, &Request::get(host, target));
        assert_eq!(got.as_deref(), Some(want), "{case}: {host} {target}");
    }
    let long = Request::get(&format!("{}.example", "X".repeat(300)), "/");
    assert_eq!(taken(&table, &long).as_deref(), Some("any"), "no name is that long");
}

#[test]
fn a_route_whose_conditions_do_not_hold_is_passed_over_and_priority_is_above_all() {
    let table = table(&routes(&[
        ("all", ""),
        ("api", "host = \"a\"\npath = \"/api\""),
        ("api-post", "host = \"a\"\npath = \"/api\"\nmethods = [\"POST\"]"),
        (
            "api-post-beta",
            "host = \"a\"\npath = \"/api\"\nmethods = [\"POST\"]\nheaders = { x-beta = \"1\" }",
        ),
        ("api-v1", "host = \"a\"\npath = \"/api/v1\"\nquery = { debug = \"*\" }"),
        ("b-name", "host = \"a\"\npath = \"/same\"\nheaders = { x-b = \"1\" }"),
        ("a-name", "host = \"a\"\npath = \"/same\"\nheaders = { x-a = \"1\" }"),
        ("inside", "priority = 5\nclients = [\"10.0.0.0/8\"]"),
        ("inside-api", "priority = 5\nhost = \"*.a\"\npath = \"/api\"\nclients = [\"10.0.0.0/8\"]"),
        ("closed", "priority = 10\nhost = \"a\"\npath = \"/api\"\nheaders = { x-closed = \"*\" }"),
        ("last", "priority = -1\nhost = \"a\"\npath_exact = \"/api\""),
        ("pattern", "priority = 1\nhost = \"a\"\npath_regex = \"/api/v1/.*\"\nmethods = [\"PUT\"]"),
    ]));
    let request = |method, target: &str, headers: &[&'static str], client: [u8; 4]| {
        let mut request = Request { method, client: client.into(), ..Request::get("a", target) };
        for name in headers {
            request.headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        request
    };
    let out = [192, 0, 2, 1];
    for (case, request, want) in [
        ("no condition", request("GET", "/api/v1", &[], out), "api"),
        ("a lower priority is last", request("GET", "/api", &[], out), "api"),
        ("one condition", request("POST", "/api", &[], out), "api-post"),
        ("more conditions", request("POST", "/api", &["x-beta"], out), "api-post-beta"),
        ("a longer path before more", request("POST", "/api/v1?debug", &["x-beta"], out), "api-v1"),
        ("ties by name", request("GET", "/same", &["x-a", "x-b"], out), "a-name"),
        ("the other of them", request("GET", "/same", &["x-b"], out), "b-name"),
        ("none of them", request("GET", "/same", &[], out), "all"),
        ("priority above host and path", request("GET", "/api", &[], [10, 0, 0, 1]), "inside"),
        ("higher priority", request("GET", "/api", &["x-closed"], [10, 0, 0, 1]), "closed"),
        ("priority of a pattern", request("PUT", "/api/v1/x?debug", &[], out), "pattern"),
        ("and its condition", request("GET", "/api/v1/x?debug", &[], out), "api-v1"),
    ] {
        assert_eq!(taken(&table, &request).as_deref(), Some(want), "{case}");
    }
    let below = Request { client: [10, 0, 0, 1].into(), ..Request::get("b.a", "/api") };
    assert_eq!(taken(&table, &below).as_deref(), Some("inside-api"), "among equals the host");
}

#[test]
fn routes_that_cannot_be_are_refused_all_at_once_with_route_key_and_remedy() {
    for (case, list, want) in [
        ("no slash", &[("a", "path = \"api\"")][..], "a.path: \"api\" must start with '/'"),
        ("star inside", &[("a", "host = \"a.*.b\"")], "a.host: \"a.*.b\": a '*' stands for"),
        ("scheme", &[("a", "host = \"http://a\"")], "a.host: \"http://a\": is no host name; leave"),
        ("no letters", &[("a", "host = \"ä\"")], "xn--"),
        ("two paths", &[("a", "path = \"/a\"\npath_exact = \"/b\"")], "a.path_exact: there is one"),
        ("pattern", &[("a", "path_regex = \"/(\"")], "unclosed group, at character 2"),
        ("status", &[("a", "respond = { status = 99 }")], "a.respond: respond.status = 99 is not"),
        ("redirect", &[("a", "redirect = { status = 301 }")], "a.redirect: leads back"),
        ("split", &[("a", "split = { web = 0 }")], "a.split: has no share above 0"),
        (
            "two targets",
            &[("a", "service = \"x\"\nrespond = { status = 200 }")],
            "a.: has `service` and `respond`; it needs exactly one",
        ),
        ("method", &[("a", "methods = [\"get\"]")], "a.methods: methods are in capitals"),
        (
            "edit",
            &[("a", "request_headers = { remove = [\"te\"] }")],
            "a.request_headers: remove: \"te\" belongs to one connection",
        ),
        (
            "edit back",
            &[("a", "response_headers = { set = { Content-Length = \"1\" } }")],
            "a.response_headers: set: \"Content-Length\" says where",
        ),
        (
            "lists",
            &[("a", "allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]")],
            "a.deny: 10.0.0.0/8 is",
        ),
        (
            "page",
            &[("a", "error_pages = { \"503\" = \"/nowhere.html\" }")],
            "a.error_pages: \"503\": /nowhere.html: cannot be read",
        ),
        ("timeout", &[("a", "timeouts = { read = \"0s\" }")], "a.timeouts: timeouts.read = 0"),
        (
            "rewrite",
            &[("a", "rewrite = { pattern = \"a\", with = \"$1\" }")],
            "a.rewrite: with = \"$1\"",
        ),
        (
            "twice",
            &[("a", "path = \"/x\""), ("b", "path = \"/%78/\"")],
            "b.: matches the same requests as [route.a]",
        ),
        (
            "twice, with conditions",
            &[
                ("a", "headers = { A = \"1\" }\nmethods = [\"GET\", \"PUT\"]"),
                ("b", "headers = { a = \"1\" }\nmethods = [\"PUT\", \"GET\"]"),
            ],
            "b.: matches the same requests as [route.a]",
        ),
        (
            "twice, by pattern",
            &[("a", "path_regex = \"/x\""), ("b", "path_regex = \"/x\"")],
            "b.: matches the same requests as [route.a]",
        ),
    ] {
        let routes = routes(list);
        let found = RouteTable::compile(routes.iter().map(|(name, route)| (&**name, route)));
        let told: Vec<String> = found
            .unwrap_err()
            .iter()
            .map(|unfit| {
                let key = unfit.key.unwrap_or_default();
                format!("{}.{key}: {}", unfit.path[1], unfit.message)
            })
            .collect();
        assert!(told.len() == 1 && told[0].contains(want), "{case}: {told:?}");
    }
    let several = routes(&[
        ("a", "path = \"x\"\nhost = \"*\\u0000\"\nmethods = [\"a\"]"),
        ("b", "path = \"y\""),
    ]);
    let found = RouteTable::compile(several.iter().map(|(name, route)| (&**name, route)));
    assert_eq!(found.unwrap_err().len(), 4, "all at once");
}

#[test]
fn routes_that_differ_in_a_condition_or_in_priority_stand_beside_each_other() {
    let list = routes(&[
        ("a", "path = \"/x\""),
        ("b", "path = \"/x\"\npriority = 1"),
        ("c", "path = \"/x\"\nmethods = [\"GET\"]"),
        ("d", "path = \"/x\"\nheaders = { a = \"1\" }"),
        ("e", "path = \"/x\"\nheaders = { a = \"*\" }"),
        ("f", "path = \"/x\"\nclients = [\"10.0.0.0/8\"]"),
        ("g", "path_exact = \"/x\""),
        ("h", "path_regex = \"/x\""),
        ("i", "path = \"/x\"\nhost = \"a\""),
        ("j", "path = \"/x\"\nhost = \"*.a\""),
    ]);
    assert_eq!(table(&list).routes().count(), list.len());
}

#[test]
fn too_many_routes_that_are_tried_one_by_one_are_refused() {
    for (form, most, want) in [
        ("path_regex = \"/@\"", 100, "more than 100 routes of this host with `path_regex`"),
        ("headers = { a = \"@\" }", 256, "more than 256 routes with this host and path"),
    ] {
        let list = |count: usize| -> Routes {
            let route = |number: usize| {
                let text = form.replace('@', &number.to_string());
                routes(&[(&format!("r{number}"), &text)]).pop_first().unwrap()
            };
            (0..count).map(route).collect()
        };
        table(&list(most));
        let list = list(most + 1);
        let found = RouteTable::compile(list.iter().map(|(name, route)| (&**name, route)));
        let found = found.unwrap_err();
        assert!(found.len() == 1 && found[0].message.contains(want), "{found:?}");
    }
}

#[test]
fn an_explanation_names_the_winner_its_merits_and_why_each_other_one_was_passed_over() {
    let table = table(&routes(&[
        ("all", ""),
        ("below", "host = \"*.example\""),
        ("shop", "host = \"shop.example\"\nmethods = [\"GET\"]"),
        ("api", "host = \"shop.example\"\npath = \"/api\""),
        ("api-beta", "host = \"shop.example\"\npath = \"/api\"\nheaders = { x-beta = \"1\" }"),
        ("api-get", "host = \"shop.example\"\npath = \"/api\"\nmethods = [\"GET\"]"),
        ("api-get-2", "host = \"shop.example\"\npath = \"/api\"\nmethods = [\"GET\", \"PUT\"]"),
        ("closed", "priority = 10\nclients = [\"10.0.0.0/8\"]"),
        ("other", "host = \"shop.example\"\npath = \"/other\""),
    ]));
    let told = |request: &Request| {
        let explained = request.see(|view| table.explain(view));
        let mut told =
            explained.winner.map_or_else(|| "none".into(), |route| route.name.to_string());
        let _ = write!(told, ": {}", explained.why);
        for passed in explained.passed_over {
            let _ = write!(told, "\n{}: {}", passed.route.name, passed.why);
        }
        told
    };
    assert_eq!(
        told(&Request::get("shop.example", "/api/x")),
        "api-get: the host is its own, the path begins with \"/api\", and its condition holds\n\
         closed: the client 192.0.2.1 is in none of `clients`\n\
         api-beta: there is no header x-beta with the value \"1\"\n\
         api-get-2: [route.api-get] goes first by its name, all else being equal\n\
         api: [route.api-get] goes first: it has more conditions, 1 instead of 0\n\
         shop: [route.api-get] goes first: its path is more specific; here any path will do\n\
         below: [route.api-get] goes first: its host is more specific; here the host is one below \
         *.example\n\
         all: [route.api-get] goes first: its host is more specific; here any host will do"
    );
    let inside = Request { client: [10, 0, 0, 1].into(), ..Request::get("a", "/") };
    assert_eq!(
        told(&inside),
        "closed: any host will do, any path will do, and its condition holds; its priority is 10\n\
         all: [route.closed] goes first: its priority is 10, not 0"
    );
}

#[test]
fn an_explanation_says_what_is_missing_when_nobody_takes_a_request() {
    let table = table(&routes(&[
        ("a", "host = \"a\"\npath = \"/x\""),
        ("b", "host = \"b\"\nmethods = [\"PUT\"]"),
    ]));
    for (host, want, passed) in [
        ("c", "no route is for the host \"c\"", 0),
        ("a", "no route of the host \"a\" takes the path \"/\"", 0),
        ("b", "no route of this host and path has conditions that hold", 1),
    ] {
        let explained = Request::get(host, "/").see(|view| table.explain(view));
        assert!(explained.winner.is_none());
        assert_eq!((&*explained.why, explained.passed_over.len()), (want, passed));
    }
}

/// The specification, route by route: whether one takes a request, and how it ranks.
mod oracle {
    use super::*;

    type Rank = (i32, (u8, usize), (u8, usize), usize);

    pub(super) fn taken(routes: &Routes, request: &Request) -> Option<String> {
        let taking = routes.iter().filter(|(_, route)| takes(route, request));
        let best = taking
            .min_by(|(a, one), (b, other)| rank(other).cmp(&rank(one)).then_with(|| a.cmp(b)));
        best.map(|(name, _)| name.clone())
    }

    fn rank(route: &RouteConfig) -> Rank {
        let host = match route.host.as_deref() {
            None => (0, 0),
            Some(host) if host.starts_with('*') => (1, host.len()),
            Some(_) => (2, 0),
        };
        let path = match (&route.path_exact, &route.path_regex, &route.path) {
            (Some(_), ..) => (2, 0),
            (_, Some(_), _) => (1, 0),
            (.., path) => (0, path.as_ref().map_or(0, |path| path.trim_end_matches('/').len())),
        };
        let conditions = usize::from(!route.methods.is_empty())
            + usize::from(!route.clients.is_empty())
            + route.headers.len()
            + route.query.len();
        (route.priority, host, path, conditions)
    }

    fn takes(route: &RouteConfig, request: &Request) -> bool {
        let host = match route.host.as_deref() {
            None => true,
            Some(host) => match host.strip_prefix('*') {
                Some(suffix) => request.host.ends_with(suffix) && request.host.len() > suffix.len(),
                None => request.host == host,
            },
        };
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let prefix = route.path.as_deref().unwrap_or("/").trim_end_matches('/');
        let path = match (&route.path_exact, &route.path_regex) {
            (Some(exact), _) => path == exact,
            (_, Some(regex)) => {
                regex::Regex::new(&format!("^(?:{regex})$")).unwrap().is_match(path)
            }
            _ => prefix.is_empty() || path == prefix || path.starts_with(&format!("{prefix}/")),
        };
        let method = route.methods.is_empty() || route.methods.iter().any(|m| m == request.method);
        let client =
            route.clients.is_empty() || route.clients.iter().any(|n| n.contains(&request.client));
        let headers = route.headers.iter().all(|(name, value)| {
            request.headers.get(name).is_some_and(|given| value == "*" || given == value)
        });
        let parameters: Vec<(&str, &str)> =
            query.split('&').map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
        let query = route.query.iter().all(|(name, value)| {
            parameters
                .iter()
                .any(|(known, given)| known == name && (value == "*" || given == value))
        });
        host && path && method && client && headers && query
    }
}

fn any_route() -> impl Strategy<Value = RouteConfig> {
    let host = prop::sample::select(vec!["", "", "a.x", "b.x", "*.x", "*.a.x", "x"]);
    let path = prop::sample::select(vec![
        "", "", "p/", "p/a", "p/a/", "p/a/b", "p/b", "e/a", "e/a/b", "e/", "r/a.*", "r/a/[bc]",
        "r.*",
    ]);
    let methods = prop::sample::select(vec!["", "", "", "GET", "POST"]);
    let one = |name: &'static str| {
        prop::sample::select(vec![vec![], vec![], vec![(name, "1")], vec![(name, "*")]])
    };
    let clients = prop::sample::select(vec!["", "", "", "10.0.0.0/8", "10.1.0.0/16"]);
    let priority = prop::sample::select(vec![0, 0, 0, 0, 1, -1, 7]);
    (host, path, methods, one("x-a"), one("q"), clients, priority).prop_map(
        |(host, path, method, headers, query, clients, priority)| {
            let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let map = |list: Vec<(&str, &str)>| {
                list.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            let kind = |wanted: char| path.strip_prefix(wanted).map(str::to_owned);
            RouteConfig {
                priority,
                host: given(host),
                path: kind('p'),
                path_exact: kind('e'),
                path_regex: kind('r'),
                methods: given(method).into_iter().collect(),
                headers: map(headers),
                query: map(query),
                clients: clients.parse().into_iter().collect(),
                service: Some("web".into()),
                ..RouteConfig::default()
            }
        },
    )
}

fn any_request() -> impl Strategy<Value = Request> {
    let host = prop::sample::select(vec!["", "a.x", "b.x", "a.a.x", "b.a.x", "x", "y", "c.b.x"]);
    let path =
        prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/ab", "/a/c", "*"]);
    let query = prop::sample::select(vec!["", "?q=1", "?q=2", "?p&q", "?p=1"]);
    let method = prop::sample::select(vec!["GET", "POST", "PUT"]);
    let header = prop::sample::select(vec!["", "1", "2"]);
    let client = prop::sample::select(vec![[10, 0, 0, 1], [10, 1, 0, 1], [192, 0, 2, 1]]);
    (host, path, query, method, header, client).prop_map(
        |(host, path, query, method, header, client)| {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert("x-a", HeaderValue::from_static(header));
            }
            let target = format!("{path}{query}");
            Request { method, headers, client: client.into(), ..Request::get(host, &target) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_table_and_its_explanation_agree_with_a_matcher_that_asks_every_route(
        routes in prop::collection::vec(any_route(), 1..32),
        requests in prop::collection::vec(any_request(), 1..20),
    ) {
        // What is asked for twice is refused; the first of them stays.
        let mut kept = Routes::new();
        for (number, route) in routes.into_iter().enumerate() {
            let name = format!("r{:02}", (number * 7) % 40);
            kept.insert(name.clone(), route);
            let all = kept.iter().map(|(name, route)| (&**name, route));
            if RouteTable::compile(all).is_err() {
                kept.remove(&name);
            }
        }
        let table = table(&kept);
        for request in &requests {
            let wanted = oracle::taken(&kept, request);
            prop_assert_eq!(&taken(&table, request), &wanted, "{} {}", request.host, request.target);
            let explained = request.see(|view| table.explain(view));
            let winner = explained.winner.map(|route| route.name.to_string());
            prop_assert_eq!(winner, wanted);
        }
    }
}

#[test]
fn a_text_at_the_front_is_compared_letter_by_letter_and_the_longest_counts() {
    let table = table(&routes(&[
        ("api", "path_begins = \"/api\""),
        ("longer", "path_begins = \"/api/v2\""),
        ("any-case", "path_begins = \"/Shop\"\npath_any_case = true"),
        ("segment", "path = \"/api/v2/x\""),
        ("exact", "path_exact = \"/api\""),
        ("first", "path_begins = \"/s\"\npriority = 1\nhost = \"p.example\""),
        ("last", "path_begins = \"/shop\"\nhost = \"p.example\""),
    ]));
    for (host, path, want) in [
        ("a", "/api", Some("exact")),
        ("a", "/apis", Some("api")),
        ("a", "/API", None),
        ("a", "/api/v20", Some("longer")),
        ("a", "/api/v2/x", Some("longer")),
        ("a", "/shopping", Some("any-case")),
        ("a", "/SHOP", Some("any-case")),
        ("a", "/sho", None),
        ("a", "/%73hop", Some("any-case")),
        ("p.example", "/shop", Some("first")),
    ] {
        let request = Request::get(host, path);
        assert_eq!(taken(&table, &request).as_deref(), want, "{host}{path}");
        let explained = request.see(|view| table.explain(view));
        let winner = explained.winner.map(|route| route.name.to_string());
        assert_eq!(winner.as_deref(), want, "{host}{path}: {}", explained.why);
    }
    for text in ["path_any_case = true", "path_begins = \"a\"", "path_begins = \"/\"\npath = \"/\""]
    {
        let wrong = routes(&[("r", text)]);
        let problems = RouteTable::compile(wrong.iter().map(|(name, route)| (&**name, route)));
        assert_eq!(problems.unwrap_err().len(), 1, "{text}");
    }
}
