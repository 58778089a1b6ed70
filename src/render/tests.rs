use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::catalog::model::{Address, Health, Instance, Meta, Node, Port, Presence, Weight};
use crate::catalog::{RegistryStatus, Service};
use crate::lifecycle::Lifecycle;
use crate::units::{Period, Size};

fn instance(id: &str, last: u8, health: Health) -> Arc<Instance> {
    Arc::new(Instance {
        id: id.into(),
        registry: "local".into(),
        address: Address::parse(&format!("10.0.0.{last}")).unwrap(),
        ports: Arc::new([
            Port { name: "http".into(), number: 80 },
            Port { name: "metrics".into(), number: 90 },
        ]),
        tags: Arc::new(["v1".into(), "prod".into()]),
        meta: Meta::from([("team".into(), "shop".into())]),
        weight: Weight::ONE,
        group: None,
        locality: Some("eu".into()),
        node: Some(Node { name: "n1".into(), address: None, meta: Meta::new() }),
        health,
        cause: "".into(),
        presence: Presence::Active,
    })
}

/// The snapshot in which each service has one instance for each of the given last bytes.
fn snapshot(generation: u64, before: &Snapshot, changed: &[(&str, &[u8])]) -> Arc<Snapshot> {
    let mut services = before.services.clone();
    for (name, last) in changed {
        let up = last.iter().map(|n| instance(&format!("{name}-{n}"), *n, Health::Healthy));
        let eligible: Arc<[_]> = up.collect();
        let mut all = eligible.to_vec();
        all.push(instance("down", 250, Health::Unhealthy));
        let service = Service {
            name: (*name).into(),
            tags: Arc::new([]),
            meta: Arc::default(),
            instances: all.into(),
            eligible,
            problems: Arc::new([]),
        };
        services.insert((*name).into(), Arc::new(service));
    }
    Arc::new(Snapshot {
        generation,
        services,
        registries: Arc::clone(&before.registries),
        ..Snapshot::default()
    })
}

struct Stage {
    dir: tempfile::TempDir,
    resources: Vec<Resource>,
    groups: BTreeMap<String, GroupConfig>,
}

impl Stage {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), resources: Vec::new(), groups: BTreeMap::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn load(
        &self,
        text: &str,
        with: impl FnOnce(&mut ResourceConfig),
    ) -> Result<Resource, RenderError> {
        let number = self.resources.len();
        let source = PathBuf::from(format!("t{number}.j2"));
        fs::write(self.path(&format!("t{number}.j2")), text).unwrap();
        let mut config = ResourceConfig::new(source, PathBuf::from(format!("out{number}.cfg")));
        with(&mut config);
        Resource::load(&format!("r{number}"), &config, self.dir.path())
    }

    fn add(&mut self, text: &str, with: impl FnOnce(&mut ResourceConfig)) {
        let resource = self.load(text, with).unwrap();
        self.resources.push(resource);
    }

    async fn start(&mut self, first: Arc<Snapshot>) -> Running {
        let (sender, snapshots) = watch::channel(first);
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let lifecycle = Lifecycle::new();
        let resources = std::mem::take(&mut self.resources);
        let around = Surroundings {
            snapshots,
            phases: lifecycle.phases(),
            metrics,
            wants: Wants::default(),
            data_dir: Some(self.path("data")),
        };
        let renderer = Renderer::start(resources, &self.groups, around).await;
        Running { renderer, sender, _lifecycle: lifecycle }
    }
}

struct Running {
    renderer: Renderer,
    sender: watch::Sender<Arc<Snapshot>>,
    _lifecycle: Lifecycle,
}

impl Running {
    async fn applied(&self, generation: u64) {
        let applied = self.renderer.applied(generation);
        let applied = tokio::time::timeout(Duration::from_secs(10), applied).await;
        applied
            .unwrap_or_else(|_| panic!("never applied {generation}: {:?}", self.renderer.status()));
    }

    async fn until(&self, fact: impl Fn(&ResourceStatus) -> bool) -> ResourceStatus {
        let mut status = self.renderer.statuses()["r0"].clone();
        let found =
            tokio::time::timeout(Duration::from_secs(10), status.wait_for(|s| fact(s))).await;
        found.unwrap_or_else(|_| panic!("never: {:?}", self.renderer.status())).unwrap().clone()
    }
}

fn text(evaluation: Evaluation) -> Result<String, String> {
    evaluation.output.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|e| e.to_string())
}

