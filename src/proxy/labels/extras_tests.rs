use super::*;
use crate::proxy::config::UpstreamProtocol;

const HTTP: About =
    About { http: true, hosts: true, sticky: true, hsts: true, auth: true, networks: true };

fn read(name: &str, text: &str, about: About) -> (Extras, Vec<Refused>) {
    let mut extras = Extras::default();
    let mut told = Vec::new();
    assert!(extras.read(name, text, about, &mut |one| told.push(one)), "{name}");
    extras.settle();
    (extras, told)
}

#[test]
fn templates_of_marathon_lb_as_they_are_say_nothing_new() {
    // What HAProxy is told where nobody overrides it, in our words.
    for (name, text) in [
        (
            "FRONTEND_HEAD",
            "\nfrontend {backend}\n  bind {bindAddr}:{servicePort}{sslCert}{bindOptions}\n  mode {mode}\n",
        ),
        ("BACKEND_HEAD", "\nbackend {backend}\n  balance {balance}\n  mode {mode}\n"),
        ("FRONTEND_BACKEND_GLUE", "  use_backend {backend}\n"),
        (
            "BACKEND_HTTP_HEALTHCHECK_OPTIONS",
            "  option  httpchk GET {healthCheckPath}\n  timeout check {healthCheckTimeoutSeconds}s\n",
        ),
        ("BACKEND_TCP_HEALTHCHECK_OPTIONS", ""),
        (
            "BACKEND_SERVER_OPTIONS",
            "  server {serverName} {host_ipv4}:{port} id {serverId}{cookieOptions}{healthCheckOptions}{otherOptions}\n",
        ),
        (
            "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS",
            "  check inter {healthCheckIntervalSeconds}s fall {healthCheckFalls}{healthCheckPortOptions}\n",
        ),
    ] {
        for about in [About::default(), HTTP] {
            let (extras, told) = read(name, text, about);
            assert_eq!(told, [], "{name}");
            assert_eq!(Extras { checks: false, ..extras }, Extras::default(), "{name}");
        }
    }
    let text = "  option forwardfor\n  http-request set-header X-Forwarded-Port %[dst_port]\n  \
                http-request add-header X-Forwarded-Proto https if { ssl_fc }\n";
    let (extras, told) = read("BACKEND_HTTP_OPTIONS", text, HTTP);
    assert_eq!(told, []);
    assert_eq!(extras.request.of(true).add["X-Forwarded-Proto"], "https");
    let (extras, told) = read(
        "BACKEND_STICKY_OPTIONS",
        "  cookie mesosphere_server_id insert indirect nocache\n",
        HTTP,
    );
    assert_eq!((extras.cookie.as_deref(), told.len()), (Some("mesosphere_server_id"), 0));
    let hsts = "  rspadd  Strict-Transport-Security:\\ max-age=15768000\n";
    let (extras, told) = read("BACKEND_HSTS_OPTIONS", hsts, HTTP);
    assert_eq!(told, []);
    assert_eq!(extras.response.of(true).add["Strict-Transport-Security"], "max-age=15768000");
    let (extras, _) = read("BACKEND_HSTS_OPTIONS", hsts, About::default());
    assert_eq!(extras, Extras::default(), "nobody asked for it");
}

