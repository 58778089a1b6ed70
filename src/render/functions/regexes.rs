//! Regular expressions in Go's syntax (RE2), run by the `regex` crate.
//!
//! Where the two read the same letters differently, the expression is rewritten: `\d`, `\s`, `\w`
//! and `\b` mean ASCII, a bracket within a class is itself, a lone brace is itself, `\Q…\E` quotes.

use std::fmt::Write as _;

use regex::{Captures, Regex, RegexBuilder};

/// Largest compiled expression.
const SIZE_MAX: usize = 1 << 20;

/// The expression `pattern` of Go's syntax.
///
/// # Errors
/// ``error parsing regexp: …: `…` ``, in Go's words for what is common.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let rewritten = rewrite(pattern).map_err(|why| format!("error parsing regexp: {why}"))?;
    let built = RegexBuilder::new(&rewritten).size_limit(SIZE_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("error parsing regexp: expression too large: `{pattern}`")
        }
        other => {
            let told = other.to_string();
            let last = told.lines().last().unwrap_or_default();
            let last = last.trim_start_matches("error: ");
            format!("error parsing regexp: {last}: `{pattern}`")
        }
    })
}

/// `text` with every match replaced by what `template` says, by Go's rules for `$1` and `${name}`.
pub(super) fn replace_all(regex: &Regex, text: &str, template: &str) -> String {
    let expand = |captures: &Captures<'_>| expand(captures, template);
    regex.replace_all(text, expand).into_owned()
}

/// The parts of `text` between matches, at most `most` of them, all without a number
/// (`Regexp.Split`): an empty match at the beginning makes no empty part.
pub(super) fn split(regex: &Regex, text: &str, most: i64) -> Vec<String> {
    if most == 0 {
        return Vec::new();
    }
    if text.is_empty() && !regex.as_str().is_empty() {
        return vec![String::new()];
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for found in regex.find_iter(text) {
        if parts.len() == most - 1 {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(text[begin..end].to_owned());
        }
        begin = found.end();
    }
    if end != text.len() {
        parts.push(text[begin..].to_owned());
    }
    parts
}

fn expand(captures: &Captures<'_>, template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            out.push('$');
            rest = behind;
            continue;
        }
        let (name, after) = if let Some(braced) = behind.strip_prefix('{') {
            let named = braced.split_once('}').filter(|(name, _)| is_name(name));
            named.unwrap_or(("", behind))
        } else {
            let end = behind.find(|c: char| !is_word(c)).unwrap_or(behind.len());
            behind.split_at(end)
        };
        if name.is_empty() {
            out.push('$');
            rest = behind;
            continue;
        }
        let group = match name.parse::<usize>() {
            Ok(number) if !(name.len() > 1 && name.starts_with('0')) => captures.get(number),
            _ => captures.name(name),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The same expression in the syntax of the `regex` crate.
fn rewrite(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut open = 0usize;
    // What could be repeated ends here: empty at the beginning of an alternative.
    let mut repeatable = false;
    let mut repeated: Option<&str> = None;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        let was_repeated = repeated.take();
        match c {
            '\\' => {
                length = escape(rest, &mut out, false)?;
                repeatable = true;
            }
            '[' => {
                length = class(rest, &mut out)?;
                repeatable = true;
            }
            '(' => {
                open += 1;
                let flags = rest.strip_prefix("(?").map(|flags| {
                    let end = flags.find(|c: char| !matches!(c, 'i' | 'm' | 's' | 'U' | '-'));
                    &rest[..end.map_or(rest.len(), |end| end + 2)]
                });
                match flags {
                    // `(?i)` sets flags and is no group.
                    Some(flags) if rest[flags.len()..].starts_with(')') => {
                        open -= 1;
                        length = flags.len() + 1;
                    }
                    Some(flags) if rest[flags.len()..].starts_with(':') => length = flags.len() + 1,
                    Some(_) if rest.starts_with("(?P<") || rest.starts_with("(?<") => {
                        let end = rest
                            .find('>')
                            .ok_or_else(|| format!("invalid named capture: `{rest}`"))?;
                        length = end + 1;
                    }
                    Some(flags) => {
                        let end = rest[flags.len()..].chars().next().map_or(0, char::len_utf8);
                        let shown = &rest[..flags.len() + end];
                        return Err(format!("invalid or unsupported Perl syntax: `{shown}`"));
                    }
                    None => {}
                }
                out.push_str(&rest[..length]);
                repeatable = false;
            }
            ')' => {
                open = open.checked_sub(1).ok_or_else(|| format!("unexpected ): `{pattern}`"))?;
                out.push(')');
                repeatable = true;
            }
            '|' => {
                out.push('|');
                repeatable = false;
            }
            '*' | '+' | '?' => {
                if !repeatable {
                    return Err(format!("missing argument to repetition operator: `{c}`"));
                }
                if rest[1..].starts_with('?') {
                    length = 2;
                }
                again(was_repeated, rest, length)?;
                out.push_str(&rest[..length]);
                repeated = Some(rest);
            }
            '{' => {
                if let Some((least, most, end)) = counts(rest) {
                    if !repeatable {
                        let shown = &rest[..end];
                        return Err(format!("missing argument to repetition operator: `{shown}`"));
                    }
                    if least > 1000 || most.is_some_and(|most| most > 1000 || most < least) {
                        return Err(format!("invalid repeat count: `{}`", &rest[..end]));
                    }
                    length = end + usize::from(rest[end..].starts_with('?'));
                    again(was_repeated, rest, length)?;
                    out.push_str(&rest[..length]);
                    repeated = Some(rest);
                } else {
                    out.push_str("\\{");
                    repeatable = true;
                }
            }
            '}' | ']' => {
                out.push('\\');
                out.push(c);
                repeatable = true;
            }
            other => {
                out.push(other);
                repeatable = true;
            }
        }
        rest = &rest[length..];
    }
    if open > 0 {
        return Err(format!("missing closing ): `{pattern}`"));
    }
    Ok(out)
}

/// Refuses the repetition of a repetition; `before` begins with the first of the two.
fn again(before: Option<&str>, rest: &str, length: usize) -> Result<(), String> {
    match before {
        Some(before) => {
            let shown = &before[..before.len() - rest.len() + length];
            Err(format!("invalid nested repetition operator: `{shown}`"))
        }
        None => Ok(()),
    }
}

/// `{n}`, `{n,}`, `{n,m}` at the beginning of `rest`: least, most, length.
fn counts(rest: &str) -> Option<(u64, Option<u64>, usize)> {
    let end = rest.find('}')?;
    let within = &rest[1..end];
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (least, most) = match within.split_once(',') {
        None => (number(within)?, None),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, end + 1))
}

