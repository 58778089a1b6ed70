use std::collections::BTreeSet;
use std::path::Path;

use prometheus::{IntCounter, IntGauge};

use super::super::journal::{Intent, Journal, Key};
use super::*;

/// A reloader in memory whose command writes a line and ends as `then` says.
struct Stage {
    dir: tempfile::TempDir,
    ledger: Arc<Ledger>,
    reloader: Arc<Reloader>,
    _task: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn new(then: &str, interval: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, found) = Journal::open(None, IntCounter::new("f", "F.").unwrap());
        let ledger = Ledger::new(journal, found, IntGauge::new("p", "P.").unwrap());
        let ledger = Arc::new(ledger);
        let command = format!("cd {}; echo run >> log; {then}", dir.path().display());
        let reloader = Reloader::new(Action::Command(command.into()), Arc::clone(&ledger));
        let reloader = Arc::new(reloader);
        let pace = Pace { limit: Duration::from_secs(20), interval };
        reloader.follow(pace, &["a".into(), "b".into()]);
        let task = tokio::spawn(Arc::clone(&reloader).run());
        Self { dir, ledger, reloader, _task: task }
    }

    fn wish(&self, who: &str, generation: u64) -> Arc<Debt> {
        let owed = BTreeSet::from([Arc::clone(&self.reloader.identity)]);
        let key = Key::of("template", Path::new(who));
        let debt = self.ledger.note(&key, Intent::new(who, Vec::new(), owed));
        self.reloader.wish(&debt, generation, Vec::new());
        self.reloader.done(&who.into(), generation);
        debt
    }

    fn runs(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.lines().count()
    }
}

async fn paid(debt: &Debt) {
    let paid = async {
        while debt.outcome().await.is_err() || !debt.owed().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), paid).await.expect("never paid");
}

#[tokio::test]
async fn it_runs_once_for_all_that_share_it_in_one_generation() {
    let stage = Stage::new("true", Duration::ZERO);
    let first = stage.wish("a", 5);
    let second = stage.wish("b", 5);
    paid(&first).await;
    paid(&second).await;
    assert_eq!(stage.runs(), 1);
    let third = stage.wish("a", 6);
    stage.reloader.done(&"b".into(), 6);
    paid(&third).await;
    assert_eq!(stage.runs(), 2);
    // It is taken out of the journal before it is out of the ledger.
    let settled = async {
        while !stage.ledger.debts().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settled).await.expect("still owed");
}

#[tokio::test]
async fn whoever_does_not_get_on_holds_the_others_up_for_a_moment_only() {
    let stage = Stage::new("true", Duration::ZERO);
    let start = Instant::now();
    paid(&stage.wish("a", 5)).await;
    assert!(start.elapsed() >= ROUND_SILENCE, "it waits for b");
    assert!(start.elapsed() < ROUND_MAX);
}

#[tokio::test]
async fn one_that_fails_twice_and_then_succeeds_ran_three_times() {
    let stage = Stage::new("test $(wc -l < log) -ge 3", Duration::ZERO);
    stage.reloader.done(&"b".into(), u64::MAX);
    let debt = stage.wish("a", 1);
    let error = debt.outcome().await.unwrap_err();
    assert!(error.starts_with("failed with exit status: 1"), "{error}");
    paid(&debt).await;
    assert_eq!(stage.runs(), 3);
}

#[tokio::test]
async fn what_comes_too_soon_is_put_off_and_not_dropped() {
    let least = Duration::from_millis(400);
    let stage = Stage::new("true", least);
    stage.reloader.done(&"b".into(), u64::MAX);
    let start = Instant::now();
    paid(&stage.wish("a", 1)).await;
    let many: Vec<_> = (2..20).map(|generation| stage.wish("a", generation)).collect();
    for debt in &many {
        paid(debt).await;
    }
    assert!(start.elapsed() >= least);
    assert_eq!(stage.runs(), 2);
}

#[test]
fn pauses_grow_up_to_a_minute() {
    assert_eq!(pause(1), Duration::from_secs(1));
    assert_eq!(pause(2), Duration::from_secs(2));
    assert_eq!(pause(6), Duration::from_secs(32));
    assert_eq!(pause(7), RETRY_MAX);
    assert_eq!(pause(u32::MAX), RETRY_MAX);
}

#[tokio::test]
async fn whoever_replaces_files_that_belong_together_waits_for_a_reload_that_runs_and_holds_up_the_next()
 {
    let stage = Stage::new("touch runs; while [ ! -e end ]; do sleep 0.01; done", Duration::ZERO);
    let debt = stage.wish("a", 5);
    stage.reloader.done(&"b".into(), 5);
    let runs = stage.dir.path().join("runs");
    let begun = async {
        while !runs.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begun).await.expect("never begun");
    let mut rest = std::pin::pin!(stage.reloader.at_rest());
    let early = tokio::time::timeout(Duration::from_millis(50), &mut rest).await;
    assert!(early.is_err(), "it did not wait");
    std::fs::write(stage.dir.path().join("end"), "").unwrap();
    let quiet = rest.await;
    paid(&debt).await;
    let next = stage.wish("a", 6);
    stage.reloader.done(&"b".into(), 6);
    let early = tokio::time::timeout(Duration::from_millis(200), paid(&next)).await;
    assert!(early.is_err() && stage.runs() == 1, "it ran while files were replaced");
    drop(quiet);
    paid(&next).await;
    assert_eq!(stage.runs(), 2);
}
