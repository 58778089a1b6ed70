//! Tells one event: by webhook, by command, or by both, until each has acknowledged it or its time
//! is over.

use std::path::Path;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};
use tokio::time::{Instant, sleep};

use super::strategy::{Event, OnFailureConfig};
use crate::net::post::{self, Retries, Target};
use crate::telemetry::metrics::Register as _;
use crate::{exec, random, units};

/// The longest answer to "why" that is kept of a failed try.
const WHY_MAX: usize = 500;

/// What telling events counts.
#[derive(Debug, Clone)]
pub struct EventMetrics {
    /// By what became of the event: acknowledged, given up, dropped.
    pub(super) ended: [IntCounter; 3],
    /// Tries by webhook: acknowledged, failed.
    webhook: [IntCounter; 2],
    /// Tries by command: acknowledged, failed.
    command: [IntCounter; 2],
    /// Events that are being told.
    pub(super) pending: IntGauge,
    /// Events that wait: for their time, the quorum, or room.
    pub(super) waiting: IntGauge,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everybody who was to be told has acknowledged it.
    Acknowledged,
    /// Its time was over first.
    GivenUp,
    /// Its instance recovered or left first.
    Dropped,
}

impl EventMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let ended = registry.counter_vec(
            "portolan_health_events_total",
            "Events about unhealthy instances, by what became of them.",
            &["end"],
        )?;
        let tries = registry.counter_vec(
            "portolan_health_event_tries_total",
            "Tries to tell an event, by way and result.",
            &["by", "result"],
        )?;
        let by = |by: &str| ["ok", "failed"].map(|result| tries.with_label_values(&[by, result]));
        Ok(Self {
            ended: ["acknowledged", "given_up", "dropped"]
                .map(|end| ended.with_label_values(&[end])),
            webhook: by("webhook"),
            command: by("command"),
            pending: registry
                .gauge("portolan_health_events_pending", "Events that are being told.")?,
            waiting: registry.gauge(
                "portolan_health_events_waiting",
                "Events that wait for their time, the quorum or room.",
            )?,
        })
    }
}

/// Tells `event`; `failed` is called with each failed try: how many there were, and why.
pub(super) async fn deliver(
    event: &Event,
    config: &OnFailureConfig,
    base_dir: &Path,
    metrics: &EventMetrics,
    mut failed: impl FnMut(u32, &str),
) -> End {
    let deadline = Instant::now() + config.give_up.0;
    let target = config.webhook.as_deref().and_then(|url| Target::parse(url).ok());
    let (mut to_post, mut to_run) = (target.is_some(), config.command.is_some());
    let mut tries = 0;
    loop {
        let mut why = String::new();
        if let Some(target) = target.as_ref().filter(|_| to_post) {
            let posted = webhook(event, config, target, base_dir).await;
            metrics.webhook[usize::from(posted.is_err())].inc();
            to_post = posted.is_err();
            why = posted.err().unwrap_or_default();
        }
        if let Some(command) = config.command.as_ref().filter(|_| to_run) {
            let ran = run(event, command, config.timeout.0).await;
            metrics.command[usize::from(ran.is_err())].inc();
            to_run = ran.is_err();
            if let Err(failure) = ran {
                why = format!("the command {failure}");
            }
        }
        if !to_post && !to_run {
            return End::Acknowledged;
        }
        tries += 1;
        let cut = why.char_indices().nth(WHY_MAX).map_or(why.len(), |(at, _)| at);
        failed(tries, &why[..cut]);
        let pause = pause(config, tries, random::bits());
        if Instant::now() + pause >= deadline {
            return End::GivenUp;
        }
        sleep(pause).await;
    }
}

/// The pause after so many failed tries.
fn pause(config: &OnFailureConfig, tries: u32, random: u64) -> Duration {
    Retries { min: config.retry_min.0, max: config.retry_max.0 }.pause(tries, random)
}

async fn webhook(
    event: &Event,
    config: &OnFailureConfig,
    target: &Target,
    base_dir: &Path,
) -> Result<(), String> {
    let headers = match &config.webhook_headers {
        None => Vec::new(),
        Some(file) => {
            let path = base_dir.join(file);
            let told = |why: String| format!("webhook_headers {}: {why}", path.display());
            let text = tokio::fs::read_to_string(&path).await.map_err(|e| told(e.to_string()))?;
            post::headers(&text).map_err(told)?
        }
    };
    let body = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    post::post(target, headers, body, config.timeout.0).await
}

