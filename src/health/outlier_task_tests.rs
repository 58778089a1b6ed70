use std::sync::Mutex;

use super::*;
use crate::catalog::observed::Failure;
use crate::catalog::{Address, Instance};

type Endpoints = Vec<(Instance, Arc<Observed>)>;

/// A service `web` with three instances that the proxy goes to, and a shell that looks at them.
struct Played {
    settings: watch::Sender<Arc<Outliers>>,
    endpoints: Arc<Mutex<Endpoints>>,
    verdicts: watch::Receiver<Verdicts>,
    metrics: OutlierMetrics,
}

fn outliers(text: &str) -> Arc<Outliers> {
    Arc::new([("web".into(), toml::from_str(text).unwrap())].into_iter().collect())
}

fn play(settings: Arc<Outliers>, restored: &Verdicts) -> Played {
    let instance = |id: &str| Instance::bare("r", id, Address::parse("10.0.0.1").unwrap());
    let instances: Arc<[Arc<Instance>]> = ["a", "b", "c"].map(|id| Arc::new(instance(id))).into();
    let service = Service {
        name: "web".into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        eligible: Arc::clone(&instances),
        instances,
        problems: Arc::new([]),
    };
    let services = [("web".into(), Arc::new(service))].into_iter().collect();
    let snapshot = Arc::new(Snapshot { services, ..Snapshot::default() });
    let endpoints = ["a", "b", "c"].map(|id| (instance(id), Arc::default()));
    let endpoints = Arc::new(Mutex::new(endpoints.to_vec()));
    let seen = Arc::clone(&endpoints);
    let sightings: Sightings = Arc::new(move |name, found| {
        assert_eq!(name, "web");
        seen.lock().unwrap().iter().for_each(|(instance, observed)| found(instance, observed));
    });
    let (settings, receiver) = watch::channel(settings);
    let metrics = OutlierMetrics::register(&Registry::new()).unwrap();
    let current = Current::new(move || Arc::clone(&snapshot));
    let verdicts = start(receiver, current, sightings, restored, metrics.clone());
    Played { settings, endpoints, verdicts, metrics }
}

impl Played {
    fn fail(&self, place: usize, times: u32) {
        let endpoints = self.endpoints.lock().unwrap();
        (0..times).for_each(|_| endpoints[place].1.failed(Failure::Connect));
    }

    fn out(&self) -> Vec<String> {
        let verdicts = self.verdicts.borrow();
        let web = verdicts.get("web").map(|web| web.instances.keys().cloned().collect::<Vec<_>>());
        web.unwrap_or_default().iter().map(|(_, id)| id.to_string()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_fails_is_out_within_two_looks_and_back_after_its_time() {
    let mut played = play(outliers("base_ejection = \"2s\""), &Verdicts::default());
    played.fail(1, 4);
    tokio::time::sleep(LOOK * 5).await;
    assert_eq!(played.out(), [""; 0]);
    let start = Instant::now();
    played.fail(1, 1);
    played.verdicts.changed().await.unwrap();
    assert_eq!(played.out(), ["b"]);
    assert!(start.elapsed() <= LOOK * 2, "{:?}", start.elapsed());
    assert_eq!(played.metrics.out.get(), 1);

    played.verdicts.changed().await.unwrap();
    assert_eq!(played.out(), [""; 0]);
    let away = start.elapsed();
    assert!(away >= Duration::from_secs(2) && away < Duration::from_secs(3), "{away:?}");
    // Its endpoint was there all the time: it begins from nothing.
    played.fail(1, 4);
    tokio::time::sleep(LOOK * 5).await;
    assert_eq!(played.out(), [""; 0]);
    assert_eq!((played.metrics.ejections[0].get(), played.metrics.out.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_second_outlier_is_spared_when_no_more_may_be_out() {
    let mut played = play(outliers(""), &Verdicts::default());
    played.fail(0, 5);
    played.fail(2, 6);
    played.verdicts.changed().await.unwrap();
    assert_eq!(played.out(), ["c"]);
    assert_eq!(played.metrics.spared.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn settings_that_go_take_their_ejections_with_them_and_others_change_nothing() {
    let mut played = play(outliers(""), &Verdicts::default());
    played.fail(0, 5);
    played.verdicts.changed().await.unwrap();
    played.settings.send_replace(outliers("consecutive_failures = 50"));
    tokio::time::sleep(LOOK * 5).await;
    assert_eq!(played.out(), ["a"]);
    played.settings.send_replace(Arc::default());
    played.verdicts.changed().await.unwrap();
    assert_eq!(played.out(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn ejections_from_disk_stand_from_the_first_moment_until_their_time() {
    let mut played = play(outliers(""), &Verdicts::default());
    played.fail(0, 5);
    played.verdicts.changed().await.unwrap();
    let stored = played.verdicts.borrow().clone();
    let mut again = play(outliers(""), &stored);
    assert_eq!(again.out(), ["a"]);
    let start = Instant::now();
    again.verdicts.changed().await.unwrap();
    assert_eq!(again.out(), [""; 0]);
    assert!(start.elapsed() <= Duration::from_secs(11), "{:?}", start.elapsed());
    let none = play(Arc::default(), &stored);
    assert_eq!(none.out(), [""; 0], "nobody looks at the service any more");
}
