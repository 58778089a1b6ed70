//! Stored hashes of passwords, as `htpasswd`, `mkpasswd` and `openssl passwd` print them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha_crypt::ShaCrypt;
use sha_crypt::password_hash::PasswordVerifier;
use sha1::{Digest as _, Sha1};
use yescrypt::Yescrypt;

use super::apr1;

/// Highest cost of bcrypt: about a second.
const COST_MAX: u32 = 14;
/// Most rounds of SHA-crypt: about a second.
const ROUNDS_MAX: u32 = 1_000_000;
/// Most memory for one verdict of yescrypt, which is 16 MB as `mkpasswd` makes them.
const YESCRYPT_BYTES_MAX: u64 = 64 << 20;

/// One of them.
pub(super) enum Hash {
    /// `$2y$…`.
    Bcrypt(Box<str>),
    /// `$5$…` and `$6$…`.
    Sha(Box<str>),
    /// `$y$…`.
    Yescrypt(Box<str>),
    /// `$apr1$…` and `$1$…`.
    Md5 { magic: &'static str, salt: Box<[u8]>, whole: Box<str> },
    /// `{SHA}…`: of the password alone.
    Sha1([u8; 20]),
    /// `{PLAIN}…`: the password.
    Plain(Box<[u8]>),
}

impl Hash {
    /// Reads what is stored.
    ///
    /// # Errors
    /// What is wrong, and how to make one that is good; the value itself is not in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let malformed =
            || "is cut off or garbled; make it anew with `htpasswd -nB NAME`".to_owned();
        if let Some(password) = text.strip_prefix("{PLAIN}") {
            return Ok(Self::Plain(password.as_bytes().into()));
        }
        if let Some(digest) = text.strip_prefix("{SHA}") {
            let digest = STANDARD.decode(digest).ok().and_then(|bytes| bytes.try_into().ok());
            return digest.map(Self::Sha1).ok_or_else(malformed);
        }
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|magic| text.starts_with(magic)) {
            let parts: bcrypt::HashParts = text.parse().map_err(|_| malformed())?;
            return match parts.get_cost() {
                4..=COST_MAX => Ok(Self::Bcrypt(text.into())),
                cost => Err(format!("has the cost {cost}; it is between 4 and {COST_MAX} here")),
            };
        }
        if text.starts_with("$5$") || text.starts_with("$6$") {
            let fields: Vec<&str> = text.split('$').skip(2).collect();
            let (rounds, digest) = match fields[..] {
                [rounds, _, digest] => (rounds.strip_prefix("rounds="), digest),
                [_, digest] => (Some("5000"), digest),
                _ => return Err(malformed()),
            };
            let rounds = rounds.and_then(|rounds| rounds.parse().ok());
            let length = if text.starts_with("$5$") { 43 } else { 86 };
            return match rounds {
                Some(1000..=ROUNDS_MAX) if digest.len() == length => Ok(Self::Sha(text.into())),
                Some(rounds) if digest.len() == length => Err(format!(
                    "has {rounds} rounds; there are between 1000 and {ROUNDS_MAX} here"
                )),
                _ => Err(malformed()),
            };
        }
        if let Some(rest) = text.strip_prefix("$y$") {
            return yescrypt(rest)
                .ok_or_else(malformed)?
                .then(|| Self::Yescrypt(text.into()))
                .ok_or_else(|| "is too costly; up to 64 MB for a password are good here".into());
        }
        for magic in ["$apr1$", "$1$"] {
            let Some((salt, digest)) = text.strip_prefix(magic).and_then(|t| t.split_once('$'))
            else {
                continue;
            };
            let salt = salt.as_bytes();
            if digest.len() != 22 || salt.len() > 8 {
                return Err(malformed());
            }
            return Ok(Self::Md5 { magic, salt: salt.into(), whole: digest.into() });
        }
        let old = text.len() == 13 && !text.contains('$');
        Err(if old {
            "is of the old crypt, by DES, which is not verified here; make it anew with `htpasswd -nB \
             NAME`"
        } else {
            "is of no known kind (bcrypt, SHA-crypt, yescrypt, apr1, {SHA}, {PLAIN}); make one with \
             `htpasswd -nB NAME`"
        }
        .to_owned())
    }

    /// Whether `password` is the one. Slow by intent, but for the last two kinds.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha(hash) => ShaCrypt::default().verify_password(password, &**hash).is_ok(),
            Self::Yescrypt(hash) => Yescrypt::default().verify_password(password, &**hash).is_ok(),
            Self::Md5 { magic, salt, whole } => {
                same(apr1::digest(password, salt, magic.as_bytes()).as_bytes(), whole.as_bytes())
            }
            Self::Sha1(digest) => same(&Sha1::digest(password), digest),
            // By their hashes, so that time tells nothing of how much of it is right.
            Self::Plain(own) => same(&Sha1::digest(password), &Sha1::digest(own)),
        }
    }

    /// What tells it from others, to be hashed with a key.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bcrypt(hash)
            | Self::Sha(hash)
            | Self::Yescrypt(hash)
            | Self::Md5 { whole: hash, .. } => hash.as_bytes(),
            Self::Sha1(digest) => digest,
            Self::Plain(password) => password,
        }
    }
}

/// Whether what stands behind `$y$` is affordable; none when it is no hash. Only what crypt(5) makes by
/// its cost alone is read: flags, N and r by one character each.
fn yescrypt(rest: &str) -> Option<bool> {
    const DIGITS: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let [params, salt, digest] = rest.split('$').collect::<Vec<_>>()[..] else { return None };
    let written = |text: &str| text.bytes().all(|byte| DIGITS.contains(&byte));
    if params.len() != 3
        || salt.is_empty()
        || digest.len() != 43
        || !written(salt)
        || !written(digest)
    {
        return None;
    }
    let params: yescrypt::Params = params.parse().ok()?;
    Some(params.n().saturating_mul(u64::from(params.r()) * 128) <= YESCRYPT_BYTES_MAX)
}

/// Whether both are equal, in a time that depends on their lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differs = a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differs) == 0
}
