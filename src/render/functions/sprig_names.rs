//! Words of names, as Sprig and confd cut them.

use super::case;

/// What a part of a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Hyphens, underscores, space.
    Connector,
    Punctuation,
    /// Begins with a capital: all of them, or one with small letters behind it.
    Capital,
    Small,
    Number,
    /// Signs and letters without case of China, Japan and Korea.
    Other,
}

fn is_connector(c: char) -> bool {
    matches!(c, '-' | '_') || c.is_whitespace()
}

fn is_punctuation(c: char) -> bool {
    match c {
        '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~' => false,
        c if c.is_ascii() => c.is_ascii_punctuation(),
        '¡' | '§' | '«' | '¶' | '·' | '»' | '¿' => true,
        c => {
            matches!(c, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3001}'..='\u{3003}')
        }
    }
}

fn is_letter(c: char) -> bool {
    let ideograph = matches!(
        c,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fcc}' | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{2fa1f}'
    );
    c.is_alphabetic() && !ideograph
}

fn kind(c: char) -> Kind {
    match c {
        c if is_connector(c) => Kind::Connector,
        c if is_punctuation(c) => Kind::Punctuation,
        c if c.is_uppercase() => Kind::Capital,
        c if is_letter(c) => Kind::Small,
        c if c.is_numeric() => Kind::Number,
        _ => Kind::Other,
    }
}

/// The parts of `name` with their kinds.
fn parts(name: &str) -> Vec<(Kind, String)> {
    let letters: Vec<char> = name.chars().collect();
    let mut parts = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let of = kind(letters[at]);
        let run = |from: usize, fits: fn(char) -> bool| {
            from + letters[from..].iter().take_while(|c| fits(**c)).count()
        };
        let small: fn(char) -> bool = |c| is_letter(c) && !c.is_uppercase();
        let end = match of {
            Kind::Connector => run(at, is_connector),
            Kind::Punctuation => run(at, is_punctuation),
            Kind::Number => run(at, char::is_numeric),
            Kind::Small => run(at, small),
            Kind::Other => run(at, |c| kind(c) == Kind::Other),
            Kind::Capital => match run(at, char::is_uppercase) {
                one if one == at + 1 => run(one, small),
                // The last capital belongs to the small letters behind it.
                many if letters.get(many).is_some_and(|c| is_letter(*c)) => many - 1,
                many => many,
            },
        };
        parts.push((of, letters[at..end].iter().collect()));
        at = end;
    }
    parts
}

/// `name` in small letters with `connector` between its words, as Sprig has it: what connects
/// stays as long as it is, punctuation stays, a number belongs to what stands before it unless
/// small letters follow.
pub(super) fn connected(name: &str, connector: char) -> String {
    let parts = parts(name);
    let mut out = String::new();
    let put = |out: &mut String, at: usize| match &parts[at] {
        (Kind::Connector, text) => out.extend(text.chars().map(|_| connector)),
        (_, text) => out.push_str(&case::lower(text)),
    };
    let is = |at: usize, kinds: &[Kind]| parts.get(at).is_some_and(|(of, _)| kinds.contains(of));
    let connect = |out: &mut String, at: usize| {
        if at < parts.len() && !is(at, &[Kind::Connector, Kind::Punctuation]) {
            out.push(connector);
        }
    };
    let absorb = |out: &mut String, mut at: usize| {
        while is(at, &[Kind::Small, Kind::Number]) {
            put(out, at);
            at += 1;
        }
        connect(out, at);
        at
    };
    let mut at = 0;
    while at + 1 < parts.len() {
        put(&mut out, at);
        let of = parts[at].0;
        at += 1;
        match of {
            Kind::Number => at = absorb(&mut out, at),
            Kind::Connector | Kind::Punctuation => {}
            _ if !is(at, &[Kind::Number]) => connect(&mut out, at),
            _ if at + 1 == parts.len() => {}
            _ if is(at + 1, &[Kind::Small]) => {
                out.push(connector);
                put(&mut out, at);
                at = absorb(&mut out, at + 1);
            }
            _ => {
                put(&mut out, at);
                at += 1;
                connect(&mut out, at);
            }
        }
    }
    if at < parts.len() {
        put(&mut out, at);
    }
    out
}

/// `name` with a capital at each of its words and small letters else; what connects them is left
/// out, at the beginning and where there is more of it all but one.
pub(super) fn capitals(name: &str) -> String {
    let mut out = String::new();
    let mut letters = name.chars();
    let mut before = None;
    for c in letters.by_ref() {
        before = Some(c);
        if !is_connector(c) {
            before = Some(case::upper_char(c));
            break;
        }
        out.push(c);
    }
    for c in letters {
        let Some(last) = before else { break };
        before = Some(match (is_connector(last), is_connector(c)) {
            (true, true) => {
                out.push(last);
                c
            }
            (true, false) => case::upper_char(c),
            (false, _) => {
                out.push(last);
                case::lower_char(c)
            }
        });
    }
    out.extend(before);
    out
}

/// The words of `name` for confd: cut at hyphens, underscores and spaces, and before a capital that
/// has a small letter behind it or none but a capital before it.
pub(super) fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (at, c) in letters.iter().enumerate() {
        if matches!(c, '_' | '-' | ' ') {
            words.push(String::new());
            continue;
        }
        let begins = c.is_uppercase()
            && (letters.get(at + 1).is_some_and(|next| next.is_lowercase())
                || at > 0 && !letters[at - 1].is_uppercase());
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(*c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
