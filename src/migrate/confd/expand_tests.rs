use super::*;

/// An installation with these files below `conf.d`.
struct Installation(tempfile::TempDir);

impl Installation {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("confd/conf.d")).unwrap();
        for (name, text) in files {
            let path = dir.path().join("confd/conf.d").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn expand(&self, table: &str) -> Result<Expansion, String> {
        self.expand_in(table, &Around::default())
    }

    fn expand_in(&self, table: &str, around: &Around) -> Result<Expansion, String> {
        let config: ConfdConfig = toml::from_str(&format!("dir = \"confd\"\n{table}")).unwrap();
        expand(&config, self.0.path(), around)
    }

    /// The lines of the only template's table, behind the first ones that are always the same.
    fn lines(&self, table: &str) -> Vec<String> {
        let expansion = self.expand(table).unwrap();
        assert_eq!(expansion.broken, []);
        let text = &expansion.templates[0].text;
        text.lines().skip(3).map(str::to_owned).collect()
    }
}

fn resource(more: &str) -> String {
    format!("[template]\nsrc = \"a.tmpl\"\ndest = \"/etc/a\"\n{more}\n")
}

#[test]
fn every_key_of_a_resource_becomes_a_key_of_ours() {
    let own = [
        "dialect = \"confd\"",
        "include_dir = \"confd/templates\"",
        "keys = [\"/app\"]",
        "registry = \"confd\"",
    ];
    for (line, want) in [
        ("", &[][..]),
        ("uid = 5\ngid = 6", &["owner = \"5:6\""]),
        ("mode = \"0600\"", &["mode = \"0600\""]),
        ("output_format = \"yml\"", &["output_format = \"yaml\""]),
        ("debounce = \"1.5s\"", &["wait = { min = \"1500ms\" }"]),
        ("check_cmd = \"c {{.src}}\"", &["check = \"c {{.src}}\"", "check_timeout = \"30s\""]),
        (
            "check_cmd = \"c {{ .src }} {{ .dest }}\"\ncheck_cmd_timeout = \"5s\"",
            &["check = \"c {{.src}} /etc/a\"", "check_timeout = \"5s\""],
        ),
        (
            "reload_cmd = \"r ${X} {{.src}}\"",
            &["reload = \"r $${X} /etc/a\"", "reload_timeout = \"60s\""],
        ),
        (
            "reload_cmd = \"r\"\nreload_cmd_timeout = \"1s\"\nmin_reload_interval = \"30s\"",
            &["reload = \"r\"", "reload_timeout = \"1s\"", "reload_interval = \"30s\""],
        ),
    ] {
        let text = resource(&format!("keys = [\"/app\"]\n{line}"));
        let installation = Installation::new(&[("a.toml", &text)]);
        let lines = installation.lines("backend = \"consul\"");
        let want: Vec<&str> = own.iter().chain(want).copied().collect();
        assert_eq!(lines, want, "{line}");
    }
}

#[test]
fn the_table_begins_with_its_files() {
    let text = resource("").replace("a.tmpl", "/sub/a.tmpl");
    let installation = Installation::new(&[("web/a.toml", &text)]);
    let expansion = installation.expand("").unwrap();
    let template = &expansion.templates[0];
    assert_eq!(template.name, "web-a");
    assert!(template.file.ends_with("conf.d/web/a.toml"));
    assert_eq!(
        template.text,
        "[template.web-a]\nsource = \"confd/templates/sub/a.tmpl\"\ndestination = \"/etc/a\"\n\
         dialect = \"confd\"\ninclude_dir = \"confd/templates\"\nkeys = []\ncatalog_keys = true\n"
    );
    assert_eq!(expansion.registries, []);
}

#[test]
fn prefixes_follow_the_rule_and_where_the_rules_part_it_is_told() {
    let text = resource("keys = [\"/a\"]\nprefix = \"app\"");
    let installation = Installation::new(&[("a.toml", &text)]);
    for (table, prefix, dialect, differences) in [
        ("", "/app", "confd", 0),
        ("prefix = \"/p\"", "/p/app", "confd", 1),
        ("prefix = \"/p\"\nprefix_rule = \"replace\"", "/p", "confd-legacy", 1),
        ("prefix_rule = \"replace\"", "/app", "confd-legacy", 0),
    ] {
        let table = format!("backend = \"consul\"\n{table}");
        let lines = installation.lines(&table);
        assert_eq!(lines[0], format!("dialect = \"{dialect}\""), "{table}");
        assert!(lines.contains(&format!("prefix = \"{prefix}\"")), "{table}: {lines:?}");
        let expansion = installation.expand(&table).unwrap();
        assert_eq!(expansion.differences.len(), differences, "{:?}", expansion.differences);
    }
}

