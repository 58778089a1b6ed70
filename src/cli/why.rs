//! `portolan why`: why a service or a name answers as it does, or a request goes where it goes, told
//! by the running process.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::ask::{accepted, ask};
use super::{Source, exit, load, say, why_url};

/// What to explain.
#[derive(Debug, clap::Args)]
pub struct Why {
    /// `service/NAME`, the URL of a request, what a client of TLS asks for (`tls://NAME:PORT`, with
    /// `?alpn=h2` if it offers that), or a name of DNS; without it, the services in which not every
    /// instance gets work.
    #[arg(value_name = "service/NAME | http://HOST/PATH | tls://NAME | DNS.NAME", value_parser = subject)]
    subject: Option<Subject>,
    /// The type that is asked for, for a name of DNS.
    #[arg(long = "type", value_name = "TYPE", default_value = "A")]
    qtype: String,
    /// The method, for a URL.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A header line as `Name: value`, for a URL; as often as need be.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Who asks, for a name of DNS or a URL; by default this host.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<std::net::IpAddr>,
    /// The answer as JSON, as `GET /v1/why` or `GET /v1/dns/explain` gives it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// What can be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// A service by its name.
    Service(String),
    /// A request by its URL.
    Url(String),
    /// A name of DNS.
    Name(String),
}

/// The service in `service/NAME`, a URL, or else a name of DNS, which has a dot.
fn subject(text: &str) -> Result<Subject, String> {
    if ["http://", "https://", "tls://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(Subject::Url(text.to_owned()));
    }
    match text.split_once('/') {
        Some(("service", name)) if !name.is_empty() => Ok(Subject::Service(name.to_owned())),
        Some((kind, _)) => Err(format!(
            "nothing is known about a {kind:?}; ask for service/NAME or http://host/path"
        )),
        None if text.contains('.') => Ok(Subject::Name(text.to_owned())),
        None => Err(format!(
            "say what it is: service/{text}, http://{text}/, or a name of DNS with a dot, if need be at \
             its end"
        )),
    }
}

impl Why {
    pub(super) fn run(&self) -> ExitCode {
        let config = match load(&self.source.config) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let client = self.client.map(|ip| format!("&client={}", coded(&ip.to_string())));
        let client = client.unwrap_or_default();
        let path = match &self.subject {
            None => "/v1/why".to_owned(),
            Some(Subject::Service(name)) => format!("/v1/why?service={}", coded(name)),
            Some(Subject::Url(url)) => {
                let headers = self.headers.iter().map(|line| format!("&header={}", coded(line)));
                format!(
                    "/v1/why?url={}&method={}{}{client}",
                    coded(url),
                    coded(&self.method),
                    headers.collect::<String>()
                )
            }
            Some(Subject::Name(name)) => {
                format!("/v1/dns/explain?name={}&type={}{client}", coded(name), coded(&self.qtype))
            }
        };
        let told = match accepted(ask(&config, "GET", &path)) {
            Ok(body) => body,
            Err(code) => return code,
        };
        let value: Value = serde_json::from_str(&told).unwrap_or_default();
        let words = match &self.subject {
            _ if self.json => told.trim_end().to_owned(),
            Some(Subject::Name(_)) => explained(&value),
            Some(Subject::Url(_)) => why_url::text(&value),
            _ => text(&value),
        };
        say(&words);
        let unknown = self.subject.is_some() && value["known"] == Value::Bool(false);
        if unknown { ExitCode::from(exit::UNAVAILABLE) } else { ExitCode::SUCCESS }
    }
}

/// `name` as a value in a query (RFC 3986 §2.1).
fn coded(name: &str) -> String {
    let mut coded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            coded.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(coded, "%{byte:02X}");
        }
    }
    coded
}

