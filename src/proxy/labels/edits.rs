//! Lines of HAProxy that edit headers, as edits of ours.

use std::collections::BTreeMap;

use crate::proxy::config::HeaderEdits;

/// Edits of a header: of all requests, and of those that came in the clear or over TLS.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Schemed {
    all: HeaderEdits,
    clear: HeaderEdits,
    tls: HeaderEdits,
}

/// When a line counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Always,
    Tls(bool),
}

impl Schemed {
    /// The edits for a listener of this kind.
    pub(super) fn of(&self, tls: bool) -> HeaderEdits {
        let own = if tls { &self.tls } else { &self.clear };
        let mut all = self.all.clone();
        all.remove.extend(own.remove.iter().cloned());
        own.set.iter().for_each(|(name, value)| put(&mut all.set, name, value));
        own.add.iter().for_each(|(name, value)| put(&mut all.add, name, value));
        all
    }

    /// Reads `set-header|add-header|del-header NAME [VALUE] [if …]`, all behind `http-request` or
    /// `http-response`; a response has no variables.
    ///
    /// # Errors
    /// What about it can't be.
    pub(super) fn read(&mut self, words: &[&str], response: bool) -> Result<(), String> {
        let (action, rest) = words.split_first().ok_or_else(|| "names no action".to_owned())?;
        let (name, rest) = rest.split_first().ok_or_else(|| "names no header".to_owned())?;
        if name.parse::<http::HeaderName>().is_err() {
            return Err(format!("{name:?} is no name of a header"));
        }
        if *action == "del-header" {
            self.at(condition(rest)?).remove.push((*name).to_owned());
            return Ok(());
        }
        let (value, rest) = rest.split_first().ok_or_else(|| "has no value".to_owned())?;
        let value = format(value, response)?;
        let edits = self.at(condition(rest)?);
        put(if *action == "add-header" { &mut edits.add } else { &mut edits.set }, name, &value);
        Ok(())
    }

    /// Reads the one word of `reqadd` and `rspadd`: `Name: value`, and what follows.
    ///
    /// # Errors
    /// What about it can't be.
    pub(super) fn old(&mut self, words: &[&str]) -> Result<(), String> {
        let (line, rest) = words.split_first().ok_or_else(|| "has no line".to_owned())?;
        let (name, value) = line.split_once(':').ok_or_else(|| "has no colon".to_owned())?;
        let words: Vec<&str> = ["add-header", name.trim_end(), value.trim_start()]
            .into_iter()
            .chain(rest.iter().copied())
            .collect();
        // There are no variables in these lines: a `%` is one.
        if value.contains('%') {
            return Err("has a '%', which http-request and http-response lines can say".into());
        }
        self.read(&words, true)
    }

    /// A line beside those of its name.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        put(&mut self.all.add, name, value);
    }

    /// Whether a line of this name is added or set.
    pub(super) fn names(&self, name: &str) -> bool {
        [&self.all, &self.clear, &self.tls].into_iter().any(|edits| {
            edits.set.keys().chain(edits.add.keys()).any(|known| known.eq_ignore_ascii_case(name))
        })
    }

    const fn at(&mut self, when: When) -> &mut HeaderEdits {
        match when {
            When::Always => &mut self.all,
            When::Tls(true) => &mut self.tls,
            When::Tls(false) => &mut self.clear,
        }
    }
}

/// The later line counts, in whatever case its name is written.
fn put(lines: &mut BTreeMap<String, String>, name: &str, value: &str) {
    lines.retain(|known, _| !known.eq_ignore_ascii_case(name));
    lines.insert(name.to_owned(), value.to_owned());
}

fn condition(words: &[&str]) -> Result<When, String> {
    match words {
        [] => Ok(When::Always),
        ["if", "{", "ssl_fc", "}"] => Ok(When::Tls(true)),
        ["unless", "{", "ssl_fc", "}"]
        | ["if", "!{", "ssl_fc", "}"]
        | ["if", "!", "{", "ssl_fc", "}"] => Ok(When::Tls(false)),
        _ => Err("has a condition other than { ssl_fc }".into()),
    }
}

