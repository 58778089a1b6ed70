//! `check.tcp`: whoever accepts a connection is well.

use std::path::Path;
use std::time::Duration;

use super::super::tracker::Observation;
use super::connect::connect;
use super::{Ask, Kind, Target, check_config};

check_config! {
    /// `[service.NAME] check.tcp`.
    pub struct Config {}
}

/// Connects and resets.
#[derive(Debug)]
pub(super) struct Probe {
    /// Made once: this is what most probes of most processes find.
    connected: Observation,
}

impl Kind for Config {
    type Probe = Probe;

    fn compile(&self, _: &Path) -> Result<Probe, (&'static str, String)> {
        Ok(Probe { connected: Observation::passed("connected") })
    }
}

impl Ask for Probe {
    async fn ask(&self, target: &Target, _: Duration) -> Observation {
        match connect(target).await {
            Ok(_) => self.connected.clone(),
            Err(failed) => failed,
        }
    }
}
