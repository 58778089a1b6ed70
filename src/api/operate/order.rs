//! What is asked for, and whom it is about. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;

use crate::catalog::Snapshot;
use crate::catalog::model::{Weight, parse_text};
use crate::catalog::operations::{Does, Operation, Operations, REASON_MAX, Target};
use crate::suggest;
use crate::units::Period;

/// Candidates that a refusal lists at most.
const CANDIDATES_MAX: usize = 20;

/// The body of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    /// Id of an instance, or `registry/service/id`.
    pub id: Option<String>,
    /// Its service, where the id alone is not enough.
    pub service: Option<String>,
    /// Its registry, likewise.
    pub registry: Option<String>,
    /// Or every instance on this node.
    pub node: Option<String>,
    /// The share of work, for weight.
    pub weight: Option<i64>,
    /// How long what runs may go on.
    pub deadline: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Take it back instead.
    pub undo: bool,
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It can't be read.
    Unreadable(String),
    /// There is no such instance, node or operation.
    Unknown(String),
    /// It is not clear who is meant, or it contradicts what is said already.
    Conflict(String),
    /// It can't be kept on disk, so it does not count.
    Unkept(String),
}

impl Refused {
    /// In words.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Unreadable(why)
            | Self::Unknown(why)
            | Self::Conflict(why)
            | Self::Unkept(why) => why,
        }
    }
}

impl Order {
    /// Whom it is about: an instance or node of `snapshot`, or one of which operators have said
    /// something already.
    ///
    /// # Errors
    /// Nobody, or more than one; then all of them are listed.
    pub fn target(&self, snapshot: &Snapshot, said: &Operations) -> Result<Target, Refused> {
        match (&self.id, &self.node) {
            (Some(id), None) => self.instance(id, snapshot, said),
            (None, Some(node)) => {
                if self.service.is_some() || self.registry.is_some() {
                    let message = "a node has neither service nor registry: all on it is meant";
                    return Err(Refused::Unreadable(message.to_owned()));
                }
                known_node(node, snapshot, said)
            }
            _ => Err(Refused::Unreadable(
                "say who is meant: either an instance by `id`, or a `node`".to_owned(),
            )),
        }
    }

    fn instance(
        &self,
        id: &str,
        snapshot: &Snapshot,
        said: &Operations,
    ) -> Result<Target, Refused> {
        let (service, registry) = (self.service.as_deref(), self.registry.as_deref());
        let mut found = candidates(id, service, registry, snapshot, said);
        if found.is_empty()
            && let Some((registry, rest)) = id.split_once('/')
            && let Some((service, id)) = rest.split_once('/')
        {
            found = candidates(id, Some(service), Some(registry), snapshot, said);
        }
        if found.len() > 1 {
            let mut lines: Vec<String> = found.iter().map(spelled).collect();
            lines.sort();
            let more = lines.len().saturating_sub(CANDIDATES_MAX);
            lines.truncate(CANDIDATES_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Err(Refused::Conflict(format!(
                "several instances have the id {id:?}; say which by registry/service/id: {}{more}",
                lines.join(", ")
            )));
        }
        found.pop_first().ok_or_else(|| {
            let of = service.map(|service| format!(" of service {service:?}")).unwrap_or_default();
            Refused::Unknown(format!(
                "no registry tells of an instance {id:?}{of}; `portolan why service/NAME` lists \
                 those of a service"
            ))
        })
    }

    /// The operation that it asks for, said by `who` at `now`.
    ///
    /// # Errors
    /// A part of it can't be.
    pub fn operation(
        &self,
        does: Wanted,
        target: Target,
        who: &str,
        now: SystemTime,
    ) -> Result<Operation, Refused> {
        let unreadable = Refused::Unreadable;
        let does = match (does, self.weight) {
            (Wanted::Drain, None) => Does::Drain,
            (Wanted::Maintenance, None) => Does::Maintenance,
            (Wanted::Weight, Some(weight)) => {
                Does::Weight(Weight::try_from(weight).map_err(unreadable)?)
            }
            (Wanted::Weight, None) => {
                let message = "say the weight, 0 (no new work) to 1000, or undo = true";
                return Err(unreadable(message.to_owned()));
            }
            (_, Some(_)) => {
                return Err(unreadable("a weight goes to POST /v1/weight".to_owned()));
            }
        };
        let period = self.deadline.as_deref().map(str::parse::<Period>).transpose();
        let period = period.map_err(|error| unreadable(format!("deadline: {error}")))?;
        if period.is_some() && does.word() == "weight" {
            return Err(unreadable("a weight has no deadline".to_owned()));
        }
        let reason = self.reason.as_deref().unwrap_or_default();
        Ok(Operation {
            number: 0,
            target,
            does,
            who: who.into(),
            since: now,
            reason: parse_text("reason", reason, REASON_MAX).map_err(unreadable)?,
            deadline: period.and_then(|period| now.checked_add(period.0)),
            over: false,
        })
    }
}

/// What is asked for, before its details are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Drain.
    Drain,
    /// Maintenance.
    Maintenance,
    /// Another weight.
    Weight,
}

