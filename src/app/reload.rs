//! Reload: prepared as a whole, then applied as a whole, or refused and nothing has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Mutex, mpsc};

use super::interest::Interests;
use super::publish::Compile;
use super::status::{self, LastReload};
use super::{Running, rendered};
use crate::api::{Reload, Report};
use crate::catalog::RegistryState;
use crate::catalog::publish::{Feed, Plan};
use crate::catalog::store::{Loaded as Stored, StoredView};
use crate::config::{self, Config, Loaded};
use crate::dns::DnsConfig;
use crate::net::adopt::Adopted;
use crate::registry::{self, Registry, Surroundings};
use crate::render::{Renderer, Resource};

/// Answers wishes for a reload of the configuration file, one after the other.
pub(super) async fn answer(running: Arc<Mutex<Running>>, mut wishes: mpsc::Receiver<Reload>) {
    while let Some(wish) = wishes.recv().await {
        let mut running = running.lock().await;
        if let Some(pid) = running.replaced_by {
            let _ = wish.send(Err(vec![format!("process {pid} has taken over; ask that one")]));
            continue;
        }
        running.notifier.reloading();
        let result = match running.file.clone() {
            None => Err(vec!["there is no configuration file to read again".to_owned()]),
            Some(file) => match read(&file).await {
                Ok(loaded) => running.reload(loaded).await,
                Err(problems) => {
                    running.note(&problems);
                    Err(problems)
                }
            },
        };
        running.notifier.ready(match &result {
            Ok(_) => "Serving",
            Err(_) => "Serving; the last reload was refused",
        });
        // Whoever asked may be gone; the reload stands all the same.
        let _ = wish.send(result);
    }
}

async fn read(file: &Path) -> Result<Loaded, Vec<String>> {
    let file = file.to_path_buf();
    match tokio::task::spawn_blocking(move || config::load(&file)).await {
        Ok(Ok(loaded)) => Ok(loaded),
        Ok(Err(problems)) => Err(problems.iter().map(ToString::to_string).collect()),
        Err(error) => Err(vec![format!("reading the configuration failed: {error}")]),
    }
}

impl Running {
    /// Applies `loaded`, or says why it can't be and leaves everything as it is.
    pub(super) async fn reload(&mut self, loaded: Loaded) -> Result<Report, Vec<String>> {
        // Boxed: two configurations are large, and every caller would hold them.
        let result = Box::pin(self.apply(loaded)).await;
        match &result {
            Ok(report) => {
                self.note(&[]);
                tracing::info!(
                    generation = report.generation,
                    changed = report.changed.join(", "),
                    "configuration reloaded"
                );
            }
            Err(problems) => self.note(problems),
        }
        result
    }

    fn note(&self, problems: &[String]) {
        for problem in problems {
            tracing::error!(problem, "reload refused; the configuration stays as it is");
        }
        let note = LastReload { at: SystemTime::now(), refused: problems.to_vec() };
        let mut last = self.last_reload.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(note);
    }

