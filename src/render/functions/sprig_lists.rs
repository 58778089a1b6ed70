//! Sprig's functions on lists.

use super::super::engine::go::function::Context;
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{Failure, Outcome, any, anys, elements, failed, int, is_empty, same};
use super::sprig_maps::kind;
use super::sprig_numbers::whole as whole_number;

/// The elements of a list; `refusal` and the kind of what is none are the error.
fn items(refusal: &str, value: &Value) -> Result<Vec<Value>, Failure> {
    match elements(value) {
        Some(items) => Ok(items),
        None if matches!(value, Value::Nil) => {
            failed("runtime error: invalid memory address or nil pointer dereference")
        }
        None => failed(format!("{refusal} {}", kind(value))),
    }
}

pub(super) fn list(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    context.spend(args.len() as u64)?;
    Ok(anys(args.to_vec()))
}

pub(super) fn append(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = items("Cannot push on type", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    list.push(any(args, 1));
    Ok(anys(list))
}

pub(super) fn prepend(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = items("Cannot prepend on type", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    list.insert(0, any(args, 1));
    Ok(anys(list))
}

pub(super) fn first(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(items("Cannot find first on type", &any(args, 0))?.into_iter().next().unwrap_or(Value::Nil))
}

pub(super) fn last(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(items("Cannot find last on type", &any(args, 0))?.pop().unwrap_or(Value::Nil))
}

pub(super) fn rest(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("Cannot find rest on type", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    Ok(anys(list.into_iter().skip(1).collect()))
}

pub(super) fn initial(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = items("Cannot find initial on type", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    list.pop();
    Ok(anys(list))
}

pub(super) fn reverse(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = items("Cannot find reverse on type", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    list.reverse();
    Ok(anys(list))
}

pub(super) fn compact(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("Cannot compact on type", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    Ok(anys(list.into_iter().filter(|item| !is_empty(item)).collect()))
}

pub(super) fn uniq(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut kept: Vec<Value> = Vec::new();
    for item in items("Cannot find uniq on type", &any(args, 0))? {
        context.spend(1 + kept.len() as u64)?;
        if !kept.iter().any(|kept| same(kept, &item)) {
            kept.push(item);
        }
    }
    Ok(anys(kept))
}

pub(super) fn without(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("Cannot find without on type", &any(args, 0))?;
    let unwanted = args.get(1..).unwrap_or_default();
    context.spend((list.len() * (1 + unwanted.len())) as u64)?;
    let wanted = |item: &Value| !unwanted.iter().any(|unwanted| same(unwanted, item));
    Ok(anys(list.into_iter().filter(wanted).collect()))
}

pub(super) fn has(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let needle = any(args, 0);
    if matches!(any(args, 1), Value::Nil) {
        return Ok(false.into());
    }
    let list = items("Cannot find has on type", &any(args, 1))?;
    context.spend(list.len() as u64)?;
    Ok(list.iter().any(|item| same(item, &needle)).into())
}

/// `slice list [from [to]]`: of the same type; nil when the list is empty.
pub(super) fn slice(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = any(args, 0);
    let items = items("list should be type of slice or array but", &list)?;
    let Value::List(whole) = list.plain() else { return Ok(Value::Nil) };
    if items.is_empty() {
        return Ok(Value::Nil);
    }
    context.spend(items.len() as u64)?;
    let start = args.get(1).map_or(0, whole_number);
    let end = args.get(2).map_or(items.len() as i64, whole_number);
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    match range.and_then(|(start, end)| items.get(start..end)) {
        Some(part) => Ok(Value::list(whole.element(), part.to_vec())),
        None => failed("reflect.Value.Slice: slice index out of bounds"),
    }
}

pub(super) fn concat(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut all = Vec::new();
    for arg in args {
        if elements(arg).is_none() && !matches!(arg, Value::Nil) {
            return failed(format!("Cannot concat type {} as list", kind(arg)));
        }
        let list = items("", arg)?;
        context.spend(list.len() as u64)?;
        all.extend(list);
    }
    Ok(anys(all))
}

pub(super) fn chunk(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("Cannot chunk type", &any(args, 1))?;
    context.spend(list.len() as u64)?;
    match usize::try_from(int(args, 0)) {
        Ok(size) if size > 0 => {
            let chunks: Vec<Value> = list.chunks(size).map(|chunk| anys(chunk.to_vec())).collect();
            Ok(Value::list(&Type::LIST, chunks))
        }
        _ => failed("chunk: the size must be at least 1"),
    }
}
