//! The leader of a Marathon as ZooKeeper knows it, followed for as long as it is wanted.
//!
//! ZooKeeper that cannot be reached says nothing: who led last leads on. A session that has expired
//! is replaced, and everything is read anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::zk_url::ZkUrl;
use super::zk_wire::{self, NO_NODE, PACKET_MAX, Session, XID_EVENT, XID_PING};
use crate::random;
use crate::registry::backoff::Backoff;
use crate::units::Period;

/// Session timeout that is asked for; a server may give another one.
const SESSION: Duration = Duration::from_secs(10);
/// Time for a connection to one server.
const CONNECT: Duration = Duration::from_secs(3);
/// The first pause, at most.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Most candidates that are looked at until one has said who it is.
const CANDIDATES_MAX: usize = 8;
/// Longest name of a leader.
const NAME_MAX: usize = 300;

/// What ZooKeeper says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Election {
    /// `host:port` of the leader that it named last.
    pub(super) leader: Option<Arc<str>>,
    /// Why it cannot be asked now, or names nobody.
    pub(super) trouble: Option<Arc<str>>,
}

/// Follows the election for ever, and tells `told`; pauses are `pause_max` at most.
pub(super) async fn follow(url: ZkUrl, pause_max: Duration, told: watch::Sender<Election>) {
    let mut backoff = Backoff::new(PAUSE_FIRST.min(pause_max), pause_max);
    let mut session = Session::none();
    let mut zxid = 0;
    let mut turn = random::bits() as usize;
    // Servers in a row that did not even greet.
    let mut mute = 0;
    loop {
        let (host, port) = &url.servers[turn % url.servers.len()];
        turn = turn.wrapping_add(1);
        let mut answered = false;
        let connection = Connection::open(host, *port, &mut session, &mut zxid).await;
        let why = match connection {
            Ok(mut connection) => connection.follow(&url.path, &told, &mut answered).await,
            Err(why) => why,
        };
        mute = if answered { 0 } else { mute + 1 };
        if answered {
            backoff.succeeded();
        } else if mute > 2 * url.servers.len() {
            // A ZooKeeper that was set up anew is behind what we have seen, and greets nobody who
            // has seen more.
            (session, zxid) = (Session::none(), 0);
        }
        let why: Arc<str> = format!("ZooKeeper at {host}:{port}: {why}").into();
        told.send_if_modified(|election| {
            let new = election.trouble.as_ref() != Some(&why);
            election.trouble = Some(why);
            new
        });
        // Each server once without a pause; then all of them after one.
        if answered || turn.is_multiple_of(url.servers.len()) {
            tokio::time::sleep(backoff.failed(random::bits())).await;
        }
    }
}

/// What a packet was.
enum Taken {
    /// Nothing that was asked for.
    Nothing,
    /// The answer: a body, or that there is no such node.
    Answer(Option<Vec<u8>>),
}

/// A connection with a session.
struct Connection<'a> {
    stream: TcpStream,
    /// Half of it without a word, and a ping is sent; all of it, and the server is gone.
    patience: Duration,
    heard_at: Instant,
    pinged: bool,
    xid: i32,
    zxid: &'a mut i64,
    /// Bytes that came and are no whole packet yet.
    buffer: Vec<u8>,
    /// Something that was watched has changed.
    changed: bool,
}

impl<'a> Connection<'a> {
    async fn open(
        host: &str,
        port: u16,
        session: &mut Session,
        zxid: &'a mut i64,
    ) -> Result<Self, String> {
        let late = || format!("no answer within {}", Period(CONNECT));
        let opened = timeout(CONNECT, TcpStream::connect((host, port)));
        let stream = opened.await.map_err(|_| late())?.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut connection = Self {
            stream,
            patience: CONNECT,
            heard_at: Instant::now(),
            pinged: true,
            xid: 0,
            zxid,
            buffer: Vec::new(),
            changed: false,
        };
        let wanted = i32::try_from(SESSION.as_millis()).unwrap_or(i32::MAX);
        connection.send(&zk_wire::connect(*connection.zxid, wanted, session)).await?;
        let packet = connection.packet().await?;
        let hello = zk_wire::connected(&packet).map_err(|error| error.to_string())?;
        if hello.timeout <= 0 {
            *session = Session::none();
            return Err("the session has expired; a new one begins".into());
        }
        *session = hello.session;
        let given = Duration::from_millis(u64::try_from(hello.timeout).unwrap_or(1));
        connection.patience = given.mul_f64(2.0 / 3.0).max(Duration::from_millis(100));
        connection.pinged = false;
        Ok(connection)
    }

