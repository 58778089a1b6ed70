//! The checkers of a real server, as checks of ours.

use std::time::Duration;

use super::super::Text;
use super::note::Notes;
use super::tree::Statement;
use crate::units::Period;

/// Time from one check to the next where nobody states it.
const DELAY_LOOP: Duration = Duration::from_secs(60);
/// Time to connect, and to read, where nobody states it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a checker may leave to its real server, and that to its virtual server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Times {
    delay_loop: Option<Duration>,
    connect_timeout: Option<Duration>,
    retry: Option<u32>,
    delay_before_retry: Option<Duration>,
}

impl Times {
    /// Takes what `statement` says about times; whether it says something about them.
    pub(super) fn take(&mut self, statement: &Statement, notes: &mut Notes) -> bool {
        match statement.keyword() {
            "delay_loop" => self.delay_loop = timer(statement, notes),
            "connect_timeout" => self.connect_timeout = timer(statement, notes),
            "delay_before_retry" => self.delay_before_retry = timer(statement, notes),
            "retry" | "nb_get_retry" => self.retry = number(statement, notes),
            // A checker of ours begins at a time of its own.
            "warmup" => {}
            _ => return false,
        }
        true
    }

    /// What stands here, and where nothing does, in `outer`.
    pub(super) fn or(&self, outer: &Self) -> Self {
        Self {
            delay_loop: self.delay_loop.or(outer.delay_loop),
            connect_timeout: self.connect_timeout.or(outer.connect_timeout),
            retry: self.retry.or(outer.retry),
            delay_before_retry: self.delay_before_retry.or(outer.delay_before_retry),
        }
    }
}

/// Seconds, also with a fraction; at least 10 ms, as our checks want it.
pub(super) fn timer(statement: &Statement, notes: &mut Notes) -> Option<Duration> {
    let read =
        statement.value().parse().ok().filter(|seconds| (0.0..=31_536_000.0).contains(seconds));
    if read.is_none() {
        let value = statement.value();
        notes.differs(&statement.place, format_args!("{value:?} is no time; its default counts"));
    }
    read.map(|seconds: f64| {
        let whole = Duration::from_millis((seconds * 1000.0).round() as u64);
        whole.max(Duration::from_millis(10))
    })
}

/// A number that is not negative.
pub(super) fn number(statement: &Statement, notes: &mut Notes) -> Option<u32> {
    let read = statement.value().parse().ok();
    if read.is_none() {
        let value = statement.value();
        notes.differs(&statement.place, format_args!("{value:?} is no number; its default counts"));
    }
    read
}

/// How an instance is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) kind: Kind,
    port: Option<u16>,
    interval: Duration,
    fast_interval: Duration,
    timeout: Duration,
    fall: u32,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Http { tls: Option<Sni>, page: Page },
    Exec(String),
}

/// The name that is asked for by SNI, if one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sni(Option<String>);

/// What is asked for, and what a good answer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    path: String,
    status: Option<String>,
    host: Option<String>,
    body: Option<String>,
}

/// Who is checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whom<'a> {
    pub(super) address: std::net::IpAddr,
    pub(super) port: u16,
    pub(super) times: &'a Times,
    pub(super) virtualhost: Option<&'a str>,
}

