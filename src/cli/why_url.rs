//! Why a request goes where it goes, for a reader.

use std::fmt::Write as _;

use serde_json::Value;

use super::why::told_of;

/// What `GET /v1/why?url=…` told, in words.
pub(super) fn text(why: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    let mut line = |depth: usize, text: String| {
        // Writing to a string never fails.
        let _ = writeln!(out, "{:1$}{text}", "", depth * 2);
    };
    line(0, format!("{} {}", word(&why["method"]), word(&why["url"])));
    line(1, format!("asked by {}, generation {}", word(&why["client"]), why["generation"]));
    for note in list(&why["notes"]) {
        line(1, word(&note));
    }
    for listener in list(&why["listeners"]) {
        let bind: Vec<String> = list(&listener["bind"]).iter().map(word).collect();
        line(1, format!("[listener.{}] {}", word(&listener["listener"]), bind.join(", ")));
        let certificate = &listener["certificate"];
        if let Some(name) = certificate["name"].as_str() {
            let names: Vec<String> = list(&certificate["names"]).iter().map(word).collect();
            let default = certificate["default"] == Value::Bool(true);
            let default =
                if default { ", the default: no certificate is for this host" } else { "" };
            let names = if names.is_empty() { "no host".to_owned() } else { names.join(", ") };
            line(2, format!("shows [certificate.{name}], for {names}{default}"));
        }
        line(2, format!("= {}", word(&listener["answer"])));
        let route = &listener["route"];
        let reason = word(&listener["why"]);
        let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
        match route["name"].as_str() {
            Some(name) => match route["labels_of"].as_str() {
                Some(service) => line(2, format!("{name}, by labels of service/{service}{reason}")),
                None => line(2, format!("[route.{name}]{reason}")),
            },
            None => line(2, format!("no route{reason}")),
        }
        let limits: Vec<String> = list(&route["limits"])
            .iter()
            .map(|limit| format!("{} {}", word(&limit[0]), word(&limit[1])))
            .collect();
        if !limits.is_empty() {
            line(3, limits.join(", "));
        }
        for passed in list(&listener["passed_over"]) {
            let (route, why) = (word(&passed["route"]), word(&passed["why"]));
            line(2, format!("not [route.{route}]: {why}"));
        }
        for near in list(&listener["nearest"]) {
            line(2, format!("did you mean {}?", word(&near)));
        }
        for upstream in list(&route["upstreams"]) {
            let share = upstream["share"].as_str().map(|share| format!(", {share}"));
            let share = share.unwrap_or_default();
            let unknown = upstream["known"] == Value::Bool(false);
            let known = if unknown { ": no registry tells of it" } else { "" };
            let policy = word(&upstream["policy"]);
            line(2, format!("service/{}, policy {policy}{share}{known}", word(&upstream["to"])));
            if upstream["backup"].is_object() {
                let active = upstream["backup"]["active"] == Value::Bool(true);
                let does = if active { "stands in now" } else { "would stand in" };
                line(3, format!("service/{} {does}", word(&upstream["backup"]["service"])));
            }
            for instance in list(&upstream["instances"]) {
                told_of(&instance, 3, &mut line);
                let (weight, running) = (&instance["weight"], &instance["in_flight"]);
                if running.is_number() {
                    let latency = instance["latency_ms"].as_f64();
                    let latency = latency.map(|latency| format!(", answers in {latency} ms"));
                    let latency = latency.unwrap_or_default();
                    let stays = instance["staying"] == Value::Bool(true);
                    let stays = if stays { ", for its own clients only" } else { "" };
                    line(4, format!("weight {weight}, {running} in flight{latency}{stays}"));
                }
            }
            for problem in list(&upstream["problems"]) {
                line(3, format!("refused: {}", word(&problem)));
            }
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_request_its_route_and_every_endpoint_are_told() {
        let instances = serde_json::json!([
            {
                "registry": "r", "id": "web-1", "address": "10.0.0.1:80",
                "eligible": true, "reason": "healthy", "since": "then",
                "words": [{ "by": "registry r", "health": "healthy", "cause": "" }],
                "weight": 1, "in_flight": 2, "latency_ms": 1.5, "staying": false,
            },
            {
                "registry": "r", "id": "web-2", "address": "10.0.0.2:80",
                "eligible": false, "reason": "draining", "since": "then",
                "words": [], "weight": 1, "in_flight": 0, "latency_ms": null,
                "staying": true,
            },
            { "id": "web-3", "address": null, "eligible": false, "reason": "gone: left", "since": "then" },
        ]);
        let told = serde_json::json!({
            "url": "http://shop.example/api", "method": "GET", "client": "10.0.0.9",
            "generation": 7, "known": true, "notes": ["no HTTP listener is configured for port 80: all are asked"],
            "listeners": [{
                "listener": "web", "bind": ["0.0.0.0:8080"], "status": null,
                "answer": "carried to service/web (1 endpoint)",
                "why": "the host is its own, the path is a prefix",
                "route": {
                    "name": "shop",
                    "limits": [["connect", "3s"], ["read", "60s"]],
                    "upstreams": [{
                        "to": "web", "service": "web", "share": "95 of 100", "policy": "p2c",
                        "known": true, "eligible": 1,
                        "backup": { "service": "spare", "active": false },
                        "instances": instances,
                        "problems": ["a port"],
                    }],
                },
                "passed_over": [{ "route": "all", "why": "its host is less specific" }],
            }],
        });
        let want = "GET http://shop.example/api\n  asked by 10.0.0.9, generation 7\n  \
                    no HTTP listener is configured for port 80: all are asked\n  \
                    [listener.web] 0.0.0.0:8080\n    \
                    = carried to service/web (1 endpoint)\n    \
                    [route.shop]: the host is its own, the path is a prefix\n      \
                    connect 3s, read 60s\n    \
                    not [route.all]: its host is less specific\n    \
                    service/web, policy p2c, 95 of 100\n      \
                    service/spare would stand in\n      \
                    + web-1 (10.0.0.1:80): healthy\n        since then\n        \
                    registry r says healthy\n        \
                    weight 1, 2 in flight, answers in 1.5 ms\n      \
                    - web-2 (10.0.0.2:80): draining\n        since then\n        \
                    weight 1, 0 in flight, for its own clients only\n      \
                    - web-3 (gone): gone: left\n        since then\n      \
                    refused: a port";
        assert_eq!(text(&told), want);

        let told = serde_json::json!({
            "url": "http://shpo.example/", "method": "GET", "client": "10.0.0.9", "generation": 7,
            "known": false, "notes": [],
            "listeners": [{
                "listener": "web", "bind": ["0.0.0.0:80"], "status": 404,
                "certificate": { "name": "a", "names": ["*.a.example"], "expires": 7, "default": true },
                "answer": "404: no route leads there", "route": null, "passed_over": [],
                "why": "no route is for the host \"shpo.example\"",
                "nearest": ["[route.shop] shop.example/"],
            }],
        });
        let want = "GET http://shpo.example/\n  asked by 10.0.0.9, generation 7\n  \
                    [listener.web] 0.0.0.0:80\n    \
                    shows [certificate.a], for *.a.example, the default: no certificate is for this \
                    host\n    = 404: no route leads there\n    \
                    no route: no route is for the host \"shpo.example\"\n    \
                    did you mean [route.shop] shop.example/?";
        assert_eq!(text(&told), want);
    }
}
