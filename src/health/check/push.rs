//! `check.push`: the instance, or somebody for it, says how it is, at least once in `ttl`.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::super::tracker::Observation;
use super::{Ask, Common, Keys, Kind, Manner, Target, too_short};
use crate::units::Period;

/// `[service.NAME] check.push`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long one result counts; without another one the instance has failed then.
    pub ttl: Period,
}

/// What is asked when nobody has said anything: nobody.
#[derive(Debug)]
pub(super) struct Probe {
    ttl: Period,
}

impl Keys for Config {
    fn common(&self) -> Common {
        Common::default()
    }
}

impl Kind for Config {
    type Probe = Probe;

    fn compile(&self, _: &Path) -> Result<Probe, (&'static str, String)> {
        match too_short(self.ttl) {
            Some(message) => Err(("ttl", message)),
            None => Ok(Probe { ttl: self.ttl }),
        }
    }

    fn manner(&self) -> Manner {
        Manner::Push(self.ttl.0)
    }
}

impl Ask for Probe {
    async fn ask(&self, _: &Target, _: Duration) -> Observation {
        Observation::failed(&format!("nothing was pushed within {}", self.ttl)).definite()
    }
}
