//! Server-sent events, as far as Marathon sends them: bytes in, events out. Pure, push style.
//!
//! Reads what the HTML standard (§9.2.6) calls an event stream: lines that end in CR, LF or CRLF,
//! comments, fields, `data` over several lines. Bytes may be cut anywhere. What exceeds a limit is
//! skipped to its end and told as such: it costs itself only.

/// What the bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// An event with its type, empty when none was named, and its data.
    Event { kind: String, data: Vec<u8> },
    /// A comment, or an empty line with nothing before it: the server lives.
    Heartbeat,
    /// An event of this type was larger than allowed; its data is not kept.
    TooLarge { kind: String },
}

/// Longest name of a type; a longer one counts as no name.
const KIND_MAX: usize = 128;
/// Longest line that is no data: names of fields and types.
const FIELD_MAX: usize = 256;

/// A stream of events, as far as it was read.
#[derive(Debug)]
pub(super) struct Sse {
    /// Most bytes of one event's data.
    event_max: usize,
    /// The line that has begun, as far as it is kept.
    line: Vec<u8>,
    /// The line was longer than kept.
    cut: bool,
    /// The last byte was CR: a LF right behind it belongs to the same end of line.
    after_cr: bool,
    /// Whether nothing was read yet: a byte order mark may come.
    first: bool,
    kind: String,
    data: Vec<u8>,
    /// A field of an event was read since the last empty line.
    begun: bool,
    too_large: bool,
}

impl Sse {
    /// A stream whose events have at most `event_max` bytes of data.
    pub(super) fn new(event_max: usize) -> Self {
        Self {
            event_max,
            line: Vec::new(),
            cut: false,
            after_cr: false,
            first: true,
            kind: String::new(),
            data: Vec::new(),
            begun: false,
            too_large: false,
        }
    }

