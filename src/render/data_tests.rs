use super::super::{Resource, ResourceConfig};
use super::*;
use crate::catalog::model::{Address, Meta, Node, Port};
use crate::catalog::{Health, Key, Keys, Parts, Presence, RegistryStatus, Service, SourceService};
use crate::catalog::{Shards, Told, Wanted, Weight};

/// A snapshot that is put together by hand.
#[derive(Clone, Default)]
struct World {
    registries: Vec<RegistryStatus>,
    services: BTreeMap<String, Vec<Arc<Instance>>>,
    keys: Vec<(Arc<str>, Keys)>,
    told: Vec<Told>,
}

impl World {
    /// A registry that was heard and read whole.
    fn registry(mut self, name: &str, with: impl FnOnce(&mut RegistryStatus)) -> Self {
        let mut status =
            RegistryStatus { name: name.into(), heard: true, ..RegistryStatus::default() };
        with(&mut status);
        self.registries.push(status);
        let (services, nodes) = (Shards::default(), Shards::default());
        self.told.push(Told { registry: name.into(), services, nodes });
        self
    }

    fn service(mut self, name: &str, instances: &[Instance]) -> Self {
        self.services.insert(name.into(), instances.iter().cloned().map(Arc::new).collect());
        self
    }

    fn key(mut self, registry: &str, path: &str, value: &str) -> Self {
        if self.keys.iter().all(|(name, _)| **name != *registry) {
            self.keys.push((registry.into(), Keys::default()));
        }
        let (_, keys) = self.keys.iter_mut().find(|(name, _)| **name == *registry).unwrap();
        keys.insert(path.into(), Arc::new(key(path, value)));
        self
    }

    fn snapshot(&self, generation: u64) -> Arc<Snapshot> {
        let service = |(name, instances): (&String, &Vec<Arc<Instance>>)| {
            let service = Service {
                name: name.as_str().into(),
                tags: instances.iter().flat_map(|i| i.tags.iter().cloned()).collect(),
                meta: Arc::default(),
                eligible: instances.clone().into(),
                instances: instances.clone().into(),
                problems: Arc::new([]),
            };
            (Arc::from(name.as_str()), Arc::new(service))
        };
        Arc::new(Snapshot {
            generation,
            services: self.services.iter().map(service).collect(),
            registries: self.registries.clone().into(),
            keys: self.keys.clone(),
            told: self.told.clone(),
            ..Snapshot::default()
        })
    }
}

fn key(path: &str, value: &str) -> Key {
    let (path, value, session) = (path.into(), value.into(), "".into());
    Key { path, value, flags: 0, create_index: 1, modify_index: 1, lock_index: 0, session }
}

fn instance(node: &str, id: &str) -> Instance {
    Instance {
        ports: Arc::new([Port { name: "".into(), number: 80 }]),
        node: Some(Node { name: node.into(), address: None, meta: Meta::new() }),
        health: Health::Healthy,
        ..Instance::bare("dc1", id, Address::Ip([10, 0, 0, 1].into()))
    }
}

fn heard() -> World {
    World::default().registry("dc1", |status| status.datacenter = Some("dc1".into()))
}

fn resource(text: &str, with: impl FnOnce(&mut ResourceConfig)) -> Resource {
    let mut config = ResourceConfig::new("".into(), "out".into());
    (config.source, config.contents) = (None, Some(text.into()));
    with(&mut config);
    Resource::load("t", &config, std::path::Path::new("/nowhere")).unwrap()
}

/// What `text` asks for in `world`, and what it gives.
fn rendered(world: &World, text: &str) -> (Asked, Result<String, String>) {
    let evaluation = resource(text, |_| {}).evaluate(&world.snapshot(1));
    let output = evaluation.output.map(|bytes| String::from_utf8(bytes).unwrap());
    (evaluation.asked, output.map_err(|error| error.to_string()))
}

#[test]
fn instances_are_told_by_state_and_sorted_by_node_and_id() {
    let down = Instance { health: Health::Unhealthy, ..instance("n1", "z") };
    let warned = Instance { health: Health::Warning, ..instance("n1", "w") };
    let drained = Instance { presence: Presence::Draining, ..instance("n1", "d") };
    let trusted = Instance { health: Health::Unknown, ..instance("n2", "a") };
    let meta = Meta::from([("consul.id".into(), "real id".into())]);
    let named = Instance { meta, ..instance("n1", "n1/real%20id") };
    let world = heard().service("web", &[trusted, down, warned, drained, named]);
    for (query, want) in [
        ("\"web\"", "real id a "),
        ("\"web|any\"", "d real id w z a "),
        ("\"web|critical,warning\"", "w z "),
        ("\"web|maintenance\"", "d "),
        ("\"web~n2\"", "a real id "),
        ("\"web@dc1\"", "real id a "),
    ] {
        let text = format!("{{{{range service {query}}}}}{{{{.ID}}}} {{{{end}}}}");
        assert_eq!(rendered(&world, &text).1.as_deref(), Ok(want), "{query}");
    }
}

