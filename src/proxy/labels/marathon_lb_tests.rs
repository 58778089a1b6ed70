use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{LabelsConfig, Mode, read as read_labels};
use super::*;
use crate::catalog::model::{Address, Instance, Meta, Port as InstancePort};

fn config(text: &str) -> LabelsConfig {
    let text = format!("[marathon-lb]\n{text}");
    toml::from_str(&text).unwrap()
}

const USUAL: &str = "group = [\"external\"]\nhttp = \"web\"\nhttps = \"secure\"\napp_id = \"apps\"";

/// `/prod/shop/web` with two ports, 10001 and 10002, and the labels `text` has line by line.
fn app(text: &str) -> Service {
    service(
        text,
        &[
            ("marathon.app", "/prod/shop/web"),
            ("marathon.service-ports", "10001,10002"),
            ("marathon.protocols", "tcp,tcp"),
        ],
    )
}

fn service(text: &str, told: &[(&str, &str)]) -> Service {
    let labels = text.lines().filter_map(|line| line.trim().split_once('='));
    let meta: Meta =
        labels.chain(told.iter().copied()).map(|(k, v)| (k.into(), v.into())).collect();
    let port = |name: &str, number| InstancePort { name: name.into(), number };
    let bare = Instance::bare("m", "task.1", Address::parse("10.0.0.4").unwrap());
    let instance = Instance {
        ports: Arc::new([port("admin", 31_002), port("http", 31_001)]),
        meta: Meta::from([("marathon.ports".into(), "31001,31002".into())]),
        ..bare
    };
    let instances: Arc<[Arc<Instance>]> = Arc::new([Arc::new(instance)]);
    Service {
        name: "web.shop.prod".into(),
        tags: Arc::new([]),
        meta: Arc::new(meta),
        eligible: Arc::clone(&instances),
        instances,
        problems: Arc::new([]),
    }
}

/// What labels come to, as few lines.
fn told(labelled: &Labelled) -> String {
    let mut text = String::new();
    for (listener, name, route) in &labelled.routes {
        assert_eq!(route.listener, **listener);
        let _ = writeln!(text, "route {listener} {name}{}", route_told(route));
    }
    for one in &labelled.apps {
        let _ = writeln!(text, "app {} {}{}", one.app, one.name, route_told(&one.route));
    }
    for port in &labelled.ports {
        let tls = if port.tls { " tls" } else { "" };
        let bind = port.bind.map(|bind| format!(" at {bind}")).unwrap_or_default();
        let _ = write!(text, "port {} {}{bind}{tls} -> {}", port.name, port.port, port.target.key);
        if !port.allow.is_empty() {
            let _ = write!(text, " allow {:?}", port.allow);
        }
        if let Some(sticky) = &port.sticky {
            let _ = write!(text, " {sticky:?}");
        }
        match &port.mode {
            Mode::Tcp(timeouts) => {
                let _ = writeln!(text, " tcp {}", timeouts.idle);
            }
            Mode::Http(_, routes) => {
                let _ = writeln!(text, " http");
                for (name, route) in routes {
                    assert_eq!(route.listener, *port.name);
                    let _ = writeln!(text, "  {name}{}", route_told(route));
                }
            }
        }
    }
    for (target, rule) in &labelled.rules {
        let _ = writeln!(text, "rule {} {:?}", target.key, rule.policy);
    }
    for problem in &labelled.problems {
        let _ = writeln!(text, "! {problem}");
    }
    text
}