/// A value as HAProxy's log format has it, as a value of ours.
fn format(text: &str, response: bool) -> Result<String, String> {
    let inner = text.strip_prefix("%[").and_then(|rest| rest.strip_suffix(']'));
    let variable = match (inner.unwrap_or(text), inner.is_some()) {
        ("src", true) | ("%ci", false) => Some("$remote_addr"),
        ("dst_port", true) | ("%fp", false) => Some("$server_port"),
        ("hdr(host)" | "hdr(Host)" | "req.hdr(host)" | "req.hdr(Host)", true) => Some("$host"),
        _ => None,
    };
    match variable {
        Some(_) if response => Err(format!("{text:?} is about a request, and this is an answer")),
        Some(variable) => Ok(variable.to_owned()),
        None => {
            let plain = text.replace("%%", "\0");
            if plain.contains('%') {
                return Err(format!(
                    "{text:?} is made of what there is no word for here; there are %[src], \
                     %[dst_port] and %[hdr(host)], each as the whole value"
                ));
            }
            if plain.starts_with('$') {
                return Err(format!("{text:?} begins with '$', which stands for a fact here"));
            }
            let plain = plain.replace('\0', "%");
            if http::HeaderValue::from_str(&plain).is_err() {
                return Err(format!("{text:?} has a character that no header can have"));
            }
            Ok(plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::labels::lines::words;

    fn read(line: &str, response: bool) -> Result<Schemed, String> {
        let mut edits = Schemed::default();
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        edits.read(&words, response).map(|()| edits)
    }

    #[test]
    fn lines_about_headers_are_edits_or_have_a_reason() {
        let set = |edits: &Schemed, tls| format!("{:?}", edits.of(tls).set);
        for (line, clear, tls) in [
            ("set-header X-A 1", "{\"X-A\": \"1\"}", "{\"X-A\": \"1\"}"),
            ("set-header X-A \"a b\" if { ssl_fc }", "{}", "{\"X-A\": \"a b\"}"),
            ("set-header X-A 1 if !{ ssl_fc }", "{\"X-A\": \"1\"}", "{}"),
            ("set-header X-A 1 unless {{ ssl_fc }}", "{\"X-A\": \"1\"}", "{}"),
            (
                "set-header X-P %[dst_port]",
                "{\"X-P\": \"$server_port\"}",
                "{\"X-P\": \"$server_port\"}",
            ),
            ("set-header X-P 100%%", "{\"X-P\": \"100%\"}", "{\"X-P\": \"100%\"}"),
        ] {
            let edits = read(line, false).unwrap();
            assert_eq!((&*set(&edits, false), &*set(&edits, true)), (clear, tls), "{line}");
        }
        for (line, response, want) in [
            ("set-header", false, "names no header"),
            ("set-header X-A", false, "has no value"),
            ("set-header X(A 1", false, "no name of a header"),
            ("set-header X-A %[ssl_c_s_dn]", false, "no word for here"),
            ("set-header X-A a%[src]", false, "no word for here"),
            ("set-header X-A $host", false, "begins with '$'"),
            ("set-header X-A %[src]", true, "about a request"),
            ("set-header X-A 1 if is_admin", false, "other than { ssl_fc }"),
            ("set-header X-A \u{7}", false, "that no header can have"),
            ("", false, "names no action"),
        ] {
            let told = read(line, response).unwrap_err();
            assert!(told.contains(want), "{line}: {told}");
        }
    }

    #[test]
    fn the_later_line_of_a_name_counts() {
        let mut edits = read("set-header X-A 1", false).unwrap();
        edits.read(&["set-header", "x-a", "2", "if", "{", "ssl_fc", "}"], false).unwrap();
        assert_eq!(edits.of(false).set, BTreeMap::from([("X-A".into(), "1".into())]));
        assert_eq!(edits.of(true).set, BTreeMap::from([("x-a".into(), "2".into())]));
        let mut old = Schemed::default();
        old.old(&["Strict-Transport-Security: max-age=1; preload"]).unwrap();
        assert_eq!(old.of(true).add["Strict-Transport-Security"], "max-age=1; preload");
        assert!(old.names("strict-transport-security") && !old.names("x"));
        assert!(old.old(&["no colon"]).is_err() && old.old(&["a: %b"]).is_err());
    }
}
