//! The path that goes on to the endpoint: rewritten, without a prefix, with another one.
//!
//! What is not edited goes on as it was sent, byte for byte. A path that is written anew is made
//! from the normalised one and escaped again.

use std::borrow::Cow;

use regex::Regex;

use crate::proxy::config::{RewriteConfig, RouteConfig};
use crate::proxy::route::{canonical, normalise, pattern, sendable};

/// Longest path that a rewriting may make.
const PATH_MAX: usize = 32 << 10;
/// Longest replacement that can be written.
const WITH_MAX: usize = 1024;

/// How a route changes the paths of its requests.
#[derive(Debug, Default)]
pub struct PathEdits {
    rewrite: Option<Rewrite>,
    /// In normal form, without a slash at its end.
    strip: Option<Box<str>>,
    /// As it is sent, without a slash at its end.
    add: Option<Box<str>>,
}

#[derive(Debug)]
struct Rewrite {
    pattern: Regex,
    /// `$` only before a group that is there.
    with: Box<str>,
}

impl PathEdits {
    /// Compiles what a route says about its path; what can't be goes to `tell` with its key.
    pub fn compile(config: &RouteConfig, tell: &mut dyn FnMut(&'static str, String)) -> Self {
        let mut prefix = |key, path: &Option<String>| {
            let path = canonical(path.as_deref()?).map_err(|why| tell(key, why)).ok()?;
            let path = path.trim_end_matches('/');
            (!path.is_empty()).then(|| Box::from(path))
        };
        let strip: Option<Box<str>> = prefix("strip_prefix", &config.strip_prefix);
        let add: Option<Box<str>> = prefix("add_prefix", &config.add_prefix);
        let rewrite = config.rewrite.as_ref();
        let rewrite = rewrite
            .and_then(|config| Rewrite::compile(config).map_err(|why| tell("rewrite", why)).ok());
        Self { rewrite, strip, add: add.map(|path| sendable(&path).into()) }
    }

    /// Whether paths go on as they are.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rewrite.is_none() && self.strip.is_none() && self.add.is_none()
    }

    /// The path to ask for, of `sent`: a path as the client sent it, without the query. `None` when
    /// the rewriting gave a path that climbs, or that is too long.
    #[must_use]
    pub fn apply<'a>(&self, sent: &'a str) -> Option<Cow<'a, str>> {
        if self.is_empty() || !sent.starts_with('/') {
            return Some(Cow::Borrowed(sent));
        }
        let normal = normalise(sent)?;
        let rewritten = match &self.rewrite {
            Some(rewrite) => rewrite.apply(&normal)?,
            None => None,
        };
        let mut path: Cow<'a, str> = match &rewritten {
            Some(new) => Cow::Owned(sendable(self.stripped(new).unwrap_or(new))),
            None => match self.stripped(&normal) {
                Some(rest) => match self.strip_sent(sent, &normal) {
                    Some(rest) => Cow::Borrowed(rest),
                    None => Cow::Owned(sendable(rest)),
                },
                None => Cow::Borrowed(sent),
            },
        };
        if path.is_empty() {
            path = Cow::Borrowed("/");
        }
        if let Some(add) = &self.add {
            path = Cow::Owned(format!("{add}{path}"));
        }
        Some(path)
    }

    /// A normal path without the prefix, if it has it: whole segments only.
    fn stripped<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&**self.strip.as_ref()?)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// As [`PathEdits::stripped`], of the path as it was sent; `None` when its segments are not
    /// those of the normal one.
    fn strip_sent<'a>(&self, sent: &'a str, normal: &str) -> Option<&'a str> {
        let slashes = |path: &str| path.bytes().filter(|byte| *byte == b'/').count();
        if slashes(sent) != slashes(normal) {
            return None;
        }
        let segments = slashes(self.strip.as_ref()?);
        let rest = sent.match_indices('/').nth(segments).map_or(sent.len(), |(at, _)| at);
        Some(&sent[rest..])
    }
}

impl Rewrite {
    fn compile(config: &RewriteConfig) -> Result<Self, String> {
        let pattern =
            pattern::anywhere(&config.pattern).map_err(|why| format!("pattern = {why}"))?;
        let with = &config.with;
        let refuse = |what: String| Err(format!("with = {with:?}: {what}"));
        if with.len() > WITH_MAX {
            return refuse(format!("has more than {WITH_MAX} bytes"));
        }
        if let Some(sign) = with.chars().find(|c| matches!(c, '?' | '#' | '\\') || c.is_control()) {
            return refuse(format!("{sign:?} cannot stand in a path; the query stays as it is"));
        }
        for group in groups(with) {
            let there = match group.parse::<usize>() {
                Ok(number) => number < pattern.captures_len(),
                Err(_) => pattern.capture_names().flatten().any(|name| name == group),
            };
            if !there {
                return refuse(format!(
                    "there is no group {group:?} in the pattern; a name ends with the first \
                     character that is no letter, digit or '_', or is written $${{name}}"
                ));
            }
        }
        let escapes = with.match_indices('%').all(|(at, _)| {
            with.as_bytes()
                .get(at + 1..at + 3)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        });
        if !escapes {
            return refuse("a '%' needs two hexadecimal digits behind it; write it as %25".into());
        }
        Ok(Self { pattern, with: with.as_str().into() })
    }

