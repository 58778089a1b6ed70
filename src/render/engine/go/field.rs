//! Fields, keys and methods: `.X.Y`.

use std::sync::Arc;

use super::ast::{Arg, Place};
use super::call::Target;
use super::exec::{Evaluator, Failed};
use super::quote::quote;
use super::templates::MissingKey;
use super::types::Type;
use super::val::Val;
use super::value::{Object, Value};

impl<'a> Evaluator<'a> {
    /// `.X.Y.Z` of `receiver`; if the last one is a method, it gets the arguments.
    pub(super) fn fields(
        &mut self,
        dot: &Val,
        receiver: &Val,
        node: &'a Arg,
        names: &'a [Arc<str>],
        args: &'a [Arg],
        last: Option<Val>,
    ) -> Result<Val, Failed> {
        let Some((final_name, names)) = names.split_last() else { return Ok(receiver.clone()) };
        let Some((first, names)) = names.split_first() else {
            return self.field(dot, final_name, node, args, last, receiver);
        };
        let mut value = self.field(dot, first, node, &[], None, receiver)?;
        for name in names {
            value = self.field(dot, name, node, &[], None, &value)?;
        }
        self.field(dot, final_name, node, args, last, &value)
    }

    fn field(
        &mut self,
        dot: &Val,
        name: &'a str,
        node: &'a Arg,
        args: &'a [Arg],
        last: Option<Val>,
        receiver: &Val,
    ) -> Result<Val, Failed> {
        let given = !args.is_empty() || last.is_some();
        match &receiver.value {
            Value::Nil if receiver.boxed => {
                return Err(self.hinted(
                    format!("nil pointer evaluating interface {{}}.{name}"),
                    format!("what stands before .{name} is nil; test it by {{{{with}}}}"),
                ));
            }
            Value::Nil => {
                if self.templates.missing_key == MissingKey::Error {
                    let name = quote(name.as_bytes());
                    return Err(self.error(format!("nil data; no entry for key {name}")));
                }
                return Ok(Val::NONE);
            }
            Value::Object(object) => {
                if let Some(signature) = object.method(name) {
                    let target = Target::Method(object, name, signature);
                    return self.call(dot, &target, Place::Arg(node), name, args, last);
                }
                if let Some(value) = object.field(name) {
                    if given {
                        return Err(self.error(format!(
                            "{name} has arguments but cannot be invoked as function"
                        )));
                    }
                    let boxed = matches!(value, Value::Nil);
                    return Ok(Val { value, boxed });
                }
                let plain = object.underlying();
                if let Some(Value::Map(_) | Value::NilOf(Type::Map(_))) = &plain {
                    let plain = Val::plain(plain.unwrap_or(Value::Nil));
                    return self.field(dot, name, node, args, last, &plain);
                }
                let hint = known(&**object);
                let of = receiver.outer_type();
                let message = format!("can't evaluate field {name} in type {of}");
                return Err(match hint {
                    Some(hint) => self.hinted(message, hint),
                    None => self.error(message),
                });
            }
            Value::Map(map) if matches!(map.types().0, Type::String | Type::Any) => {
                self.not_a_method(name, given)?;
                return match map.get_text(name) {
                    Some(value) => Ok(Val::of(value, &map.types().1)),
                    None => self.missing(name, &map.types().1),
                };
            }
            Value::NilOf(Type::Map((Type::String | Type::Any, of))) => {
                self.not_a_method(name, given)?;
                return self.missing(name, of);
            }
            Value::NilOf(Type::Pointer(_)) => {
                let of = receiver.outer_type();
                return Err(self.error(format!("nil pointer evaluating {of}.{name}")));
            }
            _ => {}
        }
        let of = receiver.outer_type();
        Err(self.error(format!("can't evaluate field {name} in type {of}")))
    }

    fn not_a_method(&self, name: &str, given: bool) -> Result<(), Failed> {
        if given {
            return Err(self.error(format!("{name} is not a method but has arguments")));
        }
        Ok(())
    }

    /// What the key `name` gives that is not there.
    fn missing(&self, name: &str, of: &'static Type) -> Result<Val, Failed> {
        match self.templates.missing_key {
            MissingKey::Default => Ok(Val::NONE),
            MissingKey::Zero => Ok(Val::zero(of)),
            MissingKey::Error => {
                let name = quote(name.as_bytes());
                Err(self.error(format!("map has no entry for key {name}")))
            }
        }
    }
}

/// Which fields there are, for who wrote one that is not.
fn known(object: &dyn Object) -> Option<String> {
    let fields = object.fields();
    (!fields.is_empty()).then(|| format!("it has {}", fields.join(", ")))
}
