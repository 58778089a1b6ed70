//! From tokens to trees, as `text/template/parse` does it: the same trees, the same errors.

#![allow(
    clippy::unnecessary_box_returns,
    reason = "a parser within a parser needs its stack for other things than errors"
)]

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Arm, Branch, BranchKind, List, Node, Source, Tree, Variable};
use super::error::{Error, ErrorKind};
use super::function::Functions;
use super::lex::Lexer;
use super::quote::quote;
use super::token::{Kind, Token};

/// Deepest nesting of blocks and parentheses; what is parsed can also be evaluated on a small stack.
const NESTING_MAX: u32 = 150;

/// What belongs to one text, whichever of its templates is being parsed.
pub(super) struct Whole<'a> {
    lexer: Lexer<'a>,
    pub(super) source: Arc<Source>,
    pub(super) functions: &'a Functions,
    trees: HashMap<Arc<str>, Arc<Tree>>,
    variables: HashMap<Arc<str>, u32>,
    pub(super) nesting: u32,
}

/// Parses one template; those inside it have parsers of their own.
pub(super) struct Parser<'p, 'a> {
    pub(super) whole: &'p mut Whole<'a>,
    name: Arc<str>,
    pub(super) tokens: [Token<'a>; 3],
    pub(super) peeked: usize,
    /// Variables that are defined at this place.
    pub(super) variables: Vec<Variable>,
    /// Line on which the current action began, 0 outside actions.
    action_line: usize,
    ranges: u32,
}

/// How a list of nodes ended.
enum End {
    End,
    Else,
}

enum Item {
    Node(Node),
    End(End),
}

/// Boxed, so that deep texts need little stack.
pub(super) type Parsed<T> = Result<T, Box<Error>>;

/// The templates of `source`: the whole of it under its name, and those that it defines.
pub(super) fn parse(
    source: &Arc<Source>,
    functions: &Functions,
) -> Parsed<HashMap<Arc<str>, Arc<Tree>>> {
    let text = Arc::clone(&source.text);
    let mut lexer = Lexer::new(&text, &source.left, &source.right);
    lexer.break_is_keyword = functions.get("break").is_none();
    lexer.continue_is_keyword = functions.get("continue").is_none();
    let mut whole = Whole {
        lexer,
        source: Arc::clone(source),
        functions,
        trees: HashMap::new(),
        variables: HashMap::new(),
        nesting: 0,
    };
    let name = Arc::clone(&source.name);
    Parser::new(&mut whole, name).top()?;
    Ok(whole.trees)
}

impl<'p, 'a> Parser<'p, 'a> {
    fn new(whole: &'p mut Whole<'a>, name: Arc<str>) -> Self {
        let mut parser = Self {
            whole,
            name,
            tokens: [Token::NONE; 3],
            peeked: 0,
            variables: Vec::new(),
            action_line: 0,
            ranges: 0,
        };
        let root = parser.variable("$");
        parser.variables.push(root);
        parser
    }

    pub(super) fn variable(&mut self, name: &str) -> Variable {
        let count = self.whole.variables.len() as u32;
        if let Some((name, id)) = self.whole.variables.get_key_value(name) {
            return Variable { id: *id, name: Arc::clone(name) };
        }
        let name: Arc<str> = name.into();
        self.whole.variables.insert(Arc::clone(&name), count);
        Variable { id: count, name }
    }

    // Tokens.

    pub(super) fn next(&mut self) -> Token<'a> {
        match self.peeked.checked_sub(1) {
            Some(left) => self.peeked = left,
            None => self.tokens[0] = self.whole.lexer.next(),
        }
        self.tokens[self.peeked].clone()
    }

    pub(super) fn backup(&mut self) {
        self.peeked += 1;
    }

