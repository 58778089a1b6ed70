//! Two rosters, the second of which takes over from the first.

use super::super::roster::tests::{Played, SECOND, no, ok, played};
use super::*;
use crate::catalog::model::Health;

const TOLD: [(&str, &str); 1] = [(
    "web",
    "tcp = { interval = \"10s\", fast_interval = \"10s\", fall = 3 }\npush = { ttl = \"60s\" }",
)];
const INSTANCES: [(&str, &str, u16); 2] = [("a", "10.0.0.1", 80), ("b", "10.0.0.2", 80)];

#[tokio::test(start_paused = true)]
async fn another_process_goes_on_with_the_counts_and_on_the_beat_and_asks_nothing_out_of_turn() {
    let mut old = played(&TOLD);
    old.tell("web", &INSTANCES);
    old.play(25 * SECOND, ok);
    old.play(20 * SECOND, no);
    let carried = old.roster.carried(old.now);
    assert_eq!(carried.len(), 4);
    let bytes = serde_json::to_vec(&carried).unwrap();
    let carried: Vec<Carried> = serde_json::from_slice(&bytes).unwrap();

    let mut new = played(&TOLD);
    (new.now, new.clock) = (old.now, old.clock);
    new.roster.carry(carried.clone(), new.now);
    new.tell("web", &INSTANCES);
    assert_eq!(new.roster.carried(new.now).len(), 4);
    for probed in new.roster.probes.values() {
        let known = fingerprint(&probed.check, &probed.target);
        let before = carried.iter().find(|carried| carried.target == known).unwrap();
        assert_eq!((&probed.tracker, &probed.last), (&before.tracker, &before.last));
    }
    // Two failures there and one here are three; a second of another process starts no storm.
    let started = new.play(10 * SECOND, no);
    assert!(started <= 3, "{started} in one interval");
    for probed in new.roster.probes.values().filter(|probed| probed.check.kind == "tcp") {
        assert_eq!(probed.tracker.decided().unwrap().health, Health::Unhealthy);
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_whom_nothing_is_known_or_who_comes_back_later_begins_anew() {
    let mut old = played(&TOLD);
    old.tell("web", &INSTANCES);
    old.play(25 * SECOND, ok);
    let mut new = played(&TOLD);
    new.roster.carry(old.roster.carried(old.now), new.now);
    new.tell("web", &[("b", "10.0.0.2", 80), ("c", "10.0.0.3", 80)]);
    let known = |played: &Played| {
        let decided = |probed: &&Probed| probed.tracker.decided().is_some();
        played.roster.probes.values().filter(decided).count()
    };
    assert_eq!(known(&new), 1, "the check of b that connects");
    new.tell("web", &INSTANCES);
    assert_eq!(known(&new), 1, "a was gone in between");
}
