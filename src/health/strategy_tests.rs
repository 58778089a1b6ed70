use std::time::Duration;

use super::*;
use crate::catalog::Address;

/// One service `web` with a strategy, played step by step.
struct Played {
    settings: Strategies,
    strategist: Strategist,
    start: Instant,
    seconds: u64,
    generation: u64,
    room: usize,
}

fn play(settings: &str) -> Played {
    let config: OnFailureConfig = toml::from_str(settings).unwrap();
    Played {
        settings: [("web".into(), config)].into_iter().collect(),
        strategist: Strategist::default(),
        start: Instant::now(),
        seconds: 0,
        generation: 100,
        room: 16,
    }
}

/// `a+` serves, `a-` is unhealthy, `a!` ejected, `a?` not checked yet, `ao` taken out by
/// an operator, `a~` unhealthy and drained.
fn instance(word: &str) -> Arc<Instance> {
    let (id, how) = word.split_at(1);
    let (health, cause) = match how {
        "+" => (Health::Healthy, ""),
        "!" => (Health::Unhealthy, "ejected by what the proxy saw: 5 failures in a row"),
        "?" => (Health::Unhealthy, NOT_CHECKED_YET),
        "o" => (Health::Unhealthy, "maintenance by uid 0: disk"),
        _ => (Health::Unhealthy, "check http: 500"),
    };
    let presence = if how == "~" { Presence::Draining } else { Presence::Active };
    let bare = Instance::bare("r", id, Address::parse("10.0.0.1").unwrap());
    Arc::new(Instance { health, cause: cause.into(), presence, ..bare })
}

impl Played {
    /// What is decided a second later: instances of events, and `/id` for each that is dropped.
    fn step(&mut self, instances: &str) -> Vec<String> {
        let told = |decision| match decision {
            Decision::Tell(event) => event.instance.to_string(),
            Decision::Drop(_, (_, id)) => format!("/{id}"),
        };
        self.decide(instances).into_iter().map(told).collect()
    }

    fn decide(&mut self, instances: &str) -> Vec<Decision> {
        self.seconds += 1;
        self.generation += 1;
        let instances: Arc<[_]> = instances.split_whitespace().map(instance).collect();
        let service = Service {
            name: "web".into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            eligible: instances.iter().filter(|i| i.health.serves()).cloned().collect(),
            instances,
            problems: Arc::new([]),
        };
        let snapshot = Snapshot {
            generation: self.generation,
            services: [("web".into(), Arc::new(service))].into_iter().collect(),
            ..Snapshot::default()
        };
        let after = Duration::from_secs(self.seconds);
        let now = Now { instant: self.start + after, wall: SystemTime::UNIX_EPOCH + after };
        self.strategist.look(&self.settings, &snapshot, now, |_| self.room)
    }

    fn waits_for(&self) -> Vec<&'static str> {
        self.strategist.waiting().iter().map(|waiting| waiting.waits_for).collect()
    }
}

const RECREATE: &str = "strategy = \"recreate\"\ncommand = \"x\"\n";
const QUORUM: &str = "strategy = \"recreate-on-quorum\"\ncommand = \"x\"\nquorum = 2\n";

#[test]
fn an_instance_that_turns_unhealthy_is_told_once_per_turn() {
    for (case, steps) in [
        ("turns", &[("a+ b+", ""), ("a+ b-", "b"), ("a+ b-", ""), ("a- b-", "a")][..]),
        ("turns again", &[("a+", ""), ("a-", "a"), ("a+", "/a"), ("a-", "a")]),
        ("never served", &[("a-", ""), ("a-", ""), ("a+", ""), ("a-", "a")]),
        ("not checked yet, then failing", &[("a?", ""), ("a-", ""), ("a+", ""), ("a-", "a")]),
        ("a check that is new", &[("a+", ""), ("a?", ""), ("a+", "")]),
        ("ejected", &[("a+", ""), ("a!", ""), ("a+", "")]),
        ("ejected, then failing", &[("a+", ""), ("a!", ""), ("a-", "a"), ("a!", "/a")]),
        ("leaves", &[("a+ b+", ""), ("a+ b-", "b"), ("a+", "/b"), ("a+ b-", "")]),
        (
            "taken out by an operator",
            &[("a+ b+", ""), ("a+ bo", ""), ("a+ b+", ""), ("a+ b-", "b")],
        ),
        ("drained while unhealthy", &[("a+ b+", ""), ("a+ b~", ""), ("a+ b-", "")]),
        ("drained after the event", &[("a+ b+", ""), ("a+ b-", "b"), ("a+ b~", "/b")]),
    ] {
        let mut played = play(RECREATE);
        for (number, (instances, want)) in steps.iter().enumerate() {
            assert_eq!(played.step(instances).join(" "), *want, "{case}, step {number}");
        }
    }
}

