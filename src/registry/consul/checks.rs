//! What Consul's checks say of an instance. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use crate::catalog::Health;
use crate::catalog::model::Presence;

/// Longest reason of a maintenance that is repeated.
const REASON_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RawCheck<'a> {
    #[serde(rename = "CheckID", borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    notes: Option<Cow<'a, str>>,
}

pub(super) struct Verdict {
    pub(super) health: Health,
    pub(super) presence: Presence,
    pub(super) cause: Arc<str>,
}

/// The worst of the checks decides. One of a maintenance takes the instance out of work without
/// saying that it is broken: that is left to the other checks.
pub(super) fn verdict(checks: &[RawCheck<'_>]) -> Verdict {
    let mut worst: Option<(Health, &RawCheck<'_>)> = None;
    let mut maintenance: Option<&RawCheck<'_>> = None;
    for check in checks {
        let kept = check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance");
        if kept && check.status != "passing" {
            // That of the node before that of the service: it explains more.
            let first = maintenance.is_none_or(|known| check.id < known.id);
            maintenance = if first { Some(check) } else { maintenance };
            continue;
        }
        let health = match &*check.status {
            "passing" => Health::Healthy,
            "warning" => Health::Warning,
            "critical" => Health::Unhealthy,
            // Consul's own DNS takes what it does not know for good.
            _ => continue,
        };
        let worse = worst.is_none_or(|(known, first)| {
            rank(health) > rank(known) || (health == known && check.id < first.id)
        });
        if worse {
            worst = Some((health, check));
        }
    }
    let health = worst.map_or(Health::Unknown, |(health, _)| health);
    if let Some(check) = maintenance {
        let whose = if check.id == "_node_maintenance" { "the node" } else { "the service" };
        let reason = clean(check.notes.as_deref().unwrap_or_default());
        let cause = if reason.is_empty() {
            format!("{whose} is in maintenance")
        } else {
            format!("{whose} is in maintenance: {reason}")
        };
        return Verdict { health, presence: Presence::Draining, cause: cause.into() };
    }
    let cause = match worst {
        Some((Health::Unhealthy | Health::Warning, check)) => {
            let name = check.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&check.id);
            format!("Consul check {:?} is {}", clean(name), check.status)
        }
        _ => String::new(),
    };
    Verdict { health, presence: Presence::Active, cause: cause.into() }
}

const fn rank(health: Health) -> u8 {
    match health {
        Health::Unknown => 0,
        Health::Healthy => 1,
        Health::Warning => 2,
        Health::Unhealthy => 3,
    }
}

/// On one line, and not too long.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_MAX).collect()
}
