//! Walks the nodes of a tree and writes.

use super::ast::{Arm, Branch, BranchKind, List, Node, Pipe, Place};
use super::exec::{Evaluator, Failed};
use super::format;
use super::function::Limit;
use super::quote::quote;
use super::text::Text;
use super::types::Type;
use super::val::{Val, pointee, type_name};
use super::value::{Step, Value};

/// What a `range` goes through.
type Elements<'v> = Box<dyn Iterator<Item = (Val, Val)> + 'v>;

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Break,
    Continue,
}

impl<'a> Evaluator<'a> {
    pub(super) fn walk(&mut self, dot: &Val, list: &'a List) -> Result<Flow, Failed> {
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
        let two = range.pipe.variables.len() > 1;
        let mark = self.variables.len();
        let mut any = false;
        for (index, element) in self.elements(&over, &over.plain(), two)? {
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

    /// What `range` goes through, each with its index or key; `plain` is `over` without a name.
    fn elements<'v>(
        &self,
        over: &Value,
        plain: &'v Value,
        two: bool,
    ) -> Result<Elements<'v>, Failed> {
        Ok(match plain {
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
            Value::Int(number, _) => self.write(Text::shown(number).as_bytes()),
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
