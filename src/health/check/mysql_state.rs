//! What the state of a MariaDB or MySQL server says about its fitness: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::tracker::Observation;
use super::mysql::Role;

/// What a server told.
#[derive(Debug, Default)]
pub(super) struct State {
    /// `wsrep_*` of its status, by name in lower case; empty without Galera.
    pub(super) wsrep: BTreeMap<String, String>,
    /// The variable `read_only`.
    pub(super) read_only: bool,
    /// One for each source that it replicates from; none: it was not allowed to look.
    pub(super) replicas: Option<Vec<Replica>>,
}

/// One line of `SHOW REPLICA STATUS`.
#[derive(Debug, Clone, Default)]
pub(super) struct Replica {
    /// Whether it fetches from its source.
    pub(super) receives: bool,
    /// Whether it applies what it fetched.
    pub(super) applies: bool,
    /// How far it is behind, if that is known.
    pub(super) lag: Option<Duration>,
}

/// What a service wants of its servers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) role: Option<Role>,
    pub(super) max_lag: Option<Duration>,
}

/// `wsrep_local_state` of a member that has all that the others have.
const SYNCED: &str = "4";

/// Whether a server of this state is what is wanted. All of this is the server's own word.
pub(super) fn judge(state: &State, wanted: Wanted) -> Observation {
    let galera = state.wsrep.contains_key("wsrep_local_state") && value(state, "wsrep_on") != "OFF";
    let judged = if galera { cluster(state) } else { replication(state, wanted) };
    let rank = match judged {
        Ok((rank, text)) => (rank, text),
        Err(why) => return Observation::failed(&why).definite(),
    };
    if wanted.role == Some(Role::Writer) && state.read_only {
        return Observation::failed("read_only is ON").definite();
    }
    Observation { candidate: Some(rank.0), ..Observation::passed(&rank.1) }
}

/// Rank and text of a fit member of a Galera cluster.
///
/// The index is that of the cluster's own list of members, the same on all of them: whoever asks
/// the members comes to the same writer without talking to others who ask.
fn cluster(state: &State) -> Result<(u64, String), String> {
    let told = value(state, "wsrep_local_state_comment");
    if !value(state, "wsrep_cluster_status").eq_ignore_ascii_case("primary") {
        return Err(format!("Galera: no quorum ({})", value(state, "wsrep_cluster_status")));
    }
    if value(state, "wsrep_local_state") != SYNCED {
        return Err(format!("Galera: {told}"));
    }
    if !value(state, "wsrep_ready").eq_ignore_ascii_case("on") {
        return Err("Galera: not ready".to_owned());
    }
    // An index that is no number is that of a member in no list.
    let index = value(state, "wsrep_local_index").parse().unwrap_or(u64::MAX);
    Ok((index, "Galera: Synced".to_owned()))
}

/// Rank and text of a fit server outside of a cluster: a source before a replica.
fn replication(state: &State, wanted: Wanted) -> Result<(u64, String), String> {
    let Some(replicas) = &state.replicas else {
        if wanted.max_lag.is_some() || wanted.role == Some(Role::Reader) {
            return Err("replication cannot be looked at: the user needs REPLICA MONITOR \
                        (MySQL: REPLICATION CLIENT)"
                .to_owned());
        }
        return Ok((0, "answers".to_owned()));
    };
    if replicas.is_empty() {
        return Ok((0, "answers".to_owned()));
    }
    // A writer that replicates from another one (two in a ring) need not be up to date.
    if wanted.role == Some(Role::Writer) && wanted.max_lag.is_none() {
        return Ok((1, "answers".to_owned()));
    }
    for replica in replicas {
        match (replica.receives, replica.applies) {
            (false, _) => return Err("replication: nothing is received from the source".to_owned()),
            (_, false) => return Err("replication: nothing is applied".to_owned()),
            _ => {}
        }
        let Some(max) = wanted.max_lag else { continue };
        match replica.lag {
            None => return Err("replication: how far behind is not known".to_owned()),
            Some(lag) if lag > max => {
                return Err(format!("replication: {} s behind", lag.as_secs()));
            }
            Some(_) => {}
        }
    }
    Ok((1, "replicates".to_owned()))
}

