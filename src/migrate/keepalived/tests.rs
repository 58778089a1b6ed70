//! What whole files come to, and that nothing that anybody may write breaks it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/keepalived")
}

fn of_text(text: &str) -> Result<Migrated, Vec<String>> {
    let lines = lines::of_text("keepalived.conf", text, Path::new("/nowhere"), "here")?;
    of_lines(&lines)
}

fn shown(migrated: &Migrated) -> String {
    let mut text = String::new();
    for (title, lines) in
        [("differs", &migrated.plan.differences), ("no effect", &migrated.plan.notices)]
    {
        for line in lines {
            writeln!(text, "{title}: {line}").unwrap();
        }
    }
    text + "---\n" + &migrated.plan.text + "---\n" + &migrated.services
}

#[test]
fn each_file_comes_to_what_stands_beside_it() {
    for name in ["full", "checks", "addresses"] {
        let text = std::fs::read_to_string(golden().join(format!("{name}.conf"))).unwrap();
        let found = shown(&of_text(&text).unwrap());
        let beside = golden().join(format!("{name}.txt"));
        // To write them anew after a change: read the difference before it is kept.
        if std::env::var_os("PORTOLAN_WRITE_GOLDEN").is_some() {
            std::fs::write(&beside, &found).unwrap();
        }
        let want = std::fs::read_to_string(&beside).unwrap();
        assert_eq!(found, want, "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_every_place() {
    for (text, want) in [
        ("virtual_server 10.0.0.1 80 {\n", "keepalived.conf:1: this block is never closed"),
        ("}\n", "keepalived.conf:1: `}` closes nothing"),
        ("a \"b\n", "keepalived.conf:1: a quoted text has no end"),
        ("include gone.conf\n", "keepalived.conf:1: cannot read /nowhere/gone.conf: No such file"),
    ] {
        let problems = of_text(text).unwrap_err();
        assert!(problems[0].starts_with(want), "{problems:?}");
    }
}

#[test]
fn one_line_says_what_a_setting_becomes() {
    let with = |inside: &str| {
        let text = format!("virtual_server 10.0.0.1 80 {{\n{inside}\n}}\n");
        shown(&of_text(&text).unwrap())
    };
    for (inside, want) in [
        ("lb_algo rr", "policy = \"round-robin\""),
        ("lb_algo wrr", "policy = \"round-robin\""),
        ("lb_algo lc", "policy = \"least-connections\""),
        ("lb_algo nq", "policy = \"least-connections\""),
        ("lvs_sched twos", "policy = \"p2c\""),
        ("lb_algo sh", "policy = \"maglev\"\nhash_on = \"source\""),
        ("", "policy = \"least-connections\""),
        ("persistence_timeout", "sticky = { source = \"360s\" }"),
        ("persistence_timeout 3600", "sticky = { source = \"3600s\" }"),
        (
            "persistence_timeout x",
            "differs: keepalived.conf:2: \"x\" is no time; its default counts",
        ),
        (
            "sorry_server 10.0.0.9",
            "[[service.vs-10-0-0-1-80-sorry.instance]]\naddress = \"10.0.0.9\"\nport = 80",
        ),
        ("sorry_server 10.0.0.9 81", "backup = \"vs-10-0-0-1-80-sorry\""),
        ("quorum 3", "differs: keepalived.conf:2: `backup` takes over when no server is healthy"),
        ("real_server 10.0.0.2 81 {\nweight 7\n}", "address = \"10.0.0.2\"\nport = 81\nweight = 7"),
        ("real_server 10.0.0.2 81 {\nuthreshold 7\n}", "max_connections = 7"),
        (
            "real_server 10.0.0.2 81 {\nTCP_CHECK {\n}\n}",
            "check.tcp]\ninterval = \"1m\"\nfast_interval = \"1s\"\ntimeout = \"5s\"\nrise = 1\nfall = 2",
        ),
        (
            "real_server 10.0.0.2 81 {\nTCP_CHECK {\nconnect_port 81\nretry 0\n}\n}",
            "check.tcp]\ninterval = \"1m\"\ntimeout = \"5s\"\nrise = 1\nfall = 1",
        ),
        (
            "delay_loop 3\nreal_server 10.0.0.2 81 {\nTCP_CHECK {\nconnect_port 82\n}\n}",
            "check.tcp]\nport = 82\ninterval = \"3s\"",
        ),
        ("lb_kind DR", "differs: Answers go back through Portolan"),
        ("lb_algo odd", "differs: keepalived.conf:2: odd: this scheduler is not known"),
        ("odd", "differs: keepalived.conf:2: `odd` is not understood, and has no effect"),
    ] {
        let found = with(inside);
        assert!(found.contains(want), "{inside}:\n{found}");
    }
    assert!(!with("persistence_timeout 0").contains("sticky"), "0 means none");
}

/// What a file is made of.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "virtual_server 10.0.0.1 80 {\n",
            "virtual_server fwmark 1 {\n",
            "}\n",
            "{",
            "\"",
            "\\\n",
            "real_server 10.0.0.2 0 {\n",
            "weight 4294967295\n",
            "HTTP_GET {\n",
            "url {\n",
            "\n",
            "MISC_CHECK {\n",
            "misc_path \"a 'b\"\n",
            "delay_loop 1e308\n",
            "retry 4294967295\n",
            "$A=\\\n",
            "$A\n",
            "${A}",
            "@here ",
            "@^here ",
            "status_code\n",
            "regex \"(\"\n",
            "!",
            "#",
            "virtual_server_group g {\n",
            "::-ffff 1\n",
            "10.0.0.0/0 1\n",
            "persistence_timeout -1\n",
            "virtual_server group g {\n",
            "sorry_server ::1\n",
            "protocol UDP\n",
            "TCP_CHECK{",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}\n?",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_what_it_writes_is_toml(
        pieces in prop::collection::vec(piece(), 0..60),
    ) {
        if let Ok(migrated) = of_text(&pieces.concat()) {
            prop_assert!(migrated.plan.text.parse::<toml::Table>().is_ok(), "{}", migrated.plan.text);
            prop_assert!(migrated.services.parse::<toml::Table>().is_ok(), "{}", migrated.services);
        }
    }

    #[test]
    fn no_damage_to_a_whole_file_makes_it_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let whole = std::fs::read(golden().join("full.conf")).unwrap();
        let mut bytes = whole;
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            match byte % 3 {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, byte),
                _ => bytes[at] = byte,
            }
        }
        if let Ok(migrated) = of_text(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(migrated.plan.text.parse::<toml::Table>().is_ok(), "{}", migrated.plan.text);
        }
    }
}
