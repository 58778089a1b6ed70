//! The functions that every template has.

use super::call::prepared;
use super::compare::{equal, less};
use super::escape;
use super::exec::Evaluator;
use super::format::{self, TooLarge};
use super::function::{FunctionError, Limit, Signature};
use super::text::Text;
use super::types::Type;
use super::val::{Val, pointee, type_name};
use super::value::{Items, List, Value};

/// A built-in function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    And,
    Call,
    Eq,
    Ge,
    Gt,
    Html,
    Index,
    Js,
    Le,
    Len,
    Lt,
    Ne,
    Not,
    Or,
    Print,
    Printf,
    Println,
    Slice,
    Urlquery,
}

impl Builtin {
    /// All names, sorted.
    pub(super) const NAMES: [&'static str; 19] = [
        "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not",
        "or", "print", "printf", "println", "slice", "urlquery",
    ];

    pub(super) fn called(name: &str) -> Option<Self> {
        Some(match name {
            "and" => Self::And,
            "call" => Self::Call,
            "eq" => Self::Eq,
            "ge" => Self::Ge,
            "gt" => Self::Gt,
            "html" => Self::Html,
            "index" => Self::Index,
            "js" => Self::Js,
            "le" => Self::Le,
            "len" => Self::Len,
            "lt" => Self::Lt,
            "ne" => Self::Ne,
            "not" => Self::Not,
            "or" => Self::Or,
            "print" => Self::Print,
            "printf" => Self::Printf,
            "println" => Self::Println,
            "slice" => Self::Slice,
            "urlquery" => Self::Urlquery,
            _ => return None,
        })
    }

    pub(super) const fn signature(self) -> Signature {
        use Type::{Any, Reflect};
        match self {
            Self::And | Self::Call | Self::Eq | Self::Index | Self::Or | Self::Slice => {
                Signature::variadic(&[Reflect, Reflect], Reflect)
            }
            Self::Ge | Self::Gt | Self::Le | Self::Lt | Self::Ne => {
                Signature::new(&[Reflect, Reflect], Type::Bool)
            }
            Self::Len | Self::Not => Signature::new(&[Reflect], Reflect),
            Self::Html | Self::Js | Self::Urlquery | Self::Print | Self::Println => {
                Signature::variadic(&[Any], Type::String)
            }
            Self::Printf => Signature::variadic(&[Type::String, Any], Type::String),
        }
    }
}

fn failed<T>(message: impl Into<String>) -> Result<T, FunctionError> {
    Err(FunctionError::failed(message))
}

