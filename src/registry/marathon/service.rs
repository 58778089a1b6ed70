//! Makes an [`App`] of what Marathon says of one. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::app::{App, Kind, Listed, Scale};
use super::checks::asked;
use super::decode::{RawApp, RawTask};
use super::health::{self, Remembered};
use super::labels::{group, http_checks, labels};
use super::ports::{Layout, Mode, joined};
use super::state::{Fate, TaskState};
use super::wanted::{Naming, Words};
use crate::catalog::model::{Meta, NAME_MAX, Node, parse_name, parse_text};
use crate::catalog::{Address, Health, Instance, Presence, Weight};

/// Most problems told of one app; behind them only their number.
const PROBLEMS_MAX: usize = 20;

/// Addresses by the name of the host, as far as they were found.
pub(super) type Hosts = HashMap<Arc<str>, IpAddr>;

/// What all apps of a listing share.
#[derive(Debug, Clone)]
pub(super) struct Builder {
    pub(super) registry: Arc<str>,
    pub(super) naming: Arc<Naming>,
    pub(super) words: Arc<Words>,
    pub(super) hosts: Arc<Hosts>,
    pub(super) remembered: Arc<Remembered>,
    /// Nodes and ids of agents that were seen, so that each is allocated once.
    pub(super) nodes: HashMap<Box<str>, (Node, Address)>,
    pub(super) agents: HashMap<Box<str>, Arc<str>>,
    pub(super) no_tags: Arc<[Arc<str>]>,
}

/// What is shared by the instances of one app while they are made.
pub(super) struct Shared<'b> {
    pub(super) id: Arc<str>,
    pub(super) layout: &'b Layout,
    /// The version that was seen last: most tasks have the same.
    pub(super) version: Arc<str>,
}

impl Builder {
    /// Makes an app, with what is known of it from `before`.
    ///
    /// # Errors
    /// Why it is refused as a whole.
    pub(super) fn app(
        &mut self,
        raw: &RawApp<'_>,
        hash: u64,
        before: Option<&App>,
    ) -> Result<App, String> {
        let id = absolute(raw.id.as_deref().ok_or("it has no `id`")?)?;
        let layout = Layout::of(raw)?;
        let mut problems: Vec<String> = layout.problems.clone();
        let version = raw.version.as_deref().unwrap_or_default();
        let version = parse_text("version", version, NAME_MAX)?;
        let mut meta = labels(raw.labels.as_ref(), &mut problems);
        let group = group(raw.labels.as_ref(), &mut problems);
        self.facts(&mut meta, Kind::App, &id, &version, &layout);
        let checks = raw.health_checks.as_deref().unwrap_or_default();
        let http = http_checks(checks, layout.ports.len());
        if !http.is_empty() {
            meta.insert(Arc::clone(&self.words.http_checks), http.into());
        }
        if self.naming.checks && !meta.contains_key(&self.words.check) {
            let asked = asked(checks, &meta, &layout, &mut problems);
            meta.extend(asked.map(|asked| (Arc::clone(&self.words.check), asked.into())));
        }
        let mut shared =
            Shared { id: Arc::clone(&id), layout: &layout, version: Arc::clone(&version) };
        let tasks = raw.tasks.as_deref().unwrap_or_default();
        let mut instances = Vec::with_capacity(tasks.len());
        let mut listed = Vec::with_capacity(tasks.len());
        let mut ignored = raw.ignored;
        for task in tasks {
            ignored += task.ignored;
            match self.task(raw, task, &mut shared, checks.len(), before) {
                Ok((own, instance)) => {
                    listed.push(own);
                    instances.extend(instance);
                }
                Err(problem) => {
                    let id = task.id.as_deref().unwrap_or("without id");
                    problems.push(format!("task {id:?}: {problem}"));
                }
            }
        }
        let scaled_at = raw.version_info.as_ref().and_then(|info| info.last_scaling.as_deref());
        // One of another deployment is another app.
        let known = before.filter(|before| before.group == group).map(|before| &before.scale);
        let wanted = raw.instances.as_ref().map(|wanted| wanted.0);
        let app = App {
            name: service_name(&id)?,
            id,
            kind: Kind::App,
            version,
            scale: Scale::new(wanted, scaled_at.unwrap_or_default(), known),
            read: 0,
            hash,
            meta: Arc::new(meta),
            instances,
            problems: told(problems),
            checks: checks.len(),
            deploying: raw.deployments.as_ref().is_some_and(|all| !all.is_empty()),
            ignored,
            group,
            ended: std::collections::BTreeMap::new(),
        };
        Ok(finished(app, listed, before))
    }