    async fn apply(&mut self, loaded: Loaded) -> Result<Report, Vec<String>> {
        let Loaded { config, prepared } = loaded;
        let fixed = needs_a_restart(&self.config, &config);
        if !fixed.is_empty() {
            return Err(fixed);
        }
        // The last things that can fail; from here on everything succeeds.
        let bound = self
            .sockets
            .prepare(&config, &mut Adopted::none())
            .map_err(|error| vec![error.to_string()])?;
        let logs = self.workers.logs().open(&prepared.proxy, &config.base_dir);
        logs.map_err(|error| vec![error.to_string()])?;
        self.sticky.follow(&config, &prepared).map_err(|error| vec![error.to_string()])?;

        let secured = self.certificates.follow(&prepared.tls);
        prepared.proxy.secure(secured.map_err(|error| vec![error.to_string()])?);

        let mut changed = differences(&self.config, &config);
        let templates = checksums(&prepared.resources);
        changed.extend(rewritten(&self.templates, &templates));
        changed.sort();
        changed.dedup();
        // Templates that change do not see what the new configuration leads to.
        self.renderer().keep(&prepared.resources, &config.groups);
        self.interests.follow(&config);
        let registries = self.follow(&config);
        let mut feeds: Vec<Feed> = registries.values().map(feed).collect();
        feeds.extend(self.feeds.iter().cloned());
        let settings = Arc::clone(&prepared.dns);
        self.health.trust(&prepared.health).await;
        let plan = Plan {
            feeds,
            settings: Arc::clone(&prepared.services),
            guard: config.guard,
            verdicts: self.health.verdicts(),
            spoken: self.operating.spoken.clone(),
            compile: Compile::new(&prepared, &registries),
        };
        if self.plans.send(plan).await.is_err() {
            return Err(vec!["the process is ending".to_owned()]);
        }
        self.operating.follow(&config);
        // Listeners open and close only when the tables know of them. A generation that was on its
        // way when the plan was sent still comes from the plan before.
        let compiled = |_: &_| Arc::ptr_eq(self.tables.load().dns.settings(), &settings);
        let published = self.published.wait_for(compiled).await;
        let generation = published.map_or(0, |snapshot| snapshot.generation);
        // Nor are verdicts given up before nobody wants them: by the plan before, instances without
        // one have not passed their checks.
        self.health.follow(&config, prepared.health);
        self.sockets.follow(&config);
        self.sockets.commit(bound, &self.workers);
        self.workers.follow(&config);
        self.workers.logs().reopen();
        self.connections.set_max(config.limits.connections);
        self.renderer().follow(prepared.resources, &config.groups);
        self.rendered.send_replace(rendered::of(&self.renderer()));
        self.exec.send_if_modified(|exec| {
            let other = *exec != config.exec;
            exec.clone_from(&config.exec);
            other
        });
        status::follow(&self.reports, &registries);
        self.registries = registries;
        self.templates = templates;
        self.config = config;
        Ok(Report { generation, changed })
    }

    /// Renders the files. One that panicked while it was held still knows its tasks.
    fn renderer(&self) -> MutexGuard<'_, Renderer> {
        self.renderer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registries of `config`: those that did not change go on, others start with what they
    /// said last.
    fn follow(&mut self, config: &Config) -> BTreeMap<String, Registry> {
        let mut before = std::mem::take(&mut self.registries);
        let start = |(name, wanted): (&String, &registry::RegistryConfig)| {
            let known = before.remove(name);
            let same = self.config.registries.get(name) == Some(wanted)
                && self.config.guard.hold == config.guard.hold;
            let registry = match known {
                Some(known) if same => known,
                known => {
                    let last = known.and_then(|known| last_view(&known));
                    let around = surroundings(name, config, &self.interests);
                    wanted.start(name, around, last, &self.registry_metrics)
                }
            };
            (name.clone(), registry)
        };
        config.registries.iter().map(start).collect()
    }
}

/// What the catalog hears of `registry`.
pub(super) fn feed(registry: &Registry) -> Feed {
    Feed {
        name: Arc::clone(&registry.name),
        priority: registry.priority,
        state: registry.states(),
        stale: registry.stale,
    }
}

/// All registries of `config`, with what the disk says of them.
pub(super) fn start_registries(
    config: &Config,
    stored: &Stored,
    metrics: &registry::Metrics,
    interests: &Interests,
) -> BTreeMap<String, Registry> {
    let start = |(name, registry): (&String, &registry::RegistryConfig)| {
        let view = stored.views.get(name).cloned();
        let around = surroundings(name, config, interests);
        (name.clone(), registry.start(name, around, view, metrics))
    };
    config.registries.iter().map(start).collect()
}

fn surroundings(name: &str, config: &Config, interests: &Interests) -> Surroundings {
    Surroundings {
        base_dir: config.base_dir.clone(),
        interest: interests.of(name),
        hold: config.guard.hold.0,
    }
}

fn last_view(registry: &Registry) -> Option<StoredView> {
    match &*registry.states().borrow() {
        RegistryState::Syncing => None,
        RegistryState::Live(view) => {
            Some(StoredView { view: view.clone(), heard_at: SystemTime::now() })
        }
        RegistryState::Stale { last, since, .. } => {
            Some(StoredView { view: last.clone(), heard_at: *since })
        }
    }
}

