//! The kinds of checks: each asks one target once, and says what it found.
//!
//! A kind is one file with its configuration and its probe, and one line in the table below;
//! `docs/adding-a-check.md` shows it. When to ask, how often, and what the answers come to is not
//! decided here.

mod answer;
mod asked;
mod connect;
mod exec;
mod grpc;
mod http;
mod mysql;
mod mysql_state;
mod push;
mod secure;
mod status;
mod tcp;
mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::config::{HealthConfig, Unfit};
use super::tracker::{Observation, Rules};
use crate::catalog::model::Address;
use crate::net::proxy_protocol::Version;
use crate::units::Period;

pub use mysql::Role;
pub use secure::TlsConfig;

/// What a probe is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    /// An address with its port: whoever has the same check on it shares the probe.
    Socket(Address, u16),
    /// One instance, for checks that may tell instances of one address apart.
    Instance(Arc<Whom>),
}

/// One instance as a check sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Whom {
    pub(super) service: Arc<str>,
    pub(super) registry: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) address: Address,
    pub(super) port: Option<u16>,
}

impl Target {
    /// Address and port, for probes that connect.
    fn socket(&self) -> Result<(&Address, u16), Observation> {
        match self {
            Self::Socket(address, port) => Ok((address, *port)),
            Self::Instance(_) => Err(Observation::failed("there is no address to connect to")),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(Address::Ip(ip), port) => std::net::SocketAddr::new(*ip, *port).fmt(f),
            Self::Socket(Address::Name(name), port) => write!(f, "{name}:{port}"),
            Self::Instance(whom) => f.write_str(&whom.id),
        }
    }
}

/// What the keys say that every kind has; what is not said comes from `[health]`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Common {
    pub(super) port: Option<u16>,
    pub(super) interval: Option<Period>,
    pub(super) fast_interval: Option<Period>,
    pub(super) timeout: Option<Period>,
    pub(super) rise: Option<u32>,
    pub(super) fall: Option<u32>,
}

/// How often a target is asked, and how many answers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Times {
    pub(super) interval: Duration,
    pub(super) fast_interval: Duration,
    pub(super) timeout: Duration,
    pub(super) rules: Rules,
}

/// How a target is found out about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// It is connected to: the same address is asked once for all who want to know.
    Connect,
    /// A command is run for each instance.
    Command,
    /// It says so itself, at least this often.
    Push(Duration),
}

/// The keys that every kind has; [`check_config`] adds them, and this.
trait Keys {
    /// What they say.
    fn common(&self) -> Common;
}

/// What a kind's configuration must be able to do.
trait Kind: Keys {
    /// What asks a target.
    type Probe: Ask;

    /// What stands in the table, in the form that is needed to ask; relative paths begin at
    /// `base_dir`.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    fn compile(&self, base_dir: &Path) -> Result<Self::Probe, (&'static str, String)>;

    /// The file with authorities that it names.
    fn ca_file(&self) -> Option<&Path> {
        None
    }

    /// How a target is found out about.
    fn manner(&self) -> Manner {
        Manner::Connect
    }

    /// Whether only one instance of a service may pass: the candidate of the lowest rank.
    fn elects(&self) -> Option<Election> {
        None
    }
}

/// How the one of a service is chosen among the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Election {
    /// What the chosen one is, in words.
    pub(super) office: &'static str,
    /// Whether a candidate of a lower rank takes over from one that is well.
    pub(super) failback: bool,
}

/// Asks one target once.
trait Ask: std::fmt::Debug + Send + Sync {
    /// What `target` says. Whoever calls it sets the time limit and may drop it at any moment; it
    /// reads no more than a bounded number of bytes.
    fn ask(&self, target: &Target, limit: Duration) -> impl Future<Output = Observation> + Send;
}

