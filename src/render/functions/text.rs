//! consul-template's functions on strings: what is worked on comes last, for pipes.

use super::super::engine::go::function::Context;
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{Outcome, any, built, bytes, elements, failed, formatted, int, same, shown};
use super::args::{strings as texts, text, type_name};
use super::{case, encoding, regexes, strings};

/// `base64Decode s`
pub(super) fn base64_decode(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match encoding::from_base64(&bytes(args, 0), false) {
        Ok(bytes) => built(context, bytes),
        Err(why) => failed(format!("base64Decode: {why}")),
    }
}

/// `base64Encode s`
pub(super) fn base64_encode(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::base64(&bytes(args, 0)))
}

/// `base64URLDecode s`
pub(super) fn base64_url_decode(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match encoding::from_base64(&bytes(args, 0), true) {
        Ok(bytes) => built(context, bytes),
        Err(why) => failed(format!("base64URLDecode: {why}")),
    }
}

/// `base64URLEncode s`
pub(super) fn base64_url_encode(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::base64_url(&bytes(args, 0)))
}

/// `sha256Hex s`
pub(super) fn sha256_hex(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::sha256(&bytes(args, 0)))
}

/// `md5sum s`
pub(super) fn md5sum(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::md5(&bytes(args, 0)))
}

/// `hmacSHA256Hex message key`
pub(super) fn hmac_sha256_hex(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::hmac_sha256(&bytes(args, 0), &bytes(args, 1)))
}

/// `indent n s`: every line that is not empty, n spaces to the right.
pub(super) fn indent(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let Ok(spaces) = usize::try_from(int(args, 0)) else {
        return failed("indent value must be a positive integer");
    };
    let text = text(args, 1);
    let lines = text.split('\n').count();
    context.build(text.len().saturating_add(lines.saturating_mul(spaces)))?;
    Ok(strings::indent_lines(&text, spaces).into())
}

/// `join separator list`
pub(super) fn join(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, texts(args, 1).join(&text(args, 0)))
}

/// `split separator s`: without space around; nothing of an empty string.
pub(super) fn split(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 1);
    let whole = whole.trim();
    context.build(whole.len())?;
    if whole.is_empty() {
        return Ok(Value::strings::<String>([]));
    }
    Ok(Value::strings(strings::split(whole, &text(args, 0))))
}

/// `splitToMap itemSeparator keySeparator s`
pub(super) fn split_to_map(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (items, keys) = (text(args, 0), text(args, 1));
    let whole = text(args, 2);
    let whole = whole.trim();
    context.build(whole.len())?;
    let mut entries = Vec::new();
    if !whole.is_empty() {
        for item in strings::split(whole, &items) {
            let (key, value) = match item.split_once(&*keys) {
                Some((key, value)) if !keys.is_empty() => (key, value),
                _ => (&*item, ""),
            };
            entries.push((key.to_owned().into(), value.to_owned().into()));
        }
    }
    Ok(Value::map(&(Type::String, Type::String), entries))
}

/// `trim letters s`
pub(super) fn trim(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, strings::trim(&text(args, 1), &text(args, 0)))
}

/// `trimPrefix prefix s`
pub(super) fn trim_prefix(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (prefix, text) = (text(args, 0), text(args, 1));
    built(context, text.strip_prefix(&*prefix).unwrap_or(&text))
}

/// `trimSuffix suffix s`
pub(super) fn trim_suffix(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (suffix, text) = (text(args, 0), text(args, 1));
    built(context, text.strip_suffix(&*suffix).unwrap_or(&text))
}

/// `trimSpace s`
pub(super) fn trim_space(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, text(args, 0).trim())
}

/// `replaceAll from to s`
pub(super) fn replace_all(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (from, to, text) = (text(args, 0), text(args, 1), text(args, 2));
    context.build(strings::replaced_length(&text, &from, &to))?;
    Ok(text.replace(&*from, &to).into())
}

/// `regexMatch expression s`
pub(super) fn regex_match(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let text_of = text(args, 1);
    context.spend(1 + text_of.len() as u64 / 10)?;
    match regexes::compile(&text(args, 0)) {
        Ok(regex) => Ok(regex.is_match(&text_of).into()),
        Err(why) => failed(why),
    }
}

/// `regexReplaceAll expression replacement s`
pub(super) fn regex_replace_all(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (replacement, text_of) = (text(args, 1), text(args, 2));
    context.build(text_of.len().saturating_add(1).saturating_mul(1 + replacement.len() / 4))?;
    match regexes::compile(&text(args, 0)) {
        Ok(regex) => built(context, regexes::replace_all(&regex, &text_of, &replacement)),
        Err(why) => failed(why),
    }
}

/// `toLower s`
pub(super) fn to_lower(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::lower(&text(args, 0)))
}

/// `toUpper s`
pub(super) fn to_upper(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::upper(&text(args, 0)))
}

/// `toTitle s`: the first letter of every word.
pub(super) fn to_title(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::title(&text(args, 0)))
}

/// Whether `needle` is in `hay`, a list or a string.
fn is_in(
    context: &mut Context<'_>,
    hay: &Value,
    needle: &Value,
) -> Result<bool, super::args::Failure> {
    if let Some(items) = elements(hay) {
        context.spend(items.len() as u64)?;
        return Ok(items.iter().any(|item| alike(item, needle)));
    }
    Ok(match (hay.plain(), needle.plain()) {
        (Value::String(hay), Value::String(needle)) => hay.to_str().contains(&*needle.to_str()),
        _ => false,
    })
}

