//! From the healths of targets to the verdicts on the instances of one service: pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::check::Election;
use crate::catalog::model::{Address, Health};
use crate::catalog::verdict::{InstanceVerdict, ServiceVerdicts, Verdict};

/// An instance within its service: registry and id.
pub(super) type Key = (Arc<str>, Arc<str>);

/// What one check says of one instance so far.
#[derive(Debug, Clone)]
pub(super) enum Finding {
    /// Nothing yet.
    Undecided,
    /// This, and why.
    Decided {
        /// The health.
        health: Health,
        /// The word of the check, and what it found.
        cause: Arc<str>,
        /// Its rank among those who could be the one of the service.
        candidate: Option<u64>,
    },
}

/// The findings on one instance, in the order of the service's checks.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: Address,
    pub(super) findings: Vec<Finding>,
}

/// Chooses one instance by the check at `index`, when it can be told.
///
/// The candidate of the lowest rank, then of the lowest registry and id. While somebody has not
/// answered yet, `current` stays, and without one nobody is chosen. Without failback, `current`
/// stays for as long as it is well.
pub(super) fn elect(
    members: &BTreeMap<Key, Member>,
    index: usize,
    election: Election,
    current: Option<&Key>,
) -> Option<Key> {
    let rank = |member: &Member| match member.findings.get(index) {
        Some(Finding::Decided { health, candidate, .. }) if health.serves() => *candidate,
        _ => None,
    };
    let waiting = members
        .values()
        .any(|member| matches!(member.findings.get(index), Some(Finding::Undecided)));
    let holds = current.filter(|key| members.get(*key).is_some_and(|who| rank(who).is_some()));
    if let Some(key) = holds
        && (waiting || !election.failback)
    {
        return Some(key.clone());
    }
    // The one that was chosen before and has not answered yet is not passed over.
    if waiting && current.is_none_or(|key| undecided(members, key, index)) {
        return None;
    }
    let candidates = members.iter().filter_map(|(key, member)| Some((rank(member)?, key)));
    candidates.min().map(|(_, key)| key.clone())
}

fn undecided(members: &BTreeMap<Key, Member>, key: &Key, index: usize) -> bool {
    members.get(key).is_some_and(|who| matches!(who.findings.get(index), Some(Finding::Undecided)))
}

/// Puts what the election says into the findings: whoever was not chosen does not pass.
pub(super) fn seat(
    members: &mut BTreeMap<Key, Member>,
    index: usize,
    kind: &str,
    election: Election,
    chosen: Option<&Key>,
) {
    for (key, member) in members {
        let Some(finding) = member.findings.get_mut(index) else { continue };
        let Finding::Decided { health, .. } = finding else { continue };
        if !health.serves() || chosen == Some(key) {
            continue;
        }
        *finding = match chosen {
            None => Finding::Undecided,
            Some((_, id)) => Finding::Decided {
                health: Health::Unhealthy,
                cause: format!("{kind}: not the {}, which is {id}", election.office).into(),
                candidate: None,
            },
        };
    }
}

/// The verdicts that follow from the findings; what was said `before` stands while nothing is
/// decided. Each one that differs from before is told to `changed`.
pub(super) fn judge(
    members: &BTreeMap<Key, Member>,
    before: Option<&ServiceVerdicts>,
    now: SystemTime,
    mut changed: impl FnMut(&Key, &Address, Option<&Verdict>, &Verdict),
) -> ServiceVerdicts {
    let verdict = |(key, member): (&Key, &Member)| {
        let known = before.and_then(|before| before.instances.get(key));
        let known = known.filter(|known| known.address == member.address);
        let known = known.and_then(|known| known.check.as_ref());
        let check = match worst(&member.findings) {
            None => known.cloned(),
            Some((health, cause)) => {
                let same = known.filter(|known| known.health == health);
                let since = same.map_or(now, |same| same.since);
                let verdict = Verdict { health, cause, since };
                if same.is_none() {
                    changed(key, &member.address, known, &verdict);
                }
                Some(verdict)
            }
        };
        let address = member.address.clone();
        (key.clone(), InstanceVerdict { address, check, ejected: None })
    };
    ServiceVerdicts { instances: members.iter().map(verdict).collect() }
}

