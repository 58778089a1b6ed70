//! One instance as a server of HAProxy: its name, how it stands, what its checks say.

use std::net::SocketAddr;
use std::sync::Arc;

use super::lines::named;
use crate::api::haproxy::model::{Check, Status};
use crate::catalog::operations::{Does, Said};
use crate::catalog::{Health, Instance, Presence, Snapshot};
use crate::health::TargetStatus;

/// The name of a server: for tasks of Marathon as marathon-lb made it of host, address and port, else the
/// instance's id.
pub(super) fn name(instance: &Instance, address: SocketAddr) -> Arc<str> {
    let Some(host) = instance.meta.get("marathon.host") else { return named(&instance.id) };
    let (ip, port) = (address.ip().to_string(), address.port());
    let whole = if **host == *ip { format!("{ip}_{port}") } else { format!("{host}_{ip}_{port}") };
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    whole.chars().map(|c| if fits(c) { c } else { '_' }).collect::<String>().into()
}

/// How `instance` stands, with what operators say of it; none: it is none of the servers any more.
pub(super) fn status(instance: &Instance, said: &Said) -> Option<Status> {
    let operator = said.state.as_deref().map(|operation| (operation.does, operation.over));
    Some(match (operator, instance.presence, instance.health) {
        (Some((Does::Maintenance, _) | (_, true)), ..) => Status::Maintenance,
        (None, Presence::Leaving, _) => return None,
        (_, _, Health::Unhealthy) => Status::Down,
        (Some(_), ..) => Status::Drain,
        // Its group goes over to another colour: what marathon-lb disabled.
        (None, Presence::Draining, _) => Status::Maintenance,
        _ if instance.weight.value() == 0 => Status::Drain,
        (.., Health::Unknown) => Status::Unchecked,
        _ => Status::Up,
    })
}

/// Whether a server of this status is down for those who count.
pub(super) const fn is_down(status: Status) -> bool {
    matches!(status, Status::Down | Status::Maintenance)
}

/// The weight of `instance` now, and as its registry has it.
pub(super) fn weight(
    instance: &Instance,
    said: &Said,
    service: &str,
    snapshot: &Snapshot,
) -> (u16, u16) {
    let now = instance.weight.value();
    if said.weight.is_none() && said.state.is_none() {
        return (now, now);
    }
    let told = snapshot.told.iter().find(|told| told.registry == instance.registry);
    let service = told.and_then(|told| told.services.get(service));
    let known = service.and_then(|service| service.instances.iter().find(|i| i.id == instance.id));
    (now, known.map_or(now, |known| known.weight.value()))
}

/// What the checks of `instance` say: our own at `address`, else whoever decided on its health.
pub(super) fn check(
    instance: &Instance,
    address: SocketAddr,
    targets: &[TargetStatus],
) -> Option<Check> {
    let place = address.to_string();
    let own =
        targets.iter().filter(|target| target.target == place || *target.target == *instance.id);
    // Of several the one that fails.
    let own = own.max_by_key(|target| target.health.map_or(0, Health::severity));
    if let Some(last) = own.and_then(|target| target.last.as_ref().map(|last| (target, last))) {
        let (target, result) = last;
        return Some(Check {
            status: word(target.check, result.result != "failed", &result.text),
            took_ms: result.took_ms.round() as u64,
            text: plain(&result.text),
        });
    }
    if instance.health == Health::Unknown {
        return None;
    }
    let passes = instance.health.serves();
    let status = if passes { "L7OK" } else { "L7STS" };
    Some(Check { status, took_ms: 0, text: plain(&instance.cause) })
}

/// `text` without what those would stumble over who split lines at each comma.
fn plain(text: &Arc<str>) -> Arc<str> {
    if !text.contains([',', '"', '\'']) {
        return Arc::clone(text);
    }
    let put = |c| match c {
        ',' => ';',
        '"' | '\'' => ' ',
        other => other,
    };
    text.chars().map(put).collect::<String>().into()
}

