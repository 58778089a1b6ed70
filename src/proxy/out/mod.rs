//! The way to the endpoints of a service: the protocol, TLS, and the limits of shared connections.
//! Knows nothing of the library that speaks HTTP.

pub mod bridge;
pub mod secure;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::config::{ServiceBalance, UpstreamH2Config, UpstreamProtocol};
use crate::net::proxy_protocol::Version;
use secure::{Configs, Secure};

/// How the endpoints of one service are reached.
#[derive(Debug, Default)]
pub struct Way {
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// TLS; none: in the clear.
    pub tls: Option<Arc<Secure>>,
    /// Limits of HTTP/2 connections.
    pub h2: UpstreamH2Config,
    /// With what header of the PROXY protocol each connection begins: it is of one client then, and
    /// of no other one.
    pub announces: Option<Version>,
    /// Of ways that differ in anything, what their files held included, it differs: a connection of
    /// one is never used for another. 0: HTTP/1.1 in the clear.
    pub key: u64,
}

impl Way {
    /// The way to the endpoints of `service`. Reads the files of `[service.NAME.tls]`, so that it
    /// blocks; `configs` are those that were built for others before.
    ///
    /// # Errors
    /// Each key of `[service.NAME]` that can't be, with what is wrong and what to write.
    pub fn compile(
        service: &str,
        config: &ServiceBalance,
        configs: &mut Configs,
    ) -> Result<Self, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let wrong = match (config.protocol, &config.tls) {
            (UpstreamProtocol::H2, None) => Some(
                "\"h2\" is spoken over TLS: add [service.NAME.tls] (empty, it trusts what the \
                 system trusts), or write \"h2c\" for h2 in the clear",
            ),
            (UpstreamProtocol::H2c, Some(_)) => Some(
                "\"h2c\" is h2 in the clear, and there is `tls`; write \"h2\", or take `tls` away",
            ),
            _ => None,
        };
        problems.extend(wrong.map(|message| ("protocol", message.to_owned())));
        problems.extend(config.h2.problem().map(|(_, message)| ("h2", message)));
        let tls = config.tls.as_ref().map(|tls| {
            Secure::compile(service, tls, config.protocol.is_h2(), configs).map(Arc::new)
        });
        let tls = tls.transpose().unwrap_or_else(|message| {
            problems.push(("tls", message));
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let (protocol, h2) = (config.protocol, config.h2.clone());
        let key = key(protocol, tls.as_deref(), &h2);
        Ok(Self { protocol, tls, h2, announces: config.proxy_protocol, key })
    }

    /// In words, for people who ask.
    #[must_use]
    pub fn told(&self) -> String {
        let protocol = self.protocol.word();
        let mut told = match self.tls.as_deref() {
            None => format!("{protocol}, in the clear"),
            Some(tls) if tls.verifies() => format!("{protocol} over TLS"),
            Some(_) => format!("{protocol} over TLS, NOT VERIFIED"),
        };
        if let Some(version) = self.announces {
            told.push_str(", behind a PROXY header ");
            told.push_str(version.word());
        }
        told
    }
}

fn key(protocol: UpstreamProtocol, tls: Option<&Secure>, h2: &UpstreamH2Config) -> u64 {
    if protocol == UpstreamProtocol::Http1 && tls.is_none() {
        return 0;
    }
    let mut hasher = std::hash::DefaultHasher::new();
    protocol.hash(&mut hasher);
    tls.map(Secure::digest).hash(&mut hasher);
    if protocol.is_h2() {
        (h2.max_streams, h2.ping.0).hash(&mut hasher);
        (h2.stream_window.0, h2.connection_window.0).hash(&mut hasher);
    }
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::proxy::config::ServiceTlsConfig;
    use crate::units::Size;

    fn authority(file: &Path) {
        let made = rcgen::generate_simple_self_signed(vec!["here".into()]).unwrap();
        fs::write(file, made.cert.pem()).unwrap();
    }

    fn balance(protocol: UpstreamProtocol, tls: Option<ServiceTlsConfig>) -> ServiceBalance {
        ServiceBalance { protocol, tls, ..ServiceBalance::default() }
    }

    #[test]
    fn protocols_and_tls_that_do_not_fit_are_refused_with_what_to_write() {
        let tls = |ca: &str| ServiceTlsConfig { ca_file: Some(ca.into()), ..Default::default() };
        let half = ServiceTlsConfig {
            cert_file: Some("c.pem".into()),
            verify: false,
            ..Default::default()
        };
        let bad_h2 = UpstreamH2Config { max_streams: 0, ..UpstreamH2Config::default() };
        for (case, config, key, want) in [
            ("h2 in the clear", balance(UpstreamProtocol::H2, None), "protocol", "write \"h2c\""),
            (
                "no file",
                balance(UpstreamProtocol::Http1, Some(tls("/no/ca.pem"))),
                "tls",
                "cannot use ca_file /no/ca.pem",
            ),
            ("half", balance(UpstreamProtocol::H2, Some(half)), "tls", "without `key_file`"),
            (
                "no name",
                balance(
                    UpstreamProtocol::Http1,
                    Some(ServiceTlsConfig {
                        verify: false,
                        server_name: Some("a b".into()),
                        ..Default::default()
                    }),
                ),
                "tls",
                "`server_name`: \"a b\" is neither",
            ),
            ("h2", ServiceBalance { h2: bad_h2, ..ServiceBalance::default() }, "h2", "at least 1"),
        ] {
            let problems = Way::compile("web", &config, &mut Configs::default()).unwrap_err();
            assert_eq!(problems[0].0, key, "{case}");
            assert!(problems[0].1.contains(want), "{case}: {problems:?}");
        }
        let anybody = ServiceTlsConfig { verify: false, ..Default::default() };
        let both = balance(UpstreamProtocol::H2c, Some(anybody));
        let problems = Way::compile("web", &both, &mut Configs::default()).unwrap_err();
        assert_eq!(problems[0].0, "protocol");
    }

    #[test]
    fn ways_that_differ_in_a_key_or_in_what_a_file_holds_have_keys_that_differ() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        authority(&file);
        let trusting = ServiceTlsConfig { ca_file: Some(file.clone()), ..Default::default() };
        let named = ServiceTlsConfig { server_name: Some("other".into()), ..trusting.clone() };
        let windows = UpstreamH2Config { stream_window: Size(1 << 21), ..Default::default() };
        let configs = [
            balance(UpstreamProtocol::Http1, None),
            balance(UpstreamProtocol::H2c, None),
            ServiceBalance { h2: windows, ..balance(UpstreamProtocol::H2c, None) },
            balance(UpstreamProtocol::Http1, Some(trusting.clone())),
            balance(UpstreamProtocol::H2, Some(trusting)),
            balance(UpstreamProtocol::H2, Some(named)),
        ];
        let keys = || -> Vec<u64> {
            let of = |config| Way::compile("web", config, &mut Configs::default()).unwrap().key;
            configs.iter().map(of).collect()
        };
        let before = keys();
        assert_eq!(before[0], 0);
        assert_eq!(before, keys(), "the same as long as nothing changes");
        authority(&file);
        let after = keys();
        assert_eq!(before[..3], after[..3]);
        let mut all = [&before[..], &after[3..]].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9, "another authority in the same file is another way");
    }

    #[test]
    fn services_with_the_same_tls_share_one_configuration_that_is_built_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        authority(&file);
        let tls = ServiceTlsConfig { ca_file: Some(file), ..Default::default() };
        let named = ServiceTlsConfig { server_name: Some("other".into()), ..tls.clone() };
        let mut configs = Configs::default();
        for _ in 0..3 {
            for config in [
                balance(UpstreamProtocol::Http1, Some(tls.clone())),
                balance(UpstreamProtocol::Http1, Some(named.clone())),
                balance(UpstreamProtocol::H2, Some(tls.clone())),
            ] {
                Way::compile("web", &config, &mut configs).unwrap();
            }
        }
        assert_eq!(configs.built(), 2, "one for each protocol");
    }
}
