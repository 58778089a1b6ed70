//! Makes an [`App`] of what Marathon says of a pod: one instance for each of the pod's, with the
//! ports of all its containers. Pure.

use std::sync::Arc;

use super::app::{App, Kind, Listed, Scale};
use super::decode::{RawPod, RawPodInstance};
use super::health;
use super::labels::labels;
use super::ports::{Layout, Mode, Protocol, joined, network_mode, number};
use super::service::{Builder, Shared, absolute, finished, kept, service_name, told};
use super::state::Fate;
use crate::catalog::model::{Meta, NAME_MAX, parse_name, parse_text};
use crate::catalog::{Address, Health, Instance, Presence, Weight};

impl Builder {
    /// Makes a pod, with what is known of it from `before`.
    ///
    /// # Errors
    /// Why it is refused as a whole.
    pub(super) fn pod(
        &mut self,
        raw: &RawPod<'_>,
        hash: u64,
        before: Option<&App>,
    ) -> Result<App, String> {
        let id = absolute(raw.id.as_deref().ok_or("it has no `id`")?)?;
        let spec = raw.spec.as_ref();
        let layout = layout(raw)?;
        let mut problems = layout.problems.clone();
        let version = spec.and_then(|spec| spec.version.as_deref()).unwrap_or_default();
        let version = parse_text("version", version, NAME_MAX)?;
        let mut meta = labels(spec.and_then(|spec| spec.labels.as_ref()), &mut problems);
        self.facts(&mut meta, Kind::Pod, &id, &version, &layout);
        let containers = spec.and_then(|spec| spec.containers.as_deref()).unwrap_or_default();
        let checks = containers.iter().filter(|container| container.check.is_some()).count();
        let mut shared =
            Shared { id: Arc::clone(&id), layout: &layout, version: Arc::clone(&version) };
        let all = raw.instances.as_deref().unwrap_or_default();
        let (mut instances, mut listed) = (Vec::with_capacity(all.len()), Vec::new());
        let mut ignored = raw.ignored;
        for instance in all {
            ignored += instance.ignored;
            match self.pod_instance(instance, &mut shared, checks, before) {
                Ok((own, instance)) => {
                    listed.push(own);
                    instances.extend(instance);
                }
                Err(problem) => {
                    let id = instance.id.as_deref().unwrap_or("without id");
                    problems.push(format!("instance {id:?}: {problem}"));
                }
            }
        }
        let app = App {
            name: service_name(&id)?,
            id,
            kind: Kind::Pod,
            version,
            scale: Scale::default(),
            read: 0,
            hash,
            meta: Arc::new(meta),
            instances,
            problems: told(problems),
            checks,
            deploying: false,
            ignored,
            group: None,
            ended: std::collections::BTreeMap::new(),
        };
        Ok(finished(app, listed, before))
    }