#[test]
fn a_template_sees_instances_with_all_their_fields_and_keeps_its_last_newline() {
    let stage = Stage::new();
    let now = snapshot(42, &Snapshot::default(), &[("web", &[1, 2]), ("db", &[3])]);
    for (case, template, want) in [
        (
            "loop",
            "{% for i in service(\"web\") %}{{ i.address }}:{{ i.port }}\n{% endfor %}",
            "10.0.0.1:80\n10.0.0.2:80\n",
        ),
        (
            "all with health",
            "{% for i in instances(\"db\") %}{{ i.id }}={{ i.health }} {% endfor %}",
            "db-3=healthy down=unhealthy ",
        ),
        ("names", "{{ services() | join(\",\") }}", "db,web"),
        ("generation", "{{ generation() }}", "42"),
        (
            "absent service",
            "[{% for i in service(\"gone\") %}x{% else %}none{% endfor %}]",
            "[none]",
        ),
        ("named port", "{{ service(\"db\")[0].ports.metrics }}", "90"),
        (
            "tags and meta",
            "{% set i = service(\"db\") | first %}{{ i.tags | join(\"+\") }} {{ i.meta.team }} {{ \"v1\" in i.tags }}",
            "v1+prod shop True",
        ),
        (
            "node, locality, weight",
            "{% set i = service(\"db\")[0] %}{{ i.node.name }} {{ i.locality }} {{ i.weight }} {{ i.presence }} {{ i.service }}",
            "n1 eu 1 active db",
        ),
        ("length", "{{ service(\"web\") | length }}", "2"),
        (
            "filters",
            "{{ service(\"web\") | map(attribute=\"address\") | join(\" \") }}",
            "10.0.0.1 10.0.0.2",
        ),
        ("json", "{{ service(\"db\")[0].meta | tojson }}", "{\"team\": \"shop\"}"),
        ("macro", "{% macro m(n) %}{{ service(n) | length }}{% endmacro %}{{ m(\"web\") }}", "2"),
        ("no escaping", "{{ \"<&>\" }}\n", "<&>\n"),
        ("default", "{{ service(\"db\")[0].meta.gone | default(\"-\") }}", "-"),
    ] {
        let resource = stage.load(template, |_| {}).unwrap();
        assert_eq!(text(resource.evaluate(&now)).as_deref(), Ok(want), "{case}");
    }
}

#[test]
fn mistakes_in_templates_are_told_with_file_line_and_column() {
    let stage = Stage::new();
    let now = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let syntax = stage.load("a\n{% for i in %}\n", |_| {}).unwrap_err().to_string();
    assert!(syntax.contains("t0.j2:2:"), "{syntax}");
    for (case, template, place, word) in [
        ("misspelt field", "a\n  {{ service(\"web\")[0].adress }}", "t0.j2:2:", "undefined"),
        ("unknown function", "{{ servcie(\"web\") }}", "t0.j2:1:", "servcie"),
        ("wrong argument", "{{ service(5) }}", "t0.j2:1:", "string"),
        (
            "endless",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "t0.j2: ",
            "`steps_max`",
        ),
        (
            "large",
            "{% for i in range(2000) %}0123456789{% endfor %}",
            "t0.j2: ",
            "`output_max` = \"16KiB\"",
        ),
    ] {
        let limit = |config: &mut ResourceConfig| {
            config.output_max = Size(16 << 10);
            config.steps_max = 100_000;
        };
        let error = text(stage.load(template, limit).unwrap().evaluate(&now)).unwrap_err();
        assert!(error.contains(place) && error.contains(word), "{case}: {error}");
    }
    let go = |config: &mut ResourceConfig| config.source = Some(PathBuf::from("a.tmpl"));
    fs::write(stage.path("a.tmpl"), "\n{{ range service \"web\" }}").unwrap();
    let error = stage.load("", go).unwrap_err().to_string();
    assert!(error.ends_with("a.tmpl:2: unexpected EOF"), "{error}");
}

#[test]
fn an_evaluation_tells_what_it_asked_for_and_differs_only_by_that() {
    let stage = Stage::new();
    let before = snapshot(1, &Snapshot::default(), &[("web", &[1]), ("db", &[1])]);
    let of = |template: &str| stage.load(template, |_| {}).unwrap().evaluate(&before).asked;
    let other = snapshot(2, &before, &[("db", &[2])]);
    let same = snapshot(2, &before, &[("web", &[2])]);
    let new = snapshot(2, &before, &[("new", &[2])]);
    let one = of("{{ service(\"web\") }}");
    assert!(!one.differs(&before, &other) && one.differs(&before, &same));
    let names = of("{{ services() }}");
    assert!(!names.differs(&before, &same) && names.differs(&before, &new));
    let absent = of("{{ service(\"new\") }}");
    assert!(!absent.differs(&before, &same) && absent.differs(&before, &new));
    assert!(of("{{ generation() }}").differs(&before, &other));
}

