//! Listening sockets, made to be what the configuration says: bound before anything changes,
//! handed to the workers only when all of them could be had.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use tokio::sync::watch;

use super::metadata::MetadataFace;
use super::workers::{DnsSocket, Workers, express_workers};
use crate::config::Config;
use crate::net::adopt::Adopted;
use crate::net::listen::{self, ListenError};
use crate::proxy::serve::{Kind, Share};

/// The setting that asks for sockets of DNS.
const DNS: &str = "[dns] listen";
/// How often another port is tried when port 0 is configured for UDP and TCP together.
const PORT_TRIES: usize = 16;

/// Which socket: the listener's name, what it carries, and the address as configured.
type Key = (String, Carries, SocketAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Carries {
    Http,
    Tcp,
    DnsUdp,
    DnsTcp,
    /// The HTTP API of Mesos-DNS.
    Mesos,
    /// The metadata API.
    Metadata,
}

/// Gives the HTTP API of Mesos-DNS for a zone.
pub(super) type Faces = Arc<dyn Fn(&str) -> axum::Router + Send + Sync>;

/// The sockets that are open.
#[derive(Default)]
pub(super) struct Sockets {
    open: BTreeMap<Key, Open>,
    faces: Option<Faces>,
    metadata: Option<MetadataFace>,
}

#[derive(Debug)]
struct Open {
    /// The address with the port that the kernel chose.
    bound: SocketAddr,
    /// Set to true to close it.
    close: watch::Sender<bool>,
    /// Our own hold on a TCP socket, by which a reload gives it to another listener.
    held: Option<TcpListener>,
}

/// Sockets that are bound and not served yet.
#[derive(Debug)]
pub(super) struct Bound {
    wanted: Vec<Key>,
    fresh: Vec<(Key, Socket)>,
    /// Threads of the express lane for each address of DNS.
    express_workers: usize,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    /// The sockets of one address; at least one.
    Udp(Vec<UdpSocket>),
}

impl Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Udp(group) => match group.first() {
                Some(socket) => socket.local_addr(),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }

    fn hold(&self) -> io::Result<Option<TcpListener>> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Some),
            Self::Udp(_) => Ok(None),
        }
    }
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Sockets {
    /// Binds what `config` asks for and is not open yet. Nothing is served and nothing closed.
    ///
    /// # Errors
    /// One could not be had; those bound so far are let go again.
    pub(super) fn prepare(
        &self,
        config: &Config,
        adopted: &mut Adopted,
    ) -> Result<Bound, ListenError> {
        let wanted = wanted(config);
        let mut fresh: Vec<(Key, Socket)> = Vec::new();
        for key in &wanted {
            if self.open.contains_key(key) {
                continue;
            }
            let (name, carries, address) = key;
            let socket = match carries {
                Carries::Http | Carries::Tcp => {
                    let kind = if *carries == Carries::Http { "http" } else { "tcp" };
                    let setting = format!("[listener.{name}.{kind}] bind");
                    match self.passed_on(*address, &wanted) {
                        Some(listener) => Socket::Tcp(listener),
                        None => Socket::Tcp(listen::tcp(*address, &setting, adopted)?),
                    }
                }
                Carries::DnsUdp => Socket::Udp(vec![listen::udp(*address, DNS, adopted)?]),
                Carries::DnsTcp => Socket::Tcp(beside_udp(*address, &mut fresh, adopted)?),
                Carries::Metadata => match self.passed_on(*address, &wanted) {
                    Some(listener) => Socket::Tcp(listener),
                    None => Socket::Tcp(listen::tcp(*address, "[metadata] listen", adopted)?),
                },
                Carries::Mesos => {
                    let setting = format!("[dns.zone.{name:?}] http_listen");
                    Socket::Tcp(listen::tcp(*address, &setting, adopted)?)
                }
            };
            fresh.push((key.clone(), socket));
        }
        let express_workers = express_workers(config);
        // Only now: a port that the kernel chose may have been given up for another one.
        for (_, socket) in &mut fresh {
            if let Socket::Udp(group) = socket
                && let Some(first) = group.pop()
            {
                *group = listen::group(first, express_workers, adopted);
            }
        }
        Ok(Bound { wanted, fresh, express_workers })
    }

    /// The socket of a listener that the new configuration does not have any more, when another
    /// one wants its address: what waits in its queue is not lost.
    fn passed_on(&self, address: SocketAddr, wanted: &[Key]) -> Option<TcpListener> {
        let (_, open) = self.open.iter().find(|(key, open)| {
            let same = key.2 == address || open.bound == address;
            same && address.port() != 0 && open.held.is_some() && !wanted.contains(key)
        })?;
        open.held.as_ref()?.try_clone().ok()
    }

    /// From now on the HTTP API of Mesos-DNS is given by `faces`.
    pub(super) fn faces(&mut self, faces: Faces) {
        self.faces = Some(faces);
    }

    /// From now on the metadata API is `face`, by what `config` says.
    pub(super) fn metadata(&mut self, face: MetadataFace, config: &Config) {
        self.metadata = Some(face);
        self.follow(config);
    }

    /// From now on the metadata API does what `config` says.
    pub(super) fn follow(&mut self, config: &Config) {
        if let (Some(face), Some(config)) = (&mut self.metadata, &config.metadata) {
            face.follow(config);
        }
    }

    /// Lets go of our own hold on the sockets, before the workers let go of theirs in a drain.
    pub(super) fn let_go(&mut self) {
        for open in self.open.values_mut() {
            open.held = None;
        }
    }

    /// Serves what was bound and closes what is not wanted any more.
    pub(super) fn commit(&mut self, bound: Bound, workers: &Workers) {
        self.open.retain(|key, open| {
            let keep = bound.wanted.contains(key);
            if !keep {
                open.close.send_replace(true);
            }
            keep
        });
        for (key, socket) in bound.fresh {
            let (close, closed) = watch::channel(false);
            let served = socket.local_addr().and_then(|address| {
                let held = socket.hold()?;
                match (key.1, socket) {
                    (Carries::Mesos, Socket::Tcp(listener)) => {
                        if let Some(faces) = &self.faces {
                            serve_mesos(faces(&key.0), listener, closed)?;
                        }
                    }
                    (Carries::Metadata, Socket::Tcp(listener)) => {
                        if let Some(face) = &self.metadata {
                            face.serve(listener, closed)?;
                        }
                    }
                    (_, socket) => serve(&key, socket, bound.express_workers, &closed, workers)?,
                }
                Ok((address, held))
            });
            match served {
                Ok((bound, held)) => {
                    let (name, carries, _) = &key;
                    tracing::info!(listener = name, ?carries, address = %bound, "listening");
                    self.open.insert(key, Open { bound, close, held });
                }
                Err(error) => {
                    tracing::error!(listener = key.0, address = %key.2, %error, "cannot serve");
                }
            }
        }
    }

    /// Where the listener called `name` is bound; DNS is called `dns`, the metadata API `metadata`.
    pub(super) fn addresses(&self, name: &str) -> Vec<SocketAddr> {
        let own = self
            .open
            .iter()
            .filter(|((known, carries, _), _)| known == name && *carries != Carries::DnsTcp);
        own.map(|(_, open)| open.bound).collect()
    }
}

