//! Log output: for eyes on a terminal, JSON lines for everything else.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging to standard error. `PORTOLAN_LOG` says how much, in the form of
/// `tracing`'s filters (`info`, `portolan::dns=debug,warn`); the default is `info` for Portolan and
/// `warn` for its libraries, `error` for those that would warn of single requests.
///
/// A filter that can't be read is told on the first line, and the default used.
pub fn start() {
    start_at(None);
}

/// As [`start`], with another default than the usual one.
pub fn start_at(default: Option<&str>) {
    // The library behind the full lane warns of every request that fails at its endpoint: those are
    // counted, and a broken service must not fill the disk.
    const DEFAULT: &str = "warn,pingora_core=error,pingora_proxy=error,portolan=info";
    let default = default.unwrap_or(DEFAULT);
    let wanted = std::env::var("PORTOLAN_LOG").ok();
    let parsed = wanted.as_deref().map(EnvFilter::try_new);
    let (filter, refused) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default), Some(error)),
        None => (EnvFilter::new(default), None),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Another subscriber may stand already when we run inside a test; that one stays.
    let _ = if std::io::stderr().is_terminal() {
        registry.with(lines.with_target(false)).try_init()
    } else {
        registry.with(lines.json().flatten_event(true).with_current_span(false)).try_init()
    };
    if let Some(error) = refused {
        let value = wanted.unwrap_or_default();
        tracing::warn!(value, %error, "PORTOLAN_LOG cannot be read; logging at the default level");
    }
}
