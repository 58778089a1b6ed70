//! On a Marathon that deploys, kills and fails over by a script: the catalog is what is true at
//! every resync, nobody healthy is ever missing, and who is killed gets nothing new.
//!
//! `PORTOLAN_STORM_SEED` replays a storm; `PORTOLAN_FULL` asks for the long form, of which
//! `PORTOLAN_STORM_STEPS` says how many deployments, kills and failovers it has.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portolan::app::App;
use portolan::catalog::{Presence, Snapshot};

use crate::clients::{Dns, Http};
use crate::consul_storm::{Dice, most_in_a_second};
use crate::support::marathon::{self, Auth, End, Era, Fake, Fault, Net, Standby, State, Told};
use crate::support::marathon_tasks::{Processes, Stalls};
use crate::support::{address, start, within};

/// Deployments, kills and failovers of the long form.
const DEEDS: u64 = 10_000;
/// Those of an ordinary test run.
const FEW_DEEDS: u64 = 250;
/// How long the storm of an ordinary test run may take.
const SHORT: Duration = Duration::from_secs(12);
/// Steps from one quiet point to the next.
const CALM_AFTER: u64 = 250;
/// From the event to the last new request.
const KILLED_WITHIN: Duration = Duration::from_millis(200);
/// Longer than any pause after a failure.
const PATIENCE: Duration = Duration::from_secs(90);
const RESYNC: Duration = Duration::from_secs(1);
/// How often one thing may be asked for in one second, however good the reasons.
const ASKED_A_SECOND: usize = 40;
const APPS: usize = 8;
const TASKS: usize = 3;
const NODES: usize = 3;
const USER: &str = "portolan";
const PASSWORD: &str = "storm:1";

fn app_id(number: usize) -> String {
    format!("/shop/s{number}")
}

/// What the catalog calls an app: its path from its end.
pub(crate) fn service_of(id: &str) -> String {
    let mut parts: Vec<_> = id.split('/').filter(|part| !part.is_empty()).collect();
    parts.reverse();
    parts.join(".")
}

/// An application that is fed from `fake`, with a route to each of `apps`; `more` goes into the
/// registry's table.
pub(crate) async fn launch(fake: &Fake, directory: &Path, apps: &[String], more: &str) -> App {
    std::fs::write(directory.join("password"), PASSWORD).unwrap();
    let route = |(number, id): (usize, &String)| {
        let service = service_of(id);
        format!(
            "[route.r{number}]\nlistener = \"web\"\nhost = \"r{number}.test\"\n\
             service = \"{service}\"\n"
        )
    };
    let routes: String = apps.iter().enumerate().map(route).collect();
    let text = format!(
        r#"
[node]
workers = 1
[registry.m.marathon]
urls = {:?}
username = "{USER}"
password_file = "password"
{more}
[guard]
max_loss = "100%"
hold = "1s"
[dns]
listen = ["127.0.0.1:0"]
[dns.zone.mesos]
dialect = "mesos"
[listener.web.http]
bind = ["127.0.0.1:0"]
{routes}
[admin]
socket = "admin.sock"
"#,
        fake.urls()
    );
    start(&text, directory).await
}

