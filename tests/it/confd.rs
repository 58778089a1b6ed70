//! Installations of confd as users write them: by its command line, by its name, and as `[confd]`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;

use crate::child::{Ended, PORTOLAN, Running};
use crate::support::consul::Consul;
use crate::support::{Memory, load, replace, says, soon, start, start_with, within};

const NGINX: &str = "\
{{range $dir := lsdir \"/shop/upstream\"}}upstream {{base $dir}} {
{{- range gets (printf \"/shop/upstream/%s/*\" $dir)}}
    server {{.Value}};
{{- end}}
}
{{end -}}
server {
    server_name {{getv \"/shop/host\"}};
    listen {{getv \"/shop/port\" \"80\"}};
    # {{join (getvs \"/shop/upstream/web/*\") \" \"}}
}
";

const NGINX_SAYS: &str = "\
upstream api {
    server 10.0.1.1:9000;
}
upstream web {
    server 10.0.0.1:80;
    server 10.0.0.2:80;
}
server {
    server_name shop.example;
    listen 80;
    # 10.0.0.1:80 10.0.0.2:80
}
";

const HAPROXY: &str = "\
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s

frontend shop
    bind 127.0.0.1:8080
    default_backend web
{{range $name := lsdir \"/shop/upstream\"}}
backend {{$name}}
    balance roundrobin
{{- range $i, $pair := gets (printf \"/shop/upstream/%s/*\" $name)}}
    server {{$name}}{{add $i 1}} {{$pair.Value}} check
{{- end}}
{{end -}}
";

const HAPROXY_SAYS: &str = "\
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s

frontend shop
    bind 127.0.0.1:8080
    default_backend web

backend api
    balance roundrobin
    server api1 10.0.1.1:9000 check

backend web
    balance roundrobin
    server web1 10.0.0.1:80 check
    server web2 10.0.0.2:80 check
";

const DNSMASQ: &str = "\
{{range gets \"/shop/upstream/*/*\" -}}
{{$parts := split .Key \"/\" -}}
{{$at := split .Value \":\" -}}
address=/{{index $parts 4}}.{{index $parts 3}}.internal/{{index $at 0}}
{{end -}}
{{if exists \"/shop/search\"}}domain={{getv \"/shop/search\"}}
{{end -}}
";

const DNSMASQ_SAYS: &str = "\
address=/a.api.internal/10.0.1.1
address=/a.web.internal/10.0.0.1
address=/b.web.internal/10.0.0.2
domain=internal
";

/// What the templates are rendered from.
const VALUES: [(&str, &str); 5] = [
    ("shop/host", "shop.example"),
    ("shop/search", "internal"),
    ("shop/upstream/api/a", "10.0.1.1:9000"),
    ("shop/upstream/web/a", "10.0.0.1:80"),
    ("shop/upstream/web/b", "10.0.0.2:80"),
];

/// A directory of confd, and one for what it makes.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["confd/conf.d", "confd/templates", "out"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Self(dir)
    }

    /// One with a configuration of nginx, one of HAProxy and one of dnsmasq.
    fn shop() -> Self {
        let place = Self::new();
        let check = if Path::new("/usr/sbin/haproxy").exists() {
            "check_cmd = \"/usr/sbin/haproxy -c -f {{.src}}\"\n"
        } else {
            "check_cmd = \"grep -q backend {{.src}}\"\n"
        };
        let log = place.at("out/reloads").display().to_string();
        let reload = |name: &str| format!("reload_cmd = \"echo {name} >> {log}\"\n");
        place.resource("nginx", NGINX, &format!("mode = \"0640\"\n{}", reload("nginx")));
        place.resource("haproxy", HAPROXY, &format!("{check}{}", reload("haproxy")));
        place.resource("dnsmasq", DNSMASQ, "check_cmd = \"test -s {{ .src }}\"\n");
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Adds a resource whose keys are below `/shop`.
    fn resource(&self, name: &str, template: &str, more: &str) {
        let destination = self.at("out").join(name).display().to_string();
        let text = format!(
            "[template]\nsrc = \"{name}.tmpl\"\ndest = \"{destination}\"\nkeys = [\"/shop\"]\n{more}"
        );
        fs::write(self.at("confd/conf.d").join(format!("{name}.toml")), text).unwrap();
        fs::write(self.at("confd/templates").join(format!("{name}.tmpl")), template).unwrap();
    }

    fn out(&self, name: &str) -> String {
        fs::read_to_string(self.at("out").join(name)).unwrap_or_default()
    }

    /// What the three files of the shop say, and what was reloaded; they are gone then.
    fn take_shop(&self, what: &str) {
        for (name, want) in
            [("nginx", NGINX_SAYS), ("haproxy", HAPROXY_SAYS), ("dnsmasq", DNSMASQ_SAYS)]
        {
            assert_eq!(self.out(name), want, "{what}: {name}");
            fs::remove_file(self.at("out").join(name)).unwrap();
        }
        let reloads = self.out("reloads");
        let mut reloads: Vec<&str> = reloads.lines().collect();
        reloads.sort_unstable();
        assert_eq!(reloads, ["haproxy", "nginx"], "{what}");
        fs::remove_file(self.at("out/reloads")).unwrap();
    }

    /// The values as a file.
    fn values(&self) -> PathBuf {
        let file = self.at("values.yaml");
        let text = "shop:\n  host: shop.example\n  search: internal\n  upstream:\n    \
            api: {a: \"10.0.1.1:9000\"}\n    web:\n      a: \"10.0.0.1:80\"\n      b: \"10.0.0.2:80\"\n";
        fs::write(&file, text).unwrap();
        file
    }

    /// `portolan render --confd` with these flags.
    fn render(&self, flags: &str) -> Command {
        let mut command = Command::new(PORTOLAN);
        command.args(["render", "--confd"]).arg(self.at("confd"));
        command.args(flags.split_whitespace()).current_dir(self.0.path());
        without_noise(&mut command);
        command
    }

    /// The binary under the name `confd`, with these flags.
    fn confd(&self, flags: &str) -> Command {
        let binary = self.at("confd-bin");
        fs::create_dir_all(&binary).unwrap();
        let binary = binary.join("confd");
        if !binary.exists() {
            symlink(PORTOLAN, &binary).unwrap();
        }
        let mut command = Command::new(binary);
        command.arg("-confdir").arg(self.at("confd"));
        command.args(flags.split_whitespace()).current_dir(self.0.path());
        without_noise(&mut command);
        command
    }
}

/// Nothing of this process's environment that would count.
fn without_noise(command: &mut Command) {
    for (name, _) in std::env::vars() {
        if name.starts_with("CONFD_") || name.starts_with("CONSUL_") || name == "PORTOLAN_LOG" {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true);
}

async fn ended(mut command: Command) -> Ended {
    let output = within("confd", command.output()).await.unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs to the end, which must be a good one.
async fn well(what: &str, command: Command) -> Ended {
    let ended = ended(command).await;
    assert_eq!(ended.code, Some(0), "{what}: {ended:?}");
    ended
}

/// Sets keys, all at once.
async fn set(consul: &Consul, prefix: &str, keys: &[(&str, &str)]) {
    let set = |(key, value): &(&str, &str)| {
        let value = STANDARD.encode(value);
        json!({"KV": {"Verb": "set", "Key": format!("{prefix}{key}"), "Value": value}})
    };
    let all: Vec<_> = keys.iter().map(set).collect();
    consul.put("/v1/txn", all.into()).await;
}

#[tokio::test]
async fn the_environment_and_files_render_what_users_have_written() {
    let place = Place::shop();
    let mut env = place.render("-backend env -onetime");
    for (key, value) in VALUES {
        env.env(key.replace('/', "_").to_uppercase(), value);
    }
    well("env", env).await;
    let mode = fs::metadata(place.at("out/nginx")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    place.take_shop("env");

    place.values();
    well("file", place.render("-backend=file -file values.yaml -onetime")).await;
    place.take_shop("file");
    well("file, today's confd", place.confd("file --file values.yaml --onetime")).await;
    place.take_shop("file, today's confd");

    // By its configuration file, and neither checks nor reloads.
    let stated = "backend = \"file\"\nfile = [\"values.yaml\"]\nsync-only = true\n";
    fs::write(place.at("confd.toml"), stated).unwrap();
    well("confd.toml", place.confd("-config-file confd.toml -onetime")).await;
    assert_eq!(place.out("haproxy"), HAPROXY_SAYS);
    assert_eq!(place.out("reloads"), "");
}

#[tokio::test]
async fn nothing_is_reloaded_when_nothing_has_changed() {
    let place = Place::shop();
    place.values();
    let flags = "file --file values.yaml --onetime";
    well("first", place.confd(flags)).await;
    place.out("reloads");
    fs::remove_file(place.at("out/reloads")).unwrap();
    well("again", place.confd(flags)).await;
    assert_eq!(place.out("reloads"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_renders_and_a_changed_key_renders_again_within_a_second() {
    let consul = Consul::start().await;
    let place = Place::shop();
    set(&consul, "production/", &VALUES).await;
    let node = consul.url().replace("http://", "");
    let flags = format!("-backend consul -node {node} -prefix /production");
    well("consul", place.render(&format!("{flags} -onetime"))).await;
    place.take_shop("consul");

    let mut confd = Running::spawn(place.confd(&format!("{flags} -watch -log-level info")));
    says(&place.at("out/dnsmasq"), DNSMASQ_SAYS).await;
    let since = Instant::now();
    set(&consul, "production/", &[("shop/search", "example")]).await;
    let changed = DNSMASQ_SAYS.replace("domain=internal", "domain=example");
    says(&place.at("out/dnsmasq"), &changed).await;
    soon("a changed key is rendered", since.elapsed());

    // Another resource is seen when the process is told to look.
    place.resource("host", "{{getv \"/shop/host\"}}\n", "");
    confd.signal(Signal::HUP);
    says(&place.at("out/host"), "shop.example\n").await;
    confd.signal(Signal::TERM);
    assert_eq!(confd.ended().await.code(), Some(0), "{:#?}", confd.said());
}

#[tokio::test]
async fn both_generations_look_below_their_own_prefix() {
    let place = Place::new();
    place.resource("host", "{{getv \"/shop/host\"}}\n", "prefix = \"/east\"\n");
    let text = r#"{"all": {"shop": {"host": "all"}, "east": {"shop": {"host": "both"}}},
        "east": {"shop": {"host": "east"}}}"#;
    fs::write(place.at("values.json"), text).unwrap();
    for (what, flags, want) in [
        ("0.16", "-backend file -prefix /all", "all"),
        ("0.16, no other prefix", "-backend file", "east"),
        ("today's", "file --prefix /all", "both"),
        ("0.16, told otherwise", "-backend file -prefix all -prefix-rule concatenate", "both"),
        ("today's, told otherwise", "file --prefix all --prefix-rule replace", "all"),
    ] {
        let flags = format!("{flags} -file values.json -onetime");
        let told = well(what, place.confd(&flags)).await;
        assert_eq!(place.out("host"), format!("{want}\n"), "{what}: {told:?}");
    }
}

#[tokio::test]
async fn what_is_broken_keeps_its_file_and_holds_up_nobody() {
    let place = Place::shop();
    let values = place.values();
    for (name, template) in [
        ("function", "{{nosuchfunction 1}}"),
        ("key", "{{getv \"/shop/nosuchkey\"}}"),
        ("syntax", "{{range}"),
    ] {
        place.resource(name, template, "");
        fs::write(place.at("out").join(name), "old").unwrap();
    }
    place.resource("check", "new", "check_cmd = \"false\"\n");
    fs::write(place.at("out/check"), "old").unwrap();
    fs::write(place.at("confd/conf.d/toml.toml"), "[template\n").unwrap();
    let ended = ended(place.confd("file --file values.yaml --onetime")).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    place.take_shop("beside broken ones");
    for name in ["function", "key", "syntax", "check"] {
        assert_eq!(place.out(name), "old", "{name}");
    }
    for told in [
        "function \"nosuchfunction\" not defined",
        "key does not exist: /shop/nosuchkey",
        "syntax.tmpl:1",
        "toml.toml: 1:10: ",
        "the check of [template.check] failed",
    ] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }

    // In a configuration of ours they are told, and are no reason not to start.
    let text = format!(
        "[confd]\ndir = \"confd\"\nbackend = \"file\"\nfiles = [{:?}]\n",
        values.display().to_string()
    );
    let app = start(&text, place.0.path()).await;
    says(&place.at("out/nginx"), NGINX_SAYS).await;
    app.stop().await;
    let loaded = load(&text, place.0.path()).unwrap();
    let resources = loaded.prepared.resources.iter();
    let broken: Vec<&str> = resources.filter(|r| r.broken.is_some()).map(|r| &*r.name).collect();
    assert_eq!(broken, ["toml", "function", "syntax"]);
}

#[tokio::test]
async fn what_only_looks_writes_nothing() {
    let place = Place::shop();
    place.values();
    fs::write(place.at("out/nginx"), "server {\n    old;\n").unwrap();
    let noop = well("noop", place.confd("file --file values.yaml --noop --diff --onetime")).await;
    for line in ["-    old;", "+upstream api {", "+    server 10.0.0.1:80;", "+++ "] {
        assert!(noop.stdout.contains(line), "{line}: {}", noop.stdout);
    }
    let checked = well("check-config", place.confd("--check-config")).await;
    assert_eq!(checked.stdout, "3 resources without problems\n");
    let text = "{\"/shop/host\": \"mock\", \"/shop/upstream/a/b\": \"10.9.9.9:1\"}";
    fs::write(place.at("mock.json"), text).unwrap();
    let validated = well("mock", place.confd("--validate --mock-data mock.json")).await;
    assert!(validated.stdout.contains("+    server_name mock;"), "{validated:?}");
    well("preflight", place.confd("file --file values.yaml --preflight")).await;
    place.resource("bad", "{{", "");
    let checked = ended(place.confd("--validate")).await;
    assert_eq!((checked.code, &*checked.stdout), (Some(1), "3 resources without problems\n"));
    assert!(checked.stderr.contains("confd: bad: "), "{checked:?}");
    well("one of them", place.confd("--validate --resource nginx.toml")).await;
    assert_eq!(place.out("nginx"), "server {\n    old;\n");
    assert_eq!(place.out("haproxy"), "");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_before_anything_is() {
    let place = Place::shop();
    for (flags, want) in [
        ("-onetime", "confd: confd would ask etcd, which is not there yet"),
        ("-backend redis -onetime", "the backend `redis` is not there yet"),
        ("-backend env -nosuchflag", "unknown flag -nosuchflag"),
        ("-backend consul -node unix:///run/consul -onetime", "invalid format; write it like"),
    ] {
        let ended = ended(place.confd(flags)).await;
        assert_eq!(ended.code, Some(1), "{flags}: {ended:?}");
        assert!(ended.stderr.contains(want), "{flags}: {ended:?}");
    }
    let ended =
        ended(place.confd("-backend file -file none.yaml -onetime -backend-timeout 1s")).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(place.out("nginx"), "");
}

#[tokio::test]
async fn an_installation_is_written_out_and_the_result_does_the_same() {
    let place = Place::shop();
    let values = place.values();
    let arguments = format!(
        "migrate confd -confdir {} -backend file -file {} -interval 5",
        place.at("confd").display(),
        values.display()
    );
    let mut command = Command::new(PORTOLAN);
    command.args(arguments.split_whitespace()).current_dir(place.0.path());
    without_noise(&mut command);
    let migrated = well("migrate", command).await;
    assert!(migrated.stdout.contains("# - -interval has no effect: every change is followed"));
    assert!(migrated.stdout.contains("\n[registry.confd.keyfile]\n"), "{}", migrated.stdout);
    let app = start(&migrated.stdout, place.0.path()).await;
    says(&place.at("out/nginx"), NGINX_SAYS).await;
    says(&place.at("out/haproxy"), HAPROXY_SAYS).await;
    says(&place.at("out/dnsmasq"), DNSMASQ_SAYS).await;
    app.stop().await;
}

const SERVICES: &str = "\
{{range lsdir \"/services\"}}{{$name := .}}upstream {{$name}} {
{{- range getvs (printf \"/services/%s/*/endpoint\" $name)}}
    server {{.}};
{{- end}}
}
{{end}}{{range ls \"/names\"}}{{.}} has {{getv (printf \"/names/%s\" .)}}
{{end}}";

#[tokio::test]
async fn the_catalog_is_laid_out_as_keys_and_followed() {
    let place = Place::new();
    let write = |name: &str, keys: &str, template: &str| {
        let destination = place.at("out").join(name).display().to_string();
        let text =
            format!("[template]\nsrc = \"{name}\"\ndest = \"{destination}\"\nkeys = [{keys}]\n");
        fs::write(place.at("confd/conf.d").join(format!("{name}.toml")), text).unwrap();
        fs::write(place.at("confd/templates").join(name), template).unwrap();
    };
    write("all", "\"/services\", \"/names\"", SERVICES);
    write("one", "\"/services/db\"", "{{range gets \"/services/db/*/port\"}}{{.Value}} {{end}}");
    let memory = Memory::new("memory");
    memory.tell("web", &["10.0.0.2:80".parse().unwrap(), "[fd00::1]:81".parse().unwrap()]);
    memory.tell("db", &["10.0.0.9:5432".parse().unwrap()]);
    let text = "[confd]\ndir = \"confd\"\nprefix = \"/production\"\n";
    let app = start_with(text, place.0.path(), &[&memory]).await;
    let all = "upstream db {\n    server 10.0.0.9:5432;\n}\nupstream web {\n    \
        server 10.0.0.2:80;\n    server [fd00::1]:81;\n}\ndb has 1\nweb has 2\n";
    says(&place.at("out/all"), all).await;
    says(&place.at("out/one"), "5432 ").await;

    memory.tell("web", &[]);
    let gone = "upstream db {\n    server 10.0.0.9:5432;\n}\ndb has 1\nweb has 0\n";
    says(&place.at("out/all"), gone).await;
    memory.tell("db", &["10.0.0.9:5433".parse().unwrap()]);
    says(&place.at("out/one"), "5433 ").await;
    app.stop().await;
}

#[tokio::test]
async fn a_reload_follows_a_changed_installation_and_a_changed_file_needs_none() {
    let place = Place::new();
    let values = place.values();
    place.resource("host", "{{getv \"/shop/host\"}}\n", "");
    let text = "[confd]\ndir = \"confd\"\nbackend = \"file\"\nfiles = [\"values.yaml\"]\n";
    let app = start(text, place.0.path()).await;
    says(&place.at("out/host"), "shop.example\n").await;
    replace(&values, "shop: {host: other.example}\n");
    says(&place.at("out/host"), "other.example\n").await;

    place.resource("host", "host {{getv \"/shop/host\"}}\n", "");
    place.resource("more", "{{getv \"/shop/host\"}}!\n", "");
    let report = app.reload(load(text, place.0.path()).unwrap()).await.unwrap();
    assert_eq!(report.changed, ["template.host", "template.more"]);
    says(&place.at("out/host"), "host other.example\n").await;
    says(&place.at("out/more"), "other.example!\n").await;
    app.stop().await;
}
