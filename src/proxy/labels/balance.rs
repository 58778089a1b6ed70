//! How labels want work to be spread, and endpoints to be reached.

use std::time::Duration;

use crate::net::proxy_protocol::Version;
use crate::proxy::config::{
    OnUnhealthy, QueueConfig, ServiceBalance, ServiceTlsConfig, UpstreamProtocol,
};
use crate::units::Period;

/// What labels say about one port of a service; what they don't say is as `[service.NAME]` has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BalanceLabels {
    /// Name of the policy, and what it hashes.
    pub policy: Option<(&'static str, Option<String>)>,
    /// Work that runs at one endpoint at once.
    pub max_connections: Option<u32>,
    /// How long one waits for a place.
    pub queue_timeout: Option<Period>,
    /// How long a new endpoint takes to its full share.
    pub slow_start: Option<Period>,
    /// Further endpoints that one request may be sent to.
    pub retries: Option<u8>,
    /// What is spoken with endpoints.
    pub protocol: Option<UpstreamProtocol>,
    /// TLS towards endpoints.
    pub tls: Option<ServiceTlsConfig>,
    /// Header of the PROXY protocol towards endpoints.
    pub proxy_protocol: Option<Version>,
    /// Whether connections end when their instance turns unhealthy.
    pub close_unhealthy: bool,
}

/// Who waits in HAProxy: as many as come, so long.
const QUEUE: QueueConfig = QueueConfig { size: 10_000, timeout: Period::from_secs(30) };

impl BalanceLabels {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What counts for the port: the labels, over what is configured for the service.
    #[must_use]
    pub fn over(&self, configured: &ServiceBalance) -> ServiceBalance {
        let mut balance = configured.clone();
        if let Some((policy, hash_on)) = &self.policy {
            balance.policy = Some((*policy).to_owned());
            balance.hash_on.clone_from(hash_on);
        }
        if self.max_connections.is_some() {
            balance.max_connections = self.max_connections;
            balance.queue = QUEUE;
        }
        if let Some(timeout) = self.queue_timeout {
            balance.queue.timeout = timeout;
        }
        balance.slow_start = self.slow_start.or(balance.slow_start);
        balance.retries.attempts = self.retries.unwrap_or(balance.retries.attempts);
        balance.protocol = self.protocol.unwrap_or(balance.protocol);
        balance.tls = self.tls.clone().or(balance.tls);
        balance.proxy_protocol = self.proxy_protocol.or(balance.proxy_protocol);
        if self.close_unhealthy {
            balance.on_unhealthy = OnUnhealthy::Close;
        }
        balance
    }
}

/// HAProxy's word for a policy, with what follows it, as ours and what it hashes.
///
/// # Errors
/// There is none, with what to choose instead.
pub(super) fn policy(words: &[&str]) -> Result<(&'static str, Option<String>), String> {
    let (name, rest) = words.split_first().ok_or_else(|| "names no algorithm".to_owned())?;
    let lower = name.to_ascii_lowercase();
    let argument = |prefix: &str| {
        let inner = lower.strip_prefix(prefix)?.strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.to_owned())
    };
    let found = match &*lower {
        "roundrobin" | "static-rr" => ("round-robin", None),
        "leastconn" => ("least-connections", None),
        "source" => ("maglev", Some("source".to_owned())),
        "uri" if rest.is_empty() => ("maglev", Some("path".to_owned())),
        "random" => ("p2c", None),
        "first" => {
            return Err("fills one server after the other, which no policy here does; \
                               leastconn spreads by load"
                .into());
        }
        _ => match (argument("hdr"), argument("random").map(|draws| draws.parse::<u32>())) {
            (Some(header), _) if header.parse::<http::HeaderName>().is_ok() => {
                ("maglev", Some(format!("header:{header}")))
            }
            (_, Some(Ok(1))) => ("random", None),
            (_, Some(Ok(_))) => ("p2c", None),
            _ => {
                return Err(
                    "is no algorithm that there is here; there are roundrobin, static-rr, \
                             leastconn, source, uri, hdr(NAME) and random"
                        .into(),
                );
            }
        },
    };
    if !rest.is_empty() {
        return Err(format!("has {:?} behind it, which has no counterpart here", rest.join(" ")));
    }
    Ok(found)
}

