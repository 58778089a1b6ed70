//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, for which there is no safe form.
//!
//! Buffers are made once. Where a datagram came from, and which address it was sent to, stay in the
//! form in which the kernel told them, and go back to it with the reply: a socket that is bound to a
//! wildcard answers from the address that was asked (`IP_PKTINFO`, `IPV6_PKTINFO`, RFC 3542 §6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_int, c_void, iovec, mmsghdr, msghdr};

/// Most datagrams that are taken at a time.
pub(super) const BATCH: usize = 64;
/// Datagrams that there is room for at least: where one comes alone, nothing is prepared for sixty.
const ROOM_MIN: usize = 4;
/// Longest query in bytes, as we tell clients by EDNS; a longer one is cut, and so FORMERR.
pub(super) const QUERY_MAX: usize = 1232;
/// Bytes from one query to the next: whole cache lines, and no multiple of a page, so that the
/// heads of queries lie in different sets of the cache.
const STRIDE: usize = 1280;
/// Bytes of the largest address, `sockaddr_in6`.
const NAME: usize = 28;
/// Bytes of the largest message about an address: head, `in6_pktinfo`, padding.
const CONTROL: usize = 40;
/// Bytes of a control message's head: a length, a level and a type.
const CONTROL_HEAD: usize = size_of::<usize>() + 8;

/// Where a datagram came from and which address it was sent to, as the kernel writes both.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Route {
    control: [u8; CONTROL],
    name: [u8; NAME],
    control_len: u8,
    name_len: u8,
}

impl Route {
    const NONE: Self = Self { control: [0; CONTROL], name: [0; NAME], control_len: 0, name_len: 0 };

    /// Who sent the datagram; none when that is no address of the Internet.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
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
    pub(super) fn asked(&self) -> Option<IpAddr> {
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

/// Room for a batch: queries as they came, and the replies to them.
pub(super) struct Datagrams {
    queries: Box<[u8]>,
    routes: Box<[Route]>,
    lengths: [u16; BATCH],
    received: usize,
    /// How many are taken next time: twice as many as last time when that was not enough.
    room: usize,
    /// Replies, one behind the other.
    replies: Vec<u8>,
    /// Of each reply, which query it belongs to and where it ends.
    ends: Vec<(usize, usize)>,
    vectors: Box<[iovec]>,
    heads: Box<[mmsghdr]>,
}

impl Datagrams {
    /// Room for replies of up to `reply_max` bytes each.
    pub(super) fn new(reply_max: usize) -> Self {
        let vector = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            queries: vec![0; BATCH * STRIDE].into(),
            routes: vec![Route::NONE; BATCH].into(),
            lengths: [0; BATCH],
            received: 0,
            room: ROOM_MIN,
            replies: Vec::with_capacity(BATCH * reply_max),
            ends: Vec::with_capacity(BATCH),
            vectors: vec![vector; BATCH].into(),
            heads: (0..BATCH).map(|_| empty_head()).collect(),
        }
    }

    /// Waits for a datagram, as long as the socket's read timeout says, and takes those that are
    /// there, as many as there is room for. What was received and written before is gone.
    ///
    /// # Errors
    /// What the kernel says; a timeout is `WouldBlock`.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        self.replies.clear();
        self.ends.clear();
        let slots = self.queries.chunks_exact_mut(STRIDE).zip(self.routes.iter_mut());
        let heads = self.heads.iter_mut().zip(self.vectors.iter_mut());
        for ((query, route), (head, vector)) in slots.zip(heads).take(self.room) {
            *vector = iovec { iov_base: query.as_mut_ptr().cast(), iov_len: QUERY_MAX };
            head.msg_hdr.msg_name = route.name.as_mut_ptr().cast();
            head.msg_hdr.msg_namelen = NAME as u32;
            head.msg_hdr.msg_iov = vector;
            head.msg_hdr.msg_iovlen = 1;
            head.msg_hdr.msg_control = route.control.as_mut_ptr().cast();
            head.msg_hdr.msg_controllen = CONTROL as _;
        }
        let room = self.heads.get_mut(..self.room).unwrap_or_default();
        self.received = receive(socket, room)?;
        if self.received == self.room {
            self.room = (self.room * 2).min(BATCH);
        } else if self.received < self.room / 4 {
            self.room = (self.room / 2).max(ROOM_MIN);
        }
        let told = self.heads.iter().zip(self.routes.iter_mut().zip(&mut self.lengths));
        for (head, (route, length)) in told.take(self.received) {
            route.name_len = head.msg_hdr.msg_namelen.min(NAME as u32) as u8;
            route.control_len = head.msg_hdr.msg_controllen.min(CONTROL as _) as u8;
            *length = head.msg_len.min(QUERY_MAX as u32) as u16;
        }
        Ok(self.received)
    }

