//! The registry `environment`: the variables of this process as keys.
//!
//! `FOO_BAR` is the key `foo/bar`, as confd's backend `env` maps it: lower case, and a slash for
//! each underscore. The environment of a process never changes, so that this is read once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::Source;
use super::defaults::yes;
use super::outlet::Outlet;
use crate::catalog::{Key, Problem, RegistryView};

/// `[registry.NAME.environment]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// Only keys that begin with one of these; none given: all. What is not read here is no key,
    /// is in no template and not in the state on disk.
    #[serde(default)]
    pub keys: Vec<Arc<str>>,
    /// Whose keys count when several registries have the same one: the higher one's.
    #[serde(default)]
    pub priority: i32,
    /// Whether the process is not ready before it was read.
    #[serde(default = "yes")]
    pub required: bool,
}

impl Source for EnvironmentConfig {
    async fn run(self, _: PathBuf, mut outlet: Outlet) {
        let mut view = RegistryView::default();
        let (keys, problems) = decode(std::env::vars_os(), &self.keys);
        for (path, value) in keys {
            let path: Arc<str> = path.into();
            view.keys.insert(Arc::clone(&path), Arc::new(Key::bare(path, value.into())));
        }
        view.problems = problems.into();
        outlet.live(view);
        // A reload that changes the configuration starts another task.
        std::future::pending::<()>().await;
    }
}

/// The keys that `variables` come to, as far as one of `prefixes` begins them.
///
/// Two variables may come to the same key, as `A_B` and `a_b` do: the one that sorts first counts.
fn decode(
    variables: impl Iterator<Item = (OsString, OsString)>,
    prefixes: &[Arc<str>],
) -> (BTreeMap<String, String>, Vec<Problem>) {
    let variables: BTreeMap<OsString, OsString> = variables.collect();
    let (mut keys, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, value) in variables {
        let shown = name.to_string_lossy();
        let key = key_of(&shown);
        let begins = |prefix: &Arc<str>| key.starts_with(prefix.trim_start_matches('/'));
        if key.is_empty() || !(prefixes.is_empty() || prefixes.iter().any(begins)) {
            continue;
        }
        let mut refuse = |message: String| {
            let place = format!("environment variable {shown}").into();
            problems.push(Problem { place, message: message.into() });
        };
        if keys.contains_key(&key) {
            refuse(format!("another variable is the key {key:?} already; rename one of them"));
            continue;
        }
        match (name.to_str(), value.into_string()) {
            (Some(_), Ok(value)) => {
                keys.insert(key, value);
            }
            _ => refuse("is not UTF-8 and is not taken".to_owned()),
        }
    }
    (keys, problems)
}

/// The key of the variable called `name`; empty when nothing is left of it.
fn key_of(name: &str) -> String {
    let name = name.to_lowercase();
    let parts: Vec<&str> = name.split(['_', '/']).filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::Path;

    use super::*;
    use crate::catalog::RegistryState;
    use crate::registry::{Metrics, RegistryConfig, Surroundings};

    fn read(variables: &[(&str, &str)], prefixes: &[&str]) -> Vec<String> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let prefixes: Vec<Arc<str>> = prefixes.iter().map(|prefix| (*prefix).into()).collect();
        let (keys, _) = decode(variables, &prefixes);
        keys.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn a_variable_is_a_key_in_lower_case_with_slashes_for_underscores() {
        for (case, name, want) in [
            ("one word", "HOME", "home"),
            ("two words", "FOO_BAR", "foo/bar"),
            ("lower case", "foo_bar", "foo/bar"),
            ("digits and dots", "APP_1.X", "app/1.x"),
            ("underscores at the ends and doubled", "_A__B_", "a/b"),
            ("a slash", "A/B", "a/b"),
            ("nothing but underscores", "_", ""),
        ] {
            assert_eq!(key_of(name), want, "{case}");
        }
    }

    #[test]
    fn only_what_a_prefix_begins_is_read() {
        let all = [("APP_A", "1"), ("APPLE", "2"), ("OTHER", "3"), ("_", "4")];
        assert_eq!(read(&all, &[]), ["app/a=1", "apple=2", "other=3"]);
        assert_eq!(read(&all, &["/app"]), ["app/a=1", "apple=2"]);
        assert_eq!(read(&all, &["app/", "other"]), ["app/a=1", "other=3"]);
        assert_eq!(read(&all, &["none"]), [""; 0]);
    }

    #[test]
    fn of_two_variables_with_one_key_the_first_counts_and_bad_bytes_cost_only_themselves() {
        let bad = OsString::from_vec(vec![b'x', 0xff]);
        let variables = [
            ("a_b".into(), "small".into()),
            ("A_B".into(), "large".into()),
            ("C".into(), bad.clone()),
            ("D".into(), "d".into()),
        ];
        let (keys, problems) = decode(variables.into_iter(), &[]);
        let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(keys, ["a/b=large", "d=d"]);
        let told: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.place, p.message)).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("variable C: is not UTF-8"), "{told:?}");
        assert!(told[1].contains("variable a_b: another variable is the key \"a/b\""), "{told:?}");
    }

    #[tokio::test]
    async fn the_environment_is_live_at_once() {
        let config: RegistryConfig = toml::from_str("[environment]\nkeys = [\"path\"]").unwrap();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let registry = config.start("env", Surroundings::new(Path::new(".")), None, &metrics);
        let mut states = registry.states();
        let live = states.wait_for(|state| matches!(state, RegistryState::Live(_)));
        let state = live.await.unwrap().clone();
        let key = state.view().unwrap().keys.get("path").cloned().unwrap();
        assert_eq!(&*key.value, std::env::var("PATH").unwrap());
    }
}
