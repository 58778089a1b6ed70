use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::*;

/// What a command line in `/app` comes to, with these files and variables.
fn planned(
    line: &[&str],
    files: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> Result<Plan, Refused> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let arguments: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let input = Input { arguments: &arguments, variable: &variable, directory: dir.path() };
    let here = dir.path().to_str().unwrap();
    match plan(input)? {
        Wish::Render(mut plan) => {
            plan.text = plan.text.replace(here, "/app");
            Ok(*plan)
        }
        other => panic!("{other:?}"),
    }
}

/// The plan of a configuration file alone.
fn of_file(text: &str) -> Result<Plan, Refused> {
    planned(&["-config", "ct.hcl"], &[("ct.hcl", text)], &[])
}

/// What stands between the head, which is always the same, and the end.
fn body(plan: &Plan) -> &str {
    let head = "[node]\nworkers = 1\n\n";
    plan.text.strip_prefix(head).unwrap_or_else(|| panic!("{}", plan.text))
}

const CONSUL: &str = "[registry.consul.consul]\naddress = \"http://127.0.0.1:8500\"\n";

#[test]
fn the_command_line_of_the_mesos_setup_comes_to_one_registry_and_one_template() {
    let plan = planned(
        &[
            "-consul=10.1.2.3:8500",
            "-template",
            "/etc/ct/app.ctmpl:/etc/nginx/conf.d/app.conf:nginx -s reload",
        ],
        &[],
        &[],
    )
    .unwrap();
    assert_eq!(
        body(&plan),
        "[registry.consul.consul]\naddress = \"http://10.1.2.3:8500\"\n\n\
         [template.app-conf]\nsource = \"/etc/ct/app.ctmpl\"\n\
         destination = \"/etc/nginx/conf.d/app.conf\"\ndialect = \"consul-template\"\n\
         create_dirs = true\nreload = \"nginx -s reload\"\n"
    );
    assert_eq!((plan.mode, plan.dry, plan.patience), (Mode::Watch, false, None));
    assert_eq!(plan.log_level.as_deref(), Some("warn,pingora_core=error,pingora_proxy=error"));
    assert!(plan.notices.is_empty(), "{:?}", plan.notices);
}

