//! A line of the stats socket, read. Pure; what is wrong is told in HAProxy's words where it has some.

use std::fmt::Write as _;

use super::rows::Wanted;

/// Largest weight that can be set.
pub(super) const WEIGHT_MAX: u32 = 1000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Stat(Wanted, Form),
    Info {
        typed: bool,
    },
    /// Of one backend, or of all.
    State(Option<String>),
    Connections(Option<String>),
    Backends,
    Version,
    Set(Name, Change),
    Weight(Name),
    Prompt,
    Quit,
    /// Answered as it is.
    Told(String),
}

/// How statistics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Csv,
    Typed,
    Json,
}

/// A server by the names of its backend and its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) backend: String,
    pub(super) server: String,
}

/// What is to become of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Ready,
    Drain,
    Maintenance,
    Weight(u32),
    /// In parts of a hundred of the weight that its registry tells.
    Share(u32),
}

/// Commands and what they do, for those who ask.
const HELP: &[(&str, &str)] = &[
    ("disable server <bk>/<srv>", "take a server out (as set server … state maint)"),
    ("enable server <bk>/<srv>", "undo that, and a drain (as set server … state ready)"),
    ("get weight <bk>/<srv>", "report a server's weight now, and as its registry has it"),
    ("set server <bk>/<srv> state", "ready, drain or maint"),
    ("set server <bk>/<srv> weight", "change a server's weight: a number or a share such as 50%"),
    ("set weight <bk>/<srv>", "the same"),
    ("show backend", "list backends"),
    ("show info [typed]", "report information about the running process"),
    ("show servers conn [<backend>]", "report what runs at servers (all or of one backend)"),
    ("show servers state [<backend>]", "report how servers stand (all or of one backend)"),
    ("show stat [<px> <type> <sid>] [typed|json|up|no-maint]*", "report counters"),
    ("show version", "show version of the current process"),
    ("help", "this list"),
    ("prompt", "toggle interactive mode with prompt"),
    ("quit", "disconnect"),
];

const WHICH: &str = "Require 'backend/server'.\n";

/// The commands of one line: several are parted by `;`, and `\` takes the meaning off what follows it.
pub(super) fn commands(line: &str) -> Vec<Command> {
    let mut parts: Vec<Vec<String>> = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let Some(part) = parts.last_mut() else { break };
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            ';' => {
                part.extend(word.take());
                parts.push(Vec::new());
            }
            space if space.is_whitespace() => part.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    if let Some(part) = parts.last_mut() {
        part.extend(word);
    }
    // What stands behind the last `;` may be nothing.
    if parts.len() > 1 && parts.last().is_some_and(Vec::is_empty) {
        parts.pop();
    }
    let read = |part: &Vec<String>| {
        let words: Vec<&str> = part.iter().map(String::as_str).collect();
        command(&words)
    };
    parts.iter().map(read).collect()
}

fn command(words: &[&str]) -> Command {
    let told = |text: &str| Command::Told(text.to_owned());
    let named = |name: Option<&&str>, then: &dyn Fn(Name) -> Command| match name {
        Some(name) => match name.split_once('/') {
            Some((backend, server)) => {
                then(Name { backend: backend.to_owned(), server: server.to_owned() })
            }
            None => told(WHICH),
        },
        None => told(WHICH),
    };
    match words {
        ["show", "stat", rest @ ..] => stat(rest),
        ["show", "info", rest @ ..] => Command::Info { typed: rest.contains(&"typed") },
        ["show", "servers", "state", rest @ ..] => {
            Command::State(rest.first().map(|p| (*p).into()))
        }
        ["show", "servers", "conn", rest @ ..] => {
            Command::Connections(rest.first().map(|p| (*p).into()))
        }
        ["show", "backend", ..] => Command::Backends,
        ["show", "version", ..] => Command::Version,
        ["set", "server", rest @ ..] => named(rest.first(), &|name| change(name, &rest[1..])),
        ["set", "weight", rest @ ..] => {
            named(rest.first(), &|name| weight(name, rest.get(1).copied()))
        }
        ["get", "weight", rest @ ..] => named(rest.first(), &Command::Weight),
        ["disable", "server", rest @ ..] => {
            named(rest.first(), &|name| Command::Set(name, Change::Maintenance))
        }
        ["enable", "server", rest @ ..] => {
            named(rest.first(), &|name| Command::Set(name, Change::Ready))
        }
        ["prompt", ..] => Command::Prompt,
        ["quit", ..] => Command::Quit,
        ["help", ..] => told(&help("The following commands are valid at this level:", "")),
        other => Command::Told(unknown(other.first().copied().unwrap_or_default())),
    }
}

