//! Every function of every dialect has rows of each kind in `tests/go/functions/`: what it is for,
//! its edge, its error.
//!
//! A file is named by its dialect. A section begins with `== name…`; in its rows `@` as a
//! word stands for the name, for each of them if there are several. A row is `example`, `edge` or `error`, a
//! template, ` => `, and what comes out: `⏎` for a line's end, `(nothing)` for no output, of an error
//! what the function or the evaluator says. A function that takes whatever it is given has
//! `error - => cannot fail: why` instead; that it does is tried with odd values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::engine::go::types::Type;
use super::testing::render;
use super::{Dialect, args::Entry, confd, consul_template, functions, sprig};

/// The tables of a dialect, and how the names of their files begin.
const SETS: [(&str, Dialect, &[Entry]); 4] = [
    ("consul-template-", Dialect::ConsulTemplate, consul_template::TABLE),
    ("sprig-", Dialect::ConsulTemplate, sprig::TABLE),
    ("confd-", Dialect::Confd, confd::TABLE),
    ("legacy-confd", Dialect::LegacyConfd, confd::LEGACY),
];

const KINDS: [&str; 3] = ["example", "edge", "error"];
const CANNOT_FAIL: &str = "cannot fail: ";

struct Row {
    place: String,
    name: String,
    kind: String,
    template: String,
    gives: String,
}

impl Row {
    /// Why the function cannot fail, if the row says so.
    fn cannot_fail(&self) -> Option<&str> {
        (self.kind == "error" && self.template == "-").then(|| {
            self.gives.strip_prefix(CANNOT_FAIL).unwrap_or_else(|| panic!("{}", self.place))
        })
    }
}

fn rows(prefix: &str) -> Vec<Row> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go/functions");
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !file.starts_with(prefix) {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let mut names: Vec<&str> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", index + 1);
            if let Some(section) = line.strip_prefix("== ") {
                names = section.split(' ').collect();
                continue;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parts = line.split_once(' ').and_then(|(kind, rest)| {
                rest.rsplit_once(" => ").map(|(template, gives)| (kind, template, gives))
            });
            let (kind, template, gives) = parts.unwrap_or_else(|| panic!("{place}: {line}"));
            assert!(KINDS.contains(&kind), "{place}: there is no kind {kind:?}");
            rows.extend(names.iter().map(|name| Row {
                place: format!("{place} {name}"),
                name: (*name).to_owned(),
                kind: kind.to_owned(),
                template: called(template, name),
                gives: called(gives, name),
            }));
        }
    }
    rows
}

/// `text` with `name` for each `@` that stands as a word of its own.
fn called(text: &str, name: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let begins = matches!(before, ' ' | '{' | '(');
        let ends = letters.peek().is_none_or(|next| " })|:".contains(*next));
        if letter == '@' && begins && ends {
            out.push_str(name);
        } else {
            out.push(letter);
        }
        before = letter;
    }
    out
}

/// What the function, or the evaluator in its place, says.
fn said(error: &str) -> &str {
    match error.rsplit_once(": error calling ") {
        Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, said)| said),
        None => error.rsplit_once(">: ").map_or(error, |(_, said)| said),
    }
}

/// What comes out, as rows tell it, and whether it is an error.
fn told(result: &Result<String, String>) -> (String, bool) {
    match result {
        Ok(output) if output.is_empty() => ("(nothing)".into(), false),
        Ok(output) => (output.replace('\n', "⏎"), false),
        Err(error) => (said(error).replace('\n', "⏎"), true),
    }
}

