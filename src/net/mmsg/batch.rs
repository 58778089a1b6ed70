//! Questions of a bounded size and the replies to them, in batches.

use std::io;
use std::net::UdpSocket;
use std::ptr;

use libc::{iovec, mmsghdr};

use super::{Route, came, empty_head, fill, make_room, next_room, receive, send_all};

/// Most datagrams that are taken at a time.
pub const BATCH: usize = 64;
/// Datagrams that there is room for at least: where one comes alone, nothing is prepared for sixty.
const ROOM_MIN: usize = 4;
/// Longest query in bytes, as we tell clients by EDNS; a longer one is cut, and so FORMERR.
pub const QUERY_MAX: usize = 1232;
/// Bytes from one query to the next: whole cache lines, and no multiple of a page, so that the
/// heads of queries lie in different sets of the cache.
const STRIDE: usize = 1280;

/// Room for a batch: queries as they came, and the replies to them.
pub struct Datagrams {
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
    pub fn new(reply_max: usize) -> Self {
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
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        self.replies.clear();
        self.ends.clear();
        let slots = self.queries.chunks_exact_mut(STRIDE).zip(self.routes.iter_mut());
        let heads = self.heads.iter_mut().zip(self.vectors.iter_mut());
        for ((query, route), (head, vector)) in slots.zip(heads).take(self.room) {
            let query = query.get_mut(..QUERY_MAX).unwrap_or_default();
            make_room(head, vector, query, route);
        }
        let room = self.heads.get_mut(..self.room).unwrap_or_default();
        self.received = receive(socket, room)?;
        self.room = next_room(self.room, self.received, ROOM_MIN, BATCH);
        let told = self.heads.iter().zip(self.routes.iter_mut().zip(&mut self.lengths));
        for (head, (route, length)) in told.take(self.received) {
            *length = came(head, route);
        }
        Ok(self.received)
    }

    /// The query of an index below the number received.
    pub fn query(&self, index: usize) -> &[u8] {
        let length = self.lengths.get(index).map_or(0, |length| usize::from(*length));
        self.queries.get(index * STRIDE..index * STRIDE + length).unwrap_or_default()
    }

    /// Where that query came from.
    pub fn route(&self, index: usize) -> Route {
        self.routes.get(index).copied().unwrap_or(Route::NONE)
    }

    /// Puts a reply to that query into the batch; at most one to each.
    pub fn reply(&mut self, index: usize, reply: &[u8]) {
        if self.ends.len() < BATCH {
            self.replies.extend_from_slice(reply);
            self.ends.push((index, self.replies.len()));
        }
    }

    /// Sends all replies without waiting. Returns how many could not be sent, and why the last of
    /// them.
    pub fn send(&mut self, socket: &UdpSocket) -> (usize, Option<io::Error>) {
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
        send_all(socket, self.heads.get_mut(..self.ends.len()).unwrap_or_default())
    }
}

impl std::fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datagrams").field("received", &self.received).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::super::{prepare, send_one};
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
