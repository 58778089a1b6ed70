//! `${NAME}` in strings: replaced after parsing, so that no value can bring keys of its own.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong in one string, and the bytes of the document where it stands.
pub(super) type Complaint = (Range<usize>, String);

/// Replaces `${NAME}` in every string value of `table`; keys stay as they are.
pub(super) fn substitute(
    table: &mut DeTable<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
    complaints: &mut Vec<Complaint>,
) {
    let keys: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for key in keys {
        if let Some(value) = table.get_mut(key.as_str()) {
            in_value(value, &key, variable, complaints);
        }
    }
}

fn in_value(
    value: &mut Spanned<DeValue<'_>>,
    key: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    complaints: &mut Vec<Complaint>,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match replaced(text, variable) {
            Ok(new) => *text = Cow::Owned(new),
            Err(why) => complaints.push((span, format!("`{key}`: {why}"))),
        },
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                in_value(item, key, variable, complaints);
            }
        }
        DeValue::Table(table) => substitute(table, variable, complaints),
        _ => {}
    }
}

/// `text` with each `${NAME}` replaced and each `$${` as a plain `${`.
fn replaced(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let after = &after[2..];
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((name, behind)) = after.split_once('}').filter(|(name, _)| is_name(name)) else {
            return Err("`${` must be followed by the name of an environment variable and `}`; \
                        write `$${` for the two characters themselves"
                .to_owned());
        };
        let Some(value) = variable(name) else {
            return Err(format!(
                "the environment variable `{name}` is not set; set it, \
                 or write `$${{{name}}}` for the text itself"
            ));
        };
        out.push_str(&value);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once_and_the_doubled_dollar_stays_text() {
        let variable = |name: &str| match name {
            "HOST" => Some("db".to_owned()),
            "NESTED" => Some("${HOST}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (case, text, want) in [
            ("none", "plain $x $(y)", "plain $x $(y)"),
            ("one", "http://${HOST}:80", "http://db:80"),
            ("two", "${HOST}${HOST}", "dbdb"),
            ("empty value", "a${EMPTY}b", "ab"),
            ("escaped", "$${HOST}", "${HOST}"),
            ("a value is not read again", "${NESTED}", "${HOST}"),
        ] {
            assert_eq!(replaced(text, &variable).as_deref(), Ok(want), "{case}");
        }
        for (case, text) in
            [("unset", "${GONE}"), ("open", "${HOST"), ("no name", "${}"), ("digit", "${1}")]
        {
            assert!(replaced(text, &variable).is_err(), "{case}");
        }
    }
}
