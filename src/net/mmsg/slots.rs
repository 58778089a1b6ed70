//! Datagrams of any size on their way through: taken from one socket in a batch, and sent on.

use std::io;
use std::net::UdpSocket;
use std::ops::Range;
use std::ptr;

use libc::{iovec, mmsghdr};
use rustix::net::{RecvFlags, SendFlags};

use super::{Route, came, empty_head, fill, make_room, next_room, receive, send, send_all};

/// Most datagrams that are on their way at a time.
const SLOTS: usize = 64;
/// Longest datagram: no payload of UDP is longer (RFC 768), so that nothing is ever cut.
const LONGEST: usize = 65_535;
/// Bytes from one slot to the next: no multiple of a page, so that the heads of datagrams lie in
/// different sets of the cache. Pages that no datagram was long enough for are never touched.
const STRIDE: usize = 65_536 + 320;
/// Datagrams that there is room for at least, where clients are listened to.
const ROOM_MIN: usize = 4;

/// Room for a batch of datagrams and the ways that they came, or go. One for each thread.
pub struct Slots {
    bytes: Box<[u8]>,
    routes: Box<[Route]>,
    lengths: [u16; SLOTS],
    filled: usize,
    /// How many are taken from clients next time: twice as many as last time when that was not enough.
    room: usize,
    vectors: Box<[iovec]>,
    heads: Box<[mmsghdr]>,
}

impl Default for Slots {
    fn default() -> Self {
        let vector = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            bytes: vec![0; SLOTS * STRIDE].into(),
            routes: vec![Route::NONE; SLOTS].into(),
            lengths: [0; SLOTS],
            filled: 0,
            room: ROOM_MIN,
            vectors: vec![vector; SLOTS].into(),
            heads: (0..SLOTS).map(|_| empty_head()).collect(),
        }
    }
}

