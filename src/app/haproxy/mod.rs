//! HAProxy's face, fed with what this process knows.

mod former;
mod gather;
mod lines;
mod maps;
mod path;
mod servers;
mod watch;

use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::meters::Meters;
use super::operating::Operating;
use super::publish::Tables;
use super::sockets::ports::COUNTED;
use super::workers::data_workers;
use crate::api::Admin;
use crate::api::haproxy::{Face, Kind, Map, Source};
use crate::config::Config;
use crate::health::Checks;
use crate::lifecycle::{Lifecycle, Phase, Phases};
use crate::net::accept::{self, Connections};
use former::Former;
use gather::Teller;
pub(super) use path::StatsPath;
use watch::Watch;

/// How often rates are worked out.
const LOOK: Duration = Duration::from_secs(1);

/// The face, made when the configuration first has one.
pub(super) struct HaproxyFace {
    source: Source,
    teller: Arc<Teller>,
    accept: accept::Metrics,
    phases: Phases,
    /// The configuration in force, as it is shown.
    shown: Arc<Mutex<Arc<str>>>,
    made: Option<Face>,
}

impl HaproxyFace {
    /// A face that tells of this process, the one called `node`, and hands what is wanted to those who
    /// serve `admin`. `predecessor` is the process that this one replaces.
    pub(super) fn new(
        admin: &Admin,
        (config, node, meters): (&Config, &Arc<str>, &Meters),
        (tables, connections, operating, checks): (
            &Arc<ArcSwap<Tables>>,
            &Arc<Connections>,
            &Operating,
            &Checks,
        ),
        lifecycle: &Lifecycle,
        predecessor: Option<u32>,
    ) -> Self {
        let (now, former) = (Instant::now(), predecessor.and_then(Former::of));
        let phases = lifecycle.phases();
        let teller = Arc::new(Teller {
            node: Arc::clone(node),
            workers: data_workers(config),
            started: now,
            tables: Arc::clone(tables),
            operations: operating.spoken.operations.clone(),
            checks: checks.clone(),
            metrics: meters.proxy.clone(),
            accept: meters.accept.clone(),
            labelled: COUNTED.into(),
            connections: Arc::clone(connections),
            phases: phases.clone(),
            watch: Mutex::new(Watch::new(now)),
        });
        let shown: Arc<Mutex<Arc<str>>> = Arc::new(Mutex::new("".into()));
        let (tables, told) = (Arc::clone(tables), Arc::clone(&teller));
        let (config, seen) = (Arc::clone(&shown), Arc::clone(&teller));
        let source = Source {
            stats: Arc::new(move || told.stats()),
            map: Arc::new(move |map| {
                let tables = tables.load_full();
                match map {
                    Map::Hosts => maps::hosts(&tables),
                    Map::Apps => maps::apps(&tables),
                }
            }),
            config: Arc::new(move || {
                let written = Arc::clone(&config.lock().unwrap_or_else(PoisonError::into_inner));
                in_force(&written, &seen)
            }),
            pids: Arc::new(move || {
                let before = former.as_ref().and_then(Former::runs);
                std::iter::once(std::process::id()).chain(before).collect()
            }),
            readiness: admin.readiness.clone(),
            metrics: admin.metrics.clone(),
            operate: admin.operate.clone(),
            reloads: admin.reloads.clone(),
        };
        let accept = meters.accept.clone();
        Self { source, teller, accept, phases, shown, made: None }
    }

    /// From now on it does what `config` says.
    pub(super) fn follow(&mut self, config: &Config) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config.shown.0);
        let Some(wanted) = &config.haproxy else { return };
        if let Some(made) = &self.made {
            return made.follow(wanted);
        }
        let (source, accept) = (self.source.clone(), self.accept.clone());
        self.made = Some(Face::new(source, wanted, accept, self.phases.clone()));
        tokio::spawn(look(Arc::clone(&self.teller), self.phases.clone()));
    }

    /// Serves `listener` until `closed` is true. Needs a runtime.
    pub(super) fn serve(
        &self,
        kind: Kind,
        listener: TcpListener,
        closed: Receiver<bool>,
    ) -> io::Result<()> {
        match &self.made {
            Some(face) => face.serve(kind, listener, closed),
            None => Ok(()),
        }
    }

    /// Serves the stats socket at its path. Needs a runtime.
    pub(super) fn serve_path(&self, path: Option<StatsPath>) {
        let (Some(face), Some(path)) = (&self.made, path) else { return };
        if let Err(error) = path.place().and_then(|listener| face.serve_path(listener)) {
            tracing::error!(%error, "the stats socket is not served");
        }
    }
}

/// Looks at everything once a second, until the process drains.
async fn look(teller: Arc<Teller>, mut phases: Phases) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = phases.reached(Phase::Draining) => return,
        }
        let teller = Arc::clone(&teller);
        // Of a large catalog this takes milliseconds.
        let _ = tokio::task::spawn_blocking(move || teller.tick()).await;
    }
}

/// The configuration as it is written, and as comments what follows from it now.
fn in_force(written: &str, teller: &Teller) -> String {
    let stats = teller.stats();
    let mut text = format!("{written}\n# In force, generation {}:\n", stats.process.generation);
    for proxy in &stats.proxies {
        let kind = if proxy.http { "http" } else { "tcp" };
        let listens = if proxy.front.is_some() { ", listens" } else { "" };
        // Writing to a string never fails.
        let _ = writeln!(text, "#\n# {} ({kind}{listens})", proxy.name);
        for server in &proxy.servers {
            let _ = writeln!(
                text,
                "#   server {} {} weight {} # {}",
                server.name,
                server.address,
                server.weight.0,
                server.status.word()
            );
        }
    }
    text
}
