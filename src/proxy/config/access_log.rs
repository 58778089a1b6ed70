//! `[access_log]`, and the key of the same name of an HTTP listener.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::units::{Share, Size};

/// Smallest and largest `buffer`.
const BUFFER: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// Where a line goes for each request, and in which form.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLogConfig {
    /// `none`, `stdout`, a file, `syslog://host:port` or `unix:/dev/log`.
    pub to: LogTarget,
    /// What a line looks like.
    #[serde(default)]
    pub format: LogFormat,
    /// Share of the requests with a status below 400 that get a line; all others always do.
    #[serde(default = "all")]
    pub sample: Share,
    /// Lines that wait to be written; beyond it they are dropped and counted.
    #[serde(default = "four_mebibytes")]
    pub buffer: Size,
    /// APP-NAME of messages to syslog (RFC 5424 §6.2.5).
    #[serde(default = "portolan")]
    pub app_name: String,
    /// Facility of messages to syslog (RFC 5424 §6.2.1).
    #[serde(default)]
    pub facility: Facility,
}

impl AccessLogConfig {
    /// What can't be, by key.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let name = &self.app_name;
        if !(1..=48).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("{name:?} is not between 1 and 48 visible ASCII characters");
            return Some(("app_name", message));
        }
        if !BUFFER.contains(&self.buffer.0) {
            return Some(("buffer", format!("{} is not between 64KiB and 1GiB", self.buffer)));
        }
        None
    }
}

const fn all() -> Share {
    Share(1.0)
}

const fn four_mebibytes() -> Size {
    Size(4 << 20)
}

fn portolan() -> String {
    "portolan".to_owned()
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One object of JSON.
    #[default]
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// Nowhere: for a listener without a log when there is one for all.
    None,
    /// Standard output.
    Stdout,
    /// A file; relative paths begin at the configuration's directory.
    File(PathBuf),
    /// A syslog server by UDP, one message in a datagram (RFC 5426): `host:port`.
    Syslog(String),
    /// A syslog daemon by its unix datagram socket.
    Unix(PathBuf),
}

impl FromStr for LogTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "{text:?} is no place for a log; write \"stdout\", \"none\", a path with a slash, \
                 \"syslog://host:514\" or \"unix:/dev/log\""
            )
        };
        match text {
            "stdout" => return Ok(Self::Stdout),
            "none" => return Ok(Self::None),
            _ => {}
        }
        if let Some(address) = text.strip_prefix("syslog://") {
            let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
            let port_fits = port.parse::<u16>().is_ok_and(|port| port > 0);
            return if host.is_empty() || !port_fits {
                Err(refuse())
            } else {
                Ok(Self::Syslog(address.to_owned()))
            };
        }
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            None if text.contains('/') && !text.ends_with('/') && !text.contains("://") => {
                Ok(Self::File(text.into()))
            }
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Syslog(address) => write!(f, "syslog://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for LogTarget {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A facility of syslog, 0 to 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(pub u8);

/// Names of the facilities, by number (RFC 5424 §6.2.1).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

impl Default for Facility {
    /// `local7`, as nginx has it.
    fn default() -> Self {
        Self(23)
    }
}

impl<'de> Deserialize<'de> for Facility {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let number = FACILITIES.iter().position(|known| *known == name);
        number.map(|number| Self(number as u8)).ok_or_else(|| {
            let known = FACILITIES.join(", ");
            D::Error::custom(format!("{name:?} is no facility of syslog; there are: {known}"))
        })
    }
}

/// What becomes of the trace context of a request (W3C Trace Context).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceMode {
    /// It goes on as it came: we record no span, so that nobody could find one of ours.
    #[default]
    Pass,
    /// As `pass`, and a request without a valid one gets one.
    Make,
}

/// What becomes of `X-Request-Id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestIdMode {
    /// It goes on as it came.
    #[default]
    Pass,
    /// That of a trusted proxy is kept; every other request gets a new one.
    Make,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_for_a_log_is_read_and_what_is_none_is_told_how_to_write_one() {
        for (text, want) in [
            ("stdout", Some(LogTarget::Stdout)),
            ("none", Some(LogTarget::None)),
            ("/var/log/a.log", Some(LogTarget::File("/var/log/a.log".into()))),
            ("logs/a.log", Some(LogTarget::File("logs/a.log".into()))),
            ("syslog://[::1]:514", Some(LogTarget::Syslog("[::1]:514".into()))),
            ("unix:/dev/log", Some(LogTarget::Unix("/dev/log".into()))),
            ("stderr", None),
            ("syslog://host", None),
            ("syslog://:514", None),
            ("syslog://host:0", None),
            ("unix:dev/log", None),
            ("tcp://host:514", None),
            ("/var/log/", None),
        ] {
            let read = text.parse::<LogTarget>();
            assert_eq!(read.clone().ok(), want, "{text}");
            match read {
                Ok(target) => assert_eq!(target.to_string(), text),
                Err(message) => assert!(message.contains("unix:/dev/log"), "{message}"),
            }
        }
    }
}
