use serde::Deserialize;

use super::Document;
use crate::units::Period;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listener {
    address: String,
    port: Option<u16>,
    wait: Option<Period>,
    policy: Option<Policy>,
    limits: Option<Limits>,
    #[serde(default)]
    networks: Vec<String>,
    #[serde(default)]
    list: Vec<Limits>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    head: u16,
    body: Option<bool>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    RoundRobin,
    Random,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    File(Limits),
    Consul(Limits),
}

fn refusal(text: &str) -> String {
    let document = Document::parse("p.toml", text).unwrap();
    document.table::<Listener>(&["l", "web"]).unwrap().unwrap_err().to_string()
}

#[test]
fn a_bad_key_or_value_is_told_with_its_exact_place_and_what_to_write() {
    for (case, text, want) in [
        (
            "unknown key",
            "[l.web]\naddress = \"a\"\nprot = 1\n",
            "p.toml:3:1: unknown key `prot` in [l.web]; did you mean `port`? \
             Known keys: address, port, wait, policy, limits, networks, list",
        ),
        (
            "unknown key deep in an inline table",
            "[l.web]\naddress = \"a\"\nlimits = { head = 1, bdoy = true }\n",
            "p.toml:3:22: unknown key `bdoy` in [l.web.limits]; did you mean `body`? \
             Known keys: head, body",
        ),
        (
            "columns count characters, not bytes",
            "[l.web]\naddress = \"a\"\nnetworks = [\"ää\", 7]\n",
            "p.toml:3:19: `networks` (item 1) in [l.web] must be a string, not the integer `7`",
        ),
        (
            "unknown key in an item of an array",
            "[l.web]\naddress = \"a\"\nlist = [{ head = 1 }, { head = 1, x = 2 }]\n",
            "p.toml:3:35: unknown key `x` in [l.web.list.1]; known keys: head, body",
        ),
        (
            "wrong type",
            "[l.web]\naddress = 5\n",
            "p.toml:2:11: `address` in [l.web] must be a string, not the integer `5`",
        ),
        (
            "number out of range",
            "[l.web]\naddress = \"a\"\nport = 70000\n",
            "p.toml:3:8: `port` in [l.web] must be a whole number from 0 to 65535, \
             not the integer `70000`",
        ),
        (
            "number out of range, inline",
            "[l.web]\naddress = \"a\"\nlimits = { head = -1 }\n",
            "p.toml:3:19: `head` in [l.web.limits] must be a whole number from 0 to 65535, \
             not the integer `-1`",
        ),
        (
            "not a boolean",
            "[l.web]\naddress = \"a\"\nlimits = { head = 1, body = \"yes\" }\n",
            "p.toml:3:29: `body` in [l.web.limits] must be true or false, not the string \"yes\"",
        ),
        (
            "not a length of time",
            "[l.web]\naddress = \"a\"\nwait = \"10\"\n",
            "p.toml:3:8: `wait` in [l.web]: \"10\" is no length of time; \
             write it like \"250ms\", \"10s\" or \"5m\"",
        ),
        (
            "unknown value",
            "[l.web]\naddress = \"a\"\npolicy = \"round-robbin\"\n",
            "p.toml:3:10: unknown value `round-robbin` for `policy` in [l.web]; \
             did you mean `round-robin`? Known values: round-robin, random",
        ),
        (
            "missing key",
            "\n[l.web]\nport = 80\n",
            "p.toml:2:1: missing key `address` in [l.web]; add it",
        ),
        (
            "missing key of an inline table",
            "[l.web]\naddress = \"a\"\nlimits = { body = true }\n",
            "p.toml:3:10: missing key `head` in [l.web.limits]; add it",
        ),
        (
            "an array where a table belongs",
            "[l.web]\naddress = \"a\"\nlimits = \"much\"\n",
            "p.toml:3:10: `limits` in [l.web] must be a table, not the string \"much\"",
        ),
        (
            "an item of an array",
            "[l.web]\naddress = \"a\"\nnetworks = [\"a\", 7]\n",
            "p.toml:3:18: `networks` (item 1) in [l.web] must be a string, not the integer `7`",
        ),
        (
            "a value where the table belongs",
            "[l]\nweb = 5\n",
            "p.toml:2:7: `web` in [l] must be a table, not the integer `5`",
        ),
    ] {
        assert_eq!(refusal(text), want, "{case}");
    }
}

#[test]
fn a_table_of_kinds_takes_exactly_one_that_is_known() {
    for (case, text, want) in [
        (
            "unknown kind",
            "[r.main.fil]\nhead = 1\n",
            "p.toml:1:9: unknown key `fil` in [r.main]; did you mean `file`? \
             Known keys: file, consul",
        ),
        (
            "none",
            "[r.main]\n",
            "p.toml:1:1: [r.main] must have exactly one kind below it, written [r.main.KIND]",
        ),
        (
            "two",
            "[r.main]\n[r.main.file]\nhead = 1\n[r.main.consul]\nhead = 1\n",
            "p.toml:1:1: [r.main] must have exactly one kind below it, written [r.main.KIND]",
        ),
        (
            "wrong inside",
            "[r.main.file]\nhead = \"x\"\n",
            "p.toml:2:8: `head` in [r.main.file] must be a whole number from 0 to 65535, \
             not the string \"x\"",
        ),
    ] {
        let document = Document::parse("p.toml", text).unwrap();
        let error = document.table::<Kind>(&["r", "main"]).unwrap().unwrap_err();
        assert_eq!(error.to_string(), want, "{case}");
    }
}

