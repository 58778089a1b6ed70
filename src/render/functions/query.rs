//! The grammar in which templates name what they ask for:
//! `[tag.]name[?ns=…&partition=…][@datacenter][~near][|filter,…]`.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What `service` and `connect` ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServiceQuery {
    /// Name of the service; has no dot.
    pub name: Arc<str>,
    /// Only instances with this tag; empty for all.
    pub tag: String,
    /// Empty for our own.
    pub datacenter: String,
    /// Sorted by nearness to this node (`_agent` for ours); empty for by name.
    pub near: String,
    /// What stands behind the question mark: `ns`, `partition`, `peer`, `sameness-group`.
    pub parameters: BTreeMap<String, String>,
    /// Wanted states.
    pub states: States,
    /// Whether instances that speak mutual TLS are asked for (`connect`).
    pub connect: bool,
}

impl ServiceQuery {
    /// The service whose instances answer: the proxies beside it for `connect`, which Consul
    /// registers under this name.
    #[must_use]
    pub fn service(&self) -> Arc<str> {
        if self.connect {
            format!("{}-sidecar-proxy", self.name).into()
        } else {
            Arc::clone(&self.name)
        }
    }
}

/// How an instance stands by its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They pass.
    Passing,
    /// Some warn.
    Warning,
    /// Some fail.
    Critical,
    /// It is to get nothing new.
    Maintenance,
}

impl State {
    const ALL: [Self; 4] = [Self::Passing, Self::Warning, Self::Critical, Self::Maintenance];

    /// Consul's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Maintenance => "maintenance",
        }
    }
}

/// A set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct States(u8);

impl States {
    const NONE: Self = Self(0);
    const ANY: Self = Self(u8::MAX);

    /// What a filter names: `any`, or one state.
    fn of(word: &str) -> Option<Self> {
        if word == "any" {
            return Some(Self::ANY);
        }
        let state = State::ALL.into_iter().find(|state| state.word() == word)?;
        Some(Self(1 << state as u8))
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `state` is among them.
    #[must_use]
    pub const fn contain(self, state: State) -> bool {
        self.0 & (1 << state as u8) != 0
    }
}

impl Default for States {
    /// Those that pass.
    fn default() -> Self {
        Self(1 << State::Passing as u8)
    }
}

/// Parameters of a query.
const PARAMETERS: [&str; 4] = ["ns", "partition", "peer", "sameness-group"];

/// Parses the query of `service` or `connect`.
///
/// # Errors
/// `KIND: invalid format: "…"` and `KIND: invalid filter: "…" in "…"`, as consul-template says it;
/// the kind is `health.service` or `health.connect`.
pub fn service(text: &str, connect: bool) -> Result<ServiceQuery, String> {
    // What most queries are: a name and nothing else.
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || is_joint(b.into())) {
        return Ok(ServiceQuery { name: text.into(), connect, ..ServiceQuery::default() });
    }
    let kind = if connect { "health.connect" } else { "health.service" };
    let invalid = || format!("{kind}: invalid format: {text:?}");
    let (rest, filter) = match text.split_once('|') {
        Some((_, "")) => return Err(invalid()),
        Some((rest, filter)) => (rest, Some(filter)),
        None => (text, None),
    };
    let (rest, near) = cut(rest, '~', is_near).ok_or_else(invalid)?;
    let (rest, datacenter) = cut(rest, '@', is_datacenter).ok_or_else(invalid)?;
    let (rest, query) = cut(rest, '?', |c| !matches!(c, '@' | '~')).ok_or_else(invalid)?;
    // The tag is all in front of the last dot, so that a name has none.
    let (tag, name) = rest.rsplit_once('.').unwrap_or(("", rest));
    let tagged = rest.contains('.');
    if name.is_empty() || !name.chars().all(is_name) || tagged && tag.is_empty() {
        return Err(invalid());
    }
    if !tag.chars().all(|c| is_name(c) || matches!(c, '.' | '=' | ':')) {
        return Err(invalid());
    }
    let states = match filter {
        None => States::default(),
        Some(filters) => {
            filters.split(',').map(str::trim).try_fold(States::NONE, |states, filter| {
                let wrong = || format!("{kind}: invalid filter: {filter:?} in {text:?}");
                States::of(filter).map(|more| states.with(more)).ok_or_else(wrong)
            })?
        }
    };
    Ok(ServiceQuery {
        name: name.into(),
        tag: tag.into(),
        datacenter: datacenter.into(),
        near: near.into(),
        parameters: parameters(query).map_err(|why| format!("{kind}: {why} in {text:?}"))?,
        states,
        connect,
    })
}

/// `path[@datacenter]` of `key`, `ls`, `tree`; `kind` is `kv.get` or `kv.list`.
///
/// # Errors
/// `KIND: invalid format: "…"`
pub fn key(text: &str, kind: &str) -> Result<(String, String), String> {
    let invalid = || format!("{kind}: invalid format: {text:?}");
    let (path, datacenter) = match text.rsplit_once('@') {
        Some((path, datacenter)) if is_all(datacenter, is_datacenter) => (path, datacenter),
        Some(_) => return Err(invalid()),
        None => (text, ""),
    };
    // Only a listing may begin at the root.
    if path.is_empty() && kind == "kv.get" || path.contains('?') {
        return Err(invalid());
    }
    Ok((path.trim_start_matches('/').into(), datacenter.into()))
}

