//! What consul-template's functions ask the catalog.

use std::sync::Arc;

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{Outcome, elements, failed, shown, text};
use super::host;
use super::objects::{CATALOG_SNIPPET, HEALTH_SERVICE, KEY_PAIR, NODE, Record, Shape};
use super::query;
use super::source::Query;

/// The list that answers `query`, an empty one while there is none.
fn list(context: &Context<'_>, query: Query, shape: &'static Shape) -> Outcome {
    let answer = host::of(context)?.ask(query)?;
    Ok(answer.unwrap_or_else(|| Record::list(shape, Vec::new())))
}

fn parsed<T>(result: Result<T, String>) -> Result<T, FunctionError> {
    result.map_err(FunctionError::failed)
}

fn instances(context: &Context<'_>, args: &[Value], connect: bool) -> Outcome {
    if text(args, 0).is_empty() {
        return Ok(Record::list(&HEALTH_SERVICE, Vec::new()));
    }
    let words = match args {
        [_] => text(args, 0),
        _ => args.iter().map(shown).collect::<Vec<_>>().join("|").into(),
    };
    let query = parsed(query::service(&words, connect))?;
    list(context, Query::Service(Arc::new(query)), &HEALTH_SERVICE)
}

/// `service "[tag.]name[@dc][~near][|filter]"`
pub(super) fn service(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    instances(context, args, false)
}

/// `connect`, the same of services in the mesh.
pub(super) fn connect(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    instances(context, args, true)
}

/// `services ["@dc"]`
pub(super) fn services(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let words: String = args.iter().map(shown).collect();
    let (datacenter, _) = parsed(query::datacenter(&words, "catalog.services"))?;
    list(context, Query::Services(datacenter), &CATALOG_SNIPPET)
}

/// `node ["name[@dc]"]`; nil while there is none.
pub(super) fn node(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let words: String = args.iter().map(shown).collect();
    let (name, datacenter) = parsed(query::node(&words))?;
    Ok(host::of(context)?.ask(Query::Node(name, datacenter))?.unwrap_or(Value::Nil))
}

/// `nodes ["[@dc][~near]"]`
pub(super) fn nodes(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let words: String = args.iter().map(shown).collect();
    let (datacenter, near) = parsed(query::datacenter(&words, "catalog.nodes"))?;
    list(context, Query::Nodes(datacenter, near), &NODE)
}

/// `datacenters`
pub(super) fn datacenters(context: &mut Context<'_>, _: &[Value]) -> Outcome {
    let answer = host::of(context)?.ask(Query::Datacenters)?;
    Ok(answer.unwrap_or_else(|| Value::strings::<String>([])))
}

fn key_query(args: &[Value]) -> Result<Query, FunctionError> {
    let (path, datacenter) = parsed(query::key(&text(args, 0), "kv.get"))?;
    Ok(Query::Key(path, datacenter))
}

/// The value of a key, `None` when there is none.
fn value_of(pair: &Value) -> Option<Value> {
    match pair {
        Value::Object(object) => object.field("Value"),
        _ => None,
    }
}

/// `key "path"`: waits until there is such a key.
pub(super) fn key(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    if text(args, 0).is_empty() {
        return Ok("".into());
    }
    let query = key_query(args)?;
    let host = host::of(context)?;
    let value = host.ask(query.clone())?.as_ref().and_then(value_of);
    Ok(value.unwrap_or_else(|| {
        host.wait_for(query);
        "".into()
    }))
}

/// `keyExists "path"`: never waits for the key.
pub(super) fn key_exists(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    if text(args, 0).is_empty() {
        return Ok(false.into());
    }
    let answer = host::of(context)?.ask(key_query(args)?)?;
    Ok(answer.as_ref().and_then(value_of).is_some().into())
}

/// `keyOrDefault "path" "default"`: the default also when the value is empty.
pub(super) fn key_or_default(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let default = || Ok(Value::from(text(args, 1).into_owned()));
    if text(args, 0).is_empty() {
        return default();
    }
    let answer = host::of(context)?.ask(key_query(args)?)?;
    match answer.as_ref().and_then(value_of) {
        Some(value) if !shown(&value).is_empty() => Ok(value),
        _ => default(),
    }
}

