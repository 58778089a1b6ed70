//! Templates: one table each.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::Translation;
use super::settings::{Command, From, Section};
use crate::migrate::{Mode, text};
use crate::units::Period;

/// What a command may take unless it is stated.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

impl Translation<'_> {
    pub(super) fn templates(&mut self, templates: &[(Section, From)]) {
        let mut names = BTreeSet::new();
        for (template, from) in templates {
            self.template(template, from, &mut names);
        }
        let waited = self.top.first(&["wait"]).is_some()
            || templates.iter().any(|(template, _)| template.first(&["wait"]).is_some());
        if waited && self.plan.mode == Mode::Watch {
            self.differs(
                "`wait` holds from the first change on; consul-template's timers begin when all \
                 templates were rendered once.",
            );
        }
    }

    fn template(&mut self, template: &Section, from: &From, names: &mut BTreeSet<String>) {
        let (source, contents) = (template.text(&["source"]), template.text(&["contents"]));
        let destination = template.text(&["destination"]);
        match (source, contents) {
            (None, None) => {
                self.problems
                    .push(format!("{from}: the template has neither `source` nor `contents`"));
                return;
            }
            (Some(_), Some(_)) => {
                self.problems.push(format!(
                    "{from}: the template has both `source` and `contents`; keep one"
                ));
                return;
            }
            _ => {}
        }
        let name = free_name(destination.or(source).unwrap_or("inline"), names);
        // Where nothing is written, a place is not needed.
        let idle = self.plan.dry || self.plan.mode == Mode::ParseOnly;
        let Some(destination) =
            destination.map(str::to_owned).or_else(|| idle.then(|| name.clone()))
        else {
            self.problems.push(format!("{from}: the template has no `destination`"));
            return;
        };
        self.text.table(&["template", &name]);
        if let Some(source) = source {
            let path = self.path(source);
            self.text.string("source", &path);
        }
        if let Some(contents) = contents {
            self.text.string("contents", contents);
        }
        let path = self.path(&destination);
        self.text.string("destination", &path);
        self.text.string("dialect", "consul-template");
        self.language(template);
        self.file(template);
        self.wait(template);
        self.command(template, from);
    }

    fn language(&mut self, template: &Section) {
        let delimiter = |own, default| {
            template.text(&[own]).or_else(|| self.top.text(&["default_delimiters", default]))
        };
        let (left, right) =
            (delimiter("left_delimiter", "left"), delimiter("right_delimiter", "right"));
        if left.is_some() || right.is_some() {
            let both = [left.unwrap_or("{{"), right.unwrap_or("}}")];
            self.text.list("delimiters", &both);
        }
        if template.flag(&["error_on_missing_key"]) == Some(true) {
            self.text.string("missing_key", "error");
        }
        let denied = template.words(&["function_denylist"]);
        if !denied.is_empty() {
            self.text.list("denied_functions", denied);
        }
        if let Some(sandbox) = template.text(&["sandbox_path"]) {
            let path = self.path(sandbox);
            self.text.string("sandbox", &path);
        }
        if template.flag(&["error_fatal"]) == Some(true)
            && let Some(from) = template.from(&["error_fatal"])
        {
            self.plan.notices.push(format!(
                "{from}: `error_fatal` has no effect: a template that fails keeps its file and does \
                 not end the others, except with -once"
            ));
        }
    }

    fn file(&mut self, template: &Section) {
        if template.flag(&["create_dest_dirs"]) != Some(false) {
            self.text.bare("create_dirs", true);
        }
        if let Some(mode) = template.mode(&["perms"]).filter(|mode| *mode != 0) {
            self.text.string("mode", &format!("{mode:04o}"));
        }
        // Negative numbers stand for "not stated".
        let stated = |key| template.text(&[key]).filter(|id| !id.starts_with('-'));
        match (stated("user"), stated("group")) {
            (None, None) => {}
            (user, None) => self.text.string("owner", user.unwrap_or_default()),
            (user, Some(group)) => {
                self.text.string("owner", &format!("{}:{group}", user.unwrap_or_default()));
            }
        }
        if template.flag(&["backup"]) == Some(true) {
            self.text.bare("backup", true);
        }
    }

    fn wait(&mut self, template: &Section) {
        if self.plan.mode == Mode::Once {
            return;
        }
        let own = template.first(&["wait"]).is_some();
        let wait = if own { template } else { self.top };
        let Some(min) = wait.span(&["wait", "min"]) else { return };
        if min.is_zero() || wait.flag(&["wait", "enabled"]) == Some(false) {
            return;
        }
        let max = wait.span(&["wait", "max"]).unwrap_or_else(|| min.saturating_mul(4));
        let written = |span| text::string(&Period(span).to_string());
        self.text.inline("wait", &[("min", written(min)), ("max", written(max))]);
    }

    /// The command that tells the reader: `command`, or `exec` of the template.
    fn command(&mut self, template: &Section, from: &From) {
        if template.flag(&["exec", "enabled"]) == Some(false) {
            return;
        }
        let command = template.command(&["exec", "command"]);
        let Some(command) = command.or_else(|| template.command(&["command"])) else { return };
        let timeout =
            template.span(&["exec", "timeout"]).or_else(|| template.span(&["command_timeout"]));
        let timeout = timeout.unwrap_or(COMMAND_TIMEOUT);
        let mut command = self.surrounded(template, command.clone());
        if timeout.is_zero() {
            command = Command::Shell(format!("( {} ) &", shell(&command)));
            self.differs(format!(
                "{from}: a command without a time limit runs in the background; how it ends is not \
                 looked at."
            ));
        }
        match &command {
            Command::Shell(line) => self.text.string("reload", line),
            Command::Words(words) => self.text.list("reload", words),
        }
        if !timeout.is_zero() && timeout != COMMAND_TIMEOUT {
            self.text.string("reload_timeout", &Period(timeout).to_string());
        }
        for key in ["kill_signal", "kill_timeout", "reload_signal", "splay"] {
            if let Some(from) = template.from(&["exec", key]) {
                self.plan.notices.push(format!(
                    "{from}: `exec.{key}` of a template has no effect: its command is killed with \
                     its process group when its time is over, and runs anew for the next change"
                ));
            }
        }
    }

    /// The command with the environment that its `exec.env` asks for.
    fn surrounded(&mut self, template: &Section, command: Command) -> Command {
        let env = |key| ["exec", "env", key];
        for key in ["allowlist", "denylist"] {
            if let Some(from) = template.from(&env(key)) {
                self.plan.notices.push(format!(
                    "{from}: `exec.env.{key}` of a template has no effect: its command sees the \
                     environment of this process; `pristine` and `custom` hold"
                ));
            }
        }
        let pristine = template.flag(&env("pristine")) == Some(true);
        let custom = template.words(&env("custom"));
        if !pristine && custom.is_empty() {
            return command;
        }
        let mut words = vec!["/usr/bin/env".to_owned()];
        words.extend(pristine.then(|| "-i".to_owned()));
        words.extend(custom.iter().cloned());
        match command {
            Command::Shell(line) => words.extend(["/bin/sh".into(), "-c".into(), line]),
            Command::Words(more) => words.extend(more),
        }
        Command::Words(words)
    }
}

/// As a line for the shell.
fn shell(command: &Command) -> String {
    match command {
        Command::Shell(line) => line.clone(),
        Command::Words(words) => {
            let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''")));
            quoted.collect::<Vec<_>>().join(" ")
        }
    }
}

/// A name for the template of `path` that no other has.
fn free_name(path: &str, names: &mut BTreeSet<String>) -> String {
    let file = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = file.chars().map(fit).collect();
    let name = match name.trim_matches('-') {
        "" => "template",
        name => name,
    };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !names.contains(name));
    let free = free.unwrap_or_default();
    names.insert(free.clone());
    free
}
