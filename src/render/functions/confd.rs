//! The functions of confd, by its names and in its order of arguments: what is worked on comes
//! first.

use super::super::engine::go::function::Context;
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{Entry, Outcome, any, built, elements, entries, failed, fixed, int, many};
use super::args::{shown, strings as texts, text};
use super::{case, catalog, confd_store, confd_text, effects, encoding, json, math, numbers};
use super::{sprig_lists, sprig_maps, sprig_regex, sprig_text, strconv, strings, times};

const S: Type = Type::String;
const A: Type = Type::Any;
const B: Type = Type::Bool;
const N: Type = Type::INT;

/// All of them; of `seq` the one that also counts down.
pub(super) static TABLE: &[Entry] = &[
    // Keys.
    fixed("exists", &[S], B, confd_store::exists),
    fixed("get", &[S], A, confd_store::get),
    fixed("gets", &[S], A, confd_store::gets),
    many("getv", &[S, S], S, confd_store::getv),
    fixed("getvs", &[S], Type::STRINGS, confd_store::getvs),
    fixed("ls", &[S], Type::STRINGS, confd_store::ls),
    fixed("lsdir", &[S], Type::STRINGS, confd_store::lsdir),
    fixed("reverse", &[A], A, confd_store::reverse),
    fixed("sortByLength", &[Type::STRINGS], Type::STRINGS, confd_store::sort_by_length),
    fixed("sortKVByLength", &[A], A, confd_store::sort_by_length),
    fixed("generation", &[], N, catalog::generation),
    fixed("stale", &[], B, catalog::stale),
    // Strings.
    fixed("base", &[S], S, base),
    fixed("dir", &[S], S, dir),
    fixed("split", &[S, S], Type::STRINGS, split),
    fixed("join", &[Type::STRINGS, S], S, join),
    fixed("toUpper", &[S], S, to_upper),
    fixed("toLower", &[S], S, to_lower),
    fixed("contains", &[S, S], B, contains),
    fixed("replace", &[S, S, S, N], S, replace),
    fixed("trimSuffix", &[S, S], S, trim_suffix),
    fixed("trimPrefix", &[S, S], S, trim_prefix),
    fixed("base64Encode", &[S], S, base64_encode),
    fixed("base64Decode", &[S], S, base64_decode),
    fixed("parseBool", &[S], B, parse_bool),
    fixed("atoi", &[S], N, atoi),
    fixed("regexMatch", &[S, S], B, sprig_regex::must_match),
    fixed("regexFind", &[S, S], S, sprig_regex::must_find),
    fixed("regexReplaceAll", &[S, S, S], S, sprig_regex::must_replace_all),
    fixed("repeat", &[N, S], S, sprig_text::repeat),
    fixed("nospace", &[S], S, sprig_text::nospace),
    fixed("snakecase", &[S], S, confd_text::snakecase),
    fixed("camelcase", &[S], S, confd_text::camelcase),
    fixed("kebabcase", &[S], S, confd_text::kebabcase),
    fixed("indent", &[N, S], S, confd_text::indent),
    fixed("nindent", &[N, S], S, confd_text::nindent),
    fixed("quote", &[S], S, confd_text::quote),
    fixed("squote", &[S], S, confd_text::squote),
    fixed("sha256sum", &[S], S, sprig_text::sha256sum),
    // Data.
    fixed("json", &[S], A, json_map),
    fixed("jsonArray", &[S], A, json_array),
    fixed("toJson", &[A], S, sprig_maps::must_to_json),
    fixed("fromJson", &[S], A, sprig_maps::must_from_json),
    fixed("toPrettyJson", &[A], S, sprig_maps::must_to_pretty_json),
    many("map", &[A], Type::MAP, map),
    many("dict", &[A], Type::MAP, map),
    many("list", &[A], Type::LIST, sprig_lists::list),
    fixed("hasKey", &[Type::MAP, S], B, sprig_maps::has_key),
    fixed("keys", &[Type::MAP], Type::STRINGS, sprig_maps::keys),
    fixed("values", &[Type::MAP], Type::LIST, sprig_maps::values),
    fixed("append", &[Type::LIST, A], Type::LIST, confd_text::append),
    many("pluck", &[S, Type::MAP], Type::LIST, sprig_maps::pluck),
    fixed("default", &[A, A], A, sprig_maps::default),
    fixed("ternary", &[A, A, B], A, sprig_maps::ternary),
    many("coalesce", &[A], A, sprig_maps::coalesce),
    fixed("empty", &[A], B, sprig_maps::empty),
    // Numbers.
    fixed("add", &[N, N], N, math::int_add),
    fixed("sub", &[N, N], N, math::int_sub),
    fixed("mul", &[N, N], N, math::int_mul),
    fixed("div", &[N, N], N, math::int_div),
    fixed("mod", &[N, N], N, math::int_mod),
    fixed("seq", &[N, N], Type::Slice(&Type::INT), seq),
    // The template and the world.
    fixed("datetime", &[], times::TIME_TYPE, times::now),
    many("include", &[S, A], S, include),
    many("getenv", &[S, S], S, effects::env),
    fixed("hostname", &[], S, effects::hostname),
    fixed("fileExists", &[S], B, effects::file_exists),
    fixed("lookupIP", &[S], Type::STRINGS, effects::lookup_ip),
    fixed("lookupIPV4", &[S], Type::STRINGS, effects::lookup_ipv4),
    fixed("lookupIPV6", &[S], Type::STRINGS, effects::lookup_ipv6),
    fixed("lookupSRV", &[S, S, S], A, effects::lookup_srv),
    fixed("lookupIfaceIPV4", &[S], S, effects::lookup_interface_v4),
    fixed("lookupIfaceIPV6", &[S], S, effects::lookup_interface_v6),
];

