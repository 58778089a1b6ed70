//! Sprig's functions on expressions, with and without `must`.

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::value::Value;
use super::args::{Failure, Outcome, built, failed, int, text};
use super::regexes;

/// The expression of `args`; without `must`, as Sprig panics with it.
fn compiled(
    context: &mut Context<'_>,
    args: &[Value],
    must: bool,
) -> Result<regex::Regex, Failure> {
    context.spend(1 + text(args, 1).len() as u64 / 10)?;
    let pattern = text(args, 0);
    regexes::compile(&pattern).or_else(|why| {
        if must {
            return failed(why);
        }
        let plain = !pattern.contains(|c: char| c == '`' || c.is_control() && c != '\t');
        let quoted = if plain { format!("`{pattern}`") } else { format!("{pattern:?}") };
        failed(format!("regexp: Compile({quoted}): {why}"))
    })
}

/// Whether it fits; a faulty expression fits nothing.
pub(super) fn matches(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match must_match(context, args) {
        Err(FunctionError::Failed { .. }) => Ok(false.into()),
        other => other,
    }
}

pub(super) fn must_match(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(compiled(context, args, true)?.is_match(&text(args, 1)).into())
}

fn find_with(context: &mut Context<'_>, args: &[Value], must: bool) -> Outcome {
    let whole = text(args, 1);
    let found = compiled(context, args, must)?.find(&whole).map(|found| found.as_str().to_owned());
    Ok(found.unwrap_or_default().into())
}

fn find_all_with(context: &mut Context<'_>, args: &[Value], must: bool) -> Outcome {
    let (whole, count) = (text(args, 1), int(args, 2));
    let regex = compiled(context, args, must)?;
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let found = regex.find_iter(&whole).take(most).map(|found| found.as_str().to_owned());
    Ok(Value::strings(found))
}

fn replace_all_with(context: &mut Context<'_>, args: &[Value], must: bool) -> Outcome {
    let (whole, with) = (text(args, 1), text(args, 2));
    context.build(whole.len().saturating_add(1).saturating_mul(1 + with.len() / 4))?;
    let replaced = regexes::replace_all(&compiled(context, args, must)?, &whole, &with);
    built(context, replaced)
}

fn replace_all_literal_with(context: &mut Context<'_>, args: &[Value], must: bool) -> Outcome {
    let (whole, with) = (text(args, 1), text(args, 2));
    context.build(whole.len().saturating_add(1).saturating_mul(1 + with.len() / 4))?;
    let regex = compiled(context, args, must)?;
    built(context, regex.replace_all(&whole, regex::NoExpand(&with)).into_owned())
}

fn split_with(context: &mut Context<'_>, args: &[Value], must: bool) -> Outcome {
    let (whole, count) = (text(args, 1), int(args, 2));
    let regex = compiled(context, args, must)?;
    Ok(Value::strings(regexes::split(&regex, &whole, count)))
}

/// A function with and without `must`; they differ in the words of their error.
macro_rules! both {
    ($plain:ident, $must:ident, $code:ident) => {
        pub(super) fn $plain(context: &mut Context<'_>, args: &[Value]) -> Outcome {
            $code(context, args, false)
        }

        pub(super) fn $must(context: &mut Context<'_>, args: &[Value]) -> Outcome {
            $code(context, args, true)
        }
    };
}

both!(find, must_find, find_with);
both!(find_all, must_find_all, find_all_with);
both!(replace_all, must_replace_all, replace_all_with);
both!(replace_all_literal, must_replace_all_literal, replace_all_literal_with);
both!(split, must_split, split_with);

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