impl Slots {
    /// Takes what waits at a socket of ours, as much as there is room for, without waiting for more;
    /// what was here before is gone. How many came, and whether there may be others.
    ///
    /// # Errors
    /// What the kernel says; nothing there is `WouldBlock`. The socket must not block.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<(usize, bool)> {
        self.filled = 0;
        let slots = self.bytes.chunks_exact_mut(STRIDE).zip(self.routes.iter_mut());
        let heads = self.heads.iter_mut().zip(self.vectors.iter_mut());
        for ((bytes, route), (head, vector)) in slots.zip(heads).take(self.room) {
            make_room(head, vector, bytes.get_mut(..LONGEST).unwrap_or_default(), route);
        }
        let room = self.room;
        let count = receive(socket, self.heads.get_mut(..room).unwrap_or_default())?;
        self.room = next_room(room, count, ROOM_MIN, SLOTS);
        let told = self.heads.iter().zip(self.routes.iter_mut().zip(&mut self.lengths));
        for (head, (route, length)) in told.take(count) {
            *length = came(head, route);
        }
        self.filled = count;
        Ok((count, count == room))
    }

    /// Takes up to `most` datagrams from a connected socket, behind those that are here, to be sent
    /// along `route`; how many came. None do when there is no [`Slots::free`] place.
    ///
    /// # Errors
    /// What the kernel says; nothing there is `WouldBlock`. The socket must not block.
    pub fn receive_along(
        &mut self,
        socket: &UdpSocket,
        most: usize,
        route: &Route,
    ) -> io::Result<usize> {
        let first = self.filled;
        let last = (first + most).min(SLOTS);
        let count = if last == first + 1 {
            let bytes = self.bytes.get_mut(first * STRIDE..first * STRIDE + LONGEST);
            let (length, _) =
                rustix::net::recv(socket, bytes.unwrap_or_default(), RecvFlags::DONTWAIT)?;
            self.lengths[first] = length as u16;
            1
        } else {
            self.receive_several(socket, first..last)?
        };
        self.filled += count;
        self.routes[first..first + count].fill(*route);
        Ok(count)
    }

    fn receive_several(&mut self, socket: &UdpSocket, range: Range<usize>) -> io::Result<usize> {
        let slots = self.bytes.chunks_exact_mut(STRIDE).skip(range.start);
        let ways = self.heads.iter_mut().zip(self.vectors.iter_mut());
        for (bytes, (head, vector)) in slots.zip(ways.skip(range.start)).take(range.len()) {
            *vector = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: LONGEST };
            without_name(head, vector);
        }
        let first = range.start;
        let heads = self.heads.get_mut(range).unwrap_or_default();
        if heads.is_empty() {
            return Ok(0);
        }
        let count = receive(socket, heads)?;
        for (head, length) in heads.iter().zip(&mut self.lengths[first..]).take(count) {
            *length = head.msg_len.min(LONGEST as u32) as u16;
        }
        Ok(count)
    }

    /// What is here is gone.
    pub const fn clear(&mut self) {
        self.filled = 0;
    }

    /// How many more there is room for.
    #[must_use]
    pub const fn free(&self) -> usize {
        SLOTS - self.filled
    }

    /// How many are here.
    #[must_use]
    pub const fn filled(&self) -> usize {
        self.filled
    }

    /// Whether none is here.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Length of a datagram whose index is below the number received.
    #[must_use]
    pub fn length(&self, index: usize) -> usize {
        self.lengths.get(index).map_or(0, |length| usize::from(*length))
    }

    /// How that one came, or goes.
    #[must_use]
    pub fn route(&self, index: usize) -> &Route {
        self.routes.get(index).unwrap_or(const { &Route::NONE })
    }

    /// Sends all that are here along their ways without waiting, and is empty then. Returns how many
    /// could not be sent, and why the last of them.
    pub fn send(&mut self, socket: &UdpSocket) -> (usize, Option<io::Error>) {
        let count = std::mem::take(&mut self.filled);
        let slots = self.bytes.chunks_exact_mut(STRIDE).zip(self.routes.iter_mut());
        let ways = self.heads.iter_mut().zip(self.vectors.iter_mut()).zip(&self.lengths);
        for ((bytes, route), ((head, vector), length)) in slots.zip(ways).take(count) {
            let bytes = bytes.get_mut(..usize::from(*length)).unwrap_or_default();
            fill(&mut head.msg_hdr, vector, route, bytes);
        }
        send_all(socket, self.heads.get_mut(..count).unwrap_or_default())
    }

    /// Sends those with an index in `range` to whom a socket is connected to, without waiting, up to
    /// the first one that could not be sent. Returns how many went, and why no more.
    pub fn send_on(
        &mut self,
        socket: &UdpSocket,
        range: Range<usize>,
    ) -> (usize, Option<io::Error>) {
        if range.len() == 1 {
            let start = range.start * STRIDE;
            let bytes = self.bytes.get(start..start + self.length(range.start));
            let sent = rustix::net::send(socket, bytes.unwrap_or_default(), SendFlags::DONTWAIT);
            return match sent {
                Ok(_) => (1, None),
                Err(error) => (0, Some(error.into())),
            };
        }
        let slots = self.bytes.chunks_exact_mut(STRIDE).zip(&self.lengths).skip(range.start);
        let ways = self.heads.iter_mut().zip(self.vectors.iter_mut()).skip(range.start);
        for ((bytes, length), (head, vector)) in slots.zip(ways).take(range.len()) {
            *vector = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: usize::from(*length) };
            without_name(head, vector);
        }
        let mut gone = 0;
        let mut heads = self.heads.get_mut(range).unwrap_or_default();
        while !heads.is_empty() {
            match send(socket, heads) {
                Ok(sent) => {
                    gone += sent;
                    heads = heads.get_mut(sent.max(1)..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (gone, Some(error)),
            }
        }
        (gone, None)
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").field("filled", &self.filled).finish_non_exhaustive()
    }
}