#[test]
fn syntax_errors_are_told_by_line_and_several_at_once() {
    let text = "[a]\nx = \ny = 1\n[b\nz = 2\n[c]\nw = 1\nw = 2\n";
    let problems: Vec<_> = Document::parse("p.toml", text)
        .unwrap_err()
        .iter()
        .map(|problem| (problem.line, problem.column))
        .collect();
    assert_eq!(problems, [(2, 5), (4, 3), (8, 1)]);
}

#[test]
fn one_bad_table_leaves_the_others_readable() {
    let text = "[l.bad]\nport = 1\n[l.web]\naddress = \"a\"\n";
    let document = Document::parse("p.toml", text).unwrap();
    let names: Vec<_> = document.names("l").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["bad", "web"], "in the order of the document");
    assert!(document.table::<Listener>(&["l", "bad"]).unwrap().is_err());
    assert!(document.table::<Listener>(&["l", "web"]).unwrap().is_ok());
    assert!(document.table::<Listener>(&["l", "gone"]).is_none());
}

#[test]
fn variables_are_replaced_in_values_and_an_unset_one_is_told_at_its_place() {
    let text = "[l.web]\naddress = \"${HOST}\"\nnetworks = [\"$${HOST}\", \"${GONE}\"]\n";
    let mut document = Document::parse("p.toml", text).unwrap();
    let variable = |name: &str| (name == "HOST").then(|| "x\"\nport = 1".to_owned());
    let problems: Vec<_> = document.substitute(&variable).iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        ["p.toml:3:25: `networks`: the environment variable `GONE` is not set; set it, \
          or write `$${GONE}` for the text itself"]
    );
    let listener = document.table::<Listener>(&["l", "web"]).unwrap().unwrap();
    assert_eq!(listener.address, "x\"\nport = 1", "a value brings no keys");
    assert_eq!(listener.port, None);
    assert_eq!(listener.networks, ["${HOST}", "${GONE}"]);
}

#[test]
fn tables_that_nobody_reads_are_told_with_the_nearest_that_somebody_does() {
    let document = Document::parse("p.toml", "node = 5\n[listner.web]\na = 1\n[dns]\n").unwrap();
    let problems: Vec<_> = document
        .unknown_kinds(&["node", "listener", "dns"])
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "p.toml:1:8: [node] must be a table, not a value of type integer",
            "p.toml:2:2: unknown table [listner]; did you mean `listener`? \
             Known tables: node, listener, dns",
        ]
    );
}

#[test]
fn a_check_across_tables_points_at_the_key_itself() {
    let text = "[l.web]\naddress = \"a\"\n  limits = { head = 1 }\nlist = [{ head = 2 }]\n";
    let document = Document::parse("p.toml", text).unwrap();
    for (path, want) in [
        (&["l", "web", "address"][..], (2, 1)),
        (&["l", "web", "limits", "head"], (3, 14)),
        (&["l", "web", "list", "0", "head"], (4, 11)),
        (&["l", "web", "gone"], (1, 4)),
        (&["gone"], (1, 1)),
    ] {
        assert_eq!(document.position(path), want, "{path:?}");
    }
    let problem = document.problem(&["l", "web", "address"], "is taken");
    assert_eq!(problem.to_string(), "p.toml:2:1: is taken");
}

#[test]
fn the_rooms_own_tables_decode_with_their_own_words() {
    let text = "[registry.a.file]\npath = \"s.txt\"\n\
                [registry.b.file]\npath = \"s.yaml\"\npoll = \"1s\"\npriority = 3\n\
                [template.t]\nsource = \"a.j2\"\ndestination = \"a\"\nmode = \"0999\"\n\
                [template.u]\nsource = \"a.j2\"\ndestination = \"a\"\nwait = { min = \"1s\", mx = 1 }\n";
    let document = Document::parse("p.toml", text).unwrap();
    let registry = |name| document.table::<crate::registry::RegistryConfig>(&["registry", name]);
    let template = |name| document.table::<crate::render::ResourceConfig>(&["template", name]);
    assert_eq!(
        registry("a").unwrap().unwrap_err().to_string(),
        "p.toml:2:8: `path` in [registry.a.file]: s.txt does not tell how it is written; \
         call it *.toml, *.yaml or *.json"
    );
    let b = registry("b").unwrap().unwrap();
    assert_eq!((b.priority(), b.required()), (3, true));
    assert_eq!(
        template("t").unwrap().unwrap_err().to_string(),
        "p.toml:10:8: `mode` in [template.t]: \"0999\" are no permissions; \
         write them in octal, like \"0644\""
    );
    assert_eq!(
        template("u").unwrap().unwrap_err().to_string(),
        "p.toml:14:22: unknown key `mx` in [template.u.wait]; did you mean `max`? \
         Known keys: min, max"
    );
}
