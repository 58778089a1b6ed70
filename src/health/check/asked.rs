//! A check that a service asks for, as if it were configured.

use super::super::wish::{Door, Kind, Wish};
use super::{ChecksConfig, TlsConfig, http, tcp};
use crate::units::Size;

/// As with one that is configured, so that equal ones are one.
const BODY_MAX: Size = Size(64 << 10);

impl ChecksConfig {
    /// The check that `wish` asks for, but for a port that it names.
    pub(in crate::health) fn asked(wish: &Wish) -> Self {
        let Wish { interval, timeout, fall, rise, .. } = *wish;
        let port = match wish.port {
            Some(Door::Number(port)) => Some(port),
            Some(Door::Name(_)) | None => None,
        };
        let fast_interval = None;
        if wish.kind == Kind::Tcp {
            let tcp = tcp::Config { port, interval, fast_interval, timeout, rise, fall };
            return Self { tcp: Some(tcp), ..Self::default() };
        }
        let any = TlsConfig { verify: false, ..TlsConfig::default() };
        let http = http::Config {
            path: wish.path.clone().unwrap_or_else(|| "/".to_owned()),
            status: wish.status.clone().unwrap_or_else(|| "200-299".to_owned()),
            method: "GET".to_owned(),
            host: wish.host.clone(),
            headers: std::collections::BTreeMap::new(),
            body: None,
            body_max: BODY_MAX,
            tls: (wish.kind == Kind::Https).then_some(any),
            port,
            interval,
            fast_interval,
            timeout,
            rise,
            fall,
        };
        Self { http: Some(http), ..Self::default() }
    }
}
