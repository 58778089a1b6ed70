//! Where keys come from, as a table of ours. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::text::Text;
use super::config::{Backend, ConfdConfig, Scheme, Token, clean};
use super::flags::Given;

/// Values of variables that must not be written down.
pub(super) type Secrets = BTreeMap<String, String>;

/// A backend with all that it takes to reach it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    pub(super) backend: Backend,
    /// URLs.
    pub(super) nodes: Vec<String>,
    /// A registry that is there already.
    pub(super) registry: Option<String>,
    pub(super) files: Vec<PathBuf>,
    pub(super) filter: Option<String>,
    pub(super) token: Option<Token>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Token>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
}

impl Source {
    /// That of a whole installation.
    pub(super) fn of(config: &ConfdConfig) -> Self {
        Self {
            backend: config.backend,
            nodes: urls(&config.nodes, config.scheme),
            registry: config.registry.clone(),
            files: config.files.clone(),
            filter: config.filter.clone(),
            token: config.token.clone(),
            token_file: config.token_file.clone(),
            username: config.username.clone(),
            password: config.password.clone(),
            ca_file: config.ca_file.clone(),
            cert_file: config.cert_file.clone(),
            key_file: config.key_file.clone(),
        }
    }

    /// That of one resource; what opens Consul is taken from the whole installation.
    ///
    /// # Errors
    /// The backend is not there, or cannot be reached in that way.
    pub(super) fn of_resource(given: &Given, whole: &Self) -> Result<Self, String> {
        let backend: Backend = given.text("backend").unwrap_or_default().parse()?;
        reachable(given)?;
        let file = |name: &str, whole: &Option<PathBuf>| {
            given.text(name).map(PathBuf::from).or_else(|| whole.clone())
        };
        let (username, password) = if given.on("basic-auth") {
            let text = |name: &str| given.text(name).map(str::to_owned);
            (text("username"), text("password").map(Token))
        } else {
            (whole.username.clone(), whole.password.clone())
        };
        Ok(Self {
            backend,
            nodes: urls(given.texts("node"), scheme(given)?),
            registry: None,
            files: given.texts("file").iter().map(PathBuf::from).collect(),
            filter: given.text("filter").map(str::to_owned),
            token: whole.token.clone(),
            token_file: whole.token_file.clone(),
            username,
            password,
            ca_file: file("client-ca-keys", &whole.ca_file),
            cert_file: file("client-cert", &whole.cert_file),
            key_file: file("client-key", &whole.key_file),
        })
    }

    /// Writes `[registry.NAME]` for it, reading `keys` of the environment and no others. Says what
    /// differs from confd.
    ///
    /// # Errors
    /// Something without which there is nothing to read.
    pub(super) fn write(
        &self,
        name: &str,
        keys: &[String],
        text: &mut Text,
        secrets: &mut Secrets,
    ) -> Result<Option<String>, String> {
        match self.backend {
            Backend::Env => {
                text.table(&["registry", name, "environment"]);
                text.list("keys", keys);
            }
            Backend::File => {
                if self.files.is_empty() {
                    return Err("the backend `file` reads no file; name some".to_owned());
                }
                text.table(&["registry", name, "keyfile"]);
                text.list("paths", &texts(&self.files));
                if let Some(filter) = self.filter.as_deref().filter(|filter| *filter != "*") {
                    text.string("filter", filter);
                }
            }
            Backend::Consul | Backend::Catalog => {
                text.table(&["registry", name, "consul"]);
                let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
                let (first, others) = match &nodes[..] {
                    [] => ("http://127.0.0.1:8500", &[][..]),
                    [first, others @ ..] => (*first, others),
                };
                text.string("address", first);
                if !others.is_empty() {
                    text.list("addresses", others);
                }
                self.write_keys(name, text, secrets);
                if !others.is_empty() {
                    return Ok(Some(
                        "of several nodes of Consul confd uses the first one only; here the others \
                         are tried when it cannot be reached"
                            .to_owned(),
                    ));
                }
            }
        }
        Ok(None)
    }

