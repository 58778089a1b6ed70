//! Texts that nobody may see: passwords and tokens of registries.

use std::fmt;

use serde::Deserialize;

/// A text that prints as `…`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself. Give it to whom it is for, never to a log or an error.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_what_is_printed() {
        assert_eq!(format!("{:?}", Some(Secret::from("hunter2".to_owned()))), "Some(…)");
    }
}