    /// Tells who leads, now and whenever that changes, until something breaks; why.
    async fn follow(
        &mut self,
        path: &str,
        told: &watch::Sender<Election>,
        answered: &mut bool,
    ) -> String {
        loop {
            self.changed = false;
            let leader = match self.leader(path).await {
                Ok(leader) => leader,
                Err(why) => return why,
            };
            *answered = true;
            told.send_if_modified(|election| {
                let trouble = leader.is_none().then(|| {
                    format!("ZooKeeper names no leader below {path}; is a Marathon running there?")
                });
                let next = Election {
                    // Nobody while a new one is elected: who led last is asked until then.
                    leader: leader.clone().or_else(|| election.leader.clone()),
                    trouble: trouble.map(Into::into),
                };
                let new = *election != next;
                *election = next;
                new
            });
            while !self.changed {
                let packet = self.packet().await;
                if let Err(why) = packet.and_then(|packet| self.taken(&packet, None)) {
                    return why;
                }
            }
        }
    }

    /// Who leads: as Curator elects (Marathon 0.14 and newer), else as Twitter's library did.
    async fn leader(&mut self, path: &str) -> Result<Option<Arc<str>>, String> {
        for place in ["leader-curator", "leader"] {
            let place = format!("{path}/{place}");
            for name in self.candidates(&place).await?.into_iter().take(CANDIDATES_MAX) {
                let body = self.ask(|xid| zk_wire::data(xid, &format!("{place}/{name}"))).await?;
                let Some(body) = body else { continue };
                let text = zk_wire::text(&body).map_err(|error| error.to_string())?;
                let fine = |c: char| c.is_ascii_graphic();
                if !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(fine) {
                    return Ok(Some(text.into()));
                }
            }
        }
        Ok(None)
    }

    async fn candidates(&mut self, place: &str) -> Result<Vec<String>, String> {
        // The place may come to be between the two questions: then the second one is asked anew.
        for _ in 0..2 {
            if let Some(body) = self.ask(|xid| zk_wire::children(xid, place)).await? {
                let names = zk_wire::names(&body).map_err(|error| error.to_string())?;
                return Ok(zk_wire::by_turn(names));
            }
            if self.ask(|xid| zk_wire::exists(xid, place)).await?.is_none() {
                break;
            }
        }
        Ok(Vec::new())
    }

    /// Sends a request and waits for its answer; None: there is no such node.
    async fn ask(&mut self, request: impl Fn(i32) -> Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        self.xid = self.xid.wrapping_add(1).max(1);
        let xid = self.xid;
        self.send(&request(xid)).await?;
        loop {
            let packet = self.packet().await?;
            if let Taken::Answer(answer) = self.taken(&packet, Some(xid))? {
                return Ok(answer);
            }
        }
    }

    /// Takes a packet in: an event, a ping's answer, or what was `asked` for.
    fn taken(&mut self, packet: &[u8], asked: Option<i32>) -> Result<Taken, String> {
        let reply = zk_wire::reply(packet).map_err(|error| error.to_string())?;
        *self.zxid = (*self.zxid).max(reply.zxid);
        match reply.xid {
            XID_EVENT => self.changed = true,
            XID_PING => {}
            xid if asked == Some(xid) => {
                return match reply.error {
                    0 => Ok(Taken::Answer(Some(reply.body.to_vec()))),
                    NO_NODE => Ok(Taken::Answer(None)),
                    error => Err(format!("it answers with error {error}")),
                };
            }
            xid => return Err(format!("an answer to question {xid}, which was not asked")),
        }
        Ok(Taken::Nothing)
    }

    async fn send(&mut self, packet: &[u8]) -> Result<(), String> {
        let sent = timeout(self.patience, self.stream.write_all(packet)).await;
        let late = || format!("it takes no bytes for {}", Period(self.patience));
        sent.map_err(|_| late())?.map_err(|error| error.to_string())
    }

    /// The next packet; pings when nothing comes.
    async fn packet(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some((head, rest)) = self.buffer.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if length > PACKET_MAX {
                    return Err(format!("a packet of {length} bytes; is that a ZooKeeper?"));
                }
                if rest.len() >= length {
                    let packet = rest[..length].to_vec();
                    self.buffer.drain(..4 + length);
                    return Ok(packet);
                }
            }
            let wait = if self.pinged { self.patience } else { self.patience / 2 };
            let until = self.heard_at + wait;
            match tokio::time::timeout_at(until, self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err("it closed the connection".into()),
                Ok(Ok(_)) => {
                    self.heard_at = Instant::now();
                    self.pinged = false;
                }
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) if self.pinged => {
                    return Err(format!("no answer within {}", Period(self.patience)));
                }
                Err(_) => {
                    self.pinged = true;
                    self.send(&zk_wire::ping()).await?;
                }
            }
        }
    }
}
