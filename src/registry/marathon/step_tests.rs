use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const COALESCE: Duration = Duration::from_millis(100);
const RESYNC: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(30);
const HOLD: Duration = Duration::from_secs(15);

fn rules() -> Rules {
    Rules {
        resync: RESYNC,
        idle: IDLE,
        coalesce: COALESCE,
        in_flight: 4,
        backoff_max: Duration::from_secs(30),
        hold: HOLD,
        settle: Duration::from_secs(120),
    }
}

/// A machine with its clock; half of every span that is drawn by chance.
struct Play {
    machine: Machine,
    now: Instant,
}

impl Play {
    fn new() -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(rules(), now), now }
    }

    fn input(&mut self, input: Input) -> Vec<Action> {
        self.machine.step(input, self.now, u64::MAX / 2)
    }

    fn after(&mut self, span: Duration, input: Input) -> Vec<Action> {
        self.now += span;
        self.input(input)
    }

    /// Lets so much time pass with heartbeats; what was done meanwhile.
    fn pass(&mut self, mut span: Duration) -> Vec<Action> {
        let mut all = Vec::new();
        while span > Duration::ZERO {
            let step = span.min(Duration::from_millis(50));
            all.extend(self.after(step, Input::Alive));
            span -= step;
        }
        all
    }

    fn change(&mut self, app: &str) -> Vec<Action> {
        self.input(Input::Changed(Change::App(app.into())))
    }

    /// A read of everything fails, and the next one begins after a pause.
    fn fail_full(&mut self, why: &str) {
        assert_eq!(self.input(Input::Full(Err(why.into()))), [Action::Stale(why.into())]);
        assert!(self.machine.fails());
        assert_eq!(self.pass(Duration::from_millis(100)), [], "not at once");
        assert_eq!(self.pass(Duration::from_millis(500)), [Action::ReadAll]);
    }

    /// One that is live with a stream of leader `a`.
    fn live(apps: usize, lost: bool) -> Self {
        let mut play = Self::new();
        assert_eq!(play.input(Input::Tick), [Action::Connect]);
        assert_eq!(play.input(Input::Opened(Some("a".into()))), []);
        assert_eq!(play.input(Input::Proven), [Action::ReadAll]);
        assert_eq!(play.input(full(apps, lost)), []);
        assert!(matches!(play.machine.phase(), Phase::Live(_)));
        play
    }
}

fn full(apps: usize, lost: bool) -> Input {
    Input::Full(Ok(Read { apps, lost }))
}

fn stale(why: &str) -> Vec<Action> {
    vec![Action::Close, Action::Stale(why.into())]
}

fn read(app: &str) -> Action {
    Action::ReadApp(app.into())
}

fn app(id: &str, outcome: Outcome) -> Input {
    Input::App(id.into(), outcome)
}