fn route_told(route: &crate::proxy::config::RouteConfig) -> String {
    let mut text = String::new();
    let mut say = |what: &str, value: String| {
        let _ = write!(text, " {what}={value}");
    };
    if let Some(host) = &route.host {
        say("host", host.clone());
    }
    if let Some(path) = &route.path_begins {
        say("begins", path.clone());
    }
    if route.path_any_case {
        say("any_case", "true".into());
    }
    if let Some(path) = &route.path_exact {
        say("exact", path.clone());
    }
    if route.priority != 0 {
        say("priority", route.priority.to_string());
    }
    if let Some(service) = &route.service {
        say("->", service.clone());
    }
    if let Some(redirect) = &route.redirect {
        let to = redirect.to.as_ref().or(redirect.scheme.as_ref()).unwrap();
        say("redirect", format!("{}:{to}", redirect.status.unwrap()));
    }
    if let Some(auth) = &route.basic_auth {
        say("auth", format!("{}:{:?}", auth.realm, auth.users));
    }
    if !route.allow.is_empty() {
        say("allow", format!("{:?}", route.allow));
    }
    if let Some(sticky) = &route.sticky {
        say("sticky", format!("{:?}", (&sticky.cookie, sticky.source)));
    }
    if let Some(rewrite) = &route.rewrite {
        say("rewrite", format!("{} {}", rewrite.pattern, rewrite.with));
    }
    if let Some(prefix) = &route.location_prefix {
        say("location", prefix.clone());
    }
    for (name, edits) in
        [("request", &route.request_headers), ("response", &route.response_headers)]
    {
        for (key, value) in edits.set.iter().chain(&edits.add) {
            say(name, format!("{key}:{value}"));
        }
    }
    text
}

#[track_caller]
fn gives(case: &str, service: &Service, want: &str) {
    let got = told(&read_labels(&config(USUAL), service));
    let trimmed = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(got.trim()), trimmed(want.trim()), "{case}");
}

#[test]
fn a_group_alone_opens_the_service_ports() {
    gives(
        "both ports",
        &app("HAPROXY_GROUP=external"),
        "\
        port prod_shop_web_10001 10001 -> web.shop.prod:http tcp 1h
        port prod_shop_web_10002 10002 -> web.shop.prod:admin tcp 1h",
    );
    gives(
        "one of several groups",
        &app("HAPROXY_GROUP=internal,external\nHAPROXY_0_ENABLED=false"),
        "\
        port prod_shop_web_10002 10002 -> web.shop.prod:admin tcp 1h",
    );
    gives(
        "a port's own group counts above",
        &app("HAPROXY_GROUP=external\nHAPROXY_0_GROUP=internal"),
        "\
        port prod_shop_web_10002 10002 -> web.shop.prod:admin tcp 1h",
    );
    gives(
        "only that of a port",
        &app("HAPROXY_1_GROUP=external"),
        "\
        port prod_shop_web_10002 10002 -> web.shop.prod:admin tcp 1h",
    );
    gives("another group", &app("HAPROXY_GROUP=internal\nHAPROXY_0_VHOST=a b"), "");
    gives("an empty group", &app("HAPROXY_GROUP="), "");
    gives("no group", &app("HAPROXY_0_VHOST=shop.example"), "");
    gives("no labels", &app(""), "");
    gives("a space belongs to the name", &app("HAPROXY_GROUP=internal, external"), "\
        ! HAPROXY_GROUP: \" external\" has spaces around it, which marathon-lb takes for a part of it; take them away
        ! HAPROXY_GROUP: \" external\" has spaces around it, which marathon-lb takes for a part of it; take them away");
}

#[test]
fn all_groups_strictness_and_exceptions_are_the_balancers() {
    let count = |text: &str, service: &Service| read_labels(&config(text), service).ports.len();
    assert_eq!(count("group = [\"*\"]", &app("")), 2, "those of no group too");
    assert_eq!(count("group = [\"*\"]", &app("HAPROXY_GROUP=internal")), 2);
    assert_eq!(count("group = [\"*\"]", &service("", &[])), 0, "no app, and no labels");
    assert_eq!(count("group = [\"external\"]\nstrict = true", &app("HAPROXY_GROUP=external")), 0);
    let enabled = app("HAPROXY_GROUP=external\nHAPROXY_1_ENABLED=True");
    assert_eq!(count("group = [\"external\"]\nstrict = true", &enabled), 1);
    let pod = [("marathon.kind", "pod"), ("marathon.service-ports", "0,0")];
    assert_eq!(count("group = [\"*\"]", &service("", &pod)), 0, "which it does not know");
    let except = "group = [\"*\"]\nexcept = [\"prod/shop/web\"]";
    assert_eq!(count(except, &enabled), 0, "itself");
    assert_eq!(read_labels(&LabelsConfig::default(), &enabled), Labelled::default());
}

