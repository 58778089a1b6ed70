//! What a Marathon is told of who we are: a password or a token from a file, read again and again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use http::HeaderValue;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::config::MarathonConfig;

/// How long what was read from a file counts; after a refusal it is read anew.
const FRESH: Duration = Duration::from_secs(60);
/// Most bytes of a file with a secret.
const FILE_MAX: u64 = 64 << 10;

/// User name and password, a token, or neither.
pub(super) struct Credentials {
    kind: Kind,
    known: Mutex<Option<(Instant, HeaderValue)>>,
}

enum Kind {
    None,
    /// User name, and the file of its password.
    Basic(String, Option<PathBuf>),
    Token(PathBuf),
}

impl Credentials {
    /// Those of `config`; a token counts when both are given.
    pub(super) fn new(config: &MarathonConfig, base_dir: &Path) -> Self {
        let kind = match (&config.token_file, &config.username) {
            (Some(file), _) => Kind::Token(base_dir.join(file)),
            (None, Some(user)) => {
                let file = config.password_file.as_ref().map(|file| base_dir.join(file));
                Kind::Basic(user.clone(), file)
            }
            (None, None) => Kind::None,
        };
        Self { kind, known: Mutex::new(None) }
    }

    /// Whether there are any.
    pub(super) const fn any(&self) -> bool {
        !matches!(self.kind, Kind::None)
    }

    /// The value of `Authorization`, marked as sensitive.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, String> {
        if !self.any() {
            return Ok(None);
        }
        if let Some((read_at, header)) = &*self.known()
            && read_at.elapsed() < FRESH
        {
            return Ok(Some(header.clone()));
        }
        let header = self.read().await?;
        *self.known() = Some((Instant::now(), header.clone()));
        Ok(Some(header))
    }

    /// They were refused: files are read again.
    pub(super) fn refused(&self) {
        *self.known() = None;
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<(Instant, HeaderValue)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> Result<HeaderValue, String> {
        let (text, key) = match &self.kind {
            Kind::None => (String::new(), "username"),
            Kind::Basic(user, file) => {
                let password = match file {
                    Some(file) => secret("password_file", file).await?,
                    None => String::new(),
                };
                let both = format!("{user}:{password}");
                let both = base64::engine::general_purpose::STANDARD.encode(both);
                (format!("Basic {both}"), "password_file")
            }
            Kind::Token(file) => {
                (format!("token={}", secret("token_file", file).await?), "token_file")
            }
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| format!("{key} holds what no header can carry; check the file"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

async fn secret(key: &str, file: &Path) -> Result<String, String> {
    let told = |why: &dyn std::fmt::Display| format!("{key} {}: {why}", file.display());
    let mut text = String::new();
    let opened = tokio::fs::File::open(file).await.map_err(|error| told(&error))?;
    opened.take(FILE_MAX).read_to_string(&mut text).await.map_err(|error| told(&error))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(told(&"it is empty"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(keys: &str, dir: &Path) -> Credentials {
        let text = format!("urls = [\"http://a\"]\n{keys}");
        Credentials::new(&toml::from_str(&text).unwrap(), dir)
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_or_a_token_is_read_from_its_file_and_again_when_it_was_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "hunter2\n").unwrap();
        let basic = credentials("username = \"u\"\npassword_file = \"secret\"", dir.path());
        let header = basic.header().await.unwrap().unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic dTpodW50ZXIy");
        assert!(header.is_sensitive());
        let token = credentials("username = \"u\"\ntoken_file = \"secret\"", dir.path());
        assert_eq!(token.header().await.unwrap().unwrap(), "token=hunter2");
        std::fs::write(&file, "new").unwrap();
        assert_eq!(token.header().await.unwrap().unwrap(), "token=hunter2", "still fresh");
        token.refused();
        assert_eq!(token.header().await.unwrap().unwrap(), "token=new");
        std::fs::write(&file, "newer").unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(token.header().await.unwrap().unwrap(), "token=newer");
        assert_eq!(credentials("", dir.path()).header().await, Ok(None));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_told_with_its_key_and_never_with_its_content() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("empty"), " \n").unwrap();
        std::fs::write(dir.path().join("odd"), "hunter\u{1}2").unwrap();
        for (keys, want) in [
            ("token_file = \"none\"", "token_file "),
            ("token_file = \"empty\"", "it is empty"),
            ("token_file = \"odd\"", "token_file holds what no header can carry"),
            ("username = \"u\"\npassword_file = \"none\"", "password_file "),
        ] {
            let error = credentials(keys, dir.path()).header().await.unwrap_err();
            assert!(error.contains(want) && !error.contains("hunter"), "{keys}: {error}");
        }
    }
}