    /// Puts what is the app's own into its meta: labels never stand in for it.
    pub(super) fn facts(
        &self,
        meta: &mut Meta,
        kind: Kind,
        id: &Arc<str>,
        version: &Arc<str>,
        layout: &Layout,
    ) {
        let words = &self.words;
        let mut put = |key: &Arc<str>, value: Arc<str>| drop(meta.insert(Arc::clone(key), value));
        put(&words.app, Arc::clone(id));
        put(&words.version, Arc::clone(version));
        put(&words.framework, Arc::clone(&self.naming.framework));
        let kind = if kind == Kind::App { &words.kind_app } else { &words.kind_pod };
        put(&words.kind, Arc::clone(kind));
        if layout.ports.is_empty() {
            return;
        }
        let service_ports = layout.joined(|port| port.service_port.to_string());
        put(&words.service_ports, service_ports.into());
        put(&words.port_names, layout.joined(|port| port.name.to_string()).into());
        put(&words.protocols, layout.joined(|port| port.protocol.word().to_owned()).into());
        for port in &layout.ports {
            // The dialect `mesos` takes a port without this for one that speaks both.
            let protocol = port.protocol.word();
            if !protocol.contains('+') {
                let key = format!("mesos.protocol.{}", port.name);
                meta.insert(key.into(), protocol.into());
            }
        }
    }

    /// A task, and its instance if it is one.
    fn task(
        &mut self,
        app: &RawApp<'_>,
        task: &RawTask<'_>,
        shared: &mut Shared<'_>,
        checks: usize,
        before: Option<&App>,
    ) -> Result<(Listed, Option<Arc<Instance>>), String> {
        let id = parse_name("task id", task.id.as_deref().unwrap_or_default())?;
        let fate = fate(task);
        let listed = Listed { id: Arc::clone(&id), fate };
        if fate == Fate::Out {
            return Ok((listed, None));
        }
        let own_ip = task.ip_addresses.iter().flatten().find_map(|ip| ip.address.as_deref());
        let own_ip = own_ip.filter(|ip| !ip.is_empty());
        let (mut node, agent) =
            self.node(task.host.as_deref().unwrap_or_default(), own_ip, shared)?;
        let numbers = shared.layout.of_task(task)?;
        let address = match (shared.layout.mode, own_ip) {
            (Mode::Container, Some(ip)) => Address::parse(ip)?,
            // It has none yet.
            (Mode::Container, None) => return Ok((listed, None)),
            _ => agent,
        };
        let known = before.and_then(|before| before.instance(&id));
        let remembered = self.remembered.get(&id).copied();
        let verdict = known.map_or_else(|| remembered.flatten(), |known| health::verdict(known));
        let (mut health, mut cause) =
            health::judged(&self.words, checks, health::result(task), verdict);
        let served = match known {
            Some(known) => &*known.cause != health::NOT_READY,
            None => remembered.is_some(),
        };
        if health != Health::Unhealthy && health::waits(app, task, served) {
            (health, cause) = (Health::Unhealthy, Arc::clone(&self.words.not_ready));
        }
        let words = Arc::clone(&self.words);
        let mut meta = Meta::new();
        meta.insert(Arc::clone(&words.app), Arc::clone(&shared.id));
        meta.insert(Arc::clone(&words.host), Arc::clone(&node.name));
        meta.insert(Arc::clone(&words.ports), joined(&numbers).into());
        let version = task.version.as_deref().unwrap_or(&shared.version);
        if *version != *shared.version {
            shared.version = parse_text("version", version, NAME_MAX)?;
        }
        meta.insert(Arc::clone(&words.version), Arc::clone(&shared.version));
        if let Some(agent) = task.agent.as_deref().filter(|agent| !agent.is_empty()) {
            meta.insert(Arc::clone(&words.agent_id), self.agent(agent)?);
        }
        if shared.layout.mode == Mode::Container {
            let told = task.ports.as_deref().unwrap_or_default();
            let ports: Vec<u16> =
                told.iter().filter_map(|p| super::ports::number(*p).ok()).collect();
            meta.insert(Arc::clone(&words.host_ports), joined(&ports).into());
        }
        if let Some(known) = known.and_then(|known| known.node.as_ref())
            && *known == node
        {
            node = known.clone();
        }
        let presence = if fate == Fate::Leaving { Presence::Leaving } else { Presence::Active };
        let instance = Instance {
            id,
            registry: Arc::clone(&self.registry),
            address,
            ports: shared.layout.ports(&numbers),
            tags: Arc::clone(&self.no_tags),
            meta,
            weight: Weight::ONE,
            group: None,
            locality: task.zone.as_deref().and_then(|zone| parse_name("zone", zone).ok()),
            node: Some(node),
            health,
            cause,
            presence,
        };
        Ok((listed, Some(kept(known, instance))))
    }

