//! "Did you mean …?": the nearest of the words that are known, for messages to operators.

use std::fmt::Write as _;

/// How alike two words must be (Jaro-Winkler, 0 to 1) before one is offered for the other.
const ALIKE: f64 = 0.8;

/// The word of `known` that is most like `word`, if one is alike enough to be what was meant.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .iter()
        .map(|candidate| {
            // One slip of the finger counts as alike also in words too short for the first measure.
            let slip = strsim::damerau_levenshtein(&lower, candidate) <= 1 && candidate.len() > 2;
            let alike = strsim::jaro_winkler(&lower, &candidate.to_lowercase());
            (if slip { alike.max(ALIKE) } else { alike }, *candidate)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The end of a message about `word`: what was meant, and all that is known under `heading`.
///
/// Starts with `; ` and ends without a full stop, so that it can follow any clause.
#[must_use]
pub fn remedy(word: &str, known: &[&str], heading: &str) -> String {
    let mut text = String::new();
    // Writing to a string never fails.
    if let Some(meant) = nearest(word, known) {
        let _ = write!(text, "; did you mean `{meant}`? ");
    } else {
        text.push_str("; ");
    }
    if known.is_empty() {
        text.push_str("nothing is known here");
        return text;
    }
    let heading = if text == "; " { heading.to_lowercase() } else { heading.to_owned() };
    let _ = write!(text, "{heading}: {}", known.join(", "));
    text
}

/// The message about a key that nobody reads, `place` being its table, written like `[node]`.
#[must_use]
pub fn unknown_key(key: &str, place: &str, known: &[&str]) -> String {
    format!("unknown key `{key}` in {place}{}", remedy(key, known, "Known keys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_that_was_meant_and_a_foreign_word_finds_none() {
        let known = ["address", "port", "ports", "tags", "id"];
        for (case, word, want) in [
            ("a letter missing", "adress", Some("address")),
            ("letters swapped", "prot", Some("port")),
            ("plural", "tag", Some("tags")),
            ("capitals", "Address", Some("address")),
            ("foreign", "colour", None),
            ("empty", "", None),
        ] {
            assert_eq!(nearest(word, &known), want, "{case}");
        }
    }

    #[test]
    fn the_message_names_the_key_the_table_and_every_known_key() {
        assert_eq!(
            unknown_key("adress", "[registry.main.file]", &["address", "port"]),
            "unknown key `adress` in [registry.main.file]; did you mean `address`? \
             Known keys: address, port"
        );
        assert_eq!(
            unknown_key("colour", "[node]", &["name"]),
            "unknown key `colour` in [node]; known keys: name"
        );
    }
}