/// HAProxy's word for a result: the layer that was reached, and how it went there.
fn word(kind: &str, passed: bool, text: &str) -> &'static str {
    let layer = match kind {
        "tcp" | "connect" => 4,
        "tls" => 6,
        "exec" => 0,
        _ => 7,
    };
    let (timeout, refused) = (text.contains("time"), text.contains("connect"));
    match (layer, passed) {
        (0, true) => "PROCOK",
        (0, false) => "PROCERR",
        (4, true) => "L4OK",
        (6, true) => "L6OK",
        (_, true) => "L7OK",
        (4, false) if timeout => "L4TOUT",
        (4, false) => "L4CON",
        (6, false) if refused => "L4CON",
        (6, false) => "L6RSP",
        (_, false) if refused => "L4CON",
        (_, false) if timeout => "L7TOUT",
        (_, false) => "L7STS",
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::catalog::Weight;
    use crate::catalog::model::Address;
    use crate::catalog::operations::{Operation, Target};

    fn instance(change: impl FnOnce(&mut Instance)) -> Instance {
        let mut instance = Instance::bare("mem", "web-1", Address::parse("10.0.0.1").unwrap());
        instance.health = Health::Healthy;
        change(&mut instance);
        instance
    }

    fn said(does: Does, over: bool) -> Said {
        let operation = Operation {
            number: 1,
            target: Target::Node("n".into()),
            does,
            who: "somebody".into(),
            since: SystemTime::UNIX_EPOCH,
            reason: "".into(),
            deadline: None,
            over,
        };
        Said { state: Some(Arc::new(operation)), weight: None }
    }

    #[test]
    fn a_task_of_marathon_is_called_as_marathon_lb_called_it() {
        for (host, address, want) in [
            ("srv4.hw.example", "10.0.1.7:31182", "srv4_hw_example_10_0_1_7_31182"),
            ("10.0.1.7", "10.0.1.7:31182", "10_0_1_7_31182"),
            ("agent-1", "[fd00::7]:80", "agent-1_fd00__7_80"),
        ] {
            let task = instance(|task| {
                task.meta.insert("marathon.host".into(), host.into());
            });
            assert_eq!(&*name(&task, address.parse().unwrap()), want);
        }
        let other = instance(|other| other.id = "cattle-a,b/1".into());
        assert_eq!(&*name(&other, "10.0.0.1:80".parse().unwrap()), "cattle-a_b_1");
    }

    #[test]
    fn each_state_has_the_word_that_those_who_read_it_wait_for() {
        use Does::{Drain, Maintenance};
        let nothing = Said::default;
        for (case, instance, said, want) in [
            ("healthy", instance(|_| {}), nothing(), Some("UP")),
            ("warning", instance(|i| i.health = Health::Warning), nothing(), Some("UP")),
            ("unchecked", instance(|i| i.health = Health::Unknown), nothing(), Some("no check")),
            ("unhealthy", instance(|i| i.health = Health::Unhealthy), nothing(), Some("DOWN")),
            ("of no weight", instance(|i| i.weight = Weight::NONE), nothing(), Some("DRAIN")),
            (
                "of the colour that goes",
                instance(|i| i.presence = Presence::Draining),
                nothing(),
                Some("MAINT"),
            ),
            ("killed", instance(|i| i.presence = Presence::Leaving), nothing(), None),
            (
                "drained",
                instance(|i| i.presence = Presence::Draining),
                said(Drain, false),
                Some("DRAIN"),
            ),
            (
                "drained and over",
                instance(|i| i.presence = Presence::Leaving),
                said(Drain, true),
                Some("MAINT"),
            ),
            (
                "taken out",
                instance(|i| i.health = Health::Unhealthy),
                said(Maintenance, false),
                Some("MAINT"),
            ),
        ] {
            assert_eq!(status(&instance, &said).map(Status::word), want, "{case}");
        }
    }

    #[test]
    fn results_of_checks_have_haproxys_words() {
        for (kind, passed, text, want) in [
            ("tcp", true, "", "L4OK"),
            ("tcp", false, "connection refused", "L4CON"),
            ("tcp", false, "no answer in time", "L4TOUT"),
            ("http", true, "200", "L7OK"),
            ("http", false, "503", "L7STS"),
            ("http", false, "cannot connect: refused", "L4CON"),
            ("exec", false, "exit 2", "PROCERR"),
            ("tls", true, "", "L6OK"),
        ] {
            assert_eq!(word(kind, passed, text), want, "{kind} {text}");
        }
    }
}