#[test]
fn a_whole_file_is_taken_over_key_by_key() {
    let plan = of_file(
        r#"
# As people have them.
consul {
  address = "consul.example:8501"
  namespace = "team"
  token = "s3cret"
  auth { enabled = true username = "u" password = "p" }
  retry { attempts = 0 backoff = "1s" }
  ssl { enabled = true verify = false ca_cert = "ca.pem" cert = "/c.pem" key = "/k.pem" server_name = "s" }
  transport { max_conns_per_host = 50 dial_timeout = "3s" }
}
max_stale = "10m"
block_query_wait = "60s"
log_level = "debug"
pid_file = "ct.pid"
kill_signal = "SIGTERM"
reload_signal = ""
wait { min = "5s" max = "10s" }
default_delimiters { left = "<<" right = ">>" }
syslog { facility = "LOCAL5" }
deduplicate { enabled = true prefix = "x/" }
vault { address = "https://vault:8200" renew_token = true }
telemetry { prometheus { port = 8888 } }

template {
  source = "in.ctmpl"
  destination = "/out/a.cfg"
  create_dest_dirs = false
  command = ["service", "x", "restart"]
  command_timeout = "60s"
  error_on_missing_key = true
  perms = 0600
  user = "www"
  group = "33"
  backup = true
  left_delimiter = "[["
  function_blacklist = ["plugin"]
  sandbox_path = "/sand"
  wait = "2s:4s"
}
template {
  contents = <<EOH
{{ key "a" }} ${HOME}
EOH
  destination = "/out/b/a.cfg"
  exec { command = "reload \"x\"" timeout = "0s" env { pristine = true custom = ["A=b c"] } }
}
template { source = "/s" destination = "/out/c" perms = "0644" command = "no" exec { enabled = false } }
exec {
  command = "/usr/bin/app -x"
  splay = "5s"
  kill_signal = "SIGUSR1"
  kill_timeout = "2s"
  reload_signal = "SIGHUP"
  env { custom = ["P=q"] whitelist = ["CONSUL_*"] denylist = ["VAULT_*"] }
}
"#,
    )
    .unwrap();
    assert_eq!(
        body(&plan),
        r#"[admin]
listen = "127.0.0.1:8888"

[registry.consul.consul]
address = "https://consul.example:8501"
namespace = "team"
token = "${CONSUL_HTTP_TOKEN}"
username = "u"
password = "${CONSUL_HTTP_PASSWORD}"
ca_file = "/app/ca.pem"
cert_file = "/c.pem"
key_file = "/k.pem"
server_name = "s"
verify = false
max_stale_read = "10m"
wait = "1m"
max_watches = 50

[template.a-cfg]
source = "/app/in.ctmpl"
destination = "/out/a.cfg"
dialect = "consul-template"
delimiters = ["[[", ">>"]
missing_key = "error"
denied_functions = ["plugin"]
sandbox = "/sand"
mode = "0600"
owner = "www:33"
backup = true
wait = { min = "2s", max = "4s" }
reload = ["service", "x", "restart"]
reload_timeout = "1m"

[template.a-cfg-2]
contents = '''
{{ key "a" }} $${HOME}
'''
destination = "/out/b/a.cfg"
dialect = "consul-template"
delimiters = ["<<", ">>"]
create_dirs = true
wait = { min = "5s", max = "10s" }
reload = "( '/usr/bin/env' '-i' 'A=b c' '/bin/sh' '-c' 'reload \"x\"' ) &"

[template.c]
source = "/s"
destination = "/out/c"
dialect = "consul-template"
delimiters = ["<<", ">>"]
create_dirs = true
mode = "0644"
wait = { min = "5s", max = "10s" }

[exec]
command = "/usr/bin/app -x"
splay = "5s"
kill_signal = "USR1"
kill_timeout = "2s"
reload_signal = "HUP"
env = { custom = ["CONSUL_HTTP_ADDR=consul.example:8501", "P=q"], allow = ["CONSUL_*"], deny = ["VAULT_*"] }
"#
    );
    assert_eq!(plan.variables["CONSUL_HTTP_TOKEN"], "s3cret");
    assert_eq!(plan.variables["CONSUL_HTTP_PASSWORD"], "p");
    assert!(!plan.text.contains("s3cret") && !format!("{plan:?}").contains("s3cret"));
    assert_eq!(plan.signals, super::super::Signals { end: Some(15), reload: None });
    assert_eq!(plan.pid_file.unwrap().file_name().unwrap(), "ct.pid");
    assert_eq!(plan.log_level.as_deref(), Some("info,portolan=debug"));
    let told = |lines: &[String], part: &str| {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:#?}");
    };
    told(&plan.notices, "ct.hcl:20:21: `syslog` has no effect");
    for part in ["`deduplicate` has", "`vault` has", "`consul.transport.dial_timeout` has"] {
        told(&plan.notices, part);
    }
    for part in
        ["attempts are used up", "metrics are at", "token is read from", "in the background"]
    {
        told(&plan.differences, part);
    }
}

