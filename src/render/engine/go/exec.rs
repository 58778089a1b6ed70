//! The state of an evaluation: where it is, what it may spend, its variables, its errors.

#![allow(
    clippy::unnecessary_box_returns,
    reason = "errors are rare and large; results are many and should be small"
)]

use std::any::Any;

use super::ast::{Place, Tree, Variable};
use super::error::{Error, ErrorKind};
use super::function::{Budget, FunctionError, Limit, Runner};
use super::quote::quote;
use super::templates::Templates;
use super::val::Val;
use super::value::Value;

/// Boxed, because it is rare and results are many.
pub(super) type Failed = Box<Error>;

/// Deepest nesting of what is evaluated: blocks, parentheses and templates within each other.
/// As much as a stack of two megabytes bears in a build without optimisation.
const NESTING_MAX: u32 = 200;

/// One evaluation, or one template within it.
pub(super) struct Evaluator<'a> {
    pub(super) templates: &'a Templates,
    pub(super) tree: &'a Tree,
    pub(super) budget: &'a mut Budget,
    pub(super) host: &'a dyn Any,
    pub(super) out: Vec<u8>,
    /// Variables of the template and of those that called it; it sees those from `base` on.
    pub(super) variables: Vec<(u32, Val)>,
    pub(super) base: usize,
    /// Arguments of the calls within each other that are being prepared.
    pub(super) args: Vec<Val>,
    /// Where Go believes to be, which is where errors are placed.
    pub(super) place: Option<Place<'a>>,
    /// Templates within each other.
    pub(super) depth: u32,
    pub(super) nesting: u32,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        templates: &'a Templates,
        tree: &'a Tree,
        budget: &'a mut Budget,
        host: &'a dyn Any,
        (depth, nesting): (u32, u32),
    ) -> Self {
        Self {
            templates,
            tree,
            budget,
            host,
            out: Vec::new(),
            variables: Vec::new(),
            base: 0,
            args: Vec::new(),
            place: None,
            depth,
            nesting,
        }
    }

    /// The output for `dot`.
    pub(super) fn run(mut self, dot: &Val) -> Result<Vec<u8>, Failed> {
        // Variable 0 of every text is `$`.
        self.variables.push((0, dot.clone()));
        let tree = self.tree;
        self.walk(dot, &tree.root)?;
        Ok(self.out)
    }

    // Errors.

    fn fail(&self, kind: ErrorKind, message: &str, hint: Option<String>) -> Failed {
        let Some(place) = self.place else {
            return Box::new(Error {
                kind,
                message: format!("template: {}: {message}", self.tree.name),
                template: self.tree.name.to_string(),
                line: 0,
                column: None,
                hint,
            });
        };
        let source = &self.tree.source;
        let before = source.text.get(..place.at()).unwrap_or("");
        let line = 1 + before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        let (name, mut shown) = (quote(self.tree.name.as_bytes()), place.shown(source));
        // A limit is reached anywhere, in the midst of a long block too.
        if let (ErrorKind::Limit(_), Some((end, _))) = (kind, shown.char_indices().nth(60)) {
            shown.truncate(end);
            shown.push('…');
        }
        Box::new(Error {
            kind,
            message: format!(
                "template: {}:{line}:{column}: executing {name} at <{shown}>: {message}",
                source.name
            ),
            template: source.name.to_string(),
            line,
            column: Some(column),
            hint,
        })
    }

    /// An error at the current place, in Go's words.
    pub(super) fn error(&self, message: impl AsRef<str>) -> Failed {
        self.fail(ErrorKind::Exec, message.as_ref(), None)
    }

    /// The same with our words beside Go's.
    pub(super) fn hinted(&self, message: impl AsRef<str>, hint: impl Into<String>) -> Failed {
        self.fail(ErrorKind::Exec, message.as_ref(), Some(hint.into()))
    }

    pub(super) fn limit(&self, limit: Limit) -> Failed {
        self.fail(ErrorKind::Limit(limit), &limit.to_string(), None)
    }

    /// What the function `name` said.
    pub(super) fn called(&self, name: &str, error: FunctionError) -> Failed {
        match error {
            FunctionError::Failed { message, hint } => {
                let message = format!("error calling {name}: {message}");
                self.fail(ErrorKind::Exec, &message, hint)
            }
            FunctionError::Limit(limit) => self.limit(limit),
        }
    }

    pub(super) fn spend(&mut self) -> Result<(), Failed> {
        self.budget.spend(1).map_err(|limit| self.limit(limit))
    }

    /// To be called when something begins that lies within something else; who does takes one
    /// from `nesting` at its end.
    pub(super) fn nest(&mut self) -> Result<(), Failed> {
        self.nesting += 1;
        if self.nesting + self.depth > NESTING_MAX {
            return Err(self.limit(Limit::Depth(NESTING_MAX)));
        }
        Ok(())
    }

    /// How many bytes may still be written.
    pub(super) fn room(&self) -> usize {
        let max = usize::try_from(self.budget.limits().output_max).unwrap_or(usize::MAX);
        max.saturating_sub(self.out.len())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        if bytes.len() > self.room() {
            return Err(self.limit(Limit::Output(self.budget.limits().output_max)));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    // Variables.

    pub(super) fn get(&self, variable: &Variable) -> Result<&Val, Failed> {
        let own = self.variables.get(self.base..).unwrap_or_default();
        let found = own.iter().rev().find(|(id, _)| *id == variable.id);
        found
            .map(|(_, value)| value)
            .ok_or_else(|| self.error(format!("undefined variable: {}", variable.name)))
    }

    pub(super) fn set(&mut self, variable: &Variable, value: Val) -> Result<(), Failed> {
        let own = self.variables.get_mut(self.base..).unwrap_or_default();
        match own.iter_mut().rev().find(|(id, _)| *id == variable.id) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => Err(self.error(format!("undefined variable: {}", variable.name))),
        }
    }

    pub(super) fn push(&mut self, variable: &Variable, value: Val) {
        self.variables.push((variable.id, value));
    }

    /// The slot of the variable that was pushed `from_top`-th to last, from 1.
    pub(super) fn set_top(&mut self, from_top: usize, value: Val) {
        let slot = self.variables.len().checked_sub(from_top);
        if let Some((_, slot)) = slot.and_then(|slot| self.variables.get_mut(slot)) {
            *slot = value;
        }
    }
}

/// Runs templates for functions such as `executeTemplate`.
pub(super) struct Nested<'a> {
    pub(super) templates: &'a Templates,
    /// Depth and nesting of the one that called.
    pub(super) within: (u32, u32),
}

impl Runner for Nested<'_> {
    fn run(
        &mut self,
        budget: &mut Budget,
        host: &dyn Any,
        name: &str,
        data: Value,
    ) -> Result<Vec<u8>, FunctionError> {
        let depth_max = budget.limits().depth_max;
        let (depth, nesting) = self.within;
        if depth >= depth_max {
            return Err(Limit::Depth(depth_max).into());
        }
        let Some(tree) = self.templates.trees.get(name) else {
            let name = quote(name.as_bytes());
            return Err(FunctionError::failed(format!("template {name} not defined")));
        };
        let evaluator = Evaluator::new(self.templates, tree, budget, host, (depth + 1, nesting));
        evaluator.run(&Val::plain(data)).map_err(|error| match error.kind {
            ErrorKind::Limit(limit) => limit.into(),
            _ => FunctionError::Failed { message: error.message, hint: error.hint },
        })
    }
}
