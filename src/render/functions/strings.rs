//! Strings cut, joined, trimmed and replaced: the plain forms, without the order of arguments.

/// Without letters of `set` at both ends (`strings.Trim`).
pub(super) fn trim<'a>(text: &'a str, set: &str) -> &'a str {
    text.trim_matches(|c| set.contains(c))
}

/// The parts between `separator`; every letter by itself when it is empty (`strings.Split`).
pub(super) fn split(text: &str, separator: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

/// `from` replaced by `to` at most `most` times, all of them when it is negative
/// (`strings.Replace`).
pub(super) fn replace(text: &str, from: &str, to: &str, most: i64) -> String {
    match usize::try_from(most) {
        Ok(most) => text.replacen(from, to, most),
        Err(_) => text.replace(from, to),
    }
}

/// How long the result of [`replace`] can be at most.
pub(super) fn replaced_length(text: &str, from: &str, to: &str) -> usize {
    let times = if from.is_empty() { text.len() + 1 } else { text.len() / from.len() };
    text.len().saturating_add(times.saturating_mul(to.len()))
}

/// Every line that is not empty moved right by `spaces`.
pub(super) fn indent_lines(text: &str, spaces: usize) -> String {
    let pad = " ".repeat(spaces);
    let mut out = String::with_capacity(text.len() + pad.len());
    for line in text.split_inclusive('\n') {
        if line != "\n" {
            out.push_str(&pad);
        }
        out.push_str(line);
    }
    out
}

/// `path` without doubled slashes, `.` and `..` (`path.Clean`).
pub(super) fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// The last element of `path` (`path.Base`).
pub(super) fn base(path: &str) -> String {
    if path.is_empty() {
        return ".".into();
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return "/".into();
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed).into()
}

/// All but the last element of `path` (`path.Dir`).
pub(super) fn dir(path: &str) -> String {
    clean_path(path.rfind('/').map_or("", |at| &path[..=at]))
}

/// What stands behind the last dot of the last element, with the dot (`path.Ext`).
pub(super) fn extension(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or("");
    last.rfind('.').map_or(String::new(), |at| last[at..].into())
}

/// Whether `name` fits the shell pattern: `*` and `?` stop at a slash, `[a-z]`, `[^a]`, `\`
/// (`path.Match`).
///
/// # Errors
/// `syntax error in pattern`
pub(super) fn matches(pattern: &str, name: &str) -> Result<bool, String> {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let well_formed = check(&pattern).is_some();
    // The shape of the remaining pattern against the remaining name, without recursion.
    let (mut p, mut n, mut star) = (0, 0, None);
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
            continue;
        }
        let step = name.get(n).and_then(|c| one(&pattern, p, *c));
        match step {
            Some(next) => {
                p = next;
                n += 1;
            }
            None if n == name.len() && p == pattern.len() => break,
            None => match star {
                Some((at, taken)) if taken < name.len() && name[taken] != '/' => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                _ if well_formed => return Ok(false),
                _ => return Err("syntax error in pattern".into()),
            },
        }
    }
    if well_formed { Ok(true) } else { Err("syntax error in pattern".into()) }
}

/// Whether the pattern element at `at` takes `c`; where the next one begins.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match *pattern.get(at)? {
        '?' => (c != '/').then_some(at + 1),
        '[' => {
            let (found, next) = class(pattern, at, c)?;
            (found && c != '/').then_some(next)
        }
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        plain => (plain == c).then_some(at + 1),
    }
}

/// Whether the class at `at` holds `c`, and where it ends. `None` when it is faulty.
fn class(pattern: &[char], at: usize, c: char) -> Option<(bool, usize)> {
    let mut at = at + 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut found = false;
    let start = at;
    let letter = |at: usize| match *pattern.get(at)? {
        '\\' => pattern.get(at + 1).map(|c| (*c, at + 2)),
        '-' | ']' => None,
        plain => Some((plain, at + 1)),
    };
    while at == start || *pattern.get(at)? != ']' {
        let (low, next) = letter(at)?;
        let (high, next) =
            if pattern.get(next) == Some(&'-') { letter(next + 1)? } else { (low, next) };
        found |= (low..=high).contains(&c);
        at = next;
    }
    Some((found != negated, at + 1))
}

/// `Some` when the whole pattern is in order.
fn check(pattern: &[char]) -> Option<()> {
    let mut at = 0;
    while at < pattern.len() {
        at = match pattern[at] {
            '[' => class(pattern, at, ' ')?.1,
            '\\' if at + 1 >= pattern.len() => return None,
            '\\' => at + 2,
            _ => at + 1,
        };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_as_go_does() {
        for (path, cleaned, last, folder, ending) in [
            ("", ".", ".", ".", ""),
            ("/", "/", "/", "/", ""),
            ("a/b.c", "a/b.c", "b.c", "a", ".c"),
            ("a//b/../c/", "a/c", "c", "a/c", ""),
            ("/../a", "/a", "a", "/", ""),
            ("../a/./..", "..", "..", "../a", "."),
            ("x.tar.gz", "x.tar.gz", "x.tar.gz", ".", ".gz"),
        ] {
            let got = (clean_path(path), base(path), dir(path), extension(path));
            let got = (&*got.0, &*got.1, &*got.2, &*got.3);
            assert_eq!(got, (cleaned, last, folder, ending), "{path}");
        }
    }

    #[test]
    fn shell_patterns_match_as_in_go() {
        for (pattern, name, want) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[^e-g]", "abf", Ok(false)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("[a-ζ]*", "α", Ok(true)),
            ("a?b", "a/b", Ok(false)),
            ("[\\]a]", "]", Ok(true)),
            ("[]a]", "]", Err(())),
            ("[x-]", "x", Err(())),
            ("a[", "a", Err(())),
            ("a[", "ab", Err(())),
            ("*x", "xxx", Ok(true)),
            ("\\*", "*", Ok(true)),
            ("", "", Ok(true)),
            ("", "a", Ok(false)),
        ] {
            assert_eq!(matches(pattern, name).map_err(|_| ()), want, "{pattern} on {name}");
        }
    }
}