/// Writes the escape at the beginning of `rest`; returns its length.
fn escape(rest: &str, out: &mut String, within_class: bool) -> Result<usize, String> {
    let Some(c) = rest[1..].chars().next() else {
        return Err("trailing backslash at end of expression: ``".into());
    };
    let length = 1 + c.len_utf8();
    let invalid = || format!("invalid escape sequence: `{}`", &rest[..length]);
    // Writing to a string never fails.
    let _ = match c {
        'd' | 'D' | 's' | 'S' | 'w' | 'W' if within_class => match c {
            'd' => write!(out, "0-9"),
            's' => write!(out, "\\t\\n\\x0c\\r "),
            'w' => write!(out, "0-9A-Za-z_"),
            'D' => write!(out, "[^0-9]"),
            'S' => write!(out, "[^\\t\\n\\x0c\\r ]"),
            _ => write!(out, "[^0-9A-Za-z_]"),
        },
        'd' => write!(out, "[0-9]"),
        'D' => write!(out, "[^0-9]"),
        's' => write!(out, "[\\t\\n\\x0c\\r ]"),
        'S' => write!(out, "[^\\t\\n\\x0c\\r ]"),
        'w' => write!(out, "[0-9A-Za-z_]"),
        'W' => write!(out, "[^0-9A-Za-z_]"),
        'b' | 'B' if !within_class => write!(out, "(?-u:\\{c})"),
        'A' | 'z' if !within_class => write!(out, "\\{c}"),
        'Q' if !within_class => {
            let quoted = &rest[2..];
            let (quoted, length) = match quoted.split_once("\\E") {
                Some((quoted, _)) => (quoted, quoted.len() + 4),
                None => (quoted, rest.len()),
            };
            out.push_str(&regex::escape(quoted));
            return Ok(length);
        }
        'p' | 'P' => {
            let end = if rest[2..].starts_with('{') {
                rest.find('}').map(|end| end + 1)
            } else {
                rest[2..].chars().next().map(|letter| 2 + letter.len_utf8())
            };
            let end = end.ok_or_else(|| format!("invalid character class range: `{rest}`"))?;
            out.push_str(&rest[..end]);
            return Ok(end);
        }
        'x' => {
            let end = if rest[2..].starts_with('{') {
                rest.find('}').map(|end| end + 1)
            } else {
                Some(4)
            };
            let shown = end.and_then(|end| rest.get(..end)).ok_or_else(invalid)?;
            let digits = shown[2..].trim_matches(['{', '}']);
            let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
            let code = code.ok_or_else(|| format!("invalid escape sequence: `{shown}`"))?;
            let _ = write!(out, "\\x{{{:x}}}", u32::from(code));
            return Ok(shown.len());
        }
        '0' => {
            let digits = rest[1..].bytes().take(3).take_while(|b| (b'0'..b'8').contains(b)).count();
            let code = u32::from_str_radix(&rest[1..=digits], 8).unwrap_or(0);
            let _ = write!(out, "\\x{{{code:x}}}");
            return Ok(1 + digits);
        }
        'a' | 'f' | 'n' | 'r' | 't' | 'v' => write!(out, "\\{c}"),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => {
            write!(out, "\\x{{{:x}}}", u32::from(c))
        }
        _ => return Err(invalid()),
    };
    Ok(length)
}

