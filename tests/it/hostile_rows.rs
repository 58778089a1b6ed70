//! `docs/hostile.md` names every row of the table of hostile input, and tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_page_on_hostile_input_has_a_line_for_each_row_and_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/hostile.md")).unwrap();
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let code: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();

    let mut rows = BTreeSet::new();
    let (_, table) = page.split_once("\n## Row by row\n").unwrap();
    for line in table.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let Ok(row) = cells[0].parse::<u32>() else { continue };
        assert!(rows.insert(row), "row {row} stands there twice");
        let tests: Vec<&str> = cells[cells.len() - 1].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "row {row} names no test");
        for test in tests {
            let known = code.contains(&format!("fn {test}("));
            assert!(known, "row {row}: there is no test {test:?}");
        }
    }
    let missing: Vec<u32> = (1..=44).filter(|row| !rows.contains(row)).collect();
    assert!(missing.is_empty(), "no line for rows {missing:?}");
}