#[test]
fn only_what_a_template_sees_makes_a_difference() {
    let text = "{{range service \"web\"}}{{.ID}}{{end}}";
    let before = heard().service("web", &[instance("n1", "a")]).service("db", &[]);
    let (asked, _) = rendered(&before, text);
    let differs = |with: &dyn Fn(&mut Instance)| {
        let mut changed = instance("n1", "a");
        with(&mut changed);
        let now = before.clone().service("web", &[changed]);
        asked.differs(&before.snapshot(1), &now.snapshot(2))
    };
    assert!(!differs(&|i| i.cause = "a check says 12 ms".into()));
    assert!(!differs(&|i| i.health = Health::Unknown), "both pass");
    assert!(!differs(&|i| i.locality = Some("eu".into())));
    assert!(differs(&|i| i.health = Health::Warning));
    assert!(differs(&|i| i.weight = Weight::try_from(2).unwrap()));
    assert!(differs(&|i| i.tags = Arc::new(["a".into()])));
    assert!(differs(&|i| i.presence = Presence::Leaving));
    let ill = Instance { health: Health::Unhealthy, ..instance("n1", "b") };
    let one_more = before.clone().service("web", &[instance("n1", "a"), ill]);
    assert!(!asked.differs(&before.snapshot(1), &one_more.snapshot(2)), "only passing are asked");
    let other = before.clone().service("db", &[instance("n1", "a")]);
    assert!(!asked.differs(&before.snapshot(1), &other.snapshot(2)));
}

#[test]
fn keys_make_a_difference_by_what_was_asked_of_them() {
    let before = heard().key("dc1", "app/a", "1").key("dc1", "app/b", "2").key("dc1", "x", "3");
    let changed = |path: &str, value: &str| before.clone().key("dc1", path, value).snapshot(2);
    let index = || {
        let mut world = before.clone();
        let touched = Key { modify_index: 9, ..key("app/a", "1") };
        world.keys[0].1.insert("app/a".into(), Arc::new(touched));
        world.snapshot(2)
    };
    for (text, by_a, by_x, by_index, by_new) in [
        ("{{key \"app/a\"}}", true, false, false, false),
        ("{{keyOrDefault \"app/new\" \"\"}}", false, false, false, true),
        ("{{range tree \"app\"}}{{.Key}}{{end}}", true, false, true, true),
        ("{{range ls \"x\"}}{{.Key}}{{end}}", false, true, false, false),
    ] {
        let (asked, _) = rendered(&before, text);
        let from = before.snapshot(1);
        assert_eq!(asked.differs(&from, &changed("app/a", "other")), by_a, "{text}");
        assert_eq!(asked.differs(&from, &changed("x", "other")), by_x, "{text}");
        assert_eq!(asked.differs(&from, &index()), by_index, "{text}: rewritten");
        assert_eq!(asked.differs(&from, &changed("app/new", "n")), by_new, "{text}: a new one");
    }
    let confd = resource("{{getv \"/a\"}}", |config| {
        config.dialect = Some(super::super::Language::Confd);
        (config.prefix, config.keys) = (Some("/app".into()), vec!["/".into()]);
    });
    let from = before.snapshot(1);
    let Ok(output) = confd.evaluate(&from).output else { panic!("a key is missing") };
    assert_eq!(output, b"1");
    let asked = confd.evaluate(&from).asked;
    assert!(asked.differs(&from, &changed("app/b", "other")) && !asked.differs(&from, &index()));
    assert!(!asked.differs(&from, &changed("x", "other")));
    assert_eq!(asked.want().everywhere.keys, ["app".into()].into());
}

#[test]
fn what_may_be_there_without_our_knowing_is_waited_for_and_wanted() {
    let unread = Parts { names: false, nodes: false, keys: Some(["app/".into()].into()) };
    let world = World::default().registry("dc1", |status| {
        status.known = Arc::new(Wanted::Names(["known".into()].into()));
        status.parts = Arc::new(unread);
    });
    // Listed, so that its name is known; its instances are not.
    let world = world.service("bare", &[]);
    for (text, waits) in [
        ("{{service \"known\"}}", None),
        ("{{service \"bare\"}}", Some("dc1")),
        ("{{service \"other\"}}", Some("dc1")),
        ("{{services}}", Some("dc1")),
        ("{{nodes}}", Some("dc1")),
        ("{{node \"n1\"}}", Some("dc1")),
        ("{{datacenters}}", Some("dc1")),
        ("{{service \"known@dc7\"}}", Some("dc1")),
        ("{{keyOrDefault \"app/a\" \"-\"}}", None),
        ("{{keyExists \"other\"}}", Some("dc1")),
        ("{{key \"app/a\"}}", Some("key \"app/a\"")),
        ("{{ls \"app/\"}}", None),
        ("{{safeLs \"app/\"}}", Some("a key below \"app/\"")),
        ("{{tree \"app\"}}", Some("dc1")),
    ] {
        let (asked, _) = rendered(&world, text);
        assert_eq!(asked.waits_for().map(|word| &**word), waits, "{text}");
    }
    let wanted = |text: &str| rendered(&world, text).0.want().clone();
    assert!(wanted("{{service \"other\"}}").everywhere.wants("other"));
    assert!(wanted("{{services}}").everywhere.names);
    assert!(wanted("{{key \"a/b\"}}").everywhere.keys.contains("a/b"));
    let by_nodes = wanted("{{service \"web@dc7\"}}");
    assert!(by_nodes.of["dc1"].nodes, "the list of nodes tells the datacenter");
    assert!(!by_nodes.everywhere.wants("web"));
    let mut named = world.clone();
    named.registries[0].datacenter = Some("dc7".into());
    let (asked, _) = rendered(&world, "{{service \"web@dc7\"}}");
    assert!(asked.differs(&world.snapshot(1), &named.snapshot(2)), "it can be asked now");
    let (asked, _) = rendered(&named, "{{service \"web@dc7\"}}");
    assert!(asked.want().of["dc1"].wants("web"));
}

