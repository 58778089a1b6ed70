//! Go templates over the catalog: rendered from a real Consul, and only when something changed
//! that they asked for.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portolan::app::App;
use serde_json::{Value, json};

use crate::clients::get_by_socket;
use crate::support::consul::{Consul, Entry};
use crate::support::{Memory, says, soon, start, start_with, until, within};

const MESOS: &str =
    "{{range service \"app\"}}server {{.Address}}:$PORT;{{else}}server 127.0.0.1:65535;{{end}}";

/// An application with its admin socket in `directory`, and `templates` to render.
fn configuration(consul: &Consul, templates: &str) -> String {
    format!(
        "[node]\nworkers = 1\n[registry.main.consul]\naddress = \"{}\"\n[admin]\n\
         socket = \"admin.sock\"\n{templates}",
        consul.url()
    )
}

/// One template called `name`, given in the configuration, to a file of that name.
fn template(name: &str, contents: &str, more: &str) -> String {
    format!("[template.{name}]\ncontents = {}\ndestination = {name:?}\n{more}\n", json!(contents))
}

struct Stage {
    app: App,
    directory: tempfile::TempDir,
}

impl Stage {
    async fn start(consul: &Consul, templates: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let app = start(&configuration(consul, templates), directory.path()).await;
        Self { app, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn says(&self, name: &str, text: &str) {
        says(&self.file(name), text).await;
    }

    async fn status(&self, name: &str) -> Value {
        let status = get_by_socket(&self.file("admin.sock"), "/v1/status").await.json();
        let all = status["templates"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    }

    /// Returns the status of a template once `fact` is true of it.
    async fn until(&self, name: &str, fact: impl Fn(&Value) -> bool) -> Value {
        until(&format!("the status of {name}"), async || {
            let status = self.status(name).await;
            fact(&status).then_some(status)
        })
        .await
    }

    /// How often templates were evaluated; all of them, or one.
    async fn evaluations(&self, name: Option<&str>) -> u64 {
        evaluations(self.directory.path(), name).await
    }
}

/// Returns once every template says that its file agrees with `generation`: the last thing that it does
/// about a change.
async fn all_agree_with(generation: u64, directory: &Path) {
    until("all have seen the change", async || {
        let status = get_by_socket(&directory.join("admin.sock"), "/v1/status").await.json();
        let all = status["templates"].as_array().unwrap();
        all.iter().all(|one| one["generation"] == generation).then_some(())
    })
    .await;
}

async fn evaluations(directory: &Path, name: Option<&str>) -> u64 {
    let text = get_by_socket(&directory.join("admin.sock"), "/metrics").await.body;
    let label = name.map(|name| format!("template=\"{name}\""));
    let lines = text.lines().filter(|line| {
        line.starts_with("portolan_render_evaluations_total{")
            && label.as_ref().is_none_or(|label| line.contains(label))
    });
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

async fn write_keys(consul: &Consul, keys: &[(&str, &str)]) {
    let operations = keys.iter().map(
        |(key, value)| json!({"KV": {"Verb": "set", "Key": key, "Value": STANDARD.encode(value)}}),
    );
    consul.put("/v1/txn", operations.collect()).await;
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 9, 0, last], port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_functions_of_both_dialects_ask_is_answered_by_the_real_consul() {
    let consul = Consul::start().await;
    write_keys(
        &consul,
        &[
            ("app/db/host", "db1"),
            ("app/db/port", "5432"),
            ("app/name", "shop"),
            ("app/empty", ""),
            ("test/app/name", "other"),
        ],
    )
    .await;
    let register = |node: &str, address: &str, id: &str, port: u16, tags: &[&str], shard: &str| {
        json!({
            "Node": node, "Address": address, "NodeMeta": {"rack": node},
            "TaggedAddresses": {"wan": "192.0.2.1"},
            "Service": {"ID": id, "Service": "web", "Port": port, "Tags": tags,
                "Meta": {"shard": shard}, "Weights": {"Passing": 7, "Warning": 1}},
            "Check": {"CheckID": format!("c{id}"), "Name": "c", "ServiceID": id,
                "Status": if id == "w3" { "critical" } else { "passing" }},
        })
    };
    for body in [
        register("n2", "10.9.0.2", "w1", 80, &["http", "blue"], "12"),
        register("n1", "10.9.0.1", "w2", 81, &["http"], "7"),
        register("n1", "10.9.0.1", "w3", 82, &[], "9"),
        json!({"Node": "bare", "Address": "10.9.0.9"}),
    ] {
        consul.put("/v1/catalog/register", body).await;
    }
    let rows: &[(&str, &str)] = &[
        (
            "{{range service \"web\"}}{{.Node}} {{.ID}} {{.Name}} {{.Address}}:{{.Port}} \
             {{.Tags | join \",\"}} {{.Status}} {{.ServiceMeta.shard}} {{.NodeMeta.rack}} \
             {{.NodeAddress}} {{.NodeDatacenter}} {{.NodeTaggedAddresses.wan}} \
             {{.Weights.Passing}};{{end}}",
            "n1 w2 web 10.9.0.1:81 http passing 7 n1 10.9.0.1 dc1 192.0.2.1 7;\
             n2 w1 web 10.9.0.2:80 blue,http passing 12 n2 10.9.0.2 dc1 192.0.2.1 7;",
        ),
        (
            "{{range service \"web|any\"}}{{.ID}}={{.Status}} {{end}}",
            "w2=passing w3=critical w1=passing ",
        ),
        ("{{range service \"web\" \"critical\"}}{{.ID}}{{end}}", "w3"),
        ("{{range service \"blue.web\"}}{{.ID}}{{end}}", "w1"),
        ("{{range service \"web~n2\"}}{{.ID}}{{end}}", "w1w2"),
        ("{{range service \"web@dc1\"}}{{.ID}}{{end}}", "w2w1"),
        ("{{len (service \"none\")}}{{len (connect \"web\")}}", "00"),
        (
            "{{range service \"web\" | byMeta \"shard|int\"}}{{range .}}{{.ID}}{{end}} {{end}}",
            "w2 w1 ",
        ),
        (
            "{{range $tag, $all := service \"web\" | byTag}}{{$tag}}:{{len $all}} {{end}}",
            "blue:1 http:2 ",
        ),
        ("{{with index (service \"web\") 0}}{{range .Checks}}{{.Status}}{{end}}{{end}}", "passing"),
        ("{{range services}}{{.Name}}{{.Tags}} {{end}}", "consul[] web[blue http] "),
        ("{{range services \"@dc1\"}}{{.Name}} {{end}}", "consul web "),
        (
            "{{range services}}{{$name := .Name}}{{if ne $name \"consul\"}}{{range service $name}}\
             {{.ID}} {{end}}{{end}}{{end}}",
            "w2 w1 ",
        ),
        ("{{key \"app/db/host\"}}:{{key \"/app/db/port@dc1\"}}", "db1:5432"),
        (
            "{{keyExists \"app/none\"}} {{keyOrDefault \"app/none\" \"d\"}} {{keyOrDefault \"app/empty\" \"e\"}}",
            "false d e",
        ),
        ("{{range ls \"app\"}}{{.Key}}={{.Value}} {{end}}", "empty= name=shop "),
        ("{{range tree \"app\"}}{{.Path}} {{end}}", "app/db/host app/db/port app/empty app/name "),
        (
            "{{range $d, $p := tree \"app/\" | byKey}}{{$d}}{{range $k, $v := $p}} {{$k}}{{end}}; {{end}}",
            "db host port; empty ; name ; ",
        ),
        ("{{with tree \"app\" | explode}}{{.db.host}}{{end}}", "db1"),
        (
            "{{range nodes}}{{if ne .Node \"agent\"}}{{.Node}}={{.Address}} {{.Meta.rack}} {{.TaggedAddresses.wan}} {{end}}{{end}}",
            "bare=10.9.0.9 <no value> <no value> n1=10.9.0.1 n1 192.0.2.1 n2=10.9.0.2 n2 192.0.2.1 ",
        ),
        (
            "{{with node \"n1\"}}{{.Node.Node}}{{range .Services}} {{.Service}}/{{.ID}}:{{.Port}}{{end}}{{end}}",
            "n1 web/w2:81 web/w3:82",
        ),
        ("{{with node \"bare@dc1\"}}{{.Node.Address}} {{len .Services}}{{end}}", "10.9.0.9 0"),
        ("{{with node \"none\"}}there{{else}}no such node{{end}}", "no such node"),
        ("{{datacenters}} {{stale}}", "[dc1] false"),
    ];
    let confd: &[(&str, &str, &str)] = &[
        (
            "{{getv \"/app/name\"}}{{range ls \"/app\"}} {{.}}{{end}}",
            "keys = [\"/app\"]",
            "shop db empty name",
        ),
        (
            "{{range gets \"/app/db/*\"}}{{.Key}}={{.Value}} {{end}}",
            "",
            "/app/db/host=db1 /app/db/port=5432 ",
        ),
        ("{{getv \"/app/name\"}}", "prefix = \"/test\"\nkeys = [\"/app\"]", "other"),
        (
            "{{exists \"/app/name\"}}{{getv \"/none\" \"-\"}}",
            "keys = [\"app/db\"]\nregistry = \"main\"",
            "false-",
        ),
    ];
    let mut templates = String::new();
    for (number, (text, _)) in rows.iter().enumerate() {
        templates.push_str(&template(&format!("t{number}"), text, ""));
    }
    for (number, (text, more, _)) in confd.iter().enumerate() {
        let more = format!("dialect = \"confd\"\n{more}");
        templates.push_str(&template(&format!("c{number}"), text, &more));
    }
    let stage = Stage::start(&consul, &templates).await;
    for (number, (_, want)) in rows.iter().enumerate() {
        stage.says(&format!("t{number}"), want).await;
    }
    for (number, (.., want)) in confd.iter().enumerate() {
        stage.says(&format!("c{number}"), want).await;
    }

    write_keys(&consul, &[("app/name", "store"), ("app/db/user", "u")]).await;
    stage.says("t16", "app/db/host app/db/port app/db/user app/empty app/name ").await;
    stage.says("c0", "store db empty name").await;
    consul.put("/v1/catalog/deregister", json!({"Node": "bare"})).await;
    let node = "{{with node \"bare@dc1\"}}";
    assert!(rows[21].0.starts_with(node));
    stage.says("t21", "").await;
    stage.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_instance_that_leaves_renders_the_other_branch_within_a_second() {
    let consul = Consul::start().await;
    let entry = Entry::new("app", "a", at(1, 80));
    consul.register(&entry).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("nginx.ctmpl"), MESOS).unwrap();
    let templates = template("inline", MESOS, "")
        + "[template.file]\nsource = \"nginx.ctmpl\"\ndestination = \"file\"\n";
    let app = start(&configuration(&consul, &templates), directory.path()).await;
    let stage = Stage { app, directory };
    for _ in 0..3 {
        stage.says("inline", "server 10.9.0.1:$PORT;").await;
        stage.says("file", "server 10.9.0.1:$PORT;").await;
        let since = Instant::now();
        consul.deregister("a").await;
        stage.says("inline", "server 127.0.0.1:65535;").await;
        stage.says("file", "server 127.0.0.1:65535;").await;
        soon("the last instance left; both files say so", since.elapsed());
        consul.register(&entry).await;
    }
    stage.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_service_of_a_thousand_templates_changes_and_one_template_is_rendered() {
    const COUNT: usize = 1000;
    let directory = tempfile::tempdir().unwrap();
    let memory = Memory::new("memory");
    let mut text = "[node]\nworkers = 1\n[admin]\nsocket = \"admin.sock\"\n".to_owned();
    for number in 0..COUNT {
        let service = format!("s{number}");
        memory.tell(&service, &[at(1, 80)]);
        let contents = format!("{{{{range service {service:?}}}}}{{{{.Port}}}} {{{{end}}}}");
        text.push_str(&template(&format!("t{number}"), &contents, ""));
    }
    let app = start_with(&text, directory.path(), &[&memory]).await;
    let path = directory.path();
    let all = COUNT as u64;
    until("all are rendered", async || (evaluations(path, None).await == all).then_some(())).await;
    let since = Instant::now();
    memory.tell("s500", &[at(1, 81)]);
    says(&path.join("t500"), "81 ").await;
    let generation = app.tables().snapshot.generation;
    all_agree_with(generation, path).await;
    println!("a change among {COUNT} templates: seen by all after {:?}", since.elapsed());
    assert_eq!(evaluations(path, None).await, all + 1);
    assert_eq!(evaluations(path, Some("t500")).await, 2);
    within("stop", app.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_changes_of_what_checks_print_render_nothing() {
    let consul = Consul::start().await;
    let entry = Entry::new("app", "a", at(1, 80));
    consul.register(&entry).await;
    let contents = "{{range service \"app\"}}{{.Address}} {{.Checks}}{{end}}{{key \"mark\"}}";
    write_keys(&consul, &[("mark", "1")]).await;
    let stage = Stage::start(&consul, &template("t", contents, "")).await;
    stage.until("t", |status| status["written_at"].is_string()).await;
    let before = stage.evaluations(Some("t")).await;
    let mut writer = consul.writer().await;
    let since = Instant::now();
    let path = format!("/v1/agent/check/update/{}", entry.check());
    for number in 0..1000 {
        let output = json!({"Status": "passing", "Output": format!("took {number} ms")});
        writer.put(&path, &output).await;
    }
    println!("1000 changes of output in {:?}", since.elapsed());
    let checks = consul.get("/v1/health/checks/app").await;
    assert!(checks[0]["Output"].as_str().unwrap().contains("took "), "{checks}");
    write_keys(&consul, &[("mark", "2")]).await;
    until("the mark", async || {
        let text = std::fs::read_to_string(stage.file("t")).unwrap();
        text.ends_with('2').then_some(())
    })
    .await;
    // The file is there before it is counted.
    until("its count", async || (stage.evaluations(Some("t")).await > before).then_some(())).await;
    assert_eq!(stage.evaluations(Some("t")).await, before + 1, "the mark alone");
    stage.app.stop().await;
}

/// Fifty changes of `app` in a row, with no pause between two that a template could take for the
/// end; how many instances there are then. On a machine that was too busy for that another burst
/// follows, a few times.
async fn burst(memory: &Memory, mut count: u16) -> u16 {
    for _ in 0..60 {
        let (begun, mut last) = (Instant::now(), Instant::now());
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            count += 1;
            let all: Vec<_> = (1..=count).map(|port| at(1, port)).collect();
            memory.tell("app", &all);
            tokio::time::sleep(Duration::from_millis(4)).await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        if longest < Duration::from_millis(20) && begun.elapsed() < Duration::from_millis(800) {
            return count;
        }
        println!("too slow for a burst: a pause of {longest:?}, {:?} in all", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("this machine never made fifty changes within 800 ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_rendered_once_or_twice_from_the_first_render_on() {
    let directory = tempfile::tempdir().unwrap();
    let wait = "wait = { min = \"100ms\", max = \"1s\" }";
    let text = "[node]\nworkers = 1\n[admin]\nsocket = \"admin.sock\"\n".to_owned()
        + &template("t", "{{range service \"app\"}}{{.Port}} {{end}}", wait);
    let memory = Memory::new("memory");
    let app = start_with(&text, directory.path(), &[&memory]).await;
    let file = directory.path().join("t");
    let ports = |count: u16| {
        let mut ports: Vec<String> = (1..=count).map(|port| format!("10.9.0.1:{port}")).collect();
        // By id, which is a text.
        ports.sort();
        ports.iter().fold(String::new(), |mut text, id| {
            let _ = write!(text, "{} ", id.rsplit(':').next().unwrap());
            text
        })
    };
    let mut count = 0;
    let mut before = 0;
    for what in ["from the start on", "later"] {
        let former = count;
        count = burst(&memory, former).await;
        says(&file, &ports(count)).await;
        all_agree_with(app.tables().snapshot.generation, directory.path()).await;
        let renders = evaluations(directory.path(), Some("t")).await - before;
        before += renders;
        println!("50 changes {what}: {renders} renders");
        // Those that were too slow count too.
        assert!((1..=2 * u64::from(count - former) / 50).contains(&renders), "{what}: {renders}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_template_keeps_its_file_says_why_and_costs_no_other() {
    let consul = Consul::start().await;
    let endless = "{{range loop 1000000000}}{{range loop 1000000000}}{{end}}{{end}}";
    let rows = [
        ("endless", endless, "steps_max = 100000", "raise `steps_max`"),
        (
            "recursive",
            "{{define \"t\"}}{{template \"t\"}}{{end}}{{template \"t\"}}",
            "",
            "exceeded maximum template depth",
        ),
        (
            "gigabyte",
            "{{range loop 20000000}}0123456789012345678901234567890123456789012345678901234567890123456789{{end}}",
            "",
            "raise `output_max`",
        ),
        (
            "slow",
            "{{range loop 1000000000}}{{range loop 100000}}{{end}}{{end}}",
            "steps_max = 1000000000000\ntimeout = \"300ms\"",
            "raise `timeout`",
        ),
        (
            "missing",
            "a\n  {{(index (service \"none\") 3).Address}}",
            "",
            "[template.missing].contents:2:5: executing",
        ),
        ("field", "{{range service \"app\"}}\n{{.Adress}}{{end}}", "", ":2:2: executing"),
        ("nobody", "{{service \"app@dc9\"}}", "", "add a [registry.dc9.consul]"),
        (
            "strict",
            "{{(parseJSON \"{}\").a}}",
            "missing_key = \"error\"",
            "map has no entry for key \"a\"",
        ),
        (
            "denied",
            "{{plugin \"echo\"}}",
            "denied_functions = [\"plugin\"]",
            "function is disabled",
        ),
        ("outside", "{{file \"/etc/passwd\"}}", "sandbox = \"box\"", "is outside of sandbox"),
        ("confd", "{{getv \"/none\"}}", "dialect = \"confd\"", "key does not exist: /none"),
        (
            "jinja",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "dialect = \"jinja\"\nsteps_max = 100000",
            "`steps_max`",
        ),
    ];
    consul.register(&Entry::new("app", "a", at(1, 80))).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("box")).unwrap();
    let mut templates = template("good", "{{range service \"app\"}}{{.Port}}{{end}}", "");
    templates += &template("waiting", "{{key \"later\"}}", "");
    for (name, contents, more, _) in rows {
        std::fs::write(directory.path().join(name), "old").unwrap();
        templates += &template(name, contents, more);
    }
    let app = start(&configuration(&consul, &templates), directory.path()).await;
    let stage = Stage { app, directory };
    for (name, _, _, why) in rows {
        let status = stage.until(name, |status| status["error"].is_string()).await;
        let error = status["error"].as_str().unwrap();
        assert!(error.contains(why), "{name}: {error}");
        assert_eq!(std::fs::read_to_string(stage.file(name)).unwrap(), "old", "{name}");
        println!("{name}: {error}");
    }
    stage.says("good", "80").await;
    let status = stage.until("waiting", |status| status["waiting_for"].is_string()).await;
    assert_eq!(status["waiting_for"], "key \"later\"");
    assert!(!stage.file("waiting").exists());
    write_keys(&consul, &[("later", "now")]).await;
    stage.says("waiting", "now").await;
    // The status follows the file.
    stage.until("waiting", |status| status["waiting_for"].is_null()).await;
    let unknown = configuration(&consul, &template("t", "{{servcie \"a\"}}", ""));
    let problems = crate::support::load(&unknown, stage.directory.path()).unwrap_err();
    assert!(problems[0].contains(".contents:1: function \"servcie\" not defined"), "{problems:?}");
    stage.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_read_is_watched_and_a_careful_listing_keeps_what_it_had() {
    let consul = Consul::start().await;
    write_keys(&consul, &[("safe/a", "1"), ("safe/b", "2")]).await;
    let directory = tempfile::tempdir().unwrap();
    let motd = directory.path().join("motd");
    std::fs::write(&motd, "one").unwrap();
    let read = format!("<{{{{file {:?}}}}}>", motd.display().to_string());
    let templates = template("read", &read, "")
        + &template("safe", "{{range safeLs \"safe\"}}{{.Value}}{{end}}", "")
        + &template("plain", "[{{range ls \"safe\"}}{{.Value}}{{end}}]", "")
        + &template(
            "delimited",
            "{{<% with $x := 2 %><% $x %><% end %>",
            "delimiters = [\"<%\", \"%>\"]",
        )
        + &template("number", "{{2592000.0}}", "number_format = \"plain\"");
    let app = start(&configuration(&consul, &templates), directory.path()).await;
    let stage = Stage { app, directory };
    stage.says("read", "<one>").await;
    stage.says("safe", "12").await;
    stage.says("plain", "[12]").await;
    stage.says("delimited", "{{2").await;
    stage.says("number", "2592000").await;
    crate::support::replace(&motd, "two");
    stage.says("read", "<two>").await;
    std::fs::remove_file(&motd).unwrap();
    let gone = stage.until("read", |status| status["error"].is_string()).await;
    assert!(gone["error"].as_str().unwrap().contains("motd: No such file"), "{gone}");
    std::fs::write(&motd, "three").unwrap();
    stage.says("read", "<three>").await;

    let delete = |key: &str| json!({"KV": {"Verb": "delete", "Key": key}});
    consul.put("/v1/txn", json!([delete("safe/a"), delete("safe/b")])).await;
    stage.says("plain", "[]").await;
    let status = stage.until("safe", |status| status["waiting_for"].is_string()).await;
    assert_eq!(status["waiting_for"], "a key below \"safe\"");
    stage.says("safe", "12").await;
    stage.app.stop().await;
}
