//! The binary called `consul-template`, beside the real Consul and the real readers of its files.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::child::{Ended, PORTOLAN, Running};
use crate::clients::Http;
use crate::peers::{output, own_address, own_ip, serving, start};
use crate::support::consul::{Consul, Entry};
use crate::support::{backend, soon, until, within};

/// A directory with the binary under the name of consul-template.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        symlink(PORTOLAN, directory.path().join("bin/consul-template")).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// An executable script in `bin`.
    fn script(&self, name: &str, text: &str) {
        self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{text}\n"));
        let path = self.path("bin").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// consul-template here, with `bin` before all else and none of our variables.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/consul-template"));
        command.args(arguments).current_dir(self.0.path());
        for (name, _) in std::env::vars() {
            if name.starts_with("CONSUL_") || name.starts_with("VAULT_") || name == "CT_LOG" {
                command.env_remove(name);
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command
    }

    fn spawn(&self, arguments: &[&str]) -> Running {
        Running::spawn(self.command(arguments))
    }

    /// Runs it to its end.
    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        let output = within("consul-template", command.kill_on_drop(true).output()).await.unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    async fn says(&self, name: &str, text: &str) {
        crate::support::says(&self.path(name), text).await;
    }

    async fn tells(&self, name: &str, part: &str) {
        let told = format!("{name} tells {part:?}");
        until(&told, async || self.read(name).contains(part).then_some(())).await;
    }
}

/// The template of the Mesos setup.
const APP: &str = "upstream app {\n{{range service \"app\"}}  server {{.Address}}:{{.Port}};\n\
    {{else}}  server 127.0.0.1:65535;\n{{end}}}\n";

/// An nginx that carries to the upstream `app` of `app.conf`, and `nginx` on the path for it alone.
struct Nginx {
    at: SocketAddr,
    server: tokio::process::Child,
}

/// The master alone would leave its workers behind.
impl Drop for Nginx {
    fn drop(&mut self) {
        let id = self.server.id().and_then(|id| Pid::from_raw(id as i32));
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Nginx {
    async fn start(place: &Place, servers: SocketAddr) -> Self {
        let at = own_address();
        place.write("app.conf", &format!("upstream app {{\n  server {servers};\n}}\n"));
        let config = format!(
            "daemon off;\nworker_processes 1;\nerror_log stderr warn;\npid nginx.pid;\nevents {{}}\n\
             http {{\naccess_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\n\
             fastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
             include app.conf;\nserver {{ listen {at}; location / {{ proxy_pass http://app; }} }}\n}}\n"
        );
        let file = place.write("nginx.conf", &config);
        let prefix = place.path("");
        let real = "/usr/sbin/nginx";
        let own = format!("exec {real} -p {} -c {file} \"$@\"", prefix.display());
        place.script("nginx", &own);
        let mut server =
            start(Command::new(real).process_group(0).arg("-p").arg(&prefix).arg("-c").arg(&file));
        serving(&mut server, at).await;
        Self { at, server }
    }

    /// Status and body of one request on a connection of its own.
    async fn get(&self) -> (u16, String) {
        let mut client = Http::to(self.at).await;
        client.send("GET", "/", "Connection: close\r\n").await;
        let answer = within("nginx", client.receive()).await.unwrap();
        (answer.status, answer.body)
    }

    async fn answers(&self, name: &str) {
        until(&format!("nginx reaches {name}"), async || {
            (self.get().await == (200, name.to_owned())).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_lines_of_the_mesos_setup_keep_a_real_nginx_up_to_date() {
    let consul = Consul::start().await;
    let (one, two) = (backend("one", 1).await, backend("two", 2).await);
    for as_file in [false, true] {
        let place = Place::new();
        let nginx = Nginx::start(&place, "127.0.0.1:1".parse().unwrap()).await;
        place.write("app.ctmpl", APP);
        let template = format!(
            "{}:{}:nginx -s reload",
            place.path("app.ctmpl").display(),
            place.path("app.conf").display()
        );
        let address = format!("-consul={}", consul.address());
        let mut process = if as_file {
            let parts: Vec<&str> = template.splitn(3, ':').collect();
            let config = format!(
                "consul = \"{}\"\ntemplate {{\n  source = \"{}\"\n  destination = \"{}\"\n  \
                 command = \"{}\"\n}}\n",
                consul.address(),
                parts[0],
                parts[1],
                parts[2]
            );
            let file = place.write("ct.hcl", &config);
            place.spawn(&["-config", &file])
        } else {
            place.spawn(&[&address, "-template", &template])
        };
        place.says("app.conf", "upstream app {\n  server 127.0.0.1:65535;\n}\n").await;
        let first = Entry::new("app", "app-1", one);
        consul.register(&first).await;
        nginx.answers("one").await;
        consul.register(&Entry::new("app", "app-2", two)).await;
        place.tells("app.conf", &format!("server {two};")).await;
        consul.deregister("app-1").await;
        nginx.answers("two").await;

        let since = Instant::now();
        consul.deregister("app-2").await;
        place.says("app.conf", "upstream app {\n  server 127.0.0.1:65535;\n}\n").await;
        soon("the else branch is written", since.elapsed());
        until("nginx reaches nobody", async || (nginx.get().await.0 == 502).then_some(())).await;
        process.signal(Signal::INT);
        assert_eq!(process.ended().await.code(), Some(12), "{:#?}", process.said());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_changes_in_a_row_cost_no_request() {
    const CHANGES: usize = 200;
    let consul = Consul::start().await;
    let (one, two) = (backend("one", 1).await, backend("two", 2).await);
    let place = Place::new();
    let nginx = Arc::new(Nginx::start(&place, one).await);
    place.write("app.ctmpl", APP);
    let template = "app.ctmpl:app.conf:nginx -s reload";
    let address = consul.address().to_string();
    consul.register(&Entry::new("app", "app-1", one)).await;
    let mut process = place.spawn(&["-consul-addr", &address, "-template", template]);
    nginx.answers("one").await;

    let (done, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = {
        let (nginx, done, requests) =
            (Arc::clone(&nginx), Arc::clone(&done), Arc::clone(&requests));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let (status, body) = nginx.get().await;
                assert_eq!(status, 200, "{body}");
                requests.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    let since = Instant::now();
    let second = Entry::new("app", "app-2", two);
    let with = format!("upstream app {{\n  server {one};\n  server {two};\n}}\n");
    let without = format!("upstream app {{\n  server {one};\n}}\n");
    for change in 0..CHANGES {
        if change % 2 == 0 {
            consul.register(&second).await;
            place.says("app.conf", &with).await;
        } else {
            consul.deregister("app-2").await;
            place.says("app.conf", &without).await;
        }
    }
    let took = since.elapsed();
    let asked = || requests.load(Ordering::Relaxed);
    until("enough requests", async || (asked() > CHANGES).then_some(())).await;
    done.store(true, Ordering::Relaxed);
    asking.await.unwrap();
    println!("{CHANGES} changes in {took:?}, {} requests, none failed", asked());
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_as_users_write_them_pass_the_checks_of_their_readers() {
    const HAPROXY: &str = r#"global
    maxconn 100
defaults
    mode http
    timeout connect {{keyOrDefault "haproxy/timeout" "5s"}}
    timeout client 30s
    timeout server 30s
frontend web
    bind 127.0.0.1:18080
{{- range services}}{{if .Tags | contains "http"}}
    acl is_{{.Name}} hdr(host) -i {{.Name}}.example
    use_backend {{.Name}} if is_{{.Name}}{{end}}{{end}}
{{range services}}{{if .Tags | contains "http"}}
backend {{.Name}}
    balance roundrobin{{$name := .Name}}{{range $i, $s := service .Name}}
    server {{$name}}-{{$i}} {{.Address}}:{{.Port}} check{{end}}{{end}}
{{end}}"#;
    const PROMETHEUS: &str = r#"[{{range $i, $s := services}}{{if $i}},{{end}}
  {"targets": [{{range $j, $e := service .Name "any"}}{{if $j}}, {{end}}"{{.Address}}:{{.Port}}"{{end}}],
   "labels": {"job": "{{.Name}}", "tags": {{.Tags | join "," | toJSON}}}}{{end}}
]
"#;
    const DNSMASQ: &str = "{{range nodes}}address=/{{.Node}}.node.internal/{{.Address}}\n{{end}}\
        {{range service \"dns\"}}server=/consul/{{.Address}}#{{.Port}}\n{{end}}cache-size={{with key \"dnsmasq/cache\"}}{{.}}{{end}}\n";
    const NGINX: &str = "events {}\npid nginx.pid;\nhttp {\n{{range $tag, $services := service \"app\" | byTag}}\
        upstream app_{{$tag}} {\n  least_conn;\n{{range $services}}  server {{.Address}}:{{.Port}} max_fails=3; # {{.ID}} on {{.Node}}\n{{end}}}\n{{end}}\
        server { listen AT; location / { proxy_pass http://app_http; } }\n}\n";
    let consul = Consul::start().await;
    let ip = own_ip();
    let at = |port| SocketAddr::new(ip, port);
    for (service, id, port, tag) in [
        ("app", "a1", 8001, "http"),
        ("app", "a2", 8002, "http"),
        ("api", "b1", 8003, "http"),
        ("dns", "d1", 8600, "udp"),
    ] {
        consul.register(&Entry::new(service, id, at(port)).tagged(tag)).await;
    }
    consul.put("/v1/kv/dnsmasq/cache", Value::from(500)).await;
    let place = Place::new();
    let nginx = NGINX.replace("AT", &own_address().to_string());
    let mut blocks = vec![format!("consul {{ address = \"{}\" }}", consul.address())];
    for (name, text) in [
        ("haproxy.cfg", HAPROXY),
        ("prometheus.json", PROMETHEUS),
        ("dnsmasq.conf", DNSMASQ),
        ("nginx.conf", &nginx),
    ] {
        let source = place.write(&format!("{name}.ctmpl"), text);
        let destination = place.path("out").join(name);
        let destination = destination.display();
        blocks.push(format!(
            "template {{\n  source = \"{source}\"\n  destination = \"{destination}\"\n  perms = 0600\n}}"
        ));
    }
    let config = blocks.join("\n");
    let file = place.write("ct.hcl", &config);
    let ended = place.run(&["-config", &file, "-once"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let out = |name: &str| place.path("out").join(name).to_str().unwrap().to_owned();
    let mode = fs::metadata(out("nginx.conf")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let said = output("haproxy", &["-c", "-f", &out("haproxy.cfg")]).await;
    assert!(
        !said.contains("ALERT") && !said.contains("rror"),
        "{said}\n{}",
        place.read("out/haproxy.cfg")
    );
    assert!(place.read("out/haproxy.cfg").contains(&format!("server app-1 {} check", at(8002))));
    let targets: Value = serde_json::from_str(&place.read("out/prometheus.json")).unwrap();
    let jobs: Vec<&str> = targets
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["labels"]["job"].as_str().unwrap())
        .collect();
    assert_eq!(jobs, ["api", "app", "consul", "dns"]);
    let said = output("/usr/sbin/dnsmasq", &["--test", "-C", &out("dnsmasq.conf")]).await;
    assert!(said.contains("syntax check OK"), "{said}\n{}", place.read("out/dnsmasq.conf"));
    assert!(place.read("out/dnsmasq.conf").contains("cache-size=500"));
    let prefix = place.path("");
    let said = output(
        "/usr/sbin/nginx",
        &["-t", "-p", prefix.to_str().unwrap(), "-c", &out("nginx.conf")],
    )
    .await;
    assert!(said.contains("syntax is ok"), "{said}\n{}", place.read("out/nginx.conf"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_dry_diff_and_parse_only_do_what_they_say_and_nothing_else() {
    let consul = Consul::start().await;
    let address = consul.address().to_string();
    consul.put("/v1/kv/color", Value::from("blue")).await;
    let place = Place::new();
    place.write("t.ctmpl", "color={{key \"color\"}}\n");
    let template = "t.ctmpl:out/t.txt:echo run >> ran";
    let usual = ["-consul-addr", &address, "-template", template];
    let run = async |more: &[&str]| place.run(&[&usual[..], more].concat()).await;

    let ended = run(&["-parse-only"]).await;
    assert_eq!((ended.code, &*ended.stdout), (Some(0), "1 template parsed\n"));
    let ended = run(&["-dry", "-once"]).await;
    let destination = place.path("out/t.txt").display().to_string();
    let printed = format!("> {destination}\ncolor=\"blue\"\n");
    assert_eq!((ended.code, &*ended.stdout), (Some(0), &*printed), "{ended:?}");
    let ended = run(&["--diff"]).await;
    let shown = format!("--- /dev/null\n+++ {destination}\n@@ -0,0 +1 @@\n+color=\"blue\"\n");
    assert_eq!((ended.code, &*ended.stdout), (Some(1), &*shown), "{ended:?}");
    assert!(!place.path("out").exists() && !place.path("ran").exists(), "nothing was done");

    // A wait is for those who watch.
    let ended = run(&["-once", "-wait=1h"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        (place.read("out/t.txt"), place.read("ran")),
        ("color=\"blue\"\n".into(), "run\n".into())
    );
    let ended = run(&["-once"]).await;
    assert_eq!((ended.code, place.read("ran")), (Some(0), "run\n".into()), "equal: no command");
    assert_eq!(run(&["-diff"]).await.code, Some(0));
    consul.put("/v1/kv/color", Value::from("red")).await;
    let ended = run(&["-diff"]).await;
    assert!(ended.stdout.contains("-color=\"blue\"\n+color=\"red\"\n"), "{ended:?}");

    for (case, arguments, code, part) in [
        ("a flag", &["-templat", "x"][..], 13, "did you mean -template?"),
        ("nothing", &[], 15, "there is nothing to render"),
        ("a file", &["-config=gone"], 15, "cannot read the configuration gone"),
        ("no template", &["-template=gone:x"], 15, "cannot read the template"),
        ("a template that does not parse", &["-template=bad:x"], 15, "bad:1:"),
        ("a template that fails", &["-template=fails:x", "-once"], 14, "no such thing"),
        ("a command that fails", &["-template=plain:x:exit 3", "-once"], 14, "exit status: 3"),
        (
            "nobody is there",
            &[
                "-template=t.ctmpl:x",
                "-once",
                "-consul=127.0.0.1:1",
                "-consul-retry-attempts=1",
                "-consul-retry-backoff=0s",
            ],
            14,
            "the registry consul could not be reached",
        ),
    ] {
        place.write("bad", "{{ range }}");
        place.write("fails", "{{ mustEnv \"no such thing\" }}");
        place.write("plain", "x");
        let ended = place.run(arguments).await;
        assert_eq!(ended.code, Some(code), "{case}: {ended:?}");
        assert!(ended.stderr.contains(part), "{case}: {part}: {ended:?}");
    }
    let ended = place.run(&["-help"]).await;
    assert!(
        ended.code == Some(0) && ended.stdout.contains("-template=SRC:DEST[:COMMAND]"),
        "{ended:?}"
    );
    let ended = place.run(&["-v"]).await;
    assert!(ended.stdout.starts_with("portolan ") && ended.code == Some(0), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_everything_again_and_the_pid_file_goes_with_the_process() {
    let consul = Consul::start().await;
    let place = Place::new();
    let config = |text: &str| {
        let head = format!(
            "consul = \"{}\"\npid_file = \"ct.pid\"\nlog_level = \"info\"\n",
            consul.address()
        );
        let template = format!("template {{ contents = \"{text}\" destination = \"out\" }}\n");
        place.write("ct.hcl", &format!("{head}{template}"));
    };
    config("one");
    let mut process = place.spawn(&["-config=ct.hcl"]);
    place.says("out", "one").await;
    assert_eq!(place.read("ct.pid"), process.id().to_string());
    config("two");
    process.signal(Signal::HUP);
    place.says("out", "two").await;
    place.write("ct.hcl", "template { sourc = 1 }");
    process.signal(Signal::HUP);
    process.logged("reload refused; the configuration stays as it is").await;
    process.signal(Signal::USR1);
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(!place.path("ct.pid").exists());
}

/// A child that writes what happens to it into `log`.
/// Ready for every signal before it says anything.
const CHILD: &str = "trap 'echo hup >> log; cat out >> log' HUP; trap 'echo usr1 >> log' USR1; \
    trap 'echo int >> log; exit 5' INT; trap 'echo term >> log; exit 6' TERM; \
    echo start $COLOR $CONSUL_HTTP_ADDR >> log; cat out >> log; while :; do sleep 0.02; done";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervised_child_starts_when_the_files_are_there_and_its_end_is_ours() {
    let consul = Consul::start().await;
    let address = consul.address().to_string();
    let place = Place::new();
    place.script("app", CHILD);
    place.write("t.ctmpl", "{{key \"color\"}}\n");
    let usual = ["-consul-addr", &address, "-template=t.ctmpl:out", "-exec", "app"];
    let with = |more: &[&str]| place.spawn(&[&usual[..], more].concat());
    let started = format!("start {address}\n");
    let log = async |text: &str| place.says("log", text).await;

    // The key is not there yet, and so the child is not.
    let mut process = with(&["-exec-reload-signal=SIGHUP", "-log-level=info"]);
    process.logged("waiting for a registry").await;
    process.signal(Signal::USR1);
    consul.put("/v1/kv/color", Value::from("blue")).await;
    log(&format!("{started}\"blue\"\n")).await;
    consul.put("/v1/kv/color", Value::from("red")).await;
    log(&format!("{started}\"blue\"\nhup\n\"red\"\n")).await;
    process.signal(Signal::USR1);
    log(&format!("{started}\"blue\"\nhup\n\"red\"\nusr1\n")).await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(6), "SIGTERM is the child's");
    log(&format!("{started}\"blue\"\nhup\n\"red\"\nusr1\nterm\n")).await;

    // Without a signal it is ended and started again; our own end ends it.
    fs::remove_file(place.path("log")).unwrap();
    let mut process = with(&["-exec-splay=10ms"]);
    log(&format!("{started}\"red\"\n")).await;
    consul.put("/v1/kv/color", Value::from("green")).await;
    log(&format!("{started}\"red\"\nint\n{started}\"green\"\n")).await;
    process.signal(Signal::INT);
    assert_eq!(process.ended().await.code(), Some(12));
    log(&format!("{started}\"red\"\nint\n{started}\"green\"\nint\n")).await;

    // Its end by itself is ours, once or not.
    place.script("app", "cat out; exit 3");
    for more in [&[][..], &["-once"]] {
        let ended = place.run(&[&usual[..], more].concat()).await;
        assert_eq!((ended.code, &*ended.stdout), (Some(3), "\"green\"\n"), "{more:?}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_process_one_it_reaps_what_others_left_behind() {
    let place = Place::new();
    place.write("t.ctmpl", "x");
    // Orphans of the child that end when nobody waits for them; then the child looks for zombies.
    place.script(
        "app",
        "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done; sleep 0.5\n\
         grep -l '^[0-9]* ([a-z]*) Z 1 ' /proc/[0-9]*/stat 2>/dev/null | wc -l > before\n\
         while grep -l '^[0-9]* ([a-z]*) Z 1 ' /proc/[0-9]*/stat 2>/dev/null | grep -q .; do sleep 0.1; done\n\
         echo $PPID $(cat /proc/1/comm) > parent; exit 7",
    );
    let mut command = Command::new("unshare");
    command.args(["-rpf", "--mount-proc", "--kill-child"]);
    command.arg(place.path("bin/consul-template")).current_dir(place.path(""));
    command
        .args(["-template=t.ctmpl:out", "-exec"])
        .arg(place.path("bin/app"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let output = within("the namespace", command.kill_on_drop(true).output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare") {
        println!("skipped, for there are no namespaces of processes here: {said}");
        return;
    }
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert_eq!(place.read("parent"), "1 consul-template\n", "it was process 1");
    assert_eq!(place.read("before"), "5\n", "there was something to reap");
}

#[tokio::test]
async fn migrate_prints_a_configuration_that_can_be_started_and_what_differs() {
    let place = Place::new();
    place.write("t.ctmpl", "{{range service \"app\"}}{{.Address}}{{end}}");
    place.write(
        "ct.hcl",
        "consul { address = \"127.0.0.1:8500\" token = \"s3cret\" }\nsyslog { enabled = true }\n\
         template {\n  source = \"t.ctmpl\"\n  destination = \"out\"\n  command = \"true\"\n  perms = 0640\n}\n\
         exec { command = \"sleep 1\" reload_signal = \"SIGHUP\" env { pristine = true } }\n",
    );
    let run = async |arguments: &[&str]| {
        let mut migrate = Command::new(PORTOLAN);
        migrate.args(arguments).current_dir(place.path(""));
        let output = within("migrate", migrate.output()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    };
    let ended = run(&["migrate", "consul-template", "-config=ct.hcl"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "# What would differ:",
        "`syslog` has no effect",
        "CONSUL_HTTP_TOKEN must be set",
        "[template.out]",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("s3cret"));
    let file = place.write("portolan.toml", &ended.stdout);
    let mut check = Command::new(PORTOLAN);
    check.args(["check", "--config", &file]).env("CONSUL_HTTP_TOKEN", "x");
    let output = within("check", check.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let ended = run(&["migrate", "consul-template", "-template=gone:out"]).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("gone"), "{ended:?}");
    assert_eq!(run(&["migrate", "etcd"]).await.code, Some(2));
    assert_eq!(run(&["migrate"]).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_of_ours_is_rendered_alone() {
    let place = Place::new();
    place.write(
        "services.toml",
        "[[service.web.instance]]\nid = \"a\"\naddress = \"10.0.0.1\"\nport = 80\n",
    );
    place.write("t.j2", "{% for i in service('web') %}{{ i.address }}\n{% endfor %}");
    let file = place.write(
        "portolan.toml",
        "[node]\ndata_dir = \"data\"\n[registry.local.file]\npath = \"services.toml\"\n\
         [dns]\nlisten = [\"192.0.2.1:53\"]\n[dns.zone.test]\n\
         [listener.web.http]\nbind = [\"192.0.2.1:80\"]\n[route.all]\nlistener = \"web\"\nservice = \"web\"\n\
         [template.t]\nsource = \"t.j2\"\ndestination = \"out\"\n[admin]\nlisten = \"127.0.0.1:1\"\n",
    );
    let run = async |more: &[&str]| {
        let mut command = Command::new(PORTOLAN);
        command.args(["render", "--config", &file]).args(more).env_remove("PORTOLAN_LOG");
        let output = within("render", command.output()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let out = place.path("out").display().to_string();
    let shown = format!("--- /dev/null\n+++ {out}\n@@ -0,0 +1 @@\n+10.0.0.1\n");
    assert_eq!(run(&["--diff"]).await, (Some(1), shown));
    assert_eq!(run(&["--dry", "--once"]).await, (Some(0), format!("> {out}\n10.0.0.1\n")));
    assert!(!Path::new(&out).exists());
    assert_eq!(run(&["--once"]).await, (Some(0), String::new()));
    assert_eq!(place.read("out"), "10.0.0.1\n");
    assert_eq!(run(&["--diff"]).await, (Some(0), String::new()));
    assert_eq!(run(&["--splay=1"]).await.0, Some(2));
}
