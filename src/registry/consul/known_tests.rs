use super::super::agent::Failure;
use super::super::blocking::Told;
use super::*;
use crate::catalog::{Address, Health, Instance, Key};

const HOLD: Duration = Duration::from_secs(30);

fn wish() -> Wish {
    Wish {
        registry: "dc1".into(),
        tags: Vec::new(),
        address_tag: None,
        services_max: 100,
        instances_max: 5,
        keys_max: 3,
    }
}

fn service(name: &str, ids: &[&str]) -> Arc<SourceService> {
    let instance = |id: &&str| {
        let address = Address::parse("10.0.0.1").unwrap();
        Arc::new(Instance { health: Health::Healthy, ..Instance::bare("dc1", id, address) })
    };
    let instances = ids.iter().map(instance).collect();
    Arc::new(SourceService { instances, ..empty(&name.into()) })
}

fn names(listed: &[&str]) -> Said {
    let tags = listed.iter().map(|name| (Arc::from(*name), Arc::new([]) as _)).collect();
    Said::Names(Arc::new(Names { tags, problems: Vec::new() }))
}

fn members(name: &str, ids: &[&str]) -> (Target, Said) {
    let service = (!ids.is_empty()).then(|| service(name, ids));
    (Target::Service(name.into()), Said::Members(service))
}

/// What is known, and a clock.
struct Play {
    known: Known,
    now: Instant,
    index: u64,
}

impl Play {
    fn new(last: RegistryView) -> Self {
        let known = Known::new(wish(), Interest::everything(), last, HOLD);
        Self { known, now: Instant::now(), index: 10 }
    }

    /// Lists `listed`, then tells of the instances of some.
    fn filled(listed: &[(&str, &[&str])]) -> Self {
        let mut play = Self::new(RegistryView::default());
        play.known.reconnected("found", play.now);
        play.hears(Target::Names, names(&listed.iter().map(|(name, _)| *name).collect::<Vec<_>>()));
        for (name, ids) in listed {
            play.says(name, ids);
        }
        play
    }

    fn event(&mut self, target: Target, asker: Asker, said: Said, doubt: Option<&'static str>) {
        self.index += 1;
        let told = Told { index: Some(self.index), ..Told::default() };
        let result = Ok(Heard { said, told, doubt });
        self.known.heard(Event { target, asker, result }, self.now);
    }

    fn hears(&mut self, target: Target, said: Said) {
        self.event(target, Asker::Watch, said, None);
    }

    fn says(&mut self, name: &str, ids: &[&str]) {
        let (target, said) = members(name, ids);
        self.hears(target, said);
    }

    fn fails(&mut self, target: Target, why: &str) {
        let result = Err(Failure::answer(why));
        self.known.heard(Event { target, asker: Asker::Watch, result }, self.now);
    }

    /// Services with the number of their instances; a suspect one with a question mark.
    fn view(&mut self) -> Vec<String> {
        self.known.doubts.settle(self.now);
        let view = self.known.view();
        let told = |service: &Arc<SourceService>| {
            let mark = if service.suspect.is_some() { "?" } else { "" };
            format!("{}{}{mark}", service.name, service.instances.len())
        };
        let mut all: Vec<String> = view.services.values().map(told).collect();
        all.sort();
        all
    }

    fn suspect(&mut self) -> bool {
        self.view();
        self.known.view().suspect.is_some()
    }
}

#[test]
fn an_undoubted_registry_is_believed_at_once_also_when_the_last_goes() {
    let mut play = Play::filled(&[("web", &["a", "b"]), ("db", &["x"])]);
    assert_eq!(play.view(), ["db1", "web2"]);
    assert!(!play.suspect(), "nothing was known before");
    play.says("web", &[]);
    assert_eq!(play.view(), ["db1"]);
    play.hears(Target::Names, names(&["web"]));
    assert_eq!(play.view(), [""; 0]);
}

