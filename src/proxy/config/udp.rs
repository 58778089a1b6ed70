//! `[listener.NAME.udp]`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::sticky::StickyConfig;
use crate::units::Period;

/// `[listener.NAME.udp]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UdpListenerConfig {
    /// Addresses to listen on. One that this host doesn't have yet is bound all the same.
    pub bind: Vec<SocketAddr>,
    /// Who gets the datagrams: a service, or `service:port-name`.
    pub service: String,
    /// How long a flow lasts.
    #[serde(default)]
    pub timeouts: UdpTimeouts,
    /// Flows at once, over all workers and clients. A datagram that would begin one more is dropped.
    #[serde(default = "default_flows_max")]
    pub flows_max: u32,
    /// Flows at once of one client (IPv6: of one /64); a datagram that would begin one more is dropped.
    #[serde(default)]
    pub flows_per_client: Option<u32>,
    /// Replies that each datagram of a client gets: a flow that has got all of them ends. As nginx's
    /// `proxy_responses` does it.
    #[serde(default)]
    pub responses: Option<u32>,
    /// What becomes of flows whose instance leaves.
    #[serde(default)]
    pub moved: Moved,
    /// How a client comes back to the endpoint that it had.
    #[serde(default)]
    pub sticky: Option<StickyConfig>,
}

/// What becomes of flows whose instance leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moved {
    /// They stay for as long as the service's `drain` says, and move then.
    #[default]
    Keep,
    /// The next datagram goes to another instance; what the old one still answers is passed on.
    Move,
    /// They end at once; what the client sends then begins another one.
    Drop,
}

/// How long a flow lasts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UdpTimeouts {
    /// Without a datagram in either direction.
    pub idle: Period,
}

impl Default for UdpTimeouts {
    fn default() -> Self {
        Self { idle: Period::from_secs(30) }
    }
}

const fn default_flows_max() -> u32 {
    10_000
}

impl UdpListenerConfig {
    /// What can't be, and what to write instead.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.flows_max == 0 {
            return Some("flows_max = 0 lets nobody in; at least 1".into());
        }
        if self.flows_per_client == Some(0) {
            return Some("flows_per_client = 0 lets nobody in; at least 1".into());
        }
        let idle = self.timeouts.idle;
        (idle.0 < Duration::from_millis(10)).then(|| {
            format!("timeouts.idle = \"{idle}\" is too short for an answer; at least \"10ms\"")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_let_nobody_in_are_refused() {
        let config = |text: &str| {
            let text = format!("bind = [\"127.0.0.1:53\"]\nservice = \"dns\"\n{text}");
            toml::from_str::<UdpListenerConfig>(&text).unwrap()
        };
        for (text, want) in [
            ("", None),
            ("flows_max = 1\nflows_per_client = 1\nresponses = 0", None),
            ("flows_max = 0", Some("flows_max = 0")),
            ("flows_per_client = 0", Some("flows_per_client = 0")),
            ("timeouts = { idle = \"1ms\" }", Some("at least \"10ms\"")),
        ] {
            let problem = config(text).problem();
            assert_eq!(problem.is_some(), want.is_some(), "{text}: {problem:?}");
            assert!(problem.unwrap_or_default().contains(want.unwrap_or_default()), "{text}");
        }
        assert_eq!(config("moved = \"drop\"").moved, Moved::Drop);
        assert_eq!(config("").moved, Moved::Keep);
    }
}
