//! URLs taken apart and put together as Go's `net/url` does.

use std::fmt::Write as _;

use super::super::engine::go::format::quote;

/// A URL; path and fragment without escapes, the others as they are written.
#[derive(Debug, Default)]
pub(super) struct Url {
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) opaque: String,
    pub(super) fragment: String,
    pub(super) userinfo: String,
}

impl Url {
    /// The parts by their names in `sprig_urlParse`.
    pub(super) fn parts(self) -> [(&'static str, String); 8] {
        let hostname = hostname(&self.host).to_owned();
        [
            ("scheme", self.scheme),
            ("host", self.host),
            ("hostname", hostname),
            ("path", self.path),
            ("query", self.query),
            ("opaque", self.opaque),
            ("fragment", self.fragment),
            ("userinfo", self.userinfo),
        ]
    }

    /// As one text.
    ///
    /// # Errors
    /// When the user's part is faulty.
    pub(super) fn text(&self) -> Result<String, String> {
        let user = match &*self.userinfo {
            "" => String::new(),
            user => format!("{}@", parse(&format!("proto://{user}@host"))?.userinfo),
        };
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out.push_str(&self.scheme);
            out.push(':');
        }
        if self.opaque.is_empty() {
            let authority = !self.host.is_empty() || !user.is_empty();
            if authority || !self.scheme.is_empty() && !self.path.is_empty() {
                out.push_str("//");
            }
            out.push_str(&user);
            out.push_str(&escaped(&self.host, "!$&'()*+,;=:[]<>\""));
            let path = escaped(&self.path, "$&+,/:;=@");
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                out.push('/');
            }
            if out.is_empty() && path.split('/').next().is_some_and(|first| first.contains(':')) {
                out.push_str("./");
            }
            out.push_str(&path);
        } else {
            out.push_str(&self.opaque);
        }
        if !self.query.is_empty() {
            out.push('?');
            out.push_str(&self.query);
        }
        if !self.fragment.is_empty() {
            out.push('#');
            out.push_str(&escaped(&self.fragment, "$&+,/:;=?@!()*"));
        }
        Ok(out)
    }
}

/// The host without port and brackets.
fn hostname(host: &str) -> &str {
    if let Some((inner, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inner;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// `text` with all but letters, digits, `-_.~` and `kept` as `%XX`.
fn escaped(text: &str, kept: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let c = char::from(byte);
        if byte.is_ascii() && (c.is_ascii_alphanumeric() || "-_.~".contains(c) || kept.contains(c))
        {
            out.push(c);
        } else {
            // Writing to a string never fails.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `text` with what `%XX` stands for.
fn unescaped(text: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits.trim_start_matches('+'), 16).ok())
        {
            Some(byte) if digits.is_some_and(|digits| !digits.contains('+')) => {
                out.push(byte);
                rest = &behind[2..];
            }
            _ => {
                let end = behind.len().min(2);
                let shown = [b"%", &behind[..end]].concat();
                return Err(format!("invalid URL escape {}", quote(&shown, false)));
            }
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The parts of `whole`.
///
/// # Errors
/// In Go's words.
pub(super) fn parse(whole: &str) -> Result<Url, String> {
    let (rest, fragment) = whole.split_once('#').unwrap_or((whole, ""));
    let told =
        |whole: &str, why: String| format!("parse {}: {why}", quote(whole.as_bytes(), false));
    let mut url = without_fragment(rest).map_err(|why| told(rest, why))?;
    url.fragment = unescaped(fragment).map_err(|why| told(whole, why))?;
    Ok(url)
}

fn without_fragment(whole: &str) -> Result<Url, String> {
    if whole.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".into());
    }
    let mut url = Url::default();
    let (scheme, rest) = scheme(whole)?;
    url.scheme = scheme.to_ascii_lowercase();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    query.clone_into(&mut url.query);
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            rest.clone_into(&mut url.opaque);
            return Ok(url);
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err("first path segment in URL cannot contain colon".into());
        }
    }
    let mut path = rest;
    if let Some(behind) = rest.strip_prefix("//")
        && (!scheme.is_empty() || !behind.starts_with('/'))
    {
        let end = behind.find('/').unwrap_or(behind.len());
        let authority;
        (authority, path) = behind.split_at(end);
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        url.host = checked_host(host)?;
        url.userinfo = checked_user(user)?;
    }
    url.path = unescaped(path)?;
    Ok(url)
}

/// What stands before the first colon if it can be a scheme, and what stands behind.
fn scheme(whole: &str) -> Result<(&str, &str), String> {
    for (at, c) in whole.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".into()),
            ':' => return Ok((&whole[..at], &whole[at + 1..])),
            _ => break,
        }
    }
    Ok(("", whole))
}

fn checked_host(host: &str) -> Result<String, String> {
    let port = if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return Err("missing ']' in host".into()) };
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    let digits = port.strip_prefix(':').unwrap_or("");
    if !port.is_empty() && (!port.starts_with(':') || !digits.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {} after host", quote(port.as_bytes(), false)));
    }
    let refused = |c: char| {
        let kept = "-_.~!$&'()*+,;=:[]<>\"%";
        c.is_ascii() && !c.is_ascii_alphanumeric() && !kept.contains(c)
    };
    if let Some(c) = host.chars().find(|c| refused(*c)) {
        let shown = quote(c.to_string().as_bytes(), false);
        return Err(format!("invalid character {shown} in host name"));
    }
    unescaped(host)
}

fn checked_user(user: &str) -> Result<String, String> {
    if user.chars().any(|c| !c.is_ascii_alphanumeric() && !"-._:~!$&'()*+,;=%@".contains(c)) {
        return Err("net/url: invalid userinfo".into());
    }
    let part = |part: &str| Ok::<_, String>(escaped(&unescaped(part)?, "$&+,;="));
    match user.split_once(':') {
        Some((name, password)) => Ok(format!("{}:{}", part(name)?, part(password)?)),
        None => part(user),
    }
}
