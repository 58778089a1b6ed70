//! Why a service answers as it does: each instance, by whose word, since when.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::assemble::Inputs;
use super::health::WhenNoneHealthy;
use super::history::{History, Identity, Transition, identity};
use super::model::{Health, Instance, Presence, Service};
use super::operations::{Does, Operation, Target};
use super::settings::Checked;
use super::snapshot::{RegistryStatus, Snapshot};

/// Everything that decided about one service.
#[derive(Debug, Serialize)]
pub struct Why {
    /// The service asked about.
    pub service: Arc<str>,
    /// The generation that this is true of.
    pub generation: u64,
    /// Whether any registry tells of it.
    pub known: bool,
    /// How many instances get new work.
    pub eligible: usize,
    /// Each instance, and those that were there not long ago.
    pub instances: Vec<InstanceWhy>,
    /// The service that stands in, and whether it does now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupWhy>,
    /// How each registry stands.
    pub registries: Vec<RegistryStatus>,
    /// What was refused about it.
    pub problems: Vec<Arc<str>>,
}

/// A service that stands in for another one.
#[derive(Debug, Serialize)]
pub struct BackupWhy {
    /// Its name.
    pub service: Arc<str>,
    /// Whether its instances get the work now.
    pub active: bool,
}

/// Everything that decided about one instance.
#[derive(Debug, Serialize)]
pub struct InstanceWhy {
    /// Its registry.
    pub registry: Arc<str>,
    /// Its id there.
    pub id: Arc<str>,
    /// Where it is reached; none: it is gone.
    pub address: Option<String>,
    /// Whether it gets new work.
    pub eligible: bool,
    /// Why it does or does not, in words.
    pub reason: String,
    /// Since when.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub since: SystemTime,
    /// What each side says of it; the worst word counts.
    pub words: Vec<Word>,
    /// Its last transitions, oldest first.
    pub transitions: Vec<Transition>,
}

/// What one side says of an instance.
#[derive(Debug, Serialize)]
pub struct Word {
    /// Who: `registry NAME`, `check`, `proxy` or `operator WHO`.
    pub by: String,
    /// What it comes to.
    pub health: Health,
    /// Why, in its words.
    pub cause: Arc<str>,
    /// Since when, where that is known.
    #[serde(serialize_with = "crate::units::rfc3339_if_any")]
    pub since: Option<SystemTime>,
}

/// Why the service called `name` answers as it does in `snapshot`, which came from `inputs`.
#[must_use]
pub fn why(name: &str, snapshot: &Snapshot, inputs: &Inputs, history: &History) -> Why {
    let service = snapshot.service(name);
    let eligible: HashSet<_> =
        service.iter().flat_map(|s| s.eligible.iter()).map(Arc::as_ptr).collect();
    let settings = inputs.settings.of(name);
    let mut told = HashSet::new();
    let mut instances = Vec::new();
    for instance in service.iter().flat_map(|service| service.instances.iter()) {
        let gets_work = eligible.contains(&Arc::as_ptr(instance));
        let identity = identity(instance);
        let transitions: Vec<_> = history.of(name, &identity).cloned().collect();
        instances.push(InstanceWhy {
            registry: Arc::clone(&instance.registry),
            id: Arc::clone(&instance.id),
            address: Some(address(instance)),
            eligible: gets_work,
            reason: reason(instance, gets_work, settings.when_none_healthy),
            since: transitions.last().map_or(history.since, |last| last.at),
            words: words(name, service, instance, &identity, inputs),
            transitions,
        });
        told.insert(identity);
    }
    for identity in history.instances(name).filter(|identity| !told.contains(*identity)) {
        let transitions: Vec<_> = history.of(name, identity).cloned().collect();
        let Some(last) = transitions.last() else { continue };
        instances.push(InstanceWhy {
            registry: Arc::clone(&identity.0),
            id: Arc::clone(&identity.1),
            address: None,
            eligible: false,
            reason: format!("gone: {}", last.cause),
            since: last.at,
            words: Vec::new(),
            transitions,
        });
    }
    Why {
        service: name.into(),
        generation: snapshot.generation,
        known: service.is_some(),
        eligible: service.map_or(0, |service| service.eligible.len()),
        backup: settings.backup.as_ref().map(|backup| BackupWhy {
            service: Arc::clone(backup),
            active: service.is_some_and(|service| stands_in(service)),
        }),
        instances,
        registries: snapshot.registries.to_vec(),
        problems: service.map(|service| service.problems.to_vec()).unwrap_or_default(),
    }
}

