use std::fs;
use std::time::Duration;

use tokio::sync::watch;

use crate::catalog::RegistryState;
use crate::registry::{Metrics, Registry, RegistryConfig, Surroundings};

struct Stage {
    dir: tempfile::TempDir,
    /// Ends its task when dropped.
    _registry: Registry,
    states: watch::Receiver<RegistryState>,
}

impl Stage {
    /// Follows `paths`, by the kernel's events alone or by polling alone.
    fn start(files: &[(&str, &str)], paths: &str, kernel: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let poll = if kernel { "1h" } else { "10ms" };
        let text = format!("[keyfile]\npaths = {paths}\nwatch = {kernel}\npoll = \"{poll}\"\n");
        let config: RegistryConfig = toml::from_str(&text).unwrap();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let registry = config.start("keys", Surroundings::new(dir.path()), None, &metrics);
        let states = registry.states();
        Self { dir, _registry: registry, states }
    }

    fn write(&self, name: &str, content: &str) {
        let aside = self.dir.path().join(".aside");
        fs::write(&aside, content).unwrap();
        fs::rename(aside, self.dir.path().join(name)).unwrap();
    }

    /// Waits until these are the keys and the registry is live, or stale.
    async fn says(&mut self, live: bool, want: &[&str]) -> RegistryState {
        let fact = |state: &RegistryState| {
            matches!(state, RegistryState::Live(_)) == live && keys(state) == want
        };
        let state = tokio::time::timeout(Duration::from_secs(10), self.states.wait_for(fact)).await;
        state.unwrap_or_else(|_| panic!("never {want:?}")).unwrap().clone()
    }
}

fn keys(state: &RegistryState) -> Vec<String> {
    let all = state.view().into_iter().flat_map(|view| view.keys.values());
    let mut all: Vec<_> = all.map(|key| format!("{}={}", key.path, key.value)).collect();
    all.sort();
    all
}

#[tokio::test]
async fn files_and_directories_are_followed_with_and_without_the_kernels_help() {
    for kernel in [true, false] {
        let files = [("a.yaml", "a: 1\nb: 1\n"), ("d/b.json", r#"{"b": 2}"#)];
        let mut stage = Stage::start(&files, r#"["a.yaml", "d"]"#, kernel);
        stage.says(true, &["a=1", "b=2"]).await;
        stage.write("d/b.json", r#"{"b": 3}"#);
        stage.says(true, &["a=1", "b=3"]).await;
        stage.write("d/c.toml", "c = 4\n");
        stage.says(true, &["a=1", "b=3", "c=4"]).await;
        fs::remove_file(stage.dir.path().join("d/b.json")).unwrap();
        stage.says(true, &["a=1", "b=1", "c=4"]).await;
        stage.write("a.yaml", "{}\n");
        stage.says(true, &["c=4"]).await;
        fs::create_dir(stage.dir.path().join("d/sub")).unwrap();
        stage.write("d/sub/e.yaml", "e: 5\n");
        stage.says(true, &["c=4", "e=5"]).await;
    }
}

#[tokio::test]
async fn a_broken_file_keeps_its_keys_and_others_go_on() {
    let files = [("d/a.yaml", "a: 1\n"), ("d/b.yaml", "b: 1\n")];
    let mut stage = Stage::start(&files, r#"["d"]"#, true);
    stage.says(true, &["a=1", "b=1"]).await;
    stage.write("d/a.yaml", "a: [\n");
    stage.write("d/b.yaml", "b: 2\n");
    let state = stage.says(true, &["a=1", "b=2"]).await;
    let fact = |state: &RegistryState| state.view().is_some_and(|view| view.problems.len() == 1);
    drop(state);
    let told = tokio::time::timeout(Duration::from_secs(10), stage.states.wait_for(fact)).await;
    let state = told.unwrap().unwrap().clone();
    let problem = &state.view().unwrap().problems[0];
    assert!(problem.place.ends_with("d/a.yaml"), "{problem:?}");
    assert!(problem.message.contains("a.yaml:"), "{problem:?}");
    stage.write("d/a.yaml", "a: 3\n");
    stage.says(true, &["a=3", "b=2"]).await;
}

#[tokio::test]
async fn what_was_never_read_is_not_absent_and_a_named_file_that_goes_leaves_its_keys() {
    let mut stage = Stage::start(&[("a.yaml", "a: [\n")], r#"["a.yaml"]"#, true);
    stage.write("a.yaml", "a: 1\n");
    stage.says(true, &["a=1"]).await;
    fs::remove_file(stage.dir.path().join("a.yaml")).unwrap();
    let state = stage.says(false, &["a=1"]).await;
    let RegistryState::Stale { why, .. } = state else { unreachable!() };
    assert!(why.ends_with("put it back, or correct `paths`"), "{why}");
    stage.write("a.yaml", "a: 2\n");
    stage.says(true, &["a=2"]).await;
}

#[tokio::test]
async fn more_keys_than_the_limit_leave_those_that_were() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), "a: 1\n").unwrap();
    let text = "[keyfile]\npaths = [\"a.yaml\"]\nmax_keys = 1\npoll = \"10ms\"\n";
    let config: RegistryConfig = toml::from_str(text).unwrap();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let registry = config.start("keys", Surroundings::new(dir.path()), None, &metrics);
    let mut states = registry.states();
    states.wait_for(|state| keys(state) == ["a=1"]).await.unwrap();
    fs::write(dir.path().join("a.yaml"), "a: 2\nb: 2\n").unwrap();
    let stale = states.wait_for(|state| matches!(state, RegistryState::Stale { .. })).await;
    let state = stale.unwrap().clone();
    let RegistryState::Stale { why, .. } = &state else { unreachable!() };
    assert!(why.contains("`max_keys` = 1"), "{why}");
    assert_eq!(keys(&state), ["a=1"]);
}
