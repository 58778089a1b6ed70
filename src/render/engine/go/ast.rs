//! The parsed template, and its text again, as error messages quote it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::builtins::Builtin;
use super::function::Function;
use super::number::Number;
use super::quote::quote;
use super::text::Text;

/// A text that was parsed, and under which name.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) text: Arc<str>,
    pub(super) left: Box<str>,
    pub(super) right: Box<str>,
}

/// A template by its name.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: Arc<str>,
    pub(super) source: Arc<Source>,
    pub(super) root: List,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(u32, Range<usize>),
    Action(Pipe),
    Break(u32),
    Continue(u32),
    Branch(Box<Branch>),
    Template { at: u32, name: Arc<str>, pipe: Option<Pipe> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BranchKind {
    If,
    Range,
    With,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) kind: BranchKind,
    /// One, and one for each `else if` or `else with`.
    pub(super) arms: Vec<Arm>,
    pub(super) otherwise: Option<List>,
}

#[derive(Debug)]
pub(super) struct Arm {
    pub(super) pipe: Pipe,
    pub(super) list: List,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: u32,
    pub(super) assigns: bool,
    pub(super) variables: Vec<Variable>,
    pub(super) commands: Vec<Command>,
}

/// A variable of this text: a number, and its name for messages.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) id: u32,
    pub(super) name: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) at: u32,
    pub(super) args: Vec<Arg>,
}

#[derive(Debug)]
pub(super) struct Arg {
    pub(super) at: u32,
    pub(super) kind: ArgKind,
}

#[derive(Debug)]
pub(super) enum ArgKind {
    Bool(bool),
    Dot,
    Nil,
    Field(Box<[Arc<str>]>),
    Variable(Variable, Box<[Arc<str>]>),
    Identifier(Arc<str>, Callee),
    Number(Box<Number>),
    /// As written, and what it means.
    String(Box<str>, Text),
    Pipe(Box<Pipe>),
    Chain(Box<Arg>, Box<[Arc<str>]>),
}

/// What an identifier calls, known since the text was parsed.
#[derive(Clone)]
pub(super) enum Callee {
    Builtin(Builtin),
    Function(Arc<Function>),
}

impl fmt::Debug for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Builtin(_) => "builtin",
            Self::Function(_) => "function",
        })
    }
}

/// Where the evaluator is, for error messages.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Node(&'a Node),
    Pipe(&'a Pipe),
    Command(&'a Command),
    Arg(&'a Arg),
}

impl Place<'_> {
    /// Offset in the text.
    pub(super) fn at(self) -> usize {
        let at = match self {
            Self::Node(
                Node::Text(at, _)
                | Node::Break(at)
                | Node::Continue(at)
                | Node::Template { at, .. },
            ) => *at,
            Self::Node(Node::Action(pipe)) | Self::Pipe(pipe) => pipe.at,
            Self::Node(Node::Branch(branch)) => branch.arms.first().map_or(0, |arm| arm.pipe.at),
            Self::Command(command) => command.at,
            Self::Arg(arg) => arg.at,
        };
        at as usize
    }

    /// The text of the place, as Go writes it again.
    pub(super) fn shown(self, source: &Source) -> String {
        let mut out = String::new();
        match self {
            Self::Node(node) => node.show(source, &mut out),
            Self::Pipe(pipe) => pipe.show(source, &mut out),
            Self::Command(command) => command.show(source, &mut out),
            Self::Arg(arg) => arg.show(source, &mut out),
        }
        out
    }
}

impl List {
    /// Whether there is nothing but spaces and comments.
    pub(super) fn is_empty(&self, text: &str) -> bool {
        self.nodes.iter().all(|node| match node {
            Node::Text(_, range) => {
                text.get(range.clone()).is_none_or(|text| text.trim().is_empty())
            }
            _ => false,
        })
    }

    fn show(&self, source: &Source, out: &mut String) {
        for node in &self.nodes {
            node.show(source, out);
        }
    }
}

impl Node {
    fn show(&self, source: &Source, out: &mut String) {
        let (left, right) = (&*source.left, &*source.right);
        match self {
            Self::Text(_, range) => out.push_str(source.text.get(range.clone()).unwrap_or("")),
            Self::Action(pipe) => {
                out.push_str(left);
                pipe.show(source, out);
                out.push_str(right);
            }
            Self::Break(_) => out.extend([left, "break", right]),
            Self::Continue(_) => out.extend([left, "continue", right]),
            Self::Branch(branch) => {
                let word = match branch.kind {
                    BranchKind::If => "if ",
                    BranchKind::Range => "range ",
                    BranchKind::With => "with ",
                };
                for (index, arm) in branch.arms.iter().enumerate() {
                    out.extend([left, if index > 0 { "else " } else { "" }, word]);
                    arm.pipe.show(source, out);
                    out.push_str(right);
                    arm.list.show(source, out);
                }
                if let Some(otherwise) = &branch.otherwise {
                    out.extend([left, "else", right]);
                    otherwise.show(source, out);
                }
                out.extend([left, "end", right]);
            }
            Self::Template { name, pipe, .. } => {
                out.extend([left, "template ", &quote(name.as_bytes())]);
                if let Some(pipe) = pipe {
                    out.push(' ');
                    pipe.show(source, out);
                }
                out.push_str(right);
            }
        }
    }
}

impl Pipe {
    pub(super) fn show(&self, source: &Source, out: &mut String) {
        for (index, variable) in self.variables.iter().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            out.push_str(&variable.name);
        }
        if !self.variables.is_empty() {
            out.push_str(if self.assigns { " = " } else { " := " });
        }
        for (index, command) in self.commands.iter().enumerate() {
            out.push_str(if index > 0 { " | " } else { "" });
            command.show(source, out);
        }
    }
}

impl Command {
    fn show(&self, source: &Source, out: &mut String) {
        for (index, arg) in self.args.iter().enumerate() {
            out.push_str(if index > 0 { " " } else { "" });
            arg.show_in_parens(source, out);
        }
    }
}

impl Arg {
    fn show_in_parens(&self, source: &Source, out: &mut String) {
        if matches!(self.kind, ArgKind::Pipe(_)) {
            out.push('(');
            self.show(source, out);
            out.push(')');
        } else {
            self.show(source, out);
        }
    }

    pub(super) fn show(&self, source: &Source, out: &mut String) {
        let fields = |fields: &[Arc<str>], out: &mut String| {
            for field in fields {
                out.extend([".", field]);
            }
        };
        match &self.kind {
            ArgKind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            ArgKind::Dot => out.push('.'),
            ArgKind::Nil => out.push_str("nil"),
            ArgKind::Field(names) => fields(names, out),
            ArgKind::Variable(variable, names) => {
                out.push_str(&variable.name);
                fields(names, out);
            }
            ArgKind::Identifier(name, _) => out.push_str(name),
            ArgKind::Number(number) => out.push_str(&number.text),
            ArgKind::String(quoted, _) => out.push_str(quoted),
            ArgKind::Pipe(pipe) => pipe.show(source, out),
            ArgKind::Chain(arg, names) => {
                arg.show_in_parens(source, out);
                fields(names, out);
            }
        }
    }
}