/// Whether `part` of the `[dns]` table is the same, if there is one before and now.
fn same_dns<T: PartialEq>(before: &Config, now: &Config, part: impl Fn(&DnsConfig) -> T) -> bool {
    before.dns.iter().zip(&now.dns).all(|(before, now)| part(before) == part(now))
}

/// What can't change while the process runs, by setting.
fn needs_a_restart(before: &Config, now: &Config) -> Vec<String> {
    let mut fixed = Vec::new();
    for (setting, same) in [
        ("[node]", before.node == now.node),
        ("[process]", before.process == now.process),
        ("[admin]", before.admin == now.admin),
        ("[haproxy] socket", stats_socket(before) == stats_socket(now)),
        ("[dns] express_workers", same_dns(before, now, |dns| dns.express_workers)),
        ("[dns] express_queue", same_dns(before, now, |dns| dns.express_queue)),
        (
            "[limits] idle_endpoint_connections",
            before.limits.idle_endpoint_connections == now.limits.idle_endpoint_connections,
        ),
    ] {
        if !same {
            fixed.push(format!(
                "{setting} can't change while the process runs: undo the change, restart, or `portolan upgrade`"
            ));
        }
    }
    fixed
}

/// Path and mode of the stats socket.
fn stats_socket(config: &Config) -> Option<(&PathBuf, &str)> {
    let haproxy = config.haproxy.as_ref()?;
    Some((haproxy.socket.as_ref()?, &haproxy.socket_mode))
}

/// What the templates say, by name.
pub(super) fn checksums(resources: &[Resource]) -> BTreeMap<Arc<str>, u32> {
    resources.iter().map(|resource| (Arc::clone(&resource.name), resource.checksum)).collect()
}

/// Templates whose file says something else than before, for the report.
fn rewritten(
    before: &BTreeMap<Arc<str>, u32>,
    now: &BTreeMap<Arc<str>, u32>,
) -> impl Iterator<Item = String> {
    let differs = now.iter().filter(|(name, now)| before.get(*name) != Some(*now));
    differs.map(|(name, _)| format!("template.{name}"))
}

/// The tables that differ, for the report.
fn differences(before: &Config, now: &Config) -> Vec<String> {
    fn by_name<T: PartialEq>(
        kind: &str,
        before: &BTreeMap<String, T>,
        now: &BTreeMap<String, T>,
        changed: &mut Vec<String>,
    ) {
        let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
        let differs = names.filter(|name| before.get(*name) != now.get(*name));
        changed.extend(differs.map(|name| format!("{kind}.{name}")));
    }
    let mut changed = Vec::new();
    by_name("registry", &before.registries, &now.registries, &mut changed);
    by_name("service", &before.services, &now.services, &mut changed);
    by_name("certificate", &before.certificates, &now.certificates, &mut changed);
    by_name("listener", &before.listeners, &now.listeners, &mut changed);
    by_name("route", &before.routes, &now.routes, &mut changed);
    by_name("template", &before.templates, &now.templates, &mut changed);
    by_name("group", &before.groups, &now.groups, &mut changed);
    if before.dns != now.dns {
        changed.push("dns".to_owned());
    }
    if before.labels != now.labels {
        changed.push("labels".to_owned());
    }
    if before.health != now.health {
        changed.push("health".to_owned());
    }
    if before.access_log != now.access_log {
        changed.push("access_log".to_owned());
    }
    if before.exec != now.exec {
        changed.push("exec".to_owned());
    }
    if before.guard != now.guard {
        changed.push("guard".to_owned());
    }
    if before.operations != now.operations {
        changed.push("operations".to_owned());
    }
    if before.metadata != now.metadata {
        changed.push("metadata".to_owned());
    }
    if before.haproxy != now.haproxy {
        changed.push("haproxy".to_owned());
    }
    if before.limits != now.limits {
        changed.push("limits".to_owned());
    }
    if before.sticky != now.sticky {
        changed.push("sticky".to_owned());
    }
    changed
}
