//! Sprig's functions on lists.

use super::super::engine::go::function::Context;
use super::super::engine::go::value::Value;
use super::args::{Failure, Outcome, any, anys, elements, failed, int, is_empty, same, type_name};

fn items(name: &str, value: &Value) -> Result<Vec<Value>, Failure> {
    elements(value)
        .map_or_else(|| failed(format!("Cannot {name} on type {}", type_name(value))), Ok)
}

pub(super) fn list(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    context.spend(args.len() as u64)?;
    Ok(anys(args.to_vec()))
}

pub(super) fn append(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = items("push", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    list.push(any(args, 1));
    Ok(anys(list))
}

pub(super) fn prepend(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = items("prepend", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    list.insert(0, any(args, 1));
    Ok(anys(list))
}

pub(super) fn first(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(items("find first", &any(args, 0))?.into_iter().next().unwrap_or(Value::Nil))
}

pub(super) fn last(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(items("find last", &any(args, 0))?.pop().unwrap_or(Value::Nil))
}

pub(super) fn rest(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("find rest", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    Ok(anys(list.into_iter().skip(1).collect()))
}

pub(super) fn initial(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = items("find initial", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    list.pop();
    Ok(anys(list))
}

pub(super) fn reverse(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = items("find reverse", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    list.reverse();
    Ok(anys(list))
}

pub(super) fn compact(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("compact", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    Ok(anys(list.into_iter().filter(|item| !is_empty(item)).collect()))
}

pub(super) fn uniq(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut kept: Vec<Value> = Vec::new();
    for item in items("find uniq", &any(args, 0))? {
        context.spend(1 + kept.len() as u64)?;
        if !kept.iter().any(|kept| same(kept, &item)) {
            kept.push(item);
        }
    }
    Ok(anys(kept))
}

pub(super) fn without(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("find without", &any(args, 0))?;
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
    let list = items("find has", &any(args, 1))?;
    context.spend(list.len() as u64)?;
    Ok(list.iter().any(|item| same(item, &needle)).into())
}

pub(super) fn slice(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("slice", &any(args, 0))?;
    context.spend(list.len() as u64)?;
    let start = if args.len() > 1 { int(args, 1) } else { 0 };
    let end = if args.len() > 2 { int(args, 2) } else { list.len() as i64 };
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    match range.and_then(|(start, end)| list.get(start..end)) {
        Some(part) => Ok(anys(part.to_vec())),
        None => failed("reflect.Value.Slice: slice index out of bounds"),
    }
}

pub(super) fn concat(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut all = Vec::new();
    for arg in args {
        let list = items("concat", arg)?;
        context.spend(list.len() as u64)?;
        all.extend(list);
    }
    Ok(anys(all))
}

pub(super) fn chunk(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let list = items("chunk", &any(args, 1))?;
    context.spend(list.len() as u64)?;
    match usize::try_from(int(args, 0)) {
        Ok(size) if size > 0 => {
            Ok(anys(list.chunks(size).map(|chunk| anys(chunk.to_vec())).collect()))
        }
        _ => failed("chunk: the size must be at least 1"),
    }
}
