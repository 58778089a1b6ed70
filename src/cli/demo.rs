//! `portolan demo`: everything on one screen, without a configuration and without a cluster.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

use super::{complain, exit, run::runtime, say};
use crate::app::{App, Options};
use crate::config;
use crate::telemetry::logs;
use crate::units::Period;

/// Which ports the demo takes, and how fast it moves.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Where DNS listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5300")]
    dns: SocketAddr,
    /// Where the HTTP listener listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where the admin face listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8611")]
    admin: SocketAddr,
    /// How long a backend stays away, and stays.
    #[arg(long, value_name = "PERIOD", default_value = "20s")]
    every: Period,
}

const BACKENDS: usize = 3;

const TEMPLATE: &str = "\
# Rendered from generation {{ generation() }}.
{% for i in service(\"web\") -%}
server {{ i.id }} {{ i.address }}:{{ i.port }}
{% endfor %}";

impl Demo {
    pub(super) fn run(&self) -> ExitCode {
        logs::start();
        let directory = std::env::temp_dir().join(format!("portolan-demo-{}", std::process::id()));
        let ended = fs::create_dir_all(&directory)
            .and_then(|()| runtime())
            .map_err(|error| format!("cannot prepare the demo in {}: {error}", directory.display()))
            .and_then(|runtime| runtime.block_on(self.show(&directory)));
        // Left behind only if somebody took the directory away from us.
        let _ = fs::remove_dir_all(&directory);
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("portolan demo: {error}"));
                ExitCode::from(exit::OS)
            }
        }
    }

    async fn show(&self, directory: &Path) -> Result<(), String> {
        let backends =
            backends().await.map_err(|error| format!("cannot start a backend: {error}"))?;
        let services = directory.join("services.toml");
        let write = |present: usize| {
            replace(&services, &list(&backends[..present]))
                .map_err(|error| format!("cannot write {}: {error}", services.display()))
        };
        write(BACKENDS)?;
        let file = directory.join("portolan.toml");
        let written = fs::write(directory.join("upstreams.conf.j2"), TEMPLATE)
            .and_then(|()| fs::write(&file, self.configuration()));
        written.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let loaded = config::load(&file).map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })?;
        let options = Options { file: Some(file), ..Options::default() };
        let app = App::start(loaded, options).await.map_err(|error| remedy(&error))?;
        app.published(|snapshot| snapshot.service("web").is_some()).await;
        self.introduce(directory);

        let mut present = BACKENDS;
        let moved = async {
            loop {
                tokio::time::sleep(self.every.0).await;
                present = if present == BACKENDS { BACKENDS - 1 } else { BACKENDS };
                write(present)?;
                let word = if present == BACKENDS { "is back" } else { "has left" };
                say(&format!("web-{BACKENDS} {word}: ask again, all three faces tell {present}"));
            }
        };
        let ended = tokio::select! {
            ended = moved => ended,
            pressed = tokio::signal::ctrl_c() => pressed.map_err(|error| error.to_string()),
        };
        app.drain(Duration::from_secs(2)).await;
        app.stop().await;
        say("\nThe demo has ended; nothing of it is left.");
        ended
    }

    fn configuration(&self) -> String {
        let Self { dns, http, admin, .. } = self;
        format!(
            "[registry.demo.file]\npath = \"services.toml\"\n\n\
             [dns]\nlisten = [\"{dns}\"]\n\n\
             [dns.zone.\"demo.test\"]\ndialect = \"plain\"\n\n\
             [listener.web.http]\nbind = [\"{http}\"]\nshow_generation = [\"127.0.0.0/8\", \"::1/128\"]\n\n\
             [route.all]\nlistener = \"web\"\nservice = \"web\"\n\n\
             [service.web]\npolicy = \"round-robin\"\n\n\
             [template.upstreams]\nsource = \"upstreams.conf.j2\"\ndestination = \"upstreams.conf\"\n\n\
             [admin]\nlisten = \"{admin}\"\n"
        )
    }

    fn introduce(&self, directory: &Path) {
        let Self { dns, http, admin, every } = self;
        let file = directory.join("upstreams.conf");
        say(&format!(
            "\nPortolan serves three backends of the service `web`. In another terminal, try:\n\n  \
             dig @{ip} -p {port} web.demo.test A +short\n  \
             dig @{ip} -p {port} web.demo.test SRV +nsid\n  \
             curl -i http://{http}/\n  \
             cat {file}\n  \
             curl http://{admin}/v1/services/web\n  \
             curl http://{admin}/metrics\n\n\
             Every {every}, web-{BACKENDS} leaves or comes back: names, requests and the file follow \
             together.\nCtrl-C ends the demo.\n",
            ip = dns.ip(),
            port = dns.port(),
            file = file.display(),
        ));
    }
}

/// The error, with the option that moves the port which is taken.
fn remedy(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let options = [("[dns]", "--dns"), ("[listener.web", "--http"), ("[admin]", "--admin")];
    match options.iter().find(|(setting, _)| text.contains(setting)) {
        Some((_, option)) => format!(
            "{text}\nIn the demo: portolan demo {option} 127.0.0.1:PORT, or \
             make run DEMO=\"{option} 127.0.0.1:PORT\""
        ),
        None => text,
    }
}

/// Small HTTP servers that say their name, on addresses of their own so that DNS tells them apart.
async fn backends() -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for number in 1..=BACKENDS {
        let listener =
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 10 + number as u8], 0))).await?;
        let address = listener.local_addr()?;
        let hello = format!("hello from web-{number} at {address}\n");
        let router = Router::new().fallback(move || std::future::ready(hello.clone()));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                complain(&format!("backend web-{number} ended: {error}"));
            }
        });
        addresses.push(address);
    }
    Ok(addresses)
}

fn list(backends: &[SocketAddr]) -> String {
    let instance = |(index, address): (usize, &SocketAddr)| {
        format!(
            "[[service.web.instance]]\nid = \"web-{}\"\naddress = \"{}\"\nport = {}\n\n",
            index + 1,
            address.ip(),
            address.port()
        )
    };
    backends.iter().enumerate().map(instance).collect()
}

/// Replaces `file` by renaming, so that nobody reads half of it.
fn replace(file: &PathBuf, text: &str) -> io::Result<()> {
    let staged = file.with_extension("toml.new");
    fs::write(&staged, text)?;
    fs::rename(&staged, file)
}
