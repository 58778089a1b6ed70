//! `html`, `js`, `urlquery`. Each gives `None` when there is nothing to escape.

use super::format::is_printable;

/// For the text and the attributes of HTML.
pub(super) fn html(text: &[u8]) -> Option<Vec<u8>> {
    const SPECIAL: &[u8] = b"\"'&<>\0";
    if !text.iter().any(|byte| SPECIAL.contains(byte)) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            0 => out.extend_from_slice("\u{fffd}".as_bytes()),
            other => out.push(*other),
        }
    }
    Some(out)
}

/// For a string within JavaScript.
pub(super) fn js(text: &[u8]) -> Option<Vec<u8>> {
    let special = |byte: &u8| *byte < b' ' || *byte >= 0x80 || b"\\'\"<>&=".contains(byte);
    if !text.iter().any(special) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    let escape = |out: &mut Vec<u8>, code: u32| {
        out.extend_from_slice(format!("\\u{code:04X}").as_bytes());
    };
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' | '"' => out.extend([b'\\', c as u8]),
                '<' | '>' | '&' | '=' => escape(&mut out, c as u32),
                c if c < ' ' => escape(&mut out, c as u32),
                c if c.is_ascii() || is_printable(c as u32) => {
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                c => escape(&mut out, c as u32),
            }
        }
        // Go takes each such byte for U+FFFD, which is printable, and copies the byte.
        out.extend_from_slice(chunk.invalid());
    }
    Some(out)
}

/// For a value within the query of a URL.
pub(super) fn urlquery(text: &[u8]) -> Option<Vec<u8>> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    if text.iter().all(plain) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    for byte in text {
        match byte {
            b' ' => out.push(b'+'),
            byte if plain(byte) => out.push(*byte),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    Some(out)
}
