//! Health as Marathon tells it, and what is kept of it when Marathon has forgotten. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::decode::{RawApp, RawTask};
use super::wanted::Words;
use crate::catalog::{Health, Instance, RegistryView};

/// The result of a health check is a success.
pub(super) const PASSES: &str = "Marathon's health check passes";
/// The results of all health checks are failures.
pub(super) const FAILS: &str = "Marathon's health check fails";
/// No health check has come to a result yet.
pub(super) const NO_RESULT: &str = "Marathon has no result of its health check yet";
/// Marathon has no result any more.
pub(super) const KEPT_UP: &str = "Marathon has no result any more; its health check passed before";
/// The same, with a failure before.
pub(super) const KEPT_DOWN: &str =
    "Marathon has no result any more; its health check failed before";
/// A readiness check of a deployment that goes on has not passed.
pub(super) const NOT_READY: &str = "its readiness check has not passed";

/// What was known before this process began, by instance: those that were ready, with the last
/// result of their health checks.
pub(super) type Remembered = HashMap<Arc<str>, Option<bool>>;

/// What `view`, that of an earlier life, says of its instances.
pub(super) fn remembered(view: &RegistryView) -> Remembered {
    let instances = view.services.values().flat_map(|service| service.instances.iter());
    let ready = instances.filter(|instance| &*instance.cause != NOT_READY);
    ready.map(|instance| (Arc::clone(&instance.id), verdict(instance))).collect()
}

/// The last result that is known of an instance; none when there never was one.
pub(super) fn verdict(instance: &Instance) -> Option<bool> {
    match &*instance.cause {
        PASSES | KEPT_UP => Some(true),
        FAILS | KEPT_DOWN => Some(false),
        // It may have passed its health check; the readiness check alone was missing.
        _ => None,
    }
}

/// The result of the health checks of `task`: alive when any is; none when there is no result.
pub(super) fn result(task: &RawTask<'_>) -> Option<bool> {
    let results = task.health.iter().flatten().flatten();
    results.filter_map(|result| result.alive).reduce(|a, b| a || b)
}

/// The health of an instance of an app that has `checks`, by its `result`, or else by what was
/// known `before`.
pub(super) fn judged(
    words: &Words,
    checks: usize,
    result: Option<bool>,
    before: Option<bool>,
) -> (Health, Arc<str>) {
    if checks == 0 {
        return (Health::Unknown, Arc::clone(&words.nothing));
    }
    let (health, cause) = match (result, before) {
        (Some(true), _) => (Health::Healthy, &words.passes),
        (Some(false), _) => (Health::Unhealthy, &words.fails),
        (None, Some(true)) => (Health::Healthy, &words.kept_up),
        (None, Some(false)) => (Health::Unhealthy, &words.kept_down),
        (None, None) => (Health::Unhealthy, &words.no_result),
    };
    (health, Arc::clone(cause))
}

/// Whether the health of `instance` is only what was known before.
pub(super) fn is_kept(instance: &Instance) -> bool {
    matches!(&*instance.cause, KEPT_UP | KEPT_DOWN)
}

/// Whether `task` has to wait for its readiness checks: a deployment goes on that made it, and one
/// of the checks has not said that it is ready. One without any result waits unless it has `served`
/// before: results are told for as long as a deployment goes on, and only for those that it made.
pub(super) fn waits(app: &RawApp<'_>, task: &RawTask<'_>, served: bool) -> bool {
    let checks = app.readiness_checks.as_deref().unwrap_or_default();
    let deploying = app.deployments.as_ref().is_some_and(|all| !all.is_empty());
    if checks.is_empty() || !deploying || task.version != app.version {
        return false;
    }
    let id = task.id.as_deref();
    let own = || {
        let all = app.readiness_results.iter().flatten();
        all.filter(move |result| result.task.as_deref() == id)
    };
    if own().next().is_none() {
        return !served;
    }
    !checks.iter().all(|check| {
        let mut of_check = own().filter(|result| check.name.is_none() || result.name == check.name);
        of_check.any(|result| result.ready == Some(true))
    })
}
