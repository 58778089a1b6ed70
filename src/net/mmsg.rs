//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, for which there is no safe form.
//!
//! [`Datagrams`] are small questions and the replies to them, [`Slots`] datagrams of any size on their
//! way through. Buffers are made once. Where a datagram came from, and which address it was sent to,
//! stay in the form in which the kernel told them, and go back to it with the reply: a socket that is
//! bound to a wildcard answers from the address that was asked (`IP_PKTINFO`, `IPV6_PKTINFO`, RFC 3542
//! §6).

mod batch;
mod slots;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_int, c_void, iovec, mmsghdr, msghdr};

pub use batch::{BATCH, Datagrams, QUERY_MAX};
pub use slots::Slots;

/// Bytes of the largest address, `sockaddr_in6`.
const NAME: usize = 28;
/// Bytes of the largest message about an address: head, `in6_pktinfo`, padding.
const CONTROL: usize = 40;
/// Bytes of a control message's head: a length, a level and a type.
const CONTROL_HEAD: usize = size_of::<usize>() + 8;

/// Where a datagram came from and which address it was sent to, as the kernel writes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Route {
    control: [u8; CONTROL],
    name: [u8; NAME],
    control_len: u8,
    name_len: u8,
}

impl Route {
    const NONE: Self = Self { control: [0; CONTROL], name: [0; NAME], control_len: 0, name_len: 0 };

    /// Who sent the datagram; none when that is no address of the Internet.
    pub fn peer(&self) -> Option<SocketAddr> {
        let name = self.name.get(..usize::from(self.name_len))?;
        let family = u16::from_ne_bytes(*name.first_chunk()?);
        let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
        if i32::from(family) == libc::AF_INET {
            let ip = Ipv4Addr::from(*name.get(4..)?.first_chunk::<4>()?);
            return Some(SocketAddr::from((ip, port)));
        }
        if i32::from(family) != libc::AF_INET6 {
            return None;
        }
        let ip = Ipv6Addr::from(*name.get(8..)?.first_chunk::<16>()?);
        let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
        Some(SocketAddrV6::new(ip, port, 0, scope).into())
    }

    /// The address that was asked, when the socket tells it.
    pub fn asked(&self) -> Option<IpAddr> {
        let data = self.control.get(CONTROL_HEAD..usize::from(self.control_len))?;
        match self.kind()? {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                Some(Ipv4Addr::from(*data.get(4..)?.first_chunk::<4>()?).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                Some(Ipv6Addr::from(*data.first_chunk::<16>()?).into())
            }
            _ => None,
        }
    }

    /// Level and type of the control message.
    fn kind(&self) -> Option<(c_int, c_int)> {
        let at = size_of::<usize>();
        let control = self.control.get(..usize::from(self.control_len))?;
        let level = c_int::from_ne_bytes(*control.get(at..)?.first_chunk()?);
        Some((level, c_int::from_ne_bytes(*control.get(at + 4..)?.first_chunk()?)))
    }

    /// The way for replies.
    #[must_use]
    pub fn back(&self) -> Self {
        let mut back = *self;
        back.turn();
        back
    }

    /// Makes what the kernel told the way for the reply: from the same address, over whichever
    /// interface leads to the client, but for link-local addresses, which mean nothing without one.
    fn turn(&mut self) {
        match self.kind() {
            // `ipi_ifindex` comes first.
            Some((libc::IPPROTO_IP, libc::IP_PKTINFO)) => {
                self.control[CONTROL_HEAD..CONTROL_HEAD + 4].fill(0);
            }
            // `ipi6_ifindex` comes behind the address.
            Some((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)) => {
                let local =
                    matches!(self.asked(), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local());
                if !local {
                    self.control[CONTROL_HEAD + 16..CONTROL_HEAD + 20].fill(0);
                }
            }
            _ => self.control_len = 0,
        }
    }
}

/// Sends one reply along `route` without waiting.
pub fn send_one(socket: &UdpSocket, route: &Route, reply: &mut [u8]) -> io::Result<()> {
    let mut route = *route;
    route.turn();
    let mut vector = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let mut head = empty_head();
    fill(&mut head.msg_hdr, &mut vector, &mut route, reply);
    send(socket, std::slice::from_mut(&mut head)).map(drop)
}

fn fill(head: &mut msghdr, vector: &mut iovec, route: &mut Route, reply: &mut [u8]) {
    *vector = iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: reply.len() };
    head.msg_name = route.name.as_mut_ptr().cast();
    head.msg_namelen = route.name_len.into();
    head.msg_iov = vector;
    head.msg_iovlen = 1;
    head.msg_control = match route.control_len {
        0 => ptr::null_mut(),
        _ => route.control.as_mut_ptr().cast(),
    };
    head.msg_controllen = route.control_len.into();
}

