//! Signs of life to who started us, as long as every thread that carries gives one itself.

use super::Options;
use crate::lifecycle::{Phase, Phases, Pulses};

/// Tells the service manager twice in its interval that all is well, while it is, up to where another
/// process has taken over. Must be called within the runtime of the control side, whose standing still
/// ends it too.
pub(super) fn start(options: &Options, pulses: Pulses, mut duties: Phases) {
    let Some(interval) = options.watchdog.filter(|_| options.notifier.is_there()) else { return };
    let notifier = options.notifier.clone();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            let now = pulses.silent_for(interval / 2);
            if now.is_empty() {
                notifier.tell("WATCHDOG=1");
            } else if silent != now {
                let threads = now.join(", ");
                tracing::error!(
                    threads,
                    "threads stand still; the watchdog is not told that all is well"
                );
            }
            silent = now;
            tokio::select! {
                () = tokio::time::sleep(interval / 2) => {}
                () = duties.reached(Phase::Stopped) => return,
            }
        }
    });
}
