//! The certificates of this process: kept, shown, and followed while their files change.

use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::certificate::{Certificate, CertificateError, CertificateFiles};
use super::config::{TlsConfig, UnknownName};
use super::metrics::Metrics;
use super::names::{Names, Shown};
use super::server::{Authorities, Secured, Sessions};
use super::{TlsError, provider};
use crate::lifecycle::{Phase, Phases};
use crate::watching::{Watching, directory_of};

/// How often files are looked at where the kernel tells nothing.
const POLL: Duration = Duration::from_secs(2);
/// Rest between an event and the look.
const SETTLE: Duration = Duration::from_millis(20);
/// Rest between two looks at files that do not fit each other: the second one may be on its way.
const PATIENCE: Duration = Duration::from_millis(100);
/// Looks in vain before that is told.
const LOOKS: u32 = 5;
/// A file younger than this may change again within one tick of its clock.
const YOUNG: Duration = Duration::from_secs(2);

/// What a configuration wants of TLS; everything in it has been loaded and checked.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// All certificates, with their files.
    pub certificates: Vec<(CertificateFiles, Arc<Certificate>)>,
    /// All listeners that speak TLS.
    pub listeners: Vec<ListenerWanted>,
}

/// What one listener wants.
#[derive(Debug, Clone)]
pub struct ListenerWanted {
    /// Its name.
    pub name: Arc<str>,
    /// Names of its certificates; the first is the default.
    pub certificates: Vec<Arc<str>>,
    /// What becomes of names that no certificate is for.
    pub unknown_name: UnknownName,
    /// Offered by ALPN, best first; none: nothing is agreed on.
    pub protocols: Vec<Vec<u8>>,
    /// The rest.
    pub tls: TlsConfig,
    /// Of clients' certificates.
    pub authorities: Option<Authorities>,
}

/// The certificates that are shown, and what makes sessions resumable. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Certificates {
    state: Arc<Mutex<State>>,
    /// Something has happened to the files, or others are followed now.
    changed: Arc<Notify>,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    followed: Vec<Followed>,
    shown: Vec<(Vec<Arc<str>>, Arc<Shown>)>,
    /// Of all listeners that ask for no certificates.
    shared: Sessions,
    own: HashMap<OwnSessions, Sessions>,
}

