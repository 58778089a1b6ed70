//! Which tasks ask which questions, and with which token.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;

use super::agent::Target;
use super::roster::Moves;
use super::task::{self, Asker};
use super::{Control, Task};

/// How often the token file is read.
const TOKEN_EVERY: Duration = Duration::from_secs(10);
/// Requests that one HTTP/2 connection is counted with.
const STREAMS: usize = 200;
/// Requests that are kept for other things than watches: looks and second reads.
const RESERVE: usize = 2;

impl Control {
    pub(super) fn ask_once(&mut self, target: Target, asker: Asker) {
        let last = self.known.last(&target);
        self.short.spawn(task::once(Arc::clone(&self.shared), target, asker, last));
    }

    /// How many services can be asked about at once.
    pub(super) fn capacity(&self) -> usize {
        let streams = if self.shared.agents.multiplexed() { STREAMS } else { 1 };
        let all = self.config.max_watches.max(4).saturating_mul(streams);
        let lists = usize::from(self.known.listing()) + usize::from(self.known.wants_nodes());
        let others = lists + self.known.prefixes().len() + RESERVE;
        all.saturating_sub(others)
    }

    pub(super) fn assign(&mut self, now: Instant) {
        let mut other: HashSet<Target> =
            self.known.prefixes().into_iter().map(Target::Keys).collect();
        other.extend(self.known.listing().then_some(Target::Names));
        other.extend(self.known.wants_nodes().then_some(Target::Nodes));
        let ended: Vec<Target> = self
            .watches
            .keys()
            .filter(|target| !matches!(target, Target::Service(_)) && !other.contains(*target))
            .cloned()
            .collect();
        for target in ended {
            self.end(&target);
        }
        for target in other {
            self.begin(target);
        }
        let wanted = self.known.services();
        let moves = self.roster.fill(&wanted, self.capacity(), now);
        let gone: Vec<_> =
            moves.end.iter().filter(|name| !wanted.contains(*name)).cloned().collect();
        self.follow(moves);
        for name in gone {
            self.known.forget(&Target::Service(name));
        }
    }

    pub(super) fn follow(&mut self, moves: Moves) {
        for name in moves.end {
            self.watches.remove(&Target::Service(name));
        }
        for name in moves.begin {
            self.begin(Target::Service(name));
        }
    }

    pub(super) fn begin(&mut self, target: Target) {
        if self.watches.contains_key(&target) {
            return;
        }
        let last = self.known.last(&target);
        let (shared, gate) = (Arc::clone(&self.shared), self.gate.subscribe());
        let task = tokio::spawn(task::follow(shared, target.clone(), gate, last));
        self.watches.insert(target, Task(task.abort_handle()));
    }

    pub(super) fn end(&mut self, target: &Target) {
        self.watches.remove(target);
        self.known.forget(target);
    }

    pub(super) fn read_token(&mut self) {
        let Some(path) = self.token_file.clone() else { return };
        self.token_due = Instant::now() + TOKEN_EVERY;
        self.token_read_at = Some(Instant::now());
        self.tokens.spawn_blocking(move || std::fs::read_to_string(path));
    }

    pub(super) fn token(&mut self, read: Option<Result<std::io::Result<String>, JoinError>>) {
        match read {
            Some(Ok(Ok(token))) if self.shared.agents.set_token(Some(&token)) && self.link.up() => {
                tracing::info!(registry = &**self.outlet.name(), "token changed");
                self.again("the token changed", true);
            }
            Some(Ok(Err(error))) => {
                let path = self.token_file.as_deref().unwrap_or_else(|| Path::new(""));
                let path = path.display();
                tracing::warn!(registry = &**self.outlet.name(), %path, %error,
                    "token file cannot be read; using the token from before");
            }
            _ => {}
        }
    }
}
