//! What can be seen of requests: lines in the access log, metrics, traces that go on, and why a
//! request goes where it goes.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::process::Command;

use crate::child::{Running, portolan};
use crate::origin::{OK, Origin};
use crate::peers::{own_address, serving, start};
use crate::rig::{Client, Rig, header, service, within};
use crate::support::{listing, until};

/// The lines of `file`, once there are `count`.
async fn lines(file: &Path, count: usize) -> Vec<String> {
    until(&format!("{count} lines in {}", file.display()), async || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let whole = text.ends_with('\n') || text.is_empty();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (whole && lines.len() >= count).then_some(lines)
    })
    .await
}

/// The objects in the access log `file`, once there are `count`.
async fn objects(file: &Path, count: usize) -> Vec<Value> {
    let lines = lines(file, count).await;
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line of the combined format without its time.
fn timeless(line: &str) -> String {
    let (before, rest) = line.split_once('[').unwrap();
    let (time, rest) = rest.split_once(']').unwrap();
    let read = jiff::Zoned::strptime("%d/%b/%Y:%H:%M:%S %z", time);
    assert!(read.is_ok(), "{time}");
    format!("{before}[]{rest}")
}

#[tokio::test]
async fn the_combined_format_is_that_of_nginx() {
    let origin = Origin::start(|mut exchange| async move {
        loop {
            let request = exchange.request().await?;
            let answer = match request.split(' ').nth(1)? {
                "/none" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/moved" => "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
                "/gone" => "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\ngone\n",
                _ if request.starts_with("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
                _ => OK,
            };
            exchange.send(answer).await?;
        }
    })
    .await;
    let more = "access_log = { to = \"./access.log\", format = \"combined\" }";
    let rig = Rig::http(more, &[origin.address]).await;
    let portolan = rig.address("web").await;

    let mut nginx_at = own_address();
    nginx_at.set_port(portolan.port());
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr crit;\npid nginx.pid;\n\
         events {{}}\n\
         http {{\n\
         access_log access.log combined;\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         server {{ listen {nginx_at}; location / {{\n\
         proxy_pass http://{origin};\nproxy_http_version 1.1;\n\
         proxy_set_header Host $http_host;\nproxy_set_header Connection '';\n\
         }} }}\n}}\n",
        origin = origin.address
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut nginx =
        start(Command::new("nginx").arg("-p").arg(directory.path()).arg("-c").arg(file));
    serving(&mut nginx, nginx_at).await;

    let requests: &[(&str, &[u8])] = &[
        ("plain", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a query", b"GET /a/b?c=d&e=%20%22 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("escapes", b"GET /%41%2e%e2%82%ac'()*;@ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a quote in the target", b"GET /a\"b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a backslash in a query", b"GET /a?b\\c HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("absolute", b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        ("HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a body", b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b"),
        ("another method", b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no content", b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("moved", b"GET /moved HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("not found", b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "headers",
            b"GET / HTTP/1.1\r\nHost: a\r\nReferer: http://b/?c\r\nUser-Agent: curl/8.5 (x; y)\r\n\r\n",
        ),
        ("empty headers", b"GET / HTTP/1.1\r\nHost: a\r\nReferer:\r\nUser-Agent: \r\n\r\n"),
        (
            "hostile headers",
            b"GET / HTTP/1.1\r\nHost: a\r\nReferer: \"] \\ [\"\r\nUser-Agent: \"\\x22\xc3\xbc\xff\tx\r\n\r\n",
        ),
        (
            "spaces around",
            b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent:   a  b   \r\n\r\n",
        ),
        (
            "a user",
            b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=secret\r\nAuthorization: Bearer secret\r\n\r\n",
        ),
    ];
    let ours = rig.directory().join("access.log");
    let theirs = directory.path().join("access.log");
    for (index, (case, request)) in requests.iter().enumerate() {
        let method = std::str::from_utf8(&request[..4]).unwrap();
        for address in [nginx_at, portolan] {
            let mut client = Client::connect(address).await;
            client.send(request).await;
            within(case, client.answer_to(method)).await;
            client.finish().await;
        }
        // One after the other: two workers of nginx could swap two lines.
        let [told, by_nginx] = [lines(&ours, index + 1).await, lines(&theirs, index + 1).await]
            .map(|mut lines| {
                assert_eq!(lines.len(), index + 1, "{case}: {lines:#?}");
                timeless(&lines.pop().unwrap())
            });
        assert_eq!(told, by_nginx, "{case}: Portolan (left), nginx");
        assert!(!told.contains("secret"), "{case}: {told}");
    }

    // Of what is refused, the page of the answer is our own, and its size.
    let request = b"GET /\" HTTP/1.1\r\n\r\n";
    for address in [nginx_at, portolan] {
        let mut client = Client::connect(address).await;
        client.send(request).await;
        client.rest().await;
    }
    let count = requests.len() + 1;
    let [told, by_nginx] = [lines(&ours, count).await, lines(&theirs, count).await].map(|lines| {
        let line = timeless(lines.last().unwrap());
        let fields: Vec<&str> = line.split(' ').collect();
        let size = fields.len() - 3;
        [&fields[..size], &fields[size + 1..]].concat().join(" ")
    });
    assert_eq!(told, by_nginx, "refused: Portolan (left), nginx");
}

#[tokio::test]
async fn a_line_of_json_tells_where_a_request_went_and_no_secret() {
    let origin = Origin::answering(OK).await;
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = "[node]\nworkers = 1\n[access_log]\nto = \"logs/access.log\"\n\
                  [service.web]\npolicy = \"round-robin\"\n\
                  [route.shop]\nlistener = \"web\"\npath = \"/shop\"\nservice = \"web\"\n\
                  [route.ping]\nlistener = \"web\"\npath = \"/ping\"\nrespond = { status = 200 }\n\
                  [route.empty]\nlistener = \"web\"\npath = \"/empty\"\nservice = \"empty\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                  trusted_proxies = [\"127.0.0.0/8\"]\ntimeouts = { request_head = \"200ms\" }\n\
                  head_max = \"1KiB\"\n";
    let directory = tempfile::tempdir().unwrap();
    let config = config.replace("logs/", &format!("{}/", directory.path().display()));
    let rig = Rig::start(&config, vec![service("web", &[origin.address, gone])]).await;
    let file = directory.path().join("access.log");
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = format!(
        "GET /shop/a?b=%22 HTTP/1.1\r\nHost: Shop.example:8080\r\nUser-Agent: \"a\"\r\n\
         Referer: http://b/\r\nX-Forwarded-For: 203.0.113.9\r\nX-Request-Id: r-1\r\n\
         traceparent: 00-{trace}-b7ad6b7169203331-01\r\nAuthorization: Basic c2VjcmV0\r\n\
         Cookie: session=c2VjcmV0\r\nContent-Length: 2\r\n\r\nhi"
    );
    // One of two endpoints is gone: in two requests it is tried at least once.
    for _ in 0..2 {
        assert_eq!(rig.ask(&request).await.status, 200);
    }
    let told = objects(&file, 2).await;
    let attempts: Vec<_> = told.iter().map(|line| line["attempts"].as_u64().unwrap()).collect();
    assert!(attempts.contains(&2), "{told:#?}");
    let generation = rig.app.tables().snapshot.generation;
    for line in &told {
        for (name, want) in [
            ("listener", "web".into()),
            ("route", "shop".into()),
            ("client", "127.0.0.1".into()),
            ("method", "GET".into()),
            ("host", "Shop.example:8080".into()),
            ("path", "/shop/a".into()),
            ("query", "b=%22".into()),
            ("protocol", "HTTP/1.1".into()),
            ("status", 200.into()),
            ("bytes_in", 2.into()),
            ("bytes_out", 2.into()),
            ("service", "web".into()),
            ("instance", Value::from(origin.address.to_string())),
            ("endpoint", Value::from(origin.address.to_string())),
            ("generation", generation.into()),
            ("trace_id", trace.into()),
            ("request_id", "r-1".into()),
            ("user_agent", "\"a\"".into()),
            ("referer", "http://b/".into()),
            ("forwarded_for", "203.0.113.9".into()),
        ] {
            assert_eq!(line[name], want, "{name} in {line:#}");
        }
        line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let [duration, added, first] =
            ["duration_ms", "added_ms", "first_byte_ms"].map(|name| line[name].as_f64().unwrap());
        assert!(added + first <= duration && duration < 30_000.0, "{line:#}");
        assert!(line["refused"].is_null() && line["error"].is_null(), "{line:#}");
    }
    assert!(told.iter().any(|line| line["connect_ms"].is_f64()), "one was connected: {told:#?}");
    let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
    assert!(!text.contains("c2vjcmv0") && !text.contains("session"), "{text}");

    for (request, status, want) in [
        ("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n", 200, [("route", "ping"), ("path", "/ping")]),
        ("GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404, [("refused", "route"), ("path", "/none")]),
        (
            "GET /empty HTTP/1.1\r\nHost: a\r\n\r\n",
            503,
            [("refused", "no-endpoint"), ("route", "empty")],
        ),
        ("GET /%2f HTTP/1.1\r\nHost: a\r\n\r\n", 400, [("refused", "path"), ("path", "/%2f")]),
        ("GET /a HTTP/1.1\r\n\r\n", 400, [("refused", "host"), ("path", "/a")]),
        ("\x16\x03\"\r\n\r\n", 400, [("refused", "syntax"), ("request", "\x16\x03\"")]),
        ("GET /slow HTTP/1.1\r\nHost:", 408, [("refused", "head-timeout"), ("path", "/slow")]),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405, [("refused", "connect"), ("path", "a:1")]),
    ] {
        std::fs::write(&file, "").unwrap();
        assert_eq!(rig.ask(request).await.status, status, "{request:?}");
        let line = &objects(&file, 1).await[0];
        assert_eq!(line["status"], status, "{line:#}");
        for (name, want) in want {
            assert_eq!(line[name], want, "{line:#}");
        }
        assert!(line["endpoint"].is_null() && line["attempts"].is_null(), "{line:#}");
    }
    std::fs::write(&file, "").unwrap();
    let long = format!("GET /long HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2000));
    assert_eq!(rig.ask(&long).await.status, 431);
    let line = &objects(&file, 1).await[0];
    assert_eq!((&line["refused"], &line["path"]), (&"head-too-large".into(), &"/long".into()));
}

#[tokio::test]
async fn a_client_that_leaves_has_a_line_with_499_and_whose_fault_it_was() {
    let origin = Origin::silent().await;
    let more = "half_close = \"abort\"\naccess_log = { to = \"./access.log\" }";
    let rig = Rig::http(more, &[origin.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.seen("the request", |all| all.iter().any(|one| !one.bytes.is_empty())).await;
    drop(client);
    let line = &objects(&rig.directory().join("access.log"), 1).await[0];
    assert_eq!((&line["status"], &line["error"]), (&499.into(), &"client".into()), "{line:#}");
    let counted =
        "portolan_proxy_request_errors_total{listener=\"web\",reason=\"client\",route=\"all\"}";
    rig.metric_is(counted, 1.0).await;
}

#[tokio::test]
async fn a_file_is_opened_anew_by_a_reload_and_a_log_goes_with_its_listener_s_word() {
    let origin = Origin::answering(OK).await;
    let config = |log: &str| {
        format!(
            "[node]\nworkers = 1\n[access_log]\nto = \"./all.log\"\n\
             [route.all]\nlistener = \"web\"\nservice = \"web\"\n\
             [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n{log}"
        )
    };
    let rig = Rig::start(&config(""), vec![service("web", &[origin.address])]).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (all, moved) = (rig.directory().join("all.log"), rig.directory().join("all.log.1"));
    rig.ask(request).await;
    lines(&all, 1).await;
    std::fs::rename(&all, &moved).unwrap();
    rig.reload(&config("")).await;
    rig.ask(request).await;
    lines(&all, 1).await;
    assert_eq!(lines(&moved, 1).await.len(), 1);

    rig.reload(&config("access_log = { to = \"./own.log\", format = \"combined\" }\n")).await;
    rig.ask(request).await;
    let own = lines(&rig.directory().join("own.log"), 1).await;
    assert!(own[0].contains("\"GET / HTTP/1.1\" 200 2 \"-\" \"-\""), "{own:?}");
    rig.reload(&config("access_log = { to = \"none\" }\n")).await;
    rig.ask(request).await;
    // What was noted is written when the process ends: then nothing more can come.
    let written = "portolan_access_log_lines_total";
    rig.metric_is(written, 3.0).await;
    assert_eq!(lines(&all, 1).await.len(), 1);
    let metric = rig.metric("portolan_access_log_dropped_total{reason=\"full\"}").await;
    assert_eq!(metric, Some(0.0));

    let refused = config("access_log = { to = \"missing/own.log\" }\n");
    let refused = format!("{refused}[admin]\nsocket = \"admin.sock\"\n");
    let loaded = crate::support::load(&refused, rig.directory()).unwrap();
    let problems = rig.app.reload(loaded).await.unwrap_err();
    assert!(problems[0].contains("missing/own.log"), "{problems:?}");
    rig.ask(request).await;
}

#[tokio::test]
async fn the_last_line_is_written_before_the_process_ends() {
    let origin = Origin::answering(OK).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let more = format!("access_log = {{ to = {:?} }}", file.to_str().unwrap());
    let rig = Rig::http(&more, &[origin.address]).await;
    for _ in 0..20 {
        rig.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    }
    within("the end", rig.app.stop()).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 20);
}

#[tokio::test]
async fn a_syslog_server_gets_each_request_by_udp() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin::answering(OK).await;
    let more = format!(
        "access_log = {{ to = \"syslog://{}\", format = \"combined\", app_name = \"edge\", \
         facility = \"local0\" }}",
        server.local_addr().unwrap()
    );
    let rig = Rig::http(&more, &[origin.address]).await;
    for path in ["/1", "/2"] {
        rig.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    }
    let mut datagram = vec![0; 65_536];
    for path in ["/1", "/2"] {
        let length = within("a message", server.recv(&mut datagram)).await.unwrap();
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        assert!(text.starts_with("<134>1 20"), "{text}");
        let process = std::process::id();
        assert!(text.contains(&format!(" edge {process} access - 127.0.0.1 - - [")), "{text}");
        assert!(text.ends_with(&format!("\"GET {path} HTTP/1.1\" 200 2 \"-\" \"-\"")), "{text}");
    }
}

/// Values of these headers in the last request that `origin` got.
fn told(origin: &Origin) -> [Option<String>; 3] {
    let text = origin.text();
    origin.forget();
    ["traceparent", "tracestate", "x-request-id"].map(|name| header(&text, name).map(str::to_owned))
}

#[tokio::test]
async fn a_trace_goes_on_as_it_came_and_is_made_where_that_is_wanted() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = format!("traceparent: {parent}\r\ntracestate: a=1\r\nX-Request-Id: r-1\r\n");
    let ask = async |rig: &Rig, lines: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(rig.ask(&request).await.status, 200);
    };
    let origin = Origin::answering_once(OK).await;
    let rig = Rig::http("", &[origin.address]).await;
    ask(&rig, &context).await;
    let as_it_came = [Some(parent.to_owned()), Some("a=1".to_owned()), Some("r-1".to_owned())];
    assert_eq!(told(&origin), as_it_came);
    ask(&rig, "").await;
    assert_eq!(told(&origin), [None, None, None], "nothing is made by default");
    ask(&rig, "traceparent: 00-x\r\n").await;
    assert_eq!(told(&origin)[0].as_deref(), Some("00-x"), "and nothing is judged");

    for (trusted, kept) in [("[\"127.0.0.0/8\"]", true), ("[]", false)] {
        let origin = Origin::answering_once(OK).await;
        let more = format!(
            "trace = \"make\"\nrequest_id = \"make\"\ntrusted_proxies = {trusted}\n\
             access_log = {{ to = \"./access.log\" }}"
        );
        let rig = Rig::http(&more, &[origin.address]).await;
        ask(&rig, &context).await;
        let [trace, state, id] = told(&origin);
        assert_eq!([trace.as_deref(), state.as_deref()], [Some(parent), Some("a=1")]);
        assert_eq!(id.as_deref() == Some("r-1"), kept, "{id:?}");
        ask(&rig, "traceparent: 00-x\r\ntracestate: a=1\r\n").await;
        let [trace, state, id] = told(&origin);
        let (trace, id) = (trace.unwrap(), id.unwrap());
        let lengths: Vec<_> = trace.split('-').map(str::len).collect();
        assert_eq!(lengths, [2, 32, 16, 2], "{trace}");
        assert_eq!((state, id.len()), (None, 32), "the state belonged to another one");
        let line = &objects(&rig.directory().join("access.log"), 2).await[1];
        assert_eq!(line["trace_id"], trace[3..35], "{line:#}");
        assert_eq!(line["request_id"], *id, "{line:#}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_so_is_the_time_that_we_add() {
    let origin = Origin::answering(OK).await;
    let config = "[node]\nworkers = 2\n[limits]\nmetric_routes = 2\n\
                  [route.a]\nlistener = \"web\"\npath = \"/a\"\nservice = \"web\"\n\
                  [route.b]\nlistener = \"web\"\npath = \"/b\"\nrespond = { status = 204 }\n\
                  [route.c]\nlistener = \"web\"\npath = \"/c\"\nservice = \"gone\"\n\
                  [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n";
    let rig = Rig::start(config, vec![service("web", &[origin.address])]).await;
    for (path, status, times) in [("/a", 200, 5), ("/b", 204, 3), ("/c", 503, 2), ("/d", 404, 1)] {
        for _ in 0..times {
            let answer = rig.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert_eq!(answer.status, status);
        }
    }
    rig.ask("GET / HTTP/1.1\r\n\r\n").await;
    for (name, wanted) in [
        ("portolan_proxy_route_requests_total{class=\"2xx\",listener=\"web\",route=\"a\"}", 5.0),
        ("portolan_proxy_route_requests_total{class=\"2xx\",listener=\"web\",route=\"b\"}", 3.0),
        (
            "portolan_proxy_route_requests_total{class=\"5xx\",listener=\"web\",route=\"(other)\"}",
            2.0,
        ),
        (
            "portolan_proxy_route_requests_total{class=\"4xx\",listener=\"web\",route=\"(none)\"}",
            2.0,
        ),
        ("portolan_proxy_request_duration_seconds_count{listener=\"web\",route=\"a\"}", 5.0),
        ("portolan_proxy_endpoint_response_seconds_count{listener=\"web\",route=\"a\"}", 5.0),
        ("portolan_proxy_recv_to_send_seconds_count{listener=\"web\"}", 5.0),
        (
            "portolan_proxy_request_errors_total{listener=\"web\",reason=\"refused\",route=\"(other)\"}",
            2.0,
        ),
        ("portolan_proxy_requests_total{class=\"2xx\",listener=\"web\"}", 8.0),
    ] {
        rig.metric_is(name, wanted).await;
    }
    let added = rig.metric("portolan_proxy_recv_to_send_seconds_sum{listener=\"web\"}").await;
    let whole = "portolan_proxy_request_duration_seconds_sum{listener=\"web\",route=\"a\"}";
    assert!(added.unwrap() > 0.0 && added < rig.metric(whole).await);
}

fn without_times(text: &str) -> String {
    let times = regex::Regex::new(
        r"generation \d+|gen \d+|\d{4}-\d\d-\d\dT[0-9:.]+Z|, answers in [0-9.]+ ms|:\d{4,5}\b",
    );
    times.unwrap().replace_all(text, "…").into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portolan_why_tells_where_a_request_goes_and_stdout_takes_its_line() {
    let origin = Origin::answering(OK).await;
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let services = listing("web", &[("up", origin.address), ("down", nobody)])
        .replace("\"down\"", "\"down\"\nhealth = \"unhealthy\"");
    std::fs::write(directory.path().join("services.toml"), services).unwrap();
    let file = directory.path().join("portolan.toml");
    let text = "[node]\nworkers = 1\n[registry.local.file]\npath = \"services.toml\"\n\
                [access_log]\nto = \"stdout\"\n\
                [listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                [route.shop]\nlistener = \"web\"\nhost = \"shop.example\"\nservice = \"web\"\n\
                [route.ping]\nlistener = \"web\"\npath = \"/ping\"\nrespond = { status = 200 }\n\
                [admin]\nsocket = \"admin.sock\"\n";
    std::fs::write(&file, text).unwrap();
    let mut process = Running::start(&file).await;
    process.ready(&directory.path().join("admin.sock")).await;
    let mut client = Client::connect(process.address("web").await).await;
    client.send("GET /a HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    let line =
        process.line("a line of the access log", |line| line.contains("\"duration_ms\"")).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["route"], &line["instance"]), (&"shop".into(), &"up".into()), "{line:#}");

    let config = file.to_str().unwrap();
    let why = async |arguments: &[&str]| {
        portolan(&[&["why", "--config", config], arguments].concat()).await
    };
    // The line may be there before the request counts as over.
    let told = until("nothing is in flight", async || {
        let told = why(&["http://shop.example/a?b"]).await;
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        (!told.stdout.contains(", 1 in flight")).then_some(told)
    })
    .await;
    let text = without_times(&told.stdout);
    for wanted in [
        "GET http://shop.example/a?b\n  asked by 127.0.0.1, …\n  \
         no HTTP listener is configured for port 80: all are asked\n  [listener.web] ",
        "\n    = carried to service/web (1 endpoint)\n    [route.shop]",
        "\n      connect 3s, read 1m, tunnel 1h\n",
        "\n    service/web, policy p2c\n      - down (127.0.0.1:9): unhealthy: stated by the file\n        since …\n        \
         registry local says ",
        "\n      + up (127.0.0.1…): trusted: nobody checks it\n        since …\n        \
         registry local says ",
        "\n        weight 1, 0 in flight…\n",
    ] {
        assert!(format!("{text}\n").contains(wanted), "{wanted}\nin\n{text}");
    }

    let told =
        why(&["http://shop.example/ping", "--method", "POST", "--client", "10.0.0.9", "--json"])
            .await;
    let value: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&value["method"], &value["client"]), (&"POST".into(), &"10.0.0.9".into()));
    assert_eq!(value["listeners"][0]["route"]["name"], "shop", "the host is more specific");
    let told = why(&["http://other.example/ping", "--header", "X-A: b"]).await;
    assert!(told.stdout.contains("= 200, given here"), "{}", told.stdout);

    let unknown = why(&["http://shpo.example/"]).await;
    assert_eq!(unknown.code, Some(69), "{}", unknown.stdout);
    assert!(unknown.stdout.contains("= 404: no route leads there"), "{}", unknown.stdout);
    assert!(
        unknown.stdout.contains("did you mean [route.shop] shop.example/?"),
        "{}",
        unknown.stdout
    );
    let bad = why(&["http://u:p@a/"]).await;
    assert_eq!(bad.code, Some(69));
    assert!(bad.stderr.contains("write it as http://host/path"), "{}", bad.stderr);

    client.send("GET /last HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").await;
    client.answer().await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let last = process.said().into_iter().filter(|line| line.contains("\"/last\"")).count();
    assert_eq!(last, 1, "the last line is written");
}
