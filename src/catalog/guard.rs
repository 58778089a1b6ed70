//! The guard: what a suspect registry may not take away.
//!
//! A registry that has just come back, has another leader or counts anew often says too little at
//! first. While its view, or one service of it, is suspect, losses above a share are held: what
//! was there stays until the registry has read everything a second time and is believed again.
//! One that is believed may take away everything, at once. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::model::Instance;
use super::source::{RegistryView, SourceService};
use crate::units::{Period, Share};

/// `[guard]`: when a registry that has just reconnected says that much is gone.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Share of the serving instances of one service, or of one registry, that may go while the
    /// registry is suspect; more is held.
    pub max_loss: Share,
    /// How long a registry is suspect: its first full read after that is believed.
    pub hold: Period,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { max_loss: Share(0.7), hold: Period::from_secs(30) }
    }
}

/// A loss that is not believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The service.
    pub service: Arc<str>,
    /// How many serving instances would be lost.
    pub lost: usize,
    /// Of how many.
    pub of: usize,
    /// Why the registry is suspect.
    pub why: Arc<str>,
}

/// What of `said` counts after `admitted`, which is what counted before, and what is held.
///
/// An instance is lost when it served and is gone, or is said not to serve any more. What is new
/// always counts. Costs what differs; the whole registry is counted only when it is suspect and
/// has losses.
#[must_use]
pub fn admit(
    config: GuardConfig,
    admitted: Option<&RegistryView>,
    said: &RegistryView,
) -> (RegistryView, Vec<Held>) {
    let Some(admitted) = admitted else { return (said.clone(), Vec::new()) };
    let mut losses: Vec<(Arc<SourceService>, Option<Arc<SourceService>>, Held)> = Vec::new();
    said.services.changes_since(&admitted.services, |(name, before, now)| {
        let Some(before) = before else { return };
        let own = now.and_then(|now| now.suspect.as_ref());
        let Some(why) = own.or(said.suspect.as_ref()) else { return };
        let (lost, of) = (lost(before, now.map(Arc::as_ref)).count(), serving(before).count());
        if lost > 0 {
            let held = Held { service: Arc::clone(name), lost, of, why: Arc::clone(why) };
            losses.push((Arc::clone(before), now.map(Arc::clone), held));
        }
    });
    let whole = said.suspect.is_some() && !losses.is_empty() && {
        let of: usize = admitted.services.values().map(|s| serving(s).count()).sum();
        above(config.max_loss, losses.iter().map(|(_, _, held)| held.lost).sum(), of)
    };
    losses.retain(|(_, _, held)| whole || above(config.max_loss, held.lost, held.of));
    let mut view = said.clone();
    for (before, now, held) in &losses {
        let kept = with_losses(before, now.as_deref());
        view.services.insert(Arc::clone(&held.service), Arc::new(kept));
    }
    if said.suspect.is_some() {
        keep_keys(config, admitted, &mut view);
    }
    let mut held: Vec<Held> = losses.into_iter().map(|(_, _, held)| held).collect();
    held.sort_by(|a, b| a.service.cmp(&b.service));
    (view, held)
}

fn above(max: Share, lost: usize, of: usize) -> bool {
    lost as f64 > max.0 * of as f64
}

fn serving(service: &SourceService) -> impl Iterator<Item = &Arc<Instance>> {
    service.instances.iter().filter(|instance| instance.health.serves())
}

/// The instances of `before` that served, and that `now` lacks or calls failed.
fn lost<'a>(
    before: &'a SourceService,
    now: Option<&SourceService>,
) -> impl Iterator<Item = &'a Arc<Instance>> {
    let serve: HashSet<Arc<str>> =
        now.into_iter().flat_map(serving).map(|instance| Arc::clone(&instance.id)).collect();
    serving(before).filter(move |instance| !serve.contains(&instance.id))
}

/// The service as it is said `now`, with what it would lose of `before`.
fn with_losses(before: &SourceService, now: Option<&SourceService>) -> SourceService {
    let kept: Vec<Arc<Instance>> = lost(before, now).cloned().collect();
    let mut service = now
        .cloned()
        .unwrap_or_else(|| SourceService { instances: Vec::new(), ..SourceService::clone(before) });
    service.instances.retain(|instance| kept.iter().all(|kept| kept.id != instance.id));
    service.instances.extend(kept);
    service
}

