//! A value on its way through a pipeline.

use std::any::Any;
use std::sync::Arc;

use super::text::Text;
use super::types::{IntKind, Type, UintKind};
use super::value::{Object, Value};

/// A value, and whether it lies in an interface: an element of `[]interface {}`, say.
///
/// Only messages and nil show the difference. A nil in an interface was there
/// (`nil pointer evaluating interface {}.X`), nil outside of one never was.
#[derive(Clone, Debug)]
pub(super) struct Val {
    pub(super) value: Value,
    pub(super) boxed: bool,
}

impl Val {
    pub(super) const NONE: Self = Self { value: Value::Nil, boxed: false };

    pub(super) const fn plain(value: Value) -> Self {
        Self { value, boxed: false }
    }

    /// A value out of a place of the type `of`.
    pub(super) const fn of(value: Value, of: &Type) -> Self {
        Self { value, boxed: matches!(of, Type::Any | Type::Error) }
    }

    pub(super) const fn int(value: i64) -> Self {
        Self::plain(Value::int(value))
    }

    pub(super) const fn bool(value: bool) -> Self {
        Self::plain(Value::Bool(value))
    }

    /// Nothing at all (Go's zero `reflect.Value`).
    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self { value: Value::Nil, boxed: false })
    }

    /// A nil that lies in an interface.
    pub(super) const fn is_boxed_nil(&self) -> bool {
        matches!(self, Self { value: Value::Nil, boxed: true })
    }

    /// What the value is as a whole: the interface, or its type.
    pub(super) fn outer_type(&self) -> String {
        if self.boxed { Type::Any.to_string() } else { type_name(&self.value) }
    }

    /// What `if` takes it for.
    pub(super) fn truth(&self) -> bool {
        truth(&self.value)
    }

    /// The zero value of a type.
    pub(super) fn zero(of: &'static Type) -> Self {
        let value = match of.underlying() {
            Type::Any | Type::Error => return Self { value: Value::Nil, boxed: true },
            Type::Reflect => Value::Nil,
            Type::Bool => Value::Bool(false),
            Type::Int(kind) => Value::Int(0, kind),
            Type::Uint(kind) => Value::Uint(0, kind),
            Type::Float(kind) => Value::Float(0.0, kind),
            Type::Complex => Value::Complex(0.0, 0.0),
            Type::String => Value::fixed(""),
            _ => Value::NilOf(of),
        };
        Self::plain(value)
    }
}

/// The name of the type of `value`, `<nil>` for untyped nil.
pub(super) fn type_name(value: &Value) -> String {
    value.type_of().map_or_else(|| "<nil>".to_owned(), |of| of.to_string())
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Nil | Value::NilOf(_) => false,
        Value::Bool(value) => *value,
        Value::Int(value, _) => *value != 0,
        Value::Uint(value, _) => *value != 0,
        Value::Float(value, _) => *value != 0.0,
        Value::Complex(real, imaginary) => *real != 0.0 || *imaginary != 0.0,
        Value::String(text) => !text.is_empty(),
        Value::List(list) => !list.is_empty(),
        Value::Map(map) => !map.is_empty(),
        Value::Object(object) => object.underlying().is_none_or(|plain| truth(&plain)),
        Value::Function(_) | Value::Sequence(_) => true,
    }
}

/// An integer wrapped to the bounds of its type, as Go stores it.
pub(super) const fn wrapped(value: i64, kind: IntKind) -> i64 {
    match kind {
        IntKind::Int | IntKind::I64 => value,
        IntKind::I8 => value as i8 as i64,
        IntKind::I16 => value as i16 as i64,
        IntKind::I32 => value as i32 as i64,
    }
}

/// The same for an unsigned integer.
pub(super) const fn wrapped_unsigned(value: u64, kind: UintKind) -> u64 {
    match kind {
        UintKind::Uint | UintKind::U64 | UintKind::Uintptr => value,
        UintKind::U8 => value as u8 as u64,
        UintKind::U16 => value as u16 as u64,
        UintKind::U32 => value as u32 as u64,
    }
}

/// What an object points to, for printing.
struct Pointee(Arc<dyn Object>, Type);

impl Object for Pointee {
    fn type_of(&self) -> Type {
        self.1
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.0.field(name)
    }

    fn fields(&self) -> &[&'static str] {
        self.0.fields()
    }

    fn underlying(&self) -> Option<Value> {
        self.0.underlying()
    }

    fn text(&self) -> Option<Text> {
        self.0.text()
    }

    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }
}

/// What is printed for `value`: a pointer shows what it points to, unless it has a text of its own.
pub(super) fn pointee(value: &Value) -> Value {
    if let Value::Object(object) = value
        && let Type::Pointer(target) = object.type_of()
        && object.text().is_none()
    {
        return Value::object(Pointee(Arc::clone(object), *target));
    }
    value.clone()
}
