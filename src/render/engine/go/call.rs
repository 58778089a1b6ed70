//! Calls: of built-in functions, of those of a dialect, of methods.

use std::sync::Arc;

use super::ast::{Arg, ArgKind, Callee, Place};
use super::builtins::Builtin;
use super::exec::{Evaluator, Failed, Nested};
use super::function::{Context, Function, FunctionError, Signature};
use super::types::Type;
use super::val::{Val, type_name, wrapped, wrapped_unsigned};
use super::value::{Object, Value};

/// Most lists and maps within each other that a function may give.
const VALUE_DEPTH_MAX: u32 = 200;

/// What is called.
pub(super) enum Target<'t> {
    Builtin(Builtin),
    Function(&'t Function),
    Method(&'t Arc<dyn Object>, &'t str, Signature),
}

impl Target<'_> {
    fn signature(&self) -> Signature {
        match self {
            Self::Builtin(builtin) => builtin.signature(),
            Self::Function(function) => *function.signature(),
            Self::Method(.., signature) => *signature,
        }
    }
}

/// The type of the parameter at `index`.
fn param(signature: &Signature, index: usize) -> &'static Type {
    let params = signature.params;
    params.get(index).or_else(|| params.last()).unwrap_or(&Type::Any)
}

impl<'a> Evaluator<'a> {
    pub(super) fn identifier(
        &mut self,
        dot: &Val,
        node: Place<'a>,
        name: &'a str,
        callee: &'a Callee,
        args: &'a [Arg],
        last: Option<Val>,
    ) -> Result<Val, Failed> {
        let target = match callee {
            Callee::Builtin(builtin) => Target::Builtin(*builtin),
            Callee::Function(function) => Target::Function(function),
        };
        self.call(dot, &target, node, name, args, last)
    }

    /// Calls `target` with the arguments and what came through the pipe. `node` is where an error
    /// of the function itself is placed.
    pub(super) fn call(
        &mut self,
        dot: &Val,
        target: &Target<'_>,
        node: Place<'a>,
        name: &str,
        args: &'a [Arg],
        last: Option<Val>,
    ) -> Result<Val, Failed> {
        self.spend()?;
        let signature = target.signature();
        let count = args.len() + usize::from(last.is_some());
        let wanted = signature.params.len();
        if signature.variadic {
            let fixed = wanted.saturating_sub(1);
            if count < fixed {
                return Err(self.error(format!(
                    "wrong number of args for {name}: want at least {fixed} got {}",
                    args.len()
                )));
            }
        } else if count != wanted {
            return Err(
                self.error(format!("wrong number of args for {name}: want {wanted} got {count}"))
            );
        }
        if let Target::Builtin(builtin @ (Builtin::And | Builtin::Or)) = target {
            return self.and_or(dot, *builtin == Builtin::Or, args, last);
        }
        let base = self.args.len();
        for (index, arg) in args.iter().enumerate() {
            let value = self.arg(dot, arg, param(&signature, index))?;
            self.args.push(value);
        }
        if let Some(last) = last {
            let value = self.fitting(last, param(&signature, count - 1))?;
            self.args.push(value);
        }
        // Nothing that is called evaluates arguments here.
        let mut stack = std::mem::take(&mut self.args);
        let mut plain = || stack.drain(base..).map(|value| value.value).collect::<Vec<_>>();
        let result = match target {
            Target::Builtin(builtin) => {
                let values = stack.get(base..).unwrap_or_default();
                match builtin {
                    Builtin::Call => self.call_value(args.first(), values),
                    builtin => self.builtin(*builtin, values),
                }
            }
            Target::Function(function) => {
                let values = plain();
                self.with_context(|context| function.call(context, &values))
                    .map(|value| Val::of(value, &signature.result))
            }
            Target::Method(object, method, _) => {
                let values = plain();
                self.with_context(|context| object.call(method, context, &values))
                    .map(|value| Val::of(value, &signature.result))
            }
        };
        stack.truncate(base);
        self.args = stack;
        let result = result.and_then(|value| {
            if value.value.depth() > VALUE_DEPTH_MAX {
                return Err(FunctionError::hinted(
                    format!("more than {VALUE_DEPTH_MAX} lists and maps within each other"),
                    "see whether a loop puts a variable into itself",
                ));
            }
            Ok(value)
        });
        result.map_err(|error| {
            self.place = Some(node);
            self.called(name, error)
        })
    }