#[test]
fn variables_count_below_files_and_files_below_flags() {
    let template = "-template=a:/b";
    for (case, line, file, variables, want) in [
        (
            "address",
            &[template][..],
            "",
            &[("CONSUL_HTTP_ADDR", "v:1")][..],
            "address = \"http://v:1\"\n",
        ),
        (
            "file",
            &[template],
            "consul = \"f:1\"",
            &[("CONSUL_HTTP_ADDR", "v:1")],
            "address = \"http://f:1\"\n",
        ),
        (
            "flag",
            &[template, "-consul-addr=g:1"],
            "consul { address = \"f:1\" }",
            &[("CONSUL_HTTP_ADDR", "v:1")],
            "address = \"http://g:1\"\n",
        ),
        ("https", &[template, "-consul=https://a"], "", &[], "address = \"https://a\"\n"),
        (
            "http that is asked for TLS",
            &[template, "-consul=http://a", "-ssl"],
            "",
            &[],
            "address = \"https://a\"\n",
        ),
        (
            "TLS by a variable",
            &[template],
            "",
            &[("CONSUL_HTTP_SSL", "true")],
            "address = \"https://127.0.0.1:8500\"\n",
        ),
        (
            "TLS by a setting of it",
            &[template, "-consul-ssl-ca-path=/certs"],
            "",
            &[],
            "address = \"https://127.0.0.1:8500\"\nca_file = \"/certs\"\n",
        ),
        (
            "TLS is off",
            &[template, "-consul-ssl-ca-cert=/c", "-consul-ssl=false"],
            "",
            &[],
            "address = \"http://127.0.0.1:8500\"\n",
        ),
        (
            "token by a variable",
            &[template],
            "",
            &[("CONSUL_TOKEN", "t")],
            "address = \"http://127.0.0.1:8500\"\ntoken = \"${CONSUL_TOKEN}\"\n",
        ),
        (
            "a file of the token before the token",
            &[template, "-consul-token-file=t", "-token=x"],
            "",
            &[],
            "address = \"http://127.0.0.1:8500\"\ntoken_file = \"/app/t\"\n",
        ),
        (
            "user and password by a variable",
            &[template],
            "",
            &[("CONSUL_HTTP_AUTH", "u:p")],
            "address = \"http://127.0.0.1:8500\"\nusername = \"u\"\npassword = \"${CONSUL_HTTP_PASSWORD}\"\n",
        ),
        (
            "never stale",
            &[template, "-max-stale=0s"],
            "",
            &[],
            "address = \"http://127.0.0.1:8500\"\nstale = false\n",
        ),
        (
            "old spellings at the top",
            &[template],
            "token = \"t\"\nretry = \"10s\"\nauth { username = \"u\" }\nssl { enabled = true, verify = false }",
            &[],
            "address = \"https://127.0.0.1:8500\"\ntoken = \"${CONSUL_HTTP_TOKEN}\"\nusername = \"u\"\nverify = false\n",
        ),
    ] {
        let line: Vec<&str> = line.iter().copied().chain(["-config=c"]).collect();
        let plan =
            planned(&line, &[("c", file)], variables).unwrap_or_else(|why| panic!("{case}: {why}"));
        let registry = body(&plan).split("\n[template").next().unwrap();
        assert_eq!(registry, format!("[registry.consul.consul]\n{want}"), "{case}");
    }
}

#[test]
fn files_and_directories_are_merged_in_their_order() {
    let files = [
        ("d/20.hcl", "log_level = \"info\"\ntemplate { source = \"2\" destination = \"/2\" }"),
        (
            "d/10.json",
            r#"{"log_level": "err", "template": [{"source": "1", "destination": "/1"}, {"source": "1b", "destination": "/1b"}], "wait": {"min": "1s"}}"#,
        ),
        ("d/sub/x", "template { source = \"3\" destination = \"/3\" }"),
        ("last.hcl", "wait { max = \"9s\" }\nexec { env { custom = [\"A=1\"] } }"),
        ("first.hcl", "max_stale = \"1s\"\nexec { command = \"x\" env { custom = [\"B=2\"] } }"),
    ];
    let plan =
        planned(&["-config=first.hcl", "-config", "d", "-config=last.hcl"], &files, &[]).unwrap();
    let sources: Vec<&str> =
        plan.text.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    assert_eq!(sources, ["\"/app/1\"", "\"/app/1b\"", "\"/app/2\"", "\"/app/3\""]);
    assert_eq!(plan.log_level.as_deref().unwrap().rsplit('=').next(), Some("info"));
    assert!(plan.text.contains("wait = { min = \"1s\", max = \"9s\" }"), "{}", plan.text);
    assert!(plan.text.contains("custom = [\"B=2\", \"A=1\"]"), "{}", plan.text);
}

