//! What is measured, and with whom.

use crate::fleet::{self, MIDDLE};
use crate::load::{self, Load};
use crate::machine::Machine;
use crate::peers::Role;
use crate::tls;
use crate::trouble::Trouble;
use crate::zone::Zone;
use std::net::SocketAddr;

/// A question that a table of results answers.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: &'static str,
    /// What one operation is.
    pub(crate) title: &'static str,
    pub(crate) role: Role,
    pub(crate) peers: &'static [&'static str],
    pub(crate) work: Work,
    /// The task whose work is played in turn with this one's, so that Portolan can be compared with
    /// itself: apart, the machine would be another one.
    pub(crate) own: Option<&'static str>,
    /// Whether the short check in the tests has it.
    pub(crate) smoke: bool,
}

/// How a task loads a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Names that exist; `rate`: questions a second, or as fast as it goes.
    Hits { rate: Option<u32> },
    /// Names that don't.
    Misses { rate: Option<u32> },
    /// One name with more addresses than a reply has room for.
    Many { rate: Option<u32> },
    /// Names that exist, while others change.
    Changing { rate: Option<u32> },
    /// HTTP requests over kept connections.
    Requests,
    /// The same through the route in the middle of a hundred.
    Routed,
    /// Half as many a second as saturate Portolan, beside `changing` services or not; `rate` is what
    /// that is, once it was measured.
    Half { rate: Option<u32>, changing: bool },
    /// Upstreams that change so often.
    Churn { changes: u32 },
    /// HTTP requests over kept connections of TLS 1.3.
    RequestsTls,
    /// HTTP requests as streams of h2 over TLS.
    Streams,
    /// TLS handshakes.
    Handshakes { resumed: bool },
    /// Messages of 64 bytes.
    Messages,
    /// Streams, as fast as they come.
    Streaming,
    /// Connections, each for one message.
    Connects,
    /// Datagrams of 64 bytes, to and fro in so many flows.
    Datagrams { flows: u32 },
    /// Connections that have made one request each and wait.
    Idle { connections: u32 },
}

const DNS: &[&str] = &["portolan", "knot", "nsd", "unbound"];
const HTTP: &[&str] = &["portolan", "haproxy", "nginx", "envoy", "traefik"];
const ROUTED: &[&str] = &["portolan", "haproxy", "nginx", "envoy"];
const HTTPS: &[&str] = &["portolan", "haproxy", "nginx", "envoy"];
const UDP: &[&str] = &["portolan", "nginx"];
const TCP: &[&str] = &["portolan", "haproxy", "nginx", "envoy"];
/// Connections of HTTP clients.
const CLIENTS: u32 = 32;
/// Far below saturation: here a server pays for waking up once per question.
const FIXED: Option<u32> = Some(20_000);

