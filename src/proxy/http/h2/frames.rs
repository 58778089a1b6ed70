//! Frames of HTTP/2 (RFC 9113 §4.1) counted as they pass, and how many of those that carry nothing
//! a client may send. Pure: bytes and the time in, a verdict out.
//!
//! The library behind bounds what it keeps: streams, heads, resets that it has to send, empty and
//! small DATA. What costs it only time is not bounded there: a client that resets each stream as
//! soon as it is taken, or that sends SETTINGS, PING, PRIORITY or WINDOW_UPDATE without end.

/// Bytes of a frame's head.
const HEAD: usize = 9;
/// What a connection begins with, before its first frame (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Frames that carry nothing: so many at once, …
const IDLE_BURST: i64 = 1000;
/// … so many in a second, …
const IDLE_RATE: i64 = 100;
/// … and so many for each frame with a head or data, either way: a reader gives windows back, and
/// some measure the way by a PING with each piece.
const IDLE_EARNED: i64 = 4;
/// Streams that the client resets: so many at once, …
const RESET_BURST: i64 = 200;
/// … so many in a second, and as many as were answered.
const RESET_RATE: i64 = 50;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    kind: u8,
    flags: u8,
    length: u32,
}

/// Finds the heads of frames in any number of pieces.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; HEAD],
    known: usize,
    /// So many bytes belong to the frame before.
    skip: usize,
}

impl Frames {
    /// At the start of what a client sends.
    pub(super) const fn of_client() -> Self {
        Self { head: [0; HEAD], known: 0, skip: PREFACE.len() }
    }

    /// At the start of what a server sends.
    pub(super) const fn of_server() -> Self {
        Self { head: [0; HEAD], known: 0, skip: 0 }
    }

    /// Tells of each frame whose head ends in `bytes`.
    pub(super) fn advance(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let more = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + more].copy_from_slice(&bytes[..more]);
            self.known += more;
            bytes = &bytes[more..];
            if self.known == HEAD {
                let [a, b, c, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                self.known = 0;
                self.skip = length as usize;
                each(Frame { kind, flags, length });
            }
        }
    }
}

/// What a client sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// Frames that carry nothing.
    Frames,
    /// Resets of its own streams.
    Resets,
}

impl Flood {
    /// Lower-case word, as metrics write it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Resets => "resets",
        }
    }
}

/// What a client may still send.
#[derive(Debug)]
pub(super) struct Budget {
    idle: i64,
    resets: i64,
    /// Microseconds up to which time has been paid for.
    paid: u64,
}

impl Budget {
    /// That of a connection that begins at `now_micros`.
    pub(super) const fn new(now_micros: u64) -> Self {
        Self { idle: IDLE_BURST, resets: RESET_BURST, paid: now_micros }
    }

    /// Time has passed.
    pub(super) fn now(&mut self, now_micros: u64) {
        let seconds = now_micros.saturating_sub(self.paid) / 1_000_000;
        if seconds > 0 {
            self.paid += seconds * 1_000_000;
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            self.earn(IDLE_RATE.saturating_mul(seconds), RESET_RATE.saturating_mul(seconds));
        }
    }

    fn earn(&mut self, idle: i64, resets: i64) {
        self.idle = self.idle.saturating_add(idle).min(IDLE_BURST);
        self.resets = self.resets.saturating_add(resets).min(RESET_BURST);
    }

    /// The client has sent `frame`.
    pub(super) fn came(&mut self, frame: Frame) -> Option<Flood> {
        match frame.kind {
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => self.earn(IDLE_EARNED, 0),
            HEADERS => self.earn(IDLE_EARNED, 0),
            RST_STREAM => self.resets -= 1,
            _ => self.idle -= 1,
        }
        if self.resets < 0 {
            Some(Flood::Resets)
        } else if self.idle < 0 {
            Some(Flood::Frames)
        } else {
            None
        }
    }

    /// The client was sent `frame`.
    pub(super) fn went(&mut self, frame: Frame) {
        match frame.kind {
            DATA => self.earn(IDLE_EARNED, 0),
            HEADERS => self.earn(IDLE_EARNED, 1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_found_in_pieces_of_any_size() {
        let bytes = [
            PREFACE.to_vec(),
            frame(4, 0, &[0; 12]),
            frame(HEADERS, 5, b"abc"),
            frame(DATA, 1, b""),
            frame(6, 0, &[9; 8]),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let mut frames = Frames::of_client();
            let mut found = Vec::new();
            for part in bytes.chunks(piece) {
                frames.advance(part, |frame| found.push((frame.kind, frame.flags, frame.length)));
            }
            assert_eq!(found, [(4, 0, 12), (1, 5, 3), (0, 1, 0), (6, 0, 8)], "by {piece}");
        }
    }

    const PING: Frame = Frame { kind: 6, flags: 0, length: 8 };
    const RESET: Frame = Frame { kind: RST_STREAM, flags: 0, length: 4 };
    const HEAD: Frame = Frame { kind: HEADERS, flags: 5, length: 10 };

    /// After how many of `frame` the budget is used up.
    fn most(budget: &mut Budget, frame: Frame) -> usize {
        (0..1_000_000).find(|_| budget.came(frame).is_some()).unwrap()
    }

    #[test]
    fn frames_that_carry_nothing_are_bounded_whatever_they_are_called() {
        for kind in [2, 4, 6, 7, 8, 9, 0x42] {
            let frame = Frame { kind, flags: 0, length: 0 };
            assert_eq!(most(&mut Budget::new(0), frame), 1000, "kind {kind}");
        }
        let empty = Frame { kind: DATA, flags: 0, length: 0 };
        assert_eq!(most(&mut Budget::new(0), empty), 1000, "empty DATA");
        let mut budget = Budget::new(0);
        most(&mut budget, PING);
        budget.now(2_000_000);
        assert_eq!(most(&mut budget, PING), 199, "two seconds later");
        budget.now(3_600_000_000);
        assert_eq!(most(&mut budget, PING), 1000, "an hour later");
    }

    #[test]
    fn whoever_reads_or_sends_may_give_windows_back() {
        let mut budget = Budget::new(0);
        for _ in 0..100_000 {
            budget.went(Frame { kind: DATA, flags: 0, length: 1 });
            for _ in 0..4 {
                assert_eq!(budget.came(PING), None);
            }
        }
    }

    #[test]
    fn streams_that_are_reset_are_bounded_unless_as_many_are_answered() {
        let mut budget = Budget::new(0);
        let resets = (0..1_000_000).find(|_| {
            budget.came(HEAD);
            budget.came(RESET) == Some(Flood::Resets)
        });
        assert_eq!(resets, Some(200));
        let mut budget = Budget::new(0);
        for _ in 0..10_000 {
            budget.came(HEAD);
            budget.went(HEAD);
            assert_eq!(budget.came(RESET), None);
        }
    }
}
