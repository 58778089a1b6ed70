//! Maps that `set` and `unset` change in place, as maps of Go are.
//!
//! Values do not change by themselves; the maps that `dict` makes are looked up here when a function
//! wants to change one. What is put into such a map is put there as it is at that moment, so that no
//! map can ever hold itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::text::Text;
use super::super::engine::go::types::Type;
use super::super::engine::go::value::{Entries, Map, Value};
use super::args::entries;
use super::host::{self, locked};

type Kept = Arc<Mutex<BTreeMap<Vec<u8>, Value>>>;

/// The changeable maps of one evaluation. Holding the values keeps their addresses theirs.
#[derive(Default)]
pub(super) struct Mutables(Mutex<BTreeMap<usize, (Arc<Map>, Kept)>>);

struct Shared(Kept);

impl Entries for Shared {
    fn len(&self) -> usize {
        locked(&self.0).len()
    }

    fn at(&self, index: usize) -> (Value, Value) {
        let kept = locked(&self.0);
        let entry = kept.iter().nth(index);
        entry.map_or((Value::Nil, Value::Nil), |(key, value)| {
            (Value::String(Text::from(key.as_slice())), value.clone())
        })
    }

    fn get(&self, key: &Value) -> Option<Value> {
        let Value::String(key) = key else { return None };
        locked(&self.0).get(key.as_bytes()).cloned()
    }

    fn get_text(&self, key: &str) -> Option<Value> {
        locked(&self.0).get(key.as_bytes()).cloned()
    }
}

static TYPES: (Type, Type) = (Type::String, Type::Any);

/// A changeable `map[string]interface {}`.
pub(super) fn dict(
    context: &mut Context<'_>,
    entries: Vec<(String, Value)>,
) -> Result<Value, FunctionError> {
    let mut kept = BTreeMap::new();
    for (key, value) in entries {
        let value = frozen(context, value)?;
        kept.insert(key.into_bytes(), value);
    }
    let Ok(host) = host::of(context) else {
        let text = |key: &[u8]| Value::String(Text::from(key));
        let entries = kept.into_iter().map(|(key, value)| (text(&key), value));
        return Ok(Value::map(&TYPES, entries.collect()));
    };
    let kept: Kept = Arc::new(Mutex::new(kept));
    let map = Arc::new(Map::lazy(&TYPES, Shared(Arc::clone(&kept))));
    let address = Arc::as_ptr(&map) as usize;
    locked(&host.mutables().0).insert(address, (Arc::clone(&map), kept));
    Ok(Value::Map(map))
}

fn kept(context: &Context<'_>, map: &Arc<Map>) -> Option<Kept> {
    let host = host::of(context).ok()?;
    let mutables = locked(&host.mutables().0);
    mutables.get(&(Arc::as_ptr(map) as usize)).map(|(_, kept)| Arc::clone(kept))
}

/// Changes `value` in place by `change`; of a map that is not changeable a changed copy is given.
pub(super) fn changed(
    context: &mut Context<'_>,
    value: &Value,
    changes: Vec<(String, Option<Value>)>,
) -> Result<Value, FunctionError> {
    let mut frozen_changes = Vec::with_capacity(changes.len());
    for (key, value) in changes {
        let value = match value {
            Some(value) => Some(frozen(context, value)?),
            None => None,
        };
        frozen_changes.push((key, value));
    }
    let changeable = match value {
        Value::Map(map) => kept(context, map),
        _ => None,
    };
    if let Some(kept) = changeable {
        let mut kept = locked(&kept);
        for (key, value) in frozen_changes {
            match value {
                Some(value) => drop(kept.insert(key.into_bytes(), value)),
                None => drop(kept.remove(key.as_bytes())),
            }
        }
        return Ok(value.clone());
    }
    let mut entries = entries(value).unwrap_or_default();
    context.spend(entries.len() as u64)?;
    for (key, value) in frozen_changes {
        let key = Value::from(key);
        entries.retain(|(kept, _)| *kept != key);
        entries.extend(value.map(|value| (key, value)));
    }
    Ok(Value::map(&TYPES, entries))
}

/// `value` as it is now: what is changeable in it does not change with others any more.
fn frozen(context: &mut Context<'_>, value: Value) -> Result<Value, FunctionError> {
    frozen_below(context, value, 0)
}

/// Deepest nesting of what is put into a map.
const DEPTH_MAX: usize = 100;

fn frozen_below(
    context: &mut Context<'_>,
    value: Value,
    depth: usize,
) -> Result<Value, FunctionError> {
    if depth > DEPTH_MAX {
        return Err(FunctionError::failed(format!("values are nested more than {DEPTH_MAX} deep")));
    }
    match &value {
        Value::Map(map) => {
            context.spend(1 + map.len() as u64)?;
            let mut entries = Vec::with_capacity(map.len());
            for (key, below) in map.iter() {
                entries.push((key, frozen_below(context, below, depth + 1)?));
            }
            Ok(Value::map(map.types(), entries))
        }
        Value::List(list) if *list.element() == Type::Any => {
            context.spend(1 + list.len() as u64)?;
            let mut items = Vec::with_capacity(list.len());
            for item in list.iter() {
                items.push(frozen_below(context, item, depth + 1)?);
            }
            Ok(Value::list(&Type::Any, items))
        }
        _ => Ok(value),
    }
}
