//! The bytes of ZooKeeper's protocol, as far as reading a leader needs it. Pure.
//!
//! Every packet is a length of four bytes and so many bytes; numbers are big endian; texts and
//! buffers have a length of their own, -1 for none. Behind the handshake, a request is a number, a
//! kind and its fields; a reply has that number, the transaction it was answered at, and an error.

use thiserror::Error;

/// Most bytes of a packet; ZooKeeper itself keeps to 1 MiB.
pub(super) const PACKET_MAX: usize = 4 << 20;
/// Numbers of packets that answer no request.
pub(super) const XID_EVENT: i32 = -1;
pub(super) const XID_PING: i32 = -2;
/// Errors that mean something here.
pub(super) const NO_NODE: i32 = -101;

const EXISTS: i32 = 3;
const GET_DATA: i32 = 4;
const GET_CHILDREN: i32 = 8;
const PING: i32 = 11;
/// Length of the password of a session that has none yet.
const PASSWORD: usize = 16;

/// Why bytes are no packet of ZooKeeper.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Garbled {
    /// They end too early.
    #[error("a packet that ends too early")]
    Short,
    /// A length that nothing has.
    #[error("a packet with a length of {0}")]
    Length(i32),
    /// A text that is no UTF-8.
    #[error("a text that is no UTF-8")]
    Text,
}

/// What a server keeps for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: i64,
    pub(super) password: Vec<u8>,
}

impl Session {
    /// The one to ask for when there is none.
    pub(super) fn none() -> Self {
        Self { id: 0, password: vec![0; PASSWORD] }
    }
}

/// Answer to the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connected {
    /// Milliseconds; 0 or less when the session has expired.
    pub(super) timeout: i32,
    pub(super) session: Session,
}

/// A reply, or an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) xid: i32,
    pub(super) zxid: i64,
    pub(super) error: i32,
    pub(super) body: &'a [u8],
}

/// The handshake: last transaction seen, wanted timeout in milliseconds, the session to go on with.
pub(super) fn connect(zxid: i64, timeout: i32, session: &Session) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.int(0).long(zxid).int(timeout).long(session.id).buffer(&session.password);
    // A server that has lost the others may answer too: it is told who led last.
    packet.0.push(1);
    packet.done()
}

/// Whether there is something at `path`; the next change of that is told.
pub(super) fn exists(xid: i32, path: &str) -> Vec<u8> {
    request(xid, EXISTS, path, true)
}

/// What is below `path`; the next change of that is told.
pub(super) fn children(xid: i32, path: &str) -> Vec<u8> {
    request(xid, GET_CHILDREN, path, true)
}

/// What stands at `path`.
pub(super) fn data(xid: i32, path: &str) -> Vec<u8> {
    request(xid, GET_DATA, path, false)
}

/// A sign of life.
pub(super) fn ping() -> Vec<u8> {
    let mut packet = Packet::new();
    packet.int(XID_PING).int(PING);
    packet.done()
}

fn request(xid: i32, kind: i32, path: &str, watch: bool) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.int(xid).int(kind).buffer(path.as_bytes());
    packet.0.push(u8::from(watch));
    packet.done()
}

/// Reads the answer to the handshake.
pub(super) fn connected(packet: &[u8]) -> Result<Connected, Garbled> {
    let mut read = Bytes(packet);
    read.int()?;
    let timeout = read.int()?;
    let id = read.long()?;
    let password = read.buffer()?.unwrap_or_default().to_vec();
    Ok(Connected { timeout, session: Session { id, password } })
}

/// Reads the head of a reply.
pub(super) fn reply(packet: &[u8]) -> Result<Reply<'_>, Garbled> {
    let mut read = Bytes(packet);
    let (xid, zxid, error) = (read.int()?, read.long()?, read.int()?);
    Ok(Reply { xid, zxid, error, body: read.0 })
}

/// Reads the names of a reply to [`children`].
pub(super) fn names(body: &[u8]) -> Result<Vec<String>, Garbled> {
    let mut read = Bytes(body);
    let count = read.int()?;
    // The list itself bounds what is kept: each name has four bytes at least.
    let count = usize::try_from(count.max(0)).map_err(|_| Garbled::Length(count))?;
    let mut names = Vec::new();
    for _ in 0..count {
        let name = read.buffer()?.unwrap_or_default();
        names.push(std::str::from_utf8(name).map_err(|_| Garbled::Text)?.to_owned());
    }
    Ok(names)
}

/// Reads the text of a reply to [`data`].
pub(super) fn text(body: &[u8]) -> Result<String, Garbled> {
    let data = Bytes(body).buffer()?.unwrap_or_default();
    Ok(std::str::from_utf8(data).map_err(|_| Garbled::Text)?.to_owned())
}

/// A packet that is being written; its first four bytes are its length.
struct Packet(Vec<u8>);

impl Packet {
    fn new() -> Self {
        Self(vec![0; 4])
    }

