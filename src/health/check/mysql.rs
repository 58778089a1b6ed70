//! `check.mysql`: the state of a MariaDB or MySQL server: alone, replicating, or in a Galera cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::prelude::{FromValue, Queryable as _};
use mysql_async::{Conn, Opts, OptsBuilder, Row, SslOpts};
use serde::Deserialize;

use super::super::tracker::Observation;
use super::mysql_state::{Replica, State, Wanted, judge};
use super::secure::TlsConfig;
use super::{Ask, Election, Kind, Target, check_config};
use crate::catalog::model::Address;
use crate::units::Period;

/// Largest packet that is taken from a server.
const PACKET_MAX: usize = 1 << 20;
/// Code of the error that a statement is not understood.
const SYNTAX_ERROR: u16 = 1064;
/// Status and variables that are looked at.
const LOOK: [&str; 2] = [
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_local_state', 'wsrep_local_state_comment', \
     'wsrep_cluster_status', 'wsrep_ready', 'wsrep_local_index')",
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_on', 'read_only', 'version')",
];

/// What a server is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Exactly one of the service's: it takes writes.
    Writer,
    /// Any that is up to date.
    Reader,
}

const fn yes() -> bool {
    true
}

check_config! {
    /// `[service.NAME] check.mysql`.
    pub struct Config {
        /// Who asks.
        pub user: String,
        /// A file with the password on one line, read at each probe.
        pub password_file: Option<PathBuf>,
        /// What the servers of this service are for. Default: all that are fit.
        pub role: Option<Role>,
        /// How far a replica may be behind.
        pub max_lag: Option<Period>,
        /// Whether a writer of a lower rank takes over from one that is well.
        #[serde(default = "yes")]
        pub failback: bool,
        /// By TLS.
        pub tls: Option<TlsConfig>,
    }
}

/// Logs in and looks.
#[derive(Debug)]
pub(super) struct Probe {
    user: String,
    password_file: Option<PathBuf>,
    wanted: Wanted,
    tls: Option<SslOpts>,
}

impl Kind for Config {
    type Probe = Probe;

    fn ca_file(&self) -> Option<&Path> {
        self.tls.as_ref()?.ca_file.as_deref()
    }

    fn compile(&self, base_dir: &Path) -> Result<Probe, (&'static str, String)> {
        if self.user.is_empty() {
            return Err(("user", "is empty; name the user that may look".to_owned()));
        }
        let tls = self.tls.as_ref().map(|tls| {
            let named = tls.server_name.clone();
            let files = tls.ca_file.as_ref().map(|file| base_dir.join(file).into());
            // Reading it once here tells of a bad file when the configuration is checked.
            super::secure::Secure::within(tls, base_dir, &[])?;
            Ok(SslOpts::default()
                .with_disable_built_in_roots(files.is_some())
                .with_root_certs(files.into_iter().collect())
                .with_danger_accept_invalid_certs(!tls.verify)
                .with_danger_tls_hostname_override(named))
        });
        Ok(Probe {
            user: self.user.clone(),
            password_file: self.password_file.as_ref().map(|file| base_dir.join(file)),
            wanted: Wanted { role: self.role, max_lag: self.max_lag.map(|lag| lag.0) },
            tls: tls.transpose()?,
        })
    }

    fn elects(&self) -> Option<Election> {
        let failback = self.failback;
        (self.role == Some(Role::Writer)).then_some(Election { office: "writer", failback })
    }
}

impl Ask for Probe {
    async fn ask(&self, target: &Target, _: Duration) -> Observation {
        let password = match self.password().await {
            Ok(password) => password,
            Err(why) => return Observation::failed(&why),
        };
        let (address, port) = match target.socket() {
            Ok(socket) => socket,
            Err(failed) => return failed,
        };
        match self.look(self.options(address, port, password)).await {
            Ok(state) => judge(&state, self.wanted),
            Err(error) => Observation::failed(&in_words(&error)),
        }
    }
}

impl Probe {
    async fn password(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.password_file else { return Ok(None) };
        match tokio::fs::read_to_string(file).await {
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => Err(format!("cannot read password_file {}: {error}", file.display())),
        }
    }

    fn options(&self, address: &Address, port: u16, password: Option<String>) -> Opts {
        let resolved = address.ip().map(|ip| vec![ip]);
        let options = OptsBuilder::default()
            .ip_or_hostname(address.to_string())
            .resolved_ips(resolved)
            .tcp_port(port)
            .user(Some(self.user.clone()))
            .pass(password)
            .ssl_opts(self.tls.clone())
            // What is not said here would be asked of the server first.
            .max_allowed_packet(Some(PACKET_MAX))
            .wait_timeout(Some(60))
            .prefer_socket(false)
            .stmt_cache_size(0);
        options.into()
    }

    async fn look(&self, options: Opts) -> Result<State, mysql_async::Error> {
        let mut server = Conn::new(options).await?;
        let mut state = State::default();
        let mut maria = false;
        for question in LOOK {
            let rows: Vec<(String, String)> = server.query(question).await?;
            for (name, value) in rows {
                match &*name.to_ascii_lowercase() {
                    "read_only" => state.read_only = value != "OFF" && value != "0",
                    "version" => maria = value.contains("MariaDB"),
                    name => drop(state.wsrep.insert(name.to_owned(), value)),
                }
            }
        }
        let clustered = state.wsrep.contains_key("wsrep_local_state")
            && state.wsrep.get("wsrep_on").is_some_and(|on| on == "ON");
        if !clustered {
            state.replicas = replicas(&mut server, maria).await?;
        }
        // The result is there; how the farewell ends does not matter.
        let _ = server.disconnect().await;
        Ok(state)
    }
}

/// What the server replicates; none when this user may not look.
async fn replicas(
    server: &mut Conn,
    maria: bool,
) -> Result<Option<Vec<Replica>>, mysql_async::Error> {
    let questions: &[&str] = if maria {
        &["SHOW ALL SLAVES STATUS"]
    } else {
        &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"]
    };
    for question in questions {
        match server.query::<Row, _>(*question).await {
            Ok(rows) => return Ok(Some(rows.iter().map(replica).collect())),
            Err(mysql_async::Error::Server(error)) if error.code == SYNTAX_ERROR => {}
            Err(mysql_async::Error::Server(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn replica(row: &Row) -> Replica {
    let runs = |names: [&str; 2]| {
        column::<String>(row, names).is_some_and(|told| told.eq_ignore_ascii_case("yes"))
    };
    let lag: Option<u64> = column(row, ["Seconds_Behind_Master", "Seconds_Behind_Source"]);
    Replica {
        receives: runs(["Slave_IO_Running", "Replica_IO_Running"]),
        applies: runs(["Slave_SQL_Running", "Replica_SQL_Running"]),
        lag: lag.map(Duration::from_secs),
    }
}

/// The column of either name; none when there is none or it is NULL.
fn column<T: FromValue>(row: &Row, names: [&str; 2]) -> Option<T> {
    names.iter().find_map(|name| row.get_opt::<Option<T>, _>(*name)?.ok().flatten())
}

fn in_words(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(error) => format!("error {}: {}", error.code, error.message),
        mysql_async::Error::Io(mysql_async::IoError::Io(error)) => super::connect::in_words(error),
        error => error.to_string(),
    }
}
