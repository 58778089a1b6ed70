//! Pipelines and their commands.

use super::ast::{Arg, ArgKind, Command, Pipe, Place};
use super::exec::{Evaluator, Failed};
use super::number::Number;
use super::val::Val;
use super::value::Value;

impl<'a> Evaluator<'a> {
    /// The value of a pipeline; its variables are set or stay on the stack.
    pub(super) fn pipeline(&mut self, dot: &Val, pipe: &'a Pipe) -> Result<Val, Failed> {
        self.place = Some(Place::Pipe(pipe));
        let mut last = None;
        for command in &pipe.commands {
            let mut value = self.command(dot, command, last.take())?;
            value.boxed = false;
            last = Some(value);
        }
        let value = last.unwrap_or(Val::NONE);
        for variable in &pipe.variables {
            if pipe.assigns {
                self.set(variable, value.clone())?;
            } else {
                self.push(variable, value.clone());
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        dot: &Val,
        command: &'a Command,
        last: Option<Val>,
    ) -> Result<Val, Failed> {
        let Some((first, args)) = command.args.split_first() else { return Ok(Val::NONE) };
        match &first.kind {
            ArgKind::Field(names) => {
                self.place = Some(Place::Arg(first));
                return self.fields(dot, dot, first, names, args, last);
            }
            ArgKind::Chain(inner, names) => {
                return self.chain(dot, first, inner, names, args, last);
            }
            ArgKind::Identifier(name, callee) => {
                self.place = Some(Place::Arg(first));
                return self.identifier(dot, Place::Command(command), name, callee, args, last);
            }
            ArgKind::Pipe(pipe) => {
                self.not_a_function(first, args, last.as_ref())?;
                self.nest()?;
                let value = self.pipeline(dot, pipe);
                self.nesting -= 1;
                return value;
            }
            ArgKind::Variable(..) => return self.variable(dot, first, args, last),
            _ => {}
        }
        self.place = Some(Place::Arg(first));
        self.not_a_function(first, args, last.as_ref())?;
        match &first.kind {
            ArgKind::Bool(value) => Ok(Val::bool(*value)),
            ArgKind::Dot => Ok(dot.clone()),
            ArgKind::Number(number) => self.ideal(first, number),
            ArgKind::String(_, text) => Ok(Val::plain(Value::String(text.clone()))),
            _ => Err(self.error("nil is not a command")),
        }
    }

    fn not_a_function(&self, first: &Arg, args: &[Arg], last: Option<&Val>) -> Result<(), Failed> {
        if args.is_empty() && last.is_none() {
            return Ok(());
        }
        let mut shown = String::new();
        first.show(&self.tree.source, &mut shown);
        Err(self.error(format!("can't give argument to non-function {shown}")))
    }

    /// A number where nothing tells its type: its spelling does.
    pub(super) fn ideal(&mut self, arg: &'a Arg, number: &Number) -> Result<Val, Failed> {
        self.place = Some(Place::Arg(arg));
        let value = match (number.complex, number.float, number.int) {
            (Some((real, imaginary)), ..) => Value::Complex(real, imaginary),
            (_, Some(float), _) if number.written_as_float() => Value::float(float),
            (.., Some(int)) => Value::int(int),
            _ => return Err(self.error(format!("{} overflows int", number.text))),
        };
        Ok(Val::plain(value))
    }

    pub(super) fn variable(
        &mut self,
        dot: &Val,
        node: &'a Arg,
        args: &'a [Arg],
        last: Option<Val>,
    ) -> Result<Val, Failed> {
        self.place = Some(Place::Arg(node));
        let ArgKind::Variable(variable, names) = &node.kind else { return Ok(Val::NONE) };
        let value = self.get(variable)?.clone();
        if names.is_empty() {
            self.not_a_function(node, args, last.as_ref())?;
            return Ok(value);
        }
        self.fields(dot, &value, node, names, args, last)
    }

    pub(super) fn chain(
        &mut self,
        dot: &Val,
        node: &'a Arg,
        inner: &'a Arg,
        names: &'a [std::sync::Arc<str>],
        args: &'a [Arg],
        last: Option<Val>,
    ) -> Result<Val, Failed> {
        self.place = Some(Place::Arg(node));
        let value = self.untyped_arg(dot, inner)?;
        self.fields(dot, &value, node, names, args, last)
    }
}
