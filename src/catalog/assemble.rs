//! From what the registries and the checks say to one snapshot. Pure: the same inputs give the same
//! services.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::guard::Held;
use super::health::eligible;
use super::model::{Address, Health, Instance, Meta, Port, Presence, Service};
use super::operations::Operations;
pub use super::settings::{Checked, ServiceSettings, Settings};
use super::snapshot::{RegistryStatus, Snapshot, Staleness, Told};
use super::source::{RegistryState, RegistryView, SourceService};
use super::stale::WhenStale;
use super::verdict::{ServiceVerdicts, Until, Verdicts, judged};

/// One registry as it stands at the moment of assembling.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Who wins for the same instance id; ties go to the one that stands first.
    pub priority: i32,
    /// What it says, as far as the guard lets it count.
    pub state: RegistryState,
    /// Losses that the guard holds.
    pub held: Arc<[Held]>,
    /// What counts of it: anything but [`WhenStale::Serve`] when it was silent for too long.
    pub counts: WhenStale,
}

impl Source {
    /// A registry of which everything counts.
    #[must_use]
    pub fn new(name: &str, priority: i32, state: RegistryState) -> Self {
        let held = Arc::new([]);
        Self { name: name.into(), priority, state, held, counts: WhenStale::Serve }
    }

    /// What it says, unless it counts as never heard.
    fn view(&self) -> Option<&RegistryView> {
        self.state.view().filter(|_| self.counts != WhenStale::Servfail)
    }
}

/// Everything that decides about a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Registries, highest priority first (see [`Inputs::new`]).
    pub sources: Vec<Source>,
    /// Settings by service.
    pub settings: Arc<Settings>,
    /// What checks and the proxy found out.
    pub verdicts: Verdicts,
    /// What operators say.
    pub operations: Arc<Operations>,
}

impl Inputs {
    /// Orders the sources by priority, highest first; equal ones keep their order.
    #[must_use]
    pub fn new(mut sources: Vec<Source>, settings: Arc<Settings>, verdicts: Verdicts) -> Self {
        sources.sort_by_key(|source| std::cmp::Reverse(source.priority));
        Self { sources, settings, verdicts, operations: Arc::default() }
    }

    /// The same, with what operators say.
    #[must_use]
    pub fn with(self, operations: Arc<Operations>) -> Self {
        Self { operations, ..self }
    }
}

/// The snapshot of `now`, or `None` when it would say the same as the one before.
///
/// With `before` (the inputs and the snapshot that came from them) only those services are looked
/// at that a registry or a verdict changed since, and those that they stand in for; others are
/// shared. New settings or another list of registries look at all. An equal service keeps its
/// allocation, so that nobody after us takes it for a change.
#[must_use]
pub fn assemble(
    before: Option<(&Inputs, &Snapshot)>,
    now: &Inputs,
    generation: u64,
) -> Option<Snapshot> {
    let registries: Arc<[RegistryStatus]> = now.sources.iter().map(status).collect();
    let keys = now.sources.iter().filter_map(|source| {
        let keys = &source.view()?.keys;
        (!keys.is_empty()).then(|| (Arc::clone(&source.name), keys.clone()))
    });
    let documents = now.sources.iter().filter_map(|source| {
        let document = source.view()?.document.as_ref()?;
        Some((Arc::clone(&source.name), Arc::clone(document)))
    });
    let told = now.sources.iter().filter_map(|source| {
        let view = source.view()?;
        let (services, nodes) = (view.services.clone(), view.nodes.clone());
        Some(Told { registry: Arc::clone(&source.name), services, nodes })
    });
    let mut next = Snapshot {
        generation,
        registries,
        keys: keys.collect(),
        documents: documents.collect(),
        told: told.collect(),
        ..Snapshot::default()
    };
    let Some((inputs, snapshot)) = before else {
        for name in now.settings.in_order(all_names(now)) {
            refresh(&mut next, &name, now);
        }
        return Some(next);
    };

    next.services = snapshot.services.clone();
    for name in now.settings.in_order(touched(inputs, now)) {
        refresh(&mut next, &name, now);
    }
    let same_services = next.services.same(&snapshot.services);
    let same_keys = next.keys.len() == snapshot.keys.len()
        && next.keys.iter().zip(&snapshot.keys).all(|(a, b)| a.0 == b.0 && a.1.same(&b.1));
    let same_nodes = next.told.len() == snapshot.told.len()
        && next.told.iter().zip(&snapshot.told).all(|(a, b)| a.nodes.same(&b.nodes));
    let same_registries = next.registries.len() == snapshot.registries.len()
        && next.registries.iter().zip(snapshot.registries.iter()).all(|(a, b)| says_the_same(a, b));
    let same_rest = same_keys && same_nodes && same_registries && next.same_documents(snapshot);
    if same_services && same_rest { None } else { Some(next) }
}

