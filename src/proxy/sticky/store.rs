//! What stickiness keeps on disk: the key of cookies, and who is bound by address.
//!
//! `sticky.sources` is one line about itself (format, length, checksum), and behind it the seed of the
//! table and twenty-four bytes per client: hashes and times, no addresses. It is written aside, synced
//! and renamed into place. Everything here is of mode 0600.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::cookie::{KEY, Keys};
use super::source::Binding;

/// The key of this node in `data_dir`.
const OWN_KEY: &str = "sticky.key";
const SOURCES: &str = "sticky.sources";
/// The format that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;
/// Bytes of one binding.
const BINDING: usize = 24;

/// Why a key is not had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file that is configured cannot be read.
    #[error("cannot read [sticky] key_file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file that is configured holds something else.
    #[error(
        "[sticky] key_file {path} is not a key: one line of 64 hexadecimal digits, and perhaps a \
         second one with the key before it; make one with `openssl rand -hex 32`",
        path = path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness to make one of.
    #[error("cannot make a key for sticky cookies: {0}; set [sticky] key_file")]
    Random(io::Error),
}

/// What was on disk about clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The seed of the table.
    pub seed: [u64; 2],
    /// Everybody.
    pub bindings: Vec<Binding>,
}

/// The first line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    length: u64,
    crc32: u32,
}

/// Bytes from the system's randomness.
///
/// # Errors
/// The system has none.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// Two numbers from the system's randomness.
///
/// # Errors
/// The system has none.
pub fn random_seed() -> io::Result<[u64; 2]> {
    let half = || random().map(u64::from_ne_bytes);
    Ok([half()?, half()?])
}

/// The keys in the file that is configured. Blocks.
///
/// # Errors
/// It cannot be read, or is none.
pub fn keys_of(path: &Path) -> Result<Keys, KeyError> {
    let text = fs::read_to_string(path)
        .map_err(|source| KeyError::Read { path: path.to_path_buf(), source })?;
    parse(&text).ok_or_else(|| KeyError::Form { path: path.to_path_buf() })
}

/// The key of this node, made now if it has none. Blocks.
///
/// # Errors
/// It can be neither read nor made; the message names the file.
pub fn own_keys(directory: &Path) -> Result<Keys, String> {
    let path = directory.join(OWN_KEY);
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) => {
            if let Some(keys) = parse(&text) {
                return Ok(keys);
            }
            tracing::warn!(
                file = %path.display(),
                "the key of sticky cookies is damaged; a new one is made, and clients are bound anew"
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let key: [u8; KEY] = random().map_err(failed)?;
    let mut text = String::with_capacity(KEY * 2 + 1);
    for byte in key {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    replace(directory, OWN_KEY, &[text.as_bytes()]).map_err(failed)?;
    Ok(Keys::new(&key, None))
}

/// One or two lines of 64 hexadecimal digits.
fn parse(text: &str) -> Option<Keys> {
    let mut keys = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(key);
    let first = keys.next()??;
    let former = match keys.next() {
        Some(former) => Some(former?),
        None => None,
    };
    keys.next().is_none().then(|| Keys::new(&first, former.as_ref()))
}

fn key(digits: &str) -> Option<[u8; KEY]> {
    if digits.len() != KEY * 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; KEY];
    for (number, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[number * 2..number * 2 + 2], 16).ok()?;
    }
    Some(key)
}

/// Who was bound by address when the process before wrote it; `None`: it wrote nothing. Blocks.
///
/// # Errors
/// The file is there and cannot be used: its path, and why.
pub fn load(directory: &Path) -> Result<Option<Stored>, String> {
    let path = directory.join(SOURCES);
    let told = match fs::read(&path) {
        Ok(bytes) => decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error.to_string()),
    };
    told.map(Some).map_err(|why| format!("{}: {why}", path.display()))
}

/// Replaces what [`load`] reads, durably. Blocks.
///
/// # Errors
/// A step fails; the file then still is what it was.
pub fn save(directory: &Path, stored: &Stored) -> io::Result<()> {
    replace(directory, SOURCES, &[&to_bytes(stored)?])
}

/// `stored` as the file has it, for who takes over from this process.
///
/// # Errors
/// None is known.
pub fn to_bytes(stored: &Stored) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(16 + stored.bindings.len() * BINDING);
    for number in stored.seed {
        body.extend(number.to_be_bytes());
    }
    for binding in &stored.bindings {
        body.extend(binding.key.to_be_bytes());
        body.extend(binding.endpoint.to_be_bytes());
        body.extend(binding.until.to_be_bytes());
    }
    let header =
        Header { format: FORMAT, length: body.len() as u64, crc32: crc32fast::hash(&body) };
    let mut first = serde_json::to_vec(&header)?;
    first.push(b'\n');
    first.append(&mut body);
    Ok(first)
}

