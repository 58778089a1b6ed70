//! consul-template's command line, configuration files and variables, as a configuration of ours.
//!
//! Facts about it are those of release 0.42 and of the releases before 0.19 whose spellings are
//! still in use.

mod child;
mod consul;
mod decode;
mod files;
mod flags;
mod hcl;
mod hcl_text;
mod process;
mod schema;
mod settings;
mod templates;
mod values;

use std::path::Path;

use super::{Mode, Plan, Refused, Text};
use flags::CommandLine;
use settings::Section;

/// What consul-template would have been started with.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The arguments behind the program's name.
    pub arguments: &'a [String],
    /// Variables of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Where relative paths begin.
    pub directory: &'a Path,
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// To tell how it is used.
    Help,
    /// To tell the version.
    Version,
    /// To render.
    Render(Box<Plan>),
}

/// What `input` comes to. Reads the configuration files that it names.
///
/// # Errors
/// The command line or a configuration file cannot be understood: every problem, with its place.
pub fn plan(input: Input<'_>) -> Result<Wish, Refused> {
    let mut line = flags::read(input.arguments)?;
    if line.help {
        return Ok(Wish::Help);
    }
    if line.version {
        return Ok(Wish::Version);
    }
    let flags = std::mem::take(&mut line.settings);
    let mut settings = files::read(&line.paths, input.directory).map_err(Refused::Configuration)?;
    settings.merge(flags);
    let mut translation = Translation {
        top: &settings.top,
        line: &line,
        input,
        text: Text::default(),
        plan: Plan { dry: line.dry, diff: line.diff, ..Plan::default() },
        problems: Vec::new(),
    };
    translation.plan.mode = translation.mode();
    translation.process();
    translation.consul();
    translation.templates(&settings.templates);
    translation.child(settings.templates.is_empty());
    translation.usual_differences();
    let Translation { text, mut plan, problems, .. } = translation;
    if !problems.is_empty() {
        return Err(Refused::Configuration(problems));
    }
    plan.text = text.finish();
    Ok(Wish::Render(Box::new(plan)))
}

/// The work on one plan.
struct Translation<'a> {
    top: &'a Section,
    line: &'a CommandLine,
    input: Input<'a>,
    text: Text,
    plan: Plan,
    problems: Vec<String>,
}

impl Translation<'_> {
    fn mode(&self) -> Mode {
        if self.line.parse_only || self.top.flag(&["parse_only"]) == Some(true) {
            Mode::ParseOnly
        } else if self.line.once || self.top.flag(&["once"]) == Some(true) {
            Mode::Once
        } else {
            Mode::Watch
        }
    }

    /// The value of a variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<String> {
        (self.input.variable)(name).filter(|value| !value.is_empty())
    }

    /// A path as it is from everywhere.
    fn path(&self, path: &str) -> String {
        self.input.directory.join(path).to_string_lossy().into_owned()
    }

    /// Tells that what `path` names has no effect, if it was set.
    fn without_effect(&mut self, path: &[&str], why: &str) {
        if let Some(from) = self.top.from(path) {
            self.plan.notices.push(format!("{from}: `{}` has no effect: {why}", path.join(".")));
        }
    }

    fn differs(&mut self, what: impl Into<String>) {
        self.plan.differences.push(what.into());
    }

    /// What is otherwise whatever was set.
    fn usual_differences(&mut self) {
        for what in [
            "A registry that cannot be reached is asked again for ever, and what it said last stays; \
             consul-template ends when its attempts are used up.",
            "A template that fails leaves its file as it is and is rendered again when what it read \
             has changed; consul-template ends (`template_error_fatal`).",
            "A command that fails is run again until it succeeds; consul-template ends.",
            "The file is replaced durably: file and directory are synced, its owner stays.",
        ] {
            self.differs(what);
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