#[test]
fn with_a_quorum_it_is_told_only_while_enough_others_are_healthy() {
    for (case, steps) in [
        ("there is one", &[("a+ b+ c+", ""), ("a+ b+ c-", "c")][..]),
        ("there is none, then one", &[("a+ b+ c+", ""), ("a+ b- c-", ""), ("a+ b+ c-", "c")]),
        ("ejected ones do not count", &[("a+ b+ c+", ""), ("a+ b! c-", ""), ("a+ b+ c-", "c")]),
        ("recovered meanwhile", &[("a+ b+", ""), ("a+ b-", ""), ("a+ b+", ""), ("a+ b+ c+", "")]),
        ("left meanwhile", &[("a+ b+", ""), ("a+ b-", ""), ("a+", ""), ("a+ c+ d+", "")]),
        ("all at once", &[("a+ b+ c+", ""), ("a- b- c-", ""), ("a- b- c- d+ e+", "a b c")]),
    ] {
        let mut played = play(QUORUM);
        for (number, (instances, want)) in steps.iter().enumerate() {
            assert_eq!(played.step(instances).join(" "), *want, "{case}, step {number}");
        }
    }
    let mut played = play(QUORUM);
    played.step("a+ b+");
    played.step("a+ b-");
    assert_eq!(played.waits_for(), ["quorum"]);
}

#[test]
fn it_may_have_to_be_unhealthy_for_a_while_first() {
    let mut played = play(&format!("{RECREATE}after = \"3s\"\n"));
    played.step("a+");
    assert_eq!(played.step("a-"), [""; 0]);
    assert_eq!(played.waits_for(), ["after"]);
    assert_eq!(
        played.strategist.due(&played.settings),
        Some(played.start + Duration::from_secs(5))
    );
    played.step("a+");
    assert_eq!(played.strategist.due(&played.settings), None);
    played.step("a-");
    played.step("a-");
    assert_eq!(played.step("a-"), [""; 0], "the first time does not count");
    assert_eq!(played.step("a-"), ["a"]);
}

#[test]
fn what_has_no_room_waits_and_those_that_failed_first_come_first() {
    let mut played = play(RECREATE);
    played.room = 0;
    played.step("a+ b+ c+");
    played.step("a+ b+ c-");
    assert_eq!(played.step("a- b- c-"), [""; 0]);
    assert_eq!(played.waits_for(), ["room"; 3]);
    played.room = 2;
    assert_eq!(played.step("a- b- c-"), ["c", "a"]);
    assert_eq!(played.step("a- b- c-"), ["b"]);
}

