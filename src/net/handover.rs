//! From one process to the one that replaces it: descriptors and words over a pair of sockets.
//!
//! The pair is made by the process that is there, and one end becomes the standard input of the one
//! that it starts: nobody else can connect, no file lies about, and no number of a descriptor has to be
//! passed and trusted (docs/decisions/0077). Each message is one datagram of a sequenced socket: a word
//! in JSON, and up to [`BATCH`] descriptors beside it. What is large travels as a file in memory.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Descriptors of one message; the kernel takes 253 at most.
pub const BATCH: usize = 64;
/// Longest word in bytes: the names of a whole batch are a quarter of it.
const WORD_MAX: usize = 64 << 10;
/// Longest reason in bytes that is passed on.
const REASON_MAX: usize = 8 << 10;
/// What is spoken. One who hears another number refuses.
pub const FORMAT: u32 = 1;

/// What one process tells the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The first word of the one that is there.
    Hello {
        /// [`FORMAT`].
        format: u32,
        /// Its number.
        pid: u32,
    },
    /// Sockets, in the order of these labels.
    Sockets(Vec<Label>),
    /// Files in memory, in the order of these names.
    Parts(Vec<Part>),
    /// All that is needed to begin was sent.
    Whole,
    /// The new one could serve now.
    Ready,
    /// It is to serve.
    Serve,
    /// It serves: the old one may let go.
    Serving,
    /// The old one has let go; checks, files and the disk are the new one's.
    Yours,
    /// The new one does not start, for this reason.
    Refused(String),
}

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The setting that asked for it.
    pub setting: String,
    /// The address as it was configured, where it is one: port 0 stays the port that it became.
    pub asked: Option<SocketAddr>,
}

/// A part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// What the registries said, the generation, health and ejections.
    Catalog,
    /// What operators said.
    Operations,
    /// Clients that are bound by address.
    Sources,
    /// The key of sticky cookies, where no file holds it.
    StickyKey,
    /// Targets of checks with their results and their next times.
    Checks,
}

/// A word with the descriptors beside it.
pub type Message = (Word, Vec<OwnedFd>);

/// One end of the pair, on the runtime that it was made in.
#[derive(Debug)]
pub struct Peer(UnixDatagram);

/// A pair: our end, and the one that becomes the other's standard input. Must be called within a
/// runtime.
///
/// # Errors
/// The system has no descriptors left.
pub fn pair() -> io::Result<(Peer, OwnedFd)> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((Peer::of(ours)?, theirs))
}

impl Peer {
    /// The end that was inherited. Must be called within a runtime.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn of(end: OwnedFd) -> io::Result<Self> {
        // To the runtime one kind of socket is as good as another: it only waits for it.
        let end = std::os::unix::net::UnixDatagram::from(end);
        end.set_nonblocking(true)?;
        Ok(Self(UnixDatagram::from_std(end)?))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The other process is gone, or the word is too long.
    pub async fn say(&self, word: &Word, beside: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = spelled(word)?;
        self.0.async_io(Interest::WRITABLE, || send(&self.0, &bytes, beside)).await
    }

    /// The next message; none when the other process is gone.
    ///
    /// # Errors
    /// What came is no message of ours.
    pub async fn hear(&self) -> io::Result<Option<Message>> {
        self.0.async_io(Interest::READABLE, || receive(&self.0)).await
    }
}

/// Says over `end`, which nobody uses otherwise any more, why this process does not start.
pub fn refuse(end: &OwnedFd, why: &str) {
    let mut cut = why.len().min(REASON_MAX);
    while !why.is_char_boundary(cut) {
        cut -= 1;
    }
    // Whoever does not listen any more sees that we end.
    let _ = spelled(&Word::Refused(why[..cut].to_owned())).and_then(|word| send(end, &word, &[]));
}

/// `content` as a file that lives in memory only.
///
/// # Errors
/// There is no memory for it.
pub fn in_memory(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("portolan-state", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    Ok(file.into())
}

/// All of a file that [`in_memory`] made.
///
/// # Errors
/// It cannot be read.
pub fn from_memory(file: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(file);
    // The offset is shared with the one who wrote it.
    file.rewind()?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn spelled(word: &Word) -> io::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(word)?;
    if bytes.len() > WORD_MAX {
        return Err(io::Error::other("a word of the hand-over is too long"));
    }
    Ok(bytes)
}

fn send(end: impl AsFd, bytes: &[u8], beside: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !beside.is_empty() && !control.push(SendAncillaryMessage::ScmRights(beside)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    loop {
        match sendmsg(&end, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

fn receive(end: impl AsFd) -> io::Result<Option<Message>> {
    let mut bytes = vec![0; WORD_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let received = loop {
        match recvmsg(&end, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            // The other end was closed with something of ours unread. That is told once, before what it
            // said last.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            received => break received?,
        }
    };
    let mut beside = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            beside.extend(descriptors);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, beside)))
}

/// `sockets` in batches, as they are sent.
pub fn batches(sockets: &[(Label, OwnedFd)]) -> impl Iterator<Item = (Word, Vec<BorrowedFd<'_>>)> {
    sockets.chunks(BATCH).map(|batch| {
        let labels = batch.iter().map(|(label, _)| label.clone());
        let descriptors = batch.iter().map(|(_, socket)| socket.as_fd());
        (Word::Sockets(labels.collect()), descriptors.collect())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_thousand_sockets_and_a_large_state_arrive_in_their_order() {
        let (ours, theirs) = pair().unwrap();
        let theirs = Peer::of(theirs).unwrap();
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = one.local_addr().unwrap();
        let labels = (0..1000).map(|n| Label { setting: format!("s{n}"), asked: Some(address) });
        let sockets: Vec<(Label, OwnedFd)> =
            labels.map(|label| (label, one.try_clone().unwrap().into())).collect();
        let state = vec![7; 3 << 20];
        let hears = async {
            let (mut labels, mut count) = (Vec::new(), 0);
            loop {
                match theirs.hear().await.unwrap().unwrap() {
                    (Word::Sockets(more), beside) => {
                        labels.extend(more);
                        for socket in beside {
                            let socket = socket2::Socket::from(socket);
                            assert_eq!(socket.local_addr().unwrap().as_socket(), Some(address));
                            count += 1;
                        }
                    }
                    (Word::Parts(parts), mut beside) => {
                        assert_eq!(parts, [Part::Catalog]);
                        return (labels, count, from_memory(beside.remove(0)).unwrap());
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        let says = async {
            for (word, beside) in batches(&sockets) {
                ours.say(&word, &beside).await.unwrap();
            }
            let file = in_memory(&state).unwrap();
            ours.say(&Word::Parts(vec![Part::Catalog]), &[file.as_fd()]).await.unwrap();
        };
        let (heard, ()) = tokio::join!(hears, says);
        assert_eq!(heard.1, 1000);
        assert!(heard.0.iter().map(|l| &l.setting).eq(sockets.iter().map(|(l, _)| &l.setting)));
        assert_eq!(heard.2, state);
    }

    #[tokio::test]
    async fn one_who_is_gone_is_the_end_and_a_reason_is_heard_before_it() {
        let (ours, theirs) = pair().unwrap();
        ours.say(&Word::Whole, &[]).await.unwrap();
        refuse(&theirs, &"é".repeat(REASON_MAX));
        drop(theirs);
        let Some((Word::Refused(why), _)) = ours.hear().await.unwrap() else { panic!() };
        assert_eq!(why.len(), REASON_MAX);
        assert!(ours.hear().await.unwrap().is_none());
        assert!(ours.say(&Word::Whole, &[]).await.is_err());
    }
}
