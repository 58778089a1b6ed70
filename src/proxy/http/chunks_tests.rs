use proptest::prelude::*;

use super::*;

fn follow(bytes: &[u8], piece: usize, trailers: Trailers) -> Result<(usize, bool), BadChunk> {
    let mut chunks = Chunks::new(trailers);
    let mut taken = 0;
    for part in bytes.chunks(piece) {
        let n = chunks.advance(part)?;
        taken += n;
        if n < part.len() {
            break;
        }
    }
    Ok((taken, chunks.done()))
}

#[test]
fn a_body_ends_where_it_ends_and_what_follows_is_left() {
    for (case, body, after) in [
        ("empty", "0\r\n\r\n", "GET /"),
        ("two chunks", "3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", "next"),
        ("trailers", "1\r\na\r\n0\r\nX: y\r\nZ: 1\r\n\r\n", ""),
    ] {
        let bytes = [body, after].concat();
        for piece in 1..=bytes.len() {
            let got = follow(bytes.as_bytes(), piece, Trailers::Dropped);
            assert_eq!(got, Ok((body.len(), true)), "{case} in pieces of {piece}");
            let want = if case == "trailers" { Err(BadChunk::Trailers) } else { got };
            let strict = follow(bytes.as_bytes(), piece, Trailers::Refused);
            assert_eq!(strict, want, "{case} in pieces of {piece}, without trailers");
        }
    }
}

#[test]
fn lost_trailers_are_told() {
    for (body, lost) in [("0\r\n\r\n", false), ("0\r\nX: y\r\n\r\n", true)] {
        let mut chunks = Chunks::new(Trailers::Dropped);
        assert_eq!(chunks.advance(body.as_bytes()), Ok(body.len()));
        assert_eq!(chunks.lost_trailers(), lost, "{body:?}");
    }
}

#[test]
fn a_body_that_servers_read_differently_is_refused() {
    for (case, body) in [
        ("negative size", "-1\r\n"),
        ("hexadecimal prefix", "0x2\r\nab\r\n"),
        ("overflow", "FFFFFFFFFFFFFFFFF\r\n"),
        ("size line ends with lf", "2\nab\r\n"),
        ("lf in an extension", "2;\nxx\r\nab\r\n"),
        ("no terminator", "2\r\nabXX"),
        ("lf terminator", "2\r\nab\n"),
        ("no digits", "\r\n"),
        ("no digits but an extension", ";x\r\n"),
        ("space before the size", " 2\r\nab\r\n"),
        ("space after the size", "2 \r\nab\r\n"),
        ("trailer line ends with lf", "0\r\nX: y\n\r\n"),
        ("folded trailer", "0\r\n X: y\r\n\r\n"),
    ] {
        let got = follow(body.as_bytes(), 64, Trailers::Dropped);
        assert_eq!(got, Err(BadChunk::Malformed), "{case}");
    }
}

/// An independent reading of RFC 9112 §7.1, of all bytes at once: the data, the lines of
/// trailers, and where the body ends; none when it is not complete or not well-formed.
fn by_the_book(bytes: &[u8]) -> Option<(Vec<u8>, usize, usize)> {
    let line = |at: usize| {
        let end = at + bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        let text = &bytes[at..end];
        (!text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))).then_some((text, end + 2))
    };
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let (text, next) = line(at)?;
        let size = text.split(|byte| *byte == b';').next()?;
        if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        at = next;
        if size == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    for trailers in 0.. {
        let (text, next) = line(at)?;
        at = next;
        if text.is_empty() {
            return Some((data, trailers, at));
        }
        if text[0] == b' ' || text[0] == b'\t' {
            return None;
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::proxy::http::fuzz_cases()))]

    #[test]
    fn any_bytes_in_any_pieces_give_the_same_answer(
        bytes in prop::collection::vec(prop::sample::select(b"0123aF;\r\n x:".to_vec()), 0..60),
        piece in 1..9usize,
    ) {
        for trailers in [Trailers::Refused, Trailers::Dropped] {
            prop_assert_eq!(
                follow(&bytes, piece, trailers),
                follow(&bytes, 64, trailers)
            );
        }
    }

    #[test]
    fn a_body_that_passes_ends_where_the_book_says_and_holds_no_trailers(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "0", "1", "2", "a", "B", "x", ";", "\r\n", "\r\n", "\r\n", "\n", "\r", " ", "\t", "xy",
            "0\r\n", "0\r\n\r\n", "1\r\nz\r\n", "2;n=v\r\nzz\r\n", "X: 1\r\n", "-", "+", "0x", "\0",
        ]), 0..12),
    ) {
        let bytes = pieces.concat().into_bytes();
        for trailers in [Trailers::Refused, Trailers::Dropped] {
            if let Ok((taken, true)) = follow(&bytes, 3, trailers) {
                let book = by_the_book(&bytes);
                prop_assert_eq!(book.as_ref().map(|(_, _, end)| *end), Some(taken));
                let lines = book.map_or(0, |(_, lines, _)| lines);
                prop_assert!(lines == 0 || trailers == Trailers::Dropped);
            }
        }
    }

    #[test]
    fn what_is_well_formed_passes(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
        piece in 1..20usize,
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        let end = bytes.len();
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
        prop_assert_eq!(follow(&bytes, piece, Trailers::Refused), Ok((end, true)));
        prop_assert_eq!(by_the_book(&bytes), Some((chunks.concat(), 0, end)));
    }
}
