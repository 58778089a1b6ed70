//! What was found out about instances beyond their registries: by checks, and by what the proxy
//! saw. Verdicts are the only way by which health comes back into the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::model::{Address, Health, Instance};
use super::shards::Shards;

/// Verdicts by service name.
pub type Verdicts = Shards<Arc<str>, ServiceVerdicts>;

/// One finding about one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it comes to.
    pub health: Health,
    /// Who says so and why, in words.
    pub cause: Arc<str>,
    /// Since when the health is this one.
    pub since: SystemTime,
}

/// What the cause says of an instance that has to pass checks of its own and is not decided yet.
pub const NOT_CHECKED_YET: &str = "not checked yet";

/// That an instance is taken out for a while, by what the proxy saw of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ejection {
    /// What was seen, in words.
    pub cause: Arc<str>,
    /// When it was taken out.
    pub since: SystemTime,
    /// When it is to be back.
    pub until: SystemTime,
}

/// What checks and outlier detection say of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceVerdict {
    /// The address that was judged: a verdict on another address does not count.
    pub address: Address,
    /// The result of its own checks; none while nothing is decided.
    #[serde(default)]
    pub check: Option<Verdict>,
    /// Set while it is ejected by what the proxy saw.
    #[serde(default)]
    pub ejected: Option<Ejection>,
}

/// What is said of the instances of one service, by registry and id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceVerdicts {
    /// By registry and id.
    pub instances: BTreeMap<(Arc<str>, Arc<str>), InstanceVerdict>,
}

impl ServiceVerdicts {
    /// What is said of `instance` at the address that it has.
    #[must_use]
    pub fn of(&self, instance: &Instance) -> Option<&InstanceVerdict> {
        let key = (Arc::clone(&instance.registry), Arc::clone(&instance.id));
        self.instances.get(&key).filter(|verdict| verdict.address == instance.address)
    }
}

/// What counts of an instance until its checks have come to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Its registry's word, now and ever: it is not checked.
    Ever,
    /// Nothing: it has to pass them first.
    Passed,
    /// Its registry's word.
    Answered,
}

/// `instance` with its health and cause as its registry and its verdict decide together: the worst
/// word counts, and `until` there is a verdict that of the registry, or none.
#[must_use]
pub fn judged(
    instance: &Arc<Instance>,
    verdict: Option<&InstanceVerdict>,
    until: Until,
) -> Arc<Instance> {
    let checked = until != Until::Ever;
    let check = verdict.and_then(|verdict| verdict.check.as_ref()).filter(|_| checked);
    let ejected = verdict.and_then(|verdict| verdict.ejected.as_ref());
    let own = match check {
        Some(check) => Some((check.health, Arc::clone(&check.cause))),
        None if until == Until::Passed => Some((Health::Unhealthy, Arc::from(NOT_CHECKED_YET))),
        None => None,
    };
    let mut decided = (instance.health, Arc::clone(&instance.cause));
    if let Some(own) = own {
        // A check that passes makes known what the registry does not know, and nothing better;
        // one that has yet to come adds nothing to a failure.
        let (word, known) = (own.0.severity(), decided.0.severity());
        if word > known || (word == known && check.is_some()) {
            decided = own;
        }
    }
    if let Some(ejected) = ejected
        && decided.0.severity() < Health::Unhealthy.severity()
    {
        decided = (Health::Unhealthy, Arc::clone(&ejected.cause));
    }
    if decided.0 == instance.health && decided.1 == instance.cause {
        return Arc::clone(instance);
    }
    Arc::new(Instance { health: decided.0, cause: decided.1, ..Instance::clone(instance) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_and_own_check_and_the_proxy_decide_together_and_the_worst_word_counts() {
        use Health::{Healthy, Unhealthy, Unknown, Warning};
        use Until::{Answered, Ever, Passed};
        let since = SystemTime::UNIX_EPOCH;
        let at = |health| Verdict { health, cause: "c".into(), since };
        let out = Ejection { cause: "e".into(), since, until: since };
        for (case, registry, until, check, ejected, want) in [
            ("trusted", Unknown, Ever, None, false, Unknown),
            ("a first success makes known", Unknown, Passed, Some(Healthy), false, Healthy),
            ("not checked yet", Healthy, Passed, None, false, Unhealthy),
            ("trusted meanwhile", Healthy, Answered, None, false, Healthy),
            ("trusted no longer", Healthy, Answered, Some(Unhealthy), false, Unhealthy),
            ("the check fails", Healthy, Passed, Some(Unhealthy), false, Unhealthy),
            ("the registry fails", Unhealthy, Passed, Some(Healthy), false, Unhealthy),
            ("the registry fails first", Unhealthy, Answered, None, false, Unhealthy),
            ("the registry warns", Warning, Passed, Some(Healthy), false, Warning),
            ("a check that is gone", Healthy, Ever, Some(Unhealthy), false, Healthy),
            ("ejected", Healthy, Passed, Some(Healthy), true, Unhealthy),
            ("ejected without checks", Unknown, Ever, None, true, Unhealthy),
        ] {
            let instance = Arc::new(Instance {
                health: registry,
                ..Instance::bare("r", "a", Address::parse("10.0.0.1").unwrap())
            });
            let verdict = InstanceVerdict {
                address: instance.address.clone(),
                check: check.map(at),
                ejected: ejected.then(|| out.clone()),
            };
            assert_eq!(judged(&instance, Some(&verdict), until).health, want, "{case}");
        }
    }

    #[test]
    fn a_verdict_on_another_address_does_not_count() {
        let instance = Instance::bare("r", "a", Address::parse("10.0.0.1").unwrap());
        let mut verdicts = ServiceVerdicts::default();
        let elsewhere = InstanceVerdict {
            address: Address::parse("10.0.0.2").unwrap(),
            check: None,
            ejected: None,
        };
        verdicts.instances.insert(("r".into(), "a".into()), elsewhere.clone());
        assert_eq!(verdicts.of(&instance), None);
        let here = InstanceVerdict { address: instance.address.clone(), ..elsewhere };
        verdicts.instances.insert(("r".into(), "a".into()), here.clone());
        assert_eq!(verdicts.of(&instance), Some(&here));
    }
}
