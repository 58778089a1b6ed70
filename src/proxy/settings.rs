//! What the configuration says about the proxy, compiled once per configuration.

mod compile;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::config::{AccessLogConfig, OnUnhealthy, ServiceBalance};
use super::labels::LabelsConfig;
use super::limit::{self, ProcessRules};
use super::listener::Listener;
use super::log::Rule;
use super::ports::{self, Opening};
use super::route::ServiceRef;
use super::sticky::Sticking;
use super::upstream::Rules;
use crate::catalog::model::Service;
use crate::catalog::observed::FailureStatus;
use crate::net::tls::Secured;

/// Everything that the configuration says about the proxy, compiled once per configuration.
#[derive(Debug, Default)]
pub struct Settings {
    pub(super) listeners: HashMap<Arc<str>, Arc<Listener>>,
    /// What routes and listeners want: the ports of each service.
    pub(super) wanted: HashMap<Arc<str>, Vec<ServiceRef>>,
    /// Listeners whose ports the registry tells.
    pub(super) openings: Vec<Opening>,
    /// As it was configured, for those who ask.
    pub(super) balances: HashMap<Arc<str>, ServiceBalance>,
    /// Limits that are counted.
    pub(super) limits: limit::Rules,
    /// How long what runs at an instance that leaves may go on, where it is said.
    pub(super) drains: HashMap<Arc<str>, Duration>,
    /// Upstreams that something sticky leads to, by their key.
    pub(super) sticky: HashSet<Arc<str>>,
    pub(super) sticking: OnceLock<Arc<Sticking>>,
    pub(super) secured: OnceLock<HashMap<Arc<str>, Arc<Secured>>>,
    pub(super) announces: bool,
    /// Whose labels are read; none: nobody's.
    pub(super) labels: Option<LabelsConfig>,
    /// How work is spread, for services of which something is said.
    pub(super) rules: HashMap<Arc<str>, Arc<Rules>>,
    /// How it is for all others.
    pub(super) usual: Arc<Rules>,
}

/// How long that is where nothing is said.
const DRAIN: Duration = Duration::from_secs(30);

/// A part of the proxy's configuration that can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The table it stands in: `["route", "api"]`.
    pub path: [String; 2],
    /// The key within it, when one is to blame.
    pub key: Option<&'static str>,
    /// What is wrong, and what to write.
    pub message: String,
}

impl Settings {
    /// What stickiness works with: keys and clients, which no configuration holds. Told once, before
    /// anybody is served; without it nothing is sticky.
    pub fn stick(&self, sticking: Arc<Sticking>) {
        // A second one would be told of the same configuration: the first counts.
        let _ = self.sticking.set(sticking);
    }

    /// How listeners speak TLS, by name: certificates, which no configuration holds. Told once, before
    /// anybody is served.
    pub fn secure(&self, secured: HashMap<Arc<str>, Arc<Secured>>) {
        // A second one would be told of the same configuration: the first counts.
        let _ = self.secured.set(secured);
    }

    /// How the listener called `name` speaks TLS, if it does.
    #[must_use]
    pub fn secured(&self, name: &str) -> Option<&Arc<Secured>> {
        self.secured.get()?.get(name)
    }

    /// The same, with the endpoints of these services watched for outliers.
    #[must_use]
    pub fn watching(
        mut self,
        services: impl IntoIterator<Item = (Arc<str>, FailureStatus)>,
    ) -> Self {
        for (service, statuses) in services {
            let rules = self.rules.entry(service).or_default();
            *rules = Arc::new(Rules::clone(rules).watching(Some(statuses)));
        }
        self
    }

    /// The same, in a process that is at `locality`.
    #[must_use]
    pub fn at(mut self, locality: Option<&str>) -> Self {
        let locality: Option<Arc<str>> = locality.map(Into::into);
        for rules in self.rules.values_mut() {
            *rules = Arc::new(Rules::clone(rules).at(locality.clone()));
        }
        self
    }

    /// The same, with the access log that each HTTP listener has, or `all` of them have.
    #[must_use]
    pub fn logging(mut self, all: Option<&AccessLogConfig>) -> Self {
        for listener in self.listeners.values_mut().filter_map(Arc::get_mut) {
            if let Listener::Http { config, log, .. } = listener {
                *log = config.access_log.as_ref().or(all).and_then(Rule::compile).map(Arc::new);
            }
        }
        self
    }

    /// Every listener by its name, in no order that means anything.
    pub fn listeners(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Listener>)> {
        self.listeners.iter()
    }

    /// What is configured about spreading the work of `service`.
    #[must_use]
    pub fn balance(&self, service: &str) -> Option<&ServiceBalance> {
        self.balances.get(service)
    }

    /// Services whose endpoints need not show who they are, in order.
    #[must_use]
    pub fn unverified(&self) -> Vec<&str> {
        let tls = |rules: &Rules| rules.way().tls.as_ref().is_some_and(|tls| !tls.verifies());
        let found = self.rules.iter().filter(|(_, rules)| tls(rules));
        let mut found: Vec<&str> = found.map(|(service, _)| &**service).collect();
        found.sort_unstable();
        found
    }

    /// How the endpoints of `service` are reached, in words.
    #[must_use]
    pub fn way(&self, service: &str) -> String {
        self.rules.get(service).unwrap_or(&self.usual).way().told()
    }

    /// The access logs of all listeners.
    pub fn logs(&self) -> impl Iterator<Item = &Rule> {
        self.listeners.values().filter_map(|listener| listener.log())
    }

    /// The same, with labels of services obeyed by what `labels` says.
    #[must_use]
    pub fn labelled(mut self, labels: &LabelsConfig) -> Self {
        self.labels = labels.marathon_lb.is_some().then(|| labels.clone());
        self
    }

    /// Whether what services say may ask for more than is configured.
    pub(super) fn listens(&self) -> bool {
        !self.openings.is_empty() || self.labels.is_some()
    }

    /// The same, with limits of the process as a whole.
    #[must_use]
    pub fn limited(mut self, process: ProcessRules) -> Self {
        self.limits = self.limits.within(process);
        self
    }

    /// How long what runs at an instance of `service` that leaves may go on.
    #[must_use]
    pub fn drain(&self, service: &str) -> Duration {
        self.drains.get(service).copied().unwrap_or(DRAIN)
    }

    /// Whether any service has its endpoints told who connects, by the PROXY protocol.
    #[must_use]
    pub const fn announces(&self) -> bool {
        self.announces
    }

    /// Whether connections to an instance of `service` end when it turns unhealthy.
    #[must_use]
    pub fn closes_unhealthy(&self, service: &str) -> bool {
        self.balance(service).is_some_and(|balance| balance.on_unhealthy == OnUnhealthy::Close)
    }

    /// Listeners whose ports the registry tells.
    #[must_use]
    pub fn openings(&self) -> &[Opening] {
        &self.openings
    }

    /// What `service` asks for ports for, beyond those `known`, and whether any of it is sticky.
    pub(super) fn asked(
        &self,
        service: Option<&Service>,
        known: &[ServiceRef],
    ) -> (Vec<ServiceRef>, bool) {
        let (mut found, mut sticky) = (Vec::new(), false);
        let Some(service) = service else { return (found, sticky) };
        for opening in &self.openings {
            for ask in ports::asked(service, &opening.rule).0 {
                sticky |= opening.sticky;
                if !known.contains(&ask.target) && !found.contains(&ask.target) {
                    found.push(ask.target);
                }
            }
        }
        (found, sticky)
    }
}