async fn run(event: &Event, command: &str, limit: Duration) -> Result<(), exec::Failure> {
    let variables = variables(event);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, v)| (*name, &**v)).collect();
    exec::run_with(command, &variables, limit).await.map(drop)
}

/// The event as a command finds it in its environment.
fn variables(event: &Event) -> Vec<(&'static str, String)> {
    let since = units::rfc3339(&event.since, serde_json::value::Serializer);
    let since = since.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    vec![
        ("PORTOLAN_EVENT_ID", event.id.to_string()),
        ("PORTOLAN_EVENT", event.event.to_owned()),
        ("PORTOLAN_SERVICE", event.service.to_string()),
        ("PORTOLAN_INSTANCE", event.instance.to_string()),
        ("PORTOLAN_REGISTRY", event.registry.to_string()),
        ("PORTOLAN_ADDRESS", event.address.clone()),
        ("PORTOLAN_PORT", event.port.map(|port| port.to_string()).unwrap_or_default()),
        ("PORTOLAN_NODE", event.node.as_deref().unwrap_or_default().to_owned()),
        ("PORTOLAN_CAUSE", event.cause.to_string()),
        ("PORTOLAN_SINCE", since),
        ("PORTOLAN_GENERATION", event.generation.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::units::Period;

    fn event() -> Event {
        Event {
            id: "7:web:r:a".into(),
            event: "recreate",
            service: "web".into(),
            instance: "a".into(),
            registry: "r".into(),
            address: "10.0.0.1".into(),
            port: Some(80),
            node: None,
            cause: "it's $(down)".into(),
            since: SystemTime::UNIX_EPOCH,
            generation: 7,
        }
    }

    #[test]
    fn pauses_are_anything_up_to_a_bound_that_doubles_to_the_longest() {
        let config = OnFailureConfig {
            retry_min: Period::from_secs(1),
            retry_max: Period::from_secs(10),
            ..OnFailureConfig::default()
        };
        for (tries, longest) in [(1, 1.0), (2, 2.0), (4, 8.0), (5, 10.0), (99, 10.0)] {
            let long = pause(&config, tries, u64::MAX).as_secs_f64();
            assert!((long - longest).abs() < 0.001, "{tries}: {long}");
            assert_eq!(pause(&config, tries, 0), Duration::ZERO, "{tries}");
        }
    }

    #[tokio::test]
    async fn a_command_gets_the_event_in_its_environment_and_is_tried_until_it_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told");
        let command = format!(
            "echo \"$PORTOLAN_EVENT_ID $PORTOLAN_ADDRESS:$PORTOLAN_PORT $PORTOLAN_CAUSE \
             $PORTOLAN_SINCE\" >>{0}; [ $(wc -l <{0}) -ge 3 ]",
            file.display()
        );
        let config = OnFailureConfig {
            command: Some(command),
            retry_min: Period::from_millis(1),
            ..OnFailureConfig::default()
        };
        let metrics = EventMetrics::register(&Registry::new()).unwrap();
        let mut failures = Vec::new();
        let note = |tries, why: &str| failures.push((tries, why.to_owned()));
        let end = deliver(&event(), &config, dir.path(), &metrics, note).await;
        assert_eq!(end, End::Acknowledged);
        let line = "7:web:r:a 10.0.0.1:80 it's $(down) 1970-01-01T00:00:00.000Z\n";
        assert_eq!(std::fs::read_to_string(&file).unwrap(), line.repeat(3));
        assert_eq!(failures.len(), 2);
        assert!(failures[1].1.contains("failed with exit status: 1"), "{failures:?}");
        assert_eq!((metrics.command[0].get(), metrics.command[1].get()), (1, 2));
    }

    #[tokio::test]
    async fn what_nobody_takes_is_given_up_after_its_time_and_no_secret_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("headers"), "Authorization: Bearer secret\n").unwrap();
        // A port that was free a moment ago: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = OnFailureConfig {
            webhook: Some(format!("http://127.0.0.1:{port}/x")),
            webhook_headers: Some("headers".into()),
            retry_min: Period::from_millis(5),
            give_up: Period::from_millis(50),
            ..OnFailureConfig::default()
        };
        let metrics = EventMetrics::register(&Registry::new()).unwrap();
        let mut told = String::new();
        let note = |_, why: &str| told.push_str(why);
        let end = deliver(&event(), &config, dir.path(), &metrics, note).await;
        assert_eq!(end, End::GivenUp);
        assert!(told.contains("cannot connect to") && !told.contains("secret"), "{told}");
    }
}
