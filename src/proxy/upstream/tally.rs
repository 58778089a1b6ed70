//! What an endpoint counts of its work: what HAProxy counts of its servers.
//!
//! It lies beside the endpoint's load and belongs to its identity as that does. All of it is counted on
//! the hot path, by relaxed atomics; rates, and when something was last, are worked out by who reads.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Pieces of work over which times are averaged, as in HAProxy.
const SAMPLES: u64 = 512;
/// Kinds of trouble.
pub const TROUBLES: usize = 6;

/// What may go wrong at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It could not be connected to, and nobody else was tried.
    Connect,
    /// It broke off, took too long, or what it sent was no answer.
    Response,
    /// The work was tried again,
    Retried,
    /// at another endpoint.
    Redispatched,
    /// The client broke off.
    ClientLeft,
    /// The endpoint broke off while its answer was on its way.
    EndpointLeft,
}

/// What takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Until an endpoint was there for it.
    Queue,
    /// To a new connection.
    Connect,
    /// From then to the head of the answer.
    Response,
    /// All of it.
    Total,
}

/// The counters of one endpoint; at most 200 bytes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Tally {
    sessions: AtomicU64,
    /// From clients, and to them.
    bytes: [AtomicU64; 2],
    /// Answers by the first digit of their status, 1 to 5; index 0 counts all others.
    classes: [AtomicU64; 6],
    troubles: [AtomicU64; TROUBLES],
    /// Connections that were made, and work on those that were kept.
    connects: [AtomicU64; 2],
    times: [Time; 4],
    most: AtomicU32,
}

/// How long one step took.
#[derive(Debug, Default)]
struct Time {
    /// Average in microseconds; the bits of an `f32`.
    average: AtomicU32,
    most_micros: AtomicU32,
}

impl Time {
    fn note(&self, micros: u64, samples: u64) {
        let micros = u32::try_from(micros).unwrap_or(u32::MAX);
        let known = f32::from_bits(self.average.load(Relaxed));
        let next = known + (micros as f32 - known) / samples.clamp(1, SAMPLES) as f32;
        self.average.store(next.to_bits(), Relaxed);
        if micros > self.most_micros.load(Relaxed) {
            self.most_micros.fetch_max(micros, Relaxed);
        }
    }
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Told {
    /// Pieces of work that began: requests or connections, each try for itself.
    pub sessions: u64,
    /// Most that ran at once.
    pub most: u32,
    /// Bytes from clients and to them: of bodies, where it is HTTP.
    pub bytes: [u64; 2],
    /// Answers by the first digit of their status, 1 to 5; index 0 counts all others.
    pub classes: [u64; 6],
    /// By [`Trouble`].
    pub troubles: [u64; TROUBLES],
    /// Connections that were made, and work on those that were kept.
    pub connects: [u64; 2],
    /// By [`Step`]: average and most, in microseconds.
    pub times: [(f32, u32); 4],
}

impl AddAssign for Told {
    fn add_assign(&mut self, other: Self) {
        let weight = |sessions: u64| sessions.min(SAMPLES) as f32;
        let (own, others) = (weight(self.sessions), weight(other.sessions));
        for (time, (average, most)) in self.times.iter_mut().zip(other.times) {
            if own + others > 0.0 {
                time.0 = time.0.mul_add(own, average * others) / (own + others);
            }
            time.1 = time.1.max(most);
        }
        let pairs = [(&mut self.bytes, other.bytes), (&mut self.connects, other.connects)];
        for (own, others) in pairs {
            own.iter_mut().zip(others).for_each(|(own, other)| *own += other);
        }
        let pairs = [(&mut self.classes, other.classes), (&mut self.troubles, other.troubles)];
        for (own, others) in pairs {
            own.iter_mut().zip(others).for_each(|(own, other)| *own += other);
        }
        self.sessions += other.sessions;
        self.most = self.most.max(other.most);
    }
}

impl Tally {
    /// One more piece of work runs, `running` of them now.
    pub(super) fn began(&self, running: u32) {
        self.sessions.fetch_add(1, Relaxed);
        if running > self.most.load(Relaxed) {
            self.most.fetch_max(running, Relaxed);
        }
    }

    /// Whether nothing has ever begun there.
    pub(super) fn untouched(&self) -> bool {
        self.sessions.load(Relaxed) == 0
    }

    /// Where the bytes from clients are counted, and those to them.
    #[must_use]
    pub const fn bytes(&self) -> &[AtomicU64; 2] {
        &self.bytes
    }