/// Room for one datagram, and for where it comes from.
fn make_room(head: &mut mmsghdr, vector: &mut iovec, bytes: &mut [u8], route: &mut Route) {
    *vector = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    head.msg_hdr.msg_name = route.name.as_mut_ptr().cast();
    head.msg_hdr.msg_namelen = NAME as u32;
    head.msg_hdr.msg_iov = vector;
    head.msg_hdr.msg_iovlen = 1;
    head.msg_hdr.msg_control = route.control.as_mut_ptr().cast();
    head.msg_hdr.msg_controllen = CONTROL as _;
}

/// Takes over what the kernel told of the datagram that came into this room; its length in bytes.
fn came(head: &mmsghdr, route: &mut Route) -> u16 {
    route.name_len = head.msg_hdr.msg_namelen.min(NAME as u32) as u8;
    route.control_len = head.msg_hdr.msg_controllen.min(CONTROL as _) as u8;
    // No datagram of UDP is longer.
    head.msg_len.min(u32::from(u16::MAX)) as u16
}

/// How many datagrams to make room for next time: twice as many where all of `room` was needed,
/// half where less than a quarter was.
fn next_room(room: usize, came: usize, least: usize, most: usize) -> usize {
    if came == room {
        (room * 2).min(most)
    } else if came < room / 4 {
        (room / 2).max(least)
    } else {
        room
    }
}

/// Sends all of them without waiting. Returns how many could not be sent, and why the last of them.
fn send_all(socket: &UdpSocket, mut heads: &mut [mmsghdr]) -> (usize, Option<io::Error>) {
    let mut failed = (0, None);
    while !heads.is_empty() {
        let sent = match send(socket, heads) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The first one could not go; those behind it may.
            Err(error) => {
                failed = (failed.0 + 1, Some(error));
                1
            }
        };
        heads = heads.get_mut(sent.max(1)..).unwrap_or_default();
    }
    failed
}

/// Makes a socket tell which address was asked, and lets the kernel neither fragment by what a
/// forged message says of the path nor refuse to send (RFC 9715 §3.1).
///
/// # Errors
/// The kernel does not tell addresses.
pub fn prepare(socket: &UdpSocket, ipv6: bool, wildcard: bool) -> io::Result<()> {
    /// `IP_PMTUDISC_OMIT` and its twin for IPv6 of linux/in.h and linux/in6.h.
    const OMIT: c_int = 5;
    let (level, discover) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    };
    // A kernel that does not know it fragments as it always did.
    let _ = set_option(socket, level, discover, OMIT);
    if wildcard { tell_asked(socket, ipv6) } else { Ok(()) }
}

/// Makes a socket tell which address was asked: one that is bound to a wildcard has to know. Of
/// datagrams that came before, the kernel does not know it any more.
///
/// # Errors
/// The kernel does not tell addresses.
pub fn tell_asked(socket: &impl AsRawFd, ipv6: bool) -> io::Result<()> {
    let (level, pktinfo) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    set_option(socket, level, pktinfo, 1)
}

#[allow(unsafe_code, reason = "the platform's own padding has no other initial value")]
fn empty_head() -> mmsghdr {
    // SAFETY: the structure holds integers and raw pointers; all of them may be zero.
    unsafe { std::mem::zeroed() }
}

#[allow(unsafe_code, reason = "recvmmsg has no safe form")]
fn receive(socket: &UdpSocket, heads: &mut [mmsghdr]) -> io::Result<usize> {
    let count = heads.len() as u32;
    // SAFETY: `heads` are `count` structures whose names, vectors and controls point into buffers
    // of the stated lengths, which the caller holds mutably while this call lasts; the kernel
    // writes nothing beyond those lengths. The timeout may be null. The descriptor is open.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            heads.as_mut_ptr(),
            count,
            libc::MSG_WAITFORONE,
            ptr::null_mut(),
        )
    };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

#[allow(unsafe_code, reason = "sendmmsg with an address to send from has no safe form")]
fn send(socket: &UdpSocket, heads: &mut [mmsghdr]) -> io::Result<usize> {
    let count = heads.len() as u32;
    // SAFETY: `heads` are `count` structures filled by `fill` from buffers that the caller holds
    // while this call lasts; the kernel reads the stated lengths and writes only `msg_len`. The
    // descriptor is open.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), heads.as_mut_ptr(), count, libc::MSG_DONTWAIT)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[allow(unsafe_code, reason = "these two options have no safe form in the libraries at hand")]
fn set_option(socket: &impl AsRawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let value: *const c_int = &raw const value;
    // SAFETY: `value` points to an integer of the stated length, which lives until the call is
    // over; the kernel only reads it. The descriptor is open.
    let done = unsafe {
        let length = size_of::<c_int>() as u32;
        libc::setsockopt(socket.as_raw_fd(), level, name, value.cast::<c_void>(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
