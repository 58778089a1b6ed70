//! The blocks and words of a keepalived.conf.

use super::lines::{Line, Place};

/// Deepest nesting of blocks.
const DEPTH_MAX: usize = 32;

/// A keyword with its words, and the block behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) place: Place,
    /// The keyword and what follows it on its line; never empty.
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Self>>,
}

impl Statement {
    pub(super) fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word behind the keyword; empty when there is none.
    pub(super) fn value(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// What stands behind the keyword.
    pub(super) fn rest(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// What stands in its braces.
    pub(super) fn body(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// The statements in `lines`.
///
/// # Errors
/// Every brace and quote without its counterpart, with its place.
pub(super) fn parse(lines: &[Line]) -> Result<Vec<Statement>, Vec<String>> {
    let mut parser = Parser { done: Vec::new(), open: Vec::new(), problems: Vec::new() };
    for line in lines {
        parser.line(line);
    }
    while let Some((statement, outer)) = parser.open.pop() {
        parser.problems.push(format!("{}: this block is never closed", statement.place));
        parser.done = outer;
    }
    if parser.problems.is_empty() { Ok(parser.done) } else { Err(parser.problems) }
}

struct Parser {
    /// Statements of the innermost open block.
    done: Vec<Statement>,
    /// What each open block stands behind, and the statements before it.
    open: Vec<(Statement, Vec<Statement>)>,
    problems: Vec<String>,
}

enum Token {
    Word(String),
    Open,
    Close,
}

impl Parser {
    fn line(&mut self, line: &Line) {
        let tokens = match tokens(&line.text) {
            Ok(tokens) => tokens,
            Err(why) => return self.problems.push(format!("{}: {why}", line.place)),
        };
        let mut words = Vec::new();
        for token in tokens {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => self.opens(&line.place, std::mem::take(&mut words)),
                Token::Close => {
                    self.ends(&line.place, std::mem::take(&mut words));
                    self.closes(&line.place);
                }
            }
        }
        self.ends(&line.place, words);
    }

    fn ends(&mut self, place: &Place, words: Vec<String>) {
        if !words.is_empty() {
            self.done.push(Statement { place: place.clone(), words, block: None });
        }
    }

    fn opens(&mut self, place: &Place, words: Vec<String>) {
        self.ends(place, words);
        let Some(statement) = self.done.pop_if(|statement| statement.block.is_none()) else {
            // A block all the same, so that its end is not told as well.
            self.problems.push(format!("{place}: `{{` without a keyword before it"));
            let words = vec![String::new()];
            let statement = Statement { place: place.clone(), words, block: None };
            self.open.push((statement, std::mem::take(&mut self.done)));
            return;
        };
        if self.open.len() == DEPTH_MAX {
            self.problems.push(format!("{place}: more than {DEPTH_MAX} blocks in each other"));
        }
        self.open.push((statement, std::mem::take(&mut self.done)));
    }

    fn closes(&mut self, place: &Place) {
        match self.open.pop() {
            Some((mut statement, outer)) => {
                // Beyond the limit blocks are flat, so that nothing recurses too deep.
                let inner = std::mem::replace(&mut self.done, outer);
                statement.block =
                    Some(if self.open.len() >= DEPTH_MAX { Vec::new() } else { inner });
                self.done.push(statement);
            }
            None => self.problems.push(format!("{place}: `}}` closes nothing")),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, quoted, after) = word(rest)?;
        rest = after.trim_start();
        match &*word {
            "{" if !quoted => found.push(Token::Open),
            "}" if !quoted => found.push(Token::Close),
            _ => match word.strip_suffix('{') {
                Some(word) if !quoted => {
                    found.push(Token::Word(word.to_owned()));
                    found.push(Token::Open);
                }
                _ => found.push(Token::Word(word)),
            },
        }
    }
    Ok(found)
}

/// The word that `text` begins with, whether a part of it was quoted, and what follows.
fn word(text: &str) -> Result<(String, bool, &str), &'static str> {
    let (mut word, mut any, mut inside, mut escaped) = (String::new(), false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                escaped = false;
                match c {
                    'n' if inside => word.push('\n'),
                    't' if inside => word.push('\t'),
                    '"' | '\\' | '#' | '!' | ' ' => word.push(c),
                    // Of regular expressions, which have escapes of their own.
                    _ => word.extend(['\\', c]),
                }
            }
            '\\' => escaped = true,
            '"' => {
                inside = !inside;
                any = true;
            }
            c if c.is_whitespace() && !inside => return Ok((word, any, &text[at..])),
            _ => word.push(c),
        }
    }
    if inside {
        return Err("a quoted text has no end");
    }
    if escaped {
        word.push('\\');
    }
    Ok((word, any, ""))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::super::lines::of_text;
    use super::*;

    fn shown(statements: &[Statement]) -> String {
        let mut text = String::new();
        for statement in statements {
            write!(text, "{}", statement.words.join("_")).unwrap();
            if let Some(block) = &statement.block {
                write!(text, "({})", shown(block)).unwrap();
            }
            text.push(';');
        }
        text
    }

    fn read(text: &str) -> Result<String, Vec<String>> {
        let lines = of_text("k", text, Path::new("/"), "").unwrap();
        parse(&lines).map(|statements| shown(&statements))
    }

    #[test]
    fn blocks_may_open_on_their_line_or_the_next_and_share_a_line() {
        for (text, want) in [
            ("a 1 {\n b\n}\nc", "a_1(b;);c;"),
            ("a\n{\n b {\n }\n}", "a(b(););"),
            ("a { b c }", "a(b_c;);"),
            ("url { path / } x", "url(path_/;);x;"),
            ("url{\n path \"/a b\"\n}", "url(path_/a b;);"),
            ("regex ^a{3}$", "regex_^a{3}$;"),
            ("m \"a \\\"b\\\" \\\\d { }\"", "m_a \"b\" \\d { };"),
            ("r \"\\d+\"", "r_\\d+;"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_brace_or_quote_without_its_counterpart_is_told_with_its_place() {
        for (text, want) in [
            ("a {\nb {\n}", vec!["k:1: this block is never closed"]),
            ("a\n}\n", vec!["k:2: `}` closes nothing"]),
            ("{\n}", vec!["k:1: `{` without a keyword before it"]),
            ("a {\n}\n{\n}", vec!["k:3: `{` without a keyword before it"]),
            ("a \"b", vec!["k:1: a quoted text has no end"]),
        ] {
            assert_eq!(read(text).unwrap_err(), want, "{text}");
        }
        let deep = "a {\n".repeat(10_000) + &"}\n".repeat(10_000);
        let problems = read(&deep).unwrap_err();
        assert_eq!(problems[0], "k:33: more than 32 blocks in each other");
    }
}