#[test]
fn lines_with_a_meaning_here_are_taken_over() {
    let text = "backend {backend}\\n  balance leastconn\\n  mode {mode}\\n  timeout connect 5s\\n  \
                timeout server 10m\\n  timeout client 20s\\n  timeout tunnel 2h\\n  timeout \
                http-request 5s\\n  timeout http-keep-alive 2s\\n  timeout queue 10s\\n  retries 1\\n  \
                stick-table type ip size 200k expire 30m\\n  stick on src\\n  hash-type consistent";
    let (extras, told) = read("BACKEND_HEAD", text, HTTP);
    assert_eq!(told, []);
    let seconds = |time: Option<Period>| time.map(|time| time.0.as_secs());
    let times = &extras.timeouts;
    for (case, got, want) in [
        ("connect", times.connect, 5),
        ("server", times.server, 600),
        ("client", times.client, 20),
        ("tunnel", times.tunnel, 7200),
        ("http-request", times.request, 5),
        ("http-keep-alive", times.keep_alive, 2),
        ("queue", extras.balance.queue_timeout, 10),
        ("stick", extras.source, 1800),
    ] {
        assert_eq!(seconds(got), Some(want), "{case}");
    }
    assert_eq!(extras.balance.policy, Some(("least-connections", None)));
    assert_eq!(extras.balance.retries, Some(1));
    let server = "  server {serverName} {host_ipv4}:{port}{cookieOptions}{healthCheckOptions}\
                  {otherOptions} maxconn 50 weight 10 slowstart 10s ssl verify none alpn h2 \
                  send-proxy-v2 on-marked-down shutdown-sessions";
    let (extras, told) = read("BACKEND_SERVER_OPTIONS", server, HTTP);
    assert_eq!(told, []);
    let balance = &extras.balance;
    assert_eq!((balance.max_connections, seconds(balance.slow_start)), (Some(50), Some(10)));
    assert_eq!(balance.protocol, Some(UpstreamProtocol::H2));
    assert!(balance.tls.as_ref().is_some_and(|tls| !tls.verify) && balance.close_unhealthy);
    assert!(balance.proxy_protocol.is_some());
    let (extras, _) = read("BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS", "check proto h2", HTTP);
    assert_eq!(extras.balance.protocol, Some(UpstreamProtocol::H2c));
}

