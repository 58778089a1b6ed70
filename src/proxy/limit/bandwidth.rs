//! How fast a response goes out, as nginx's `limit_rate` and `limit_rate_after` mean it: by whole
//! seconds since it began, each of which allows so many bytes more; the first one at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Tells the limit of the running response from whoever decides to whoever writes, and how much was
/// written back.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    rate: AtomicU64,
    after: AtomicU64,
    /// Only the connection writes it.
    written: AtomicU64,
}

impl Pace {
    /// From here on `rate` bytes go out in a second, beyond the first `after`; 0: as many as will.
    pub fn set(&self, rate: u64, after: u64) {
        self.0.after.store(after, Relaxed);
        self.0.rate.store(rate, Relaxed);
    }

    /// Another response: no limit any more, and nothing of it is written.
    pub fn clear(&self) {
        self.0.rate.store(0, Relaxed);
        self.0.written.store(0, Relaxed);
    }

    /// So many bytes more went out, of heads, framing and body.
    pub fn wrote(&self, bytes: usize) {
        self.0.written.store(self.written() + bytes as u64, Relaxed);
    }

    /// How many bytes of this response went out.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.written.load(Relaxed)
    }

    /// The limit, when there is one.
    #[must_use]
    pub fn limit(&self) -> Option<Bandwidth> {
        let rate = self.0.rate.load(Relaxed);
        (rate > 0).then(|| Bandwidth { rate, after: self.0.after.load(Relaxed), sent: 0 })
    }
}

/// What one response may send, and has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    rate: u64,
    after: u64,
    sent: u64,
}

/// What may be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// So many bytes may be sent, at least one.
    Bytes(usize),
    /// Nothing before so long after the response began.
    NotBefore(Duration),
}

impl Bandwidth {
    /// What may be done when `elapsed` has passed since the response began.
    #[must_use]
    pub fn allowance(&self, elapsed: Duration) -> Allowance {
        let seconds = elapsed.as_secs().saturating_add(1);
        let allowed = self.after.saturating_add(self.rate.saturating_mul(seconds));
        match usize::try_from(allowed.saturating_sub(self.sent)) {
            Ok(0) => {
                let debt = self.sent.saturating_sub(self.after);
                Allowance::NotBefore(Duration::from_secs(debt / self.rate.max(1)))
            }
            Ok(bytes) => Allowance::Bytes(bytes),
            Err(_) => Allowance::Bytes(usize::MAX),
        }
    }

    /// So many bytes have gone out.
    pub const fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rate: u64, after: u64) -> Bandwidth {
        let pace = Pace::default();
        pace.set(rate, after);
        pace.limit().unwrap()
    }

    /// When the last of `size` bytes goes out, written in pieces of `piece` as soon as may be; and
    /// the most that goes out within one second.
    fn download(mut bandwidth: Bandwidth, size: usize, piece: usize) -> (Duration, usize) {
        let (mut left, mut now, mut in_second, mut most) = (size, Duration::ZERO, 0, 0);
        while left > 0 {
            match bandwidth.allowance(now) {
                Allowance::Bytes(bytes) => {
                    let sent = bytes.min(piece).min(left);
                    bandwidth.sent(sent);
                    left -= sent;
                    in_second += sent;
                    most = most.max(in_second);
                }
                Allowance::NotBefore(then) => {
                    assert!(then > now, "it would spin: {then:?} at {now:?}");
                    now = then;
                    in_second = 0;
                }
            }
        }
        (now, most)
    }

    #[test]
    fn downloads_take_as_long_as_behind_nginx_and_burst_no_more() {
        for (case, rate, after, size, seconds, most) in [
            ("within the first second", 1000, 0, 1000, 0, 1000),
            ("one byte more", 1000, 0, 1001, 1, 1000),
            ("two and a half", 1000, 0, 2500, 2, 1000),
            ("ten", 1000, 0, 10_000, 9, 1000),
            ("a start for nothing", 1000, 5000, 6000, 0, 6000),
            ("and then the rate", 1000, 5000, 8000, 2, 6000),
            ("a byte a second", 1, 0, 5, 4, 1),
        ] {
            for piece in [1, 7, 65_536] {
                let (took, burst) = download(limit(rate, after), size, piece);
                assert_eq!(
                    (took, burst),
                    (Duration::from_secs(seconds), most),
                    "{case} by {piece}"
                );
            }
        }
    }

    #[test]
    fn time_without_a_byte_is_made_up_for_as_by_nginx() {
        let mut bandwidth = limit(1000, 0);
        bandwidth.sent(500);
        let later = Duration::from_millis(3200);
        assert_eq!(bandwidth.allowance(later), Allowance::Bytes(3500));
    }

    #[test]
    fn no_rate_is_no_limit_and_a_huge_one_does_not_overflow() {
        let pace = Pace::default();
        assert_eq!(pace.limit(), None);
        pace.set(5, 0);
        pace.clear();
        assert_eq!(pace.limit(), None);
        let mut huge = limit(u64::MAX, u64::MAX);
        huge.sent(usize::MAX);
        assert!(matches!(
            huge.allowance(Duration::MAX),
            Allowance::Bytes(_) | Allowance::NotBefore(_)
        ));
    }
}
