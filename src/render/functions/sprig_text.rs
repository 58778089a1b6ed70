//! Sprig's functions on strings.

use super::super::engine::go::function::Context;
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{
    Failure, Outcome, any, built, bytes, elements, failed, formatted, int, shown, text,
};
use super::{case, encoding, sprig_names, strings};

pub(super) fn trim(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, text(args, 0).trim())
}

pub(super) fn trim_all(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, strings::trim(&text(args, 1), &text(args, 0)))
}

pub(super) fn trim_suffix(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    super::text::trim_suffix(context, args)
}

pub(super) fn trim_prefix(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    super::text::trim_prefix(context, args)
}

pub(super) fn upper(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::upper(&text(args, 0)))
}

pub(super) fn lower(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::lower(&text(args, 0)))
}

pub(super) fn title(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::title(&text(args, 0)))
}

/// The first letter of every word in lower case.
pub(super) fn untitle(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut before = ' ';
    let untitled = |c: char| {
        let first = before.is_whitespace();
        before = c;
        if first { case::lower_char(c) } else { c }
    };
    let out: String = text(args, 0).chars().map(untitled).collect();
    built(context, out)
}

pub(super) fn repeat(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 1);
    let Ok(count) = usize::try_from(int(args, 0)) else {
        return failed("strings: negative Repeat count");
    };
    context.build(whole.len().saturating_mul(count))?;
    Ok(whole.repeat(count).into())
}

/// `whole` between two places in bytes, never in the middle of a letter.
fn between(whole: &str, start: usize, end: usize) -> Vec<u8> {
    let bytes = whole.as_bytes();
    let end = end.min(bytes.len());
    bytes.get(start.min(end)..end).unwrap_or_default().to_vec()
}

pub(super) fn trunc(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (count, whole) = (int(args, 0), text(args, 1));
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let kept = match whole.len().checked_sub(size) {
        Some(start) if count < 0 => between(&whole, start, whole.len()),
        Some(_) => between(&whole, 0, size),
        None => whole.into_owned().into_bytes(),
    };
    built(context, kept)
}

pub(super) fn substr(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (start, end, whole) = (int(args, 0), int(args, 1), text(args, 2));
    let length = whole.len() as i64;
    let (start, end) = match (start, end) {
        (..0, end) => (0, end),
        (start, end) if end < 0 || end > length => (start, length),
        both => both,
    };
    if end < 0 {
        return failed(format!("runtime error: slice bounds out of range [:{end}]"));
    }
    if end > length {
        let more = format!("[:{end}] with length {length}");
        return failed(format!("runtime error: slice bounds out of range {more}"));
    }
    if start > end {
        return failed(format!("runtime error: slice bounds out of range [{start}:{end}]"));
    }
    built(context, between(&whole, start as usize, end as usize))
}

pub(super) fn abbrev(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (width, whole) = (int(args, 0), text(args, 1));
    built(context, abbreviated(&whole, 0, width))
}

pub(super) fn abbrev_both(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (left, right, whole) = (int(args, 0), int(args, 1), text(args, 2));
    if right < 4 || left > 0 && right < 7 {
        return Ok(whole.into_owned().into());
    }
    built(context, abbreviated(&whole, left.max(0) as usize, right))
}

/// At most `width` bytes of `whole` from about `offset` on, dots where something is left out.
fn abbreviated(whole: &str, offset: usize, width: i64) -> Vec<u8> {
    let Some(width) = usize::try_from(width).ok().filter(|w| *w >= 4 && *w < whole.len()) else {
        return whole.as_bytes().to_vec();
    };
    let offset = offset.min(whole.len());
    let offset = if whole.len() - offset < width - 3 { whole.len() - (width - 3) } else { offset };
    if offset <= 4 {
        return [&between(whole, 0, width - 3)[..], b"..."].concat();
    }
    if offset + width - 3 < whole.len() {
        let inner = String::from_utf8_lossy(&whole.as_bytes()[offset..]).into_owned();
        return [b"...", &abbreviated(&inner, 0, width as i64 - 3)[..]].concat();
    }
    [b"...", &between(whole, whole.len() - (width - 3), whole.len())[..]].concat()
}

