//! A file of `conf.d`: one template, its file, its check and its reload. Pure.

use std::time::Duration;

use toml::{Table, Value};

use super::duration;
use super::flags::Given;

/// What a resource states, as confd reads it: names of keys in any case, unknown ones ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) keys: Vec<String>,
    pub(super) prefix: String,
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<String>,
    pub(super) check: Option<String>,
    pub(super) reload: Option<String>,
    pub(super) check_timeout: Option<Duration>,
    pub(super) reload_timeout: Option<Duration>,
    pub(super) output_format: Option<String>,
    pub(super) reload_interval: Option<Duration>,
    pub(super) debounce: Option<Duration>,
    /// Its own backend.
    pub(super) backend: Option<Given>,
    /// What is stated and not as it is in confd.
    pub(super) notes: Vec<String>,
}

/// Every key of `[template]`.
pub(super) const KEYS: [&str; 16] = [
    "check_cmd",
    "check_cmd_timeout",
    "debounce",
    "dest",
    "gid",
    "group",
    "keys",
    "min_reload_interval",
    "mode",
    "output_format",
    "owner",
    "prefix",
    "reload_cmd",
    "reload_cmd_timeout",
    "src",
    "uid",
];

/// Reads the text of a resource.
///
/// # Errors
/// Line and column of what is no TOML, or the key with a value that cannot be, and what to write.
pub(super) fn read(text: &str) -> Result<Resource, String> {
    let document: Table = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{line}:{column}: {}", error.message())
    })?;
    let mut resource = Resource::default();
    let (mut template, mut backend) = (None, None);
    for (name, value) in document {
        match (name.to_lowercase().as_str(), value) {
            ("template", Value::Table(table)) => template = Some(table),
            ("backend", Value::Table(table)) => backend = Some(table),
            ("template" | "backend", _) => return Err(format!("[{name}] must be a table")),
            _ => resource.notes.push(format!("`{name}` is no table of confd and is ignored")),
        }
    }
    let template = template.ok_or("there is no table [template]; add it, with `src` and `dest`")?;
    resource.template(template)?;
    if let Some(table) = backend {
        let mut given = Given::default();
        for (key, value) in &table {
            if !given.set(key, value).map_err(|why| format!("[backend] {why}"))? {
                resource.notes.push(format!("`{key}` in [backend] is no key and is ignored"));
            }
        }
        if given.text("backend").is_some() {
            resource.backend = Some(given);
        }
    }
    for (key, value) in [("src", &resource.source), ("dest", &resource.destination)] {
        if value.is_empty() {
            return Err(format!("[template] has no `{key}`; add it"));
        }
    }
    Ok(resource)
}

