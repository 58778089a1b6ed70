//! Options of HAProxy's `server` lines.

use super::balance::time;
use super::extras::{Cost, Extras, Refused};
use crate::net::proxy_protocol::Version;
use crate::proxy::config::{ServiceTlsConfig, UpstreamProtocol};

/// Options that say how HAProxy checks, with how many words follow each. Here Marathon's own results
/// count.
const CHECKS: [(&str, usize); 18] = [
    ("check", 0),
    ("inter", 1),
    ("fastinter", 1),
    ("downinter", 1),
    ("fall", 1),
    ("rise", 1),
    ("port", 1),
    ("addr", 1),
    ("observe", 1),
    ("error-limit", 1),
    ("on-error", 1),
    ("check-ssl", 0),
    ("no-check-ssl", 0),
    ("check-sni", 1),
    ("check-alpn", 1),
    ("check-proto", 1),
    ("check-send-proxy", 0),
    ("agent-check", 0),
];

/// Options that say nothing that differs here, with how many words follow each: every server has the
/// same weight then, names and cookies are our own, addresses are known.
const PLAIN: [(&str, usize); 11] = [
    ("weight", 1),
    ("cookie", 1),
    ("id", 1),
    ("init-addr", 1),
    ("resolvers", 1),
    ("minconn", 1),
    ("maxqueue", 1),
    ("pool-max-conn", 1),
    ("pool-purge-delay", 1),
    ("no-backup", 0),
    ("enabled", 0),
];

/// Reads a line of `BACKEND_SERVER_OPTIONS`: `server NAME ADDRESS options…`.
///
/// # Errors
/// It leads elsewhere than to the app's tasks.
pub(super) fn line(extras: &mut Extras, words: &[&str], tell: &mut dyn FnMut(Refused)) {
    let options = match words {
        ["server", _, address, options @ ..] => {
            let own = ["{host_ipv4}:{port}", "{host}:{port}"];
            let behind = own.iter().find_map(|own| address.strip_prefix(own));
            // What marathon-lb puts behind the address comes without spaces of its own.
            if behind.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('{')) {
                let what = "leads elsewhere than to the app's tasks; that needs a [route] and a \
                            service of its own";
                return tell(Refused::new(Cost::Port, words, what));
            }
            options
        }
        _ => {
            return tell(Refused::new(Cost::Port, words, "is no `server` line of the app's tasks"));
        }
    };
    read(extras, options, tell);
}

/// Reads options alone.
pub(super) fn read(extras: &mut Extras, words: &[&str], tell: &mut dyn FnMut(Refused)) {
    let mut left = words;
    while let [option, rest @ ..] = left {
        left = match one(extras, option, rest) {
            Ok(taken) => rest.get(taken..).unwrap_or_default(),
            Err((what, taken)) => {
                let end = words.len() - rest.len() + taken.min(rest.len());
                let from = words.len() - left.len();
                tell(Refused::new(Cost::Told, &words[from..end], &what));
                rest.get(taken..).unwrap_or_default()
            }
        };
    }
}

/// One option: how many of the words behind it are its own; or why it can't be, and the same.
fn one(extras: &mut Extras, option: &str, rest: &[&str]) -> Result<usize, (String, usize)> {
    let value = rest.first().copied().unwrap_or_default();
    let tls = |extras: &mut Extras, set: &dyn Fn(&mut ServiceTlsConfig)| {
        set(extras.balance.tls.get_or_insert_default());
    };
    match option {
        // Placeholders that marathon-lb fills.
        option if option.starts_with('{') => Ok(0),
        "maxconn" => match value.parse() {
            Ok(0) => Ok(1),
            Ok(most) => {
                extras.balance.max_connections = Some(most);
                Ok(1)
            }
            Err(_) => Err((format!("{value:?} is no number of connections"), 1)),
        },
        "slowstart" => {
            extras.balance.slow_start = Some(time(value).map_err(|what| (what, 1))?);
            Ok(1)
        }
        "send-proxy" => {
            extras.balance.proxy_protocol = Some(Version::V1);
            Ok(0)
        }
        "send-proxy-v2" => {
            extras.balance.proxy_protocol = Some(Version::V2);
            Ok(0)
        }
        "ssl" => {
            tls(extras, &|_| {});
            Ok(0)
        }
        "verify" => {
            let verify = value != "none";
            tls(extras, &|tls| tls.verify = verify);
            Ok(1)
        }
        "verifyhost" => {
            tls(extras, &|tls| tls.server_name = Some(value.to_owned()));
            Ok(1)
        }
        "sni" => match value.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')')) {
            Some(name) => {
                tls(extras, &|tls| tls.server_name = Some(name.to_owned()));
                Ok(1)
            }
            None => Err(("is no fixed name; write sni str(NAME)".into(), 1)),
        },
        "alpn" | "proto" if value.split(',').next() == Some("h2") => {
            extras.h2 = true;
            Ok(1)
        }
        "alpn" | "proto" => Ok(1),
        "on-marked-down" => {
            extras.balance.close_unhealthy = value == "shutdown-sessions";
            Ok(1)
        }
        "backup" | "disabled" => {
            Err(("would be said of every task alike, so that none gets work".into(), 0))
        }
        // A path on the balancer's host is not for apps to name.
        "ca-file" => {
            Err(("names a file of the balancer's; use [service.NAME.tls] ca_file".into(), 1))
        }
        "redir" | "track" | "source" | "usesrc" | "interface" | "crt" | "crl-file" => {
            Err(("has no counterpart in labels; [service.NAME] may have one".into(), 1))
        }
        _ => {
            if let Some((_, taken)) = PLAIN.iter().find(|(known, _)| *known == option) {
                return Ok(*taken);
            }
            if let Some((_, taken)) = CHECKS.iter().find(|(known, _)| *known == option) {
                extras.checks = true;
                return Ok(*taken);
            }
            Err(("is not understood".into(), 0))
        }
    }
}

/// What `h2` comes to once it is known whether there is TLS.
pub(super) fn settle(extras: &mut Extras) {
    if extras.h2 {
        let tls = extras.balance.tls.is_some();
        let protocol = if tls { UpstreamProtocol::H2 } else { UpstreamProtocol::H2c };
        extras.balance.protocol = Some(protocol);
    }
}
