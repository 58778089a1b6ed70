//! The tables of a configuration, each decoded by the struct of its room.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::confd::Installed;
use super::document::{Document, Problem};
use super::process::ProcessConfig;
use super::shown::Shown;
use crate::api::AdminConfig;
use crate::api::OperationsConfig;
use crate::api::haproxy::HaproxyConfig;
use crate::api::metadata::MetadataConfig;
use crate::catalog::guard::GuardConfig;
use crate::catalog::health::WhenNoneHealthy;
use crate::catalog::locality::LocalityConfig;
use crate::dns::DnsConfig;
use crate::health::{ChecksConfig, HealthConfig, OnFailureConfig, OutlierConfig};
use crate::migrate::confd::ConfdConfig;
use crate::net::proxy_protocol::Version;
use crate::net::tls::CertificateConfig;
use crate::proxy::config::{
    AccessLogConfig, OnUnhealthy, QueueConfig, RetryConfig, ServiceBalance, ServiceTlsConfig,
    StickyTable, UpstreamH2Config, UpstreamProtocol,
};
use crate::proxy::labels::LabelsConfig;
use crate::proxy::{ListenerConfig, RouteConfig};
use crate::registry::RegistryConfig;
use crate::render::{ExecConfig, GroupConfig, ResourceConfig};
use crate::units::{Period, Share, Size};

