//! What concerns the process as a whole: logs, signals, its number, its admin face.

use super::Translation;
use crate::suggest;

/// Levels of consul-template, and the filters that show as much.
const LEVELS: &[(&str, &str)] = &[
    ("TRACE", "info,portolan=trace"),
    ("DEBUG", "info,portolan=debug"),
    ("INFO", "warn,pingora_core=error,pingora_proxy=error,portolan=info"),
    ("WARN", "warn,pingora_core=error,pingora_proxy=error"),
    ("WARNING", "warn,pingora_core=error,pingora_proxy=error"),
    ("ERR", "error"),
    ("ERROR", "error"),
];

impl Translation<'_> {
    pub(super) fn process(&mut self) {
        self.text.table(&["node"]);
        self.text.bare("workers", 1);
        if let Some(dir) = &self.line.data_dir {
            let dir = self.input.directory.join(dir);
            self.text.string("data_dir", &dir.to_string_lossy());
        }
        self.admin();
        self.log_level();
        let top = self.top;
        let signals = &mut self.plan.signals;
        signals.end = top.signal(&["kill_signal"], signals.end);
        signals.reload = top.signal(&["reload_signal"], signals.reload);
        self.plan.pid_file = top.text(&["pid_file"]).map(|path| self.path(path).into());

        self.without_effect(
            &["dump_signal"],
            "there is no core dump by signal; every signal that is not listened to goes to the child",
        );
        self.without_effect(&["reap"], "zombies are reaped whenever this is process 1");
        if let Some(from) = top.first(&["syslog"])
            && top.flag(&["syslog", "enabled"]) != Some(false)
        {
            let why = "logs go to standard error, from where the service manager or `logger` takes \
                       them";
            self.plan.notices.push(format!("{from}: `syslog` has no effect: {why}"));
        }
        if let Some(from) = top.first(&["log_file"]) {
            let why = "logs go to standard error; send that to a file and rotate it by logrotate";
            self.plan.notices.push(format!("{from}: `log_file` has no effect: {why}"));
        }
        if top.flag(&["err_on_failed_lookup"]) == Some(true) {
            self.without_effect(
                &["err_on_failed_lookup"],
                "a look-up that fails leaves the file as it is and is tried again",
            );
        }
        if top.flag(&["template_error_fatal"]) == Some(true) {
            self.without_effect(
                &["template_error_fatal"],
                "a template that fails keeps its file and does not end the others, except with -once",
            );
        }
        self.strangers();
    }

    /// Vault and Nomad: a template that asks for them is told when it does.
    fn strangers(&mut self) {
        for (name, functions) in [
            ("vault", "secret, secrets and pkiCert"),
            ("nomad", "nomadService, nomadVar and others"),
        ] {
            if let Some(from) = self.top.first(&[name])
                && self.top.flag(&[name, "enabled"]) != Some(false)
            {
                let what = format!(
                    "{from}: `{name}` has no effect: there is no client for it; its functions \
                     ({functions}) make a template fail with a message that says so"
                );
                self.plan.notices.push(what);
            }
        }
    }

    fn admin(&mut self) {
        let port = self.top.count(&["telemetry", "prometheus", "port"]);
        let listen = match (&self.line.admin, port) {
            (Some(listen), _) => listen.clone(),
            (None, Some(port)) => format!("127.0.0.1:{port}"),
            (None, None) => String::new(),
        };
        if !listen.is_empty() {
            self.text.table(&["admin"]);
            self.text.string("listen", &listen);
        }
        if let Some(from) = self.top.first(&["telemetry"]) {
            let what = if port.is_some() {
                format!(
                    "{from}: metrics are at http://{listen}/metrics, on loopback, under names of Portolan."
                )
            } else {
                format!("{from}: of `telemetry` only `prometheus {{ port }}` has a counterpart.")
            };
            self.differs(what);
        }
    }

    fn log_level(&mut self) {
        let stated = self.top.text(&["log_level"]).map(str::to_owned);
        let level = stated
            .or_else(|| self.variable("CT_LOG"))
            .or_else(|| self.variable("CONSUL_TEMPLATE_LOG"))
            .unwrap_or_else(|| "WARN".into());
        let upper = level.trim().to_ascii_uppercase();
        if let Some((_, filter)) = LEVELS.iter().find(|(name, _)| *name == upper) {
            self.plan.log_level = Some((*filter).to_owned());
            return;
        }
        let known = ["trace", "debug", "info", "warn", "err"];
        let remedy = suggest::remedy(&level, &known, "Known levels");
        let from = self.top.from(&["log_level"]);
        let from = from.map_or_else(|| "CONSUL_TEMPLATE_LOG".into(), ToString::to_string);
        self.problems.push(format!("{from}: unknown log level `{level}`{remedy}"));
    }
}
