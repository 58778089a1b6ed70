//! What a listener's access log is to be, compiled.

use std::sync::{Arc, OnceLock};

use super::clock::Clock;
use super::format;
use super::record::Record;
use super::sink::Sink;
use crate::proxy::config::{AccessLogConfig, LogFormat, LogTarget};

/// Severity of messages to syslog: informational (RFC 5424 §6.2.1).
const INFORMATIONAL: u8 = 6;

/// The access log of one listener.
#[derive(Debug)]
pub struct Rule {
    config: AccessLogConfig,
    /// What stands before and behind the time of a message to syslog.
    syslog: Option<[Box<[u8]>; 2]>,
    /// Takes a request whose random bits are below it.
    below: u64,
    sink: OnceLock<Arc<Sink>>,
}

impl Rule {
    /// Compiles `config`; none when nothing is to be logged. Nothing is opened.
    #[must_use]
    pub fn compile(config: &AccessLogConfig) -> Option<Self> {
        let syslog = match config.to {
            LogTarget::None => return None,
            LogTarget::Stdout | LogTarget::File(_) => None,
            LogTarget::Syslog(_) | LogTarget::Unix(_) => Some(header(config)),
        };
        let below = (config.sample.0 * u64::MAX as f64) as u64;
        Some(Self { config: config.clone(), syslog, below, sink: OnceLock::new() })
    }

    /// As it was configured.
    #[must_use]
    pub const fn config(&self) -> &AccessLogConfig {
        &self.config
    }

    /// Where lines go; none until it was opened.
    pub(super) fn sink(&self) -> Option<&Arc<Sink>> {
        self.sink.get()
    }

    /// From now on lines go to `sink`. The first one stays.
    pub(super) fn opened(&self, sink: Arc<Sink>) {
        let _ = self.sink.set(sink);
    }

    /// Whether a request that ended with `status` gets a line, by `random` bits.
    #[must_use]
    pub const fn takes(&self, status: u16, random: u64) -> bool {
        status >= 400 || self.below == u64::MAX || random < self.below
    }

    /// Writes the line of `record` with its end. Allocates only where `out` has no room.
    pub fn line(&self, record: &Record<'_>, clock: &Clock, out: &mut Vec<u8>) {
        if let Some([before, behind]) = &self.syslog {
            out.extend_from_slice(before);
            clock.rfc3339(out);
            out.extend_from_slice(behind);
        }
        match self.config.format {
            LogFormat::Json => format::json(record, clock, out),
            LogFormat::Combined => format::combined(record, clock, out),
        }
        out.push(b'\n');
    }
}

/// The header of a message, around its time (RFC 5424 §6): priority and version; host name,
/// app name, process and the kind of message, without structured data.
fn header(config: &AccessLogConfig) -> [Box<[u8]>; 2] {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
    let host = if host.is_empty() { "-" } else { &host };
    let priority = config.facility.0 * 8 + INFORMATIONAL;
    let (app, process) = (&config.app_name, std::process::id());
    let before = format!("<{priority}>1 ");
    let behind = format!(" {host} {app} {process} access - ");
    [before.into_bytes().into(), behind.into_bytes().into()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::config::Facility;
    use crate::units::{Share, Size};

    fn rule(to: &str, sample: f64) -> Option<Rule> {
        Rule::compile(&AccessLogConfig {
            to: to.parse().unwrap(),
            format: LogFormat::Json,
            sample: Share(sample),
            buffer: Size(1 << 20),
            app_name: "edge".to_owned(),
            facility: Facility::default(),
        })
    }

    #[test]
    fn a_sample_takes_its_share_of_what_went_well_and_all_that_did_not() {
        assert!(rule("none", 1.0).is_none());
        for (sample, random, well) in [
            (1.0, u64::MAX, true),
            (0.0, 0, false),
            (0.5, u64::MAX / 4, true),
            (0.5, u64::MAX / 4 * 3, false),
        ] {
            let rule = rule("stdout", sample).unwrap();
            assert_eq!(rule.takes(200, random), well, "{sample}");
            assert!(rule.takes(404, random) && rule.takes(502, random), "{sample}");
        }
    }
}
