//! Bytes of strangers as text that cannot end a line, a field or a string.

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// As nginx writes variables into its log: `"`, `\` and everything that is not printable ASCII
/// becomes `\xHH`.
pub fn combined(text: &[u8], out: &mut Vec<u8>) {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !plain(*byte)) {
        out.extend_from_slice(&rest[..at]);
        hex(rest[at], b"\\x", out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// The inside of a string of JSON (RFC 8259 §7). Control characters (also those above 0x7f, and
/// the separators of lines U+2028 and U+2029) are escaped; a byte that is not UTF-8 becomes the
/// four characters `\xHH`.
pub fn json(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        json_text(chunk.valid().as_bytes(), out);
        for byte in chunk.invalid() {
            hex(*byte, b"\\\\x", out);
        }
    }
}

fn json_text(text: &[u8], out: &mut Vec<u8>) {
    let plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\' | 0x7f | 0xc2 | 0xe2);
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !plain(*byte)) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let taken = match rest {
            [quoted @ (b'"' | b'\\'), ..] => {
                out.extend_from_slice(&[b'\\', *quoted]);
                1
            }
            [control @ (..b' ' | 0x7f), ..] => {
                hex(*control, b"\\u00", out);
                1
            }
            [0xc2, control @ 0x80..=0x9f, ..] => {
                hex(*control, b"\\u00", out);
                2
            }
            [0xe2, 0x80, separator @ (0xa8 | 0xa9), ..] => {
                hex(separator - 0x80, b"\\u20", out);
                3
            }
            [other, ..] => {
                out.push(*other);
                1
            }
            [] => 0,
        };
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
}

fn hex(byte: u8, before: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(escape: fn(&[u8], &mut Vec<u8>), text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hostile_bytes_become_text() {
        for (case, text, in_combined, in_json) in [
            ("plain", &b"GET /a?b=c"[..], "GET /a?b=c", "GET /a?b=c"),
            ("quotes", b"a\"b\\c", "a\\x22b\\x5Cc", "a\\\"b\\\\c"),
            (
                "a new line",
                b"a\r\nb\0\x1b[0m\x7f",
                "a\\x0D\\x0Ab\\x00\\x1B[0m\\x7F",
                "a\\u000D\\u000Ab\\u0000\\u001B[0m\\u007F",
            ),
            ("UTF-8", "ü€".as_bytes(), "\\xC3\\xBC\\xE2\\x82\\xAC", "ü€"),
            ("not UTF-8", b"\xff\xc3(", "\\xFF\\xC3(", "\\\\xFF\\\\xC3("),
            (
                "separators",
                "\u{85}\u{2028}\u{2029}©".as_bytes(),
                "\\xC2\\x85\\xE2\\x80\\xA8\\xE2\\x80\\xA9\\xC2\\xA9",
                "\\u0085\\u2028\\u2029©",
            ),
            ("tab", b"\t", "\\x09", "\\u0009"),
        ] {
            assert_eq!(with(combined, text), in_combined, "{case}");
            assert_eq!(with(json, text), in_json, "{case}");
        }
    }

    /// What [`combined`] made, read back.
    fn back(mut text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match text {
                [] => return bytes,
                [b'\\', b'x', high, low, rest @ ..] => {
                    let digits = [*high, *low];
                    let digits = std::str::from_utf8(&digits).unwrap();
                    bytes.push(u8::from_str_radix(digits, 16).unwrap());
                    text = rest;
                }
                [plain, rest @ ..] => {
                    assert!((b' '..=b'~').contains(plain) && *plain != b'"');
                    bytes.push(*plain);
                    text = rest;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_back_as_it_was(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(back(with(combined, &text).as_bytes()), text);
        }

        #[test]
        fn any_text_is_one_string_of_json_on_one_line(text in ".{0,80}") {
            let told = format!("\"{}\"", with(json, text.as_bytes()));
            prop_assert!(!told.chars().any(char::is_control), "{told:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&told).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_one_string_of_json(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let told = format!("\"{}\"", with(json, &bytes));
            prop_assert!(!told.chars().any(char::is_control), "{told:?}");
            prop_assert!(serde_json::from_str::<String>(&told).is_ok(), "{told:?}");
        }
    }
}
