//! What Marathon says, app by app: listings, answers and events go in, services come out. Pure: no
//! I/O, no clock.
//!
//! An app whose bytes did not change costs their hash; one that changed costs itself. A fault of one
//! app is told under it, and what was known of it before counts on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::app::App;
pub(in crate::registry) use super::app::Kind;
pub(in crate::registry) use super::broken::Broken;
use super::event::Event;
use super::health::remembered;
use super::index::Wanting;
pub(in crate::registry) use super::listing::Listing;
use super::listing::{Apps, make, too_long};
use super::names::{self, Leader};
use super::service::{Builder, service_name};
use super::split::{Element, Splitter};
pub(in crate::registry) use super::wanted::Naming;
use super::wanted::Words;
use crate::catalog::{RegistryView, Shards, SourceService};

/// Most nodes and ids of agents that are remembered so that each is allocated once.
const NODES_MAX: usize = 100_000;

/// What Marathon says.
#[derive(Debug)]
pub(in crate::registry) struct Roster {
    pub(super) builder: Builder,
    pub(super) apps: Apps,
    /// Apps that are refused, with the reason.
    pub(super) refused: BTreeMap<Arc<str>, Arc<str>>,
    /// Why elements of the last listing are refused that tell no id.
    pub(super) nameless: Vec<Arc<str>>,
    /// Apps by the name of their service.
    pub(super) by_name: Wanting,
    /// Apps by the name of their pair's service.
    pub(super) groups: Wanting,
    pub(super) leader: Option<Leader>,
    services: Shards<Arc<str>, SourceService>,
    pub(super) deploying: BTreeSet<Arc<str>>,
    /// Hosts that are told by name and have no address yet, and how many instances they have.
    pub(super) nameless_hosts: BTreeMap<Arc<str>, usize>,
    /// Apps by the hosts of their instances, as far as these are told by name.
    pub(super) by_host: Wanting,
    /// How many apps were looked at one by one so far.
    #[cfg(test)]
    pub(super) looked_at: usize,
    /// Answers taken in so far.
    reads: u64,
    pub(super) counts: Counts,
    /// Whether a view was handed out.
    handed: bool,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::registry) struct Counts {
    /// Apps.
    pub(in crate::registry) apps: usize,
    /// Pods.
    pub(in crate::registry) pods: usize,
    /// Tasks, and instances of pods, that are told.
    pub(in crate::registry) tasks: usize,
    /// Pairs of apps.
    pub(in crate::registry) groups: usize,
    /// Fields that nobody knows.
    pub(in crate::registry) ignored_fields: usize,
    /// Apps that are refused.
    pub(in crate::registry) refused: usize,
}

impl Roster {
    /// Nothing is known yet of the registry called `registry`.
    pub(in crate::registry) fn new(registry: Arc<str>, naming: Naming) -> Self {
        let builder = Builder {
            registry,
            naming: Arc::new(naming),
            words: Arc::new(Words::new()),
            hosts: Arc::default(),
            remembered: Arc::default(),
            nodes: HashMap::new(),
            agents: HashMap::new(),
            no_tags: Arc::new([]),
        };
        let mut roster = Self {
            builder,
            apps: Apps::default(),
            refused: BTreeMap::new(),
            nameless: Vec::new(),
            by_name: Wanting::new(),
            groups: Wanting::new(),
            leader: None,
            services: Shards::default(),
            deploying: BTreeSet::new(),
            nameless_hosts: BTreeMap::new(),
            by_host: Wanting::new(),
            #[cfg(test)]
            looked_at: 0,
            reads: 0,
            counts: Counts::default(),
            handed: false,
        };
        let advertised = roster.builder.naming.advertise.keys();
        let names = advertised.map(|name| name.as_str().into()).collect();
        roster.refresh(names);
        roster
    }

    /// What was said in an earlier life: verdicts of health checks count until the next
    /// [`Roster::settle`] wherever Marathon tells none.
    pub(in crate::registry) fn restore(&mut self, last: &RegistryView) {
        self.builder.remembered = Arc::new(remembered(last));
    }

    /// A full listing begins.
    pub(in crate::registry) fn listing(&self) -> Listing {
        Listing::new(self.builder.clone(), self.apps.clone(), self.reads)
    }

