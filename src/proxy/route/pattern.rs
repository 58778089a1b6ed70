//! Regular expressions of routes: compiled when the configuration is loaded, within limits.

use regex::{Regex, RegexBuilder};

/// Longest expression in bytes.
const LENGTH_MAX: usize = 1024;
/// Largest compiled expression in bytes.
const PROGRAM_MAX: usize = 1 << 20;

/// An expression that the whole text must match.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn whole(pattern: &str) -> Result<Regex, String> {
    check(pattern)?;
    compile(pattern, &format!(r"\A(?:{pattern})\z"))
}

/// An expression that may match anywhere in a text.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn anywhere(pattern: &str) -> Result<Regex, String> {
    check(pattern)?;
    compile(pattern, pattern)
}

fn check(pattern: &str) -> Result<(), String> {
    if pattern.len() > LENGTH_MAX {
        let length = pattern.len();
        return Err(format!("has {length} bytes; {LENGTH_MAX} are the most"));
    }
    let wrong = |column: usize, what: String| {
        Err(format!("{pattern:?} is no regular expression: {what}, at character {column}"))
    };
    match regex_syntax::Parser::new().parse(pattern) {
        Ok(_) => Ok(()),
        Err(regex_syntax::Error::Parse(error)) => {
            wrong(error.span().start.column, error.kind().to_string())
        }
        Err(regex_syntax::Error::Translate(error)) => {
            wrong(error.span().start.column, error.kind().to_string())
        }
        Err(error) => Err(format!("{pattern:?} is no regular expression: {error}")),
    }
}

fn compile(written: &str, pattern: &str) -> Result<Regex, String> {
    let built =
        RegexBuilder::new(pattern).size_limit(PROGRAM_MAX).dfa_size_limit(PROGRAM_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!(
            "{written:?} takes more than {limit} bytes when it is compiled; repeat less, or name \
             fewer classes of characters"
        ),
        // It is sound by itself: what was put around it went into a comment of its own.
        _ => format!("{written:?} must not end within a comment"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_anchored_only_when_the_whole_text_must_match() {
        for (text, wholly, somewhere) in
            [("/a/1", true, true), ("/a/1/b", false, true), ("/b/a/1", false, true)]
        {
            assert_eq!(whole("/a/[0-9]|/c").unwrap().is_match(text), wholly, "{text}");
            assert_eq!(anywhere("/a/[0-9]|/c").unwrap().is_match(text), somewhere, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_expression_is_told_with_its_place() {
        for (case, pattern, want) in [
            ("open group", "/a(b", "unclosed group, at character 3"),
            ("unknown class", r"/é\p{Nobody}", "Unicode property not found, at character 3"),
            ("too large", r"(\w{100}){100}", "bytes when it is compiled"),
            ("a comment", "(?x)a #", "within a comment"),
        ] {
            let told = whole(pattern).unwrap_err();
            assert!(told.contains(want), "{case}: {told}");
        }
        assert!(anywhere(&"a".repeat(2000)).unwrap_err().contains("1024 are the most"));
    }
}