/// Whether the work goes to instances of another service.
fn stands_in(service: &Service) -> bool {
    let own: HashSet<_> = service.instances.iter().map(Arc::as_ptr).collect();
    service.eligible.iter().any(|instance| !own.contains(&Arc::as_ptr(instance)))
}

fn address(instance: &Instance) -> String {
    match (instance.socket(""), instance.port("")) {
        (Some(socket), _) => socket.to_string(),
        (None, Some(port)) => format!("{}:{port}", instance.address),
        (None, None) => instance.address.to_string(),
    }
}

fn reason(instance: &Instance, eligible: bool, when_none_healthy: WhenNoneHealthy) -> String {
    let because = |what: &str| {
        if instance.cause.is_empty() {
            what.to_owned()
        } else {
            format!("{what}: {}", instance.cause)
        }
    };
    if eligible && instance.health == Health::Unhealthy {
        let rule = if when_none_healthy == WhenNoneHealthy::One { "one" } else { "all" };
        return format!(
            "gets work though it fails: none is healthy, when_none_healthy = \"{rule}\""
        );
    }
    match (instance.presence, instance.health) {
        (Presence::Draining, _) => because("draining"),
        (Presence::Leaving, _) => because("leaving"),
        (Presence::Active, Health::Unhealthy) => because("unhealthy"),
        (Presence::Active, _) if instance.weight.value() == 0 => "its weight is 0".to_owned(),
        (Presence::Active, Health::Unknown) => because("trusted: nobody checks it"),
        (Presence::Active, health) => because(health.word()),
    }
}

/// What registry, check and proxy say of one instance.
fn words(
    name: &str,
    service: Option<&Arc<Service>>,
    instance: &Instance,
    identity: &Identity,
    inputs: &Inputs,
) -> Vec<Word> {
    let source = inputs.sources.iter().find(|source| source.name == identity.0);
    let said = source
        .and_then(|source| source.state.view())
        .and_then(|view| view.services.get(name))
        .and_then(|service| service.instances.iter().find(|said| said.id == identity.1));
    let mut words: Vec<Word> = said
        .map(|said| Word {
            by: format!("registry {}", identity.0),
            health: said.health,
            cause: Arc::clone(&said.cause),
            since: None,
        })
        .into_iter()
        .collect();
    let verdict = inputs.verdicts.get(name).and_then(|verdicts| verdicts.of(instance));
    let checked = service.is_some_and(|service| {
        inputs.settings.checked(name, &service.meta, instance) != Checked::No
    });
    let check = verdict.and_then(|verdict| verdict.check.as_ref()).filter(|_| checked);
    let ejected = verdict.and_then(|verdict| verdict.ejected.as_ref());
    words.extend(check.map(|check| Word {
        by: "check".to_owned(),
        health: check.health,
        cause: Arc::clone(&check.cause),
        since: Some(check.since),
    }));
    words.extend(ejected.map(|ejected| Word {
        by: "proxy".to_owned(),
        health: Health::Unhealthy,
        cause: Arc::clone(&ejected.cause),
        since: Some(ejected.since),
    }));
    let said = inputs.operations.of(name, instance);
    words.extend([said.state, said.weight].into_iter().flatten().map(|operation| Word {
        by: format!("operator {}", operation.who),
        health: instance.health,
        cause: said_by(&operation).into(),
        since: Some(operation.since),
    }));
    words
}

