//! Who gets work: the eligible instances of a service, decided once per generation.

use std::sync::Arc;

use serde::Deserialize;

use super::model::{Health, Instance, Presence};

/// What a service does when none of its instances is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenNoneHealthy {
    /// Nobody is eligible: DNS says that there is nothing, the proxy answers 503.
    #[default]
    None,
    /// One instance is, always the same while the set does not change (as Rancher does).
    One,
    /// All of them are (fail open).
    All,
}

/// The instances that get new work, in the order of `instances`.
///
/// Neither leaving nor draining instances are ever among them, nor those of weight 0. When none of
/// them is healthy, `standby` takes over, the eligible instances of the backup; unhealthy ones are
/// eligible only when that is empty too and `when_none_healthy` says so.
#[must_use]
pub fn eligible(
    instances: &[Arc<Instance>],
    standby: &Arc<[Arc<Instance>]>,
    when_none_healthy: WhenNoneHealthy,
) -> Arc<[Arc<Instance>]> {
    let willing = |instance: &&Arc<Instance>| {
        instance.presence == Presence::Active && instance.weight.value() > 0
    };
    let serving: Arc<[_]> =
        instances.iter().filter(willing).filter(|i| i.health.serves()).cloned().collect();
    if !serving.is_empty() {
        return serving;
    }
    if !standby.is_empty() {
        return Arc::clone(standby);
    }
    let failing = instances.iter().filter(willing).filter(|i| i.health == Health::Unhealthy);
    match when_none_healthy {
        WhenNoneHealthy::None => serving,
        WhenNoneHealthy::One => failing.take(1).cloned().collect(),
        WhenNoneHealthy::All => failing.cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::model::{Address, Weight};

    fn instance(id: &str, health: Health, presence: Presence, weight: i64) -> Arc<Instance> {
        Arc::new(Instance {
            weight: Weight::try_from(weight).unwrap(),
            health,
            presence,
            ..Instance::bare("test", id, Address::parse("10.0.0.1").unwrap())
        })
    }

    #[test]
    fn eligible_are_those_that_serve_and_stay_and_want_work() {
        use Health::{Healthy, Unhealthy, Unknown, Warning};
        use Presence::{Active, Draining, Leaving};
        let up = instance("up", Healthy, Active, 1);
        let warn = instance("warn", Warning, Active, 1);
        let trusted = instance("trusted", Unknown, Active, 1);
        let down = instance("down", Unhealthy, Active, 1);
        let down2 = instance("down2", Unhealthy, Active, 1);
        let idle = instance("idle", Healthy, Active, 0);
        let draining = instance("draining", Healthy, Draining, 1);
        let leaving = instance("leaving", Unhealthy, Leaving, 1);
        let all = [&up, &warn, &trusted, &down, &idle, &draining, &leaving];
        let failing = [&down, &down2, &leaving, &draining];
        for (case, from, rule, want) in [
            ("normal", &all[..], WhenNoneHealthy::None, &["up", "warn", "trusted"][..]),
            ("normal, fail open", &all[..], WhenNoneHealthy::All, &["up", "warn", "trusted"][..]),
            ("all down, none", &failing[..], WhenNoneHealthy::None, &[][..]),
            ("all down, one", &failing[..], WhenNoneHealthy::One, &["down"][..]),
            ("all down, all", &failing[..], WhenNoneHealthy::All, &["down", "down2"][..]),
        ] {
            let from: Vec<_> = from.iter().map(|i| Arc::clone(i)).collect();
            let got = eligible(&from, &Arc::default(), rule);
            let got: Vec<&str> = got.iter().map(|i| &*i.id).collect();
            assert_eq!(got, want, "{case}");
        }
    }

    #[test]
    fn a_backup_takes_over_only_when_none_is_healthy_and_before_failing_ones_do() {
        let up = [instance("up", Health::Healthy, Presence::Active, 1)];
        let down = [instance("down", Health::Unhealthy, Presence::Active, 1)];
        let standby: Arc<[_]> = Arc::new([instance("b", Health::Unknown, Presence::Active, 1)]);
        let first = |from: &[Arc<Instance>]| {
            eligible(from, &standby, WhenNoneHealthy::All)[0].id.to_string()
        };
        assert_eq!((first(&up), first(&down), first(&[])), ("up".into(), "b".into(), "b".into()));
    }
}