impl Wanted {
    /// Lower-case word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
            Self::Weight => "weight",
        }
    }
}

/// Every instance with the id, as far as service and registry fit.
fn candidates(
    id: &str,
    service: Option<&str>,
    registry: Option<&str>,
    snapshot: &Snapshot,
    said: &Operations,
) -> BTreeSet<Target> {
    let fits = |of: &str, by: &str, its: &str| {
        its == id && service.is_none_or(|s| s == of) && registry.is_none_or(|r| r == by)
    };
    let mut found = BTreeSet::new();
    let services: Vec<_> = match service {
        Some(name) => snapshot.service(name).into_iter().collect(),
        None => snapshot.services.values().collect(),
    };
    for known in services {
        for instance in known.instances.iter() {
            if fits(&known.name, &instance.registry, &instance.id) {
                found.insert(Target::Instance {
                    service: Arc::clone(&known.name),
                    registry: Arc::clone(&instance.registry),
                    id: Arc::clone(&instance.id),
                });
            }
        }
    }
    let known = said.iter().map(|operation| &operation.target);
    found.extend(
        known
            .filter(|target| match target {
                Target::Instance { service, registry, id } => fits(service, registry, id),
                Target::Node(_) => false,
            })
            .cloned(),
    );
    found
}

fn known_node(node: &str, snapshot: &Snapshot, said: &Operations) -> Result<Target, Refused> {
    let listed = snapshot.told.iter().flat_map(|told| told.nodes.values());
    let listed = listed.map(|node| &node.name);
    let instances = snapshot.services.values().flat_map(|service| service.instances.iter());
    let below = instances.filter_map(|instance| Some(&instance.node.as_ref()?.name));
    let operated = said.iter().filter_map(|operation| match &operation.target {
        Target::Node(node) => Some(node),
        Target::Instance { .. } => None,
    });
    let names: BTreeSet<&Arc<str>> = listed.chain(below).chain(operated).collect();
    if let Some(known) = names.iter().find(|known| &****known == node) {
        return Ok(Target::Node(Arc::clone(known)));
    }
    let names: Vec<&str> = names.into_iter().map(|name| &**name).collect();
    let near = suggest::nearest(node, &names);
    let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    Err(Refused::Unknown(format!(
        "no registry tells of a node {node:?} or of instances on it{near}"
    )))
}