#[tokio::test]
async fn a_file_follows_its_service_and_an_unrelated_change_writes_and_reloads_nothing() {
    let mut stage = Stage::new();
    let log = stage.path("log");
    stage.add("{% for i in service(\"web\") %}{{ i.address }}\n{% endfor %}", |config| {
        config.check = Some("grep -q 10.0 {{.src}}".into());
        config.reload = Some(format!("echo reload >> {}", log.display()).into());
    });
    let first = snapshot(1, &Snapshot::default(), &[("web", &[1]), ("db", &[1])]);
    let running = stage.start(Arc::new(Snapshot::default())).await;
    running.sender.send_replace(Arc::clone(&first));
    running.applied(1).await;
    assert_eq!(stage.read("out0.cfg"), "10.0.0.1\n");
    running.until(|s| s.reload.as_ref().is_some_and(|r| !r.due && r.error.is_none())).await;
    let unrelated = snapshot(2, &first, &[("db", &[2])]);
    running.sender.send_replace(Arc::clone(&unrelated));
    running.applied(2).await;
    let changed = snapshot(3, &unrelated, &[("web", &[1, 2])]);
    running.sender.send_replace(changed);
    running.applied(3).await;
    assert_eq!(stage.read("out0.cfg"), "10.0.0.1\n10.0.0.2\n");
    running.until(|s| s.reload.as_ref().is_some_and(|r| !r.due)).await;
    assert_eq!(stage.read("log"), "reload\nreload\n");
}

#[tokio::test]
async fn a_failed_check_keeps_the_old_file_and_tells_why_until_a_change_passes() {
    let mut stage = Stage::new();
    stage.add("{% for i in service(\"web\") %}{{ i.address }}\n{% endfor %}", |config| {
        config.check = Some("if grep -q 0.66 {{ src }}; then echo no 66 >&2; exit 4; fi".into());
    });
    let first = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let running = stage.start(Arc::clone(&first)).await;
    running.applied(1).await;
    let bad = snapshot(2, &first, &[("web", &[66])]);
    running.sender.send_replace(Arc::clone(&bad));
    let status = running.until(|status| status.error.is_some()).await;
    assert_eq!(status.generation, 1);
    let error = status.error.unwrap();
    assert!(error.contains("[template.r0] failed with exit status: 4: no 66;"), "{error}");
    assert_eq!(stage.read("out0.cfg"), "10.0.0.1\n");
    assert_eq!(stage.read(".out0.rejected.cfg"), "10.0.0.66\n");
    running.sender.send_replace(snapshot(3, &bad, &[("web", &[7])]));
    running.applied(3).await;
    assert_eq!(stage.read("out0.cfg"), "10.0.0.7\n");
    assert_eq!(running.renderer.status()[0].error, None);
}

#[tokio::test]
async fn a_template_that_fails_stops_no_other_and_recovers_with_its_service() {
    let mut stage = Stage::new();
    stage.add("{{ service(\"web\")[1].address }}", |_| {});
    stage.add("{{ service(\"web\")[0].address }}", |_| {});
    let first = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let running = stage.start(Arc::clone(&first)).await;
    running.until(|status| status.error.as_ref().is_some_and(|e| e.contains("t0.j2:1:"))).await;
    let mut second = running.renderer.statuses()["r1"].clone();
    second.wait_for(|status| status.generation == 1).await.unwrap();
    assert_eq!(stage.read("out1.cfg"), "10.0.0.1");
    running.sender.send_replace(snapshot(2, &first, &[("web", &[1, 2])]));
    running.applied(2).await;
    assert_eq!(stage.read("out0.cfg"), "10.0.0.2");
}

