//! Statistics of this moment, from the tables, what was counted, and what is remembered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lines::{Line, lines};
use super::servers;
use super::watch::{Identity, SeenProxy, Standing, Watch};
use crate::api::haproxy::model::{
    Back, Front, Process, Proxy, Rate, Server, Stats, Status, Target, Work,
};
use crate::app::publish::Tables;
use crate::catalog::operations::Operations;
use crate::catalog::{Health, Instance};
use crate::health::Checks;
use crate::lifecycle::{Phase, Phases};
use crate::net::accept::{self, Connections};
use crate::proxy::metrics::{Metrics, Told as Counted};
use crate::proxy::route::ServiceRef;
use crate::proxy::route_metrics::Sums;
use crate::proxy::table::Listener;
use crate::proxy::upstream::tally::{Told, Trouble};
use crate::proxy::upstream::{Endpoint, Upstream};

/// Whom statistics are asked of.
pub(super) struct Teller {
    pub(super) node: Arc<str>,
    pub(super) workers: usize,
    pub(super) started: Instant,
    pub(super) tables: Arc<ArcSwap<Tables>>,
    pub(super) operations: watch::Receiver<Arc<Operations>>,
    pub(super) checks: Checks,
    pub(super) metrics: Metrics,
    pub(super) accept: accept::Metrics,
    /// Under which name metrics have the ports that labels ask for.
    pub(super) labelled: Arc<str>,
    pub(super) connections: Arc<Connections>,
    pub(super) phases: Phases,
    pub(super) watch: Mutex<Watch>,
}

/// What one look sees of a server.
struct Seen<'a> {
    instance: &'a Arc<Instance>,
    address: SocketAddr,
    endpoint: Option<&'a Arc<Endpoint>>,
    status: Status,
    /// Whether it is one of the service's own.
    own: bool,
}

/// All that one look goes by.
struct Look<'a> {
    tables: &'a Tables,
    operations: &'a Operations,
    counted: &'a Counted,
    now: Instant,
    /// Since the last regular look.
    passed: Duration,
    /// Whether this is one.
    regular: bool,
}

impl Teller {
    /// Everything at this moment.
    pub(super) fn stats(&self) -> Stats {
        self.look(false)
    }

    /// To be called once a second.
    pub(super) fn tick(&self) {
        drop(self.look(true));
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, regular: bool) -> Stats {
        let tables = self.tables.load_full();
        let operations = Arc::clone(&self.operations.borrow());
        let counted = self.metrics.told();
        let mut watch = self.watch();
        let now = Instant::now();
        let passed = now.duration_since(watch.looked);
        let look = Look {
            tables: &tables,
            operations: &operations,
            counted: &counted,
            now,
            passed,
            regular,
        };
        watch.begin();
        let mut proxies = Vec::new();
        let (mut accepted, mut requests, mut bytes_out) = (0, 0, 0);
        for line in lines(&tables.proxy) {
            let seen = watch.proxy(&line.name);
            let mut front =
                line.front.as_ref().map(|listener| self.front(&look, &line, listener, seen));
            let (servers, back) = match &line.back {
                Some(target) => {
                    let (servers, back) = self.back(&look, target, seen);
                    if let Some(front) = front.as_mut().filter(|_| line.labelled && !line.http) {
                        // All that comes by such a port goes to its own servers.
                        front.bytes = back.work.bytes;
                    }
                    (servers, Some(back))
                }
                None => (Vec::new(), None),
            };
            if let Some(front) = &front {
                accepted += front.total;
                requests += front.classes.iter().sum::<u64>();
                bytes_out += front.bytes[1];
            }
            if !regular {
                let (name, id, http) = (line.name, seen.id, line.http);
                proxies.push(Proxy { name, id, http, front, servers, back });
            }
        }
        watch.end();
        let rate = watch.accepted.rate(accepted, passed);
        if regular {
            watch.accepted.look(accepted, passed);
            watch.looked = now;
        }
        drop(watch);
        let process = Process {
            node: Arc::clone(&self.node),
            generation: tables.snapshot.generation,
            pid: std::process::id(),
            uptime: now.duration_since(self.started),
            workers: self.workers,
            connections: self.connections.open(),
            connections_max: self.connections.max(),
            accepted,
            rate,
            requests,
            bytes_out,
            stopping: self.phases.now() > Phase::Serving,
        };
        Stats { process, proxies }
    }