/// Named classes, as `[:NAME:]` within a class.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Writes the class at the beginning of `rest`; returns its length.
fn class(rest: &str, out: &mut String) -> Result<usize, String> {
    let missing = || format!("missing closing ]: `{rest}`");
    let mut at = 1;
    out.push('[');
    if rest[at..].starts_with('^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    loop {
        let here = &rest[at..];
        let c = here.chars().next().ok_or_else(missing)?;
        if c == ']' && at > first {
            out.push(']');
            return Ok(at + 1);
        }
        let named = here.starts_with("[:").then(|| here.find(":]")).flatten();
        if let Some(end) = named {
            let name = &here[..end + 2];
            let known = name[2..end].trim_start_matches('^');
            if !CLASSES.contains(&known) {
                return Err(format!("invalid character class range: `{name}`"));
            }
            out.push_str(name);
            at += name.len();
            continue;
        }
        if c == '\\' {
            at += escape(here, out, true)?;
            continue;
        }
        if c == '-' && at > first && !here[1..].starts_with(']') {
            // Between two letters it makes a range; by itself it must stand at an end.
            let low = rest[..at].chars().next_back().filter(|c| *c != '\\' && !out.ends_with(']'));
            let high = here[1..].chars().next().filter(|c| !matches!(c, '\\' | '['));
            if let (Some(low), Some(high)) = (low, high) {
                let plain = !rest[..at - low.len_utf8()].ends_with('\\');
                if plain && high < low {
                    return Err(format!("invalid character class range: `{low}-{high}`"));
                }
            }
            out.push('-');
        } else if matches!(c, '[' | ']' | '-' | '&' | '~' | '^') {
            let _ = write!(out, "\\{c}");
        } else {
            out.push(c);
        }
        at += c.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_boundaries_mean_ascii_as_in_go() {
        for (pattern, text, want) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "٣", false),
            (r"^\w+$", "é", false),
            (r"^[\w.]+$", "a.b_9", true),
            (r"^[^\s]+$", "a b", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^[[a]+$", "[a", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^a{$", "a{", true),
            (r"^\Qa.b\E+$", "a.bbb", true),
            (r"^\_\/\-$", "_/-", true),
            (r"(?i)^foo$", "FOO", true),
            (r"^(?P<x>a)(?:b)$", "ab", true),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a-]+$", "a-", true),
            (r"^\x41\x{42}\103$", "AB103", false),
            (r"^\pL+$", "é", true),
        ] {
            let regex = compile(pattern);
            let Ok(regex) = regex else {
                assert!(!want, "{pattern}: {regex:?}");
                continue;
            };
            assert_eq!(regex.is_match(text), want, "{pattern} on {text}");
        }
    }

    #[test]
    fn faulty_expressions_are_refused_in_the_words_of_go() {
        for (pattern, want) in [
            ("a(b", "missing closing ): `a(b`"),
            ("a)b", "unexpected ): `a)b`"),
            ("[a", "missing closing ]: `[a`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"a\", "trailing backslash at end of expression: ``"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ] {
            let told = compile(pattern).unwrap_err();
            assert_eq!(told, format!("error parsing regexp: {want}"), "{pattern}");
        }
    }

    #[test]
    fn replacements_take_groups_by_number_and_by_name() {
        let regex = compile(r"(?P<k>\w+)=(\w+)").unwrap();
        for (template, want) in [
            ("$2=$k", "b=a"),
            ("${k}x", "ax"),
            ("$kx", ""),
            ("$$1", "$1"),
            ("$", "$"),
            ("${", "${"),
            ("$0!", "a=b!"),
            ("$9", ""),
        ] {
            assert_eq!(replace_all(&regex, "a=b", template), want, "{template}");
        }
    }
}
