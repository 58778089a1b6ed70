use super::*;

struct Place(tempfile::TempDir);

impl Place {
    /// A directory with one resource and this `confd.toml`.
    fn new(confd_toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("c/conf.d")).unwrap();
        let resource = "[template]\nsrc = \"a\"\ndest = \"/a\"\nkeys = [\"/k\"]\n";
        std::fs::write(dir.path().join("c/conf.d/a.toml"), resource).unwrap();
        std::fs::write(dir.path().join("confd.toml"), confd_toml).unwrap();
        Self(dir)
    }

    fn plan_with(&self, line: &str, variables: &[(&str, &str)]) -> Result<Planned, Refused> {
        let mut arguments: Vec<String> =
            ["-confdir", "c", "-config-file", "confd.toml"].map(str::to_owned).to_vec();
        arguments.extend(line.split_whitespace().map(str::to_owned));
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        plan(&arguments, self.0.path(), &variable)
    }

    fn plan(&self, line: &str) -> Planned {
        self.plan_with(line, &[]).unwrap_or_else(|refused| panic!("{line}: {refused}"))
    }
}

/// The lines of `[confd]` behind `dir`.
fn lines(planned: &Planned) -> Vec<&str> {
    planned.plan.text.lines().skip(2).collect()
}

#[test]
fn every_flag_that_means_something_is_in_the_table() {
    let place = Place::new("");
    let times = ["check_timeout = \"30s\"", "reload_timeout = \"60s\""];
    for (line, want) in [
        ("env", vec!["backend = \"env\"", "prefix_rule = \"concatenate\""]),
        ("-backend env", vec!["backend = \"env\"", "prefix_rule = \"replace\""]),
        (
            "-backend env -prefix-rule concatenate",
            vec!["backend = \"env\"", "prefix_rule = \"concatenate\""],
        ),
        (
            "env --prefix /p",
            vec!["backend = \"env\"", "prefix = \"/p\"", "prefix_rule = \"concatenate\""],
        ),
        (
            "env --sync-only",
            vec!["backend = \"env\"", "prefix_rule = \"concatenate\"", "sync_only = true"],
        ),
        (
            "consul -n a:1 --node=b:2 --scheme https --client-ca-keys /ca",
            vec![
                "backend = \"consul\"",
                "nodes = [\"a:1\", \"b:2\"]",
                "scheme = \"https\"",
                "prefix_rule = \"concatenate\"",
            ],
        ),
        (
            "file --file a.yaml --filter *.yaml",
            vec![
                "backend = \"file\"",
                "files = [\"a.yaml\"]",
                "filter = \"*.yaml\"",
                "prefix_rule = \"concatenate\"",
            ],
        ),
        (
            "env --debounce 2s",
            vec!["backend = \"env\"", "prefix_rule = \"concatenate\"", "debounce = \"2s\""],
        ),
    ] {
        let planned = place.plan(line);
        let mut want = want;
        want.extend(times);
        if line.contains("client-ca-keys") {
            want.push("ca_file = \"/ca\"");
        }
        assert_eq!(lines(&planned), want, "{line}");
        let text = format!("{}\n", planned.plan.text);
        let table: toml::Table = text.parse().unwrap();
        let config: ConfdConfig = table["confd"].clone().try_into().unwrap();
        assert!(config.dir.ends_with("c"), "{line}");
    }
}

#[test]
fn the_line_counts_before_variables_and_these_before_the_file() {
    let place = Place::new(
        "backend = \"consul\"\nnodes = [\"file:1\"]\nprefix = \"/file\"\ninterval = 5\n\
         log-level = \"warning\"\nnonsense = 1\n",
    );
    let planned = place.plan("");
    assert_eq!(
        lines(&planned)[..4],
        ["backend = \"consul\"", "nodes = [\"file:1\"]", "scheme = \"http\"", "prefix = \"/file\"",]
    );
    assert_eq!(planned.plan.log_level.as_deref(), Some("portolan=warn"));
    let told = planned.plan.differences.join("\n");
    assert!(told.contains("`nonsense` is no key and is ignored"), "{told}");
    assert!(told.contains("-interval has no effect: every change is followed at once"), "{told}");
    let variables = [("CONFD_PREFIX", "/variable"), ("CONSUL_HTTP_TOKEN", "hidden")];
    let planned = place.plan_with("-node line:1", &variables).unwrap();
    assert!(planned.plan.text.contains("nodes = [\"line:1\"]\n"));
    assert!(planned.plan.text.contains("prefix = \"/variable\"\n"));
    assert!(planned.plan.text.contains("token = \"${CONSUL_HTTP_TOKEN}\"\n"));
    assert!(!planned.plan.text.contains("hidden"));
    let planned = place.plan("consul --basic-auth --username u --password hidden");
    assert!(planned.plan.text.contains("username = \"u\"\npassword = \"${CONFD_PASSWORD}\"\n"));
    assert_eq!(planned.plan.variables["CONFD_PASSWORD"], "hidden");
    let planned = place.plan_with("-node line:1", &variables).unwrap();
    assert_eq!(planned.plan.variables["CONSUL_HTTP_TOKEN"], "hidden");
    assert!(!format!("{planned:?}").contains("hidden"));
}

