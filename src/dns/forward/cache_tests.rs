use proptest::prelude::*;

use super::super::super::wire::{Name, rtype};
use super::super::message::Ttls;
use super::super::message::tests::{record, reply};
use super::*;

const KEEP: Keep = Keep {
    entries: 3,
    bytes: 1 << 20,
    stale: Duration::from_secs(3600),
    stale_ttl: 30,
    recheck: Duration::from_secs(30),
    failure: Duration::from_secs(1),
    prefetch: 0.1,
    prefetch_hits: 3,
};

fn key(n: u32) -> Key {
    Key::new(Name::parse(&format!("n{n}.example")).unwrap().wire(), rtype::A, false, false)
}

fn answer(key: &Key, ttl: u32) -> Arc<Stored> {
    let message = reply(key, 0, [&[record(rtype::A, ttl, &[10, 0, 0, 1])], &[], &[]]);
    let ttls = Ttls { min: 0, max: 86_400, negative_max: 3600 };
    Arc::new(Stored::read(&message, key, 0x1234, ttls).unwrap())
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn an_answer_is_fresh_then_stale_then_gone() {
    let (mut cache, start) = (Cache::default(), Instant::now());
    let key = key(0);
    let given = answer(&key, 300);
    assert_eq!(cache.look(&key, &KEEP, start), Known::Nothing);
    cache.put(&key, &given, &KEEP, start);
    for (at, want) in [(0.0, Age::Fresh(0)), (0.9, Age::Fresh(0)), (299.9, Age::Fresh(299))] {
        let known = cache.look(&key, &KEEP, start + seconds(at));
        assert_eq!(known, Known::Fresh { reply: Arc::clone(&given), age: want, prefetch: false });
    }
    for at in [300.0, 3899.9] {
        let known = cache.look(&key, &KEEP, start + seconds(at));
        let age = Age::Stale(30);
        assert_eq!(known, Known::Stale { reply: Arc::clone(&given), age, quiet: false }, "{at}");
    }
    assert_eq!(cache.look(&key, &KEEP, start + seconds(3900.0)), Known::Nothing);
    assert_eq!(cache.size(), (0, 0));
    let never = Keep { stale: Duration::ZERO, ..KEEP };
    cache.put(&key, &given, &never, start);
    assert_eq!(cache.look(&key, &never, start + seconds(300.0)), Known::Nothing);
}

#[test]
fn after_a_failure_what_is_stale_is_given_without_asking_for_a_while() {
    let (mut cache, start) = (Cache::default(), Instant::now());
    let key = key(0);
    cache.put(&key, &answer(&key, 10), &KEEP, start);
    let quiet = |cache: &mut Cache, at: f64| match cache.look(&key, &KEEP, start + seconds(at)) {
        Known::Stale { quiet, .. } => quiet,
        other => panic!("{at}: {other:?}"),
    };
    assert!(!quiet(&mut cache, 20.0));
    cache.fail(&key, &KEEP, start + seconds(20.0));
    assert!(quiet(&mut cache, 20.0));
    assert!(quiet(&mut cache, 49.9));
    assert!(!quiet(&mut cache, 50.0), "asked again");
    cache.put(&key, &answer(&key, 10), &KEEP, start + seconds(51.0));
    let known = cache.look(&key, &KEEP, start + seconds(52.0));
    assert!(matches!(known, Known::Fresh { .. }), "{known:?}");
}

#[test]
fn a_failure_without_an_answer_is_remembered_for_a_moment() {
    let (mut cache, start) = (Cache::default(), Instant::now());
    let key = key(0);
    cache.fail(&key, &KEEP, start);
    assert_eq!(cache.look(&key, &KEEP, start + seconds(0.9)), Known::Failed);
    assert_eq!(cache.look(&key, &KEEP, start + seconds(1.0)), Known::Nothing);
    assert_eq!(cache.size(), (0, 0));
    cache.put(&key, &answer(&key, 10), &KEEP, start);
    cache.fail(&key, &KEEP, start + seconds(5000.0));
    assert_eq!(cache.look(&key, &KEEP, start + seconds(5000.5)), Known::Failed, "far too old");
    let off = Keep { failure: Duration::ZERO, ..KEEP };
    cache.clear();
    cache.fail(&key, &off, start);
    assert_eq!(cache.look(&key, &off, start), Known::Nothing);
}

#[test]
fn what_is_asked_for_often_is_fetched_anew_once_before_it_runs_out() {
    let (mut cache, start) = (Cache::default(), Instant::now());
    let key = key(0);
    let fetch = |cache: &mut Cache, keep: &Keep, at: f64| {
        matches!(cache.look(&key, keep, start + seconds(at)), Known::Fresh { prefetch: true, .. })
    };
    cache.put(&key, &answer(&key, 100), &KEEP, start);
    assert!(!fetch(&mut cache, &KEEP, 95.0), "nobody asked before");
    for _ in 0..10 {
        assert!(!fetch(&mut cache, &KEEP, 89.9), "too early");
    }
    assert!(fetch(&mut cache, &KEEP, 90.1));
    assert!(!fetch(&mut cache, &KEEP, 90.2), "it is under way");
    cache.fail(&key, &KEEP, start + seconds(91.0));
    assert!(!fetch(&mut cache, &KEEP, 92.0), "the upstreams are left alone");
    cache.put(&key, &answer(&key, 100), &KEEP, start);
    let off = Keep { prefetch: 0.0, ..KEEP };
    for _ in 0..10 {
        assert!(!fetch(&mut cache, &off, 99.9));
    }
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    for n in 0..3 {
        assert_eq!(cache.put(&key(n), &answer(&key(n), 10), &KEEP, now), 0);
    }
    cache.look(&key(0), &KEEP, now);
    assert_eq!(cache.put(&key(3), &answer(&key(3), 10), &KEEP, now), 1);
    assert_eq!(cache.look(&key(1), &KEEP, now), Known::Nothing);
    assert!(matches!(cache.look(&key(0), &KEEP, now), Known::Fresh { .. }));
    let one = cache.size().1 / 3;
    let tight = Keep { bytes: one * 2 + one / 2, ..KEEP };
    assert_eq!(cache.put(&key(4), &answer(&key(4), 10), &tight, now), 2, "bytes count too");
    assert_eq!(cache.size().0, 2);
    let none = Keep { entries: 0, ..KEEP };
    assert_eq!(cache.put(&key(5), &answer(&key(5), 10), &none, now), 0);
    assert_eq!(cache.look(&key(5), &KEEP, now), Known::Nothing);
    cache.put(&key(6), &answer(&key(6), 0), &KEEP, now);
    assert_eq!(cache.look(&key(6), &KEEP, now), Known::Nothing, "TTL 0 is not kept");
}

proptest! {
    #[test]
    fn whatever_happens_the_sums_are_right_and_the_bounds_hold(
        steps in prop::collection::vec((0..4_u8, 0..8_u32, 0..40_u32, 0..20_u64), 0..200),
    ) {
        let keep = Keep { bytes: 1500, entries: 5, stale: seconds(60.0), ..KEEP };
        let (mut cache, mut now) = (Cache::default(), Instant::now());
        for (what, n, ttl, pass) in steps {
            now += Duration::from_secs(pass);
            let key = key(n);
            match what {
                0 => { cache.put(&key, &answer(&key, ttl), &keep, now); }
                1 => { cache.fail(&key, &keep, now); }
                _ => match cache.look(&key, &keep, now) {
                    Known::Fresh { reply, age: Age::Fresh(age), .. } => prop_assert!(age < reply.ttl),
                    Known::Fresh { age, .. } => prop_assert!(false, "{:?}", age),
                    Known::Stale { age, .. } => prop_assert_eq!(age, Age::Stale(30)),
                    Known::Failed | Known::Nothing => {}
                },
            }
            let sum: usize = cache.entries.iter().map(|(key, entry)| entry.size(key)).sum();
            prop_assert_eq!(cache.bytes, sum);
            prop_assert_eq!(cache.order.len(), cache.entries.len());
            prop_assert!(cache.entries.len() <= keep.entries && cache.bytes <= keep.bytes);
        }
    }
}