/// A listener that asks for certificates, and whose it takes: another one's sessions are not good
/// there.
type OwnSessions = (Arc<str>, (Vec<CertificateDer<'static>>, bool));

/// A certificate whose files are followed.
#[derive(Debug, Clone)]
struct Followed {
    files: CertificateFiles,
    current: Arc<Certificate>,
    seen: Option<Seen>,
    /// Looks in vain, one after the other.
    vain: u32,
    /// Whether it was told that it has run out.
    told_expired: bool,
}

/// Both files as they were at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    files: [Option<Stamp>; 2],
    young: bool,
}

/// What tells one content of a file from another without reading it.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Certificates {
    /// None yet.
    ///
    /// # Errors
    /// There is no randomness to be had for the keys of tickets.
    pub fn new(metrics: Metrics) -> Result<Self, TlsError> {
        // Before any library chooses one.
        let _ = provider();
        let state = State {
            followed: Vec::new(),
            shown: Vec::new(),
            shared: Sessions::new()?,
            own: HashMap::new(),
        };
        Ok(Self { state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()), metrics })
    }

    /// From now on exactly what is `wanted` is kept and followed. Gives how each listener speaks TLS,
    /// by its name. Sessions and certificates that did not change are those of before.
    ///
    /// # Errors
    /// The library refuses a setting; nothing has changed then.
    pub fn follow(&self, wanted: &Wanted) -> Result<HashMap<Arc<str>, Arc<Secured>>, TlsError> {
        let mut state = self.state();
        let (mut secured, mut shown, mut own) = (HashMap::new(), Vec::new(), HashMap::new());
        for listener in &wanted.listeners {
            let sessions = match &listener.authorities {
                None => state.shared.clone(),
                Some(authorities) => {
                    let key = (Arc::clone(&listener.name), authorities.identity.clone());
                    let known = state.own.get(&key).cloned();
                    let sessions = known.map_or_else(Sessions::new, Ok)?;
                    own.insert(key, sessions.clone());
                    sessions
                }
            };
            let shows = Arc::new(Shown::default());
            let terms = Secured::new(
                &listener.tls,
                listener.unknown_name,
                &listener.protocols,
                listener.authorities.as_ref(),
                &sessions,
                Arc::clone(&shows),
            )?;
            shown.push((listener.certificates.clone(), shows));
            secured.insert(Arc::clone(&listener.name), Arc::new(terms));
        }
        let followed = wanted.certificates.iter().map(|(files, loaded)| {
            let known = state.followed.iter().find(|known| known.current.same(loaded));
            let current = known.map_or(loaded, |known| &known.current);
            Followed {
                files: files.clone(),
                current: Arc::clone(current),
                seen: None,
                vain: 0,
                told_expired: known.is_some_and(|known| known.told_expired),
            }
        });
        let followed: Vec<Followed> = followed.collect();
        for gone in &state.followed {
            if !followed.iter().any(|kept| kept.current.name == gone.current.name) {
                self.forget(&gone.current.name);
            }
        }
        (state.followed, state.shown, state.own) = (followed, shown, own);
        for followed in &mut state.followed {
            self.tell(followed, SystemTime::now());
        }
        state.show();
        self.changed.notify_one();
        Ok(secured)
    }

    /// Swaps certificates whose files change, until the process stops.
    pub async fn run(self, mut phases: Phases) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = Vec::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.changed.notified() => tokio::time::sleep(SETTLE).await,
                () = phases.reached(Phase::Stopped) => return,
            }
            watched = self.watch(watched).await;
            while self.look().await {
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }

    /// Watches the directories of all files and no others, away from the async threads: a dead
    /// mount would hold them up.
    async fn watch(&self, mut known: Vec<(PathBuf, Watching)>) -> Vec<(PathBuf, Watching)> {
        let directories: BTreeSet<PathBuf> = {
            let state = self.state();
            let files = state.followed.iter().map(|followed| &followed.files);
            let paths = files.flat_map(|files| [&files.cert_file, &files.key_file]);
            paths.map(|path| directory_of(path)).collect()
        };
        let events = Arc::clone(&self.changed);
        let renewed = tokio::task::spawn_blocking(move || {
            let renewed = directories.into_iter().map(|directory| {
                let at = known.iter().position(|(known, _)| *known == directory);
                let watching = match at {
                    Some(at) => known.swap_remove(at).1,
                    None => Watching::directory(directory.clone(), Arc::clone(&events)),
                };
                (directory, watching.renewed())
            });
            renewed.collect()
        });
        renewed.await.unwrap_or_default()
    }

    /// Looks at all files; says whether to look again soon.
    async fn look(&self) -> bool {
        let followed = self.state().followed.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let looked = followed.into_iter().map(|followed| {
                let seen = Seen::of(&followed.files);
                let same = followed.seen.is_some_and(|known| known == seen && !known.young);
                let load = || Certificate::load(&followed.current.name, &followed.files);
                let found = (!same || followed.vain > 0).then(load);
                (followed, seen, found)
            });
            looked.collect::<Vec<_>>()
        });
        let Ok(looked) = looked.await else { return false };
        let mut state = self.state();
        let (mut swapped, mut again) = (false, false);
        let now = SystemTime::now();
        for (before, seen, found) in looked {
            // A reload may have come in between, and is newer.
            let kept = state.followed.iter_mut().find(|kept| {
                kept.files == before.files && Arc::ptr_eq(&kept.current, &before.current)
            });
            let Some(kept) = kept else { continue };
            kept.seen = Some(seen);
            match found {
                Some(Err(error)) => again |= self.failed(kept, &error),
                Some(Ok(loaded)) => {
                    if std::mem::take(&mut kept.vain) >= LOOKS {
                        tracing::info!(
                            certificate = &*loaded.name,
                            "the files of a certificate are good again"
                        );
                    }
                    if !loaded.same(&kept.current) {
                        tracing::info!(
                            certificate = &*loaded.name,
                            names = loaded.names.join(", "),
                            expires = loaded.expires(),
                            "certificate swapped"
                        );
                        kept.current = Arc::new(loaded);
                        kept.told_expired = false;
                        self.metrics.swaps.with_label_values(&[&*kept.current.name]).inc();
                        swapped = true;
                    }
                }
                None => {}
            }
            self.tell(kept, now);
        }
        if swapped {
            state.show();
        }
        again
    }

    /// Files that make no certificate; says whether that may still pass by itself. Told once.
    fn failed(&self, kept: &mut Followed, error: &CertificateError) -> bool {
        kept.vain = kept.vain.saturating_add(1);
        if kept.vain == LOOKS {
            tracing::warn!(
                certificate = &*kept.current.name,
                %error,
                "the files of a certificate cannot be used; the last good one stays"
            );
            self.metrics.failures.with_label_values(&[&*kept.current.name]).inc();
        }
        kept.vain < LOOKS
    }

    /// Tells when a certificate runs out, and that it has.
    fn tell(&self, followed: &mut Followed, now: SystemTime) {
        let certificate = &followed.current;
        let gauge = self.metrics.expiry.with_label_values(&[&*certificate.name]);
        gauge.set(certificate.expires());
        self.metrics.swaps.with_label_values(&[&*certificate.name]);
        self.metrics.failures.with_label_values(&[&*certificate.name]);
        if certificate.expired(now) && !std::mem::replace(&mut followed.told_expired, true) {
            tracing::warn!(
                certificate = &*certificate.name,
                file = %followed.files.cert_file.display(),
                expired = certificate.expires(),
                "a certificate has run out, clients will not accept it; put a new one there"
            );
        }
    }

    fn forget(&self, name: &str) {
        // What was never counted cannot be removed, and need not be.
        let _ = self.metrics.expiry.remove_label_values(&[name]);
        let _ = self.metrics.swaps.remove_label_values(&[name]);
        let _ = self.metrics.failures.remove_label_values(&[name]);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Shows what is current, at every listener.
    fn show(&self) {
        for (wanted, shown) in &self.shown {
            let of_name = |name: &Arc<str>| {
                let found = self.followed.iter().find(|followed| followed.current.name == *name);
                found.map(|followed| Arc::clone(&followed.current))
            };
            let certificates: Vec<Arc<Certificate>> = wanted.iter().filter_map(of_name).collect();
            shown.show(Names::new(&certificates));
        }
    }
}

impl Seen {
    fn of(files: &CertificateFiles) -> Self {
        let metadata = |path: &Path| std::fs::metadata(path).ok();
        let found = [metadata(&files.cert_file), metadata(&files.key_file)];
        let now = SystemTime::now();
        let young = |found: &Metadata| {
            let age = found.modified().ok().and_then(|at| now.duration_since(at).ok());
            age.is_none_or(|age| age < YOUNG)
        };
        Self {
            young: found.iter().flatten().any(young),
            files: found.map(|m| m.as_ref().map(stamp)),
        }
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    )
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
