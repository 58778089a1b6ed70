//! The application: wires the rooms together, and moves them through their life.
//!
//! Start, publish, reload, drain. Nothing here decides about an answer, a route or an instance.

mod admin;
mod asked;
mod child;
mod departures;
mod error;
mod health;
mod interest;
mod memory;
mod metadata;
mod meters;
mod names;
mod operate;
mod operated;
mod operating;
mod publish;
mod reload;
mod rendered;
mod sight;
mod sockets;
mod status;
mod sticky;
mod urls;
mod workers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

use crate::api::{Admin, Reload, Services};
use crate::catalog::Snapshot;
use crate::catalog::publish::{Feed, Plan, first_generation};
use crate::catalog::store::{Store, writer};
use crate::config::{Config, Loaded};
use crate::lifecycle::{Lifecycle, Phase, Readiness};
use crate::net::accept::Connections;
use crate::net::adopt::Adopted;
use crate::proxy::sticky::Clock;
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
pub use publish::Tables;
use publish::{Compile, Publisher, current, readiness_follows};
use rendered::Rendered;
use sight::Sight;
use sockets::Sockets;
use workers::Workers;

/// What a start may be given besides the configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// The file that a reload reads again; none: reloads come by [`App::reload`] only.
    pub file: Option<PathBuf>,
    /// Registries that no configuration names, for programs that embed us and for tests.
    pub feeds: Vec<Feed>,
    /// Sockets that somebody else opened.
    pub adopted: Adopted,
    /// What stickiness goes by.
    pub clock: Clock,
}

/// The running application. Its threads end when it is stopped or dropped.
#[derive(Debug)]
pub struct App {
    lifecycle: Lifecycle,
    readiness: Readiness,
    connections: Arc<Connections>,
    tables: Arc<ArcSwap<Tables>>,
    published: watch::Receiver<Arc<Snapshot>>,
    running: Arc<Mutex<Running>>,
    tasks: Vec<JoinHandle<()>>,
    reloads: mpsc::Sender<Reload>,
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
}

impl App {
    /// Binds, compiles what is on disk, and serves. Must be called within a tokio runtime, which
    /// becomes the control side.
    ///
    /// # Errors
    /// A socket, a directory or a file cannot be had; nothing serves then.
    pub async fn start(loaded: Loaded, options: Options) -> Result<Self, StartError> {
        let Loaded { config, prepared } = loaded;
        let metrics = prometheus::Registry::new();
        let meters = Meters::register(&metrics).map_err(system)?;
        let lifecycle = Lifecycle::new();
        let readiness = Readiness::default();
        let connections = Connections::new(config.limits.connections);

        let data_dir = config.node.data_dir.as_ref().map(|dir| config.base_dir.join(dir));
        let store = data_dir.as_deref().map(Store::open).transpose()?;
        let stored = store.as_ref().map(Store::load).unwrap_or_default();
        for refused in &stored.refused {
            tracing::warn!(file = refused, "a state on disk is not used");
        }
        let first = first_generation(SystemTime::now(), stored.generation);

        let mut adopted = options.adopted;
        let token = admin::read_token(&config)?;
        let admin_listener = admin::bind_tcp(&config, &mut adopted)?;
        let admin_address = admin_listener.as_ref().and_then(|bound| bound.local_addr().ok());
        let admin_socket = admin::bind_unix(&config, data_dir.as_ref())?;
        let mut sockets = Sockets::default();
        let prepared_sockets = sockets.prepare(&config, &mut adopted)?;
        meters.logs.open(&prepared.proxy, &config.base_dir)?;
        if adopted.left() > 0 {
            tracing::warn!(
                count = adopted.left(),
                "sockets were handed over that no setting asks for"
            );
        }

        let wants = render::Wants::default();
        let interests = Interests::start(&config, Arc::clone(&wants));
        let registries = reload::start_registries(&config, &stored, &meters.registry, &interests);
        let reports = status::Reports::default();
        status::follow(&reports, &registries);
        let mut feeds: Vec<Feed> = registries.values().map(reload::feed).collect();
        feeds.extend(options.feeds.iter().cloned());
        let tables = Arc::new(ArcSwap::from_pointee(Tables::default()));
        let sight = Sight::new();
        let operating = Operating::start(&config, data_dir.as_ref(), &tables, &sight, &meters);
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
            &lifecycle.phases(),
        );
        let plan = Plan {
            feeds,
            settings: Arc::clone(&prepared.services),
            guard: config.guard,
            verdicts: health.verdicts(),
            spoken: operating.spoken.clone(),
            compile: Compile::new(&prepared, &registries),
        };

        let around = (data_dir.as_deref(), options.clock, lifecycle.phases());
        let (sticky, saving) = sticky::Sticky::start(&config, &prepared, around, &meters.proxy)?;
        // The store listens before anything is published: what it does not see is not saved.
        let mut tasks = vec![saving];
        if let Some(store) = store {
            let phases = lifecycle.phases();
            tasks.push(writer::start(store, to_save, writer::PAUSE, phases, &meters.store));
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
        sockets.commit(prepared_sockets, &workers);
        let templates = reload::checksums(&prepared.resources);
        let around = render::Surroundings {
            snapshots: published.clone(),
            phases: lifecycle.phases(),
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
                events: health.tell_events(&config, &published, &meters),
                reports: Arc::clone(&reports),
                forwarder: workers.forwarder(),
                last_reload: Arc::clone(&last_reload),
                operations: operating.spoken.operations.clone(),
            }),
            why: status::reasons(&sight, health.checks()),
            why_url: urls::reasons(&tables, &sight),
            push: health::push(health.checks()),
            operate: operating.serve(&published, &lifecycle.phases(), &meters),
            explain: names::explainer(&tables, &sight, workers.forwarder()),
            reloads: reloads.clone(),
            token,
        };
        let services = Services::new(admin.snapshot.clone()).map_err(system)?;
        metrics.register(Box::new(services)).map_err(system)?;
        tasks.extend(admin::serve(admin, admin_listener, admin_socket, &lifecycle));

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
        }));
        let answered = reload::answer(Arc::clone(&running), reload_receiver);
        let mut phases = lifecycle.phases();
        tasks.push(tokio::spawn(async move {
            // Connections to the admin face may hold on to their way of asking for longer.
            tokio::select! { () = answered => {}, () = phases.reached(Phase::Stopped) => {} }
        }));
        Ok(Self {
            lifecycle,
            readiness,
            connections,
            tables,
            published,
            running,
            tasks,
            reloads,
            admin: admin_address,
            wants,
            rendered,
            child,
        })
    }
}