fn pairs(context: &Context<'_>, args: &[Value], safe: bool, kept: fn(&str) -> bool) -> Outcome {
    let prefix = text(args, 0);
    if prefix.is_empty() {
        return Ok(Record::list(&KEY_PAIR, Vec::new()));
    }
    let (path, datacenter) = parsed(query::key(&prefix, "kv.list"))?;
    let query = Query::Tree(path, datacenter);
    let host = host::of(context)?;
    let answer = host.ask(query.clone())?;
    let all = answer.as_ref().and_then(elements).unwrap_or_default();
    let kept = |pair: &Value| {
        let Value::Object(object) = pair else { return false };
        object.field("Key").is_some_and(|key| kept(&shown(&key)))
    };
    let found: Vec<Value> = all.into_iter().filter(kept).collect();
    if safe && found.is_empty() {
        host.wait_for(query);
    }
    Ok(Record::list(&KEY_PAIR, found))
}

fn is_child(key: &str) -> bool {
    !key.is_empty() && !key.contains('/')
}

fn is_no_folder(key: &str) -> bool {
    !key.is_empty() && !key.ends_with('/')
}

/// `ls "prefix"`: the keys directly below it.
pub(super) fn ls(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    pairs(context, args, false, is_child)
}

/// `safeLs "prefix"`: waits as long as there are none.
pub(super) fn safe_ls(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    pairs(context, args, true, is_child)
}

/// `tree "prefix"`: all keys below it.
pub(super) fn tree(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    pairs(context, args, false, is_no_folder)
}

/// `safeTree "prefix"`: waits as long as there are none.
pub(super) fn safe_tree(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    pairs(context, args, true, is_no_folder)
}

/// `file "path"`: the content of a file that is watched.
pub(super) fn file(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let path = text(args, 0);
    if path.is_empty() {
        return Ok("".into());
    }
    let answer = host::of(context)?.ask(Query::File(path.into_owned()))?;
    Ok(answer.unwrap_or_else(|| "".into()))
}

/// `generation`: the number of the snapshot that is rendered.
pub(super) fn generation(context: &mut Context<'_>, _: &[Value]) -> Outcome {
    Ok(host::of(context)?.ask(Query::Generation)?.unwrap_or(Value::int(0)))
}

/// `stale`: whether some registry does not answer, so that what it said last counts.
pub(super) fn stale(context: &mut Context<'_>, _: &[Value]) -> Outcome {
    Ok(host::of(context)?.ask(Query::Stale)?.unwrap_or(Value::Bool(true)))
}

macro_rules! no_source {
    ($name:ident, $what:literal) => {
        /// There is nothing to ask.
        pub(super) fn $name(_: &mut Context<'_>, _: &[Value]) -> Outcome {
            failed(concat!("there is no such source: Portolan has no access to ", $what))
        }
    };
}

no_source!(vault, "Vault");
no_source!(nomad, "Nomad");
no_source!(mesh, "Consul's partitions, peerings and certificates");

/// Groups the records of `args` at `index` by names that `names` finds for each.
pub(super) fn grouped(
    context: &mut Context<'_>,
    items: Vec<Value>,
    names: impl Fn(&Value) -> Result<Vec<Value>, FunctionError>,
) -> Result<Vec<(Value, Vec<Value>)>, FunctionError> {
    let mut groups: std::collections::BTreeMap<String, (Value, Vec<Value>)> =
        std::collections::BTreeMap::new();
    for item in items {
        for name in names(&item)? {
            context.spend(1)?;
            let group = groups.entry(shown(&name)).or_insert_with(|| (name, Vec::new()));
            group.1.push(item.clone());
        }
    }
    Ok(groups.into_values().collect())
}

/// The field `name` of a record.
pub(super) fn field(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(object) => object.field(name).unwrap_or(Value::Nil),
        _ => Value::Nil,
    }
}