    /// Takes the next bytes in and tells `out` what they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut out: impl FnMut(Item)) {
        if bytes.is_empty() {
            return;
        }
        if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
            bytes = &bytes[1..];
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', bytes) {
            self.keep(&bytes[..end]);
            let ended_by_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if ended_by_cr {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.line(&mut out);
        }
        self.keep(bytes);
    }

    /// Keeps bytes of a line, as far as its limit goes.
    fn keep(&mut self, bytes: &[u8]) {
        let max = self.event_max + FIELD_MAX;
        let room = max.saturating_sub(self.line.len());
        self.cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// A line has ended.
    fn line(&mut self, out: &mut impl FnMut(Item)) {
        let mut line = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.cut);
        if std::mem::take(&mut self.first) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            self.dispatch(out);
        } else if line[0] == b':' {
            out(Item::Heartbeat);
        } else {
            self.field(&line, cut);
        }
        // The room is kept for the next line, unless it was an unusual one.
        if line.capacity() <= 64 << 10 {
            line.clear();
            self.line = line;
        }
    }

    fn field(&mut self, line: &[u8], cut: bool) {
        let colon = memchr::memchr(b':', line);
        let (name, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => {
                self.begun = true;
                self.kind = if value.len() <= KIND_MAX && !cut {
                    String::from_utf8_lossy(value).into_owned()
                } else {
                    String::new()
                };
            }
            b"data" => {
                self.begun = true;
                let fits = self.data.len() + value.len() <= self.event_max;
                if cut || !fits || self.too_large {
                    self.too_large = true;
                    self.data = Vec::new();
                } else {
                    self.data.extend_from_slice(value);
                    self.data.push(b'\n');
                }
            }
            // `id` and `retry` are not for us: nothing is resumed, and pauses are ours.
            _ => {}
        }
    }

    /// An empty line: what was read since the last one is an event, if there was any data.
    fn dispatch(&mut self, out: &mut impl FnMut(Item)) {
        let kind = std::mem::take(&mut self.kind);
        let mut data = std::mem::take(&mut self.data);
        let begun = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.too_large) {
            out(Item::TooLarge { kind });
        } else if data.is_empty() {
            if !begun {
                out(Item::Heartbeat);
            }
        } else {
            data.pop();
            out(Item::Event { kind, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], cuts: &[usize], max: usize) -> Vec<Item> {
        let mut sse = Sse::new(max);
        let mut items = Vec::new();
        let mut rest = bytes;
        for cut in cuts {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            sse.push(now, |item| items.push(item));
            rest = later;
        }
        sse.push(rest, |item| items.push(item));
        items
    }

    fn event(kind: &str, data: &str) -> Item {
        Item::Event { kind: kind.into(), data: data.into() }
    }

    #[test]
    fn lines_of_every_ending_comments_and_data_over_several_lines_are_read() {
        for (case, text, want) in [
            (
                "as Marathon sends it",
                "event: a_event\ndata: {\"x\":1}\n\n",
                vec![event("a_event", "{\"x\":1}")],
            ),
            ("CRLF", "event: a\r\ndata: b\r\n\r\n", vec![event("a", "b")]),
            ("CR", "event: a\rdata: b\r\rdata: c\r\r", vec![event("a", "b"), event("", "c")]),
            (
                "all mixed",
                "event: a\rdata: b\n\r\ndata: c\r\n\n",
                vec![event("a", "b"), event("", "c")],
            ),
            ("no space behind the colon", "event:a\ndata:b\n\n", vec![event("a", "b")]),
            ("one space of two belongs to the value", "data:  b\n\n", vec![event("", " b")]),
            ("several lines", "data: a\ndata\ndata: b\n\n", vec![event("", "a\n\nb")]),
            ("a byte order mark", "\u{feff}data: a\n\n", vec![event("", "a")]),
            ("bare ends of lines", "\r\n\n\r", vec![Item::Heartbeat; 3]),
            ("a comment", ": still here\n", vec![Item::Heartbeat]),
            ("no data, no event", "event: a\n\ndata: b\n\n", vec![event("", "b")]),
            (
                "unknown fields, id and retry",
                "id: 7\nretry: 1\nfoo: x\nbar\ndata: b\n\n",
                vec![event("", "b")],
            ),
            ("an event that has not ended", "event: a\ndata: b\n", vec![]),
            (
                "a heartbeat within an event is its end",
                "event: a\ndata: b\n\n\n",
                vec![event("a", "b"), Item::Heartbeat],
            ),
        ] {
            assert_eq!(read(text.as_bytes(), &[], 100), want, "{case}");
            let cuts = vec![1; text.len()];
            assert_eq!(read(text.as_bytes(), &cuts, 100), want, "{case}, byte by byte");
        }
    }

    #[test]
    fn an_event_above_the_limit_is_told_and_the_next_one_is_read() {
        let large = format!("event: big\ndata: {}\n\ndata: b\n\n", "x".repeat(5000));
        let want = vec![Item::TooLarge { kind: "big".into() }, event("", "b")];
        assert_eq!(read(large.as_bytes(), &[10, 700, 3], 100), want);
        let lines = format!("event: big\n{}\ndata: b\n\n", "data: 1234567890\n".repeat(11));
        assert_eq!(read(lines.as_bytes(), &[], 100), want);
        let fits = format!("data: {}\n\n", "x".repeat(100));
        assert_eq!(read(fits.as_bytes(), &[], 100), [event("", &"x".repeat(100))]);
        let mut sse = Sse::new(100);
        for _ in 0..1000 {
            sse.push(&[b'x'; 100], |item| panic!("{item:?}"));
        }
        assert!(sse.line.len() <= 100 + FIELD_MAX, "an endless line takes no room");
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_never_changes_what_they_say(
            text in "(event: [a-c]\n|data: [a-c]{0,9}(\n|\r|\r\n)|: c\n|(\n|\r|\r\n)|[a-d]{0,3}:? ?[a-c]?\n){0,20}",
            cuts in proptest::collection::vec(0_usize..7, 0..40),
        ) {
            prop_assert_eq!(read(text.as_bytes(), &cuts, 12), read(text.as_bytes(), &[], 12));
        }

        #[test]
        fn no_bytes_make_it_fail(bytes in any::<Vec<u8>>(), cuts in proptest::collection::vec(0_usize..9, 0..9)) {
            read(&bytes, &cuts, 20);
        }
    }
}