pub(super) fn nospace(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, text(args, 0).chars().filter(|c| !c.is_whitespace()).collect::<String>())
}

pub(super) fn initials(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 0);
    let first = whole.split_whitespace().filter_map(|word| word.chars().next());
    built(context, first.collect::<String>())
}

/// Small letters up, at the beginning of a word to title case; all others down.
pub(super) fn swapcase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let mut begins = true;
    let swapped = |c: char| {
        let first = std::mem::replace(&mut begins, c.is_whitespace());
        match c {
            c if c.is_lowercase() && first => case::title_char(c),
            c if c.is_lowercase() => case::upper_char(c),
            c => case::lower_char(c),
        }
    };
    let swapped: String = text(args, 0).chars().map(swapped).collect();
    built(context, swapped)
}

pub(super) fn snakecase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, sprig_names::connected(&text(args, 0), '_'))
}

pub(super) fn kebabcase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, sprig_names::connected(&text(args, 0), '-'))
}

pub(super) fn camelcase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, sprig_names::capitals(&text(args, 0)))
}

/// Lines of at most `width` bytes with `separator` between them, cut at spaces; a longer word stays
/// whole unless `cut_words`.
fn wrapped(whole: &str, width: i64, separator: &str, cut_words: bool) -> Vec<u8> {
    let width = usize::try_from(width).unwrap_or(0).max(1);
    let separator = if separator.is_empty() { "\n" } else { separator };
    let mut out = Vec::new();
    let mut rest = whole.as_bytes();
    while rest.len() > width {
        if let Some(behind) = rest.strip_prefix(b" ") {
            rest = behind;
            continue;
        }
        let (end, next) = match memchr::memrchr(b' ', &rest[..=width]) {
            Some(space) => (space, space + 1),
            None if cut_words => (width, width),
            None => match memchr::memchr(b' ', &rest[width..]) {
                Some(space) => (width + space, width + space + 1),
                None => break,
            },
        };
        out.extend_from_slice(&rest[..end]);
        out.extend_from_slice(separator.as_bytes());
        rest = &rest[next..];
    }
    out.extend_from_slice(rest);
    out
}

pub(super) fn wrap(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, wrapped(&text(args, 1), int(args, 0), "", false))
}

pub(super) fn wrap_with(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (separator, whole) = (text(args, 1), text(args, 2));
    context.build(whole.len().saturating_mul(1 + separator.len()))?;
    built(context, wrapped(&whole, int(args, 0), &separator, true))
}

pub(super) fn contains(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(text(args, 1).contains(&*text(args, 0)).into())
}

pub(super) fn has_prefix(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(text(args, 1).starts_with(&*text(args, 0)).into())
}

pub(super) fn has_suffix(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(text(args, 1).ends_with(&*text(args, 0)).into())
}

fn words(args: &[Value], word: impl Fn(String) -> String) -> String {
    let some = args.iter().filter(|arg| !matches!(arg, Value::Nil));
    some.map(|arg| word(shown(arg))).collect::<Vec<_>>().join(" ")
}

pub(super) fn quote(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, words(args, |word| formatted("%q", &[word.into()])))
}

pub(super) fn squote(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, words(args, |word| format!("'{word}'")))
}

pub(super) fn cat(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, words(args, |word| word))
}

/// Every line, also an empty one, `spaces` to the right.
fn moved(context: &mut Context<'_>, args: &[Value]) -> Result<String, Failure> {
    let whole = text(args, 1);
    let Ok(spaces) = usize::try_from(int(args, 0)) else {
        return failed("strings: negative Repeat count");
    };
    let lines = whole.matches('\n').count() + 1;
    context.build(whole.len().saturating_add(lines.saturating_mul(spaces)))?;
    let pad = " ".repeat(spaces);
    Ok(format!("{pad}{}", whole.replace('\n', &format!("\n{pad}"))))
}