/// Adds the keys that every kind has to the configuration of one.
macro_rules! check_config {
    ($(#[$doc:meta])* pub struct Config { $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            $($(#[$field_doc])* pub $field: $type,)*
            /// The port to ask, in place of the instance's first.
            pub port: Option<u16>,
            /// Time from one start to the next.
            pub interval: Option<crate::units::Period>,
            /// The same while the health is about to change.
            pub fast_interval: Option<crate::units::Period>,
            /// Longest time for one answer.
            pub timeout: Option<crate::units::Period>,
            /// Successes in a row that make a failed instance healthy.
            pub rise: Option<u32>,
            /// Failures in a row that make a healthy instance fail.
            pub fall: Option<u32>,
        }

        impl $crate::health::check::Keys for Config {
            fn common(&self) -> $crate::health::check::Common {
                $crate::health::check::Common {
                    port: self.port,
                    interval: self.interval,
                    fast_interval: self.fast_interval,
                    timeout: self.timeout,
                    rise: self.rise,
                    fall: self.fall,
                }
            }
        }
    };
}
use check_config;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $name:ident,)+) => {
        /// `[service.NAME] check.KIND`: all that are given must pass.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct ChecksConfig { $($(#[$doc])* pub $kind: Option<$kind::Config>,)+ }

        /// What a check is: equal ones are one check, over services and over reloads.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Spec { $($name($kind::Config),)+ }

        #[derive(Debug)]
        enum Probe { $($name(<$kind::Config as Kind>::Probe),)+ }

        /// The words of all kinds.
        pub(super) const KINDS: &[&str] = &[$(stringify!($kind)),+];

        impl ChecksConfig {
            /// Whether nothing is checked.
            #[must_use]
            pub const fn is_empty(&self) -> bool {
                true $(&& self.$kind.is_none())+
            }

            /// Every check of the table, compiled; each problem at its key below `check`.
            pub(super) fn compile(
                &self,
                health: &HealthConfig,
                base_dir: &Path,
                announces: Option<Version>,
                problems: &mut Vec<Unfit>,
            ) -> Vec<Check> {
                let mut checks = Vec::new();
                $(if let Some(config) = &self.$kind {
                    let word = stringify!($kind);
                    let times = times(word, config.common(), health, problems);
                    let authorities = config.ca_file().map(|file| base_dir.join(file));
                    let material = authorities.and_then(|file| std::fs::read(file).ok());
                    let material = material.map(|content| crc32fast::hash(&content));
                    match config.compile(base_dir) {
                        Ok(probe) => checks.push(Check {
                            kind: word,
                            key: Arc::new((
                                Spec::$name(config.clone()),
                                times,
                                material,
                                announced(config.common(), announces),
                            )),
                            times,
                            port: config.common().port,
                            manner: config.manner(),
                            elects: config.elects(),
                            probe: Probe::$name(probe),
                        }),
                        Err((key, message)) => problems.push(Unfit::below(word, key, &message)),
                    }
                })+
                checks
            }
        }

        impl Check {
            /// Asks `target` once, for no longer than the timeout.
            pub(super) async fn ask(&self, target: &Target) -> Asked {
                let limit = self.times.timeout;
                let asked = async {
                    match &self.probe { $(Probe::$name(probe) => probe.ask(target, limit).await,)+ }
                };
                let asked = connect::announcing(self.key.3, asked);
                match tokio::time::timeout(limit, Box::pin(asked)).await {
                    Ok(seen) => Asked { seen, in_time: true },
                    Err(_) => {
                        let limit = Period(limit);
                        let text = format!("no answer within {limit}");
                        Asked { seen: Observation::failed(&text), in_time: false }
                    }
                }
            }
        }
    };
}

kinds! {
    /// Connects.
    tcp: Tcp,
    /// Connects and shakes hands.
    tls: Tls,
    /// Asks for a page.
    http: Http,
    /// Asks the gRPC health service.
    grpc: Grpc,
    /// Runs a command.
    exec: Exec,
    /// Waits to be told.
    push: Push,
    /// Asks a MariaDB or MySQL server for its state.
    mysql: Mysql,
}

/// What makes a check this one and no other: equal ones are one.
///
/// Besides the settings that is what stands in the file of authorities, by its checksum: another
/// content makes another check at the next reload. And the header of the PROXY protocol that its
/// connections begin with.
pub(super) type Identity = Arc<(Spec, Times, Option<u32>, Option<Version>)>;

/// The header of a check of endpoints that want one: a port of its own is another door.
fn announced(own: Common, announces: Option<Version>) -> Option<Version> {
    announces.filter(|_| own.port.is_none())
}

/// A check as it is configured, ready to ask.
#[derive(Debug)]
pub(super) struct Check {
    /// Its word in the configuration.
    pub(super) kind: &'static str,
    pub(super) key: Identity,
    pub(super) times: Times,
    pub(super) port: Option<u16>,
    pub(super) manner: Manner,
    pub(super) elects: Option<Election>,
    probe: Probe,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) seen: Observation,
    /// False: the time limit ended it.
    pub(super) in_time: bool,
}

/// The times of a check: its own, else those of `[health]`.
fn times(kind: &str, own: Common, health: &HealthConfig, problems: &mut Vec<Unfit>) -> Times {
    let interval = own.interval.unwrap_or(health.interval).0;
    let fast = own.fast_interval.or(health.fast_interval).map_or(interval, |fast| fast.0);
    let times = Times {
        interval,
        fast_interval: fast.min(interval),
        timeout: own.timeout.unwrap_or(health.timeout).0,
        rules: Rules {
            rise: own.rise.unwrap_or(health.rise),
            fall: own.fall.unwrap_or(health.fall),
        },
    };
    for (key, value) in
        [("interval", own.interval), ("fast_interval", own.fast_interval), ("timeout", own.timeout)]
    {
        if let Some(message) = value.and_then(too_short) {
            problems.push(Unfit::below(kind, key, &message));
        }
    }
    for (key, value) in [("rise", own.rise), ("fall", own.fall)] {
        if value == Some(0) {
            problems.push(Unfit::below(kind, key, "0 would decide nothing; at least 1"));
        }
    }
    if own.port == Some(0) {
        problems.push(Unfit::below(kind, "port", "port 0 is not between 1 and 65535"));
    }
    times
}

/// Why a period is refused: below a hundredth of a second a check is an attack.
pub(super) fn too_short(period: Period) -> Option<String> {
    (period.0 < Duration::from_millis(10))
        .then(|| format!("\"{period}\" is too short; at least \"10ms\""))
}
