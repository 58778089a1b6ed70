//! What an idle connection costs in memory, and whether that is given back.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::helpers::Helping;
use crate::machine::pause;
use crate::peer::Running;
use crate::peers::Role;
use crate::probe;
use crate::process::Memory;
use crate::trouble::Trouble;

/// Requests before the first look, so that what a server sets up once isn't counted as a
/// connection's.
const WARM_UP: u32 = 200;
/// Given back this far, a server isn't watched any longer.
const ENOUGH: f64 = 0.95;
const LOOK: Duration = Duration::from_millis(500);

/// One server's memory around its idle connections.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Idle {
    pub(crate) peer: &'static str,
    pub(crate) connections: u32,
    /// Bytes for each connection: resident memory with them less that before.
    pub(crate) bytes_each: f64,
    /// The same with shared pages counted once.
    pub(crate) pss_each: f64,
    /// The largest share of that which was gone at any look after they had closed, 0 to 1.
    pub(crate) given_back: f64,
    /// Seconds from closing until that was seen.
    pub(crate) after_seconds: f64,
    pub(crate) before: Memory,
    pub(crate) with: Memory,
    pub(crate) after: Memory,
}

/// Opens, looks, closes, looks for up to `patience`. All servers are watched at once: memory,
/// unlike CPU time, doesn't mind.
pub(crate) fn measure(
    servers: &[Running],
    role: Role,
    connections: u32,
    patience: Duration,
) -> (Vec<Idle>, Vec<(&'static str, Trouble)>) {
    let mut measured = Vec::new();
    let mut failed = Vec::new();
    for server in servers {
        match open(server, role, connections) {
            Ok((before, with)) => {
                measured.push((server, Idle::new(server, connections, before, with)));
            }
            Err(trouble) => failed.push((server.name, trouble)),
        }
    }
    let closed = Instant::now();
    loop {
        for (server, idle) in &mut measured {
            if idle.given_back < ENOUGH {
                idle.look(server.memory(), closed.elapsed());
            }
        }
        if closed.elapsed() > patience || measured.iter().all(|(_, idle)| idle.given_back >= ENOUGH)
        {
            return (measured.into_iter().map(|(_, idle)| idle).collect(), failed);
        }
        pause(LOOK);
    }
}

/// Memory before and with the connections, which are closed again on return.
fn open(server: &Running, role: Role, connections: u32) -> Result<(Memory, Memory), Trouble> {
    for _ in 0..WARM_UP {
        // One that fails will fail below, where it is counted.
        let _ = probe::answers(role, server.address);
    }
    let before = server.memory();
    let helper = match role {
        Role::Https => "idle-tls",
        Role::Tcp | Role::TcpBulk => "idle-tcp",
        _ => "idle",
    };
    let mut clients =
        Helping::start(&[helper.into(), server.address.to_string(), connections.to_string()])?;
    let line = clients.line()?;
    if line != format!("{connections} 0") {
        return Err(Trouble::Load {
            generator: "the idle connections",
            why: format!("not all of {connections} are open"),
            output: line,
        });
    }
    Ok((before, server.memory()))
}

impl Idle {
    fn new(server: &Running, connections: u32, before: Memory, with: Memory) -> Self {
        let each =
            |with: u64, before: u64| with.saturating_sub(before) as f64 / f64::from(connections);
        Self {
            peer: server.name,
            connections,
            bytes_each: each(with.rss, before.rss),
            pss_each: each(with.pss, before.pss),
            given_back: 0.0,
            after_seconds: 0.0,
            before,
            with,
            after: with,
        }
    }

    fn look(&mut self, now: Memory, since: Duration) {
        let share = given_back(self.before.rss, self.with.rss, now.rss);
        if share > self.given_back {
            (self.given_back, self.after_seconds) = (share, since.as_secs_f64());
        }
        self.after = now;
    }
}

/// Of what was taken, the share that is back; all of it when nothing was taken.
fn given_back(before: u64, with: u64, now: u64) -> f64 {
    let taken = with.saturating_sub(before);
    if taken == 0 {
        return 1.0;
    }
    (with.saturating_sub(now) as f64 / taken as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_given_back_lies_between_nothing_and_all() {
        for (case, before, with, now, want) in [
            ("half", 100, 200, 150, 0.5),
            ("more than was taken", 100, 200, 50, 1.0),
            ("grown since", 100, 200, 300, 0.0),
            ("nothing taken", 100, 100, 100, 1.0),
        ] {
            assert!((given_back(before, with, now) - want).abs() < 1e-9, "{case}");
        }
    }
}