#[tokio::test]
async fn a_reload_that_fails_is_repeated_until_it_succeeds() {
    let mut stage = Stage::new();
    let (tried, ready) = (stage.path("tried"), stage.path("ready"));
    stage.add("{{ service(\"web\")[0].address }}", |config| {
        let (tried, ready) = (tried.display(), ready.display());
        config.reload = Some(format!("echo . >> {tried}; test -e {ready} || exit 1").into());
    });
    let running = stage.start(snapshot(1, &Snapshot::default(), &[("web", &[1])])).await;
    let status = running.until(|s| s.reload.as_ref().is_some_and(|r| r.error.is_some())).await;
    assert_eq!(status.generation, 1, "the file itself is there");
    assert!(status.reload.unwrap().due);
    fs::write(&ready, "").unwrap();
    running.until(|s| s.reload.as_ref().is_some_and(|r| !r.due && r.error.is_none())).await;
    assert!(stage.read("tried").lines().count() >= 2);
}

#[tokio::test]
async fn a_file_that_says_the_same_already_is_neither_written_nor_reloaded() {
    let mut stage = Stage::new();
    stage.add("{{ service(\"web\")[0].address }}", |config| {
        config.reload = Some("exit 1".into());
    });
    fs::write(stage.path("out0.cfg"), "10.0.0.1").unwrap();
    let running = stage.start(snapshot(1, &Snapshot::default(), &[("web", &[1])])).await;
    running.applied(1).await;
    let status = &running.renderer.status()[0];
    assert_eq!((&status.written_at, &status.reload), (&None, &None));
}

#[tokio::test]
async fn what_may_be_missing_only_because_a_registry_is_silent_is_not_rendered() {
    let mut stage = Stage::new();
    stage.add("{{ service(\"web\") | length }}", |_| {});
    fs::write(stage.path("out0.cfg"), "3").unwrap();
    let registry = |heard| RegistryStatus {
        name: "dc1".into(),
        heard,
        stale: None,
        services: 0,
        problems: Arc::new([]),
        ..RegistryStatus::default()
    };
    let silent =
        Snapshot { generation: 1, registries: Arc::new([registry(false)]), ..Snapshot::default() };
    let running = stage.start(Arc::new(silent.clone())).await;
    let status = running.until(|status| status.waiting_for.is_some()).await;
    assert_eq!(status.waiting_for.as_deref(), Some("dc1"));
    assert_eq!(stage.read("out0.cfg"), "3");
    let heard = Snapshot { generation: 2, registries: Arc::new([registry(true)]), ..silent };
    running.sender.send_replace(Arc::new(heard));
    running.applied(2).await;
    assert_eq!(stage.read("out0.cfg"), "0");
}

#[tokio::test]
async fn changes_in_a_row_are_gathered_for_the_stated_wait() {
    let mut stage = Stage::new();
    let log = stage.path("log");
    stage.add("{{ service(\"web\") | length }}", |config| {
        config.wait = Wait { min: Period::from_millis(600), max: None };
        config.reload = Some(format!("echo reload >> {}", log.display()).into());
    });
    let mut now = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let running = stage.start(Arc::clone(&now)).await;
    running.until(|s| s.reload.as_ref().is_some_and(|r| !r.due)).await;
    for (generation, last) in [(2, &[1, 2][..]), (3, &[1, 2, 3]), (4, &[1, 2, 3, 4])] {
        now = snapshot(generation, &now, &[("web", last)]);
        running.sender.send_replace(Arc::clone(&now));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.until(|s| s.generation == 4 && s.reload.as_ref().is_some_and(|r| !r.due)).await;
    assert_eq!(stage.read("out0.cfg"), "4");
    assert_eq!(stage.read("log"), "reload\nreload\n");
}

#[test]
fn permissions_are_written_in_octal() {
    for (case, text, want) in [
        ("plain", "0644", Some(0o644)),
        ("three digits", "600", Some(0o600)),
        ("not octal", "0888", None),
        ("a sign", "+644", None),
        ("too much", "07777", None),
        ("empty", "", None),
    ] {
        assert_eq!(text.parse::<Mode>().ok().map(|mode| mode.0), want, "{case}");
    }
}

/// Three templates of one group, each showing one line of `web`; the check of the last can refuse.
fn group_of_three(stage: &mut Stage, roll_back: bool, reload: &str) {
    let reload = reload.replace("DIR", &stage.dir.path().display().to_string());
    for number in 0..3 {
        stage.add("{{ service(\"web\") | length }}", |config| {
            config.group = Some("edge".into());
            config.reload = Some(reload.clone().into());
            if number == 2 {
                config.check = Some("! grep -q 2 {{.src}}".into());
            }
        });
    }
    stage.groups.insert("edge".into(), GroupConfig { roll_back });
}

impl Stage {
    fn files(&self) -> [String; 3] {
        ["out0.cfg", "out1.cfg", "out2.cfg"].map(|name| self.read(name))
    }

    /// Files in its directory that were staged or kept aside for a while.
    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("staged") || name.contains("before")).collect()
    }
}