impl Evaluator<'_> {
    /// Calls a built-in function, but for `and`, `or` and `call`.
    pub(super) fn builtin(&mut self, which: Builtin, args: &[Val]) -> Result<Val, FunctionError> {
        let (first, rest) = match args.split_first() {
            Some((first, rest)) => (first, rest),
            None => (&Val::NONE, args),
        };
        let second = rest.first().unwrap_or(&Val::NONE);
        match which {
            Builtin::And | Builtin::Or | Builtin::Call => Ok(Val::NONE),
            Builtin::Eq => self.eq(first, rest).map(Val::bool),
            Builtin::Ne => Ok(Val::bool(!self.eq(first, rest)?)),
            Builtin::Lt => less(first, second).map(Val::bool),
            Builtin::Ge => Ok(Val::bool(!less(first, second)?)),
            Builtin::Le => Ok(Val::bool(less(first, second)? || self.eq(first, rest)?)),
            Builtin::Gt => Ok(Val::bool(!(less(first, second)? || self.eq(first, rest)?))),
            Builtin::Not => Ok(Val::bool(!first.truth())),
            Builtin::Len => length(first),
            Builtin::Index => index(first, rest),
            Builtin::Slice => slice(first, rest),
            Builtin::Print => self.text(format::print(&values(args), self.numbers(), self.room())),
            Builtin::Println => {
                self.text(format::println(&values(args), self.numbers(), self.room()))
            }
            Builtin::Printf => match &first.value.plain() {
                Value::String(text) => {
                    self.text(format::printf(text, &values(rest), self.numbers(), self.room()))
                }
                _ => Ok(Val::NONE),
            },
            Builtin::Html => self.escaped(args, escape::html),
            Builtin::Js => self.escaped(args, escape::js),
            Builtin::Urlquery => self.escaped(args, escape::urlquery),
        }
    }

    fn numbers(&self) -> format::NumberFormat {
        self.templates.numbers
    }

    fn text(&mut self, printed: Result<Vec<u8>, TooLarge>) -> Result<Val, FunctionError> {
        let max = self.budget.limits().output_max;
        let bytes = printed.map_err(|_| Limit::Output(max))?;
        self.budget.spend(bytes.len() as u64 / 100)?;
        Ok(Val::plain(Value::String(Text::from(bytes))))
    }

    /// The arguments, printed, escaped.
    fn escaped(
        &mut self,
        args: &[Val],
        escape: fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Val, FunctionError> {
        if let [Val { value: Value::String(text), .. }] = args {
            return match escape(text) {
                Some(bytes) => self.text(Ok(bytes)),
                None => Ok(Val::plain(Value::String(text.clone()))),
            };
        }
        let shown: Vec<_> = args
            .iter()
            .map(|arg| match &arg.value {
                Value::Nil => Value::fixed("<no value>"),
                value => pointee(value),
            })
            .collect();
        let max = self.budget.limits().output_max;
        let printed =
            format::print(&shown, self.numbers(), self.room()).map_err(|_| Limit::Output(max))?;
        let bytes = escape(&printed).unwrap_or(printed);
        self.text(Ok(bytes))
    }

    fn eq(&self, first: &Val, others: &[Val]) -> Result<bool, FunctionError> {
        if others.is_empty() {
            return failed("missing argument for comparison");
        }
        for other in others {
            if equal(&first.value, &other.value, |value, verb| self.shown_by(value, verb))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn values(args: &[Val]) -> Vec<Value> {
    args.iter().map(|arg| arg.value.clone()).collect()
}

fn length(item: &Val) -> Result<Val, FunctionError> {
    let count = match item.value.plain() {
        Value::Nil if item.boxed => return failed("len of nil pointer"),
        Value::Nil => return failed("reflect: call of reflect.Value.Type on zero Value"),
        Value::NilOf(Type::Pointer(_)) => return failed("len of nil pointer"),
        Value::NilOf(Type::Slice(_) | Type::Map(_) | Type::Chan(_)) => 0,
        Value::String(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::Sequence(sequence) if matches!(sequence.type_of(), Type::Chan(_)) => {
            sequence.steps().count()
        }
        _ => return failed(format!("len of type {}", target_type(&item.value))),
    };
    Ok(Val::int(count as i64))
}

/// The type of a value, or of what it points to.
fn target_type(value: &Value) -> String {
    match value.type_of() {
        Some(Type::Pointer(target)) => target.to_string(),
        _ => type_name(value),
    }
}

/// An index into something of the length `cap`, which itself still passes.
fn index_of(value: &Value, cap: usize) -> Result<usize, FunctionError> {
    let at = match value.plain() {
        Value::Int(at, _) => at,
        Value::Uint(at, _) => at as i64,
        Value::Nil => return failed("cannot index slice/array with nil"),
        _ => {
            let of = type_name(value);
            return failed(format!("cannot index slice/array with type {of}"));
        }
    };
    match usize::try_from(at) {
        Ok(index) if index <= cap => Ok(index),
        _ => failed(format!("index out of range: {at}")),
    }
}

fn index(item: &Val, indexes: &[Val]) -> Result<Val, FunctionError> {
    if matches!(item.value, Value::Nil) {
        return failed("index of untyped nil");
    }
    let mut item = item.clone();
    for index in indexes {
        item = match item.value.plain() {
            Value::Nil | Value::NilOf(Type::Pointer(_)) => return failed("index of nil pointer"),
            Value::String(text) => match text.get(index_of(&index.value, text.len())?) {
                Some(byte) => Val::plain(Value::Uint(u64::from(*byte), super::UintKind::U8)),
                None => return failed("reflect: string index out of range"),
            },
            Value::List(list) => match list.get(index_of(&index.value, list.len())?) {
                Some(value) => Val::of(value, list.element()),
                None => return failed("reflect: slice index out of range"),
            },
            Value::NilOf(Type::Slice(_)) => {
                index_of(&index.value, 0)?;
                return failed("reflect: slice index out of range");
            }
            Value::Map(map) => {
                let (key, of) = map.types();
                let key = prepared(&index.value, key).map_err(FunctionError::failed)?;
                if let Value::List(_) | Value::Map(_) | Value::Function(_) = key {
                    let of = type_name(&key);
                    return failed(format!("runtime error: hash of unhashable type {of}"));
                }
                map.get(&key).map_or_else(|| Val::zero(of), |value| Val::of(value, of))
            }
            Value::NilOf(Type::Map((key, of))) => {
                prepared(&index.value, key).map_err(FunctionError::failed)?;
                Val::zero(of)
            }
            _ => return failed(format!("can't index item of type {}", target_type(&item.value))),
        };
    }
    Ok(item)
}

/// A part of a list.
struct Part {
    list: std::sync::Arc<List>,
    from: usize,
    to: usize,
    /// Where its capacity ends.
    max: usize,
}

impl Items for Part {
    fn len(&self) -> usize {
        self.to - self.from
    }

    fn depth(&self) -> u32 {
        self.list.depth() - 1
    }

    fn whole(&self) -> Option<(&std::sync::Arc<List>, usize)> {
        Some((&self.list, self.from))
    }

    fn capacity(&self) -> usize {
        self.max - self.from
    }

    fn at(&self, index: usize) -> Value {
        self.list.at(self.from + index)
    }
}

fn slice(item: &Val, indexes: &[Val]) -> Result<Val, FunctionError> {
    let plain = item.value.plain();
    match &plain {
        Value::Nil => return failed("slice of untyped nil"),
        Value::NilOf(Type::Pointer(_)) => return failed("slice of nil pointer"),
        _ => {}
    }
    if indexes.len() > 3 {
        return failed(format!("too many slice indexes: {}", indexes.len()));
    }
    let (len, cap) = match &plain {
        Value::String(_) if indexes.len() == 3 => {
            return failed("cannot 3-index slice a string");
        }
        Value::String(text) => (text.len(), text.len()),
        Value::List(list) => (list.len(), list.capacity()),
        Value::NilOf(Type::Slice(_)) => (0, 0),
        _ => return failed(format!("can't slice item of type {}", target_type(&item.value))),
    };
    let mut at = [0, len, cap];
    for (slot, index) in at.iter_mut().zip(indexes) {
        // Go does not look into the interface here, as `index` does.
        if index.boxed {
            return failed("cannot index slice/array with type interface {}");
        }
        *slot = index_of(&index.value, cap)?;
    }
    let [from, to, max] = at;
    if from > to {
        return failed(format!("invalid slice index: {from} > {to}"));
    }
    if indexes.len() == 3 && to > max {
        return failed(format!("invalid slice index: {to} > {max}"));
    }
    Ok(Val::plain(match plain {
        Value::String(text) => Value::String(Text::from(text.get(from..to).unwrap_or_default())),
        Value::List(list) => {
            let element = list.element();
            let (list, offset) = match list.whole() {
                Some((whole, offset)) => (std::sync::Arc::clone(whole), offset),
                None => (list, 0),
            };
            let (from, to, max) = (from + offset, to + offset, max + offset);
            Value::list(element, Part { list, from, to, max })
        }
        other => other,
    }))
}
