//! `[dns.forward]` once it is checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::super::limits::networks;
use super::super::settings::{Unfit, holds, is_own};
use super::super::wire::{self, Name};
use super::cache::Keep;
use super::choice::Suspicion;
use super::config::ForwardConfig;
use super::message::Ttls;
use crate::units::Period;

/// Where the system's own upstreams are listed.
pub(in crate::dns) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Most upstreams of one domain.
const UPSTREAMS_MAX: usize = 16;
/// Most domains with upstreams of their own.
const ZONES_MAX: usize = 1000;

/// Checked forwarding.
#[derive(Debug, Clone, PartialEq)]
pub struct ForwardSettings {
    /// Who is asked for which names; the longest domain first, the root last.
    pub zones: Vec<ForwardZone>,
    /// Who may ask.
    pub allow: Vec<IpNet>,
    /// How long one upstream has.
    pub timeout: Duration,
    /// When an upstream is suspected.
    pub suspicion: Suspicion,
    /// Most queries under way at a time.
    pub max_in_flight: usize,
    /// Most questions that wait for them.
    pub max_waiting: usize,
    /// Of those, most of one address.
    pub max_per_client: usize,
    /// What is kept.
    pub keep: Keep,
    /// Bounds of TTLs.
    pub ttls: Ttls,
    /// How long a client waits while there is an answer that has run out.
    pub stale_after: Duration,
}

/// Who is asked for the names of one domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardZone {
    /// The domain.
    pub apex: Name,
    /// Who is asked; nobody: its names are refused.
    pub upstreams: Vec<SocketAddr>,
}

