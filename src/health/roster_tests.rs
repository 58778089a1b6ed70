use super::super::check::Asked;
use super::super::check::ChecksConfig;
use super::super::config::HealthConfig;
use super::super::rounds::Start;
use super::super::tracker::Observation;
use super::*;
use crate::catalog::model::{Health, Instance, Port, Service};
use crate::catalog::verdict::{InstanceVerdict, ServiceVerdicts, Verdict};

/// A roster with a clock of its own, and everything that runs in it.
pub(in crate::health) struct Played {
    pub(in crate::health) roster: Roster,
    pub(in crate::health) now: Instant,
    pub(in crate::health) clock: SystemTime,
    running: Vec<Start>,
    generation: u64,
    services: BTreeMap<String, Vec<(String, String, u16)>>,
}

fn settings(told: &[(&str, &str)]) -> Arc<Settings> {
    let parsed: Vec<(&str, ChecksConfig)> =
        told.iter().map(|(name, text)| (*name, toml::from_str(text).unwrap())).collect();
    let services = parsed.iter().map(|(name, checks)| (*name, checks, None));
    let health = HealthConfig::default();
    Arc::new(Settings::compile(&health, services, std::path::Path::new("")).unwrap())
}

pub(in crate::health) fn played(told: &[(&str, &str)]) -> Played {
    with(told, &Verdicts::new())
}