/// A time as HAProxy writes it: a number with `us`, `ms`, `s`, `m`, `h` or `d`; milliseconds without.
///
/// # Errors
/// It is none, or nothing, or longer than a year.
pub(super) fn time(text: &str) -> Result<Period, String> {
    let refuse = || format!("{text:?} is no time between 1ms and 365d; write it as 30s");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let micros = match unit {
        "us" => 1,
        "" | "ms" => 1000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(refuse()),
    };
    let whole = number.checked_mul(micros).map(Duration::from_micros).ok_or_else(refuse)?;
    let most = Duration::from_secs(365 * 86_400);
    let least = Duration::from_millis(1);
    if (least..=most).contains(&whole) { Ok(Period(whole)) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_haproxy_have_a_policy_or_a_reason() {
        for (text, want) in [
            ("roundrobin", Ok(("round-robin", None))),
            ("static-rr", Ok(("round-robin", None))),
            ("leastconn", Ok(("least-connections", None))),
            ("LeastConn", Ok(("least-connections", None))),
            ("source", Ok(("maglev", Some("source")))),
            ("uri", Ok(("maglev", Some("path")))),
            ("uri depth 2", Err("no algorithm")),
            ("hdr(X-User)", Ok(("maglev", Some("header:x-user")))),
            ("hdr(a b)", Err("has \"b)\" behind it")),
            ("random", Ok(("p2c", None))),
            ("random(1)", Ok(("random", None))),
            ("random(3)", Ok(("p2c", None))),
            ("first", Err("leastconn spreads by load")),
            ("rdp-cookie", Err("no algorithm")),
            ("roundrobin twice", Err("\"twice\" behind it")),
            ("", Err("names no algorithm")),
        ] {
            let words: Vec<&str> = text.split_whitespace().collect();
            match (policy(&words), want) {
                (Ok((name, hash)), Ok((want, on))) => {
                    assert_eq!((name, hash.as_deref()), (want, on), "{text}");
                    let balance = ServiceBalance {
                        policy: Some(name.into()),
                        hash_on: hash,
                        ..ServiceBalance::default()
                    };
                    assert!(crate::proxy::upstream::Rules::compile(&balance).is_ok(), "{text}");
                }
                (Err(told), Err(_)) if text == "hdr(a b)" => assert!(!told.is_empty()),
                (Err(told), Err(want)) => assert!(told.contains(want), "{text}: {told}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn times_are_those_of_haproxy() {
        for (text, millis) in [
            ("500", Some(500)),
            ("500ms", Some(500)),
            ("2000us", Some(2)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("2d", Some(172_800_000)),
            ("0", None),
            ("10us", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("366d", None),
            ("99999999999999999999d", None),
            ("9999999999999d", None),
            ("5 m", None),
        ] {
            assert_eq!(time(text).ok().map(|period| period.0.as_millis()), millis, "{text}");
        }
    }

    #[test]
    fn what_labels_do_not_say_is_as_it_is_configured() {
        let configured = ServiceBalance {
            policy: Some("random".into()),
            max_connections: Some(5),
            keep_alive: Some(3),
            ..ServiceBalance::default()
        };
        assert_eq!(BalanceLabels::default().over(&configured), configured);
        let labels = BalanceLabels {
            policy: Some(("round-robin", None)),
            max_connections: Some(100),
            ..BalanceLabels::default()
        };
        let both = labels.over(&configured);
        assert_eq!(both.policy.as_deref(), Some("round-robin"));
        assert_eq!((both.max_connections, both.keep_alive), (Some(100), Some(3)));
        assert_eq!(both.queue, QUEUE, "HAProxy lets them wait");
    }
}
