//! confd's keys: what `getv`, `gets`, `ls` and their relatives find in its store.

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{Outcome, elements, failed, shown, text};
use super::catalog::field;
use super::objects::{key_value, key_values};
use super::source::Query;
use super::{host, strings};

/// All keys with their values, sorted.
fn pairs(context: &mut Context<'_>) -> Result<Vec<(String, String)>, FunctionError> {
    let answer = host::of(context)?.ask(Query::Store)?;
    let all = answer.as_ref().and_then(elements).unwrap_or_default();
    context.spend(all.len() as u64)?;
    let both = |pair: &Value| (shown(&field(pair, "Key")), shown(&field(pair, "Value")));
    Ok(all.iter().map(both).collect())
}

fn value_of(context: &mut Context<'_>, key: &str) -> Result<Option<String>, FunctionError> {
    let found = pairs(context)?.into_iter().find(|(name, _)| name == key);
    Ok(found.map(|(_, value)| value))
}

fn missing<T>(key: &str) -> Result<T, FunctionError> {
    failed(format!("key does not exist: {key}"))
}

/// `exists key`
pub(super) fn exists(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(value_of(context, &text(args, 0))?.is_some().into())
}

/// `get key`: key and value; an error when there is no such key.
pub(super) fn get(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let key = text(args, 0);
    match value_of(context, &key)? {
        Some(value) => Ok(key_value(&key, &value)),
        None => missing(&key),
    }
}

/// `getv key [default]`: the value; an error when there is none and no default.
pub(super) fn getv(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let key = text(args, 0);
    match (value_of(context, &key)?, args.get(1)) {
        (Some(value), _) => Ok(value.into()),
        (None, Some(default)) => Ok(shown(default).into()),
        (None, None) => missing(&key),
    }
}

fn matching(
    context: &mut Context<'_>,
    args: &[Value],
) -> Result<Vec<(String, String)>, FunctionError> {
    let pattern = text(args, 0);
    let mut found = Vec::new();
    for (key, value) in pairs(context)? {
        if strings::matches(&pattern, &key).map_err(FunctionError::failed)? {
            found.push((key, value));
        }
    }
    Ok(found)
}

/// `gets pattern`: keys and values, sorted by key.
pub(super) fn gets(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(key_values(&matching(context, args)?))
}

/// `getvs pattern`: the values, sorted.
pub(super) fn getvs(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut values: Vec<String> =
        matching(context, args)?.into_iter().map(|(_, value)| value).collect();
    values.sort();
    Ok(Value::strings(values))
}

fn below(context: &mut Context<'_>, args: &[Value], only_folders: bool) -> Outcome {
    let path = text(args, 0);
    let prefix = path.trim_end_matches('/');
    let mut names = Vec::new();
    for (key, _) in pairs(context)? {
        if key == *path && !only_folders {
            names.push(strings::base(&key));
        }
        let Some(rest) = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        match rest.split_once('/') {
            Some((name, _)) => names.push(name.to_owned()),
            None if !only_folders && !rest.is_empty() => names.push(rest.to_owned()),
            None => {}
        }
    }
    names.sort();
    names.dedup();
    Ok(Value::strings(names))
}

/// `ls path`: the names directly below it.
pub(super) fn ls(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    below(context, args, false)
}

/// `lsdir path`: those that have names below them.
pub(super) fn lsdir(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    below(context, args, true)
}

/// `reverse list`
pub(super) fn reverse(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let Some(Value::List(list)) = args.first() else { return Ok(super::args::any(args, 0)) };
    let mut items: Vec<Value> = list.iter().collect();
    items.reverse();
    Ok(Value::list(list.element(), items))
}

/// `sortByLength list`, `sortKVByLength pairs`: the shortest (key) first.
pub(super) fn sort_by_length(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let Some(Value::List(list)) = args.first() else { return Ok(Value::NilOf(&Type::STRINGS)) };
    let mut items: Vec<Value> = list.iter().collect();
    items.sort_by_key(|item| match item {
        Value::Object(object) => object.field("Key").map_or(0, |key| shown(&key).len()),
        other => shown(other).len(),
    });
    Ok(Value::list(list.element(), items))
}