#[test]
fn one_that_came_back_with_less_is_suspect_until_a_second_read_says_so_again() {
    let mut first = Play::filled(&[("web", &["a", "b"]), ("db", &["x"])]);
    let mut play = Play::new(first.known.view());
    play.known.reconnected("back", play.now);
    play.hears(Target::Names, names(&["db"]));
    assert_eq!(play.view(), ["db1", "web0?"]);
    assert!(play.known.services().contains("web"), "it is asked for still");
    play.says("web", &[]);
    play.says("db", &["x"]);
    assert_eq!(play.view(), ["db1", "web0?"]);
    assert!(play.suspect() && play.known.doubts.due(play.now).is_empty());
    play.now += HOLD;
    assert!(play.suspect(), "time alone proves nothing");
    assert_eq!(play.known.doubts.due(play.now), [Target::Names]);
    assert_eq!(play.known.doubts.due(play.now), [], "asked once");
    let failed = Err(Failure::answer("no leader"));
    play.known
        .heard(Event { target: Target::Names, asker: Asker::Confirm, result: failed }, play.now);
    play.now += Duration::from_secs(1);
    assert_eq!(play.known.doubts.due(play.now), [Target::Names], "and once more after a failure");
    play.event(Target::Names, Asker::Confirm, names(&["db"]), None);
    assert_eq!(play.view(), ["db1"]);
    assert!(!play.suspect());
    assert_eq!(play.known.take_dropped(), ["web".into()]);
}

#[test]
fn a_second_read_that_lists_it_again_reads_its_instances_too() {
    let mut first = Play::filled(&[("web", &["a", "b"])]);
    let mut play = Play::new(first.known.view());
    play.known.reconnected("back", play.now);
    play.hears(Target::Names, names(&[]));
    play.now += HOLD;
    assert_eq!(play.known.doubts.due(play.now), [Target::Names]);
    play.event(Target::Names, Asker::Confirm, names(&["web"]), None);
    assert_eq!(play.known.doubts.due(play.now), [Target::Service("web".into())]);
    let (target, said) = members("web", &["a"]);
    play.event(target, Asker::Confirm, said, None);
    assert_eq!(play.view(), ["web1"]);
    assert!(!play.suspect());
}

#[test]
fn a_suspicion_ends_early_when_all_was_read_and_nothing_is_lost() {
    let mut first = Play::filled(&[("web", &["a", "b"])]);
    let mut play = Play::new(first.known.view());
    play.known.reconnected("back", play.now);
    play.hears(Target::Names, names(&["web", "new"]));
    assert!(play.suspect());
    play.says("web", &["a", "b", "c"]);
    assert!(!play.suspect());
    play.says("web", &["a"]);
    assert_eq!(play.view(), ["web1"]);
}

#[test]
fn another_leader_makes_everything_suspect_for_the_whole_time() {
    let mut play = Play::filled(&[("web", &["a"])]);
    play.known.doubts.open("another leader", None, play.now);
    play.says("web", &["a"]);
    assert!(play.suspect());
    play.says("web", &[]);
    assert_eq!(play.view(), ["web0?"]);
    play.says("web", &["a"]);
    assert_eq!(play.view(), ["web1"], "it was there after all");
    play.now += HOLD;
    assert!(!play.suspect());
}

#[test]
fn one_doubted_answer_makes_one_service_suspect() {
    let mut play = Play::filled(&[("web", &["a", "b"]), ("db", &["x"])]);
    let (target, said) = members("web", &["b"]);
    play.event(target.clone(), Asker::Watch, said, Some("its index went backwards"));
    play.says("db", &[]);
    assert_eq!(play.view(), ["web1?"]);
    play.now += HOLD;
    assert_eq!(play.known.doubts.due(play.now), std::slice::from_ref(&target));
    let (_, said) = members("web", &["b"]);
    play.event(target, Asker::Confirm, said, None);
    assert_eq!(play.view(), ["web1"]);
}

#[test]
fn a_failure_changes_nothing_and_is_told_under_what_cannot_be_read() {
    let mut play = Play::filled(&[("web", &["a"]), ("db", &["x"])]);
    play.fails(Target::Service("web".into()), "403");
    assert_eq!(play.view(), ["db1", "web1"]);
    let view = play.known.view();
    assert_eq!(&*view.problems[0].place, "service web");
    assert!(view.problems[0].message.ends_with(": 403"));
    assert_eq!(play.known.failed(), None, "the rest can be read");
    play.fails(Target::Service("db".into()), "403");
    play.fails(Target::Names, "403");
    assert_eq!(play.known.failed().map(AsRef::as_ref), Some("403"));
    play.says("web", &["a"]);
    assert_eq!((play.known.failed(), play.known.failing()), (None, 2));
}

