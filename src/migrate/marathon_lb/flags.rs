//! Arguments as Python's argparse reads them: `--flag value`, `--flag=value`, flags cut short, short
//! ones run together, and several values behind one flag.

use crate::migrate::Refused;
use crate::suggest;

/// How many words a flag takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    Nothing,
    One,
    /// All up to the next flag.
    Many,
}

/// Every flag of all versions, without its dashes, and the letter that stands for it.
const FLAGS: &[(&str, Option<char>, Takes)] = &[
    ("help", Some('h'), Takes::Nothing),
    ("longhelp", None, Takes::Nothing),
    ("marathon", Some('m'), Takes::Many),
    ("marathon-auth-credential-file", None, Takes::One),
    ("marathon-ca-cert", None, Takes::One),
    ("marathon-lb-url", None, Takes::One),
    ("dcos-auth-credentials", None, Takes::One),
    ("haproxy-config", None, Takes::One),
    ("group", None, Takes::One),
    ("command", Some('c'), Takes::One),
    ("max-reload-retries", None, Takes::One),
    ("reload-interval", None, Takes::One),
    ("strict-mode", None, Takes::Nothing),
    ("sse", Some('s'), Takes::Nothing),
    ("listening", Some('l'), Takes::One),
    ("callback-url", Some('u'), Takes::One),
    ("archive-versions", None, Takes::One),
    ("health-check", Some('H'), Takes::Nothing),
    ("lru-cache-capacity", None, Takes::One),
    ("haproxy-map", None, Takes::Nothing),
    ("dont-bind-http-https", None, Takes::Nothing),
    ("group-https-by-vhost", None, Takes::Nothing),
    ("ssl-certs", None, Takes::One),
    ("skip-validation", None, Takes::Nothing),
    ("skip-config-cleanup", None, Takes::Nothing),
    ("dry", Some('d'), Takes::Nothing),
    ("min-serv-port-ip-per-task", None, Takes::One),
    ("max-serv-port-ip-per-task", None, Takes::One),
    ("max-backoff", None, Takes::One),
    ("syslog-socket", None, Takes::One),
    ("log-format", None, Takes::One),
    ("log-level", None, Takes::One),
];

/// A command line.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Flags {
    /// `sse`, `poll` or `event`, of the image's `run`.
    pub(super) mode: Option<String>,
    given: Vec<(&'static str, Vec<String>)>,
}

impl Flags {
    /// Reads arguments; the program's own name may stand before them.
    pub(super) fn read(arguments: &[String]) -> Result<Self, Refused> {
        let mut flags = Self::default();
        let mut left = arguments.iter().peekable();
        let program = |word: &str| {
            let name = word.rsplit('/').next().unwrap_or_default();
            matches!(name, "--" | "python" | "python3" | "run" | "marathon-lb" | "marathon_lb.py")
        };
        while left.next_if(|word| program(word)).is_some() {}
        let mode = left.next_if(|word| matches!(&***word, "sse" | "poll" | "event"));
        flags.mode = mode.cloned();
        while let Some(argument) = left.next() {
            let (found, attached) = Self::of(argument)?;
            for (index, (name, takes)) in found.iter().enumerate() {
                let last = index + 1 == found.len();
                let mut values: Vec<String> = Vec::new();
                if last {
                    values.extend(attached.clone());
                }
                let flag = |word: &&String| word.starts_with('-') && word.len() > 1;
                match takes {
                    Takes::Nothing if !values.is_empty() => {
                        return Err(refuse(format!("--{name} takes no value")));
                    }
                    Takes::One if values.is_empty() => {
                        // A negative number is a value.
                        let number = |word: &&String| word.parse::<i64>().is_ok();
                        values.extend(left.next_if(|word| number(word) || !flag(word)).cloned());
                    }
                    Takes::One | Takes::Nothing => {}
                    Takes::Many => {
                        while let Some(word) = left.next_if(|word| !flag(word)) {
                            values.push(word.clone());
                        }
                    }
                }
                if *takes != Takes::Nothing && values.is_empty() {
                    return Err(refuse(format!("--{name} needs a value")));
                }
                flags.given.push((*name, values));
            }
        }
        Ok(flags)
    }