fn change(name: Name, rest: &[&str]) -> Command {
    match rest {
        ["state", state, ..] => match *state {
            "ready" => Command::Set(name, Change::Ready),
            "drain" => Command::Set(name, Change::Drain),
            "maint" => Command::Set(name, Change::Maintenance),
            _ => Command::Told(STATES.to_owned()),
        },
        ["state"] => Command::Told(STATES.to_owned()),
        ["weight", rest @ ..] => weight(name, rest.first().copied()),
        _ => Command::Told("usage: set server <backend>/<server> state | weight\n".to_owned()),
    }
}

const STATES: &str = "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n";

fn weight(name: Name, wanted: Option<&str>) -> Command {
    let told = |text: &str| Command::Told(text.to_owned());
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return told("Require <weight> or <weight%>.\n");
    };
    let (digits, share) = match wanted.strip_suffix('%') {
        Some(digits) => (digits, true),
        None => (wanted, false),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return told("Empty weight string empty or preceded by garbage\n");
    }
    match digits.parse::<u32>() {
        Ok(percent @ 0..=100_000) if share => Command::Set(name, Change::Share(percent)),
        Ok(weight @ 0..=WEIGHT_MAX) if !share => Command::Set(name, Change::Weight(weight)),
        _ if share => told("Relative weight must be positive.\n"),
        _ => Command::Told(format!(
            "Absolute weight can only be between 0 and {WEIGHT_MAX} inclusive.\n"
        )),
    }
}

/// `show stat [<proxy> <type> <server>] [typed|json|up|no-maint|desc]*`; proxy by name or number, and
/// `-1` is all of them.
fn stat(words: &[&str]) -> Command {
    let mut wanted = Wanted { legends: true, ..Wanted::default() };
    let mut form = Form::Csv;
    let mut places = Vec::new();
    for word in words {
        match *word {
            "typed" => form = Form::Typed,
            "json" => form = Form::Json,
            "up" => wanted.up = true,
            "no-maint" => wanted.no_maintenance = true,
            "desc" => {}
            other => places.push(other),
        }
    }
    if let Some(proxy) = places.first().filter(|proxy| **proxy != "-1") {
        wanted.proxy = Some((*proxy).into());
    }
    let number = |at: usize| places.get(at).and_then(|word| word.parse::<i64>().ok());
    wanted.objects = number(1).filter(|objects| *objects != -1);
    wanted.server = number(2).and_then(|server| u32::try_from(server).ok());
    Command::Stat(wanted, form)
}

/// The list of those commands that begin with `word`, or of all.
fn help(head: &str, word: &str) -> String {
    let begins = |name: &str| word.is_empty() || name.split(' ').next() == Some(word);
    let general = ["help", "prompt", "quit"];
    let wanted = HELP.iter().filter(|(name, _)| begins(name) || general.contains(name));
    let mut text = format!("{head}\n");
    for (name, what) in wanted {
        // Writing to a string never fails.
        let _ = writeln!(text, "  {name:<39} : {what}");
    }
    text
}

