//! Sprig's functions on strings.

use super::super::engine::go::function::Context;
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{
    Failure, Outcome, any, built, bytes, elements, failed, formatted, int, shown, text,
};
use super::{case, encoding, strings};

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
    let size = count.unsigned_abs() as usize;
    let kept = if count < 0 {
        between(&whole, whole.len().saturating_sub(size), whole.len())
    } else {
        between(&whole, 0, size)
    };
    built(context, kept)
}

pub(super) fn substr(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (start, end, whole) = (int(args, 0), int(args, 1), text(args, 2));
    let kept = match (usize::try_from(start), usize::try_from(end)) {
        (Err(_), Ok(end)) => between(&whole, 0, end),
        (Ok(start), Ok(end)) if end <= whole.len() => between(&whole, start, end),
        (Ok(start), _) => between(&whole, start, whole.len()),
        (Err(_), Err(_)) => Vec::new(),
    };
    built(context, kept)
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

pub(super) fn swapcase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    // The first letter of a word in title case goes to lower case, small letters go up.
    let whole = text(args, 0);
    let swapped = whole.chars().map(|c| match c {
        c if c.is_uppercase() => case::lower_char(c),
        c if c.is_lowercase() => case::upper_char(c),
        c => c,
    });
    let swapped: String = swapped.collect();
    built(context, swapped)
}

/// The words of a name: cut at anything that is no letter and where capitals begin.
fn name_words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for (index, c) in letters.iter().enumerate() {
        if !c.is_alphanumeric() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        let before = index.checked_sub(1).and_then(|at| letters.get(at)).copied();
        let next = letters.get(index + 1).copied();
        let starts = c.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_ascii_digit()
                    || before.is_uppercase() && next.is_some_and(char::is_lowercase)
            });
        if starts && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        word.push(*c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

pub(super) fn snakecase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::lower(&name_words(&text(args, 0)).join("_")))
}

pub(super) fn kebabcase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::lower(&name_words(&text(args, 0)).join("-")))
}

pub(super) fn camelcase(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 0);
    let words = whole.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut out = String::new();
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(case::upper_char));
        out.push_str(letters.as_str());
    }
    built(context, out)
}

fn wrapped(whole: &str, width: i64, separator: &str) -> String {
    let width = width.max(1) as usize;
    let mut out = String::new();
    let mut length = 0;
    for word in whole.split(' ') {
        if length > 0 && length + 1 + word.len() > width {
            out.push_str(separator);
            length = 0;
        } else if length > 0 {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += word.len();
    }
    out
}

pub(super) fn wrap(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, wrapped(&text(args, 1), int(args, 0), "\n"))
}

pub(super) fn wrap_with(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (separator, whole) = (text(args, 1), text(args, 2));
    context.build(whole.len().saturating_mul(1 + separator.len()))?;
    Ok(wrapped(&whole, int(args, 0), &separator).into())
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
    let (spaces, whole) = (int(args, 0).max(0) as usize, text(args, 1));
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
    let mut items = string_list(&any(args, 0));
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
