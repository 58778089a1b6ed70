use std::time::Duration;

use super::super::config::Settings;
use super::super::roster::tests::{Played, SECOND, no, ok, played};
use super::*;
use crate::catalog::model::{Address, Health, Meta, Port, Service};
use crate::catalog::snapshot::{RegistryStatus, Told};
use crate::catalog::verdict::Verdicts;
use crate::catalog::wish::CHECK;
use crate::catalog::{Nodes, Shards, Snapshot, SourceService};

fn settings(health: &str, told: &[(&str, &str)]) -> Arc<Settings> {
    let health: HealthConfig = toml::from_str(health).unwrap();
    let parsed: Vec<(&str, ChecksConfig)> =
        told.iter().map(|(name, text)| (*name, toml::from_str(text).unwrap())).collect();
    let services = parsed.iter().map(|(name, checks)| (*name, checks, None));
    Arc::new(Settings::compile(&health, services, Path::new("")).unwrap())
}

const ASKED: &str = "from_registry = true";

fn asking() -> Played {
    let mut played = played(&[]);
    played.roster.replace(settings(ASKED, &[]), played.now);
    played
}

fn meta(text: &str) -> Meta {
    let text = Some(text).filter(|text| !text.is_empty());
    text.map(|text| (CHECK.into(), text.into())).into_iter().collect()
}

/// One instance: id, address, port called `http`, what it asks for itself, whether its registry says
/// that it fails.
type One<'a> = (&'a str, &'a str, u16, &'a str, bool);

/// The registry tells of `service`, which asks for `text`, and of nothing else that is new.
fn tell(played: &mut Played, service: &str, text: &str, instances: &[One<'_>]) {
    let instance = |(id, at, port, own, down): &One<'_>| {
        Arc::new(Instance {
            ports: Arc::new([Port { name: "http".into(), number: *port }]),
            meta: meta(own),
            health: if *down { Health::Unhealthy } else { Health::Unknown },
            ..Instance::bare("r", id, Address::parse(at).unwrap())
        })
    };
    let instances: Vec<Arc<Instance>> = instances.iter().map(instance).collect();
    let source = SourceService {
        name: service.into(),
        tags: Arc::new([]),
        meta: Arc::new(meta(text)),
        instances: instances.clone(),
        problems: Vec::new(),
        suspect: None,
    };
    let united = Service {
        name: service.into(),
        tags: Arc::new([]),
        meta: Arc::new(meta(text)),
        instances: instances.into(),
        eligible: Arc::new([]),
        problems: Arc::new([]),
    };
    let mut snapshot = Snapshot::clone(&played.roster.snapshot);
    snapshot.generation += 1;
    snapshot.services.insert(service.into(), Arc::new(united));
    let mut services = match snapshot.told.pop() {
        Some(told) => told.services,
        None => Shards::default(),
    };
    services.insert(service.into(), Arc::new(source));
    snapshot.told.push(Told { registry: "r".into(), services, nodes: Nodes::default() });
    played.roster.follow(&Arc::new(snapshot), played.now);
}

fn verdict(played: &mut Played, service: &str, id: &str) -> Option<(Health, String)> {
    played.roster.settle(played.clock);
    let told = played.roster.verdicts().get(service)?;
    let check = told.instances.get(&("r".into(), id.into()))?.check.as_ref()?;
    Some((check.health, check.cause.to_string()))
}

fn health(played: &mut Played, service: &str, id: &str) -> Option<Health> {
    verdict(played, service, id).map(|(health, _)| health)
}

