//! HAProxy's configuration text as lines of words.

/// Most words that a line of a label is read to.
const WORDS_MAX: usize = 64;

/// The lines of `text` that have words. A line ends with a line break, or with the two characters `\n`
/// that stand for one in a value that can hold none (`\t` stands for a tab so). Quotes, backslashes and comments are those of
/// HAProxy; `{{` and `}}` are the braces that marathon-lb makes of them.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Vec<String>> {
    let parts = text.split(['\n', '\r']).flat_map(|line| line.split("\\n"));
    parts.map(|line| words(&line.replace("\\t", " "))).filter(|words| !words.is_empty())
}

/// The words of one line.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, '#') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().extend(characters.next());
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
        if words.len() >= WORDS_MAX {
            return words;
        }
    }
    words.extend(word);
    words.iter().map(|word| word.replace("{{", "{").replace("}}", "}")).collect()
}

/// The beginning of a line, to be told of: a few words, cut where it gets long.
pub(super) fn beginning<S: AsRef<str>>(words: &[S]) -> String {
    const LENGTH: usize = 60;
    let words: Vec<&str> = words.iter().take(5).map(AsRef::as_ref).collect();
    let text = words.join(" ");
    match text.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_as_haproxy_cuts_them() {
        for (case, text, want) in [
            ("nothing", "", &[][..]),
            ("spaces", "  \n \t ", &[]),
            ("words", "  timeout  server\t30s\n", &[&["timeout", "server", "30s"][..]]),
            ("two characters for a break", "a b\\n  c", &[&["a", "b"], &["c"]]),
            ("two characters for a tab", "\\ta\\t b", &[&["a", "b"]]),
            ("a carriage return", "a\r\nb", &[&["a"], &["b"]]),
            ("escaped space", "rspadd X:\\ y", &[&["rspadd", "X: y"]]),
            ("quotes", "a \"b c\" 'd \\e'", &[&["a", "b c", "d \\e"]]),
            ("an escape within quotes", "\"a\\\"b\"", &[&["a\"b"]]),
            ("an empty word", "a \"\"", &[&["a", ""]]),
            ("a comment", "a b # c\n# d", &[&["a", "b"]]),
            ("a hash that is escaped", "a \\#b", &[&["a", "#b"]]),
            ("an open quote", "a 'b c", &[&["a", "b c"]]),
            ("braces", "if {{ ssl_fc }}", &[&["if", "{", "ssl_fc", "}"]]),
        ] {
            let found: Vec<Vec<String>> = lines(text).collect();
            assert_eq!(found, want, "{case}");
        }
        assert_eq!(words(&"a ".repeat(1000)).len(), WORDS_MAX);
    }

    #[test]
    fn a_beginning_is_short() {
        assert_eq!(beginning(&["a", "b"]), "a b");
        assert_eq!(beginning(&["1", "2", "3", "4", "5", "6"]), "1 2 3 4 5");
        assert_eq!(beginning(&["ä".repeat(200)]).chars().count(), 61);
    }
}