    pub(super) fn peek(&mut self) -> &Token<'a> {
        if self.peeked == 0 {
            self.peeked = 1;
            self.tokens[0] = self.whole.lexer.next();
        }
        &self.tokens[self.peeked - 1]
    }

    pub(super) fn next_not_space(&mut self) -> Token<'a> {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    pub(super) fn peek_not_space(&mut self) -> Token<'a> {
        let token = self.next_not_space();
        self.backup();
        token
    }

    fn need(&mut self, kind: Kind, context: &str) -> Parsed<Token<'a>> {
        let token = self.next_not_space();
        if token.kind == kind { Ok(token) } else { Err(self.unexpected(&token, context)) }
    }

    // Errors.

    pub(super) fn error(&self, message: impl AsRef<str>) -> Box<Error> {
        let (name, line) = (&self.whole.source.name, self.tokens[0].line);
        Box::new(Error {
            kind: ErrorKind::Parse,
            message: format!("template: {name}:{line}: {}", message.as_ref()),
            template: name.to_string(),
            line,
            column: None,
            hint: None,
        })
    }

    pub(super) fn unexpected(&self, token: &Token<'_>, context: &str) -> Box<Error> {
        if token.kind != Kind::Error {
            return self.error(format!("unexpected {} in {context}", token.shown()));
        }
        let mut message = token.text.to_string();
        if self.action_line != 0 && self.action_line != token.line {
            let within = if message.ends_with(" action") { "" } else { " in action" };
            let (name, line) = (&self.whole.source.name, self.action_line);
            message = format!("{message}{within} started at {name}:{line}");
        }
        self.error(message)
    }

    pub(super) fn nest(&mut self, message: &str) -> Parsed<()> {
        self.whole.nesting += 1;
        if self.whole.nesting > NESTING_MAX {
            let mut error = self.error(message);
            error.hint = Some(format!(
                "at most {NESTING_MAX} blocks and parentheses may stand inside each other; \
                 move some of them into a {{{{define}}}}"
            ));
            return Err(error);
        }
        Ok(())
    }

    // Templates.

    fn add(&mut self, root: List) -> Parsed<()> {
        let text = &self.whole.source.text;
        let was = self.whole.trees.get(&self.name);
        let empty = root.is_empty(text);
        if was.is_none_or(|tree| tree.root.is_empty(text)) {
            let source = Arc::clone(&self.whole.source);
            let tree = Tree { name: Arc::clone(&self.name), source, root };
            self.whole.trees.insert(Arc::clone(&self.name), Arc::new(tree));
        } else if !empty {
            let name = quote(self.name.as_bytes());
            return Err(self.error(format!("template: multiple definition of template {name}")));
        }
        Ok(())
    }

    fn top(mut self) -> Parsed<()> {
        let mut root = List { nodes: Vec::new() };
        loop {
            match self.peek().kind {
                Kind::Eof => break,
                Kind::LeftDelim => {
                    let delim = self.next();
                    if self.next_not_space().kind == Kind::Define {
                        Parser::new(self.whole, "definition".into()).definition()?;
                        continue;
                    }
                    self.tokens[1] = delim;
                    self.peeked = 2;
                }
                _ => {}
            }
            match self.item()? {
                Item::Node(node) => root.nodes.push(node),
                Item::End(end) => {
                    let shown = self.shown_end(&end);
                    return Err(self.error(format!("unexpected {shown}")));
                }
            }
        }
        self.add(root)
    }

    fn shown_end(&self, end: &End) -> String {
        let word = match end {
            End::End => "end",
            End::Else => "else",
        };
        format!("{}{word}{}", self.whole.source.left, self.whole.source.right)
    }

    fn definition(mut self) -> Parsed<()> {
        let token = self.next_not_space();
        if !matches!(token.kind, Kind::String | Kind::RawString) {
            return Err(self.unexpected(&token, "define clause"));
        }
        self.name = self.unquoted_name(&token)?;
        self.need(Kind::RightDelim, "define clause")?;
        let (root, end) = self.items()?;
        if let End::Else = end {
            let shown = self.shown_end(&end);
            return Err(self.error(format!("unexpected {shown} in define clause")));
        }
        self.add(root)
    }

    fn unquoted_name(&mut self, token: &Token<'_>) -> Parsed<Arc<str>> {
        let name = self.unquoted(token)?;
        Ok(String::from_utf8_lossy(&name).into())
    }

    // Lists of nodes.

    fn items(&mut self) -> Parsed<(List, End)> {
        let mut list = List { nodes: Vec::new() };
        while self.peek_not_space().kind != Kind::Eof {
            match self.item()? {
                Item::Node(node) => list.nodes.push(node),
                Item::End(end) => return Ok((list, end)),
            }
        }
        Err(self.error("unexpected EOF"))
    }

    fn item(&mut self) -> Parsed<Item> {
        let token = self.next_not_space();
        match token.kind {
            Kind::Text => {
                Ok(Item::Node(Node::Text(token.at as u32, token.at..token.at + token.text.len())))
            }
            Kind::LeftDelim => {
                self.action_line = token.line;
                let item = self.action()?;
                self.action_line = 0;
                Ok(item)
            }
            _ => Err(self.unexpected(&token, "input")),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        let token = self.next_not_space();
        let node = match token.kind {
            Kind::Block => self.block()?,
            Kind::Break | Kind::Continue => self.jump(&token)?,
            Kind::Else => {
                let peeked = self.peek_not_space().kind;
                if !matches!(peeked, Kind::If | Kind::With) {
                    self.need(Kind::RightDelim, "else")?;
                }
                return Ok(Item::End(End::Else));
            }
            Kind::End => {
                self.need(Kind::RightDelim, "end")?;
                return Ok(Item::End(End::End));
            }
            Kind::If => self.branch(BranchKind::If)?,
            Kind::Range => self.branch(BranchKind::Range)?,
            Kind::With => self.branch(BranchKind::With)?,
            Kind::Template => self.template()?,
            _ => {
                self.backup();
                self.peek();
                Node::Action(self.pipeline("command", Kind::RightDelim)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn jump(&mut self, token: &Token<'_>) -> Parsed<Node> {
        let word = if token.kind == Kind::Break { "break" } else { "continue" };
        let end = self.next_not_space();
        if end.kind != Kind::RightDelim {
            return Err(self.unexpected(&end, &format!("{{{{{word}}}}}")));
        }
        if self.ranges == 0 {
            return Err(self.error(format!("{{{{{word}}}}} outside {{{{range}}}}")));
        }
        let at = token.at as u32;
        Ok(if token.kind == Kind::Break { Node::Break(at) } else { Node::Continue(at) })
    }

    fn branch(&mut self, kind: BranchKind) -> Parsed<Node> {
        let (context, chained) = match kind {
            BranchKind::If => ("if", Some(Kind::If)),
            BranchKind::Range => ("range", None),
            BranchKind::With => ("with", Some(Kind::With)),
        };
        self.nest("blocks are nested too deeply")?;
        let variables = self.variables.len();
        let mut branch = Branch { kind, arms: Vec::new(), otherwise: None };
        // `else if` and `else with` are further arms, however many there are.
        loop {
            let pipe = self.pipeline(context, Kind::RightDelim)?;
            self.ranges += u32::from(kind == BranchKind::Range);
            let (list, end) = self.items()?;
            self.ranges -= u32::from(kind == BranchKind::Range);
            branch.arms.push(Arm { pipe, list });
            if let End::End = end {
                break;
            }
            if chained.is_some_and(|word| self.peek().kind == word) {
                self.next();
                continue;
            }
            let (list, end) = self.items()?;
            if let End::Else = end {
                let shown = self.shown_end(&end);
                return Err(self.error(format!("expected end; found {shown}")));
            }
            branch.otherwise = Some(list);
            break;
        }
        self.variables.truncate(variables);
        self.whole.nesting -= 1;
        Ok(Node::Branch(Box::new(branch)))
    }

    fn template_name(&mut self, context: &str) -> Parsed<(u32, Arc<str>)> {
        let token = self.next_not_space();
        match token.kind {
            Kind::String | Kind::RawString => Ok((token.at as u32, self.unquoted_name(&token)?)),
            _ => Err(self.unexpected(&token, context)),
        }
    }

    fn block(&mut self) -> Parsed<Node> {
        let (at, name) = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", Kind::RightDelim)?;
        self.nest("blocks are nested too deeply")?;
        let mut inner = Parser::new(self.whole, Arc::clone(&name));
        let (root, end) = inner.items()?;
        if let End::Else = end {
            let shown = self.shown_end(&end);
            return Err(self.error(format!("unexpected {shown} in block clause")));
        }
        inner.add(root)?;
        self.whole.nesting -= 1;
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    fn template(&mut self) -> Parsed<Node> {
        let (at, name) = self.template_name("template clause")?;
        let mut pipe = None;
        if self.next_not_space().kind != Kind::RightDelim {
            self.backup();
            pipe = Some(self.pipeline("template clause", Kind::RightDelim)?);
        }
        Ok(Node::Template { at, name, pipe })
    }
}
