//! What a Go template computes with.
//!
//! Values are cheap to clone: numbers are copied, everything else is shared. Whatever is large is
//! asked piece by piece ([`Items`], [`Entries`], [`Object`]), so that a catalog of ten thousand
//! services is never copied to be shown.
//!
//! Three things are kept apart that all look like "nothing": [`Value::Nil`] is untyped nil and also
//! what a missing key gives (prints `<no value>`, as an argument `<nil>`); [`Value::NilOf`] is a nil
//! map, slice, pointer or function that knows its type; and zero values are ordinary values.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

pub use super::collection::{Entries, Items, List, Map, order};
use super::function::{Context, Function, FunctionError, Signature};
use super::text::Text;
use super::types::{FloatKind, IntKind, Type, UintKind};

/// A value of a template. 24 bytes.
#[derive(Clone)]
pub enum Value {
    /// Untyped nil, or nothing at all: what a missing key of a map gives.
    Nil,
    /// The nil of a type: of a map, a slice, a pointer, a function. `len` 0, `range` runs never.
    NilOf(&'static Type),
    /// `true`, `false`
    Bool(bool),
    /// A signed integer, within the bounds of its type.
    Int(i64, IntKind),
    /// An unsigned integer, within the bounds of its type.
    Uint(u64, UintKind),
    /// A floating point number.
    Float(f64, FloatKind),
    /// `complex128`: real part, imaginary part.
    Complex(f64, f64),
    /// A string: bytes, mostly UTF-8.
    String(Text),
    /// A slice.
    List(Arc<List>),
    /// A map, sorted by key.
    Map(Arc<Map>),
    /// What has fields, methods, or a type with a name.
    Object(Arc<dyn Object>),
    /// A function, for `call`.
    Function(Arc<Function>),
    /// What only `range` can look into: a channel or an iterator.
    Sequence(Arc<dyn Sequence>),
}

const _: () = assert!(size_of::<Value>() == 24);

/// A struct, a pointer to one, or a value whose type has a name: it has fields, methods, both.
///
/// Only exported names (upper case) exist for templates. A method is preferred to a field.
pub trait Object: Send + Sync + 'static {
    /// Its type: [`Type::Named`] or a pointer to one.
    fn type_of(&self) -> Type;
    /// The value of the field `name`; `None` when its type has no such field.
    fn field(&self, name: &str) -> Option<Value> {
        let _ = name;
        None
    }
    /// The names of its fields in the order in which they are declared, for `%v`.
    fn fields(&self) -> &[&'static str] {
        &[]
    }
    /// What the method `name` takes and gives; `None` when its type has no such method.
    fn method(&self, name: &str) -> Option<Signature> {
        let _ = name;
        None
    }
    /// Calls the method `name`; `args` fit what [`Object::method`] said.
    ///
    /// # Errors
    /// What the method says.
    fn call(
        &self,
        name: &str,
        context: &mut Context<'_>,
        args: &[Value],
    ) -> Result<Value, FunctionError> {
        let _ = (context, args);
        Err(FunctionError::failed(format!("no method {name}")))
    }
    /// The plain value that it is made of, for a named type that is no struct: the list of
    /// `type Tags []string`, the integer of `time.Duration`. Kind, `len`, `range`, `index`, `eq`
    /// and `%d` go by it.
    fn underlying(&self) -> Option<Value> {
        None
    }
    /// What its `String()` or `Error()` gives, which `%v`, `%s`, `%q`, `%x` and `print` go by.
    fn text(&self) -> Option<Text> {
        None
    }
    /// For functions that know the type: `self`.
    fn as_any(&self) -> &dyn Any;
}

/// What an iterator gives: one value, or a key and a value.
pub enum Step {
    /// Of a channel, an `iter.Seq`.
    One(Value),
    /// Of an `iter.Seq2`.
    Two(Value, Value),
}

/// A channel or an iterator function.
pub trait Sequence: Send + Sync + 'static {
    /// [`Type::Chan`] for a channel, [`Type::Func`] for an `iter.Seq` or `iter.Seq2`.
    fn type_of(&self) -> Type;
    /// How many values a step of it has: 1, or 2 for an `iter.Seq2`.
    fn arity(&self) -> usize {
        1
    }
    /// Its steps. A channel gives here what is still in it.
    fn steps(&self) -> Box<dyn Iterator<Item = Step> + '_>;
}

impl Value {
    /// An `int`.
    pub const fn int(value: i64) -> Self {
        Self::Int(value, IntKind::Int)
    }

    /// A `float64`.
    pub const fn float(value: f64) -> Self {
        Self::Float(value, FloatKind::F64)
    }

    /// A string that is copied nowhere.
    pub const fn fixed(text: &'static str) -> Self {
        Self::String(Text::fixed(text))
    }

    /// A slice `[]T`.
    pub fn list(element: &'static Type, items: impl Items) -> Self {
        Self::List(Arc::new(List::new(element, items)))
    }

