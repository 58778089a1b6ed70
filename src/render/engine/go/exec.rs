//! Walks a tree and writes.

#![allow(
    clippy::unnecessary_box_returns,
    reason = "errors are rare and large; results are many and should be small"
)]

use std::any::Any;

use super::ast::{Arm, Branch, BranchKind, List, Node, Pipe, Place, Tree, Variable};
use super::error::{Error, ErrorKind};
use super::format;
use super::function::{Budget, FunctionError, Limit, Runner};
use super::quote::quote;
use super::templates::Templates;
use super::types::Type;
use super::val::{Val, pointee, type_name};
use super::value::{Step, Value};

/// Boxed, because it is rare and results are many.
pub(super) type Failed = Box<Error>;

/// Deepest nesting of what is evaluated: blocks, parentheses and templates within each other.
/// As much as a stack of two megabytes bears in a build without optimisation.
const NESTING_MAX: u32 = 200;

/// What a `range` goes through.
type Elements<'v> = Box<dyn Iterator<Item = (Val, Val)> + 'v>;

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// One evaluation, or one template within it.
pub(super) struct Evaluator<'a> {
    pub(super) templates: &'a Templates,
    pub(super) tree: &'a Tree,
    pub(super) budget: &'a mut Budget,
    pub(super) host: &'a dyn Any,
    out: Vec<u8>,
    /// Variables of the template and of those that called it; it sees those from `base` on.
    variables: Vec<(u32, Val)>,
    base: usize,
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

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
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
    fn set_top(&mut self, from_top: usize, value: Val) {
        let slot = self.variables.len().checked_sub(from_top);
        if let Some((_, slot)) = slot.and_then(|slot| self.variables.get_mut(slot)) {
            *slot = value;
        }
    }

    // Nodes.

    fn walk(&mut self, dot: &Val, list: &'a List) -> Result<Flow, Failed> {
        let tree = self.tree;
        for node in &list.nodes {
            self.place = Some(Place::Node(node));
            self.spend()?;
            match node {
                Node::Text(_, range) => {
                    let text = tree.source.text.as_bytes().get(range.clone()).unwrap_or_default();
                    self.write(text)?;
                }
                Node::Action(pipe) => {
                    let value = self.pipeline(dot, pipe)?;
                    if pipe.variables.is_empty() {
                        self.place = Some(Place::Node(node));
                        self.print(&value)?;
                    }
                }
                Node::Break(_) => return Ok(Flow::Break),
                Node::Continue(_) => return Ok(Flow::Continue),
                Node::Branch(branch) => {
                    self.nest()?;
                    let mark = self.variables.len();
                    let flow = match (branch.kind, branch.arms.first()) {
                        (BranchKind::Range, Some(arm)) => {
                            self.range(dot, arm, branch.otherwise.as_ref())?
                        }
                        _ => self.if_or_with(dot, branch)?,
                    };
                    self.variables.truncate(mark);
                    self.nesting -= 1;
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
                Node::Template { name, pipe, .. } => {
                    self.template(dot, name, pipe.as_ref())?;
                }
            }
        }
        Ok(Flow::On)
    }

    fn if_or_with(&mut self, dot: &Val, branch: &'a Branch) -> Result<Flow, Failed> {
        for arm in &branch.arms {
            let value = self.pipeline(dot, &arm.pipe)?;
            if value.truth() {
                let dot = if branch.kind == BranchKind::With { &value } else { dot };
                return self.walk(dot, &arm.list);
            }
        }
        branch.otherwise.as_ref().map_or(Ok(Flow::On), |otherwise| self.walk(dot, otherwise))
    }

    fn template(&mut self, dot: &Val, name: &str, pipe: Option<&'a Pipe>) -> Result<(), Failed> {
        let templates = self.templates;
        let Some(tree) = templates.trees.get(name) else {
            return Err(self.error(format!("template {} not defined", quote(name.as_bytes()))));
        };
        let depth_max = self.budget.limits().depth_max;
        if self.depth >= depth_max {
            return Err(self.limit(Limit::Depth(depth_max)));
        }
        let dot = match pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => Val::NONE,
        };
        self.nest()?;
        let (was, base, place) = (self.tree, self.base, self.place);
        let mark = self.variables.len();
        self.tree = tree;
        self.base = mark;
        self.depth += 1;
        self.variables.push((0, dot.clone()));
        self.walk(&dot, &tree.root)?;
        self.variables.truncate(mark);
        self.depth -= 1;
        self.nesting -= 1;
        (self.tree, self.base, self.place) = (was, base, place);
        Ok(())
    }

    fn range(
        &mut self,
        dot: &Val,
        range: &'a Arm,
        otherwise: Option<&'a List>,
    ) -> Result<Flow, Failed> {
        let over = self.pipeline(dot, &range.pipe)?.value;
        let over = match &over {
            Value::Object(object) => object.underlying().unwrap_or(over),
            _ => over,
        };
        let two = range.pipe.variables.len() > 1;
        let mark = self.variables.len();
        let mut any = false;
        for (index, element) in self.elements(&over, two)? {
            any = true;
            if self.iteration(range, mark, index, &element)? == Flow::Break {
                break;
            }
        }
        match otherwise {
            Some(otherwise) if !any => match self.walk(dot, otherwise)? {
                // As Go does it: a `continue` is one of the range around this one, a `break`
                // ends this one, though the parser took both for those of the outer one.
                Flow::Continue => Ok(Flow::Continue),
                Flow::On | Flow::Break => Ok(Flow::On),
            },
            _ => Ok(Flow::On),
        }
    }

    /// What `range` goes through, each with its index or key.
    fn elements<'v>(&self, over: &'v Value, two: bool) -> Result<Elements<'v>, Failed> {
        Ok(match over {
            Value::Nil | Value::NilOf(Type::Map(_) | Type::Slice(_) | Type::Chan(_)) => {
                Box::new(std::iter::empty())
            }
            Value::Int(..) | Value::Uint(..) if two => {
                let shown = self.shown(over);
                return Err(
                    self.error(format!("can't use {shown} to iterate over more than one variable"))
                );
            }
            Value::Int(count, kind) => {
                Box::new((0..*count).map(|n| (Val::NONE, Val::plain(Value::Int(n, *kind)))))
            }
            Value::Uint(count, kind) => {
                Box::new((0..*count).map(|n| (Val::NONE, Val::plain(Value::Uint(n, *kind)))))
            }
            Value::List(list) => {
                let of = list.element();
                Box::new(list.iter().enumerate().map(|(n, v)| (Val::int(n as i64), Val::of(v, of))))
            }
            Value::Map(map) => {
                let (key, of) = map.types();
                Box::new(map.iter().map(|(k, v)| (Val::of(k, key), Val::of(v, of))))
            }
            Value::Sequence(sequence) => {
                let channel = matches!(sequence.type_of(), Type::Chan(_));
                if two && !channel && sequence.arity() == 1 {
                    let shown = self.shown(over);
                    return Err(self
                        .error(format!("can't use {shown} iterate over more than one variable")));
                }
                Box::new(sequence.steps().enumerate().map(move |(n, step)| match step {
                    Step::One(v) if channel => (Val::int(n as i64), Val::plain(v)),
                    Step::One(v) => (Val::NONE, Val::plain(v)),
                    Step::Two(k, v) if two => (Val::plain(k), Val::plain(v)),
                    Step::Two(k, _) => (Val::NONE, Val::plain(k)),
                }))
            }
            _ => {
                let shown = self.shown(&pointee(over));
                return Err(self.error(format!("range can't iterate over {shown}")));
            }
        })
    }

    fn iteration(
        &mut self,
        range: &'a Arm,
        mark: usize,
        index: Val,
        element: &Val,
    ) -> Result<Flow, Failed> {
        self.spend()?;
        let pipe = &range.pipe;
        match (&pipe.variables[..], pipe.assigns) {
            ([], _) => {}
            ([one], true) => self.set(one, element.clone())?,
            ([first, second, ..], true) => {
                self.set(first, index)?;
                self.set(second, element.clone())?;
            }
            (variables, false) => {
                self.set_top(1, element.clone());
                if variables.len() > 1 {
                    self.set_top(2, index);
                }
            }
        }
        let flow = self.walk(element, &range.list)?;
        self.variables.truncate(mark);
        Ok(flow)
    }

    // Printing.

    fn print(&mut self, value: &Val) -> Result<(), Failed> {
        match &value.value {
            Value::String(text) => self.write(text),
            Value::Nil => self.write(b"<no value>"),
            Value::Int(number, _) => {
                use std::io::Write as _;
                let mut digits = [0_u8; 20];
                let mut rest = &mut digits[..];
                // Twenty bytes hold every number.
                let _ = write!(rest, "{number}");
                let left = rest.len();
                self.write(digits.get(..20 - left).unwrap_or_default())
            }
            Value::Function(_)
            | Value::Sequence(_)
            | Value::NilOf(Type::Func(_) | Type::Chan(_)) => {
                let place = self.place.map_or_else(String::new, |p| p.shown(&self.tree.source));
                let of = type_name(&value.value);
                Err(self.error(format!("can't print {place} of type {of}")))
            }
            other => {
                let one = [pointee(other)];
                match format::print(&one, self.templates.numbers, self.room()) {
                    Ok(bytes) => self.write(&bytes),
                    Err(_) => Err(self.limit(Limit::Output(self.budget.limits().output_max))),
                }
            }
        }
    }

    /// `%v` of a value within a message.
    fn shown(&self, value: &Value) -> String {
        self.shown_by(value, b"%v")
    }

    /// A value within a message.
    pub(super) fn shown_by(&self, value: &Value, verb: &[u8]) -> String {
        let args = std::slice::from_ref(value);
        match format::printf(verb, args, self.templates.numbers, 1 << 16) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => "(too long)".to_owned(),
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
