//! `scratch`: what a template keeps for itself while it is evaluated.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::super::engine::go::function::{Context, FunctionError, Signature};
use super::super::engine::go::types::{Named, Type};
use super::super::engine::go::value::{Object, Value};
use super::args::{Outcome, any, anys, bounded, dict, entries, failed, text};
use super::host::{self, locked};

/// Most names that one template may keep.
const NAMES_MAX: usize = 100_000;

static SCRATCH: Named =
    Named { name: "template.Scratch", underlying: Type::Struct("struct {…}") };
/// `*template.Scratch`
pub(super) const SCRATCH_TYPE: Type = Type::Pointer(&Type::Named(&SCRATCH));

struct Scratch(Arc<Mutex<BTreeMap<String, Value>>>);

impl Object for Scratch {
    fn type_of(&self) -> Type {
        SCRATCH_TYPE
    }

    fn method(&self, name: &str) -> Option<Signature> {
        Some(match name {
            "Key" => Signature::new(&[Type::String], Type::Bool),
            "Get" => Signature::new(&[Type::String], Type::Any),
            "Set" | "SetX" => Signature::new(&[Type::String, Type::Any], Type::String),
            "MapSet" | "MapSetX" => {
                Signature::new(&[Type::String, Type::String, Type::Any], Type::String)
            }
            "MapValues" => Signature::new(&[Type::String], Type::LIST),
            _ => return None,
        })
    }

    fn call(
        &self,
        name: &str,
        context: &mut Context<'_>,
        args: &[Value],
    ) -> Result<Value, FunctionError> {
        let key = text(args, 0).into_owned();
        let mut kept = locked(&self.0);
        match name {
            "Key" => return Ok(kept.contains_key(&key).into()),
            "Get" => return Ok(kept.get(&key).cloned().unwrap_or(Value::Nil)),
            _ => {}
        }
        if kept.len() >= NAMES_MAX && !kept.contains_key(&key) {
            return failed(format!("scratch keeps at most {NAMES_MAX} names"));
        }
        match name {
            "Set" => drop(kept.insert(key, any(args, 1))),
            "SetX" => drop(kept.entry(key).or_insert_with(|| any(args, 1))),
            "MapSet" | "MapSetX" => {
                let before = kept.get(&key).cloned();
                let Some(mut map) = before.as_ref().map_or(Some(Vec::new()), entries) else {
                    return failed(format!("{key:?} is not a map"));
                };
                context.spend(map.len() as u64)?;
                let name_of = Value::from(text(args, 1).into_owned());
                if name == "MapSet" || !map.iter().any(|(key, _)| *key == name_of) {
                    map.push((name_of, any(args, 2)));
                }
                let map = bounded(Value::map(&(Type::String, Type::Any), map))?;
                kept.insert(key, map);
            }
            _ => {
                let Some(value) = kept.get(&key) else { return Ok(Value::NilOf(&Type::LIST)) };
                if entries(value).is_none() {
                    return failed(format!("{key:?} is not a map"));
                }
                return Ok(anys(dict(value).into_iter().map(|(_, value)| value).collect()));
            }
        }
        Ok("".into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What the template of this evaluation keeps.
pub(super) fn scratch(context: &mut Context<'_>, _: &[Value]) -> Outcome {
    Ok(Value::object(Scratch(Arc::clone(host::of(context)?.scratch()))))
}
