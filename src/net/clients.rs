//! How many connections each client has open at each listener.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The clients that have connections open, over all workers. As many entries as there are such
/// clients, so that the limit of all connections is theirs too.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<Key, u32>>);

/// The listener, and the network that counts as one client.
type Key = (Arc<str>, u128);

/// One open connection of a client; dropping it counts it out.
#[derive(Debug)]
pub struct Client {
    clients: Arc<Clients>,
    key: Key,
}

impl Clients {
    /// Counts in one connection of `client` at `listener`, or `None` when it has `most` already.
    ///
    /// Asked when a connection is accepted, where a limit is set; never for a request.
    pub fn admit(
        self: &Arc<Self>,
        listener: &Arc<str>,
        client: IpAddr,
        most: u32,
    ) -> Option<Client> {
        let key = (Arc::clone(listener), network(client));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&key).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        open.insert((Arc::clone(listener), key.1), count + 1);
        drop(open);
        Some(Client { clients: Arc::clone(self), key })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut open = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.key)),
        }
    }
}

/// The address, or of IPv6 the /64: whoever has one address of it has them all.
fn network(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_count_at_each_listener_and_leaving_makes_room() {
        let clients = Arc::new(Clients::default());
        let (web, other): (Arc<str>, Arc<str>) = ("web".into(), "other".into());
        let admit = |listener, address: &str| clients.admit(listener, address.parse().unwrap(), 2);
        let first = admit(&web, "192.0.2.1");
        let second = admit(&web, "::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(admit(&web, "192.0.2.1").is_none(), "as IPv4 and mapped it is one client");
        assert!(admit(&web, "192.0.2.2").is_some(), "another client");
        let elsewhere = admit(&other, "192.0.2.1");
        assert!(elsewhere.is_some(), "another listener");
        drop(first);
        let third = admit(&web, "192.0.2.1");
        assert!(third.is_some(), "there is room again");
        let net: Vec<_> = ["2001:db8::1", "2001:db8::ffff:0:0:1"].map(|a| admit(&web, a)).into();
        assert!(net.iter().all(Option::is_some));
        assert!(admit(&web, "2001:db8::2").is_none(), "a /64 is one client");
        assert!(admit(&web, "2001:db8:0:1::2").is_some(), "the next /64 is another one");
        drop((second, third, elsewhere, net));
        assert!(clients.0.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }
}