    /// A listing takes the place of what was known when it began; what was read since counts more.
    /// Whether anything changed.
    pub(in crate::registry) fn replace(&mut self, listing: Listing) -> bool {
        let Listing { builder, before, began, found, .. } = listing;
        // Addresses may have been found since it began.
        let same_hosts = Arc::ptr_eq(&builder.hosts, &self.builder.hosts);
        if same_hosts && builder.nodes.len() <= NODES_MAX {
            (self.builder.nodes, self.builder.agents) = (builder.nodes, builder.agents);
        }
        self.reads += 1;
        let mut touched = BTreeSet::new();
        // An element without an id may be any app that is missing.
        let complete = found.nameless.is_empty();
        let gone = self.apps.iter().filter(|(id, app)| {
            let told = app.kind == Kind::App || found.pods;
            complete && told && app.read <= began && !found.apps.contains_key(*id)
        });
        let gone: Vec<Arc<str>> = gone.map(|(id, _)| Arc::clone(id)).collect();
        for id in gone {
            self.put(&id, None, &mut touched);
        }
        for (id, app) in found.apps {
            let old = before.get(&id);
            match self.apps.get(&id) {
                Some(known) if known.read > began || Arc::ptr_eq(known, &app) => {}
                // It was read since, and is gone.
                None if old.is_some() => {}
                known => {
                    let changed = known.filter(|known| !old.is_some_and(|o| Arc::ptr_eq(o, known)));
                    let mut app = app;
                    if let Some(changed) = changed.filter(|changed| !changed.ended.is_empty()) {
                        Arc::make_mut(&mut app).carry_over(changed, old.map(Arc::as_ref));
                    }
                    if !same_hosts {
                        app = App::moved(app, &builder.hosts, &self.builder.hosts);
                    }
                    self.put(&id, Some(&app), &mut touched);
                }
            }
        }
        self.refuse(found.refused, &mut touched);
        let told = self.nameless != found.nameless;
        self.nameless = found.nameless;
        self.refresh(touched) || told
    }

    /// There is no app or pod called `id`. Whether anything changed.
    pub(in crate::registry) fn gone(&mut self, id: &str) -> bool {
        let (id, mut touched): (Arc<str>, _) = (id.into(), BTreeSet::new());
        self.reads += 1;
        self.put(&id, None, &mut touched);
        let told = self.refused.remove(&id).is_some();
        self.refresh(touched) || told
    }