/// What of `world` the snapshot does not tell, or tells otherwise.
pub(crate) fn differs(world: &marathon::World, snapshot: &Snapshot) -> Option<String> {
    for (id, app) in &world.apps {
        let name = service_of(id);
        let told = snapshot.service(&name).map(|service| {
            let stays = service.instances.iter().filter(|i| i.presence == Presence::Active);
            let told = stays.map(|instance| {
                let mut ports: Vec<u16> = instance.ports.iter().map(|port| port.number).collect();
                ports.sort_unstable();
                let eligible = service.eligible.iter().any(|one| one.id == instance.id);
                format!("{:?}", (&*instance.id, instance.address.ip(), ports, eligible))
            });
            told.collect::<BTreeSet<_>>()
        });
        let wanted = app.running().map(|(own, task)| {
            let ports: Vec<u16> =
                (0..app.ports.len() as u16).map(|index| task.at.port() + index).collect();
            let id = world.told_as(id, own);
            format!("{:?}", (&*id, Some(task.at.ip()), ports, app.serves(task)))
        });
        let wanted: BTreeSet<_> = wanted.collect();
        if told.clone().unwrap_or_default() != wanted {
            return Some(format!("{name} is {wanted:#?}, told as {told:#?}"));
        }
    }
    let known: BTreeSet<_> = world.apps.keys().map(|id| service_of(id)).collect();
    let stray = |(name, service): &(&Arc<str>, &Arc<portolan::catalog::model::Service>)| {
        name.ends_with(".shop") && !known.contains(&***name) && !service.eligible.is_empty()
    };
    let more = snapshot.services.iter().find(stray);
    more.map(|(name, _)| format!("{name} is gone and still told of"))
}

/// What is left to do of something that has begun.
#[derive(Debug, Clone)]
enum Chore {
    /// A staged task begins to run.
    Run(String, String),
    /// Its checks say something.
    Check(String, String, bool),
    /// A task is replaced by another one of the new version.
    Replace(String, String),
    /// It is killed once the new one serves.
    KillBehind(String, String, String),
    /// A task that is being killed has ended.
    End(String, String),
    /// A deployment ends.
    Deployed(String),
}

/// Who may not be missed, by app: those that serve and have not changed since they were seen.
#[derive(Debug, Default)]
struct Certain {
    era: u64,
    serving: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// A task whose kill was told while somebody was listening.
#[derive(Debug, Clone, Copy)]
struct Killed {
    ip: IpAddr,
    told: Instant,
}

#[derive(Debug, Default, Clone)]
struct Counts {
    deployments: u64,
    kills: u64,
    /// Of these were told to somebody who had read everything.
    told: u64,
    /// Of these to somebody who was about to go.
    unheard: u64,
    failovers: u64,
    lost: u64,
    mute: u64,
    faults: u64,
    quiet_points: u64,
    longest_wait: Duration,
    /// From a kill's event to the last new request.
    latest: Duration,
    /// The same less what the machine stood still.
    latest_own: Duration,
}

impl Counts {
    const fn deeds(&self) -> u64 {
        self.deployments + self.kills + self.failovers
    }
}

struct Storm {
    fake: Arc<Fake>,
    dice: Dice,
    era: Era,
    processes: Processes,
    chores: Vec<Chore>,
    certain: Arc<Mutex<Certain>>,
    killed: Vec<Killed>,
    stalls: Stalls,
    counts: Counts,
}

impl Storm {
    async fn new(seed: u64, era: Era) -> Self {
        let fake = Arc::new(Fake::start(era, NODES).await);
        fake.script(|script| {
            script.auth = Auth::Basic(USER, PASSWORD);
            script.heartbeat = Duration::from_millis(200);
            script.election = Duration::from_millis(100);
            script.plan = 300_000;
        });
        let mut storm = Self {
            fake,
            dice: Dice(seed),
            era,
            processes: Processes::default(),
            chores: Vec::new(),
            certain: Arc::default(),
            killed: Vec::new(),
            stalls: Stalls::watch(),
            counts: Counts::default(),
        };
        for number in 0..APPS {
            storm.create(&app_id(number)).await;
        }
        if era.has_instances() {
            storm.create_net("/shop/pod", Net::Pod).await;
        }
        // One that is not to be understood, for ever, and harms nobody.
        let broken = "{\"id\": \"/shop/broken\", \"labels\": {\"A\": {\"b\": 1}}, \"tasks\": 7}";
        storm.fake.world(|world| world.odd.push(broken.into()));
        storm
    }

