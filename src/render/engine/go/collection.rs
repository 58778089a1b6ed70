//! Lists and maps, whose elements are made when they are asked for.

use std::cmp::Ordering;
use std::sync::Arc;

use super::types::Type;
use super::value::Value;

/// Elements that are made when they are asked for.
pub trait Items: Send + Sync + 'static {
    /// How many there are; always the same.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How far `slice` may reach beyond the length: a part of a slice knows what follows it.
    fn capacity(&self) -> usize {
        self.len()
    }
    /// The element at `index`, which is below [`Items::capacity`]. [`Value::Nil`] beyond it.
    fn at(&self, index: usize) -> Value;
    /// How deep the elements are nested at most ([`Value::depth`]); 0 where they are made on
    /// demand, from something that is not nested without end.
    fn depth(&self) -> u32 {
        0
    }
    /// For a part of a slice: the whole one, and where in it the part begins. A part of a part is
    /// then one of the whole.
    fn whole(&self) -> Option<(&Arc<List>, usize)> {
        None
    }
}

impl Items for Vec<Value> {
    fn len(&self) -> usize {
        self.len()
    }

    fn at(&self, index: usize) -> Value {
        self.get(index).cloned().unwrap_or(Value::Nil)
    }

    fn depth(&self) -> u32 {
        self.iter().map(Value::depth).max().unwrap_or(0)
    }
}

/// A slice `[]T`, never nil (that is [`Value::NilOf`]).
pub struct List {
    element: &'static Type,
    depth: u32,
    items: Box<dyn Items>,
}

impl List {
    /// A slice whose elements have the type `element`, `&Type::Any` for `[]interface {}`.
    pub fn new(element: &'static Type, items: impl Items) -> Self {
        Self { element, depth: items.depth().saturating_add(1), items: Box::new(items) }
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn whole(&self) -> Option<(&Arc<Self>, usize)> {
        self.items.whole()
    }

    /// `T` of `[]T`.
    pub fn element(&self) -> &'static Type {
        self.element
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<Value> {
        (index < self.items.len()).then(|| self.items.at(index))
    }

    /// How far `slice` may reach: at least [`List::len`].
    pub fn capacity(&self) -> usize {
        self.items.capacity()
    }

    /// The element at `index`, which may lie beyond the length but not beyond the capacity.
    pub(super) fn at(&self, index: usize) -> Value {
        self.items.at(index)
    }

    /// All elements in their order.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        (0..self.items.len()).map(|index| self.items.at(index))
    }
}

/// Entries that are made when they are asked for, sorted by key as [`order`] sorts.
pub trait Entries: Send + Sync + 'static {
    /// How many there are; always the same.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Key and value at `index`, which is below [`Entries::len`].
    fn at(&self, index: usize) -> (Value, Value);
    /// The value of `key`.
    fn get(&self, key: &Value) -> Option<Value>;
    /// The value of the string `key`; `None` too when keys are no strings.
    fn get_text(&self, key: &str) -> Option<Value>;
}

impl Entries for Vec<(Value, Value)> {
    fn len(&self) -> usize {
        self.len()
    }

    fn at(&self, index: usize) -> (Value, Value) {
        <[_]>::get(self, index).cloned().unwrap_or((Value::Nil, Value::Nil))
    }

    fn get(&self, key: &Value) -> Option<Value> {
        let found = self.binary_search_by(|(k, _)| order(k, key)).ok()?;
        Some(self[found].1.clone())
    }

    fn get_text(&self, key: &str) -> Option<Value> {
        let found = self.binary_search_by(|(k, _)| match k {
            Value::String(text) => text.as_bytes().cmp(key.as_bytes()),
            other => rank(other).cmp(&STRING_RANK),
        });
        Some(self[found.ok()?].1.clone())
    }
}

/// A map `map[K]V`, never nil (that is [`Value::NilOf`]).
pub struct Map {
    types: &'static (Type, Type),
    depth: u32,
    entries: Box<dyn Entries>,
}

impl Map {
    /// A map of `entries` in any order; of entries with the same key the last one counts.
    pub fn new(types: &'static (Type, Type), mut entries: Vec<(Value, Value)>) -> Self {
        entries.sort_by(|a, b| order(&a.0, &b.0));
        entries.reverse();
        entries.dedup_by(|a, b| order(&a.0, &b.0).is_eq());
        entries.reverse();
        let depth = entries.iter().map(|(_, value)| value.depth()).max().unwrap_or(0);
        Self { types, depth: depth.saturating_add(1), entries: Box::new(entries) }
    }

    /// A map over `entries`, which are sorted and unique.
    pub fn lazy(types: &'static (Type, Type), entries: impl Entries) -> Self {
        Self { types, depth: 1, entries: Box::new(entries) }
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// The types of its keys and of its values.
    pub fn types(&self) -> &'static (Type, Type) {
        self.types
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &Value) -> Option<Value> {
        self.entries.get(key)
    }

    /// The value of the string `key`.
    pub fn get_text(&self, key: &str) -> Option<Value> {
        self.entries.get_text(key)
    }

    /// All entries, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (Value, Value)> + '_ {
        (0..self.entries.len()).map(|index| self.entries.at(index))
    }
}

/// The rank of a kind among keys of `map[interface {}]…`.
const STRING_RANK: u8 = 6;

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Nil | Value::NilOf(_) => 0,
        Value::Bool(_) => 1,
        Value::Int(..) => 2,
        Value::Uint(..) => 3,
        Value::Float(..) => 4,
        Value::Complex(..) => 5,
        Value::String(_) => STRING_RANK,
        _ => 7,
    }
}

/// The order of keys when a map is printed or ranged over: numbers by size with NaN first, strings
/// by bytes, `false` before `true`. Keys of several kinds (only in `map[interface {}]…`) are sorted
/// by kind; Go leaves that order open.
pub fn order(a: &Value, b: &Value) -> Ordering {
    let floats = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()));
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a, _), Value::Int(b, _)) => a.cmp(b),
        (Value::Uint(a, _), Value::Uint(b, _)) => a.cmp(b),
        (Value::Float(a, _), Value::Float(b, _)) => floats(*a, *b),
        (Value::Complex(a, ai), Value::Complex(b, bi)) => {
            floats(*a, *b).then_with(|| floats(*ai, *bi))
        }
        (Value::Object(_), _) | (_, Value::Object(_)) => {
            let (plain_a, plain_b) = (a.plain(), b.plain());
            if matches!(plain_a, Value::Object(_)) || matches!(plain_b, Value::Object(_)) {
                return rank(&plain_a).cmp(&rank(&plain_b));
            }
            order(&plain_a, &plain_b)
        }
        _ => rank(a).cmp(&rank(b)),
    }
}
