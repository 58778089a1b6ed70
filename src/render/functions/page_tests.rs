//! `docs/templates.md` is executed: each example gives what the page says, and each function of each
//! dialect has one.

use std::collections::BTreeSet;

use super::testing::render;
use super::{Dialect, functions};

const PAGE: &str = include_str!("../../../docs/templates.md");

/// A line of a table of examples: its number, the template of each dialect, what it gives.
struct Row {
    line: usize,
    templates: [Option<String>; 2],
    gives: String,
}

const DIALECTS: [Dialect; 2] = [Dialect::ConsulTemplate, Dialect::Confd];

/// Cells of a line of a table; `\|` is a bar within a cell.
fn cells(line: &str) -> Vec<String> {
    let kept = line.trim().trim_matches('|').replace("\\|", "\u{1}");
    kept.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// What stands between the backquotes of a cell.
fn code(cell: &str) -> Option<String> {
    let marks = cell.bytes().take_while(|byte| *byte == b'`').count();
    let inner = cell.get(marks..cell.len().checked_sub(marks)?)?;
    let inner = if marks > 1 { inner.trim_matches(' ') } else { inner };
    (marks > 0).then(|| inner.to_owned())
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut examples = false;
    for (index, line) in PAGE.lines().enumerate() {
        if !line.starts_with('|') {
            examples = false;
            continue;
        }
        let cells = cells(line);
        if cells[..] == ["consul-template", "confd", "gives"] {
            examples = true;
        } else if examples && !line.starts_with("|--") {
            assert_eq!(cells.len(), 3, "line {}: {line}", index + 1);
            let gives = if cells[2] == "(nothing)" { Some(String::new()) } else { code(&cells[2]) };
            rows.push(Row {
                line: index + 1,
                templates: [code(&cells[0]), code(&cells[1])],
                gives: gives.unwrap_or_else(|| panic!("line {}: {line}", index + 1)),
            });
        }
    }
    rows
}

/// As the page shows it: on one line.
fn told(result: Result<String, String>) -> String {
    match result {
        Ok(output) => output.replace('\n', "⏎"),
        Err(error) => {
            let last = error.split(": error calling ").last().unwrap_or_default();
            let said = last.split_once(": ").map_or(last, |(_, said)| said);
            format!("error: {said}")
        }
    }
}

#[test]
fn every_example_of_the_page_gives_what_the_page_says() {
    let rows = rows();
    let mut wrong = Vec::new();
    for row in &rows {
        for (dialect, template) in DIALECTS.iter().zip(&row.templates) {
            let Some(template) = template else { continue };
            let got = told(render(*dialect, template));
            if got != row.gives {
                wrong.push(format!("{}\t{dialect:?}\t{template}\t{got}\t{}", row.line, row.gives));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rows.len() > 200, "only {} examples were found", rows.len());
}

#[test]
fn every_function_of_each_dialect_has_an_example_on_the_page() {
    let rows = rows();
    let mut without = Vec::new();
    for (at, dialect) in DIALECTS.iter().enumerate() {
        let mut named = BTreeSet::new();
        for template in rows.iter().filter_map(|row| row.templates[at].as_deref()) {
            named.extend(template.split(|c: char| !c.is_alphanumeric() && c != '_'));
        }
        let functions = functions(*dialect, &[]);
        let mut names: Vec<_> = functions.names().filter(|name| !named.contains(name)).collect();
        names.sort_unstable();
        without.extend(names.iter().map(|name| format!("{dialect:?}: {name}")));
    }
    assert!(without.is_empty(), "without an example:\n{}", without.join("\n"));
}
