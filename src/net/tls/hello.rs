//! What a client of TLS says first, read without answering it: the name that it asks for and the
//! protocols that it offers. For those who pass the connection on without terminating it.
//!
//! Pure, and fed piece by piece. What rustls would refuse in what is read here is refused here too:
//! an endpoint must not see another name than we do.

use rustls::pki_types::ServerName;
use thiserror::Error;

/// Bytes before the content of each record (RFC 8446 §5.1).
const RECORD_HEAD: usize = 5;
/// Most content of a record: 2^14, and what other versions may add.
const RECORD_MAX: usize = (16 << 10) + 2048;
/// Bytes before each message of a handshake (RFC 8446 §4): type and length.
const MESSAGE_HEAD: usize = 4;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// Why something is no hello that anybody could be found for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HelloError {
    /// It does not begin as TLS does.
    #[error("what came is no handshake of TLS")]
    NotTls,
    /// A hello of SSL 2.0, in whose form old clients wrapped newer versions too (RFC 6176).
    #[error("the hello is one of SSL 2.0")]
    SslV2,
    /// Its parts contradict each other.
    #[error("the hello is malformed: {0}")]
    Malformed(&'static str),
    /// The name is no name of DNS (RFC 6066 §3).
    #[error("the hello asks for what is no host name")]
    Name,
    /// It is larger than it may be.
    #[error("the hello is too long")]
    TooLong,
}

impl HelloError {
    /// One word, as metrics and logs write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotTls => "not-tls",
            Self::SslV2 => "sslv2",
            Self::Malformed(_) => "malformed",
            Self::Name => "bad-name",
            Self::TooLong => "too-long",
        }
    }

    /// The alert that says so (RFC 8446 §6.2).
    #[must_use]
    pub const fn alert(self) -> u8 {
        match self {
            // decode_error
            Self::NotTls | Self::Malformed(_) => 50,
            // protocol_version
            Self::SslV2 => 70,
            // illegal_parameter, as rustls says it
            Self::Name => 47,
            // handshake_failure
            Self::TooLong => 40,
        }
    }
}

/// A hello on its way: fed with what came, in pieces of any size.
///
/// At most `max` bytes are looked at, heads of records included, and no more than those are kept.
#[derive(Debug)]
pub struct HelloReader {
    max: usize,
    seen: usize,
    head: [u8; RECORD_HEAD],
    head_length: usize,
    /// Bytes of the current record's content that have not come yet.
    left: usize,
    /// The content of all records so far.
    message: Vec<u8>,
    complete: bool,
}

impl HelloReader {
    /// Nothing has come.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self {
            max,
            seen: 0,
            head: [0; RECORD_HEAD],
            head_length: 0,
            left: 0,
            message: Vec::new(),
            complete: false,
        }
    }

    /// Takes what came next; true when the hello is complete. What comes behind it is not looked at.
    ///
    /// # Errors
    /// It will never be a hello, or a longer one than may be.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<bool, HelloError> {
        while !self.complete {
            let Some(first) = bytes.first() else { return Ok(false) };
            let want = if self.left > 0 { self.left } else { RECORD_HEAD - self.head_length };
            if self.head_length == 0 && self.left == 0 && *first != HANDSHAKE {
                // Told by its first byte: such a client waits for an answer.
                let old = self.seen == 0 && *first & 0x80 != 0;
                return Err(if old { HelloError::SslV2 } else { HelloError::NotTls });
            }
            let (piece, rest) = bytes.split_at(want.min(bytes.len()));
            bytes = rest;
            self.seen += piece.len();
            if self.left > 0 {
                self.message.extend_from_slice(piece);
                self.left -= piece.len();
                self.look()?;
            } else {
                let end = self.head_length + piece.len();
                self.head[self.head_length..end].copy_from_slice(piece);
                self.head_length = end;
                self.open()?;
            }
            if !self.complete && self.seen >= self.max {
                return Err(HelloError::TooLong);
            }
        }
        Ok(true)
    }

    /// A record begins, if its head is whole.
    fn open(&mut self) -> Result<(), HelloError> {
        let [_, major, _, high, low] = self.head;
        if self.head_length > 1 && major != 3 {
            return Err(HelloError::NotTls);
        }
        if self.head_length < RECORD_HEAD {
            return Ok(());
        }
        self.head_length = 0;
        self.left = usize::from(u16::from_be_bytes([high, low]));
        match self.left {
            0 => Err(HelloError::Malformed("an empty record")),
            1..RECORD_MAX => Ok(()),
            _ => Err(HelloError::Malformed("a record that is too long")),
        }
    }

    /// Whether the message is whole now.
    fn look(&mut self) -> Result<(), HelloError> {
        if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(HelloError::NotTls);
        }
        let Some([_, top, high, low]) = self.message.first_chunk() else { return Ok(()) };
        let length = MESSAGE_HEAD + u32::from_be_bytes([0, *top, *high, *low]) as usize;
        // One that could not end in time is not waited for.
        if length + RECORD_HEAD > self.max {
            return Err(HelloError::TooLong);
        }
        if self.message.len() >= length {
            self.message.truncate(length);
            self.complete = true;
        }
        Ok(())
    }

    /// What the hello says, once it is complete.
    ///
    /// # Errors
    /// It is malformed, or not complete.
    pub fn hello(&self) -> Result<Hello<'_>, HelloError> {
        let message = self.message.get(MESSAGE_HEAD..).filter(|_| self.complete);
        Hello::read(message.ok_or(HelloError::Malformed("not all of it"))?)
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The name as it was sent (RFC 6066 §3), without a final dot; none when no name was, or an IP
    /// address, which is none.
    pub name: Option<&'a str>,
    /// The list of ALPN as it was sent (RFC 7301 §3.1), checked.
    protocols: &'a [u8],
}