#[test]
fn all_that_is_missing_must_be_known_before_another_look_is_worth_it() {
    let knowing = |names: &[&str]| {
        let known: BTreeSet<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        World::default()
            .registry("dc1", |status| status.known = Arc::new(Wanted::Names(known)))
            .snapshot(1)
    };
    let text = "{{service \"a\"}}{{service \"b\"}}{{keyExists \"k\"}}";
    let world = World::default()
        .registry("dc1", |status| status.known = Arc::new(Wanted::Names(BTreeSet::new())));
    let (asked, _) = rendered(&world, text);
    let before = world.snapshot(1);
    assert!(!asked.differs(&before, &knowing(&[])));
    assert!(!asked.differs(&before, &knowing(&["a"])));
    assert!(asked.differs(&before, &knowing(&["a", "b"])));
}

#[test]
fn a_template_of_one_registry_sees_that_one_alone() {
    let of = |registry: &str, id: &str| Instance { registry: registry.into(), ..instance("n", id) };
    let mut world = World::default()
        .registry("one", |status| status.datacenter = Some("dc1".into()))
        .registry("two", |status| status.datacenter = Some("dc2".into()))
        .service("web", &[of("one", "a"), of("two", "b")])
        .service("mail", &[of("one", "m")])
        .key("one", "k", "1")
        .key("two", "k", "2");
    let service = SourceService {
        name: "web".into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: vec![Arc::new(of("two", "b"))],
        problems: Vec::new(),
        suspect: None,
    };
    world.told[1].services.insert("web".into(), Arc::new(service));
    let text =
        "{{range service \"web\"}}{{.ID}}{{end}} {{range services}}{{.Name}} {{end}}{{key \"k\"}}";
    let two = resource(text, |config| config.registry = Some("two".into()));
    let evaluation = two.evaluate(&world.snapshot(1));
    assert_eq!(evaluation.output.unwrap(), b"b web 2");
    assert!(evaluation.asked.want().of["two"].wants("web"));
    assert_eq!(evaluation.asked.want().everywhere, Interest::default());
    assert_eq!(rendered(&world, text).1.as_deref(), Ok("ab mail web 1"));
    let there = "{{range service \"web@dc2\"}}{{.ID}}{{end}}{{key \"k@dc2\"}}{{datacenters}}";
    assert_eq!(rendered(&world, there).1.as_deref(), Ok("b2[dc1 dc2]"));
    let error = rendered(&world, "\n{{service \"web@dc3\"}}").1.unwrap_err();
    assert!(error.starts_with("[template.t].contents:2:2: executing"), "{error}");
    assert!(error.contains("add a [registry.dc3.consul] with `datacenter = \"dc3\"`"), "{error}");
}

#[test]
fn a_silent_registry_is_told_by_stale_and_what_was_asked_is_told_in_words() {
    let world = heard().service("web", &[instance("n1", "a")]);
    let text = "{{stale}} {{generation}}{{service \"web\" | len}}{{keyOrDefault \"a/b\" \"\"}}";
    let (asked, output) = rendered(&world, text);
    assert_eq!(output.as_deref(), Ok("false 11"));
    assert_eq!(asked.inputs(), ["service \"web\"", "key \"a/b\"", "generation", "stale"]);
    let mut silent = world.clone();
    silent.registries[0].stale = Some(crate::catalog::snapshot::Staleness {
        since: std::time::SystemTime::UNIX_EPOCH,
        why: "gone".into(),
    });
    assert_eq!(rendered(&silent, "{{stale}}").1.as_deref(), Ok("true"));
    let (asked, _) = rendered(&world, "{{stale}}");
    assert!(asked.differs(&world.snapshot(1), &silent.snapshot(1)));
    assert!(!asked.differs(&world.snapshot(1), &world.snapshot(2)));
}