/// Puts the keys of `admitted` back that `view` lacks, when it lacks too many.
fn keep_keys(config: GuardConfig, admitted: &RegistryView, view: &mut RegistryView) {
    let mut gone = Vec::new();
    view.keys.changes_since(&admitted.keys, |(_, before, now)| {
        if let (Some(before), None) = (before, now) {
            gone.push(Arc::clone(before));
        }
    });
    if above(config.max_loss, gone.len(), admitted.keys.len()) {
        for key in gone {
            view.keys.insert(Arc::clone(&key.path), key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::model::{Address, Health};

    fn service(name: &str, ids: &[&str]) -> SourceService {
        let instance = |id: &&str| {
            let (id, health) = match id.strip_prefix('!') {
                Some(id) => (id, Health::Unhealthy),
                None => (*id, Health::Healthy),
            };
            let address = Address::parse("10.0.0.1").unwrap();
            Arc::new(Instance { health, ..Instance::bare("r", id, address) })
        };
        SourceService {
            name: name.into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances: ids.iter().map(instance).collect(),
            problems: Vec::new(),
            suspect: None,
        }
    }

    fn view(services: &[(&str, &[&str])], suspect: bool) -> RegistryView {
        let services = services.iter().map(|(name, ids)| service(name, ids)).collect();
        let mut view = RegistryView::default().replaced(services, Vec::new());
        view.suspect = suspect.then(|| "just back".into());
        view
    }

    fn serving_ids(view: &RegistryView, name: &str) -> Vec<String> {
        let service = view.services.get(name);
        let mut ids: Vec<_> =
            service.iter().flat_map(|s| serving(s)).map(|i| i.id.to_string()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_believed_registry_takes_away_everything_and_a_suspect_one_no_more_than_the_share() {
        let before = view(&[("web", &["a", "b", "c", "d"]), ("db", &["x"])], false);
        let db: (&str, &[&str]) = ("db", &["x"]);
        for (case, now, suspect, web, held) in [
            ("believed: the last go", vec![db], false, vec![], 0),
            ("suspect: a service vanishes", vec![db], true, vec!["a", "b", "c", "d"], 1),
            ("suspect: half may go", vec![("web", &["a", "b"][..]), db], true, vec!["a", "b"], 0),
            (
                "suspect: three of four are held, what is new counts",
                vec![("web", &["a", "e"][..]), db],
                true,
                vec!["a", "b", "c", "d", "e"],
                1,
            ),
            (
                "suspect: failing is a loss too",
                vec![("web", &["!a", "!b", "!c", "!d"][..]), db],
                true,
                vec!["a", "b", "c", "d"],
                1,
            ),
            ("suspect: nothing at all", vec![], true, vec!["a", "b", "c", "d"], 2),
        ] {
            let said = view(&now, suspect);
            let (admitted, told) = admit(GuardConfig::default(), Some(&before), &said);
            assert_eq!(serving_ids(&admitted, "web"), web, "{case}");
            assert_eq!(told.len(), held, "{case}: {told:?}");
            let believed = RegistryView { suspect: None, ..said.clone() };
            let (admitted, told) = admit(GuardConfig::default(), Some(&admitted), &believed);
            assert!(told.is_empty(), "{case}: once it is believed nothing is held");
            assert_eq!(serving_ids(&admitted, "web"), serving_ids(&said, "web"), "{case}");
        }
    }

    #[test]
    fn a_registry_that_loses_too_much_in_all_loses_nothing_of_any_service() {
        let before = view(&[("a", &["1", "2"]), ("b", &["1", "2"]), ("c", &["1", "2"])], false);
        let said = view(&[("a", &["1"]), ("b", &["1"])], true);
        let half = GuardConfig { max_loss: Share(0.5), ..GuardConfig::default() };
        let (admitted, held) = admit(half, Some(&before), &said);
        assert_eq!(serving_ids(&admitted, "a"), ["1", "2"]);
        assert_eq!(held.len(), 3);
    }

    #[test]
    fn one_suspect_service_is_held_and_the_others_are_believed() {
        let before = view(&[("a", &["1"]), ("b", &["1"])], false);
        let mut a = service("a", &[]);
        a.suspect = Some("its index went back".into());
        let said = before.with(a).with(service("b", &[]));
        let (admitted, held) = admit(GuardConfig::default(), Some(&before), &said);
        assert_eq!(serving_ids(&admitted, "a"), ["1"]);
        assert_eq!(serving_ids(&admitted, "b"), [""; 0]);
        assert_eq!(&*held[0].why, "its index went back");
    }

    proptest! {
        #[test]
        fn a_suspect_view_never_empties_a_service_and_a_believed_one_counts_as_it_is(
            before in proptest::collection::vec(0_u8..20, 1..12),
            now in proptest::collection::vec(0_u8..20, 0..12),
        ) {
            let ids = |numbers: &[u8]| {
                let set: std::collections::BTreeSet<_> = numbers.iter().copied().collect();
                set.iter().map(u8::to_string).collect::<Vec<_>>()
            };
            let (before, now) = (ids(&before), ids(&now));
            let of = |ids: &[String], suspect| {
                view(&[("s", &ids.iter().map(String::as_str).collect::<Vec<_>>())], suspect)
            };
            let was = of(&before, false);
            let (admitted, _) = admit(GuardConfig::default(), Some(&was), &of(&now, true));
            let kept = serving_ids(&admitted, "s");
            let left = before.iter().filter(|id| kept.contains(id)).count();
            prop_assert!(left as f64 >= 0.3 * before.len() as f64 - 1e-9);
            prop_assert!(now.iter().all(|id| kept.contains(id)), "what is new counts");
            let (believed, held) = admit(GuardConfig::default(), Some(&admitted), &of(&now, false));
            prop_assert!(held.is_empty());
            let mut now = now;
            now.sort();
            prop_assert_eq!(serving_ids(&believed, "s"), now);
        }
    }
}