fn value<'a>(state: &'a State, name: &str) -> &'a str {
    state.wsrep.get(name).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::super::tracker::Outcome;
    use super::*;

    fn galera(state: &str, comment: &str, cluster: &str, ready: &str) -> State {
        let wsrep = [
            ("wsrep_on", "ON"),
            ("wsrep_local_state", state),
            ("wsrep_local_state_comment", comment),
            ("wsrep_cluster_status", cluster),
            ("wsrep_ready", ready),
            ("wsrep_local_index", "1"),
        ];
        let wsrep = wsrep.map(|(name, value)| (name.to_owned(), value.to_owned()));
        State { wsrep: wsrep.into(), ..State::default() }
    }

    #[test]
    fn of_a_cluster_only_synced_members_with_a_quorum_are_fit() {
        for (case, state, want) in [
            ("synced", galera("4", "Synced", "Primary", "ON"), "Galera: Synced"),
            ("donor", galera("2", "Donor/Desynced", "Primary", "ON"), "Galera: Donor/Desynced"),
            ("joiner", galera("1", "Joining", "Primary", "OFF"), "Galera: Joining"),
            ("joined", galera("3", "Joined", "Primary", "ON"), "Galera: Joined"),
            (
                "without quorum",
                galera("4", "Synced", "non-Primary", "OFF"),
                "Galera: no quorum (non-Primary)",
            ),
            ("not ready", galera("4", "Synced", "Primary", "OFF"), "Galera: not ready"),
        ] {
            let seen = judge(&state, Wanted { role: None, max_lag: None });
            assert_eq!(&*seen.text, want, "{case}");
            assert_eq!(seen.outcome == Outcome::Passed, case == "synced", "{case}");
            assert_eq!(seen.candidate, (case == "synced").then_some(1), "{case}");
            assert_eq!(seen.definite, case != "synced", "{case}: its own word");
        }
    }

    #[test]
    fn a_writer_may_be_written_to() {
        let writer = Wanted { role: Some(Role::Writer), max_lag: None };
        for (case, state, want) in [
            ("source", State { replicas: Some(Vec::new()), ..State::default() }, "answers"),
            ("nobody may look", State::default(), "answers"),
            ("read only", State { read_only: true, ..State::default() }, "read_only is ON"),
            (
                "read-only member",
                State { read_only: true, ..galera("4", "Synced", "Primary", "ON") },
                "read_only is ON",
            ),
        ] {
            assert_eq!(&*judge(&state, writer).text, want, "{case}");
        }
    }

    #[test]
    fn a_replica_must_follow_and_not_too_far_behind() {
        let replica = |receives, applies, lag: Option<u64>| State {
            read_only: true,
            replicas: Some(vec![Replica { receives, applies, lag: lag.map(Duration::from_secs) }]),
            ..State::default()
        };
        let five = Some(Duration::from_secs(5));
        for (case, state, max_lag, want) in [
            ("follows", replica(true, true, Some(3)), five, "replicates"),
            ("at the limit", replica(true, true, Some(5)), five, "replicates"),
            ("behind", replica(true, true, Some(6)), five, "replication: 6 s behind"),
            ("no limit", replica(true, true, Some(600)), None, "replicates"),
            ("not known", replica(true, true, None), five, "replication: how far behind"),
            ("not received", replica(false, true, None), None, "replication: nothing is received"),
            ("not applied", replica(true, false, None), None, "replication: nothing is applied"),
            ("hidden", State::default(), None, "replication cannot be looked at"),
        ] {
            let seen = judge(&state, Wanted { role: Some(Role::Reader), max_lag });
            assert!(seen.text.starts_with(want), "{case}: {}", seen.text);
        }
    }
}
