//! The page of statistics: plain tables, no scripts, everything escaped.

use std::fmt::Write as _;
use std::time::Duration;

use super::info;
use super::model::{Back, Front, Process, Proxy, Rate, Server, Stats, Status, Work};
use super::rows::Wanted;

const STYLE: &str = "body{font:13px/1.4 sans-serif;margin:1em;color:#222;background:#fff}\
table{border-collapse:collapse;margin:0 0 1.5em;width:100%}\
th,td{border:1px solid #ccc;padding:2px 6px;text-align:right;white-space:nowrap}\
th{background:#eef;font-weight:600}td:first-child,td.l{text-align:left}\
h2{font-size:1.1em;margin:1em 0 .3em}tr.up td{background:#e8f8e8}tr.un td{background:#f4f4f4}\
tr.down td{background:#fbdcdc}tr.drain td{background:#e6eefc}tr.maint td{background:#f3e6d0}\
tr.sum td{background:#eee;font-weight:600}";

const HEAD: &str = "<tr><th rowspan=2></th><th colspan=3>Queue</th><th colspan=2>Session rate</th>\
<th colspan=6>Sessions</th><th colspan=2>Bytes</th><th>Denied</th><th colspan=3>Errors</th>\
<th colspan=2>Warnings</th><th colspan=5>Responses</th><th colspan=7>Server</th></tr>\
<tr><th>Cur</th><th>Max</th><th>Limit</th><th>Cur</th><th>Max</th><th>Cur</th><th>Max</th>\
<th>Limit</th><th>Total</th><th>LbTot</th><th>Last</th><th>In</th><th>Out</th><th>Req</th>\
<th>Req</th><th>Conn</th><th>Resp</th><th>Retr</th><th>Redis</th><th>1xx</th><th>2xx</th>\
<th>3xx</th><th>4xx</th><th>5xx</th><th>Status</th><th>LastChk</th><th>Wght</th><th>Act</th>\
<th>Dwn</th><th>Dwntme</th><th>Avg ms</th></tr>";

/// All of it. `query` is that of the request, so that links keep what it asked for.
pub(super) fn page(stats: &Stats, wanted: &Wanted, query: &str) -> String {
    let process = &stats.process;
    let node = escaped(&process.node);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Statistics of Portolan on {node}</title><style>{STYLE}</style></head><body>\n\
         <h1>Portolan {} on {node}</h1>\n{}{}",
        info::VERSION,
        of_process(process),
        links(wanted, query),
    );
    for proxy in stats.proxies.iter().filter(|proxy| wanted.takes(proxy)) {
        let name = escaped(&proxy.name);
        let kind = if proxy.http { "http" } else { "tcp" };
        // Writing to a string never fails.
        let _ = write!(page, "<h2 id=\"{name}\">{name} ({kind})</h2>\n<table>{HEAD}\n");
        if let Some(front) = &proxy.front {
            of_front(&mut page, proxy, front);
        }
        for server in proxy.servers.iter().filter(|server| !wanted.up || server.status.serves()) {
            of_server(&mut page, proxy, server);
        }
        if let Some(back) = &proxy.back {
            of_back(&mut page, proxy, back);
        }
        page.push_str("</table>\n");
    }
    page.push_str("</body></html>\n");
    page
}

fn of_process(process: &Process) -> String {
    format!(
        "<p>pid {}, {} workers, up {}; generation {}; connections {} of {}, {} per second\
         {}</p>\n",
        process.pid,
        process.workers,
        info::uptime(process),
        process.generation,
        process.connections,
        process.connections_max,
        process.rate.now,
        if process.stopping { "; draining" } else { "" },
    )
}

fn links(wanted: &Wanted, query: &str) -> String {
    let (toggle, told) =
        if wanted.up { ("stats", "show all servers") } else { ("stats;up", "hide others than up") };
    format!(
        "<p><a href=\"/haproxy?{}\">refresh</a> · <a href=\"/haproxy?{toggle}\">{told}</a> · \
         <a href=\"/haproxy?stats;csv\">CSV</a> · <a href=\"/haproxy?stats;json\">JSON</a></p>\n",
        escaped(query)
    )
}

fn of_front(page: &mut String, proxy: &Proxy, front: &Front) {
    let Front { now, most, limit, total, .. } = front;
    row(page, "sum", "Frontend", |cells| {
        cells.empty(3);
        cells.rate(front.rate);
        for number in [now, most, limit, total] {
            cells.number(*number);
        }
        cells.empty(2);
        cells.number(front.bytes[0]);
        cells.number(front.bytes[1]);
        cells.number(front.denied);
        cells.number(front.bad);
        cells.empty(4);
        cells.classes(&front.classes, proxy.http);
        cells.text("OPEN");
        cells.empty(6);
    });
}

