//! The health checks of an app as what its service asks to be checked: each port by the check that
//! marathon-lb would have it checked by. Pure.

use std::fmt::Write as _;

use super::decode::RawCheck;
use super::fields::Number;
use super::ports::{Definition, Layout, Protocol};
use crate::catalog::model::{META_VALUE_MAX, Meta};

/// Marathon's own, where an app says nothing.
const INTERVAL: Number = Number(60);
const TIMEOUT: Number = Number(20);
const FAILURES: Number = Number(3);
/// Longest time that is asked for, in seconds, and most failures in a row.
const SECONDS_MAX: i64 = 24 * 3600;
const IN_A_ROW_MAX: i64 = 1000;

/// The check of port `index`: the first that looks at it. One with a port number of its own looks at
/// every port, one that names none at the first.
pub(super) fn of_port<'r, 'a>(
    checks: &'r [RawCheck<'a>],
    index: usize,
) -> Option<&'r RawCheck<'a>> {
    checks.iter().find(|check| match (check.port, check.port_index) {
        (Some(_), _) => true,
        (None, Some(own)) => usize::try_from(own.0) == Ok(index),
        (None, None) => index == 0 && check.protocol.as_deref() != Some("COMMAND"),
    })
}

/// What the service of an app with these `checks`, ports and labels (in `meta`) asks for; none when
/// there is nothing that can be asked from outside.
pub(super) fn asked(
    checks: &[RawCheck<'_>],
    meta: &Meta,
    layout: &Layout,
    problems: &mut Vec<String>,
) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    for own in 0..layout.ports.len() {
        let label = meta.get(&*format!("HAPROXY_{own}_BACKEND_HEALTHCHECK_PORT_INDEX"));
        // Told where labels are read, when it is none.
        let index = label.and_then(|text| text.trim().parse().ok()).unwrap_or(own);
        let Some(check) = of_port(checks, index) else { continue };
        match one(check, layout.ports.get(index)) {
            Ok(Some(check)) if !all.contains(&check) => all.push(check),
            Ok(_) => {}
            Err(problem) => problems.push(format!("the health check of port {index}: {problem}")),
        }
    }
    let mut text = String::new();
    for check in all {
        if text.len() + check.len() + 2 > META_VALUE_MAX {
            problems.push("its health checks are too long to be asked beside Marathon".to_owned());
            break;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&check);
    }
    (!text.is_empty()).then_some(text)
}

/// One check in the words of `portolan-check`; none when only Marathon can ask it.
fn one(check: &RawCheck<'_>, port: Option<&Definition>) -> Result<Option<String>, String> {
    let kind = match check.protocol.as_deref().unwrap_or("HTTP") {
        "HTTP" | "MESOS_HTTP" => "http",
        "HTTPS" | "MESOS_HTTPS" => "https",
        "TCP" | "MESOS_TCP" => "tcp",
        _ => return Ok(None),
    };
    let door = match (check.port, port) {
        (Some(Number(number)), _) => number.to_string(),
        (None, Some(port)) if port.protocol == Protocol::Udp => return Ok(None),
        (None, Some(port)) => name(&port.name)?.to_owned(),
        (None, None) => return Ok(None),
    };
    let seconds =
        |told: Option<Number>, usual: Number| told.unwrap_or(usual).0.clamp(1, SECONDS_MAX);
    let interval = seconds(check.interval, INTERVAL);
    let timeout = seconds(check.timeout, TIMEOUT);
    let fall = check.failures.unwrap_or(FAILURES).0.clamp(0, IN_A_ROW_MAX - 1) + 1;
    let mut text = kind.to_owned();
    if kind != "tcp" {
        text.push(' ');
        text.push_str(&path(check.path.as_deref().unwrap_or_default()));
    }
    // Writing to a string never fails.
    let _ = write!(text, " port={door} interval={interval}s timeout={timeout}s fall={fall}");
    if kind != "tcp" {
        // What Marathon and HAProxy take for well.
        text.push_str(" status=200-399");
    }
    Ok(Some(text))
}

/// The name of a port, if it can be told from a number and from the end of a check.
fn name(name: &str) -> Result<&str, String> {
    let number = name.bytes().all(|byte| byte.is_ascii_digit());
    if number || name.ends_with(';') {
        return Err(format!("the name {name:?} of its port cannot be asked for; give it letters"));
    }
    Ok(name)
}

