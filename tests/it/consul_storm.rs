//! On a Consul that misbehaves by a script: what was true stays told, and nobody is flooded.
//!
//! `PORTOLAN_STORM_SEED` replays a storm, `PORTOLAN_STORM_STEPS` says how long it is at any price;
//! without it the storm ends after half a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portolan::app::App;
use portolan::catalog::Snapshot;

use crate::clients::Dns;
use crate::support::consul_fake::{Asked, Fake, Fault, Member, Status, TOKEN, seconds};
use crate::support::{address, start};

/// Steps of a whole storm.
const STEPS: u64 = 10_000;
/// How long the storm of an ordinary test run may take.
const SHORT: Duration = Duration::from_secs(30);
/// How often one thing may be asked for in one second, however good the reasons.
const ASKED_A_SECOND: usize = 16;
/// For how long a loss is held that may be none: all that was registered is registered anew in much
/// less.
pub(crate) const HOLD: Duration = Duration::from_secs(3);
/// Longer than any pause after a failure.
const PATIENCE: Duration = Duration::from_secs(90);

/// An application that is fed from `fake`; `more` goes into the registry's table.
pub(crate) async fn launch(fake: &Fake, directory: &Path, more: &str) -> App {
    std::fs::write(directory.join("token"), TOKEN).unwrap();
    let text = format!(
        r#"
[node]
workers = 1
[registry.dc1.consul]
address = "http://{}"
token_file = "token"
keys = ["app/"]
timeout = "1s"
heartbeat = "1s"
{more}
[guard]
max_loss = "0%"
hold = "{}s"
[dns]
listen = ["127.0.0.1:0"]
[dns.zone.test]
[admin]
socket = "admin.sock"
"#,
        fake.address,
        HOLD.as_secs()
    );
    start(&text, directory).await
}

/// The same numbers from the same seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

pub(crate) type Truth = BTreeMap<String, BTreeMap<String, Member>>;

/// What has been healthy without a break since the last quiet point, by service.
#[derive(Debug, Default)]
struct Stable {
    era: u64,
    healthy: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Keys that have been there without a break.
    keys: BTreeSet<String>,
}

pub(crate) fn serving(members: &BTreeMap<String, Member>) -> BTreeSet<IpAddr> {
    let up = members.values().filter(|member| member.status != Status::Critical);
    up.map(|member| member.at.ip()).collect()
}

/// What of the truth the snapshot does not tell, or tells otherwise.
pub(crate) fn differs(truth: &Truth, snapshot: &Snapshot) -> Option<String> {
    for (name, members) in truth {
        let told = snapshot.service(name).map(|service| {
            let told = service.instances.iter().map(|instance| {
                let down = instance.health.word() == "unhealthy";
                let weight = if down { 0 } else { instance.weight.value() };
                (instance.socket("").unwrap(), instance.health.word(), weight, &*instance.tags)
            });
            told.map(|told| format!("{told:?}")).collect::<BTreeSet<_>>()
        });
        let wanted = members.values().map(|member| {
            let (health, weight) = match member.status {
                Status::Passing => ("healthy", member.weights.0),
                Status::Warning => ("warning", member.weights.1),
                Status::Critical => ("unhealthy", 0),
            };
            format!("{:?}", (member.at, health, weight, &*member.tags))
        });
        let wanted: BTreeSet<_> = wanted.collect();
        if told.clone().unwrap_or_default() != wanted {
            return Some(format!("{name} is {wanted:#?}, told as {told:#?}"));
        }
    }
    let more = snapshot
        .services
        .iter()
        .find(|(name, service)| !truth.contains_key(&***name) && !service.instances.is_empty());
    more.map(|(name, _)| format!("{name} is gone and still told of"))
}

fn told_keys(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let all = snapshot.keys.iter().flat_map(|(_, keys)| keys.values());
    all.map(|key| (key.path.to_string(), key.value.to_string())).collect()
}

/// One storm: what is true, what the server was told of it, and what may not be missed.
struct Storm {
    fake: Fake,
    dice: Dice,
    truth: Truth,
    keys: BTreeMap<String, String>,
    stable: Arc<Mutex<Stable>>,
    addresses: u32,
    restarts: usize,
    quiet_points: usize,
    waited: Duration,
}

impl Storm {
    async fn new(seed: u64) -> Self {
        let mut storm = Self {
            fake: Fake::start().await,
            dice: Dice(seed),
            truth: Truth::new(),
            keys: BTreeMap::new(),
            stable: Arc::default(),
            addresses: 0,
            restarts: 0,
            quiet_points: 0,
            waited: Duration::ZERO,
        };
        for service in 0..12 {
            for id in 0..3 {
                storm.register(&format!("s{service}"), &format!("i{id}"));
            }
        }
        storm
    }

