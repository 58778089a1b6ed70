//! WebSocket (RFC 6455), as much as an echo needs: short frames that are whole messages.

use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;

/// The payload of a close that says that all is well.
pub(crate) const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

/// A key for a handshake, another one for each number.
pub(crate) fn key(number: u64) -> String {
    BASE64_STANDARD.encode(u128::from(number).to_be_bytes())
}

/// What accepts a key (§1.3).
pub(crate) fn accept(key: &str) -> String {
    let hash = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    BASE64_STANDARD.encode(hash)
}

/// A whole message in one frame, of at most 125 bytes; clients mask theirs (§5.2).
pub(crate) fn frame(opcode: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).unwrap();
    let mut bytes = vec![0x80 | opcode, length | if mask.is_some() { 0x80 } else { 0 }];
    bytes.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The next message, its mask taken off; none at an orderly end between two.
pub(crate) async fn message(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut first = [0];
    if from.read(&mut first).await? == 0 {
        return Ok(None);
    }
    let length = from.read_u8().await?;
    if first[0] & 0xf0 != 0x80 || length & 0x7f > 125 {
        return Err(io::Error::other(format!("a frame that begins with {} {length}", first[0])));
    }
    let mut mask = [0; 4];
    if length & 0x80 != 0 {
        from.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; usize::from(length & 0x7f)];
    from.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Some((first[0] & 0x0f, payload)))
}