/// The worst finding, the first of several; none while one is open that could be worse.
fn worst(findings: &[Finding]) -> Option<(Health, Arc<str>)> {
    let mut worst: Option<(Health, &Arc<str>)> = None;
    let mut open = false;
    for finding in findings {
        match finding {
            Finding::Undecided => open = true,
            Finding::Decided { health, cause, .. } => {
                if worst.is_none_or(|(known, _)| health.severity() > known.severity()) {
                    worst = Some((*health, cause));
                }
            }
        }
    }
    let worst = worst.filter(|(health, _)| !open || !health.serves());
    worst.map(|(health, cause)| (health, Arc::clone(cause)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        ("r".into(), id.into())
    }

    /// `u`nhealthy, `w`arning, `h`ealthy, or `?` for undecided; a digit: healthy, of that rank.
    fn finding(letter: char) -> Finding {
        let (health, candidate) = match letter {
            '?' => return Finding::Undecided,
            'u' => (Health::Unhealthy, None),
            'w' => (Health::Warning, None),
            'h' => (Health::Healthy, None),
            rank => (Health::Healthy, rank.to_digit(10).map(u64::from)),
        };
        Finding::Decided { health, cause: letter.to_string().into(), candidate }
    }

    fn members(told: &[(&str, &str)]) -> BTreeMap<Key, Member> {
        let member = |(id, findings): &(&str, &str)| {
            let address = Address::parse("10.0.0.1").unwrap();
            (key(id), Member { address, findings: findings.chars().map(finding).collect() })
        };
        told.iter().map(member).collect()
    }

    #[test]
    fn all_checks_must_pass_and_the_worst_word_counts() {
        for (findings, want) in [
            ("h", Some("h")),
            ("hw", Some("w")),
            ("whu", Some("u")),
            ("?", None),
            ("h?", None),
            ("u?", Some("u")),
            ("", None),
        ] {
            let findings: Vec<_> = findings.chars().map(finding).collect();
            let told = worst(&findings);
            assert_eq!(told.as_ref().map(|(_, cause)| &**cause), want, "{findings:?}");
        }
    }

    #[test]
    fn what_was_said_before_stands_until_something_is_decided_at_the_same_address() {
        let verdict = |address: &str| InstanceVerdict {
            address: Address::parse(address).unwrap(),
            check: Some(Verdict {
                health: Health::Healthy,
                cause: "before".into(),
                since: SystemTime::UNIX_EPOCH,
            }),
            ejected: None,
        };
        let before = ServiceVerdicts {
            instances: [("a", "10.0.0.1"), ("b", "10.0.0.1"), ("c", "10.0.0.2"), ("gone", "::1")]
                .map(|(id, address)| (key(id), verdict(address)))
                .into(),
        };
        let now = SystemTime::now();
        let members = members(&[("a", "?"), ("b", "u"), ("c", "?")]);
        let mut changes = Vec::new();
        let told = judge(&members, Some(&before), now, |key, _, from, to| {
            changes.push((key.1.to_string(), from.is_some(), to.health));
        });
        let check = |id: &str| told.instances[&key(id)].check.clone();
        assert_eq!(check("a").map(|verdict| verdict.cause), Some("before".into()));
        assert_eq!(check("b").map(|verdict| verdict.since), Some(now));
        assert_eq!(check("c"), None, "another address is another target");
        assert_eq!(told.instances.len(), 3, "and who is gone leaves nothing");
        assert_eq!(changes, [("b".to_owned(), true, Health::Unhealthy)]);
    }

    #[test]
    fn the_candidate_of_the_lowest_rank_is_chosen_once_everybody_has_answered() {
        let back = Election { office: "writer", failback: true };
        let stay = Election { office: "writer", failback: false };
        for (case, told, election, current, want) in [
            ("the lowest", &[("a", "2"), ("b", "1")][..], back, None, Some("b")),
            ("a tie goes by the id", &[("b", "1"), ("a", "1")], back, None, Some("a")),
            ("nobody is fit", &[("a", "u"), ("b", "u")], back, None, None),
            ("somebody is missing", &[("a", "2"), ("b", "?")], back, None, None),
            (
                "the current one stays meanwhile",
                &[("a", "2"), ("b", "?")],
                back,
                Some("a"),
                Some("a"),
            ),
            ("the current one is missing", &[("a", "2"), ("b", "?")], back, Some("b"), None),
            (
                "the current one failed",
                &[("a", "u"), ("b", "?"), ("c", "1")],
                back,
                Some("a"),
                Some("c"),
            ),
            ("the current one is gone", &[("b", "1")], back, Some("a"), Some("b")),
            ("a lower one takes over", &[("a", "2"), ("b", "1")], back, Some("a"), Some("b")),
            ("or does not", &[("a", "2"), ("b", "1")], stay, Some("a"), Some("a")),
            ("until the current one fails", &[("a", "u"), ("b", "1")], stay, Some("a"), Some("b")),
        ] {
            let chosen = elect(&members(told), 0, election, current.map(key).as_ref());
            assert_eq!(chosen.as_ref().map(|key| &*key.1), want, "{case}");
        }
    }

    #[test]
    fn whoever_is_not_chosen_does_not_pass_and_says_who_is() {
        let election = Election { office: "writer", failback: true };
        let mut all = members(&[("a", "1"), ("b", "2"), ("c", "u")]);
        seat(&mut all, 0, "mysql", election, Some(&key("a")));
        let told = judge(&all, None, SystemTime::now(), |_, _, _, _| {});
        let cause = |id: &str| told.instances[&key(id)].check.clone().unwrap().cause;
        assert_eq!(&*cause("a"), "1");
        assert_eq!(&*cause("b"), "mysql: not the writer, which is a");
        assert_eq!(&*cause("c"), "u");
        let mut all = members(&[("a", "1")]);
        seat(&mut all, 0, "mysql", election, None);
        let told = judge(&all, None, SystemTime::now(), |_, _, _, _| {});
        assert_eq!(told.instances[&key("a")].check, None, "nobody is chosen yet");
    }
}