    async fn create(&mut self, id: &str) {
        let nets: &[Net] = match self.era {
            Era::V0_9 => &[Net::Host, Net::Bridge],
            _ => &[Net::Host, Net::Bridge, Net::PerTask],
        };
        let net = self.dice.one_of(nets);
        self.create_net(id, net).await;
    }

    async fn create_net(&mut self, id: &str, net: Net) {
        let mut app = marathon::App::new(net);
        app.checks = net != Net::Pod && self.dice.below(3) > 0;
        app.service_ports = vec![10_000 + self.dice.below(1000) as u16];
        if self.dice.below(3) == 0 && net != Net::PerTask {
            app.ports.push("stats");
            app.service_ports.push(0);
        }
        app.labels.insert("HAPROXY_GROUP".into(), "external".into());
        self.fake.act(|world| world.post(id, app));
        for _ in 0..TASKS {
            let own = self.stage(id).await;
            self.chores.push(Chore::Run(id.into(), own));
        }
    }

    async fn stage(&mut self, id: &str) -> String {
        let net = self.fake.world(|world| world.apps[id].net);
        let at: SocketAddr = self.processes.start(net == Net::PerTask).await;
        let mut own = String::new();
        self.fake.act(|world| {
            let (name, said) = world.stage(id, at);
            own = name;
            said
        });
        own
    }

    /// One of the apps that are there.
    fn any_app(&mut self) -> String {
        let ids: Vec<String> = self.fake.world(|world| world.apps.keys().cloned().collect());
        let number = self.dice.below(ids.len());
        ids[number].clone()
    }

    /// One of the tasks that run, of an app that keeps at least one more.
    fn any_task(&mut self) -> Option<(String, String)> {
        let id = self.any_app();
        let all: Vec<String> = self
            .fake
            .world(|world| world.apps[&id].running().map(|(own, _)| own.clone()).collect());
        let number = self.dice.below(all.len().max(1));
        (all.len() > 1).then(|| (id, all[number].clone()))
    }

    fn ip(&self, id: &str, own: &str) -> Option<IpAddr> {
        self.fake.world(|world| Some(world.apps.get(id)?.tasks.get(own)?.at.ip()))
    }

    /// From here on it may be missing.
    fn uncertain(&self, id: &str, own: &str) {
        if let Some(ip) = self.ip(id, own)
            && let Some(serving) = self.certain.lock().unwrap().serving.get_mut(id)
        {
            serving.remove(&ip);
        }
    }

    /// It serves, and nothing was ever said against it: once seen, it may not be missing again.
    fn may_be_seen(&self, id: &str, own: &str) {
        let ip = self.fake.world(|world| {
            let app = world.apps.get(id)?;
            let task = app.tasks.get(own)?;
            let sure = task.state == State::Running && app.serves(task) && task.flips == 0;
            (sure && app.net != Net::Pod).then(|| task.at.ip())
        });
        if let Some(ip) = ip {
            let mut certain = self.certain.lock().unwrap();
            certain.serving.entry(id.to_owned()).or_default().insert(ip);
        }
    }

    /// A task is killed, in one step or two, and another one takes its place.
    async fn kill(&mut self, id: &str, own: &str, replaced: bool) {
        let Some(ip) = self.ip(id, own) else { return };
        self.uncertain(id, own);
        let told = Instant::now();
        let pod = self.fake.world(|world| world.apps[id].net == Net::Pod);
        let live = if self.era.has_instances() {
            self.chores.push(Chore::End(id.into(), own.into()));
            self.fake.act(|world| world.becomes(id, own, State::Killing))
        } else {
            self.fake.act(|world| world.end(id, own, End::Killed))
        };
        self.counts.kills += 1;
        if live == Told::Live && !pod {
            self.counts.told += 1;
            self.killed.push(Killed { ip, told });
        }
        if replaced {
            let own = self.stage(id).await;
            self.chores.push(Chore::Run(id.into(), own));
        }
    }

