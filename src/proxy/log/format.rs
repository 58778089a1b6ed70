//! What a line looks like: JSON with fixed names, or the combined format.

use std::fmt::Display;
use std::io::Write as _;

use super::clock::Clock;
use super::escape;
use super::record::{Record, RequestLine, path_and_query};

/// The combined format of Apache and nginx, escaped as nginx escapes it, without an end of line.
/// The user is always `-`: nobody here has verified one. Allocates only where `out` has no room.
pub fn combined(record: &Record<'_>, clock: &Clock, out: &mut Vec<u8>) {
    plain(record.client, out);
    out.extend_from_slice(b" - - [");
    clock.common(out);
    out.extend_from_slice(b"] \"");
    match record.request {
        RequestLine::Read { method, target, protocol } => {
            escape::combined(method, out);
            out.push(b' ');
            escape::combined(target, out);
            out.push(b' ');
            escape::combined(protocol, out);
        }
        RequestLine::Raw(b"") => out.push(b'-'),
        RequestLine::Raw(line) => escape::combined(line, out),
    }
    out.extend_from_slice(b"\" ");
    match record.status {
        // As nginx has it where nothing was answered.
        0 => out.extend_from_slice(b"000"),
        status => number(status.into(), out),
    }
    out.push(b' ');
    number(record.bytes_out, out);
    for header in [record.referer, record.user_agent] {
        out.extend_from_slice(b" \"");
        match header {
            None => out.push(b'-'),
            Some(value) => escape::combined(value, out),
        }
        out.push(b'"');
    }
}

/// One object of JSON without an end of line. What is not known has no field; docs/access-log.md
/// lists them all. Allocates only where `out` has no room.
pub fn json(record: &Record<'_>, clock: &Clock, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.rfc3339(out);
    out.push(b'"');
    let mut fields = Fields(out);
    fields.text("listener", Some(record.listener.as_bytes()));
    fields.text("route", record.route.map(str::as_bytes));
    fields.shown("client", Some(record.client));
    match record.request {
        RequestLine::Read { method, target, protocol } => {
            let (path, query) = path_and_query(target);
            fields.text("method", Some(method));
            fields.text("host", record.host);
            fields.text("path", Some(path));
            fields.text("query", query);
            fields.text("protocol", Some(protocol));
        }
        RequestLine::Raw(line) => fields.text("request", Some(line)),
    }
    if record.status > 0 {
        fields.number("status", record.status.into());
    }
    fields.number("bytes_in", record.bytes_in);
    fields.number("bytes_out", record.bytes_out);
    fields.millis("duration_ms", Some(record.duration));
    fields.millis("added_ms", record.added);
    fields.millis("connect_ms", record.connect);
    fields.millis("first_byte_ms", record.first_byte);
    fields.text("service", record.service.map(str::as_bytes));
    fields.text("instance", record.instance.map(str::as_bytes));
    fields.shown("endpoint", record.endpoint);
    if record.attempts > 0 {
        fields.number("attempts", record.attempts.into());
    }
    if record.generation > 0 {
        fields.number("generation", record.generation);
    }
    fields.text("trace_id", record.trace_id);
    fields.text("request_id", record.request_id);
    fields.text("user_agent", record.user_agent);
    fields.text("referer", record.referer);
    fields.text("forwarded_for", record.forwarded_for);
    fields.text("tls_version", record.tls_version.map(str::as_bytes));
    fields.text("tls_cipher", record.tls_cipher.map(str::as_bytes));
    fields.text("sni", record.sni.map(str::as_bytes));
    fields.text("refused", record.refused.map(str::as_bytes));
    fields.text("error", record.error.map(str::as_bytes));
    out.push(b'}');
}

/// Fields of an object that has one already.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.name(name);
        self.0.push(b'"');
        escape::json(value, self.0);
        self.0.push(b'"');
    }

    /// An address, which needs no escapes.
    fn shown(&mut self, name: &str, value: Option<impl Display>) {
        let Some(value) = value else { return };
        self.name(name);
        self.0.push(b'"');
        plain(value, self.0);
        self.0.push(b'"');
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        number(value, self.0);
    }

    /// Microseconds as milliseconds with three digits behind the point.
    fn millis(&mut self, name: &str, micros: Option<u64>) {
        let Some(micros) = micros else { return };
        self.name(name);
        number(micros / 1000, self.0);
        let [hundreds, tens, ones] =
            [100, 10, 1].map(|unit| b'0' + (micros % 1000 / unit % 10) as u8);
        self.0.extend_from_slice(&[b'.', hundreds, tens, ones]);
    }
}

fn plain(value: impl Display, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
