//! The path as routes see it: two spellings that a server reads alike are one path here.

use std::borrow::Cow;

/// The path that routes are matched with, of the target or the path of a request: the query cut
/// off; escapes of printable ASCII undone but those of `%`, `?` and `#`, others in capitals; `.` and
/// `..` resolved (RFC 3986 §5.2.4); slashes in a row taken for one, as nginx does. `None` when the
/// path climbs above its root, hides a slash, a backslash or a NUL, has a backslash, or is badly
/// escaped: then servers would disagree about what is asked for. Borrows when nothing is to be done.
#[must_use]
pub fn normalise(target: &str) -> Option<Cow<'_, str>> {
    let path = &target[..target.find(['?', '#']).unwrap_or(target.len())];
    match look(path.as_bytes()) {
        Look::Plain => Some(Cow::Borrowed(path)),
        Look::Ambiguous => None,
        Look::Odd => resolve(&decode(path)?).map(Cow::Owned),
    }
}

/// A path of the configuration in the form of [`normalise`].
///
/// # Errors
/// Why it is no path that a request could have, and what to write.
pub(crate) fn canonical(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("{path:?} must start with '/'"));
    }
    if let Some(sign) = path.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(format!(
            "{path:?} has a {sign:?}, which ends a path; parameters of the query go into `query`"
        ));
    }
    if path.chars().any(char::is_control) {
        return Err(format!("{path:?} has a control character; leave it out"));
    }
    let escaped = escape(path, |byte| byte.is_ascii());
    normalise(&escaped).map(Cow::into_owned).ok_or_else(|| {
        format!(
            "{path:?} climbs above its root, has a backslash or hides a slash, or a '%' without \
             two hexadecimal digits behind it; write a '%' itself as %25"
        )
    })
}

/// A path in the form of [`normalise`] as it can be sent (RFC 3986 §3.3): what may not stand in a
/// path is escaped, what is escaped stays so.
#[must_use]
pub fn sendable(path: &str) -> String {
    escape(path, |byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte))
}

/// `text` with the bytes escaped that may not `stay`.
pub(crate) fn escape(text: &str, stay: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stay(byte) && byte.is_ascii() {
            out.push(char::from(byte));
        } else {
            push_escaped(byte, &mut out);
        }
    }
    out
}

fn push_escaped(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

enum Look {
    /// It is its own normal form.
    Plain,
    /// There is something to undo or to resolve.
    Odd,
    Ambiguous,
}

fn look(path: &[u8]) -> Look {
    let mut odd = false;
    for (at, byte) in path.iter().enumerate() {
        match byte {
            b'\\' => return Look::Ambiguous,
            b'%' => odd = true,
            b'/' => {
                let rest = &path[at + 1..];
                let dots = rest.iter().take_while(|byte| **byte == b'.').count();
                odd |= match rest.get(dots) {
                    Some(b'/') => dots <= 2,
                    None => dots == 1 || dots == 2,
                    _ => false,
                };
            }
            _ => {}
        }
    }
    if odd { Look::Odd } else { Look::Plain }
}

fn decode(path: &str) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3)?;
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match u8::from_str_radix(hex, 16).ok()? {
            b'/' | b'\\' | 0 => return None,
            byte @ (b'%' | b'?' | b'#') => push_escaped(byte, &mut decoded),
            byte @ b' '..=b'~' => decoded.push(char::from(byte)),
            byte => push_escaped(byte, &mut decoded),
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

/// Without empty segments, `.` and `..`; `None` when it climbs above the root.
fn resolve(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(path.to_owned());
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut open_ended = false;
    for segment in path.split('/').skip(1) {
        open_ended = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            segment => segments.push(segment),
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if open_ended || resolved.is_empty() {
        resolved.push('/');
    }
    Some(resolved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_normalised_or_refused_when_servers_would_disagree() {
        for (case, path, want) in [
            ("plain", "/a/b", Some("/a/b")),
            ("all of a host", "*", Some("*")),
            ("query", "/a?x=/../", Some("/a")),
            ("dots", "/a/./b/../c", Some("/a/c")),
            ("dots at the end", "/a/b/..", Some("/a/")),
            ("escaped dots", "/a/%2e%2E/admin", Some("/admin")),
            ("hidden file", "/.well-known/x", Some("/.well-known/x")),
            ("three dots are a name", "/.../x", Some("/.../x")),
            ("slashes in a row", "//a///b//", Some("/a/b/")),
            ("escaped letter", "/%61dmin", Some("/admin")),
            ("escaped sign", "/%40me%3a%2B", Some("/@me:+")),
            ("escaped space", "/a%20b", Some("/a b")),
            ("escaped sign of an escape, once", "/a%2541", Some("/a%2541")),
            ("what would end a path stays", "/a%3fb%23", Some("/a%3Fb%23")),
            ("other bytes stay, in capitals", "/%c3%a9%0a", Some("/%C3%A9%0A")),
            ("above the root", "/../etc", None),
            ("above the root, escaped", "/a/%2e./../etc", None),
            ("escaped slash", "/a%2fb", None),
            ("backslash", "/a\\..\\b", None),
            ("escaped backslash", "/a%5c..", None),
            ("escaped nul", "/a%00", None),
            ("cut escape", "/a%2", None),
            ("bad escape", "/a%zz", None),
        ] {
            assert_eq!(normalise(path).as_deref(), want, "{case}: {path}");
        }
    }

    #[test]
    fn a_path_of_the_configuration_is_brought_into_the_same_form() {
        for (case, path, want) in [
            ("plain", "/a/b", Ok("/a/b")),
            ("as people write", "/a b/é", Ok("/a b/%C3%A9")),
            ("escaped", "/a%20b/%c3%a9", Ok("/a b/%C3%A9")),
            ("dots", "/a/../b", Ok("/b")),
            ("no slash", "a", Err("must start with '/'")),
            ("query", "/a?b=c", Err("go into `query`")),
            ("percent", "/100%", Err("as %25")),
            ("control", "/a\n", Err("control character")),
        ] {
            match (canonical(path), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{case}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{case}: {got}"),
                (got, want) => panic!("{case}: {got:?} instead of {want:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_is_its_own_normal_form_and_survives_being_sent(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "/", "a", ".", "..", "%2e", "%25", "%20", "%3F", "b", "%C3", "+", "{", "%7b", "~",
            ]), 0..12)
        ) {
            let path = format!("/{}", pieces.concat());
            if let Some(normal) = normalise(&path) {
                prop_assert!(normal.starts_with('/') && !normal.contains("//"));
                let again = normalise(&normal);
                prop_assert_eq!(again.as_deref(), Some(&*normal), "{}", path);
                let sent = sendable(&normal);
                let sent = normalise(&sent);
                prop_assert_eq!(sent.as_deref(), Some(&*normal), "{}", path);
            }
        }
    }
}
