//! Who is let in by name and password (HTTP Basic, RFC 7617).
//!
//! Hashes of passwords are slow by intent, so that no worker reckons them: other threads do, a few at
//! once over all workers, and what came out is remembered. What is remembered is a keyed hash of user,
//! password and stored hash, never one of them; another stored hash makes it worthless.

mod apr1;
mod gate;
mod hash;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::proxy::config::BasicAuthConfig;
pub use gate::{AuthMetrics, Gate, Verifying};
use hash::Hash;

/// Largest file of users.
const FILE_MAX: u64 = 4 << 20;
/// Most users of one route.
const USERS_MAX: usize = 10_000;
/// Longest password, as where crypt(3) reckons; a longer one is nobody's.
const PASSWORD_MAX: usize = 512;

/// The users of one route.
pub struct Users {
    /// What others are told, in `WWW-Authenticate`.
    pub challenge: HeaderValue,
    /// Whether endpoints get `Authorization` too.
    pub forward: bool,
    by_name: HashMap<Box<str>, Arc<Hash>>,
    /// What is reckoned for names that nobody has, so that time does not tell which there are.
    nobody: Arc<Hash>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("challenge", &self.challenge)
            .field("count", &self.by_name.len())
            .finish_non_exhaustive()
    }
}

impl Users {
    /// Compiles `config`; what can't be goes to `tell` with its key. Reads the file of users, and blocks
    /// on that.
    pub fn compile(
        config: Option<&BasicAuthConfig>,
        tell: &mut dyn FnMut(&'static str, String),
    ) -> Option<Self> {
        let config = config?;
        let mut by_name: HashMap<Box<str>, Arc<Hash>> = HashMap::new();
        let mut add = |name: &str, hash: &str| {
            if name.is_empty() || name.contains([':', '\n']) {
                return Err(format!("{name:?} is no name of a user: it has one, without a ':'"));
            }
            let hash = Hash::parse(hash).map_err(|why| format!("the hash of {name:?} {why}"))?;
            by_name.insert(name.into(), Arc::new(hash));
            Ok(())
        };
        let mut problems = Vec::new();
        if let Some(file) = &config.users_file {
            match lines(file) {
                Ok(text) => {
                    for (number, line) in text.lines().enumerate() {
                        let line = line.trim();
                        if line.is_empty() || line.starts_with('#') {
                            continue;
                        }
                        // What nginx lets stand behind a second colon is a remark.
                        let mut parts = line.splitn(3, ':');
                        let (name, hash) = (parts.next(), parts.next().unwrap_or_default());
                        if let Err(why) = add(name.unwrap_or_default(), hash) {
                            let place = format!("{}:{}", file.display(), number + 1);
                            problems.push(format!("users_file: {place}: {why}"));
                        }
                    }
                }
                Err(why) => problems.push(format!("users_file: {why}")),
            }
        }
        for (name, hash) in &config.users {
            if let Err(why) = add(name, hash) {
                problems.push(format!("users: {why}"));
            }
        }
        if by_name.len() > USERS_MAX {
            problems.push(format!("has {} users; {USERS_MAX} are the most", by_name.len()));
        }
        let realm = config.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = HeaderValue::from_str(&format!("Basic realm=\"{realm}\""));
        if config.realm.chars().any(char::is_control) || challenge.is_err() {
            problems.push(format!("realm = {:?} cannot stand in a header", config.realm));
        }
        let nobody = by_name.iter().min_by_key(|(name, _)| *name).map(|(_, hash)| Arc::clone(hash));
        if nobody.is_none() && problems.is_empty() {
            problems
                .push("names nobody; write users = { ada = \"$2y$…\" } or a `users_file`".into());
        }
        let found = (challenge.ok(), nobody);
        let sound = problems.is_empty();
        for problem in problems {
            tell("basic_auth", problem);
        }
        let (Some(challenge), Some(nobody), true) = (found.0, found.1, sound) else { return None };
        Some(Self { challenge, forward: config.forward, by_name, nobody })
    }

    /// The stored hash for `name`, and whether it is that name's own.
    fn hash(&self, name: &str) -> (&Arc<Hash>, bool) {
        match self.by_name.get(name) {
            Some(own) => (own, true),
            None => (&self.nobody, false),
        }
    }
}

fn lines(file: &Path) -> Result<String, String> {
    let told = |what: String| format!("{}: {what}", file.display());
    let found = std::fs::metadata(file).map_err(|error| told(error.to_string()))?;
    if found.len() > FILE_MAX {
        return Err(told(format!("is larger than {} MiB", FILE_MAX >> 20)));
    }
    std::fs::read_to_string(file).map_err(|error| told(error.to_string()))
}

/// User and password of an `Authorization` line; none when it is another scheme, or garbled.
fn credentials(line: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = line.as_bytes().split_at_checked(5)?;
    if !scheme.eq_ignore_ascii_case(b"basic") || rest.first() != Some(&b' ') {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at(colon);
    let password = password.get(1..).unwrap_or_default();
    let name = std::str::from_utf8(name).ok()?;
    (password.len() <= PASSWORD_MAX).then(|| (name.to_owned(), password.to_vec()))
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