    /// One app as `/v2/apps//ID?embed=app.tasks…` gave it, or one pod as `/v2/pods//ID::status` did.
    /// Whether anything changed. An app that is refused is no error: that is told under it.
    ///
    /// # Errors
    /// When the body is no such answer, or of another app.
    pub(in crate::registry) fn one(
        &mut self,
        kind: Kind,
        id: &str,
        body: &[u8],
    ) -> Result<bool, Broken> {
        // A pod is the whole body: the only one of a list.
        let (what, open, close): (_, &[u8], &[u8]) = match kind {
            Kind::App => ("the answer about an app", b"", b""),
            Kind::Pod => ("the answer about a pod", b"[", b"]"),
        };
        let mut made = None;
        let mut splitter = Splitter::new(what, "app", self.builder.naming.app_max);
        let (builder, apps) = (&mut self.builder, &self.apps);
        for part in [open, body, close] {
            splitter.feed(part, |element: Element<'_>| {
                made = Some(make(kind, &element, builder, apps));
            })?;
        }
        splitter.end()?;
        let Some(made) = made else {
            return Err(Broken::Shape { what, why: "there is none in it".to_owned() });
        };
        let told = match &made {
            Ok(app) => Some(&app.id),
            Err(refusal) => refusal.id.as_ref(),
        };
        if told.is_some_and(|told| **told != *id) {
            let why = format!("it is about {:?}, not {id:?}", told.map_or("", |id| id));
            return Err(Broken::Shape { what, why });
        }
        match made {
            Ok(mut app) => {
                self.reads += 1;
                let mut touched = BTreeSet::new();
                app.read = self.reads;
                let id = Arc::clone(&app.id);
                if self.refused.remove(&id).is_some() {
                    touched.insert(Arc::clone(&app.name));
                }
                self.put(&id, Some(&Arc::new(app)), &mut touched);
                Ok(self.refresh(touched))
            }
            Err(refusal) => Ok(self.refuse_one(id, &refusal.why)),
        }
    }

    /// What Marathon says of the app or pod `id` is longer than is allowed. Whether anything changed.
    pub(in crate::registry) fn too_long(&mut self, id: &str) -> bool {
        self.refuse_one(id, &too_long(self.builder.naming.app_max))
    }

    fn refuse_one(&mut self, id: &str, why: &str) -> bool {
        self.reads += 1;
        let id: Arc<str> = id.into();
        let before = self.refused.insert(Arc::clone(&id), why.into());
        let touched = self.apps.get(&id).map(|app| Arc::clone(&app.name));
        self.refresh(touched.into_iter().collect()) || before.as_deref() != Some(why)
    }

    /// What an event says is true at once, before anything is read again. Whether anything changed.
    pub(in crate::registry) fn event(&mut self, event: &Event) -> bool {
        let words = Arc::clone(&self.builder.words);
        match event {
            Event::Task { app, task, state } => self.change(app, |app| app.task(task, *state)),
            Event::Health { app, instance, healthy } => {
                self.change(app, |app| app.health(&words, instance, *healthy))
            }
            _ => false,
        }
    }

    /// Health checks have had their time: results that are absent are absent, and what was kept of
    /// them is forgotten. Results that vanish later are kept again. Whether anything changed.
    pub(in crate::registry) fn settle(&mut self) -> bool {
        self.builder.remembered = Arc::default();
        let words = Arc::clone(&self.builder.words);
        self.change_all(|app| app.settle(&words))
    }

    /// Who leads, as `host:port`; none while nobody is known to. Whether anything changed.
    pub(in crate::registry) fn leader(&mut self, leader: Option<&str>) -> bool {
        let leader = leader.and_then(Leader::read);
        if leader == self.leader {
            return false;
        }
        self.leader = leader;
        self.refresh_leader()
    }

    /// The view of all that is known, sharing with `last` what is equal at the first call, and with
    /// its own last one ever after.
    pub(in crate::registry) fn view(&mut self, last: &RegistryView) -> RegistryView {
        if !std::mem::replace(&mut self.handed, true) {
            for (name, known) in self.services.clone().iter() {
                if let Some(same) = last.services.get(name).filter(|same| *same == known) {
                    self.services.insert(Arc::clone(name), Arc::clone(same));
                }
            }
        }
        let mut view = RegistryView { services: self.services.clone(), ..last.clone() };
        let problems = self.problems();
        if *view.problems != *problems {
            view.problems = problems.into();
        }
        view
    }

    /// How much there is.
    pub(in crate::registry) fn counts(&self) -> Counts {
        let refused = self.refused.len() + self.nameless.len();
        Counts { groups: self.groups.len(), refused, ..self.counts }
    }

    /// What `id` is, when it is known.
    pub(in crate::registry) fn knows(&self, id: &str) -> Option<Kind> {
        self.apps.get(id).map(|app| app.kind)
    }

    /// Apps that stood in a deployment when they were read last.
    pub(in crate::registry) fn deploying(&self) -> Vec<Arc<str>> {
        self.deploying.iter().cloned().collect()
    }

    pub(super) fn refresh_leader(&mut self) -> bool {
        let naming = &self.builder.naming;
        self.refresh([names::leader_name(naming), names::framework_name(naming)].into())
    }

    /// Changes one app. Whether that changed anything that is told.
    fn change(&mut self, id: &str, change: impl FnOnce(&mut App) -> bool) -> bool {
        #[cfg(test)]
        {
            self.looked_at += 1;
        }
        let Some((id, known)) = self.apps.get(id).map(|app| (Arc::clone(&app.id), app)) else {
            return false;
        };
        let mut app = App::clone(known);
        let told = change(&mut app);
        if !told && app.hash == known.hash && app.ended == known.ended {
            return false;
        }
        let mut touched = BTreeSet::new();
        self.put(&id, Some(&Arc::new(app)), &mut touched);
        told && self.refresh(touched)
    }

    pub(super) fn change_all(&mut self, change: impl Fn(&mut App) -> bool) -> bool {
        let ids: Vec<Arc<str>> = self.apps.iter().map(|(id, _)| Arc::clone(id)).collect();
        self.change_each(&ids, change)
    }

    pub(super) fn change_each(
        &mut self,
        ids: &[Arc<str>],
        change: impl Fn(&mut App) -> bool,
    ) -> bool {
        let mut changed = false;
        for id in ids {
            changed |= self.change(id, &change);
        }
        changed
    }

    fn refuse(&mut self, refused: BTreeMap<Arc<str>, Arc<str>>, touched: &mut BTreeSet<Arc<str>>) {
        for id in self.refused.keys().chain(refused.keys()) {
            if self.refused.get(id) != refused.get(id) {
                // The problem of an app without service is told beside the services.
                touched.extend(service_name(id));
            }
        }
        self.refused = refused;
    }

    /// Tells anew the services with these `names`. Whether that changed anything.
    fn refresh(&mut self, names: BTreeSet<Arc<str>>) -> bool {
        let mut changed = false;
        for name in names {
            for name in Self::with_name_beside(name) {
                let told = self.told(&name);
                let before = self.services.get(&name);
                if before.map(Arc::as_ref) == told.as_ref() {
                    continue;
                }
                changed = true;
                match told {
                    Some(service) => drop(self.services.insert(name, Arc::new(service))),
                    None => drop(self.services.remove(&name)),
                }
            }
        }
        changed
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "golden_tests.rs"]
mod golden_tests;
