//! Bad input stays with its owner: refused with its place and a remedy, and all else runs on.

use std::net::SocketAddr;
use std::path::Path;

use hickory_proto::rr::RecordType;

use crate::child::portolan;
use crate::clients::{Dns, get, get_by_socket};
use crate::support::{address, backend, known, listing, replace, says, start, until, within};

async fn check(file: &Path) -> (i32, String) {
    let ended = portolan(&["check", "--config", file.to_str().unwrap()]).await;
    // Places are told by the file as it was named; here only lines and columns differ.
    let told = format!("{}{}", ended.stdout, ended.stderr);
    let directory = format!("{}/", file.parent().unwrap().display());
    (ended.code.unwrap(), told.replace(&directory, ""))
}

#[tokio::test]
async fn every_problem_of_a_configuration_is_told_at_once_and_the_exit_code_is_78() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.toml");
    let text = r#"[node]
worker = 2
[dns]
listen = ["127.0.0.1:5300"]
[dns.zone.test]
registries = ["locl"]
[registry.local.file]
path = "services.txt"
[listener.web.http]
bind = ["0.0.0.0:8080"]
[listener.api.http]
bind = ["127.0.0.1:8080"]
[listener.bad.http]
bnid = ["127.0.0.1:8081"]
[route.lost]
listener = "wbe"
service = "web"
[route.known]
listener = "bad"
service = "web"
[service.web]
policy = "fastest"
[template.list]
source = "list.j2"
destination = "list"
[template.gone]
source = "gone.j2"
destination = "gone"
[admin]
listen = "0.0.0.0:8611"
[lissener.x]
"#;
    std::fs::write(&file, text).unwrap();
    std::fs::write(directory.path().join("list.j2"), "a\n  {% for i in %}\n").unwrap();
    let (code, told) = check(&file).await;
    assert_eq!(code, 78);
    let want = "\
p.toml:2:1: unknown key `worker` in [node]; did you mean `workers`? Known keys: name, data_dir, locality, workers
p.toml:6:1: there is no [registry.locl]; there are: local
p.toml:8:8: `path` in [registry.local.file]: services.txt does not tell how it is written; call it *.toml, *.yaml or *.json
p.toml:10:1: 0.0.0.0:8080 is taken by listener.api.http.bind (127.0.0.1:8080); choose another port
p.toml:14:1: unknown key `bnid` in [listener.bad.http]; did you mean `bind`? Known keys: bind, timeouts, trusted_proxies, show_generation, head_max, headers_max, strictness, half_close, min_rates, connections_per_client, proxy_protocol, streams_max, access_log, trace, request_id, certificates, unknown_name, protocols, tls
p.toml:16:1: there is no listener \"wbe\"; did you mean \"web\"? (there are: api, web)
p.toml:22:1: unknown policy \"fastest\"; known are p2c, round-robin, least-connections, random, maglev, ring-hash
p.toml:24:1: list.j2:2:15: syntax error: unexpected end of block
p.toml:27:1: cannot read the template gone.j2 of [template.gone]: No such file or directory (os error 2); correct `source`
p.toml:30:1: 0.0.0.0:8611 is reachable from outside: set `token_file`, or listen on 127.0.0.1
p.toml:31:2: unknown table [lissener]; did you mean `listener`? Known tables: node, process, limits, guard, registry, locality, health, service, dns, certificate, listener, route, access_log, labels, template, group, confd, exec, metadata, haproxy, admin, operations, sticky
11 problems in the configuration
";
    assert_eq!(told, want);
}

#[tokio::test]
async fn a_configuration_without_problems_is_said_to_be_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.toml");
    std::fs::write(&file, "[node]\nworkers = 1\n").unwrap();
    assert_eq!(check(&file).await, (0, "p.toml: no problems\n".to_owned()));
    std::fs::remove_file(&file).unwrap();
    let gone = "p.toml:1:1: cannot read the configuration: No such file or directory (os error 2)\n\
                1 problem in the configuration\n";
    assert_eq!(check(&file).await, (78, gone.to_owned()));
}

const CONFIGURATION: &str = r#"
[node]
workers = 1
[registry.local.file]
path = "services.toml"
[dns]
listen = ["127.0.0.1:0"]
[dns.zone.test]
[listener.web.http]
bind = ["127.0.0.1:0"]
[route.all]
listener = "web"
service = "web"
[template.good]
source = "good.j2"
destination = "good"
[template.failing]
source = "failing.j2"
destination = "failing"
[admin]
socket = "admin.sock"
"#;

fn lay_out(directory: &Path) {
    let good = "{% for i in service('web') %}{{ i.id }} {% endfor %}";
    std::fs::write(directory.join("good.j2"), good).unwrap();
    std::fs::write(
        directory.join("failing.j2"),
        "{% for i in service('web') %}\n{{ i.prot }}{% endfor %}",
    )
    .unwrap();
}