fn whys(played: &Played, service: &str) -> Vec<String> {
    played.roster.refused(Some(service)).iter().map(|refused| refused.why.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_asked_as_its_service_asks_or_as_it_asks_itself() {
    let mut played = asking();
    tell(
        &mut played,
        "web",
        "tcp port=http; tcp port=9999",
        &[
            ("a", "10.0.0.1", 80, "", false),
            ("b", "10.0.0.2", 80, "http /own", false),
            ("c", "10.0.0.3", 80, " ", false),
        ],
    );
    assert_eq!(played.roster.probes.len(), 3, "c asks for nothing");
    played.play(SECOND, |kind, at| match at {
        "10.0.0.1:9999" => no(kind, at),
        _ => ok(kind, at),
    });
    assert_eq!(verdict(&mut played, "web", "a"), Some((Health::Unhealthy, "tcp: no".into())));
    assert_eq!(verdict(&mut played, "web", "b"), Some((Health::Healthy, "http: ok".into())));
    assert_eq!(verdict(&mut played, "web", "c"), None);
    assert!(played.roster.refused(None).is_empty());
}

#[tokio::test(start_paused = true)]
async fn equal_checks_of_a_target_are_one_whoever_asks_for_them() {
    let mut played = played(&[]);
    played.roster.replace(settings(ASKED, &[("db", "tcp = {}")]), played.now);
    let one = [("a", "10.0.0.1", 80, "", false)];
    tell(&mut played, "db", "http /ignored", &one);
    tell(&mut played, "web", "tcp", &one);
    tell(&mut played, "api", "tcp port=http; tcp port=80; tcp; tcp", &one);
    assert_eq!(played.roster.probes.len(), 2, "what is configured stands in place of the wish");
    let api = &played.roster.services["api"].instances.values().next().unwrap().checks;
    assert_eq!(api.len(), 3, "at the port of a name, of a number, and the first: each once");
    // The last that asks takes it along.
    tell(&mut played, "web", "", &one);
    tell(&mut played, "api", "", &one);
    played.roster.replace(settings(ASKED, &[]), played.now);
    tell(&mut played, "db", "", &one);
    assert!(played.roster.probes.is_empty() && played.roster.services.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_is_told_counted_and_leaves_the_registrys_word() {
    let mut played = asking();
    let one = [("a", "10.0.0.1", 80, "", false)];
    tell(&mut played, "web", "htp /; tcp port=admin", &one);
    tell(&mut played, "none", "exec rm", &one);
    let told = whys(&played, "web");
    assert!(told.iter().any(|why| why.contains("did you mean `http`?")), "{told:?}");
    assert!(told.iter().any(|why| why.contains("port=admin: not every instance")), "{told:?}");
    let count = |played: &Played, reason| played.roster.metrics.refused(reason).get();
    assert_eq!((count(&played, Reason::Unreadable), count(&played, Reason::NoPort)), (2, 1));
    for (service, cause) in [
        ("web", "portolan-check: tcp port=admin: not every instance has a port of that name"),
        ("none", "portolan-check: nothing that can be asked"),
    ] {
        let want = Some((Health::Unknown, cause.to_owned()));
        assert_eq!(verdict(&mut played, service, "a"), want, "{service}");
    }
    // One that can be asked decides alone.
    tell(&mut played, "web", "htp /; tcp port=admin; tcp", &one);
    played.play(SECOND, no);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Unhealthy));
    tell(&mut played, "web", "tcp", &one);
    tell(&mut played, "none", "", &one);
    assert_eq!((count(&played, Reason::Unreadable), count(&played, Reason::NoPort)), (0, 0));
    assert!(played.roster.refused(None).is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_wish_leaves_the_verdict_until_it_has_a_result() {
    let mut played = asking();
    let one = [("a", "10.0.0.1", 80, "", false)];
    tell(&mut played, "web", "tcp interval=10s", &one);
    played.play(SECOND, no);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Unhealthy));
    tell(&mut played, "web", "http interval=10s", &one);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Unhealthy));
    // What is configured from now on leaves it as well, and the other way round.
    let configured = settings(ASKED, &[("web", "tcp = { interval = \"10s\" }")]);
    assert!(played.roster.trust(&configured, played.clock).is_empty());
    played.roster.replace(configured, played.now);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Unhealthy));
    played.roster.replace(settings(ASKED, &[]), played.now);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Unhealthy));
    assert_eq!(played.roster.probes.len(), 1);
    played.play(60 * SECOND, ok);
    assert_eq!(verdict(&mut played, "web", "a"), Some((Health::Healthy, "http: ok".into())));
    played.roster.replace(settings("", &[]), played.now);
    assert_eq!(verdict(&mut played, "web", "a"), None, "nobody may ask any more");
    assert!(played.roster.probes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_nothing_of_it_leaves_a_check_all_that_it_knows() {
    let mut played = asking();
    tell(&mut played, "web", "tcp; http /x", &[("a", "10.0.0.1", 80, "", false)]);
    played.play(20 * SECOND, ok);
    let before: BTreeSet<u64> = played.roster.probes.keys().copied().collect();
    played.roster.replace(settings(ASKED, &[("other", "tcp = {}")]), played.now);
    assert_eq!(played.roster.probes.keys().copied().collect::<BTreeSet<_>>(), before);
    played.roster.replace(settings("from_registry = true\nrise = 9", &[]), played.now);
    assert!(played.roster.probes.keys().all(|id| !before.contains(id)), "other defaults");
}

#[tokio::test(start_paused = true)]
async fn whom_the_registry_finds_to_fail_is_not_asked_and_begins_anew() {
    let mut played = asking();
    let down = |down| [("a", "10.0.0.1", 80, "", down)];
    tell(&mut played, "web", "tcp; nonsense", &down(true));
    assert_eq!(played.play(10 * SECOND, no), 0);
    assert_eq!((verdict(&mut played, "web", "a"), whys(&played, "web").len()), (None, 1));
    tell(&mut played, "web", "tcp; nonsense", &down(false));
    assert_eq!(verdict(&mut played, "web", "a"), None);
    played.play(Duration::from_millis(5), ok);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Healthy), "at once, not after rise");
    tell(&mut played, "web", "tcp", &down(true));
    assert_eq!(verdict(&mut played, "web", "a"), None);
    assert!(played.roster.probes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn verdicts_from_before_stand_until_a_result_and_those_of_nobody_go() {
    let mut before = asking();
    let one = [("a", "10.0.0.1", 80, "", false)];
    tell(&mut before, "web", "tcp", &one);
    tell(&mut before, "gone", "tcp", &one);
    before.play(SECOND, no);
    assert_eq!(health(&mut before, "gone", "a"), Some(Health::Unhealthy));
    let stored: Verdicts = before.roster.verdicts().clone();

    let mut played = asking();
    let metrics = super::super::Metrics::register(&prometheus::Registry::new()).unwrap();
    let random = Box::new(|| 7);
    played.roster = Roster::new(settings(ASKED, &[]), &stored, metrics, random);
    // Not everybody has spoken: who is not there may come.
    let silent = RegistryStatus { heard: false, ..RegistryStatus::default() };
    let snapshot = Snapshot { generation: 1, registries: [silent].into(), ..Snapshot::default() };
    played.roster.follow(&Arc::new(snapshot), played.now);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Unhealthy));
    let mut heard = Snapshot::clone(&played.roster.snapshot);
    heard.registries = Arc::default();
    played.roster.snapshot = Arc::new(heard);
    tell(&mut played, "web", "tcp", &one);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Unhealthy));
    assert_eq!(verdict(&mut played, "gone", "a"), None);
    played.play(60 * SECOND, ok);
    assert_eq!(health(&mut played, "web", "a"), Some(Health::Healthy));
}

