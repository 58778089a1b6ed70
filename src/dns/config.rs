//! The `[dns]` table as users write it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::forward::ForwardConfig;
use crate::units::{Period, Share};

/// `[dns]`: where questions are taken, which zones are answered, and who may ask for the rest.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// Addresses for UDP and TCP alike.
    pub listen: Vec<SocketAddr>,
    /// Zones by their domain.
    #[serde(default)]
    pub zone: BTreeMap<String, ZoneConfig>,
    /// What clients of some networks see besides, by a name of the operator's choice.
    #[serde(default)]
    pub view: BTreeMap<String, ViewConfig>,
    /// What happens to names outside the zones; without it they are REFUSED.
    pub forward: Option<ForwardConfig>,
    /// Most TCP connections at a time; one more is closed at once. Default: 1000.
    #[serde(default = "tcp_max_connections")]
    pub tcp_max_connections: usize,
    /// Of those, most from one address. Default: 100.
    #[serde(default = "tcp_max_per_client")]
    pub tcp_max_per_client: usize,
    /// Questions of one TCP connection that wait for upstreams at a time; beyond it SERVFAIL.
    /// Default: 32.
    #[serde(default = "tcp_pipeline")]
    pub tcp_pipeline: usize,
    /// How long a TCP connection may be idle, a message may take to arrive, and a reply may take
    /// to be read. Default: 10 s.
    #[serde(default = "tcp_idle")]
    pub tcp_idle: Period,
    /// Largest reply by UDP in bytes, 512 to 4096. Default: 1232, which passes unfragmented
    /// (RFC 9715).
    #[serde(default = "udp_payload_max")]
    pub udp_payload_max: u16,
    /// Threads for UDP on each address of `listen`. Default: one per core.
    pub express_workers: Option<u16>,
    /// Questions by UDP that may wait for the full lane, which forwards; beyond it SERVFAIL.
    /// Default: 1024.
    #[serde(default = "express_queue")]
    pub express_queue: usize,
    /// How long questions by UDP may gather while many come, so that a thread wakes once for
    /// several; less than 1 ms; 0: never. Default: 250 µs.
    #[serde(default = "gather")]
    pub gather: Period,
    /// Whether cookies are given and honoured (RFC 7873). Default: true.
    #[serde(default = "cookies")]
    pub cookies: bool,
    /// File with the secrets of cookies, for servers that share an address: 32 hexadecimal digits
    /// a line, the one in force first. Without it the process makes its own and changes them.
    pub cookie_secret_file: Option<PathBuf>,
    /// Replies by UDP to one network (/24, /64) in a second, of each kind; 0: no limit. Default:
    /// 200.
    #[serde(default = "rate_limit")]
    pub rate_limit: u32,
    /// Of the replies beyond the limit, one in so many is sent short and with TC, so that an honest
    /// client comes by TCP; 0: none. Default: 2.
    #[serde(default = "rate_limit_slip")]
    pub rate_limit_slip: u32,
    /// Networks without a limit, as in `[dns.forward] allow`; loopback never has one. Default:
    /// `"private"`.
    #[serde(default = "private")]
    pub rate_limit_exempt: Vec<String>,
    /// One in so many queries by UDP is logged; 0: none. Default: 0.
    #[serde(default)]
    pub query_log_sample: u32,
}

/// `[dns.zone.NAME]`: how the services show below one domain.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// Naming scheme: `plain` (default), `consul`, `mesos`, `rancher`, `kubernetes` or `skydns`.
    #[serde(default = "dialect")]
    pub dialect: String,
    /// Registries whose instances show; default: all.
    pub registries: Option<Vec<String>>,
    /// How long answers may be kept. Default: that of the dialect.
    pub ttl: Option<Period>,
    /// How long the addresses of nodes may be kept, in `consul`. Default: `ttl`.
    pub node_ttl: Option<Period>,
    /// How long answers may be kept, by service or by `beginning*` of its name.
    #[serde(default)]
    pub service_ttl: BTreeMap<String, Period>,
    /// How long the news that a name does not exist may be kept (RFC 2308 §5). Default: that of
    /// the dialect.
    pub negative_ttl: Option<Period>,
    /// How a service without an eligible instance is spelled. Default: `nxdomain`.
    #[serde(default)]
    pub when_empty: WhenEmpty,
    /// Who may ask, as in `[dns.forward] allow`; all others are REFUSED. Default: everybody.
    pub allow: Option<Vec<String>>,
    /// Name of the datacenter in the `consul` dialect. Default: `dc1`.
    pub datacenter: Option<String>,
    /// Environment of services that tell none, in `rancher`.
    pub environment: Option<String>,
    /// Namespace of services that tell none, in `kubernetes`.
    pub namespace: Option<String>,
    /// Framework of services that tell none, in `mesos`.
    pub framework: Option<String>,
    /// Other domains under which the same names stand.
    pub alternatives: Option<Vec<String>>,
    /// Whether clients whose environment is known see that one and those it is linked with only.
    #[serde(default)]
    pub isolate: bool,
    /// Whether a reply by UDP from which something was left out says so (TC). Default: true.
    #[serde(default = "yes")]
    pub truncate: bool,
    /// Most A or AAAA records in an answer. Default: no limit but the size.
    pub a_record_limit: Option<usize>,
    /// Most records in an answer by UDP to a client without EDNS. Default: no limit but the size.
    pub udp_answer_limit: Option<usize>,
    /// What is done with instances near to the client. Default: `first`.
    #[serde(default)]
    pub near: Near,
    /// Share of the instances of a locality that have to be eligible, or else the others are as
    /// near. Default: half of them.
    #[serde(default = "half")]
    pub near_min: Share,
    /// Records that stand there whatever the registries say, by name: `@` is the domain itself.
    #[serde(default)]
    pub records: BTreeMap<String, Vec<String>>,
    /// Address where the HTTP API of Mesos-DNS answers for this zone, in `mesos`.
    pub http_listen: Option<SocketAddr>,
}

