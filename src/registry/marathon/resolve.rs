//! Addresses of agents that Marathon knows by name only.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Most names that are looked up at once.
const AT_ONCE: usize = 8;
/// Time for one look-up.
const WITHIN: Duration = Duration::from_secs(5);
/// How long an address counts before it is looked up again, and a failure before it is tried again.
const FRESH: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_secs(30);

/// A name, and its address if one was found.
type Found = (Arc<str>, Option<IpAddr>);

/// Look-ups under way and to come, and when each name may be looked up again.
#[derive(Debug, Default)]
pub(super) struct Resolve {
    tasks: JoinSet<Found>,
    waiting: VecDeque<Arc<str>>,
    not_before: HashMap<Arc<str>, Instant>,
}

impl Resolve {
    /// Looks those of `hosts` up whose turn it is.
    pub(super) fn look(&mut self, hosts: Vec<Arc<str>>, now: Instant) {
        for host in hosts {
            if self.not_before.get(&host).is_none_or(|at| now >= *at) {
                self.not_before.insert(Arc::clone(&host), now + FRESH);
                self.waiting.push_back(host);
            }
        }
        self.begin();
    }

    /// Begins with as many as there is room for.
    fn begin(&mut self) {
        while self.tasks.len() < AT_ONCE {
            let Some(host) = self.waiting.pop_front() else { return };
            self.tasks.spawn(async move {
                // The port is of no use; the library wants one.
                let found = timeout(WITHIN, tokio::net::lookup_host((&*host, 0))).await;
                let found = found.ok().and_then(Result::ok);
                let all: Vec<IpAddr> = found.into_iter().flatten().map(|at| at.ip()).collect();
                // The same one each time, whatever order the resolver gives.
                let plain = all.iter().filter(|ip| ip.is_ipv4()).min();
                (host, plain.or_else(|| all.iter().min()).copied())
            });
        }
    }

    /// Forgets names that nobody speaks of any more.
    pub(super) fn keep(&mut self, hosts: &[Arc<str>]) {
        if self.not_before.len() > 2 * hosts.len() + 100 {
            let hosts: HashSet<&Arc<str>> = hosts.iter().collect();
            self.not_before.retain(|host, _| hosts.contains(host));
        }
    }

    /// The next name with its address; pending for ever while nothing is being looked up.
    pub(super) async fn next(&mut self) -> Found {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(found)) => return self.ended(found),
                Some(Err(_)) => self.begin(),
                None => std::future::pending().await,
            }
        }
    }

    /// One more that is there already.
    pub(super) fn ready(&mut self) -> Option<Found> {
        let found = self.tasks.try_join_next()?.ok()?;
        Some(self.ended(found))
    }

    fn ended(&mut self, found: Found) -> Found {
        if found.1.is_none() {
            self.not_before.insert(Arc::clone(&found.0), Instant::now() + AGAIN);
        }
        self.begin();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_names_are_looked_up_one_behind_the_other_without_being_asked_for_again() {
        // The resolver reads addresses too, and needs nobody for it.
        let hosts: Vec<Arc<str>> = (1..=200).map(|n| format!("127.0.0.{n}").into()).collect();
        let mut resolve = Resolve::default();
        let now = Instant::now();
        resolve.look(hosts.clone(), now);
        resolve.look(hosts.clone(), now);
        let mut found = HashSet::new();
        for _ in 0..200 {
            let (host, address) = timeout(WITHIN, resolve.next()).await.unwrap();
            assert_eq!(address.map(|ip| ip.to_string()).as_deref(), Some(&*host));
            assert!(found.insert(host), "twice");
            assert!(resolve.tasks.len() <= AT_ONCE);
        }
        assert!(resolve.tasks.is_empty() && resolve.ready().is_none());
        resolve.keep(&hosts[..3]);
        resolve.look(hosts, now);
        assert_eq!(resolve.tasks.len(), AT_ONCE, "those that were forgotten");
    }
}