#[test]
fn the_way_of_running_is_told_apart() {
    let place = Place::new("");
    for (line, mode, diff, check) in [
        ("env", Mode::Watch, false, Check::None),
        ("env --watch", Mode::Watch, false, Check::None),
        ("env --onetime", Mode::Once, false, Check::None),
        ("env --onetime --noop", Mode::Once, true, Check::None),
        ("env --noop --diff", Mode::Once, true, Check::None),
        ("env --preflight", Mode::Once, true, Check::None),
        ("env --check-config", Mode::ParseOnly, false, Check::Configuration),
        ("--check-config", Mode::ParseOnly, false, Check::Configuration),
        ("--validate", Mode::ParseOnly, true, Check::Configuration),
        ("--validate --mock-data m.json", Mode::Once, true, Check::None),
        ("--version", Mode::Watch, false, Check::Version),
    ] {
        let planned = place.plan(line);
        let told = (planned.plan.mode, planned.plan.diff, planned.check);
        assert_eq!(told, (mode, diff, check), "{line}");
    }
    let planned = place.plan("--validate --mock-data m.json --resource a.toml");
    assert!(planned.plan.text.contains("files = [\"m.json\"]"));
    assert_eq!(planned.resource.as_deref(), Some("a.toml"));
}

#[test]
fn what_cannot_be_done_is_refused_with_what_can() {
    let place = Place::new("");
    for (line, want) in [
        ("", "confd would ask etcd, which is not there yet; name another backend"),
        ("etcd --node a", "the backend `etcd` is not there yet"),
        ("-backend vault", "the backend `vault` is not there yet"),
        ("-backend consle", "unknown backend `consle`; did you mean `consul`?"),
        ("consul --srv-domain a", "-srv-domain: nodes are not looked up by SRV records"),
        ("env --secret-keyring k", "-secret-keyring: values are not decrypted"),
        ("env --debounce soon", "-debounce: \"soon\" is no length of time"),
        ("env --log-level loud", "-log-level \"loud\" is unknown"),
        ("env --failure-mode slow", "-failure-mode \"slow\" is unknown"),
        ("env --scheme ftp", "the scheme \"ftp\" is unknown"),
        ("env --prefix-rule x", "-prefix-rule \"x\" is unknown"),
    ] {
        let Err(Refused::Arguments(why)) = place.plan_with(line, &[]) else {
            panic!("{line} is taken");
        };
        assert!(why.starts_with(want), "{line}: {why}");
    }
    let place = Place::new("nodes = 1.5\n");
    let Err(Refused::Configuration(why)) = place.plan_with("env", &[]) else { panic!("taken") };
    assert!(why[0].ends_with("confd.toml: `nodes` cannot be of the type float"), "{why:?}");
    let place = Place::new("nodes = \n");
    let Err(Refused::Configuration(why)) = place.plan_with("env", &[]) else { panic!("taken") };
    assert!(why[0].contains("confd.toml: line 1: "), "{why:?}");
}

#[test]
fn an_installation_is_written_out_for_whoever_moves_over() {
    let place = Place::new("");
    let broken = place.0.path().join("c/conf.d/b.toml");
    std::fs::write(&broken, "[template]\n").unwrap();
    let arguments = ["-confdir", "c", "consul", "--keep-stage-file"].map(str::to_owned);
    let planned = written_out(&arguments, place.0.path(), &|_| None).unwrap();
    let folder = place.0.path().join("c").display().to_string();
    assert_eq!(
        planned.plan.text,
        format!(
            "[registry.confd.consul]\naddress = \"http://127.0.0.1:8500\"\n\n\
             # {folder}/conf.d/a.toml\n[template.a]\nsource = \"{folder}/templates/a\"\n\
             destination = \"/a\"\ndialect = \"confd\"\ninclude_dir = \"{folder}/templates\"\n\
             keys = [\"/k\"]\nregistry = \"confd\"\n\n\
             # {folder}/conf.d/b.toml is left out: [template] has no `src`; add it\n"
        )
    );
    assert_eq!(planned.broken.len(), 1);
    assert!(planned.plan.differences[0].starts_with("-keep-stage-file: "));
}