/// The answer about a name of DNS for a reader.
fn explained(told: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    let mut line = |depth: usize, text: String| {
        let _ = writeln!(out, "{:1$}{text}", "", depth * 2);
    };
    let (name, qtype, code) = (word(&told["name"]), word(&told["type"]), word(&told["code"]));
    line(0, format!("{name} {qtype}: {code}"));
    let place = told["locality"].as_str().map(|place| format!(" in {place}"));
    line(1, format!("asked by {}{}", word(&told["client"]), place.unwrap_or_default()));
    if let Some(zone) = told["zone"].as_str() {
        let dialect = word(&told["dialect"]);
        line(1, format!("zone {zone} ({dialect}), generation {}", told["generation"]));
    }
    for answer in list(&told["answers"]) {
        line(1, format!("= {}", word(&answer)));
    }
    for service in list(&told["services"]) {
        line(1, format!("service/{}", word(&service["service"])));
        for instance in list(&service["instances"]) {
            let mark = if instance["answered"] == Value::Bool(true) { "+" } else { "-" };
            let (id, address) = (word(&instance["id"]), word(&instance["address"]));
            line(2, format!("{mark} {id} ({address}): {}", word(&instance["reason"])));
            if let Some(since) = instance["since"].as_str() {
                line(3, format!("since {since}"));
            }
        }
        for problem in list(&service["problems"]) {
            line(2, format!("refused: {}", word(&problem)));
        }
    }
    let forward = &told["forward"];
    if forward.is_object() {
        line(1, format!("forwarded: domain {}", word(&forward["domain"])));
        for upstream in list(&forward["upstreams"]) {
            let state = match upstream["suspected_since"].as_str() {
                Some(since) => format!("does not answer since {since}"),
                None => match upstream["mean_ms"].as_f64() {
                    Some(mean) => format!("answers in {mean} ms"),
                    None => "was not asked yet".to_owned(),
                },
            };
            line(2, format!("upstream {}: {state}", word(&upstream["address"])));
        }
        for kept in list(&forward["cached"]) {
            let (state, code) = (word(&kept["state"]), word(&kept["code"]));
            let (age, left, hits) = (&kept["age_seconds"], &kept["left_seconds"], &kept["hits"]);
            line(
                2,
                format!("kept: {state} {code}, {age} s old, {left} s left, given {hits} times"),
            );
            for answer in list(&kept["answers"]) {
                line(3, format!("= {}", word(&answer)));
            }
        }
        if list(&forward["cached"]).is_empty() {
            line(2, "nothing of it is kept".to_owned());
        }
    }
    for note in list(&told["notes"]) {
        line(1, word(&note));
    }
    out.trim_end().to_owned()
}

/// What is told of an instance, `depth` steps in: whether it gets work, since when, by whose word.
pub(super) fn told_of(instance: &Value, depth: usize, line: &mut impl FnMut(usize, String)) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mark = if instance["eligible"] == Value::Bool(true) { "+" } else { "-" };
    let place = instance["address"].as_str().unwrap_or("gone");
    let id = word(&instance["id"]);
    line(depth, format!("{mark} {id} ({place}): {}", word(&instance["reason"])));
    if let Some(since) = instance["since"].as_str() {
        line(depth + 1, format!("since {since}"));
    }
    for said in instance["words"].as_array().into_iter().flatten() {
        let cause = word(&said["cause"]);
        let cause = if cause.is_empty() { cause } else { format!(": {cause}") };
        line(depth + 1, format!("{} says {}{cause}", word(&said["by"]), word(&said["health"])));
    }
}