    async fn step(&mut self) {
        match self.dice.below(200) {
            0..12 => self.deploy(),
            12..106 => self.chore().await,
            106..118 => {
                if let Some((id, own)) = self.any_task() {
                    self.kill(&id, &own, true).await;
                }
            }
            118..124 => self.fail().await,
            124..134 => self.flip(),
            134..138 => self.out_of_reach(),
            138..140 => self.delete_and_create().await,
            140 => self.fail_over().await,
            141..144 => {
                for _ in 0..=self.dice.below(3) {
                    let good = self.dice.below(2) == 0;
                    let fault = self.dice.one_of(&Fault::ALL);
                    self.counts.faults += u64::from(!good);
                    self.fake.arm([(!good).then_some(fault)]);
                }
            }
            144..146 => {
                let lost = 1 + self.dice.below(6);
                self.counts.lost += lost as u64;
                self.fake.script(|script| script.lost += lost);
            }
            146 if self.dice.below(2) == 0 => {
                self.counts.mute += 1;
                let heartbeats = self.dice.below(2) == 0;
                self.fake.mute(heartbeats);
            }
            147 => self.fake.end_streams(),
            148 => self.fake.say_something_new(),
            _ => tokio::time::sleep(Duration::from_millis(1 + self.dice.below(12) as u64)).await,
        }
    }

    fn deploy(&mut self) {
        let id = self.any_app();
        let busy =
            self.chores.iter().any(|chore| matches!(chore, Chore::Deployed(of) if *of == id));
        if busy || self.chores.len() > 60 {
            return;
        }
        self.counts.deployments += 1;
        self.fake.act(|world| world.deploy(&id));
        let old: Vec<String> = self
            .fake
            .world(|world| world.apps[&id].running().map(|(own, _)| own.clone()).collect());
        self.chores.extend(old.into_iter().map(|own| Chore::Replace(id.clone(), own)));
        self.chores.push(Chore::Deployed(id));
    }

    /// Goes on with something that has begun.
    async fn chore(&mut self) {
        if self.chores.is_empty() {
            return;
        }
        let number = self.dice.below(self.chores.len());
        match self.chores.swap_remove(number) {
            Chore::Run(id, own) => {
                if self.ip(&id, &own).is_none() {
                    return;
                }
                self.fake.act(|world| world.becomes(&id, &own, State::Running));
                if self.fake.world(|world| world.apps[&id].checks) {
                    self.chores.push(Chore::Check(id, own, true));
                } else {
                    self.may_be_seen(&id, &own);
                }
            }
            Chore::Check(id, own, alive) => {
                if self.ip(&id, &own).is_none() {
                    return;
                }
                if !alive {
                    self.uncertain(&id, &own);
                }
                self.fake.act(|world| world.checked(&id, &own, alive));
                self.may_be_seen(&id, &own);
            }
            Chore::Replace(id, old) => {
                if self.ip(&id, &old).is_some() {
                    let new = self.stage(&id).await;
                    self.chores.push(Chore::Run(id.clone(), new.clone()));
                    self.chores.push(Chore::KillBehind(id, old, new));
                }
            }
            Chore::KillBehind(id, old, new) => {
                let ready = self.fake.world(|world| {
                    let app = world.apps.get(&id)?;
                    let new = app.tasks.get(&new)?;
                    Some(new.state == State::Running && app.serves(new))
                });
                match ready {
                    Some(true) => self.kill(&id, &old, false).await,
                    Some(false) => self.chores.push(Chore::KillBehind(id, old, new)),
                    // The new one is gone already: the old one stays.
                    None => {}
                }
            }
            Chore::End(id, own) => {
                if self.ip(&id, &own).is_some() {
                    self.fake.act(|world| world.end(&id, &own, End::Killed));
                }
            }
            Chore::Deployed(id) => {
                let of = |chore: &Chore| matches!(chore, Chore::Replace(of, _) | Chore::KillBehind(of, ..) if *of == id);
                if self.chores.iter().any(of) {
                    self.chores.push(Chore::Deployed(id));
                } else if self.fake.world(|world| world.apps.contains_key(&id)) {
                    self.fake.act(|world| world.deployed(&id));
                }
            }
        }
    }

