//! What `[dns]` says about who may ask, how often, and how a client shows that it is itself.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::config::DnsConfig;
use super::cookie::Secret;

/// Networks that `"private"` stands for: loopback, RFC 1918, link-local and unique local ones.
const PRIVATE: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];
/// Secrets in a file: the one that makes cookies, and those that are still honoured.
const SECRETS_MAX: usize = 4;

/// Checked limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Where secrets of cookies come from.
    pub cookies: Cookies,
    /// Replies by UDP to one network in a second; 0: no limit.
    pub rate: u32,
    /// Of those beyond the limit, one in so many gets a short reply; 0: none.
    pub slip: u32,
    /// Networks without a limit, besides loopback.
    pub exempt: Vec<IpNet>,
}

/// Where secrets of cookies come from.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Cookies {
    /// Cookies are ignored, as by a server that has never heard of them.
    #[default]
    Off,
    /// From this process, which makes new ones as it goes.
    Own,
    /// From a file that several servers share; the first one makes cookies.
    Shared(Vec<Secret>),
}

impl Cookies {
    /// The secrets that count, of which `own` are this process's; empty: cookies are ignored.
    #[must_use]
    pub fn secrets<'a>(&'a self, own: &'a [Secret]) -> &'a [Secret] {
        match self {
            Self::Off => &[],
            Self::Own => own,
            Self::Shared(secrets) => secrets,
        }
    }
}

impl Limits {
    /// Checks `config`; a path in it is relative to `base_dir`.
    ///
    /// # Errors
    /// Each key that can't be, and what to write instead.
    pub(super) fn compile(
        config: &DnsConfig,
        base_dir: &Path,
    ) -> Result<Self, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let exempt = networks(&config.rate_limit_exempt).unwrap_or_else(|error| {
            problems.push(("rate_limit_exempt", format!("rate_limit_exempt: {error}")));
            Vec::new()
        });
        let cookies = match &config.cookie_secret_file {
            _ if !config.cookies => Cookies::Off,
            None => Cookies::Own,
            Some(file) => {
                let path = base_dir.join(file);
                match secrets(&path) {
                    Ok(secrets) => Cookies::Shared(secrets),
                    Err(error) => {
                        let path = path.display();
                        let message = format!("cookie_secret_file = \"{path}\": {error}");
                        problems.push(("cookie_secret_file", message));
                        Cookies::Off
                    }
                }
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { cookies, rate: config.rate_limit, slip: config.rate_limit_slip, exempt })
    }

    /// Whether replies to `client` are counted.
    #[must_use]
    pub fn counts(&self, client: IpAddr) -> bool {
        if self.rate == 0 {
            return false;
        }
        let client = client.to_canonical();
        !client.is_loopback() && !self.exempt.iter().any(|network| network.contains(&client))
    }
}

/// The networks that `texts` name: `"private"`, a network or an address.
///
/// # Errors
/// The first one that is none.
pub(super) fn networks(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let mut found = Vec::new();
    for text in texts {
        if text == "private" {
            found.extend(PRIVATE.iter().filter_map(|network| network.parse::<IpNet>().ok()));
        } else if let Ok(network) = text.parse::<IpNet>() {
            found.push(network);
        } else if let Ok(address) = text.parse::<IpAddr>() {
            found.push(IpNet::from(address));
        } else {
            return Err(format!(
                "{text:?} is no network; write \"private\", or one such as \"10.0.0.0/8\""
            ));
        }
    }
    Ok(found)
}

/// The secrets in a file, one a line. What the file says does not show in the error.
fn secrets(path: &Path) -> Result<Vec<Secret>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read: Result<Vec<Secret>, usize> =
        lines.map(|(number, line)| Secret::parse(line).ok_or(number + 1)).collect();
    match read {
        Ok(secrets) if (1..=SECRETS_MAX).contains(&secrets.len()) => Ok(secrets),
        Ok(secrets) => Err(format!(
            "has {} secrets; write 1 to {SECRETS_MAX}, one a line, the one in force first",
            secrets.len()
        )),
        Err(line) => Err(format!(
            "line {line} is no secret; write 32 hexadecimal digits, as `openssl rand -hex 16` does"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str, base_dir: &Path) -> Result<Limits, String> {
        let config: DnsConfig = toml::from_str(&format!("listen = []\n{text}")).unwrap();
        Limits::compile(&config, base_dir).map_err(|problems| problems[0].1.clone())
    }

    #[test]
    fn replies_to_loopback_and_exempt_networks_are_not_counted() {
        for (case, text, client, want) in [
            ("loopback", "rate_limit_exempt = []", "127.0.0.9", false),
            ("loopback by IPv6", "rate_limit_exempt = []", "::1", false),
            ("private by default", "", "10.1.1.1", false),
            ("private, not exempt", "rate_limit_exempt = []", "10.1.1.1", true),
            ("the world", "", "192.0.2.1", true),
            ("mapped", "rate_limit_exempt = [\"192.0.2.0/24\"]", "::ffff:192.0.2.1", false),
            ("no limit", "rate_limit = 0", "192.0.2.1", false),
        ] {
            let limits = compile(text, Path::new("")).unwrap();
            assert_eq!(limits.counts(client.parse().unwrap()), want, "{case}");
        }
    }

    #[test]
    fn secrets_come_from_a_file_and_what_is_wrong_with_it_is_told_without_them() {
        let dir = tempfile::tempdir().unwrap();
        let good = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        for (case, text, want) in [
            ("one", good.to_owned(), Ok(1)),
            ("two and an empty line", format!("{good}\n\n{good}\n"), Ok(2)),
            ("none", "\n".to_owned(), Err("has 0 secrets")),
            ("five", format!("{good}\n").repeat(5), Err("has 5 secrets")),
            ("short", format!("{good}\nabc"), Err("line 2 is no secret")),
        ] {
            std::fs::write(dir.path().join("secret"), text).unwrap();
            let limits = compile("cookie_secret_file = \"secret\"", dir.path());
            match (limits, want) {
                (Ok(Limits { cookies: Cookies::Shared(secrets), .. }), Ok(count)) => {
                    assert_eq!(secrets.len(), count, "{case}");
                }
                (Err(error), Err(want)) => {
                    assert!(error.contains(want) && !error.contains("abc"), "{case}: {error}");
                }
                (got, _) => panic!("{case}: {got:?}"),
            }
        }
        let missing = compile("cookie_secret_file = \"nothing\"", dir.path()).unwrap_err();
        assert!(missing.contains("nothing") && missing.contains("No such file"), "{missing}");
        let off = compile("cookies = false\ncookie_secret_file = \"nothing\"", dir.path());
        assert_eq!(off.unwrap().cookies, Cookies::Off);
    }
}