/// All tasks, in the order in which they run.
pub(crate) const TASKS: &[Task] = &[
    Task {
        name: "dns-hit",
        title: "DNS over UDP, a name with 3 A of 10,000 names, saturated",
        role: Role::Dns,
        peers: DNS,
        work: Work::Hits { rate: None },
        own: None,
        smoke: true,
    },
    Task {
        name: "dns-hit-20k",
        title: "the same at 20,000 questions a second",
        role: Role::Dns,
        peers: DNS,
        work: Work::Hits { rate: FIXED },
        own: None,
        smoke: false,
    },
    Task {
        name: "dns-nxdomain",
        title: "DNS over UDP, names that don't exist, saturated",
        role: Role::Dns,
        peers: DNS,
        work: Work::Misses { rate: None },
        own: Some("dns-hit"),
        smoke: true,
    },
    Task {
        name: "dns-nxdomain-20k",
        title: "the same at 20,000 questions a second",
        role: Role::Dns,
        peers: DNS,
        work: Work::Misses { rate: FIXED },
        own: Some("dns-hit-20k"),
        smoke: false,
    },
    Task {
        name: "dns-many",
        title: "DNS over UDP, a name with 5,000 A, saturated",
        role: Role::Dns,
        peers: DNS,
        work: Work::Many { rate: None },
        own: Some("dns-hit"),
        smoke: false,
    },
    Task {
        name: "dns-many-20k",
        title: "the same at 20,000 questions a second",
        role: Role::Dns,
        peers: DNS,
        work: Work::Many { rate: FIXED },
        own: Some("dns-hit-20k"),
        smoke: false,
    },
    Task {
        name: "dns-views",
        title: "DNS over UDP, a name with 3 A, saturated, asked by one of 1,000 clients with views \
                of their own",
        role: Role::DnsViews,
        peers: &["portolan"],
        work: Work::Hits { rate: None },
        own: Some("dns-hit"),
        smoke: false,
    },
    Task {
        name: "dns-views-20k",
        title: "the same at 20,000 questions a second",
        role: Role::DnsViews,
        peers: &["portolan"],
        work: Work::Hits { rate: FIXED },
        own: Some("dns-hit-20k"),
        smoke: false,
    },
    Task {
        name: "dns-changing",
        title: "DNS over UDP, a name with 3 A, saturated, with 1,000 changes a second: the threads \
                that answer",
        role: Role::Dns,
        peers: &["portolan"],
        work: Work::Changing { rate: None },
        own: Some("dns-hit"),
        smoke: false,
    },
    Task {
        name: "dns-changing-20k",
        title: "the same at 20,000 questions a second",
        role: Role::Dns,
        peers: &["portolan"],
        work: Work::Changing { rate: FIXED },
        own: Some("dns-hit-20k"),
        smoke: false,
    },
    Task {
        name: "http-keepalive",
        title: "HTTP/1.1 requests over 32 kept connections, 64-byte body",
        role: Role::Http,
        peers: HTTP,
        work: Work::Requests,
        own: None,
        smoke: true,
    },
    Task {
        name: "http-routed",
        title: "the same through 100 routes by host and path, one more with a header, access log and \
                metrics on",
        role: Role::HttpRouted,
        peers: ROUTED,
        work: Work::Routed,
        own: None,
        smoke: false,
    },
    Task {
        name: "http-half",
        title: "the same at half of the rate that saturates Portolan",
        role: Role::HttpRouted,
        peers: &["portolan"],
        work: Work::Half { rate: None, changing: false },
        own: None,
        smoke: false,
    },
    Task {
        name: "http-changing",
        title: "the same with 100 changes of its services a second",
        role: Role::HttpRouted,
        peers: &["portolan"],
        work: Work::Half { rate: None, changing: true },
        own: Some("http-half"),
        smoke: false,
    },
    Task {
        name: "http-churn-memory",
        title: "memory over 100,000 changes of the services that requests go to",
        role: Role::HttpRouted,
        peers: &["portolan"],
        work: Work::Churn { changes: 100_000 },
        own: None,
        smoke: false,
    },
    Task {
        name: "tls-full",
        title: "TLS 1.3 handshakes, ECDSA on P-256, each anew",
        role: Role::Https,
        peers: HTTPS,
        work: Work::Handshakes { resumed: false },
        own: None,
        smoke: false,
    },
    Task {
        name: "tls-resumed",
        title: "the same by a ticket of the one before",
        role: Role::Https,
        peers: HTTPS,
        work: Work::Handshakes { resumed: true },
        own: None,
        smoke: false,
    },
    Task {
        name: "https-keepalive",
        title: "HTTP/1.1 requests over 32 kept connections of TLS 1.3, 64-byte body",
        role: Role::Https,
        peers: HTTPS,
        work: Work::RequestsTls,
        own: None,
        smoke: false,
    },
    Task {
        name: "h2",
        title: "h2 over TLS in, HTTP/1.1 out: 8 connections of 8 streams each, 64-byte body",
        role: Role::Https,
        peers: HTTPS,
        work: Work::Streams,
        own: None,
        smoke: false,
    },
    Task {
        name: "idle-tls-1000",
        title: "memory of 1,000 idle TLS connections that have made one request each",
        role: Role::Https,
        peers: HTTPS,
        work: Work::Idle { connections: 1_000 },
        own: None,
        smoke: false,
    },
    Task {
        name: "tcp-small",
        title: "TCP round trips of 64 bytes on 16 connections",
        role: Role::Tcp,
        peers: TCP,
        work: Work::Messages,
        own: None,
        smoke: true,
    },
    Task {
        name: "tcp-bulk",
        title: "TCP streams from the origin on 4 connections: what a megabyte costs",
        role: Role::TcpBulk,
        peers: TCP,
        work: Work::Streaming,
        own: None,
        smoke: false,
    },
    Task {
        name: "tcp-connects",
        title: "TCP connections, 16 at a time, each with 64 bytes to and fro",
        role: Role::Tcp,
        peers: TCP,
        work: Work::Connects,
        own: None,
        smoke: false,
    },
    Task {
        name: "idle-tcp-1000",
        title: "memory of 1,000 idle TCP connections that have carried 64 bytes each way",
        role: Role::Tcp,
        peers: TCP,
        work: Work::Idle { connections: 1_000 },
        own: None,
        smoke: false,
    },
    Task {
        name: "udp",
        title: "UDP round trips of 64 bytes in 64 flows, saturated",
        role: Role::Udp,
        peers: UDP,
        work: Work::Datagrams { flows: 64 },
        own: None,
        smoke: true,
    },
    Task {
        name: "idle-1000",
        title: "memory of 1,000 idle HTTP connections that have made one request each",
        role: Role::Http,
        peers: HTTP,
        work: Work::Idle { connections: 1_000 },
        own: None,
        smoke: true,
    },
];