#[test]
fn a_stream_that_has_not_spoken_is_none_and_a_closed_one_is_tried_again_after_a_growing_pause() {
    let mut play = Play::new();
    assert_eq!(play.input(Input::Tick), [Action::Connect]);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(play.input(Input::Opened(None)), []);
        assert_eq!(play.machine.phase(), Phase::Connect, "200 is no proof");
        assert_eq!(play.input(Input::Alive), [], "nor are bytes that say nothing");
        assert_eq!(play.input(Input::Lost("closed".into())), stale("closed"));
        let pause = play.machine.due().duration_since(play.now);
        assert_eq!(play.after(pause, Input::Tick), [Action::Connect]);
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [125, 250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
}

#[test]
fn a_stream_that_lived_makes_the_next_pause_short_and_one_that_flapped_does_not() {
    for (case, lived, want) in [("lived", 11, 125), ("flapped", 1, 250)] {
        let mut play = Play::new();
        play.input(Input::Tick);
        play.input(Input::Lost("closed".into()));
        play.after(Duration::from_secs(1), Input::Tick);
        play.input(Input::Proven);
        play.input(full(1, false));
        play.pass(Duration::from_secs(lived));
        play.input(Input::Lost("closed".into()));
        assert_eq!(play.machine.due().duration_since(play.now).as_millis(), want, "{case}");
    }
}

#[test]
fn every_rule_that_ends_a_stream_does_so_and_says_why() {
    type Happening = (&'static str, fn(&mut Play) -> Vec<Action>, &'static str);
    let table: [Happening; 7] = [
        ("end", |p| p.input(Input::Lost("it ended".into())), "it ended"),
        ("silence", |p| p.after(IDLE, Input::Tick), "its event stream said nothing for 30s"),
        (
            "another leader in an answer",
            |p| p.input(Input::Leader("b".into())),
            "the leader changed from a to b",
        ),
        ("another leader in ZooKeeper", |p| p.input(Input::Elected), "another leader was elected"),
        (
            "a listing that cannot be read three times",
            |p| {
                p.input(Input::Changed(Change::Everything));
                assert_eq!(p.pass(COALESCE), [Action::ReadAll]);
                p.fail_full("501");
                p.fail_full("502");
                p.input(Input::Full(Err("503".into())))
            },
            "503",
        ),
        (
            "an end during the first listing",
            |p| {
                p.input(Input::Lost("x".into()));
                p.after(Duration::from_secs(1), Input::Tick);
                p.input(Input::Proven);
                p.input(Input::Lost("cut".into()))
            },
            "cut",
        ),
        (
            "no sign of life",
            |p| {
                p.input(Input::Lost("x".into()));
                p.after(Duration::from_secs(1), Input::Tick);
                p.after(IDLE, Input::Tick)
            },
            "no sign of life on its event stream within 30s",
        ),
    ];
    for (case, happens, why) in table {
        let mut play = Play::live(10, false);
        let epoch = play.machine.epoch();
        assert_eq!(happens(&mut play), stale(why), "{case}");
        assert!(matches!(play.machine.phase(), Phase::Pick(_)), "{case}");
        assert!(play.machine.epoch() > epoch && play.machine.waiting() == 0, "{case}");
    }
}

#[test]
fn a_listing_that_fails_is_tried_again_behind_the_same_stream_and_events_wait_for_it() {
    let mut play = Play::live(10, false);
    let epoch = play.machine.epoch();
    play.change("/before");
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(COALESCE), [read("/before"), Action::ReadAll]);
    play.change("/during");
    assert_eq!(play.pass(COALESCE), [read("/during")]);
    play.fail_full("500");
    // What was being read alone fails with it: that is the same failure.
    for id in ["/before", "/during"] {
        assert_eq!(play.input(app(id, Outcome::Failed("500".into()))), []);
    }
    play.change("/after");
    assert_eq!(play.pass(COALESCE * 3), [], "everything is being read");
    assert!(play.machine.fails());
    assert_eq!(play.input(full(10, false)), [read("/after"), read("/before"), read("/during")]);
    assert!(!play.machine.fails());
    assert_eq!(play.machine.epoch(), epoch);
    for id in ["/after", "/before", "/during"] {
        play.input(app(id, Outcome::Read));
    }
    // One success, and it begins to count anew.
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(COALESCE * 10), [Action::ReadAll]);
    play.fail_full("500");
    play.fail_full("500");
    play.input(full(10, false));
    assert!(matches!(play.machine.phase(), Phase::Live(_)));
}