    fn int(&mut self, value: i32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn long(&mut self, value: i64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn buffer(&mut self, bytes: &[u8]) -> &mut Self {
        // Paths and passwords: far below the largest length.
        self.int(i32::try_from(bytes.len()).unwrap_or(0));
        self.0.extend_from_slice(bytes);
        self
    }

    fn done(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(0).to_be_bytes();
        self.0[..4].copy_from_slice(&length);
        self.0
    }
}

/// Bytes that are yet to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn int(&mut self) -> Result<i32, Garbled> {
        let (now, rest) = self.0.split_first_chunk().ok_or(Garbled::Short)?;
        self.0 = rest;
        Ok(i32::from_be_bytes(*now))
    }

    fn long(&mut self) -> Result<i64, Garbled> {
        let (now, rest) = self.0.split_first_chunk().ok_or(Garbled::Short)?;
        self.0 = rest;
        Ok(i64::from_be_bytes(*now))
    }

    fn buffer(&mut self) -> Result<Option<&'a [u8]>, Garbled> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Garbled::Length(length))?;
        let (now, rest) = self.0.split_at_checked(length).ok_or(Garbled::Short)?;
        self.0 = rest;
        Ok(Some(now))
    }
}

/// Who leads among the children of Marathon's two places for elections, best first: the name that
/// is lowest where it counts. `_c_UUID-latch-0000000007` counts by what follows the last dash;
/// `member_0000000007` as it is, since `member_-00000000` is there to come first.
pub(super) fn by_turn(mut names: Vec<String>) -> Vec<String> {
    let latch = |name: &String| name.rsplit_once("latch-").map(|(_, turn)| turn.to_owned());
    names.retain(|name| name.starts_with("member_") || latch(name).is_some());
    names.sort_by_cached_key(|name| latch(name).unwrap_or_else(|| name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_are_written_as_zookeeper_reads_them() {
        assert_eq!(ping(), [0, 0, 0, 8, 255, 255, 255, 254, 0, 0, 0, 11]);
        let want = [0, 0, 0, 15, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 2, b'/', b'm', 1];
        assert_eq!(children(7, "/m"), want);
        assert_eq!(exists(7, "/m")[11], 3);
        assert_eq!((data(7, "/m")[11], *data(7, "/m").last().unwrap()), (4, 0));
        let hello = connect(5, 10_000, &Session::none());
        assert_eq!((hello.len(), &hello[..8]), (49, &[0, 0, 0, 45, 0, 0, 0, 0][..]));
        assert_eq!(hello[15], 5, "the last transaction");
        assert_eq!(&hello[16..20], &10_000_i32.to_be_bytes());
    }

    #[test]
    fn answers_are_read_and_what_is_cut_is_told() {
        let mut hello = Packet::new();
        hello.int(0).int(4000).long(77).buffer(b"secret").0.push(0);
        let hello = hello.done();
        let want =
            Connected { timeout: 4000, session: Session { id: 77, password: b"secret".into() } };
        assert_eq!(connected(&hello[4..]).unwrap(), want);
        let mut answer = Packet::new();
        answer.int(3).long(99).int(0).int(2).buffer(b"a").buffer(b"b");
        let answer = answer.done();
        let read = reply(&answer[4..]).unwrap();
        assert_eq!((read.xid, read.zxid, read.error), (3, 99, 0));
        assert_eq!(names(read.body).unwrap(), ["a", "b"]);
        for cut in 0..read.body.len() {
            assert_eq!(names(&read.body[..cut]), Err(Garbled::Short), "{cut}");
        }
        assert_eq!(text(&[255, 255, 255, 255]).unwrap(), "");
        assert_eq!(text(&[255, 255, 255, 254]), Err(Garbled::Length(-2)));
        assert_eq!(text(&[0, 0, 0, 1, 0xff]), Err(Garbled::Text));
    }

    #[test]
    fn the_leader_is_the_first_in_turn_in_either_way_of_electing() {
        for (case, names, want) in [
            (
                "latches",
                vec!["_c_f-latch-0000000010", "_c_0-latch-0000000011", "_c_9-latch-0000000009"],
                Some("_c_9-latch-0000000009"),
            ),
            (
                "latches without protection",
                vec!["latch-0000000002", "latch-0000000001"],
                Some("latch-0000000001"),
            ),
            ("members", vec!["member_0000000003", "member_0000000002"], Some("member_0000000002")),
            (
                "the one that says who leads",
                vec!["member_0000000002", "member_-00000000"],
                Some("member_-00000000"),
            ),
            ("nobody", vec!["something else"], None),
        ] {
            let names = names.into_iter().map(String::from).collect();
            assert_eq!(by_turn(names).first().map(String::as_str), want, "{case}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in any::<Vec<u8>>()) {
            let _ = connected(&bytes);
            let _ = reply(&bytes);
            let _ = names(&bytes);
            let _ = text(&bytes);
        }
    }
}