    fn pod_instance(
        &mut self,
        raw: &RawPodInstance<'_>,
        shared: &mut Shared<'_>,
        checks: usize,
        before: Option<&App>,
    ) -> Result<(Listed, Option<Arc<Instance>>), String> {
        let id = parse_name("instance id", raw.id.as_deref().unwrap_or_default())?;
        let status = raw.status.as_deref().unwrap_or_default();
        let fate = match status {
            "STABLE" | "DEGRADED" => Fate::Stays,
            // PENDING, STAGING: not yet; TERMINAL: no more.
            _ => Fate::Out,
        };
        let listed = Listed { id: Arc::clone(&id), fate };
        if fate == Fate::Out {
            return Ok((listed, None));
        }
        let (node, agent) = self.node(raw.host.as_deref().unwrap_or_default(), None, shared)?;
        let host_ports = raw.containers.iter().flatten().flat_map(|c| c.endpoints.iter().flatten());
        let host_ports: Vec<(&str, u16)> = host_ports
            .map(|port| Ok((port.name.as_deref().unwrap_or_default(), number(port.host_port)?)))
            .collect::<Result<_, String>>()?;
        let on_host = |name: &str| {
            let told = host_ports.iter().find(|(own, _)| *own == name);
            told.map_or(0, |(_, number)| *number)
        };
        let mut ips = raw.networks.iter().flatten().flat_map(|net| net.addresses.iter().flatten());
        let (address, numbers) = match (shared.layout.mode, ips.next()) {
            (Mode::Container, None) => return Ok((listed, None)),
            (Mode::Container, Some(ip)) => (Address::parse(ip)?, shared.layout.numbers(on_host)),
            _ => (agent, shared.layout.ports.iter().map(|port| on_host(&port.name)).collect()),
        };
        let known = before.and_then(|before| before.instance(&id));
        let remembered = self.remembered.get(&id).copied();
        let verdict = known.map_or_else(|| remembered.flatten(), |known| health::verdict(known));
        let (mut health, cause) = health::judged(&self.words, checks, result(raw), verdict);
        // Some container is not up; the others are, so that somebody should look.
        if status == "DEGRADED" && health != Health::Unhealthy {
            health = Health::Warning;
        }
        let words = Arc::clone(&self.words);
        let mut meta = Meta::new();
        let mut put = |key: &Arc<str>, value: Arc<str>| drop(meta.insert(Arc::clone(key), value));
        put(&words.app, Arc::clone(&shared.id));
        put(&words.host, Arc::clone(&node.name));
        put(&words.ports, joined(&numbers).into());
        // `/v2/pods/web::versions/2017-05-02T12:00:00.000Z`
        let version = raw.spec.as_deref().and_then(|spec| Some(spec.rsplit_once('/')?.1));
        if let Some(version) = version.filter(|version| **version != *shared.version) {
            shared.version = parse_text("version", version, NAME_MAX)?;
        }
        put(&words.version, Arc::clone(&shared.version));
        if let Some(agent) = raw.agent.as_deref().filter(|agent| !agent.is_empty()) {
            put(&words.agent_id, self.agent(agent)?);
        }
        if shared.layout.mode == Mode::Container {
            let ports: Vec<u16> = host_ports.iter().map(|(_, number)| *number).collect();
            put(&words.host_ports, joined(&ports).into());
        }
        let instance = Instance {
            id,
            registry: Arc::clone(&self.registry),
            address,
            ports: shared.layout.ports(&numbers),
            tags: Arc::clone(&self.no_tags),
            meta,
            weight: Weight::ONE,
            group: None,
            locality: raw.zone.as_deref().and_then(|zone| parse_name("zone", zone).ok()),
            node: Some(node),
            health,
            cause,
            presence: Presence::Active,
        };
        Ok((listed, Some(kept(known, instance))))
    }
}

/// The ports of all containers, in the order in which they stand.
fn layout(raw: &RawPod<'_>) -> Result<Layout, String> {
    let spec = raw.spec.as_ref();
    let networks = spec.and_then(|spec| spec.networks.as_deref()).unwrap_or_default();
    let mode = networks.first().map_or(Ok(Mode::Host), |net| network_mode(net.mode.as_deref()))?;
    let mut layout = Layout::new(mode);
    let containers = spec.and_then(|spec| spec.containers.as_deref()).unwrap_or_default();
    for endpoint in containers.iter().flat_map(|container| container.endpoints.iter().flatten()) {
        let protocols: Vec<&str> = endpoint.protocol.iter().flatten().map(|p| &**p).collect();
        let protocol = Protocol::read(&protocols.join(",")).unwrap_or_else(|problem| {
            layout.problems.push(problem);
            Protocol::Tcp
        });
        layout.add(endpoint.name.as_deref(), protocol, number(endpoint.container_port)?);
    }
    Ok(layout)
}

/// What the health checks of an instance say: unlike with apps, where several checks look at the
/// same task, all containers must be well.
fn result(raw: &RawPodInstance<'_>) -> Option<bool> {
    let containers = || raw.containers.iter().flatten();
    let endpoints = containers().flat_map(|container| container.endpoints.iter().flatten());
    let healthy = endpoints.filter_map(|endpoint| endpoint.healthy);
    let conditions = containers().flat_map(|container| container.conditions.iter().flatten());
    let named = conditions.filter(|condition| condition.name.as_deref() == Some("healthy"));
    let told = named.filter_map(|condition| condition.value.as_deref()?.parse::<bool>().ok());
    healthy.chain(told).reduce(|a, b| a && b)
}
