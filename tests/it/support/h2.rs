//! Clients of HTTP/2: one that speaks the protocol, and one that says exactly the frames it is told.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::rig::within;

/// One connection of a client that speaks the protocol.
pub(crate) struct Peer {
    send: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// A whole answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request that runs.
pub(crate) struct Asked {
    pub(crate) answer: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

/// A request for the host `a`.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let uri = if path == "*" { "*".to_owned() } else { format!("http://a{path}") };
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.uri(uri).version(Version::HTTP_2).body(()).unwrap()
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("connect", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) = within("handshake", h2::client::handshake(stream)).await.unwrap();
        Self { send, connection: tokio::spawn(connection) }
    }

    /// Sends the head of a request; `end`: that is all of it.
    pub(crate) async fn begin(&mut self, request: Request<()>, end: bool) -> Asked {
        let ready = poll_fn(|cx| self.send.poll_ready(cx));
        within("a stream", ready).await.unwrap();
        let (answer, body) = self.send.send_request(request, end).unwrap();
        Asked { answer, body }
    }

    /// The answer to a request with a body; none: it has no body at all.
    pub(crate) async fn ask(
        &mut self,
        request: Request<()>,
        body: Option<&[u8]>,
    ) -> Result<Reply, h2::Error> {
        let mut asked = self.begin(request, body.is_none()).await;
        if let Some(body) = body {
            asked.body.send_data(Bytes::copy_from_slice(body), true)?;
        }
        asked.whole().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.ask(request("GET", path, &[]), None).await.unwrap()
    }
}

impl Asked {
    /// The head of the answer, and its body to be read.
    pub(crate) async fn head(&mut self) -> Result<(StatusCode, HeaderMap, RecvStream), h2::Error> {
        let answer = within("an answer", &mut self.answer).await?;
        let (head, body) = answer.into_parts();
        Ok((head.status, head.headers, body))
    }

    pub(crate) async fn whole(mut self) -> Result<Reply, h2::Error> {
        let (status, headers, mut stream) = self.head().await?;
        let mut body = Vec::new();
        while let Some(piece) = within("a body", stream.data()).await {
            let piece = piece?;
            stream.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        let trailers = within("trailers", stream.trailers()).await?;
        Ok(Reply { status: status.as_u16(), headers, body, trailers })
    }
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Codes of errors (RFC 9113 §7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of an RST_STREAM or a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The last stream that a GOAWAY tells of.
    pub(crate) fn last_stream(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap()) & 0x7fff_ffff
    }

    /// The status that a head of an answer begins with.
    pub(crate) fn status(&self) -> u16 {
        // Updates of the table's size come first.
        let at = self.payload.iter().position(|byte| byte >> 5 != 1).unwrap();
        if let byte @ 0x88..=0x8e = self.payload[at] {
            return [200, 204, 206, 304, 400, 404, 500][usize::from(byte - 0x88)];
        }
        let length = self.payload[at + 1];
        let value = &self.payload[at + 2..at + 2 + usize::from(length & 0x7f)];
        if length & 0x80 == 0 {
            std::str::from_utf8(value).unwrap().parse().unwrap()
        } else {
            digits(value)
        }
    }
}

/// A number of three digits by the code of RFC 7541, appendix B.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u8> =
        coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let take = |count: usize| {
            bits[at..at + count].iter().fold(0, |sum, bit| sum * 2 + u16::from(*bit))
        };
        let digit = if take(5) < 3 {
            let digit = take(5);
            at += 5;
            digit
        } else {
            let digit = take(6) - 0b01_1001 + 3;
            at += 6;
            digit
        };
        number = number * 10 + digit;
    }
    number
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Header lines, each literal and not indexed (RFC 7541 §6.2.2).
pub(crate) fn block(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in lines {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(bytes: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        bytes.push(value as u8);
        return;
    }
    bytes.push(127);
    value -= 127;
    while value >= 128 {
        bytes.push((value % 128 + 128) as u8);
        value /= 128;
    }
    bytes.push(value as u8);
}

/// The pseudo-headers of a GET for the host `a`.
pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

/// How a stream, or its connection, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The head of an answer.
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
}

/// One connection of a client that says exactly what it is told.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
    put_back: VecDeque<Frame>,
}

impl Raw {
    /// Connects, and says the preface and `settings`.
    pub(crate) async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = within("connect", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Self { stream, unread: Vec::new(), put_back: VecDeque::new() };
        // No table: what the answers say can be read without one.
        let settings: Vec<u8> = [(1, 0)]
            .iter()
            .chain(settings)
            .flat_map(|(key, value)| [&key.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        raw.send([PREFACE.to_vec(), frame(SETTINGS, 0, 0, settings)].concat()).await;
        raw
    }

    /// Sends all of it; false when the other side does not take it any more.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("send", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Sends a request without a body.
    pub(crate) async fn get(&mut self, stream: u32, lines: &[(&str, &str)]) -> bool {
        self.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, block(lines))).await
    }

    /// The next frame; none at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        if let Some(frame) = self.put_back.pop_front() {
            return Some(frame);
        }
        loop {
            if self.unread.len() >= 9 {
                let length =
                    u32::from_be_bytes([0, self.unread[0], self.unread[1], self.unread[2]]);
                let end = 9 + length as usize;
                if self.unread.len() >= end {
                    let rest = self.unread.split_off(end);
                    let bytes = std::mem::replace(&mut self.unread, rest);
                    let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
                    return Some(Frame {
                        kind: bytes[3],
                        flags: bytes[4],
                        stream,
                        payload: bytes[9..].to_vec(),
                    });
                }
            }
            let read = within("a frame", self.stream.read_buf(&mut self.unread)).await.unwrap_or(0);
            if read == 0 {
                return None;
            }
        }
    }

    /// The next frame that is `wanted`; others are dropped.
    pub(crate) async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// What becomes of a stream.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            match self.next().await {
                None => return Outcome::Closed,
                Some(frame) if frame.kind == GOAWAY => return Outcome::GoAway(frame.code()),
                Some(frame) if frame.stream == stream && frame.kind == HEADERS => {
                    return Outcome::Status(frame.status());
                }
                Some(frame) if frame.stream == stream && frame.kind == RST_STREAM => {
                    return Outcome::Reset(frame.code());
                }
                Some(_) => {}
            }
        }
    }

    /// Says `bytes` again and again, until the other side says GOAWAY, or hangs up without.
    pub(crate) async fn flood(self, bytes: Vec<u8>) -> Outcome {
        let Self { stream, unread, put_back } = self;
        let (reading, mut writing) = stream.into_split();
        let writer = tokio::spawn(async move { while writing.write_all(&bytes).await.is_ok() {} });
        let mut reader = Half { reading, unread };
        drop(put_back);
        let outcome = within("the end of a flood", reader.goaway()).await;
        writer.abort();
        outcome
    }
}

struct Half {
    reading: tokio::net::tcp::OwnedReadHalf,
    unread: Vec<u8>,
}

impl Half {
    async fn goaway(&mut self) -> Outcome {
        loop {
            while self.unread.len() >= 9 {
                let end =
                    9 + u32::from_be_bytes([0, self.unread[0], self.unread[1], self.unread[2]])
                        as usize;
                if self.unread.len() < end {
                    break;
                }
                if self.unread[3] == GOAWAY {
                    return Outcome::GoAway(u32::from_be_bytes(
                        self.unread[13..17].try_into().unwrap(),
                    ));
                }
                self.unread.drain(..end);
            }
            if self.reading.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return Outcome::Closed;
            }
        }
    }
}