/// Puts the united service under `name` into `snapshot`, or takes it out when nobody tells of it.
fn refresh(snapshot: &mut Snapshot, name: &Arc<str>, inputs: &Inputs) {
    let told: Vec<(&Source, &Arc<SourceService>)> = inputs
        .sources
        .iter()
        .filter_map(|source| Some((source, source.view()?.services.get(&**name)?)))
        .collect();
    let settings = inputs.settings.of(name);
    let standby = settings.backup.as_ref().and_then(|backup| snapshot.services.get(&**backup));
    let standby = standby.map(|service| Arc::clone(&service.eligible)).unwrap_or_default();
    // Where a backup stands in, a service that nobody tells of is one without instances.
    if told.is_empty() && standby.is_empty() {
        snapshot.services.remove(&**name);
        return;
    }
    let verdicts = inputs.verdicts.get(&**name).map(Arc::as_ref);
    let before = snapshot.services.get(&**name).map(Arc::clone);
    let service = unite(name, &told, inputs, verdicts, before.as_deref(), &standby);
    if snapshot.services.get(&**name).is_none_or(|known| **known != service) {
        snapshot.services.insert(Arc::clone(name), Arc::new(service));
    }
}

/// Unites what several registries say of one name; the first one to name an id wins it.
fn unite(
    name: &Arc<str>,
    told: &[(&Source, &Arc<SourceService>)],
    inputs: &Inputs,
    verdicts: Option<&ServiceVerdicts>,
    before: Option<&Service>,
    standby: &Arc<[Arc<Instance>]>,
) -> Service {
    let settings = inputs.settings.of(name);
    let meta = told.iter().map(|(_, service)| &service.meta).find(|meta| !meta.is_empty());
    let meta = meta.map_or_else(|| Arc::new(Meta::new()), Arc::clone);
    let served = Served::of(before);
    let mut instances = Vec::with_capacity(told.iter().map(|(_, t)| t.instances.len()).sum());
    let mut seen = HashSet::new();
    for (source, service) in told {
        let from = instances.len();
        for instance in &service.instances {
            if told.len() == 1 || seen.insert(Arc::clone(&instance.id)) {
                let instance = on_port(instance, settings.port);
                let verdict = verdicts.and_then(|verdicts| verdicts.of(&instance));
                let until = match inputs.settings.checked(name, &meta, &instance) {
                    Checked::No => Until::Ever,
                    Checked::Asked if vouched(&instance) || served.has(&instance) => {
                        Until::Answered
                    }
                    Checked::Configured | Checked::Asked => Until::Passed,
                };
                let instance = judged(&instance, verdict, until);
                let instance = drained(instance, source.counts);
                instances.push(inputs.operations.apply(name, instance));
            }
        }
        instances[from..].sort_by(|a: &Arc<Instance>, b| a.id.cmp(&b.id));
    }
    let told = || told.iter().map(|(_, service)| service);
    let mut tags: Vec<Arc<str>> = told().flat_map(|s| s.tags.iter()).cloned().collect();
    tags.extend(instances.iter().flat_map(|i| i.tags.iter()).cloned());
    tags.sort();
    tags.dedup();
    Service {
        name: Arc::clone(name),
        tags: tags.into(),
        meta,
        eligible: eligible(&instances, standby, settings.when_none_healthy),
        instances: instances.into(),
        problems: told().flat_map(|s| s.problems.iter()).cloned().collect(),
    }
}

/// Whether its registry says that the instance is well, and who found that out.
fn vouched(instance: &Instance) -> bool {
    instance.health == Health::Healthy && !instance.cause.is_empty()
}

/// Who served before, of one service: where it only now asks for checks, they go on until there is a
/// result.
struct Served<'a> {
    before: Option<&'a Service>,
    /// By registry, id and address; made for the first who asks.
    known: OnceCell<HashSet<(&'a str, &'a str, &'a Address)>>,
}

impl<'a> Served<'a> {
    const fn of(before: Option<&'a Service>) -> Self {
        Self { before, known: OnceCell::new() }
    }