    /// An address that nobody has had yet.
    fn fresh(&mut self) -> SocketAddr {
        self.addresses += 1;
        (Ipv4Addr::from(0x0a00_0000 + self.addresses), 80).into()
    }

    fn register(&mut self, service: &str, id: &str) {
        let member = Member {
            at: self.fresh(),
            status: Status::Passing,
            tags: Vec::new(),
            weights: (1, 1),
            meta: BTreeMap::new(),
            output: String::new(),
        };
        self.becomes(service, id, Some(member));
    }

    /// Changes the truth, and what the server knows of it.
    fn becomes(&mut self, service: &str, id: &str, member: Option<Member>) {
        let known = self.truth.get(service).and_then(|members| members.get(id));
        if let Some(known) = known
            && member.as_ref().is_none_or(|m| m.at != known.at || m.status == Status::Critical)
        {
            let mut stable = self.stable.lock().unwrap();
            if let Some(healthy) = stable.healthy.get_mut(service) {
                healthy.remove(&known.at.ip());
            }
        }
        if let Some(member) = member {
            self.fake.set(service, id, member.clone());
            self.truth.entry(service.to_owned()).or_default().insert(id.to_owned(), member);
        } else if let Some(members) = self.truth.get_mut(service) {
            self.fake.remove(service, id);
            members.remove(id);
            if members.is_empty() {
                self.truth.remove(service);
            }
        }
    }

