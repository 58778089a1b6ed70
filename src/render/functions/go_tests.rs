//! What Go's standard library defines is compared with what it gave.

use super::super::engine::go::format::cases::cases;
use super::{case, encoding, json, regexes, strconv, strings, times};

fn told<T: ToString>(result: Result<T, String>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(why) => format!("error: {why}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn float(number: f64) -> String {
    super::args::shown(&super::super::engine::go::value::Value::float(number))
}

#[test]
fn functions_of_one_text_give_what_go_gives() {
    let (mut compared, mut wrong) = (0, Vec::new());
    for row in cases("text") {
        let [kind, input, want] = [text(&row[0]), text(&row[1]), text(&row[2])];
        let bytes = |result: Result<Vec<u8>, String>| told(result.map(|bytes| text(&bytes)));
        let got = match kind.as_str() {
            "base64" => bytes(encoding::from_base64(input.as_bytes(), false)),
            "url64" => bytes(encoding::from_base64(input.as_bytes(), true)),
            "base32" => bytes(encoding::from_base32(input.as_bytes())),
            "title" => case::title(&input),
            "bool" => told(strconv::parse_bool(&input)),
            "int" => told(strconv::parse_int("ParseInt", &input)),
            "uint" => told(strconv::parse_uint(&input)),
            "float" => told(strconv::parse_float(&input).map(float)),
            "duration" => told(times::parse_duration(&input).map(times::duration_text)),
            "json" => {
                let mut out = String::new();
                json::string(&mut out, &input, true);
                out
            }
            "clean" => strings::clean_path(&input),
            "base" => strings::base(&input),
            "dir" => strings::dir(&input),
            _ => strings::extension(&input),
        };
        compared += 1;
        if got != want {
            wrong.push(format!("{kind} of {input:?}: {got:?}, Go: {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 100, "only {compared} were compared");
}

#[test]
fn expressions_match_split_and_fail_as_in_go() {
    let matched = ["", "aab foo 12 é.b", "FOO_bar\nA{,2} a{x}", "αβ [a&]-]", "foo"];
    let mut wrong = Vec::new();
    for row in cases("regexp") {
        let pattern = text(&row[0]);
        let regex = match regexes::compile(&pattern) {
            Ok(regex) => regex,
            Err(why) => {
                if format!("error: {why}") != text(&row[1]) {
                    wrong.push(format!("{pattern}: {why}, Go: {}", text(&row[1])));
                }
                continue;
            }
        };
        if row.len() == 2 {
            wrong.push(format!("{pattern}: is taken, Go: {}", text(&row[1])));
            continue;
        }
        for (index, input) in matched.iter().enumerate() {
            let replaced = regexes::replace_all(&regex, input, "<$0>");
            let split = regexes::split(&regex, input, 2).join("~");
            for (got, want) in [(replaced, &row[1 + 2 * index]), (split, &row[2 + 2 * index])] {
                if got.as_bytes() != want.as_slice() {
                    wrong.push(format!("{pattern} on {input:?}: {got:?}, Go: {:?}", text(want)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_letter_has_the_case_that_go_gives_it() {
    let sum = |map: fn(char) -> char| {
        ('\0'..=char::MAX)
            .fold(0u64, |sum, c| sum.wrapping_mul(31).wrapping_add(u64::from(u32::from(map(c)))))
    };
    for (row, map) in
        cases("case").iter().zip([case::upper_char, case::lower_char, case::title_char])
    {
        assert_eq!(sum(map).to_string(), text(&row[1]), "{}", text(&row[0]));
    }
}
