//! One stream of verdicts for the catalog, united from those of the checks and those of outlier
//! detection. Costs what changed.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::catalog::verdict::{InstanceVerdict, ServiceVerdicts, Verdicts};

/// The latest of both sides, and their union.
#[derive(Debug, Clone, Default)]
pub struct Union {
    checks: Verdicts,
    ejections: Verdicts,
    both: Verdicts,
}

impl Union {
    /// Takes what both sides say now; whether the union says something else than before. A service
    /// whose union is equal keeps its allocation.
    pub fn update(&mut self, checks: Verdicts, ejections: Verdicts) -> bool {
        let mut touched: HashSet<Arc<str>> = HashSet::new();
        checks.changes_since(&self.checks, |(name, _, _)| {
            touched.insert(Arc::clone(name));
        });
        ejections.changes_since(&self.ejections, |(name, _, _)| {
            touched.insert(Arc::clone(name));
        });
        self.checks = checks;
        self.ejections = ejections;
        let mut changed = false;
        for name in touched {
            let united = match (self.checks.get(&*name), self.ejections.get(&*name)) {
                (None, None) => None,
                (Some(one), None) | (None, Some(one)) => Some(Arc::clone(one)),
                (Some(checks), Some(ejections)) => Some(Arc::new(unite(checks, ejections))),
            };
            let known = self.both.get(&*name);
            if known.map(|known| &**known) == united.as_deref() {
                continue;
            }
            changed = true;
            match united {
                Some(united) => self.both.insert(name, united),
                None => self.both.remove(&*name),
            };
        }
        changed
    }

    /// The union of what both said last.
    #[must_use]
    pub const fn verdicts(&self) -> &Verdicts {
        &self.both
    }
}

/// Both words on each instance. When they are about different addresses the check's counts, which
/// follows the registry; an ejection of the address before is over.
fn unite(checks: &ServiceVerdicts, ejections: &ServiceVerdicts) -> ServiceVerdicts {
    let mut united = checks.clone();
    for (key, ejection) in &ejections.instances {
        let entry = united.instances.entry(key.clone()).or_insert_with(|| InstanceVerdict {
            address: ejection.address.clone(),
            check: None,
            ejected: None,
        });
        if entry.address == ejection.address {
            entry.ejected.clone_from(&ejection.ejected);
        }
    }
    united
}

/// What is said of checks in `verdicts`, without any ejection.
#[must_use]
pub fn checks_of(verdicts: &Verdicts) -> Verdicts {
    let only_checks = |verdict: &InstanceVerdict| {
        verdict.check.is_some().then(|| InstanceVerdict { ejected: None, ..verdict.clone() })
    };
    let of = |(name, told): (&Arc<str>, &Arc<ServiceVerdicts>)| {
        let checks = told.instances.iter();
        let checks = checks.filter_map(|(key, v)| Some((key.clone(), only_checks(v)?)));
        let instances: std::collections::BTreeMap<_, _> = checks.collect();
        (!instances.is_empty()).then(|| (Arc::clone(name), Arc::new(ServiceVerdicts { instances })))
    };
    verdicts.iter().filter_map(of).collect()
}

/// What both sides say together, for as long as one of them lives and somebody listens. A side that
/// has ended keeps its last word.
#[must_use]
pub fn join(
    mut checks: watch::Receiver<Verdicts>,
    mut ejections: watch::Receiver<Verdicts>,
) -> watch::Receiver<Verdicts> {
    let mut union = Union::default();
    union.update(checks.borrow_and_update().clone(), ejections.borrow_and_update().clone());
    let (sender, receiver) = watch::channel(union.verdicts().clone());
    tokio::spawn(async move {
        let (mut checks_live, mut ejections_live) = (true, true);
        while checks_live || ejections_live {
            tokio::select! {
                changed = checks.changed(), if checks_live => checks_live = changed.is_ok(),
                changed = ejections.changed(), if ejections_live => {
                    ejections_live = changed.is_ok();
                }
                () = sender.closed() => return,
            }
            let checks = checks.borrow_and_update().clone();
            if union.update(checks, ejections.borrow_and_update().clone()) {
                sender.send_replace(union.verdicts().clone());
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::catalog::verdict::{Ejection, Verdict};
    use crate::catalog::{Address, Health};

    fn verdict(address: &str, check: Option<Health>, ejected: bool) -> InstanceVerdict {
        let since = SystemTime::UNIX_EPOCH;
        InstanceVerdict {
            address: Address::parse(address).unwrap(),
            check: check.map(|health| Verdict { health, cause: "c".into(), since }),
            ejected: ejected.then(|| Ejection { cause: "e".into(), since, until: since }),
        }
    }

    fn told(service: &str, instances: &[(&str, InstanceVerdict)]) -> Verdicts {
        let instances = instances.iter().map(|(id, v)| (("r".into(), (*id).into()), v.clone()));
        let service_verdicts = ServiceVerdicts { instances: instances.collect() };
        [(Arc::from(service), Arc::new(service_verdicts))].into_iter().collect()
    }

    #[test]
    fn both_words_on_an_instance_stand_together_and_each_stands_alone() {
        use Health::Healthy;
        let checks = told(
            "web",
            &[
                ("both", verdict("10.0.0.1", Some(Healthy), false)),
                ("checked", verdict("10.0.0.2", Some(Healthy), false)),
                ("moved", verdict("10.0.0.3", Some(Healthy), false)),
            ],
        );
        let ejections = told(
            "web",
            &[
                ("both", verdict("10.0.0.1", None, true)),
                ("ejected", verdict("10.0.0.4", None, true)),
                ("moved", verdict("10.0.0.9", None, true)),
            ],
        );
        let mut union = Union::default();
        assert!(union.update(checks, ejections));
        let wanted = told(
            "web",
            &[
                ("both", verdict("10.0.0.1", Some(Healthy), true)),
                ("checked", verdict("10.0.0.2", Some(Healthy), false)),
                ("ejected", verdict("10.0.0.4", None, true)),
                ("moved", verdict("10.0.0.3", Some(Healthy), false)),
            ],
        );
        assert_eq!(union.verdicts().get("web"), wanted.get("web"));
    }

    #[test]
    fn what_says_the_same_changes_nothing_and_what_is_gone_is_gone() {
        let one = || told("web", &[("a", verdict("10.0.0.1", None, true))]);
        let mut union = Union::default();
        assert!(union.update(Verdicts::default(), one()));
        let before = union.verdicts().clone();
        assert!(!union.update(Verdicts::default(), one()), "equal, in another allocation");
        assert!(union.verdicts().same(&before));
        assert!(union.update(one(), Verdicts::default()) || union.verdicts().len() == 1);
        assert!(union.update(Verdicts::default(), Verdicts::default()));
        assert!(union.verdicts().is_empty());
    }

    #[tokio::test]
    async fn either_side_is_heard_also_after_the_other_has_ended() {
        let (checks, checks_seen) = watch::channel(Verdicts::default());
        let (ejections, ejections_seen) = watch::channel(Verdicts::default());
        let mut both = join(checks_seen, ejections_seen);
        checks
            .send_replace(told("web", &[("a", verdict("10.0.0.1", Some(Health::Healthy), false))]));
        both.wait_for(|both| both.get("web").is_some()).await.unwrap();
        drop(checks);
        ejections.send_replace(told("web", &[("a", verdict("10.0.0.1", None, true))]));
        let wanted = told("web", &[("a", verdict("10.0.0.1", Some(Health::Healthy), true))]);
        both.wait_for(|both| both.get("web") == wanted.get("web")).await.unwrap();
    }
}
