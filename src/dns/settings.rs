//! The `[dns]` table once it is checked: names parsed, dialects found, upstreams known.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::config::DnsConfig;
use super::forward::settings::{ForwardSettings, RESOLV_CONF};
use super::limits::Limits;
use super::node::{Mark, Record};
use super::stated::record;
use super::wire::{self, Name};
pub use super::zone_settings::ZoneSettings;
use super::zone_settings::check_zone;
use crate::catalog::locality::Localities;
use crate::catalog::networks::Networks;

/// Most configured views.
const VIEWS_MAX: usize = 10_000;
/// Most domains of a search list: as many as stub resolvers use.
const SEARCH_MAX: usize = 32;

/// A checked `[dns]` table. Never changes; a reload makes another one.
#[derive(Debug, Default)]
pub struct Settings {
    /// Name of this node, as NSID tells it.
    pub node: Arc<str>,
    /// Addresses that are listened on.
    pub listen: Vec<SocketAddr>,
    /// Zones, by their domain in the configuration.
    pub zones: Vec<ZoneSettings>,
    /// Who is where.
    pub localities: Arc<Localities>,
    /// The configured view of each network's clients.
    pub views: Networks<u16>,
    /// The label of each configured view, as a name.
    pub view_names: Vec<Name>,
    /// What stands in the configured views.
    pub view_records: Vec<(Name, Record)>,
    /// The search list of each configured view's clients.
    pub view_search: Vec<Box<[Name]>>,
    /// Set when names outside the zones are forwarded.
    pub forward: Option<Arc<ForwardSettings>>,
    /// Most TCP connections at a time.
    pub tcp_max_connections: usize,
    /// Of those, most from one address.
    pub tcp_max_per_client: usize,
    /// Most questions of one TCP connection that wait for upstreams.
    pub tcp_pipeline: usize,
    /// Patience with a TCP connection.
    pub tcp_idle: Duration,
    /// Largest reply by UDP, in bytes.
    pub udp_payload_max: u16,
    /// Cookies and rates.
    pub limits: Limits,
    /// Questions that may wait for the full lane.
    pub express_queue: usize,
    /// One in so many queries by UDP is logged; 0: none.
    pub query_log_sample: u32,
    /// How long questions by UDP may gather while many come.
    pub gather: Duration,
}

pub(super) fn holds(networks: &[IpNet], client: IpAddr) -> bool {
    let client = client.to_canonical();
    networks.iter().any(|network| network.contains(&client))
}

/// A part of the `[dns]` table that can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Where it stands below `[dns]`: `["zone", "consul", "ttl"]`.
    pub path: Vec<String>,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Unfit {
    pub(super) fn new(path: &[&str], message: impl Into<String>) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        Self { path, message: message.into() }
    }
}

impl Settings {
    /// The search list that `client` has, as far as that is told.
    #[must_use]
    pub fn search_of(&self, client: IpAddr) -> &[Name] {
        let view = self.views.of(client);
        view.and_then(|view| self.view_search.get(usize::from(view))).map_or(&[], |list| list)
    }

    /// Whether the name `key` may stem from the search list of `client`.
    pub(super) fn searches(&self, client: IpAddr, key: &[u8]) -> bool {
        let mut list = self.search_of(client).iter();
        list.any(|domain| wire::ends_with_labels(key, domain.wire()))
    }

    /// Checks `config` for the node called `node`. Reads `/etc/resolv.conf` when an upstream is
    /// `"system"`.
    ///
    /// # Errors
    /// All problems at once, each with its key, its value and what to write instead.
    pub fn compile(config: &DnsConfig, node: &str) -> Result<Self, Vec<Unfit>> {
        Self::compile_in(config, node, Path::new(""), &Arc::default())
    }

    /// As [`Settings::compile`], with paths relative to `base_dir`, and with the places of clients
    /// and instances.
    ///
    /// # Errors
    /// As there.
    pub fn compile_in(
        config: &DnsConfig,
        node: &str,
        base_dir: &Path,
        localities: &Arc<Localities>,
    ) -> Result<Self, Vec<Unfit>> {
        Self::compile_with(config, node, (base_dir, localities), || {
            std::fs::read(RESOLV_CONF)
                .map_err(|error| format!("cannot read {RESOLV_CONF}: {error}"))
        })
    }

