//! Which sockets a configuration asks for.

use std::net::{SocketAddr, TcpListener};

use super::{Carries, DNS, Key, Socket};
use crate::api::haproxy::HaproxyConfig;
use crate::config::Config;
use crate::net::adopt::Adopted;
use crate::net::listen::{self, ListenError};

/// How often another port is tried when port 0 is configured for UDP and TCP together.
const PORT_TRIES: usize = 16;

/// Every socket that `config` asks for.
pub(super) fn wanted(config: &Config) -> Vec<Key> {
    let mut wanted = Vec::new();
    for (name, listener) in &config.listeners {
        if listener.opens_ports() {
            continue;
        }
        let carries = match (&listener.http, &listener.https, &listener.tls) {
            (Some(_), ..) => Carries::Http,
            (None, Some(_), _) => Carries::Https,
            (None, None, Some(_)) => Carries::Tls,
            (None, None, None) if listener.udp.is_some() => Carries::Udp,
            (None, None, None) => Carries::Tcp,
        };
        wanted.extend(listener.bind().iter().map(|bind| (name.clone(), carries, *bind)));
    }
    for (name, zone) in config.dns.iter().flat_map(|dns| &dns.zone) {
        wanted.extend(zone.http_listen.map(|listen| (name.clone(), Carries::Mesos, listen)));
    }
    for address in config.metadata.iter().flat_map(|metadata| &metadata.listen.0) {
        wanted.push(("metadata".to_owned(), Carries::Metadata, *address));
    }
    for (key, address) in config.haproxy.iter().flat_map(HaproxyConfig::listens) {
        let lines = key == "socket_listen";
        let carries = if lines { Carries::HaproxyLines } else { Carries::Haproxy };
        let name = if lines { "haproxy-socket" } else { "haproxy" };
        wanted.push((name.to_owned(), carries, address));
    }
    for address in config.dns.iter().flat_map(|dns| &dns.listen) {
        // UDP first: with port 0 TCP then takes the port that UDP was given.
        wanted.push(("dns".to_owned(), Carries::DnsUdp, *address));
        wanted.push(("dns".to_owned(), Carries::DnsTcp, *address));
    }
    wanted
}

/// TCP on the port of the UDP socket that was bound for the same address just before. With port 0
/// the kernel chose that one, and somebody may hold it by TCP: then both take another.
pub(super) fn beside_udp(
    address: SocketAddr,
    fresh: &mut [(Key, Socket)],
    adopted: &mut Adopted,
) -> Result<TcpListener, ListenError> {
    let mut passed_over = Vec::new();
    loop {
        let udp = fresh.last_mut().map(|(_, socket)| socket);
        let Some(udp) = udp.filter(|_| address.port() == 0) else {
            return listen::tcp(address, DNS, adopted);
        };
        let chosen = udp.local_addr().unwrap_or(address);
        let bound = listen::tcp(chosen, DNS, adopted);
        if !matches!(bound, Err(ListenError::InUse { .. })) || passed_over.len() == PORT_TRIES {
            return bound;
        }
        // Kept until one fits: the kernel gives another one that way.
        let next = Socket::Udp(vec![listen::udp(address, DNS, adopted)?]);
        passed_over.push(std::mem::replace(udp, next));
    }
}