fn reloaded(status: &ResourceStatus) -> bool {
    status.reload.as_ref().is_some_and(|reload| !reload.due && reload.error.is_none())
}

#[tokio::test]
async fn a_group_changes_all_its_files_or_none_with_one_reload() {
    let mut stage = Stage::new();
    group_of_three(&mut stage, false, "echo reload >> DIR/log");
    let first = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let running = stage.start(Arc::clone(&first)).await;
    running.applied(1).await;
    running.until(reloaded).await;
    assert_eq!(
        (stage.files(), &*stage.read("log")),
        (["1", "1", "1"].map(String::from), "reload\n")
    );
    let second = snapshot(2, &first, &[("web", &[1, 2])]);
    running.sender.send_replace(Arc::clone(&second));
    let status = running.until(|status| status.error.is_some()).await;
    let error = "it changes together with [template.r2], which cannot";
    assert_eq!((status.error.as_deref(), status.generation), (Some(error), 1));
    let guilty = running.renderer.status()[2].clone();
    assert!(guilty.error.unwrap().contains("the check of [template.r2] failed"));
    let check = guilty.check.unwrap();
    assert!(!check.passed && check.output.starts_with("failed with"), "{check:?}");
    assert_eq!(stage.files(), ["1", "1", "1"].map(String::from));
    running.sender.send_replace(snapshot(3, &second, &[("web", &[1, 2, 3])]));
    running.applied(3).await;
    running.until(reloaded).await;
    assert_eq!(stage.files(), ["3", "3", "3"].map(String::from));
    assert_eq!(stage.read("log"), "reload\nreload\n");
    assert_eq!(stage.left(), [""; 0]);
}

#[tokio::test]
async fn a_group_that_rolls_back_has_its_old_files_after_a_failed_reload_and_its_reader_too() {
    let mut stage = Stage::new();
    group_of_three(&mut stage, true, "cat DIR/out?.cfg >> DIR/log; ! grep -q 3 DIR/out0.cfg");
    let first = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let running = stage.start(Arc::clone(&first)).await;
    running.until(reloaded).await;
    let second = snapshot(2, &first, &[("web", &[1, 2, 3])]);
    running.sender.send_replace(Arc::clone(&second));
    let status = running.until(|s| s.error.is_some() && reloaded(s)).await;
    let error = status.error.unwrap();
    assert!(error.contains("all old files of the group are back"), "{error}");
    assert_eq!(stage.files(), ["1", "1", "1"].map(String::from));
    assert_eq!(stage.read("log"), "111333111", "the reader has seen the old ones again");
    running.sender.send_replace(snapshot(3, &second, &[("web", &[1, 2, 3, 4])]));
    running.until(|s| s.generation == 3 && reloaded(s)).await;
    assert_eq!(stage.files(), ["4", "4", "4"].map(String::from));
    assert_eq!(stage.left(), [""; 0]);
}

#[tokio::test]
async fn a_reload_that_many_templates_share_runs_once_for_a_generation() {
    let mut stage = Stage::new();
    let log = stage.path("log");
    for _ in 0..20 {
        stage.add("{{ service(\"web\") | length }}", |config| {
            config.reload = Some(format!("echo reload >> {}", log.display()).into());
        });
    }
    let mut now = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let running = stage.start(Arc::clone(&now)).await;
    for (generation, last) in [(2, &[1, 2][..]), (3, &[1, 2, 3])] {
        for (_, mut status) in running.renderer.statuses() {
            status.wait_for(reloaded).await.unwrap();
        }
        now = snapshot(generation, &now, &[("web", last)]);
        running.sender.send_replace(Arc::clone(&now));
        running.applied(generation).await;
    }
    for (_, mut status) in running.renderer.statuses() {
        status.wait_for(reloaded).await.unwrap();
    }
    assert_eq!(stage.read("log"), "reload\n".repeat(3));
}

#[tokio::test]
async fn a_mode_that_is_wrong_is_corrected_without_a_reload() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut stage = Stage::new();
    stage.add("{{ service(\"web\") | length }}", |config| {
        config.mode = Some(Mode(0o600));
        config.reload = Some("exit 1".into());
    });
    fs::write(stage.path("out0.cfg"), "1").unwrap();
    fs::set_permissions(stage.path("out0.cfg"), fs::Permissions::from_mode(0o644)).unwrap();
    let running = stage.start(snapshot(1, &Snapshot::default(), &[("web", &[1])])).await;
    running.applied(1).await;
    let mode = fs::metadata(stage.path("out0.cfg")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = &running.renderer.status()[0];
    assert_eq!((&status.written_at, &status.reload), (&None, &None));
}

