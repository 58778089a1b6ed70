//! Pipelines, their commands and terms, from tokens to trees.

#![allow(
    clippy::unnecessary_box_returns,
    reason = "a parser within a parser needs its stack for other things than errors"
)]

use std::sync::Arc;

use super::ast::{Arg, ArgKind, Callee, Command, Pipe};
use super::builtins::Builtin;
use super::number::Number;
use super::parse::{Parsed, Parser};
use super::quote::{quote, unquote};
use super::text::Text;
use super::token::{Kind, Token};

impl Parser<'_, '_> {
    pub(super) fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let at = self.peek_not_space().at as u32;
        let mut pipe = Pipe { at, assigns: false, variables: Vec::new(), commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        loop {
            let token = self.next_not_space();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.backup();
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return Err(self.unexpected(&token, context)),
            }
        }
        if pipe.commands.is_empty() {
            return Err(self.error(format!("missing value for {context}")));
        }
        for (index, command) in pipe.commands.iter().enumerate().skip(1) {
            use ArgKind::{Bool, Dot, Nil, Number, String};
            let first = command.args.first().map(|arg| &arg.kind);
            if let Some(Bool(_) | Dot | Nil | Number(_) | String(..)) = first {
                let stage = index + 1;
                return Err(self.error(format!("non executable command in pipeline stage {stage}")));
            }
        }
        Ok(pipe)
    }

    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Parsed<()> {
        loop {
            let name = self.peek_not_space();
            if name.kind != Kind::Variable {
                return Ok(());
            }
            self.next();
            // "$x foo": only "foo" tells that $x is an argument and no declaration.
            let after = self.peek().clone();
            let next = self.peek_not_space();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.assigns = next.kind == Kind::Assign;
                    self.next_not_space();
                    self.declare(pipe, &name.text);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    self.next_not_space();
                    self.declare(pipe, &name.text);
                    if context == "range" && pipe.variables.len() < 2 {
                        match self.peek_not_space().kind {
                            Kind::Variable | Kind::RightDelim | Kind::RightParen => continue,
                            _ => return Err(self.error("range can only initialize variables")),
                        }
                    }
                    return Err(self.error(format!("too many declarations in {context}")));
                }
                _ if after.kind == Kind::Space => {
                    self.tokens[1] = after;
                    self.tokens[2] = name;
                    self.peeked = 3;
                }
                _ => {
                    self.tokens[1] = name;
                    self.peeked = 2;
                }
            }
            return Ok(());
        }
    }

    fn declare(&mut self, pipe: &mut Pipe, name: &str) {
        let variable = self.variable(name);
        self.variables.push(variable.clone());
        pipe.variables.push(variable);
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut command = Command { at: self.peek_not_space().at as u32, args: Vec::new() };
        loop {
            self.peek_not_space();
            command.args.extend(self.operand()?);
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.backup(),
                Kind::Pipe => {}
                _ => return Err(self.unexpected(&token, "operand")),
            }
            break;
        }
        if command.args.is_empty() {
            return Err(self.error("empty command"));
        }
        Ok(command)
    }

    /// A term and the fields behind it.
    fn operand(&mut self) -> Parsed<Option<Arg>> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        // As in Go, the place of a chain is that of its first field after the term.
        let at = self.peek().at as u32;
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            let token = self.next();
            names.push(Arc::from(token.text.strip_prefix('.').unwrap_or(&token.text)));
        }
        let kind = match term.kind {
            ArgKind::Field(first) => ArgKind::Field(first.iter().cloned().chain(names).collect()),
            ArgKind::Variable(variable, first) => {
                ArgKind::Variable(variable, first.iter().cloned().chain(names).collect())
            }
            ArgKind::Bool(_)
            | ArgKind::String(..)
            | ArgKind::Number(_)
            | ArgKind::Nil
            | ArgKind::Dot => {
                let mut shown = String::new();
                term.show(&self.whole.source, &mut shown);
                let shown = quote(shown.as_bytes());
                return Err(self.error(format!("unexpected . after term {shown}")));
            }
            _ => ArgKind::Chain(Box::new(term), names.into()),
        };
        Ok(Some(Arg { at, kind }))
    }

    fn term(&mut self) -> Parsed<Option<Arg>> {
        let token = self.next_not_space();
        let text = &*token.text;
        let kind = match token.kind {
            Kind::Identifier => {
                let callee = match (self.whole.functions.get(text), Builtin::called(text)) {
                    (Some(function), _) => Callee::Function(Arc::clone(function)),
                    (None, Some(builtin)) => Callee::Builtin(builtin),
                    (None, None) => {
                        let name = quote(text.as_bytes());
                        let mut error = self.error(format!("function {name} not defined"));
                        error.hint = self.nearest(text);
                        return Err(error);
                    }
                };
                ArgKind::Identifier(text.into(), callee)
            }
            Kind::Dot => ArgKind::Dot,
            Kind::Nil => ArgKind::Nil,
            Kind::Variable => {
                let found = self.variables.iter().find(|variable| &*variable.name == text);
                let Some(found) = found else {
                    let name = quote(text.as_bytes());
                    let mut error = self.error(format!("undefined variable {name}"));
                    error.hint = Some(format!("define it before: {{{{ {text} := … }}}}"));
                    return Err(error);
                };
                ArgKind::Variable(found.clone(), Box::default())
            }
            Kind::Field => ArgKind::Field([Arc::from(text.get(1..).unwrap_or(""))].into()),
            Kind::Bool => ArgKind::Bool(text == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => {
                let number = match token.kind {
                    Kind::CharConstant => Number::character(text),
                    Kind::Complex => Number::complex(text),
                    _ => Number::parse(text),
                };
                ArgKind::Number(Box::new(number.map_err(|message| self.error(message))?))
            }
            Kind::LeftParen => {
                self.nest("max expression depth exceeded")?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.whole.nesting -= 1;
                ArgKind::Pipe(Box::new(pipe))
            }
            Kind::String | Kind::RawString => {
                let value = self.unquoted(&token)?;
                ArgKind::String(text.into(), Text::from(value))
            }
            _ => {
                self.backup();
                return Ok(None);
            }
        };
        // The place of a pipeline in parentheses is what comes after the parenthesis.
        let at = match &kind {
            ArgKind::Pipe(pipe) => pipe.at,
            _ => token.at as u32,
        };
        Ok(Some(Arg { at, kind }))
    }

    /// Which function may have been meant by `name`.
    fn nearest(&self, name: &str) -> Option<String> {
        let names: Vec<_> = self.whole.functions.names().chain(Builtin::NAMES).collect();
        let near = crate::suggest::nearest(name, &names)?;
        Some(format!("did you mean {near}?"))
    }

    pub(super) fn unquoted(&mut self, token: &Token<'_>) -> Parsed<Vec<u8>> {
        unquote(&token.text).ok_or_else(|| self.error("invalid syntax"))
    }
}