#[test]
fn every_row_gives_what_it_says() {
    let (mut tried, mut wrong) = (0, Vec::new());
    for (prefix, dialect, _) in SETS {
        for row in rows(prefix) {
            if row.cannot_fail().is_some() {
                continue;
            }
            let (got, failed) = told(&render(dialect, &row.template));
            tried += 1;
            if failed != (row.kind == "error") || got != row.gives {
                let Row { place, kind, template, gives, .. } = row;
                wrong.push(format!("{place}\t{kind}\t{template}\n  got  {got}\n  want {gives}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 1000, "only {tried} rows were found");
}

#[test]
fn every_function_has_its_example_its_edge_and_its_error() {
    let mut wrong = Vec::new();
    for (prefix, _, table) in SETS {
        let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows(prefix) {
            if !row.template.contains(&row.name) && row.cannot_fail().is_none() {
                wrong.push(format!("{}: does not call it", row.place));
            }
            kinds.entry(row.name).or_default().insert(row.kind);
        }
        for entry in table {
            let has = kinds.remove(entry.name).unwrap_or_default();
            let lacks = KINDS.iter().filter(|kind| !has.contains(**kind));
            wrong.extend(lacks.map(|kind| format!("{prefix} {}: no {kind}", entry.name)));
        }
        wrong
            .extend(kinds.keys().map(|name| format!("{prefix} {name}: there is no such function")));
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Values that functions seldom see.
const ODD: [&str; 9] =
    ["nil", "\"\"", "\"é\\x00\"", "-1", "1.5", "true", ".words", ".none", "9223372036854775807"];

#[test]
fn a_function_that_is_said_never_to_fail_takes_whatever_it_is_given() {
    let mut found = 0;
    for (prefix, dialect, table) in SETS {
        for row in rows(prefix) {
            let Some(why) = row.cannot_fail() else { continue };
            assert!(!why.is_empty(), "{}: why?", row.place);
            found += 1;
            let entry = table.iter().find(|entry| entry.name == row.name).unwrap();
            let signature = entry.signature;
            assert!(
                signature.variadic && signature.params == [Type::Any],
                "{}: an argument that it does not take is an error",
                row.place
            );
            let mut calls = vec![String::new()];
            for one in ODD {
                calls.push(format!(" {one}"));
                calls.extend(ODD.map(|two| format!(" {one} {two}")));
                calls.push(format!(" {one} {one} {one}"));
            }
            for call in calls {
                let result = render(dialect, &format!("{{{{$x := {}{call}}}}}", row.name));
                assert_eq!(result, Ok(String::new()), "{}{call}", row.name);
            }
        }
    }
    assert!(found > 5, "only {found} were found");
}

#[test]
fn every_function_refuses_as_many_arguments_as_it_does_not_take() {
    for dialect in [Dialect::ConsulTemplate, Dialect::Confd, Dialect::LegacyConfd] {
        let functions = functions(dialect, &[]);
        let names: Vec<&str> = functions.names().collect();
        for name in names {
            let signature = SETS
                .iter()
                .filter(|(_, of, _)| *of == dialect || dialect == Dialect::LegacyConfd)
                .flat_map(|(.., table)| table.iter())
                .rfind(|entry| entry.name == name)
                .map(|entry| entry.signature);
            let Some(signature) = signature else { panic!("{name} is in no table") };
            let count = signature.params.len();
            let (wanted, too) = if signature.variadic {
                (format!("at least {}", count - 1), vec![count.checked_sub(2)])
            } else {
                (count.to_string(), vec![count.checked_sub(1), Some(count + 1)])
            };
            for given in too.into_iter().flatten() {
                let result = render(dialect, &format!("{{{{{name}{}}}}}", " 1".repeat(given)));
                let (said, _) = told(&result);
                let want = format!("wrong number of args for {name}: want {wanted} got {given}");
                assert_eq!(said, want, "{dialect:?}: {result:?}");
            }
        }
    }
}

/// No function panics or gives two answers, whatever it is called with: a few calls of each function
/// with odd values, many with `PORTOLAN_FULL`.
#[test]
fn no_values_make_a_function_panic_or_waver() {
    let calls = if std::env::var_os("PORTOLAN_FULL").is_some() { 300 } else { 3 };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |count: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % count as u64) as usize
    };
    // What fits the type of a parameter now and then, so that calls get as far as the function.
    let fitting = |of: Type| -> &[&str] {
        match of {
            Type::String => &["\"\"", "\"é\\x00\"", "\"(a[\"", "`{\"a\":[1e999]}`", "\"-9h\""],
            Type::Int(_) => &["-1", "0", "9223372036854775807", "-9223372036854775807", "3"],
            Type::Bool => &["true", "false"],
            Type::Slice(_) => &[".words", ".list"],
            _ => &ODD,
        }
    };
    for (_, dialect, table) in SETS {
        for entry in table {
            for _ in 0..calls {
                let mut call = entry.name.to_owned();
                let params = entry.signature.params;
                let more = if entry.signature.variadic { below(3) } else { 0 };
                for at in 0..params.len() + more {
                    let of = params.get(at).or_else(|| params.last()).copied().unwrap_or(Type::Any);
                    let values = if below(8) == 0 { &ODD } else { fitting(of) };
                    call.push(' ');
                    call.push_str(values[below(values.len())]);
                }
                let template = format!("{{{{$x := {call}}}}}{{{{len (print $x)}}}}");
                let first = render(dialect, &template);
                assert_eq!(first, render(dialect, &template), "two answers to {template}");
            }
        }
    }
}