    fn compile_with(
        config: &DnsConfig,
        node: &str,
        (base_dir, localities): (&Path, &Arc<Localities>),
        resolv_conf: impl Fn() -> Result<Vec<u8>, String>,
    ) -> Result<Self, Vec<Unfit>> {
        let mut problems = Vec::new();
        let mut zones: Vec<ZoneSettings> = Vec::new();
        for (name, zone) in &config.zone {
            match check_zone(name, zone, localities) {
                Ok(checked) => zones.extend(checked),
                Err(found) => problems.extend(found),
            }
        }
        // What a dialect adds of itself gives way to what is written.
        let written: Vec<Name> = config.zone.keys().filter_map(|n| Name::parse(n).ok()).collect();
        zones.retain(|zone| {
            !zone.alternative || !zone.dialect.is_usual(&zone.apex) || !written.contains(&zone.apex)
        });
        for (index, zone) in zones.iter().enumerate() {
            if zones[..index].iter().any(|known| known.apex == zone.apex) {
                let message = format!(
                    "the domain {} is there twice, as a zone or in `alternatives`; remove one",
                    zone.apex
                );
                problems.push(Unfit::new(&["zone"], message));
            }
        }
        let mut views = Networks::default();
        let (mut view_names, mut view_records) = (Vec::new(), Vec::new());
        let mut view_search: Vec<Box<[Name]>> = Vec::new();
        if config.view.len() > VIEWS_MAX {
            let message = format!("[dns.view] has more than {VIEWS_MAX} views");
            problems.push(Unfit::new(&["view"], message));
        }
        for (number, (name, view)) in config.view.iter().take(VIEWS_MAX).enumerate() {
            // No client has an address or an identity of this length.
            let label = Name::label(format!("view {number:08}").as_bytes());
            for network in &view.networks {
                if views.insert(*network, number as u16).is_some() {
                    let message = format!(
                        "[dns.view.{name}] networks: {network} belongs to another view too"
                    );
                    problems.push(Unfit::new(&["view", name, "networks"], message));
                }
            }
            for (owner, texts) in &view.records {
                for text in texts {
                    let read = Name::parse(owner)
                        .and_then(|owner| Ok((owner.onto(&label)?, record(text)?)));
                    match read {
                        Ok((owner, data)) => {
                            let mark = Mark { ttl: view.ttl.0.as_secs() as u32, ..Mark::default() };
                            view_records.push((owner, Record { data, mark }));
                        }
                        Err(error) => {
                            let message = format!("[dns.view.{name}] records: {error}");
                            problems.push(Unfit::new(&["view", name, "records"], message));
                        }
                    }
                }
            }
            view_names.push(label);
            let search = view.search.iter().filter_map(|domain| {
                let told = |error| {
                    let message = format!("[dns.view.{name}] search: {error}");
                    problems.push(Unfit::new(&["view", name, "search"], message));
                };
                Name::parse(domain).map_err(told).ok()
            });
            view_search.push(search.collect());
            if view.search.len() > SEARCH_MAX {
                let message =
                    format!("[dns.view.{name}] search has more than {SEARCH_MAX} domains");
                problems.push(Unfit::new(&["view", name, "search"], message));
            }
        }
        if !(512..=4096).contains(&config.udp_payload_max) {
            let message = format!(
                "[dns] udp_payload_max = {} is not between 512 and 4096; 1232 suits most networks",
                config.udp_payload_max
            );
            problems.push(Unfit::new(&["udp_payload_max"], message));
        }
        if config.gather.0 >= Duration::from_millis(1) {
            let message = format!(
                "[dns] gather = \"{}\" is not below \"1ms\"; \"250us\" suits most",
                config.gather
            );
            problems.push(Unfit::new(&["gather"], message));
        }
        if config.tcp_idle.0.is_zero() {
            let message = "[dns] tcp_idle is zero; write at least \"1s\"";
            problems.push(Unfit::new(&["tcp_idle"], message));
        }
        for (key, value) in [
            ("tcp_max_per_client", config.tcp_max_per_client),
            ("tcp_pipeline", config.tcp_pipeline),
            ("express_queue", config.express_queue),
            ("express_workers", config.express_workers.map_or(1, usize::from)),
        ] {
            if value == 0 {
                let message = format!("[dns] {key} is 0; write at least 1, or leave it out");
                problems.push(Unfit::new(&[key], message));
            }
        }
        let limits = Limits::compile(config, base_dir).unwrap_or_else(|found| {
            problems.extend(
                found.into_iter().map(|(key, told)| Unfit::new(&[key], format!("[dns] {told}"))),
            );
            Limits::default()
        });
        let forward = config.forward.as_ref().and_then(|forward| {
            let own: Vec<Name> = zones.iter().map(|zone| zone.apex.clone()).collect();
            ForwardSettings::compile(forward, &own, &config.listen, &resolv_conf)
                .map_err(|found| problems.extend(found))
                .ok()
                .map(Arc::new)
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            node: Arc::from(node),
            listen: config.listen.clone(),
            zones,
            localities: Arc::clone(localities),
            views,
            view_names,
            view_records,
            view_search,
            forward,
            tcp_max_connections: config.tcp_max_connections,
            tcp_max_per_client: config.tcp_max_per_client,
            tcp_pipeline: config.tcp_pipeline,
            tcp_idle: config.tcp_idle.0,
            udp_payload_max: config.udp_payload_max,
            limits,
            express_queue: config.express_queue,
            query_log_sample: config.query_log_sample,
            gather: config.gather.0,
        })
    }
}