fn with(told: &[(&str, &str)], restored: &Verdicts) -> Played {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let random = Box::new(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    Played {
        roster: Roster::new(settings(told), restored, metrics, random),
        now: Instant::now(),
        clock: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        running: Vec::new(),
        generation: 0,
        services: BTreeMap::new(),
    }
}

impl Played {
    /// The catalog knows exactly these instances of `service`: id, address, port; 0: none.
    pub(in crate::health) fn tell(&mut self, service: &str, instances: &[(&str, &str, u16)]) {
        let own = |(id, at, port): &(&str, &str, u16)| ((*id).into(), (*at).into(), *port);
        self.services.insert(service.into(), instances.iter().map(own).collect());
        self.generation += 1;
        let mut snapshot = Snapshot::clone(&self.roster.snapshot);
        snapshot.generation = self.generation;
        for (name, told) in &self.services {
            let instance = |(id, at, port): &(String, String, u16)| {
                let ports = (*port > 0).then(|| Port { name: "".into(), number: *port });
                Arc::new(Instance {
                    ports: ports.into_iter().collect(),
                    ..Instance::bare("r", id, Address::parse(at).unwrap())
                })
            };
            let service = Service {
                name: (&**name).into(),
                tags: Arc::new([]),
                meta: Arc::default(),
                instances: told.iter().map(instance).collect(),
                eligible: Arc::new([]),
                problems: Arc::new([]),
            };
            if snapshot.service(name).is_none_or(|known| **known != service) {
                snapshot.services.insert((&**name).into(), Arc::new(service));
            }
        }
        self.roster.follow(&Arc::new(snapshot), self.now);
    }

    /// Plays `length` in steps of a millisecond; every probe that starts ends as `answer` says,
    /// by the kind of its check and its target.
    pub(in crate::health) fn play(
        &mut self,
        length: Duration,
        answer: impl Fn(&str, &str) -> Observation,
    ) -> usize {
        let mut starts = 0;
        let end = self.now + length;
        loop {
            for start in self.roster.due(self.now, self.clock) {
                starts += 1;
                let asked = Asked {
                    seen: answer(start.check.kind, &start.target.to_string()),
                    in_time: true,
                };
                let (now, manner) = (self.now, start.check.manner);
                self.roster.finished(start.id, manner, Some(asked), now, now, self.clock);
            }
            if self.now >= end {
                return starts;
            }
            self.now += Duration::from_millis(1);
            self.clock += Duration::from_millis(1);
        }
    }

    /// What is said of an instance: health and cause.
    fn verdict(&mut self, service: &str, id: &str) -> Option<(Health, String)> {
        self.roster.settle(self.clock);
        let told = self.roster.verdicts().get(service)?;
        let check = told.instances.get(&("r".into(), id.into()))?.check.as_ref()?;
        Some((check.health, check.cause.to_string()))
    }

    fn health(&mut self, service: &str, id: &str) -> Option<Health> {
        self.verdict(service, id).map(|(health, _)| health)
    }
}

pub(in crate::health) fn ok(_: &str, _: &str) -> Observation {
    Observation::passed("ok")
}

pub(in crate::health) fn no(_: &str, _: &str) -> Observation {
    Observation::failed("no")
}

pub(in crate::health) const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_address_is_probed_once_however_many_services_and_instances_share_it() {
    let mut played =
        played(&[("web", "tcp = {}"), ("api", "tcp = {}"), ("db", "tcp = {fall = 9}")]);
    for service in ["web", "api", "db"] {
        played.tell(service, &[("a", "10.0.0.1", 80), ("b", "10.0.0.1", 80)]);
    }
    assert_eq!(played.roster.probes.len(), 2, "db asks otherwise");
    assert_eq!(played.play(Duration::from_millis(2), ok), 2, "both start soon");
    for service in ["web", "api", "db"] {
        assert_eq!(played.health(service, "b"), Some(Health::Healthy), "{service}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_leaves_nothing_behind() {
    let all = [("web", "tcp = {}\nexec = { command = \"x\" }\npush = { ttl = \"9s\" }")];
    let mut played = played(&all);
    played.tell("web", &[("a", "10.0.0.1", 80), ("b", "10.0.0.2", 80)]);
    assert_eq!(played.roster.probes.len(), 6);
    played.play(3 * SECOND, ok);
    played.tell("web", &[("b", "10.0.0.2", 80)]);
    assert_eq!(played.roster.probes.len(), 3);
    played.play(3 * SECOND, ok);
    let running = played.roster.due(played.now + 60 * SECOND, played.clock);
    played.tell("web", &[]);
    assert_eq!(played.roster.take_gone().len(), running.len(), "those that run are stopped");
    for start in running {
        let manner = start.check.manner;
        played.roster.finished(start.id, manner, None, played.now, played.now, played.clock);
    }
    played.roster.settle(played.clock);
    let roster = &played.roster;
    assert!(roster.probes.is_empty() && roster.by_key.is_empty() && roster.expiries.is_empty());
    assert_eq!((roster.sockets.waiting(), roster.commands.waiting()), (0, 0));
    assert_eq!((roster.sockets.running(), roster.commands.running()), (0, 0));
    assert!(roster.verdicts().is_empty());
    assert_eq!(roster.next(), None);
    for kind in ["tcp", "exec", "push"] {
        assert_eq!(roster.metrics.kind(kind).unwrap().targets.get(), 0, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_passes_when_all_its_checks_do() {
    let mut played = played(&[("web", "tcp = {}\nhttp = {}")]);
    played.tell("web", &[("a", "10.0.0.1", 80)]);
    played.play(SECOND, |kind, _| if kind == "http" { no("", "") } else { ok("", "") });
    let unwell = (Health::Unhealthy, "http: no".to_owned());
    assert_eq!(played.verdict("web", "a"), Some(unwell));
    played.play(30 * SECOND, ok);
    assert_eq!(played.verdict("web", "a"), Some((Health::Healthy, "tcp: ok".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn while_a_health_is_about_to_change_its_target_is_asked_at_the_fast_interval() {
    let check = "tcp = { interval = \"10s\", fast_interval = \"100ms\", fall = 4, rise = 4 }";
    let mut played = played(&[("web", check)]);
    played.tell("web", &[("a", "10.0.0.1", 80)]);
    played.play(60 * SECOND, ok);
    let calm = played.play(100 * SECOND, ok);
    assert!((9..=11).contains(&calm), "{calm}");
    // The next probe comes within 11 seconds, the other three within 300 ms of it.
    played.play(10 * SECOND + SECOND / 2, no);
    let mut waited = Duration::ZERO;
    while played.health("web", "a") != Some(Health::Unhealthy) {
        played.play(Duration::from_millis(10), no);
        waited += Duration::from_millis(10);
        assert!(waited < SECOND, "not within a second");
    }
    let calm = played.play(100 * SECOND, no);
    assert!(calm <= 14, "and a settled failure is asked at the normal one: {calm}");
}

#[tokio::test(start_paused = true)]
async fn a_reload_leaves_unchanged_checks_their_state_and_others_their_verdicts() {
    let mut played = played(&[("web", "tcp = {}"), ("api", "tcp = {}\nhttp = {}")]);
    played.tell("web", &[("a", "10.0.0.1", 80)]);
    played.tell("api", &[("a", "10.0.0.2", 80)]);
    played.play(20 * SECOND, ok);
    assert_eq!(played.health("api", "a"), Some(Health::Healthy));
    let tcp = played.roster.services["web"].instances.values().next().unwrap().probes[0].unwrap();
    let beat = played.roster.probes[&tcp].due;
    let other = [("web", "tcp = {}"), ("api", "tcp = {}\nhttp = { path = \"/new\" }")];
    played.roster.replace(settings(&other), played.now);
    assert_eq!(played.roster.probes[&tcp].due, beat, "goes on in its beat");
    assert_eq!(played.roster.probes[&tcp].tracker.decided().unwrap().health, Health::Healthy);
    assert_eq!(played.health("api", "a"), Some(Health::Healthy), "until the new one has a result");
    assert_eq!(played.roster.probes.len(), 3);
    played.play(SECOND, |kind, _| if kind == "http" { no("", "") } else { ok("", "") });
    assert_eq!(played.health("api", "a"), Some(Health::Unhealthy));
    played.roster.replace(settings(&[("web", "tcp = {}")]), played.now);
    assert_eq!(played.verdict("api", "a"), None);
    assert_eq!(played.roster.probes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_had_work_before_it_was_checked_keeps_it_until_there_is_a_result() {
    let mut played = played(&[("old", "tcp = {}")]);
    let both = [("a", "10.0.0.1", 80), ("b", "10.0.0.2", 80)];
    for service in ["web", "db", "old"] {
        played.tell(service, &both);
    }
    let checks = [
        ("old", "http = {}"),
        ("web", "http = { interval = \"5s\" }"),
        ("db", "mysql = { user = \"u\", role = \"writer\" }"),
        ("gone", "tcp = {}"),
    ];
    let (wanted, unknown) =
        (settings(&checks), Some((Health::Unknown, "not checked yet".to_owned())));
    assert_eq!(played.roster.trust(&wanted, played.clock), ["web".into()]);
    assert_eq!(played.verdict("web", "a"), unknown, "before the settings count");
    played.roster.replace(Arc::clone(&wanted), played.now);
    assert_eq!(played.verdict("web", "a"), unknown);
    assert_eq!(played.verdict("db", "a"), None, "nobody knows who is to write");
    played.tell("web", &[both[0], both[1], ("c", "10.0.0.3", 80)]);
    assert_eq!(played.verdict("web", "a"), unknown);
    assert_eq!(played.verdict("web", "c"), None, "a new one has to pass first");
    played
        .play(6 * SECOND, |_, at| if at.starts_with("10.0.0.1") { ok("", at) } else { no("", at) });
    assert_eq!(played.health("web", "a"), Some(Health::Healthy));
    assert_eq!(played.health("web", "b"), Some(Health::Unhealthy));
    assert!(played.roster.trust(&wanted, played.clock).is_empty());

    // Checks that are gone for a moment say nothing any more when they are back.
    played.roster.replace(settings(&[]), played.now);
    assert_eq!(played.roster.trust(&wanted, played.clock).len(), 2);
    assert_eq!(played.verdict("web", "b"), unknown);
}

#[tokio::test(start_paused = true)]
async fn restored_verdicts_stand_until_the_first_result() {
    let verdict = |health| InstanceVerdict {
        address: Address::parse("10.0.0.1").unwrap(),
        check: Some(Verdict { health, cause: "then".into(), since: SystemTime::UNIX_EPOCH }),
        ejected: None,
    };
    let told = ServiceVerdicts {
        instances: [
            (("r".into(), "a".into()), verdict(Health::Healthy)),
            (("r".into(), "b".into()), verdict(Health::Unhealthy)),
        ]
        .into(),
    };
    let restored = [("web".into(), Arc::new(told))].into_iter().collect();
    let mut played = with(&[("web", "tcp = {}")], &restored);
    let instances = [("a", "10.0.0.1", 80), ("b", "10.0.0.1", 80), ("c", "10.0.0.9", 80)];
    assert_eq!(played.health("web", "a"), Some(Health::Healthy), "before any snapshot");
    played.tell("web", &instances);
    assert_eq!(played.health("web", "a"), Some(Health::Healthy));
    assert_eq!(played.health("web", "b"), Some(Health::Unhealthy));
    assert_eq!(played.health("web", "c"), None, "nothing is known");
    played.play(SECOND, no);
    assert_eq!(played.health("web", "a"), Some(Health::Unhealthy));
}

#[tokio::test(start_paused = true)]
async fn another_address_is_another_target_and_starts_without_a_verdict() {
    let mut played = played(&[("web", "tcp = {}")]);
    played.tell("web", &[("a", "10.0.0.1", 80)]);
    played.play(SECOND, ok);
    assert_eq!(played.health("web", "a"), Some(Health::Healthy));
    played.tell("web", &[("a", "10.0.0.2", 80)]);
    assert_eq!(played.health("web", "a"), None);
    assert_eq!(played.roster.probes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_a_port_is_told_so_and_others_are_not_held_up() {
    let mut played = played(&[("web", "tcp = {}"), ("job", "exec = { command = \"x\" }")]);
    played.tell("web", &[("a", "10.0.0.1", 0), ("b", "10.0.0.2", 80)]);
    played.tell("job", &[("a", "10.0.0.1", 0)]);
    played.play(SECOND, ok);
    let (health, cause) = played.verdict("web", "a").unwrap();
    assert_eq!(health, Health::Unhealthy);
    assert_eq!(cause, "tcp: the instance has no port; set check.tcp port");
    assert_eq!(played.health("web", "b"), Some(Health::Healthy));
    assert_eq!(played.health("job", "a"), Some(Health::Healthy), "a command needs none");
}

#[tokio::test(start_paused = true)]
async fn a_pushed_result_counts_at_once_and_for_as_long_as_it_may() {
    let mut played = played(&[("job", "push = { ttl = \"10s\" }"), ("web", "tcp = {}")]);
    played.tell("job", &[("a", "10.0.0.1", 0), ("b", "10.0.0.2", 0)]);
    played.tell("web", &[("a", "10.0.0.1", 80)]);
    let push = |played: &mut Played, service: &str, id: &str, seen: Observation| {
        played.roster.push(service, id, &seen, played.now, played.clock)
    };
    assert_eq!(push(&mut played, "job", "a", ok("", "")), Ok(1));
    assert_eq!(played.health("job", "a"), Some(Health::Healthy));
    assert_eq!(played.health("job", "b"), None, "never heard of");
    played.play(9 * SECOND, ok);
    assert_eq!(push(&mut played, "job", "a", ok("", "")), Ok(1));
    played.play(9 * SECOND, ok);
    assert_eq!(played.health("job", "a"), Some(Health::Healthy), "renewed");
    let late = (Health::Unhealthy, "push: nothing was pushed within 10s".to_owned());
    assert_eq!(played.verdict("job", "b"), Some(late.clone()));
    played.play(2 * SECOND, ok);
    assert_eq!(played.verdict("job", "a"), Some(late));
    assert_eq!(push(&mut played, "job", "a", ok("", "")), Ok(1));
    assert_eq!(played.health("job", "a"), Some(Health::Healthy));
    assert_eq!(push(&mut played, "job", "a", no("", "")), Ok(1));
    assert_eq!(played.health("job", "a"), Some(Health::Unhealthy));
    for (service, id, want) in [
        ("web", "a", "the service \"web\" has no check.push; add it to [service.web]"),
        ("gone", "a", "the service \"gone\" has no check.push; add it to [service.gone]"),
        (
            "job",
            "x",
            "the service \"job\" has no instance \"x\"; results count for instances that are known",
        ),
    ] {
        let error = push(&mut played, service, id, ok("", "")).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_one_writer_is_well_and_another_takes_over_when_it_fails() {
    let mut played = played(&[("db", "mysql = { user = \"u\", role = \"writer\", port = 1 }")]);
    let all = [("a", "10.0.0.1", 1), ("b", "10.0.0.2", 1), ("c", "10.0.0.3", 1)];
    played.tell("db", &all);
    let ranked = |told: [Option<u64>; 3]| {
        move |_: &str, target: &str| {
            let index = target.split(['.', ':']).nth(3).unwrap().parse::<usize>().unwrap() - 1;
            let seen = told[index]
                .map(|rank| Observation { candidate: Some(rank), ..Observation::passed("Synced") });
            seen.unwrap_or_else(|| Observation::failed("Donor").definite())
        }
    };
    let writers = |played: &mut Played| -> String {
        let well = |id: &&str| played.health("db", id) == Some(Health::Healthy);
        ["a", "b", "c"].into_iter().filter(well).collect()
    };
    played.play(6 * SECOND, ranked([Some(2), Some(0), Some(1)]));
    assert_eq!(writers(&mut played), "b");
    let other = played.verdict("db", "a").unwrap().1;
    assert_eq!(other, "mysql: not the writer, which is b");
    played.play(6 * SECOND, ranked([Some(2), None, Some(1)]));
    assert_eq!(writers(&mut played), "c");
    assert_eq!(played.verdict("db", "b").unwrap().1, "mysql: Donor");
    played.play(20 * SECOND, ranked([None, None, None]));
    assert_eq!(writers(&mut played), "");
    played.play(20 * SECOND, ranked([Some(0), Some(1), Some(2)]));
    assert_eq!(writers(&mut played), "a");
}

#[tokio::test(start_paused = true)]
async fn starts_of_many_targets_are_uniform_over_the_interval() {
    const TARGETS: usize = 10_000;
    let mut played = played(&[("web", "tcp = { interval = \"2s\" }")]);
    let ids: Vec<(String, String)> = (0..TARGETS)
        .map(|n| (n.to_string(), format!("10.0.{}.{}", n / 250, n % 250 + 1)))
        .collect();
    let told: Vec<_> = ids.iter().map(|(id, at)| (&**id, &**at, 80)).collect();
    let begin = played.now;
    played.tell("web", &told);
    // Beyond the limit of what may run at a time nothing would start: here each ends at once.
    let mut starts = Vec::new();
    while played.now - begin < 20 * SECOND {
        let before = starts.len();
        let count = played.play(Duration::from_millis(1), ok);
        starts.resize(before + count, (played.now - begin).as_secs_f64());
    }
    for round in 0..10 {
        let from = f64::from(round) * 2.0;
        let within = starts.iter().filter(|at| (from..from + 2.0).contains(*at));
        let mut shares: Vec<f64> = within.map(|at| (at - from) / 2.0).collect();
        shares.sort_by(f64::total_cmp);
        let n = shares.len() as f64;
        assert!((n - TARGETS as f64).abs() < 0.06 * TARGETS as f64, "round {round}: {n}");
        let distance = shares.iter().enumerate().map(|(index, share)| {
            let low = share - index as f64 / n;
            low.abs().max((low - 1.0 / n).abs())
        });
        // Kolmogorov and Smirnov: one in ten thousand uniform samples is farther off than this.
        let distance = distance.fold(0.0, f64::max);
        assert!(distance < 2.23 / n.sqrt() + 0.001, "round {round}: {distance}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_run_than_the_limits_allow_and_the_late_ones_are_counted() {
    let mut played = played(&[("web", "tcp = {}"), ("job", "exec = { command = \"x\" }")]);
    let ids: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let told: Vec<_> = ids.iter().map(|id| (&**id, "10.0.0.1", 0)).collect();
    played.tell("job", &told);
    let far: Vec<_> = ids.iter().zip(1..).map(|(id, port)| (&**id, "10.0.0.1", port)).collect();
    played.tell("web", &far);
    let started = played.roster.due(played.now + 60 * SECOND, played.clock);
    let of = |kind: &str| started.iter().filter(|start| start.check.kind == kind).count();
    assert_eq!((of("tcp"), of("exec")), (500, 16));
    assert_eq!(played.roster.metrics.late.get(), 516);
    assert_eq!(played.roster.metrics.running.get(), 516);
    assert_eq!(played.roster.next(), None, "nothing more until one ends");
    played.running = started;
    let ended = played.running.pop().unwrap();
    let manner = ended.check.manner;
    played.roster.finished(ended.id, manner, None, played.now, played.now, played.clock);
    assert_eq!(played.roster.due(played.now + 60 * SECOND, played.clock).len(), 1);
}
