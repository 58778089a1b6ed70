//! What is written for people is held to the program: keys, defaults, samples, names of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan::catalog::{RegistryState, RegistryView};
use portolan::config::{self, Config};
use portolan::dns::dialect::DIALECTS;
use portolan::proxy::balance::POLICIES;
use portolan::registry::{FileConfig, Metrics, RegistryConfig, ServicesPath, Surroundings};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// README, changelog and everything in `docs/` and `config/` that is Markdown, by path.
fn pages() -> BTreeMap<String, String> {
    let mut folders = vec![root().join("docs"), root().join("config")];
    let mut pages: Vec<PathBuf> = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    pages.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The blocks of `language` in a page: line of the opening, content.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String, bool)> = None;
    for (index, line) in page.lines().enumerate() {
        match (&mut open, line.trim().strip_prefix("```")) {
            (None, Some(told)) => open = Some((index + 1, String::new(), told == language)),
            (Some(_), Some(_)) => {
                let (line, text, wanted) = open.take().unwrap();
                found.extend(wanted.then_some((line, text)));
            }
            (Some((_, text, _)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

fn parse(text: &str, base_dir: &Path) -> Result<Config, String> {
    let variable = |name: &str| Some(format!("value-of-{name}"));
    let loaded = config::parse("sample.toml", text, base_dir, &variable);
    let told = |problems: Vec<config::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    loaded.map(|loaded| loaded.config).map_err(told)
}

#[test]
fn every_configuration_in_the_documents_is_accepted() {
    let mut seen = 0;
    for (path, page) in pages() {
        let dir = tempfile::tempdir().unwrap();
        for (line, template) in blocks(&page, "jinja") {
            let name = template.trim_start_matches(['{', '#', '-', ' ']).split(' ').next();
            let name = name.filter(|name| name.contains(".j2"));
            let name = name.unwrap_or_else(|| panic!("{path}:{line}: begins with its name?"));
            fs::write(dir.path().join(name), &template).unwrap();
        }
        fs::create_dir_all(dir.path().join("confd/conf.d")).unwrap();
        for (line, template) in blocks(&page, "gotemplate") {
            let name = template.trim_start_matches(['{', '/', '*', '-', ' ']).split(' ').next();
            let name = name.filter(|name| name.contains(".ctmpl"));
            let name = name.unwrap_or_else(|| panic!("{path}:{line}: begins with its name?"));
            fs::write(dir.path().join(name), &template).unwrap();
        }
        for (line, block) in blocks(&page, "toml") {
            if block.starts_with("# services.toml") || block.starts_with("# conf.d/") {
                continue;
            }
            certificates(&block, dir.path());
            seen += 1;
            if let Err(problems) = parse(&block, dir.path()) {
                panic!("{path}:{line}: is refused:\n{problems}");
            }
        }
    }
    assert!(seen >= 6, "only {seen} samples were found");
}

/// Makes the certificates that a configuration names: each `cert_file` with the `key_file` below it,
/// and authorities.
fn certificates(text: &str, dir: &Path) {
    let value = |line: &str, key: &str| {
        let value = line.split_once(&format!("{key} = \""))?.1.split('"').next()?;
        Some(dir.join(value))
    };
    let mut made = None;
    for line in text.lines() {
        let new = || rcgen::generate_simple_self_signed(vec!["sample.example".into()]).unwrap();
        if let Some(path) = value(line, "client_ca_file") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, new().cert.pem()).unwrap();
        } else if let Some(path) = value(line, "cert_file").filter(|path| path.starts_with(dir)) {
            let certificate = new();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, certificate.cert.pem()).unwrap();
            made = Some(certificate);
        } else if let Some(path) = value(line, "key_file").filter(|path| path.starts_with(dir))
            && let Some(certificate) = made.take()
        {
            fs::write(path, certificate.signing_key.serialize_pem()).unwrap();
        }
    }
}

/// The block of `language` in `page` that begins with this name, without the line that says so.
fn named(page: &str, language: &str, name: &str) -> String {
    let found = blocks(page, language).into_iter().find(|(_, text)| text.contains(name));
    let text = found.unwrap_or_else(|| panic!("there is no {name}")).1;
    assert!(text.lines().next().unwrap().contains(name), "{name}: begins with its name?");
    text
}

#[tokio::test]
async fn the_example_of_confd_gives_the_file_that_the_page_shows() {
    let page = read("docs/confd.md");
    let dir = tempfile::tempdir().unwrap();
    for folder in ["confd/conf.d", "confd/templates"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let write = |path: &str, text: String| fs::write(dir.path().join(path), text).unwrap();
    write("services.toml", named(&page, "toml", "services.toml"));
    write("confd/conf.d/upstreams.toml", named(&page, "toml", "conf.d/upstreams.toml"));
    write("confd/templates/upstreams.tmpl", named(&page, "gotmpl", "templates/upstreams.tmpl"));
    let text = "[registry.local.file]\npath = \"services.toml\"\n[confd]\ndir = \"confd\"\n";
    let app = crate::support::start(text, dir.path()).await;
    let want = named(&page, "nginx", "upstreams.conf").replace("# upstreams.conf\n", "");
    crate::support::says(&dir.path().join("upstreams.conf"), &want).await;
    app.stop().await;
}

/// What a `file` registry makes of `text`.
async fn services(extension: &str, text: &str) -> RegistryView {
    let dir = tempfile::tempdir().unwrap();
    let path = PathBuf::from(format!("services.{extension}"));
    fs::write(dir.path().join(&path), text).unwrap();
    let config = RegistryConfig::File(FileConfig::new(ServicesPath::try_from(path).unwrap()));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let registry = config.start("sample", Surroundings::new(dir.path()), None, &metrics);
    let mut states = registry.states();
    let live = states.wait_for(|state| matches!(state, RegistryState::Live(_)));
    let live = tokio::time::timeout(Duration::from_secs(20), live).await;
    let state = live.unwrap_or_else(|_| panic!("is not read:\n{text}")).unwrap();
    state.view().unwrap().clone()
}

/// All that was refused, in words.
fn refused(view: &RegistryView) -> Vec<String> {
    let whole = view.problems.iter().map(|problem| problem.message.to_string());
    let single = view.services.values().flat_map(|s| s.problems.iter()).map(ToString::to_string);
    whole.chain(single).collect()
}

#[tokio::test]
async fn every_services_file_in_the_documents_is_accepted() {
    let mut seen = 0;
    for (path, page) in pages() {
        for language in ["toml", "yaml"] {
            for (line, block) in blocks(&page, language) {
                if block.starts_with(&format!("# services.{language}")) {
                    let view = services(language, &block).await;
                    assert_eq!(refused(&view), [""; 0], "{path}:{line}");
                    assert!(!view.services.is_empty(), "{path}:{line}: has no service");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 2, "only {seen} samples were found");
}

/// A documented table: what the page says of each key.
type Rows = BTreeMap<String, Row>;

#[derive(Debug)]
struct Row {
    default: String,
    meaning: String,
}

/// The tables of `docs/configuration.md` by their heading.
fn documented() -> BTreeMap<String, Rows> {
    let mut tables: BTreeMap<String, Rows> = BTreeMap::new();
    let mut heading = String::new();
    for line in read("docs/configuration.md").lines() {
        if let Some(told) = line.strip_prefix("### ").or_else(|| line.strip_prefix("## ")) {
            told.trim_matches('`').clone_into(&mut heading);
        } else if let Some(cells) = line.strip_prefix("| `") {
            let cells: Vec<&str> = cells.trim_end_matches('|').split(" | ").collect();
            let key = cells[0].trim_end_matches('`').to_owned();
            let (default, meaning) = match cells[..] {
                [_, default, meaning] => (default.trim().to_owned(), meaning.to_owned()),
                [_, meaning] => (String::new(), meaning.to_owned()),
                _ => panic!("a row of {heading} has another number of cells: {line}"),
            };
            let rows = tables.entry(heading.clone()).or_default();
            let before = rows.insert(key.clone(), Row { default, meaning });
            assert!(before.is_none(), "{heading} has `{key}` twice");
        }
    }
    tables
}

/// The words that a message about an unknown one says are known.
fn known(message: &str, heading: &str) -> Option<Vec<String>> {
    let (_, list) = message
        .split_once(&format!("{heading}: "))
        .or_else(|| message.split_once(&format!("{}: ", heading.to_lowercase())))?;
    Some(list.lines().next()?.split(", ").map(str::to_owned).collect())
}

/// Asks the program for the tables that it knows: each with its keys, by provoking the message
/// about an unknown one, from the top down.
fn tables(path: &mut Vec<String>, found: &mut BTreeMap<String, Vec<String>>) {
    const PROBE: &str = "zzz";
    let label = format!("[{}]", path.join("."));
    let Err(message) = parse(&format!("{label}\n{PROBE} = 1\n"), Path::new(".")) else {
        panic!("{label} takes every key");
    };
    if message.contains(&format!("unknown key `{PROBE}` in {label}")) {
        let keys = known(&message, "Known keys").unwrap();
        if is_word(path, &keys[0]) {
            return;
        }
        found.insert(label, keys.clone());
        for key in keys {
            path.push(key);
            tables(path, found);
            path.pop();
        }
    } else if path.last().is_some_and(|last| last != "NAME") {
        // Perhaps a table of tables, which have names of their own.
        path.push("NAME".into());
        let label = format!("[{}]", path.join("."));
        let below = parse(&format!("{label}\n{PROBE} = 1\n"), Path::new("."));
        if below.is_err_and(|message| message.contains(&format!("`{PROBE}` in {label}"))) {
            tables(path, found);
        }
        path.pop();
    }
}

/// Whether what stands at `path` takes the word itself: one out of a list is no table with keys,
/// though the decoder would take it written as one.
fn is_word(path: &[String], word: &str) -> bool {
    let [table @ .., key] = path else { return false };
    if table.is_empty() {
        return false;
    }
    let text = format!("[{}]\n{key} = \"{word}\"\n", table.join("."));
    let complaint = parse(&text, Path::new(".")).err().unwrap_or_default();
    !complaint.contains(&format!("`{key}`"))
}

fn accepted() -> BTreeMap<String, Vec<String>> {
    let message = parse("[zzz]\n", Path::new(".")).unwrap_err();
    let mut found = BTreeMap::new();
    let kinds = known(&message, "Known tables").unwrap();
    for kind in &kinds {
        tables(&mut vec![kind.clone()], &mut found);
    }
    found.insert("The tables".into(), kinds);
    told_once(&mut found);
    found
}

/// Keys of http listeners that are about TLS.
const ABOUT_TLS: [&str; 4] = ["certificates", "unknown_name", "protocols", "tls"];

/// `http` and `https` take the same keys, of which those about TLS are told below `https` and all
/// others below `http`.
fn told_once(found: &mut BTreeMap<String, Vec<String>>) {
    let https = "[listener.NAME.https";
    let tables: Vec<String> =
        found.keys().filter(|table| table.starts_with(https)).cloned().collect();
    for table in tables {
        let plain = table.replace(https, "[listener.NAME.http");
        assert_eq!(found[&table], found[&plain], "{table} (left), {plain} (right)");
        let about = |key: &String| ABOUT_TLS.contains(&&**key);
        if table == "[listener.NAME.https]" {
            found.get_mut(&table).unwrap().retain(about);
            found.get_mut(&plain).unwrap().retain(|key| !about(key));
        } else if table == "[listener.NAME.https.tls]" {
            found.remove(&plain);
        } else {
            found.remove(&table);
        }
    }
}

#[test]
fn every_key_that_is_accepted_is_documented_and_no_other() {
    let (accepted, mut documented) = (accepted(), documented());
    assert!(accepted.len() > 15, "only these tables were found: {:?}", accepted.keys());
    for (table, keys) in &accepted {
        let rows = documented.remove(table).unwrap_or_default();
        let rows: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
        let keys: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(rows, keys, "docs/configuration.md, `{table}` (left), and the program (right)");
    }
    let left: Vec<&String> = documented.keys().filter(|table| table.starts_with('[')).collect();
    assert!(left.is_empty(), "documented, and unknown to the program: {left:?}");
}

#[test]
fn every_value_that_is_known_by_name_is_documented() {
    let documented = documented();
    let mut lists = 0;
    for (table, rows) in &documented {
        for (key, row) in rows {
            let Err(message) = parse(&format!("{table}\n{key} = \"zzz\"\n"), Path::new(".")) else {
                continue;
            };
            for value in known(&message, "Known values").into_iter().flatten() {
                let named = row.meaning.contains(&format!("`{value}`"));
                assert!(named, "{table} {key}: `{value}` is missing in {:?}", row.meaning);
                lists += 1;
            }
        }
    }
    assert!(lists >= 5, "only {lists} values were found");
    for (name, _) in POLICIES {
        assert!(documented["[service.NAME]"]["policy"].meaning.contains(&format!("`{name}`")));
    }
    for dialect in DIALECTS {
        let row = &documented["[dns.zone.NAME]"]["dialect"];
        assert!(row.meaning.contains(&format!("`{}`", dialect.name)), "{}", dialect.name);
    }
}

/// The smallest configuration in which each table stands; `@` is where one more key goes.
const SMALLEST: &[(&str, &str)] = &[
    ("[node]", "[node]\n@"),
    ("[process]", "[process]\n@"),
    ("[limits]", "[limits]\n@"),
    ("[operations]", "[operations]\n@"),
    ("[operations.webhook]", "[operations.webhook]\nurl = \"http://a/\"\n@"),
    ("[registry.NAME.file]", "[registry.NAME.file]\npath = \"a.toml\"\n@"),
    ("[registry.NAME.rancher-answers]", "[registry.NAME.rancher-answers]\npath = \"a.json\"\n@"),
    ("[locality.NAME]", "[locality.NAME]\nnetworks = [\"10.0.0.0/8\"]\n@"),
    ("[service.NAME]", "[service.NAME]\n@"),
    ("[service.NAME.queue]", "[service.NAME.queue]\n@"),
    ("[service.NAME.outlier]", "[service.NAME.outlier]\n@"),
    ("[service.NAME.outlier.success_rate]", "[service.NAME.outlier.success_rate]\n@"),
    ("[service.NAME.outlier.latency]", "[service.NAME.outlier.latency]\n@"),
    ("[service.NAME.on_failure]", "[service.NAME.on_failure]\n@"),
    ("[dns]", "[dns]\nlisten = [\"127.0.0.1:53\"]\n@"),
    ("[dns.zone.NAME]", "[dns]\nlisten = []\n[dns.zone.NAME]\n@"),
    ("[dns.view.NAME]", "[dns]\nlisten = []\n[dns.view.NAME]\nnetworks = [\"10.0.0.0/8\"]\n@"),
    (
        "[dns.forward.zone.NAME]",
        "[dns]\nlisten = []\n[dns.forward]\nupstreams = []\n\
         [dns.forward.zone.NAME]\nupstreams = []\n@",
    ),
    ("[dns.forward]", "[dns]\nlisten = []\n[dns.forward]\nupstreams = [\"127.0.0.1\"]\n@"),
    ("[listener.NAME.http]", "[listener.NAME.http]\nbind = [\"127.0.0.1:1\"]\n@"),
    (
        "[listener.NAME.http.timeouts]",
        "[listener.NAME.http]\nbind = [\"127.0.0.1:1\"]\n[listener.NAME.http.timeouts]\n@",
    ),
    ("[certificate.NAME]", "[certificate.NAME]\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\n@"),
    (
        "[listener.NAME.https]",
        "[certificate.a]\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\n\
         [listener.NAME.https]\nbind = [\"127.0.0.1:1\"]\n@",
    ),
    (
        "[listener.NAME.https.tls]",
        "[certificate.a]\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\n\
         [listener.NAME.https]\nbind = [\"127.0.0.1:1\"]\n[listener.NAME.https.tls]\n@",
    ),
    ("[listener.NAME.tcp]", "[listener.NAME.tcp]\nbind = [\"127.0.0.1:1\"]\nservice = \"a\"\n@"),
    (
        "[listener.NAME.tcp.timeouts]",
        "[listener.NAME.tcp]\nbind = [\"127.0.0.1:1\"]\nservice = \"a\"\n\
         [listener.NAME.tcp.timeouts]\n@",
    ),
    ("[listener.NAME.tls]", "[listener.NAME.tls]\nbind = [\"127.0.0.1:1\"]\n@"),
    (
        "[listener.NAME.tls.timeouts]",
        "[listener.NAME.tls]\nbind = [\"127.0.0.1:1\"]\n[listener.NAME.tls.timeouts]\n@",
    ),
    (
        "[listener.NAME.tcp.tls]",
        "[certificate.a]\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\n\
         [listener.NAME.tcp]\nbind = [\"127.0.0.1:1\"]\nservice = \"a\"\n\
         [listener.NAME.tcp.tls]\n@",
    ),
    (
        "[listener.NAME.tls.tls]",
        "[certificate.a]\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\n\
         [listener.NAME.tls]\nbind = [\"127.0.0.1:1\"]\n\
         [route.a]\nlistener = \"NAME\"\nservice = \"a\"\nterminate = true\n\
         [listener.NAME.tls.tls]\n@",
    ),
    ("[listener.NAME.udp]", "[listener.NAME.udp]\nbind = [\"127.0.0.1:1\"]\nservice = \"a\"\n@"),
    (
        "[listener.NAME.udp.timeouts]",
        "[listener.NAME.udp]\nbind = [\"127.0.0.1:1\"]\nservice = \"a\"\n\
         [listener.NAME.udp.timeouts]\n@",
    ),
    (
        "[route.NAME]",
        "[listener.a.http]\nbind = [\"127.0.0.1:1\"]\n\
         [route.NAME]\nlistener = \"a\"\nservice = \"a\"\n@",
    ),
    (
        "[route.NAME.respond]",
        "[listener.a.http]\nbind = [\"127.0.0.1:1\"]\n\
         [route.NAME]\nlistener = \"a\"\n[route.NAME.respond]\nstatus = 200\n@",
    ),
    ("[service.NAME.retries]", "[service.NAME.retries]\n@"),
    (
        "[route.NAME.rate_limit]",
        "[listener.a.http]\nbind = [\"127.0.0.1:1\"]\n\
         [route.NAME]\nlistener = \"a\"\nservice = \"a\"\n[route.NAME.rate_limit]\nrequests = 1\n@",
    ),
    ("[sticky]", "[sticky]\n@"),
    ("[labels.marathon-lb]", "[labels.marathon-lb]\ngroup = [\"a\"]\n@"),
    (
        "[labels.marathon-lb.ports]",
        "[labels.marathon-lb]\ngroup = [\"a\"]\n[labels.marathon-lb.ports]\n@",
    ),
    (
        "[labels.marathon-lb.http_timeouts]",
        "[labels.marathon-lb]\ngroup = [\"a\"]\n[labels.marathon-lb.http_timeouts]\n@",
    ),
    (
        "[labels.marathon-lb.tcp_timeouts]",
        "[labels.marathon-lb]\ngroup = [\"a\"]\n[labels.marathon-lb.tcp_timeouts]\n@",
    ),
    ("[registry.NAME.environment]", "[registry.NAME.environment]\n@"),
    ("[registry.NAME.keyfile]", "[registry.NAME.keyfile]\npaths = [\"a\"]\n@"),
    ("[confd]", "[confd]\ndir = \"confd\"\n@"),
    ("[template.NAME]", "[template.NAME]\nsource = \"a.j2\"\ndestination = \"a\"\n@"),
    (
        "[template.NAME.wait]",
        "[template.NAME]\nsource = \"a.j2\"\ndestination = \"a\"\n[template.NAME.wait]\n@",
    ),
    (
        "[template.NAME.reload_signal]",
        "[template.NAME]\nsource = \"a.j2\"\ndestination = \"a\"\n\
         [template.NAME.reload_signal]\npid_file = \"a\"\n@",
    ),
    (
        "[template.NAME.reload_http]",
        "[template.NAME]\nsource = \"a.j2\"\ndestination = \"a\"\n\
         [template.NAME.reload_http]\npost = \"http://127.0.0.1:1\"\n@",
    ),
    (
        "[group.NAME]",
        "[template.a]\nsource = \"a.j2\"\ndestination = \"a\"\ngroup = \"NAME\"\n[group.NAME]\n@",
    ),
    ("[registry.NAME.consul]", "[registry.NAME.consul]\n@"),
    ("[registry.NAME.marathon]", "[registry.NAME.marathon]\nurls = [\"http://a\"]\n@"),
    ("[exec]", "[exec]\ncommand = \"x\"\n@"),
    ("[exec.env]", "[exec]\ncommand = \"x\"\n[exec.env]\n@"),
    ("[metadata]", "[metadata]\nlisten = \"127.0.0.1:1\"\n@"),
    ("[access_log]", "[access_log]\nto = \"stdout\"\n@"),
    ("[admin]", "[admin]\n@"),
    ("[health]", "[health]\n@"),
    ("[service.NAME.check.tcp]", "[service.NAME.check.tcp]\n@"),
    ("[service.NAME.check.tls]", "[service.NAME.check.tls]\n@"),
    ("[service.NAME.check.http]", "[service.NAME.check.http]\n@"),
    ("[service.NAME.check.grpc]", "[service.NAME.check.grpc]\n@"),
    ("[service.NAME.check.exec]", "[service.NAME.check.exec]\ncommand = \"x\"\n@"),
    ("[service.NAME.check.push]", "[service.NAME.check.push]\nttl = \"1s\"\n@"),
    ("[service.NAME.check.mysql]", "[service.NAME.check.mysql]\nuser = \"x\"\n@"),
    (
        "[service.NAME.check.http.tls]",
        "[service.NAME.check.http]\n[service.NAME.check.http.tls]\n@",
    ),
    (
        "[service.NAME.check.grpc.tls]",
        "[service.NAME.check.grpc]\n[service.NAME.check.grpc.tls]\n@",
    ),
    (
        "[service.NAME.check.mysql.tls]",
        "[service.NAME.check.mysql]\nuser = \"x\"\n[service.NAME.check.mysql.tls]\n@",
    ),
];

/// The text between backticks, when there is nothing else.
fn literal(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|inner| !inner.contains('`'))
}

#[test]
fn every_default_that_is_documented_as_a_value_is_the_one_in_force() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.j2"), "").unwrap();
    fs::create_dir_all(dir.path().join("confd/conf.d")).unwrap();
    let documented = documented();
    let mut checked = 0;
    for &(table, smallest) in SMALLEST {
        certificates(smallest, dir.path());
        let without = parse(&smallest.replace('@', ""), dir.path()).unwrap();
        for (key, row) in &documented[table] {
            if row.default == "required" {
                let line = format!("{key} = ");
                let rest: String = smallest
                    .lines()
                    .filter(|l| !l.starts_with(&line))
                    .collect::<Vec<_>>()
                    .join("\n");
                let message = parse(&rest.replace('@', ""), dir.path()).unwrap_err();
                assert!(message.contains(&format!("missing key `{key}`")), "{key}: {message}");
                checked += 1;
                continue;
            }
            let Some(default) = literal(&row.default) else { continue };
            // The one that the smallest configuration states so as to need no resolv.conf.
            let smallest = match (table, &**key) {
                ("[dns.forward]", "upstreams") => {
                    assert_eq!(default, "[\"system\"]");
                    continue;
                }
                _ => smallest,
            };
            let text = smallest.replace('@', &format!("{key} = {default}"));
            let Ok(with) = parse(&text, dir.path()) else {
                panic!("{table} {key} = {default} is refused");
            };
            assert_eq!(with, without, "{table} {key}: {default} is not the default");
            checked += 1;
        }
    }
    assert!(checked >= 40, "only {checked} defaults were checked");
}

#[tokio::test]
async fn every_key_of_a_services_file_is_documented_and_no_other() {
    let text = "[service.a]\nzzz = 1\n[[service.a.instance]]\nzzz = 1\n\
                [[service.a.instance]]\naddress = \"::1\"\nnode = { zzz = 1 }\n";
    let messages = refused(&services("toml", text).await);
    let documented = documented();
    for (heading, place) in
        [("A service", "[service.a]"), ("An instance", "an instance"), ("A node", "a node")]
    {
        let found = messages.iter().find(|m| m.contains(&format!("`zzz` in {place}")));
        let found = found.unwrap_or_else(|| panic!("no message of {place}: {messages:?}"));
        let keys: BTreeSet<String> = known(found, "Known keys").unwrap().into_iter().collect();
        let rows: BTreeSet<String> = documented[heading].keys().cloned().collect();
        assert_eq!(rows, keys, "{heading}");
    }
}

/// The names of metrics in the code: literals that begin with ours.
fn metrics_in_code() -> BTreeSet<String> {
    let mut folders = vec![root().join("src")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            for (at, _) in text.match_indices("\"portolan_") {
                let name: String = text[at + 1..].chars().take_while(|c| *c != '"').collect();
                if name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
                    found.insert(name);
                }
            }
        }
    }
    found
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let in_code = metrics_in_code();
    assert!(in_code.len() > 20, "only these metrics were found: {in_code:?}");
    let page = read("docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `portolan_"));
    let name = |row: &str| format!("portolan_{}", row.split(['`', '{']).next().unwrap());
    let documented: BTreeSet<String> = rows.map(name).collect();
    assert_eq!(documented, in_code, "docs/operations.md (left), the code (right)");
}

#[test]
fn every_link_between_the_documents_leads_to_a_file() {
    let mut seen = 0;
    for (path, page) in pages() {
        let folder = root().join(&path).parent().unwrap().to_path_buf();
        for (at, _) in page.match_indices("](") {
            let target = page[at + 2..].split(')').next().unwrap();
            let file = target.split('#').next().unwrap();
            if file.is_empty() || target.contains("://") {
                continue;
            }
            assert!(folder.join(file).exists(), "{path}: the link to {target} leads nowhere");
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} links were found");
}
