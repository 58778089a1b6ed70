//! Who is told that an instance is empty, and when. Pure, but for the telling itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::config::WebhookConfig;
use crate::net::post::{self, Retries, Target};
use crate::random;

/// Looks in a row that must find nothing: a request may have picked the instance from a table of a
/// moment ago.
const LOOKS: u8 = 2;

/// Service, registry and id of an instance.
pub type Subject = (Arc<str>, Arc<str>, Arc<str>);

/// Why an instance is on its way to be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// It is drained: its own clients may still come.
    Draining,
    /// An operator took it out.
    Maintenance,
    /// It has left, or is being killed.
    Leaving,
}

/// What is known of an instance on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// Why it is.
    pub way: Way,
    /// Its address.
    pub address: String,
    /// Its first port; none: it has none.
    pub port: Option<u16>,
    /// The machine below it.
    pub node: Option<Arc<str>>,
    /// Since when it is on its way.
    pub since: SystemTime,
    /// The generation that said so first.
    pub generation: u64,
}

/// Tells that nothing runs at an instance any more, as far as this process carries anything there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What happened: `drained`.
    pub event: &'static str,
    /// Why it was on its way.
    pub state: Way,
    /// The service.
    pub service: Arc<str>,
    /// Id of the instance.
    pub id: Arc<str>,
    /// The registry that told of it.
    pub registry: Arc<str>,
    /// The machine below it, when the registry tells.
    pub node: Option<Arc<str>>,
    /// Its address.
    pub address: String,
    /// Its first port; none: it has none.
    pub port: Option<u16>,
    /// What runs there: nothing.
    pub in_flight: u32,
    /// Since when it was on its way.
    #[serde(serialize_with = "crate::units::rfc3339")]
    pub since: SystemTime,
    /// The generation that said so first.
    pub generation: u64,
}

/// Who is on its way, and who of them was told about.
#[derive(Debug, Default)]
pub struct Watcher(BTreeMap<Subject, Standing>);

#[derive(Debug)]
struct Standing {
    going: Going,
    quiet: u8,
    told: bool,
}

impl Watcher {
    /// The instance is on its way. One that is already stays as it is, unless it leaves now.
    pub fn goes(&mut self, subject: Subject, going: Going) {
        let known = self.0.get(&subject).map(|standing| standing.going.way);
        if known != Some(going.way) {
            // Whoever was told that it is drained need not be told that it has left, too.
            if self.0.remove(&subject).is_some_and(|standing| standing.told) {
                return self.told(subject, going);
            }
            self.0.insert(subject, Standing { going, quiet: 0, told: false });
        }
    }

    /// One that was told about goes another way: only who stays has to be kept in mind.
    fn told(&mut self, subject: Subject, going: Going) {
        if going.way != Way::Leaving {
            self.0.insert(subject, Standing { going, quiet: 0, told: true });
        }
    }

    /// It is not any more.
    pub fn stays(&mut self, subject: &Subject) {
        self.0.remove(subject);
    }

    /// Whether anybody has to be told about later.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.0.values().any(|standing| !standing.told)
    }

    /// Who is on its way in the service.
    pub fn of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Subject> {
        self.0.keys().filter(move |(name, ..)| **name == *service)
    }

    /// Looks at what runs at each; tells who has become empty, each once.
    pub fn look(&mut self, mut in_flight: impl FnMut(&Subject) -> u32) -> Vec<Event> {
        let mut events = Vec::new();
        for (subject, standing) in self.0.iter_mut().filter(|(_, standing)| !standing.told) {
            let quiet = in_flight(subject) == 0;
            standing.quiet = if quiet { standing.quiet + 1 } else { 0 };
            if standing.quiet == LOOKS {
                standing.told = true;
                events.push(event(subject, &standing.going));
            }
        }
        // Who has left and was told about does not come back without a word.
        self.0.retain(|_, standing| !(standing.told && standing.going.way == Way::Leaving));
        events
    }
}

fn event((service, registry, id): &Subject, going: &Going) -> Event {
    Event {
        event: "drained",
        state: going.way,
        service: Arc::clone(service),
        id: Arc::clone(id),
        registry: Arc::clone(registry),
        node: going.node.clone(),
        address: going.address.clone(),
        port: going.port,
        in_flight: 0,
        since: going.since,
        generation: going.generation,
    }
}

