//! Base64, base32, hashes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// `bytes` in base64, filled up with `=`.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The same with `-` and `_`, for addresses.
pub(super) fn base64_url(bytes: &[u8]) -> String {
    URL_SAFE.encode(bytes)
}

/// What base64 says; `url` for the other alphabet. The ends of lines do not count, as in Go.
///
/// # Errors
/// `illegal base64 data at input byte N`, with the N that Go tells.
pub(super) fn from_base64(text: &[u8], url: bool) -> Result<Vec<u8>, String> {
    decode_base64(text, url).map_err(|at| format!("illegal base64 data at input byte {at}"))
}

/// The library tells another place than Go, so that this is ours.
fn decode_base64(text: &[u8], url: bool) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text.iter().enumerate().filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'));
    loop {
        let (mut bits, mut count) = (0u32, 0);
        while count < 4 {
            let Some((at, byte)) = rest.next() else {
                return if count == 0 { Ok(out) } else { Err(text.len() - count) };
            };
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' if !url => 62,
                b'/' if !url => 63,
                b'-' if url => 62,
                b'_' if url => 63,
                b'=' if count >= 2 => {
                    if count == 2 {
                        match rest.next() {
                            Some((_, b'=')) => {}
                            Some((at, _)) => return Err(at - 1),
                            None => return Err(text.len()),
                        }
                    }
                    bits <<= 6 * (4 - count);
                    out.extend_from_slice(&bits.to_be_bytes()[1..count]);
                    return rest.next().map_or(Ok(out), |(at, _)| Err(at));
                }
                _ => return Err(at),
            };
            bits = bits << 6 | u32::from(value);
            count += 1;
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `bytes` in base32, filled up with `=`.
pub(super) fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut block = [0u8; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        let letters = (chunk.len() * 8).div_ceil(5);
        for at in 0..8 {
            let letter = BASE32[(bits >> (35 - 5 * at) & 31) as usize];
            out.push(if at < letters { char::from(letter) } else { '=' });
        }
    }
    out
}

/// What base32 says.
///
/// # Errors
/// `illegal base32 data at input byte N`
pub(super) fn from_base32(text: &[u8]) -> Result<Vec<u8>, String> {
    let letters = text.strip_suffix(b"=").map_or(text, |_| text.trim_ascii_end());
    let end = letters.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at + 1);
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u64, 0);
    for (at, byte) in letters[..end].iter().enumerate() {
        let Some(value) = BASE32.iter().position(|letter| letter == byte) else {
            return Err(format!("illegal base32 data at input byte {at}"));
        };
        bits = bits << 5 | value as u64;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if !text.len().is_multiple_of(8) {
        // Without any padding Go tells where the group begins that is not whole.
        let at = if end < text.len() { text.len() } else { text.len() / 8 * 8 };
        return Err(format!("illegal base32 data at input byte {at}"));
    }
    Ok(out)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string never fails.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-512 of `bytes` in hexadecimal.
pub(super) fn sha512(bytes: &[u8]) -> String {
    hex(&sha2::Sha512::digest(bytes))
}

/// The SHA-1 of `bytes` in hexadecimal: a name for content, no protection.
pub(super) fn sha1(bytes: &[u8]) -> String {
    hex(&sha1::Sha1::digest(bytes))
}

/// The MD5 of `bytes` in hexadecimal: a name for content, no protection.
pub(super) fn md5(bytes: &[u8]) -> String {
    hex(&md5::Md5::digest(bytes))
}

/// The HMAC-SHA-256 of `message` in hexadecimal.
pub(super) fn hmac_sha256(message: &[u8], key: &[u8]) -> String {
    // Keys of every length are taken, so that this never fails.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| hex(&mac.chain_update(message).finalize().into_bytes()))
        .unwrap_or_default()
}

/// The Adler-32 of `bytes`, in decimal.
pub(super) fn adler32(bytes: &[u8]) -> String {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    (b << 16 | a).to_string()
}