/// A whole configuration, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where relative paths begin: the directory of the file.
    pub base_dir: PathBuf,
    /// `[node]`.
    pub node: NodeConfig,
    /// `[process]`.
    pub process: ProcessConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[registry.NAME]`, by name.
    pub registries: BTreeMap<String, RegistryConfig>,
    /// `[guard]`.
    pub guard: GuardConfig,
    /// `[locality.NAME]`, by name.
    pub localities: BTreeMap<String, LocalityConfig>,
    /// `[health]`.
    pub health: HealthConfig,
    /// `[service.NAME]`, by name.
    pub services: BTreeMap<String, ServiceConfig>,
    /// `[dns]`.
    pub dns: Option<DnsConfig>,
    /// `[certificate.NAME]`, by name.
    pub certificates: BTreeMap<String, CertificateConfig>,
    /// `[listener.NAME]`, by name.
    pub listeners: BTreeMap<String, ListenerConfig>,
    /// `[route.NAME]`, by name.
    pub routes: BTreeMap<String, RouteConfig>,
    /// `[access_log]`.
    pub access_log: Option<AccessLogConfig>,
    /// `[labels]`.
    pub labels: LabelsConfig,
    /// `[template.NAME]`, by name.
    pub templates: BTreeMap<String, ResourceConfig>,
    /// `[group.NAME]`, by name.
    pub groups: BTreeMap<String, GroupConfig>,
    /// `[confd]`; its templates and registries stand among the others.
    pub confd: Option<ConfdConfig>,
    /// What became of the installation that it names.
    pub installed: Installed,
    /// `[exec]`.
    pub exec: Option<ExecConfig>,
    /// `[metadata]`.
    pub metadata: Option<MetadataConfig>,
    /// `[haproxy]`.
    pub haproxy: Option<HaproxyConfig>,
    /// `[admin]`.
    pub admin: Option<AdminConfig>,
    /// `[operations]`.
    pub operations: OperationsConfig,
    /// `[sticky]`.
    pub sticky: StickyTable,
    /// All of it as it may be shown: without secrets.
    pub shown: Shown,
}

/// `[node]`: this process among others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Its name, in the status and in DNS (NSID). Default: the host name.
    pub name: Option<String>,
    /// Where the last good state is kept; without it, nothing survives a restart.
    pub data_dir: Option<PathBuf>,
    /// Where it is: clients of whom no `[locality.NAME]` tells count as there.
    pub locality: Option<String>,
    /// Threads that carry requests and connections. Default: one per core.
    pub workers: Option<u8>,
}

/// `[limits]`: what belongs to no single room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Open client connections over all listeners; beyond it a new one is closed at once.
    pub connections: usize,
    /// HTTP requests that run at once; beyond it 503. None: as many as come.
    pub requests: Option<usize>,
    /// Memory in use; beyond it 503 to new requests until it is below 95 % of it. None: no limit.
    pub memory: Option<Size>,
    /// Idle connections to endpoints that each worker keeps.
    pub idle_endpoint_connections: usize,
    /// How long the process says that it is not ready before a drain begins.
    pub notice: Period,
    /// How long a drain waits for what runs before it is cut.
    pub drain: Period,
    /// Routes that have metrics of their own; the others are counted as `(other)`.
    pub metric_routes: usize,
    /// Pipes through which the kernel moves bytes of TCP connections, two descriptors each; beyond
    /// them bytes are copied. 0: always.
    pub pipes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            requests: None,
            memory: None,
            idle_endpoint_connections: 1024,
            notice: Period::from_secs(0),
            drain: Period::from_secs(30),
            metric_routes: 1000,
            pipes: 256,
        }
    }
}

/// `[service.NAME]`: what the registries do not say.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// How endpoints are picked.
    pub policy: Option<String>,
    /// What maglev and ring-hash go by.
    pub hash_on: Option<String>,
    /// How long a new endpoint takes to its full share.
    pub slow_start: Option<Period>,
    /// Work that runs at one endpoint at once.
    pub max_connections: Option<u32>,
    /// Who waits while every endpoint is full.
    pub queue: QueueConfig,
    /// Idle connections to its endpoints that each worker keeps.
    pub keep_alive: Option<u32>,
    /// Share of the near endpoints that must be eligible for all work to stay near.
    pub near: Option<Share>,
    /// How requests are sent again.
    pub retries: RetryConfig,
    /// How long what runs at an instance that leaves may go on.
    pub drain: Option<Period>,
    /// What is spoken with its endpoints.
    pub protocol: UpstreamProtocol,
    /// TLS towards its endpoints.
    pub tls: Option<ServiceTlsConfig>,
    /// Limits of HTTP/2 connections to its endpoints.
    pub h2: UpstreamH2Config,
    /// What becomes of connections and tunnels to an instance that turns unhealthy.
    pub on_unhealthy: OnUnhealthy,
    /// With what header of the PROXY protocol connections to its endpoints begin.
    pub proxy_protocol: Option<Version>,
    /// Who is eligible when nobody is healthy.
    pub when_none_healthy: WhenNoneHealthy,
    /// Replaces the registered ports.
    pub port: Option<u16>,
    /// The service that takes over when none of its instances is healthy.
    pub backup: Option<String>,
    /// How its instances are checked; all of these must pass.
    pub check: ChecksConfig,
    /// When the proxy takes an instance out by what it saw of it; without it, never.
    pub outlier: Option<OutlierConfig>,
    /// What follows when an instance turns unhealthy.
    pub on_failure: Option<OnFailureConfig>,
}

impl ServiceConfig {
    /// What it says to the proxy, with paths from `base_dir` on.
    #[must_use]
    pub fn balance(&self, base_dir: &Path) -> ServiceBalance {
        let mut tls = self.tls.clone();
        if let Some(tls) = &mut tls {
            let files = [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file];
            files.into_iter().flatten().for_each(|file| *file = base_dir.join(&*file));
        }
        ServiceBalance {
            policy: self.policy.clone(),
            hash_on: self.hash_on.clone(),
            slow_start: self.slow_start,
            max_connections: self.max_connections,
            queue: self.queue.clone(),
            keep_alive: self.keep_alive,
            near: self.near,
            retries: self.retries.clone(),
            drain: self.drain,
            protocol: self.protocol,
            tls,
            h2: self.h2.clone(),
            on_unhealthy: self.on_unhealthy,
            proxy_protocol: self.proxy_protocol,
        }
    }
}

impl Config {
    /// Decodes every table; those that can't be are told in `problems` and left out.
    pub(super) fn decode(
        document: &Document<'_>,
        base_dir: &Path,
        problems: &mut Vec<Problem>,
    ) -> Self {
        Self {
            base_dir: base_dir.to_path_buf(),
            node: one(document, "node", problems).unwrap_or_default(),
            process: one(document, "process", problems).unwrap_or_default(),
            limits: one(document, "limits", problems).unwrap_or_default(),
            registries: each(document, "registry", problems),
            guard: one(document, "guard", problems).unwrap_or_default(),
            localities: each(document, "locality", problems),
            health: one(document, "health", problems).unwrap_or_default(),
            services: each(document, "service", problems),
            dns: one(document, "dns", problems),
            certificates: each(document, "certificate", problems),
            listeners: each(document, "listener", problems),
            routes: each(document, "route", problems),
            access_log: one(document, "access_log", problems),
            labels: one(document, "labels", problems).unwrap_or_default(),
            templates: each(document, "template", problems),
            groups: each(document, "group", problems),
            confd: one(document, "confd", problems),
            installed: Installed::default(),
            exec: one(document, "exec", problems),
            metadata: one(document, "metadata", problems),
            haproxy: one(document, "haproxy", problems),
            admin: one(document, "admin", problems),
            operations: one(document, "operations", problems).unwrap_or_default(),
            sticky: one(document, "sticky", problems).unwrap_or_default(),
            shown: Shown::default(),
        }
    }
}

fn one<T: DeserializeOwned>(
    document: &Document<'_>,
    kind: &str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    match document.table(&[kind])? {
        Ok(decoded) => Some(decoded),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

fn each<T: DeserializeOwned>(
    document: &Document<'_>,
    kind: &str,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, T> {
    let mut decoded = BTreeMap::new();
    for (name, _) in document.names(kind) {
        match document.table(&[kind, &name]) {
            Some(Ok(table)) => {
                decoded.insert(name, table);
            }
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
    }
    decoded
}