    /// `path`, a normal one, with what is found first replaced; `Some(None)` when nothing is.
    #[expect(clippy::option_option, reason = "refused, and not concerned, are two things")]
    fn apply(&self, path: &str) -> Option<Option<String>> {
        let Some(found) = self.pattern.captures(path) else { return Some(None) };
        let whole = found.get(0)?;
        let mut out = String::with_capacity(path.len() + self.with.len() + 1);
        out.push_str(&path[..whole.start()]);
        found.expand(&self.with, &mut out);
        out.push_str(&path[whole.end()..]);
        if !out.starts_with('/') {
            out.insert(0, '/');
        }
        // Pieces that were harmless apart must not climb together.
        let segments = out.split('/').skip(1);
        let climbs = segments.clone().any(|segment| matches!(segment, "." | ".."));
        if climbs || out.len() > PATH_MAX {
            return None;
        }
        let doubled = out.contains("//");
        Some(Some(if doubled { normalise(&sendable(&out))?.into_owned() } else { out }))
    }
}

/// The groups that a replacement names: of `$1/${name}` both.
fn groups(with: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = with;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(escaped) = rest.strip_prefix('$') {
            rest = escaped;
            continue;
        }
        let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let (group, behind) = braced.unwrap_or_else(|| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            rest.split_at(end.unwrap_or(rest.len()))
        });
        found.push(group);
        rest = behind;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<PathEdits, String> {
        let config: RouteConfig = toml::from_str(text).unwrap();
        let mut told = Vec::new();
        let edits =
            PathEdits::compile(&config, &mut |key, what| told.push(format!("{key}: {what}")));
        if told.is_empty() { Ok(edits) } else { Err(told.join("\n")) }
    }

    #[test]
    fn paths_are_edited_as_far_as_must_be_and_go_on_as_they_were_sent_otherwise() {
        let strip = "strip_prefix = \"/api/\"";
        let add = "add_prefix = \"/v 2/\"";
        let both = "strip_prefix = \"/api\"\nadd_prefix = \"/v2\"";
        let v1 = "rewrite = { pattern = \"^/v1/(?<rest>.*)\", with = \"/${rest}/old\" }";
        let all = "rewrite = { pattern = \"^/x/(.*)\", with = \"/api/$1\" }\n\
                   strip_prefix = \"/api\"\nadd_prefix = \"/v2\"";
        for (case, edits, sent, want) in [
            ("no edit", "", "/a%20b//./c", Some("/a%20b//./c")),
            ("strip", strip, "/api/x", Some("/x")),
            ("strip to nothing", strip, "/api", Some("/")),
            ("strip to a slash", strip, "/api/", Some("/")),
            ("strip whole segments", strip, "/apis", Some("/apis")),
            ("strip what is escaped, leave the rest", strip, "/%61pi/%61%2b", Some("/%61%2b")),
            ("strip behind dots", strip, "/b/../api/a%20b", Some("/a%20b")),
            ("strip behind slashes", strip, "//api//x", Some("/x")),
            ("dots do not come to the front", strip, "/api/a/../b", Some("/b")),
            ("add", add, "/x%2B/", Some("/v%202/x%2B/")),
            ("add to the root", add, "/", Some("/v%202/")),
            ("strip and add", both, "/api/x", Some("/v2/x")),
            ("strip all and add", both, "/api", Some("/v2/")),
            ("rewrite", v1, "/v1/a%20b", Some("/a%20b/old")),
            ("rewrite what is not there", v1, "/v2/%7E", Some("/v2/%7E")),
            ("rewrite escapes once", v1, "/v1/%25%3F%C3%A9", Some("/%25%3F%C3%A9/old")),
            ("rewrite, strip, add", all, "/x/y", Some("/v2/y")),
            ("not rewritten, strip, add", all, "/api/y", Some("/v2/y")),
            ("all of a host", both, "*", Some("*")),
            (
                "a piece in the middle",
                "rewrite = { pattern = \"old\", with = \"new\" }",
                "/an/old/old",
                Some("/an/new/old"),
            ),
            (
                "no slash at the front",
                "rewrite = { pattern = \"^/\", with = \"\" }",
                "/a",
                Some("/a"),
            ),
            ("a dollar", "rewrite = { pattern = \"^/a\", with = \"/$$1\" }", "/a", Some("/$1")),
            (
                "pieces that climb together",
                "rewrite = { pattern = \"^/a(.*)\", with = \"/b/$1\" }",
                "/a../c",
                None,
            ),
            (
                "two slashes are one",
                "rewrite = { pattern = \"^/a(.*)\", with = \"/$1\" }",
                "/a/evil.example",
                Some("/evil.example"),
            ),
        ] {
            let edits = compile(edits).unwrap();
            assert_eq!(edits.apply(sent).as_deref(), want, "{case}: {sent}");
        }
        let growing =
            format!("rewrite = {{ pattern = \"(.*)\", with = \"{}\" }}", "$1".repeat(500));
        let long = format!("/{}", "a".repeat(1000));
        assert_eq!(compile(&growing).unwrap().apply(&long), None);
    }

    #[test]
    fn edits_that_cannot_be_are_told_with_key_value_and_remedy() {
        for (text, want) in [
            ("strip_prefix = \"api\"", "strip_prefix: \"api\" must start with '/'"),
            ("add_prefix = \"/a?b\"", "add_prefix: \"/a?b\" has a '?'"),
            ("rewrite = { pattern = \"(\", with = \"/\" }", "unclosed group, at character 1"),
            ("rewrite = { pattern = \"(a)\", with = \"/$2\" }", "no group \"2\""),
            ("rewrite = { pattern = \"(a)\", with = \"/$1b\" }", "no group \"1b\""),
            ("rewrite = { pattern = \"a\", with = \"/?x\" }", "'?' cannot stand in a path"),
            ("rewrite = { pattern = \"a\", with = \"/100%\" }", "write it as %25"),
        ] {
            let told = compile(text).unwrap_err();
            assert!(told.contains(want), "{text}: {told}");
        }
    }
}
