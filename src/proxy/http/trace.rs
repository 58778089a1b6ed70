//! Trace context (W3C Trace Context, level 2) and `X-Request-Id`, on their way through.
//!
//! We record no span. So a trace context goes on as it came: with another parent id, the spans
//! behind us would hang on one that nobody ever saw. It can be made where there is none.

use http::{HeaderMap, HeaderValue};

use crate::proxy::config::{RequestIdMode, TraceMode};

/// `traceparent` of W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// `tracestate`, which means something beside a `traceparent` only.
pub const TRACESTATE: &str = "tracestate";
/// The id of a request, as many programs know it.
pub const REQUEST_ID: &str = "x-request-id";

/// Longest id of a request that is kept.
const REQUEST_ID_MAX: usize = 128;
/// Made by us: nobody has recorded it, and its trace id is random (level 2, §3.2.2.5).
const FLAGS: &[u8] = b"02";

/// What a request gets on its way; nothing where it goes on as it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    traceparent: Option<[u8; 55]>,
    request_id: Option<[u8; 32]>,
}

impl Made {
    /// Decides for a request with `headers`; `trusted` says whether it came from a trusted proxy.
    /// `random` gives fresh bits. Allocates nothing.
    #[must_use]
    pub fn decide(
        headers: &HeaderMap,
        (trace, request_id): (TraceMode, RequestIdMode),
        trusted: bool,
        mut random: impl FnMut() -> u64,
    ) -> Self {
        let mut made = Self::default();
        if trace == TraceMode::Make && trace_id(headers).is_none() {
            let mut parent = [b'-'; 55];
            parent[..2].copy_from_slice(b"00");
            // Ids that are all zero are invalid.
            hex(random() | 1, &mut parent[3..19]);
            hex(random(), &mut parent[19..35]);
            hex(random() | 1, &mut parent[36..52]);
            parent[53..].copy_from_slice(FLAGS);
            made.traceparent = Some(parent);
        }
        if request_id == RequestIdMode::Make && !(trusted && kept(headers)) {
            let mut id = [0; 32];
            hex(random(), &mut id[..16]);
            hex(random(), &mut id[16..]);
            made.request_id = Some(id);
        }
        made
    }

    /// The `traceparent` to set instead of what came; `tracestate` is taken away then.
    #[must_use]
    pub fn traceparent(&self) -> Option<&[u8]> {
        self.traceparent.as_ref().map(<[u8; 55]>::as_slice)
    }

    /// The `X-Request-Id` to set instead of what came.
    #[must_use]
    pub fn request_id(&self) -> Option<&[u8]> {
        self.request_id.as_ref().map(<[u8; 32]>::as_slice)
    }

    /// The id of the trace that a request with `headers` belongs to, for logs.
    #[must_use]
    pub fn trace_id_of<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        match &self.traceparent {
            Some(made) => Some(&made[3..35]),
            None => trace_id(headers),
        }
    }

    /// The id of a request with `headers` as it goes on, for logs.
    #[must_use]
    pub fn request_id_of<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        self.request_id().or_else(|| {
            let came = headers.get(REQUEST_ID)?.as_bytes();
            Some(&came[..came.len().min(REQUEST_ID_MAX)])
        })
    }
}

/// The trace id of the one valid `traceparent` in `headers` (§3.2). Versions to come may be longer.
#[must_use]
pub fn trace_id(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let parent = all.next().map(HeaderValue::as_bytes)?;
    if all.next().is_some() || parent.len() < 55 {
        return None;
    }
    let (version, rest) = (&parent[..2], parent.get(55));
    let lower_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    let dashes = [2, 35, 52].iter().all(|at| parent[*at] == b'-');
    let (trace, span, flags) = (&parent[3..35], &parent[36..52], &parent[53..55]);
    let fits = match (version, rest) {
        (b"ff", _) | (b"00", Some(_)) => false,
        (_, after) => after.is_none_or(|byte| *byte == b'-'),
    };
    let valid = dashes
        && fits
        && [version, trace, span, flags].iter().all(|part| lower_hex(part))
        && !zero(trace)
        && !zero(span);
    valid.then_some(trace)
}