/// The path as it is sent: from the root, in printable characters, and with nothing at its end that
/// would end the check.
fn path(told: &str) -> String {
    let mut path = String::from(if told.starts_with('/') { "" } else { "/" });
    for (at, byte) in told.bytes().enumerate() {
        let ends = byte == b';' && at + 1 == told.len();
        if byte.is_ascii_graphic() && !ends {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::roster::Roster;
    use super::super::testing::{list, one, service};
    use super::super::wanted::Naming;
    use crate::catalog::wish::CHECK;

    /// What the service of an app with these `checks` and `labels` asks for; its ports are `http`,
    /// `admin` and one by UDP.
    fn asked(checks: &Value, labels: &Value) -> (Option<String>, Vec<String>) {
        let told = one(&json!({
            "id": "/web", "version": "v1", "labels": labels, "healthChecks": checks,
            "portDefinitions": [
                {"port": 10001, "name": "http"}, {"port": 10002, "name": "admin"},
                {"port": 10003, "name": "dns", "protocol": "udp"}
            ],
            "tasks": []
        }));
        let problems = told.problems.iter().map(ToString::to_string).collect();
        (told.meta.get(CHECK).map(ToString::to_string), problems)
    }

    #[test]
    fn each_port_asks_for_the_check_that_looks_at_it() {
        let http = json!({
            "protocol": "HTTP", "path": "/health", "portIndex": 0, "intervalSeconds": 10,
            "timeoutSeconds": 5, "maxConsecutiveFailures": 2, "gracePeriodSeconds": 300
        });
        let ready = json!({
            "protocol": "MESOS_HTTPS", "path": "ready now;", "portIndex": 1, "intervalSeconds": 0,
            "maxConsecutiveFailures": 0
        });
        let tcp = json!({"protocol": "TCP", "port": 7000});
        let zero = "http /health port=http interval=10s timeout=5s fall=3 status=200-399";
        let one = "https /ready%20now%3B port=admin interval=1s timeout=20s fall=1 status=200-399";
        let by_number = "tcp port=7000 interval=60s timeout=20s fall=4";
        let index = |port: u8, index: &str| {
            let label = format!("HAPROXY_{port}_BACKEND_HEALTHCHECK_PORT_INDEX");
            json!({ label: index })
        };
        for (case, checks, labels, want) in [
            ("none", json!([]), json!({}), None),
            ("one", json!([http]), json!({}), Some(zero.to_owned())),
            ("two", json!([ready, http]), json!({}), Some(format!("{zero}; {one}"))),
            (
                "the first of a port",
                json!([http, {"protocol": "TCP", "portIndex": 0}]),
                json!({}),
                { Some(zero.to_owned()) },
            ),
            (
                "by number, for every port",
                json!([tcp, http]),
                json!({}),
                Some(by_number.to_owned()),
            ),
            ("by another index", json!([ready, http]), index(0, " 1 "), Some(one.to_owned())),
            ("both by the same", json!([ready, http]), index(1, "0"), Some(zero.to_owned())),
            ("by an index without a check", json!([http]), index(0, "1"), None),
            ("by an index that is none", json!([http]), index(0, "x"), Some(zero.to_owned())),
            (
                "a command",
                json!([{"protocol": "COMMAND", "command": {"value": "x"}}]),
                json!({}),
                None,
            ),
            ("of a port by UDP", json!([{"protocol": "TCP", "portIndex": 2}]), json!({}), None),
            ("of no port", json!([{"protocol": "HTTP", "portIndex": 7}]), json!({}), None),
            ("without a word", json!([{}]), json!({}), {
                Some("http / port=http interval=60s timeout=20s fall=4 status=200-399".to_owned())
            }),
            ("its own label", json!([http]), json!({"portolan-check": "tcp"}), Some("tcp".into())),
            (
                "its own label, empty",
                json!([http]),
                json!({"portolan-check": ""}),
                Some(String::new()),
            ),
        ] {
            let (told, problems) = asked(&checks, &labels);
            assert_eq!((told, problems), (want, vec![]), "{case}");
        }
    }

    #[test]
    fn a_port_whose_name_cannot_be_asked_for_is_told_and_costs_its_check_only() {
        let told = one(&json!({
            "id": "/web", "healthChecks": [
                {"protocol": "TCP", "portIndex": 0}, {"protocol": "TCP", "portIndex": 1}
            ],
            "portDefinitions": [{"port": 1, "name": "8080"}, {"port": 2, "name": "b"}], "tasks": []
        }));
        let want = "tcp port=b interval=60s timeout=20s fall=4";
        assert_eq!(told.meta.get(CHECK).map(|text| &**text), Some(want));
        let want = "the health check of port 0: the name \"8080\" of its port cannot be asked for";
        assert!(told.problems.iter().any(|problem| problem.starts_with(want)), "{told:#?}");
    }

    #[test]
    fn a_pair_asks_as_its_newer_app_and_nobody_does_where_that_is_off() {
        let app = |id: &str, started: &str, path: &str| {
            json!({
                "id": id, "version": "v1", "tasks": [], "portDefinitions": [{"port": 10001}],
                "healthChecks": [{"protocol": "HTTP", "path": path, "portIndex": 0}],
                "labels": {"HAPROXY_DEPLOYMENT_GROUP": "shop", "HAPROXY_DEPLOYMENT_STARTED_AT": started},
            })
        };
        let apps =
            json!({"apps": [app("/b", "2016-02-01", "/old"), app("/a", "2016-02-02", "/new")]});
        let naming = |checks| Naming { checks, ..Naming::new("marathon") };
        let mut roster = Roster::new("m".into(), naming(true));
        list(&mut roster, &apps);
        for (name, path) in [("shop", "/new"), ("b", "/old"), ("a", "/new")] {
            let text = service(&mut roster, name).meta.get(CHECK).cloned().unwrap();
            assert!(text.starts_with(&format!("http {path} port=port-0 ")), "{name}: {text}");
        }
        let mut off = Roster::new("m".into(), naming(false));
        list(&mut off, &apps);
        assert_eq!(service(&mut off, "shop").meta.get(CHECK), None);
    }
}