    /// The node called `host`, and its address. A name that Mesos gives an address for (which it
    /// does where a task has none of its own) needs no look-up.
    pub(super) fn node(
        &mut self,
        host: &str,
        own_ip: Option<&str>,
        shared: &Shared<'_>,
    ) -> Result<(Node, Address), String> {
        if host.is_empty() {
            return Err("it has no `host`".into());
        }
        if shared.layout.mode == Mode::Host
            && let Some(ip) = own_ip.and_then(|ip| ip.parse::<IpAddr>().ok())
            && host.parse::<IpAddr>().is_err()
        {
            let address = Address::Ip(ip);
            let mut node = self.known_node(host)?.0;
            node.address = Some(address.clone());
            return Ok((node, address));
        }
        self.known_node(host)
    }

    fn known_node(&mut self, host: &str) -> Result<(Node, Address), String> {
        if let Some(known) = self.nodes.get(host) {
            return Ok(known.clone());
        }
        let told = Address::parse(host)?;
        let address = match self.hosts.get(host) {
            Some(ip) => Address::Ip(*ip),
            None => told,
        };
        let name = parse_name("host", host)?;
        let node = Node { name, address: Some(address.clone()), meta: Meta::new() };
        self.nodes.insert(host.into(), (node.clone(), address.clone()));
        Ok((node, address))
    }

    pub(super) fn agent(&mut self, agent: &str) -> Result<Arc<str>, String> {
        if let Some(known) = self.agents.get(agent) {
            return Ok(Arc::clone(known));
        }
        let id = parse_text("agent id", agent, NAME_MAX)?;
        self.agents.insert(agent.into(), Arc::clone(&id));
        Ok(id)
    }
}

/// What is known, when it is the same as `instance`: the allocation too.
pub(super) fn kept(known: Option<&Arc<Instance>>, instance: Instance) -> Arc<Instance> {
    let same = known.filter(|known| ***known == instance);
    same.map_or_else(|| Arc::new(instance), Arc::clone)
}

/// The app with its instances in order, and with what events have said before.
pub(super) fn finished(mut app: App, mut listed: Vec<Listed>, before: Option<&App>) -> App {
    app.instances.sort_by(|a, b| a.id.cmp(&b.id));
    app.instances.dedup_by(|a, b| a.id == b.id);
    if let Some(before) = before {
        if *before.meta == *app.meta {
            app.meta = Arc::clone(&before.meta);
        }
        if !before.ended.is_empty() {
            listed.sort_by(|a, b| a.id.cmp(&b.id));
            app.carry(&before.ended, &listed);
        }
    }
    app
}

/// What becomes of a task. Old versions tell no state: one that has begun runs.
fn fate(task: &RawTask<'_>) -> Fate {
    match task.state.as_deref().filter(|state| !state.is_empty()) {
        Some(state) => TaskState::read(state).fate(),
        None if task.started_at.is_none() && task.staged_at.is_some() => Fate::Out,
        None => Fate::Stays,
    }
}

/// The id of an app, with the slash at its beginning.
///
/// # Errors
/// When it is none.
pub(super) fn absolute(id: &str) -> Result<Arc<str>, String> {
    let path = id.strip_prefix('/').unwrap_or(id);
    if path.is_empty() || path.split('/').any(str::is_empty) {
        return Err(format!("its id {id:?} is no path such as \"/shop/web\""));
    }
    let id = if id.starts_with('/') {
        parse_name("id", id)
    } else {
        parse_name("id", &format!("/{id}"))
    };
    id.map_err(|problem| format!("its {problem}"))
}

/// The name of an app's service, as Mesos calls its tasks: its path backwards, with dots.
///
/// # Errors
/// When it is too long.
pub(super) fn service_name(id: &str) -> Result<Arc<str>, String> {
    let parts: Vec<&str> = id.split('/').filter(|part| !part.is_empty()).rev().collect();
    parse_name("service name", &parts.join("."))
}

/// Problems as they are told.
pub(super) fn told(mut problems: Vec<String>) -> Vec<Arc<str>> {
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        problems.truncate(PROBLEMS_MAX);
        problems.push(format!("{more} more problems"));
    }
    problems.into_iter().map(Into::into).collect()
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
