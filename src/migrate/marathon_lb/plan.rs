//! A command line of marathon-lb made into a configuration.

use std::fs;
use std::path::Path;

use super::Input;
use super::flags::Flags;
use super::told::{VARIABLES, WITHOUT, instead};
use crate::migrate::text::{self, Text};
use crate::migrate::{Plan, Refused};

/// HAProxy's names of marathon-lb's frontends, by which statistics are looked for.
pub(super) const HTTP: &str = "marathon_http_in";
pub(super) const HTTPS: &str = "marathon_https_in";
pub(super) const APPS: &str = "marathon_http_appid_in";

/// Where marathon-lb looks for Marathon when nobody says otherwise.
const MARATHON: &str = "http://master.mesos:8080";
/// Its certificate when nobody says otherwise.
const CERTIFICATE: &str = "/etc/ssl/cert.pem";
/// Largest file with credentials that is read.
const CREDENTIALS_MAX: u64 = 4096;

/// Makes a configuration of what marathon-lb is started with. Reads the file of credentials and looks
/// for templates.
///
/// # Errors
/// The command line cannot be read, or marathon-lb would refuse it.
pub fn plan(input: Input<'_>) -> Result<Plan, Refused> {
    let flags = Flags::read(input.arguments)?;
    let mut writing = Writing { flags, input, text: Text::default(), plan: Plan::default() };
    if writing.flags.each("group").is_empty() {
        let message = "marathon-lb needs --group: write --group external, or --group '*' for all";
        return Err(Refused::Arguments(message.into()));
    }
    writing.marathon();
    writing.labels()?;
    if !writing.flags.has("dont-bind-http-https") {
        writing.hosts();
    }
    writing.apps();
    writing.face();
    writing.told();
    let Writing { text, mut plan, .. } = writing;
    plan.text = text.finish();
    Ok(plan)
}

struct Writing<'a> {
    flags: Flags,
    input: Input<'a>,
    text: Text,
    plan: Plan,
}

