//! Who has which port of its own. Pure: who had one before is an argument.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::super::labels::{LabelledPort, Mode};
use super::super::listener::Listener;
use super::super::serve::Kind;

/// A listener that a service asks for by its labels.
#[derive(Debug)]
pub struct OwnListener {
    /// As it was asked for.
    pub asked: LabelledPort,
    /// Who asks.
    pub service: Arc<str>,
    /// Where it listens.
    pub bind: Vec<SocketAddr>,
    /// The listener whose certificates it shows, where clients speak TLS.
    pub secured_by: Option<Arc<str>>,
    /// What its connections see.
    pub listener: Arc<Listener>,
}

impl OwnListener {
    /// What it carries.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match (&self.asked.mode, self.asked.tls) {
            (Mode::Http(..), true) => Kind::Https,
            (Mode::Http(..), false) => Kind::Http,
            (Mode::Tcp(_), _) => Kind::Tcp,
        }
    }
}

/// At which address somebody has a port (none: at all), and who.
type Owner = (Option<IpAddr>, Arc<str>);

/// The listeners that services have, and what they could not get.
#[derive(Debug, Default)]
pub struct OwnPorts {
    by_name: HashMap<Arc<str>, Arc<OwnListener>, FixedState>,
    /// By service.
    pub(super) refused: BTreeMap<Arc<str>, Vec<Arc<str>>>,
}

impl OwnPorts {
    /// Shares out the ports that are `asked` for, at most `max` of them. One that several want stays with
    /// whom it was `before`, else it is the first service's by name; none gets the name of a listener
    /// that is `configured`.
    pub(super) fn share_out(
        mut asked: Vec<&Arc<OwnListener>>,
        max: usize,
        before: &Self,
        configured: impl Fn(&str) -> bool,
    ) -> Self {
        let held = |own: &OwnListener| {
            let known = before.by_name.get(&own.asked.name);
            known.is_some_and(|known| {
                known.service == own.service && known.asked.port == own.asked.port
            })
        };
        asked.sort_by(|a, b| {
            let rank = |own: &OwnListener| (!held(own), Arc::clone(&own.service), own.asked.port);
            rank(a).cmp(&rank(b))
        });
        #[cfg(test)]
        crate::proxy::work::note(asked.len());
        let mut shared = Self::default();
        let mut taken: HashMap<u16, Vec<Owner>> = HashMap::new();
        for own in asked {
            let LabelledPort { name, bind, port, .. } = &own.asked;
            let others = taken.entry(*port).or_default();
            let meets = |other: &&Owner| bind.is_none() || other.0.is_none() || other.0 == *bind;
            let namesake = || shared.by_name.get(name).map(|other| &other.service);
            let why = if configured(name) {
                format!(
                    "port {port}: its listener would be called {name:?}, as a configured one is"
                )
            } else if let Some((_, owner)) = others.iter().find(meets) {
                format!("port {port} is that of the service {owner:?}")
            } else if let Some(owner) = namesake() {
                format!("port {port}: the service {owner:?} has a listener called {name:?} already")
            } else if shared.by_name.len() >= max {
                format!(
                    "port {port} is one too many; let [labels.marathon-lb] ports.max be above {max}"
                )
            } else {
                others.push((*bind, Arc::clone(&own.service)));
                shared.by_name.insert(Arc::clone(name), Arc::clone(own));
                continue;
            };
            shared.refused.entry(Arc::clone(&own.service)).or_default().push(why.into());
        }
        shared
    }

    /// The listener called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<OwnListener>> {
        self.by_name.get(name)
    }

    /// Every listener by its name, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<OwnListener>)> {
        self.by_name.iter()
    }
}
