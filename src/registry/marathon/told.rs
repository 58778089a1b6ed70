//! Which app stands behind the name of a service, and what is told under it. Pure.

use std::sync::Arc;

use super::app::App;
use super::groups;
use super::names;
use super::roster::Roster;
use crate::catalog::{Problem, SourceService};

/// Most problems told beside services; behind them only their number.
const PROBLEMS_MAX: usize = 100;
/// What a pair's service has behind its name when an app that is none of the two is called so.
const BESIDE: &str = "_group";

impl Roster {
    /// `name`, and the other name that a pair of that name would have where it is an app's.
    pub(super) fn with_name_beside(name: Arc<str>) -> [Arc<str>; 2] {
        let beside = format!("{name}{BESIDE}").into();
        [name, beside]
    }

    /// The service called `name`, if anybody is called so: a name that the configuration gives comes
    /// first, then a pair of which the app of that name is one, then apps, in the order of their
    /// ids, then what is no app.
    pub(super) fn told(&self, name: &Arc<str>) -> Option<SourceService> {
        let mut told = self.advertised(name);
        if told.is_none() {
            told = self.pair(name).or_else(|| self.own(name)).or_else(|| self.beside(name));
        }
        told.or_else(|| self.master(name))
    }

    fn advertised(&self, name: &Arc<str>) -> Option<SourceService> {
        let builder = &self.builder;
        let addresses = builder.naming.advertise.get(&**name)?;
        let registry = &builder.registry;
        let mut told =
            names::advertised(registry, &builder.naming, &builder.words, name, addresses);
        for id in self.by_name.get(name).into_iter().flatten() {
            told.problems
                .push(hidden(id, "`advertise` of the registry says where this name leads"));
        }
        Some(told)
    }

    /// The app's own service.
    fn own(&self, name: &Arc<str>) -> Option<SourceService> {
        let mut ids = self.by_name.get(name)?.iter();
        let app = self.apps.get(&**ids.next()?)?;
        let meta = match app.group {
            Some(_) => Arc::new(groups::without_wishes(&app.meta)),
            None => Arc::clone(&app.meta),
        };
        let mut problems = app.problems.clone();
        problems.extend(self.refused.get(&app.id).map(|why| refused(why)));
        for id in ids {
            problems.push(hidden(id, &format!("{} has the same name", app.id)));
        }
        Some(SourceService {
            name: Arc::clone(name),
            tags: Arc::new([]),
            meta,
            instances: app.instances.clone(),
            problems,
            suspect: None,
        })
    }

    /// The service of a pair, unless an app that is none of it is called so.
    fn pair(&self, name: &Arc<str>) -> Option<SourceService> {
        if self.foreign(name) { None } else { self.united(name, name) }
    }

    /// The service of a pair whose name is an app's that is none of it.
    fn beside(&self, name: &Arc<str>) -> Option<SourceService> {
        let own: Arc<str> = name.strip_suffix(BESIDE)?.into();
        if self.foreign(&own) { self.united(&own, name) } else { None }
    }

    /// Whether the first app called `name` is none of the pair of that name.
    fn foreign(&self, name: &Arc<str>) -> bool {
        if self.builder.naming.advertise.contains_key(&**name) {
            return true;
        }
        let Some(first) = self.by_name.get(name).and_then(|ids| ids.first()) else { return false };
        !self.groups.get(name).is_some_and(|members| members.contains(first))
    }

    fn united(&self, pair: &Arc<str>, name: &Arc<str>) -> Option<SourceService> {
        let members = self.groups.get(pair)?.iter();
        let members: Vec<Arc<App>> = members.filter_map(|id| self.apps.get(id).cloned()).collect();
        let mut told = groups::united(&self.builder.words, name, &members)?;
        for app in &members {
            let why = self.refused.get(&app.id);
            told.problems.extend(why.map(|why| format!("{}: {}", app.id, refused(why)).into()));
        }
        Some(told)
    }

    fn master(&self, name: &Arc<str>) -> Option<SourceService> {
        let builder = &self.builder;
        let leader = self.leader.as_ref()?;
        let (registry, naming, words) = (&builder.registry, &builder.naming, &builder.words);
        if *name == names::leader_name(naming) {
            return Some(names::leader(registry, naming, words, leader, &builder.hosts));
        }
        let own = *name == names::framework_name(naming);
        own.then(|| names::framework(registry, naming, words, leader, &builder.hosts))
    }

    /// What is wrong and has no service under which it could be told.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let refused = self.refused.iter().filter(|(id, _)| self.apps.get(&***id).is_none());
        let refused = refused.map(|(id, why)| Problem {
            place: format!("app {id}").into(),
            message: format!("is refused: {why}").into(),
        });
        let nameless = self.nameless.iter().map(|why| Problem {
            place: "an app without id".into(),
            message: format!("is refused, and no app that is missing counts as gone: {why}").into(),
        });
        let mut all: Vec<Problem> = nameless.chain(refused).collect();
        let more = all.len().saturating_sub(PROBLEMS_MAX);
        if more > 0 {
            all.truncate(PROBLEMS_MAX);
            let message = format!("{more} more problems").into();
            all.push(Problem { place: Arc::clone(&self.builder.registry), message });
        }
        all
    }
}

fn refused(why: &str) -> Arc<str> {
    format!("what Marathon says now is refused, what it said before counts: {why}").into()
}

fn hidden(id: &str, why: &str) -> Arc<str> {
    format!("app {id} is told by no service: {why}").into()
}
