//! Which certificate a listener shows for which name.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Longest name of DNS in text (RFC 1035 §3.1).
const NAME_MAX: usize = 253;

type ByName = HashMap<Box<str>, Vec<Arc<Certificate>>, foldhash::fast::RandomState>;

/// The certificates of one listener by the names in them. Several may be for one name: a client
/// gets the first whose kind of key it knows.
#[derive(Debug, Default)]
pub struct Names {
    exact: ByName,
    /// `*.example.com`, by what is behind `*.`.
    wildcard: ByName,
    /// Those for clients that name nothing, or what no certificate is for.
    default: Vec<Arc<Certificate>>,
}

impl Names {
    /// The names of `certificates`; those named first win. The first one is the default.
    #[must_use]
    pub fn new(certificates: &[Arc<Certificate>]) -> Self {
        let mut names = Self::default();
        for certificate in certificates {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut names.wildcard, parent),
                    None => (&mut names.exact, &**name),
                };
                map.entry(name.into()).or_default().push(Arc::clone(certificate));
            }
        }
        if let Some(first) = certificates.first() {
            // The same names with another kind of key make a pair.
            let pair = |other: &&Arc<Certificate>| {
                Arc::ptr_eq(first, other) || (!first.names.is_empty() && first.names == other.names)
            };
            names.default = certificates.iter().filter(pair).cloned().collect();
        }
        names
    }

    /// The certificates for `host` in any case, with or without a final dot: those with that very
    /// name, else those with `*` in place of its first label (RFC 9525 §6.3). None when there are
    /// none. Allocates nothing.
    #[must_use]
    pub fn find(&self, host: &str) -> &[Arc<Certificate>] {
        let mut lower = [0; NAME_MAX];
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        let Some(lower) = lower.get_mut(..host.len()) else { return &[] };
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let Ok(name) = std::str::from_utf8(lower) else { return &[] };
        if let Some(found) = self.exact.get(name) {
            return found;
        }
        let parent = name.split_once('.').filter(|(label, _)| !label.is_empty());
        parent.and_then(|(_, parent)| self.wildcard.get(parent)).map_or(&[], |found| found)
    }

    /// The certificates for a client that asks for `host`: the default where there are no others.
    #[must_use]
    pub fn shown(&self, host: Option<&str>) -> &[Arc<Certificate>] {
        let found = host.map_or(&[][..], |host| self.find(host));
        if found.is_empty() { &self.default } else { found }
    }

    /// Whether a client that asked for `name` was shown what one that asks for `host` would be
    /// shown: then it may ask for `host` on the same connection (RFC 9110 §7.4).
    #[must_use]
    pub fn alike(&self, name: &str, host: &str) -> bool {
        let shown = self.shown(Some(host));
        self.shown(Some(name)).iter().any(|one| shown.iter().any(|other| Arc::ptr_eq(one, other)))
    }

    /// Every certificate, each once.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let all = self.exact.values().chain(self.wildcard.values()).chain([&self.default]);
        let mut seen: Vec<&Arc<Certificate>> = Vec::new();
        for certificate in all.flatten() {
            if !seen.iter().any(|known| Arc::ptr_eq(known, certificate)) {
                seen.push(certificate);
            }
        }
        seen.into_iter()
    }
}

/// What a listener shows at this moment; another one takes its place when a certificate is swapped.
#[derive(Debug, Default)]
pub struct Shown(ArcSwap<Names>);

impl Shown {
    /// Shows `names` from now on.
    pub fn show(&self, names: Names) {
        self.0.store(Arc::new(names));
    }

    /// What is shown now. Neither locks nor allocates.
    #[must_use]
    pub fn now(&self) -> arc_swap::Guard<Arc<Names>> {
        self.0.load()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let names = self.now();
        let shown = names.shown(hello.server_name());
        let known = |certificate: &&Arc<Certificate>| {
            certificate.key.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let certificate = shown.iter().find(known).or_else(|| shown.first())?;
        Some(Arc::clone(&certificate.key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::loaded;
    use super::*;

    fn names_of(found: &[Arc<Certificate>]) -> Vec<&str> {
        found.iter().map(|certificate| &*certificate.name).collect()
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_which_stands_for_one_label() {
        let all = [
            loaded("first", &["first.example"]),
            loaded("wild", &["*.shop.example", "shop.example"]),
            loaded("exact", &["www.shop.example"]),
            loaded("second", &["first.example", "other.example"]),
        ];
        let names = Names::new(&all);
        for (case, host, want) in [
            ("exact", "www.shop.example", &["exact"][..]),
            ("another case", "WWW.Shop.Example", &["exact"]),
            ("with a dot", "www.shop.example.", &["exact"]),
            ("wildcard", "api.shop.example", &["wild"]),
            ("the domain itself", "shop.example", &["wild"]),
            ("two labels", "a.b.shop.example", &[]),
            ("no label", ".shop.example", &[]),
            ("the first of two", "first.example", &["first", "second"]),
            ("unknown", "nobody.example", &[]),
            ("empty", "", &[]),
            ("a dot", ".", &[]),
        ] {
            assert_eq!(names_of(names.find(host)), want, "{case}");
        }
        assert_eq!(names.find(&"a".repeat(300)).len(), 0);
        assert_eq!(names_of(names.shown(None)), ["first"]);
        assert_eq!(names_of(names.shown(Some("nobody.example"))), ["first"]);
        let mut told: Vec<&str> = names.certificates().map(|known| &*known.name).collect();
        told.sort_unstable();
        assert_eq!(told, ["exact", "first", "second", "wild"]);
    }

    #[test]
    fn hosts_are_alike_when_the_same_certificate_is_shown_for_both() {
        let all = [loaded("a", &["a.example", "*.a.example"]), loaded("b", &["b.example"])];
        let names = Names::new(&all);
        for (name, host, want) in [
            ("a.example", "a.example", true),
            ("a.example", "x.a.example", true),
            ("a.example", "b.example", false),
            ("b.example", "nobody.example", false),
            ("a.example", "nobody.example", true),
            ("nobody.example", "neither.example", true),
            ("nobody.example", "b.example", false),
        ] {
            assert_eq!(names.alike(name, host), want, "{name} and {host}");
        }
    }

    #[test]
    fn without_certificates_nothing_is_shown() {
        let names = Names::new(&[]);
        assert_eq!(names.shown(Some("a")).len(), 0);
        assert_eq!(names.certificates().count(), 0);
    }
}