/// A good instance, and one that is wrong in `line`.
fn beside(good: SocketAddr, line: &str) -> String {
    let good = listing("web", &[("good", good)]);
    format!("{good}[[service.web.instance]]\nid = \"bad\"\naddress = \"10.0.0.1\"\n{line}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_wrong_is_refused_under_its_service_and_its_neighbour_serves() {
    let directory = tempfile::tempdir().unwrap();
    lay_out(directory.path());
    let services = directory.path().join("services.toml");
    let good = backend("web", 1).await;
    std::fs::write(&services, listing("web", &[("good", good)])).unwrap();
    let app = start(CONFIGURATION, directory.path()).await;
    known(&app, "web", 1).await;
    let dns = Dns::to(address(&app, "dns").await).await;
    let web = address(&app, "web").await;
    let admin = directory.path().join("admin.sock");
    let place = services.display().to_string();
    for (line, want) in [
        ("port = 70000", "8:8: port 70000 is not between 1 and 65535"),
        ("weight = 1000000000", "8:10: weight 1000000000 is not between 0 (no new work) and 1000"),
        ("tags = [1]", "8:9: `tags[0]` must be a string in quotes, not the number 1"),
        (
            "meta = { a = \"\\u0000\" }",
            "8:14: meta value \"\\0\" contains the control character '\\0'",
        ),
    ] {
        replace(&services, &beside(good, line));
        let want = format!("{place}:{want}");
        let refused = app.published(|snapshot| {
            snapshot.service("web").is_some_and(|web| web.problems.iter().any(|p| **p == *want))
        });
        within(&want, refused).await;
        let told = get_by_socket(&admin, "/v1/services/web").await.json();
        assert_eq!(told["problems"][0], want.as_str());
        assert_eq!(dns.addresses("web.test").await, [good.ip()].into(), "{line}");
        assert_eq!(get(web, "/").await.body, "web", "{line}");
        says(&directory.path().join("good"), "good ").await;
    }

    // A service whose name is none is told beside the others.
    let text = format!("{}[service.\"my web\"]\n", listing("web", &[("good", good)]));
    replace(&services, &text);
    let want = "service name \"my web\" contains ' '; use letters, digits, '-', '_' or '.' instead";
    within("refused", app.published(|snapshot| !snapshot.registries[0].problems.is_empty())).await;
    let status = get_by_socket(&admin, "/v1/status").await.json();
    let problem = &status["registries"][0]["problems"][0];
    assert_eq!(problem["place"], format!("{place}:5:10"));
    assert_eq!(problem["message"], want);
    assert_eq!(dns.addresses("web.test").await, [good.ip()].into());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_written_file_changes_nothing_and_the_whole_one_counts() {
    let directory = tempfile::tempdir().unwrap();
    lay_out(directory.path());
    let services = directory.path().join("services.toml");
    let web = backend("web", 1).await;
    let whole = listing("web", &[("one", web), ("two", web)]);
    std::fs::write(&services, listing("web", &[("one", web)])).unwrap();
    let app = start(CONFIGURATION, directory.path()).await;
    known(&app, "web", 1).await;
    let dns = Dns::to(address(&app, "dns").await).await;
    let admin = directory.path().join("admin.sock");
    let halves = [
        "[[service.web.instance]]\nid = \"one\"\naddress = \"127.0",
        "[[service.web.instance]]\nid = \"one\"\naddress =",
        "[[service.we",
        "",
    ];
    for half in halves {
        std::fs::write(&services, half).unwrap();
        let stale = app.published(|snapshot| snapshot.registries[0].stale.is_some());
        within("stale", stale).await;
        let status = get_by_socket(&admin, "/v1/status").await.json();
        let why = status["registries"][0]["stale"]["why"].as_str().unwrap();
        assert!(why.starts_with(&format!("{}:", services.display())), "{why}");
        assert_eq!(status["ready"], true);
        assert_eq!(dns.addresses("web.test").await, [web.ip()].into());
        assert_eq!(get(address(&app, "web").await, "/").await.body, "web");
        std::fs::write(&services, listing("web", &[("one", web)])).unwrap();
        let live = app.published(|snapshot| snapshot.registries[0].stale.is_none());
        within("live again", live).await;
    }
    std::fs::write(&services, &whole).unwrap();
    known(&app, "web", 2).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_fails_is_told_with_its_place_and_the_others_are_rendered() {
    let directory = tempfile::tempdir().unwrap();
    lay_out(directory.path());
    let at = backend("web", 1).await;
    std::fs::write(directory.path().join("services.toml"), listing("web", &[("good", at)]))
        .unwrap();
    std::fs::write(directory.path().join("failing"), "from before").unwrap();
    let app = start(CONFIGURATION, directory.path()).await;
    says(&directory.path().join("good"), "good ").await;
    let admin = directory.path().join("admin.sock");
    let error = until("the failure is told", async || {
        let status = get_by_socket(&admin, "/v1/status").await.json();
        let templates = status["templates"].as_array().unwrap().clone();
        let failing = templates.iter().find(|template| template["name"] == "failing").unwrap();
        failing["error"].as_str().map(str::to_owned)
    });
    let place = directory.path().join("failing.j2");
    let error = error.await;
    assert!(error.starts_with(&format!("{}:2:4: ", place.display())), "{error}");
    let kept = std::fs::read_to_string(directory.path().join("failing")).unwrap();
    assert_eq!(kept, "from before");
    let dns = Dns::to(address(&app, "dns").await).await;
    assert_eq!(dns.ask("web.test", RecordType::A).await.addresses().len(), 1);
    app.stop().await;
}
