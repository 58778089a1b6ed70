//! What a check that a reload brings to a service changes at first: nothing. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use super::config::Settings;
use super::roster::Roster;
use crate::catalog::model::{Health, Instance};
use crate::catalog::verdict::{InstanceVerdict, NOT_CHECKED_YET, ServiceVerdicts, Verdict};

impl Roster {
    /// To be asked before anybody goes by the settings `wanted`. Of services that are to be checked
    /// and were not so far, every instance that is known stands as its registry has it until it has
    /// a result: it had work, and nobody has found anything wrong. Services of which only one
    /// instance may pass are left out, for nobody knows which one. Returns of whom it speaks now.
    pub(super) fn trust(&mut self, wanted: &Settings, clock: SystemTime) -> Vec<Arc<str>> {
        let stands = |instance: &Arc<Instance>| {
            let check =
                Verdict { health: Health::Unknown, cause: NOT_CHECKED_YET.into(), since: clock };
            let address = instance.address.clone();
            let key = (Arc::clone(&instance.registry), Arc::clone(&instance.id));
            (key, InstanceVerdict { address, check: Some(check), ejected: None })
        };
        let mut trusted = Vec::new();
        for (name, checks) in &wanted.services {
            let elects = checks.iter().any(|check| check.elects.is_some());
            let Some(service) = self.snapshot.service(name) else { continue };
            // One that asked for its checks itself has verdicts already.
            let known = self.settings.checked(name) || self.services.contains_key(name);
            if elects || known || service.instances.is_empty() {
                continue;
            }
            let instances = service.instances.iter().map(stands).collect();
            // What was said by checks of an earlier configuration is not looked at again.
            self.dirty.remove(name);
            self.verdicts.insert(Arc::clone(name), Arc::new(ServiceVerdicts { instances }));
            trusted.push(Arc::clone(name));
        }
        trusted
    }
}