#[test]
fn other_lines_are_refused_by_their_first_words_with_what_to_use_instead() {
    use Cost::{App, Hosts, Port, Told};
    for (name, text, cost, want) in [
        (
            "BACKEND_HEAD",
            "http-request deny if !{ src 10.0.0.0/8 }",
            Port,
            "\"http-request deny if !{ src\": use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL",
        ),
        ("BACKEND_HEAD", "http-request auth realm x", Port, "use HAPROXY_{n}_AUTH"),
        ("BACKEND_HEAD", "tcp-request content reject", Port, "NETWORK_ALLOWED"),
        ("FRONTEND_HEAD", "bind *:{servicePort} accept-proxy", Port, "_BIND_OPTIONS"),
        ("FRONTEND_HEAD", "mode tcp", Port, "use HAPROXY_{n}_MODE"),
        ("FRONTEND_BACKEND_GLUE", "use_backend {backend} if is_ours", Port, "or a [route]"),
        ("FRONTEND_BACKEND_GLUE", "use_backend other", Port, "or a [route]"),
        ("BACKEND_HEAD", "acl is_root path /", Told, "with a condition"),
        ("BACKEND_HEAD", "compression algo gzip", Told, "let the app compress"),
        ("BACKEND_HEAD", "errorfile 503 /a", Told, "error_pages"),
        ("BACKEND_HEAD", "option httplog", Told, "[access_log]"),
        ("BACKEND_HEAD", "option nolinger", Told, "has no counterpart"),
        ("BACKEND_HEAD", "balance first", Told, "leastconn spreads by load"),
        ("BACKEND_HEAD", "timeout server soon", Told, "no time"),
        ("BACKEND_HEAD", "timeout tarpit 1s", Told, "has no counterpart"),
        ("BACKEND_HEAD", "timeout server", Told, "write it as timeout server 30s"),
        ("BACKEND_HEAD", "retries many", Told, "no number"),
        ("BACKEND_HEAD", "stick on src", Told, "before its stick-table"),
        ("BACKEND_HEAD", "stick-table type string len 32 size 1k", Told, "type ip"),
        ("BACKEND_HTTP_OPTIONS", "reqirep ^(.*) \\1", Told, "PROXYPASS_PATH"),
        (
            "BACKEND_HTTP_OPTIONS",
            "http-request set-header X-A %[ssl_c_s_dn]",
            Told,
            "no word for here",
        ),
        (
            "BACKEND_STICKY_OPTIONS",
            "cookie JSESSIONID prefix",
            Told,
            "\"prefix\" has no counterpart",
        ),
        ("BACKEND_STICKY_OPTIONS", "cookie X", Told, "is not inserted"),
        (
            "BACKEND_SERVER_OPTIONS",
            "server a 10.0.0.1:80",
            Port,
            "elsewhere than to the app's tasks",
        ),
        ("BACKEND_SERVER_OPTIONS", "server a {host_ipv4}:{port}1 check", Port, "elsewhere"),
        ("BACKEND_SERVER_OPTIONS", "default-server maxconn 1", Port, "no `server` line"),
        (
            "BACKEND_SERVER_OPTIONS",
            "server {serverName} {host_ipv4}:{port} backup",
            Told,
            "\"backup\": would be said of every task",
        ),
        (
            "BACKEND_SERVER_OPTIONS",
            "server {serverName} {host_ipv4}:{port} maxconn lots",
            Told,
            "\"maxconn lots\"",
        ),
        (
            "BACKEND_SERVER_OPTIONS",
            "server {serverName} {host_ipv4}:{port} ssl ca-file /etc/shadow",
            Told,
            "\"ca-file /etc/shadow\": names a file of the balancer's",
        ),
        ("BACKEND_STICKY_OPTIONS", "cookie a;b insert", Told, "no name of a cookie"),
        (
            "BACKEND_SERVER_OPTIONS",
            "server {serverName} {host_ipv4}:{port} gently",
            Told,
            "\"gently\": is not understood",
        ),
        (
            "HTTP_FRONTEND_ACL",
            "  acl host_a hdr_end(host) -i a\n use_backend {backend} if host_a",
            Hosts,
            "\"acl host_a hdr_end(host) -i a\": conditions of routes",
        ),
        ("HTTPS_FRONTEND_ACL_WITH_PATH", "use_backend x", Hosts, "No virtual host is served"),
        ("HTTP_FRONTEND_APPID_ACL", "use_backend x", App, "X-Marathon-App-Id"),
        ("USERLIST_HEAD", "userlist x", Hosts, "use HAPROXY_{n}_AUTH"),
        ("HTTP_BACKEND_NETWORK_ALLOWED_ACL", "acl network_allowed src x", Port, "NETWORK_ALLOWED"),
        ("HTTP_BACKEND_PROXYPASS_GLUE", "reqrep x y", Told, "PROXYPASS_PATH"),
        ("HEAD", "global", Told, "of the balancer"),
    ] {
        let (_, told) = read(name, text, HTTP);
        assert_eq!(told.len(), 1, "{name}: {text}: {told:?}");
        assert!(told[0].cost == cost && told[0].what.contains(want), "{text}: {told:?}");
    }
    for name in ["HTTP_FRONTEND_ACL", "USERLIST_HEAD", "HTTP_BACKEND_NETWORK_ALLOWED_ACL"] {
        let (_, told) = read(name, "acl x", About::default());
        assert_eq!(told[0].cost, Told, "{name}: marathon-lb does not look at it here");
    }
}

#[test]
fn every_template_says_something_about_any_text() {
    for (name, _) in templates::TEMPLATES {
        for text in [
            "",
            " ",
            "\0\u{1}",
            "a\\",
            "'",
            "server",
            "timeout",
            "http-request",
            "balance",
            "cookie",
            "stick",
            "stick-table expire",
            "option",
            "{",
            "rspadd",
            "reqadd x",
        ] {
            let mut extras = Extras::default();
            assert!(extras.read(name, text, HTTP, &mut |_| {}), "{name}");
            assert!(extras.read(name, &text.repeat(5000), HTTP, &mut |_| {}), "{name}");
        }
    }
}
