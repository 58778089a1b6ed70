//! Holds the layers, the fences and the sizes of `src/`.
//!
//! [`violations`] is pure: files in, complaints out. A table of bad samples shows that it catches
//! what it is there for; then it looks at the tree itself and tells everything at once.

#![allow(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// Rooms from the ground up. A room uses itself and what is below it, never a sibling.
const LAYERS: [&[&str]; 8] = [
    &["exec", "lifecycle", "random", "suggest", "telemetry", "units", "watching"],
    &["catalog", "net"],
    &["api", "dns", "health", "proxy", "registry", "render"],
    &["migrate"],
    &["config"],
    &["app"],
    &["cli"],
    &["main"],
];

/// A library, where it may be named, and whether tests may name it everywhere.
const FENCES: [(&str, &[&str], bool); 2] = [
    (
        "pingora",
        &["src/proxy/http/full/", "src/proxy/http/carrier.rs", "src/proxy/http/carrier/"],
        false,
    ),
    ("hickory", &["src/dns/full.rs", "src/dns/transfer.rs"], true),
];

/// Files that make system calls for which there is no safe form.
const UNSAFE: [&str; 2] = ["src/net/mmsg.rs", "src/net/adopt.rs"];

/// Most lines of a file, its tests aside.
const LINES_MAX: usize = 400;

/// What does not run in production code.
const BANNED: [&str; 4] = ["todo!", "unimplemented!", ".unwrap()", ".expect("];

/// One file as the rules see it. All texts have the same length, so that offsets fit each other.
struct Source<'a> {
    path: &'a str,
    text: &'a str,
    /// The text with comments and the content of literals blanked.
    code: String,
    /// The code with its tests blanked too; all of it in a file that is wholly tests.
    shipped: String,
}

/// Every breach of a rule in `files`, given as (path, text) with paths like `src/dns/full.rs`.
fn violations(files: &[(&str, &str)]) -> Vec<String> {
    let mut sources: Vec<Source<'_>> = Vec::new();
    let mut only_tests = HashSet::new();
    for (path, text) in files {
        let code = without_literals(text);
        let (shipped, included) = without_tests(path, text, &code);
        only_tests.extend(included);
        sources.push(Source { path, text, code, shipped });
    }
    let mut found = Vec::new();
    for source in &mut sources {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if only_tests.contains(source.path) || only_tests.contains(&format!("{folder}/mod.rs")) {
            source.shipped = blank(&source.code);
        }
        let mut tell = |at: usize, what: String| {
            let line = source.text[..at].matches('\n').count() + 1;
            found.push(format!("{}:{line}: {what}", source.path));
        };
        layers(source, &mut tell);
        fences(source, &mut tell);
        unsafe_blocks(source, &mut tell);
        size(source, &mut tell);
        banned(source, &mut tell);
        reasons(source, &mut tell);
    }
    found
}

fn layers(source: &Source<'_>, tell: &mut impl FnMut(usize, String)) {
    let path = source.path.trim_start_matches("src/").trim_end_matches(".rs");
    let room = path.split('/').next().unwrap_or(path);
    if room == "lib" {
        return;
    }
    let Some(own) = layer(room) else {
        return tell(0, format!("the room `{room}` is in no layer; add it to LAYERS"));
    };
    let mut used = Vec::new();
    for root in ["crate", "portolan"] {
        for at in words(&source.code, root) {
            used.extend(rooms_after(&source.code, at + root.len()));
        }
    }
    // `super` that climbs out of the room is `crate` by another name. Tests inside a file stand
    // one module deeper than the file says, so that they are left out here.
    let depth = path.split('/').filter(|part| *part != "mod").count();
    for at in words(&source.shipped, "super") {
        let rest = &source.shipped[at..];
        let chain = rest.split("::").take_while(|part| part.trim() == "super").count();
        let continued = source.shipped[..at].trim_end().ends_with("super::");
        if chain >= depth && !continued {
            used.extend(rooms_after(&source.shipped, at + chain * "super::".len() - 2));
        }
    }
    for (at, name) in used {
        match layer(&name) {
            Some(_) if name == room => {}
            Some(below) if below < own => {}
            Some(same) if same == own => {
                tell(at, format!("`{room}` uses its sibling `{name}`; let `app` wire them"));
            }
            Some(_) => tell(at, format!("`{room}` uses `{name}`, which is above it")),
            None => {}
        }
    }
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// The first names behind a root that ends at `at`: of `::a::b` that is `a`, of `::{a::b, c}` both.
fn rooms_after(code: &str, at: usize) -> Vec<(usize, String)> {
    let Some(rest) = code[at..].strip_prefix("::") else { return Vec::new() };
    let start = at + 2;
    let name_at = |at: usize| {
        let skipped = code[at..].len() - code[at..].trim_start().len();
        let name: String = code[at + skipped..].chars().take_while(|c| in_word(*c)).collect();
        (at + skipped, name)
    };
    if !rest.starts_with('{') {
        return vec![name_at(start)];
    }
    let mut names = vec![name_at(start + 1)];
    let mut depth = 0;
    for (offset, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name_at(start + offset + 1)),
            _ => {}
        }
    }
    names
}