    fn has(&self, instance: &Instance) -> bool {
        let identity = |own: &'a Arc<Instance>| (&*own.registry, &*own.id, &own.address);
        let known = self.known.get_or_init(|| {
            let all = self.before.into_iter().flat_map(|before| before.instances.iter());
            all.filter(|own| own.health.serves()).map(identity).collect()
        });
        known.contains(&(&*instance.registry, &*instance.id, &instance.address))
    }
}

/// The cause of an instance whose registry was silent for too long and that is drained for it.
pub const SILENT: &str = "its registry has been silent for longer than max_stale";

/// The instance as one that takes no new work, when its registry was silent for too long and is
/// set to that.
fn drained(instance: Arc<Instance>, counts: WhenStale) -> Arc<Instance> {
    if counts != WhenStale::Drain || instance.presence != Presence::Active {
        return instance;
    }
    let cause = SILENT.into();
    Arc::new(Instance { presence: Presence::Draining, cause, ..Instance::clone(&instance) })
}

/// The instance on the `port` that its operator set, or as it is.
fn on_port(instance: &Arc<Instance>, port: Option<u16>) -> Arc<Instance> {
    match port {
        None => Arc::clone(instance),
        Some(number) => Arc::new(Instance {
            ports: Arc::new([Port { name: Arc::from(""), number }]),
            ..Instance::clone(instance)
        }),
    }
}

/// Every name that a registry tells of or that has a backup.
fn all_names(inputs: &Inputs) -> HashSet<Arc<str>> {
    let views = inputs.sources.iter().filter_map(Source::view);
    let mut names: HashSet<_> =
        views.flat_map(|view| view.services.iter()).map(|(name, _)| Arc::clone(name)).collect();
    inputs.settings.with_dependents(&mut names);
    names
}

/// Names of the services that may differ between the two.
fn touched(before: &Inputs, now: &Inputs) -> HashSet<Arc<str>> {
    let same_list = before.sources.len() == now.sources.len()
        && before
            .sources
            .iter()
            .zip(&now.sources)
            .all(|(a, b)| a.name == b.name && a.priority == b.priority && a.counts == b.counts);
    if !same_list || before.settings != now.settings {
        let mut names = all_names(before);
        names.extend(all_names(now));
        return names;
    }
    let mut names = HashSet::new();
    for (a, b) in before.sources.iter().zip(&now.sources) {
        match (a.view(), b.view()) {
            (Some(a), Some(b)) => b.services.changes_since(&a.services, |(name, _, _)| {
                names.insert(Arc::clone(name));
            }),
            (None, Some(view)) | (Some(view), None) => {
                names.extend(view.services.iter().map(|(name, _)| Arc::clone(name)));
            }
            (None, None) => {}
        }
    }
    now.verdicts.changes_since(&before.verdicts, |(name, _, _)| {
        names.insert(Arc::clone(name));
    });
    if !Arc::ptr_eq(&before.operations, &now.operations) {
        operated(before, now, &mut names);
    }
    now.settings.with_dependents(&mut names);
    names
}

/// Adds to `names` the services of which operators say something else. What is said of a node is
/// looked for in every service: it is rare, and nobody keeps a list of who runs where.
fn operated(before: &Inputs, now: &Inputs, names: &mut HashSet<Arc<str>>) {
    let (services, nodes) = now.operations.differing(&before.operations);
    names.extend(services);
    if nodes.is_empty() {
        return;
    }
    let there = |service: &SourceService| {
        let on = service.instances.iter().filter_map(|instance| instance.node.as_ref());
        on.into_iter().any(|node| nodes.contains(&node.name))
    };
    for view in now.sources.iter().filter_map(Source::view) {
        let on = view.services.iter().filter(|(_, service)| there(service));
        names.extend(on.map(|(name, _)| Arc::clone(name)));
    }
}

fn status(source: &Source) -> RegistryStatus {
    let view = source.view();
    RegistryStatus {
        name: Arc::clone(&source.name),
        heard: view.is_some(),
        stale: match &source.state {
            RegistryState::Stale { since, why, .. } => {
                Some(Staleness { since: *since, why: Arc::clone(why) })
            }
            RegistryState::Syncing | RegistryState::Live(_) => None,
        },
        silent: source.counts == WhenStale::Drain,
        services: view.map_or(0, |view| view.services.len()),
        problems: view.map(|view| Arc::clone(&view.problems)).unwrap_or_default(),
        held: Arc::clone(&source.held),
        suspect: view.and_then(|view| view.suspect.clone()),
        known: view.map(|view| Arc::clone(&view.known)).unwrap_or_default(),
        parts: view.map(|view| Arc::clone(&view.parts)).unwrap_or_default(),
        datacenter: view.and_then(|view| view.datacenter.clone()),
    }
}