    /// So many bytes came from a client, and went to it.
    pub fn passed(&self, [there, back]: [u64; 2]) {
        for (counter, bytes) in self.bytes.iter().zip([there, back]) {
            if bytes > 0 {
                counter.fetch_add(bytes, Relaxed);
            }
        }
    }

    /// The client got an answer with `status`; 0: none.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100);
        self.classes[if class > 5 { 0 } else { class }].fetch_add(1, Relaxed);
    }

    /// Something went wrong.
    pub fn troubled(&self, trouble: Trouble) {
        self.troubles[trouble as usize].fetch_add(1, Relaxed);
    }

    /// A try failed; `again` says that the work goes on at another endpoint.
    pub fn failed(&self, again: bool) {
        if again {
            self.troubled(Trouble::Retried);
            self.troubled(Trouble::Redispatched);
        } else {
            self.troubled(Trouble::Connect);
        }
    }

    /// A connection is there, a new one or one that was kept.
    pub fn connected(&self, reused: bool) {
        self.connects[usize::from(reused)].fetch_add(1, Relaxed);
    }

    /// A step took so long.
    pub fn took(&self, step: Step, micros: u64) {
        self.times[step as usize].note(micros, self.sessions.load(Relaxed));
    }

    /// What was counted so far.
    #[must_use]
    pub fn told(&self) -> Told {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Told {
            sessions: read(&self.sessions),
            most: self.most.load(Relaxed),
            bytes: self.bytes.each_ref().map(read),
            classes: self.classes.each_ref().map(read),
            troubles: self.troubles.each_ref().map(read),
            connects: self.connects.each_ref().map(read),
            times: self.times.each_ref().map(|time| {
                (f32::from_bits(time.average.load(Relaxed)), time.most_micros.load(Relaxed))
            }),
        }
    }

    /// What `other` has counted counts here from now on.
    pub(super) fn take_over(&self, other: &Self) {
        let told = other.told();
        let add = |to: &[AtomicU64], what: &[u64]| {
            to.iter().zip(what).for_each(|(to, what)| {
                to.fetch_add(*what, Relaxed);
            });
        };
        self.sessions.fetch_add(told.sessions, Relaxed);
        add(&self.bytes, &told.bytes);
        add(&self.classes, &told.classes);
        add(&self.troubles, &told.troubles);
        add(&self.connects, &told.connects);
        self.most.fetch_max(told.most, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_an_endpoint_take_at_most_200_bytes() {
        assert!(size_of::<Tally>() <= 200, "{}", size_of::<Tally>());
    }

    #[test]
    fn an_average_is_that_of_all_until_there_are_512_of_them_and_follows_after_that() {
        let tally = Tally::default();
        let average = || tally.told().times[Step::Total as usize].0;
        for micros in [100, 200, 300] {
            tally.began(1);
            tally.took(Step::Total, micros);
        }
        assert!((average() - 200.0).abs() < 0.01, "{}", average());
        for _ in 0..5000 {
            tally.began(1);
            tally.took(Step::Total, 900);
        }
        assert!((average() - 900.0).abs() < 1.0, "{}", average());
        assert_eq!(tally.told().times[Step::Total as usize].1, 900);
    }

    #[test]
    fn what_one_counted_that_is_gone_is_not_lost() {
        let (gone, stays) = (Tally::default(), Tally::default());
        for running in [1, 2, 3] {
            gone.began(running);
        }
        gone.passed([10, 20]);
        gone.answered(200);
        gone.answered(999);
        gone.failed(true);
        gone.failed(false);
        gone.connected(false);
        stays.began(1);
        stays.take_over(&gone);
        let told = stays.told();
        assert_eq!((told.sessions, told.most, told.bytes), (4, 3, [10, 20]));
        assert_eq!((told.classes[2], told.classes[0], told.connects), (1, 1, [1, 0]));
        assert_eq!(told.troubles, [1, 0, 1, 1, 0, 0]);
    }

    #[test]
    fn a_sum_weighs_averages_by_how_much_went_into_them() {
        let told = |sessions, average| Told {
            sessions,
            times: [(average, 7), (0.0, 0), (0.0, 0), (0.0, 0)],
            ..Told::default()
        };
        let mut sum = Told::default();
        sum += told(1, 100.0);
        sum += told(3, 200.0);
        assert!((sum.times[0].0 - 175.0).abs() < 0.01, "{:?}", sum.times);
        assert_eq!((sum.sessions, sum.times[0].1), (4, 7));
    }
}
