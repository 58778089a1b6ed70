//! The grammar in which templates name what they ask for:
//! `[tag.]name[?ns=…&partition=…][@datacenter][~near][|filter,…]`.

use std::collections::BTreeMap;

/// What `service` and `connect` ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServiceQuery {
    /// Name of the service; has no dot.
    pub name: String,
    /// Only instances with this tag; empty for all.
    pub tag: String,
    /// Empty for our own.
    pub datacenter: String,
    /// Sorted by nearness to this node (`_agent` for ours); empty for by name.
    pub near: String,
    /// What stands behind the question mark: `ns`, `partition`, `peer`, `sameness-group`.
    pub parameters: BTreeMap<String, String>,
    /// Wanted states, sorted; `any` alone for all.
    pub filters: Vec<String>,
    /// Whether instances that speak mutual TLS are asked for (`connect`).
    pub connect: bool,
}

/// States that a filter may name.
const FILTERS: [&str; 5] = ["any", "passing", "warning", "critical", "maintenance"];

/// Parameters of a query.
const PARAMETERS: [&str; 4] = ["ns", "partition", "peer", "sameness-group"];

/// Parses the query of `service`; `kind` is `health.service` or `health.connect`.
///
/// # Errors
/// `KIND: invalid format: "…"` and `KIND: invalid filter: "…" in "…"`, as consul-template says it.
pub fn service(text: &str, connect: bool) -> Result<ServiceQuery, String> {
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
    let mut filters: Vec<String> = Vec::new();
    for filter in filter.unwrap_or("passing").split(',') {
        let filter = filter.trim();
        if !FILTERS.contains(&filter) {
            return Err(format!("{kind}: invalid filter: {filter:?} in {text:?}"));
        }
        filters.push(filter.to_owned());
    }
    filters.sort();
    filters.dedup();
    Ok(ServiceQuery {
        name: name.into(),
        tag: tag.into(),
        datacenter: datacenter.into(),
        near: near.into(),
        parameters: parameters(query).map_err(|why| format!("{kind}: {why} in {text:?}"))?,
        filters,
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
    c.is_alphanumeric() || matches!(c, '_' | '-')
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
        assert_eq!((all.name.as_str(), all.tag.as_str()), ("web", "v1.2"));
        assert_eq!((all.datacenter.as_str(), all.near.as_str()), ("dc-1", "node.x"));
        assert_eq!(all.filters, ["passing", "warning"]);
        assert_eq!(all.parameters["ns"], "a");
        assert_eq!(all.parameters["peer"], "b");
        let plain = service("web", true).unwrap();
        assert_eq!((plain.filters, plain.connect), (vec!["passing".to_owned()], true));
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