impl Resource {
    fn template(&mut self, table: Table) -> Result<(), String> {
        let (mut user, mut group) = (None, None);
        let (mut uid, mut gid) = (None, None);
        for (name, value) in table {
            let key = name.to_lowercase();
            let text = || match &value {
                Value::String(text) => Ok(text.clone()),
                other => Err(format!("`{name}` must be a string, not {}", shown(other))),
            };
            let some = || text().map(|text| Some(text).filter(|text| !text.is_empty()));
            let length = || match some()? {
                Some(text) => {
                    duration::read(&text).map(Some).map_err(|why| format!("`{name}`: {why}"))
                }
                None => Ok(None),
            };
            let number = || match value {
                Value::Integer(number) if (0..=i64::from(u32::MAX)).contains(&number) => {
                    Ok(Some(number.to_string()))
                }
                // As if it were not stated.
                Value::Integer(-1) => Ok(None),
                ref other => Err(format!("`{name}` must be a number, not {}", shown(other))),
            };
            match &*key {
                "src" => self.source = text()?,
                "dest" => self.destination = text()?,
                "prefix" => self.prefix = text()?,
                "keys" => {
                    let items = value.as_array().map(|items| {
                        items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
                    });
                    self.keys = items.flatten().ok_or_else(|| {
                        format!("`{name}` must be a list of strings, such as [\"/app\"]")
                    })?;
                }
                "mode" => {
                    if let Some(text) = some()? {
                        let (mode, note) = mode(&text)?;
                        self.mode = Some(mode);
                        self.notes.extend(note);
                    }
                }
                "uid" => uid = number()?,
                "gid" => gid = number()?,
                "owner" => user = some()?,
                "group" => group = some()?,
                "check_cmd" => self.check = some()?,
                "reload_cmd" => self.reload = some()?,
                "check_cmd_timeout" => self.check_timeout = length()?,
                "reload_cmd_timeout" => self.reload_timeout = length()?,
                "min_reload_interval" => self.reload_interval = length()?,
                "debounce" => self.debounce = length()?,
                "output_format" => {
                    self.output_format = match some()?.as_deref().map(str::to_lowercase).as_deref()
                    {
                        None => None,
                        Some("yml") => Some("yaml".to_owned()),
                        Some(known @ ("json" | "yaml" | "toml" | "xml")) => Some(known.to_owned()),
                        Some(other) => {
                            return Err(format!(
                                "`{name}` = {other:?} is unknown; there are json, yaml, toml and xml"
                            ));
                        }
                    };
                }
                _ => self.notes.push(crate::suggest::unknown_key(&name, "[template]", &KEYS)),
            }
        }
        // Numbers count before names, as in confd.
        self.owner = match (uid.or(user), gid.or(group)) {
            (None, None) => None,
            (user, group) => {
                let group = group.map_or_else(String::new, |group| format!(":{group}"));
                Some(user.unwrap_or_default() + &group)
            }
        };
        Ok(())
    }
}