/// Whether nobody could act on the difference; a reason told in other words is none.
fn says_the_same(a: &RegistryStatus, b: &RegistryStatus) -> bool {
    a.name == b.name
        && a.heard == b.heard
        && a.stale.is_some() == b.stale.is_some()
        && a.silent == b.silent
        && a.problems == b.problems
        && a.held == b.held
        && a.suspect.is_some() == b.suspect.is_some()
        && a.known == b.known
        && a.parts == b.parts
        && a.datacenter == b.datacenter
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::catalog::health::WhenNoneHealthy;
    use crate::catalog::model::{Address, Health};

    fn instance(registry: &str, id: &str, address: &str, health: Health) -> Arc<Instance> {
        Arc::new(Instance {
            ports: Arc::new([Port { name: "".into(), number: 80 }]),
            health,
            ..Instance::bare(registry, id, Address::parse(address).unwrap())
        })
    }

    fn view(services: &[(&str, &[Arc<Instance>])]) -> RegistryView {
        let services = services
            .iter()
            .map(|(name, instances)| SourceService {
                name: (*name).into(),
                tags: Arc::new([]),
                meta: Arc::default(),
                instances: instances.to_vec(),
                problems: Vec::new(),
                suspect: None,
            })
            .collect();
        RegistryView::default().replaced(services, Vec::new())
    }

    fn source(name: &str, priority: i32, state: RegistryState) -> Source {
        Source::new(name, priority, state)
    }

    fn addresses(snapshot: &Snapshot, service: &str) -> Vec<String> {
        let service = snapshot.service(service).unwrap();
        service.eligible.iter().map(|i| i.address.to_string()).collect()
    }

    #[test]
    fn the_same_id_in_two_registries_is_won_by_the_higher_priority() {
        let low = view(&[(
            "web",
            &[
                instance("low", "a", "10.0.0.1", Health::Unknown),
                instance("low", "b", "10.0.0.2", Health::Unknown),
            ],
        )]);
        let high = view(&[("web", &[instance("high", "a", "10.9.9.9", Health::Unknown)])]);
        let inputs = Inputs::new(
            vec![
                source("low", 0, RegistryState::Live(low)),
                source("high", 10, RegistryState::Live(high)),
            ],
            Arc::default(),
            Verdicts::default(),
        );
        let snapshot = assemble(None, &inputs, 1).unwrap();
        assert_eq!(addresses(&snapshot, "web"), ["10.9.9.9", "10.0.0.2"]);
    }

    #[test]
    fn a_registry_that_fails_takes_nothing_away_and_its_failure_is_told_once() {
        let live = view(&[("web", &[instance("r", "a", "10.0.0.1", Health::Unknown)])]);
        let first = Inputs::new(
            vec![source("r", 0, RegistryState::Live(live.clone()))],
            Arc::default(),
            Verdicts::default(),
        );
        let snapshot = assemble(None, &first, 1).unwrap();
        let stale = |why: &str| {
            let state = RegistryState::Stale {
                last: live.clone(),
                since: SystemTime::UNIX_EPOCH,
                why: why.into(),
            };
            Inputs::new(vec![source("r", 0, state)], Arc::default(), Verdicts::default())
        };
        let down = assemble(Some((&first, &snapshot)), &stale("refused"), 2).unwrap();
        assert!(down.services.same(&snapshot.services));
        assert!(down.registries[0].stale.is_some() && down.registries[0].heard);
        let again = assemble(Some((&stale("refused"), &down)), &stale("still refused"), 3);
        assert!(again.is_none(), "another reason is no other state");
    }

    #[test]
    fn unchanged_input_gives_no_snapshot_and_a_change_shares_all_other_services() {
        let web = [instance("r", "a", "10.0.0.1", Health::Unknown)];
        let first = view(&[("web", &web), ("db", &web)]);
        let inputs = Inputs::new(
            vec![source("r", 0, RegistryState::Live(first.clone()))],
            Arc::default(),
            Verdicts::default(),
        );
        let snapshot = assemble(None, &inputs, 1).unwrap();
        assert!(assemble(Some((&inputs, &snapshot)), &inputs, 2).is_none());

        let mut changed = SourceService::clone(first.services.get("db").unwrap());
        changed.instances = vec![instance("r", "a", "10.0.0.2", Health::Unknown)];
        let second = Inputs::new(
            vec![source("r", 0, RegistryState::Live(first.with(changed)))],
            Arc::default(),
            Verdicts::default(),
        );
        let next = assemble(Some((&inputs, &snapshot)), &second, 2).unwrap();
        assert_eq!(addresses(&next, "db"), ["10.0.0.2"]);
        assert!(Arc::ptr_eq(next.service("web").unwrap(), snapshot.service("web").unwrap()));
    }

    #[test]
    fn the_last_instance_of_a_live_registry_goes_at_once() {
        let one = view(&[("web", &[instance("r", "a", "10.0.0.1", Health::Unknown)])]);
        let before = Inputs::new(
            vec![source("r", 0, RegistryState::Live(one))],
            Arc::default(),
            Verdicts::default(),
        );
        let snapshot = assemble(None, &before, 1).unwrap();
        let empty = RegistryState::Live(RegistryView::default());
        let now = Inputs::new(vec![source("r", 0, empty)], Arc::default(), Verdicts::default());
        let next = assemble(Some((&before, &snapshot)), &now, 2).unwrap();
        assert!(next.service("web").is_none());
    }

    #[test]
    fn settings_decide_about_the_port_and_about_who_is_eligible_when_all_fail() {
        let down = view(&[(
            "web",
            &[
                instance("r", "a", "10.0.0.1", Health::Unhealthy),
                instance("r", "b", "10.0.0.2", Health::Unhealthy),
            ],
        )]);
        let with = |settings: ServiceSettings| {
            let inputs = Inputs::new(
                vec![source("r", 0, RegistryState::Live(down.clone()))],
                Arc::new([("web".into(), settings)].into_iter().collect()),
                Verdicts::default(),
            );
            assemble(None, &inputs, 1).unwrap()
        };
        let closed = with(ServiceSettings::default());
        assert_eq!(addresses(&closed, "web"), [""; 0]);
        let open = with(ServiceSettings {
            when_none_healthy: WhenNoneHealthy::All,
            port: Some(8761),
            ..ServiceSettings::default()
        });
        assert_eq!(addresses(&open, "web"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(open.service("web").unwrap().eligible[0].port(""), Some(8761));
    }

    #[test]
    fn who_asks_for_checks_goes_on_if_it_served_or_is_vouched_for_and_else_has_to_pass_first() {
        let asked = Arc::new(Meta::from([(super::super::wish::CHECK.into(), "tcp".into())]));
        let vouched = Arc::new(Instance {
            cause: "its health check passes".into(),
            ..Instance::clone(&instance("r", "v", "10.0.0.3", Health::Healthy))
        });
        let assembled = |before: Option<(&Inputs, &Snapshot)>, asks, may, all: &[Arc<Instance>]| {
            let mut service =
                SourceService::clone(view(&[("web", all)]).services.get("web").unwrap());
            service.meta = if asks { Arc::clone(&asked) } else { Arc::default() };
            let inputs = Inputs::new(
                vec![source("r", 0, RegistryState::Live(RegistryView::default().with(service)))],
                Arc::new(Settings::default().with_asking(may)),
                Verdicts::default(),
            );
            let snapshot = assemble(before, &inputs, 1).unwrap();
            (inputs, snapshot)
        };
        let old = instance("r", "a", "10.0.0.1", Health::Unknown);
        let moved = instance("r", "a", "10.0.0.9", Health::Unknown);
        let new = instance("r", "b", "10.0.0.2", Health::Healthy);
        let (inputs, first) = assembled(None, true, true, &[Arc::clone(&old)]);
        assert_eq!(addresses(&first, "web"), [""; 0], "new ones have to pass");
        let (_, second) =
            assembled(Some((&inputs, &first)), true, true, &[old.clone(), vouched.clone()]);
        assert_eq!(addresses(&second, "web"), ["10.0.0.3"], "waiting is not serving");

        let (inputs, first) = assembled(None, false, true, &[Arc::clone(&old)]);
        let later = [Arc::clone(&old), Arc::clone(&new)];
        let (_, second) = assembled(Some((&inputs, &first)), true, true, &later);
        assert_eq!(
            addresses(&second, "web"),
            ["10.0.0.1"],
            "who served goes on, one beside it waits"
        );
        let (_, other) = assembled(Some((&inputs, &first)), true, true, &[moved]);
        assert_eq!(addresses(&other, "web"), [""; 0], "another address is another instance");
        let (_, off) = assembled(Some((&inputs, &first)), true, false, &later);
        assert_eq!(addresses(&off, "web").len(), 2, "nobody may ask");
    }
}
