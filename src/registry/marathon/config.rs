//! `[registry.NAME.marathon]`: its keys, their defaults and limits.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::zk_url::ZkUrl;
use crate::catalog::stale::WhenStale;
use crate::net::http::Origin;
use crate::registry::defaults::{one_hundred_thousand, sixteen_mebibytes, ten_seconds, yes};
use crate::units::{Period, Size};

/// `[registry.NAME.marathon]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarathonConfig {
    /// URLs of the nodes, or one of ZooKeeper, where the leader is found.
    pub urls: Masters,
    /// Name of the framework, as tasks of it are named in the dialect `mesos` of DNS.
    #[serde(default = "marathon")]
    pub framework: String,
    /// Names below the framework that are told beside Marathon's own, with their addresses: those
    /// of this process as `marathon-lb`, for one.
    #[serde(default)]
    pub advertise: BTreeMap<String, Vec<IpAddr>>,
    /// Whether health checks of apps are what their services ask to be checked, as the meta
    /// `portolan-check`.
    #[serde(default = "yes")]
    pub checks: bool,
    /// User name (RFC 7617).
    pub username: Option<String>,
    /// File with the password of that user, read again for each new stream and each minute.
    pub password_file: Option<PathBuf>,
    /// File with a token, sent as `Authorization: token=…`, read as often.
    pub token_file: Option<PathBuf>,
    /// Who wins for the same instance id in two registries: the higher one.
    #[serde(default)]
    pub priority: i32,
    /// Whether the process is not ready before it was heard once.
    #[serde(default = "yes")]
    pub required: bool,
    /// After so long without contact `when_stale` applies; none: never.
    pub max_stale: Option<Period>,
    /// What happens then.
    #[serde(default)]
    pub when_stale: WhenStale,
    /// PEM file with the authorities to trust, or a directory of such files, instead of those of
    /// the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of our certificate.
    pub key_file: Option<PathBuf>,
    /// Name that the nodes' certificates must bear, when it is not the host of the URL.
    pub server_name: Option<String>,
    /// Whether the nodes' certificates are looked at. Without that, anybody on the way can pose as
    /// Marathon.
    #[serde(default = "yes")]
    pub verify: bool,
    /// Whether the leader that ZooKeeper names is asked over TLS.
    #[serde(default)]
    pub leader_tls: bool,
    /// Time between two reads of everything, ± a fifth: events may get lost.
    #[serde(default = "one_minute")]
    pub resync: Period,
    /// Longest silence of the event stream; Marathon sends something each 10 seconds.
    #[serde(default = "thirty_seconds")]
    pub idle: Period,
    /// Time for a read of everything.
    #[serde(default = "one_minute")]
    pub snapshot_timeout: Period,
    /// Time for the answer about one app.
    #[serde(default = "ten_seconds")]
    pub timeout: Period,
    /// Time for which events are gathered before apps are read.
    #[serde(default = "one_hundred_milliseconds")]
    pub coalesce: Period,
    /// Most apps that are read at once.
    #[serde(default = "four")]
    pub in_flight: usize,
    /// How long after a new stream health results that Marathon lacks are those from before: after a
    /// change of leader it has none until its checks have run.
    #[serde(default = "two_minutes")]
    pub settle: Period,
    /// Longest pause between two tries to follow its events; the first is a quarter of a second at
    /// most.
    #[serde(default = "thirty_seconds")]
    pub backoff_max: Period,
    /// Most redirects that are followed.
    #[serde(default = "three")]
    pub redirects: u8,
    /// Largest event that is read; a larger one has everything read.
    #[serde(default = "one_mebibyte")]
    pub event_max: Size,
    /// Most bytes of one app or pod with its tasks, alone and in a list; a larger one is refused.
    #[serde(default = "sixteen_mebibytes")]
    pub app_max: Size,
    /// Most apps and pods; a list with more is refused as a whole.
    #[serde(default = "one_hundred_thousand")]
    pub apps_max: usize,
    /// Most tasks of all of them; a list with more is refused as a whole.
    #[serde(default = "one_million")]
    pub tasks_max: usize,
    /// Largest list of all apps, or of all pods.
    #[serde(default = "one_gibibyte")]
    pub listing_max: Size,
}

/// Where a Marathon is: its nodes, or the ZooKeeper that knows them.
#[derive(Debug, Clone, PartialEq)]
pub enum Masters {
    /// Nodes, at least one.
    Nodes(Vec<Origin>),
    /// ZooKeeper.
    ZooKeeper(ZkUrl),
}

impl<'de> Deserialize<'de> for Masters {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let urls = Vec::<String>::deserialize(from)?;
        if let Some(zk) = urls.iter().find(|url| url.starts_with("zk://")) {
            if urls.len() > 1 {
                return Err(D::Error::custom(
                    "a zk:// URL stands alone and lists all servers: \
                     [\"zk://h1:2181,h2:2181/marathon\"]",
                ));
            }
            return ZkUrl::parse(zk).map(Self::ZooKeeper).map_err(D::Error::custom);
        }
        if urls.is_empty() {
            return Err(D::Error::custom(
                "no URL is listed; write them like [\"http://m1:8080\", \"http://m2:8080\"]",
            ));
        }
        let nodes = urls.iter().map(|url| Origin::parse(url)).collect::<Result<_, _>>();
        nodes.map(Self::Nodes).map_err(D::Error::custom)
    }
}

fn marathon() -> String {
    "marathon".into()
}

const fn three() -> u8 {
    3
}

const fn four() -> usize {
    4
}

const fn one_hundred_milliseconds() -> Period {
    Period::from_millis(100)
}

const fn thirty_seconds() -> Period {
    Period::from_secs(30)
}

const fn one_minute() -> Period {
    Period::from_secs(60)
}

const fn two_minutes() -> Period {
    Period::from_secs(120)
}

const fn one_mebibyte() -> Size {
    Size(1 << 20)
}

const fn one_million() -> usize {
    1_000_000
}

const fn one_gibibyte() -> Size {
    Size(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_or_one_zookeeper_are_taken_and_anything_else_is_told_with_the_form() {
        for (urls, want) in [
            (r#"["http://a:8080", "https://b"]"#, Ok(2)),
            (r#"["zk://a,b:2182/marathon"]"#, Ok(0)),
            ("[]", Err("no URL is listed")),
            (r#"["zk://a/m", "http://b"]"#, Err("a zk:// URL stands alone")),
            (r#"["a:8080"]"#, Err("neither http:// nor https://")),
            (r#"["http://u:hunter2@a"]"#, Err("user name or password")),
            (r#"["zk://u:hunter2@a/m"]"#, Err("user name or password")),
            (r#"["zk://a"]"#, Err("no path")),
        ] {
            let read: Result<MarathonConfig, _> = toml::from_str(&format!("urls = {urls}"));
            match (read, want) {
                (Ok(config), Ok(count)) => {
                    let nodes = if let Masters::Nodes(all) = config.urls { all.len() } else { 0 };
                    assert_eq!(nodes, count, "{urls}");
                }
                (Err(error), Err(want)) => {
                    let error = error.to_string();
                    assert!(error.contains(want), "{urls}: {error}");
                }
                (read, want) => panic!("{urls}: {read:?}, not {want:?}"),
            }
        }
    }
}
