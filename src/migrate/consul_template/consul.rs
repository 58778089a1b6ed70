//! The connection to Consul, as a registry.

use std::time::Duration;

use super::Translation;
use super::values;
use crate::migrate::Mode;
use crate::units::Period;

/// The defaults of consul-template's retries.
const ATTEMPTS: i64 = 12;
const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// What one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

impl Translation<'_> {
    pub(super) fn consul(&mut self) {
        let top = self.top;
        self.retries();
        if top.flag(&["consul", "enabled"]) == Some(false) {
            return;
        }
        self.text.table(&["registry", "consul", "consul"]);
        let tls = self.tls();
        match self.address(tls) {
            Ok(address) => self.text.string("address", &address),
            Err(why) => self.problems.push(why),
        }
        for (key, path, variable) in [
            ("namespace", Some(["consul", "namespace"]), "CONSUL_NAMESPACE"),
            ("partition", None, "CONSUL_PARTITION"),
        ] {
            let stated = path.and_then(|path| top.text(&path)).map(str::to_owned);
            if let Some(value) = stated.or_else(|| self.variable(variable)) {
                self.text.string(key, &value);
            }
        }
        self.token();
        self.basic_auth();
        if tls {
            self.certificates();
        }
        if let Some(span) = top.span(&["max_stale"]) {
            if span.is_zero() {
                self.text.bare("stale", false);
            } else {
                self.text.string("max_stale_read", &Period(span).to_string());
            }
        }
        if let Some(span) = top.span(&["block_query_wait"]).filter(|span| !span.is_zero()) {
            self.text.string("wait", &Period(span).to_string());
        }
        match top.count(&["consul", "transport", "max_conns_per_host"]) {
            Some(count) if count > 0 => self.text.bare("max_watches", count),
            _ => {}
        }
        for key in [
            "dial_keep_alive",
            "dial_timeout",
            "disable_keep_alives",
            "idle_conn_timeout",
            "max_idle_conns",
            "max_idle_conns_per_host",
            "tls_handshake_timeout",
        ] {
            self.without_effect(
                &["consul", "transport", key],
                "connections have times of their own: `timeout` and `heartbeat` of the registry",
            );
        }
        self.without_effect(
            &["consul", "rate_limit"],
            "questions are paced by `max_pause` and `max_starts` of the registry",
        );
        if let Some(from) = top.first(&["deduplicate"])
            && top.flag(&["deduplicate", "enabled"]) != Some(false)
        {
            let why = "each process renders for itself; answers of any server are taken, and only \
                       what has changed is evaluated, so that Consul's load stays small";
            self.plan.notices.push(format!("{from}: `deduplicate` has no effect: {why}"));
        }
    }

    /// How long a process that renders once waits for a Consul that it never heard.
    fn retries(&mut self) {
        let top = self.top;
        let retry = |key| ["consul", "retry", key];
        let attempts = match top.flag(&retry("enabled")) {
            Some(false) => 1,
            _ => top.count(&retry("attempts")).unwrap_or(ATTEMPTS),
        };
        let base = top.span(&retry("backoff")).unwrap_or(BACKOFF);
        let longest = top.span(&retry("max_backoff")).unwrap_or(BACKOFF_MAX);
        if self.plan.mode == Mode::Once && attempts > 0 {
            let pause = |attempt: i64| {
                let pause = base.saturating_mul(1 << attempt.clamp(0, 20));
                if longest.is_zero() { pause } else { pause.min(longest) }
            };
            let pauses = (0..attempts.min(1000) - 1).map(pause);
            self.plan.patience = Some(pauses.fold(ATTEMPT, Duration::saturating_add));
        }
        if let Some(from) = top.first(&["consul", "retry"]) {
            let what = format!(
                "{from}: `retry`: pauses between attempts are Portolan's own (0.25 s to 30 s), and \
                 only -once gives up."
            );
            self.differs(what);
        }
    }

    /// Whether TLS was asked for: by word, by any of its settings, or by the address.
    fn tls(&self) -> bool {
        let ssl = |key| ["consul", "ssl", key];
        let variable = |name: &str| self.variable(name);
        let by_setting =
            ["ca_cert", "ca_cert_bytes", "ca_path", "cert", "key", "server_name", "verify"]
                .iter()
                .any(|key| self.top.from(&ssl(key)).is_some());
        let by_variable = variable("CONSUL_HTTP_SSL").and_then(|value| values::flag(&value));
        let address = self.stated_address().unwrap_or_default();
        let otherwise = by_setting || by_variable == Some(true);
        let asked = self.top.flag(&ssl("enabled")).unwrap_or(otherwise);
        asked || address.starts_with("https://")
    }

    fn stated_address(&self) -> Option<String> {
        let stated = self.top.text(&["consul", "address"]).map(str::to_owned);
        stated.or_else(|| self.variable("CONSUL_HTTP_ADDR"))
    }

    fn address(&self, tls: bool) -> Result<String, String> {
        let stated = self.stated_address();
        let address = stated.as_deref().unwrap_or("127.0.0.1:8500");
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        let from = self.top.from(&["consul", "address"]);
        let from = from.map_or_else(|| "CONSUL_HTTP_ADDR".into(), ToString::to_string);
        match scheme {
            "" | "http" | "https" if !rest.is_empty() => {
                Ok(format!("{}://{rest}", if tls { "https" } else { "http" }))
            }
            "unix" => Err(format!(
                "{from}: Consul cannot be asked by a unix socket here; give its HTTP address, such \
                 as 127.0.0.1:8500"
            )),
            _ => Err(format!(
                "{from}: this is no address of Consul; write it like 127.0.0.1:8500 or \
                 https://consul.example:8501"
            )),
        }
    }

    fn token(&mut self) {
        let file = self.top.text(&["consul", "token_file"]).map(str::to_owned);
        let file = file
            .or_else(|| self.variable("CONSUL_TOKEN_FILE"))
            .or_else(|| self.variable("CONSUL_HTTP_TOKEN_FILE"));
        if let Some(file) = file {
            let file = self.path(&file);
            self.text.string("token_file", &file);
            return;
        }
        let stated = self.top.text(&["consul", "token"]).map(str::to_owned);
        let by_variable = || {
            let names = ["CONSUL_TOKEN", "CONSUL_HTTP_TOKEN"];
            names.into_iter().find_map(|name| Some((name, self.variable(name)?)))
        };
        let (name, token) = match stated {
            Some(token) => {
                let from = self.top.from(&["consul", "token"]).map(ToString::to_string);
                self.plan.differences.push(format!(
                    "{}: the token is read from the variable CONSUL_HTTP_TOKEN; `token_file` is \
                     better still.",
                    from.unwrap_or_default()
                ));
                ("CONSUL_HTTP_TOKEN", token)
            }
            None => match by_variable() {
                Some(found) => found,
                None => return,
            },
        };
        self.text.variable("token", name);
        self.plan.variables.insert(name.to_owned(), token);
    }

    fn basic_auth(&mut self) {
        let auth = |key| ["consul", "auth", key];
        if self.top.flag(&auth("enabled")) == Some(false) {
            return;
        }
        let stated = self.top.text(&auth("username")).map(|user| {
            (user.to_owned(), self.top.text(&auth("password")).unwrap_or_default().to_owned())
        });
        let found = stated.or_else(|| {
            let both = self.variable("CONSUL_HTTP_AUTH")?;
            let (user, password) = both.split_once(':').unwrap_or((&both, ""));
            Some((user.to_owned(), password.to_owned()))
        });
        let Some((user, password)) = found else { return };
        self.text.string("username", &user);
        if !password.is_empty() {
            self.text.variable("password", "CONSUL_HTTP_PASSWORD");
            self.plan.variables.insert("CONSUL_HTTP_PASSWORD".into(), password);
        }
    }

    fn certificates(&mut self) {
        let ssl = |key| ["consul", "ssl", key];
        let stated = |this: &Self, key, variable: &str| {
            let stated = this.top.text(&ssl(key)).map(str::to_owned);
            stated.or_else(|| this.variable(variable))
        };
        let authority = stated(self, "ca_cert", "CONSUL_CACERT")
            .or_else(|| stated(self, "ca_path", "CONSUL_CAPATH"));
        let certificate = stated(self, "cert", "CONSUL_CLIENT_CERT");
        let key = stated(self, "key", "CONSUL_CLIENT_KEY");
        if let Some(authority) = authority {
            let path = self.path(&authority);
            self.text.string("ca_file", &path);
        }
        if let Some(certificate) = &certificate {
            // A certificate alone holds its key too.
            let key = key.as_ref().unwrap_or(certificate);
            let (certificate, key) = (self.path(certificate), self.path(key));
            self.text.string("cert_file", &certificate);
            self.text.string("key_file", &key);
        }
        if let Some(name) = stated(self, "server_name", "CONSUL_TLS_SERVER_NAME") {
            self.text.string("server_name", &name);
        }
        let variable = self.variable("CONSUL_HTTP_SSL_VERIFY");
        let verify = self.top.flag(&ssl("verify"));
        let verify = verify.or_else(|| values::flag(&variable?));
        if verify == Some(false) {
            self.text.bare("verify", false);
        }
        if let Some(from) = self.top.from(&ssl("ca_cert_bytes")) {
            self.problems.push(format!(
                "{from}: `ca_cert_bytes` is not read: write the certificates to a file and give \
                 that as `ca_cert`"
            ));
        }
    }
}