#[test]
fn an_app_that_cannot_be_read_alone_is_tried_once_more_then_with_everything_and_no_node_is_left() {
    let mut play = Play::live(10, false);
    let failed = |id: &str| app(id, Outcome::Failed("500".into()));
    let stale = || vec![Action::Stale("500".into())];
    for _ in 0..5 {
        play.change("/x");
        assert_eq!(play.pass(COALESCE), [read("/x")]);
        assert_eq!(play.input(failed("/x")), stale());
        assert!(play.machine.fails() && play.machine.waiting() == 1);
        play.change("/x");
        play.change("/y");
        assert_eq!(play.pass(COALESCE), [read("/y")], "another one need not wait");
        play.input(app("/y", Outcome::Read));
        assert!(play.machine.fails(), "that says nothing about /x");
        assert_eq!(play.pass(COALESCE), [read("/x")], "after a pause");
        assert_eq!(play.input(failed("/x")), stale());
        play.change("/y");
        assert_eq!(play.pass(COALESCE * 2), [], "everything is to be read");
        assert_eq!(play.pass(COALESCE * 3), [Action::ReadAll]);
        play.input(full(10, false));
        assert!(!play.machine.fails());
        play.pass(COALESCE * 60);
        assert_eq!(play.machine.waiting(), 0);
    }
    // One that succeeds when it is tried again is no reason to read everything.
    play.change("/x");
    play.pass(COALESCE);
    play.input(failed("/x"));
    assert_eq!(play.pass(COALESCE * 2), [read("/x")]);
    play.input(app("/x", Outcome::Gone));
    assert!(!play.machine.fails());
    assert_eq!(play.pass(COALESCE * 9), []);
}

#[test]
fn many_apps_that_fail_at_once_are_one_failure_and_have_everything_read() {
    let mut play = Play::live(10, false);
    let ids = ["/a", "/b", "/c", "/d"];
    for id in ids {
        play.change(id);
    }
    assert_eq!(play.pass(COALESCE).len(), 4);
    let all: Vec<_> =
        ids.iter().flat_map(|id| play.input(app(id, Outcome::Failed("503".into())))).collect();
    assert_eq!(all, [Action::Stale("503".into())]);
    assert_eq!(play.pass(COALESCE * 3), [Action::ReadAll]);
    play.input(full(10, false));
    assert!(!play.machine.fails());
}

#[test]
fn a_node_that_is_left_for_its_answers_gives_way_soon_and_the_next_is_asked_less_and_less_often() {
    let mut play = Play::live(10, false);
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(COALESCE), [Action::ReadAll]);
    let (mut pauses, mut tries) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        for last in [false, false, true] {
            let mut actions = play.input(Input::Full(Err("503".into())));
            let from = play.now;
            if last {
                assert_eq!(actions, stale("503"));
                let pause = play.machine.due().duration_since(play.now);
                pauses.push(pause.as_millis());
                assert_eq!(play.after(pause, Input::Tick), [Action::Connect]);
                play.input(Input::Opened(None));
                actions = play.input(Input::Proven);
            } else {
                for _ in 0..1000 {
                    if actions.last() != Some(&Action::ReadAll) {
                        actions = play.pass(Duration::from_millis(50));
                    }
                }
                tries.push(play.now.duration_since(from).as_secs());
            }
            assert_eq!(actions.last(), Some(&Action::ReadAll));
        }
    }
    assert_eq!(pauses, [125; 4], "the stream itself was well");
    assert_eq!(tries, [0, 0, 1, 3, 12, 22, 22, 22]);
    play.input(full(10, false));
    assert!(matches!(play.machine.phase(), Phase::Live(_)) && !play.machine.fails());
}

#[test]
fn the_same_leader_and_one_that_is_named_at_last_end_nothing() {
    let mut play = Play::live(1, false);
    assert_eq!(play.input(Input::Leader("a".into())), []);
    let mut play = Play::new();
    play.input(Input::Tick);
    play.input(Input::Opened(None));
    play.input(Input::Proven);
    play.input(full(1, false));
    assert_eq!(play.input(Input::Leader("b".into())), []);
    assert_eq!(play.input(Input::Leader("c".into())), stale("the leader changed from b to c"));
}

#[test]
fn events_of_one_app_are_gathered_and_one_during_its_read_has_it_read_again() {
    let mut play = Play::live(10, false);
    for _ in 0..5 {
        assert_eq!(play.change("/a"), []);
    }
    assert_eq!(play.after(COALESCE, Input::Tick), [read("/a")]);
    assert_eq!(play.change("/a"), []);
    assert_eq!(play.pass(COALESCE * 3), [], "it is being read");
    assert_eq!(play.input(app("/a", Outcome::Read)), []);
    assert_eq!(play.pass(COALESCE), [read("/a")]);
    play.input(app("/a", Outcome::Read));
    assert_eq!(play.pass(COALESCE * 3), []);
}

