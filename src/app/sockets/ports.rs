//! Ports that come and go with the services that ask for them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::{Asker, Carries, Key, Open, Socket, Sockets, serve};
use crate::app::publish::Tables;
use crate::app::workers::Workers;
use crate::catalog::Snapshot;
use crate::config::Config;
use crate::net::adopt::Adopted;
use crate::net::listen;
use crate::proxy::Settings;
use crate::proxy::overlay::OwnPorts;
use crate::proxy::ports::{self, Ask};
use crate::proxy::route::ServiceRef;
use crate::proxy::serve::Kind;

/// By which name ports are counted that labels ask for: there are many, and each has a listener.
pub(in crate::app) const COUNTED: &str = "(labels)";

/// What services want of listeners, and what they could not get.
#[derive(Debug, Default)]
pub(in crate::app) struct Ports {
    /// By what it was read.
    since: Option<(Arc<Settings>, Arc<Snapshot>)>,
    /// By service: the listener, its port, and who gets its connections.
    asked: BTreeMap<Arc<str>, Vec<(Arc<str>, Ask)>>,
    /// What services asked for that can't be.
    unfit: BTreeMap<Arc<str>, Vec<Refused>>,
    /// What labels ask for, as far as services may have it.
    labelled: Arc<OwnPorts>,
    told: Refusals,
}

/// The ports that are refused now, for those who ask.
#[derive(Debug, Clone, Default)]
pub(in crate::app) struct Refusals(Arc<Mutex<Vec<Refused>>>);

impl Refusals {
    /// All of them, or those of one service.
    pub(in crate::app) fn of(&self, service: Option<&str>) -> Vec<Refused> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted =
            |refused: &&Refused| service.is_none_or(|service| *refused.service == *service);
        refused.iter().filter(wanted).cloned().collect()
    }
}

/// A port that a service asked for and does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::app) struct Refused {
    /// The listener.
    pub(in crate::app) listener: Arc<str>,
    /// Who asked.
    pub(in crate::app) service: Arc<str>,
    /// What is wrong, and what to do.
    pub(in crate::app) why: Arc<str>,
}

/// A port, and who asks for it.
type Wanted = BTreeMap<Key, Asker>;

impl Sockets {
    /// What is refused of ports, now and later.
    pub(in crate::app) fn refusals(&self) -> Refusals {
        self.ports.told.clone()
    }

    /// Opens the ports that services of `tables` ask for and closes those that nobody does any more.
    /// With `again`, those that could not be had are tried too. Tells how many could not.
    pub(in crate::app) fn follow_ports(
        &mut self,
        config: &Config,
        tables: &Tables,
        workers: &Workers,
        adopted: &mut Adopted,
        again: bool,
    ) -> usize {
        let labelled = tables.proxy.overlay().ports();
        let other = !Arc::ptr_eq(&self.ports.labelled, labelled);
        self.ports.labelled = Arc::clone(labelled);
        let changed = self.ports.read(tables.proxy.settings(), &tables.snapshot);
        if !changed && !other && !again {
            return self.ports.told.of(None).len();
        }
        let mut refused: Vec<Refused> = self.ports.unfit.values().flatten().cloned().collect();
        let mut wanted = self.wanted_ports(config, &mut refused);
        self.labelled_ports(&mut wanted);
        let mut leaving = self.close_ports(&wanted);
        for (key, asker) in &wanted {
            if self.open.get(key).is_some_and(|open| open.asker.as_ref() == Some(asker)) {
                continue;
            }
            let before = leaving.remove(&key.2);
            if let Err(why) = self.open_port(key, asker, before, workers, adopted) {
                let (listener, service) = (key.0.as_str().into(), Arc::clone(&asker.service));
                refused.push(Refused { listener, service, why: why.into() });
            }
        }
        let gone = self.ports.tell(refused);
        self.count_ports(config, workers);
        gone
    }