fn fences(source: &Source<'_>, tell: &mut impl FnMut(usize, String)) {
    for (library, allowed, free_in_tests) in FENCES {
        let code = if free_in_tests { &source.shipped } else { &source.code };
        // A folder ends with a slash.
        let within = |place: &&str| match place.strip_suffix('/') {
            Some(_) => source.path.starts_with(*place),
            None => source.path == *place,
        };
        if allowed.iter().any(within) {
            continue;
        }
        for (at, _) in code.match_indices(library) {
            if !code[..at].ends_with(in_word) {
                let allowed = allowed.join(", ");
                tell(at, format!("`{library}` is behind a fence; only {allowed} may name it"));
            }
        }
    }
}

fn unsafe_blocks(source: &Source<'_>, tell: &mut impl FnMut(usize, String)) {
    for at in words(&source.code, "unsafe") {
        if !UNSAFE.contains(&source.path) {
            tell(at, format!("`unsafe` is only in {}", UNSAFE.join(", ")));
        }
        let above = lines_above(source.text, at).map(str::trim_start);
        let comment: Vec<&str> = above.take_while(|line| line.starts_with("//")).collect();
        if !comment.iter().any(|line| line.starts_with("// SAFETY:")) {
            tell(at, "`unsafe` without a `// SAFETY:` comment above it".into());
        }
    }
}

fn size(source: &Source<'_>, tell: &mut impl FnMut(usize, String)) {
    let tests = source.code.lines().zip(source.shipped.lines());
    let tests = tests.filter(|(code, shipped)| code != shipped).count();
    let lines = source.text.lines().count() - tests;
    let only_tests = source.shipped.trim().is_empty();
    if lines > LINES_MAX && !only_tests {
        let what = format!("{lines} lines without tests; {LINES_MAX} are the most, so split it");
        tell(0, what);
    }
}

fn banned(source: &Source<'_>, tell: &mut impl FnMut(usize, String)) {
    for what in BANNED {
        for (at, _) in source.shipped.match_indices(what) {
            tell(at, format!("`{what}` outside tests"));
        }
    }
}

/// An exception to a lint says why, within the attribute or in a comment beside it.
fn reasons(source: &Source<'_>, tell: &mut impl FnMut(usize, String)) {
    for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
        for (at, _) in source.code.match_indices(opening) {
            let end = source.code[at..].find(']').map_or(source.code.len(), |end| at + end);
            let within = words(&source.code[at..end], "reason").next().is_some();
            let line = source.text[end..].lines().next().unwrap_or_default();
            let above = lines_above(source.text, at).next().unwrap_or_default().trim_start();
            if !within && !line.contains("//") && !above.starts_with("// ") {
                tell(at, format!("`{opening}…)]` without a reason"));
            }
        }
    }
}

/// The lines before the one that `at` stands in, the nearest first.
fn lines_above(text: &str, at: usize) -> impl Iterator<Item = &str> {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[..start].lines().rev()
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands by itself.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        !code[..*at].ends_with(in_word) && !code[at + word.len()..].starts_with(in_word)
    })
}

/// As many bytes, all of them spaces but the ends of lines.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// `text` with comments, and what stands in strings and characters, blanked.
fn without_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (kept, blanked) = match literal(rest, code.chars().next_back()) {
            Some(length) => (0, length),
            None => (first.len_utf8(), 0),
        };
        if first.is_ascii() {
            code.push_str(&rest[..kept]);
        } else {
            code.push_str(&blank(&rest[..kept]));
        }
        code.push_str(&blank(&rest[..blanked]));
        rest = &rest[kept + blanked..];
    }
    code
}