    /// A task ends by itself.
    async fn fail(&mut self) {
        let Some((id, own)) = self.any_task() else { return };
        self.uncertain(&id, &own);
        let how = self.dice.one_of(&[End::Failed, End::Lost, End::Gone]);
        self.fake.act(|world| world.end(&id, &own, how));
        let own = self.stage(&id).await;
        self.chores.push(Chore::Run(id, own));
    }

    /// The checks of a task say the opposite.
    fn flip(&mut self) {
        let Some((id, own)) = self.any_task() else { return };
        let was = self.fake.world(|world| {
            let app = &world.apps[&id];
            app.tasks[&own].health.filter(|_| app.checks)
        });
        if let Some(was) = was {
            self.uncertain(&id, &own);
            self.fake.act(|world| world.checked(&id, &own, !was));
            if was {
                self.chores.push(Chore::Check(id, own, true));
            }
        }
    }

    /// An agent is out of reach, or comes back.
    fn out_of_reach(&mut self) {
        let Some((id, own)) = self.any_task() else { return };
        let (state, pod) = self.fake.world(|world| {
            let app = &world.apps[&id];
            (app.tasks[&own].state, app.net == Net::Pod)
        });
        if self.era.has_instances() && !pod {
            self.uncertain(&id, &own);
            let next = if state == State::Running { State::Unreachable } else { State::Running };
            self.fake.act(|world| world.becomes(&id, &own, next));
        }
    }

    async fn delete_and_create(&mut self) {
        let id = self.any_app();
        let pod = self.fake.world(|world| world.apps[&id].net == Net::Pod);
        self.certain.lock().unwrap().serving.remove(&id);
        self.fake.act(|world| world.delete(&id));
        if pod {
            self.create_net(&id, Net::Pod).await;
        } else {
            self.create(&id).await;
        }
    }

    async fn fail_over(&mut self) {
        self.counts.failovers += 1;
        let standby = self.dice.one_of(&[Standby::Redirects, Standby::Closes, Standby::Proxies]);
        self.fake.script(|script| script.standby = standby);
        self.fake.lead(None);
        tokio::time::sleep(Duration::from_millis(self.dice.below(150) as u64)).await;
        let leader = self.dice.below(NODES);
        self.fake.lead(Some(leader));
        // What was forgotten is found out again, in any order.
        for (id, own, known) in self.forgotten() {
            self.chores.push(Chore::Check(id, own, known));
        }
    }

    /// Tasks whose health was forgotten.
    fn forgotten(&self) -> Vec<(String, String, bool)> {
        self.fake.world(|world| {
            let mut all = Vec::new();
            for (id, app) in world.apps.iter().filter(|(_, app)| app.checks) {
                for (own, task) in app.running().filter(|(_, task)| task.health.is_none()) {
                    all.extend(task.known.map(|known| (id.clone(), own.clone(), known)));
                }
            }
            all
        })
    }

    /// All goes well, and nothing changes, until there was a resync and the truth is told.
    async fn quiet(&mut self, app: &App) {
        self.counts.quiet_points += 1;
        self.fake.heal();
        for (id, own, known) in self.forgotten() {
            self.fake.act(|world| world.checked(&id, &own, known));
        }
        let since = Instant::now();
        let told = async {
            while self.fake.listed_since() < Some(since) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let same = |snapshot: &Snapshot| self.fake.world(|w| differs(w, snapshot)).is_none();
            app.published(same).await;
        };
        if tokio::time::timeout(PATIENCE, told).await.is_err() {
            let differs = self.fake.world(|world| differs(world, &app.tables().snapshot));
            panic!(
                "not told after {PATIENCE:?} ({:?} since the last list): {}",
                self.fake.listed_since().map(|at| at.elapsed()),
                differs.unwrap_or_default()
            );
        }
        self.counts.longest_wait = self.counts.longest_wait.max(since.elapsed());
        self.judge_kills();
        self.certain_now();
        // By a stream that says nothing more nothing would be told in time.
        if self.fake.hearing() == 0 {
            self.fake.end_streams();
        }
    }