/// Whether the one id that came may be kept: up to 128 visible ASCII characters.
fn kept(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(REQUEST_ID).iter();
    let fits = |id: &HeaderValue| {
        (1..=REQUEST_ID_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    all.next().is_some_and(fits) && all.next().is_none()
}

/// Writes `bits` as sixteen digits.
fn hex(bits: u64, out: &mut [u8]) {
    for (at, digit) in out.iter_mut().enumerate() {
        let nibble = (bits >> (60 - 4 * (at as u32 % 16))) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_traceparent_is_read_as_the_specification_has_it() {
        let valid = format!("00-{ID}-b7ad6b7169203331-01");
        for (case, value, want) in [
            ("valid", valid.clone(), true),
            ("not sampled", format!("00-{ID}-b7ad6b7169203331-00"), true),
            ("of a version to come", format!("01-{ID}-b7ad6b7169203331-01-more"), true),
            ("more behind version 00", format!("{valid}-more"), false),
            ("glued on", format!("01-{ID}-b7ad6b7169203331-01more"), false),
            ("version ff", format!("ff-{ID}-b7ad6b7169203331-01"), false),
            ("capitals", valid.to_ascii_uppercase(), false),
            ("no trace id", format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
            ("no parent id", format!("00-{ID}-{}-01", "0".repeat(16)), false),
            ("too short", valid[..54].to_owned(), false),
            ("other dashes", valid.replace('-', "_"), false),
            ("not hexadecimal", valid.replace('f', "g"), false),
        ] {
            let headers = headers(&[(TRACEPARENT, &value)]);
            let want = want.then_some(ID.as_bytes());
            assert_eq!(trace_id(&headers), want, "{case}: {value}");
        }
        let twice = headers(&[(TRACEPARENT, &valid), (TRACEPARENT, &valid)]);
        assert_eq!(trace_id(&twice), None, "two of them");
    }

    #[test]
    fn what_is_made_is_valid_and_only_made_where_it_is_asked_for() {
        let valid = format!("00-{ID}-b7ad6b7169203331-01");
        let decide = |lines: &[(&'static str, &str)], modes, trusted| {
            Made::decide(&headers(lines), modes, trusted, || 0)
        };
        let (pass, make) = (TraceMode::Pass, TraceMode::Make);
        let (keep, anew) = (RequestIdMode::Pass, RequestIdMode::Make);
        assert_eq!(decide(&[], (pass, keep), false), Made::default());
        let kept = decide(&[(TRACEPARENT, &valid)], (make, keep), false);
        assert_eq!(kept, Made::default(), "a valid one goes on as it came");
        for lines in
            [&[][..], &[(TRACEPARENT, "00-x")], &[(TRACEPARENT, &valid), (TRACEPARENT, &valid)]]
        {
            let made = decide(lines, (make, keep), false);
            let parent = std::str::from_utf8(made.traceparent().unwrap()).unwrap().to_owned();
            let came = headers(lines);
            assert_eq!(made.trace_id_of(&came), trace_id(&headers(&[(TRACEPARENT, &parent)])));
            assert!(made.trace_id_of(&came).is_some(), "{parent}");
        }

        for (case, lines, trusted, made) in [
            ("none", &[][..], true, true),
            ("of a trusted proxy", &[(REQUEST_ID, "abc")], true, false),
            ("of a stranger", &[(REQUEST_ID, "abc")], false, true),
            ("two", &[(REQUEST_ID, "a"), (REQUEST_ID, "b")], true, true),
            ("with a space", &[(REQUEST_ID, "a b")], true, true),
            ("empty", &[(REQUEST_ID, "")], true, true),
        ] {
            let decided = decide(lines, (pass, anew), trusted);
            assert_eq!(decided.request_id().is_some(), made, "{case}");
            let came = headers(lines);
            let want = if made { &[b'0'; 32][..] } else { b"abc" };
            assert_eq!(decided.request_id_of(&came), Some(want), "{case}");
        }
        let long = "x".repeat(200);
        let came = headers(&[(REQUEST_ID, &long)]);
        assert!(Made::decide(&came, (pass, anew), true, || 7).request_id().is_some());
        assert_eq!(Made::default().request_id_of(&came).map(<[u8]>::len), Some(128));
    }
}
