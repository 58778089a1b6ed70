//! Rows as HAProxy writes them: CSV, one typed value a line, JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::columns::{COLUMNS, Column, Kind, OWN};
use super::model::Stats;
use super::rows::{Field, Row, Wanted, rows};

/// How much of each row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// All columns of HAProxy 2.6.
    Whole,
    /// Those before `-`: all that there were when the programs were written that read the CSV over HTTP.
    /// One of them makes names of its own of the header, and `-` is none.
    Own,
}

/// What is wanted of `stats`, as CSV: a header that begins with `# `, and lines that end with a comma.
pub(super) fn csv(stats: &Stats, wanted: &Wanted, width: Width) -> String {
    let columns = match width {
        Width::Whole => COLUMNS.len(),
        Width::Own => OWN,
    };
    let mut text = String::from("# ");
    for column in &COLUMNS[..columns] {
        text.push_str(column.name);
        text.push(',');
    }
    text.push('\n');
    for row in wanted_rows(stats, wanted) {
        for field in &row.fields[..columns] {
            put(&mut text, field);
            text.push(',');
        }
        text.push('\n');
    }
    text
}

/// The same, a value a line: `F.2.0.0.pxname.1:KNS:str:web`.
pub(super) fn typed(stats: &Stats, wanted: &Wanted) -> String {
    let mut text = String::new();
    for row in wanted_rows(stats, wanted) {
        let object = &row.object.word()[..1];
        for (at, column, field) in values(&row) {
            let Column { name, tag, kind } = column;
            let (proxy, id, kind) = (row.proxy, row.id, kind.word());
            // Writing to a string never fails.
            let _ = write!(text, "{object}.{proxy}.{id}.{at}.{name}.1:{tag}:{kind}:");
            match field {
                Field::Text(value) => text.push_str(value),
                other => put(&mut text, other),
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

/// The same as JSON.
pub(super) fn json(stats: &Stats, wanted: &Wanted) -> String {
    let rows = wanted_rows(stats, wanted).map(|row| {
        let values = values(&row).map(|(at, column, field)| {
            let value = match field {
                Field::Text(text) => json!(text),
                Field::Word(word) => json!(word),
                Field::Number(number) => json!(number),
                Field::Never => json!(-1),
                Field::Empty => Value::Null,
            };
            json!({
                "objType": row.object.word(),
                "proxyId": row.proxy,
                "id": row.id,
                "field": { "pos": at, "name": column.name },
                "processNum": 1,
                "tags": tags(column.tag),
                "value": { "type": column.kind.word(), "value": value },
            })
        });
        Value::Array(values.collect())
    });
    Value::Array(rows.collect()).to_string()
}

/// The letters of a tag in words.
fn tags(tag: &str) -> Value {
    let letter = |at| tag.as_bytes().get(at).copied();
    let origin = match letter(0) {
        Some(b'K') => "Key",
        Some(b'S') => "Status",
        Some(b'C') => "Config",
        _ => "Metric",
    };
    let nature = match letter(1) {
        Some(b'A') => "Age",
        Some(b'a') => "Avg",
        Some(b'C') => "Counter",
        Some(b'D') => "Duration",
        Some(b'L') => "Limit",
        Some(b'M') => "Max",
        Some(b'N') => "Name",
        Some(b'O') => "Output",
        Some(b'R') => "Rate",
        _ => "Gauge",
    };
    let scope = if letter(2) == Some(b'S') { "Service" } else { "Process" };
    json!({ "origin": origin, "nature": nature, "scope": scope })
}

fn wanted_rows<'a>(stats: &'a Stats, wanted: &'a Wanted) -> impl Iterator<Item = Row> + 'a {
    let proxies = stats.proxies.iter().filter(|proxy| wanted.takes(proxy));
    proxies.flat_map(|proxy| rows(proxy, wanted))
}

/// What is not empty, with its place.
fn values(row: &Row) -> impl Iterator<Item = (usize, &'static Column, &Field)> {
    let all = COLUMNS.iter().zip(&row.fields).enumerate().take(OWN);
    all.filter(|(_, (_, field))| **field != Field::Empty).map(|(at, (column, field))| {
        debug_assert!(
            column.kind == Kind::Text || !matches!(field, Field::Text(_) | Field::Word(_))
        );
        (at, column, field)
    })
}

fn put(text: &mut String, field: &Field) {
    match field {
        Field::Empty => {}
        Field::Text(value) => quoted(text, value),
        Field::Word(word) => text.push_str(word),
        Field::Number(number) => {
            let _ = write!(text, "{number}");
        }
        Field::Never => text.push_str("-1"),
    }
}

/// In quotes where it has to be (RFC 4180 §2).
fn quoted(text: &mut String, value: &str) {
    if !value.contains([',', '"', '\n', '\r']) {
        return text.push_str(value);
    }
    text.push('"');
    text.push_str(&value.replace('"', "\"\""));
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_csv_begins_with_a_hash_and_every_line_ends_with_a_comma_and_has_as_many_columns() {
        let stats = samples::stats();
        for (width, columns) in [(Width::Whole, 128), (Width::Own, 103)] {
            let text = csv(&stats, &Wanted::default(), width);
            let mut lines = text.lines();
            let header = lines.next().unwrap();
            assert!(header.starts_with("# pxname,svname,qcur,") && header.ends_with(','));
            assert_eq!(header.matches(',').count(), columns);
            let rows: Vec<&str> = lines.collect();
            assert_eq!(rows.len(), 5);
            for row in rows.iter().filter(|row| !row.contains('"')) {
                assert_eq!(row.matches(',').count(), columns, "{row}");
                assert!(row.ends_with(','), "{row}");
            }
        }
    }

    #[test]
    fn what_would_break_a_line_is_quoted() {
        for (value, want) in [
            ("plain", "plain"),
            ("200, fine", "\"200, fine\""),
            ("so \"called\"", "\"so \"\"called\"\"\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            let mut text = String::new();
            quoted(&mut text, value);
            assert_eq!(text, want);
        }
    }

    #[test]
    fn a_typed_line_names_object_place_tag_and_type() {
        let stats = samples::stats();
        let text = typed(&stats, &Wanted::default());
        for line in [
            "F.2.0.0.pxname.1:KNS:str:app",
            "S.2.1.17.status.1:SGP:str:UP",
            "S.2.2.55.lastsess.1:MAP:s32:-1",
            "B.2.0.33.rate.1:MRP:u32:0",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}");
        }
        assert!(!text.contains(".-."), "what divides own columns from others has no value");
    }

    #[test]
    fn the_json_says_the_same() {
        let stats = samples::stats();
        let json: Value = serde_json::from_str(&json(&stats, &Wanted::default())).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 5);
        let server = &json[1];
        let status = server.as_array().unwrap().iter().find(|one| one["field"]["name"] == "status");
        let status = status.unwrap();
        assert_eq!(status["value"]["value"], "UP");
        assert_eq!(status["tags"]["origin"], "Status");
        assert_eq!((&status["objType"], &status["proxyId"]), (&json!("Server"), &json!(2)));
    }
}