#[tokio::test]
async fn an_output_of_another_format_is_kept_aside_and_the_old_file_stays() {
    let mut stage = Stage::new();
    stage.add("{% if service(\"web\") | length > 1 %}[{% endif %}{}", |config| {
        config.output_format = Some(OutputFormat::Json);
    });
    let first = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let running = stage.start(Arc::clone(&first)).await;
    running.applied(1).await;
    running.sender.send_replace(snapshot(2, &first, &[("web", &[1, 2])]));
    let status = running.until(|status| status.error.is_some()).await;
    let error = status.error.unwrap();
    assert!(error.starts_with("[template.r0]: the output is no JSON: "), "{error}");
    assert_eq!((&*stage.read("out0.cfg"), &*stage.read(".out0.rejected.cfg")), ("{}", "[{}"));
}

#[tokio::test]
async fn what_is_owed_when_it_ends_is_run_by_the_next_one_and_files_on_their_way_arrive() {
    let mut stage = Stage::new();
    let (log, ready) = (stage.path("log"), stage.path("ready"));
    let text = "{{ service(\"web\") | length }}";
    let reload = format!("echo . >> {}; test -e {}", log.display(), ready.display());
    let with = |config: &mut ResourceConfig| config.reload = Some(reload.clone().into());
    stage.add(text, with);
    let first = snapshot(1, &Snapshot::default(), &[("web", &[1])]);
    let running = stage.start(Arc::clone(&first)).await;
    running.until(|s| s.reload.as_ref().is_some_and(|r| r.error.is_some())).await;
    drop(running);
    fs::write(&ready, "").unwrap();
    let before = stage.read("log").lines().count();
    let config = {
        let mut config = ResourceConfig::new("t0.j2".into(), "out0.cfg".into());
        with(&mut config);
        config
    };
    stage.resources.push(Resource::load("r0", &config, stage.dir.path()).unwrap());
    let running = stage.start(first).await;
    let status = running.until(reloaded).await;
    assert_eq!(status.written_at, None, "the file said the same already");
    assert!(status.reload.unwrap().durable);
    assert!(stage.read("log").lines().count() > before);
    let journal = fs::read_dir(stage.path("data/reloads")).unwrap();
    assert_eq!(journal.count(), 0);
}

#[tokio::test]
async fn another_configuration_leaves_templates_alone_that_did_not_change_and_forgets_no_reload() {
    let mut stage = Stage::new();
    let (log, ready) = (stage.path("log"), stage.path("ready"));
    let reload = format!("echo . >> {}; test -e {}", log.display(), ready.display());
    stage.add("a{{ service(\"web\") | length }}", |c| c.reload = Some(reload.clone().into()));
    stage.add("b{{ service(\"web\") | length }}", |_| {});
    let mut running = stage.start(snapshot(1, &Snapshot::default(), &[("web", &[1])])).await;
    running.applied(1).await;
    running.until(|s| s.reload.as_ref().is_some_and(|r| r.error.is_some())).await;
    let load = |name: &str, source: &str, wait: u64| {
        let out = format!("out{}.cfg", &source[1..2]);
        let mut config = ResourceConfig::new(source.into(), out.into());
        config.reload = (source == "t0.j2").then(|| reload.clone().into());
        config.wait.max = (wait > 0).then(|| Period::from_secs(wait));
        Resource::load(name, &config, stage.dir.path()).unwrap()
    };
    // The second one changes: the first one is the same task as before.
    let first = running.renderer.statuses().remove("r0").unwrap();
    running.renderer.follow(vec![load("r0", "t0.j2", 0), load("r1", "t1.j2", 9)], &stage.groups);
    let same = running.renderer.statuses().remove("r0").unwrap();
    assert!(first.same_channel(&same));
    // The first one changes and is another task: its reload is due still.
    running.renderer.follow(vec![load("r0", "t0.j2", 9), load("r1", "t1.j2", 9)], &stage.groups);
    assert!(!first.same_channel(&running.renderer.statuses()["r0"]));
    fs::write(&ready, "").unwrap();
    let status = running.until(reloaded).await;
    assert_eq!(status.written_at, None);
}
