//! A full listing while it arrives: apps are made one by one, so that neither the body nor a second
//! set of all apps is ever in memory. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::app::{App, Kind};
use super::broken::Broken;
use super::decode::{self, RawApp, RawPod};
use super::fields::id_of;
use super::service::{Builder, absolute};
use super::split::{Element, Splitter};
use crate::catalog::Shards;

/// Apps by id.
pub(super) type Apps = Shards<Arc<str>, App>;

/// Most elements without a readable id of which is told.
const NAMELESS_MAX: usize = 20;

/// One listing.
#[derive(Debug)]
pub(in crate::registry) struct Listing {
    pub(super) builder: Builder,
    /// What was known when it began.
    pub(super) before: Apps,
    /// The number of the answer that was taken in last when it began.
    pub(super) began: u64,
    by_hash: HashMap<u64, Arc<App>>,
    apps: Splitter,
    pods: Option<Splitter>,
    pub(super) found: Found,
}

/// What a listing has told so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) apps: BTreeMap<Arc<str>, Arc<App>>,
    /// Why apps are refused, by their ids. What was known of them is among `apps`.
    pub(super) refused: BTreeMap<Arc<str>, Arc<str>>,
    /// Why elements are refused that tell no id.
    pub(super) nameless: Vec<Arc<str>>,
    /// Whether pods were told; if not, those that were known stay.
    pub(super) pods: bool,
    pub(super) tasks: usize,
    /// How many apps were made of bytes that were not seen before.
    pub(super) made: usize,
}

impl Listing {
    pub(super) fn new(builder: Builder, before: Apps, began: u64) -> Self {
        let by_hash = before.values().filter(|app| app.hash != 0);
        let max = builder.naming.app_max;
        Self {
            by_hash: by_hash.map(|app| (app.hash, Arc::clone(app))).collect(),
            before,
            began,
            apps: Splitter::new("the list of apps", "apps", max),
            pods: None,
            found: Found::default(),
            builder,
        }
    }

    /// Takes the next part of the body of `/v2/apps?embed=apps.tasks…`.
    ///
    /// # Errors
    /// When this is no such list, or holds more than is allowed; the listing is of no use then.
    pub(in crate::registry) fn apps(&mut self, chunk: &[u8]) -> Result<(), Broken> {
        let Self { builder, before, by_hash, apps, found, .. } = self;
        apps.feed(chunk, |element| found.take(Kind::App, element, builder, before, by_hash))?;
        self.limits()
    }

    /// Takes the next part of the body of `/v2/pods/::status`.
    ///
    /// # Errors
    /// As with [`Listing::apps`].
    pub(in crate::registry) fn pods(&mut self, chunk: &[u8]) -> Result<(), Broken> {
        let Self { builder, before, by_hash, pods, found, .. } = self;
        let max = builder.naming.app_max;
        let pods = pods.get_or_insert_with(|| Splitter::new("the list of pods", "pods", max));
        pods.feed(chunk, |element| found.take(Kind::Pod, element, builder, before, by_hash))?;
        self.limits()
    }

    /// There are no pods at all: this Marathon knows none.
    pub(in crate::registry) fn no_pods(&mut self) {
        self.found.pods = true;
    }

    /// Everything was fed.
    ///
    /// # Errors
    /// When one of the bodies was cut.
    pub(in crate::registry) fn end(&mut self) -> Result<(), Broken> {
        self.apps.end()?;
        if let Some(pods) = &self.pods {
            pods.end()?;
            self.found.pods = true;
        }
        Ok(())
    }

    fn limits(&self) -> Result<(), Broken> {
        let naming = &self.builder.naming;
        let too_many = |what, max, key| {
            let registry = self.builder.registry.to_string();
            Err(Broken::TooMany { what, max, key, registry })
        };
        if self.found.apps.len() > naming.apps_max {
            return too_many("apps", naming.apps_max, "apps_max");
        }
        if self.found.tasks > naming.tasks_max {
            return too_many("tasks", naming.tasks_max, "tasks_max");
        }
        Ok(())
    }
}

impl Found {
    fn take(
        &mut self,
        kind: Kind,
        element: Element<'_>,
        builder: &mut Builder,
        before: &Apps,
        by_hash: &HashMap<u64, Arc<App>>,
    ) {
        if let Element::Whole(bytes) = element
            && let Some(known) = by_hash.get(&hash(bytes))
            && known.kind == kind
        {
            return self.put(Arc::clone(known));
        }
        self.made += 1;
        match make(kind, &element, builder, before) {
            Ok(app) => self.put(Arc::new(app)),
            Err(Refusal { id: Some(id), why }) => {
                if let Some(known) = before.get(&id) {
                    self.tasks += known.instances.len();
                    self.apps.entry(Arc::clone(&id)).or_insert_with(|| Arc::clone(known));
                }
                self.refused.insert(id, why.into());
            }
            Err(Refusal { id: None, why }) => {
                if self.nameless.len() < NAMELESS_MAX {
                    self.nameless.push(why.into());
                }
            }
        }
    }

    fn put(&mut self, app: Arc<App>) {
        if self.apps.contains_key(&app.id) {
            self.refused.insert(Arc::clone(&app.id), "it is listed twice; the first counts".into());
            return;
        }
        self.tasks += app.instances.len();
        self.apps.insert(Arc::clone(&app.id), app);
    }
}

/// Why an app is refused, and which.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) id: Option<Arc<str>>,
    pub(super) why: String,
}

/// Makes one app or pod of its bytes.
pub(super) fn make(
    kind: Kind,
    element: &Element<'_>,
    builder: &mut Builder,
    before: &Apps,
) -> Result<App, Refusal> {
    let id = |bytes: &[u8]| id_of(bytes).and_then(|id| absolute(&id).ok());
    let max = builder.naming.app_max;
    let bytes = match element {
        Element::Whole(bytes) => bytes,
        Element::TooLong(head) => {
            return Err(Refusal { id: id(head), why: too_long(max) });
        }
        Element::TooDeep(head) => {
            return Err(Refusal { id: id(head), why: "it is nested too deeply".to_owned() });
        }
    };
    let of = |told: Option<&str>| {
        let id = told.and_then(|id| absolute(id).ok())?;
        before.get(&id).cloned()
    };
    let made = match kind {
        Kind::App => decode::read::<RawApp<'_>>(bytes).and_then(|raw| {
            let known = of(raw.id.as_deref()).filter(|app| app.kind == kind);
            builder.app(&raw, hash(bytes), known.as_deref())
        }),
        Kind::Pod => decode::read::<RawPod<'_>>(bytes).and_then(|raw| {
            let known = of(raw.id.as_deref()).filter(|app| app.kind == kind);
            builder.pod(&raw, hash(bytes), known.as_deref())
        }),
    };
    made.map_err(|why| Refusal { id: id(bytes), why })
}

/// Why an app of more than `max` bytes is refused.
pub(super) fn too_long(max: usize) -> String {
    format!("it has more than {max} bytes; raise `app_max` of its registry")
}

/// Hash of the bytes of an app; never 0.
fn hash(bytes: &[u8]) -> u64 {
    FixedState::default().hash_one(bytes).max(1)
}