impl ForwardSettings {
    /// Whether `client` may have its questions forwarded.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        holds(&self.allow, client)
    }

    /// The zone with the longest domain that the name `key`, in lower case, is in.
    #[must_use]
    pub fn zone_of(&self, key: &[u8]) -> Option<&ForwardZone> {
        let zone = self.zones.iter().find(|zone| wire::ends_with_labels(key, zone.apex.wire()))?;
        (!zone.upstreams.is_empty()).then_some(zone)
    }

    /// Who is asked for names of no domain in particular.
    pub fn upstreams(&self) -> impl Iterator<Item = &SocketAddr> {
        self.zones.last().into_iter().flat_map(|zone| &zone.upstreams)
    }

    /// Checks `config`. `own` are the domains that this process answers for, `listen` its addresses.
    pub(in crate::dns) fn compile(
        config: &ForwardConfig,
        own: &[Name],
        listen: &[SocketAddr],
        resolv_conf: &impl Fn() -> Result<Vec<u8>, String>,
    ) -> Result<Self, Vec<Unfit>> {
        let mut problems = Vec::new();
        let mut zones = Vec::new();
        let all = |texts: &[String], found: &mut Vec<String>| {
            let mut upstreams = Vec::new();
            for text in texts {
                match upstream(text, listen, resolv_conf) {
                    Ok(more) => upstreams.extend(more),
                    Err(error) => found.push(format!("upstreams: {error}")),
                }
            }
            if upstreams.len() > UPSTREAMS_MAX {
                found.push(format!("upstreams: more than {UPSTREAMS_MAX}; leave some out"));
            }
            upstreams
        };
        if config.zone.len() > ZONES_MAX {
            let message = format!("[dns.forward.zone] has more than {ZONES_MAX} domains");
            problems.push(Unfit::new(&["forward", "zone"], message));
        }
        for (domain, zone) in config.zone.iter().take(ZONES_MAX) {
            let mut refuse = |key: &str, message: String| {
                let message = format!("[dns.forward.zone.{domain:?}] {message}");
                problems.push(Unfit::new(&["forward", "zone", domain, key], message));
            };
            let apex = match Name::parse(domain) {
                Ok(apex) => apex,
                Err(error) => {
                    refuse("", format!("is no domain: {error}"));
                    continue;
                }
            };
            if apex == Name::root() {
                refuse("", "is the root; write its upstreams in [dns.forward]".to_owned());
            }
            if let Some(own) = own.iter().find(|own| apex.is_in(own)) {
                let message = format!("is within the zone {own} of [dns], which answers itself");
                refuse("", message);
            }
            let mut found = Vec::new();
            let upstreams = all(&zone.upstreams, &mut found);
            for message in found {
                refuse("upstreams", message);
            }
            zones.push(ForwardZone { apex, upstreams });
        }
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.apex.wire().len()));
        let mut found = Vec::new();
        let upstreams = all(&config.upstreams, &mut found);
        zones.push(ForwardZone { apex: Name::root(), upstreams });
        let mut refuse = |key: &str, message: String| {
            problems.push(Unfit::new(&["forward", key], format!("[dns.forward] {message}")));
        };
        for message in found {
            refuse("upstreams", message);
        }
        if config.upstreams.is_empty() && config.zone.is_empty() {
            let message = "upstreams is empty; name one, or remove the table to refuse names \
                           outside the zones";
            refuse("upstreams", message.to_owned());
        }
        let allow = networks(&config.allow).unwrap_or_else(|error| {
            refuse("allow", format!("allow: {error}"));
            Vec::new()
        });
        for (key, period, least) in [
            ("timeout", config.timeout, "100ms"),
            ("probe_interval", config.probe_interval, "500ms"),
            ("probe_interval_max", config.probe_interval_max, "10s"),
            ("ttl_max", config.ttl_max, "1s"),
            ("negative_ttl_max", config.negative_ttl_max, "1s"),
        ] {
            if period.0.is_zero() {
                refuse(key, format!("{key} is zero; write at least {least:?}"));
            }
        }
        for (key, period) in [
            ("ttl_min", config.ttl_min),
            ("ttl_max", config.ttl_max),
            ("negative_ttl_max", config.negative_ttl_max),
            ("stale_ttl", config.stale_ttl),
        ] {
            if period.0.subsec_nanos() != 0 {
                refuse(key, format!("{key} = \"{period}\" is not a whole number of seconds"));
            }
        }
        if config.ttl_min > config.ttl_max {
            let (min, max) = (config.ttl_min, config.ttl_max);
            refuse("ttl_min", format!("ttl_min = \"{min}\" is above ttl_max = \"{max}\""));
        }
        for (key, value) in [
            ("max_in_flight", config.max_in_flight),
            ("max_waiting", config.max_waiting),
            ("max_per_client", config.max_per_client),
            ("fall", config.fall as usize),
        ] {
            if value == 0 {
                refuse(key, format!("{key} is 0; write at least 1"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let seconds = |period: Period| period.0.as_secs() as u32;
        Ok(Self {
            zones,
            allow,
            timeout: config.timeout.0,
            suspicion: Suspicion {
                fall: config.fall,
                first: config.probe_interval.0,
                longest: config.probe_interval_max.0,
                timeout: config.timeout.0,
            },
            max_in_flight: config.max_in_flight,
            max_waiting: config.max_waiting,
            max_per_client: config.max_per_client,
            keep: Keep {
                entries: config.cache_size,
                bytes: usize::try_from(config.cache_bytes.0).unwrap_or(usize::MAX),
                stale: config.serve_stale.0,
                stale_ttl: seconds(config.stale_ttl),
                recheck: config.stale_recheck.0,
                failure: config.failure_ttl.0,
                prefetch: config.prefetch.0,
                prefetch_hits: config.prefetch_hits,
            },
            ttls: Ttls {
                min: seconds(config.ttl_min),
                max: seconds(config.ttl_max),
                negative_max: seconds(config.negative_ttl_max),
            },
            stale_after: config.stale_after.0,
        })
    }
}

fn upstream(
    text: &str,
    listen: &[SocketAddr],
    resolv_conf: &impl Fn() -> Result<Vec<u8>, String>,
) -> Result<Vec<SocketAddr>, String> {
    let own = |addr: &SocketAddr| listen.iter().any(|listen| is_own(*addr, *listen));
    if text != "system" {
        let addr = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
            .map_err(|_| {
                format!("{text:?} is neither \"system\" nor an address such as \"10.0.0.2:53\"")
            })?;
        if own(&addr) {
            return Err(format!(
                "{text:?} is an address of [dns] listen: questions would go round"
            ));
        }
        return Ok(vec![addr]);
    }
    let parsed = resolv_conf::Config::parse(resolv_conf()?)
        .map_err(|error| format!("{RESOLV_CONF}: {error}; name upstreams instead of \"system\""))?;
    let found: Vec<_> = parsed
        .nameservers
        .iter()
        .map(|server| SocketAddr::new(IpAddr::from(server), 53))
        .filter(|addr| !own(addr))
        .collect();
    if found.is_empty() {
        return Err(format!(
            "{RESOLV_CONF} names no server but Portolan itself; name upstreams instead of \"system\""
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<ForwardSettings, Vec<String>> {
        let config: ForwardConfig = toml::from_str(text).unwrap();
        let own = [Name::parse("consul").unwrap()];
        let listen = ["0.0.0.0:53".parse().unwrap()];
        let resolv_conf = || Ok(b"nameserver 10.9.9.9\n".to_vec());
        ForwardSettings::compile(&config, &own, &listen, &resolv_conf)
            .map_err(|problems| problems.into_iter().map(|unfit| unfit.message).collect())
    }

    #[test]
    fn the_longest_domain_says_who_is_asked() {
        let settings = compile(
            "[zone.\"corp.example\"]\nupstreams = [\"10.0.0.1\"]\n\
             [zone.\"db.corp.example\"]\nupstreams = [\"10.0.0.2:5353\", \"10.0.0.3\"]\n\
             [zone.\"none.example\"]\nupstreams = []",
        )
        .unwrap();
        for (name, want) in [
            ("corp.example", Some("10.0.0.1:53")),
            ("WWW.corp.example", Some("10.0.0.1:53")),
            ("a.db.corp.example", Some("10.0.0.2:5353")),
            ("xcorp.example", Some("10.9.9.9:53")),
            ("example", Some("10.9.9.9:53")),
            (".", Some("10.9.9.9:53")),
            ("a.none.example", None),
        ] {
            let name = Name::parse(name).unwrap();
            let first = settings.zone_of(name.wire()).map(|zone| zone.upstreams[0].to_string());
            assert_eq!(first.as_deref(), want, "{name}");
        }
        let only = compile("upstreams = []\n[zone.a]\nupstreams = [\"10.0.0.1\"]").unwrap();
        assert!(only.zone_of(b"\x01b\0").is_none());
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        for (case, text, want) in [
            ("nobody", "upstreams = []", "upstreams is empty"),
            ("no domain", "[zone.\"a..b\"]\nupstreams = []", "\"a..b\"] is no domain"),
            ("the root", "[zone.\".\"]\nupstreams = []", "write its upstreams in [dns.forward]"),
            (
                "one of ours",
                "[zone.\"db.consul\"]\nupstreams = []",
                "is within the zone consul. of [dns]",
            ),
            (
                "a domain's upstream",
                "[zone.a]\nupstreams = [\"tls://10.0.0.1\"]",
                "[dns.forward.zone.\"a\"] upstreams: \"tls://10.0.0.1\" is neither",
            ),
            ("ourselves", "upstreams = [\"127.0.0.1\"]", "questions would go round"),
            ("no time", "timeout = \"0s\"", "timeout is zero"),
            ("parts of seconds", "ttl_max = \"1500ms\"", "not a whole number of seconds"),
            ("turned round", "ttl_min = \"2d\"", "ttl_min = \"48h\" is above ttl_max = \"24h\""),
            ("nobody may wait", "max_per_client = 0", "max_per_client is 0"),
            ("no failure", "fall = 0", "fall is 0; write at least 1"),
        ] {
            let problems = compile(text).unwrap_err();
            assert!(problems.iter().any(|p| p.contains(want)), "{case}: {problems:?}");
        }
    }

    #[test]
    fn private_clients_may_recurse_and_the_world_may_not() {
        let forward = compile("").unwrap();
        assert_eq!(forward.upstreams().collect::<Vec<_>>(), [&"10.9.9.9:53".parse().unwrap()]);
        for (client, want) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("::ffff:192.168.1.1", true),
            ("fd00::1", true),
            ("8.8.8.8", false),
            ("172.32.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(forward.allows(client.parse().unwrap()), want, "{client}");
        }
    }
}
