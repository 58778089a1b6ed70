//! Go's types, as far as a template can see them: in `%T`, in error messages, in what a function takes.

use std::fmt;

/// The signed integer types. `Int` has 64 bits, as on every platform that Portolan runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntKind {
    /// `int`
    Int,
    /// `int8`
    I8,
    /// `int16`
    I16,
    /// `int32`, also called `rune`
    I32,
    /// `int64`
    I64,
}

/// The unsigned integer types. `Uint` has 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UintKind {
    /// `uint`
    Uint,
    /// `uint8`, also called `byte`
    U8,
    /// `uint16`
    U16,
    /// `uint32`
    U32,
    /// `uint64`
    U64,
    /// `uintptr`
    Uintptr,
}

/// The floating point types. A `float32` is kept as the `f64` of the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatKind {
    /// `float32`
    F32,
    /// `float64`
    F64,
}

/// A type with a name of its own, such as `time.Duration`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Named {
    /// Its name with its package, as `%T` prints it.
    pub name: &'static str,
    /// What it is made of. [`Type::Struct`] for structs.
    pub underlying: Type,
}

/// A type of Go. Made of constants, so that it is copied freely:
/// `Type::Slice(&Type::String)` is `[]string`. `Display` gives Go's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// `interface {}`: holds anything, untyped nil too.
    Any,
    /// As parameter only: the function takes every value as it is, an absent one too
    /// (`reflect.Value` in Go). The built-in functions are made so.
    Reflect,
    /// As parameter only: the function takes what [`Type::Any`] takes and an error is `error`.
    Error,
    /// `bool`
    Bool,
    /// A signed integer.
    Int(IntKind),
    /// An unsigned integer.
    Uint(UintKind),
    /// A floating point number.
    Float(FloatKind),
    /// `complex128`
    Complex,
    /// `string`
    String,
    /// `[]T`
    Slice(&'static Self),
    /// `map[K]V`
    Map(&'static (Self, Self)),
    /// `<-chan T` and the like, by its whole spelling.
    Chan(&'static str),
    /// A function, by its whole spelling: `func(string) int`.
    Func(&'static str),
    /// A struct without a name, by its whole spelling, or the inside of a named one.
    Struct(&'static str),
    /// A named type.
    Named(&'static Named),
    /// `*T`
    Pointer(&'static Self),
}

impl Type {
    /// `int`
    pub const INT: Self = Self::Int(IntKind::Int);
    /// `int64`
    pub const INT64: Self = Self::Int(IntKind::I64);
    /// `uint64`
    pub const UINT64: Self = Self::Uint(UintKind::U64);
    /// `float64`
    pub const FLOAT64: Self = Self::Float(FloatKind::F64);
    /// `[]string`
    pub const STRINGS: Self = Self::Slice(&Self::String);
    /// `[]interface {}`
    pub const LIST: Self = Self::Slice(&Self::Any);
    /// `map[string]interface {}`
    pub const MAP: Self = Self::Map(&(Self::String, Self::Any));
    /// `map[string]string`
    pub const STRING_MAP: Self = Self::Map(&(Self::String, Self::String));

    /// What the type is made of: itself, or what a named type names.
    #[must_use]
    pub fn underlying(self) -> Self {
        match self {
            Self::Named(named) => named.underlying.underlying(),
            other => other,
        }
    }

    /// Whether untyped nil is a value of it.
    #[must_use]
    pub fn can_be_nil(self) -> bool {
        matches!(
            self.underlying(),
            Self::Any
                | Self::Reflect
                | Self::Error
                | Self::Slice(_)
                | Self::Map(_)
                | Self::Chan(_)
                | Self::Func(_)
                | Self::Pointer(_)
        )
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "interface {}",
            Self::Reflect => "reflect.Value",
            Self::Error => "error",
            Self::Bool => "bool",
            Self::Int(IntKind::Int) => "int",
            Self::Int(IntKind::I8) => "int8",
            Self::Int(IntKind::I16) => "int16",
            Self::Int(IntKind::I32) => "int32",
            Self::Int(IntKind::I64) => "int64",
            Self::Uint(UintKind::Uint) => "uint",
            Self::Uint(UintKind::U8) => "uint8",
            Self::Uint(UintKind::U16) => "uint16",
            Self::Uint(UintKind::U32) => "uint32",
            Self::Uint(UintKind::U64) => "uint64",
            Self::Uint(UintKind::Uintptr) => "uintptr",
            Self::Float(FloatKind::F32) => "float32",
            Self::Float(FloatKind::F64) => "float64",
            Self::Complex => "complex128",
            Self::String => "string",
            Self::Chan(spelling) | Self::Func(spelling) | Self::Struct(spelling) => spelling,
            Self::Named(named) => named.name,
            Self::Slice(element) => return write!(f, "[]{element}"),
            Self::Map((key, element)) => return write!(f, "map[{key}]{element}"),
            Self::Pointer(target) => return write!(f, "*{target}"),
        })
    }
}
