//! How services ask for checks in their registry: `http /health port=http interval=10s; tcp`. Pure.
//!
//! Words stand apart by white space, and one that ends with `;` ends a check. The first word is the
//! kind; a word that begins with `/` is the path; all others are `KEY=VALUE`. A check of which
//! anything cannot be read is refused as a whole, and the others count.

use std::sync::Arc;
use std::time::Duration;

use super::check::KINDS;
use crate::catalog::model::{parse_name, parse_port};
use crate::suggest;
use crate::units::Period;

/// Most checks that are read of one text; whatever may be had is fewer.
const READ_MAX: usize = 64;
/// Longest time that may be asked for.
const LONGEST: Period = Period(Duration::from_secs(24 * 3600));
/// Most results in a row that may be asked for.
const IN_A_ROW_MAX: u32 = 1000;
/// Longest part of a text that is repeated.
const SHOWN_MAX: usize = 60;

const KNOWN: [&str; 3] = ["tcp", "http", "https"];
const KEYS: [&str; 8] = ["port", "interval", "timeout", "fall", "rise", "path", "status", "host"];

/// What kind of check is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Http,
    /// HTTP over TLS, whatever the certificate.
    Https,
}

/// Which port is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Door {
    Number(u16),
    /// The instance's port of that name.
    Name(Arc<str>),
}

/// One check as it is asked for; what is not said comes from `[health]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) kind: Kind,
    pub(super) port: Option<Door>,
    pub(super) interval: Option<Period>,
    pub(super) timeout: Option<Period>,
    pub(super) fall: Option<u32>,
    pub(super) rise: Option<u32>,
    pub(super) path: Option<String>,
    pub(super) status: Option<String>,
    pub(super) host: Option<String>,
}

/// The checks that `text` asks for, in their order, and what cannot be read, in words.
pub(super) fn read(text: &str) -> (Vec<Wish>, Vec<String>) {
    let (mut wishes, mut problems) = (Vec::new(), Vec::new());
    let mut checks = 0;
    let mut words = Vec::new();
    let mut all = text.split_whitespace().peekable();
    while let Some(word) = all.next() {
        let bare = word.trim_end_matches(';');
        if !bare.is_empty() {
            words.push(bare);
        }
        let ends = bare.len() < word.len() || all.peek().is_none();
        if !ends || words.is_empty() {
            continue;
        }
        checks += 1;
        if checks > READ_MAX {
            problems.push(format!("only the first {READ_MAX} checks are read"));
            break;
        }
        match one(&words) {
            Ok(wish) => wishes.push(wish),
            Err(problem) => problems.push(format!("{}: {problem}", shown(&words.join(" ")))),
        }
        words.clear();
    }
    (wishes, problems)
}

fn one(words: &[&str]) -> Result<Wish, String> {
    let [kind, rest @ ..] = words else { return Err("is empty".to_owned()) };
    let kind = match *kind {
        "tcp" => Kind::Tcp,
        "http" => Kind::Http,
        "https" => Kind::Https,
        other if KINDS.contains(&other) => {
            return Err(format!(
                "{other} is for the configuration alone, [service.NAME] check.{other}; tcp, http and \
                 https can be asked for"
            ));
        }
        other => {
            let remedy = suggest::remedy(other, &KNOWN, "kinds");
            return Err(format!(
                "{} is no kind of check{remedy}; write it like `http /health port=http interval=10s`",
                shown(other)
            ));
        }
    };
    let mut wish = Wish {
        kind,
        port: None,
        interval: None,
        timeout: None,
        fall: None,
        rise: None,
        path: None,
        status: None,
        host: None,
    };
    for word in rest {
        let (key, value) = match word.split_once('=') {
            _ if word.starts_with('/') => ("path", *word),
            Some(pair) => pair,
            None => {
                return Err(format!(
                    "{} is neither a path, which begins with /, nor KEY=VALUE; end a check with `;`",
                    shown(word)
                ));
            }
        };
        wish.say(key, value)?;
    }
    Ok(wish)
}

impl Wish {
    fn say(&mut self, key: &str, value: &str) -> Result<(), String> {
        if self.kind == Kind::Tcp && ["path", "status", "host"].contains(&key) {
            return Err(format!("{key} is for http and https"));
        }
        let known = match key {
            "port" => put(&mut self.port, door(value)?),
            "interval" => put(&mut self.interval, period(key, value)?),
            "timeout" => put(&mut self.timeout, period(key, value)?),
            "fall" => put(&mut self.fall, in_a_row(key, value)?),
            "rise" => put(&mut self.rise, in_a_row(key, value)?),
            "path" => put(&mut self.path, value.to_owned()),
            "status" => put(&mut self.status, value.to_owned()),
            "host" => put(&mut self.host, value.to_owned()),
            other => {
                let remedy = suggest::remedy(other, &KEYS, "keys");
                return Err(format!("{} is no key{remedy}", shown(other)));
            }
        };
        if known {
            return Err(format!("{key} stands there twice"));
        }
        Ok(())
    }
}

/// Whether there was something already.
fn put<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_some()
}

fn door(text: &str) -> Result<Door, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_port(text.parse().unwrap_or(i64::MAX)).map(Door::Number);
    }
    parse_name("port", text).map(Door::Name)
}

fn period(key: &str, text: &str) -> Result<Period, String> {
    let period: Period = text.parse().map_err(|problem| format!("{key}: {problem}"))?;
    if period > LONGEST {
        return Err(format!("{key}: \"{period}\" is longer than a day"));
    }
    Ok(period)
}

fn in_a_row(key: &str, text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=IN_A_ROW_MAX).contains(number));
    number.ok_or_else(|| format!("{key}={} is not between 1 and {IN_A_ROW_MAX}", shown(text)))
}

/// The beginning of what somebody wrote, for a message.
fn shown(text: &str) -> String {
    let mut end = text.len().min(SHOWN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let more = if end < text.len() { "…" } else { "" };
    format!("{:?}", format!("{}{more}", &text[..end]))
}

#[cfg(test)]
#[path = "wish_tests.rs"]
mod tests;
