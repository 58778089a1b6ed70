//! Routing over real sockets: which route takes a request, and what becomes of it on the way there
//! and back, as clients and origins see it.

use std::collections::BTreeMap;
use std::fs;

use crate::origin::{OK, Origin};
use crate::rig::{Answer, Rig, header, service};

const LISTENER: &str = "[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                        trusted_proxies = [\"127.0.0.1/32\"]\n";

/// A route to the service `web` of the listener `web`, with `more` in its table.
fn route(name: &str, more: &str) -> String {
    let leads = ["service =", "split =", "respond =", "redirect ="];
    let leads = leads.iter().any(|key| more.contains(key));
    let target = if leads { "" } else { "service = \"web\"\n" };
    format!("[route.{name}]\nlistener = \"web\"\n{target}{more}\n")
}

fn get(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn every_condition_counts_and_a_route_that_fails_one_lets_the_next_have_the_request() {
    let config = [
        LISTENER.to_owned(),
        route("all", "respond = { status = 200, body = \"all\" }"),
        route("shop", "host = \"shop.example\"\nrespond = { status = 200, body = \"shop\" }"),
        route("below", "host = \"*.shop.example\"\nrespond = { status = 200, body = \"below\" }"),
        route(
            "put",
            "host = \"shop.example\"\nmethods = [\"PUT\"]\n\
             respond = { status = 200, body = \"put\" }",
        ),
        route(
            "beta",
            "host = \"shop.example\"\nheaders = { X-Beta = \"1\" }\nquery = { q = \"a b\" }\n\
             respond = { status = 200, body = \"beta\" }",
        ),
        route(
            "item",
            "host = \"shop.example\"\npath_regex = \"/item/[0-9]+\"\n\
             respond = { status = 200, body = \"item\" }",
        ),
        route(
            "told",
            "priority = 1\nclients = [\"203.0.113.0/24\"]\n\
             respond = { status = 200, body = \"told\" }",
        ),
    ];
    let rig = Rig::start(&config.concat(), Vec::new()).await;
    for (case, request, want) in [
        ("any", get("a", "/"), "all"),
        ("host", get("SHOP.example:80", "/"), "shop"),
        ("below a host", get("a.shop.example", "/"), "below"),
        (
            "method",
            "PUT / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n".into(),
            "put",
        ),
        (
            "header and query",
            "GET /?q=a%20b HTTP/1.1\r\nHost: shop.example\r\nx-beta: 1\r\n\r\n".into(),
            "beta",
        ),
        ("no header", get("shop.example", "/?q=a+b"), "shop"),
        ("pattern", get("shop.example", "/x/..//%69tem/17"), "item"),
        ("no pattern", get("shop.example", "/item/x"), "shop"),
        (
            "a client that a trusted proxy tells of",
            "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7\r\n\r\n"
                .into(),
            "told",
        ),
        (
            "a lie before the truth",
            "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 203.0.113.7, 6.6.6.6\r\n\r\n"
                .into(),
            "shop",
        ),
    ] {
        let answer = rig.ask(&request).await;
        assert_eq!((answer.status, &*answer.body), (200, want), "{case}");
    }
    let odd = rig.ask(&get("a", "/a%2fb")).await;
    assert_eq!(odd.status, 400, "{odd:?}");
}

#[tokio::test]
async fn a_split_gives_each_service_its_share_and_that_of_one_without_endpoints() {
    let (one, two) = (Origin::saying("one").await, Origin::saying("two").await);
    let config = [LISTENER.to_owned(), route("all", "split = { one = 80, two = 20, off = 0 }")];
    let both = vec![
        service("one", &[one.address]),
        service("two", &[two.address]),
        service("off", &[two.address]),
    ];
    let rig = Rig::start(&config.concat(), both).await;
    let ask = async |count: usize| {
        let mut client = rig.client().await;
        let mut bodies: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..count {
            client.send(get("a", "/")).await;
            *bodies.entry(client.answer().await.body).or_default() += 1;
        }
        bodies
    };
    let bodies = ask(1000).await;
    // One degree of freedom; a fair draw is beyond 15.1 once in ten thousand runs.
    let chi = [("one", 800.0), ("two", 200.0)].iter().fold(0.0, |sum, (name, wanted)| {
        let got = f64::from(bodies.get(*name).copied().unwrap_or_default());
        sum + (got - wanted) * (got - wanted) / wanted
    });
    assert!(chi < 15.1, "{bodies:?}: {chi}");
    rig.tell(vec![service("one", &[]), service("two", &[two.address]), service("off", &[])]).await;
    assert_eq!(ask(50).await, BTreeMap::from([("two".to_owned(), 50)]));
    rig.tell(vec![service("off", &[two.address])]).await;
    assert_eq!(rig.ask(&get("a", "/")).await.status, 503, "a share of 0 is none");
}

#[tokio::test]
async fn an_origin_sees_the_edited_path_and_header_and_what_is_not_edited_as_it_was_sent() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Secret: s\r\nServer: o\r\nX-Many: 1\r\n\r\nok",
    )
    .await;
    let config = [
        LISTENER.to_owned(),
        route("plain", ""),
        route("strip", "path = \"/api\"\nstrip_prefix = \"/api\""),
        route("both", "path = \"/old\"\nstrip_prefix = \"/old\"\nadd_prefix = \"/new\""),
        route("rewrite", "path = \"/v1\"\nrewrite = { pattern = \"^/v1/(.*)\", with = \"/$1/x\" }"),
        route("climb", "path = \"/c\"\nrewrite = { pattern = \"^/c/-(.*)\", with = \"/b/$1\" }"),
        route(
            "edits",
            "path = \"/edits\"\n\
             request_headers = { remove = [\"Cookie\"], set = { Host = \"in.side\", X-forwarded-proto = \"https\" }, add = { X-Many = \"2\" } }\n\
             response_headers = { remove = [\"x-secret\"], set = { Server = \"p\" }, add = { X-Many = \"2\" } }",
        ),
    ];
    let rig = Rig::start(&config.concat(), vec![service("web", &[origin.address])]).await;
    for (case, target, want) in [
        ("untouched", "/a%20b/./%61//?x=%2f", "/a%20b/./%61//?x=%2f"),
        ("stripped", "/%61pi/%61?q=/api", "/%61?q=/api"),
        ("stripped behind dots", "/x/../api/a", "/a"),
        ("replaced", "/old/a%2B", "/new/a%2B"),
        ("rewritten", "/v1/a%20b?q", "/a%20b/x?q"),
        ("not found by the pattern", "/v1?q", "/v1?q"),
        ("absolute", "http://a/api/x?q", "/x?q"),
    ] {
        origin.forget();
        let answer = rig.ask(&get("a", target)).await;
        assert_eq!(answer.status, 200, "{case}: {answer:?}");
        let text = origin.text();
        assert_eq!(text.split(' ').nth(1), Some(want), "{case}: {text}");
    }
    let climbing = rig.ask(&get("a", "/c/-../etc")).await;
    assert_eq!(climbing.status, 400, "{climbing:?}");

    origin.forget();
    let request = "GET /edits HTTP/1.1\r\nHost: a\r\nCookie: c\r\nX-Many: 1\r\nX-Other: o\r\n\r\n";
    let answer = rig.ask(request).await;
    let text = origin.text();
    for (name, want) in [
        ("host", Some("in.side")),
        ("cookie", None),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", Some("a")),
        ("x-many", Some("1")),
        ("x-other", Some("o")),
    ] {
        assert_eq!(header(&text, name), want, "{name} in {text}");
    }
    assert!(text.contains("X-Many: 2\r\n"), "{text}");
    assert_eq!((answer.header("x-secret"), answer.header("server")), (None, Some("p")));
    assert!(answer.head.contains("X-Many: 1\r\n") && answer.head.contains("X-Many: 2\r\n"));
    assert_eq!(answer.body, "ok");
}

