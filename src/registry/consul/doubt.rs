//! What may be wrong by omission, and until when. Pure.
//!
//! A registry that was just found again, has another leader or counts anew may know less than is
//! true. What it then takes away is noted here and published as suspect; a second, consistent read
//! no sooner than `hold` later says whether it is really gone. When nothing was lost and everything
//! was read again, the suspicion ends before that.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::agent::Target;
use crate::catalog::SourceService;

/// Pause after a second read that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Most second reads under way at once.
const READS_MAX: usize = 8;

/// A service that lost instances while they may be there.
#[derive(Debug)]
pub(super) struct Lost {
    /// As it was before.
    before: Arc<SourceService>,
    pub(super) why: Arc<str>,
    /// The list of services lacks it, rather than its own answer.
    by_list: bool,
    /// The answer that lacks them was filtered by ACLs.
    pub(super) filtered: bool,
    /// When it is read again.
    due: Instant,
    asked: bool,
}

/// When the keys of a prefix are read again.
#[derive(Debug)]
struct LostKeys {
    due: Instant,
    asked: bool,
}

/// A time in which everything is suspect.
#[derive(Debug)]
struct Window {
    why: Arc<str>,
    /// None until anything was read: an agent may be there and hold all answers back.
    until: Option<Instant>,
    /// When all of these were read, it is over if nothing was lost; none: not before its time.
    pending: Option<BTreeSet<Target>>,
}

#[derive(Debug)]
pub(super) struct Doubts {
    hold: Duration,
    window: Option<Window>,
    lost: BTreeMap<Arc<str>, Lost>,
    /// Prefixes that lost keys while those may be there.
    keys: BTreeMap<Arc<str>, LostKeys>,
}

impl Doubts {
    pub(super) const fn new(hold: Duration) -> Self {
        Self { hold, window: None, lost: BTreeMap::new(), keys: BTreeMap::new() }
    }

    /// Everything is suspect from now on.
    pub(super) fn open(&mut self, why: &str, pending: Option<BTreeSet<Target>>, now: Instant) {
        let why = why.into();
        let until = pending.is_none().then_some(now + self.hold);
        self.window = Some(Window { why, until, pending });
    }

    /// Why everything is suspect, if it is.
    pub(super) fn everything(&self) -> Option<&Arc<str>> {
        self.window.as_ref().map(|window| &window.why)
    }

    /// `target` was read.
    pub(super) fn read(&mut self, target: &Target, now: Instant) {
        if let Some(window) = &mut self.window {
            window.until.get_or_insert(now + self.hold);
        }
        self.need_not(target);
    }

    fn need_not(&mut self, target: &Target) {
        if let Some(Window { pending: Some(pending), .. }) = &mut self.window {
            pending.remove(target);
        }
    }

    /// `target` is not followed any more.
    pub(super) fn forget(&mut self, name: &Arc<str>) {
        self.lost.remove(name);
        self.need_not(&Target::Service(Arc::clone(name)));
    }

