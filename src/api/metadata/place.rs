//! Where a service belongs: its environment, its stack, its name in that, and its containers in the
//! order of their creation.

use std::sync::Arc;

use crate::catalog::model::{Instance, Service};

/// Stack of services that tell none.
const STACK: &str = "default";
/// What decides about a chart besides the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sieve {
    /// Registries that are shown; none: all.
    pub(super) registries: Option<Vec<String>>,
    /// Environment of services that tell none.
    pub(super) environment: Arc<str>,
}

impl Sieve {
    pub(super) fn shows(&self, registry: &str) -> bool {
        self.registries.as_ref().is_none_or(|shown| shown.iter().any(|name| name == registry))
    }
}

/// A service in its place.
#[derive(Debug)]
pub(super) struct Placed {
    /// As the catalog has it.
    pub(super) service: Arc<Service>,
    /// Its environment.
    pub(super) environment: Arc<str>,
    /// Its stack in that.
    pub(super) stack: Arc<str>,
    /// Its name in that.
    pub(super) name: Arc<str>,
    /// Places of those of its instances that are shown, in the order of their creation.
    pub(super) shown: Box<[u32]>,
    /// Environment, stack, name in lower case, and the name in the catalog: by this it is sorted.
    pub(super) order: Box<str>,
    /// How much of the order tells the stack.
    stack_end: usize,
}

impl Placed {
    /// The same for all services of a stack, whatever their letter case.
    pub(super) fn stack_key(&self) -> &str {
        self.order.get(..self.stack_end).unwrap_or_default()
    }

    /// How many containers it has.
    pub(super) const fn len(&self) -> usize {
        self.shown.len()
    }

    /// Its `nth` container, from 0.
    pub(super) fn container(&self, nth: u32) -> Option<&Arc<Instance>> {
        self.service.instances.get(*self.shown.get(nth as usize)? as usize)
    }

    /// All of its containers.
    pub(super) fn containers(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.shown.iter().filter_map(|at| self.service.instances.get(*at as usize))
    }
}

/// A service in its place, if it is shown. Where it belongs: `rancher.stack` and
/// `rancher.environment` of its meta, else the parts of its name (`web.shop.prod`), else the group
/// of its first instance.
pub(super) fn place(
    service: &Arc<Service>,
    sieve: &Sieve,
    shows: &dyn Fn(&str) -> bool,
) -> Option<Placed> {
    if service.meta.contains_key("rancher.answers") {
        return None;
    }
    let order = |at: &u32| {
        let instance = service.instances.get(*at as usize);
        instance.map_or(i64::MAX, |instance| create_index(instance).unwrap_or(i64::MAX))
    };
    let shown = (0..).zip(service.instances.iter());
    let mut shown: Vec<u32> =
        shown.filter(|(_, instance)| shows(&instance.registry)).map(|(at, _)| at).collect();
    if shown.is_empty() && !service.instances.is_empty() {
        return None;
    }
    shown.sort_by_key(order);
    let meta = |key: &str| service.meta.get(key).cloned();
    let parts: Vec<&str> = service.name.split('.').collect();
    let (name, stack, environment): (Arc<str>, _, _) = match parts[..] {
        [.., stack, environment] if parts.len() > 2 => {
            (parts[..parts.len() - 2].join(".").into(), Some(stack), Some(environment))
        }
        [name, stack] => (name.into(), Some(stack), None),
        _ => (Arc::clone(&service.name), None, None),
    };
    let group = || service.instances.first().and_then(|instance| instance.group.clone());
    let stack = meta("rancher.stack").or_else(|| stack.map(Into::into)).or_else(group);
    let environment = meta("rancher.environment").or_else(|| environment.map(Into::into));
    let environment = environment.unwrap_or_else(|| Arc::clone(&sieve.environment));
    let stack = stack.unwrap_or_else(|| STACK.into());
    let stack_key = format!("{environment}\0{stack}\0").to_lowercase();
    let stack_end = stack_key.len();
    let order = format!("{stack_key}{}\0{}", name.to_lowercase(), service.name);
    Some(Placed {
        service: Arc::clone(service),
        environment,
        stack,
        name,
        shown: shown.into(),
        order: order.into(),
        stack_end,
    })
}

/// `rancher.create_index` of an instance, if it is a number.
pub(super) fn create_index(instance: &Instance) -> Option<i64> {
    instance.meta.get("rancher.create_index")?.parse().ok()
}