    async fn step(&mut self, app: &App) {
        match self.dice.below(400) {
            0..200 => self.change(),
            // Good answers between the bad ones, or nothing would move at all.
            200..300 if self.fake.armed() < 6 => {
                for _ in 0..=self.dice.below(3) {
                    let good = self.dice.below(2) == 0;
                    let fault = self.dice.one_of(&Fault::ALL);
                    self.fake.arm([(!good).then_some(fault)]);
                }
            }
            200..385 => {
                // Some time for requests to come; none may come at all.
                let asked = self.fake.asked();
                let more = async {
                    while self.fake.asked() == asked {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                let _ = tokio::time::timeout(Duration::from_millis(10), more).await;
            }
            385..390 => self.fake.cut_all(),
            394..397 => self.quiet(app).await,
            390..394 => self.restart().await,
            _ => {}
        }
    }

    fn change(&mut self) {
        let (service, id) =
            (format!("s{}", self.dice.below(12)), format!("i{}", self.dice.below(5)));
        let known = self.truth.get(&service).and_then(|members| members.get(&id)).cloned();
        let Some(mut member) = known else { return self.register(&service, &id) };
        match self.dice.below(10) {
            0 | 1 => return self.becomes(&service, &id, None),
            2 => member.at = self.fresh(),
            3 => member.status = Status::Critical,
            4 => member.status = Status::Warning,
            5 => member.status = Status::Passing,
            6 => member.tags = vec![format!("t{}", self.dice.below(3))],
            7 => member.weights = (1 + self.dice.below(9) as u16, 1 + self.dice.below(3) as u16),
            8 => member.output = format!("took {} ms", self.dice.below(1000)),
            _ => return self.change_key(),
        }
        self.becomes(&service, &id, Some(member));
    }

    fn change_key(&mut self) {
        let path = format!("app/{}", self.dice.below(5));
        if self.dice.below(3) == 0 {
            self.stable.lock().unwrap().keys.remove(&path);
            self.keys.remove(&path);
            self.fake.key(&path, None);
        } else {
            let value = format!("v{}", self.dice.below(100));
            self.fake.key(&path, Some(&value));
            self.keys.insert(path, value);
        }
    }

    /// The server loses its memory; its agents register again what they know, one by one.
    async fn restart(&mut self) {
        self.restarts += 1;
        let asked = self.fake.asked();
        self.fake.restart_empty();
        // Somebody shall see it empty, if somebody asks.
        let seen = async {
            while self.fake.asked() == asked {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(200), seen).await;
        for (service, members) in &self.truth {
            for (id, member) in members {
                self.fake.set(service, id, member.clone());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        for (path, value) in &self.keys {
            self.fake.key(path, Some(value));
        }
    }

    /// All goes well until the truth is told; from there on it may not be missed.
    async fn quiet(&mut self, app: &App) {
        self.quiet_points += 1;
        self.fake.heal();
        let since = Instant::now();
        let (truth, keys) = (&self.truth, &self.keys);
        let differs = |snapshot: &Snapshot| {
            differs(truth, snapshot).or_else(|| {
                let told = told_keys(snapshot);
                (told != *keys).then(|| format!("the keys are {keys:?}, told as {told:?}"))
            })
        };
        let told = app.published(|snapshot| differs(snapshot).is_none());
        if tokio::time::timeout(PATIENCE, told).await.is_err() {
            let differs = differs(&app.tables().snapshot);
            panic!("not told after {PATIENCE:?}: {}", differs.unwrap_or_default());
        }
        self.waited += since.elapsed();
        let mut stable = self.stable.lock().unwrap();
        stable.era += 1;
        stable.healthy =
            truth.iter().map(|(name, members)| (name.clone(), serving(members))).collect();
        stable.keys = keys.keys().cloned().collect();
    }
}

impl Stable {
    fn of(&self, service: &str) -> (u64, BTreeSet<IpAddr>) {
        (self.era, self.healthy.get(service).cloned().unwrap_or_default())
    }
}

/// Asks DNS and looks at the tables for ever; panics when somebody healthy is missing.
async fn watch_out(stable: &Mutex<Stable>, app: &App) {
    let dns = Dns::to(address(app, "dns").await).await;
    loop {
        for service in 0..12 {
            let name = format!("s{service}");
            let (era, before) = stable.lock().unwrap().of(&name);
            let tables = app.tables();
            let table = tables.snapshot.service(&name);
            let eligible =
                table.map(|service| service.eligible.iter().filter_map(|i| i.address.ip()));
            let eligible: BTreeSet<_> = eligible.into_iter().flatten().collect();
            let answer = dns.addresses(&format!("{name}.test")).await;
            let (now, after) = stable.lock().unwrap().of(&name);
            if era == now {
                let missed: Vec<_> = before.intersection(&after).collect();
                for ip in missed {
                    assert!(eligible.contains(ip), "{ip} of {name} is missing in the tables");
                    assert!(answer.contains(ip), "{ip} of {name} is missing in {answer:?}");
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (era, before) = {
            let stable = stable.lock().unwrap();
            (stable.era, stable.keys.clone())
        };
        let told = told_keys(&app.tables().snapshot);
        let stable = stable.lock().unwrap();
        for path in before.intersection(&stable.keys).filter(|_| era == stable.era) {
            assert!(told.contains_key(path), "the key {path} is missing in {told:?}");
        }
    }
}

/// What a decent client keeps to, seen from the server.
pub(crate) fn decent(log: &[Asked]) {
    let mut by_path: BTreeMap<&str, Vec<Instant>> = BTreeMap::new();
    for asked in log {
        assert_eq!(asked.token.as_deref(), Some(TOKEN), "{asked:?}");
        if let Some(index) = &asked.index {
            let index = u64::from_str(index).unwrap_or_else(|_| panic!("{asked:?}"));
            assert!(index > 0, "an index that does not block: {asked:?}");
            let wait = asked.wait.as_deref().unwrap_or_else(|| panic!("no wait: {asked:?}"));
            assert!(seconds(wait) <= Duration::from_secs(600), "{asked:?}");
        }
        by_path.entry(&asked.path).or_default().push(asked.at);
    }
    for (path, times) in by_path {
        let most = most_in_a_second(&times);
        assert!(most <= ASKED_A_SECOND, "{path} was asked {most} times within a second");
    }
}

/// The largest number of these moments that lie within one second. They are in order.
pub(crate) fn most_in_a_second(times: &[Instant]) -> usize {
    let within = |(first, from): (usize, &Instant)| {
        times[first..].iter().take_while(|at| **at - *from < Duration::from_secs(1)).count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_storm_the_truth_is_told_at_every_quiet_point_and_nobody_healthy_is_ever_missed()
{
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("PORTOLAN_STORM_SEED").unwrap_or_else(portolan::random::bits);
    let steps = number("PORTOLAN_STORM_STEPS");
    println!("PORTOLAN_STORM_SEED={seed}");
    let mut storm = Storm::new(seed).await;
    let directory = tempfile::tempdir().unwrap();
    let app = launch(&storm.fake, directory.path(), "max_watches = 20").await;
    storm.quiet(&app).await;
    let first = app.tables().snapshot.generation;
    let stable = Arc::clone(&storm.stable);
    let began = Instant::now();
    let mut taken = 0;
    let steps = async {
        while steps.is_some_and(|steps| taken < steps)
            || steps.is_none() && taken < STEPS && began.elapsed() < SHORT
        {
            storm.step(&app).await;
            taken += 1;
        }
        storm.quiet(&app).await;
    };
    tokio::select! {
        () = steps => {}
        () = watch_out(&stable, &app) => unreachable!(),
    }
    let log = storm.fake.log();
    println!(
        "{taken} steps in {:?}: {} restarts, {} quiet points that took {:?}, {} requests, at most \
         {} connections, {} generations",
        began.elapsed(),
        storm.restarts,
        storm.quiet_points,
        storm.waited,
        log.len(),
        storm.fake.most_open(),
        app.tables().snapshot.generation - first
    );
    decent(&log);
    assert!(storm.fake.most_open() <= 20, "{}", storm.fake.most_open());
    app.stop().await;
}