/// What the checker in `statement` comes to; `None` when it has no counterpart, which is noted.
pub(super) fn read(statement: &Statement, whom: Whom<'_>, notes: &mut Notes) -> Option<Check> {
    let mut times = Times::default();
    let (mut port, mut host) = (None, whom.virtualhost.map(str::to_owned));
    let (mut pages, mut command, mut dynamic, mut sni) = (Vec::new(), None, false, false);
    let (mut domain, mut kind, mut command_time) = (".".to_owned(), "SOA".to_owned(), None);
    let checker = statement.keyword();
    for inner in statement.body() {
        if times.take(inner, notes) {
            continue;
        }
        match (checker, inner.keyword()) {
            (_, "connect_port") => port = inner.value().parse().ok().filter(|port| *port > 0),
            (_, "connect_ip") => {
                if inner.value().parse().ok() != Some(whom.address) {
                    notes.differs(
                        &inner.place,
                        "a check asks its own instance; to ask another address, write a \
                         check.exec that does",
                    );
                }
            }
            (_, "virtualhost") => host = Some(inner.value().to_owned()),
            (_, "bindto" | "bind_if" | "bind_port" | "fwmark") => notes.differs(
                &inner.place,
                "checks leave by the address that the system chooses; see to it with `ip route … src`",
            ),
            ("HTTP_GET" | "SSL_GET", "url") => pages.push(inner),
            ("HTTP_GET" | "SSL_GET", "http_protocol") => {
                notes.idle(&inner.place, "checks speak HTTP/1.1 with `Connection: close`");
            }
            ("SSL_GET", "enable_sni") => sni = true,
            ("MISC_CHECK", "misc_path") => command = Some(inner.rest().join(" ")),
            ("MISC_CHECK", "misc_timeout") => command_time = timer(inner, notes),
            ("MISC_CHECK", "misc_dynamic") => dynamic = true,
            ("MISC_CHECK", "user") => {
                notes.differs(&inner.place, "the command runs as the user that Portolan runs as");
            }
            ("DNS_CHECK", "type") => inner.value().clone_into(&mut kind),
            ("DNS_CHECK", "name") => inner.value().clone_into(&mut domain),
            // What there is nothing like is told once, below.
            (_, "alpha" | "log_all_failures" | "fast_recovery")
            | ("SMTP_CHECK", "helo_name" | "host")
            | ("BFD_CHECK" | "FILE_CHECK" | "UDP_CHECK", _) => {}
            _ => notes.unknown(inner),
        }
    }
    let times = times.or(whom.times);
    let (retries, pause) = match checker {
        "HTTP_GET" | "SSL_GET" => (1, Duration::from_secs(3)),
        "MISC_CHECK" => (0, Duration::from_secs(1)),
        "DNS_CHECK" => (3, times.delay_loop.unwrap_or(DELAY_LOOP)),
        _ => (1, Duration::from_secs(1)),
    };
    let mut timeout = times.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let seconds = timeout.as_secs().max(1);
    let kind = match checker {
        "TCP_CHECK" => Kind::Tcp,
        "SMTP_CHECK" => {
            notes.differs(
                &statement.place,
                "that the port accepts connections is all that is asked of a mail server; to hear \
                 its greeting, write a check.exec",
            );
            Kind::Tcp
        }
        "HTTP_GET" | "SSL_GET" => {
            let [first, others @ ..] = &*pages else {
                notes.differs(&statement.place, "there is no `url` in it: nothing is checked");
                return None;
            };
            for other in others {
                notes.differs(
                    &other.place,
                    "one page is asked for; let the first one stand for all, or write a check.exec",
                );
            }
            let page = page(first, host, notes);
            let name = page.host.clone().filter(|_| sni);
            Kind::Http { tls: (checker == "SSL_GET").then_some(Sni(name)), page }
        }
        "MISC_CHECK" => {
            let Some(command) = command.filter(|command| !command.trim().is_empty()) else {
                notes
                    .differs(&statement.place, "there is no `misc_path` in it: nothing is checked");
                return None;
            };
            timeout = command_time.or(times.delay_loop).unwrap_or(DELAY_LOOP);
            if dynamic {
                notes.differs(
                    &statement.place,
                    "the exit status tells whether the server is well, not its weight; set that \
                     in the registry or by `portolan weight`",
                );
            }
            Kind::Exec(shell(&command, whom, dynamic))
        }
        "DNS_CHECK" => {
            notes.differs(&statement.place, "is asked by `dig`, which has to be installed");
            let (domain, kind) = (quoted(&domain), quoted(&kind));
            Kind::Exec(format!(
                "dig +tries=1 +time={seconds} @\"$PORTOLAN_ADDRESS\" -p \"$PORTOLAN_PORT\" {domain} \
                 {kind} | grep -q 'status: NOERROR' || exit 2"
            ))
        }
        "PING_CHECK" => {
            notes.differs(&statement.place, "is asked by `ping`, which has to be installed");
            Kind::Exec(format!("ping -n -c 1 -W {seconds} \"$PORTOLAN_ADDRESS\" || exit 2"))
        }
        _ => {
            notes.differs(
                &statement.place,
                format_args!(
                    "there is no {checker}; write a check.exec or check.push in its place"
                ),
            );
            return None;
        }
    };
    if matches!(checker, "DNS_CHECK" | "PING_CHECK") {
        timeout += Duration::from_secs(1);
    }
    Some(Check {
        kind,
        port: port.filter(|port| *port != whom.port),
        interval: times.delay_loop.unwrap_or(DELAY_LOOP),
        fast_interval: times.delay_before_retry.unwrap_or(pause),
        timeout,
        fall: times.retry.unwrap_or(retries).saturating_add(1),
    })
}

