//! Looks once a second how much memory is in use, for the proxy to take nothing new when it is short.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::publish::Tables;
use crate::lifecycle::{Phase, Phases};

/// Time from one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks, in a task of its own, until the process stops.
pub(super) fn watch(tables: Arc<ArcSwap<Tables>>, mut phases: Phases) {
    tokio::spawn(async move {
        let mut clock = tokio::time::interval(INTERVAL);
        let mut blind = false;
        loop {
            tokio::select! {
                () = phases.reached(Phase::Stopped) => return,
                _ = clock.tick() => {}
            }
            let proxy = Arc::clone(&tables.load().proxy);
            if !proxy.limits().watches_memory() {
                continue;
            }
            match resident() {
                Some(bytes) => judge(proxy.limits(), bytes),
                None if !blind => {
                    blind = true;
                    tracing::warn!("cannot read /proc/self/statm; [limits] memory has no effect");
                }
                None => {}
            }
        }
    });
}

fn judge(limits: &crate::proxy::limit::Limits, resident: u64) {
    match limits.judge_memory(resident) {
        Some((true, max)) => tracing::warn!(
            resident,
            max,
            "memory is short; new requests get 503 until it is below 95 % of the limit"
        ),
        Some((false, max)) => tracing::info!(resident, max, "memory suffices again"),
        None => {}
    }
}

/// Bytes of memory that this process has in use; a read from the kernel, which does not block.
fn resident() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_some_memory_in_use() {
        let resident = super::resident().unwrap();
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
    }
}
