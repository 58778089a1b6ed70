//! `check.exec`: a command says so by its status, as checks of Consul and plugins of Nagios do.

use std::path::Path;
use std::time::Duration;

use super::super::tracker::{Observation, Outcome};
use super::{Ask, Kind, Manner, Target, check_config};
use crate::exec::{self, Failure};

check_config! {
    /// `[service.NAME] check.exec`.
    pub struct Config {
        /// A command for the shell. 0: well, 1: a warning, all else: failed.
        pub command: String,
    }
}

/// Runs the command.
#[derive(Debug)]
pub(super) struct Probe {
    command: String,
}

impl Kind for Config {
    type Probe = Probe;

    fn compile(&self, _: &Path) -> Result<Probe, (&'static str, String)> {
        if self.command.trim().is_empty() {
            return Err(("command", "is empty; name what to run".to_owned()));
        }
        Ok(Probe { command: self.command.clone() })
    }

    fn manner(&self) -> Manner {
        Manner::Command
    }
}

impl Ask for Probe {
    async fn ask(&self, target: &Target, limit: Duration) -> Observation {
        let Target::Instance(whom) = target else {
            return Observation::failed("there is no instance to run it for");
        };
        let port = whom.port.map(|port| port.to_string()).unwrap_or_default();
        let address = whom.address.to_string();
        let environment = [
            ("PORTOLAN_SERVICE", &*whom.service),
            ("PORTOLAN_REGISTRY", &*whom.registry),
            ("PORTOLAN_ID", &*whom.id),
            ("PORTOLAN_ADDRESS", &address),
            ("PORTOLAN_PORT", &port),
        ];
        judge(exec::run_with(&self.command, &environment, limit).await)
    }
}

fn judge(ended: Result<String, Failure>) -> Observation {
    let or = |output: String, instead: &str| {
        if output.trim().is_empty() { instead.to_owned() } else { output }
    };
    match ended {
        Ok(output) => Observation::passed(&or(output, "exit status 0")),
        Err(Failure::Ended(status, output)) if status.code() == Some(1) => {
            Observation::new(Outcome::Warned, &or(output, "exit status 1"))
        }
        Err(Failure::Ended(status, output)) => {
            Observation::failed(&or(output, &status.to_string()))
        }
        Err(failure) => Observation::failed(&failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Whom;
    use super::*;
    use crate::catalog::model::Address;

    #[tokio::test]
    async fn the_status_decides_and_the_output_is_the_text() {
        let target = Target::Instance(Arc::new(Whom {
            service: "web".into(),
            registry: "r".into(),
            id: "a".into(),
            address: Address::parse("10.0.0.1").unwrap(),
            port: Some(80),
        }));
        for (command, outcome, text) in [
            ("true", Outcome::Passed, "exit status 0"),
            ("echo fine", Outcome::Passed, "fine"),
            ("echo slow; exit 1", Outcome::Warned, "slow"),
            ("exit 2", Outcome::Failed, "exit status: 2"),
            ("echo why >&2; exit 3", Outcome::Failed, "why"),
            ("kill -9 $$", Outcome::Failed, "signal: 9 (SIGKILL)"),
            ("sleep 60", Outcome::Failed, "did not end within 1s and was killed"),
            (
                "echo $PORTOLAN_SERVICE $PORTOLAN_REGISTRY $PORTOLAN_ID \
                 $PORTOLAN_ADDRESS:$PORTOLAN_PORT",
                Outcome::Passed,
                "web r a 10.0.0.1:80",
            ),
        ] {
            let probe = Probe { command: command.to_owned() };
            let seen = probe.ask(&target, Duration::from_secs(1)).await;
            assert_eq!((seen.outcome, &*seen.text), (outcome, text), "{command}");
        }
    }
}