    /// Ends the time of suspicion when it is over; true if it ended.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let Some(window) = &self.window else { return false };
        let read = window.pending.as_ref().is_some_and(BTreeSet::is_empty);
        let settled = self.lost.is_empty() && self.keys.is_empty();
        let over = settled && (read || window.until.is_some_and(|until| now >= until));
        if over {
            self.window = None;
        }
        over
    }

    /// Whether keys of `prefix` that an answer lacks are to be kept until a second read.
    pub(super) fn keeps_keys(&mut self, prefix: &Arc<str>, doubt: bool, now: Instant) -> bool {
        if self.keys.contains_key(prefix) {
            return true;
        }
        let kept = doubt || self.everything().is_some();
        if kept {
            let lost = LostKeys { due: now + self.hold, asked: false };
            self.keys.insert(Arc::clone(prefix), lost);
        }
        kept
    }

    /// All keys of `prefix` are there again, or really gone.
    pub(super) fn confirmed_keys(&mut self, prefix: &str) {
        self.keys.remove(prefix);
    }

    /// What is lost and not confirmed.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.lost.keys()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Lost> {
        self.lost.get(name)
    }

    /// Whether what the list lacks, it lacked when it was filtered already.
    pub(super) fn filtered(&self) -> bool {
        self.lost.values().filter(|lost| lost.by_list).all(|lost| lost.filtered)
    }

    /// How many services lost something that is not confirmed.
    pub(super) fn len(&self) -> usize {
        self.lost.len()
    }

    /// Weighs a new answer about a service, given with `doubt` if there is one. Returns why it is
    /// suspect, if it is.
    pub(super) fn weigh(
        &mut self,
        name: &Arc<str>,
        before: Option<&Arc<SourceService>>,
        now_said: Option<&SourceService>,
        (doubt, filtered, by_list): (Option<&str>, bool, bool),
        now: Instant,
    ) -> Option<Arc<str>> {
        if let Some(lost) = self.lost.get_mut(name) {
            if loses(&lost.before, now_said) {
                lost.by_list |= by_list;
                return Some(Arc::clone(&lost.why));
            }
            self.lost.remove(name);
            return None;
        }
        let whole = self.everything().cloned();
        let why = doubt.map(Arc::from).or(whole)?;
        let before = before.filter(|before| loses(before, now_said))?;
        let lost = Lost {
            before: Arc::clone(before),
            why: Arc::clone(&why),
            by_list,
            filtered,
            due: now + self.hold,
            asked: false,
        };
        self.lost.insert(Arc::clone(name), lost);
        Some(why)
    }

    /// What is to be read a second time now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Target> {
        let asked: HashSet<bool> =
            self.lost.values().filter(|lost| lost.asked).map(|lost| lost.by_list).collect();
        let mut targets = Vec::new();
        let mut under_way = self.lost.values().filter(|l| l.asked && !l.by_list).count();
        let list_under_way = asked.contains(&true);
        let mut list = false;
        for (name, lost) in &mut self.lost {
            if lost.asked || lost.due > now {
                continue;
            }
            if lost.by_list {
                // One list says it of all of them.
                if !list_under_way {
                    lost.asked = true;
                    list = true;
                }
            } else if under_way < READS_MAX {
                under_way += 1;
                lost.asked = true;
                targets.push(Target::Service(Arc::clone(name)));
            }
        }
        if list {
            targets.push(Target::Names);
        }
        for (prefix, lost) in self.keys.iter_mut().filter(|(_, l)| !l.asked && l.due <= now) {
            lost.asked = true;
            targets.push(Target::Keys(Arc::clone(prefix)));
        }
        targets
    }

    /// A second read of `target` failed: once more later.
    pub(super) fn unread(&mut self, target: &Target, now: Instant) {
        if let Target::Keys(prefix) = target
            && let Some(lost) = self.keys.get_mut(prefix)
        {
            *lost = LostKeys { due: now + AGAIN, asked: false };
        }
        for (name, lost) in &mut self.lost {
            let about = match target {
                Target::Names => lost.by_list,
                Target::Service(read) => read == name,
                Target::Keys(_) | Target::Nodes => false,
            };
            if about && lost.asked {
                lost.asked = false;
                lost.due = now + AGAIN;
            }
        }
    }

    /// A second read of the service is there: whatever it says is true.
    pub(super) fn confirmed(&mut self, name: &str) {
        self.lost.remove(name);
    }

    /// A second read of the list has `listed` names. Returns those that are really gone; the
    /// others are read by themselves.
    pub(super) fn confirmed_list(
        &mut self,
        listed: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        for (name, lost) in &mut self.lost {
            if !lost.by_list || !lost.asked {
                continue;
            }
            if listed(name) {
                lost.by_list = false;
                lost.asked = false;
                lost.due = now;
            } else {
                gone.push(Arc::clone(name));
            }
        }
        for name in &gone {
            self.lost.remove(name);
        }
        gone
    }
}

/// Whether instances of `before` that served are gone, or do not serve any more.
fn loses(before: &SourceService, now: Option<&SourceService>) -> bool {
    let instances = now.into_iter().flat_map(|now| &now.instances);
    let serve: HashSet<&Arc<str>> =
        instances.filter(|i| i.health.serves()).map(|instance| &instance.id).collect();
    before.instances.iter().any(|i| i.health.serves() && !serve.contains(&i.id))
}