/// Posts `event` until it is acknowledged or its time is over; `failed` is called with each failed
/// try. Says whether it was acknowledged.
pub async fn tell(
    event: &Event,
    config: &WebhookConfig,
    base_dir: &Path,
    mut failed: impl FnMut(u32, &str),
) -> bool {
    let deadline = Instant::now() + config.give_up.0;
    let retries = Retries { min: config.retry_min.0, max: config.retry_max.0 };
    let mut tries = 0;
    loop {
        let Err(why) = once(event, config, base_dir).await else { return true };
        tries += 1;
        failed(tries, &why);
        let pause = retries.pause(tries, random::bits());
        if Instant::now() + pause >= deadline {
            return false;
        }
        sleep(pause).await;
    }
}

async fn once(event: &Event, config: &WebhookConfig, base_dir: &Path) -> Result<(), String> {
    let target = Target::parse(&config.url)?;
    let headers = match &config.headers {
        None => Vec::new(),
        Some(file) => {
            let path = base_dir.join(file);
            let told = |why: String| format!("[operations] headers {}: {why}", path.display());
            let text = tokio::fs::read_to_string(&path).await.map_err(|e| told(e.to_string()))?;
            post::headers(&text).map_err(told)?
        }
    };
    let body = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    post::post(&target, headers, body, config.timeout.0).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(id: &str) -> Subject {
        ("web".into(), "r".into(), id.into())
    }

    fn going(way: Way, generation: u64) -> Going {
        Going {
            way,
            address: "10.0.0.1".to_owned(),
            port: Some(80),
            node: None,
            since: SystemTime::UNIX_EPOCH,
            generation,
        }
    }

    #[test]
    fn who_is_empty_is_told_once_and_only_after_two_looks() {
        let mut watcher = Watcher::default();
        watcher.goes(subject("a"), going(Way::Draining, 1));
        assert!(watcher.look(|_| 1).is_empty());
        assert!(watcher.look(|_| 0).is_empty());
        assert!(watcher.look(|_| 2).is_empty(), "a client of its own came back");
        assert!(watcher.look(|_| 0).is_empty());
        let events = watcher.look(|_| 0);
        assert_eq!((events.len(), events[0].generation, events[0].in_flight), (1, 1, 0));
        // Its own clients may come and go as they like.
        for in_flight in [1, 0, 0, 0] {
            assert!(watcher.look(|_| in_flight).is_empty());
        }
        assert!(!watcher.waits());
    }

    #[test]
    fn who_is_back_is_not_told_about_and_is_told_about_again_the_next_time() {
        let mut watcher = Watcher::default();
        watcher.goes(subject("a"), going(Way::Leaving, 1));
        watcher.look(|_| 0);
        watcher.stays(&subject("a"));
        assert!(watcher.look(|_| 0).is_empty());
        watcher.goes(subject("a"), going(Way::Leaving, 5));
        watcher.goes(subject("a"), going(Way::Leaving, 6));
        watcher.look(|_| 0);
        assert_eq!(
            watcher.look(|_| 0)[0].generation,
            5,
            "since when it is, not the last word of it"
        );
        assert!(watcher.0.is_empty());
    }

    #[test]
    fn who_leaves_after_it_was_told_to_be_drained_is_not_told_about_twice() {
        let mut watcher = Watcher::default();
        watcher.goes(subject("a"), going(Way::Draining, 1));
        watcher.look(|_| 0);
        assert_eq!(watcher.look(|_| 0).len(), 1);
        watcher.goes(subject("a"), going(Way::Leaving, 2));
        assert!(watcher.look(|_| 0).is_empty() && watcher.look(|_| 0).is_empty());
        // But one that was not empty yet is told about as what it is then.
        watcher.goes(subject("b"), going(Way::Draining, 3));
        watcher.look(|_| 1);
        watcher.goes(subject("b"), going(Way::Leaving, 4));
        watcher.look(|_| 0);
        assert_eq!(watcher.look(|_| 0)[0].state, Way::Leaving);
    }
}
