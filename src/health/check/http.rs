//! `check.http`: the status is one of a set, and the body matches a pattern.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::super::tracker::Observation;
use super::connect::{authority, connect, in_words};
use super::secure::{Secure, TlsConfig};
use super::status::StatusSet;
use super::{Ask, Kind, Target, answer, check_config};
use crate::units::Size;

/// Largest compiled pattern.
const PATTERN_MAX: usize = 1 << 20;

fn slash() -> String {
    "/".to_owned()
}

fn success() -> String {
    "200-299".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

const fn body_max() -> Size {
    Size(64 << 10)
}

check_config! {
    /// `[service.NAME] check.http`.
    pub struct Config {
        /// What is asked for, with a query if need be.
        #[serde(default = "slash")]
        pub path: String,
        /// Status codes that are good: codes and ranges between commas.
        #[serde(default = "success")]
        pub status: String,
        /// Method of the request.
        #[serde(default = "get")]
        pub method: String,
        /// The `Host` header. Default: address and port.
        pub host: Option<String>,
        /// More headers.
        #[serde(default)]
        pub headers: BTreeMap<String, String>,
        /// A regular expression that the body must match somewhere.
        pub body: Option<String>,
        /// How much of the body is read to look for it.
        #[serde(default = "body_max")]
        pub body_max: Size,
        /// HTTPS.
        pub tls: Option<TlsConfig>,
    }
}

/// Asks for a page.
#[derive(Debug)]
pub(super) struct Probe {
    /// The request up to the value of `Host`, and behind it.
    request: (String, String),
    host: Option<Arc<str>>,
    status: StatusSet,
    body: Option<(Regex, usize)>,
    tls: Option<Secure>,
}

impl Kind for Config {
    type Probe = Probe;

    fn ca_file(&self) -> Option<&Path> {
        self.tls.as_ref()?.ca_file.as_deref()
    }

    fn compile(&self, base_dir: &Path) -> Result<Probe, (&'static str, String)> {
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.path.starts_with('/') || !printable(&self.path) {
            let message = format!("{:?} is no path; it begins with / and has no spaces", self.path);
            return Err(("path", message));
        }
        if http::Method::from_bytes(self.method.as_bytes()).is_err() {
            return Err(("method", format!("{:?} is no method of HTTP", self.method)));
        }
        if let Some(host) = self.host.as_ref().filter(|host| host.is_empty() || !printable(host)) {
            return Err(("host", format!("{host:?} is no host")));
        }
        if self.body.is_some() && self.method == "HEAD" {
            return Err(("body", "an answer to HEAD has no body; ask with GET".to_owned()));
        }
        let status = StatusSet::parse(&self.status).map_err(|message| ("status", message))?;
        let body = self.body.as_deref().map(|pattern| {
            let built = RegexBuilder::new(pattern).size_limit(PATTERN_MAX).build();
            built.map_err(|error| ("body", format!("is no regular expression: {error}")))
        });
        let most = usize::try_from(self.body_max.0).unwrap_or(usize::MAX);
        let tls = self.tls.as_ref().map(|tls| Secure::within(tls, base_dir, &[b"http/1.1"]));
        Ok(Probe {
            request: (format!("{} {} HTTP/1.1\r\nHost: ", self.method, self.path), self.headers()?),
            host: self.host.as_deref().map(Into::into),
            status,
            body: body.transpose()?.map(|pattern| (pattern, most.max(1))),
            tls: tls.transpose()?,
        })
    }
}

impl Config {
    /// What stands behind the value of `Host`.
    fn headers(&self) -> Result<String, (&'static str, String)> {
        let mut text = String::from("\r\nConnection: close\r\n");
        let has = |wanted: &str| self.headers.keys().any(|name| name.eq_ignore_ascii_case(wanted));
        if !has("user-agent") {
            text.push_str(concat!("User-Agent: portolan/", env!("CARGO_PKG_VERSION"), "\r\n"));
        }
        if !has("accept") {
            text.push_str("Accept: */*\r\n");
        }
        for (name, value) in &self.headers {
            let taken = ["host", "connection", "content-length", "transfer-encoding"];
            if taken.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
                return Err(("headers", format!("{name:?} is set by the check itself")));
            }
            let fits = http::HeaderName::from_bytes(name.as_bytes()).is_ok()
                && http::HeaderValue::from_str(value).is_ok();
            if !fits {
                return Err(("headers", format!("{name:?} is no header, or its value is none")));
            }
            // Writing to a string never fails.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("\r\n");
        Ok(text)
    }
}

impl Ask for Probe {
    async fn ask(&self, target: &Target, _: Duration) -> Observation {
        let exchanged = match &self.tls {
            None => match connect(target).await {
                Ok(mut stream) => self.exchange(&mut stream, target).await,
                Err(failed) => return failed,
            },
            Some(tls) => match tls.connect(target).await {
                Ok(mut stream) => self.exchange(&mut stream, target).await,
                Err(failed) => return failed,
            },
        };
        match exchanged {
            Ok(answer) => self.judge(&answer),
            Err(why) => Observation::failed(&why),
        }
    }
}

impl Probe {
    async fn exchange(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        target: &Target,
    ) -> Result<answer::Answer, String> {
        let host = authority(self.host.as_ref(), target);
        let request = [&*self.request.0, &host, &self.request.1].concat();
        let written = stream.write_all(request.as_bytes()).await;
        written.map_err(|error| in_words(&error))?;
        answer::read(stream, self.body.as_ref().map_or(0, |(_, most)| *most)).await
    }

    fn judge(&self, answer: &answer::Answer) -> Observation {
        let told = format!("{} {}", answer.status, answer.reason);
        if !self.status.contains(answer.status) {
            return Observation::failed(&told);
        }
        match &self.body {
            Some((pattern, _)) if !pattern.is_match(&answer.body) => {
                Observation::failed(&format!("{told}, and the body does not match"))
            }
            _ => Observation::passed(&told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tracker::Outcome;
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_request_bears_what_is_configured() {
        let probe = config("path = \"/a?b=c\"\nmethod = \"POST\"\nheaders = { x-a = \"1\" }")
            .compile(Path::new(""))
            .unwrap();
        assert_eq!(probe.request.0, "POST /a?b=c HTTP/1.1\r\nHost: ");
        assert!(probe.request.1.starts_with("\r\nConnection: close\r\nUser-Agent: portolan/"));
        assert!(probe.request.1.ends_with("\r\nAccept: */*\r\nx-a: 1\r\n\r\n"));
    }

    #[test]
    fn bad_settings_are_refused_at_their_key() {
        for (text, key, want) in [
            ("path = \"healthz\"", "path", "\"healthz\" is no path"),
            ("path = \"/a b\"", "path", "\"/a b\" is no path"),
            ("path = \"/a\\r\\nX: y\"", "path", "\"/a\\r\\nX: y\" is no path"),
            ("status = \"2xx\"", "status", "\"2xx\" is no status code"),
            ("method = \"GET /\"", "method", "\"GET /\" is no method"),
            ("host = \"a b\"", "host", "\"a b\" is no host"),
            ("headers = { Host = \"a\" }", "headers", "\"Host\" is set by the check itself"),
            ("headers = { x = \"a\\r\\nb\" }", "headers", "\"x\" is no header"),
            ("body = \"(\"", "body", "is no regular expression"),
            ("body = \"a\"\nmethod = \"HEAD\"", "body", "an answer to HEAD has no body"),
            ("tls = { ca_file = \"gone.pem\" }", "tls", "ca_file: cannot use gone.pem"),
            ("tls = { server_name = \"a b\" }", "tls", "server_name: \"a b\" is neither"),
        ] {
            let (at, message) = config(text).compile(Path::new("")).unwrap_err();
            assert_eq!(at, key, "{text}");
            assert!(message.starts_with(want), "{text}: {message}");
        }
    }

    #[test]
    fn status_and_body_decide_together() {
        let answer = |status, body: &str| answer::Answer {
            status,
            reason: "Word".to_owned(),
            body: body.into(),
        };
        for (text, status, body, outcome, told) in [
            ("", 200, "", Outcome::Passed, "200 Word"),
            ("", 301, "", Outcome::Failed, "301 Word"),
            ("status = \"200-299,301\"", 301, "", Outcome::Passed, "301 Word"),
            ("body = \"^up$\"", 200, "up", Outcome::Passed, "200 Word"),
            (
                "body = \"^up$\"",
                200,
                "down",
                Outcome::Failed,
                "200 Word, and the body does not match",
            ),
            ("body = \"up\"", 500, "up", Outcome::Failed, "500 Word"),
        ] {
            let seen = config(text).compile(Path::new("")).unwrap().judge(&answer(status, body));
            assert_eq!((seen.outcome, &*seen.text), (outcome, told), "{text} {status} {body}");
        }
    }
}