    fn front(
        &self,
        look: &Look<'_>,
        line: &Line,
        listener: &Arc<str>,
        seen: &mut SeenProxy,
    ) -> Front {
        let told = if line.labelled {
            self.accept.told_apart(listener)
        } else {
            self.accept.told(listener)
        };
        let sums = self.requests(look, line, listener);
        let served: u64 = sums.classes.iter().sum();
        let front = Front {
            now: told.open,
            most: told.most,
            limit: self.connections.max() as u64,
            total: told.accepted,
            rate: seen.front.rate(told.accepted, look.passed),
            bytes: if line.http || line.labelled {
                sums.bytes
            } else {
                self.metrics.bytes(listener)
            },
            denied: sums.denied,
            bad: look.counted.refused.get(&**listener).copied().unwrap_or_default(),
            refused: told.refused,
            classes: sums.classes,
            requests: seen.requests.rate(served, look.passed),
        };
        if look.regular {
            seen.front.look(told.accepted, look.passed);
            seen.requests.look(served, look.passed);
        }
        front
    }

    /// The requests of a listener.
    fn requests(&self, look: &Look<'_>, line: &Line, listener: &Arc<str>) -> Sums {
        if !line.labelled {
            return look.counted.requests.get(listener).copied().unwrap_or_default();
        }
        match look.tables.proxy.listener(listener).map(|own| &**own) {
            Some(Listener::Http { routes, .. }) => {
                self.metrics.of_routes(&self.labelled, routes.routes().map(|route| &route.name))
            }
            _ => Sums::default(),
        }
    }

    fn back(
        &self,
        look: &Look<'_>,
        target: &ServiceRef,
        seen: &mut SeenProxy,
    ) -> (Vec<Server>, Back) {
        let upstream = look.tables.proxy.upstream(target);
        let (known, gone) = known(look, target, upstream.map(|upstream| &**upstream));
        let targets =
            if look.regular { Vec::new() } else { self.checks.status_of(&target.service) };
        let mut sum = upstream.map_or_else(Told::default, |upstream| upstream.gone().told());
        let (mut running, mut serving) = (0, false);
        let mut last: Option<Instant> = None;
        let mut servers = Vec::new();
        for one in &known {
            let work = one.endpoint.map(|endpoint| endpoint.tally().told()).unwrap_or_default();
            let now_running = one.endpoint.map_or(0, |endpoint| endpoint.in_flight());
            sum += work;
            running += now_running;
            serving |= one.status.serves();
            let (state, down) = (one.status as u8, servers::is_down(one.status));
            let fresh = Standing::new(state, down, look.now);
            let of = seen.server(identity(one), fresh, || servers::name(one.instance, one.address));
            of.worked(work.sessions, look.now);
            of.standing.is(state, down, look.now);
            last = last.max(of.last);
            let rate = of.meter.rate(work.sessions, look.passed);
            if look.regular {
                of.meter.look(work.sessions, look.passed);
                continue;
            }
            let said = look.operations.of(&target.service, one.instance);
            let snapshot = &look.tables.snapshot;
            let mut told = told(&work, now_running);
            told.limit = one.endpoint.and_then(|endpoint| endpoint.limit());
            told.rate = rate;
            told.last = of.last.map(|last| look.now.duration_since(last));
            servers.push(Server {
                name: Arc::clone(&of.name),
                id: of.id,
                address: one.address,
                status: one.status,
                weight: servers::weight(one.instance, &said, &target.service, snapshot),
                work: told,
                check: servers::check(one.instance, one.address, &targets),
                changed: of.standing.age(look.now),
                downs: of.standing.downs,
                downtime: of.standing.downtime(look.now),
                target: Target {
                    // One that takes over for this service is another one's.
                    service: one.own.then(|| Arc::clone(&target.service)),
                    registry: Arc::clone(&one.instance.registry),
                    id: Arc::clone(&one.instance.id),
                },
            });
        }
        // Work at those that are no servers any more counts for all of them still.
        for endpoint in gone {
            sum += endpoint.tally().told();
            running += endpoint.in_flight();
        }
        seen.most = seen.most.max(running).max(sum.most);
        let down = !serving;
        let standing =
            seen.standing.get_or_insert_with(|| Standing::new(down.into(), down, look.now));
        standing.is(down.into(), down, look.now);
        let standing = *standing;
        let mut work = told(&sum, running);
        work.most = seen.most;
        work.rate = seen.back.rate(sum.sessions, look.passed);
        work.last = last.map(|last| look.now.duration_since(last));
        if look.regular {
            seen.back.look(sum.sessions, look.passed);
        }
        let queue = upstream.and_then(|upstream| upstream.queue());
        let size = upstream.map_or(0, |upstream| upstream.rules().queue.size);
        let back = Back {
            queue: queue.map_or([0; 3], |queue| [queue.waiting(), queue.most(), size]),
            work,
            algorithm: algorithm(look, target),
            changed: standing.age(look.now),
            downs: standing.downs,
            downtime: standing.downtime(look.now),
        };
        (servers, back)
    }
}