/// Whether what is sent to `addr` comes in at `listen`, as far as the two addresses tell.
#[must_use]
pub fn is_own(addr: SocketAddr, listen: SocketAddr) -> bool {
    let wildcard =
        listen.ip().is_unspecified() && (addr.ip().is_loopback() || addr.ip().is_unspecified());
    addr.port() == listen.port() && (addr.ip() == listen.ip() || wildcard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Settings, Vec<String>> {
        let config: DnsConfig = toml::from_str(text).unwrap();
        let around = (Path::new(""), &Arc::default());
        Settings::compile_with(&config, "edge-1", around, || Ok(b"nameserver 10.9.9.9\n".to_vec()))
            .map_err(|problems| problems.into_iter().map(|unfit| unfit.message).collect())
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_place() {
        let problems = compile(
            "listen = [\"0.0.0.0:53\"]\nudp_payload_max = 100\n\
             [zone.\"a..b\"]\n[zone.c]\ndialect = \"konsul\"\n[zone.d]\nttl = \"1500ms\"\n\
             datacenter = \"dc1\"\n\
             [forward]\nupstreams = [\"tls://1.1.1.1\", \"127.0.0.1:53\"]\nallow = [\"world\"]",
        )
        .unwrap_err();
        for want in [
            "[dns.zone.\"a..b\"] is no domain",
            "did you mean \"consul\"",
            "[dns.zone.\"d\"] ttl is not a whole number of seconds",
            "[dns.zone.\"d\"] datacenter = \"dc1\": the dialect \"plain\" has none",
            "udp_payload_max = 100",
            "\"tls://1.1.1.1\" is neither",
            "questions would go round",
            "\"world\" is no network",
        ] {
            assert!(problems.iter().any(|p| p.contains(want)), "{want} not in {problems:#?}");
        }
        assert_eq!(problems.len(), 8, "{problems:#?}");
    }

    #[test]
    fn the_upstreams_of_the_system_are_those_of_its_resolv_conf() {
        let forward = compile("listen = []\n[forward]").unwrap().forward.unwrap();
        assert_eq!(forward.upstreams().collect::<Vec<_>>(), [&"10.9.9.9:53".parse().unwrap()]);
    }
}