/// How a target is written.
#[must_use]
pub fn spelled(target: &Target) -> String {
    match target {
        Target::Instance { service, registry, id } => format!("{registry}/{service}/{id}"),
        Target::Node(node) => format!("node {node}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::assemble::{Inputs, Source, assemble};
    use crate::catalog::model::{Address, Instance, Meta, Node};
    use crate::catalog::{RegistryState, RegistryView, SourceService, Verdicts};

    fn snapshot(told: &[(&str, &str, &[&str])]) -> Snapshot {
        let source = |(registry, service, ids): &(&str, &str, &[&str])| {
            let node = Node { name: "host-1".into(), address: None, meta: Meta::default() };
            let instance = |id: &&str| {
                let address = Address::parse("10.0.0.1").unwrap();
                let node = Some(node.clone());
                Arc::new(Instance { node, ..Instance::bare(registry, id, address) })
            };
            let service = SourceService {
                name: (*service).into(),
                tags: Arc::new([]),
                meta: Arc::default(),
                instances: ids.iter().map(instance).collect(),
                problems: Vec::new(),
                suspect: None,
            };
            Source::new(registry, 0, RegistryState::Live(RegistryView::default().with(service)))
        };
        let sources = told.iter().map(source).collect();
        assemble(None, &Inputs::new(sources, Arc::default(), Verdicts::default()), 1).unwrap()
    }

    #[test]
    fn an_instance_is_meant_by_its_id_where_that_is_enough_and_else_all_are_listed() {
        let snapshot = snapshot(&[("r", "web", &["a", "host/b"]), ("s", "db", &["a"])]);
        let none = Operations::default();
        let ask = |id: &str, service: Option<&str>, registry: Option<&str>| {
            let order = Order {
                id: Some(id.to_owned()),
                service: service.map(str::to_owned),
                registry: registry.map(str::to_owned),
                ..Order::default()
            };
            order.target(&snapshot, &none).map(|target| spelled(&target))
        };
        assert_eq!(ask("host/b", None, None).unwrap(), "r/web/host/b");
        assert_eq!(ask("a", Some("db"), None).unwrap(), "s/db/a");
        assert_eq!(ask("a", None, Some("r")).unwrap(), "r/web/a");
        assert_eq!(ask("s/db/a", None, None).unwrap(), "s/db/a");
        let refused = ask("a", None, None).unwrap_err();
        assert!(matches!(&refused, Refused::Conflict(why) if why.contains("r/web/a, s/db/a")));
        let refused = ask("z", Some("web"), None).unwrap_err();
        assert!(matches!(&refused, Refused::Unknown(why) if why.contains("\"z\" of service")));
    }

    #[test]
    fn who_is_gone_is_still_known_by_what_was_said_of_it() {
        let before = snapshot(&[("r", "web", &["a"])]);
        let order = Order { id: Some("a".to_owned()), ..Order::default() };
        let mut said = Operations::default();
        let target = order.target(&before, &said).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        said.put(order.operation(Wanted::Drain, target.clone(), "me", now).unwrap(), 9).unwrap();
        assert_eq!(order.target(&snapshot(&[]), &said), Ok(target));
    }

    #[test]
    fn a_node_that_nobody_knows_is_refused_with_the_nearest_one() {
        let snapshot = snapshot(&[("r", "web", &["a"])]);
        let ask = |node: &str| {
            let order = Order { node: Some(node.to_owned()), ..Order::default() };
            order.target(&snapshot, &Operations::default())
        };
        assert_eq!(ask("host-1"), Ok(Target::Node("host-1".into())));
        let refused = ask("hots-1").unwrap_err();
        assert!(refused.message().contains("did you mean \"host-1\"?"), "{refused:?}");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_write() {
        let order = || Order { node: Some("n".to_owned()), ..Order::default() };
        let text = |text: &str| Some(text.to_owned());
        for (case, wanted, order, part) in [
            ("no weight", Wanted::Weight, order(), "say the weight"),
            (
                "too heavy",
                Wanted::Weight,
                Order { weight: Some(1001), ..order() },
                "between 0 (no new work) and 1000",
            ),
            ("a stray weight", Wanted::Drain, Order { weight: Some(1), ..order() }, "/v1/weight"),
            (
                "no length of time",
                Wanted::Drain,
                Order { deadline: text("soon"), ..order() },
                "\"250ms\"",
            ),
            (
                "weight with a deadline",
                Wanted::Weight,
                Order { weight: Some(1), deadline: text("1s"), ..order() },
                "no deadline",
            ),
            (
                "a control character",
                Wanted::Drain,
                Order { reason: text("a\nb"), ..order() },
                "control character",
            ),
        ] {
            let target = Target::Node("n".into());
            let refused = order.operation(wanted, target, "me", SystemTime::UNIX_EPOCH);
            let refused = refused.unwrap_err();
            assert!(refused.message().contains(part), "{case}: {refused:?}");
        }
    }
}