    /// The flags that one argument names, and the value that it holds.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn of(argument: &str) -> Result<(Vec<(&'static str, Takes)>, Option<String>), Refused> {
        if let Some(long) = argument.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let exact = FLAGS.iter().find(|(known, ..)| *known == name);
            let mut cut = FLAGS.iter().filter(|(known, ..)| known.starts_with(name));
            let found = match (exact, cut.next(), cut.next()) {
                (Some(found), ..) => found,
                (None, Some(found), None) if !name.is_empty() => found,
                _ => {
                    let known: Vec<&str> = FLAGS.iter().map(|(known, ..)| *known).collect();
                    let near = suggest::nearest(name, &known);
                    let near = near.map(|near| format!("; did you mean --{near}?"));
                    return Err(refuse(format!(
                        "marathon-lb has no flag {argument:?}{}",
                        near.unwrap_or_default()
                    )));
                }
            };
            return Ok((vec![(found.0, found.2)], value.map(str::to_owned)));
        }
        let letters = argument.strip_prefix('-').filter(|letters| !letters.is_empty());
        let Some(letters) = letters else {
            return Err(refuse(format!(
                "{argument:?} is no flag; the modes sse, poll and event stand first"
            )));
        };
        let mut found = Vec::new();
        for (at, letter) in letters.char_indices() {
            let known = FLAGS.iter().find(|(_, short, _)| *short == Some(letter));
            let (name, _, takes) = known.ok_or_else(|| {
                refuse(format!("marathon-lb has no flag \"-{letter}\" ({argument:?})"))
            })?;
            found.push((*name, *takes));
            let rest = &letters[at + letter.len_utf8()..];
            if *takes != Takes::Nothing && !rest.is_empty() {
                let rest = rest.strip_prefix('=').unwrap_or(rest);
                return Ok((found, Some(rest.to_owned())));
            }
        }
        Ok((found, None))
    }

    /// Whether a flag is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(known, _)| *known == name)
    }

    /// The value of a flag; the last counts.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(known, _)| *known == name)?.1.first().map(String::as_str)
    }

    /// All values of a flag that stands for a list; the last counts.
    pub(super) fn many(&self, name: &str) -> &[String] {
        self.given.iter().rev().find(|(known, _)| *known == name).map_or(&[], |(_, values)| values)
    }

    /// The values of a flag that is given once for each.
    pub(super) fn each(&self, name: &str) -> Vec<&str> {
        let given = self.given.iter().filter(|(known, _)| *known == name);
        given.flat_map(|(_, values)| values.iter().map(String::as_str)).collect()
    }
}

fn refuse(message: String) -> Refused {
    Refused::Arguments(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Flags, String> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Flags::read(&arguments).map_err(|refused| refused.to_string())
    }

    #[test]
    fn arguments_are_read_as_python_reads_them() {
        let flags = read(
            "/marathon-lb/run sse --group external --group=internal -m http://a http://b --haproxy-map \
             -sH --health -c reload --max-reload-retries -1 --dry",
        )
        .unwrap();
        assert_eq!(flags.mode.as_deref(), Some("sse"));
        assert_eq!(flags.each("group"), ["external", "internal"]);
        assert_eq!(flags.many("marathon"), ["http://a", "http://b"]);
        for name in ["haproxy-map", "sse", "health-check", "dry"] {
            assert!(flags.has(name), "{name}");
        }
        assert_eq!(flags.one("command"), Some("reload"));
        assert_eq!(flags.one("max-reload-retries"), Some("-1"));
        assert_eq!(read("-mhttp://a http://b").unwrap().many("marathon"), ["http://a", "http://b"]);
        assert_eq!(read("--marathon=http://a").unwrap().many("marathon"), ["http://a"]);
        assert_eq!(read("python3 ./marathon_lb.py --group a").unwrap().each("group"), ["a"]);
        for (text, want) in [
            ("--gruop a", "did you mean --group?"),
            ("--m a", "has no flag"),
            ("--group", "needs a value"),
            ("--group --dry", "needs a value"),
            ("--dry=1", "takes no value"),
            ("-x", "no flag \"-x\""),
            ("--group a sse", "is no flag"),
            ("--", ""),
        ] {
            let told = read(text).err().unwrap_or_default();
            assert!(told.contains(want), "{text}: {told}");
        }
    }
}
