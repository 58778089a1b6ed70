//! `show info`: the process in HAProxy's words, those of them that mean something here.

use std::fmt::Write as _;

use super::model::{Process, Stats};

/// The version that is told.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

enum Value {
    Text(String),
    Number(u64),
}

/// `show info`, or with `typed` as `0.Name.1:POS:str:…`.
pub(super) fn info(stats: &Stats, typed: bool) -> String {
    let mut text = String::new();
    for (at, (name, tag, value)) in lines(stats).into_iter().enumerate() {
        // Writing to a string never fails.
        let _ = match (value, typed) {
            (Value::Text(value), false) => writeln!(text, "{name}: {value}"),
            (Value::Number(value), false) => writeln!(text, "{name}: {value}"),
            (Value::Text(value), true) => writeln!(text, "{at}.{name}.1:{tag}:str:{value}"),
            (Value::Number(value), true) => writeln!(text, "{at}.{name}.1:{tag}:u64:{value}"),
        };
    }
    text
}

fn lines(stats: &Stats) -> Vec<(&'static str, &'static str, Value)> {
    let process = &stats.process;
    let text = |value: &str| Value::Text(value.to_owned());
    let number = Value::Number;
    let fronts = stats.proxies.iter().filter(|proxy| proxy.front.is_some()).count();
    vec![
        ("Name", "POS", text("Portolan")),
        ("Version", "POS", text(VERSION)),
        ("Nbthread", "CGS", number(process.workers as u64)),
        ("Nbproc", "CGS", number(1)),
        ("Process_num", "KGP", number(1)),
        ("Pid", "SGP", number(process.pid.into())),
        ("Uptime", "MDP", Value::Text(uptime(process))),
        ("Uptime_sec", "MDP", number(process.uptime.as_secs())),
        ("Maxconn", "CLP", number(process.connections_max as u64)),
        ("Hard_maxconn", "CLP", number(process.connections_max as u64)),
        ("CurrConns", "MGP", number(process.connections as u64)),
        ("CumConns", "MCP", number(process.accepted)),
        ("CumReq", "MCP", number(process.requests)),
        ("ConnRate", "MRP", number(process.rate.now.into())),
        ("ConnRateLimit", "CLP", number(0)),
        ("MaxConnRate", "MMP", number(process.rate.most.into())),
        ("SessRate", "MRP", number(process.rate.now.into())),
        ("SessRateLimit", "CLP", number(0)),
        ("MaxSessRate", "MMP", number(process.rate.most.into())),
        ("node", "POS", text(&process.node)),
        ("Stopping", "SGP", number(process.stopping.into())),
        ("Listeners", "CGP", number(fronts as u64)),
        ("TotalBytesOut", "MCP", number(process.bytes_out)),
        ("Generation", "POS", number(process.generation)),
    ]
}

/// Days, hours, minutes and seconds, as HAProxy writes them.
pub(super) fn uptime(process: &Process) -> String {
    let seconds = process.uptime.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    format!("{days}d {hours}h{:02}m{:02}s", seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::samples;
    use super::*;

    #[test]
    fn the_process_is_told_line_by_line() {
        let mut stats = samples::stats();
        stats.process.uptime = Duration::from_secs(90_061);
        let text = info(&stats, false);
        for line in ["Pid: 42", "Uptime: 1d 1h01m01s", "Uptime_sec: 90061", "node: here"] {
            assert!(text.lines().any(|own| own == line), "{line}");
        }
        let typed = info(&stats, true);
        assert!(typed.starts_with("0.Name.1:POS:str:Portolan\n"), "{typed}");
    }
}
