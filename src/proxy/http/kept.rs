//! How many connections to the endpoints of each service one worker keeps for later requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The connections that are kept, by service. Those that have closed are seen by their weak
/// references, so that nobody has to tell.
///
/// Asked when a connection is made, never for a request on one that is kept already; only one
/// worker asks, so that its lock is always free.
#[derive(Debug)]
pub struct Kept<T>(Mutex<HashMap<Arc<str>, Vec<Weak<T>>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    /// Counts `connection`, a part of a connection to `service` as long as it is open, without asking.
    pub fn note(&self, service: &Arc<str>, connection: &Arc<T>) {
        self.admit(service, u32::MAX, connection);
    }

    /// Whether more than `most` connections to `service` are open.
    pub fn beyond(&self, service: &Arc<str>, most: u32) -> bool {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = services.get_mut(service) else { return most == 0 };
        if kept.len() >= most as usize {
            kept.retain(|known| known.strong_count() > 0);
        }
        most == 0 || kept.len() > most as usize
    }

    /// Whether a new connection to `service`, of which `connection` is a part as long as it is open,
    /// is one of the `most` that are kept. If not, it has to close after its first request.
    pub fn admit(&self, service: &Arc<str>, most: u32, connection: &Arc<T>) -> bool {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !services.contains_key(service) {
            // The time to forget services that are not asked for any more.
            services.retain(|_, kept| kept.iter().any(|known| known.strong_count() > 0));
        }
        let kept = services.entry(Arc::clone(service)).or_default();
        if kept.len() >= most as usize {
            kept.retain(|known| known.strong_count() > 0);
        }
        let admitted = kept.len() < most as usize;
        if admitted {
            kept.push(Arc::downgrade(connection));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_kept_as_may_be_and_others_when_those_have_closed() {
        let kept = Kept::default();
        let (web, db): (Arc<str>, Arc<str>) = ("web".into(), "db".into());
        let first: Vec<_> = (0..3).map(Arc::new).collect();
        let admitted: Vec<bool> = first.iter().map(|one| kept.admit(&web, 2, one)).collect();
        assert_eq!(admitted, [true, true, false]);
        assert!(kept.admit(&db, 1, &first[0]), "another service counts for itself");
        assert!(!kept.admit(&db, 0, &first[1]));
        drop(first);
        let next: Vec<_> = (0..3).map(Arc::new).collect();
        let admitted: Vec<bool> = next.iter().map(|one| kept.admit(&web, 2, one)).collect();
        assert_eq!(admitted, [true, true, false]);
    }

    #[test]
    fn those_that_are_counted_without_asking_are_beyond_the_limit_until_they_close() {
        let (kept, web) = (Kept::default(), "web".into());
        assert!(kept.beyond(&web, 0) && !kept.beyond(&web, 1), "of none, none");
        let open: Vec<_> = (0..3).map(Arc::new).collect();
        for one in &open {
            kept.note(&web, one);
        }
        assert!(kept.beyond(&web, 2) && !kept.beyond(&web, 3));
        drop(open);
        assert!(!kept.beyond(&web, 2));
    }

    #[test]
    fn services_that_are_gone_are_forgotten() {
        let kept = Kept::default();
        for n in 0..100 {
            kept.admit(&n.to_string().into(), 5, &Arc::new(n));
        }
        assert!(kept.0.lock().unwrap().len() <= 2);
    }
}