fn identity(one: &Seen<'_>) -> Identity {
    (Arc::clone(&one.instance.registry), Arc::clone(&one.instance.id), one.address)
}

/// The servers of `target`: its instances that have the port, then those of others that take over. And
/// the endpoints of those that are none any more.
fn known<'a>(
    look: &Look<'a>,
    target: &ServiceRef,
    upstream: Option<&'a Upstream>,
) -> (Vec<Seen<'a>>, Vec<&'a Arc<Endpoint>>) {
    type Key<'a> = (&'a str, &'a str, SocketAddr);
    let mut endpoints: HashMap<Key<'_>, &Arc<Endpoint>> = HashMap::new();
    for endpoint in upstream.iter().flat_map(|upstream| upstream.known()) {
        let of = &endpoint.instance;
        endpoints.insert((&of.registry, &of.id, endpoint.address), endpoint);
    }
    let service = look.tables.snapshot.service(&target.service);
    let mut known = Vec::new();
    for instance in service.iter().flat_map(|service| service.instances.iter()) {
        let Some(address) = instance.socket(&target.port) else { continue };
        let endpoint = endpoints.remove(&(&*instance.registry, &*instance.id, address));
        let said = look.operations.of(&target.service, instance);
        if let Some(status) = servers::status(instance, &said) {
            known.push(Seen { instance, address, endpoint, status, own: true });
        }
    }
    let others = upstream.iter().flat_map(|upstream| upstream.endpoints.iter());
    for endpoint in others {
        let of = &endpoint.instance;
        if endpoints.remove(&(&*of.registry, &*of.id, endpoint.address)).is_some() {
            let unchecked = of.health == Health::Unknown;
            known.push(Seen {
                instance: of,
                address: endpoint.address,
                endpoint: Some(endpoint),
                status: if unchecked { Status::Unchecked } else { Status::Up },
                own: false,
            });
        }
    }
    (known, endpoints.into_values().collect())
}

fn told(work: &Told, now: u32) -> Work {
    let trouble = |trouble: Trouble| work.troubles[trouble as usize];
    let millis = |micros: f32| (micros / 1000.0).round() as u32;
    Work {
        now,
        most: work.most.max(now),
        limit: None,
        total: work.sessions,
        rate: Rate::default(),
        bytes: work.bytes,
        connect_errors: trouble(Trouble::Connect),
        response_errors: trouble(Trouble::Response),
        retries: trouble(Trouble::Retried),
        redispatches: trouble(Trouble::Redispatched),
        client_aborts: trouble(Trouble::ClientLeft),
        server_aborts: trouble(Trouble::EndpointLeft),
        classes: work.classes,
        connects: work.connects,
        times: work.times.map(|(average, most)| (millis(average), most / 1000)),
        last: None,
    }
}

/// HAProxy's name of the policy.
fn algorithm(look: &Look<'_>, target: &ServiceRef) -> &'static str {
    let balance = look.tables.proxy.balance(target);
    let policy = balance.and_then(|balance| balance.policy.as_deref());
    match policy {
        Some("round-robin") => "roundrobin",
        Some("least-connections") => "leastconn",
        Some("maglev" | "ring-hash") => "hash",
        // Of two random ones the better.
        None | Some(_) => "random",
    }
}
