//! A configuration as it may be shown: as it is written, with what is secret left out.

use std::sync::Arc;

use toml::{Table, Value};

/// A configuration as it may be shown. How it is written makes it no other one.
#[derive(Debug, Clone, Default)]
pub struct Shown(pub Arc<str>);

impl PartialEq for Shown {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What stands in the place of a secret.
const HIDDEN: &str = "(not shown)";
/// Parts of keys whose values are secret, unless the key names a file.
const SECRET: &[&str] = &["password", "passwd", "token", "secret", "credential", "authorization"];
/// Keys below which every string is.
const SECRET_TABLES: &[&str] = &["users", "env", "headers"];

/// `text` as it may be shown. Variables stay as they are written: `${NAME}`.
pub(super) fn shown(text: &str) -> Shown {
    // What cannot be read was refused before this.
    let Ok(mut table) = text.parse::<Table>() else { return Shown::default() };
    hide(&mut table, false);
    Shown(toml::to_string_pretty(&table).unwrap_or_default().into())
}

fn hide(table: &mut Table, all: bool) {
    for (key, value) in table.iter_mut() {
        let key = key.to_ascii_lowercase();
        let file = key.ends_with("_file");
        let secret = !file && (all || SECRET.iter().any(|part| key.contains(part)));
        hide_value(value, secret, all || SECRET_TABLES.contains(&&*key));
    }
}

fn hide_value(value: &mut Value, secret: bool, below: bool) {
    match value {
        Value::String(_) if secret => *value = Value::String(HIDDEN.to_owned()),
        Value::String(text) => {
            if let Some(plain) = without_user(text) {
                *text = plain;
            }
        }
        Value::Table(table) => hide(table, secret || below),
        Value::Array(items) => {
            for item in items {
                hide_value(item, secret || below, below);
            }
        }
        _ => {}
    }
}

/// `http://user:password@host` without the first two.
fn without_user(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
    let at = authority.rfind('@')?;
    Some(format!("{scheme}://{HIDDEN}{}", &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown_and_everything_else_is() {
        let shown = shown(
            r#"
            [registry.main.consul]
            address = "http://ada:lovelace@consul.example:8500/x?y=z"
            token = "t0psecret1"
            token_file = "/run/secrets/token"
            variable = "${HOME}"
            [route.a]
            service = "web"
            basic_auth = { realm = "staff", users = { ada = "t0psecret2" } }
            request_headers = { set = { Authorization = "t0psecret3", x-a = "b" } }
            [exec]
            env = { A = "t0psecret4", B = ["t0psecret5"] }
            [[other]]
            Password = "t0psecret6"
            "#,
        );
        let shown = shown.0;
        for kept in ["consul.example:8500/x?y=z", "/run/secrets/token", "${HOME}", "staff", "\"b\""]
        {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
        for hidden in ["t0psecret", "ada:lovelace", "lovelace"] {
            assert!(!shown.contains(hidden), "{hidden}: {shown}");
        }
    }
}
