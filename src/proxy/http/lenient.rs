//! Requests that could be sent more carefully, mended where only one meaning is possible. Pure.
//!
//! Mending writes the head anew; what it gives is then held to the same rules as any other request
//! (see [`super::sanitize`]). So a lenient listener never carries anything that a strict one would
//! not carry, had the client written it like that.

use super::refusal::Refusal;
use super::sanitize::{self, Limits};

/// What was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every line of the head ended with LF alone.
    LineEnds,
    /// `Content-Length: 2, 2`.
    Length,
    /// A header name that imitates one of those that decide.
    Name,
    /// The target and Host differ by the scheme's own port.
    Port,
    /// Trailers, or the announcement of them.
    Trailers,
}

impl Fault {
    /// The word for metrics: that of the refusal by which a strict listener answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LineEnds => "line-end",
            Self::Length => "content-length",
            Self::Name => "header-name",
            Self::Port => "host",
            Self::Trailers => "trailers",
        }
    }

    /// Whether what follows such a request may not be taken for another one: whoever sent it, or passed
    /// it on, may have seen its end elsewhere.
    #[must_use]
    pub const fn is_last(self) -> bool {
        matches!(self, Self::LineEnds | Self::Length | Self::Name)
    }
}

/// A head that was written anew.
#[derive(Debug, PartialEq, Eq)]
pub struct Mended {
    /// The new head, its empty line included.
    pub head: Vec<u8>,
    /// What was the matter with it, without repetitions.
    pub faults: Vec<Fault>,
}

/// Where the head of a request ends in `bytes`, if all of it is there: as
/// [`sanitize::end_of_head`], and for a head in which every line ends with LF alone.
///
/// # Errors
/// 400 when some lines end with LF and others with CRLF, 431 when it is too long.
pub fn end_of_head(bytes: &[u8], limits: Limits) -> Result<Option<usize>, Refusal> {
    let Some(first) = memchr::memchr(b'\n', &bytes[..bytes.len().min(limits.head_max)]) else {
        return sanitize::end_of_head(bytes, limits);
    };
    if first == 0 || bytes[first - 1] == b'\r' {
        return sanitize::end_of_head(bytes, limits);
    }
    let mut before = first;
    for at in memchr::memchr_iter(b'\n', &bytes[first + 1..]).map(|at| at + first + 1) {
        if at >= limits.head_max {
            break;
        }
        if at == before + 1 {
            // A bare CR anywhere in it is refused with the head.
            return Ok(Some(at + 1));
        }
        if bytes[at - 1] == b'\r' {
            return Err(sanitize::LINE_END);
        }
        before = at;
    }
    if bytes.len() >= limits.head_max { Err(sanitize::HEAD_TOO_LARGE) } else { Ok(None) }
}

/// The head in `bytes`, which end with its empty line (see [`end_of_head`]), written anew; none when
/// nothing is the matter that can be mended. What can't be is left for [`sanitize::head`] to refuse.
///
/// # Errors
/// 400 when the lines end with LF, and CR stands somewhere.
pub fn mend(bytes: &[u8]) -> Result<Option<Mended>, Refusal> {
    let mut faults = Vec::new();
    let bare = !bytes.ends_with(b"\r\n");
    if bare {
        // Whoever takes a bare CR for the end of a line sees other lines than we do.
        if bytes.contains(&b'\r') {
            return Err(sanitize::LINE_END);
        }
        faults.push(Fault::LineEnds);
    }
    let end: &[u8] = if bare { b"\n" } else { b"\r\n" };
    let mut head = Vec::with_capacity(bytes.len() + 32);
    let mut lines = lines(bytes, end);
    let Some(first) = lines.next() else { return Ok(None) };
    head.extend_from_slice(first);
    head.extend_from_slice(b"\r\n");
    let target = first.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let mut note = |fault| {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    };
    for line in lines {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], line[colon + 1..].trim_ascii()),
            None => (line, &b""[..]),
        };
        let name = std::str::from_utf8(name).unwrap_or_default();
        if sanitize::imitates(name) {
            note(Fault::Name);
            continue;
        }
        if name.eq_ignore_ascii_case("trailer") {
            note(Fault::Trailers);
            continue;
        }
        let mended = if name.eq_ignore_ascii_case("content-length") {
            one_of_equals(value).inspect(|_| note(Fault::Length))
        } else if name.eq_ignore_ascii_case("host") {
            host_of_target(target, value).inspect(|_| note(Fault::Port))
        } else {
            None
        };
        match mended {
            Some(value) => {
                head.extend_from_slice(name.as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(value);
            }
            None => head.extend_from_slice(line),
        }
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Ok((!faults.is_empty()).then_some(Mended { head, faults }))
}

/// The lines of a head up to its empty one, each without its end.
fn lines<'a>(bytes: &'a [u8], end: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let at = memchr::memmem::find(rest, end)?;
        let line = &rest[..at];
        rest = &rest[at + end.len()..];
        (!line.is_empty()).then_some(line)
    })
}

/// The one number of a list of equal numbers (RFC 9110 §8.6).
fn one_of_equals(value: &[u8]) -> Option<&[u8]> {
    let mut all = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let first = all.next()?;
    let mut others = all.peekable();
    others.peek()?;
    (!first.is_empty() && others.all(|other| other == first)).then_some(first)
}

/// The authority of a target in absolute form, when `host` is the same but for the scheme's own port
/// in one of them: that is what Host has to be (RFC 9112 §3.2.2).
fn host_of_target<'a>(target: &'a [u8], host: &[u8]) -> Option<&'a [u8]> {
    let after = memchr::memmem::find(target, b"://")?;
    let port: &[u8] = match &target[..after] {
        scheme if scheme.eq_ignore_ascii_case(b"http") => b":80",
        scheme if scheme.eq_ignore_ascii_case(b"https") => b":443",
        _ => return None,
    };
    let rest = &target[after + 3..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let authority = &rest[..end.unwrap_or(rest.len())];
    let bare = |name: &'_ [u8]| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    (!authority.eq_ignore_ascii_case(host) && bare(authority) == bare(host)).then_some(authority)
}

#[cfg(test)]
#[path = "lenient_tests.rs"]
mod tests;