/// What [`to_bytes`] made.
///
/// # Errors
/// What is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Stored, String> {
    let cut = memchr::memchr(b'\n', bytes).ok_or("the file is cut in its first line")?;
    let header: Header = serde_json::from_slice(&bytes[..cut])
        .map_err(|_| "its first line does not tell format, length and checksum")?;
    let body = &bytes[cut + 1..];
    if header.format != FORMAT {
        return Err(format!("it has the format {}, this version reads {FORMAT}", header.format));
    }
    if body.len() as u64 != header.length || !body.len().is_multiple_of(8) {
        return Err(format!("it is cut: {} bytes instead of {}", body.len(), header.length));
    }
    if crc32fast::hash(body) != header.crc32 {
        return Err("its checksum does not match: it was changed or damaged".to_owned());
    }
    let mut numbers = body.chunks_exact(8).filter_map(|eight| eight.first_chunk().copied());
    let mut number = || numbers.next().map(u64::from_be_bytes);
    let (Some(one), Some(two)) = (number(), number()) else {
        return Err("it holds no seed".to_owned());
    };
    let mut bindings = Vec::with_capacity(body.len() / BINDING);
    while let (Some(key), Some(endpoint), Some(until)) = (number(), number(), number()) {
        bindings.push(Binding { key, endpoint, until });
    }
    Ok(Stored { seed: [one, two], bindings })
}

/// Makes `parts` the content of the file `name`: written aside, synced, renamed.
fn replace(directory: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let staged = directory.join(format!("{name}.new"));
    // One that a crash left behind may have other permissions.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&staged, directory.join(name))?;
    File::open(directory).and_then(|directory| directory.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::proxy::sticky::identity::Identity;

    const HERE: Identity = Identity { upstream: 1, endpoint: 2 };

    fn stored() -> Stored {
        let binding = |key| Binding { key, endpoint: key * 2, until: key * 3 };
        Stored { seed: [7, 8], bindings: (2..30).map(binding).collect() }
    }

    #[test]
    fn what_is_saved_is_loaded_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Ok(None));
        for stored in [stored(), Stored { seed: [1, 2], bindings: Vec::new() }] {
            save(dir.path(), &stored).unwrap();
            assert_eq!(load(dir.path()), Ok(Some(stored)));
        }
        own_keys(dir.path()).unwrap();
        for name in [OWN_KEY, SOURCES] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_file_that_was_changed_anywhere_or_cut_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &stored()).unwrap();
        let path = dir.path().join(SOURCES);
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let why = load(dir.path()).unwrap_err();
            assert!(why.starts_with(&path.display().to_string()), "byte {at}: {why}");
            fs::write(&path, &sound[..at]).unwrap();
            assert!(load(dir.path()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_key_of_a_node_is_made_once_and_a_damaged_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let value = own_keys(dir.path()).unwrap().seal("a", HERE, 1);
        let again = own_keys(dir.path()).unwrap();
        assert!(again.open("a", value.as_bytes(), 1).is_some());
        fs::write(dir.path().join(OWN_KEY), "garbage").unwrap();
        let other = own_keys(dir.path()).unwrap();
        assert!(other.open("a", value.as_bytes(), 1).is_none());
        let value = other.seal("a", HERE, 1);
        assert!(own_keys(dir.path()).unwrap().open("a", value.as_bytes(), 1).is_some());
        assert!(own_keys(&dir.path().join("nowhere")).unwrap_err().contains("sticky.key: "));
    }

    #[test]
    fn a_configured_key_is_one_line_or_two_and_an_error_never_shows_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let (one, two) = ("0123456789abcdefABCDEF0123456789".repeat(2), "ff".repeat(KEY));
        for (case, text, good) in [
            ("one", format!("{one}\n"), true),
            ("without an end of line", one.clone(), true),
            ("two", format!("{one}\r\n\n{two}\n"), true),
            ("three", format!("{one}\n{two}\n{two}\n"), false),
            ("empty", String::new(), false),
            ("short", one[1..].to_owned(), false),
            ("other digits", one.replace('0', "x"), false),
            ("a bad second one", format!("{one}\nsecret\n"), false),
            ("not ASCII", "é".repeat(KEY), false),
        ] {
            fs::write(&path, &text).unwrap();
            match keys_of(&path) {
                Ok(_) => assert!(good, "{case}"),
                Err(error) => {
                    let told = error.to_string();
                    assert!(!good && told.contains("key: one line") || told.contains("openssl"));
                    assert!(!told.contains("secret") && !told.contains(&one[2..12]), "{case}");
                }
            }
        }
        let told = keys_of(&dir.path().join("none")).unwrap_err().to_string();
        assert!(told.starts_with("cannot read [sticky] key_file "), "{told}");
    }

    #[test]
    fn two_keys_mean_that_the_first_seals_and_both_open() {
        let (one, two) = ("01".repeat(KEY), "02".repeat(KEY));
        let sealed = parse(&one).unwrap().seal("a", HERE, 1);
        let both = parse(&format!("{two}\n{one}")).unwrap();
        assert!(both.open("a", sealed.as_bytes(), 1).unwrap().stale);
        let sealed = both.seal("a", HERE, 1);
        assert!(parse(&one).unwrap().open("a", sealed.as_bytes(), 1).is_none());
    }
}