/// `[dns.view.NAME]`: what the clients of some networks see besides the zones.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Whose view it is. Of several that hold a client the narrowest counts.
    pub networks: Vec<IpNet>,
    /// Records by whole name; they come before those of the zones.
    #[serde(default)]
    pub records: BTreeMap<String, Vec<String>>,
    /// How long they may be kept. Default: `0s`.
    #[serde(default = "ttl")]
    pub ttl: Period,
    /// The search list that these clients have: what they ask for below one of these domains and
    /// is not there is looked for further down the list. Default: none.
    #[serde(default)]
    pub search: Vec<String>,
}

/// What is done with instances that are near to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Near {
    /// They come first.
    #[default]
    First,
    /// The others are left out.
    Only,
    /// Nothing.
    Off,
}

/// What the name of a service says while none of its instances is eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// There is no such name.
    #[default]
    Nxdomain,
    /// The name exists and has nothing to show.
    Nodata,
}

impl Default for DnsConfig {
    /// No socket and no zone; every limit as it is when it is not written.
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            zone: BTreeMap::new(),
            view: BTreeMap::new(),
            forward: None,
            tcp_max_connections: tcp_max_connections(),
            tcp_max_per_client: tcp_max_per_client(),
            tcp_pipeline: tcp_pipeline(),
            tcp_idle: tcp_idle(),
            udp_payload_max: udp_payload_max(),
            express_workers: None,
            gather: gather(),
            express_queue: express_queue(),
            cookies: cookies(),
            cookie_secret_file: None,
            rate_limit: rate_limit(),
            rate_limit_slip: rate_limit_slip(),
            rate_limit_exempt: private(),
            query_log_sample: 0,
        }
    }
}

const fn tcp_max_connections() -> usize {
    1000
}

const fn tcp_max_per_client() -> usize {
    100
}

const fn tcp_pipeline() -> usize {
    32
}

const fn gather() -> Period {
    Period(std::time::Duration::from_micros(250))
}

const fn express_queue() -> usize {
    1024
}

const fn cookies() -> bool {
    true
}

const fn rate_limit() -> u32 {
    200
}

const fn rate_limit_slip() -> u32 {
    2
}

const fn tcp_idle() -> Period {
    Period::from_secs(10)
}

const fn udp_payload_max() -> u16 {
    1232
}

fn dialect() -> String {
    "plain".to_owned()
}

const fn ttl() -> Period {
    Period::from_secs(0)
}

const fn yes() -> bool {
    true
}

const fn half() -> Share {
    Share(0.5)
}

fn private() -> Vec<String> {
    vec!["private".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_without_keys_has_the_stated_defaults() {
        let config: DnsConfig =
            toml::from_str("listen = [\"127.0.0.1:5300\"]\n[zone.consul]\n[forward]").unwrap();
        let zone = &config.zone["consul"];
        assert_eq!(zone.dialect, "plain");
        assert_eq!((zone.ttl, zone.negative_ttl), (None, None), "the dialect says");
        assert_eq!(zone.when_empty, WhenEmpty::Nxdomain);
        assert_eq!(config.udp_payload_max, 1232);
        assert_eq!(config.forward.unwrap().upstreams, ["system"]);
    }

    #[test]
    fn unknown_keys_are_refused_in_every_table() {
        for (case, text) in [
            ("dns", "listen = []\nnope = 1"),
            ("zone", "listen = []\n[zone.a]\nnope = 1"),
            ("forward", "listen = []\n[forward]\nnope = 1"),
            ("a forwarded zone", "listen = []\n[forward.zone.a]\nupstreams = []\nnope = 1"),
        ] {
            let error = toml::from_str::<DnsConfig>(text).unwrap_err().to_string();
            assert!(error.contains("nope"), "{case}: {error}");
        }
    }
}
