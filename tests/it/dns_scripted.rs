//! An upstream that does as it is told, and a client that says no more than it has to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use crate::dns_wire::query;
use crate::peers::own_address;
use crate::rig::within;

/// What is done with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// A record with this TTL and this last byte of its address.
    Answer(u32, u8),
    /// An alias of `target.example`, and its address.
    Alias(u32),
    /// There is no such name, for so many seconds.
    Missing(u32),
    /// Nothing but this code.
    Code(u8),
    /// Nothing at all.
    Silence,
    /// The answer 6.6.6.6 with another id.
    WrongId,
    /// The answer 6.6.6.6 to another question.
    WrongQuestion,
    /// The answer 6.6.6.6 from another port.
    WrongPort,
    /// The header of an answer, and then bytes that are none.
    Garbage,
    /// By UDP the word that it does not fit; by TCP 100 records.
    Cut,
    /// By UDP the same; by TCP the connection is closed.
    CutAndClosed,
    /// Name servers of somebody else.
    Referral,
    /// The question itself, sent on to this port of 127.0.0.1, and what comes back.
    Relay(u16),
}

/// The upstream. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Vec<Does>>>,
    asked: Arc<Mutex<Vec<(String, bool)>>>,
    open: watch::Sender<bool>,
}

impl Scripted {
    /// An upstream that does all of `script` for each question.
    pub(crate) async fn start(script: &[Does]) -> Self {
        let address = own_address();
        let udp = Arc::new(UdpSocket::bind(address).await.unwrap());
        let tcp = TcpListener::bind(address).await.unwrap();
        let (open, opened) = watch::channel(true);
        let this = Self {
            address,
            script: Arc::new(Mutex::new(script.to_vec())),
            asked: Arc::default(),
            open,
        };
        let (script, asked) = (Arc::clone(&this.script), Arc::clone(&this.asked));
        let by_udp = async move {
            let mut buffer = [0; 2048];
            loop {
                let Ok((length, peer)) = udp.recv_from(&mut buffer).await else { continue };
                let query = buffer[..length].to_vec();
                asked.lock().unwrap().push((name_of(&query), false));
                let (script, udp, mut opened) =
                    (script.lock().unwrap().clone(), Arc::clone(&udp), opened.clone());
                tokio::spawn(async move {
                    if opened.wait_for(|open| *open).await.is_err() {
                        return;
                    }
                    for does in script {
                        if does == Does::WrongPort {
                            let other = UdpSocket::bind((udp.local_addr().unwrap().ip(), 0)).await;
                            let reply = answer(&query, 300, &[6, 6, 6, 6], 1);
                            other.unwrap().send_to(&reply, peer).await.unwrap();
                        } else if let Some(reply) = does.reply(&query, false).await {
                            // Who does not listen any more is told nothing.
                            let _ = udp.send_to(&reply, peer).await;
                        }
                    }
                });
            }
        };
        let (script, asked) = (Arc::clone(&this.script), Arc::clone(&this.asked));
        let by_tcp = async move {
            loop {
                let Ok((mut stream, _)) = tcp.accept().await else { continue };
                let (script, asked) = (script.lock().unwrap().clone(), Arc::clone(&asked));
                tokio::spawn(async move {
                    let Ok(length) = stream.read_u16().await else { return };
                    let mut query = vec![0; usize::from(length)];
                    if stream.read_exact(&mut query).await.is_err() {
                        return;
                    }
                    asked.lock().unwrap().push((name_of(&query), true));
                    for does in script {
                        let Some(reply) = does.reply(&query, true).await else { continue };
                        let length = (reply.len() as u16).to_be_bytes();
                        let _ = stream.write_all(&[&length[..], &reply].concat()).await;
                    }
                });
            }
        };
        let mut ended = this.open.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = by_udp => {}
                () = by_tcp => {}
                () = async { while ended.changed().await.is_ok() {} } => {}
            }
        });
        this
    }

    /// From now on it does this.
    pub(crate) fn does(&self, script: &[Does]) {
        *self.script.lock().unwrap() = script.to_vec();
    }

    /// What comes by UDP waits until it is let go.
    pub(crate) fn hold(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn let_go(&self) {
        self.open.send_replace(true);
    }

    /// The names that were asked for, each with whether it was by TCP.
    pub(crate) fn asked(&self) -> Vec<(String, bool)> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked for `name`.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.asked().iter().filter(|(asked, _)| asked == name).count()
    }
}