    /// Writes what opens Consul. Secrets are written as variables, which are added to `secrets`
    /// unless they are variables already.
    pub(super) fn write_keys(&self, name: &str, text: &mut Text, secrets: &mut Secrets) {
        if let Some(username) = &self.username {
            text.string("username", username);
        }
        for (key, secret) in [("token", &self.token), ("password", &self.password)] {
            let Some(Token(secret)) = secret else { continue };
            if let Some(variable) =
                secret.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
            {
                text.variable(key, variable);
                continue;
            }
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            let variable: String = format!("{name}_{key}").chars().map(plain).collect();
            let variable = variable.to_ascii_uppercase();
            text.variable(key, &variable);
            secrets.insert(variable, secret.clone());
        }
        for (name, file) in [
            ("token_file", &self.token_file),
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
        ] {
            if let Some(file) = file {
                text.string(name, &file.to_string_lossy());
            }
        }
    }

    /// The prefix and the keys of a resource, as the template names them.
    ///
    /// The environment knows neither case nor underscores: there `/app_db` is the same as
    /// `/App/DB`. Like in confd, a prefix that is not spelled like its keys is not taken off them.
    pub(super) fn keys(&self, prefix: &str, keys: &[String]) -> (String, Vec<String>) {
        let own = |key: &String| {
            let key = clean(&[key]);
            if key.is_empty() { "/".to_owned() } else { key }
        };
        match self.backend {
            // Its layout is the same for everybody.
            Backend::Catalog => (String::new(), keys.iter().map(own).collect()),
            Backend::Env if spelled(prefix) == prefix => {
                (prefix.to_owned(), keys.iter().map(|key| spelled(&own(key))).collect())
            }
            Backend::Env => {
                let whole = |key: &String| spelled(&clean(&[prefix, key]));
                (String::new(), keys.iter().map(whole).collect())
            }
            _ => (prefix.to_owned(), keys.iter().map(own).collect()),
        }
    }
}

/// A key as the environment spells it.
fn spelled(key: &str) -> String {
    let key = key.to_lowercase().replace('_', "/");
    let clean = clean(&[&key]);
    if clean.is_empty() && key.starts_with('/') { "/".to_owned() } else { clean }
}

/// Refuses what does not lead to a backend.
pub(super) fn reachable(given: &Given) -> Result<(), String> {
    given.refused().map_or(Ok(()), |(name, why)| Err(format!("-{name}: {why}")))
}

/// How nodes without a scheme are reached.
pub(super) fn scheme(given: &Given) -> Result<Scheme, String> {
    match given.text("scheme") {
        None | Some("http") => Ok(Scheme::Http),
        Some("https") => Ok(Scheme::Https),
        Some(other) => Err(format!("the scheme {other:?} is unknown; there are http and https")),
    }
}

fn urls(nodes: &[String], scheme: Scheme) -> Vec<String> {
    let url = |node: &String| {
        if node.contains("://") { node.clone() } else { format!("{}://{node}", scheme.word()) }
    };
    nodes.iter().filter(|node| !node.is_empty()).map(url).collect()
}

