use std::collections::BTreeMap;

use super::*;
use crate::catalog::assemble::ServiceSettings;
use crate::catalog::operations::MAINTENANCE;
use crate::catalog::operations::{Does, Operation, Target};
use crate::catalog::{Health, Presence, RegistryStatus};
use crate::proxy::config::{OnUnhealthy, ServiceBalance};
use crate::proxy::table::Settings as ProxySettings;
use crate::proxy::table::tests::tcp;
use crate::proxy::upstream::Work;
use crate::proxy::upstream::tests::{instance, service};

/// A proxy before `services`; those of `web` that leave have 10 seconds.
fn proxy(services: &[&str]) -> Arc<ProxySettings> {
    proxy_that(services, OnUnhealthy::Keep)
}

/// The same, of which connections to unhealthy instances of `web` are kept or closed.
fn proxy_that(services: &[&str], on_unhealthy: OnUnhealthy) -> Arc<ProxySettings> {
    let listeners = services.iter().map(|s| ((*s).to_owned(), tcp(s))).collect();
    let drain = Some(crate::units::Period::from_secs(10));
    let balance = ServiceBalance { drain, on_unhealthy, ..ServiceBalance::default() };
    let balances = BTreeMap::from([("web".to_owned(), balance)]);
    Arc::new(ProxySettings::compile(&listeners, &BTreeMap::new(), &balances).unwrap())
}

/// A play: states follow each other, time goes on as it is told.
struct Play {
    settings: Arc<ProxySettings>,
    catalog: Settings,
    operations: Operations,
    snapshot: Snapshot,
    table: ProxyTable,
    departed: Departed,
    start: Instant,
    cutter: cut::Cutter,
}

impl Play {
    fn new(instances: &[Arc<Instance>]) -> Self {
        let mut play = Self {
            settings: proxy(&["web"]),
            catalog: Settings::default(),
            operations: Operations::default(),
            snapshot: Snapshot { registries: heard(true), ..Snapshot::default() },
            table: ProxyTable::default(),
            departed: Departed::default(),
            start: Instant::now(),
            cutter: cut::Cutter::default(),
        };
        play.say(0, instances);
        play
    }

    /// `web` has exactly these instances, after so many seconds.
    fn say(&mut self, seconds: u64, instances: &[Arc<Instance>]) {
        let mut next = self.snapshot.clone();
        let mut web = Arc::into_inner(service("web", instances)).unwrap();
        let works = |i: &&Arc<Instance>| i.presence == Presence::Active && i.health.serves();
        web.eligible = instances.iter().filter(works).cloned().collect();
        next.services.insert("web".into(), Arc::new(web));
        self.publish(seconds, next);
    }

    fn publish(&mut self, seconds: u64, mut next: Snapshot) {
        next.generation = self.snapshot.generation + 1;
        let table = ProxyTable::compile(&self.settings, Some((&self.table, &self.snapshot)), &next);
        let after = Duration::from_secs(seconds);
        self.departed.note(
            &self.table,
            &table,
            &Around {
                snapshot: &next,
                settings: &self.catalog,
                operations: &self.operations,
                now: self.start + after,
                wall: SystemTime::UNIX_EPOCH + after,
            },
        );
        (self.table, self.snapshot) = (table, next);
    }

    /// Reasons and endpoints of what is cut when so many seconds are over.
    fn cut(&mut self, seconds: u64) -> Vec<(SocketAddr, Reason)> {
        let mut cut = Vec::new();
        let cutter = &self.cutter;
        let all: Vec<_> =
            self.departed.entries().map(|(_, entry)| Arc::clone(&entry.endpoint)).collect();
        self.departed.pass(self.start + Duration::from_secs(seconds), |load, reason| {
            let at = all.iter().find(|endpoint| Arc::ptr_eq(endpoint.load(), load)).unwrap();
            cut.push((at.address, reason));
            cutter.cut(load, reason)
        });
        cut
    }

    /// One more piece of work at the first endpoint.
    fn work(&self) -> Work {
        self.table.endpoints("web").next().unwrap().begin()
    }
}