/// `byTag services`
pub(super) fn by_tag(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let Some(items) = args.first().and_then(elements) else {
        if matches!(args.first(), None | Some(Value::Nil)) {
            return Ok(Value::map(&GROUPS, Vec::new()));
        }
        let of = super::args::type_name(&args[0]);
        return failed(format!("byTag: wrong argument type {of}"));
    };
    let names = |item: &Value| Ok(elements(&field(item, "Tags")).unwrap_or_default());
    let groups = grouped(context, items, names)?;
    let groups = groups.into_iter().map(|(name, items)| (name, super::args::anys(items)));
    Ok(Value::map(&GROUPS, groups.collect()))
}

static GROUPS: (Type, Type) = (Type::String, Type::LIST);

/// `byPort services`
pub(super) fn by_port(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let items = super::args::list(args, 0);
    let groups = grouped(context, items, |item| Ok(vec![field(item, "Port")]))?;
    let list = |(name, items): (Value, Vec<Value>)| (name, Record::list(&HEALTH_SERVICE, items));
    static PORTS: (Type, Type) = (Type::INT, Type::Slice(&Type::Any));
    Ok(Value::map(&PORTS, groups.into_iter().map(list).collect()))
}

/// `byMeta "a,b|int" services`
pub(super) fn by_meta(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let wanted = text(args, 0).into_owned();
    let name_of = |item: &Value| {
        let meta = super::args::dict(&field(item, "ServiceMeta"));
        let parts = wanted.split(',').map(|wanted| {
            let (key, number) = match wanted.strip_suffix("|int") {
                Some(key) => (key, true),
                None => (wanted, false),
            };
            let found = meta.iter().find(|(name, _)| name == key).map(|(_, value)| shown(value));
            let found = found.filter(|value| !value.is_empty());
            let part = match found {
                Some(value) if number => {
                    let parsed = super::strconv::parse_int("Atoi", &value).map_err(|error| {
                        FunctionError::failed(format!("cannot parse {value} as number : {error}"))
                    })?;
                    format!("{parsed:05}")
                }
                Some(value) => value,
                None => format!("_no_{key}_"),
            };
            let safe = |c: char| {
                if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }
            };
            Ok::<_, FunctionError>(part.chars().map(safe).collect::<String>())
        });
        let parts: Result<Vec<_>, _> = parts.collect();
        Ok(vec![parts?.join("_").into()])
    };
    let items = super::args::list(args, 1);
    let groups = grouped(context, items, name_of)?;
    let list = |(name, items): (Value, Vec<Value>)| (name, Record::list(&HEALTH_SERVICE, items));
    Ok(Value::map(&GROUPS, groups.into_iter().map(list).collect()))
}

/// `byKey pairs`: by the first part of the key, and below it by the rest.
pub(super) fn by_key(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let items = super::args::list(args, 0);
    let top = |item: &Value| {
        let key = shown(&field(item, "Key"));
        Ok(vec![key.split('/').next().unwrap_or("").to_owned().into()])
    };
    let groups = grouped(context, items, top)?;
    let below = |pair: &Value| {
        let key = shown(&field(pair, "Key"));
        let rest = key.split_once('/').map_or("", |(_, rest)| rest).to_owned();
        let Value::Object(object) = pair else { return (rest.into(), pair.clone()) };
        let mut fields: Vec<(&str, Value)> = object
            .fields()
            .iter()
            .map(|name| (*name, object.field(name).unwrap_or(Value::Nil)))
            .collect();
        for (name, value) in &mut fields {
            if *name == "Key" {
                *value = rest.clone().into();
            }
        }
        (rest.into(), Record::value(&KEY_PAIR, &fields))
    };
    static BELOW: (Type, Type) = (Type::String, Type::Any);
    static TOP: (Type, Type) = (Type::String, Type::Map(&BELOW));
    let map = |(name, items): (Value, Vec<Value>)| {
        (name, Value::map(&BELOW, items.iter().map(below).collect()))
    };
    Ok(Value::map(&TOP, groups.into_iter().map(map).collect()))
}
