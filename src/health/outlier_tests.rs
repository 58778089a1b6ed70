use std::time::Duration;

use super::*;
use crate::health::outlier_config::{LatencyConfig, SuccessRateConfig};
use crate::units::Share;

fn now(start: Instant, millis: u64) -> Now {
    let after = Duration::from_millis(millis);
    Now { instant: start + after, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1) + after }
}

fn member(id: &str) -> Member {
    Member {
        key: ("r".into(), id.into()),
        address: Address::parse("10.0.0.1").unwrap(),
        serving: true,
        seen: Totals::default(),
        run: 0,
    }
}

fn members(ids: &[&str]) -> Vec<Member> {
    ids.iter().map(|id| member(id)).collect()
}

fn failing(id: &str, run: u32) -> Member {
    let seen = Totals { failures: [0, 0, 0, u64::from(run)], ..Totals::default() };
    Member { seen, run, ..member(id) }
}

fn out(judge: &Judge) -> Vec<String> {
    judge.verdicts().instances.keys().map(|(_, id)| id.to_string()).collect()
}

#[test]
fn a_run_of_failures_ejects_and_time_brings_back() {
    let config = OutlierConfig::default();
    let start = Instant::now();
    let mut judge = Judge::new(start);
    let mut at = |millis, third: Member| {
        let all = [member("a"), member("b"), third];
        let outcome = judge.look(&config, now(start, millis), &all);
        (outcome.ejected.len(), outcome.returned.len(), out(&judge))
    };
    assert_eq!(at(0, failing("c", 4)), (0, 0, vec![]));
    assert_eq!(at(100, failing("c", 5)), (1, 0, vec!["c".into()]));
    let gone = Member { serving: false, ..member("c") };
    assert_eq!(at(10_099, gone.clone()), (0, 0, vec!["c".into()]));
    assert_eq!(at(10_100, gone), (0, 1, vec![]));
    let verdicts = judge.verdicts();
    assert!(verdicts.instances.is_empty());
}

#[test]
fn the_cause_tells_what_was_seen_and_for_how_long_it_is_out() {
    let (config, start) = (OutlierConfig::default(), Instant::now());
    let mut judge = Judge::new(start);
    judge.look(&config, now(start, 0), &[member("a"), failing("b", 7)]);
    let verdicts = judge.verdicts();
    let told = verdicts.instances.values().next().and_then(|v| v.ejected.clone()).unwrap();
    assert_eq!(
        &*told.cause,
        "ejected by what the proxy saw: 7 failures in a row (status); out for 10s"
    );
    assert_eq!(told.until, told.since + Duration::from_secs(10));
}

#[test]
fn each_ejection_in_a_row_is_longer_up_to_the_longest_and_calm_makes_them_forgotten() {
    let config = OutlierConfig {
        base_ejection: Period::from_secs(10),
        max_ejection: Period::from_secs(25),
        ..OutlierConfig::default()
    };
    let start = Instant::now();
    let mut judge = Judge::new(start);
    let mut clock = 0;
    // Ejects b now; how long until it is back.
    let eject = |judge: &mut Judge, clock: &mut u64| {
        judge.look(&config, now(start, *clock), &[member("a"), failing("b", 9)]);
        assert_eq!(out(judge), ["b"]);
        let began = *clock;
        while !out(judge).is_empty() {
            *clock += 1000;
            judge.look(&config, now(start, *clock), &members(&["a"]));
        }
        *clock - began
    };
    for wanted in [10_000, 20_000, 25_000, 25_000] {
        assert_eq!(eject(&mut judge, &mut clock), wanted);
    }
    // Four are remembered; 25 s of calm take one away, and two more, 20 s the one after.
    clock += 26_000;
    judge.look(&config, now(start, clock), &members(&["a", "b"]));
    clock += 49_000;
    judge.look(&config, now(start, clock), &members(&["a", "b"]));
    assert_eq!(eject(&mut judge, &mut clock), 20_000, "one was left, this is the second");
}

#[test]
fn never_more_than_the_share_are_out_and_never_the_last() {
    for (case, share, count, want) in [
        ("half of four", 0.5, 4, 2),
        ("half of three, rounded down", 0.5, 3, 1),
        ("a tenth of three is still one", 0.1, 3, 1),
        ("all of three leaves one", 1.0, 3, 2),
        ("one of two", 0.1, 2, 1),
        ("the only one", 1.0, 1, 0),
        ("none at all", 0.0, 4, 0),
        ("a tenth of ten", 0.1, 10, 1),
        ("30 % of ten", 0.3, 10, 3),
    ] {
        let config = OutlierConfig { max_ejected: Share(share), ..OutlierConfig::default() };
        let start = Instant::now();
        let mut judge = Judge::new(start);
        let all: Vec<Member> = (0..count).map(|n| failing(&n.to_string(), 5 + n)).collect();
        let outcome = judge.look(&config, now(start, 0), &all);
        assert_eq!(config.most(count as usize), want, "{case}");
        assert_eq!(outcome.ejected.len(), want, "{case}");
        assert_eq!(outcome.spared, count as usize - want, "{case}");
        let worst = outcome.ejected.first().map(|((_, id), _)| id.to_string());
        assert_eq!(worst, (want > 0).then(|| (count - 1).to_string()), "{case}: the longest run");
    }
}