fn heard(heard: bool) -> Arc<[RegistryStatus]> {
    Arc::new([RegistryStatus { name: "test".into(), heard, ..RegistryStatus::default() }])
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn a() -> Arc<Instance> {
    instance("a", "10.0.0.1", 80, 1)
}

fn with(presence: Presence, health: Health) -> Arc<Instance> {
    Arc::new(Instance { health, presence, ..Instance::clone(&a()) })
}

#[test]
fn what_runs_at_an_instance_that_left_has_its_time_and_is_cut_once() {
    for (case, leaves) in [
        ("gone", vec![]),
        ("said to leave", vec![with(Presence::Leaving, Health::Unknown)]),
        ("said to leave and failing", vec![with(Presence::Leaving, Health::Unhealthy)]),
        ("at another address", vec![instance("a", "10.0.0.9", 80, 1)]),
        ("at another port", vec![instance("a", "10.0.0.1", 81, 1)]),
    ] {
        let mut play = Play::new(&[a()]);
        let work = play.work();
        play.say(5, &leaves);
        assert_eq!(play.departed.totals(), (1, 1), "{case}");
        assert_eq!(play.departed.due(play.start), Some(play.start + Duration::from_secs(15)));
        assert_eq!(play.cut(14), [], "{case}");
        assert_eq!(play.cut(15), [(at(1), Reason::Left)], "{case}");
        assert_eq!(play.cut(16), [], "{case}");
        drop(work);
        play.cut(17);
        assert!(play.departed.is_empty(), "{case}");
    }
}

#[test]
fn what_merely_gets_no_new_work_is_never_cut() {
    for (case, stays) in [
        ("unhealthy", with(Presence::Active, Health::Unhealthy)),
        ("draining", with(Presence::Draining, Health::Unknown)),
        ("draining and unhealthy", with(Presence::Draining, Health::Unhealthy)),
    ] {
        let mut play = Play::new(&[a()]);
        let _work = play.work();
        play.say(1, &[stays]);
        assert_eq!(play.cut(1_000_000), [], "{case}");
        // Once it leaves it has its time, however long it was out before.
        play.say(2_000_000, &[]);
        assert_eq!(play.cut(2_000_009), [], "{case}");
        assert_eq!(play.cut(2_000_010), [(at(1), Reason::Left)], "{case}");
    }
}

#[test]
fn who_is_back_before_the_deadline_is_not_cut() {
    let mut play = Play::new(&[a()]);
    let _work = play.work();
    play.say(1, &[]);
    play.say(5, &[a()]);
    assert_eq!(play.cut(100), []);
    // It leaves again: from then on it has all its time.
    play.say(200, &[]);
    assert_eq!(play.cut(209), []);
    assert_eq!(play.cut(210), [(at(1), Reason::Left)]);
}

#[test]
fn a_silent_registry_takes_nobody_away() {
    let mut play = Play::new(&[a()]);
    let _work = play.work();
    let mut silent = play.snapshot.clone();
    silent.registries = heard(false);
    silent.services.remove("web");
    play.publish(1, silent);
    assert_eq!(play.cut(100), []);
    // It speaks again, and does not tell of the instance.
    let again = Snapshot { registries: heard(true), ..play.snapshot.clone() };
    play.publish(200, again);
    assert_eq!(play.cut(210), [(at(1), Reason::Left)]);
}

#[test]
fn a_reload_that_takes_the_way_there_does_not_lose_who_leaves_later() {
    let mut play = Play::new(&[a()]);
    let _work = play.work();
    play.settings = proxy(&["other"]);
    play.publish(1, play.snapshot.clone());
    assert_eq!(play.cut(100), [], "its instance is still there");
    play.say(200, &[]);
    // With a reload between leaving and the deadline, too.
    play.settings = proxy(&["third"]);
    play.publish(205, play.snapshot.clone());
    assert_eq!(play.cut(209), []);
    assert_eq!(play.cut(210), [(at(1), Reason::Left)]);
}

#[test]
fn who_stood_in_stays_when_it_is_not_needed_and_leaves_with_its_own_service() {
    let mut play = Play::new(&[]);
    let backed = ServiceSettings { backup: Some("standby".into()), ..ServiceSettings::default() };
    play.catalog = [("web".into(), backed)].into_iter().collect();
    let stands_in = |play: &Play, web: &[Arc<Instance>], standby: &[Arc<Instance>]| {
        let mut next = play.snapshot.clone();
        let mut service_web = Arc::into_inner(service("web", web)).unwrap();
        service_web.eligible = if web.is_empty() { standby.into() } else { web.into() };
        next.services.insert("web".into(), Arc::new(service_web));
        next.services.insert("standby".into(), service("standby", standby));
        next
    };
    let s = instance("s", "10.0.0.7", 80, 1);
    play.publish(1, stands_in(&play, &[], &[Arc::clone(&s)]));
    let _work = play.work();
    play.publish(2, stands_in(&play, &[a()], &[s]));
    assert_eq!(play.cut(100), []);
    play.publish(200, stands_in(&play, &[a()], &[]));
    assert_eq!(play.cut(210), [(at(7), Reason::Left)]);
}

#[test]
fn an_operators_deadline_cuts_when_it_is_over() {
    let mut play = Play::new(&[a()]);
    let _work = play.work();
    let target =
        Target::Instance { service: "web".into(), registry: "test".into(), id: "a".into() };
    let operation = Operation {
        number: 0,
        target,
        does: Does::Drain,
        who: "me".into(),
        since: SystemTime::UNIX_EPOCH,
        reason: "".into(),
        deadline: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(50)),
        over: false,
    };
    play.operations.put(operation, 9).unwrap();
    play.say(1, &[with(Presence::Draining, Health::Unknown)]);
    assert_eq!(play.cut(50), [], "the catalog says when it is over");
    play.operations.pass(SystemTime::UNIX_EPOCH + Duration::from_secs(50));
    play.say(50, &[with(Presence::Leaving, Health::Unknown)]);
    assert_eq!(play.cut(50), [(at(1), Reason::Deadline)]);
}