fn wanted(config: &Config) -> Vec<Key> {
    let mut wanted = Vec::new();
    for (name, listener) in &config.listeners {
        let carries = if listener.http.is_some() { Carries::Http } else { Carries::Tcp };
        wanted.extend(listener.bind().iter().map(|bind| (name.clone(), carries, *bind)));
    }
    for (name, zone) in config.dns.iter().flat_map(|dns| &dns.zone) {
        wanted.extend(zone.http_listen.map(|listen| (name.clone(), Carries::Mesos, listen)));
    }
    for address in config.metadata.iter().flat_map(|metadata| &metadata.listen.0) {
        wanted.push(("metadata".to_owned(), Carries::Metadata, *address));
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
fn beside_udp(
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

/// Serves the HTTP API of Mesos-DNS until the socket is closed. Needs a runtime.
fn serve_mesos(
    router: axum::Router,
    listener: TcpListener,
    mut closed: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        let served = axum::serve(listener, router);
        // Nobody left to say it means that the process ends.
        tokio::select! { _ = served => {}, _ = closed.wait_for(|closed| *closed) => {} }
    });
    Ok(())
}

fn serve(
    (name, carries, _): &Key,
    socket: Socket,
    express_workers: usize,
    closed: &watch::Receiver<bool>,
    workers: &Workers,
) -> io::Result<()> {
    let share = |kind, listener: &TcpListener| {
        workers.share(|| {
            Ok(Share {
                name: Arc::from(&**name),
                kind,
                socket: listener.try_clone()?,
                closed: closed.clone(),
            })
        })
    };
    match (carries, socket) {
        (Carries::Http, Socket::Tcp(listener)) => share(Kind::Http, &listener),
        (Carries::Tcp, Socket::Tcp(listener)) => share(Kind::Tcp, &listener),
        (_, Socket::Tcp(listener)) => workers.dns(DnsSocket::Tcp(listener, closed.clone())),
        (_, Socket::Udp(group)) => {
            workers.dns(DnsSocket::Udp(group, express_workers, closed.clone()))
        }
    }
}