impl Does {
    async fn reply(self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let end = question_end(query);
        Some(match self {
            Self::Answer(ttl, last) => answer(query, ttl, &[10, 0, 0, last], 1),
            Self::Alias(ttl) => {
                let mut reply = answer(query, ttl, &[], 0);
                reply.extend([0xc0, 12, 0, 5, 0, 1]);
                reply.extend(ttl.to_be_bytes());
                reply.extend(b"\x00\x10\x06target\x07example\x00");
                // The name stands where its data began.
                reply.extend([0xc0, end as u8 + 12, 0, 1, 0, 1]);
                reply.extend(ttl.to_be_bytes());
                reply.extend([0, 4, 10, 0, 0, 9]);
                reply[7] = 2;
                reply
            }
            Self::Missing(ttl) => {
                let mut reply = answer(query, 0, &[], 0);
                reply[3] |= 3;
                reply[9] = 1;
                reply.extend([0, 0, 6, 0, 1]);
                reply.extend(ttl.to_be_bytes());
                reply.extend([0, 22, 0, 0]);
                for number in [1, 2, 3, 4, ttl] {
                    reply.extend(number.to_be_bytes());
                }
                reply
            }
            Self::Code(code) => {
                let mut reply = answer(query, 0, &[], 0);
                reply[3] |= code;
                reply
            }
            // By TCP nobody is a stranger.
            Self::WrongId if tcp => return None,
            Self::WrongId => {
                let mut reply = answer(query, 300, &[6, 6, 6, 6], 1);
                reply[0] ^= 0x55;
                reply
            }
            Self::WrongQuestion => {
                let mut reply = answer(query, 300, &[6, 6, 6, 6], 1);
                reply[13] = b'z';
                reply
            }
            Self::Garbage => {
                let mut reply = answer(query, 300, &[], 0);
                reply[7] = 9;
                reply.extend([0xff; 40]);
                reply
            }
            Self::Cut | Self::CutAndClosed if !tcp => {
                let mut reply = answer(query, 0, &[], 0);
                reply[2] |= 2;
                reply
            }
            Self::Cut => answer(query, 300, &[10, 0, 0, 1], 100),
            Self::Silence | Self::WrongPort | Self::CutAndClosed => return None,
            Self::Referral => {
                let mut reply = answer(query, 0, &[], 0);
                reply[9] = 1;
                reply.extend(b"\x00\x00\x02\x00\x01\x00\x00\x01\x2c\x00\x03\x01n\x00");
                reply
            }
            Self::Relay(port) => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.send_to(query, ("127.0.0.1", port)).await.unwrap();
                let mut reply = vec![0; 2048];
                let length = socket.recv(&mut reply).await.ok()?;
                reply.truncate(length);
                reply
            }
        })
    }
}

/// Where the question ends.
fn question_end(query: &[u8]) -> usize {
    let mut at = 12;
    while query[at] != 0 {
        at += usize::from(query[at]) + 1;
    }
    at + 5
}

fn name_of(query: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
        at = end;
    }
    labels.join(".")
}

/// The reply to `query` with `count` records of these bytes, each another last byte.
fn answer(query: &[u8], ttl: u32, data: &[u8], count: u8) -> Vec<u8> {
    let mut reply = query[..question_end(query)].to_vec();
    reply[2] = 0x81;
    reply[3] = 0x80;
    reply[6..12].copy_from_slice(&[0, count, 0, 0, 0, 0]);
    for n in 0..count {
        reply.extend([0xc0, 12, 0, 1, 0, 1]);
        reply.extend(ttl.to_be_bytes());
        reply.extend((data.len() as u16).to_be_bytes());
        reply.extend(&data[..data.len() - 1]);
        reply.push(data[data.len() - 1] + n);
    }
    reply
}

/// Code, and TTL and last byte of the address of the last record, if it is an address.
pub(crate) type Told = (u8, Option<(u32, u8)>);

/// What `server` says about the address of `name`, by UDP.
pub(crate) async fn look(server: SocketAddr, name: &str) -> Told {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&query(7, name)).await.unwrap();
    let mut reply = [0; 2048];
    let length = within(name, socket.recv(&mut reply)).await.unwrap();
    read(&reply[..length])
}

/// Reads a reply without EDNS.
pub(crate) fn read(reply: &[u8]) -> Told {
    let code = reply[3] & 0xf;
    let address = (reply[7] > 0 && reply[9] == 0).then(|| {
        let tail = &reply[reply.len() - 10..];
        (u32::from_be_bytes([tail[0], tail[1], tail[2], tail[3]]), tail[9])
    });
    (code, address)
}
