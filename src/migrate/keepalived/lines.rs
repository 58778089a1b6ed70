//! The lines of a keepalived.conf as keepalived takes them: without comments, with included files in
//! their places, with `@` conditions decided and `$` parameters replaced.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Deepest nesting of `include`.
const INCLUDES_MAX: usize = 16;
/// Most lines of all files, with what parameters expand to.
const LINES_MAX: usize = 200_000;
/// Largest file.
const FILE_MAX: u64 = 16 << 20;
/// Longest line once its parameters are replaced, and most replacements in it.
const LINE_MAX: usize = 64 << 10;
const REPLACEMENTS_MAX: usize = 100;
/// Deepest nesting of parameters of several lines.
const NESTING_MAX: usize = 16;

/// Where something stands, shown as `file:line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) text: String,
}

/// The lines of `file` and of what it includes; `id` is what `@` conditions ask for.
///
/// # Errors
/// Every file that cannot be read, and every line that cannot be resolved, with its place.
pub(super) fn of_file(file: &Path, id: &str) -> Result<Vec<Line>, Vec<String>> {
    let mut reader = Reader::new(id);
    reader.file(file, None);
    reader.finish()
}

/// As [`of_file`], of a text that is called `name`; relative includes begin at `directory`.
///
/// # Errors
/// As [`of_file`].
#[cfg(test)]
pub(super) fn of_text(
    name: &str,
    text: &str,
    directory: &Path,
    id: &str,
) -> Result<Vec<Line>, Vec<String>> {
    let mut reader = Reader::new(id);
    reader.text(&name.into(), directory, text);
    reader.finish()
}

struct Reader<'a> {
    id: &'a str,
    lines: Vec<Line>,
    parameters: BTreeMap<String, String>,
    /// The files that are being read, the first includes the second.
    open: Vec<PathBuf>,
    problems: Vec<String>,
    full: bool,
}

impl<'a> Reader<'a> {
    const fn new(id: &'a str) -> Self {
        Self {
            id,
            lines: Vec::new(),
            parameters: BTreeMap::new(),
            open: Vec::new(),
            problems: Vec::new(),
            full: false,
        }
    }

    fn finish(self) -> Result<Vec<Line>, Vec<String>> {
        if self.problems.is_empty() { Ok(self.lines) } else { Err(self.problems) }
    }

    fn refuse(&mut self, place: &Place, why: fmt::Arguments<'_>) {
        self.problems.push(format!("{place}: {why}"));
    }