    fn count_ports(&self, config: &Config, workers: &Workers) {
        let refused = self.ports.told.of(None);
        let openings = config.listeners.iter().filter(|(_, listener)| listener.opens_ports());
        for (name, _) in openings {
            let asked =
                |open: &Open| open.asker.as_ref().is_some_and(|asker| asker.target.is_some());
            let open = self.open.iter().filter(|(key, open)| asked(open) && key.0 == *name);
            let refused = refused.iter().filter(|refused| *refused.listener == **name);
            workers.count_ports(name, open.count(), refused.count());
        }
        if config.labels.marathon_lb.is_some() {
            let labelled =
                |open: &&Open| open.asker.as_ref().is_some_and(|asker| asker.target.is_none());
            let open = self.open.values().filter(labelled).count();
            let refused = refused
                .iter()
                .filter(|refused| self.ports.labelled.get(&refused.listener).is_some());
            workers.count_ports(COUNTED, open, refused.count());
        }
    }

    /// Adds the ports that labels ask for; who has which was decided with the tables.
    fn labelled_ports(&self, wanted: &mut Wanted) {
        for (name, own) in self.ports.labelled.iter() {
            let carries = match own.kind() {
                Kind::Http => Carries::Http,
                Kind::Https => Carries::Https,
                Kind::Tcp | Kind::Tls => Carries::Tcp,
            };
            for address in &own.bind {
                let asker = Asker { service: Arc::clone(&own.service), target: None };
                wanted.insert((name.to_string(), carries, *address), asker);
            }
        }
    }

    /// Every port that may be opened. A port that several ask for stays with whom it is, or goes to
    /// the first by name.
    fn wanted_ports(&self, config: &Config, refused: &mut Vec<Refused>) -> Wanted {
        let mut owners: BTreeMap<(&str, u16), &ServiceRef> = BTreeMap::new();
        let mut late = Vec::new();
        let held: BTreeMap<(&str, u16), &ServiceRef> = self
            .open
            .iter()
            .filter_map(|((name, _, address), open)| {
                Some(((&**name, address.port()), open.asker.as_ref()?.target.as_ref()?))
            })
            .collect();
        for (listener, ask) in self.ports.asked.values().flatten() {
            let place = (&**listener, ask.port);
            if held.get(&place).is_some_and(|target| target.service == ask.target.service) {
                owners.insert(place, &ask.target);
            } else {
                late.push((place, listener, ask));
            }
        }
        for (place, listener, ask) in late {
            let most = config.listeners.get(&**listener).and_then(|known| known.tcp.as_ref());
            let most = most.map_or(0, |tcp| tcp.from_registry.max);
            let why = match owners.get(&place) {
                Some(owner) if **owner == ask.target => continue,
                Some(owner) => {
                    format!("port {} is that of the service {:?}", ask.port, owner.service)
                }
                None if owners.range((&**listener, 0)..=(&**listener, u16::MAX)).count()
                    >= most =>
                {
                    format!(
                        "port {} is one too many; let [listener.{listener}.tcp] from_registry.max \
                         be above {most}",
                        ask.port
                    )
                }
                None => {
                    owners.insert(place, &ask.target);
                    continue;
                }
            };
            let service = Arc::clone(&ask.target.service);
            refused.push(Refused { listener: Arc::clone(listener), service, why: why.into() });
        }
        let mut wanted = Wanted::new();
        for ((listener, port), target) in owners {
            let addresses = config.listeners.get(listener).map_or(&[][..], |known| known.bind());
            let addresses: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
            for ip in addresses {
                let key = (listener.to_owned(), Carries::Tcp, SocketAddr::new(ip, port));
                let (service, target) = (Arc::clone(&target.service), Some(target.clone()));
                wanted.insert(key, Asker { service, target });
            }
        }
        wanted
    }

    /// Closes those that nobody wants in that form any more, and gives what waits in their queues, for
    /// who may want it in another.
    fn close_ports(&mut self, wanted: &Wanted) -> BTreeMap<SocketAddr, TcpListener> {
        let mut leaving = BTreeMap::new();
        self.open.retain(|key, open| {
            let Some(asker) = open.asker.as_ref().filter(|_| !wanted.contains_key(key)) else {
                return true;
            };
            open.close.send_replace(true);
            let service = &*asker.service;
            tracing::info!(listener = key.0, address = %key.2, service, "a port has closed");
            leaving.extend(open.held.take().map(|held| (key.2, held)));
            false
        });
        leaving
    }