    /// The query of an index below the number received.
    pub(super) fn query(&self, index: usize) -> &[u8] {
        let length = self.lengths.get(index).map_or(0, |length| usize::from(*length));
        self.queries.get(index * STRIDE..index * STRIDE + length).unwrap_or_default()
    }

    /// Where that query came from.
    pub(super) fn route(&self, index: usize) -> Route {
        self.routes.get(index).copied().unwrap_or(Route::NONE)
    }

    /// Puts a reply to that query into the batch; at most one to each.
    pub(super) fn reply(&mut self, index: usize, reply: &[u8]) {
        if self.ends.len() < BATCH {
            self.replies.extend_from_slice(reply);
            self.ends.push((index, self.replies.len()));
        }
    }

    /// Sends all replies without waiting. Returns how many could not be sent, and why the last of
    /// them.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> (usize, Option<io::Error>) {
        let mut start = 0;
        let ways = self.heads.iter_mut().zip(self.vectors.iter_mut());
        for (&(index, end), (head, vector)) in self.ends.iter().zip(ways) {
            let Some((route, reply)) =
                self.routes.get_mut(index).zip(self.replies.get_mut(start..end))
            else {
                break;
            };
            start = end;
            route.turn();
            fill(&mut head.msg_hdr, vector, route, reply);
        }
        let mut failed = (0, None);
        let mut heads = self.heads.get_mut(..self.ends.len()).unwrap_or_default();
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
}

impl std::fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datagrams").field("received", &self.received).finish_non_exhaustive()
    }
}

