//! The moment of a line as text. The text of a second is made once per second and thread.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment, in the forms that the formats want.
#[derive(Debug, Default)]
pub struct Clock {
    second: Option<u64>,
    millis: u32,
    utc: String,
    local: String,
}

impl Clock {
    /// From now on it is `now`. Allocates nothing within a second that it knows.
    pub fn set(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.millis = since.subsec_millis();
        if self.second == Some(since.as_secs()) {
            return;
        }
        self.second = Some(since.as_secs());
        let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
        let moment = Timestamp::from_second(seconds).unwrap_or_default();
        self.utc.clear();
        self.local.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.utc, "{}", moment.strftime("%Y-%m-%dT%H:%M:%S"));
        let local = moment.to_zoned(TimeZone::system());
        let _ = write!(self.local, "{}", local.strftime("%d/%b/%Y:%H:%M:%S %z"));
    }

    /// RFC 3339 in UTC, to the millisecond.
    pub fn rfc3339(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{}.{:03}Z", self.utc, self.millis);
    }

    /// As in the common log format, in local time: `23/Nov/2026:04:13:01 +0000`.
    pub fn common(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.local.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_told_in_both_forms_and_moves_on() {
        let mut clock = Clock::default();
        let mut told = |millis| {
            clock.set(UNIX_EPOCH + Duration::from_millis(millis));
            let (mut utc, mut local) = (Vec::new(), Vec::new());
            clock.rfc3339(&mut utc);
            clock.common(&mut local);
            (String::from_utf8(utc).unwrap(), String::from_utf8(local).unwrap())
        };
        let (utc, local) = told(1_795_371_783_007);
        assert_eq!(utc, "2026-11-22T18:23:03.007Z");
        let zoned = jiff::Zoned::strptime("%d/%b/%Y:%H:%M:%S %z", &local).unwrap();
        assert_eq!(zoned.timestamp().as_second(), 1_795_371_783);
        assert_eq!(told(1_795_371_783_999).0, "2026-11-22T18:23:03.999Z");
        assert_eq!(told(1_795_371_784_000).0, "2026-11-22T18:23:04.000Z");
    }
}