#[test]
fn every_problem_of_every_file_is_told_with_its_place() {
    let files = [
        ("a", "consul { adress = \"x\" }\nwait = \"soon\"\nfoo { bar = 1 }\nonce = 5"),
        (
            "b",
            "template {\n  perms = 644\n  backup = \"perhaps\"\n  command = { }\n}\nmax_stale = 5",
        ),
        ("c", "a = "),
        ("e", "template \"x\" { source = \"a\" }\nkill_signal = \"SIGX\"\nretry { }"),
    ];
    let line = ["-config=a", "-config=b", "-config=c", "-config=gone", "-config=e"];
    let Refused::Configuration(problems) = planned(&line, &files, &[]).unwrap_err() else {
        panic!("the command line is right")
    };
    for (place, part) in [
        ("a:1:10: ", "unknown key `adress` in `consul`; did you mean `address`?"),
        ("a:2:8: ", "`wait`: \"soon\" is no length of time"),
        ("a:3:1: ", "unknown key `foo` in the configuration"),
        ("a:4:8: ", "`once` must be true or false, not a number"),
        ("b:2:11: ", "644 is decimal and gives no permissions; write them in octal, as 0644"),
        ("b:3:12: ", "`backup` must be true or false, not a text"),
        ("b:4:13: ", "`command` must be a text, or a list of texts, not a block"),
        ("b:6:13: ", "`max_stale` must be a length of time in quotes, like \"30s\", not a number"),
        ("c:1:5: ", "the end stands where a value should"),
        ("cannot read the configuration gone: ", "No such file"),
        ("e:1:10: ", "unknown key `x` in a template"),
        ("e:2:15: ", "\"SIGX\" is no signal"),
        ("e:3:7: ", "`retry` must be a length of time"),
    ] {
        let found =
            problems.iter().any(|problem| problem.starts_with(place) && problem.contains(part));
        assert!(found, "{place}{part}: {problems:#?}");
    }
    assert_eq!(problems.len(), 13, "{problems:#?}");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    for (case, line, file, want) in [
        ("nothing to do", &[][..], "", "there is nothing to render: give -template"),
        ("no source", &[], "template { destination = \"/a\" }", "c:1:10: the template has neither"),
        (
            "both",
            &[],
            "template { source = \"a\" contents = \"b\" destination = \"c\" }",
            "keep one",
        ),
        ("no destination", &["-template=a"], "", "-template: the template has no `destination`"),
        (
            "unix",
            &["-template=a:b", "-consul=unix:///x"],
            "",
            "-consul: Consul cannot be asked by a unix",
        ),
        (
            "level",
            &["-template=a:b", "-log-level=loud"],
            "",
            "-log-level: unknown log level `loud`",
        ),
        (
            "bytes",
            &["-template=a:b"],
            "consul { ssl { ca_cert_bytes = \"x\" } }",
            "write the certificates to a file",
        ),
    ] {
        let line: Vec<&str> = line.iter().copied().chain(["-config=c"]).collect();
        let why = planned(&line, &[("c", file)], &[]).unwrap_err().to_string();
        assert!(why.contains(want), "{case}: {why}");
    }
}

#[test]
fn modes_come_from_flags_and_files_and_once_has_the_patience_of_the_retries() {
    let template = "template { source = \"a\" destination = \"/b\" wait { min = \"5s\" } }\n";
    for (case, line, file, mode, patience) in [
        ("watch", &[][..], "", Mode::Watch, None),
        ("once", &["-once"], "", Mode::Once, Some(10_000 + 250 * 255 + 60_000 * 3)),
        ("once in the file", &[], "once = true", Mode::Once, Some(10_000 + 250 * 255 + 60_000 * 3)),
        ("for ever", &["-once", "-consul-retry-attempts=0"], "", Mode::Once, None),
        ("at once", &["-once", "-consul-retry=false"], "", Mode::Once, Some(10_000)),
        ("parse only", &["-parse-only", "-once"], "", Mode::ParseOnly, None),
        ("parse only in the file", &[], "parse_only = true", Mode::ParseOnly, None),
    ] {
        let line: Vec<&str> = line.iter().copied().chain(["-config=c"]).collect();
        let plan = planned(&line, &[("c", &format!("{template}{file}"))], &[]).unwrap();
        assert_eq!(
            (plan.mode, plan.patience),
            (mode, patience.map(Duration::from_millis)),
            "{case}"
        );
        assert_eq!(plan.text.contains("wait ="), mode != Mode::Once, "{case}: {}", plan.text);
    }
    let plan = planned(&["-dry", "-template", "x/a.tmpl"], &[], &[]).unwrap();
    assert!(plan.dry && plan.text.contains("[template.a-tmpl]"), "{}", plan.text);
    assert!(body(&plan).starts_with(CONSUL));
}