fn unknown(word: &str) -> String {
    if !word.is_empty() && HELP.iter().any(|(name, _)| name.split(' ').next() == Some(word)) {
        let head = "Unknown command, but maybe one of the following ones is a better match:";
        return help(head, word);
    }
    help("Unknown command. Please enter one of the following commands only:", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Command {
        let mut all = commands(line);
        assert_eq!(all.len(), 1, "{line}");
        all.remove(0)
    }

    fn name() -> Name {
        Name { backend: "app".into(), server: "s1".into() }
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let all = || Wanted { legends: true, ..Wanted::default() };
        let px = Wanted { proxy: Some("app".into()), objects: Some(4), server: Some(2), ..all() };
        for (line, want) in [
            ("show stat", Command::Stat(all(), Form::Csv)),
            ("  show \t stat  ", Command::Stat(all(), Form::Csv)),
            ("show stat typed", Command::Stat(all(), Form::Typed)),
            ("show stat app 4 2 json", Command::Stat(px, Form::Json)),
            ("show stat -1 -1 -1", Command::Stat(all(), Form::Csv)),
            ("show stat up", Command::Stat(Wanted { up: true, ..all() }, Form::Csv)),
            ("show info", Command::Info { typed: false }),
            ("show info typed", Command::Info { typed: true }),
            ("show servers state", Command::State(None)),
            ("show servers state app", Command::State(Some("app".into()))),
            ("show servers conn", Command::Connections(None)),
            ("show backend", Command::Backends),
            ("show version", Command::Version),
            ("set server app/s1 state ready", Command::Set(name(), Change::Ready)),
            ("set server app/s1 state drain", Command::Set(name(), Change::Drain)),
            ("set server app/s1 state maint", Command::Set(name(), Change::Maintenance)),
            ("set server app/s1 weight 10", Command::Set(name(), Change::Weight(10))),
            ("set server app/s1 weight 50%", Command::Set(name(), Change::Share(50))),
            ("set weight app/s1 0", Command::Set(name(), Change::Weight(0))),
            ("get weight app/s1", Command::Weight(name())),
            ("disable server app/s1", Command::Set(name(), Change::Maintenance)),
            ("enable server app/s1", Command::Set(name(), Change::Ready)),
            ("prompt", Command::Prompt),
            ("quit", Command::Quit),
        ] {
            assert_eq!(one(line), want, "{line}");
        }
    }

    #[test]
    fn several_stand_in_one_line_and_a_backslash_keeps_them_together() {
        assert_eq!(commands("show version;show version").len(), 2);
        assert_eq!(commands("show version;").len(), 1);
        assert_eq!(commands("show version;;show version").len(), 3);
        assert_eq!(
            one("get weight app/s\\;1\\ 2"),
            Command::Weight(Name { backend: "app".into(), server: "s;1 2".into() })
        );
    }

    #[test]
    fn what_is_wrong_is_told_as_haproxy_does() {
        for (line, want) in [
            ("set server", "Require 'backend/server'.\n"),
            ("set server app", "Require 'backend/server'.\n"),
            ("set server app/s1", "usage: set server <backend>/<server> state | weight\n"),
            ("set server app/s1 addr 1.2.3.4", "usage: set server <backend>/<server> state"),
            ("set server app/s1 state", "'set server <srv> state' expects 'ready'"),
            ("set server app/s1 state up", "'set server <srv> state' expects 'ready'"),
            ("set server app/s1 weight", "Require <weight> or <weight%>.\n"),
            ("set server app/s1 weight ten", "Empty weight string empty or preceded by garbage\n"),
            ("set server app/s1 weight -1", "Empty weight string empty or preceded by garbage\n"),
            ("set server app/s1 weight %", "Empty weight string empty or preceded by garbage\n"),
            (
                "set weight app/s1 1001",
                "Absolute weight can only be between 0 and 1000 inclusive.\n",
            ),
            ("set weight app/s1 99999999999", "Absolute weight can only be between"),
            ("set weight app/s1 100001%", "Relative weight must be positive.\n"),
            ("disable server", "Require 'backend/server'.\n"),
            ("get weight x", "Require 'backend/server'.\n"),
            ("", "Unknown command. Please enter one of the following commands only:\n"),
            ("bogus", "Unknown command. Please enter one of the following commands only:\n"),
            (
                "show bogus",
                "Unknown command, but maybe one of the following ones is a better match:\n",
            ),
            ("show", "Unknown command, but maybe one of the following ones is a better match:\n"),
            ("help", "The following commands are valid at this level:\n"),
        ] {
            let Command::Told(told) = one(line) else { panic!("{line} is no mistake") };
            assert!(told.starts_with(want), "{line}: {told}");
        }
    }

    #[test]
    fn no_line_is_too_strange_to_be_read() {
        for line in
            ["\\", ";", ";;;", "\u{0}\u{1b}[2J", "show stat \u{fffd} 99999999999999999999 x", "/"]
        {
            let _ = commands(line);
        }
        let long = "show stat ".repeat(10_000);
        assert_eq!(commands(&long).len(), 1);
    }
}
