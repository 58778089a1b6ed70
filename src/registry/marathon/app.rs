//! An app or pod as it is known: what was made of Marathon's words, what events have said since, and
//! whom it was learned from. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::health::{self, is_kept};
use super::service::Hosts;
use super::state::{Fate, TaskState, is_instance, same_instance};
use super::wanted::Words;
use crate::catalog::model::Meta;
use crate::catalog::{Address, Health, Instance, Presence};

/// How often a task that an event has ended must be read as running before that is believed: a
/// listing and an answer may both have been on their way when the event came.
const READS_MIN: u8 = 3;

/// An app, or a pod, which is the same to everybody but who asks Marathon for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum Kind {
    /// An app: tasks.
    App,
    /// A pod: instances of several containers.
    Pod,
}

/// One app or pod.
#[derive(Debug, Clone)]
pub(super) struct App {
    /// Its id: `/shop/web`.
    pub(super) id: Arc<str>,
    pub(super) kind: Kind,
    /// Name of its service: `web.shop`.
    pub(super) name: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) scale: Scale,
    /// Which answer told of it: a later one has a larger number.
    pub(super) read: u64,
    /// Hash of the bytes that it was read from; 0 when it is not only what these bytes say.
    pub(super) hash: u64,
    pub(super) meta: Arc<Meta>,
    /// Sorted by their ids.
    pub(super) instances: Vec<Arc<Instance>>,
    pub(super) problems: Vec<Arc<str>>,
    /// How many health checks it has.
    pub(super) checks: usize,
    /// Whether a deployment of it went on.
    pub(super) deploying: bool,
    /// How many fields of it nobody knows.
    pub(super) ignored: u32,
    /// What it is within a blue-green pair.
    pub(super) group: Option<Group>,
    /// Tasks that an event has ended or that are being killed, as long as they are listed, and how
    /// often they were listed as running since.
    pub(super) ended: BTreeMap<Arc<str>, Ended>,
}

/// How many instances an app is to have, and since when it is to have more than before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scale {
    wanted: Option<i64>,
    /// As far as is known: being scaled down is no growing, for so are those killed that have been
    /// drained.
    pub(super) grown_at: Box<str>,
}

impl Scale {
    /// An app that is to have so `wanted` many, and whose number was changed last at `scaled_at`;
    /// `before` is what was known of it until now.
    pub(super) fn new(wanted: Option<i64>, scaled_at: &str, before: Option<&Self>) -> Self {
        let grown_at = match before {
            Some(before) if wanted.is_some() && wanted <= before.wanted => before.grown_at.clone(),
            _ => scaled_at.into(),
        };
        Self { wanted, grown_at }
    }
}

/// What an app is within a blue-green pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The pair's id: `/nginx`.
    pub(super) id: Arc<str>,
    /// When its deployment began, as its label says; the earlier text is the older app.
    pub(super) started_at: Arc<str>,
    /// How many instances the deployment aims at.
    pub(super) target: Option<usize>,
    /// Whether both colours are to stay.
    pub(super) hybrid: bool,
    /// The service port that it has only because its own was taken.
    pub(super) alternative: Option<u16>,
}

/// A task that an event has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Leaving, or out.
    pub(super) fate: Fate,
    pub(super) reads: u8,
}

impl App {
    /// The instance with this id.
    pub(super) fn instance(&self, id: &str) -> Option<&Arc<Instance>> {
        let at = self.instances.binary_search_by(|instance| (*instance.id).cmp(id)).ok()?;
        self.instances.get(at)
    }

    /// The instance that is the task, or has the task, with this id.
    fn place(&self, id: &str) -> Option<usize> {
        if self.kind == Kind::Pod && !is_instance(id) {
            // One container of several says nothing about the pod.
            return self.instances.iter().position(|instance| &*instance.id == id);
        }
        self.instances.iter().position(|instance| same_instance(&instance.id, id))
    }

    /// What has become of a task. Whether that changed anything.
    pub(super) fn task(&mut self, id: &str, state: TaskState) -> bool {
        let fate = state.fate();
        let place = self.place(id);
        if fate == Fate::Stays || state == TaskState::Starting {
            // It runs again under the same id: old Marathons do that with resident tasks.
            let revived = place.is_none() && state == TaskState::Running;
            let before = self.ended.len();
            if revived {
                self.ended
                    .retain(|task, ended| ended.fate != Fate::Out || !same_instance(task, id));
            }
            if self.ended.len() != before {
                self.hash = 0;
            }
            return false;
        }
        let id: Arc<str> =
            place.map_or_else(|| id.into(), |place| Arc::clone(&self.instances[place].id));
        if place.is_some() || self.ended.contains_key(&id) {
            self.ended.insert(id, Ended { fate, reads: 0 });
            self.hash = 0;
        }
        let Some(place) = place else { return false };
        if fate == Fate::Out {
            self.instances.remove(place);
            return true;
        }
        leave(&mut self.instances[place])
    }

