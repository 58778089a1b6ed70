//! What real Go said: `tests/go/fmt/cases.txt`, made by `go run ./fmt` in `tests/go`.

const CASES: &str = include_str!("../../../../../tests/go/fmt/cases.txt");

/// The bytes of a field that Go quoted with `%+q`.
fn unquoted(field: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.extend(c.to_string().bytes());
            continue;
        }
        let escape = rest.as_bytes()[0];
        rest = &rest[1..];
        let digits = match escape {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        let number = u32::from_str_radix(&rest[..digits], 16).unwrap_or(0);
        rest = &rest[digits..];
        match escape {
            b'x' => out.push(number as u8),
            b'u' | b'U' => out.extend(char::from_u32(number).unwrap().to_string().bytes()),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            other => out.push(other),
        }
    }
    out
}

/// The fields of the cases of one kind.
pub(crate) fn cases(kind: &str) -> Vec<Vec<Vec<u8>>> {
    let rows = CASES.lines().map(|line| line.split('\t').map(unquoted).collect::<Vec<_>>());
    let rows = rows.filter(|row| row[0] == kind.as_bytes());
    rows.map(|mut row| row.split_off(1)).collect()
}