#[test]
fn an_endpoint_where_nothing_runs_is_forgotten_only_when_nobody_can_begin_there_any_more() {
    let mut play = Play::new(&[a()]);
    let late = Arc::clone(play.table.endpoints("web").next().unwrap());
    play.say(20, &[]);
    play.cut(20);
    assert!(!play.departed.is_empty());
    // Somebody held a table of before.
    let _work = late.begin();
    play.cut(22);
    assert_eq!(play.departed.leaving(play.start).len(), 1);
    assert_eq!(play.cut(30), [(at(1), Reason::Left)]);
}

#[test]
fn where_it_is_said_what_runs_at_an_instance_that_turns_unhealthy_is_cut_at_once_and_never_twice() {
    let unhealthy = |presence| with(presence, Health::Unhealthy);
    for (case, on_unhealthy, now, want) in [
        ("kept", OnUnhealthy::Keep, unhealthy(Presence::Active), &[][..]),
        ("closed", OnUnhealthy::Close, unhealthy(Presence::Active), &[(at(1), Reason::Unhealthy)]),
        (
            "closed while it drains",
            OnUnhealthy::Close,
            unhealthy(Presence::Draining),
            &[(at(1), Reason::Unhealthy)],
        ),
        ("draining", OnUnhealthy::Close, with(Presence::Draining, Health::Healthy), &[]),
        (
            "taken out",
            OnUnhealthy::Close,
            Arc::new(Instance {
                cause: format!("{MAINTENANCE}: disk").into(),
                ..Instance::clone(&unhealthy(Presence::Active))
            }),
            &[],
        ),
    ] {
        let mut play = Play::new(&[a()]);
        play.settings = proxy_that(&["web"], on_unhealthy);
        play.say(0, &[a()]);
        let work = play.work();
        play.say(5, &[now]);
        assert_eq!(play.cut(5), want, "{case}");
        assert_eq!(play.cut(6), [], "{case}");
        assert_eq!(play.departed.totals(), (0, 0), "it has not left: {case}");
        drop(work);
    }
}

#[test]
fn an_instance_that_was_unhealthy_and_is_back_keeps_what_begins_there() {
    let mut play = Play::new(&[a()]);
    play.settings = proxy_that(&["web"], OnUnhealthy::Close);
    play.say(0, &[a()]);
    for (case, passes) in [("at once", 0), ("later, when it was forgotten", 5)] {
        let endpoint = Arc::clone(play.table.endpoints("web").next().unwrap());
        let work = play.work();
        play.say(5, &[with(Presence::Active, Health::Unhealthy)]);
        assert_eq!(play.cut(5), [(at(1), Reason::Unhealthy)], "{case}");
        assert!(endpoint.is_cut(), "{case}");
        drop(work);
        for second in 0..passes {
            play.cut(6 + second);
        }
        play.say(20, &[a()]);
        assert!(!play.table.endpoints("web").next().unwrap().is_cut(), "{case}");
    }
}

#[test]
fn one_that_is_unhealthy_and_then_leaves_has_its_time_for_what_was_not_closed() {
    let mut play = Play::new(&[a()]);
    play.settings = proxy_that(&["web"], OnUnhealthy::Close);
    play.say(0, &[a()]);
    let request = play.work();
    play.say(5, &[with(Presence::Active, Health::Unhealthy)]);
    assert_eq!(play.cut(5), [(at(1), Reason::Unhealthy)]);
    play.say(6, &[]);
    assert_eq!(play.cut(15), []);
    assert_eq!(play.cut(16), [(at(1), Reason::Left)]);
    drop(request);
}