/// `[name][@datacenter]` of `node`.
///
/// # Errors
/// `catalog.node: invalid format: "…"`
pub fn node(text: &str) -> Result<(String, String), String> {
    let invalid = || format!("catalog.node: invalid format: {text:?}");
    if text.is_empty() {
        return Ok((String::new(), String::new()));
    }
    let (name, datacenter) = cut(text, '@', is_datacenter).ok_or_else(invalid)?;
    if !is_all(name, |c| is_name(c) || c == '.') {
        return Err(invalid());
    }
    Ok((name.into(), datacenter.into()))
}

/// `[@datacenter][~near]` of `nodes` and, without `near`, of `services`; `kind` is
/// `catalog.nodes` or `catalog.services`.
///
/// # Errors
/// `KIND: invalid format: "…"`
pub fn datacenter(text: &str, kind: &str) -> Result<(String, String), String> {
    let invalid = || format!("{kind}: invalid format: {text:?}");
    let (rest, near) = cut(text, '~', is_near).ok_or_else(invalid)?;
    let (rest, datacenter) = cut(rest, '@', is_datacenter).ok_or_else(invalid)?;
    if !rest.is_empty() || !near.is_empty() && kind != "catalog.nodes" {
        return Err(invalid());
    }
    Ok((datacenter.into(), near.into()))
}

/// What stands before and behind `mark`; nothing behind it without one. `None` when what stands
/// behind it is empty or has a wrong letter.
fn cut(text: &str, mark: char, allowed: fn(char) -> bool) -> Option<(&str, &str)> {
    match text.split_once(mark) {
        None => Some((text, "")),
        Some((before, behind)) => is_all(behind, allowed).then_some((before, behind)),
    }
}

fn is_all(text: &str, allowed: fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(allowed)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || is_joint(c)
}

const fn is_joint(c: char) -> bool {
    matches!(c, '_' | '-')
}

fn is_datacenter(c: char) -> bool {
    is_name(c) || c == '.'
}

fn is_near(c: char) -> bool {
    is_name(c) || c == '.'
}

fn parameters(query: &str) -> Result<BTreeMap<String, String>, String> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !PARAMETERS.contains(&name) {
            let known = PARAMETERS.join(", ");
            return Err(format!("unknown query parameter {name:?} (there are {known})"));
        }
        parameters.insert(name.to_owned(), value.to_owned());
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_service_query_is_found() {
        let all = service("v1.2.web?ns=a&peer=b@dc-1~node.x|warning, passing", false).unwrap();
        assert_eq!((&*all.name, all.tag.as_str()), ("web", "v1.2"));
        assert_eq!((all.datacenter.as_str(), all.near.as_str()), ("dc-1", "node.x"));
        let stands = |query: &ServiceQuery| State::ALL.map(|state| query.states.contain(state));
        assert_eq!(stands(&all), [true, true, false, false]);
        assert_eq!(all.parameters["ns"], "a");
        assert_eq!(all.parameters["peer"], "b");
        let plain = service("web", true).unwrap();
        assert_eq!((stands(&plain), plain.connect), ([true, false, false, false], true));
        assert_eq!(service("web|passing", true), Ok(plain), "however it is written");
        assert_eq!(stands(&service("wéb|any", false).unwrap()), [true; 4]);
    }

    #[test]
    fn a_faulty_service_query_is_refused_in_the_words_of_consul_template() {
        for (query, want) in [
            ("", "health.service: invalid format: \"\""),
            ("web@", "health.service: invalid format: \"web@\""),
            ("web~", "health.service: invalid format: \"web~\""),
            (".web", "health.service: invalid format: \".web\""),
            ("we b", "health.service: invalid format: \"we b\""),
            ("web|", "health.service: invalid format: \"web|\""),
            ("web|fine", "health.service: invalid filter: \"fine\" in \"web|fine\""),
            ("web~a@b", "health.service: invalid format: \"web~a@b\""),
        ] {
            assert_eq!(service(query, false).unwrap_err(), want);
        }
        assert!(service("web?color=red", false).unwrap_err().contains("\"color\""));
        let connect = service("", true).unwrap_err();
        assert_eq!(connect, "health.connect: invalid format: \"\"");
    }

    #[test]
    fn keys_nodes_and_datacenters_are_told_apart() {
        assert_eq!(key("a/b@dc1", "kv.get"), Ok(("a/b".into(), "dc1".into())));
        assert_eq!(key("/a", "kv.get"), Ok(("a".into(), String::new())));
        assert_eq!(key("", "kv.list"), Ok((String::new(), String::new())));
        assert_eq!(key("", "kv.get").unwrap_err(), "kv.get: invalid format: \"\"");
        assert_eq!(key("a@", "kv.get").unwrap_err(), "kv.get: invalid format: \"a@\"");
        assert_eq!(node("n1@dc1"), Ok(("n1".into(), "dc1".into())));
        assert_eq!(node("@dc1").unwrap_err(), "catalog.node: invalid format: \"@dc1\"");
        assert_eq!(datacenter("@dc1~n", "catalog.nodes"), Ok(("dc1".into(), "n".into())));
        let near = datacenter("@dc1~n", "catalog.services").unwrap_err();
        assert_eq!(near, "catalog.services: invalid format: \"@dc1~n\"");
    }
}
