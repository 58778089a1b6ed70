use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What a body holds, cut at `cuts`; an error when it is none.
fn elements(key: &'static str, body: &[u8], cuts: &[usize]) -> Result<Vec<String>, String> {
    split(Splitter::new("it", key, 1 << 20), body, cuts)
}

fn split(mut splitter: Splitter, body: &[u8], cuts: &[usize]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([body.len()]) {
        let told = splitter.feed(&body[from..to], |element| {
            let (word, bytes) = match element {
                Element::Whole(bytes) => ("", bytes),
                Element::TooLong(bytes) => ("long ", bytes),
                Element::TooDeep(bytes) => ("deep ", bytes),
            };
            found.push(format!("{word}{}", String::from_utf8_lossy(bytes)));
        });
        told.map_err(|error| error.to_string())?;
        from = to;
    }
    splitter.end().map_err(|error| error.to_string())?;
    Ok(found)
}

#[test]
fn a_body_is_cut_into_its_objects_wherever_its_chunks_end() {
    let list = r#"{"a":[{"x":[1,{"y":"}]{[\\\""}]} , {} ,{"z":"ü"}],"b":"\"]"}"#;
    let want = [r#"{"x":[1,{"y":"}]{[\\\""}]}"#, "{}", r#"{"z":"ü"}"#];
    let none: [&str; 0] = [];
    for (case, body, want) in [
        ("a list under its key", list, &want[..]),
        ("white space", "\r\n { \"a\" :\t[ { \"x\":1 } ] } \n", &[r#"{ "x":1 }"#]),
        (
            "other keys first",
            r#"{"n":1,"t":true,"o":{"a":[{}]},"l":[[{}]],"s":"[{","a":[{}]}"#,
            &["{}"],
        ),
        ("numbers", r#"{"n":-1.5E+10,"m":0,"a":[]}"#, &none[..]),
        ("nothing at all", "{}", &none[..]),
        ("null for a list", r#"{"a":null}"#, &none[..]),
        ("text for a list", r#"{"a":"x"}"#, &none[..]),
        ("another key alone", r#"{"aa":[{}],"":[{}]}"#, &none[..]),
        ("an escaped key is another", r#"{"\u0061":[{}]}"#, &none[..]),
        ("one object", r#"{"a":{"id":"/x"}}"#, &[r#"{"id":"/x"}"#]),
        ("a list alone", r#" [{"x":1},{"y":2}] "#, &[r#"{"x":1}"#, r#"{"y":2}"#]),
        ("an empty list alone", "[]", &none[..]),
    ] {
        assert_eq!(elements("a", body.as_bytes(), &[]).unwrap(), want, "{case}");
        for cut in 0..=body.len() {
            assert_eq!(elements("a", body.as_bytes(), &[cut]).unwrap(), want, "{case} at {cut}");
        }
        let all: Vec<usize> = (0..body.len()).collect();
        assert_eq!(elements("a", body.as_bytes(), &all).unwrap(), want, "{case} byte by byte");
    }
}

#[test]
fn what_is_no_such_body_is_an_error_that_names_the_byte() {
    for (case, body, want) in [
        ("not JSON", "<html>", "'<' does not fit at byte 0"),
        ("text", "\"x\"", "'\"' does not fit at byte 0"),
        ("no colon", r#"{"a" [{}]}"#, "'[' does not fit at byte 5"),
        ("no comma", r#"{"a":[{}{}]}"#, "'{' does not fit at byte 8"),
        ("a comma too many", r#"{"a":[{},]}"#, "']' does not fit at byte 9"),
        ("a comma before the end", r#"{"a":[],}"#, "'}' does not fit at byte 8"),
        ("a number in the list", r#"{"a":[1]}"#, "'1' does not fit at byte 6"),
        ("a list in the list", "[[{}]]", "'[' does not fit at byte 1"),
        ("more behind it", "{} {}", "'{' does not fit at byte 3"),
        ("cut in an object", r#"{"a":[{"#, "ends after 7 bytes"),
        ("cut behind an object", r#"{"a":[{}"#, "ends after 8 bytes"),
        ("cut behind the list", r#"{"a":[{}]"#, "ends after 9 bytes"),
        ("nothing", "", "ends after 0 bytes"),
    ] {
        for cuts in [vec![], (0..body.len()).collect()] {
            let error = elements("a", body.as_bytes(), &cuts).unwrap_err();
            assert!(error.contains(want), "{case}: {error}");
        }
    }
}

#[test]
fn an_object_above_a_limit_costs_itself_only() {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let body = format!(r#"{{"a":[{{"x":"{}"}},{{"y":{deep}}},{{"z":1}}]}}"#, "l".repeat(300));
    for cuts in [vec![], (0..body.len()).collect(), vec![100], vec![10, 200]] {
        let found = split(Splitter::new("it", "a", 200), body.as_bytes(), &cuts).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], format!("long {{\"x\":\"{}", "l".repeat(194)));
        assert!(found[1].starts_with("deep {\"y\":[["), "{}", found[1]);
        assert_eq!(found[2], "{\"z\":1}");
    }
}

/// Any JSON.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[a\\\\\"{}\\[\\],:üé\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a\\\\\"{}]{0,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::hash_map("[a\\\\\"{}]{0,3}", value(), 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn it_finds_what_a_parser_of_the_whole_body_finds(
        objects in prop::collection::vec(object(), 0..5),
        beside in value(),
        pretty: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let body = json!({ "0": beside, "apps": objects, "z": beside });
        let text = if pretty { serde_json::to_vec_pretty(&body) } else { serde_json::to_vec(&body) };
        let text = text.unwrap();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let found = elements("apps", &text, &cuts).unwrap();
        let found: Vec<Value> = found.iter().map(|one| serde_json::from_str(one).unwrap()).collect();
        prop_assert_eq!(found, objects);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\a1 \n\xff"[..]), 0..60),
        cut: prop::sample::Index,
    ) {
        let _ = elements("a", &bytes, &[cut.index(bytes.len() + 1)]);
    }
}