/// The answer for a reader.
fn text(why: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    let mut line = |depth: usize, text: String| {
        let _ = writeln!(out, "{:1$}{text}", "", depth * 2);
    };
    if why["service"].is_null() {
        let services = list(&why["services"]);
        if services.is_empty() {
            line(0, "every instance of every service gets work".to_owned());
        }
        for service in services {
            line(0, format!("service/{}", word(&service)));
        }
        return out.trim_end().to_owned();
    }
    let known = if why["known"] == Value::Bool(true) { "" } else { ": no registry tells of it" };
    line(0, format!("service/{}{known}", word(&why["service"])));
    line(1, format!("generation {}, {} eligible", why["generation"], why["eligible"]));
    if why["backup"].is_object() {
        let active = why["backup"]["active"] == Value::Bool(true);
        let does = if active { "stands in now" } else { "would stand in" };
        line(1, format!("service/{} {does}", word(&why["backup"]["service"])));
    }
    for instance in list(&why["instances"]) {
        told_of(&instance, 1, &mut line);
        for moment in list(&instance["transitions"]) {
            let health = moment["health"].as_str().unwrap_or("gone");
            let work = if moment["eligible"] == Value::Bool(true) { "eligible" } else { "no work" };
            let cause = word(&moment["cause"]);
            line(
                3,
                format!(
                    "{} gen {}: {health}, {work} {cause}",
                    word(&moment["at"]),
                    moment["generation"]
                ),
            );
        }
    }
    for target in list(&why["checks"]) {
        let last = &target["last"];
        let result = match last["result"].as_str() {
            Some(result) => format!("{result}: {} ({} ms)", word(&last["text"]), last["took_ms"]),
            None => "not asked yet".to_owned(),
        };
        line(
            1,
            format!("check {} of {}: {result}", word(&target["check"]), word(&target["target"])),
        );
    }
    for registry in list(&why["registries"]) {
        let state = if registry["heard"] != Value::Bool(true) {
            "was never heard".to_owned()
        } else if registry["stale"].is_object() {
            let stale = &registry["stale"];
            format!("stale since {}: {}", word(&stale["since"]), word(&stale["why"]))
        } else {
            "live".to_owned()
        };
        line(1, format!("registry {}: {state}", word(&registry["name"])));
        if let Some(suspect) = registry["suspect"].as_str() {
            line(2, format!("suspect: {suspect}"));
        }
        for held in list(&registry["held"]).iter().filter(|held| held["service"] == why["service"])
        {
            line(2, format!("held: {} of {} would be lost", held["lost"], held["of"]));
        }
    }
    for refused in list(&why["refused_ports"]) {
        line(1, format!("a port is refused: {}", word(&refused)));
    }
    for refused in list(&why["refused_checks"]) {
        line(1, format!("a check is refused: {}", word(&refused)));
    }
    for problem in list(&why["problems"]) {
        line(1, format!("refused: {}", word(&problem)));
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_service_by_name_and_anything_else_is_told_how_to_write_it() {
        assert_eq!(subject("service/web"), Ok(Subject::Service("web".into())));
        assert_eq!(subject("http://a/b"), Ok(Subject::Url("http://a/b".into())));
        assert_eq!(subject("tls://a:443"), Ok(Subject::Url("tls://a:443".into())));
        assert_eq!(subject("web.consul"), Ok(Subject::Name("web.consul".into())));
        assert!(subject("web").unwrap_err().contains("say what it is: service/web"));
        assert!(subject("node/a").unwrap_err().contains("service/NAME"));
        assert_eq!(coded("a b/ü"), "a%20b%2F%C3%BC");
    }

    #[test]
    fn of_a_forwarded_name_it_is_told_who_is_asked_and_what_is_kept() {
        let told = serde_json::json!({
            "name": "a.example.", "type": "A", "code": "forwarded", "client": "127.0.0.1",
            "forward": {
                "domain": ".",
                "upstreams": [
                    { "address": "10.0.0.2:53", "up": true, "mean_ms": 1.5 },
                    { "address": "10.0.0.3:53", "up": false, "suspected_since": "then", "mean_ms": 9 },
                    { "address": "10.0.0.4:53", "up": true, "mean_ms": null },
                ],
                "cached": [{
                    "state": "fresh", "code": "NOERROR", "age_seconds": 1, "left_seconds": 2,
                    "hits": 3, "answers": ["a.example. 2 A 10.0.0.1"],
                }],
            },
        });
        let want = "a.example. A: forwarded\n  asked by 127.0.0.1\n  forwarded: domain .\n    \
                    upstream 10.0.0.2:53: answers in 1.5 ms\n    \
                    upstream 10.0.0.3:53: does not answer since then\n    \
                    upstream 10.0.0.4:53: was not asked yet\n    \
                    kept: fresh NOERROR, 1 s old, 2 s left, given 3 times\n      \
                    = a.example. 2 A 10.0.0.1";
        assert_eq!(explained(&told), want);
    }
}
