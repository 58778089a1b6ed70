//! What the configuration says about names and limits, and the words that every instance bears.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::health;
use crate::catalog::wish;

/// How names are made, and how much there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct Naming {
    /// What the framework is called, in names of the dialect `mesos`.
    pub(in crate::registry) framework: Arc<str>,
    /// Names below the framework that are told beside Marathon's own, with their addresses.
    pub(in crate::registry) advertise: BTreeMap<String, Vec<IpAddr>>,
    /// Whether the health checks of apps are what their services ask to be checked.
    pub(in crate::registry) checks: bool,
    /// Most bytes of one app or pod, with its tasks.
    pub(in crate::registry) app_max: usize,
    /// Most apps and pods.
    pub(in crate::registry) apps_max: usize,
    /// Most tasks.
    pub(in crate::registry) tasks_max: usize,
}

impl Naming {
    /// Names of `framework`; nothing beside them; health checks are asked for; 1 MiB for an app, 100,000 apps, 1,000,000 tasks.
    pub(in crate::registry) fn new(framework: &str) -> Self {
        Self {
            framework: framework.into(),
            advertise: BTreeMap::new(),
            checks: true,
            app_max: 1 << 20,
            apps_max: 100_000,
            tasks_max: 1_000_000,
        }
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $word:ident = $text:expr,)+) => {
        /// Texts that many instances share, each allocated once.
        #[derive(Debug)]
        pub(super) struct Words { $($(#[$doc])* pub(super) $word: Arc<str>,)+ }

        impl Words {
            pub(super) fn new() -> Self {
                Self { $($word: $text.into(),)+ }
            }
        }
    };
}

words! {
    nothing = "",
    passes = health::PASSES,
    fails = health::FAILS,
    no_result = health::NO_RESULT,
    kept_up = health::KEPT_UP,
    kept_down = health::KEPT_DOWN,
    not_ready = health::NOT_READY,
    app = "marathon.app",
    kind = "marathon.kind",
    version = "marathon.version",
    host = "marathon.host",
    ports = "marathon.ports",
    service_ports = "marathon.service-ports",
    port_names = "marathon.port-names",
    protocols = "marathon.protocols",
    http_checks = "marathon.http-checks",
    check = wish::CHECK,
    agent_id = "mesos.agent_id",
    framework = "mesos.framework",
    host_ports = "mesos.host_ports",
    mesos_kind = "mesos.kind",
    kind_app = "app",
    kind_pod = "pod",
    kind_group = "group",
    kind_master = "master",
    kind_framework = "framework",
    leader = "leader",
}