#[test]
fn what_holds_for_all_holds_where_a_resource_says_nothing() {
    let commands = "check_cmd = \"c\"\nreload_cmd = \"r\"\n";
    let installation = Installation::new(&[("a.toml", &resource(commands))]);
    let lines =
        installation.lines("debounce = \"2s\"\ncheck_timeout = \"1s\"\nreload_timeout = \"2s\"");
    assert_eq!(
        lines[4..],
        [
            "wait = { min = \"2s\" }",
            "check = \"c\"",
            "check_timeout = \"1s\"",
            "reload = \"r\"",
            "reload_timeout = \"2s\"",
        ]
    );
    let lines = installation.lines("sync_only = true");
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[test]
fn registries_are_made_for_what_is_asked_and_shared_between_resources() {
    let own = |keys: &str, backend: &str| resource(&format!("keys = [{keys}]\n{backend}"));
    let installation = Installation::new(&[
        ("a.toml", &own("\"/a\"", "")),
        ("b.toml", &own("\"/b\", \"/\"", "prefix = \"/p\"")),
        ("c.toml", &own("\"/c\"", "[backend]\nbackend = \"consul\"\nnodes = [\"h:1\"]")),
        ("d.toml", &own("\"/d\"", "[backend]\nbackend = \"consul\"\nnodes = [\"h:1\"]")),
        ("e.toml", &own("\"/services\"", "[backend]\nbackend = \"catalog\"")),
    ]);
    let expansion = installation.expand("backend = \"env\"").unwrap();
    let registries: Vec<&str> = expansion.registries.iter().map(|(_, text)| &**text).collect();
    assert_eq!(
        registries,
        [
            "[registry.confd.environment]\nkeys = [\"/a\", \"/p/\", \"/p/b\"]\n",
            "[registry.confd-c.consul]\naddress = \"http://h:1\"\n",
        ]
    );
    let of = |index: usize| {
        let lines = expansion.templates[index].text.lines();
        lines.filter(|line| line.starts_with("registry") || line.starts_with("catalog")).collect()
    };
    let named: Vec<Vec<&str>> = (0..5).map(of).collect();
    assert_eq!(
        named,
        [
            ["registry = \"confd\""],
            ["registry = \"confd\""],
            ["registry = \"confd-c\""],
            ["registry = \"confd-c\""],
            ["catalog_keys = true"],
        ]
    );
}

#[test]
fn what_stands_around_is_used_and_not_overwritten() {
    let installation = Installation::new(&[("a.toml", &resource("keys = [\"/a\"]"))]);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let around = |templates: &[&str], registries: &[&str]| Around {
        templates: names(templates),
        registries: names(registries),
    };
    let table = "backend = \"consul\"\nregistry = \"dc1\"";
    let expansion = installation.expand_in(table, &around(&["a", "a-2"], &["dc1"])).unwrap();
    assert_eq!((&*expansion.templates[0].name, expansion.registries.len()), ("a-3", 0));
    assert!(expansion.templates[0].text.contains("registry = \"dc1\""));
    let why = installation.expand_in("backend = \"env\"", &around(&[], &["confd"])).unwrap_err();
    assert!(why.contains("by `registry = \"confd\"`"), "{why}");

    // Services come from somewhere: from those who are there, or from the nodes.
    let table = "nodes = [\"h:1\"]";
    let alone = installation.expand(table).unwrap();
    assert_eq!(alone.registries[0].1, "[registry.confd.consul]\naddress = \"http://h:1\"\n");
    let beside = installation.expand_in(table, &around(&[], &["dc1"])).unwrap();
    assert_eq!(beside.registries, []);
}

#[test]
fn a_broken_file_costs_itself_only() {
    let installation = Installation::new(&[
        ("a.toml", "[template\n"),
        ("b.toml", &resource("")),
        ("c.toml", &resource("[backend]\nbackend = \"vault\"")),
        ("d.toml", &resource("check_cmd = \"{{.src\"")),
        ("e.toml", &resource("mode = \"x\"")),
        ("note.txt", "no resource"),
        (".f.toml", "hidden = 1"),
    ]);
    std::os::unix::fs::symlink("/nowhere", installation.0.path().join("confd/conf.d/g.toml"))
        .unwrap();
    let expansion = installation.expand("").unwrap();
    let names: Vec<&str> = expansion.templates.iter().map(|template| &*template.name).collect();
    assert_eq!(names, ["b"]);
    let broken: Vec<String> =
        expansion.broken.iter().map(|one| format!("{}: {}", one.name, one.why)).collect();
    for (told, want) in broken.iter().zip([
        "f: there is no table [template]",
        "a: 1:10: ",
        "c: the backend `vault` is not there yet",
        "d: `check_cmd`: ",
        "e: `mode` = \"x\" are no permissions",
        "g: cannot be read: ",
    ]) {
        assert!(told.starts_with(want), "{told:?}, not {want:?}");
    }
    assert_eq!(broken.len(), 6, "{broken:?}");
}

#[test]
fn an_installation_that_is_not_there_is_told() {
    let config = ConfdConfig::new("/no/such".into());
    let why = expand(&config, Path::new("/"), &Around::default()).unwrap_err();
    assert!(why.starts_with("cannot read /no/such/conf.d: "), "{why}");
    assert!(why.ends_with("correct the directory of confd, or let this process read it"), "{why}");
}