#[test]
fn an_event_says_who_and_why_and_has_an_id_of_its_own() {
    let mut played = play(RECREATE);
    played.step("a+");
    let strategist = &mut played.strategist;
    let bad = Instance {
        ports: Arc::new([crate::catalog::model::Port { name: "".into(), number: 80 }]),
        ..Instance::clone(&instance("a-"))
    };
    let service = Service {
        name: "web".into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: Arc::new([Arc::new(bad)]),
        eligible: Arc::new([]),
        problems: Arc::new([]),
    };
    let services = [("web".into(), Arc::new(service))].into_iter().collect();
    let snapshot = Snapshot { generation: 107, services, ..Snapshot::default() };
    let now = Now { instant: played.start, wall: SystemTime::UNIX_EPOCH };
    let decisions = strategist.look(&played.settings, &snapshot, now, |_| 1);
    let [Decision::Tell(event)] = &decisions[..] else { panic!("{decisions:?}") };
    let told = serde_json::to_value(event).unwrap();
    let wanted = serde_json::json!({
        "id": "107:web:r:a", "event": "recreate", "service": "web", "instance": "a",
        "registry": "r", "address": "10.0.0.1", "port": 80, "node": null,
        "cause": "check http: 500", "since": "1970-01-01T00:00:00.000Z", "generation": 107,
    });
    assert_eq!(told, wanted);
}

#[test]
fn a_strategy_that_is_taken_away_drops_its_events_and_remembers_nothing() {
    let mut played = play(RECREATE);
    played.step("a+ b+");
    played.step("a- b+");
    let settings = std::mem::take(&mut played.settings);
    assert_eq!(played.step("a- b+"), ["/a"]);
    played.settings = settings;
    assert_eq!(played.step("a- b-"), [""; 0], "nobody was seen to serve since");
}

#[test]
fn settings_that_cannot_be_are_told_with_their_key() {
    let table = |text: &str| toml::from_str::<OnFailureConfig>(text).unwrap().problem();
    for (text, key) in [
        ("", None),
        ("strategy = \"none\"", None),
        (RECREATE, None),
        ("strategy = \"recreate\"\nwebhook = \"http://a/b\"", None),
        ("strategy = \"recreate\"", Some("strategy")),
        ("webhook = \"ftp://a\"", Some("webhook")),
        ("webhook = \"http://u:p@a\"", Some("webhook")),
        ("webhook_headers = \"x\"", Some("webhook_headers")),
        ("strategy = \"recreate-on-quorum\"\ncommand = \"x\"\nquorum = 0", Some("quorum")),
        ("pending = 0", Some("pending")),
        ("timeout = \"0\"", Some("timeout")),
        ("retry_min = \"0\"", Some("retry_min")),
    ] {
        assert_eq!(table(text).map(|(key, _)| key), key, "{text}");
    }
}

#[test]
fn what_was_open_is_told_again_by_its_id_once_it_is_known_to_be_unhealthy_still() {
    const WAITS: &str = "strategy = \"recreate\"\ncommand = \"x\"\nafter = \"1h\"";
    for (case, settings, steps, wanted) in [
        ("waiting", WAITS, ["a-", "a-"], &[][..]),
        ("told", RECREATE, ["a-", "a-"], &["102:web:r:a"][..]),
        ("not asked yet", RECREATE, ["a?", "a-"], &["102:web:r:a"]),
        ("well again", RECREATE, ["a+", "a+"], &[]),
        ("gone", RECREATE, ["b+", "a-"], &[]),
    ] {
        let mut played = play(settings);
        played.step("a+");
        let told = played.decide("a-");
        let mut open = played.strategist.open();
        // What was told and not acknowledged is open as what waits is.
        open.extend(told.into_iter().map(|decision| match decision {
            Decision::Tell(event) => Open {
                service: event.service,
                instance: (event.registry, event.instance),
                since: event.since,
                generation: event.generation,
            },
            Decision::Drop(..) => panic!("{case}: it was dropped"),
        }));
        assert_eq!(open.len(), 1, "{case}");
        let after = Duration::from_secs(played.seconds);
        let now = Now { instant: played.start + after, wall: SystemTime::UNIX_EPOCH + after };
        played.strategist = Strategist::resumed(open, now);
        let decided = steps.iter().flat_map(|step| played.decide(step)).collect::<Vec<_>>();
        let ids: Vec<&str> = decided
            .iter()
            .map(|decision| match decision {
                Decision::Tell(event) => &*event.id,
                Decision::Drop(..) => "dropped",
            })
            .collect();
        assert_eq!(ids, wanted, "{case}");
    }
}