pub(super) fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        let config: ConfdConfig = toml::from_str(&format!("dir = \"d\"\n{text}")).unwrap();
        Source::of(&config)
    }

    fn written(text: &str, keys: &[&str]) -> String {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let mut out = Text::default();
        source(text).write("confd", &keys, &mut out, &mut Secrets::new()).unwrap();
        out.finish()
    }

    #[test]
    fn every_backend_becomes_a_registry() {
        for (case, text, want) in [
            ("env", "backend = \"env\"", "[registry.confd.environment]\nkeys = [\"/app\"]\n"),
            (
                "files",
                "backend = \"file\"\nfiles = [\"a.yaml\", \"/d\"]\nfilter = \"*.yaml\"",
                "[registry.confd.keyfile]\npaths = [\"a.yaml\", \"/d\"]\nfilter = \"*.yaml\"\n",
            ),
            (
                "consul by default",
                "backend = \"consul\"",
                "[registry.confd.consul]\naddress = \"http://127.0.0.1:8500\"\n",
            ),
            (
                "consul with all",
                "backend = \"consul\"\nnodes = [\"a:1\", \"http://b:2\"]\nscheme = \"https\"\n\
                 token = \"${TOKEN}\"\nca_file = \"ca\"\ncert_file = \"c\"\nkey_file = \"k\"",
                "[registry.confd.consul]\naddress = \"https://a:1\"\naddresses = [\"http://b:2\"]\n\
                 token = \"${TOKEN}\"\nca_file = \"ca\"\ncert_file = \"c\"\nkey_file = \"k\"\n",
            ),
        ] {
            assert_eq!(written(text, &["/app"]), want, "{case}");
        }
        let why = source("backend = \"file\"");
        let why = why.write("a", &[], &mut Text::default(), &mut Secrets::new()).unwrap_err();
        assert!(why.contains("name some"), "{why}");
    }

    #[test]
    fn keys_are_named_as_the_backend_spells_them() {
        for (backend, prefix, key, want) in [
            ("consul", "/p", "/a/b", ("/p", "/a/b")),
            ("consul", "/p", "a_B/", ("/p", "/a_B")),
            ("file", "", "/", ("", "/")),
            ("env", "/p", "/a", ("/p", "/a")),
            ("env", "/p", "/A_b", ("/p", "/a/b")),
            ("env", "/my_p", "/a", ("", "/my/p/a")),
            ("env", "/P", "/a", ("", "/p/a")),
            ("env", "", "/", ("", "/")),
            ("catalog", "/p", "services/web", ("", "/services/web")),
        ] {
            let source = source(&format!("backend = \"{backend}\""));
            let (prefix_now, keys) = source.keys(prefix, &[key.to_owned()]);
            assert_eq!((&*prefix_now, &*keys[0]), want, "{backend} {prefix} {key}");
        }
    }

    #[test]
    fn a_resource_has_a_backend_of_its_own_and_the_keys_to_consul_of_all() {
        let whole = source("token_file = \"t\"\nca_file = \"ca\"");
        let of = |text: &str| {
            let mut given = Given::default();
            for (key, value) in &text.parse::<toml::Table>().unwrap() {
                assert!(given.set(key, value).unwrap(), "{key}");
            }
            Source::of_resource(&given, &whole)
        };
        let consul = of("backend = \"consul\"\nnodes = [\"a:1\"]\nscheme = \"https\"").unwrap();
        assert_eq!(consul.nodes, ["https://a:1"]);
        assert_eq!((consul.token_file, consul.ca_file), (Some("t".into()), Some("ca".into())));
        let guarded =
            "backend = \"consul\"\nbasic_auth = true\nusername = \"u\"\npassword = \"hidden\"";
        let (mut out, mut secrets) = (Text::default(), Secrets::new());
        of(guarded).unwrap().write("confd-a", &[], &mut out, &mut secrets).unwrap();
        let out = out.finish();
        assert!(out.contains("username = \"u\"\npassword = \"${CONFD_A_PASSWORD}\"\n"), "{out}");
        assert_eq!(secrets["CONFD_A_PASSWORD"], "hidden");
        for (text, want) in [
            ("backend = \"vault\"", "the backend `vault` is not there yet"),
            ("backend = \"consul\"\nscheme = \"ftp\"", "the scheme \"ftp\" is unknown"),
            ("backend = \"consul\"\nsrv_domain = \"a\"", "-srv-domain: nodes are not looked up"),
        ] {
            let why = of(text).unwrap_err();
            assert!(why.starts_with(want), "{text}: {why}");
        }
    }
}
