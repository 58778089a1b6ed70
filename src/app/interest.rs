//! What the faces want of each registry: told by the configuration, and by templates as they ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::catalog::{Interest, Wanted};
use crate::config::Config;
use crate::proxy::ListenerConfig;
use crate::proxy::route::ServiceRef;
use crate::render::Wants;

/// The interest in each registry, kept up to date.
#[derive(Debug, Clone)]
pub(super) struct Interests {
    wants: Wants,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What the configuration tells, by registry.
    fixed: BTreeMap<String, Interest>,
    /// Templates that count.
    templates: BTreeSet<Arc<str>>,
    senders: BTreeMap<String, watch::Sender<Interest>>,
}

impl Interests {
    /// The interest that `config` tells, and that templates tell by `wants` from now on. Must be
    /// called within a tokio runtime.
    pub(super) fn start(config: &Config, wants: Wants) -> Self {
        let mut changes = wants.subscribe();
        let interests = Self { wants, state: Arc::default() };
        interests.follow(config);
        let listening = interests.clone();
        // Ends with the process: the sender lives in the interests themselves.
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                listening.tell();
            }
        });
        interests
    }

    /// Takes what `config` tells from now on.
    pub(super) fn follow(&self, config: &Config) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.fixed = fixed(config);
            state.templates = config.templates.keys().map(|name| Arc::from(&**name)).collect();
            state.senders.retain(|name, _| config.registries.contains_key(name));
        }
        self.tell();
    }

    /// The interest in the registry called `name`, now and whenever it changes.
    pub(super) fn of(&self, name: &str) -> watch::Receiver<Interest> {
        self.tell();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.senders.entry(name.to_owned()).or_default().subscribe()
    }

    fn tell(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { fixed, templates, senders } = &mut *state;
        let wants = self.wants.borrow();
        for (name, fixed) in fixed {
            let mut interest = fixed.clone();
            for (_, more) in wants.iter().filter(|(template, _)| templates.contains(*template)) {
                interest.add(&more.everywhere);
                if let Some(own) = more.of.get(&**name) {
                    interest.add(own);
                }
            }
            senders.entry(name.clone()).or_default().send_if_modified(|known| {
                let other = *known != interest;
                *known = interest;
                other
            });
        }
    }
}

/// What zones, listeners and routes want of each registry. Zones want all of theirs, and so do the
/// metadata API, listeners whose ports services ask for, and whoever obeys labels.
fn fixed(config: &Config) -> BTreeMap<String, Interest> {
    let listeners = config.listeners.values().filter_map(ListenerConfig::service);
    let routes = config
        .routes
        .values()
        .flat_map(|route| route.service.iter().chain(route.split.keys()).map(String::as_str));
    let mut names: BTreeSet<Arc<str>> =
        listeners.chain(routes).map(|text| ServiceRef::parse(text).service).collect();
    let mut open: Vec<Arc<str>> = names.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let backup = config.services.get(&*name).and_then(|service| service.backup.as_deref());
        if let Some(backup) = backup
            && names.insert(backup.into())
        {
            open.push(backup.into());
        }
    }
    let named = Interest { services: Wanted::Names(names), ..Interest::default() };
    let zones: Vec<_> = config.dns.iter().flat_map(|dns| dns.zone.values()).collect();
    let of = |registry: &String| {
        let mut interest = named.clone();
        let shown = |registries: &Option<Vec<String>>| {
            registries.as_ref().is_none_or(|wanted| wanted.contains(registry))
        };
        let opens = config.listeners.values().any(ListenerConfig::opens_ports)
            || config.labels.marathon_lb.is_some();
        let told = config.metadata.iter().any(|metadata| shown(&metadata.registries));
        if opens || told || zones.iter().any(|zone| shown(&zone.registries)) {
            interest.add(&Interest::everything());
        }
        interest
    };
    config.registries.keys().map(|name| (name.clone(), of(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Want;

    fn config(text: &str) -> Config {
        crate::config::parse("test.toml", text, std::path::Path::new("."), &|_| None)
            .unwrap()
            .config
    }

    #[tokio::test]
    async fn a_zone_wants_all_of_its_registries_and_the_rest_only_what_is_named() {
        let config = config(
            "[registry.a.file]\npath = \"a.toml\"\n[registry.b.file]\npath = \"b.toml\"\n\
             [dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.z]\ndialect = \"plain\"\nregistries = [\"a\"]\n\
             [listener.l.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"web:http\"\n\
             [service.web]\nbackup = \"standby\"\n",
        );
        let wants = Wants::default();
        let interests = Interests::start(&config, wants.clone());
        assert_eq!(interests.of("a").borrow().services, Wanted::All);
        let mut b = interests.of("b");
        assert!(b.borrow().wants("web") && b.borrow().wants("standby") && !b.borrow().wants("db"));

        let asked = BTreeSet::from(["db".into()]);
        let more = Interest { services: Wanted::Names(asked), ..Interest::default() };
        wants.send_modify(|wants| {
            wants.insert("gone".into(), Want { everywhere: more, ..Want::default() });
        });
        interests.tell();
        assert!(!b.has_changed().unwrap(), "a template that is not configured wants nothing");
        assert!(!b.borrow_and_update().wants("db"));
    }
}