/// For sockets that are connected.
fn without_name(head: &mut mmsghdr, vector: &mut iovec) {
    head.msg_hdr.msg_name = ptr::null_mut();
    head.msg_hdr.msg_namelen = 0;
    head.msg_hdr.msg_iov = vector;
    head.msg_hdr.msg_iovlen = 1;
    head.msg_hdr.msg_control = ptr::null_mut();
    head.msg_hdr.msg_controllen = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets that are connected to each other.
    fn pair() -> (UdpSocket, UdpSocket) {
        let (a, b) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        a.connect(b.local_addr().unwrap()).unwrap();
        b.connect(a.local_addr().unwrap()).unwrap();
        b.set_nonblocking(true).unwrap();
        (a, b)
    }

    /// What a socket has got: loopback delivers before `send` returns.
    fn got(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = vec![0; 70_000];
        let length = socket.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn datagrams_of_every_size_go_through_whole_one_by_one_and_several_at_once() {
        let sizes = [0, 1, 1472, 9000, 65_507];
        for several in [false, true] {
            let (client, inside) = pair();
            let (out, endpoint) = pair();
            let mut slots = Slots::default();
            for size in sizes {
                client.send(&vec![size as u8; size]).unwrap();
                if !several {
                    assert_eq!(slots.receive(&inside).unwrap(), (1, false));
                    assert_eq!(slots.length(0), size);
                    assert_eq!(slots.route(0).peer(), Some(client.local_addr().unwrap()));
                    let (sent, error) = slots.send_on(&out, 0..1);
                    assert_eq!(sent, 1, "{error:?}");
                    assert_eq!(got(&endpoint), vec![size as u8; size]);
                }
            }
            if several {
                // Four are taken at first, and it is known that there are more.
                assert_eq!(slots.receive(&inside).unwrap(), (4, true));
                let (sent, error) = slots.send_on(&out, 0..4);
                assert_eq!(sent, 4, "{error:?}");
                assert_eq!(slots.receive(&inside).unwrap(), (1, false));
                assert_eq!(slots.send_on(&out, 0..1).0, 1);
                for size in sizes {
                    assert_eq!(got(&endpoint), vec![size as u8; size]);
                }
            }
        }
    }

    #[test]
    fn what_endpoints_say_is_gathered_behind_each_other_and_each_goes_its_own_way() {
        let listening = UdpSocket::bind("127.0.0.1:0").unwrap();
        listening.set_nonblocking(true).unwrap();
        let clients: Vec<UdpSocket> = (0..2)
            .map(|_| {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.connect(listening.local_addr().unwrap()).unwrap();
                client
            })
            .collect();
        let mut slots = Slots::default();
        let mut ways = Vec::new();
        for client in &clients {
            client.send(b"hello").unwrap();
            assert_eq!(slots.receive(&listening).unwrap().0, 1);
            ways.push(slots.route(0).back());
        }
        let (endpoint, leg) = pair();
        let mut slots = Slots::default();
        for word in [&b"one"[..], b"two", b"three", b"four"] {
            endpoint.send(word).unwrap();
        }
        assert_eq!(slots.receive_along(&leg, 1, &ways[1]).unwrap(), 1);
        assert_eq!(slots.receive_along(&leg, 2, &ways[0]).unwrap(), 2);
        assert_eq!(slots.receive_along(&leg, 9, &ways[1]).unwrap(), 1);
        let nothing = slots.receive_along(&leg, 1, &ways[0]).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
        assert_eq!(slots.free(), SLOTS - 4);
        let (failed, error) = slots.send(&listening);
        assert_eq!(failed, 0, "{error:?}");
        assert!(slots.is_empty());
        assert_eq!((got(&clients[0]), got(&clients[0])), (b"two".into(), b"three".into()));
        assert_eq!((got(&clients[1]), got(&clients[1])), (b"one".into(), b"four".into()));
    }

    #[test]
    fn a_refusal_stops_a_run_where_it_is_and_the_rest_may_go_another_way() {
        let (client, inside) = pair();
        let (leg, gone) = pair();
        drop(gone);
        for _ in 0..3 {
            client.send(b"x").unwrap();
        }
        let mut slots = Slots::default();
        assert_eq!(slots.receive(&inside).unwrap().0, 3);
        assert_eq!(slots.send_on(&leg, 0..1).0, 1, "nobody has said no yet");
        let (sent, error) = slots.send_on(&leg, 1..3);
        assert_eq!((sent, error.unwrap().kind()), (0, io::ErrorKind::ConnectionRefused));
    }
}