    /// Who was killed was asked nothing new from soon after its event.
    fn judge_kills(&mut self) {
        // What was killed just now may still be asked.
        let (done, fresh): (Vec<_>, Vec<_>) =
            self.killed.drain(..).partition(|killed| killed.told.elapsed() > 3 * KILLED_WITHIN);
        self.killed = fresh;
        for killed in done {
            // Who lets go of a stream at that moment has not read the event.
            if self.fake.left_between(killed.told, killed.told + KILLED_WITHIN) {
                self.counts.unheard += 1;
                continue;
            }
            let last = self.processes.last_asked(killed.ip).unwrap_or(killed.told);
            let after = last.saturating_duration_since(killed.told);
            let own = after.saturating_sub(self.stalls.within(killed.told, last));
            self.counts.latest = self.counts.latest.max(after);
            self.counts.latest_own = self.counts.latest_own.max(own);
            assert!(
                own <= KILLED_WITHIN,
                "{} was asked {after:?} after its kill was told, {own:?} without what the machine \
                 stood still",
                killed.ip
            );
        }
        let mut kept: HashSet<IpAddr> = self.killed.iter().map(|killed| killed.ip).collect();
        self.fake.world(|world| {
            let tasks = world.apps.values().flat_map(|app| app.tasks.values());
            kept.extend(tasks.map(|task| task.at.ip()));
        });
        self.processes.keep(&kept);
    }

