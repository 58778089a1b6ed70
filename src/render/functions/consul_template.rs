//! The functions of consul-template, by its names and in its order of arguments.

use super::super::engine::go::types::{IntKind, Type, UintKind};
use super::args::{Entry, fixed, many};
use super::{catalog, convert, effects, math, scratch, text, times};

const S: Type = Type::String;
const A: Type = Type::Any;
const B: Type = Type::Bool;
const M: Type = Type::MAP;
const I64: Type = Type::INT64;
const U64: Type = Type::Uint(UintKind::U64);
const F64: Type = Type::FLOAT64;
const INT: Type = Type::Int(IntKind::Int);

/// All but the `sprig_` ones.
pub(super) static TABLE: &[Entry] = &[
    // The catalog.
    many("service", &[S], A, catalog::service),
    many("connect", &[S], A, catalog::connect),
    many("services", &[S], A, catalog::services),
    many("node", &[S], A, catalog::node),
    many("nodes", &[S], A, catalog::nodes),
    many("datacenters", &[B], Type::STRINGS, catalog::datacenters),
    fixed("key", &[S], S, catalog::key),
    fixed("keyExists", &[S], B, catalog::key_exists),
    fixed("keyOrDefault", &[S, S], S, catalog::key_or_default),
    fixed("ls", &[S], A, catalog::ls),
    fixed("safeLs", &[S], A, catalog::safe_ls),
    fixed("tree", &[S], A, catalog::tree),
    fixed("safeTree", &[S], A, catalog::safe_tree),
    fixed("file", &[S], S, catalog::file),
    fixed("generation", &[], INT, catalog::generation),
    fixed("stale", &[], B, catalog::stale),
    many("exportedServices", &[S], A, catalog::mesh),
    many("importedServices", &[S], A, catalog::mesh),
    many("partitions", &[S], A, catalog::mesh),
    many("peerings", &[S], A, catalog::mesh),
    many("caRoots", &[S], A, catalog::mesh),
    many("caLeaf", &[S], A, catalog::mesh),
    many("secret", &[S], A, catalog::vault),
    many("secrets", &[S], A, catalog::vault),
    many("pkiCert", &[S], A, catalog::vault),
    many("nomadServices", &[A], A, catalog::nomad),
    many("nomadService", &[A], A, catalog::nomad),
    many("nomadVar", &[A], A, catalog::nomad),
    many("nomadVarExists", &[A], A, catalog::nomad),
    many("nomadVarList", &[A], A, catalog::nomad),
    many("nomadVarListSafe", &[A], A, catalog::nomad),
    // What the catalog gave, in groups.
    fixed("byKey", &[A], A, catalog::by_key),
    fixed("byTag", &[A], A, catalog::by_tag),
    fixed("byPort", &[A], A, catalog::by_port),
    fixed("byMeta", &[S, A], A, catalog::by_meta),
    fixed("explode", &[A], M, convert::explode),
    fixed("explodeMap", &[M], M, convert::explode_map),
    fixed("mergeMap", &[M, M], M, convert::merge_map),
    fixed("mergeMapWithOverride", &[M, M], M, convert::merge_map_with_override),
    // Lists.
    fixed("contains", &[A, A], B, text::contains),
    fixed("containsAll", &[A, A], B, text::contains_all),
    fixed("containsAny", &[A, A], B, text::contains_any),
    fixed("containsNone", &[A, A], B, text::contains_none),
    fixed("containsNotAll", &[A, A], B, text::contains_not_all),
    fixed("in", &[A, A], B, text::within),
    many("loop", &[I64], Type::Chan("<-chan int64"), text::looped),
    // Strings.
    fixed("base64Decode", &[S], S, text::base64_decode),
    fixed("base64Encode", &[S], S, text::base64_encode),
    fixed("base64URLDecode", &[S], S, text::base64_url_decode),
    fixed("base64URLEncode", &[S], S, text::base64_url_encode),
    fixed("sha256Hex", &[S], S, text::sha256_hex),
    fixed("md5sum", &[S], S, text::md5sum),
    fixed("hmacSHA256Hex", &[S, S], S, text::hmac_sha256_hex),
    fixed("indent", &[INT, S], S, text::indent),
    fixed("join", &[S, Type::STRINGS], S, text::join),
    fixed("split", &[S, S], Type::STRINGS, text::split),
    fixed("splitToMap", &[S, S, S], Type::STRING_MAP, text::split_to_map),
    fixed("trim", &[S, S], S, text::trim),
    fixed("trimPrefix", &[S, S], S, text::trim_prefix),
    fixed("trimSuffix", &[S, S], S, text::trim_suffix),
    fixed("trimSpace", &[S], S, text::trim_space),
    fixed("replaceAll", &[S, S, S], S, text::replace_all),
    fixed("regexMatch", &[S, S], B, text::regex_match),
    fixed("regexReplaceAll", &[S, S, S], S, text::regex_replace_all),
    fixed("toLower", &[S], S, text::to_lower),
    fixed("toUpper", &[S], S, text::to_upper),
    fixed("toTitle", &[S], S, text::to_title),
    // From text and to text.
    fixed("parseBool", &[S], B, convert::parse_bool),
    fixed("parseFloat", &[S], F64, convert::parse_float),
    fixed("parseInt", &[S], I64, convert::parse_int),
    fixed("parseUint", &[S], U64, convert::parse_uint),
    fixed("parseJSON", &[S], A, convert::parse_json),
    fixed("parseYAML", &[S], A, convert::parse_yaml),
    fixed("toJSON", &[A], S, convert::to_json),
    fixed("toJSONPretty", &[A], S, convert::to_json_pretty),
    fixed("toUnescapedJSON", &[A], S, convert::to_unescaped_json),
    fixed("toUnescapedJSONPretty", &[A], S, convert::to_unescaped_json_pretty),
    fixed("toTOML", &[M], S, convert::to_toml),
    fixed("toYAML", &[A], S, convert::to_yaml),
    // Numbers: what is worked on comes last.
    fixed("add", &[A, A], A, math::add),
    fixed("subtract", &[A, A], A, math::subtract),
    fixed("multiply", &[A, A], A, math::multiply),
    fixed("divide", &[A, A], A, math::divide),
    fixed("modulo", &[A, A], A, math::modulo),
    fixed("minimum", &[A, A], A, math::minimum),
    fixed("maximum", &[A, A], A, math::maximum),
    // The template itself.
    fixed("scratch", &[], scratch::SCRATCH_TYPE, scratch::scratch),
    many("executeTemplate", &[S, A], S, text::execute_template),
    many("timestamp", &[S], S, times::timestamp),
    many("spew_dump", &[A], S, text::dump),
    many("spew_sdump", &[A], S, text::dump),
    many("spew_printf", &[S, A], S, text::spew_printf),
    many("spew_sprintf", &[S, A], S, text::spew_printf),
    // The world.
    many("env", &[S, S], S, effects::env),
    fixed("mustEnv", &[S], S, effects::must_env),
    fixed("envOrDefault", &[S, S], S, effects::env_or_default),
    many("plugin", &[S, A], S, effects::plugin),
    many("writeToFile", &[S, S, S, S, S], S, effects::write_to_file),
    many("sockaddr", &[S], S, effects::sockaddr),
];
