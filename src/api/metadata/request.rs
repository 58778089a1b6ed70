//! The head of a request, read; pure. Nothing but GET and HEAD without a body is served.

use super::form::Form;

/// Most header lines of a request.
const HEADERS: usize = 64;

/// A request that can be answered.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// Whether only the head of the answer is wanted.
    pub(super) head: bool,
    /// Whether the connection goes on behind it.
    pub(super) keep: bool,
    /// The form of the answer.
    pub(super) form: Form,
    /// What is asked for.
    pub(super) target: Target,
    /// Who asks, as proxies tell it: all of `X-Forwarded-For`, in its order.
    pub(super) forwarded: Option<Box<str>>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Target {
    /// Name of the version; empty: the list of versions.
    pub(super) version: String,
    /// The parts of the path behind it, unescaped.
    pub(super) path: Vec<String>,
    /// Set when the answer shall wait for a change.
    pub(super) wait: Option<Wait>,
}

/// Until when an answer waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    /// What the client knows already.
    pub(super) value: String,
    /// For how many seconds at most, if it says so.
    pub(super) seconds: Option<u64>,
}

/// What came of the bytes so far.
#[derive(Debug, PartialEq)]
pub(super) enum Parsed {
    /// More have to come.
    Partial,
    /// A request, and where it ends.
    Whole(Box<Request>, usize),
    /// Something that is not served: the status and the reason.
    Refused(u16, &'static str),
}

/// Reads the request at the front of `bytes`, of which the head may have `max` bytes.
pub(super) fn parse(bytes: &[u8], max: usize) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let end = match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) if end <= max => end,
        Ok(httparse::Status::Partial) if bytes.len() < max => return Parsed::Partial,
        Ok(_) => return Parsed::Refused(431, "The head of the request is too large"),
        Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Refused(431, "The request has too many headers");
        }
        Err(_) => return Parsed::Refused(400, "This is no HTTP request"),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Parsed::Refused(400, "This is no HTTP request");
    };
    let mut accept = String::new();
    let mut forwarded = String::new();
    let (mut host, mut keep) = (0, minor == 1);
    for header in request.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let name = header.name;
        if name.eq_ignore_ascii_case("accept") {
            join(&mut accept, &value);
        } else if name.eq_ignore_ascii_case("x-forwarded-for") {
            join(&mut forwarded, &value);
        } else if name.eq_ignore_ascii_case("host") {
            host += 1;
        } else if name.eq_ignore_ascii_case("connection") {
            let has = |word| value.split(',').any(|own| own.trim().eq_ignore_ascii_case(word));
            keep = !has("close") && (keep || has("keep-alive"));
        } else if name.eq_ignore_ascii_case("transfer-encoding")
            || (name.eq_ignore_ascii_case("content-length") && value.trim() != "0")
        {
            return Parsed::Refused(413, "A request has no body here");
        }
    }
    // RFC 9112 §3.2.
    if host > 1 || (host == 0 && minor == 1) {
        return Parsed::Refused(400, "A request names its host, once");
    }
    if method != "GET" && method != "HEAD" {
        return Parsed::Refused(405, "Method not allowed");
    }
    match Target::parse(target) {
        Ok(target) => {
            let form = Form::wanted(&accept);
            let forwarded = (!forwarded.is_empty()).then(|| forwarded.into());
            let head = method == "HEAD";
            Parsed::Whole(Box::new(Request { head, keep, form, target, forwarded }), end)
        }
        Err(why) => Parsed::Refused(400, why),
    }
}

fn join(all: &mut String, more: &str) {
    if !all.is_empty() {
        all.push(',');
    }
    all.push_str(more);
}

impl Target {
    /// Reads the target of a request: a path, or a whole URL.
    ///
    /// Empty parts of a path count for nothing; `.` and `..` are names like all others.
    fn parse(target: &str) -> Result<Self, &'static str> {
        const NO_PATH: &str = "The target of a request is a path";
        const ESCAPE: &str = "The path has a percent sign that begins no escape";
        let path = match target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                rest.find('/').map_or("/", |at| &rest[at..])
            }
            _ => target,
        };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = path.strip_prefix('/').ok_or(NO_PATH)?;
        let parts = path.split('/').filter(|part| !part.is_empty());
        let mut parts = parts.map(|part| unescaped(part).ok_or(ESCAPE));
        let version = parts.next().transpose()?.unwrap_or_default();
        let path = parts.collect::<Result<Vec<String>, _>>()?;
        let mut asked = Self { version, path, wait: None };
        let (mut wait, mut value, mut seconds) = (false, None, None);
        for pair in query.split('&') {
            let (key, told) = pair.split_once('=').unwrap_or((pair, ""));
            // What cannot be read is as if it were not there.
            let (Some(key), Some(told)) = (unescaped(key), unescaped(told)) else { continue };
            match &*key {
                "wait" => wait = told == "true",
                "value" => value = value.or(Some(told)),
                "maxWait" => seconds = told.parse().ok().filter(|seconds| *seconds > 0),
                _ => {}
            }
        }
        if let Some(value) = value.filter(|_| wait && !asked.version.is_empty()) {
            asked.wait = Some(Wait { value, seconds });
        }
        Ok(asked)
    }
}

