//! Load shedding: what runs is counted over all workers, and beyond a limit nothing more begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Counts what runs. Shared by all workers, and kept over every reload.
#[derive(Debug, Default)]
pub struct Gate {
    running: AtomicUsize,
}

/// One that runs; dropping it counts it out.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Gate {
    /// Counts one in, or `None` when `max` run already. Never blocks.
    #[must_use]
    pub fn admit(self: &Arc<Self>, max: usize) -> Option<Permit> {
        let before = self.running.fetch_add(1, Relaxed);
        // The drop of it counts it out again.
        let permit = Permit(Arc::clone(self));
        (before < max).then_some(permit)
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

/// Whether memory is short. Told once a second by the control side, asked per request.
#[derive(Debug, Default)]
pub struct Memory {
    short: AtomicBool,
}

impl Memory {
    /// Whether nothing more should begin.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short.load(Relaxed)
    }

    /// Memory is short from above `max` until below 95 % of it; without a limit never. Says whether
    /// that has changed.
    pub fn judge(&self, resident: u64, max: Option<u64>) -> bool {
        let before = self.is_short();
        let short = max.is_some_and(|max| {
            resident > max || before && resident >= max / 100 * 95 + max % 100 * 95 / 100
        });
        self.short.store(short, Relaxed);
        short != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_nobody_is_let_in_and_leaving_makes_room() {
        let gate = Arc::new(Gate::default());
        let first = gate.admit(2);
        let second = gate.admit(2);
        assert!(first.is_some() && second.is_some());
        assert!(gate.admit(2).is_none() && gate.admit(0).is_none());
        assert_eq!(gate.running(), 2);
        drop(first);
        assert!(gate.admit(2).is_some());
        drop(second);
        assert_eq!(gate.running(), 0);
    }

    #[test]
    fn memory_is_short_until_it_is_well_below_the_limit_again() {
        let memory = Memory::default();
        for (resident, max, short, changed) in [
            (900, Some(1000), false, false),
            (1000, Some(1000), false, false),
            (1001, Some(1000), true, true),
            (960, Some(1000), true, false),
            (950, Some(1000), true, false),
            (949, Some(1000), false, true),
            (960, Some(1000), false, false),
            (2000, Some(1000), true, true),
            (2000, None, false, true),
        ] {
            assert_eq!(memory.judge(resident, max), changed, "{resident} of {max:?}");
            assert_eq!(memory.is_short(), short, "{resident} of {max:?}");
        }
    }
}
