use std::fs;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::*;
use crate::catalog::RegistryState;
use crate::catalog::store::StoredView;
use crate::registry::{Metrics, Registry, RegistryConfig, Surroundings};

struct Stage {
    dir: tempfile::TempDir,
    registry: Registry,
    states: watch::Receiver<RegistryState>,
}

fn services(addresses: &[&str]) -> String {
    let mut text = "[service.web]\n".to_owned();
    for address in addresses {
        let instance = format!("[[service.web.instance]]\naddress = \"{address}\"\nport = 80\n");
        text.push_str(&instance);
    }
    text
}

impl Stage {
    fn start(content: Option<&str>, kernel: bool, stored: Option<StoredView>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if let Some(content) = content {
            fs::write(dir.path().join("s.toml"), content).unwrap();
        }
        let path = ServicesPath::try_from(PathBuf::from("s.toml")).unwrap();
        // With the kernel's events the poll must not be what saves a test, and the other way round.
        let poll = if kernel { Period::from_secs(3600) } else { Period::from_millis(10) };
        let config =
            RegistryConfig::File(FileConfig { watch: kernel, poll, ..FileConfig::new(path) });
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let registry = config.start("local", Surroundings::new(dir.path()), stored, &metrics);
        let states = registry.states();
        Self { dir, registry, states }
    }

    fn write(&self, content: &str) {
        fs::write(self.dir.path().join("s.toml"), content).unwrap();
    }

    fn rename_over(&self, content: &str) {
        let aside = self.dir.path().join("s.toml.new");
        fs::write(&aside, content).unwrap();
        fs::rename(aside, self.dir.path().join("s.toml")).unwrap();
    }

    /// Waits for the state of which `fact` holds.
    async fn until(
        &mut self,
        what: &str,
        fact: impl FnMut(&RegistryState) -> bool,
    ) -> RegistryState {
        let state = tokio::time::timeout(Duration::from_secs(10), self.states.wait_for(fact)).await;
        state
            .unwrap_or_else(|_| panic!("never {what}: {:?}", self.registry.states().borrow()))
            .unwrap()
            .clone()
    }

    async fn live_with(&mut self, instances: usize) {
        self.until("live", |state| {
            matches!(state, RegistryState::Live(_)) && count(state) == instances
        })
        .await;
    }

    /// Waits for the stale state that still has `instances`; returns why it is stale.
    async fn stale_with(&mut self, instances: usize) -> String {
        let state = self
            .until("stale", |s| matches!(s, RegistryState::Stale { .. }) && count(s) == instances)
            .await;
        let RegistryState::Stale { why, .. } = state else { unreachable!() };
        why.to_string()
    }
}

fn count(state: &RegistryState) -> usize {
    let view = state.view();
    view.map_or(0, |view| view.services.values().map(|service| service.instances.len()).sum())
}

#[tokio::test]
async fn a_file_renamed_over_or_written_into_is_read_again_with_and_without_the_kernels_help() {
    for kernel in [true, false] {
        let mut stage = Stage::start(Some(&services(&["10.0.0.1"])), kernel, None);
        stage.live_with(1).await;
        stage.rename_over(&services(&["10.0.0.1", "10.0.0.2"]));
        stage.live_with(2).await;
        stage.rename_over(&services(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
        stage.live_with(3).await;
        stage.write(&services(&["10.0.0.9"]));
        stage.live_with(1).await;
        stage.write("[service]\n");
        stage.live_with(0).await;
    }
}

#[tokio::test]
async fn a_half_written_file_keeps_the_last_view_until_it_is_whole() {
    for kernel in [true, false] {
        let mut stage = Stage::start(Some(&services(&["10.0.0.1", "10.0.0.2"])), kernel, None);
        stage.live_with(2).await;
        let whole = services(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        stage.write(&whole[..whole.len() - 12]);
        let why = stage.stale_with(2).await;
        assert!(why.contains("s.toml:9:"), "{why}");
        stage.write("");
        stage
            .until(
                "empty",
                |s| matches!(s, RegistryState::Stale { why, .. } if why.contains("empty")),
            )
            .await;
        stage.write(&whole);
        stage.live_with(3).await;
    }
}

#[tokio::test]
async fn a_file_that_is_gone_leaves_what_it_said_and_counts_again_when_it_is_back() {
    for kernel in [true, false] {
        let mut stage = Stage::start(Some(&services(&["10.0.0.1"])), kernel, None);
        stage.live_with(1).await;
        let path = stage.dir.path().join("s.toml");
        let aside = stage.dir.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        let why = stage.stale_with(1).await;
        assert!(why.starts_with("cannot read ") && why.ends_with("or correct `path`"), "{why}");
        fs::rename(&aside, &path).unwrap();
        stage.live_with(1).await;
    }
}

#[tokio::test]
async fn a_registry_never_heard_is_syncing_until_its_file_comes() {
    let mut stage = Stage::start(None, true, None);
    assert!(matches!(*stage.states.borrow(), RegistryState::Syncing));
    stage.write("half [");
    stage.write(&services(&["10.0.0.1"]));
    stage.live_with(1).await;
}

#[tokio::test]
async fn what_was_stored_counts_as_stale_until_the_file_is_read() {
    let stored = StoredView { view: RegistryView::default(), heard_at: SystemTime::UNIX_EPOCH };
    let mut stage = Stage::start(None, true, Some(stored));
    let first = stage.states.borrow().clone();
    let RegistryState::Stale { since, .. } = first else { panic!("{first:?}") };
    assert_eq!(since, SystemTime::UNIX_EPOCH);
    stage.write(&services(&["10.0.0.1"]));
    stage.live_with(1).await;
}

#[tokio::test]
async fn an_unchanged_service_is_shared_with_the_view_before() {
    let text = services(&["10.0.0.1"]);
    let mut stage = Stage::start(Some(&text), true, None);
    stage.live_with(1).await;
    let before = stage.states.borrow().view().cloned().unwrap();
    stage.rename_over(&format!("{text}[[service.db.instance]]\naddress = \"10.0.0.5\"\n"));
    stage.live_with(2).await;
    let now = stage.states.borrow().view().cloned().unwrap();
    assert!(Arc::ptr_eq(before.services.get("web").unwrap(), now.services.get("web").unwrap()));
}

#[tokio::test]
async fn a_dropped_registry_ends_its_task() {
    let mut stage = Stage::start(Some(&services(&["10.0.0.1"])), true, None);
    stage.live_with(1).await;
    drop(stage.registry);
    let ended = async { while stage.states.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
}

#[test]
fn a_path_without_a_known_extension_is_refused_in_the_configuration() {
    let error = ServicesPath::try_from(PathBuf::from("services.txt")).unwrap_err();
    assert_eq!(
        error,
        "services.txt does not tell how it is written; call it *.toml, *.yaml or *.json"
    );
}