    fn with_context<T>(&mut self, run: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let mut runner =
            Nested { templates: self.templates, within: (self.depth, self.nesting + 1) };
        run(&mut Context::new(self.budget, self.host, Some(&mut runner)))
    }

    /// The built-in `and` and `or`: arguments after the one that decides are not evaluated.
    fn and_or(
        &mut self,
        dot: &Val,
        or: bool,
        args: &'a [Arg],
        last: Option<Val>,
    ) -> Result<Val, Failed> {
        let mut value = Val::NONE;
        for arg in args {
            value = self.arg(dot, arg, &Type::Reflect)?;
            if value.truth() == or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// The built-in `call`: of a function that is a value.
    fn call_value(&mut self, first: Option<&'a Arg>, values: &[Val]) -> Result<Val, FunctionError> {
        let Some((callee, args)) = values.split_first() else {
            return Err(FunctionError::failed("call of nil"));
        };
        let name = match first {
            Some(arg) => {
                let mut shown = String::new();
                arg.show(&self.tree.source, &mut shown);
                shown
            }
            None => match &callee.value {
                Value::String(text) => text.to_str().into_owned(),
                value => format!("<{} Value>", type_name(value)),
            },
        };
        let function = match &callee.value {
            Value::Nil => return Err(FunctionError::failed("call of nil")),
            Value::Function(function) => function,
            Value::NilOf(Type::Func(_)) => {
                return Err(FunctionError::failed("reflect: call of nil function"));
            }
            other => {
                let of = type_name(other);
                return Err(FunctionError::failed(format!("non-function {name} of type {of}")));
            }
        };
        let (count, signature) = (args.len(), function.signature());
        let wanted = signature.params.len();
        if signature.variadic && count + 1 < wanted {
            let fixed = wanted - 1;
            return Err(FunctionError::failed(format!(
                "wrong number of args for {name}: got {count} want at least {fixed}"
            )));
        }
        if !signature.variadic && count != wanted {
            return Err(FunctionError::failed(format!(
                "wrong number of args for {name}: got {count} want {wanted}"
            )));
        }
        let mut plain = Vec::with_capacity(count);
        for (index, arg) in args.iter().enumerate() {
            let value = prepared(&arg.value, param(signature, index))
                .map_err(|error| FunctionError::failed(format!("arg {index}: {error}")))?;
            plain.push(value);
        }
        self.with_context(|context| function.call(context, &plain))
            .map(|value| Val::of(value, &signature.result))
    }

    // Arguments.

    /// An argument where nothing says a type: what a chain of fields begins with.
    pub(super) fn untyped_arg(&mut self, dot: &Val, arg: &'a Arg) -> Result<Val, Failed> {
        self.arg(dot, arg, &Type::Reflect)
    }

    fn arg(&mut self, dot: &Val, arg: &'a Arg, of: &'static Type) -> Result<Val, Failed> {
        self.place = Some(Place::Arg(arg));
        let value = match &arg.kind {
            ArgKind::Dot => dot.clone(),
            ArgKind::Nil => {
                if of.can_be_nil() {
                    return Ok(Val::zero(of));
                }
                return Err(self.error(format!("cannot assign nil to {of}")));
            }
            ArgKind::Field(names) => self.fields(dot, dot, arg, names, &[], None)?,
            ArgKind::Variable(..) => self.variable(dot, arg, &[], None)?,
            ArgKind::Pipe(pipe) => {
                self.nest()?;
                let value = self.pipeline(dot, pipe)?;
                self.nesting -= 1;
                value
            }
            ArgKind::Identifier(name, callee) => {
                self.identifier(dot, Place::Arg(arg), name, callee, &[], None)?
            }
            ArgKind::Chain(inner, names) => self.chain(dot, arg, inner, names, &[], None)?,
            ArgKind::Bool(_) | ArgKind::Number(_) | ArgKind::String(..) => {
                return self.constant(arg, of);
            }
        };
        self.fitting(value, of)
    }

    /// A constant as a value of the type `of`.
    fn constant(&mut self, arg: &'a Arg, of: &'static Type) -> Result<Val, Failed> {
        let value = match (of.underlying(), &arg.kind) {
            (Type::Any | Type::Reflect, ArgKind::Number(number)) => {
                return self.ideal(arg, number);
            }
            (Type::Any | Type::Reflect | Type::Bool, ArgKind::Bool(value)) => Value::Bool(*value),
            (Type::Any | Type::Reflect | Type::String, ArgKind::String(_, text)) => {
                Value::String(text.clone())
            }
            (Type::Int(kind), ArgKind::Number(number)) if number.int.is_some() => {
                Value::Int(wrapped(number.int.unwrap_or(0), kind), kind)
            }
            (Type::Uint(kind), ArgKind::Number(number)) if number.uint.is_some() => {
                Value::Uint(wrapped_unsigned(number.uint.unwrap_or(0), kind), kind)
            }
            (Type::Float(kind), ArgKind::Number(number)) if number.float.is_some() => {
                Value::Float(number.float.unwrap_or(0.0), kind)
            }
            (Type::Complex, ArgKind::Number(number)) if number.complex.is_some() => {
                let (real, imaginary) = number.complex.unwrap_or_default();
                Value::Complex(real, imaginary)
            }
            (underlying, _) => {
                let mut shown = String::new();
                arg.show(&self.tree.source, &mut shown);
                let expected = match underlying {
                    Type::Bool => "bool",
                    Type::String => "string",
                    Type::Int(_) => "integer",
                    Type::Uint(_) => "unsigned integer",
                    Type::Float(_) => "float",
                    Type::Complex => "complex",
                    _ => {
                        return Err(
                            self.error(format!("can't handle {shown} for arg of type {of}"))
                        );
                    }
                };
                return Err(self.error(format!("expected {expected}; found {shown}")));
            }
        };
        Ok(Val::plain(value))
    }

    /// `value` as an argument of the type `of`.
    fn fitting(&self, value: Val, of: &'static Type) -> Result<Val, Failed> {
        if matches!(of, Type::Any | Type::Reflect) {
            return Ok(value);
        }
        if value.is_none() {
            if of.can_be_nil() {
                return Ok(Val::zero(of));
            }
            return Err(self.error(format!("invalid value; expected {of}")));
        }
        if let Some(value) = assigned(&value.value, of) {
            return Ok(Val::plain(value));
        }
        let got =
            if value.is_boxed_nil() { Type::Any.to_string() } else { type_name(&value.value) };
        Err(self.error(format!("wrong type for value; expected {of}; got {got}")))
    }
}

/// `value` as one of the type `of`, if Go would assign it.
fn assigned(value: &Value, of: &'static Type) -> Option<Value> {
    let own = value.type_of()?;
    if own == *of || matches!(of, Type::Any | Type::Reflect | Type::Error) {
        return Some(value.clone());
    }
    // A named list is a list; a named struct is reached through its pointer.
    let named = matches!(own, Type::Named(_)) != matches!(of, Type::Named(_));
    let composite = matches!(of.underlying(), Type::Slice(_) | Type::Map(_) | Type::Func(_));
    if named && composite && own.underlying() == of.underlying() {
        return Some(value.plain());
    }
    let either_func = matches!((own, of), (Type::Func(_), Type::Func(_)));
    if either_func || matches!(own, Type::Pointer(target) if target == of) {
        return Some(value.clone());
    }
    None
}

/// `value` as an argument of `call` or a key of a map.
///
/// # Errors
/// In Go's words.
pub(super) fn prepared(value: &Value, of: &'static Type) -> Result<Value, String> {
    if matches!(value, Value::Nil) {
        if of.can_be_nil() {
            return Ok(Val::zero(of).value);
        }
        return Err(format!("value is nil; should be of type {of}"));
    }
    if let Some(value) = assigned(value, of) {
        return Ok(value);
    }
    let converted = match (value.plain(), of.underlying()) {
        (Value::Int(value, _), Type::Int(kind)) => Value::Int(wrapped(value, kind), kind),
        (Value::Int(value, _), Type::Uint(kind)) => {
            Value::Uint(wrapped_unsigned(value as u64, kind), kind)
        }
        (Value::Uint(value, _), Type::Int(kind)) => Value::Int(wrapped(value as i64, kind), kind),
        (Value::Uint(value, _), Type::Uint(kind)) => {
            Value::Uint(wrapped_unsigned(value, kind), kind)
        }
        _ => return Err(format!("value has type {}; should be {of}", type_name(value))),
    };
    Ok(converted)
}