/// Numbers of one family by their value, strings by their letters, everything else exactly.
fn alike(a: &Value, b: &Value) -> bool {
    match (a.plain(), b.plain()) {
        (Value::Int(a, _), Value::Int(b, _)) => a == b,
        (Value::Uint(a, _), Value::Uint(b, _)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        _ => same(a, b),
    }
}

/// `in list|string value`
pub(super) fn within(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(is_in(context, &any(args, 0), &any(args, 1))?.into())
}

/// `contains value list|string`
pub(super) fn contains(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(is_in(context, &any(args, 1), &any(args, 0))?.into())
}

fn how_many(
    context: &mut Context<'_>,
    args: &[Value],
    name: &str,
) -> Result<(usize, usize), super::args::Failure> {
    let Some(needles) = elements(&any(args, 0)) else {
        let of = type_name(&any(args, 0));
        return failed(format!(
            "{name}: expected a list of values as the first argument, got {of}"
        ));
    };
    let hay = any(args, 1);
    let mut found = 0;
    for needle in &needles {
        found += usize::from(is_in(context, &hay, needle)?);
    }
    Ok((found, needles.len()))
}

/// `containsAll values list`
pub(super) fn contains_all(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (found, all) = how_many(context, args, "containsAll")?;
    Ok((found == all).into())
}

/// `containsAny values list`
pub(super) fn contains_any(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok((how_many(context, args, "containsAny")?.0 > 0).into())
}

/// `containsNone values list`
pub(super) fn contains_none(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok((how_many(context, args, "containsNone")?.0 == 0).into())
}

/// `containsNotAll values list`
pub(super) fn contains_not_all(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (found, all) = how_many(context, args, "containsNotAll")?;
    Ok((found < all).into())
}

/// `executeTemplate name [data]`
pub(super) fn execute_template(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let name = text(args, 0);
    if args.len() > 2 {
        let count = args.len();
        return failed(format!(
            "executeTemplate: wrong number of arguments, expected 1 or 2, but got {count}"
        ));
    }
    let output = context.execute_template(&name, any(args, 1))?;
    Ok(Value::String(output.into()))
}

/// `spew_dump`, `spew_sdump`: every value with its type, one below another.
pub(super) fn dump(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut out = String::new();
    for arg in args {
        write_dump(&mut out, arg, 0);
        out.push('\n');
        context.build(out.len())?;
    }
    Ok(out.into())
}

fn write_dump(out: &mut String, value: &Value, depth: usize) {
    use std::fmt::Write as _;
    if depth > 100 {
        out.push_str("<max depth reached>");
        return;
    }
    let pad = " ".repeat(depth + 1);
    let end = " ".repeat(depth);
    let of = type_name(value);
    // Writing to a string never fails.
    let _ = match value.plain() {
        Value::Nil => write!(out, "(interface {{}}) <nil>"),
        Value::NilOf(_) => write!(out, "({of}) <nil>"),
        Value::String(text) => {
            let quoted = formatted("%q", &[Value::String(text.clone())]);
            write!(out, "({of}) (len={}) {quoted}", text.as_bytes().len())
        }
        Value::List(items) => {
            let _ = writeln!(out, "({of}) (len={}) {{", items.len());
            for (index, item) in items.iter().enumerate() {
                out.push_str(&pad);
                write_dump(out, &item, depth + 1);
                out.push_str(if index + 1 < items.len() { ",\n" } else { "\n" });
            }
            write!(out, "{end}}}")
        }
        Value::Map(map) => {
            let _ = writeln!(out, "({of}) (len={}) {{", map.len());
            for (index, (key, item)) in map.iter().enumerate() {
                out.push_str(&pad);
                write_dump(out, &key, depth + 1);
                out.push_str(": ");
                write_dump(out, &item, depth + 1);
                out.push_str(if index + 1 < map.len() { ",\n" } else { "\n" });
            }
            write!(out, "{end}}}")
        }
        Value::Object(object) => {
            let _ = writeln!(out, "({of}) {{");
            let fields = object.fields();
            for (index, name) in fields.iter().enumerate() {
                let _ = write!(out, "{pad}{name}: ");
                write_dump(out, &object.field(name).unwrap_or(Value::Nil), depth + 1);
                out.push_str(if index + 1 < fields.len() { ",\n" } else { "\n" });
            }
            write!(out, "{end}}}")
        }
        other => write!(out, "({of}) {}", shown(&other)),
    };
}

/// `spew_printf`, `spew_sprintf`: as `printf`.
pub(super) fn spew_printf(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, formatted(&text(args, 0), args.get(1..).unwrap_or_default()))
}

/// `loop [start] stop`: the numbers from start (0) up to and without stop.
pub(super) fn looped(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (start, stop) = match args.len() {
        1 => (0, int(args, 0)),
        2 => (int(args, 0), int(args, 1)),
        count => {
            return failed(format!(
                "loop: wrong number of arguments, expected 1 or 2, but got {count}"
            ));
        }
    };
    Ok(Value::Sequence(std::sync::Arc::new(super::numbers::Numbers { start, stop })))
}
