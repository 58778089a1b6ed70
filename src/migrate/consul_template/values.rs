//! Values as consul-template reads them from texts: lengths of time, signals, permissions.

use std::time::Duration;

use super::hcl_text::Number;
use super::settings::Command;

/// A length of time as Go writes it: `"1h30m"`, `"1.5s"`, `"250ms"`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is no length of time; write it like \"30s\" or \"1m30s\"");
    if text.starts_with('-') {
        return Err(format!("{text:?} is less than nothing"));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(refuse());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| refuse())?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(refuse()),
            };
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| refuse())
}

/// `min` or `min:max`; without `max` it is four times `min`.
pub(super) fn wait(text: &str) -> Result<(Duration, Duration), String> {
    let mut parts = text.trim().split(':').map(|part| span(part.trim()));
    let (min, max) = match (parts.next(), parts.next(), parts.next()) {
        (Some(min), None, _) => (min?, None),
        (Some(min), Some(max), None) => (min?, Some(max?)),
        _ => return Err(format!("{text:?} is no wait; write it like \"5s:20s\"")),
    };
    let max = max.unwrap_or_else(|| min.saturating_mul(4));
    if max < min {
        return Err(format!("{text:?} has a longest wait below the least one; swap them"));
    }
    Ok((min, max))
}

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("IO", libc::SIGIO),
    ("WINCH", libc::SIGWINCH),
    ("SYS", libc::SIGSYS),
];

/// A signal by its name, with or without `SIG`; none for the empty text and `SIGNIL`.
pub(super) fn signal(text: &str) -> Result<Option<i32>, String> {
    let name = text.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if matches!(name, "" | "NIL") {
        return Ok(None);
    }
    let known = SIGNALS.iter().find(|(known, _)| *known == name);
    known.map(|(_, number)| Some(*number)).ok_or_else(|| {
        format!("{text:?} is no signal; write it like \"SIGHUP\", \"SIGTERM\" or \"SIGUSR1\"")
    })
}

/// The name of a signal, without `SIG`.
pub(super) fn signal_name(number: i32) -> String {
    let known = SIGNALS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// Permissions in octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} are no permissions; write them in octal, like \"0644\""))
}

/// Permissions as a number: with a leading zero it was octal, without one it is decimal.
pub(super) fn mode_of(number: Number) -> Result<u32, String> {
    match number {
        Number::Whole { value, .. } if (0..=0o777).contains(&value) => {
            Ok(u32::try_from(value).unwrap_or_default())
        }
        Number::Whole { value, based: false } => Err(format!(
            "{value} is decimal and gives no permissions; write them in octal, as 0{value} or \
             \"0{value}\""
        )),
        _ => Err("these are no permissions; write them in octal, like 0644".into()),
    }
}

/// As Go's flags and this configuration read it.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A list of one is for the shell, as a text is.
pub(super) fn command(mut words: Vec<String>) -> Command {
    if words.len() == 1 {
        return Command::Shell(words.remove(0));
    }
    Command::Words(words)
}