impl<'a> Hello<'a> {
    /// Reads the content of a ClientHello (RFC 8446 §4.1.2).
    ///
    /// # Errors
    /// It is malformed, or the name is none.
    pub fn read(message: &'a [u8]) -> Result<Self, HelloError> {
        let mut rest = Bytes(message);
        // The version and the random.
        rest.take(2 + 32)?;
        let session = rest.short()?;
        if session.len() > 32 {
            return Err(HelloError::Malformed("a session of more than 32 bytes"));
        }
        let ciphers = rest.long()?;
        if ciphers.is_empty() || ciphers.len() % 2 != 0 {
            return Err(HelloError::Malformed("the list of ciphers"));
        }
        if rest.short()?.is_empty() {
            return Err(HelloError::Malformed("no way of compression"));
        }
        let (mut names, mut protocols) = (None, None);
        if !rest.0.is_empty() {
            let mut extensions = Bytes(rest.long()?);
            if !rest.0.is_empty() {
                return Err(HelloError::Malformed("something behind the extensions"));
            }
            while !extensions.0.is_empty() {
                let kind = extensions.number()?;
                let content = extensions.long()?;
                let known = match kind {
                    SERVER_NAME => &mut names,
                    ALPN => &mut protocols,
                    _ => continue,
                };
                if known.replace(content).is_some() {
                    return Err(HelloError::Malformed("an extension twice"));
                }
            }
        }
        let name = names.map(name).transpose()?.flatten();
        let protocols = protocols.map(checked).transpose()?.unwrap_or_default();
        Ok(Self { name, protocols })
    }

    /// One that asks for `name`, and offers what is in `protocols`: each with its length before it, as
    /// ALPN sends them.
    #[must_use]
    pub const fn asking(name: Option<&'a str>, protocols: &'a [u8]) -> Self {
        Self { name, protocols }
    }

    /// The protocols that are offered, best first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = Bytes(self.protocols);
        // It was checked: the end is the only error.
        std::iter::from_fn(move || rest.short().ok())
    }
}

/// The host name in the extension (RFC 6066 §3).
fn name(extension: &[u8]) -> Result<Option<&str>, HelloError> {
    let mut extension = Bytes(extension);
    let mut names = Bytes(extension.long()?);
    if names.0.is_empty() || !extension.0.is_empty() {
        return Err(HelloError::Malformed("the list of names"));
    }
    let mut found = None;
    while !names.0.is_empty() {
        if names.take(1)? != [HOST_NAME] {
            // Nobody knows how long one of another type is: it hides all that comes behind it.
            break;
        }
        if found.replace(names.long()?).is_some() {
            return Err(HelloError::Malformed("several names"));
        }
    }
    let found = found.ok_or(HelloError::Name)?;
    match ServerName::try_from(found) {
        Ok(ServerName::DnsName(_)) => {
            let found = std::str::from_utf8(found).map_err(|_| HelloError::Name)?;
            // One with a final dot is the same name.
            Ok(Some(found.strip_suffix('.').unwrap_or(found)))
        }
        // Some clients send one, and it says nothing.
        Ok(ServerName::IpAddress(_)) => Ok(None),
        _ => Err(HelloError::Name),
    }
}

/// The list of protocols in the extension (RFC 7301 §3.1).
fn checked(extension: &[u8]) -> Result<&[u8], HelloError> {
    let wrong = HelloError::Malformed("the list of protocols");
    let mut extension = Bytes(extension);
    let list = extension.long()?;
    if list.is_empty() || !extension.0.is_empty() {
        return Err(wrong);
    }
    let mut rest = Bytes(list);
    while !rest.0.is_empty() {
        if rest.short()?.is_empty() {
            return Err(wrong);
        }
    }
    Ok(list)
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(HelloError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, HelloError> {
        let mut number = [0; 2];
        number.copy_from_slice(self.take(2)?);
        Ok(u16::from_be_bytes(number))
    }

    /// What has its length before it, in one byte.
    fn short(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.take(1)?.first().copied().unwrap_or_default();
        self.take(length.into())
    }

    /// The same in two bytes.
    fn long(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.number()?;
        self.take(length.into())
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
