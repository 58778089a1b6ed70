//! States of tasks and instances, and whose they are. Pure.

/// What Mesos says of a task, or Marathon of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum TaskState {
    /// It is on its way: staging, starting, created, provisioned, reserved, scheduled.
    Starting,
    /// It runs.
    Running,
    /// It is being killed.
    Killing,
    /// It ended, in whichever way, or is not known any more.
    Ended,
    /// Its agent is out of sight: it may come back.
    Unreachable,
    /// A word that is not known here.
    Other,
}

/// What becomes of an instance whose task is in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there.
    Stays,
    /// Nothing new for it.
    Leaving,
    /// It is none.
    Out,
}

impl TaskState {
    /// Reads `TASK_RUNNING`, `Running` and the like.
    pub(super) fn read(word: &str) -> Self {
        let word = word.strip_prefix("TASK_").unwrap_or(word);
        let plain: String =
            word.chars().filter(|c| *c != '_').map(|c| c.to_ascii_uppercase()).collect();
        match &*plain {
            "STAGING" | "STARTING" | "CREATED" | "PROVISIONED" | "RESERVED" | "SCHEDULED" => {
                Self::Starting
            }
            "RUNNING" => Self::Running,
            "KILLING" => Self::Killing,
            "FINISHED" | "FAILED" | "KILLED" | "ERROR" | "DROPPED" | "GONE" | "GONEBYOPERATOR"
            | "UNKNOWN" => Self::Ended,
            "LOST" | "UNREACHABLE" | "UNREACHABLEINACTIVE" => Self::Unreachable,
            _ => Self::Other,
        }
    }

    /// What becomes of its instance: as marathon-lb has it, but for those that are being killed,
    /// which keep what they have begun.
    pub(super) const fn fate(self) -> Fate {
        match self {
            Self::Running | Self::Unreachable | Self::Other => Fate::Stays,
            Self::Killing => Fate::Leaving,
            Self::Starting | Self::Ended => Fate::Out,
        }
    }
}

/// Length of a UUID as text.
const UUID: usize = 36;

/// What the id of a task and that of its instance have in common: the app's part and the UUID.
/// None for ids of another form.
///
/// `shop_web.5dd7…`, `shop_web.5dd7….2`, `shop_web.marathon-5dd7…`, `shop_web.instance-5dd7…` and
/// `shop_web.instance-5dd7…._app.1` are of one instance.
fn core(id: &str) -> Option<(&str, &str)> {
    let mut at = 0;
    loop {
        let dot = at + id.get(at..)?.find('.')?;
        let rest = id.get(dot + 1..)?;
        let rest = rest
            .strip_prefix("instance-")
            .or_else(|| rest.strip_prefix("marathon-"))
            .unwrap_or(rest);
        if let Some(uuid) = rest.get(..UUID)
            && is_uuid(uuid)
            && matches!(rest.as_bytes().get(UUID), None | Some(b'.'))
        {
            return Some((&id[..dot], uuid));
        }
        at = dot + 1;
    }
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// Whether two ids of tasks or instances are of one instance.
pub(super) fn same_instance(a: &str, b: &str) -> bool {
    a == b || core(a).is_some_and(|core_a| core(b) == Some(core_a))
}

/// Whether `id` is the id of an instance, not of one of its tasks.
pub(super) fn is_instance(id: &str) -> bool {
    core(id).is_some_and(|(app, uuid)| {
        id.len() == app.len() + 1 + "instance-".len() + uuid.len()
            && matches!(&id[app.len()..app.len() + 10], ".instance-" | ".marathon-")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_as_mesos_and_as_marathon_write_them() {
        for (word, want) in [
            ("TASK_RUNNING", Fate::Stays),
            ("Running", Fate::Stays),
            ("TASK_LOST", Fate::Stays),
            ("TASK_UNREACHABLE", Fate::Stays),
            ("UnreachableInactive", Fate::Stays),
            ("TASK_NEWFANGLED", Fate::Stays),
            ("TASK_KILLING", Fate::Leaving),
            ("Killing", Fate::Leaving),
            ("TASK_STAGING", Fate::Out),
            ("TASK_STARTING", Fate::Out),
            ("Provisioned", Fate::Out),
            ("TASK_FINISHED", Fate::Out),
            ("TASK_FAILED", Fate::Out),
            ("TASK_KILLED", Fate::Out),
            ("TASK_ERROR", Fate::Out),
            ("TASK_DROPPED", Fate::Out),
            ("TASK_GONE", Fate::Out),
            ("TASK_GONE_BY_OPERATOR", Fate::Out),
            ("TASK_UNKNOWN", Fate::Out),
        ] {
            assert_eq!(TaskState::read(word).fate(), want, "{word}");
        }
    }

    #[test]
    fn ids_of_one_instance_are_known_in_all_their_forms() {
        let uuid = "5dd78972-6771-11e5-94e1-be5b2935a987";
        let forms = [
            format!("shop_web.{uuid}"),
            format!("shop_web.{uuid}.2"),
            format!("shop_web.marathon-{uuid}"),
            format!("shop_web.instance-{uuid}"),
            format!("shop_web.instance-{uuid}._app.1"),
            format!("shop_web.instance-{uuid}.front"),
        ];
        for a in &forms {
            for b in &forms {
                assert!(same_instance(a, b), "{a} {b}");
            }
            assert!(!same_instance(a, &format!("shop_api.{uuid}")), "{a}");
            assert!(!same_instance(a, "shop_web.6dd78972-6771-11e5-94e1-be5b2935a987"), "{a}");
        }
        let told: Vec<bool> = forms.iter().map(|id| is_instance(id)).collect();
        assert_eq!(told, [false, false, true, true, false, false]);
        assert!(same_instance("my-app_0-1396592784349", "my-app_0-1396592784349"));
        assert!(!same_instance("my-app_0-1396592784349", "my-app_1-1396592784349"));
        assert!(same_instance(&format!("web.v1.{uuid}"), &format!("web.v1.instance-{uuid}")));
    }
}
