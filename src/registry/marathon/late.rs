//! Events that come while something is being read: the answer may be older than they are. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::Event;

/// Most events that are kept for one read. What is beyond is in the marks that it leaves behind.
const KEPT_MAX: usize = 10_000;

/// Events by the read that may not know of them.
#[derive(Debug, Default)]
pub(super) struct Late {
    full: Option<Vec<Event>>,
    apps: HashMap<Arc<str>, Vec<Event>>,
}

impl Late {
    /// A read of everything begins.
    pub(super) fn full_begins(&mut self) {
        self.full = Some(Vec::new());
    }

    /// A read of one app begins.
    pub(super) fn app_begins(&mut self, id: &Arc<str>) {
        self.apps.insert(Arc::clone(id), Vec::new());
    }

    /// An event came. Only those are kept that say at once what is true.
    pub(super) fn heard(&mut self, event: &Event) {
        if !matches!(event, Event::Task { .. } | Event::Health { .. }) {
            return;
        }
        let of_app = event.app().and_then(|app| self.apps.get_mut(app));
        for kept in self.full.iter_mut().chain(of_app) {
            if kept.len() < KEPT_MAX {
                kept.push(event.clone());
            }
        }
    }

    /// A read of everything has ended: what it may not know of.
    pub(super) fn full_ended(&mut self) -> Vec<Event> {
        self.full.take().unwrap_or_default()
    }

    /// A read of one app has ended: what it may not know of.
    pub(super) fn app_ended(&mut self, id: &str) -> Vec<Event> {
        self.apps.remove(id).unwrap_or_default()
    }

    /// Nothing is being read any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::TaskState;
    use super::*;

    #[test]
    fn an_event_is_kept_for_every_read_under_way_that_may_not_know_of_it() {
        let task = |app: &str, task: &str| Event::Task {
            app: app.into(),
            task: task.into(),
            state: TaskState::Killing,
        };
        let mut late = Late::default();
        late.heard(&task("/a", "1"));
        late.app_begins(&"/a".into());
        late.heard(&task("/a", "2"));
        late.heard(&task("/b", "3"));
        late.full_begins();
        late.heard(&task("/a", "4"));
        late.heard(&Event::Dirty("/a".into()));
        assert_eq!(late.app_ended("/a"), [task("/a", "2"), task("/a", "4")]);
        late.heard(&task("/a", "5"));
        assert_eq!(late.full_ended(), [task("/a", "4"), task("/a", "5")]);
        late.heard(&task("/a", "6"));
        assert_eq!((late.full_ended(), late.app_ended("/a")), (vec![], vec![]));
        late.full_begins();
        for _ in 0..KEPT_MAX + 5 {
            late.heard(&task("/a", "7"));
        }
        assert_eq!(late.full_ended().len(), KEPT_MAX);
    }
}