/// What `text` of a query stands for: `+` is a space, `%` begins two hexadecimal digits. None when
/// it does not. Bytes that are no UTF-8 become `U+FFFD`.
fn unescaped(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> String {
        match Target::parse(text) {
            Err(why) => why.to_owned(),
            Ok(Target { version, path, wait }) => {
                let wait = wait.map(|w| format!(" until not {:?} for {:?}", w.value, w.seconds));
                format!("{version}:{}{}", path.join("|"), wait.unwrap_or_default())
            }
        }
    }

    #[test]
    fn a_target_is_a_version_and_a_path_and_perhaps_a_wait() {
        for (text, want) in [
            ("/", ":"),
            ("/latest", "latest:"),
            ("/latest/", "latest:"),
            ("/latest/self/container/name/", "latest:self|container|name"),
            ("/latest//services///web", "latest:services|web"),
            ("/latest/../services", "latest:..|services"),
            ("/latest/sla%2Fsh/a+b/%C3%A9", "latest:sla/sh|a b|é"),
            ("/latest/%00", "latest:\0"),
            ("/latest/%FF", "latest:\u{fffd}"),
            ("/latest/%4", "The path has a percent sign that begins no escape"),
            ("/latest/%zz", "The path has a percent sign that begins no escape"),
            ("http://rancher-metadata/latest/version", "latest:version"),
            ("http://rancher-metadata", ":"),
            ("/a?b=http://c/d", "a:"),
            ("*", "The target of a request is a path"),
            ("latest", "The target of a request is a path"),
            ("/latest/version?wait=true", "latest:version"),
            ("/latest/version?value=1", "latest:version"),
            ("/latest/version?wait=false&value=1", "latest:version"),
            ("/latest/version?wait=true&value=", "latest:version until not \"\" for None"),
            (
                "/latest/version?wait=true&value=a+b%26&maxWait=10",
                "latest:version until not \"a b&\" for Some(10)",
            ),
            (
                "/latest/version?wait=true&value=1&maxWait=0",
                "latest:version until not \"1\" for None",
            ),
            (
                "/latest/version?wait=true&value=1&maxWait=-1",
                "latest:version until not \"1\" for None",
            ),
            (
                "/latest/version?wait=true&value=1&maxWait=x",
                "latest:version until not \"1\" for None",
            ),
            ("/?wait=true&value=1", ":"),
        ] {
            assert_eq!(target(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_with_its_status() {
        let many = "a: b\r\n".repeat(70);
        let long = "a".repeat(300);
        for (case, text, want) in [
            ("whole", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("old", "GET / HTTP/1.0\r\n\r\n", 200),
            ("half", "GET / HTTP/1.1\r\nHost:", 0),
            ("a body of nothing", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 200),
            ("a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", 413),
            ("chunks", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
            ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
            ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("another method", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("garbage", "\u{16}\u{3}\u{1}garbage\r\n\r\n", 400),
            ("many headers", &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
            ("too long", &format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 431),
            ("too long and not at its end", &format!("GET /{long}"), 431),
            ("a broken path", "GET /%z HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ] {
            let max = if case == "many headers" { 4096 } else { 256 };
            let got = match parse(text.as_bytes(), max) {
                Parsed::Partial => 0,
                Parsed::Whole(_, end) => {
                    assert_eq!(end, text.len(), "{case}");
                    200
                }
                Parsed::Refused(status, _) => status,
            };
            assert_eq!(got, want, "{case}");
        }
    }

    #[test]
    fn a_connection_goes_on_unless_somebody_says_otherwise() {
        for (head, want) in [
            ("HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
            ("HTTP/1.0\r\nHost: a\r\n\r\n", false),
            ("HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            let parsed = parse(format!("GET / {head}").as_bytes(), 1000);
            assert!(matches!(parsed, Parsed::Whole(request, _) if request.keep == want), "{head}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, 256);
        }

        #[test]
        fn whatever_path_comes_is_read_or_refused(path in "[ -~]{0,80}") {
            let _ = parse(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), 4096);
        }
    }
}
