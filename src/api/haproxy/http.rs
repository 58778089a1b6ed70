//! What HAProxy and marathon-lb answered on port 9090.

use prometheus::TextEncoder;
use tokio::sync::oneshot;

use super::page;
use super::print::{self, Width};
use super::rows::Wanted;
use super::{HaproxyConfig, Map, Source};

/// The pages that there are.
const PAGES: &str = "there are /haproxy?stats, /haproxy?stats;csv, /haproxy?stats;json, \
     /_haproxy_health_check, /_haproxy_getconfig, /_haproxy_getvhostmap, /_haproxy_getappmap, \
     /_haproxy_getpids, /_mlb_signal/hup, /_mlb_signal/usr1 and /metrics\n";

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

impl Reply {
    pub(super) const fn new(status: u16, kind: &'static str, body: String) -> Self {
        Self { status, kind, body }
    }

    pub(super) fn told(status: u16, why: impl Into<String>) -> Self {
        Self::new(status, TEXT, why.into())
    }
}

/// What `statistics` of `/haproxy?…` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Page,
    Csv,
    Json,
}

/// Answers a request for `target`.
pub(super) async fn answer(source: &Source, config: &HaproxyConfig, target: &str) -> Reply {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let reply = match path {
        "/haproxy" => match wanted(query) {
            Some((form, wanted)) => stats(source, form, wanted, query).await,
            None => Reply::told(404, PAGES),
        },
        "/_haproxy_health_check" => health(source),
        "/_haproxy_getconfig" => text(source, |source| (source.config)()).await,
        "/_haproxy_getvhostmap" => text(source, |source| (source.map)(Map::Hosts)).await,
        "/_haproxy_getappmap" => text(source, |source| (source.map)(Map::Apps)).await,
        "/_haproxy_getpids" => {
            let pids: Vec<String> = (source.pids)().iter().map(u32::to_string).collect();
            Reply::told(200, pids.join("\n") + "\n")
        }
        "/_mlb_signal/hup" => reload(source, config, "HUP").await,
        "/_mlb_signal/usr1" => reload(source, config, "USR1").await,
        "/metrics" => metrics(source),
        _ => Reply::told(404, PAGES),
    };
    if reply.body.len() as u64 > config.output_max.0 {
        let max = config.output_max.0;
        return Reply::told(
            500,
            format!("the answer is beyond {max} bytes ([haproxy] output_max)\n"),
        );
    }
    reply
}

/// `stats`, with `;csv`, `;json`, `;up`, `;no-maint` and `;norefresh` behind it in any order.
fn wanted(query: &str) -> Option<(Form, Wanted)> {
    let mut parts = query.split([';', '&']);
    if parts.next() != Some("stats") {
        return None;
    }
    let (mut form, mut wanted) = (Form::Page, Wanted::default());
    for part in parts {
        match part {
            "csv" => form = Form::Csv,
            "json" => form = Form::Json,
            "up" => wanted.up = true,
            "no-maint" => wanted.no_maintenance = true,
            // Nothing here loads itself again, and what else HAProxy knows is about how it looks.
            _ => {}
        }
    }
    Some((form, wanted))
}

async fn stats(source: &Source, form: Form, wanted: Wanted, query: &str) -> Reply {
    let (source, query) = (source.clone(), query.to_owned());
    let print = move || {
        let stats = (source.stats)();
        match form {
            Form::Page => Reply::new(200, HTML, page::page(&stats, &wanted, &query)),
            Form::Csv => Reply::new(200, "text/plain", print::csv(&stats, &wanted, Width::Own)),
            Form::Json => Reply::new(200, "application/json", print::json(&stats, &wanted)),
        }
    };
    aside(print).await
}

async fn text(source: &Source, told: impl Fn(&Source) -> String + Send + 'static) -> Reply {
    let source = source.clone();
    aside(move || Reply::told(200, told(&source))).await
}

async fn aside(work: impl FnOnce() -> Reply + Send + 'static) -> Reply {
    let told = tokio::task::spawn_blocking(work).await;
    told.unwrap_or_else(|_| Reply::told(503, "the process is ending\n"))
}

fn health(source: &Source) -> Reply {
    let (status, head, told) = if source.readiness.ready() {
        (200, "200 OK", "Service ready.")
    } else {
        (503, "503 Service Unavailable", "Not ready.")
    };
    Reply::new(status, HTML, format!("<html><body><h1>{head}</h1>\n{told}\n</body></html>\n"))
}

fn metrics(source: &Source) -> Reply {
    match TextEncoder::new().encode_to_string(&source.metrics.gather()) {
        Ok(text) => Reply::new(200, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(error) => Reply::told(500, format!("{error}\n")),
    }
}

/// Loads the configuration again, as marathon-lb wrote its own again.
async fn reload(source: &Source, config: &HaproxyConfig, signal: &str) -> Reply {
    if !config.signals {
        let why = "signals are not taken here; set `signals = true` in [haproxy] to let anybody who \
                   reaches this port reload the configuration\n";
        return Reply::told(403, why);
    }
    let (answer, told) = oneshot::channel();
    let asked = source.reloads.send(answer).await.is_ok();
    match (asked, told.await) {
        (true, Ok(Ok(report))) => {
            let generation = report.generation;
            Reply::told(200, format!("{signal}: reloaded, generation {generation}\n"))
        }
        (true, Ok(Err(problems))) => {
            Reply::told(500, format!("{signal}: refused:\n{}\n", problems.join("\n")))
        }
        _ => Reply::told(503, "the process is ending\n"),
    }
}

/// The head of the answer.
pub(super) fn head(reply: &Reply) -> String {
    let reason = match reply.status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    format!(
        "HTTP/1.1 {} {reason}\r\ncache-control: no-cache\r\ncontent-type: {}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        reply.status,
        reply.kind,
        reply.body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_stats_says_how_it_is_told() {
        let up = Wanted { up: true, ..Wanted::default() };
        for (query, want) in [
            ("stats", Some((Form::Page, Wanted::default()))),
            ("stats;csv", Some((Form::Csv, Wanted::default()))),
            ("stats;csv;norefresh", Some((Form::Csv, Wanted::default()))),
            ("stats;norefresh;up", Some((Form::Page, up.clone()))),
            ("stats;json", Some((Form::Json, Wanted::default()))),
            ("stats;up;csv", Some((Form::Csv, up))),
            ("", None),
            ("csv", None),
            ("statistics", None),
        ] {
            assert_eq!(wanted(query), want, "{query}");
        }
    }
}