#[test]
fn a_service_beyond_the_limit_of_instances_keeps_those_it_had() {
    let mut play = Play::filled(&[("web", &["a", "b"]), ("db", &["x"])]);
    play.says("db", &["1", "2", "3", "4"]);
    assert_eq!(play.view(), ["db1", "web2"]);
    assert!(play.known.view().problems[0].message.contains("raise `max_instances`"));
    play.says("web", &["a"]);
    play.says("db", &["1", "2", "3", "4"]);
    assert_eq!(play.view(), ["db4", "web1"]);
}

#[test]
fn absence_is_a_fact_only_for_what_was_read() {
    let mut play = Play::new(RegistryView::default());
    assert!(!play.known.speaks());
    play.hears(Target::Names, names(&["web", "db"]));
    play.says("web", &["a"]);
    assert!(play.known.speaks());
    assert_eq!(*play.known.view().known, Wanted::Names(["web".into()].into()));
    play.says("db", &["a"]);
    assert_eq!(*play.known.view().known, Wanted::All);
    play.hears(Target::Names, names(&["web", "db", "new"]));
    assert_eq!(*play.known.view().known, Wanted::All, "a new one makes no other name doubtful");
}

#[test]
fn only_what_is_wanted_is_followed_and_kept() {
    let mut play = Play::filled(&[("web", &["a"]), ("db", &["x"])]);
    play.known.wants(Interest {
        services: Wanted::Names(["web".into(), "later".into()].into()),
        names: false,
        keys: ["app/".into(), "app/x/".into(), "b".into()].into(),
        nodes: false,
    });
    assert_eq!(play.view(), ["web1"]);
    assert!(!play.known.listing());
    assert_eq!(play.known.services().len(), 2);
    let prefixes: Vec<_> = play.known.prefixes().into_iter().collect();
    assert_eq!(prefixes, ["app/".into(), "b".into()], "one within another is not read twice");
    play.says("db", &["x"]);
    assert_eq!(play.view(), ["web1"], "late answers of what is not wanted count for nothing");
    assert_eq!(*play.known.view().known, Wanted::Names(["web".into()].into()));
}

#[test]
fn a_second_answer_that_was_overtaken_changes_nothing() {
    let mut play = Play::filled(&[("web", &["a", "b"])]);
    let (target, said) = members("web", &["a"]);
    play.index = 1;
    play.event(target, Asker::Turn, said, None);
    assert_eq!(play.view(), ["web2"]);
}

#[test]
fn keys_follow_their_prefix_and_what_is_equal_stays_the_same() {
    let key = |path: &str, value: &str| {
        let key = Key {
            path: path.into(),
            value: value.into(),
            flags: 0,
            create_index: 1,
            modify_index: 1,
            lock_index: 0,
            session: "".into(),
        };
        (Arc::from(path), Arc::new(key))
    };
    let said = |keys: Vec<(Arc<str>, Arc<Key>)>| {
        Said::Keys(Arc::new(Keys { keys: keys.into_iter().collect(), problems: Vec::new() }))
    };
    let mut play = Play::new(RegistryView::default());
    let keys = ["app/".into()].into();
    play.known.wants(Interest { keys, ..Interest::default() });
    let target = Target::Keys("app/".into());
    play.hears(target.clone(), said(vec![key("app/a", "1"), key("app/b", "2")]));
    let first = play.known.view();
    assert_eq!(first.keys.len(), 2);
    play.hears(target.clone(), said(vec![key("app/a", "1"), key("app/b", "2")]));
    assert!(play.known.view().keys.same(&first.keys));
    play.hears(target.clone(), said(vec![key("app/b", "3")]));
    let view = play.known.view();
    assert_eq!((view.keys.len(), &*view.keys.get("app/b").unwrap().value), (1, "3"));
    let many = (0..4).map(|n| key(&format!("app/{n}"), "x")).collect();
    play.hears(target, said(many));
    assert!(play.known.view().keys.same(&view.keys), "too many: those from before stay");
}
