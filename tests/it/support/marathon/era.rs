//! Which Marathon it is: what it calls things, and what it cannot do yet.

/// A Marathon by its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Era {
    V0_9,
    V1_4,
    V1_8,
    V1_11,
}

impl Era {
    /// All of them, the oldest first.
    pub(crate) const ALL: [Self; 4] = [Self::V0_9, Self::V1_4, Self::V1_8, Self::V1_11];

    /// As `/v2/info` tells it.
    pub(crate) const fn release(self) -> &'static str {
        match self {
            Self::V0_9 => "0.9.2",
            Self::V1_4 => "1.4.14",
            Self::V1_8 => "1.8.235",
            Self::V1_11 => "1.11.24",
        }
    }

    /// Whether tasks have states, are killed in two steps, belong to instances, and pods exist.
    pub(crate) fn has_instances(self) -> bool {
        self >= Self::V1_4
    }

    /// Whether networks have modes, and plans in events may be light.
    pub(crate) fn has_networks(self) -> bool {
        self >= Self::V1_8
    }

    /// The id of a task, by its own part of the name.
    pub(crate) fn task_id(self, app: &str, own: &str) -> String {
        let app = safe(app);
        if self == Self::V1_11 {
            format!("{app}.instance-{own}._app.1")
        } else {
            format!("{app}.{own}")
        }
    }

    /// The id of the instance that a task belongs to.
    pub(crate) fn instance_id(self, app: &str, own: &str) -> String {
        let word = if self == Self::V1_11 { "instance" } else { "marathon" };
        format!("{}.{word}-{own}", safe(app))
    }
}

/// The path of an app as ids of tasks begin: `/prod/web` is `prod_web`.
fn safe(app: &str) -> String {
    app.trim_start_matches('/').replace('/', "_")
}

/// A point in time that is later for a larger number.
pub(crate) fn time(number: u32) -> String {
    let (hours, minutes, seconds) = (number / 3600 % 24, number / 60 % 60, number % 60);
    let day = 1 + number / 86_400 % 28;
    format!("2026-01-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.000Z")
}
