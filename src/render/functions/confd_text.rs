//! confd's own functions on strings, lists and maps, where they differ from Sprig's.

use super::super::engine::go::function::Context;
use super::super::engine::go::value::Value;
use super::args::{Outcome, any, anys, built, elements, failed, formatted, int, text};
use super::{case, sprig_names};

/// `indent n s`: every line, also an empty one; nothing of an empty text.
fn moved(context: &mut Context<'_>, args: &[Value], before: &str) -> Outcome {
    let whole = text(args, 1);
    if whole.is_empty() {
        return Ok(before.into());
    }
    let Ok(spaces) = usize::try_from(int(args, 0)) else {
        return failed("strings: negative Repeat count");
    };
    let lines = whole.matches('\n').count() + 1;
    context.build(whole.len().saturating_add(lines.saturating_mul(spaces)))?;
    let pad = " ".repeat(spaces);
    Ok(format!("{before}{pad}{}", whole.replace('\n', &format!("\n{pad}"))).into())
}

pub(super) fn indent(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    moved(context, args, "")
}

pub(super) fn nindent(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    moved(context, args, "\n")
}

pub(super) fn quote(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, formatted("%q", args))
}

pub(super) fn squote(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, format!("'{}'", text(args, 0)))
}

fn words(args: &[Value]) -> Vec<String> {
    sprig_names::words(&text(args, 0)).iter().map(|word| case::lower(word)).collect()
}

pub(super) fn snakecase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, words(args).join("_"))
}

pub(super) fn kebabcase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, words(args).join("-"))
}

/// The first word small, the others with a capital.
pub(super) fn camelcase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut out = String::new();
    for (at, word) in words(args).iter().enumerate() {
        let mut letters = word.chars();
        if at > 0 {
            out.extend(letters.next().map(case::upper_char));
        }
        out.push_str(letters.as_str());
    }
    built(context, out)
}

/// `append list value`
pub(super) fn append(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut list = elements(&any(args, 0)).unwrap_or_default();
    context.spend(list.len() as u64)?;
    list.push(any(args, 1));
    Ok(anys(list))
}
