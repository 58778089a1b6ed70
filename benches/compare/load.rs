//! Load generators and what they say: dnsperf, wrk, and our own for TCP and UDP.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::helpers::Helping;
use crate::machine::Machine;
use crate::trouble::{Doing, Trouble};

/// A round at a rate that took so many times as long as it should has not kept the rate.
const LATE: f64 = 1.1;

/// What a generator reports of one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Load {
    /// Operations that ended as they should.
    pub(crate) operations: u64,
    /// Operations that were lost, failed or had another answer.
    pub(crate) errors: u64,
    /// Length of the round.
    pub(crate) seconds: f64,
    /// Average bytes of a DNS answer, to see that all servers send the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer_bytes: Option<u32>,
}

impl Load {
    /// Share of operations that failed; of nothing at all, everything failed.
    pub(crate) fn error_share(&self) -> f64 {
        let all = self.operations + self.errors;
        if self.operations == 0 { 1.0 } else { self.errors as f64 / all as f64 }
    }
}

/// Asks the names in `questions` by UDP with EDNS, as fast as it goes or `rate` times a second.
/// Answers with another response code than `rcode` are errors.
pub(crate) fn dnsperf(
    machine: &Machine,
    address: SocketAddr,
    questions: &Path,
    rcode: &str,
    seconds: u32,
    rate: Option<u32>,
) -> Result<Load, Trouble> {
    let mut command = generator(machine, "dnsperf", "apt-get install dnsperf")?;
    command
        // More under way than 200 overflows a socket's default buffer, and is lost.
        .args(["-e", "-T", "1", "-c", "8", "-q", "200", "-t", "2"])
        .args(["-s", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(["-l", &seconds.to_string(), "-d"])
        .arg(questions);
    if let Some(rate) = rate {
        command.args(["-Q", &rate.to_string()]);
    }
    run("dnsperf", command, |text| parse_dnsperf(text, rcode))
}

/// Requests what is on `host` at `path` over kept connections, one at a time on each, as fast as it
/// goes.
pub(crate) fn wrk(
    machine: &Machine,
    (scheme, address): (&str, SocketAddr),
    (host, path): (&str, &str),
    connections: u32,
    seconds: u32,
) -> Result<Load, Trouble> {
    let mut command = generator(machine, "wrk", "apt-get install wrk")?;
    command
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "2s"])
        .args(["-H", &format!("Host: {host}")])
        .arg(format!("{scheme}://{address}{path}"));
    run("wrk", command, parse_wrk)
}

/// Requests `/` by h2 over TLS: 8 connections with 8 streams at a time each.
pub(crate) fn h2load(
    machine: &Machine,
    address: SocketAddr,
    seconds: u32,
) -> Result<Load, Trouble> {
    let mut command = generator(machine, "h2load", "apt-get install nghttp2-client")?;
    command
        .args(["-t", "1", "-c", "8", "-m", "8", "-D", &seconds.to_string()])
        .arg(format!("https://{address}/"));
    run("h2load", command, |text| parse_h2load(text, seconds))
}

/// TLS handshakes, four at a time.
pub(crate) fn handshakes(
    address: SocketAddr,
    resumed: bool,
    seconds: u32,
) -> Result<Load, Trouble> {
    let mut arguments =
        vec!["tls-load".to_owned(), address.to_string(), "4".to_owned(), seconds.to_string()];
    arguments.extend(resumed.then(|| "--resumed".into()));
    let line = Helping::start(&arguments)?.line()?;
    parse_ping_pong(&line).ok_or_else(|| Trouble::Load {
        generator: "the TLS load",
        why: "not three numbers".into(),
        output: line,
    })
}

/// Makes `rate` requests a second through the route in the middle. One that did not get through
/// what it should have sent gives no figure: it would be another load.
pub(crate) fn paced(
    address: SocketAddr,
    connections: u32,
    rate: u32,
    seconds: u32,
) -> Result<Load, Trouble> {
    let refuse = |why, output| Trouble::Load { generator: "the HTTP load", why, output };
    let line = Helping::start(&[
        "http-load".into(),
        address.to_string(),
        connections.to_string(),
        rate.to_string(),
        seconds.to_string(),
    ])?
    .line()?;
    let load =
        parse_ping_pong(&line).ok_or_else(|| refuse("not three numbers".into(), line.clone()))?;
    if load.seconds > f64::from(seconds) * LATE {
        return Err(refuse(format!("{rate} a second were too many for this machine"), line));
    }
    Ok(load)
}

/// A load by TCP of our own: what `helper` does on, or with, so many `connections`.
pub(crate) fn tcp(
    helper: &str,
    address: SocketAddr,
    connections: u32,
    seconds: u32,
) -> Result<Load, Trouble> {
    let line = Helping::start(&[
        helper.into(),
        address.to_string(),
        connections.to_string(),
        seconds.to_string(),
    ])?
    .line()?;
    parse_ping_pong(&line).ok_or_else(|| Trouble::Load {
        generator: "the load of small messages",
        why: "not three numbers".into(),
        output: line,
    })
}

fn generator(
    machine: &Machine,
    program: &'static str,
    install: &'static str,
) -> Result<Command, Trouble> {
    machine.program(program).map(Command::new).ok_or(Trouble::Missing { program, install })
}