/// What an operation says, in words.
fn said_by(operation: &Operation) -> String {
    let does = match operation.does {
        Does::Weight(weight) => format!("weight {}", weight.value()),
        other => other.word().to_owned(),
    };
    let node = match &operation.target {
        Target::Node(node) => format!(" of node {node}"),
        Target::Instance { .. } => String::new(),
    };
    let reason = if operation.reason.is_empty() { "" } else { ": " };
    format!("{does}{node} (operation {}){reason}{}", operation.number, operation.reason)
}

/// Names of the services of which a part of the instances, or nobody, gets work.
pub fn troubled(snapshot: &Snapshot) -> Vec<Arc<str>> {
    let trouble = |service: &&Arc<Service>| {
        service.eligible.is_empty()
            || service.eligible.len() != service.instances.len()
            || !service.problems.is_empty()
    };
    let mut names: Vec<_> =
        snapshot.services.values().filter(trouble).map(|s| Arc::clone(&s.name)).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::assemble::{ServiceSettings, Source, assemble};
    use crate::catalog::model::{Address, Port};
    use crate::catalog::{
        InstanceVerdict, RegistryState, RegistryView, ServiceVerdicts, SourceService, Verdict,
        Verdicts,
    };

    #[test]
    fn why_tells_each_instance_by_whose_word_and_who_stands_in() {
        let at = Address::parse("10.0.0.1").unwrap();
        let instance = |id: &str, health, cause: &str| {
            Arc::new(Instance {
                health,
                cause: cause.into(),
                ports: Arc::new([Port { name: "".into(), number: 80 }]),
                ..Instance::bare("r", id, at.clone())
            })
        };
        let service = |name: &str, instances| SourceService {
            name: name.into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances,
            problems: Vec::new(),
            suspect: None,
        };
        let view = RegistryView::default()
            .with(service(
                "web",
                vec![
                    instance("a", Health::Unhealthy, "HTTP 500"),
                    instance("b", Health::Healthy, ""),
                ],
            ))
            .with(service("standby", vec![instance("s", Health::Unknown, "")]));
        let failing = Verdict {
            health: Health::Unhealthy,
            cause: "connection refused".into(),
            since: SystemTime::UNIX_EPOCH,
        };
        let verdict = InstanceVerdict { address: at, check: Some(failing), ejected: None };
        let verdicts = ServiceVerdicts {
            instances: [(("r".into(), "b".into()), verdict)].into_iter().collect(),
        };
        let settings = ServiceSettings {
            checked: true,
            backup: Some("standby".into()),
            ..ServiceSettings::default()
        };
        let verdicts: Verdicts = [("web".into(), Arc::new(verdicts))].into_iter().collect();
        let settings = Arc::new([("web".into(), settings)].into_iter().collect());
        let source = Source::new("r", 0, RegistryState::Live(view));
        let inputs = Inputs::new(vec![source], settings, verdicts);
        let snapshot = assemble(None, &inputs, 7).unwrap();
        let history = History::new(SystemTime::UNIX_EPOCH);

        let told = why("web", &snapshot, &inputs, &history);
        let of = |id: &str| told.instances.iter().find(|i| &*i.id == id).unwrap();
        assert_eq!(of("a").reason, "unhealthy: HTTP 500", "not checked yet is no better word");
        assert_eq!(of("b").reason, "unhealthy: connection refused");
        let by: Vec<_> = of("b").words.iter().map(|word| &*word.by).collect();
        assert_eq!(by, ["registry r", "check"]);
        assert!(told.backup.is_some_and(|backup| backup.active));
        assert_eq!((told.eligible, told.generation), (1, 7));
        assert_eq!(troubled(&snapshot), ["web".into()]);
        assert!(!why("wbe", &snapshot, &inputs, &history).known);
    }
}