#[test]
fn no_more_apps_are_read_at_once_than_allowed_and_the_others_follow() {
    let mut play = Play::live(10, false);
    for id in ["/a", "/b", "/c", "/d", "/e", "/f"] {
        play.change(id);
    }
    let first = play.after(COALESCE, Input::Tick);
    assert_eq!(first, [read("/a"), read("/b"), read("/c"), read("/d")]);
    assert_eq!(play.input(app("/b", Outcome::Read)), [read("/e")]);
    assert_eq!(play.input(app("/a", Outcome::Gone)), [read("/f")]);
}

#[test]
fn many_marks_an_unknown_id_and_an_event_of_no_app_have_everything_read() {
    let mut play = Play::live(100, false);
    for id in 0..=DIRTY_MAX {
        play.change(&format!("/{id}"));
    }
    assert_eq!(play.pass(COALESCE * 2), [Action::ReadAll]);
    assert_eq!(play.machine.waiting(), 0, "marks are served by it");
    let mut play = Play::live(10_000, false);
    for id in 0..=DIRTY_MAX {
        play.change(&format!("/{id}"));
    }
    assert_eq!(play.pass(COALESCE).len(), 4, "with many apps single reads are cheaper");

    let mut play = Play::live(10, false);
    play.change("/pod");
    assert_eq!(play.pass(COALESCE), [read("/pod")]);
    play.input(app("/pod", Outcome::Unknown));
    assert_eq!(play.pass(COALESCE), [Action::ReadAll]);
    play.input(full(10, false));
    play.change("/pod");
    assert_eq!(play.pass(COALESCE), [read("/pod")]);
    play.input(app("/pod", Outcome::Unknown));
    assert_eq!(play.pass(COALESCE * 3), [], "once is enough for what is nothing");

    let mut play = Play::live(10, false);
    play.input(Input::Changed(Change::Everything));
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(COALESCE), [Action::ReadAll]);
}

#[test]
fn an_app_that_changes_or_is_read_while_everything_is_read_is_read_once_more() {
    let mut play = Play::live(10, false);
    play.change("/before");
    assert_eq!(play.pass(COALESCE), [read("/before")]);
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(COALESCE), [Action::ReadAll]);
    play.input(app("/before", Outcome::Read));
    play.change("/during");
    assert_eq!(play.pass(COALESCE), [read("/during")], "it need not wait");
    play.input(app("/during", Outcome::Read));
    play.input(full(10, false));
    assert_eq!(play.pass(COALESCE), [read("/before"), read("/during")]);
    for id in ["/before", "/during"] {
        play.input(app(id, Outcome::Read));
    }
    assert_eq!(play.pass(COALESCE * 3), []);
}

#[test]
fn events_during_the_first_listing_wait_for_its_end_and_are_then_served() {
    let mut play = Play::new();
    play.input(Input::Tick);
    play.input(Input::Opened(None));
    assert_eq!(play.input(Input::Proven), [Action::ReadAll]);
    play.change("/a");
    assert_eq!(play.pass(Duration::from_secs(2)), []);
    assert_eq!(play.input(full(1, false)), [read("/a")]);
}

#[test]
fn everything_is_read_at_each_interval_give_or_take_a_fifth() {
    for (random, least) in [(0, 48), (u64::MAX / 2, 60), (u64::MAX, 72)] {
        let mut play = Play::live(10, false);
        play.input(Input::Changed(Change::Everything));
        play.pass(COALESCE);
        play.machine.step(full(10, false), play.now, random);
        let wait = Duration::from_millis(least * 1000 - 100);
        assert_eq!(play.pass(wait), [], "{random}");
        assert_eq!(play.pass(Duration::from_millis(100)), [Action::ReadAll], "{random}");
    }
}