#[tokio::test]
async fn a_redirect_sends_the_client_on_and_no_request_can_bend_it() {
    let config = [
        LISTENER.to_owned(),
        route("tls", "path = \"/tls\"\nredirect = { scheme = \"https\" }"),
        route(
            "moved",
            "path = \"/moved\"\nstrip_prefix = \"/moved\"\nredirect = { host = \"b.example\", status = 301 }\n\
             response_headers = { set = { Cache-Control = \"no-store\" } }",
        ),
        route("whole", "path = \"/whole\"\nredirect = { to = \"https://c.example$path?$query\" }"),
        route("local", "path = \"/local\"\nredirect = { to = \"/here/$path\", status = 307 }"),
    ];
    let rig = Rig::start(&config.concat(), Vec::new()).await;
    for (case, target, status, want) in [
        ("scheme", "/tls/a%0d%0aX:1?q=^|", 308, "https://a.example/tls/a%0d%0aX:1?q=%5E%7C"),
        ("host and path", "/moved//evil.example", 301, "http://b.example/evil.example"),
        ("whole", "/whole/x?a=1", 302, "https://c.example/whole/x?a=1"),
        ("no host of a path", "/local/..//local/x", 307, "/here/local/..//local/x"),
    ] {
        let answer = rig.ask(&get("a.example:8080", target)).await;
        assert_eq!((answer.status, answer.header("location")), (status, Some(want)), "{case}");
        assert_eq!(answer.header("x"), None, "{case}");
        assert_eq!(answer.body, "", "{case}");
    }
    let moved = rig.ask(&get("a", "/moved/x")).await;
    assert_eq!(moved.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn clients_are_let_in_by_their_own_address_behind_a_trusted_proxy() {
    let origin = Origin::answering(OK).await;
    let config = [
        LISTENER.to_owned(),
        route(
            "all",
            "allow = [\"203.0.113.0/24\"]\ndeny = [\"203.0.113.128/25\"]\n\
             response_headers = { set = { X-Seen = \"1\" } }",
        ),
        route("out", "path = \"/out\"\ndeny = [\"0.0.0.0/0\", \"::/0\"]"),
    ];
    let rig = Rig::start(&config.concat(), vec![service("web", &[origin.address])]).await;
    for (case, told, status) in [
        ("the proxy itself", "", 403),
        ("let in", "X-Forwarded-For: 203.0.113.1\r\n", 200),
        ("in the hole", "X-Forwarded-For: 203.0.113.129\r\n", 403),
        ("a stranger", "X-Forwarded-For: 198.51.100.1\r\n", 403),
        ("a stranger who lies", "X-Forwarded-For: 203.0.113.1, 198.51.100.1\r\n", 403),
        ("two lines", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.1\r\n", 200),
    ] {
        let answer = rig.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{told}\r\n")).await;
        assert_eq!(answer.status, status, "{case}");
        assert_eq!(answer.header("x-seen"), Some("1"), "{case}: every answer is edited");
    }
    assert_eq!(rig.ask(&get("a", "/out")).await.status, 403);
    assert_eq!(origin.text().matches("GET ").count(), 2, "who is not let in reaches nobody");
}

/// Answers by the first segment of the path, with a status and a body in that framing.
async fn failing() -> Origin {
    Origin::start(|mut exchange| async move {
        loop {
            let request = exchange.request().await?;
            let path = request.split(' ').nth(1)?.to_owned();
            let (status, framing) = path.trim_start_matches('/').split_once('/')?;
            let head = format!("HTTP/1.1 {status} X\r\nX-Kept: k\r\nETag: \"e\"\r\n");
            let rest = match framing {
                "length" | "hint" => "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nerror",
                "chunks" => "Transfer-Encoding: chunked\r\n\r\n5\r\nerror\r\n0\r\n\r\n",
                "close" => "Connection: close\r\n\r\nerror",
                _ => "Content-Length: 0\r\n\r\n",
            };
            let hint = if framing == "hint" { "HTTP/1.1 103 X\r\nLink: </a>\r\n\r\n" } else { "" };
            let rest = if request.starts_with("HEAD") { "Content-Length: 5\r\n\r\n" } else { rest };
            exchange.send(format!("{hint}{head}{rest}")).await?;
            if framing == "close" {
                return Some(());
            }
        }
    })
    .await
}

#[tokio::test]
async fn error_pages_take_the_place_of_answers_of_endpoints_and_of_our_own() {
    let origin = failing().await;
    let pages = "error_pages = { \"503\" = \"busy.html\", \"5xx\" = \"broken.json\", \"403\" = \"no.txt\" }";
    let config = [
        LISTENER.to_owned(),
        route("all", pages),
        route("nobody", &format!("path = \"/nobody\"\nservice = \"nobody\"\n{pages}")),
        route("shut", &format!("path = \"/shut\"\ndeny = [\"127.0.0.0/8\"]\n{pages}")),
    ]
    .concat();
    // The files lie beside the configuration, and are read before the application starts.
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display().to_string();
    let config = ["busy.html", "broken.json", "no.txt"]
        .iter()
        .fold(config, |config, name| config.replace(name, &format!("{place}/{name}")));
    let write = |busy: &str| {
        for (name, text) in [("busy.html", busy), ("broken.json", "{}"), ("no.txt", "no entry")] {
            fs::write(directory.path().join(name), text).unwrap();
        }
    };
    write("<p>busy</p>");
    let rig = Rig::start(&config, vec![service("web", &[origin.address])]).await;
    let mut client = rig.client().await;
    let html = Some("text/html; charset=utf-8");
    for framing in ["length", "chunks", "close", "empty", "hint"] {
        for (status, kind, body) in
            [(503, html, "<p>busy</p>"), (502, Some("application/json"), "{}")]
        {
            client.send(get("a", &format!("/{status}/{framing}"))).await;
            let mut answer = client.answer().await;
            if framing == "hint" {
                assert_eq!((answer.status, answer.header("link")), (103, Some("</a>")));
                answer = client.answer().await;
            }
            let what = format!("{status} {framing}: {answer:?}");
            assert_eq!((answer.status, &*answer.body), (status, body), "{what}");
            assert_eq!(answer.header("content-type"), kind, "{what}");
            assert_eq!(answer.header("x-kept"), Some("k"), "{what}");
            for gone in ["etag", "content-encoding", "transfer-encoding"] {
                assert_eq!(answer.header(gone), None, "{what}");
            }
        }
        // What is no error, or has no page, is as it was; the connection still serves.
        client.send(get("a", &format!("/404/{framing}"))).await;
        let mut answer = client.answer().await;
        if framing == "hint" {
            answer = client.answer().await;
        }
        assert_eq!(answer.status, 404);
        let body = if framing == "empty" { "" } else { "error" };
        assert!(answer.body.contains(body), "404 {framing}: {answer:?}");
        assert_eq!(answer.header("etag"), Some("\"e\""));
    }
    client.send("HEAD /503/length HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer_to("HEAD").await;
    assert_eq!((answer.status, answer.header("content-length")), (503, Some("11")), "{answer:?}");
    for (target, status, body) in [("/nobody", 503, "<p>busy</p>"), ("/shut", 403, "no entry")] {
        client.send(get("a", target)).await;
        let Answer { status: got, body: shown, .. } = client.answer().await;
        assert_eq!((got, &*shown), (status, body), "{target}");
    }
    write("<p>later</p>");
    rig.reload(&config).await;
    assert_eq!(rig.ask(&get("a", "/nobody")).await.body, "<p>later</p>", "read again");
}

#[tokio::test]
async fn a_route_has_timeouts_of_its_own() {
    let (release, released) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut exchange| {
        let mut released = released.clone();
        async move {
            exchange.request().await?;
            released.wait_for(|released| *released).await.ok()?;
            exchange.send(OK).await
        }
    })
    .await;
    let config = [
        LISTENER.to_owned(),
        route("all", ""),
        route("quick", "path = \"/quick\"\ntimeouts = { read = \"200ms\" }"),
    ];
    let rig = Rig::start(&config.concat(), vec![service("web", &[origin.address])]).await;
    let mut patient = rig.client().await;
    patient.send(get("a", "/slow")).await;
    let slow = |all: &[crate::origin::Received]| all.iter().any(|one| one.text().contains("/slow"));
    origin.seen("the patient request", slow).await;
    let answer = rig.ask(&get("a", "/quick")).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    // The other one has waited longer by now, and goes by the listener's.
    release.send_replace(true);
    assert_eq!(patient.answer().await.body, "ok");
}
