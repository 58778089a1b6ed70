//! How many flows of datagrams there are at each listener, over all workers, and of each client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::accept::{Connections, Hold};
use super::clients::{Client, Clients};

/// The flows of all listeners.
#[derive(Debug, Default)]
pub struct Flows {
    listeners: Mutex<HashMap<Arc<str>, Weak<Census>>>,
    clients: Arc<Clients>,
}

/// The flows of one listener.
#[derive(Debug)]
pub struct Census {
    name: Arc<str>,
    open: AtomicU32,
    clients: Arc<Clients>,
}

/// One flow; dropping it counts it out.
#[derive(Debug)]
pub struct Counted {
    _place: Place,
    _client: Option<Client>,
    _hold: Option<Hold>,
}

/// One among all of a listener.
#[derive(Debug)]
struct Place(Arc<Census>);

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many flows as may be.
    All,
    /// The client has as many as it may have.
    Client,
}

impl Flows {
    /// The count of the listener called `name`: the same one for all of its workers and sockets.
    pub fn of(&self, name: &Arc<str>) -> Arc<Census> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|_, census| census.strong_count() > 0);
        if let Some(known) = listeners.get(name).and_then(Weak::upgrade) {
            return known;
        }
        let census = Arc::new(Census {
            name: Arc::clone(name),
            open: AtomicU32::new(0),
            clients: Arc::clone(&self.clients),
        });
        listeners.insert(Arc::clone(name), Arc::downgrade(&census));
        census
    }
}

impl Census {
    /// How many there are.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// Counts in one flow of `client`, unless there are `most` already, or `per_client` of this client
    /// (IPv6: of its /64). With `held` the process waits for it when it drains.
    ///
    /// # Errors
    /// Which of both is reached.
    pub fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        most: u32,
        per_client: Option<u32>,
        held: Option<&Arc<Connections>>,
    ) -> Result<Counted, Full> {
        // Nobody is let in beyond the limit: whoever is counted here too many is counted out again.
        let counted = Place(Arc::clone(self));
        if self.open.fetch_add(1, Relaxed) >= most {
            return Err(Full::All);
        }
        let client = match per_client {
            Some(most) => Some(self.clients.admit(&self.name, client, most).ok_or(Full::Client)?),
            None => None,
        };
        Ok(Counted { _place: counted, _client: client, _hold: held.map(Connections::hold) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn flows_are_counted_for_all_and_by_client_and_only_those_that_are_held_are_waited_for() {
        let connections = Connections::new(1);
        let flows = connections.flows();
        let (name, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let census = flows.of(&name);
        assert!(Arc::ptr_eq(&census, &flows.of(&name)) && !Arc::ptr_eq(&census, &flows.of(&other)));
        let admit =
            |address: &str| census.admit(address.parse().unwrap(), 3, Some(2), Some(&connections));
        let first = admit("192.0.2.1").unwrap();
        let second = admit("192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.1").map(drop), Err(Full::Client));
        let third = admit("192.0.2.2").unwrap();
        assert_eq!(admit("192.0.2.3").map(drop), Err(Full::All));
        assert_eq!(census.open(), 3);
        assert_eq!(connections.open(), 0, "they are no connections");
        drop((first, second, third));
        assert_eq!(census.open(), 0);
        let unheld = census.admit("192.0.2.3".parse().unwrap(), 3, None, None).unwrap();
        connections.empty().await;
        drop(unheld);
    }
}