#[test]
fn a_storm_of_events_has_everything_read_no_more_than_half_of_the_time() {
    let mut play = Play::live(10, false);
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(COALESCE), [Action::ReadAll]);
    play.pass(Duration::from_secs(3));
    play.input(full(10, false));
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(Duration::from_millis(2950)), []);
    assert_eq!(play.pass(Duration::from_millis(50)), [Action::ReadAll]);
}

#[test]
fn what_is_missing_behind_a_new_stream_is_doubted_until_a_second_read_after_the_hold() {
    let play = Play::live(10, false);
    assert!(!play.machine.doubts(), "nothing is missing");
    let mut play = Play::live(10, true);
    assert!(play.machine.doubts());
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(COALESCE), [Action::ReadAll]);
    play.pass(HOLD.saturating_sub(COALESCE));
    assert_eq!(play.input(full(10, false)), [Action::ReadAll]);
    assert!(play.machine.doubts(), "the read that ended had begun before");
    play.input(full(10, false));
    assert!(!play.machine.doubts());
}

#[test]
fn absent_health_results_count_again_some_time_after_each_new_stream() {
    let mut play = Play::live(10, false);
    let mut done = Vec::new();
    for _ in 0..130 {
        let actions = play.pass(Duration::from_secs(1));
        if actions.contains(&Action::ReadAll) {
            play.input(full(10, false));
        }
        done.extend(actions);
    }
    assert_eq!(done.iter().filter(|action| **action == Action::Settle).count(), 1);
}

#[test]
fn results_settle_between_two_listings_and_not_while_one_is_on_its_way() {
    let mut play = Play::live(10, false);
    for _ in 0..110 {
        if play.pass(Duration::from_secs(1)).contains(&Action::ReadAll) {
            play.input(full(10, false));
        }
    }
    play.input(Input::Changed(Change::Everything));
    assert_eq!(play.pass(COALESCE), [Action::ReadAll]);
    assert_eq!(play.pass(Duration::from_secs(15)), [], "it began before");
    assert_eq!(play.input(full(10, false)), [Action::Settle]);
}

/// What may come at any moment.
#[derive(Debug, Clone)]
enum Op {
    Wait(u64),
    Speak,
    Change(u8),
    Everything,
    Break,
    AnswerFull(bool, bool),
    AnswerApp(u8, u8),
    Leader(u8),
    Elected,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (1_u64..700).prop_map(Op::Wait),
        1 => (1_u64..90_000).prop_map(Op::Wait),
        4 => Just(Op::Speak),
        12 => (0_u8..40).prop_map(Op::Change),
        1 => Just(Op::Everything),
        1 => Just(Op::Break),
        4 => (prop::bool::weighted(0.9), any::<bool>()).prop_map(|(ok, lost)| Op::AnswerFull(ok, lost)),
        8 => (any::<u8>(), 0_u8..20).prop_map(|(which, how)| Op::AnswerApp(which, how)),
        1 => (0_u8..2).prop_map(Op::Leader),
        1 => Just(Op::Elected),
    ];
    prop::collection::vec(op, 0..300)
}

/// The world around a machine: it carries out what is asked, and keeps book.
struct World {
    play: Play,
    full: Option<Instant>,
    reads: BTreeMap<Arc<str>, Instant>,
    /// When each app changed last while its event could be heard.
    marks: BTreeMap<Arc<str>, Instant>,
    /// When the last read of everything, and of each app, began that succeeded.
    full_from: Option<Instant>,
    read_from: BTreeMap<Arc<str>, Instant>,
    whole: bool,
}