    /// Opens a port, or lets one that is open lead elsewhere: what waits in its queue is not lost.
    fn open_port(
        &mut self,
        key: &Key,
        asker: &Asker,
        before: Option<TcpListener>,
        workers: &Workers,
        adopted: &mut Adopted,
    ) -> Result<(), String> {
        let (listener, _, address) = key;
        let known = self.open.get(key).and_then(|open| open.held.as_ref());
        let socket = if let Some(held) = known {
            held.try_clone().map_err(|error| error.to_string())?
        } else if let Some(before) = before {
            before
        } else {
            let service = &asker.service;
            let setting = match &asker.target {
                Some(_) => format!(
                    "[listener.{listener}.tcp] ports, which the service {service:?} asks for"
                ),
                None => format!(
                    "[labels.marathon-lb] bind, which labels of the service {service:?} ask for"
                ),
            };
            listen::tcp(*address, &setting, adopted).map_err(|error| error.to_string())?
        };
        let (close, closed) = watch::channel(false);
        let opened = || {
            let bound = socket.local_addr()?;
            let held = socket.try_clone()?;
            serve(key, Socket::Tcp(socket), 0, &closed, Some(asker), workers)?;
            Ok::<_, std::io::Error>((bound, held))
        };
        let (bound, held) = opened().map_err(|error| error.to_string())?;
        if let Some(before) = self.open.remove(key) {
            before.close.send_replace(true);
        }
        tracing::info!(listener, %address, service = &*asker.service, "a port has opened");
        let (group, asker) = (Vec::new(), Some(asker.clone()));
        let open = Open { bound, close, held: Some(held), group, asker };
        self.open.insert(key.clone(), open);
        Ok(())
    }
}

impl Ports {
    /// Whether services ask for something else than before.
    fn read(&mut self, settings: &Arc<Settings>, snapshot: &Arc<Snapshot>) -> bool {
        let since = self.since.replace((Arc::clone(settings), Arc::clone(snapshot)));
        let same = since.filter(|(known, _)| Arc::ptr_eq(known, settings));
        let whole = same.is_none();
        let Self { asked, unfit, .. } = self;
        let mut changed = whole;
        if whole {
            asked.clear();
            unfit.clear();
        }
        let mut take = |name: &Arc<str>| {
            let (mut wants, mut cannot) = (Vec::new(), Vec::new());
            for opening in settings.openings() {
                let Some(service) = snapshot.service(name) else { continue };
                let (asks, problems) = ports::asked(service, &opening.rule);
                wants.extend(asks.into_iter().map(|ask| (Arc::clone(&opening.listener), ask)));
                cannot.extend(problems.into_iter().map(|why| Refused {
                    listener: Arc::clone(&opening.listener),
                    service: Arc::clone(name),
                    why: why.into(),
                }));
            }
            changed |= put(asked, name, wants) | put(unfit, name, cannot);
        };
        match same {
            Some((_, before)) => snapshot.changes_since(&before, |(name, _, _)| take(name)),
            None if settings.openings().is_empty() => {}
            None => snapshot.services.iter().for_each(|(name, _)| take(name)),
        }
        changed
    }

    /// Tells of what is refused now, and logs what was not refused before. How many there are.
    fn tell(&self, mut refused: Vec<Refused>) -> usize {
        refused.sort_unstable();
        let mut told = self.told.0.lock().unwrap_or_else(PoisonError::into_inner);
        for new in refused.iter().filter(|refused| told.binary_search(refused).is_err()) {
            tracing::warn!(
                listener = &*new.listener,
                service = &*new.service,
                why = &*new.why,
                "a port that a service asks for is refused"
            );
        }
        *told = refused;
        told.len()
    }
}

/// Whether `known` had something else for `name`; nothing takes no place.
fn put<T: PartialEq>(known: &mut BTreeMap<Arc<str>, Vec<T>>, name: &Arc<str>, now: Vec<T>) -> bool {
    if known.get(name).map_or(&[][..], |known| known) == now {
        return false;
    }
    if now.is_empty() {
        known.remove(name);
    } else {
        known.insert(Arc::clone(name), now);
    }
    true
}