    /// The truth is told: whoever serves is certain from here on.
    fn certain_now(&self) {
        let serving = self.fake.world(|world| {
            let of = |(id, app): (&String, &marathon::App)| {
                let all = app.running().filter(|(_, task)| {
                    task.state == State::Running && app.serves(task) && app.net != Net::Pod
                });
                (id.clone(), all.map(|(_, task)| task.at.ip()).collect())
            };
            world.apps.iter().map(of).collect()
        });
        let mut certain = self.certain.lock().unwrap();
        certain.serving = serving;
        certain.era += 1;
    }
}

impl Certain {
    fn of(&self, id: &str) -> (u64, BTreeSet<IpAddr>) {
        (self.era, self.serving.get(id).cloned().unwrap_or_default())
    }
}

/// Asks DNS and looks at the tables for ever; panics when somebody is missing who was seen.
async fn watch_out(certain: &Mutex<Certain>, app: &App, looks: &Mutex<u64>) {
    let dns = Dns::to(address(app, "dns").await).await;
    let mut seen: BTreeMap<String, HashSet<IpAddr>> = BTreeMap::new();
    loop {
        for number in 0..APPS {
            let id = app_id(number);
            let name = service_of(&id);
            let (era, before) = certain.lock().unwrap().of(&id);
            let tables = app.tables();
            let eligible: BTreeSet<_> =
                tables.snapshot.service(&name).map_or_else(BTreeSet::new, |service| {
                    service.eligible.iter().filter_map(|i| i.address.ip()).collect()
                });
            let answer = dns.addresses(&format!("{name}.marathon.mesos")).await;
            let (now, after) = certain.lock().unwrap().of(&id);
            let seen = seen.entry(id).or_default();
            // Who was in doubt is new when it comes back.
            seen.retain(|ip| before.contains(ip) && after.contains(ip));
            if era == now {
                for ip in before.intersection(&after) {
                    let told = (eligible.contains(ip), answer.contains(ip));
                    assert!(
                        !seen.contains(ip) || told == (true, true),
                        "{ip} of {name} is missing (in the tables, in DNS): {told:?}"
                    );
                    if told == (true, true) {
                        seen.insert(*ip);
                    }
                }
            }
            *looks.lock().unwrap() += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Requests through all routes for ever, counted by what came of them.
async fn ask(app: &App, counts: &Mutex<BTreeMap<String, u64>>) {
    let web = address(app, "web").await;
    let mut client = None;
    loop {
        for number in 0..APPS {
            let mut http = match client.take() {
                Some(http) => http,
                None => Http::to(web).await,
            };
            let answer = within("an answer", http.ask(&format!("r{number}.test"))).await;
            let what = match &answer {
                Ok(answer) => answer.status.to_string(),
                Err(error) => error.kind().to_string(),
            };
            *counts.lock().unwrap().entry(what).or_default() += 1;
            client = answer.is_ok().then_some(http);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What a decent client keeps to, seen from the server.
fn decent(fake: &Fake) {
    let mut by_path: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    for asked in fake.log() {
        assert!(asked.authorization.is_some(), "without credentials: {asked:?}");
        by_path.entry(asked.path).or_default().push(asked.at);
    }
    for (path, times) in by_path {
        let most = most_in_a_second(&times);
        assert!(most <= ASKED_A_SECOND, "{path} was asked {most} times within a second");
    }
}

async fn storm(seed: u64, era: Era, deeds: u64, at_most: Option<Duration>) {
    println!("PORTOLAN_STORM_SEED={seed} ({era:?})");
    let mut storm = Storm::new(seed, era).await;
    let directory = tempfile::tempdir().unwrap();
    let apps: Vec<String> = (0..APPS).map(app_id).collect();
    let more =
        format!("resync = \"{}ms\"\nidle = \"1s\"\nbackoff_max = \"500ms\"", RESYNC.as_millis());
    let app = launch(&storm.fake, directory.path(), &apps, &more).await;
    while !storm.chores.is_empty() {
        storm.chore().await;
    }
    storm.quiet(&app).await;
    let certain = Arc::clone(&storm.certain);
    let (looks, requests) = (Mutex::new(0), Mutex::new(BTreeMap::new()));
    let began = Instant::now();
    let mut steps = 0;
    let steps = async {
        while storm.counts.deeds() < deeds && at_most.is_none_or(|most| began.elapsed() < most) {
            storm.step().await;
            steps += 1;
            if steps % CALM_AFTER == 0 {
                storm.quiet(&app).await;
            }
        }
        storm.quiet(&app).await;
        tokio::time::sleep(3 * KILLED_WITHIN).await;
        storm.judge_kills();
    };
    tokio::select! {
        () = steps => {}
        () = watch_out(&certain, &app, &looks) => unreachable!(),
        () = ask(&app, &requests) => unreachable!(),
    }
    storm.stalls.end();
    println!(
        "{era:?}, {:?}: {:?}; {} lists, {} requests to Marathon; {} looks; requests through \
         the listener: {:?}; this machine stood still for {:?} at most",
        began.elapsed(),
        storm.counts,
        storm.fake.listed(),
        storm.fake.asked(),
        looks.lock().unwrap(),
        requests.lock().unwrap(),
        storm.stalls.longest(),
    );
    decent(&storm.fake);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_storm_on_marathon_the_truth_is_told_and_the_killed_are_left_alone() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("PORTOLAN_STORM_SEED").unwrap_or_else(portolan::random::bits);
    if std::env::var_os("PORTOLAN_FULL").is_some() {
        let deeds = number("PORTOLAN_STORM_STEPS").unwrap_or(DEEDS);
        for era in Era::ALL {
            Box::pin(storm(seed, era, deeds.div_ceil(Era::ALL.len() as u64), None)).await;
        }
    } else {
        let era = Era::ALL[(seed % 4) as usize];
        Box::pin(storm(seed, era, FEW_DEEDS, Some(SHORT))).await;
    }
}
