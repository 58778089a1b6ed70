//! The application: wires the rooms together, and moves them through their life.
//!
//! Start, publish, reload, drain. Nothing here decides about an answer, a route or an instance.

mod admin;
mod asked;
mod bound;
mod child;
mod departures;
mod error;
mod haproxy;
mod health;
mod interest;
mod labels;
mod memory;
mod metadata;
mod meters;
mod names;
mod operate;
mod operated;
mod operating;
mod options;
mod ports;
mod publish;
mod reload;
mod rendered;
mod sight;
mod sockets;
mod status;
mod sticky;
pub mod upgrade;
mod urls;
mod watchdog;
mod workers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

use crate::api::{Admin, Reload, Services, UpgradeWish};
use crate::catalog::Snapshot;
use crate::catalog::publish::{Feed, Plan, first_generation};
use crate::catalog::store::{StateToSave, Store};
use crate::config::{Config, Loaded};
use crate::lifecycle::{Lifecycle, Phase, Readiness};
use crate::net::accept::Connections;
use crate::net::notify::Notifier;
use crate::net::tls::Certificates;
use crate::registry::Registry;
use crate::render::Renderer;
use crate::{registry, render};

pub use admin::socket_path as admin_socket_path;
pub use error::StartError;
use error::system;
use health::Health;
use interest::Interests;
use meters::Meters;
use operating::Operating;
pub use options::Options;
pub use publish::Tables;
use publish::{Compile, Publisher, current, readiness_follows};
use rendered::Rendered;
use sight::Sight;
use sockets::Sockets;
use upgrade::{Late, keep};
use workers::Workers;

/// The running application. Its threads end when it is stopped or dropped.
#[derive(Debug)]
pub struct App {
    lifecycle: Lifecycle,
    /// What only one process may do at a time: checks, files, the disk, orders, events. It is
    /// serving while they are ours, and stopped when another process has them.
    duties: Lifecycle,
    readiness: Readiness,
    connections: Arc<Connections>,
    tables: Arc<ArcSwap<Tables>>,
    published: watch::Receiver<Arc<Snapshot>>,
    running: Arc<Mutex<Running>>,
    tasks: Vec<JoinHandle<()>>,
    reloads: mpsc::Sender<Reload>,
    upgrades: Mutex<mpsc::Receiver<UpgradeWish>>,
    upgrades_refused: IntCounter,
    /// Held while there is an upgrade.
    upgrading: Mutex<()>,
    /// The process that has taken over, if one has.
    replaced_by: AtomicU32,
    admin: Option<SocketAddr>,
    wants: render::Wants,
    rendered: Rendered,
    child: child::Child,
}

/// What a reload replaces.
#[derive(Debug)]
struct Running {
    config: Config,
    registries: BTreeMap<String, Registry>,
    feeds: Vec<Feed>,
    sockets: Sockets,
    tables: Arc<ArcSwap<Tables>>,
    /// Checksum of each template's text, by its name.
    templates: BTreeMap<Arc<str>, u32>,
    renderer: Arc<std::sync::Mutex<Renderer>>,
    interests: Interests,
    reports: status::Reports,
    rendered: watch::Sender<rendered::Statuses>,
    exec: watch::Sender<Option<render::ExecConfig>>,
    health: Health,
    operating: Operating,
    plans: mpsc::Sender<Plan<Compile>>,
    workers: Workers,
    registry_metrics: registry::Metrics,
    published: watch::Receiver<Arc<Snapshot>>,
    connections: Arc<Connections>,
    file: Option<PathBuf>,
    last_reload: Arc<std::sync::Mutex<Option<status::LastReload>>>,
    sticky: sticky::Sticky,
    certificates: Certificates,
    to_save: watch::Receiver<StateToSave>,
    /// The doors of the admin face.
    admin_held: admin::Doors,
    /// Those who write to disk, and end when the duties do.
    keepers: Vec<JoinHandle<()>>,
    notifier: Notifier,
    /// The process that has taken over, if one has.
    replaced_by: Option<u32>,
}