/// What the older confd does in another way.
pub(super) static LEGACY: &[Entry] = &[fixed("seq", &[N, N], Type::Slice(&Type::INT), seq_upwards)];

fn base(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, strings::base(&text(args, 0)))
}

fn dir(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, strings::dir(&text(args, 0)))
}

fn split(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 0);
    context.build(whole.len())?;
    Ok(Value::strings(strings::split(&whole, &text(args, 1))))
}

fn join(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, texts(args, 0).join(&text(args, 1)))
}

fn to_upper(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::upper(&text(args, 0)))
}

fn to_lower(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, case::lower(&text(args, 0)))
}

fn contains(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    Ok(text(args, 0).contains(&*text(args, 1)).into())
}

fn replace(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (whole, from, to) = (text(args, 0), text(args, 1), text(args, 2));
    context.build(strings::replaced_length(&whole, &from, &to))?;
    Ok(strings::replace(&whole, &from, &to, int(args, 3)).into())
}

fn trim_suffix(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 0);
    built(context, whole.strip_suffix(&*text(args, 1)).unwrap_or(&whole))
}

fn trim_prefix(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 0);
    built(context, whole.strip_prefix(&*text(args, 1)).unwrap_or(&whole))
}

fn base64_encode(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    built(context, encoding::base64(&super::args::bytes(args, 0)))
}

fn base64_decode(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match encoding::from_base64(&super::args::bytes(args, 0), false) {
        Ok(bytes) => built(context, bytes),
        Err(why) => failed(why),
    }
}

fn parse_bool(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    strconv::parse_bool(&text(args, 0)).map(Value::from).or_else(failed)
}

fn atoi(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    strconv::parse_int("Atoi", &text(args, 0)).map(Value::int).or_else(failed)
}

fn json_map(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 0);
    context.build(whole.len())?;
    let value = json::decode(&whole).or_else(failed)?;
    match (&value, entries(&value)) {
        (Value::Nil, _) => Ok(Value::NilOf(&Type::MAP)),
        (_, Some(_)) => Ok(value),
        _ => failed(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            kind(&value)
        )),
    }
}

fn json_array(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let whole = text(args, 0);
    context.build(whole.len())?;
    let value = json::decode(&whole).or_else(failed)?;
    match (&value, elements(&value)) {
        (Value::Nil, _) => Ok(Value::NilOf(&Type::LIST)),
        (_, Some(_)) => Ok(value),
        _ => failed(format!(
            "json: cannot unmarshal {} into Go value of type []interface {{}}",
            kind(&value)
        )),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Map(_) => "object",
        Value::List(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    }
}

fn map(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return failed("invalid map call");
    }
    let mut entries = Vec::new();
    for pair in args.chunks(2) {
        if !matches!(pair[0], Value::String(_)) {
            return failed("map keys must be strings");
        }
        entries.push((shown(&pair[0]), any(pair, 1)));
    }
    context.spend(entries.len() as u64)?;
    Ok(Value::dict(entries))
}

fn numbers_from(args: &[Value], downwards: bool) -> Outcome {
    let (first, last) = (int(args, 0), int(args, 1));
    if last < first && !downwards {
        return Ok(Value::list(&Type::INT, Vec::new()));
    }
    match numbers::row(first, last) {
        Some(row) => Ok(Value::list(&Type::INT, row)),
        None => failed(format!("seq gives at most {} numbers", numbers::ROW_MAX)),
    }
}

fn seq(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    numbers_from(args, true)
}

fn seq_upwards(_: &mut Context<'_>, args: &[Value]) -> Outcome {
    numbers_from(args, false)
}

fn include(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let name = text(args, 0);
    let leaves = name.split('/').any(|part| part == "..");
    if name.starts_with('/') || leaves {
        return failed(format!("include {name:?}: the path leaves the folder of templates"));
    }
    let output = context.execute_template(&name, any(args, 1))?;
    Ok(Value::String(output.into()))
}
