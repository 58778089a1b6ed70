//! What HTTP listeners expect of their clients, as users write it.

use ipnet::IpNet;
use serde::Deserialize;

use crate::units::{Period, Size};

/// `strictness = "strict"`: what becomes of requests that could be sent more carefully.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strictness {
    /// They are refused.
    #[default]
    Strict,
    /// Where only one meaning is possible they are mended, counted, and then held to the same rules.
    Lenient,
}

/// `half_close = "answer"`: what becomes of a request whose client has ended its own side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HalfClose {
    /// It is answered; a client that is gone altogether is seen when the answer is sent.
    #[default]
    Answer,
    /// The client counts as gone: the request is given up, at its endpoint too.
    Abort,
}

/// `min_rates = { body = "240B", send = "240B", over = "30s" }`: how slow a client may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinRates {
    /// Bytes per second of a request's body, while we wait for it; beyond it 408. `"0"`: any.
    pub body: Size,
    /// Bytes per second of what the client takes, while we have more for it. `"0"`: any.
    pub send: Size,
    /// The time over which both are reckoned, and so what a pause may last.
    pub over: Period,
}

/// `proxy_protocol = { from = ["10.0.0.0/8"], timeout = "3s" }`: proxies that tell who connected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocolConfig {
    /// Peers whose connections begin with a header, and must; that of others is not looked for.
    pub from: Vec<IpNet>,
    /// From the connection to the end of the header.
    #[serde(default = "three_seconds")]
    pub timeout: Period,
}

const fn three_seconds() -> Period {
    Period::from_secs(3)
}

impl Default for MinRates {
    fn default() -> Self {
        Self { body: Size(240), send: Size(240), over: Period::from_secs(30) }
    }
}

impl MinRates {
    /// What can't be, and what to write instead.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let short = self.over.0 < std::time::Duration::from_millis(100);
        short.then(|| {
            format!(
                "min_rates.over = \"{}\" is too short to tell a rate; at least \"100ms\"",
                self.over
            )
        })
    }
}