/// How long the comment or literal is that `rest` begins with, if it does; `before` stands there.
fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if rest.starts_with('r') && !before.is_some_and(|c| in_word(c) && c != 'b') {
        let marks = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
        if rest[1 + marks..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(marks));
            let from = marks + 2;
            return Some(rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len()));
        }
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut inner = rest[1..].chars();
    let (first, second) = (inner.next(), inner.next());
    // A quote that neither escapes nor closes behind one character begins a lifetime.
    if quote == '\'' && first != Some('\\') && second != Some('\'') {
        return None;
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// `code` with every item under `#[cfg(test)]` blanked, and the files that those items include.
fn without_tests(path: &str, text: &str, code: &str) -> (String, Vec<String>) {
    const TEST: &str = "#[cfg(test)]";
    let mut shipped = code.to_owned();
    let mut included = Vec::new();
    for (start, _) in code.match_indices(TEST) {
        let mut depth = 0;
        let mut end = code.len();
        for (offset, c) in code[start + TEST.len()..].char_indices() {
            depth += match c {
                '{' | '(' | '[' => 1,
                '}' | ')' | ']' => -1,
                _ => 0,
            };
            if depth == 0 && matches!(c, ';' | '}') {
                end = start + TEST.len() + offset + 1;
                break;
            }
        }
        shipped.replace_range(start..end, &blank(&code[start..end]));
        included.extend(included_file(path, &text[start..end]));
    }
    (shipped, included)
}

/// The file that `item`, found in `path`, includes: `mod name;` with or without `#[path]`.
fn included_file(path: &str, item: &str) -> Option<String> {
    let (folder, file) = path.rsplit_once('/')?;
    if let Some((_, told)) = item.split_once("#[path = \"") {
        return Some(format!("{folder}/{}", told.split_once('"')?.0));
    }
    let name = item.strip_suffix(';')?.rsplit(' ').next()?;
    Some(match file {
        "mod.rs" | "lib.rs" | "main.rs" => format!("{folder}/{name}.rs"),
        file => format!("{folder}/{}/{name}.rs", file.trim_end_matches(".rs")),
    })
}

/// Every Rust file below `src/`, by path.
fn tree() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn layers_fences_and_sizes_hold_in_the_tree() {
    let files = tree();
    assert!(files.len() > 50, "only {} files were found", files.len());
    let files: Vec<_> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    let found = violations(&files);
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_bad_sample_is_caught_at_its_line() {
    let long = "fn a() {}\n".repeat(401);
    let long_behind_a_test = format!("#[cfg(test)]\nmod tests;\n{long}");
    for (case, path, text, want) in [
        (
            "a sibling",
            "src/dns/a.rs",
            "\nuse crate::proxy::Settings;",
            ":2: `dns` uses its sibling",
        ),
        ("a layer above", "src/catalog/a.rs", "use crate::dns;", ":1: `catalog` uses `dns`"),
        ("the highest", "src/config/a.rs", "use crate::app::App;", "`app`, which is above"),
        ("a group", "src/net/a.rs", "use crate::{\n  units::Size, cli};", ":2: `net` uses `cli`"),
        ("without use", "src/api/a.rs", "fn f() { crate::render::go(); }", "sibling `render`"),
        ("a sibling on the ground", "src/units.rs", "use crate::random;", "sibling `random`"),
        ("by super", "src/dns/mod.rs", "use super::proxy::Settings;", "sibling `proxy`"),
        ("by two supers", "src/dns/a.rs", "use super::super::health::X;", "sibling `health`"),
        ("in a test", "src/dns/a.rs", "#[cfg(test)]\nmod tests { use crate::api; }", ":2: `dns`"),
        ("by the library's name", "src/cli/a.rs", "use portolan::main;", "`main`, which is above"),
        ("a new room", "src/attic/a.rs", "", "`attic` is in no layer"),
        ("pingora", "src/app/a.rs", "use pingora_core::apps;", "`pingora` is behind a fence"),
        (
            "pingora in a test",
            "src/net/a.rs",
            "#[cfg(test)]\nuse pingora_http::X;",
            ":2: `pingora`",
        ),
        ("hickory", "src/dns/wire.rs", "fn f(x: hickory_proto::op::Message) {}", "`hickory` is"),
        (
            "unsafe elsewhere",
            "src/dns/a.rs",
            "// SAFETY: no.\nunsafe { f() }",
            "`unsafe` is only in",
        ),
        ("unsafe unexplained", "src/net/adopt.rs", "unsafe { f() }", "without a `// SAFETY:`"),
        ("too long", "src/dns/a.rs", &long, ":1: 401 lines without tests"),
        ("too long behind a test", "src/dns/a.rs", &long_behind_a_test, "401 lines without"),
        ("todo", "src/dns/a.rs", "fn f() { todo!(\"soon\") }", "`todo!` outside tests"),
        (
            "unimplemented",
            "src/dns/a.rs",
            "fn f() { unimplemented!() }",
            "`unimplemented!` outside",
        ),
        ("unwrap", "src/dns/a.rs", "fn f() {\n  x.unwrap() }", ":2: `.unwrap()` outside tests"),
        ("expect", "src/dns/a.rs", "fn f() { x.expect(\"why\") }", "`.expect(` outside tests"),
        (
            "unwrap behind tests",
            "src/dns/a.rs",
            "#[cfg(test)]\nmod tests { fn f() { x.unwrap(); } }\nfn g() { x.unwrap(); }",
            ":3: `.unwrap()`",
        ),
        ("allow", "src/dns/a.rs", "\n#[allow(dead_code)]\nfn f() {}", ":2: `#[allow(…)]` without"),
        ("allow all", "src/dns/a.rs", "#![allow(clippy::all)]", "`#![allow(…)]` without"),
        ("expect a lint", "src/dns/a.rs", "#[expect(dead_code)]\nfn f() {}", "`#[expect(…)]` with"),
    ] {
        let found = violations(&[(path, text)]);
        assert_eq!(found.len(), 1, "{case}: {found:?}");
        assert!(found[0].starts_with(path) && found[0].contains(want), "{case}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_complained_about() {
    let long = "fn a() {}\n".repeat(500);
    let long_tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    for (case, files) in [
        ("the own room and below", &[("src/dns/a.rs", "use crate::{dns::b, units, catalog};")][..]),
        ("a sibling within the room", &[("src/dns/dialect/a.rs", "use super::super::node;")]),
        ("the room's own config", &[("src/dns/dialect/a.rs", "use super::config::X;")]),
        ("words in comments", &[("src/dns/a.rs", "// crate::proxy, pingora, unsafe, todo!()")]),
        ("words in strings", &[("src/dns/a.rs", "f(\"crate::api \\\" unsafe\", r#\"pingora\"#);")]),
        ("a quote as a character", &[("src/dns/a.rs", "f('\"', '\\'', b'\"'); g::<'a>(); // \"")]),
        ("longer words", &[("src/dns/a.rs", "fn unsafe_admin() { my_crate::proxy() }")]),
        ("the lanes", &[("src/proxy/http/full/mod.rs", "use pingora_proxy::Session;")]),
        (
            "unsafe with its reason",
            &[(
                "src/net/adopt.rs",
                "// SAFETY: it is ours,\n// and nobody else's.\nunsafe { f() }",
            )],
        ),
        ("unwrap in tests", &[("src/dns/a.rs", "#[cfg(test)]\nmod tests { f(x.unwrap()); }")]),
        ("long tests", &[("src/dns/a.rs", &long_tests)]),
        (
            "a file of tests",
            &[("src/dns/mod.rs", "#[cfg(test)]\nmod oracle;\n"), ("src/dns/oracle.rs", &long)],
        ),
        (
            "a file of tests by its path",
            &[
                ("src/dns/a.rs", "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n"),
                ("src/dns/a_tests.rs", "use hickory_proto::op; fn f() { x.unwrap(); }"),
            ],
        ),
        ("a reason inside", &[("src/dns/a.rs", "#[allow(dead_code, reason = \"soon\")]")]),
        ("a reason beside", &[("src/dns/a.rs", "#[allow(dead_code)] // the kernel writes it")]),
    ] {
        assert_eq!(violations(files), [""; 0], "{case}");
    }
}