fn of_server(page: &mut String, proxy: &Proxy, server: &Server) {
    let class = match server.status {
        Status::Up => "up",
        Status::Unchecked => "un",
        Status::Down => "down",
        Status::Drain => "drain",
        Status::Maintenance => "maint",
    };
    let (work, name) = (&server.work, escaped(&server.name));
    row(page, class, &name, |cells| {
        cells.empty(3);
        cells.work(work, proxy.http);
        cells.text(&format!("{} {}", ago(server.changed), server.status.word()));
        match &server.check {
            Some(check) => cells.text(&format!("{} in {} ms", check.status, check.took_ms)),
            None => cells.empty(1),
        }
        cells.text(&format!("{}/{}", server.weight.0, server.weight.1));
        cells.text(if server.status.serves() { "Y" } else { "-" });
        cells.number(server.downs);
        cells.text(&ago(server.downtime));
        cells.number(work.times[3].0);
    });
}

fn of_back(page: &mut String, proxy: &Proxy, back: &Back) {
    row(page, "sum", "Backend", |cells| {
        back.queue.iter().for_each(|number| cells.number(*number));
        cells.work(&back.work, proxy.http);
        let status = if proxy.is_up() { "UP" } else { "DOWN" };
        cells.text(&format!("{} {status}", ago(back.changed)));
        cells.empty(1);
        cells.number(proxy.serving().map(|server| u32::from(server.weight.0)).sum::<u32>());
        cells.number(proxy.serving().count() as u64);
        cells.number(back.downs);
        cells.text(&ago(back.downtime));
        cells.number(back.work.times[3].0);
    });
}

fn row(page: &mut String, class: &str, name: &str, fill: impl FnOnce(&mut Cells<'_>)) {
    let _ = write!(page, "<tr class=\"{class}\"><td>{name}</td>");
    fill(&mut Cells(page));
    page.push_str("</tr>\n");
}

struct Cells<'a>(&'a mut String);

impl Cells<'_> {
    fn empty(&mut self, count: usize) {
        self.0.push_str(&"<td></td>".repeat(count));
    }

    fn number(&mut self, number: impl Into<u64>) {
        let _ = write!(self.0, "<td>{}</td>", number.into());
    }

    fn text(&mut self, text: &str) {
        let _ = write!(self.0, "<td class=\"l\">{}</td>", escaped(text));
    }

    fn rate(&mut self, rate: Rate) {
        self.number(rate.now);
        self.number(rate.most);
    }

    /// From the session rate to the answers.
    fn work(&mut self, work: &Work, http: bool) {
        self.rate(work.rate);
        self.number(work.now);
        self.number(work.most);
        self.text(&work.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string()));
        self.number(work.total);
        self.number(work.total);
        self.text(&work.last.map_or_else(|| "-".to_owned(), ago));
        self.number(work.bytes[0]);
        self.number(work.bytes[1]);
        self.empty(2);
        for number in [work.connect_errors, work.response_errors, work.retries, work.redispatches] {
            self.number(number);
        }
        self.classes(&work.classes, http);
    }

    fn classes(&mut self, classes: &[u64; 6], http: bool) {
        if http {
            classes[1..].iter().for_each(|count| self.number(*count));
        } else {
            self.empty(5);
        }
    }
}

/// A time in its two largest units.
fn ago(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// As HTML has it, within text and within quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_row_has_as_many_cells_as_there_are_columns() {
        let stats = samples::stats();
        let page = page(&stats, &Wanted::default(), "stats");
        let columns = 31 + 1;
        for row in page.lines().filter(|line| line.starts_with("<tr class")) {
            assert_eq!(row.matches("<td").count(), columns, "{row}");
        }
        let second = HEAD.split("</tr>").nth(1).unwrap();
        assert_eq!(second.matches("<th>").count() + 1, columns);
    }

    #[test]
    fn no_name_and_no_query_becomes_markup() {
        let mut stats = samples::stats();
        stats.proxies[0].servers[0].name = "<script>alert(1)</script>".into();
        stats.proxies[1].name = "\"><img src=x>".into();
        stats.process.node = "<b>".into();
        let page = page(&stats, &Wanted::default(), "stats;\"><script>");
        for wrong in ["<script", "<img", "<b>", "\"><i"] {
            assert!(!page.contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn times_are_told_in_two_units() {
        for (seconds, want) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3660, "1h1m"), (90_000, "1d1h")]
        {
            assert_eq!(ago(Duration::from_secs(seconds)), want);
        }
    }
}