fn run(
    generator: &'static str,
    mut command: Command,
    parse: impl Fn(&str) -> Option<Load>,
) -> Result<Load, Trouble> {
    let output = command.output().doing(|| format!("run {generator}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(load) = parse(&text).filter(|_| output.status.success()) {
        return Ok(load);
    }
    Err(Trouble::Load {
        generator,
        why: output.status.to_string(),
        output: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
    })
}

fn parse_dnsperf(text: &str, rcode: &str) -> Option<Load> {
    let field = |name: &str| {
        text.lines().find_map(|line| line.trim_start().strip_prefix(name)).map(str::trim)
    };
    let sent: u64 = field("Queries sent:")?.split(' ').next()?.parse().ok()?;
    // "NOERROR 1234 (99.90%), SERVFAIL 1 (0.10%)"; absent when nothing was answered.
    let operations = field("Response codes:")
        .into_iter()
        .flat_map(|codes| codes.split(','))
        .find_map(|code| code.trim().strip_prefix(rcode)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    Some(Load {
        operations,
        errors: sent.saturating_sub(operations),
        seconds: field("Run time (s):")?.parse().ok()?,
        answer_bytes: field("Average packet size:")
            .and_then(|sizes| sizes.rsplit(' ').next()?.parse().ok()),
    })
}

fn parse_wrk(text: &str) -> Option<Load> {
    let (requests, rest) = text.lines().find_map(|line| line.trim().split_once(" requests in "))?;
    let failed = text
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .filter(|(name, _)| matches!(*name, "Socket errors" | "Non-2xx or 3xx responses"))
        .flat_map(|(_, counts)| counts.split([' ', ',']))
        .filter_map(|word| word.parse::<u64>().ok());
    let non_ok = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses:")?.trim().parse().ok())
        .unwrap_or(0);
    let requests: u64 = requests.parse().ok()?;
    Some(Load {
        operations: requests.saturating_sub(non_ok),
        errors: failed.sum(),
        seconds: wrk_seconds(rest.split(',').next()?)?,
        answer_bytes: None,
    })
}

/// Answers with another status than 2xx are errors, so are streams that were reset or timed out.
fn parse_h2load(text: &str, seconds: u32) -> Option<Load> {
    let counts = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name));
    let count = |line: &str, word: &str| -> Option<u64> {
        line.split(',').find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    let (requests, codes) = (counts("requests:")?, counts("status codes:")?);
    let others = ["3xx", "4xx", "5xx"].map(|class| count(codes, class).unwrap_or(0));
    let failed = ["failed", "errored", "timeout"].map(|word| count(requests, word).unwrap_or(0));
    Some(Load {
        operations: count(codes, "2xx")?,
        errors: others.iter().chain(&failed[..1]).sum(),
        seconds: f64::from(seconds),
        answer_bytes: None,
    })
}

/// wrk writes a length of time with the unit that fits: `950.00ms`, `3.00s`, `1.50m`.
fn wrk_seconds(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn parse_ping_pong(line: &str) -> Option<Load> {
    let mut words = line.split(' ');
    Some(Load {
        operations: words.next()?.parse().ok()?,
        errors: words.next()?.parse().ok()?,
        seconds: words.next()?.parse().ok()?,
        answer_bytes: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNSPERF: &str = "Statistics:\n\n  Queries sent:         1000\n  Queries completed:    \
        999 (99.90%)\n  Queries lost:         1 (0.10%)\n\n  Response codes:       NOERROR 990 \
        (99.10%), SERVFAIL 9 (0.90%)\n  Average packet size:  request 49, response 97\n  \
        Run time (s):         3.000190\n  Queries per second:   333\n";

    #[test]
    fn answers_of_dnsperf_with_another_code_and_lost_ones_are_errors() {
        let load = parse_dnsperf(DNSPERF, "NOERROR").unwrap();
        assert_eq!((load.operations, load.errors, load.answer_bytes), (990, 10, Some(97)));
        assert_eq!(parse_dnsperf(DNSPERF, "NXDOMAIN").unwrap().operations, 0);
        assert_eq!(parse_dnsperf("", "NOERROR"), None);
    }

    #[test]
    fn responses_of_wrk_that_are_no_success_and_socket_errors_are_errors() {
        let plain = "  84000 requests in 3.10s, 12.00MB read\nRequests/sec:  27000.00\n";
        let load = parse_wrk(plain).unwrap();
        assert_eq!((load.operations, load.errors), (84_000, 0));
        assert!((load.seconds - 3.1).abs() < 1e-9);
        let bad = "  100 requests in 950.00ms, 1MB read\n  Socket errors: connect 1, read 2, \
            write 0, timeout 3\n  Non-2xx or 3xx responses: 40\n";
        let load = parse_wrk(bad).unwrap();
        assert_eq!((load.operations, load.errors), (60, 46));
    }

    #[test]
    fn answers_of_h2load_that_are_no_success_and_failed_streams_are_errors() {
        let text = "finished in 3.00s, 8000.00 req/s, 1.29MB/s\nrequests: 24010 total, 24010 \
            started, 24005 done, 24000 succeeded, 5 failed, 5 errored, 0 timeout\nstatus codes: \
            23990 2xx, 0 3xx, 4 4xx, 6 5xx\ntraffic: 3.86MB\n";
        let load = parse_h2load(text, 3).unwrap();
        assert_eq!((load.operations, load.errors), (23_990, 15));
        assert_eq!(parse_h2load("", 3), None);
    }

    #[test]
    fn a_round_without_any_operation_counts_as_all_errors() {
        let nothing = Load { operations: 0, errors: 0, seconds: 1.0, answer_bytes: None };
        assert!((nothing.error_share() - 1.0).abs() < 1e-9);
    }
}