impl Writing<'_> {
    fn differs(&mut self, what: impl Into<String>) {
        self.plan.differences.push(what.into());
    }

    fn marathon(&mut self) {
        let urls = match self.flags.many("marathon") {
            [] => vec![MARATHON.to_owned()],
            urls => urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        };
        self.text.table(&["registry", "marathon", "marathon"]);
        self.text.list("urls", &urls);
        if let Some(file) = self.flags.one("marathon-auth-credential-file").map(str::to_owned) {
            self.credentials(&file);
        }
        let authority = self.flags.one("marathon-ca-cert").map(str::to_owned);
        if let Some(file) = &authority {
            let path = self.input.directory.join(file);
            self.text.string("ca_file", &path.to_string_lossy());
        } else if urls.iter().any(|url| url.starts_with("https://")) {
            self.differs(
                "Marathon's certificate is verified, which marathon-lb does with --marathon-ca-cert \
                 only: name the authority by ca_file in [registry.marathon.marathon], or write \
                 verify = false",
            );
        }
        let dcos = "DCOS_SERVICE_ACCOUNT_CREDENTIAL";
        if self.flags.has("dcos-auth-credentials") || (self.input.variable)(dcos).is_some() {
            self.differs(
                "there is no login of DC/OS: have a token renewed by other means and write its file \
                 as token_file in [registry.marathon.marathon]",
            );
        }
    }

    /// The user's name from the file; the password needs a file of its own.
    fn credentials(&mut self, file: &str) {
        let path = self.input.directory.join(file);
        let small = fs::metadata(&path).is_ok_and(|file| file.len() <= CREDENTIALS_MAX);
        let read = if small { fs::read_to_string(&path).ok() } else { None };
        let line = read.as_deref().and_then(|read| read.lines().next());
        let name = line.and_then(|line| line.split_once(':')).map(|(name, _)| name);
        let shown = path.display();
        self.text.string("username", name.unwrap_or("marathon"));
        if name.is_none() {
            self.plan.differences.push(format!(
                "{shown} could not be read as user:password; write the user's name as username in \
                 [registry.marathon.marathon]"
            ));
        }
        let password = format!("{shown}.password");
        self.text.string("password_file", &password);
        self.differs(format!(
            "the password stands in a file of its own: cut -d: -f2- {shown} > {password}, readable \
             by portolan alone"
        ));
    }

    fn labels(&mut self) -> Result<(), Refused> {
        let groups: Vec<String> = self.flags.each("group").into_iter().map(str::to_owned).collect();
        self.text.table(&["labels", "marathon-lb"]);
        self.text.list("group", &groups);
        if self.flags.has("strict-mode") {
            self.text.bare("strict", true);
        }
        if !self.flags.has("dont-bind-http-https") {
            self.text.string("http", HTTP);
        }
        self.text.string("https", HTTPS);
        self.text.string("app_id", APPS);
        if let Some(own) = (self.input.variable)("FRAMEWORK_NAME") {
            self.text.list("except", &[format!("/{}", own.trim_start_matches('/'))]);
        }
        let port = |name: &str, usual: u16| match self.flags.one(name) {
            None => Ok(usual),
            Some(text) => text.parse::<u16>().map_err(|_| {
                Refused::Arguments(format!("--{name} = {text:?} is no port, 0 to 65535"))
            }),
        };
        let least = port("min-serv-port-ip-per-task", 10_050)?;
        let most = port("max-serv-port-ip-per-task", 10_100)?;
        match (least, most) {
            (10_050, 10_100) => {}
            (0, 0) => self.text.list::<&str>("assigned", &[]),
            (least, most) if 0 < least && least <= most => {
                self.text.list("assigned", &[format!("{least}-{most}")]);
            }
            _ => {
                return Err(Refused::Arguments(format!(
                    "marathon-lb refuses --min-serv-port-ip-per-task {least} with \
                     --max-serv-port-ip-per-task {most}"
                )));
            }
        }
        self.text.inline("http_timeouts", &timeouts());
        if self.flags.has("dont-bind-http-https") {
            // Service ports with certificates have those of a listener.
            self.https("127.0.0.1:8443");
            self.differs(format!(
                "[listener.{HTTPS}.https] on 127.0.0.1:8443 is there for its certificates, which \
                 ports with HAPROXY_{{n}}_SSL_CERT show; take it away with `https` in \
                 [labels.marathon-lb] if there are none"
            ));
        }
        Ok(())
    }

    /// The listeners of virtual hosts.
    fn hosts(&mut self) {
        self.text.table(&["listener", HTTP, "http"]);
        self.text.list("bind", &["0.0.0.0:80"]);
        self.text.inline("timeouts", &timeouts());
        self.https("0.0.0.0:443");
    }

    fn https(&mut self, bind: &str) {
        let certificates = self.certificates();
        let names: Vec<&str> = certificates.iter().map(|(name, _)| &**name).collect();
        self.text.table(&["listener", HTTPS, "https"]);
        self.text.list("bind", &[bind]);
        self.text.list("certificates", &names);
        self.text.inline("timeouts", &timeouts());
        for (name, file) in &certificates {
            self.text.table(&["certificate", name]);
            self.text.string("cert_file", file);
            self.text.string("key_file", file);
        }
    }

    /// The certificates by name: HAProxy's files hold the key too.
    fn certificates(&mut self) -> Vec<(String, String)> {
        let told = self.flags.one("ssl-certs").map(str::to_owned);
        let mut files: Vec<String> = match &told {
            Some(list) => list.split(',').map(str::trim).map(str::to_owned).collect(),
            None => vec![CERTIFICATE.to_owned()],
        };
        files.retain(|file| !file.is_empty());
        let held = |name: &str| (self.input.variable)(name).is_some_and(|value| !value.is_empty());
        let mut variables = Vec::new();
        if held("HAPROXY_SSL_CERT") {
            variables.push(("HAPROXY_SSL_CERT".to_owned(), CERTIFICATE.to_owned()));
            for index in 0..=100 {
                let name = format!("HAPROXY_SSL_CERT{index}");
                if held(&name) {
                    variables.push((name, format!("/etc/ssl/cert{index}.pem")));
                }
            }
        } else if told.is_none() {
            self.differs(format!(
                "no certificate is made up: put one with its key into {CERTIFICATE}, where \
                 marathon-lb's image puts one of its own"
            ));
        }
        for (name, file) in variables {
            self.differs(format!(
                "certificates are read from files: write the value of {name} to {file}, readable by \
                 portolan alone"
            ));
            if !files.contains(&file) {
                files.push(file);
            }
        }
        let mut named: Vec<(String, String)> = Vec::new();
        for file in files {
            let stem = Path::new(&file).file_stem().unwrap_or_default().to_string_lossy();
            let again = named.iter().filter(|(_, other)| {
                Path::new(other).file_stem().unwrap_or_default().to_string_lossy() == stem
            });
            let name = match again.count() {
                0 => stem.into_owned(),
                before => format!("{stem}-{}", before + 1),
            };
            let path = self.input.directory.join(&file).to_string_lossy().into_owned();
            if Path::new(&path).is_dir() {
                self.differs(format!(
                    "{path} is a directory: write a [certificate.NAME] for each file in it"
                ));
            }
            named.push((name, path));
        }
        named
    }

    /// The listener that goes by `X-Marathon-App-Id`.
    fn apps(&mut self) {
        self.text.table(&["listener", APPS, "http"]);
        self.text.list("bind", &["0.0.0.0:9091"]);
        self.text.inline("timeouts", &timeouts());
    }

    /// The endpoints of 9090.
    fn face(&mut self) {
        self.text.table(&["haproxy"]);
        self.text.string("listen", "0.0.0.0:9090");
        self.text.bare("signals", true);
        // marathon-lb always checks.
        self.text.table(&["health"]);
        self.text.bare("from_registry", true);
        self.text.table(&["limits"]);
        self.text.bare("connections", 50_000);
    }

    /// All that has no line in the configuration.
    fn told(&mut self) {
        if !self.flags.has("health-check") {
            self.differs(
                "instances whose checks in Marathon fail get no work, as with --health-check; without \
                 it marathon-lb went by checks of its own alone",
            );
        }
        self.differs(
            "an instance passes when the health checks of all its ports do, where HAProxy has each port \
             by its own; what HAPROXY_{n}_…HEALTHCHECK_OPTIONS labels say beside has no effect: write the \
             label portolan-check",
        );
        self.differs(
            "where no HAPROXY_{n}_BALANCE is, work goes to the less busy of two (p2c); write policy = \
             \"round-robin\" in [service.NAME] for turns",
        );
        if matches!(self.flags.mode.as_deref(), Some("poll" | "event")) {
            self.differs(
                "changes come by Marathon's event stream at once, and everything is read again each \
                 minute (resync)",
            );
        }
        if self.flags.has("group-https-by-vhost") {
            self.differs(format!(
                "certificates are chosen by the name that a client asks for, among those of \
                 [listener.{HTTPS}.https]; add a [certificate.NAME] for each that apps name in \
                 HAPROXY_{{n}}_SSL_CERT"
            ));
        }
        if self.flags.has("dry") {
            self.plan.notices.push("--dry: this is such a look".into());
        }
        for (name, why) in WITHOUT {
            if self.flags.has(name) {
                self.plan.notices.push(format!("--{name}: {why}"));
            }
        }
        for (name, why) in VARIABLES {
            if (self.input.variable)(name).is_some() {
                self.plan.notices.push(format!("{name}: {why}"));
            }
        }
        self.templates();
    }

    /// Templates in files: what they change in HAProxy's configuration is not read.
    fn templates(&mut self) {
        let sandbox = (self.input.variable)("MESOS_SANDBOX");
        let folders = [
            Some(self.input.directory.join("templates")),
            sandbox.map(|sandbox| self.input.directory.join(sandbox).join("templates")),
        ];
        for folder in folders.into_iter().flatten() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let mut names: Vec<String> =
                names.filter(|name| name.starts_with("HAPROXY_")).collect();
            names.sort();
            for name in names {
                let instead = instead(&name);
                let path = folder.join(&name);
                self.plan.differences.push(format!("{} is not read: {instead}", path.display()));
            }
        }
    }
}

/// marathon-lb's own.
fn timeouts() -> [(&'static str, String); 5] {
    [
        ("request_head", text::string("15s")),
        ("read", text::string("30s")),
        ("idle", text::string("1s")),
        ("connect", text::string("3s")),
        ("tunnel", text::string("1h")),
    ]
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