#[test]
fn who_does_not_serve_is_neither_ejected_nor_counted_as_one_that_is_left() {
    let (config, start) = (OutlierConfig::default(), Instant::now());
    let mut judge = Judge::new(start);
    let down = Member { serving: false, ..failing("b", 9) };
    let outcome = judge.look(&config, now(start, 0), &[failing("a", 9), down]);
    assert_eq!((outcome.ejected.len(), outcome.spared), (0, 1));
}

#[test]
fn when_the_others_fail_or_leave_the_ejected_are_back_at_once() {
    let (config, start) = (OutlierConfig::default(), Instant::now());
    let mut judge = Judge::new(start);
    let four = |bad: &[&str]| {
        let one = |id: &str| if bad.contains(&id) { failing(id, 9) } else { member(id) };
        ["a", "b", "c", "d"].map(one)
    };
    judge.look(&config, now(start, 0), &four(&["c", "d"]));
    assert_eq!(out(&judge), ["c", "d"]);
    // Half of three is one.
    let left = judge.look(&config, now(start, 100), &members(&["a", "c", "d"]));
    assert_eq!((left.returned.len(), out(&judge).len()), (1, 1));
    let down = Member { serving: false, ..member("a") };
    judge.look(&config, now(start, 200), &[down, member("c"), member("d")]);
    assert_eq!(out(&judge).len(), 1, "the one that came back serves");
    let down = |id| Member { serving: false, ..member(id) };
    judge.look(&config, now(start, 300), &[down("a"), down("c"), down("d")]);
    assert_eq!(out(&judge), [""; 0]);
}

#[test]
fn rates_and_latencies_are_compared_once_per_interval_over_all_of_it() {
    let config = OutlierConfig {
        success_rate: Some(SuccessRateConfig::default()),
        latency: Some(LatencyConfig::default()),
        interval: Period::from_secs(1),
        max_ejected: Share(1.0),
        ..OutlierConfig::default()
    };
    let start = Instant::now();
    let mut judge = Judge::new(start);
    let with = |id: &str, successes, failed, millis: u64| {
        let failures = [failed, 0, 0, 0];
        let seen = Totals {
            successes,
            failures,
            answers: successes,
            latency_micros: successes * millis * 1000,
        };
        Member { seen, ..member(id) }
    };
    let all = [
        with("a", 30, 0, 10),
        with("b", 30, 0, 10),
        with("low", 20, 10, 10),
        with("slow", 30, 0, 400),
    ];
    for look in 0..10 {
        let outcome = judge.look(&config, now(start, look * 100), &all);
        assert_eq!(outcome, Outcome::default(), "before the interval is over");
    }
    let outcome = judge.look(&config, now(start, 1000), &all);
    let told: Vec<(&str, Signal)> =
        outcome.ejected.iter().map(|((_, id), signal)| (&**id, *signal)).collect();
    assert_eq!(told, [("low", Signal::SuccessRate), ("slow", Signal::Latency)]);
}

#[test]
fn another_address_is_another_instance_and_one_that_comes_again_is_still_out() {
    let (config, start) = (OutlierConfig::default(), Instant::now());
    let mut judge = Judge::new(start);
    judge.look(&config, now(start, 0), &[member("a"), failing("b", 9)]);
    judge.look(&config, now(start, 100), &members(&["a"]));
    assert_eq!(out(&judge), ["b"], "a registry that blinks ends nothing");
    let moved = Member { address: Address::parse("10.0.0.9").unwrap(), ..member("b") };
    judge.look(&config, now(start, 200), &[member("a"), moved]);
    assert_eq!(out(&judge), [""; 0]);
}

