use std::path::Path;

use prometheus::Registry;

use super::super::certificate::tests::write;
use super::*;
use crate::lifecycle::Lifecycle;

fn wanted(files: &[(&str, CertificateFiles)]) -> Wanted {
    let certificates = files.iter().map(|(name, files)| {
        let loaded = Certificate::load(&(*name).into(), files).unwrap();
        (files.clone(), Arc::new(loaded))
    });
    Wanted {
        certificates: certificates.collect(),
        listeners: vec![ListenerWanted {
            name: "web".into(),
            certificates: files.iter().map(|(name, _)| Arc::from(*name)).collect(),
            unknown_name: UnknownName::Default,
            protocols: vec![b"http/1.1".to_vec()],
            tls: TlsConfig::default(),
            authorities: None,
        }],
    }
}

fn names_of(secured: &HashMap<Arc<str>, Arc<Secured>>) -> Vec<String> {
    let names = secured["web"].shown().now();
    let mut names: Vec<String> =
        names.certificates().flat_map(|shown| &shown.names).map(ToString::to_string).collect();
    names.sort();
    names
}

struct Stage {
    certificates: Certificates,
    secured: HashMap<Arc<str>, Arc<Secured>>,
    registry: Registry,
    _lifecycle: Lifecycle,
}

impl Stage {
    /// `a` and `b` are shown and followed.
    fn set(dir: &Path) -> Self {
        let files =
            [("a", write(dir, "a", &["a.example"])), ("b", write(dir, "b", &["b.example"]))];
        let registry = Registry::new();
        let certificates = Certificates::new(Metrics::register(&registry).unwrap()).unwrap();
        let secured = certificates.follow(&wanted(&files)).unwrap();
        let lifecycle = Lifecycle::new();
        tokio::spawn(certificates.clone().run(lifecycle.phases()));
        Self { certificates, secured, registry, _lifecycle: lifecycle }
    }

    fn count(&self, metric: &str, certificate: &str) -> Option<u64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == metric);
        let of_name = family
            .iter()
            .flat_map(|family| family.get_metric())
            .find(|metric| metric.get_label().iter().any(|label| label.value() == certificate));
        of_name.map(|metric| metric.get_counter().get_value() as u64)
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let waited = async {
            while !wanted(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waited).await;
        waited.unwrap_or_else(|_| panic!("{what}: waited in vain"));
    }
}

const SWAPS: &str = "portolan_tls_certificate_swaps_total";
const FAILURES: &str = "portolan_tls_certificate_failures_total";

#[tokio::test]
async fn a_pair_that_does_not_fit_keeps_the_last_good_one_and_is_told_once() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stage = Stage::set(dir.path());
    let next = write(other.path(), "a", &["new.example"]);
    std::fs::copy(&next.cert_file, dir.path().join("a.crt")).unwrap();
    stage.until("the failure", |stage| stage.count(FAILURES, "a") == Some(1)).await;
    assert_eq!(names_of(&stage.secured), ["a.example", "b.example"]);
    // Looking again and again tells nothing new.
    for _ in 0..3 {
        stage.certificates.look().await;
    }
    assert_eq!([stage.count(FAILURES, "a"), stage.count(SWAPS, "a")], [Some(1), Some(0)]);

    std::fs::copy(&next.key_file, dir.path().join("a.key")).unwrap();
    stage.until("the swap", |stage| stage.count(SWAPS, "a") == Some(1)).await;
    stage.until("the names", |stage| names_of(&stage.secured)[1] == "new.example").await;
    assert_eq!([stage.count(FAILURES, "a"), stage.count(FAILURES, "b")], [Some(1), Some(0)]);
}

#[tokio::test]
async fn files_are_swapped_by_a_rename_and_by_a_symlink_to_another_directory() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path());
    let next = write(dir.path(), "next", &["renamed.example"]);
    std::fs::rename(&next.cert_file, dir.path().join("a.crt")).unwrap();
    std::fs::rename(&next.key_file, dir.path().join("a.key")).unwrap();
    stage.until("the swap", |stage| stage.count(SWAPS, "a") == Some(1)).await;

    // As a volume of Kubernetes: tls.crt leads to ..data/tls.crt, and ..data changes.
    let volume = tempfile::tempdir().unwrap();
    for (version, name) in [("1", "first.example"), ("2", "second.example")] {
        std::fs::create_dir(volume.path().join(version)).unwrap();
        write(&volume.path().join(version), "tls", &[name]);
    }
    let link = |to: &str, at: &str| {
        let link = volume.path().join(format!("{at}.new"));
        std::os::unix::fs::symlink(to, &link).unwrap();
        std::fs::rename(link, volume.path().join(at)).unwrap();
    };
    link("1", "..data");
    link("..data/tls.crt", "tls.crt");
    link("..data/tls.key", "tls.key");
    let files = CertificateFiles {
        cert_file: volume.path().join("tls.crt"),
        key_file: volume.path().join("tls.key"),
    };
    let secured = stage.certificates.follow(&wanted(&[("k", files)])).unwrap();
    assert_eq!(names_of(&secured), ["first.example"]);
    assert!(stage.count(SWAPS, "a").is_none(), "nobody follows it any more");
    link("2", "..data");
    stage.until("the swap", |stage| stage.count(SWAPS, "k") == Some(1)).await;
    stage.until("the names", |_| names_of(&secured) == ["second.example"]).await;
    assert_eq!(stage.count(FAILURES, "k"), Some(0));
}

#[test]
fn what_did_not_change_is_the_same_after_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), "a", &["a.example"]);
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let certificates = Certificates::new(metrics).unwrap();
    let mut wanted = wanted(&[("a", files.clone())]);
    let asking = |required| {
        let asked = super::super::config::ClientCertificate::Required;
        let optional = super::super::config::ClientCertificate::Optional;
        Authorities::load(&files.cert_file, if required { asked } else { optional }).unwrap()
    };
    let first = certificates.follow(&wanted).unwrap();
    let again = certificates.follow(&wanted).unwrap();
    let tickets = |secured: &HashMap<Arc<str>, Arc<Secured>>| {
        Arc::as_ptr(&secured["web"].config.ticketer).cast::<()>()
    };
    let shown = |secured: &HashMap<Arc<str>, Arc<Secured>>| {
        Arc::as_ptr(&secured["web"].shown().now().shown(None)[0])
    };
    assert_eq!(tickets(&first), tickets(&again));
    assert_eq!(shown(&first), shown(&again));
    // A session of a client that was not asked is none where one is asked for a certificate.
    wanted.listeners[0].authorities = Some(asking(true));
    let asked = certificates.follow(&wanted).unwrap();
    assert_ne!(tickets(&first), tickets(&asked));
    assert_eq!(tickets(&asked), tickets(&certificates.follow(&wanted).unwrap()));
    wanted.listeners[0].authorities = Some(asking(false));
    assert_ne!(tickets(&asked), tickets(&certificates.follow(&wanted).unwrap()));
}