impl World {
    fn input(&mut self, input: Input) {
        let heard = matches!(self.play.machine.phase(), Phase::Snapshot | Phase::Live(_));
        if let Input::Changed(Change::App(id)) = &input
            && heard
        {
            self.marks.insert(Arc::clone(id), self.play.now);
        }
        for action in self.play.input(input) {
            match action {
                Action::Connect => {
                    assert!(self.full.is_none() && self.reads.is_empty(), "nothing is under way");
                    self.whole = false;
                }
                Action::Close => {
                    self.full = None;
                    self.reads.clear();
                    self.whole = false;
                    // Whatever changed is in the listing behind the next stream.
                    self.marks.clear();
                }
                Action::ReadAll => {
                    assert!(self.full.replace(self.play.now).is_none(), "one at a time");
                }
                Action::ReadApp(id) => {
                    assert!(self.reads.insert(id, self.play.now).is_none(), "once at a time");
                    assert!(self.reads.len() <= rules().in_flight);
                    assert!(self.whole, "single apps are read behind a whole listing");
                }
                Action::Stale(_) | Action::Settle => {}
            }
        }
        let live = matches!(self.play.machine.phase(), Phase::Live(_));
        assert!(!live || self.whole, "live means that everything was read behind this stream");
        assert!(self.play.machine.due() >= self.play.now, "no timer is overdue after a step");
    }

    fn answer_full(&mut self, ok: bool, lost: bool) {
        let Some(began) = self.full.take() else { return };
        if ok {
            (self.full_from, self.whole) = (Some(began), true);
            self.input(full(10, lost));
        } else {
            self.input(Input::Full(Err("no".into())));
        }
    }

    fn answer_app(&mut self, which: u8, how: u8) {
        let ids: Vec<_> = self.reads.keys().cloned().collect();
        let Some(id) = ids.get(usize::from(which) % ids.len().max(1)).cloned() else { return };
        let began = self.reads.remove(&id).unwrap();
        let outcome = match how {
            0 => Outcome::Failed("no".into()),
            1 => Outcome::Gone,
            2 => Outcome::Unknown,
            _ => Outcome::Read,
        };
        if how > 0 {
            self.read_from.insert(Arc::clone(&id), began);
        }
        self.input(Input::App(id, outcome));
    }

    fn op(&mut self, op: &Op) {
        match *op {
            Op::Wait(millis) => {
                let until = self.play.now + Duration::from_millis(millis);
                while self.play.machine.due() <= until {
                    self.play.now = self.play.machine.due().max(self.play.now);
                    self.input(Input::Tick);
                }
                self.play.now = until;
                self.input(Input::Tick);
            }
            Op::Speak => {
                self.input(Input::Opened(Some("0".into())));
                self.input(Input::Proven);
            }
            Op::Change(id) => self.input(Input::Changed(Change::App(format!("/{id}").into()))),
            Op::Everything => self.input(Input::Changed(Change::Everything)),
            Op::Break => self.input(Input::Lost("broken".into())),
            Op::AnswerFull(ok, lost) => self.answer_full(ok, lost),
            Op::AnswerApp(which, how) => self.answer_app(which, how),
            Op::Leader(name) => self.input(Input::Leader(name.to_string().into())),
            Op::Elected => self.input(Input::Elected),
        }
    }
}

proptest! {
    #[test]
    fn no_mark_stays_unserved_and_nothing_is_live_before_everything_was_read(ops in ops()) {
        let mut world = World {
            play: Play::new(),
            full: None,
            reads: BTreeMap::new(),
            marks: BTreeMap::new(),
            full_from: None,
            read_from: BTreeMap::new(),
            whole: false,
        };
        for op in ops {
            world.op(&op);
        }
        // From now on all goes well.
        for _ in 0..800 {
            world.op(&Op::Wait(100));
            world.op(&Op::Speak);
            world.answer_full(true, false);
            while !world.reads.is_empty() {
                world.answer_app(0, 9);
            }
        }
        prop_assert!(matches!(world.play.machine.phase(), Phase::Live(_)));
        prop_assert_eq!(world.play.machine.waiting(), 0);
        for (id, at) in &world.marks {
            let whole = world.full_from.is_some_and(|from| from >= *at);
            let alone = world.read_from.get(id).is_some_and(|from| from >= at);
            prop_assert!(whole || alone, "{} changed and was not read since", id);
        }
    }
}
