use super::*;

const WAIT: Duration = Duration::from_secs(300);
const RULES: Rules = Rules {
    wait: WAIT,
    stale_max: Some(Duration::from_secs(2)),
    pause_max: Duration::from_secs(1),
};

fn index(index: u64) -> Told {
    Told { index: Some(index), ..Told::default() }
}

/// A watch that was told `first`, and the moment of it.
fn told(first: u64) -> (Watch, Instant) {
    let now = Instant::now();
    let mut watch = Watch::new(RULES, now);
    assert_eq!(watch.next(now).1.after, None, "the first question carries no index");
    assert_eq!(watch.answered(index(first)), Use::Doubted("it was asked for the first time"));
    watch.weighed(index(first), true, now);
    (watch, now)
}

#[test]
fn the_index_of_an_answer_goes_into_the_next_question() {
    let (mut watch, now) = told(7);
    let (at, query) = watch.next(now);
    assert_eq!((at, query.after), (now, Some((7, WAIT))));
    assert_eq!(query.consistency, Consistency::Stale);
}

#[test]
fn an_index_of_zero_or_none_counts_as_one() {
    for (case, answer) in [("zero", index(0)), ("none", Told::default())] {
        let now = Instant::now();
        let mut watch = Watch::new(RULES, now);
        watch.next(now);
        assert_eq!(
            watch.answered(answer),
            Use::Doubted("it was asked for the first time"),
            "{case}"
        );
        watch.weighed(answer, true, now);
        assert_eq!(watch.next(now).1.after, Some((1, WAIT)), "{case}");
    }
}

#[test]
fn an_index_that_goes_backwards_starts_anew_and_what_follows_is_marked() {
    let (mut watch, now) = told(100);
    watch.next(now);
    assert_eq!(watch.answered(index(40)), Use::Reset);
    assert_eq!(watch.next(now).1.after, None, "all there is, at once");
    assert_eq!(watch.answered(index(40)), Use::Doubted("its index went backwards"));
    watch.weighed(index(40), false, now);
    assert_eq!(watch.next(now).1.after, Some((40, WAIT)));
    assert_eq!(watch.answered(index(41)), Use::It);
}

#[test]
fn after_a_failure_the_same_index_is_asked_for_a_moment_and_then_as_long_as_ever() {
    let (mut watch, now) = told(9);
    watch.next(now);
    watch.failed(None, now, u64::MAX);
    let (at, query) = watch.next(now);
    assert!(at > now + Duration::from_millis(200), "a pause");
    assert_eq!(query.after, Some((9, PROBE_WAIT)));
    assert!(watch.begins());
    assert_eq!(watch.answered(index(9)), Use::Doubted("it had not answered before"));
    watch.weighed(index(9), false, at);
    assert!(!watch.begins());
    assert_eq!(watch.next(at).1.after, Some((9, WAIT)));
}

#[test]
fn a_server_that_asks_for_a_pause_gets_it() {
    let (mut watch, now) = told(9);
    watch.failed(Some(Duration::from_secs(20)), now, 0);
    assert_eq!(watch.next(now).0, now + Duration::from_secs(20));
}

#[test]
fn another_cluster_is_asked_from_the_start_and_the_same_one_goes_on() {
    let (mut watch, now) = told(9);
    watch.reconnected(true);
    assert_eq!(watch.next(now).1.after, Some((9, PROBE_WAIT)));
    watch.reconnected(false);
    assert_eq!(watch.next(now).1.after, None);
}

#[test]
fn an_answer_that_is_too_old_sends_one_question_to_the_leader() {
    let (mut watch, now) = told(9);
    let old = Told { last_contact: Some(Duration::from_secs(5)), ..index(10) };
    watch.next(now);
    assert_eq!(watch.answered(old), Use::AskLeader);
    let (_, query) = watch.next(now);
    assert_eq!((query.after, query.consistency), (None, Consistency::Leader));
    assert_eq!(watch.answered(old), Use::It, "whatever it says, it is the leader's");
    watch.weighed(old, true, now);
    assert_eq!(watch.next(now).1.consistency, Consistency::Stale);
}

#[test]
fn the_same_index_at_once_slows_down_to_a_call_in_fifteen_seconds() {
    let (mut watch, start) = told(9);
    let mut times = Vec::new();
    let mut now = start;
    while times.len() < 20 {
        now = watch.next(now).0.max(now);
        times.push(now);
        assert_eq!(watch.answered(index(9)), Use::It);
        watch.weighed(index(9), false, now);
    }
    let last = times[19].duration_since(times[18]);
    assert_eq!(last, Duration::from_secs(15));
    assert!(times[5].duration_since(start) > Duration::from_secs(1), "{times:?}");
}

#[test]
fn a_deadline_lies_behind_the_longest_time_that_a_server_may_park() {
    let query = |after| Query { after, consistency: Consistency::Stale };
    let slack = Duration::from_secs(10);
    let secs = |after| Watch::deadline(query(after), slack).as_secs_f64();
    assert!((secs(Some((1, WAIT))) - 328.75).abs() < 0.001);
    assert!((secs(None) - 10.0).abs() < 0.001);
}

#[test]
fn a_question_that_follows_a_broken_connection_parks_a_moment_only() {
    let (mut watch, now) = told(9);
    let (at, query) = watch.next(now);
    assert_eq!(watch.shaken(query, at).after, Some((9, PROBE_WAIT)));
    assert!(matches!(watch.answered(index(9)), Use::Doubted(_)));
}