    fn file(&mut self, path: &Path, from: Option<&Place>) {
        let told = from.map_or_else(String::new, |place| format!("{place}: "));
        if self.open.len() >= INCLUDES_MAX || self.open.iter().any(|open| open == path) {
            let path = path.display();
            self.problems.push(format!("{told}{path} includes itself; take the include away"));
            return;
        }
        let read = std::fs::metadata(path).and_then(|about| {
            if about.len() > FILE_MAX {
                return Err(std::io::Error::other("it has more than 16 MiB"));
            }
            std::fs::read(path)
        });
        match read {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let directory = path.parent().unwrap_or_else(|| Path::new("")).to_path_buf();
                self.open.push(path.to_path_buf());
                self.text(&path.to_string_lossy().as_ref().into(), &directory, &text);
                self.open.pop();
            }
            Err(error) => {
                self.problems.push(format!("{told}cannot read {}: {error}", path.display()));
            }
        }
    }

    fn text(&mut self, name: &Arc<str>, directory: &Path, text: &str) {
        let mut lines = text.lines().enumerate();
        while let Some((index, raw)) = lines.next() {
            let place = Place { file: Arc::clone(name), line: index + 1 };
            let mut text = without_comment(raw).trim().to_owned();
            // Only definitions go on like this; a skipped one takes its lines with it.
            while starts_definition(&text) && text.ends_with('\\') {
                text.truncate(text.len() - 1);
                let Some((_, raw)) = lines.next() else { break };
                text.truncate(text.trim_end().len());
                text.push('\n');
                text.push_str(without_comment(raw).trim());
            }
            self.line(&place, directory, &text, 0);
            if self.full {
                return;
            }
        }
    }

    /// Takes one line, which may be several once a parameter is replaced.
    fn line(&mut self, place: &Place, directory: &Path, text: &str, depth: usize) {
        let text = text.trim();
        if let Some(condition) = text.strip_prefix('@') {
            let (wanted, rest) =
                condition.split_once(char::is_whitespace).unwrap_or((condition, ""));
            let holds = match wanted.strip_prefix('^') {
                Some(wanted) => wanted != self.id,
                None => wanted == self.id,
            };
            if holds {
                self.line(place, directory, rest, depth);
            }
            return;
        }
        if let Some((name, value)) = definition(text) {
            self.parameters.insert(name.to_owned(), value.trim().to_owned());
            return;
        }
        match self.replaced(text, directory) {
            Ok(Some(text)) if depth < NESTING_MAX => {
                for part in text.lines() {
                    self.line(place, directory, part, depth + 1);
                    if self.full {
                        return;
                    }
                }
            }
            Ok(Some(_)) | Err(()) => {
                self.refuse(place, format_args!("its parameters never come to an end"));
            }
            Ok(None) => self.take(place, directory, text),
        }
    }

    fn take(&mut self, place: &Place, directory: &Path, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.lines.len() >= LINES_MAX {
            self.full = true;
            return self.refuse(place, format_args!("there are more than {LINES_MAX} lines"));
        }
        if text.starts_with("~SEQ") || text.starts_with("~LST") {
            let why = format_args!("sequences are not understood; write their lines out");
            return self.refuse(place, why);
        }
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let includes = matches!(
            word,
            "include" | "includer" | "includem" | "includew" | "includeb" | "includea"
        );
        if !includes {
            self.lines.push(Line { place: place.clone(), text: text.to_owned() });
            return;
        }
        let pattern = rest.trim().trim_matches('"');
        if pattern.is_empty() {
            return self.refuse(place, format_args!("`include` without a file"));
        }
        for path in matching(&directory.join(pattern)) {
            self.file(&path, Some(place));
            if self.full {
                return;
            }
        }
    }

    /// `text` with parameters replaced, up to the first that has several lines; `None` when there
    /// was none.
    fn replaced(&self, text: &str, directory: &Path) -> Result<Option<String>, ()> {
        let mut now = text.to_owned();
        for count in 0..REPLACEMENTS_MAX {
            let Some((from, to, value)) = self.parameter(&now, directory) else {
                return Ok((count > 0).then_some(now));
            };
            let several = value.contains('\n');
            now.replace_range(from..to, &value);
            if now.len() > LINE_MAX {
                return Err(());
            }
            if several {
                return Ok(Some(now));
            }
        }
        Err(())
    }

    /// The first parameter in `text` that is known: where it stands, and its value.
    fn parameter(&self, text: &str, directory: &Path) -> Option<(usize, usize, String)> {
        text.match_indices('$').find_map(|(at, _)| {
            let rest = &text[at + 1..];
            let (name, length) = if let Some(braced) = rest.strip_prefix('{') {
                let name = &braced[..braced.find('}')?];
                (name, name.len() + 2)
            } else {
                let end = rest.find(|c: char| !in_name(c)).unwrap_or(rest.len());
                // Only where nothing follows directly.
                let free = rest[end..].chars().next().is_none_or(char::is_whitespace);
                (free.then_some(&rest[..end])?, end)
            };
            let value = match name {
                "_PWD" => directory.to_string_lossy().into_owned(),
                "_INSTANCE" => self.id.to_owned(),
                "_HASH" => "#".to_owned(),
                "_BANG" => "!".to_owned(),
                name => self.parameters.get(name)?.clone(),
            };
            Some((at, at + 1 + length, value))
        })
    }
}

const fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Name and value, if `text` defines a parameter.
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    let good = !name.is_empty() && name.chars().all(in_name);
    (good && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, value))
}

/// Whether `text` defines a parameter, perhaps on a condition.
fn starts_definition(text: &str) -> bool {
    let rest = match text.strip_prefix('@') {
        Some(rest) => {
            rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start())
        }
        None => text,
    };
    definition(rest).is_some()
}

/// `raw` up to a `!` or `#` that stands in no quotes.
fn without_comment(raw: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in raw.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '!' | '#' if !quoted => return &raw[..at],
            _ => {}
        }
    }
    raw
}