#[tokio::test(start_paused = true)]
async fn checks_that_nobody_asks_for_any_more_are_swept_out() {
    let mut played = asking();
    for number in 0..1000 {
        let text = format!("http /{number}");
        tell(&mut played, "web", &text, &[("a", "10.0.0.1", 80, "", false)]);
    }
    assert_eq!(played.roster.probes.len(), 1);
    assert!(played.roster.checks.len() < 100, "{}", played.roster.checks.len());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_service_looks_at_no_other() {
    let mut played = asking();
    let one = [("a", "10.0.0.1", 80, "", false)];
    for number in 0..300 {
        tell(&mut played, &format!("s{number}"), "tcp", &one);
    }
    // Whatever is planned reads its text again.
    played.roster.services.values_mut().for_each(|watched| watched.readings.clear());
    tell(&mut played, "s7", "tcp", &[one[0], ("b", "10.0.0.2", 80, "", false)]);
    let read = played.roster.services.iter().filter(|(_, watched)| !watched.readings.is_empty());
    assert_eq!(read.map(|(name, _)| &**name).collect::<Vec<_>>(), ["s7"]);
}

#[test]
fn limits_hold_what_may_be_asked_for_and_each_is_told() {
    let health = "from_registry = { max = 2, interval_min = \"2s\", timeout_max = \"3s\" }";
    let settings = settings(health, &[]);
    let asking = settings.asking.as_ref().unwrap();
    let read = |text: &str| {
        let (checks, refused) = asking.read("web", text);
        let times = |(check, _): &(Check, _)| {
            (check.times.interval.as_secs(), check.times.timeout.as_secs())
        };
        let reasons: Vec<_> = refused.iter().map(|(reason, _)| *reason).collect();
        (checks.iter().map(times).collect::<Vec<_>>(), reasons)
    };
    for (text, times, reasons) in [
        ("tcp interval=2s timeout=3s", &[(2, 3)][..], &[][..]),
        ("tcp interval=1s", &[(2, 2)], &[Reason::TooOften]),
        ("tcp timeout=1h", &[(5, 3)], &[Reason::TooLong]),
        ("tcp; http; https", &[(5, 2), (5, 2)], &[Reason::TooMany]),
        ("x; tcp; http", &[(5, 2), (5, 2)], &[Reason::Unreadable]),
        ("http /a b", &[], &[Reason::Unreadable]),
        (
            "http path=a; http host=; http status=9",
            &[],
            &[Reason::TooMany, Reason::Unreadable, { Reason::Unreadable }],
        ),
        ("tcp timeout=1ms", &[], &[Reason::Unreadable]),
    ] {
        assert_eq!(read(text), (times.to_vec(), reasons.to_vec()), "{text}");
    }
    let (_, refused) = asking.read("web", "tcp interval=10ms");
    assert_eq!(&*refused[0].1, "interval=10ms becomes 2s, by [health] from_registry.interval_min");
}

#[test]
fn a_header_of_the_proxy_protocol_is_for_the_services_own_port() {
    let health: HealthConfig = toml::from_str(ASKED).unwrap();
    let none = ChecksConfig::default();
    let services = [("web", &none, Some(Version::V2))];
    let settings = Settings::compile(&health, services, Path::new("")).unwrap();
    let asking = settings.asking.as_ref().unwrap();
    for (text, want) in [("tcp", Some(Version::V2)), ("tcp port=http", None), ("tcp port=1", None)]
    {
        let (checks, _) = asking.read("web", text);
        assert_eq!(checks[0].0.key.3, want, "{text}");
    }
}