impl App {
    /// Binds, compiles what is on disk, and serves. Must be called within a tokio runtime, which
    /// becomes the control side.
    ///
    /// # Errors
    /// A socket, a directory or a file cannot be had; nothing serves then.
    pub async fn start(loaded: Loaded, mut options: Options) -> Result<Self, StartError> {
        let Loaded { config, prepared } = loaded;
        let metrics = prometheus::Registry::new();
        let meters = Meters::register(&metrics).map_err(system)?;
        let lifecycle = Lifecycle::new();
        let duties = Lifecycle::new();
        let mut taken = None;
        if let Some(predecessor) = &options.predecessor {
            taken = Some(predecessor.take().await?);
        } else {
            duties.advance(Phase::Serving);
        }
        let readiness = Readiness::default();
        let connections = Connections::new(config.limits.connections);

        let data_dir = config.node.data_dir.as_ref().map(|dir| config.base_dir.join(dir));
        let store = data_dir.as_deref().map(Store::open).transpose()?;
        let given = taken.as_mut().and_then(|taken| taken.stored.take());
        let stored = given.or_else(|| store.as_ref().map(Store::load)).unwrap_or_default();
        for refused in &stored.refused {
            tracing::warn!(file = refused, "a state on disk is not used");
        }
        let first = first_generation(SystemTime::now(), stored.generation);

        let mut adopted = match &mut taken {
            Some(taken) => std::mem::take(&mut taken.adopted),
            None => std::mem::take(&mut options.adopted),
        };
        let token = admin::read_token(&config)?;
        let admin_listener = admin::bind_tcp(&config, &mut adopted)?;
        let admin_address = admin_listener.as_ref().and_then(|bound| bound.local_addr().ok());
        let admin_socket = admin::bind_unix(&config, data_dir.as_ref(), &mut adopted)?;
        let admin_held =
            admin::Doors::hold(&config, admin_listener.as_ref(), admin_socket.as_ref())?;
        let stats_path = haproxy::StatsPath::bind(&config, taken.is_some())?;
        let mut sockets = Sockets::default();
        let prepared_sockets = sockets.prepare(&config, &mut adopted)?;
        meters.logs.open(&prepared.proxy, &config.base_dir)?;

        let wants = render::Wants::default();
        let interests = Interests::start(&config, Arc::clone(&wants));
        let registries = reload::start_registries(&config, &stored, &meters.registry, &interests);
        let reports = status::Reports::default();
        status::follow(&reports, &registries);
        let mut feeds: Vec<Feed> = registries.values().map(reload::feed).collect();
        feeds.extend(options.feeds.iter().cloned());
        let tables = Arc::new(ArcSwap::from_pointee(Tables::default()));
        let sight = Sight::new();
        let said = taken.as_mut().and_then(|taken| taken.operations.take());
        let operating =
            Operating::start(&config, data_dir.as_ref(), said, &tables, &sight, &meters);
        let (plans, plan_receiver) = mpsc::channel(1);
        let publisher = Publisher::new(
            Arc::clone(&tables),
            readiness.clone(),
            lifecycle.phases(),
            sight.clone(),
            Arc::clone(&operating.departed),
        );
        let (mut published, to_save) = (publisher.published(), publisher.to_save());
        let health = Health::start(
            &config,
            &prepared,
            &tables,
            &published,
            &stored.verdicts,
            &meters,
            &duties.phases(),
        );
        let plan = Plan {
            feeds,
            settings: Arc::clone(&prepared.services),
            guard: config.guard,
            verdicts: health.verdicts(),
            spoken: operating.spoken.clone(),
            compile: Compile::new(&prepared, &registries),
        };

        let around = (data_dir.as_deref(), options.clock.clone(), duties.phases());
        let (sticky, saving) =
            sticky::Sticky::start(&config, &prepared, around, taken.as_mut(), &meters.proxy)?;
        let certificates = Certificates::new(meters.tls.clone())?;
        prepared.proxy.secure(certificates.follow(&prepared.tls)?);
        // The store listens before anything is published: what it does not see is not saved.
        let following = tokio::spawn(certificates.clone().run(lifecycle.phases()));
        let mut tasks = vec![following];
        let mut keepers = vec![saving];
        let saved = to_save.clone();
        if let Some(store) = store {
            let start = (store, to_save, duties.phases(), meters.store.clone());
            keepers.push(keep(start, taken.is_some()));
        } else {
            tracing::warn!(
                "no [node] data_dir: nothing is known after a restart until it is heard"
            );
        }
        publisher.start(plan, plan_receiver, first).map_err(system)?;

        // The first tables are compiled before anybody is answered from them.
        let _ = published.wait_for(|snapshot| snapshot.generation >= first).await;
        let workers = Workers::start(
            &config,
            &tables,
            &lifecycle,
            &readiness,
            &connections,
            &operating.cutter,
            &meters,
        )
        .map_err(system)?;
        sockets.faces(names::mesos_faces(&tables));
        let metadata = metadata::face(&tables, &published, &lifecycle.phases(), &meters);
        sockets.metadata(metadata, &config);
        if let Some(taken) = &taken {
            taken.ready().await?;
        }
        sockets.commit(prepared_sockets, &workers);
        sockets.follow_ports(&config, &tables.load(), &workers, &mut adopted, true);
        if adopted.left() > 0 {
            tracing::warn!(
                count = adopted.left(),
                "sockets were handed over that no setting asks for"
            );
        }
        if let Some(taken) = &taken {
            // This process answers now, and the other one is about to let go.
            lifecycle.advance(Phase::Serving);
            readiness_follows(&tables, &readiness, &lifecycle);
            let Late { sources, checks } = taken.serving().await;
            health.checks().carry(checks);
            sticky.catch_up(sources);
            duties.advance(Phase::Serving);
            tracing::info!(from = taken.pid, "this process has taken over");
        }
        let templates = reload::checksums(&prepared.resources);
        let around = render::Surroundings {
            snapshots: published.clone(),
            phases: duties.phases(),
            metrics: meters.render.clone(),
            wants: Arc::clone(&wants),
            data_dir,
        };
        let renderer = Renderer::start(prepared.resources, &config.groups, around).await;
        let statuses = watch::Sender::new(rendered::of(&renderer));
        let rendered = Rendered::new(statuses.subscribe());
        let exec = watch::Sender::new(config.exec.clone());
        let child = child::Child::start(exec.subscribe(), rendered.clone(), lifecycle.phases());
        let renderer = Arc::new(std::sync::Mutex::new(renderer));
        lifecycle.advance(Phase::Serving);
        readiness_follows(&tables, &readiness, &lifecycle);

        let (reloads, reload_receiver) = mpsc::channel(8);
        let (upgrade_wishes, upgrades) = mpsc::channel(1);
        watchdog::start(&options, workers.pulses(), duties.phases());
        let last_reload = Arc::default();
        let admin = Admin {
            snapshot: current(&tables, |tables| Arc::clone(&tables.snapshot)),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            status: status::teller(status::Asked {
                node: Arc::clone(&prepared.node),
                phases: lifecycle.phases(),
                connections: Arc::clone(&connections),
                tables: Arc::clone(&tables),
                renderer: Arc::clone(&renderer),
                checks: health.checks().clone(),
                events: health.tell_events(&config, &published, &meters, &duties.phases()),
                reports: Arc::clone(&reports),
                forwarder: workers.forwarder(),
                last_reload: Arc::clone(&last_reload),
                operations: operating.spoken.operations.clone(),
                refusals: sockets.refusals(),
            }),
            why: status::reasons(&sight, health.checks(), sockets.refusals(), &tables),
            problems: labels::problems(&tables),
            why_url: urls::reasons(&tables, &sight),
            push: health::push(health.checks()),
            operate: operating.serve(&published, &lifecycle.phases(), &duties.phases(), &meters),
            explain: names::explainer(&tables, &sight, workers.forwarder()),
            reloads: reloads.clone(),
            upgrades: upgrade_wishes,
            token,
        };
        let around = (&config, &prepared.node, &meters);
        let told = (&tables, &connections, &operating, health.checks());
        let before = taken.as_ref().map(|taken| taken.pid);
        let face = haproxy::HaproxyFace::new(&admin, around, told, &lifecycle, before);
        sockets.haproxy(face, &config, stats_path);
        let services = Services::new(admin.snapshot.clone()).map_err(system)?;
        metrics.register(Box::new(services)).map_err(system)?;
        tasks.extend(admin_held.serve(admin, admin_listener, admin_socket, &lifecycle));

        let running = Arc::new(Mutex::new(Running {
            config,
            registries,
            feeds: options.feeds,
            sockets,
            tables: Arc::clone(&tables),
            templates,
            renderer,
            interests,
            reports,
            rendered: statuses,
            exec,
            health,
            operating,
            plans,
            workers,
            registry_metrics: meters.registry.clone(),
            published: published.clone(),
            connections: Arc::clone(&connections),
            file: options.file,
            last_reload,
            sticky,
            certificates,
            to_save: saved,
            admin_held,
            keepers,
            notifier: options.notifier,
            replaced_by: None,
        }));
        let (following, phases) = (Arc::clone(&running), lifecycle.phases());
        tasks.push(tokio::spawn(ports::follow(following, published.clone(), phases)));
        let answered = reload::answer(Arc::clone(&running), reload_receiver);
        let mut phases = lifecycle.phases();
        tasks.push(tokio::spawn(async move {
            // Connections to the admin face may hold on to their way of asking for longer.
            tokio::select! { () = answered => {}, () = phases.reached(Phase::Stopped) => {} }
        }));
        Ok(Self {
            lifecycle,
            duties,
            readiness,
            connections,
            tables,
            published,
            running,
            tasks,
            reloads,
            upgrades: Mutex::new(upgrades),
            upgrades_refused: meters.upgrades_refused,
            upgrading: Mutex::new(()),
            replaced_by: AtomicU32::new(0),
            admin: admin_address,
            wants,
            rendered,
            child,
        })
    }
}
