//! Go templates over the catalog: the engine with the functions of a dialect.

use std::sync::Arc;
use std::time::Duration;

use super::super::data::View;
use super::super::functions::{Dialect, Host, System, functions};
use super::super::language::Text;
use super::go::{Error, ErrorKind, Limit, Limits as GoLimits, Options, Templates, Value};
use super::{Engine, Limits};

/// Most templates inside each other; the stack of a thread bears it.
const DEPTH_MAX: u32 = 200;
/// Longest time that one command of `plugin` may take.
const PLUGIN_MAX: Duration = Duration::from_secs(30);

struct Go {
    templates: Templates,
    world: Arc<System>,
    limits: Limits,
}

/// Parses `text` and what it may include.
pub(super) fn parse(
    text: &Text,
    dialect: Dialect,
    limits: Limits,
) -> Result<Box<dyn Engine>, String> {
    let options = Options {
        left: text.delimiters.0.clone(),
        right: text.delimiters.1.clone(),
        missing_key: text.missing_key,
        numbers: text.number_format,
        functions: functions(dialect, &text.denied),
    };
    let name = text.path.display().to_string();
    let told = |error: Error| told(&error, limits);
    let mut templates = Templates::parse(&name, &text.body, &options).map_err(told)?;
    for (name, included) in &text.includes {
        if let Err(error) = templates.add(name, included, &options) {
            // One that nobody here names costs only those that do.
            let named = |text: &str| text.contains(&format!("\"{name}\""));
            if named(&text.body) || text.includes.iter().any(|(_, text)| named(text)) {
                return Err(told(error));
            }
        }
    }
    let world =
        System { sandbox: text.sandbox.clone(), plugin_timeout: PLUGIN_MAX.min(limits.timeout) };
    Ok(Box::new(Go { templates, world: Arc::new(world), limits }))
}

impl Engine for Go {
    fn evaluate(&self, view: &Arc<View>) -> Result<Vec<u8>, String> {
        let host = Host::new(Arc::clone(view) as _, Arc::clone(&self.world) as _);
        let limits = GoLimits {
            steps_max: self.limits.steps_max,
            depth_max: DEPTH_MAX,
            output_max: self.limits.output_max.0,
            deadline: view.deadline(),
        };
        let output = self.templates.execute(Value::Nil, &host, limits);
        if host.waits() {
            for (query, _) in host.asked().iter().filter(|(_, answered)| !answered) {
                view.lacks(query);
            }
        }
        output.map_err(|error| told(&error, self.limits))
    }
}

/// `file:line:column: message` in Go's words, and what to do about a limit.
fn told(error: &Error, limits: Limits) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("template: ").unwrap_or(&text);
    match error.kind {
        ErrorKind::Limit(Limit::Steps(_)) => format!(
            "{text}; raise `steps_max` = {}, or see whether a loop is too large",
            limits.steps_max
        ),
        ErrorKind::Limit(Limit::Output(_)) => {
            format!("{text}; raise `output_max` = \"{}\"", limits.output_max)
        }
        ErrorKind::Limit(Limit::Time) => format!(
            "{text}; raise `timeout` = \"{:?}\", or see whether a loop is too large",
            limits.timeout
        ),
        ErrorKind::Limit(Limit::Depth(_)) => format!("{text}; does a template call itself?"),
        ErrorKind::Parse | ErrorKind::Exec => text.to_owned(),
    }
}