/// The files that `pattern` names: itself, or with `*` and `?` in its last part those that are there.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some(name) = name.filter(|name| name.contains(['*', '?'])) else {
        return vec![pattern.to_path_buf()];
    };
    let directory = pattern.parent().unwrap_or_else(|| Path::new("."));
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let fits = |path: &PathBuf| {
        let found = path.file_name().map(|name| name.to_string_lossy().into_owned());
        found.is_some_and(|found| {
            (name.starts_with('.') || !found.starts_with('.'))
                && glob(name.as_bytes(), found.as_bytes())
        })
    };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(fits).collect();
    found.sort();
    found
}

/// Whether `*` (any text) and `?` (a byte) in `pattern` make it `text`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|byte| *byte == b'?' || *byte == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, id: &str) -> Vec<String> {
        let lines = of_text("k", text, Path::new("/etc/keepalived"), id).unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn comments_conditions_and_parameters_are_as_keepalived_has_them() {
        for (text, want) in [
            ("a # b\n! c\n\n d \"x # y\" ! z", vec!["a", "d \"x # y\""]),
            ("@one a\n@two b\n@^one c\n@^two d", vec!["a", "d"]),
            ("$A=1\nx $A y\nx ${A}0\nx $Ab\nx $B", vec!["x 1 y", "x 10", "x $Ab", "x $B"]),
            ("$B=0\n$A=10.${B}\n${A}.1\n$B=9\n${A}.1", vec!["10.0.1", "10.9.1"]),
            ("@one $P=240\n@two $P=1\np $P", vec!["p 240"]),
            (
                "$RS= \\\nreal_server 10.0.0.${N} { \\\n} \n$N=1\n$RS\n$N=2\n$RS",
                vec!["real_server 10.0.0.1 {", "}", "real_server 10.0.0.2 {", "}"],
            ),
            ("$IN= \\\n$N=3 \\\na $N\n$IN", vec!["a 3"]),
            ("m ${_HASH}1 ${_PWD}/x ${_INSTANCE}", vec!["m #1 /etc/keepalived/x one"]),
        ] {
            assert_eq!(texts(text, "one"), want, "{text}");
        }
    }

    #[test]
    fn what_has_no_end_is_refused_with_its_place() {
        for (text, want) in [
            ("\n$A=$A \nx $A", "k:3: its parameters never come to an end"),
            ("$A=\\\n$A\n$A", "k:3: its parameters never come to an end"),
            ("~SEQ(n, 1, 2)", "k:1: sequences are not understood; write their lines out"),
            ("include", "k:1: `include` without a file"),
            ("include /nowhere/at.all", "k:1: cannot read /nowhere/at.all: No such file"),
        ] {
            let problems = of_text("k", text, Path::new("/"), "").unwrap_err();
            assert!(problems[0].starts_with(want), "{text}: {problems:?}");
        }
        let grow = |n: u32| format!("$A{}=\\\n$A{n}\\\n$A{n}\\\n$A{n}\n", n + 1);
        let bomb = (0..9).map(grow).collect::<Vec<_>>().concat();
        let bomb = format!("$A0=\\\nx\\\ny\n{bomb}$A9\n$A9\n$A9\n$A9\n$A9\n$A9");
        assert!(of_text("k", &bomb, Path::new("/"), "").is_err());
    }

    #[test]
    fn included_files_stand_where_they_are_included() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
        std::fs::create_dir(place.path().join("conf.d")).unwrap();
        write("main.conf", "a\ninclude conf.d/*.conf\nz\n");
        write("conf.d/2.conf", "c\n");
        write("conf.d/1.conf", "b\ninclude ../more\n");
        write("conf.d/3.txt", "no\n");
        write("more", "m\n");
        let lines = of_file(&place.path().join("main.conf"), "").unwrap();
        let texts: Vec<&str> = lines.iter().map(|line| &*line.text).collect();
        assert_eq!(texts, ["a", "b", "m", "c", "z"]);
        assert!(lines[1].place.to_string().ends_with("conf.d/1.conf:1"));
        write("more", "include 1.conf\ninclude more\n");
        let problems = of_file(&place.path().join("more"), "").unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].ends_with("includes itself; take the include away"), "{problems:?}");
    }

    #[test]
    fn a_glob_takes_any_text_and_any_byte() {
        for (pattern, text, want) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c*", "abcd", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbx", false),
            ("", "", true),
            ("?", "", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
    }
}
