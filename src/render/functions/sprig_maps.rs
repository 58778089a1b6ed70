//! Sprig's functions on maps, on what is empty, and on types.

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{
    Outcome, any, anys, built, dict as pairs, entries, failed, is_empty, same, shown,
};
use super::args::{text, truth, type_name};
use super::{json, mutable};

pub(super) fn dict(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    context.spend(args.len() as u64)?;
    let pair =
        |pair: &[Value]| (shown(&pair[0]), pair.get(1).cloned().unwrap_or_else(|| "".into()));
    mutable::dict(context, args.chunks(2).map(pair).collect())
}

pub(super) fn get(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let key = text(args, 1);
    Ok(match any(args, 0).plain() {
        Value::Map(map) => map.get_text(&key).unwrap_or_else(|| "".into()),
        _ => "".into(),
    })
}

pub(super) fn set(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let change = (text(args, 1).into_owned(), Some(any(args, 2)));
    mutable::changed(context, &any(args, 0), vec![change])
}

pub(super) fn unset(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    mutable::changed(context, &any(args, 0), vec![(text(args, 1).into_owned(), None)])
}

pub(super) fn has_key(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let key = text(args, 1);
    Ok(match any(args, 0).plain() {
        Value::Map(map) => map.get_text(&key).is_some().into(),
        _ => false.into(),
    })
}

pub(super) fn keys(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut keys = Vec::new();
    for arg in args {
        let entries = pairs(arg);
        context.spend(entries.len() as u64)?;
        keys.extend(entries.into_iter().map(|(key, _)| key));
    }
    Ok(Value::strings(keys))
}

pub(super) fn values(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let entries = pairs(&any(args, 0));
    context.spend(entries.len() as u64)?;
    Ok(anys(entries.into_iter().map(|(_, value)| value).collect()))
}

pub(super) fn pluck(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let key = text(args, 0);
    let maps = args.get(1..).unwrap_or_default().iter().map(Value::plain);
    let found = maps.filter_map(|map| match map {
        Value::Map(map) => map.get_text(&key),
        _ => None,
    });
    Ok(anys(found.collect()))
}

fn chosen(context: &mut Context<'_>, args: &[Value], wanted: bool) -> Outcome {
    let keys = args.get(1..).unwrap_or_default();
    let entries = pairs(&any(args, 0));
    context.spend((entries.len() * (1 + keys.len())) as u64)?;
    let named = |key: &str| keys.iter().any(|wanted| shown(wanted) == key);
    let kept = entries.into_iter().filter(|(key, _)| named(key) == wanted);
    let kept = kept.collect();
    mutable::dict(context, kept)
}

pub(super) fn pick(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    chosen(context, args, true)
}

pub(super) fn omit(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    chosen(context, args, false)
}

fn merge_all(context: &mut Context<'_>, args: &[Value], over: bool) -> Outcome {
    let destination = any(args, 0);
    let mut all = destination.clone();
    for source in args.get(1..).unwrap_or_default() {
        all = super::convert::merged(context, &all, source, over, 0)?;
    }
    let changes = pairs(&all).into_iter().map(|(key, value)| (key, Some(value))).collect();
    mutable::changed(context, &destination, changes)
}

pub(super) fn merge(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    merge_all(context, args, false)
}

pub(super) fn merge_overwrite(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    merge_all(context, args, true)
}

/// `dig key… default map`
pub(super) fn dig(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    if args.len() < 3 {
        return failed("dig needs at least three arguments");
    }
    let (keys, rest) = args.split_at(args.len() - 2);
    let conversion = |value: &Value, to: &str| {
        let of = match value {
            Value::Nil => "nil".to_owned(),
            other => type_name(other),
        };
        FunctionError::failed(format!("interface conversion: interface {{}} is {of}, not {to}"))
    };
    let map_of = |value: &Value| match value.plain() {
        Value::Map(map) => Ok(map),
        _ => Err(conversion(value, "map[string]interface {}")),
    };
    let mut here = any(rest, 1);
    map_of(&here)?;
    for key in keys {
        if !matches!(key, Value::String(_)) {
            return Err(conversion(key, "string"));
        }
    }
    for key in keys {
        here = match map_of(&here)?.get_text(&shown(key)) {
            Some(value) => value,
            None => return Ok(any(rest, 0)),
        };
    }
    Ok(here)
}

pub(super) fn default(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let given = any(args, 1);
    Ok(if is_empty(&given) { any(args, 0) } else { given })
}

pub(super) fn empty(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(is_empty(&any(args, 0)).into())
}

pub(super) fn coalesce(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(args.iter().find(|arg| !is_empty(arg)).cloned().unwrap_or(Value::Nil))
}

pub(super) fn all(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok((!args.iter().any(is_empty)).into())
}

pub(super) fn any_of(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok((!args.iter().all(is_empty)).into())
}

pub(super) fn ternary(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(any(args, usize::from(!truth(args, 2))))
}

pub(super) fn deep_copy(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match entries(&any(args, 0)) {
        Some(_) => mutable::dict(context, pairs(&any(args, 0))),
        None => Ok(any(args, 0)),
    }
}

pub(super) fn deep_equal(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    context.spend(10)?;
    Ok(same(&any(args, 0), &any(args, 1)).into())
}

pub(super) fn type_of(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(type_name(&any(args, 0)).into())
}

pub(super) fn type_is(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok((*text(args, 0) == type_name(&any(args, 1))).into())
}

pub(super) fn type_is_like(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (wanted, of) = (text(args, 0), type_name(&any(args, 1)));
    Ok((*wanted == of || format!("*{wanted}") == of).into())
}

/// The kind of a value as `reflect.Kind` spells it.
pub(super) fn kind(value: &Value) -> String {
    match value.type_of().map(Type::underlying) {
        None => "invalid".into(),
        Some(Type::Slice(_)) => "slice".into(),
        Some(Type::Map(_)) => "map".into(),
        Some(Type::Pointer(_)) => "ptr".into(),
        Some(Type::Struct(_)) => "struct".into(),
        Some(Type::Func(_)) => "func".into(),
        Some(Type::Chan(_)) => "chan".into(),
        Some(Type::Any | Type::Reflect | Type::Error) => "interface".into(),
        Some(plain) => plain.to_string(),
    }
}

pub(super) fn kind_of(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(kind(&any(args, 0)).into())
}

pub(super) fn kind_is(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok((*text(args, 0) == kind(&any(args, 1))).into())
}

fn encoded(context: &mut Context<'_>, args: &[Value], style: json::Style) -> Outcome {
    let text = json::encode(&any(args, 0), style).or_else(failed)?;
    built(context, text)
}

pub(super) fn must_to_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    encoded(context, args, json::Style { html: true, indent: None })
}

pub(super) fn must_to_pretty_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    encoded(context, args, json::Style { html: true, indent: Some("  ") })
}

pub(super) fn must_to_raw_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    encoded(context, args, json::Style::default())
}

/// Without `must`: nothing where it fails.
fn or_nothing(outcome: Outcome, nothing: Value) -> Outcome {
    match outcome {
        Err(FunctionError::Failed { .. }) => Ok(nothing),
        other => other,
    }
}

pub(super) fn to_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    or_nothing(must_to_json(context, args), "".into())
}

pub(super) fn to_pretty_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    or_nothing(must_to_pretty_json(context, args), "".into())
}

pub(super) fn must_from_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let text = text(args, 0);
    context.build(text.len())?;
    json::decode(&text).or_else(failed)
}

pub(super) fn from_json(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    or_nothing(must_from_json(context, args), Value::Nil)
}