#[test]
fn ejections_from_disk_stand_until_their_time_and_count_as_so_many() {
    let (config, start) = (OutlierConfig::default(), Instant::now());
    let mut judge = Judge::new(start);
    for (millis, third) in [(0, failing("b", 9)), (10_000, failing("b", 9))] {
        judge.look(&config, now(start, millis), &[member("a"), third]);
    }
    // Out for the second time, until 30 s.
    let stored = judge.verdicts();
    let mut judge = Judge::restored(&config, now(start, 15_000), &stored);
    assert_eq!(judge.verdicts(), stored, "nothing changes by a restart");
    judge.look(&config, now(start, 29_999), &members(&["a"]));
    assert_eq!(out(&judge), ["b"]);
    judge.look(&config, now(start, 30_000), &members(&["a"]));
    assert_eq!(out(&judge), [""; 0]);
    judge.look(&config, now(start, 30_100), &[member("a"), failing("b", 9)]);
    let told = judge.verdicts().instances.into_values().next().and_then(|v| v.ejected).unwrap();
    assert_eq!(told.until, told.since + Duration::from_secs(30), "the third");

    let late = Judge::restored(&config, now(start, 3_600_000), &stored);
    assert_eq!(out(&late), ["b"], "until the first look");
    let mut late = late;
    late.look(&config, now(start, 3_600_000), &members(&["a", "b"]));
    assert_eq!(out(&late), [""; 0]);

    let mut set_back =
        Judge::restored(&config, Now { wall: SystemTime::UNIX_EPOCH, ..now(start, 0) }, &{
            let mut far = stored;
            for verdict in far.instances.values_mut() {
                if let Some(ejected) = &mut verdict.ejected {
                    ejected.until += Duration::from_secs(1_000_000);
                }
            }
            far
        });
    set_back.look(&config, now(start, 300_000), &members(&["a", "b"]));
    assert_eq!(out(&set_back), [""; 0], "no later than the longest ejection");
}

#[test]
fn settings_that_cannot_be_are_told_with_their_key() {
    let table = |text: &str| toml::from_str::<OutlierConfig>(text).unwrap().problem();
    for (text, key) in [
        ("", None),
        ("success_rate = {}\nlatency = {}", None),
        ("interval = \"10ms\"", Some("interval")),
        ("base_ejection = \"0\"", Some("base_ejection")),
        ("max_ejection = \"1s\"", Some("max_ejection")),
        ("success_rate = { deviations = 0.0 }", Some("success_rate")),
        ("latency = { factor = 1.0 }", Some("latency")),
        ("latency = { factor = nan }", Some("latency")),
    ] {
        assert_eq!(table(text).map(|(key, _)| key), key, "{text}");
    }
}

/// Random bits of a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % count
    }
}

#[test]
fn over_random_histories_the_share_holds_the_last_stays_and_every_ejection_ends() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let shares = [0.0, 0.1, 0.34, 0.5, 0.9, 1.0];
        let config = OutlierConfig {
            consecutive_failures: 1 + dice.below(4) as u32,
            success_rate: (dice.below(2) == 0)
                .then(|| SuccessRateConfig { min_requests: 5, ..SuccessRateConfig::default() }),
            latency: (dice.below(2) == 0)
                .then(|| LatencyConfig { min_requests: 3, ..LatencyConfig::default() }),
            interval: Period::from_millis(100 + 100 * dice.below(10)),
            max_ejected: Share(shares[dice.below(6) as usize]),
            base_ejection: Period::from_millis(100 + dice.below(1000)),
            max_ejection: Period::from_millis(1100 + dice.below(5000)),
            ..OutlierConfig::default()
        };
        let start = Instant::now();
        let mut judge = Judge::new(start);
        let mut clock = 0;
        let count = 1 + dice.below(12);
        for step in 0..200 {
            clock += dice.below(400);
            let mut all = Vec::new();
            for n in 0..count {
                if dice.below(20) == 0 {
                    continue;
                }
                let failed = dice.below(8) * dice.below(2);
                let answers = dice.below(10);
                all.push(Member {
                    serving: dice.below(8) != 0,
                    run: failed as u32,
                    seen: Totals {
                        successes: answers,
                        failures: [failed, 0, 0, 0],
                        answers,
                        latency_micros: answers * dice.below(400_000),
                    },
                    ..member(&n.to_string())
                });
            }
            if dice.below(40) == 0 {
                let verdicts = judge.verdicts();
                judge = Judge::restored(&config, now(start, clock), &verdicts);
            }
            judge.look(&config, now(start, clock), &all);
            let (serving, out) = judge.count(&all);
            let case = format!("seed {seed}, step {step}: {serving} serve, {out} out");
            assert!(out <= config.most(serving + out), "{case}");
            assert!(out == 0 || serving > 0, "{case}");
            for verdict in judge.verdicts().instances.values() {
                let told = verdict.ejected.as_ref().unwrap();
                let length = told.until.duration_since(told.since).unwrap();
                assert!(length <= config.max_ejection.0, "{case}");
                assert!(told.until > now(start, clock).wall, "{case}: over, and still out");
            }
        }
        clock += config.max_ejection.0.as_millis() as u64;
        judge.look(&config, now(start, clock), &[]);
        assert_eq!(judge.out(), 0, "seed {seed}: every ejection ends");
    }
}