pub(super) fn indent(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(moved(context, args)?.into())
}

pub(super) fn nindent(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(format!("\n{}", moved(context, args)?).into())
}

pub(super) fn replace(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    super::text::replace_all(context, args)
}

pub(super) fn plural(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(any(args, usize::from(int(args, 2) != 1)))
}

pub(super) fn sha1sum(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::sha1(&bytes(args, 0)))
}

pub(super) fn sha256sum(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::sha256(&bytes(args, 0)))
}

pub(super) fn sha512sum(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::sha512(&bytes(args, 0)))
}

pub(super) fn adler32sum(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::adler32(&bytes(args, 0)))
}

pub(super) fn to_string(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let arg = any(args, 0);
    if matches!(arg, Value::List(_)) && arg.type_of() == Some(super::args::BYTES) {
        return built(context, bytes(args, 0));
    }
    built(context, shown(&arg))
}

pub(super) fn to_strings(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::strings(string_list(&any(args, 0))))
}

/// The texts of a list without nils; of anything else its own.
pub(super) fn string_list(value: &Value) -> Vec<String> {
    match elements(value) {
        Some(items) => items.iter().filter(|item| !matches!(item, Value::Nil)).map(shown).collect(),
        None if matches!(value, Value::Nil) => Vec::new(),
        None => vec![shown(value)],
    }
}

pub(super) fn join(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, string_list(&any(args, 1)).join(&text(args, 0)))
}

pub(super) fn sort_alpha(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    let arg = any(args, 0);
    let mut items = match arg {
        Value::Nil => vec![shown(&arg)],
        _ => string_list(&arg),
    };
    items.sort();
    Ok(Value::strings(items))
}

pub(super) fn split_list(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 1);
    context.build(whole.len())?;
    Ok(Value::strings(strings::split(&whole, &text(args, 0))))
}

fn numbered(parts: impl IntoIterator<Item = String>) -> Value {
    let parts = parts.into_iter().enumerate();
    let entries = parts.map(|(at, part)| (format!("_{at}").into(), part.into()));
    Value::map(&(Type::String, Type::String), entries.collect())
}

pub(super) fn split(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 1);
    context.build(whole.len())?;
    Ok(numbered(strings::split(&whole, &text(args, 0))))
}

pub(super) fn split_n(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (separator, count, whole) = (text(args, 0), int(args, 1), text(args, 2));
    context.build(whole.len())?;
    Ok(match usize::try_from(count) {
        Ok(0) => numbered([]),
        // Letter by letter, the rest in the last part.
        Ok(count) if separator.is_empty() => {
            let cut = whole.char_indices().nth(count - 1).map_or(whole.len(), |(at, _)| at);
            let letters = whole[..cut].chars().map(String::from);
            let rest = Some(&whole[cut..]).filter(|rest| !rest.is_empty());
            numbered(letters.take(count - 1).chain(rest.map(str::to_owned)))
        }
        Ok(count) => numbered(whole.splitn(count, &*separator).map(str::to_owned)),
        Err(_) => numbered(strings::split(&whole, &separator)),
    })
}

pub(super) fn b64enc(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::base64(&bytes(args, 0)))
}

/// What it says; the error as text when it is faulty.
pub(super) fn b64dec(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let decoded = encoding::from_base64(&bytes(args, 0), false);
    built(context, decoded.unwrap_or_else(String::into_bytes))
}

pub(super) fn b32enc(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::base32(&bytes(args, 0)))
}

/// What it says; the error as text when it is faulty.
pub(super) fn b32dec(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let decoded = encoding::from_base32(&bytes(args, 0));
    built(context, decoded.unwrap_or_else(String::into_bytes))
}
