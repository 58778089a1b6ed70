//! consul-template's `parse…` and `to…`, and the maps made of keys.

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::types::{IntKind, Type, UintKind};
use super::super::engine::go::value::Value;
use super::args::{Outcome, any, built, dict, entries, failed, is_empty, list, shown, text};
use super::catalog::field;
use super::{json, strconv, toml_text, yaml};

/// `parseBool s`: an empty one is false.
pub(super) fn parse_bool(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    match &*text(args, 0) {
        "" => Ok(false.into()),
        text => match strconv::parse_bool(text) {
            Ok(truth) => Ok(truth.into()),
            Err(why) => failed(format!("parseBool: {why}")),
        },
    }
}

/// `parseFloat s`: an empty one is zero.
pub(super) fn parse_float(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    match &*text(args, 0) {
        "" => Ok(Value::float(0.0)),
        text => match strconv::parse_float(text) {
            Ok(number) => Ok(Value::float(number)),
            Err(why) => failed(format!("parseFloat: {why}")),
        },
    }
}

/// `parseInt s`: an empty one is zero.
pub(super) fn parse_int(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    match &*text(args, 0) {
        "" => Ok(Value::Int(0, IntKind::I64)),
        text => match strconv::parse_int("ParseInt", text) {
            Ok(number) => Ok(Value::Int(number, IntKind::I64)),
            Err(why) => failed(format!("parseInt: {why}")),
        },
    }
}

/// `parseUint s`: an empty one is zero.
pub(super) fn parse_uint(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    match &*text(args, 0) {
        "" => Ok(Value::Uint(0, UintKind::U64)),
        text => match strconv::parse_uint(text) {
            Ok(number) => Ok(Value::Uint(number, UintKind::U64)),
            Err(why) => failed(format!("parseUint: {why}")),
        },
    }
}

/// `parseJSON s`: an empty one is an empty map; all numbers are `float64`.
pub(super) fn parse_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let text = text(args, 0);
    context.build(text.len())?;
    if text.is_empty() {
        return Ok(Value::dict::<String>([]));
    }
    json::decode(&text).or_else(failed)
}

/// `parseYAML s`: an empty one is an empty map.
pub(super) fn parse_yaml(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let text = text(args, 0);
    context.build(text.len())?;
    if text.is_empty() {
        return Ok(Value::dict::<String>([]));
    }
    yaml::decode(&text).or_else(failed)
}

fn to_json_with(
    context: &mut Context<'_>,
    args: &[Value],
    name: &str,
    style: json::Style,
) -> Outcome {
    match json::encode(&any(args, 0), style) {
        Ok(text) => built(context, text),
        Err(why) => failed(format!("{name}: {why}")),
    }
}

/// `toJSON v`
pub(super) fn to_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    to_json_with(context, args, "toJSON", json::Style { html: true, indent: None })
}

/// `toJSONPretty v`
pub(super) fn to_json_pretty(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    to_json_with(context, args, "toJSONPretty", json::Style { html: true, indent: Some("  ") })
}

/// `toUnescapedJSON v`
pub(super) fn to_unescaped_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    to_json_with(context, args, "toUnescapedJSON", json::Style::default())
}

/// `toUnescapedJSONPretty v`
pub(super) fn to_unescaped_json_pretty(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let style = json::Style { html: false, indent: Some("  ") };
    to_json_with(context, args, "toUnescapedJSONPretty", style)
}

/// `toYAML v`
pub(super) fn to_yaml(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match yaml::encode(&any(args, 0)) {
        Ok(text) => built(context, text.trim()),
        Err(why) => failed(format!("toYAML: {why}")),
    }
}

/// `toTOML m`
pub(super) fn to_toml(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match toml_text::encode(&any(args, 0)) {
        Ok(text) => built(context, text.trim()),
        Err(why) => failed(format!("toTOML: {why}")),
    }
}

/// A map while it is put together.
enum Branch {
    Leaf(Value),
    Map(std::collections::BTreeMap<String, Self>),
}

/// Deepest nesting of maps that are made of keys.
const DEPTH_MAX: usize = 100;

impl Branch {
    fn value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::Map(map) => Value::dict(map.into_iter().map(|(key, below)| (key, below.value()))),
        }
    }

    fn put(&mut self, key: &str, value: Value) -> Result<(), FunctionError> {
        let mut here = self;
        let parts: Vec<&str> = key.split('/').collect();
        if parts.len() > DEPTH_MAX {
            return failed(format!("{key:?} has more than {DEPTH_MAX} parts"));
        }
        for (index, part) in parts.iter().enumerate() {
            let Self::Map(map) = here else {
                let before = parts[index - 1];
                let Self::Leaf(kept) = here else { return Ok(()) };
                let path = parts[index - 1..].join("/");
                return failed(format!(
                    "not a map: {path:?}: {before:?} already has value {:?}",
                    shown(kept)
                ));
            };
            if index + 1 == parts.len() {
                if !part.is_empty() {
                    map.insert((*part).to_owned(), Self::Leaf(value));
                }
                return Ok(());
            }
            let empty = || Self::Map(std::collections::BTreeMap::new());
            here = map.entry((*part).to_owned()).or_insert_with(empty);
        }
        Ok(())
    }
}

/// `explode pairs`: `a/b/c` becomes maps within maps.
pub(super) fn explode(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut root = Branch::Map(std::collections::BTreeMap::new());
    for pair in list(args, 0) {
        context.spend(1)?;
        let put = root.put(&shown(&field(&pair, "Key")), field(&pair, "Value"));
        put.map_err(|error| FunctionError::failed(format!("explode: {error}")))?;
    }
    Ok(root.value())
}

/// `explodeMap map`: the same of the keys of a map.
pub(super) fn explode_map(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut root = Branch::Map(std::collections::BTreeMap::new());
    for (key, value) in dict(&any(args, 0)) {
        context.spend(1)?;
        let put = root.put(&key, value);
        put.map_err(|error| FunctionError::failed(format!("explodeMap: {error}")))?;
    }
    Ok(root.value())
}

/// `mergeMap destination source`: what the destination lacks, also within maps of both.
pub(super) fn merge_map(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    merged(context, &any(args, 0), &any(args, 1), false, 0)
}

/// `mergeMapWithOverride destination source`: what the source has counts.
pub(super) fn merge_map_with_override(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    merged(context, &any(args, 0), &any(args, 1), true, 0)
}

/// Both maps as one; of a key in both the destination's value counts unless it is empty, with `over`
/// the source's.
pub(super) fn merged(
    context: &mut Context<'_>,
    destination: &Value,
    source: &Value,
    over: bool,
    depth: usize,
) -> Outcome {
    if depth > DEPTH_MAX {
        return failed(format!("maps are nested more than {DEPTH_MAX} deep"));
    }
    let mut out = entries(destination).unwrap_or_default();
    for (key, value) in entries(source).unwrap_or_default() {
        context.spend(1)?;
        let Some((_, kept)) = out.iter_mut().find(|(kept, _)| *kept == key) else {
            out.push((key, value));
            continue;
        };
        if entries(kept).is_some() && entries(&value).is_some() {
            *kept = merged(context, kept, &value, over, depth + 1)?;
        } else if is_empty(kept) || over {
            *kept = value;
        }
    }
    Ok(Value::map(&(Type::String, Type::Any), out))
}
