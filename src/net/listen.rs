//! Binding sockets, so that an address may come later and a port is only held once.
//!
//! One socket per TCP port: workers share it by `dup`, which is also the form in which systemd and
//! an upgrade hand sockets over. (Of several `SO_REUSEPORT` listeners, closing one resets what waits
//! in its queue.) A UDP port has a group of sockets, which stays together as long as it lives.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::adopt::Adopted;
use super::mmsg::tell_asked;

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Receive buffer of a UDP socket, so that a burst waits in the kernel instead of being lost.
const UDP_RECEIVE_BUFFER: usize = 4 << 20;

/// A socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else holds the port.
    #[error(
        "cannot listen on {protocol} {address} for {setting}: it is in use; see who holds it with \
         `ss -lnp '( sport = :{port} )'`, then stop that or change {setting}",
        port = address.port()
    )]
    InUse {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        /// The setting that asks for it, as it is written in the configuration.
        setting: String,
    },
    /// The kernel said no.
    #[error("cannot listen on {protocol} {address} for {setting}: {source}")]
    Refused {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        /// The setting that asks for it.
        setting: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A listening TCP socket on `address`, adopted if `adopted` holds it, else bound. Non-blocking.
///
/// An address that this host does not have is bound all the same (`IP_FREEBIND`): it may come
/// later. IPv6 sockets take IPv6 only.
///
/// # Errors
/// The port is taken, or the kernel refuses; both name `setting`.
pub fn tcp(
    address: SocketAddr,
    setting: &str,
    adopted: &mut Adopted,
) -> Result<TcpListener, ListenError> {
    if let Some(listener) = adopted.take_tcp(address, setting) {
        return Ok(listener);
    }
    let open = || {
        let socket = open(address, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| refused("TCP", address, setting, source))
}

/// A UDP socket on `address`, adopted or bound as [`tcp`] does it. Non-blocking.
///
/// # Errors
/// The port is taken, or the kernel refuses; both name `setting`.
pub fn udp(
    address: SocketAddr,
    setting: &str,
    adopted: &mut Adopted,
) -> Result<UdpSocket, ListenError> {
    if let Some(socket) = adopted.take_udp(address, Some(setting)) {
        return Ok(socket);
    }
    let open = || {
        let socket = open(address, Type::DGRAM, Protocol::UDP)?;
        datagrams(&socket, address)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    open().map_err(|source| refused("UDP", address, setting, source))
}

/// The group of up to `size` sockets that `first`, a socket of [`udp`], begins: first those that
/// `adopted` holds for its address, all of them, then fresh ones beside it. The kernel shares out
/// datagrams among them by their sender (`SO_REUSEPORT`).
///
/// `first` was bound alone, so that a port that another process holds is never shared with it by
/// accident. Beside one that another process serves still, none is bound: it would get its share of the
/// datagrams from that moment on, and nobody may ever read them. Where the kernel refuses, as it does beside a socket that another user bound, the group
/// stays smaller.
pub fn group(first: UdpSocket, size: usize, adopted: &mut Adopted) -> Vec<UdpSocket> {
    let mut group = vec![first];
    let Some(address) = group.first().and_then(|first| first.local_addr().ok()) else {
        return group;
    };
    while let Some(socket) = adopted.take_udp(address, None) {
        group.push(socket);
    }
    while group.len() < size && !adopted.is_shared() {
        let join = || {
            for socket in &group {
                socket2::SockRef::from(socket).set_reuse_port(true)?;
            }
            let socket = open(address, Type::DGRAM, Protocol::UDP)?;
            socket.set_reuse_port(true)?;
            datagrams(&socket, address)?;
            socket.bind(&address.into())?;
            Ok::<UdpSocket, io::Error>(socket.into())
        };
        match join() {
            Ok(socket) => group.push(socket),
            Err(error) => {
                let size = group.len();
                tracing::debug!(%address, size, %error, "no more sockets beside these");
                break;
            }
        }
    }
    group
}

/// What has to be said of a UDP socket before the first datagram can come.
fn datagrams(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // A smaller buffer than asked for is no reason not to serve.
    let _ = socket.set_recv_buffer_size(UDP_RECEIVE_BUFFER);
    if address.ip().is_unspecified() {
        tell_asked(socket, address.is_ipv6())?;
    }
    Ok(())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    Ok(socket)
}

fn refused(
    protocol: &'static str,
    address: SocketAddr,
    setting: &str,
    source: io::Error,
) -> ListenError {
    let setting = setting.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { protocol, address, setting },
        _ => ListenError::Refused { protocol, address, setting, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::handover::Label;

    fn localhost() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_port_that_is_taken_is_refused_with_the_setting_that_moves_it() {
        let first = tcp(localhost(), "[listener.web.http] bind", &mut Adopted::none()).unwrap();
        let address = first.local_addr().unwrap();
        let error = tcp(address, "[listener.api.http] bind", &mut Adopted::none()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("is in use") && text.contains("change [listener.api.http] bind"));
        assert!(text.contains(&format!("sport = :{}", address.port())), "{text}");
    }

    #[test]
    fn an_address_that_this_host_does_not_have_is_bound_all_the_same() {
        let later = SocketAddr::from(([192, 0, 2, 77], 0));
        assert!(tcp(later, "test", &mut Adopted::none()).is_ok());
        assert!(udp(later, "test", &mut Adopted::none()).is_ok());
    }

    #[test]
    fn a_group_shares_its_port_with_itself_and_with_nobody_else() {
        let first = udp(localhost(), "test", &mut Adopted::none()).unwrap();
        let address = first.local_addr().unwrap();
        let whole = group(first, 3, &mut Adopted::none());
        assert_eq!(whole.len(), 3);
        assert!(whole.iter().all(|socket| socket.local_addr().unwrap() == address));
        let error = udp(address, "test", &mut Adopted::none()).unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        // Handed over, all of it is taken, though it is larger than what is asked for.
        let mut adopted = Adopted::of(whole.into_iter().map(Into::into).collect());
        let first = udp(address, "test", &mut adopted).unwrap();
        assert_eq!(group(first, 2, &mut adopted).len(), 3);
        assert_eq!(adopted.left(), 0);
    }

    #[test]
    fn beside_a_group_that_another_process_reads_nothing_is_bound() {
        let first = udp(localhost(), "[dns] listen", &mut Adopted::none()).unwrap();
        let address = first.local_addr().unwrap();
        let mut adopted = Adopted::shared();
        for socket in group(first, 2, &mut Adopted::none()) {
            let label = Label { setting: "[dns] listen".to_owned(), asked: Some(localhost()) };
            adopted.add(label, socket.into());
        }
        // Port 0 is the port that it became.
        let first = udp(localhost(), "[dns] listen", &mut adopted).unwrap();
        assert_eq!(first.local_addr().unwrap(), address);
        assert_eq!(group(first, 4, &mut adopted).len(), 2);
    }

    #[test]
    fn a_wildcard_knows_the_address_that_was_asked_from_its_first_datagram_on() {
        let wildcard = SocketAddr::from(([0, 0, 0, 0], 0));
        let first = udp(wildcard, "test", &mut Adopted::none()).unwrap();
        let port = first.local_addr().unwrap().port();
        let client = UdpSocket::bind(localhost()).unwrap();
        client.send_to(b"hello", SocketAddr::from(([127, 0, 0, 2], port))).unwrap();
        let mut slots = crate::net::mmsg::Slots::default();
        assert_eq!(slots.receive(&first).unwrap().0, 1);
        assert_eq!(slots.route(0).asked(), Some([127, 0, 0, 2].into()));
    }

    #[test]
    fn an_adopted_socket_is_used_instead_of_a_new_one() {
        let held = tcp(localhost(), "test", &mut Adopted::none()).unwrap();
        let address = held.local_addr().unwrap();
        let mut adopted = Adopted::of(vec![held.into()]);
        let taken = tcp(address, "test", &mut adopted).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        assert!(tcp(address, "test", &mut adopted).is_err(), "a socket is adopted only once");
    }
}
