//! Listening sockets, made to be what the configuration says: bound before anything changes,
//! handed to the workers only when all of them could be had.

mod handed;
mod haproxy;
pub(super) mod ports;
mod wanted;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use tokio::sync::watch;

use super::haproxy::HaproxyFace;
use super::metadata::MetadataFace;
use super::workers::{DnsSocket, Workers, data_workers, express_workers};
use crate::config::Config;
use crate::net::adopt::Adopted;
use crate::net::listen::{self, ListenError};
use crate::proxy::route::ServiceRef;
use crate::proxy::serve::{Kind, Share};
use wanted::{beside_udp, wanted};

/// The setting that asks for sockets of DNS.
const DNS: &str = "[dns] listen";

/// Which socket: the listener's name, what it carries, and the address as configured.
type Key = (String, Carries, SocketAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Carries {
    Http,
    /// HTTP over TLS.
    Https,
    Tcp,
    /// TLS that is passed on.
    Tls,
    Udp,
    DnsUdp,
    DnsTcp,
    /// The HTTP API of Mesos-DNS.
    Mesos,
    /// The metadata API.
    Metadata,
    /// HAProxy's face over HTTP,
    Haproxy,
    /// and its stats socket by TCP.
    HaproxyLines,
}

/// Gives the HTTP API of Mesos-DNS for a zone.
pub(super) type Faces = Arc<dyn Fn(&str) -> axum::Router + Send + Sync>;

/// The sockets that are open.
#[derive(Default)]
pub(super) struct Sockets {
    open: BTreeMap<Key, Open>,
    faces: Option<Faces>,
    metadata: Option<MetadataFace>,
    haproxy: Option<HaproxyFace>,
    ports: ports::Ports,
}

#[derive(Debug)]
struct Open {
    /// The address with the port that the kernel chose.
    bound: SocketAddr,
    /// Set to true to close it.
    close: watch::Sender<bool>,
    /// Our own hold on a TCP socket, by which a reload gives it to another listener.
    held: Option<TcpListener>,
    /// The same on the sockets of UDP.
    group: Vec<UdpSocket>,
    /// Of a port that a service asked for: who did.
    asker: Option<Asker>,
}

/// Who asked for a port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asker {
    service: Arc<str>,
    /// Who gets its connections; none: its listener, which labels ask for, says so.
    target: Option<ServiceRef>,
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

    fn hold(&self) -> io::Result<(Option<TcpListener>, Vec<UdpSocket>)> {
        match self {
            Self::Tcp(listener) => Ok((Some(listener.try_clone()?), Vec::new())),
            Self::Udp(group) => {
                let group: io::Result<_> = group.iter().map(UdpSocket::try_clone).collect();
                Ok((None, group?))
            }
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
                Carries::Http | Carries::Https | Carries::Tcp | Carries::Tls => {
                    let kind = match carries {
                        Carries::Http => "http",
                        Carries::Https => "https",
                        Carries::Tls => "tls",
                        _ => "tcp",
                    };
                    let setting = format!("[listener.{name}.{kind}] bind");
                    match self.passed_on(*address, &wanted) {
                        Some(listener) => Socket::Tcp(listener),
                        None => Socket::Tcp(listen::tcp(*address, &setting, adopted)?),
                    }
                }
                Carries::Udp => {
                    let setting = format!("[listener.{name}.udp] bind");
                    Socket::Udp(vec![listen::udp(*address, &setting, adopted)?])
                }
                Carries::DnsUdp => Socket::Udp(vec![listen::udp(*address, DNS, adopted)?]),
                Carries::DnsTcp => Socket::Tcp(beside_udp(*address, &mut fresh, adopted)?),
                Carries::Metadata => match self.passed_on(*address, &wanted) {
                    Some(listener) => Socket::Tcp(listener),
                    None => Socket::Tcp(listen::tcp(*address, "[metadata] listen", adopted)?),
                },
                Carries::Haproxy => Socket::Tcp(listen::tcp(*address, haproxy::LISTEN, adopted)?),
                Carries::HaproxyLines => {
                    Socket::Tcp(listen::tcp(*address, haproxy::LINES, adopted)?)
                }
                Carries::Mesos => {
                    let setting = format!("[dns.zone.{name:?}] http_listen");
                    Socket::Tcp(listen::tcp(*address, &setting, adopted)?)
                }
            };
            fresh.push((key.clone(), socket));
        }
        let express_workers = express_workers(config);
        // Only now: a port that the kernel chose may have been given up for another one.
        for ((_, carries, _), socket) in &mut fresh {
            if let Socket::Udp(group) = socket
                && let Some(first) = group.pop()
            {
                let dns = *carries == Carries::DnsUdp;
                let size = if dns { express_workers } else { data_workers(config) };
                *group = listen::group(first, size, adopted);
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
        if let Some(face) = &mut self.haproxy {
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
            // A port that a service asked for gives way to what the configuration names.
            let passed_on = || bound.wanted.iter().any(|wanted| wanted.2 == key.2);
            let keep = match open.asker {
                Some(_) => !passed_on(),
                None => bound.wanted.contains(key),
            };
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
                    (
                        carries @ (Carries::Haproxy | Carries::HaproxyLines),
                        Socket::Tcp(listener),
                    ) => {
                        self.serve_haproxy(carries, listener, closed)?;
                    }
                    (_, socket) => {
                        serve(&key, socket, bound.express_workers, &closed, None, workers)?;
                    }
                }
                Ok((address, held))
            });
            match served {
                Ok((bound, (held, group))) => {
                    let (name, carries, _) = &key;
                    tracing::info!(listener = name, ?carries, address = %bound, "listening");
                    self.open.insert(key, Open { bound, close, held, group, asker: None });
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
    asker: Option<&Asker>,
    workers: &Workers,
) -> io::Result<()> {
    let share = |kind, listener: &TcpListener| {
        workers.share(|| {
            Ok(Share {
                name: Arc::from(&**name),
                kind,
                socket: listener.try_clone()?,
                closed: closed.clone(),
                target: asker.and_then(|asker| asker.target.clone()),
                counted: asker
                    .filter(|asker| asker.target.is_none())
                    .map(|_| ports::COUNTED.into()),
            })
        })
    };
    match (carries, socket) {
        (Carries::Http, Socket::Tcp(listener)) => share(Kind::Http, &listener),
        (Carries::Https, Socket::Tcp(listener)) => share(Kind::Https, &listener),
        (Carries::Tcp, Socket::Tcp(listener)) => share(Kind::Tcp, &listener),
        (Carries::Tls, Socket::Tcp(listener)) => share(Kind::Tls, &listener),
        (_, Socket::Tcp(listener)) => workers.dns(DnsSocket::Tcp(listener, closed.clone())),
        (Carries::Udp, Socket::Udp(group)) => workers.share_udp(name, group, closed),
        (_, Socket::Udp(group)) => {
            workers.dns(DnsSocket::Udp(group, express_workers, closed.clone()))
        }
    }
}
