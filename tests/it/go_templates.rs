//! Go templates: the cases of `tests/go/cases/`, rendered by us and by Go.
//!
//! A file of cases is made of sections that begin with `== name`. The lines of a section are a
//! template; in a section `== each name` every line is one of its own. `== data` holds the data of
//! the cases after it. A section may begin with options: `@data JSON`, `@missing error`,
//! `@delims << >>`, `@waive reason`; `@text name` begins one more text. A line of its own may end
//! with ` @@ JSON` for its data and with ` @! reason` for a waiver.

use std::fs;
use std::path::Path;

use portolan::render::engine::go::Limits;
use serde_json::Value as Json;

use crate::go_judge::{Case, ours, theirs};

/// All cases of all files.
fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go/cases");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| file(path)).collect()
}

fn json(text: &str, place: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}: {text}"))
}

fn file(path: &Path) -> Vec<Case> {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let text = fs::read_to_string(path).unwrap();
    let mut cases = Vec::new();
    let mut data = Json::Null;
    let lines: Vec<_> = text.lines().collect();
    let starts: Vec<_> = (0..lines.len()).filter(|n| lines[*n].starts_with("== ")).collect();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(lines.len());
        let name = &lines[*start][3..];
        let place = format!("{stem}:{} {name}", start + 1);
        let mut body = &lines[start + 1..end];
        while body.last().is_some_and(|line| line.is_empty()) {
            body = &body[..body.len() - 1];
        }
        if name == "data" {
            data = json(&body.join("\n"), &place);
            continue;
        }
        let mut case = Case { name: place, data: data.clone(), ..Case::default() };
        while let Some(option) = body.first().and_then(|line| line.strip_prefix('@')) {
            let (word, rest) = option.split_once(' ').unwrap_or((option, ""));
            match word {
                "data" => case.data = json(rest, &case.name),
                "missing" => rest.clone_into(&mut case.missing),
                "delims" => {
                    let (left, right) = rest.split_once(' ').unwrap();
                    (case.left, case.right) = (left.to_owned(), right.to_owned());
                }
                "waive" => case.waived = Some(rest.to_owned()),
                "text" => break,
                other => panic!("{}: no option @{other}", case.name),
            }
            body = &body[1..];
        }
        if name.starts_with("each ") {
            for (offset, line) in body.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
                let mut each = case.clone();
                each.name =
                    format!("{stem}:{}", lines.len() - lines[end..].len() - body.len() + offset);
                cases.push(one_line(each, line));
            }
        } else {
            let mut texts: Vec<(String, Vec<&str>)> = vec![("main".to_owned(), Vec::new())];
            for line in body {
                match line.strip_prefix("@text ") {
                    Some(name) => texts.push((name.to_owned(), Vec::new())),
                    None => texts.last_mut().unwrap().1.push(line),
                }
            }
            case.texts = texts.into_iter().map(|(name, lines)| (name, lines.join("\n"))).collect();
            cases.push(case);
        }
    }
    cases
}

fn one_line(mut case: Case, line: &str) -> Case {
    let mut line = line;
    if let Some((before, reason)) = line.rsplit_once(" @! ") {
        case.waived = Some(reason.to_owned());
        line = before;
    }
    if let Some((before, data)) = line.rsplit_once(" @@ ") {
        case.data = json(data, &case.name);
        line = before;
    }
    case.texts = vec![("t".to_owned(), line.to_owned())];
    case
}

/// Renders `cases` on both sides and tells where they differ, and which waivers aren't needed.
pub(crate) fn differences(cases: &[Case], limits: Limits) -> Vec<String> {
    let theirs = theirs(cases);
    let mut told = Vec::new();
    for (case, theirs) in cases.iter().zip(theirs) {
        let ours = ours(case, limits);
        let shown = || {
            let texts: Vec<_> = case.texts.iter().map(|(_, text)| text.as_str()).collect();
            format!("{}: {}\n  data {}", case.name, texts.join("\n---\n"), case.data)
        };
        match (&case.waived, ours == theirs) {
            (None, false) => told.push(format!("{}\n  Go   {theirs}\n  ours {ours}", shown())),
            (Some(_), true) => told.push(format!("{}\n  is waived but the same", shown())),
            _ => {}
        }
    }
    told
}

#[test]
fn every_case_gives_what_go_gives() {
    let cases = cases();
    let told = differences(&cases, Limits::default());
    let waived = cases.iter().filter(|case| case.waived.is_some()).count();
    println!("{} cases, {waived} of them waived", cases.len());
    assert!(cases.len() >= 600, "there are only {} cases", cases.len());
    assert!(told.is_empty(), "{} differ:\n{}", told.len(), told.join("\n"));
}