impl Work {
    /// Loads the server at `address` for `seconds` and says what was done. Idling and what goes on
    /// beside changes of upstreams are no loads: [`crate::idle`] and [`crate::churn`] measure them.
    pub(crate) fn load(
        self,
        machine: &Machine,
        zone: &Zone,
        address: SocketAddr,
        seconds: u32,
    ) -> Result<Load, Trouble> {
        match self {
            Self::Hits { rate } | Self::Changing { rate } => {
                load::dnsperf(machine, address, &zone.hits, "NOERROR", seconds, rate)
            }
            Self::Misses { rate } => {
                load::dnsperf(machine, address, &zone.misses, "NXDOMAIN", seconds, rate)
            }
            Self::Many { rate } => {
                load::dnsperf(machine, address, &zone.many, "NOERROR", seconds, rate)
            }
            Self::RequestsTls => {
                load::wrk(machine, ("https", address), (tls::NAME, "/"), CLIENTS, seconds)
            }
            Self::Streams => load::h2load(machine, address, seconds),
            Self::Handshakes { resumed } => load::handshakes(address, resumed, seconds),
            Self::Messages => load::tcp("tcp-load", address, 16, seconds),
            Self::Streaming => load::tcp("tcp-bulk", address, 4, seconds),
            Self::Connects => load::tcp("tcp-connects", address, 16, seconds),
            Self::Datagrams { flows } => load::tcp("udp-load", address, flows, seconds),
            Self::Half { rate: Some(rate), .. } => load::paced(address, CLIENTS, rate, seconds),
            Self::Routed | Self::Half { rate: None, .. } | Self::Churn { .. } => {
                let (host, path) = (fleet::host(MIDDLE), fleet::path(MIDDLE));
                load::wrk(machine, ("http", address), (&host, &path), CLIENTS, seconds)
            }
            Self::Requests | Self::Idle { .. } => {
                load::wrk(machine, ("http", address), ("bench.test", "/"), CLIENTS, seconds)
            }
        }
    }

    /// The same at half of `saturated`, operations a second, if that is what it is to be played at.
    pub(crate) fn at_half_of(self, saturated: f64) -> Self {
        match self {
            Self::Half { changing, .. } => {
                Self::Half { rate: Some((saturated / 2.0) as u32), changing }
            }
            other => other,
        }
    }
}

impl Task {
    /// The task whose work is played in turn with this one's.
    pub(crate) fn own(&self) -> Option<&'static Self> {
        TASKS.iter().find(|task| Some(task.name) == self.own)
    }
}

/// The tasks with these names, in the order of [`TASKS`]; all when none is named.
pub(crate) fn named(names: &[String]) -> Result<Vec<&'static Task>, Trouble> {
    for name in names {
        if !TASKS.iter().any(|task| task.name == name) {
            let known: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
            return Err(Trouble::Unknown {
                kind: "task",
                value: name.clone(),
                known: known.join(", "),
            });
        }
    }
    let wanted = |task: &&Task| names.is_empty() || names.iter().any(|name| name == task.name);
    Ok(TASKS.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PEERS;

    #[test]
    fn every_peer_of_a_task_exists() {
        for task in TASKS {
            for name in task.peers {
                assert!(PEERS.iter().any(|peer| peer.name == *name), "{}: {name}", task.name);
            }
        }
    }

    #[test]
    fn a_task_that_is_not_there_is_refused_and_the_message_lists_those_that_are() {
        let error = named(&["dns-hot".into()]).unwrap_err().to_string();
        assert!(error.contains("dns-hot") && error.contains("dns-hit, dns-hit-20k"), "{error}");
        assert_eq!(named(&[]).unwrap().len(), TASKS.len());
    }
}
