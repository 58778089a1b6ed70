//! `zk://h1:2181,h2:2181/marathon`: servers of ZooKeeper and the path below which Marathon is.

use std::fmt;

/// Port of a server that names none.
const PORT: u16 = 2181;
/// Most servers of one URL.
const SERVERS_MAX: usize = 16;

/// Servers of ZooKeeper and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZkUrl {
    /// Host and port of each server, at least one.
    pub servers: Vec<(String, u16)>,
    /// The path, from the first slash, without one at its end.
    pub path: String,
}

impl ZkUrl {
    /// Reads a URL as Marathon's `--zk` takes it, without user name and password: who leads is
    /// there for everybody to read.
    ///
    /// # Errors
    /// Names what is wrong and shows the form. Never repeats a text that may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write it like \"zk://h1:2181,h2:2181/marathon\"";
        if text.contains('@') {
            return Err(format!(
                "a URL with user name or password is refused; everybody may read who leads; {FORM}"
            ));
        }
        let rest = text
            .strip_prefix("zk://")
            .ok_or_else(|| format!("{text:?} does not begin with zk://; {FORM}"))?;
        let (servers, path) =
            rest.split_once('/').ok_or_else(|| format!("{text:?} has no path; {FORM}"))?;
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Err(format!("{text:?} has no path; {FORM}"));
        }
        let plain = |c: char| c.is_ascii_graphic();
        if !path.chars().all(plain) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("{text:?} has a path that ZooKeeper does not know; {FORM}"));
        }
        let servers: Vec<(String, u16)> = servers
            .split(',')
            .map(|server| {
                parse_server(server).ok_or_else(|| format!("{server:?} is no server; {FORM}"))
            })
            .collect::<Result<_, _>>()?;
        if servers.len() > SERVERS_MAX {
            return Err(format!("more than {SERVERS_MAX} servers; {FORM}"));
        }
        Ok(Self { servers, path: format!("/{path}") })
    }
}

/// `host`, `host:port` or `[::1]:port`.
fn parse_server(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port > 0))?;
    let fine =
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    fine.then(|| (host.to_ascii_lowercase(), port))
}

impl fmt::Display for ZkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("zk://")?;
        for (at, (host, port)) in self.servers.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_marathon_reads_them_and_refused_with_the_form() {
        for (text, want) in [
            ("zk://a/marathon", Ok("zk://a:2181/marathon")),
            ("zk://A:1,b.c:65535,[::1]:3/x/y/", Ok("zk://a:1,b.c:65535,[::1]:3/x/y")),
            ("zk://10.0.0.1,10.0.0.2:2182/m", Ok("zk://10.0.0.1:2181,10.0.0.2:2182/m")),
            ("zk://a", Err("no path")),
            ("zk://a/", Err("no path")),
            ("zk:///m", Err("\"\" is no server")),
            ("zk://a,/m", Err("\"\" is no server")),
            ("zk://a:0/m", Err("\"a:0\" is no server")),
            ("zk://a:65536/m", Err("is no server")),
            ("zk://a b/m", Err("is no server")),
            ("zk://[::1/m", Err("is no server")),
            ("zk://a/m//n", Err("a path that ZooKeeper does not know")),
            ("zk://a/../m", Err("a path that ZooKeeper does not know")),
            ("http://a/m", Err("does not begin with zk://")),
        ] {
            let got = ZkUrl::parse(text);
            match (got, want) {
                (Ok(url), Ok(want)) => assert_eq!(url.to_string(), want),
                (Err(error), Err(want)) => {
                    assert!(error.contains(want) && error.contains("write it like"), "{error}");
                }
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
        let error = ZkUrl::parse("zk://u:hunter2@a/m").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