/// The permissions that `text` states, and what is to be said about it.
///
/// confd reads a number as Go does: `0644` and `0o644` in octal, `0x1a4` in hexadecimal, and anything
/// else in decimal, where `644` would be `--w----r--`. Nobody means that.
fn mode(text: &str) -> Result<(u32, Option<String>), String> {
    let wrong = || format!("`mode` = {text:?} are no permissions; write them like \"0644\"");
    let digits = text.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let (radix, number, note) = if let Some(hexadecimal) = lower.strip_prefix("0x") {
        (16, hexadecimal, None)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary, None)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal, None)
    } else if lower.starts_with('0') {
        (8, &*lower, None)
    } else {
        let note = format!(
            "`mode` = {text:?} is taken as the octal number that it looks like; confd reads it in \
             decimal, for there is no 0 at its start"
        );
        (8, &*lower, Some(note))
    };
    let mode = u32::from_str_radix(number, radix).map_err(|_| wrong())?;
    // Go keeps the bits beyond in other places: they never reach the file.
    Ok((mode & 0o777, note))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
            value.to_string()
        }
        other => format!("a value of the type {}", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(line: &str) -> Result<Resource, String> {
        read(&format!("[template]\nsrc = \"a.tmpl\"\ndest = \"/a\"\n{line}\n"))
    }

    #[test]
    fn every_key_is_read() {
        let plain = with("").unwrap();
        assert_eq!((&*plain.source, &*plain.destination), ("a.tmpl", "/a"));
        let text = |text: &str| Some(text.to_owned());
        let ms = |ms| Some(Duration::from_millis(ms));
        let keys = || vec!["/a".to_owned(), "b".to_owned()];
        for (line, want) in [
            ("keys = [\"/a\", \"b\"]", Resource { keys: keys(), ..plain.clone() }),
            ("KEYS = [\"/a\", \"b\"]", Resource { keys: keys(), ..plain.clone() }),
            ("prefix = \"/p\"", Resource { prefix: "/p".to_owned(), ..plain.clone() }),
            ("mode = \"0600\"", Resource { mode: Some(0o600), ..plain.clone() }),
            ("mode = \"0o4755\"", Resource { mode: Some(0o755), ..plain.clone() }),
            ("mode = \"0x1a4\"", Resource { mode: Some(0o644), ..plain.clone() }),
            ("mode = \"\"", plain.clone()),
            ("uid = 7", Resource { owner: text("7"), ..plain.clone() }),
            ("gid = 8", Resource { owner: text(":8"), ..plain.clone() }),
            ("uid = 7\ngid = 8", Resource { owner: text("7:8"), ..plain.clone() }),
            ("uid = -1\ngid = -1", plain.clone()),
            ("owner = \"a\"\ngroup = \"b\"", Resource { owner: text("a:b"), ..plain.clone() }),
            ("owner = \"a\"\nuid = 7", Resource { owner: text("7"), ..plain.clone() }),
            ("uid = 0\ngid = 0", Resource { owner: text("0:0"), ..plain.clone() }),
            ("check_cmd = \"c\"", Resource { check: text("c"), ..plain.clone() }),
            ("Check_Cmd = \"c\"", Resource { check: text("c"), ..plain.clone() }),
            ("reload_cmd = \"r\"", Resource { reload: text("r"), ..plain.clone() }),
            ("reload_cmd = \"\"", plain.clone()),
            ("check_cmd_timeout = \"5s\"", Resource { check_timeout: ms(5000), ..plain.clone() }),
            (
                "reload_cmd_timeout = \"1m\"",
                Resource { reload_timeout: ms(60_000), ..plain.clone() },
            ),
            (
                "min_reload_interval = \"30s\"",
                Resource { reload_interval: ms(30_000), ..plain.clone() },
            ),
            ("debounce = \"500ms\"", Resource { debounce: ms(500), ..plain.clone() }),
            ("output_format = \"json\"", Resource { output_format: text("json"), ..plain.clone() }),
            ("output_format = \"yml\"", Resource { output_format: text("yaml"), ..plain.clone() }),
        ] {
            assert_eq!(with(line).unwrap_or_else(|why| panic!("{line}: {why}")), want, "{line}");
        }
    }

    #[test]
    fn what_confd_ignores_is_told_and_a_mode_without_its_zero_is_meant_in_octal() {
        let resource = with("relaod_cmd = \"x\"\nmode = \"644\"").unwrap();
        assert_eq!(resource.mode, Some(0o644));
        assert_eq!(resource.notes.len(), 2, "{:?}", resource.notes);
        assert!(resource.notes.iter().any(|note| note.contains("did you mean `reload_cmd`?")));
        let resource = read("[Template]\nSrc = \"a\"\nDest = \"b\"\n[other]\nx = 1\n").unwrap();
        assert_eq!(resource.notes, ["`other` is no table of confd and is ignored"]);
    }

    #[test]
    fn a_backend_of_its_own_is_read_as_flags() {
        let resource = with("[backend]\nbackend = \"consul\"\nnodes = [\"a:1\"]\nx = 1").unwrap();
        let backend = resource.backend.unwrap();
        assert_eq!((backend.text("backend"), backend.text("node")), (Some("consul"), Some("a:1")));
        assert_eq!(resource.notes, ["`x` in [backend] is no key and is ignored"]);
        assert_eq!(with("[backend]\nnodes = [\"a:1\"]").unwrap().backend, None);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place_or_key() {
        for (case, text, want) in [
            ("no TOML", "[template]\nsrc = \n", "2:7: "),
            ("nothing", "", "there is no table [template]"),
            ("no source", "[template]\ndest = \"a\"", "[template] has no `src`"),
            ("no destination", "[template]\nsrc = \"a\"", "[template] has no `dest`"),
            ("a number for a text", "[template]\nsrc = 1", "`src` must be a string, not 1"),
            ("a text for keys", "[template]\nkeys = \"a\"", "`keys` must be a list of strings"),
            ("a mode", "[template]\nmode = \"rw\"", "`mode` = \"rw\" are no permissions"),
            ("a length", "[template]\ndebounce = \"2\"", "`debounce`: \"2\" is no length"),
            ("a format", "[template]\noutput_format = \"ini\"", "`output_format` = \"ini\""),
            ("a user", "[template]\nuid = \"root\"", "`uid` must be a number, not \"root\""),
            ("a table", "template = 1", "[template] must be a table"),
            ("nodes", "[template]\n[backend]\nnodes = [1]", "[backend] `nodes` must be a list"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(want), "{case}: {error}");
        }
    }
}
