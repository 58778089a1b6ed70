//! `HAPROXY_{n}_PATH`: the patterns of HAProxy's `path_beg`.

use crate::proxy::route::canonical;

/// Most patterns of one port.
const PATHS_MAX: usize = 32;

/// What paths begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Paths {
    /// Each as it is written; one is enough.
    pub(super) begin: Vec<String>,
    /// Whether the case of letters does not count.
    pub(super) any_case: bool,
}

impl Paths {
    /// Reads flags and patterns.
    ///
    /// # Errors
    /// There is none, or more than can be, or a flag that means something else.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut paths = Self { begin: Vec::new(), any_case: false };
        let mut flags = true;
        for word in text.split_whitespace() {
            match word {
                "--" if flags => flags = false,
                "-i" if flags => paths.any_case = true,
                word if flags && word.starts_with('-') => {
                    return Err(format!("{word:?} has no counterpart here; there is -i"));
                }
                word => {
                    flags = false;
                    if !word.starts_with('/') {
                        return Err(format!(
                            "{word:?} is the beginning of no path; it lacks a '/'"
                        ));
                    }
                    if word.contains(['?', '#']) {
                        return Err(format!("{word:?} has a query, which is no part of a path"));
                    }
                    // What routes would refuse, such as one that climbs above its root.
                    canonical(word)?;
                    let word = word.to_owned();
                    if !paths.begin.contains(&word) {
                        paths.begin.push(word);
                    }
                }
            }
        }
        match paths.begin.len() {
            0 => Err("names no path; write it as \"/api\" or \"-i /api /v2\"".into()),
            1..=PATHS_MAX => Ok(paths),
            many => Err(format!("names {many} paths; {PATHS_MAX} are the most")),
        }
    }

    /// Whether the path `/` is among them.
    pub(super) fn root(&self) -> bool {
        self.begin.iter().any(|path| path == "/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_haproxy_reads_them() {
        for (text, want) in [
            ("/api", Ok((&["/api"][..], false))),
            ("/api /v2/", Ok((&["/api", "/v2/"], false))),
            ("-i /Api  /v2 /Api", Ok((&["/Api", "/v2"], true))),
            ("-- /api", Ok((&["/api"], false))),
            ("", Err("names no path")),
            ("-i", Err("names no path")),
            ("-m reg ^/a", Err("has no counterpart")),
            ("-f /etc/paths", Err("has no counterpart")),
            ("api", Err("lacks a '/'")),
            ("/a?b", Err("no part of a path")),
            ("/a/../../b", Err("/a/../../b")),
        ] {
            match (Paths::read(text), want) {
                (Ok(paths), Ok((begin, any_case))) => {
                    assert_eq!(
                        (paths.begin, paths.any_case),
                        (begin.iter().map(|path| (*path).to_owned()).collect(), any_case)
                    );
                }
                (Err(told), Err(want)) => assert!(told.contains(want), "{text}: {told}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        let many: Vec<String> = (0..33).map(|number| format!("/{number}")).collect();
        assert!(Paths::read(&many.join(" ")).unwrap_err().contains("33 paths"));
        assert!(Paths::read("/ /a").unwrap().root() && !Paths::read("/a").unwrap().root());
    }
}
