//! What the link tells: the view, how it stands, and who is looked up.

use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;
use super::names;
use super::wanted::Naming;
use super::words::Phase;
use crate::catalog::RegistryView;
use crate::registry::Report;

/// How often a view that did not change is told again, as a sign of life.
const ALIVE: Duration = Duration::from_secs(5);

impl Link {
    /// Looks agents up that are known by name only.
    pub(super) fn names(&mut self) {
        let mut hosts = self.roster.hosts();
        hosts.extend(self.roster.hosts_all());
        self.resolve.keep(&hosts);
        self.resolve.look(hosts, Instant::now());
    }

    /// Tells what is new, and now and then that nothing is.
    pub(super) fn tell(&mut self) {
        let now = Instant::now();
        let live = matches!(self.machine.phase(), Phase::Live(_)) && !self.machine.fails();
        let due = live && (self.stale || self.told_at.is_none_or(|at| now >= at + ALIVE));
        if std::mem::take(&mut self.noteworthy) || self.changed || due {
            self.note();
        }
        if !self.changed && !due {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        self.told_at = Some(now);
        if !self.listed {
            return;
        }
        let last = self.outlet.last();
        let mut view = if changed { self.roster.view(&last) } else { last };
        if !live {
            // What its events say counts, and what is read; whether all else still does is not known.
            return self.outlet.amended(view);
        }
        let doubted = self.machine.doubts();
        if view.suspect.is_some() != doubted {
            view.suspect = doubted.then(|| "its event stream has just begun anew".into());
        }
        self.stale = false;
        self.outlet.live(view);
    }

    fn note(&self) {
        let counts = self.roster.counts();
        let at = self.following.as_ref().map_or_else(String::new, |at| format!("{}; ", at.origin));
        let phase = match self.machine.phase() {
            Phase::Pick(_) => "waits to connect",
            Phase::Connect => "waits for a sign of life",
            Phase::Snapshot => "reads everything",
            Phase::Live(_) if self.machine.fails() => {
                "follows events, and tries once more to read what it could not"
            }
            Phase::Live(_) => "follows events",
        };
        let trouble = self.election.borrow().trouble.clone();
        let trouble = trouble.map_or_else(String::new, |trouble| format!("; {trouble}"));
        let (apps, pods, tasks) = (counts.apps, counts.pods, counts.tasks);
        self.outlet.note(Report {
            watches: usize::from(self.following.is_some()),
            waiting: self.machine.waiting(),
            requests: self.rest.requests(),
            detail: format!("{at}{phase}; {apps} apps, {pods} pods, {tasks} tasks{trouble}").into(),
        });
    }
}

/// Whether `now` lacks an instance that served in `before`, or calls it failed. Who leads is none:
/// behind a new stream it is another one, as a rule.
pub(super) fn loses(framework: &str, before: &RegistryView, now: &RegistryView) -> bool {
    let naming = Naming::new(framework);
    let own = [names::leader_name(&naming), names::framework_name(&naming)];
    let mut lost = false;
    now.services.changes_since(&before.services, |(name, before, now)| {
        let Some(before) = before.filter(|_| !own.contains(name)) else { return };
        let serves = |id: &str| {
            let mut all = now.into_iter().flat_map(|now| &now.instances);
            all.any(|instance| *instance.id == *id && instance.health.serves())
        };
        let mut served = before.instances.iter().filter(|instance| instance.health.serves());
        lost |= served.any(|instance| !serves(&instance.id));
    });
    lost
}