    /// `[]string`
    pub fn strings<T: Into<Text>>(items: impl IntoIterator<Item = T>) -> Self {
        let items: Vec<_> = items.into_iter().map(|item| Self::String(item.into())).collect();
        Self::list(&Type::String, items)
    }

    /// A map `map[K]V` of `entries` in any order.
    pub fn map(types: &'static (Type, Type), entries: Vec<(Self, Self)>) -> Self {
        Self::Map(Arc::new(Map::new(types, entries)))
    }

    /// `map[string]interface {}`
    pub fn dict<K: Into<Text>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries = entries.into_iter().map(|(k, v)| (Self::String(k.into()), v)).collect();
        Self::map(&(Type::String, Type::Any), entries)
    }

    /// An object.
    pub fn object(object: impl Object) -> Self {
        Self::Object(Arc::new(object))
    }

    /// Its type; `None` for untyped nil.
    pub fn type_of(&self) -> Option<Type> {
        Some(match self {
            Self::Nil => return None,
            Self::NilOf(of) => **of,
            Self::Bool(_) => Type::Bool,
            Self::Int(_, kind) => Type::Int(*kind),
            Self::Uint(_, kind) => Type::Uint(*kind),
            Self::Float(_, kind) => Type::Float(*kind),
            Self::Complex(..) => Type::Complex,
            Self::String(_) => Type::String,
            Self::List(list) => Type::Slice(list.element()),
            Self::Map(map) => Type::Map(map.types()),
            Self::Object(object) => object.type_of(),
            Self::Function(function) => function.type_of(),
            Self::Sequence(sequence) => sequence.type_of(),
        })
    }

    /// How many lists and maps lie within each other in it. The evaluator refuses what functions
    /// nest deeper than a stack bears when it is printed or dropped.
    pub fn depth(&self) -> u32 {
        match self {
            Self::List(list) => list.depth(),
            Self::Map(map) => map.depth(),
            _ => 0,
        }
    }

    /// The value without the name of its type: what [`Object::underlying`] gives, else itself.
    #[must_use]
    pub fn plain(&self) -> Self {
        match self {
            Self::Object(object) => object.underlying().unwrap_or_else(|| self.clone()),
            other => other.clone(),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::float(value)
    }
}

impl<T: Into<Text>> From<T> for Value {
    fn from(text: T) -> Self {
        Self::String(text.into())
    }
}

/// For tests and logs only; templates print by `format`.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::NilOf(of) => write!(f, "{of}(nil)"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value, IntKind::Int) => write!(f, "{value}"),
            Self::Int(value, kind) => write!(f, "{}({value})", Type::Int(*kind)),
            Self::Uint(value, kind) => write!(f, "{}({value})", Type::Uint(*kind)),
            Self::Float(value, FloatKind::F64) => write!(f, "{value:?}"),
            Self::Float(value, kind) => write!(f, "{}({value:?})", Type::Float(*kind)),
            Self::Complex(real, imaginary) => write!(f, "({real:?}{imaginary:+?}i)"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::List(list) => {
                write!(f, "[]{}", list.element())?;
                f.debug_list().entries(list.iter()).finish()
            }
            Self::Map(map) => f.debug_map().entries(map.iter()).finish(),
            Self::Object(object) => {
                let fields = object
                    .fields()
                    .iter()
                    .filter_map(|name| object.field(name).map(|value| (*name, value)));
                write!(f, "{}", object.type_of())?;
                f.debug_map().entries(fields).finish()?;
                object.underlying().map_or(Ok(()), |plain| write!(f, "({plain:?})"))
            }
            Self::Function(function) => write!(f, "{}", function.type_of()),
            Self::Sequence(sequence) => write!(f, "{}", sequence.type_of()),
        }
    }
}

/// For tests only: templates compare by `eq`. Objects, functions and sequences are equal to
/// themselves, named plain values to equal ones of their type; NaN is equal to nothing.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::NilOf(a), Self::NilOf(b)) => a == b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a, kind), Self::Int(b, other)) => a == b && kind == other,
            (Self::Uint(a, kind), Self::Uint(b, other)) => a == b && kind == other,
            (Self::Float(a, kind), Self::Float(b, other)) => a == b && kind == other,
            (Self::Complex(a, ai), Self::Complex(b, bi)) => a == b && ai == bi,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::List(a), Self::List(b)) => a.element() == b.element() && a.iter().eq(b.iter()),
            (Self::Map(a), Self::Map(b)) => a.types() == b.types() && a.iter().eq(b.iter()),
            (Self::Object(a), Self::Object(b)) => {
                Arc::ptr_eq(a, b)
                    || a.type_of() == b.type_of()
                        && a.underlying().is_some_and(|plain| Some(plain) == b.underlying())
            }
            (Self::Function(a), Self::Function(b)) => Arc::ptr_eq(a, b),
            (Self::Sequence(a), Self::Sequence(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
