//! What Consul's answers say, in the words of the house; only the fields that count. Pure.
//!
//! Everything that changes without meaning (the output of checks, indexes) is left out here, so that
//! two answers that mean the same decode to equal values. Fields that older or newer versions of
//! Consul do not tell are taken as not told.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::catalog::model::{META_VALUE_MAX, NAME_MAX, parse_name, parse_text};
use crate::catalog::{Key, Problem};

/// Longest path of a key.
const PATH_MAX: usize = 1024;

/// What to take out of an answer.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Name of the registry.
    pub(super) registry: Arc<str>,
    /// Only instances that bear all of these count.
    pub(super) tags: Vec<Arc<str>>,
    /// The tagged address to use.
    pub(super) address_tag: Option<String>,
    pub(super) services_max: usize,
    pub(super) instances_max: usize,
    pub(super) keys_max: usize,
}

/// The list of services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// The tags that any instance bears, sorted, by name.
    pub(super) tags: BTreeMap<Arc<str>, Arc<[Arc<str>]>>,
    /// Names that are refused.
    pub(super) problems: Vec<Problem>,
}

/// Decodes `/v1/catalog/services`. A service of which no instance bears the wanted tags is left out.
pub(super) fn names(body: &[u8], wish: &Wish) -> Result<Names, String> {
    let listed: BTreeMap<Cow<'_, str>, Option<Vec<Cow<'_, str>>>> = parse("services", body)?;
    if listed.len() > wish.services_max {
        return Err(format!(
            "the list has {} services, more than {}; raise `max_services` of [registry.{}.consul]",
            listed.len(),
            wish.services_max,
            wish.registry
        ));
    }
    let mut names = Names::default();
    for (name, tags) in listed {
        let mut tags = tags.unwrap_or_default();
        if !wish.tags.iter().all(|wanted| tags.iter().any(|tag| **tag == **wanted)) {
            continue;
        }
        tags.sort_unstable();
        tags.dedup();
        // One that is no text is refused under the instance that bears it.
        let tags = tags.iter().filter_map(|tag| parse_text("tag", tag, NAME_MAX).ok());
        match parse_name("service name", &name) {
            Ok(name) => drop(names.tags.insert(name, tags.collect())),
            Err(message) => {
                let place = format!("service {name:?}").into();
                names.problems.push(Problem { place, message: message.into() });
            }
        }
    }
    Ok(names)
}

/// Keys below one prefix, by path, and what is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) keys: BTreeMap<Arc<str>, Arc<Key>>,
    pub(super) problems: Vec<Problem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(default)]
    flags: u64,
    #[serde(default)]
    create_index: u64,
    #[serde(default)]
    modify_index: u64,
    #[serde(default)]
    lock_index: u64,
    #[serde(borrow)]
    session: Option<Cow<'a, str>>,
}

/// Decodes `/v1/kv/PREFIX?recurse`. Keys equal to those in `last` are shared with it.
pub(super) fn keys(body: &[u8], wish: &Wish, last: Option<&Keys>) -> Result<Keys, String> {
    let pairs: Vec<Pair<'_>> = parse("keys", body)?;
    if pairs.len() > wish.keys_max {
        return Err(format!(
            "{} keys, more than {}; raise `max_keys` of [registry.{}.consul]",
            pairs.len(),
            wish.keys_max,
            wish.registry
        ));
    }
    let mut keys = Keys::default();
    for pair in pairs {
        match key(&pair) {
            Ok(key) => {
                let known = last.and_then(|last| last.keys.get(&key.path));
                let key = match known {
                    Some(known) if **known == key => Arc::clone(known),
                    _ => Arc::new(key),
                };
                keys.keys.insert(Arc::clone(&key.path), key);
            }
            Err(message) => {
                let place = format!("key {:?}", pair.key).into();
                keys.problems.push(Problem { place, message: message.into() });
            }
        }
    }
    Ok(keys)
}

fn key(pair: &Pair<'_>) -> Result<Key, String> {
    let path = parse_text("key", &pair.key, PATH_MAX)?;
    let value = pair.value.as_deref().unwrap_or_default();
    let value =
        STANDARD.decode(value).map_err(|error| format!("its value is no base64: {error}"))?;
    let value = String::from_utf8(value)
        .map_err(|_| "its value is no UTF-8 text; such values are not taken".to_owned())?;
    let session = pair.session.as_deref().unwrap_or_default();
    Ok(Key {
        path,
        value: value.into(),
        flags: pair.flags,
        create_index: pair.create_index,
        modify_index: pair.modify_index,
        lock_index: pair.lock_index,
        session: parse_text("session", session, META_VALUE_MAX)?,
    })
}

pub(super) fn parse<'a, T: Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        format!(
            "the answer ({} bytes) is no list of {what} as Consul sends it: {error}",
            body.len()
        )
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
