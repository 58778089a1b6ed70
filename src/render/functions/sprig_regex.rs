//! Sprig's functions on expressions. Those with and without `must` are the same: an expression that
//! is faulty is an error in both, where Sprig panics without `must`.

use super::super::engine::go::function::Context;
use super::super::engine::go::value::Value;
use super::args::{Failure, Outcome, built, failed, int, text};
use super::regexes;

fn compiled(context: &mut Context<'_>, args: &[Value]) -> Result<regex::Regex, Failure> {
    context.spend(1 + text(args, 1).len() as u64 / 10)?;
    regexes::compile(&text(args, 0)).or_else(failed)
}

pub(super) fn matches(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(compiled(context, args)?.is_match(&text(args, 1)).into())
}

pub(super) fn find(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 1);
    let found = compiled(context, args)?.find(&whole).map(|found| found.as_str().to_owned());
    Ok(found.unwrap_or_default().into())
}

pub(super) fn find_all(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (whole, count) = (text(args, 1), int(args, 2));
    let regex = compiled(context, args)?;
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let found = regex.find_iter(&whole).take(most).map(|found| found.as_str().to_owned());
    Ok(Value::strings(found))
}

pub(super) fn replace_all(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (whole, with) = (text(args, 1), text(args, 2));
    context.build(whole.len().saturating_add(1).saturating_mul(1 + with.len() / 4))?;
    let replaced = regexes::replace_all(&compiled(context, args)?, &whole, &with);
    built(context, replaced)
}

pub(super) fn replace_all_literal(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (whole, with) = (text(args, 1), text(args, 2));
    context.build(whole.len().saturating_add(1).saturating_mul(1 + with.len() / 4))?;
    let replaced =
        compiled(context, args)?.replace_all(&whole, regex::NoExpand(&with)).into_owned();
    built(context, replaced)
}

pub(super) fn split(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (whole, count) = (text(args, 1), int(args, 2));
    let regex = compiled(context, args)?;
    Ok(Value::strings(regexes::split(&regex, &whole, count)))
}

pub(super) fn quote_meta(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut out = String::new();
    for c in text(args, 0).chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    built(context, out)
}