    /// A health check has come to a result about an instance. Whether that changed anything.
    ///
    /// With several checks a failure of one is no answer: any success counts, and reading the app
    /// again tells whether there is one.
    pub(super) fn health(&mut self, words: &Words, id: &str, healthy: Option<bool>) -> bool {
        let Some(healthy) = healthy else { return false };
        if self.checks == 0 || (!healthy && self.checks > 1) {
            return false;
        }
        let Some(place) = self.place(id) else { return false };
        let instance = &mut self.instances[place];
        // Readiness is told by nobody but the app itself.
        if &*instance.cause == health::NOT_READY {
            self.hash = 0;
            return false;
        }
        let (health, cause) = health::judged(words, self.checks, Some(healthy), None);
        if instance.health == health && instance.cause == cause {
            return false;
        }
        let own = Arc::make_mut(instance);
        (own.health, own.cause) = (health, cause);
        self.hash = 0;
        true
    }

    /// What events have said of tasks that are still listed counts on. Forgets those that are
    /// listed no more, and those that are listed as running for too long. `listed` are the tasks
    /// that `self` was made of, in order.
    pub(super) fn carry(&mut self, ended: &BTreeMap<Arc<str>, Ended>, listed: &[Listed]) {
        for (id, told) in ended {
            let Ok(at) = listed.binary_search_by(|task| task.id.cmp(id)) else { continue };
            let reads = match listed[at].fate {
                Fate::Stays => told.reads.saturating_add(1),
                Fate::Leaving | Fate::Out => 0,
            };
            if reads >= READS_MIN {
                continue;
            }
            let kept = Ended { reads, ..*told };
            self.ended.entry(Arc::clone(id)).or_insert(kept);
            self.end(id, kept.fate);
        }
        if !self.ended.is_empty() {
            self.hash = 0;
        }
    }

    /// Takes over what events have said of `known` since it was as `before`, while `self` was on its
    /// way.
    pub(super) fn carry_over(&mut self, known: &Self, before: Option<&Self>) {
        for (id, ended) in &known.ended {
            let old = before.and_then(|before| before.ended.get(id)) == Some(ended);
            let listed = self.ended.contains_key(id) || self.instance(id).is_some();
            if !old && listed {
                self.ended.insert(Arc::clone(id), *ended);
                self.end(id, ended.fate);
                self.hash = 0;
            }
        }
    }

    fn end(&mut self, id: &str, fate: Fate) {
        let Ok(at) = self.instances.binary_search_by(|instance| (*instance.id).cmp(id)) else {
            return;
        };
        match fate {
            Fate::Out => drop(self.instances.remove(at)),
            Fate::Leaving | Fate::Stays => drop(leave(&mut self.instances[at])),
        }
    }

    /// What is only kept is forgotten. Whether that changed anything.
    pub(super) fn settle(&mut self, words: &Words) -> bool {
        let mut changed = false;
        for instance in &mut self.instances {
            if is_kept(instance) {
                let own = Arc::make_mut(instance);
                own.health = Health::Unhealthy;
                own.cause = Arc::clone(&words.no_result);
                changed = true;
            }
        }
        changed
    }

    /// `app` as it is since the addresses of agents are `now`, and no longer `before`.
    pub(super) fn moved(mut app: Arc<Self>, before: &Hosts, now: &Hosts) -> Arc<Self> {
        let nodes = app.instances.iter().filter_map(|instance| instance.node.as_ref());
        let news = nodes.filter_map(|node| {
            let (was, is) = (before.get(&node.name), *now.get(&node.name)?);
            (was != Some(&is)).then(|| (Arc::clone(&node.name), (was.copied(), is)))
        });
        let news: BTreeMap<_, _> = news.collect();
        for (host, (was, is)) in news {
            let was = was.map(Address::Ip);
            Arc::make_mut(&mut app).resolved(&host, was.as_ref(), &Address::Ip(is));
        }
        app
    }

    /// The agent called `host` has this address, and had `old` until now, if any was found; what
    /// Mesos tells of it counts more. Whether that changed anything.
    pub(super) fn resolved(
        &mut self,
        host: &str,
        old: Option<&Address>,
        address: &Address,
    ) -> bool {
        let mut changed = false;
        for instance in &mut self.instances {
            let Some(node) = instance.node.as_ref().filter(|node| &*node.name == host) else {
                continue;
            };
            let looked_up = |at: &Address| matches!(at, Address::Name(_)) || Some(at) == old;
            let Some(before) = node.address.clone().filter(looked_up) else { continue };
            let own = Arc::make_mut(instance);
            if own.address == before {
                own.address = address.clone();
            }
            if let Some(node) = own.node.as_mut() {
                node.address = Some(address.clone());
            }
            changed = true;
        }
        changed
    }
}

/// A task as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: Arc<str>,
    pub(super) fate: Fate,
}

fn leave(instance: &mut Arc<Instance>) -> bool {
    if instance.presence == Presence::Leaving {
        return false;
    }
    Arc::make_mut(instance).presence = Presence::Leaving;
    true
}