fn page(url: &Statement, host: Option<String>, notes: &mut Notes) -> Page {
    let mut page = Page { path: "/".to_owned(), host, ..Page::default() };
    for inner in url.body() {
        match inner.keyword() {
            "path" => {
                let path = inner.value();
                let good = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
                if good {
                    path.clone_into(&mut page.path);
                } else {
                    notes
                        .differs(&inner.place, format_args!("{path:?} is no path; / is asked for"));
                }
            }
            "status_code" => {
                let codes = inner.rest().join(",");
                page.status = (!codes.is_empty()).then_some(codes);
            }
            "virtualhost" => page.host = Some(inner.value().to_owned()),
            "digest" => notes.differs(
                &inner.place,
                "the digest of a page is not compared; state what the page must hold as \
                 check.http `body`, a regular expression",
            ),
            "regex" => match regex::Regex::new(inner.value()) {
                Ok(_) => page.body = Some(inner.value().to_owned()),
                Err(_) => notes.differs(
                    &inner.place,
                    "this is no regular expression for us (there are neither look-arounds nor \
                     back-references); write check.http `body` anew",
                ),
            },
            "regex_no_match" => {
                page.body = None;
                notes.differs(
                    &inner.place,
                    "a page can be asked for what it must hold, not for what it must not; the body \
                     is not looked at",
                );
            }
            "regex_options" | "regex_stack" | "regex_min_offset" | "regex_max_offset" => {
                notes.differs(
                    &inner.place,
                    "has no effect; options stand in the expression itself, such as (?i)",
                );
            }
            _ => notes.unknown(inner),
        }
    }
    page
}

/// The command of a MISC_CHECK for a shell: keepalived takes its words as they are. With us 1 is a
/// warning, which serves.
fn shell(command: &str, whom: Whom<'_>, dynamic: bool) -> String {
    let (address, port) = (whom.address.to_string(), whom.port.to_string());
    let words = command.split_whitespace().map(|word| match word {
        // One command for all instances.
        word if word == address => "\"$PORTOLAN_ADDRESS\"".to_owned(),
        word if word == port => "\"$PORTOLAN_PORT\"".to_owned(),
        word => quoted(word),
    });
    let command = words.collect::<Vec<_>>().join(" ");
    if dynamic {
        format!("{command}; test $? -ne 1 || exit 2")
    } else {
        format!("{command} || exit 2")
    }
}

/// A word for the shell; one that bears quotes already is left as it is.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-:=@%+,'\"".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

impl Check {
    /// Its name in `[service.NAME.check]`.
    pub(super) const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Tcp => "tcp",
            Kind::Http { .. } => "http",
            Kind::Exec(_) => "exec",
        }
    }

    /// Writes it as a check of `service`.
    pub(super) fn write(&self, service: &str, text: &mut Text) {
        text.table(&["service", service, "check", self.name()]);
        match &self.kind {
            Kind::Tcp => {}
            Kind::Http { tls, page } => {
                text.string("path", &page.path);
                for (key, value) in
                    [("status", &page.status), ("host", &page.host), ("body", &page.body)]
                {
                    if let Some(value) = value {
                        text.string(key, value);
                    }
                }
                if let Some(Sni(name)) = tls {
                    let mut parts = vec![("verify", "false".to_owned())];
                    parts.extend(
                        name.as_ref().map(|name| ("server_name", super::super::text::string(name))),
                    );
                    text.inline("tls", &parts);
                }
            }
            Kind::Exec(command) => text.string("command", command),
        }
        if let Some(port) = self.port {
            text.bare("port", port);
        }
        let period = |period| Period(period).to_string();
        text.string("interval", &period(self.interval));
        if self.fall > 1 && self.fast_interval != self.interval {
            text.string("fast_interval", &period(self.fast_interval));
        }
        text.string("timeout", &period(self.timeout));
        text.bare("rise", 1);
        text.bare("fall", self.fall);
    }
}