/// Sends one reply along `route` without waiting.
pub(super) fn send_one(socket: &UdpSocket, route: &Route, reply: &mut [u8]) -> io::Result<()> {
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

/// Makes a socket tell which address was asked, and lets the kernel neither fragment by what a
/// forged message says of the path nor refuse to send (RFC 9715 §3.1).
///
/// # Errors
/// The kernel does not tell addresses.
pub(super) fn prepare(socket: &UdpSocket, ipv6: bool, wildcard: bool) -> io::Result<()> {
    /// `IP_PMTUDISC_OMIT` and its twin for IPv6 of linux/in.h and linux/in6.h.
    const OMIT: c_int = 5;
    let (level, discover, pktinfo) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PKTINFO)
    };
    // A kernel that does not know it fragments as it always did.
    let _ = set_option(socket, level, discover, OMIT);
    if wildcard { set_option(socket, level, pktinfo, 1) } else { Ok(()) }
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
fn set_option(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let value: *const c_int = &raw const value;
    // SAFETY: `value` points to an integer of the stated length, which lives until the call is
    // over; the kernel only reads it. The descriptor is open.
    let done = unsafe {
        let length = size_of::<c_int>() as u32;
        libc::setsockopt(socket.as_raw_fd(), level, name, value.cast::<c_void>(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bound(address: &str, wildcard: bool) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        prepare(&socket, address.starts_with('['), wildcard).unwrap();
        socket
    }

    #[test]
    fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
        for (wildcard, asked) in
            [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")]
        {
            let socket = bound(wildcard, true);
            let port = socket.local_addr().unwrap().port();
            let from = if asked == "::1" { "[::1]:0" } else { "127.0.0.5:0" };
            let client = bound(from, false);
            let asked: IpAddr = asked.parse().unwrap();
            client.connect((asked, port)).unwrap();
            let mut batch = Datagrams::new(512);
            for single in [false, true] {
                client.send(b"question").unwrap();
                assert_eq!(batch.receive(&socket).unwrap(), 1);
                assert_eq!(batch.query(0), b"question");
                let route = batch.route(0);
                assert_eq!(route.asked(), Some(asked));
                assert_eq!(route.peer(), Some(client.local_addr().unwrap()));
                if single {
                    send_one(&socket, &route, &mut b"answer".to_owned()).unwrap();
                } else {
                    batch.reply(0, b"answer");
                    let (failed, error) = batch.send(&socket);
                    assert_eq!(failed, 0, "{error:?}");
                }
                // A connected socket takes nothing from another address.
                let mut buffer = [0; 64];
                assert_eq!(client.recv(&mut buffer).unwrap(), 6, "{wildcard} {asked}");
                assert_eq!(&buffer[..6], b"answer");
            }
        }
    }

    #[test]
    fn a_batch_is_answered_in_one_go_and_what_was_not_answered_is_left_out() {
        let socket = bound("127.0.0.1:0", false);
        let client = bound("127.0.0.1:0", false);
        client.connect(socket.local_addr().unwrap()).unwrap();
        let mut batch = Datagrams::new(512);
        for n in 0..10u8 {
            client.send(&[n; 20]).unwrap();
        }
        client.send(&[7; 2000]).unwrap();
        let mut seen = 0;
        while seen < 11 {
            let count = batch.receive(&socket).unwrap();
            for index in 0..count {
                let query = batch.query(index).to_vec();
                if seen + index == 10 {
                    assert_eq!(query, [7; QUERY_MAX], "cut");
                } else if query[0].is_multiple_of(2) {
                    batch.reply(index, &query[..1]);
                }
            }
            assert_eq!(batch.send(&socket).0, 0);
            seen += count;
        }
        for n in [0, 2, 4, 6, 8] {
            let mut buffer = [0; 64];
            assert_eq!(client.recv(&mut buffer).unwrap(), 1);
            assert_eq!(buffer[0], n);
        }
    }

    #[test]
    fn the_room_for_a_batch_follows_what_comes() {
        let socket = bound("127.0.0.1:0", false);
        let client = bound("127.0.0.1:0", false);
        client.connect(socket.local_addr().unwrap()).unwrap();
        let mut batch = Datagrams::new(512);
        let take = |batch: &mut Datagrams, count: usize| {
            for _ in 0..count {
                client.send(b"a").unwrap();
            }
            let mut taken = Vec::new();
            while taken.iter().sum::<usize>() < count {
                taken.push(batch.receive(&socket).unwrap());
            }
            taken
        };
        assert_eq!(take(&mut batch, 124), [4, 8, 16, 32, 64]);
        assert_eq!(take(&mut batch, 130), [64, 64, 2]);
        for _ in 0..8 {
            take(&mut batch, 1);
        }
        assert_eq!(batch.room, ROOM_MIN);
    }

    #[test]
    fn a_reply_that_cannot_be_sent_costs_only_itself() {
        let socket = bound("127.0.0.1:0", false);
        let client = bound("127.0.0.1:0", false);
        client.connect(socket.local_addr().unwrap()).unwrap();
        let mut batch = Datagrams::new(70_000);
        client.send(b"a").unwrap();
        client.send(b"b").unwrap();
        while batch.received < 2 {
            // Both are in the queue; the second may be a moment late.
            batch.receive(&socket).unwrap();
            if batch.received < 2 {
                client.send(b"a").unwrap();
                client.send(b"b").unwrap();
            }
        }
        batch.reply(0, &vec![0; 66_000]);
        batch.reply(1, b"short");
        let (failed, error) = batch.send(&socket);
        assert_eq!((failed, error.is_some()), (1, true));
        let mut buffer = [0; 64];
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
    }
}
