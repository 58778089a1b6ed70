use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use regex::bytes::Regex;
use serde_json::Value;

use super::*;

fn record<'a>() -> Record<'a> {
    let request = RequestLine::Read { method: b"GET", target: b"/a?b=c", protocol: b"HTTP/1.1" };
    let bare = Record::bare("web", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), request);
    Record { status: 200, bytes_out: 2, duration: 1234, ..bare }
}

type Format = fn(&Record<'_>, &Clock, &mut Vec<u8>);

fn told(format: Format, record: &Record<'_>) -> Vec<u8> {
    let mut clock = Clock::default();
    clock.set(UNIX_EPOCH + Duration::from_millis(1_795_371_783_007));
    let mut out = Vec::new();
    format(record, &clock, &mut out);
    out
}

/// The combined format as programs that read logs know it.
fn pattern() -> Regex {
    Regex::new(
        r#"^(?-u)([0-9a-f.:]+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)" (\d{3}) (\d+) "((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)" "((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)"$"#,
    )
    .unwrap()
}

#[test]
fn combined_is_what_nginx_writes() {
    for (case, record, want) in [
        ("plain", record(), r#""GET /a?b=c HTTP/1.1" 200 2 "-" "-""#),
        (
            "headers",
            Record { referer: Some(b"http://a/"), user_agent: Some(b"curl/8"), ..record() },
            r#""GET /a?b=c HTTP/1.1" 200 2 "http://a/" "curl/8""#,
        ),
        (
            "empty is not absent",
            Record { user_agent: Some(b""), ..record() },
            r#""GET /a?b=c HTTP/1.1" 200 2 "-" """#,
        ),
        (
            "hostile",
            Record { user_agent: Some(b"\" 200 0 \"\\\n\xff"), ..record() },
            r#""GET /a?b=c HTTP/1.1" 200 2 "-" "\x22 200 0 \x22\x5C\x0A\xFF""#,
        ),
        (
            "nothing",
            Record { request: RequestLine::Raw(b""), status: 408, ..record() },
            r#""-" 408 2 "-" "-""#,
        ),
        (
            "no request",
            Record { request: RequestLine::Raw(b"\x16\x03\x01"), status: 400, ..record() },
            r#""\x16\x03\x01" 400 2 "-" "-""#,
        ),
    ] {
        let line = String::from_utf8(told(combined, &record)).unwrap();
        let (before, rest) = line.split_once("] ").unwrap();
        assert_eq!(rest, want, "{case}");
        assert!(before.starts_with("192.0.2.1 - - ["), "{case}: {before}");
        assert!(pattern().is_match(line.as_bytes()), "{case}: {line}");
    }
}

#[test]
fn json_tells_what_is_known_under_names_that_stay() {
    let all = Record {
        route: Some("shop"),
        host: Some(b"shop.example:8080"),
        connect: Some(1),
        first_byte: Some(20_500),
        added: Some(99),
        service: Some("web:metrics"),
        instance: Some("web-1"),
        endpoint: Some("10.0.0.1:80".parse().unwrap()),
        attempts: 2,
        generation: 7,
        trace_id: Some(b"0af7651916cd43dd8448eb211c80319c"),
        request_id: Some(b"r-1"),
        user_agent: Some(b"a \"quoted\" \\ one\n"),
        referer: Some("ü\u{2028}".as_bytes()),
        forwarded_for: Some(b"203.0.113.9"),
        refused: Some("no-endpoint"),
        error: Some("timeout"),
        ..record()
    };
    let line = String::from_utf8(told(json, &all)).unwrap();
    assert_eq!(
        line,
        "{\"time\":\"2026-11-22T18:23:03.007Z\",\"listener\":\"web\",\"route\":\"shop\",\
         \"client\":\"192.0.2.1\",\"method\":\"GET\",\"host\":\"shop.example:8080\",\
         \"path\":\"/a\",\"query\":\"b=c\",\"protocol\":\"HTTP/1.1\",\"status\":200,\
         \"bytes_in\":0,\"bytes_out\":2,\"duration_ms\":1.234,\"added_ms\":0.099,\
         \"connect_ms\":0.001,\"first_byte_ms\":20.500,\"service\":\"web:metrics\",\
         \"instance\":\"web-1\",\"endpoint\":\"10.0.0.1:80\",\"attempts\":2,\"generation\":7,\
         \"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"request_id\":\"r-1\",\
         \"user_agent\":\"a \\\"quoted\\\" \\\\ one\\u000A\",\"referer\":\"ü\\u2028\",\
         \"forwarded_for\":\"203.0.113.9\",\"refused\":\"no-endpoint\",\"error\":\"timeout\"}"
    );
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["user_agent"], "a \"quoted\" \\ one\n");
    assert_eq!(value["referer"], "ü\u{2028}");

    let refused = Record {
        request: RequestLine::Raw(b"\x16\x03\""),
        status: 400,
        refused: Some("syntax"),
        ..record()
    };
    assert_eq!(
        String::from_utf8(told(json, &refused)).unwrap(),
        "{\"time\":\"2026-11-22T18:23:03.007Z\",\"listener\":\"web\",\"client\":\"192.0.2.1\",\
         \"request\":\"\\u0016\\u0003\\\"\",\"status\":400,\"bytes_in\":0,\"bytes_out\":2,\
         \"duration_ms\":1.234,\"refused\":\"syntax\"}"
    );
}

#[test]
fn numbers_are_written_as_they_are() {
    for (value, want) in [(0, "0"), (7, "7"), (10, "10"), (u64::MAX, "18446744073709551615")] {
        let mut out = Vec::new();
        number(value, &mut out);
        assert_eq!(out, want.as_bytes());
    }
}

proptest! {
    /// No injection: whatever a client sends, a line is one line, and is read back field by field.
    #[test]
    fn whatever_a_client_sends_a_line_is_read_back(
        method in "[A-Z]{1,7}",
        target in prop::collection::vec(any::<u8>(), 0..60),
        agent in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        referer in prop::option::of(".{0,40}"),
        raw in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        status in 100_u16..600,
        bytes_out in any::<u64>(),
    ) {
        let request = match &raw {
            Some(raw) => RequestLine::of(raw),
            None => RequestLine::Read {
                method: method.as_bytes(),
                target: &target,
                protocol: b"HTTP/1.1",
            },
        };
        let record = Record {
            request,
            status,
            bytes_out,
            user_agent: agent.as_deref(),
            referer: referer.as_deref().map(str::as_bytes),
            ..record()
        };
        let line = told(combined, &record);
        let found = pattern();
        let Some(fields) = found.captures(&line) else {
            return Err(TestCaseError::fail(String::from_utf8_lossy(&line).into_owned()));
        };
        let wanted = [status.to_string(), bytes_out.to_string()];
        prop_assert_eq!([&fields[4], &fields[5]], [wanted[0].as_bytes(), wanted[1].as_bytes()]);

        let line = told(json, &record);
        prop_assert!(!line.contains(&b'\n'));
        let value: Value = serde_json::from_slice(&line)
            .map_err(|error| TestCaseError::fail(format!("{error}: {}", String::from_utf8_lossy(&line))))?;
        prop_assert_eq!(&value["status"], &Value::from(status));
        prop_assert_eq!(&value["bytes_out"], &Value::from(bytes_out));
        if let Some(referer) = &referer {
            prop_assert_eq!(&value["referer"], &Value::from(referer.as_str()));
        }
        let known = ["time", "listener", "client", "method", "path", "query", "protocol", "request",
            "status", "bytes_in", "bytes_out", "duration_ms", "user_agent", "referer"];
        prop_assert!(value.as_object().unwrap().keys().all(|name| known.contains(&&**name)));
    }
}
