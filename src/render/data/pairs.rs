//! Keys, as the records that Go templates know.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::engine::go::types::{Type, UintKind};
use super::super::engine::go::value::{Object, Value};
use super::super::functions::objects::{KEY_PAIR, KEY_VALUE, Record};
use crate::catalog::Key;

/// A key as `key`, `ls` and `tree` give it: with its path below the prefix asked for.
struct Pair {
    key: Arc<Key>,
    /// How many bytes of the path stand in front of what is shown as `Key`.
    skipped: usize,
}

impl Object for Pair {
    fn type_of(&self) -> Type {
        KEY_PAIR.of
    }

    fn field(&self, name: &str) -> Option<Value> {
        let key = &self.key;
        let number = |number: u64| Value::Uint(number, UintKind::U64);
        Some(match name {
            "Path" => Value::from(&key.path),
            "Key" => key.path.get(self.skipped..).unwrap_or_default().into(),
            "Value" => Value::from(&key.value),
            "Exists" => true.into(),
            "CreateIndex" => number(key.create_index),
            "ModifyIndex" => number(key.modify_index),
            "LockIndex" => number(key.lock_index),
            "Flags" => number(key.flags),
            "Session" => Value::from(&key.session),
            _ => return None,
        })
    }

    fn fields(&self) -> &[&'static str] {
        KEY_PAIR.fields
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A `KeyPair` record, or nil.
pub(super) fn key(key: Option<Arc<Key>>) -> Value {
    key.map_or(Value::Nil, |key| Value::object(Pair { key, skipped: 0 }))
}

/// A list of `KeyPair` records of keys that begin with `prefix`.
pub(super) fn tree(prefix: &str, keys: BTreeMap<Arc<str>, Arc<Key>>) -> Value {
    let pair = |(path, key): (Arc<str>, Arc<Key>)| {
        let rest = path.strip_prefix(prefix).unwrap_or(&path);
        let skipped = path.len() - rest.trim_start_matches('/').len();
        Value::object(Pair { key, skipped })
    };
    let keys = keys.into_iter().filter(|(path, _)| !path.ends_with('/'));
    Record::list(&KEY_PAIR, keys.map(pair).collect())
}

/// A list of confd's pairs.
pub(super) fn store(keys: BTreeMap<String, Arc<str>>) -> Value {
    let pair = |(key, value): (String, Arc<str>)| {
        Record::value(&KEY_VALUE, &[("Key", key.into()), ("Value", value.into())])
    };
    Record::list(&KEY_VALUE, keys.into_iter().map(pair).collect())
}