#[test]
fn a_virtual_host_is_a_route_of_each_listener_and_of_its_port() {
    gives("hosts", &app("HAPROXY_GROUP=external\nHAPROXY_1_ENABLED=no\nHAPROXY_0_VHOST=Shop.example, www.shop.example"), "\
        route web /prod/shop/web#10001#shop.example@web host=shop.example ->=web.shop.prod:http
        route web /prod/shop/web#10001#www.shop.example@web host=www.shop.example ->=web.shop.prod:http
        route secure /prod/shop/web#10001#shop.example@secure host=shop.example ->=web.shop.prod:http
        route secure /prod/shop/web#10001#www.shop.example@secure host=www.shop.example ->=web.shop.prod:http
        app /prod/shop/web /prod/shop/web#10001@apps ->=web.shop.prod:http
        port prod_shop_web_10001 10001 -> web.shop.prod:http http
          /prod/shop/web#10001 ->=web.shop.prod:http");
    gives("all that can be said", &app("\
        HAPROXY_0_GROUP=external
        HAPROXY_0_VHOST=shop.example
        HAPROXY_0_PATH=-i /api /v2
        HAPROXY_0_BACKEND_WEIGHT=5
        HAPROXY_0_BALANCE=leastconn
        HAPROXY_0_STICKY=true
        HAPROXY_0_REDIRECT_TO_HTTPS=true
        HAPROXY_0_USE_HSTS=yes
        HAPROXY_0_AUTH=staff:ada:$6$salt$hash
        HAPROXY_0_HTTP_BACKEND_PROXYPASS_PATH=/api/
        HAPROXY_0_HTTP_BACKEND_REVPROXY_PATH=/api
        HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL=10.0.0.0/8 192.0.2.1
        HAPROXY_0_PORT=8080
        HAPROXY_0_BIND_ADDR=127.0.0.1
        HAPROXY_0_SSL_CERT=/etc/ssl/cert.pem"), "\
        route web /prod/shop/web#08080#shop.example/api(-i)@web host=shop.example begins=/api any_case=true priority=4 redirect=301:https
        route web /prod/shop/web#08080#shop.example/v2(-i)@web host=shop.example begins=/v2 any_case=true priority=4 redirect=301:https
        route secure /prod/shop/web#08080#shop.example/api(-i)@secure host=shop.example begins=/api any_case=true priority=4 ->=web.shop.prod:http auth=staff:{\"ada\": \"$6$salt$hash\"} allow=[10.0.0.0/8, 192.0.2.1/32] sticky=(Some(\"mesosphere_server_id\"), None) rewrite=(?i)^/api/?(.*) /$1 location=/api request=Host:shop.example response=Strict-Transport-Security:max-age=15768000
        route secure /prod/shop/web#08080#shop.example/v2(-i)@secure host=shop.example begins=/v2 any_case=true priority=4 ->=web.shop.prod:http auth=staff:{\"ada\": \"$6$salt$hash\"} allow=[10.0.0.0/8, 192.0.2.1/32] sticky=(Some(\"mesosphere_server_id\"), None) rewrite=(?i)^/api/?(.*) /$1 location=/api request=Host:shop.example response=Strict-Transport-Security:max-age=15768000
        app /prod/shop/web /prod/shop/web#08080@apps ->=web.shop.prod:http allow=[10.0.0.0/8, 192.0.2.1/32] sticky=(Some(\"mesosphere_server_id\"), None) rewrite=(?i)^/api/?(.*) /$1 location=/api request=Host:shop.example response=Strict-Transport-Security:max-age=15768000
        port prod_shop_web_8080 8080 at 127.0.0.1 tls -> web.shop.prod:http http
          /prod/shop/web#08080 ->=web.shop.prod:http allow=[10.0.0.0/8, 192.0.2.1/32] sticky=(Some(\"mesosphere_server_id\"), None) rewrite=(?i)^/api/?(.*) /$1 location=/api request=Host:shop.example response=Strict-Transport-Security:max-age=15768000
        rule web.shop.prod:http Some((\"least-connections\", None))");
    gives("the root leads elsewhere", &app("HAPROXY_0_GROUP=external\nHAPROXY_0_VHOST=shop.example\nHAPROXY_0_HTTP_BACKEND_REDIR=/my/content"), "\
        route web /prod/shop/web#10001#shop.example@web host=shop.example ->=web.shop.prod:http
        route web /prod/shop/web#10001#shop.example/=@web host=shop.example exact=/ redirect=301:/my/content
        route secure /prod/shop/web#10001#shop.example@secure host=shop.example ->=web.shop.prod:http
        route secure /prod/shop/web#10001#shop.example/=@secure host=shop.example exact=/ redirect=301:/my/content
        app /prod/shop/web /prod/shop/web#10001@apps ->=web.shop.prod:http
        port prod_shop_web_10001 10001 -> web.shop.prod:http http
          /prod/shop/web#10001#shop.example/= host=shop.example exact=/ redirect=301:/my/content
          /prod/shop/web#10001 ->=web.shop.prod:http");
}

#[test]
fn the_mode_is_that_of_the_check_then_of_the_label_then_of_the_host() {
    let http = |text: &str, checks: &str| {
        let told = [("marathon.service-ports", "10001,10002"), ("marathon.http-checks", checks)];
        let labelled = read_labels(
            &config(USUAL),
            &service(&format!("HAPROXY_0_GROUP=external\n{text}"), &told),
        );
        labelled.ports.first().map(|port| matches!(port.mode, Mode::Http(..)))
    };
    for (case, text, checks, want) in [
        ("nothing", "", "", Some(false)),
        ("a check", "", "0", Some(true)),
        ("another port's check", "", "1", Some(false)),
        (
            "that is to be checked instead",
            "HAPROXY_0_BACKEND_HEALTHCHECK_PORT_INDEX=1",
            "1",
            Some(true),
        ),
        ("a check above the label", "HAPROXY_0_MODE=tcp", "0", Some(true)),
        ("the label", "HAPROXY_0_MODE=HTTP", "", Some(true)),
        ("the label above the host", "HAPROXY_0_MODE=tcp\nHAPROXY_0_VHOST=a", "", Some(false)),
        ("the host", "HAPROXY_0_VHOST=a", "", Some(true)),
        ("a mode that is none", "HAPROXY_0_MODE=udp", "", None),
    ] {
        assert_eq!(http(text, checks), want, "{case}");
    }
}

#[test]
fn weights_order_routes_and_a_path_raises_one_of_0() {
    for (weight, path, want) in [
        ("", false, 0),
        ("", true, 0),
        ("0", false, 0),
        ("0", true, 0),
        ("1", false, 0),
        ("1", true, 0),
        ("2", true, 1),
        ("10", false, 9),
        ("-1", false, -1),
        ("-1", true, -1),
        ("99999999999", false, 999_999),
        ("-99999999999", false, -1_000_000),
    ] {
        let weight_label = if weight.is_empty() {
            String::new()
        } else {
            format!("HAPROXY_0_BACKEND_WEIGHT={weight}")
        };
        let path_label = if path { "HAPROXY_0_PATH=/a" } else { "" };
        let text =
            format!("HAPROXY_0_GROUP=external\nHAPROXY_0_VHOST=a\n{weight_label}\n{path_label}");
        let labelled = read_labels(&config(USUAL), &app(&text));
        assert_eq!(labelled.routes[0].2.priority, want, "{weight} {path}");
    }
}

#[test]
fn what_cannot_be_costs_as_much_as_must_be() {
    let rest = "app /prod/shop/web /prod/shop/web#10001@apps ->=web.shop.prod:http
        port prod_shop_web_10001 10001 -> web.shop.prod:http http
          /prod/shop/web#10001 ->=web.shop.prod:http";
    let base = "HAPROXY_0_GROUP=external\nHAPROXY_0_MODE=http";
    for (text, told) in [
        (
            "HAPROXY_0_VHOST=*.shop.example",
            "HAPROXY_0_VHOST: \"*.shop.example\" is taken as it is written by marathon-lb, so that nothing matches; write a [route] with host = \"*.…\"",
        ),
        (
            "HAPROXY_0_STICKY=1",
            "HAPROXY_0_STICKY: \"1\" counts as false, as it does with marathon-lb; write true",
        ),
        ("HAPROXY_0_PATH=/a", "HAPROXY_0_PATH: means nothing without HAPROXY_0_VHOST"),
        (
            "HAPROXY_0_VHOST=a\nHAPROXY_0_PATH=a",
            "HAPROXY_0_PATH: \"a\" is the beginning of no path; it lacks a '/'; no virtual host is served",
        ),
        (
            "HAPROXY_0_VHOST=a\nHAPROXY_0_AUTH=secret",
            "HAPROXY_0_AUTH: is not realm:user:encryptedpassword; no virtual host is served",
        ),
        (
            "HAPROXY_0_BACKEND_WEIGHT=high",
            "HAPROXY_0_BACKEND_WEIGHT: is no whole number, and counts as 0",
        ),
        (
            "HAPROXY_0_BALANCE=first",
            "HAPROXY_0_BALANCE: \"first\" fills one server after the other, which no policy here does; leastconn spreads by load",
        ),
        (
            "HAPROXY_0_VHSOT=a",
            "HAPROXY_0_VHSOT: there is no such label; did you mean HAPROXY_0_VHOST?",
        ),
        (
            "HAPROXY_VHOST=a",
            "HAPROXY_VHOST: there is no such label; those of a port are written HAPROXY_0_VHOST, with the port's index",
        ),
        ("HAPROXY_7_VHOST=a", "HAPROXY_7_…: the app has 2 service ports, from 0 on"),
        (
            "HAPROXY_0_HTTP_BACKEND_REDIR=x",
            "HAPROXY_0_HTTP_BACKEND_REDIR: \"x\" is no path; write it as /my/content",
        ),
        (
            "HAPROXY_0_VHOST=a\nHAPROXY_0_HTTP_FRONTEND_ACL=acl a b",
            "HAPROXY_0_HTTP_FRONTEND_ACL: \"acl a b\": conditions of routes are not taken over; use HAPROXY_0_VHOST, _PATH and _BACKEND_WEIGHT, or a [route] of the configuration. No virtual host is served for this port",
        ),
    ] {
        gives(text, &app(&format!("{base}\n{text}")), &format!("{rest}\n! {told}"));
    }
    for (text, told) in [
        (
            "HAPROXY_0_MODE=udp",
            "HAPROXY_0_MODE: \"udp\" is neither tcp nor http; the port is not served",
        ),
        ("HAPROXY_0_PORT=high", "HAPROXY_0_PORT: \"high\" is no port; the port is not served"),
        (
            "HAPROXY_0_BIND_ADDR=eth0",
            "HAPROXY_0_BIND_ADDR: \"eth0\" is no IP address; the port is not served",
        ),
        (
            "HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL=10.0.0.0/33",
            "HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL: \"10.0.0.0/33\" is no address and no network; the port is not served",
        ),
        (
            "HAPROXY_0_BACKEND_HEAD=http-request deny",
            "HAPROXY_0_BACKEND_HEAD: \"http-request deny\": use HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL; the port is not served",
        ),
        (
            "HAPROXY_0_BIND_OPTIONS=accept-proxy",
            "HAPROXY_0_BIND_OPTIONS: \"accept-proxy\": a port of an app can't say who may tell of clients; write a [listener] with proxy_protocol; the port is not served",
        ),
    ] {
        gives(
            text,
            &app(&format!("HAPROXY_0_GROUP=external\nHAPROXY_0_VHOST=a\n{text}")),
            &format!("! {told}"),
        );
    }
    gives(
        "a low port is not had unless it is allowed",
        &app("HAPROXY_0_GROUP=external\nHAPROXY_0_PORT=22"),
        "\
        ! HAPROXY_0_PORT: port 22 is not among those allowed (1024-65535); extend `ports` in [labels.marathon-lb]",
    );
    let labelled = read_labels(&config("group = [\"*\"]"), &app("HAPROXY_0_SSL_CERT=/a.pem"));
    assert!(
        labelled.ports.len() == 1 && labelled.problems[0].contains("needs `https`"),
        "{labelled:?}"
    );
}

#[test]
fn ports_are_found_without_marathon_too() {
    // A file, or Consul: the n-th port in the order of names.
    let plain = service("HAPROXY_GROUP=external\nHAPROXY_0_PORT=8080\nHAPROXY_1_VHOST=a", &[]);
    gives(
        "by the labels' indexes",
        &plain,
        "\
        route web /web.shop.prod#00000#a@web host=a ->=web.shop.prod:http
        route secure /web.shop.prod#00000#a@secure host=a ->=web.shop.prod:http
        app /web.shop.prod /web.shop.prod#00000@apps ->=web.shop.prod:http
        port web.shop.prod_8080 8080 -> web.shop.prod:admin tcp 1h",
    );
    let told = [
        ("marathon.app", "/a"),
        ("marathon.service-ports", "0,0"),
        ("marathon.protocols", "tcp,udp"),
    ];
    gives(
        "marathon-lb's own port for an address of its own",
        &service("HAPROXY_GROUP=external", &told),
        "\
        port a_10097 10097 -> web.shop.prod:http tcp 1h",
    );
    let named = [
        ("marathon.app", "/a"),
        ("marathon.service-ports", "80,81"),
        ("marathon.port-names", "one,"),
    ];
    let text = "HAPROXY_GROUP=external\nHAPROXY_0_PORT=2000\nHAPROXY_1_PORT=2001";
    gives(
        "by their names, before anybody is there",
        &service(text, &named),
        "\
        port a_2000 2000 -> web.shop.prod:one tcp 1h
        port a_2001 2001 -> web.shop.prod tcp 1h",
    );
    let mut empty = service(text, &[("marathon.app", "/a"), ("marathon.service-ports", "80,81")]);
    empty.instances = Arc::new([]);
    gives(
        "by their numbers, before anybody is there",
        &empty,
        "\
        port a_2000 2000 -> web.shop.prod:port-0 tcp 1h
        port a_2001 2001 -> web.shop.prod:port-1 tcp 1h",
    );
}

#[test]
fn templates_shape_the_routes_and_the_port() {
    gives("over http", &app("\
        HAPROXY_0_GROUP=external
        HAPROXY_0_VHOST=a
        HAPROXY_0_STICKY=true
        HAPROXY_0_BACKEND_STICKY_OPTIONS=cookie mine insert indirect nocache httponly
        HAPROXY_0_BACKEND_HTTP_OPTIONS=option forwardfor\\n http-request add-header X-Https yes if { ssl_fc }
        HAPROXY_0_BACKEND_HEAD=backend {backend}\\n balance source\\n mode {mode}"), "\
        route web /prod/shop/web#10001#a@web host=a ->=web.shop.prod:http sticky=(Some(\"mine\"), None)
        route secure /prod/shop/web#10001#a@secure host=a ->=web.shop.prod:http sticky=(Some(\"mine\"), None) request=X-Https:yes
        app /prod/shop/web /prod/shop/web#10001@apps ->=web.shop.prod:http sticky=(Some(\"mine\"), None)
        port prod_shop_web_10001 10001 -> web.shop.prod:http http
          /prod/shop/web#10001 ->=web.shop.prod:http sticky=(Some(\"mine\"), None)
        rule web.shop.prod:http Some((\"maglev\", Some(\"source\")))");
    gives("over tcp", &app("\
        HAPROXY_1_GROUP=external
        HAPROXY_1_BACKEND_NETWORK_ALLOWED_ACL=10.0.0.0/8
        HAPROXY_1_BACKEND_HEAD=timeout tunnel 10m\\n stick-table type ip size 1k expire 5m\\n stick on src"), "\
        port prod_shop_web_10002 10002 -> web.shop.prod:admin allow [10.0.0.0/8] StickyConfig { cookie: None, source: Some(Period(300s)) } tcp 10m");
}

#[test]
fn thousands_of_hosts_are_served_as_far_as_the_limit_goes() {
    let hosts: Vec<String> = (0..5000).map(|number| format!("h{number}.example")).collect();
    let labelled = read_labels(
        &config(USUAL),
        &app(&format!("HAPROXY_0_GROUP=external\nHAPROXY_0_VHOST={}", hosts.join(","))),
    );
    assert_eq!(labelled.routes.len(), 200, "100 hosts on two listeners");
    assert_eq!(
        labelled.problems,
        [
            "HAPROXY_0_VHOST: 4900 hosts are beyond the first 100; raise hosts_max in [labels.marathon-lb]"
        ]
    );
    let odd: Vec<String> = (0..300).map(|number| format!("HAPROXY_0_ODD{number}=x")).collect();
    let labelled =
        read_labels(&config(USUAL), &app(&format!("HAPROXY_0_GROUP=external\n{}", odd.join("\n"))));
    assert_eq!(labelled.problems.len(), PROBLEMS_MAX + 1);
    assert_eq!(labelled.problems.last().unwrap(), "and 250 more");
}

/// Names that labels have, and some that they don't.
fn label() -> impl Strategy<Value = String> {
    let known: Vec<&str> = super::super::known::KNOWN.to_vec();
    let templates: Vec<&str> =
        super::super::templates::TEMPLATES.iter().map(|(name, _)| *name).collect();
    prop_oneof![
        prop::sample::select(known).prop_map(|name| format!("HAPROXY_0_{name}")),
        prop::sample::select(templates).prop_map(|name| format!("HAPROXY_1_{name}")),
        "HAPROXY_[0-9]{0,4}_?[A-Z_]{0,12}",
    ]
}

proptest! {
    #[test]
    fn whatever_labels_say_nothing_breaks_and_all_that_comes_of_it_can_be(
        labels in prop::collection::vec((label(), prop_oneof![
            any::<String>(),
            "[ -~]{0,80}",
            "(true|/a|a.example|10.0.0.0/8|r:u:h|8080|http|tcp|leastconn)",
        ]), 0..12),
        checks in "[0-9,]{0,4}",
    ) {
        let meta: Meta = labels
            .iter()
            .map(|(name, value)| (Arc::from(&**name), Arc::from(&**value)))
            .chain([
                ("HAPROXY_GROUP".into(), "external".into()),
                ("marathon.http-checks".into(), Arc::from(&*checks)),
                ("marathon.service-ports".into(), "10001,10002".into()),
            ])
            .collect();
        let service = Service { meta: Arc::new(meta), ..service("", &[]) };
        let labelled = read_labels(&config(USUAL), &service);
        let again = read_labels(&config(USUAL), &service);
        prop_assert_eq!(&labelled, &again, "the same, of the same");
        let ports = labelled.ports.iter().filter_map(|port| match &port.mode {
            Mode::Http(_, routes) => Some(routes.iter().map(|(name, route)| (&**name, route))),
            Mode::Tcp(_) => None,
        });
        let routes = labelled.routes.iter().map(|(_, name, route)| (&**name, route));
        for (name, route) in routes.chain(ports.flatten()) {
            let compiled = crate::proxy::route::RouteTable::compile([(name, route)]);
            prop_assert!(compiled.is_ok(), "{:?}: {:?}", route, compiled.err());
        }
        for (_, rule) in &labelled.rules {
            let balance = rule.over(&crate::proxy::config::ServiceBalance::default());
            prop_assert!(crate::proxy::upstream::Rules::compile(&balance).is_ok());
        }
        for problem in &labelled.problems {
            prop_assert!(!problem.contains(char::is_control), "{:?}", problem);
            prop_assert!(problem.len() < 1000, "{:?}", problem);
        }
    }
}
