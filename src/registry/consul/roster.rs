//! Which services hold a watch of their own, and which take turns. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Most turns under way at once.
const TURNS_MAX: usize = 16;
/// A service has a turn no sooner than so long after its last.
const TURN_PAUSE: Duration = Duration::from_secs(1);
/// A watch is not taken away from a service that got it, or changed, this recently.
const SETTLED: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Roster {
    /// With a watch; when it was given, or the service changed last.
    watched: HashMap<Arc<str>, Instant>,
    /// Without one, the next turn first.
    queue: VecDeque<Arc<str>>,
    /// When a service of the queue had its turn last.
    looked_at: HashMap<Arc<str>, Instant>,
    /// Whose turn it is.
    turns: BTreeSet<Arc<str>>,
    capacity: usize,
}

/// Watches to begin and to end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) begin: Vec<Arc<str>>,
    pub(super) end: Vec<Arc<str>>,
}

impl Roster {
    /// Exactly `wanted` are followed from now on, by at most `capacity` requests at once.
    pub(super) fn fill(
        &mut self,
        wanted: &BTreeSet<Arc<str>>,
        capacity: usize,
        now: Instant,
    ) -> Moves {
        self.capacity = capacity;
        let capacity = capacity.max(2);
        let room = if wanted.len() <= capacity { capacity } else { capacity - self.turns_max() };
        let mut moves = Moves::default();
        let mut kept: Vec<_> = self.watched.keys().cloned().collect();
        kept.sort_unstable();
        let mut left = room;
        for name in kept {
            if wanted.contains(&name) && left > 0 {
                left -= 1;
            } else {
                self.watched.remove(&name);
                moves.end.push(name);
            }
        }
        self.looked_at.retain(|name, _| wanted.contains(name));
        self.queue.retain(|name| wanted.contains(name));
        let mut waiting: BTreeSet<_> = self.queue.iter().cloned().collect();
        for name in wanted.iter().filter(|name| !self.watched.contains_key(*name)) {
            if waiting.insert(Arc::clone(name)) {
                // Never looked at, so that it comes before those that were.
                self.queue.push_front(Arc::clone(name));
            }
        }
        for _ in 0..left {
            let Some(name) = self.queue.pop_front() else { break };
            self.watched.insert(Arc::clone(&name), now);
            moves.begin.push(name);
        }
        moves
    }

    const fn turns_max(&self) -> usize {
        let quarter = self.capacity / 4;
        if quarter == 0 {
            1
        } else if quarter > TURNS_MAX {
            TURNS_MAX
        } else {
            quarter
        }
    }

    /// Whose turn is next, if there is room for one.
    pub(super) fn turn(&mut self, now: Instant) -> Option<Arc<str>> {
        if self.turns.len() >= self.turns_max() {
            return None;
        }
        let next = self.queue.front()?;
        let looked_at = self.looked_at.get(next);
        if looked_at.is_some_and(|at| now.saturating_duration_since(*at) < TURN_PAUSE) {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.turns.insert(Arc::clone(&next));
        self.queue.push_back(Arc::clone(&next));
        self.looked_at.insert(Arc::clone(&next), now);
        Some(next)
    }

    /// The turn of `name` is over. One that `changed` gets the watch of whoever was quiet longest.
    pub(super) fn turned(&mut self, name: &str, changed: bool, now: Instant) -> Moves {
        self.turns.remove(name);
        let Some(at) = self.queue.iter().position(|queued| &**queued == name) else {
            return Moves::default();
        };
        let settled = |at: Instant| now.saturating_duration_since(at) >= SETTLED;
        let quietest = self.watched.iter().min_by_key(|(name, at)| (**at, Arc::clone(name)));
        let quietest = quietest.filter(|(_, at)| settled(**at)).map(|(name, _)| Arc::clone(name));
        let (true, Some(quietest)) = (changed, quietest) else { return Moves::default() };
        let Some(name) = self.queue.remove(at) else { return Moves::default() };
        self.watched.remove(&quietest);
        self.queue.push_back(Arc::clone(&quietest));
        self.looked_at.insert(Arc::clone(&quietest), now);
        self.watched.insert(Arc::clone(&name), now);
        Moves { begin: vec![name], end: vec![quietest] }
    }

    /// The service called `name` is gone; if it comes back, it is a new one.
    pub(super) fn forget(&mut self, name: &str) {
        self.watched.remove(name);
        self.looked_at.remove(name);
        self.queue.retain(|queued| &**queued != name);
    }

    /// A watch brought news of `name`.
    pub(super) fn changed(&mut self, name: &str, now: Instant) {
        if let Some(at) = self.watched.get_mut(name) {
            *at = now;
        }
    }

    /// Something changed about `names`: those that wait come next.
    pub(super) fn hint<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>) {
        let hinted: BTreeSet<&Arc<str>> = names.collect();
        if self.queue.is_empty() || hinted.is_empty() {
            return;
        }
        let (first, rest): (Vec<_>, Vec<_>) =
            self.queue.drain(..).partition(|name| hinted.contains(name));
        for name in &first {
            self.looked_at.remove(name);
        }
        self.queue.extend(first.into_iter().chain(rest));
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many have no watch.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> BTreeSet<Arc<str>> {
        (0..count).map(|n| format!("s{n:03}").into()).collect()
    }

    #[test]
    fn everybody_has_a_watch_while_there_is_room() {
        let mut roster = Roster::default();
        let now = Instant::now();
        assert_eq!(roster.fill(&names(5), 8, now).begin.len(), 5);
        assert_eq!(roster.fill(&names(5), 8, now), Moves::default(), "nothing changed");
        assert_eq!(roster.turn(now), None);
        let moves = roster.fill(&names(3), 8, now);
        assert_eq!((moves.end.len(), roster.watched.len(), roster.waiting()), (2, 3, 0));
    }

    #[test]
    fn beyond_the_room_everybody_has_a_turn_before_anybody_has_a_second() {
        let mut roster = Roster::default();
        let now = Instant::now();
        let moves = roster.fill(&names(40), 8, now);
        assert_eq!((moves.begin.len(), roster.waiting()), (6, 34));
        let mut seen = BTreeSet::new();
        for _ in 0..34 {
            let name = roster.turn(now).unwrap();
            assert!(seen.insert(Arc::clone(&name)), "{name} twice");
            roster.turned(&name, false, now);
        }
        assert_eq!(roster.turn(now), None, "no second turn within a second");
        let later = now + TURN_PAUSE;
        let turns = std::iter::from_fn(|| roster.turn(later));
        assert_eq!(turns.count(), 2, "a quarter of the requests are for turns");
    }

    #[test]
    fn who_changed_gets_the_watch_of_who_was_quiet_and_a_hint_comes_first() {
        let mut roster = Roster::default();
        let now = Instant::now();
        roster.fill(&names(10), 4, now);
        let hinted: Arc<str> = "s001".into();
        roster.hint([&hinted].into_iter());
        let name = roster.turn(now).unwrap();
        assert_eq!(name, hinted);
        assert_eq!(roster.turned(&name, true, now), Moves::default(), "watches are fresh");
        let later = now + SETTLED;
        let name = roster.turn(later).unwrap();
        let moves = roster.turned(&name, true, later);
        assert_eq!((&moves.begin[..], moves.end.len()), (&[name][..], 1));
        assert_eq!((roster.watched.len(), roster.waiting()), (3, 7));
    }
}
