//! Jinja templates over the catalog, by minijinja.
//!
//! Functions: `service("web")` gives the eligible instances, `instances("web")` all of them,
//! `services()` the sorted names, `generation()` the number of the snapshot, `stale()` whether a
//! registry does not answer. An instance has `id`, `service`, `address`, `port`, `ports`, `tags`, `meta`, `weight`, `health`, `presence`, `node`,
//! `locality`, `group` and `registry`. What is not defined is an error, never silently empty.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::super::data::View;
use super::{Engine, Limits};
use crate::catalog::model::Meta;
use crate::catalog::{Instance, Presence};

/// The one template of an environment.
const NAME: &str = "template";

struct Jinja {
    environment: Environment<'static>,
    path: String,
    limits: Limits,
}

/// Parses `text`, the content of `path`.
pub(super) fn parse(path: &Path, text: String, limits: Limits) -> Result<Box<dyn Engine>, String> {
    let path = path.display().to_string();
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(limits.steps_max));
    environment.set_debug(true);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|error| told(&path, &error))?);
    environment.add_template_owned(NAME, text).map_err(|error| told(&path, &error))?;
    Ok(Box::new(Jinja { environment, path, limits }))
}

impl Engine for Jinja {
    fn evaluate(&self, view: &Arc<View>) -> Result<Vec<u8>, String> {
        let template =
            self.environment.get_template(NAME).map_err(|error| told(&self.path, &error))?;
        let max = self.limits.output_max.0 as usize;
        let deadline = view.deadline();
        let mut output = Bounded { bytes: Vec::new(), max, deadline, clock_in: 0, late: false };
        let root = Value::from_object(Root(Arc::clone(view)));
        match template.render_captured_to(root, &mut output) {
            Ok(_) => Ok(output.bytes),
            Err(error) => Err(match error.kind() {
                ErrorKind::OutOfFuel => format!(
                    "{}: the template takes more than `steps_max` = {} steps; \
                     raise it, or see whether a loop is too large",
                    self.path, self.limits.steps_max
                ),
                ErrorKind::WriteFailure if output.late => format!(
                    "{}: the template takes longer than `timeout`; raise it, or see whether a \
                     loop is too large",
                    self.path
                ),
                ErrorKind::WriteFailure => format!(
                    "{}: the output is larger than `output_max` = \"{}\"; raise it",
                    self.path, self.limits.output_max
                ),
                _ => told(&self.path, &error),
            }),
        }
    }
}

/// `file:line:column: message` on one line.
fn told(path: &str, error: &Error) -> String {
    let mut text = path.to_owned();
    // Writing to a string never fails.
    if let Some(line) = error.line() {
        let _ = write!(text, ":{line}");
        let place = error.template_source().zip(error.range());
        if let Some(before) = place.and_then(|(source, range)| source.get(..range.start)) {
            let start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let _ = write!(text, ":{}", before[start..].chars().count() + 1);
        }
    }
    let _ = match error.detail() {
        Some(detail) => write!(text, ": {}: {detail}", error.kind()),
        None => write!(text, ": {}", error.kind()),
    };
    text
}

/// Writes, a few bytes each, for which the clock is looked at once.
const CLOCK_WRITES: u32 = 64;

/// Output up to a limit; beyond it writing fails and the evaluation ends.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
    deadline: Option<Instant>,
    /// Writes until the clock is looked at.
    clock_in: u32,
    /// Whether it was time that ended the evaluation.
    late: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.clock_in == 0 {
            self.clock_in = CLOCK_WRITES;
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.late = true;
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.clock_in -= 1;
        if self.bytes.len() + bytes.len() > self.max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The names that a template begins with.
#[derive(Debug)]
struct Root(Arc<View>);

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "service" => {
                let view = Arc::clone(&self.0);
                Value::from_function(move |name: &str| Instances::eligible(&view, name))
            }
            "instances" => {
                let view = Arc::clone(&self.0);
                Value::from_function(move |name: &str| Instances::all(&view, name))
            }
            "services" => {
                let view = Arc::clone(&self.0);
                Value::from_function(move || view.names().into_iter().collect::<Value>())
            }
            "generation" => {
                let view = Arc::clone(&self.0);
                Value::from_function(move || view.generation())
            }
            "stale" => {
                let view = Arc::clone(&self.0);
                Value::from_function(move || view.stale())
            }
            _ => return None,
        })
    }
}

/// Instances of one service; each becomes a value only when the template gets to it.
#[derive(Debug)]
struct Instances {
    service: Arc<str>,
    instances: Arc<[Arc<Instance>]>,
}

impl Instances {
    fn eligible(view: &View, name: &str) -> Value {
        Value::from_object(Self { service: name.into(), instances: view.eligible(name) })
    }

    fn all(view: &View, name: &str) -> Value {
        Value::from_object(Self { service: name.into(), instances: view.all(name) })
    }
}

impl Object for Instances {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let instance = Arc::clone(self.instances.get(key.as_usize()?)?);
        Some(Value::from_object(OneInstance { service: Arc::clone(&self.service), instance }))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.instances.len())
    }
}

/// One instance; its fields become values when they are asked for.
#[derive(Debug)]
struct OneInstance {
    service: Arc<str>,
    instance: Arc<Instance>,
}

/// Fields of an instance, in the order in which they are listed.
const FIELDS: [&str; 14] = [
    "id", "service", "address", "port", "ports", "tags", "meta", "weight", "health", "presence",
    "node", "locality", "group", "registry",
];

impl Object for OneInstance {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let instance = &self.instance;
        let of_meta = |meta: &Meta| map(meta.iter().map(|(k, v)| (Arc::clone(k), Value::from(v))));
        Some(match key.as_str()? {
            "id" => Value::from(&instance.id),
            "service" => Value::from(&self.service),
            "address" => Value::from(instance.address.to_string()),
            // None, not undefined: a service without ports is no mistake of the template.
            "port" => Value::from(instance.port("")),
            "ports" => {
                map(instance.ports.iter().map(|p| (Arc::clone(&p.name), Value::from(p.number))))
            }
            "tags" => instance.tags.iter().collect(),
            "meta" => of_meta(&instance.meta),
            "weight" => Value::from(instance.weight.value()),
            "health" => Value::from(instance.health.word()),
            "presence" => Value::from(presence(instance)),
            "node" => instance.node.as_ref().map_or_else(
                || Value::from(()),
                |node| {
                    map([
                        (Arc::from("name"), Value::from(&node.name)),
                        (
                            Arc::from("address"),
                            Value::from(node.address.as_ref().map(ToString::to_string)),
                        ),
                        (Arc::from("meta"), of_meta(&node.meta)),
                    ])
                },
            ),
            "locality" => Value::from(instance.locality.as_ref()),
            "group" => Value::from(instance.group.as_ref()),
            "registry" => Value::from(&instance.registry),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&FIELDS)
    }
}

fn map(entries: impl IntoIterator<Item = (Arc<str>, Value)>) -> Value {
    Value::from_object(entries.into_iter().collect::<BTreeMap<_, _>>())
}

const fn presence(instance: &Instance) -> &'static str {
    match instance.presence {
        Presence::Active => "active",
        Presence::Draining => "draining",
        Presence::Leaving => "leaving",
    }
}
