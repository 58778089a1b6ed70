//! `exec`: the child that is started when the files are there.

use super::settings::Command;
use super::{Translation, values};
use crate::migrate::text;
use crate::units::Period;

/// What the child may take to end unless it is stated.
const KILL_TIMEOUT_SECONDS: u64 = 30;

impl Translation<'_> {
    /// The child; whoever has neither one nor templates has nothing to do.
    pub(super) fn child(&mut self, alone: bool) {
        let top = self.top;
        let command = top.command(&["exec", "command"]);
        let command = command.filter(|_| top.flag(&["exec", "enabled"]) != Some(false));
        let Some(command) = command else {
            if alone && self.problems.is_empty() {
                self.problems.push(
                    "there is nothing to render: give -template source:destination:command, or \
                     -config with a file that has templates; `-help` tells more"
                        .into(),
                );
            }
            return;
        };
        self.text.table(&["exec"]);
        match command {
            Command::Shell(line) => self.text.string("command", line),
            Command::Words(words) => self.text.list("command", words),
        }
        if let Some(splay) = top.span(&["exec", "splay"]).filter(|splay| !splay.is_zero()) {
            self.text.string("splay", &Period(splay).to_string());
        }
        let kill = top.signal(&["exec", "kill_signal"], Some(libc::SIGINT));
        self.text.string("kill_signal", &values::signal_name(kill.unwrap_or(libc::SIGKILL)));
        let timeout = top.span(&["exec", "kill_timeout"]);
        if let Some(timeout) = timeout.filter(|timeout| timeout.as_secs() != KILL_TIMEOUT_SECONDS) {
            self.text.string("kill_timeout", &Period(timeout).to_string());
        }
        if let Some(signal) = top.signal(&["exec", "reload_signal"], None) {
            self.text.string("reload_signal", &values::signal_name(signal));
        }
        self.environment();
        self.without_effect(&["exec", "timeout"], "the child runs until it ends");
        self.differs(
            "A child that a signal has ended makes us end with 128 and its number; consul-template \
             ends with 255.",
        );
    }

    fn environment(&mut self) {
        let env = |key| ["exec", "env", key];
        let top = self.top;
        let mut parts = Vec::new();
        if top.flag(&env("pristine")) == Some(true) {
            parts.push(("pristine", "true".to_owned()));
        }
        // As consul-template does, the child is told where Consul is.
        let mut custom = top.words(&env("custom")).to_vec();
        let told = custom.iter().any(|variable| variable.starts_with("CONSUL_HTTP_ADDR="));
        if let (Some(address), false) = (top.text(&["consul", "address"]), told) {
            custom.insert(0, format!("CONSUL_HTTP_ADDR={address}"));
        }
        for (key, words) in [
            ("custom", &custom[..]),
            ("allow", top.words(&env("allowlist"))),
            ("deny", top.words(&env("denylist"))),
        ] {
            if !words.is_empty() {
                parts.push((key, text::list(words)));
            }
        }
        if !parts.is_empty() {
            self.text.inline("env", &parts);
        }
    }
}
