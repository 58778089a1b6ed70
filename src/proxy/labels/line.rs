//! Lines of HAProxy's `frontend` and `backend` sections.

use super::extras::{About, Cost, Extras, Refused};

/// Options that are so here anyway, or that say how HAProxy does what is done otherwise here.
const PLAIN_OPTIONS: [&str; 21] = [
    "forwardfor",
    "redispatch",
    "http-server-close",
    "http-keep-alive",
    "httpclose",
    "forceclose",
    "http-pretend-keepalive",
    "http-tunnel",
    "dontlognull",
    "dontlog-normal",
    "tcpka",
    "clitcpka",
    "srvtcpka",
    "splice-auto",
    "splice-request",
    "splice-response",
    "prefer-last-server",
    "http-buffer-request",
    "tcp-smart-accept",
    "tcp-smart-connect",
    "http-use-htx",
];

/// Options by which HAProxy checks.
const CHECK_OPTIONS: [&str; 12] = [
    "httpchk",
    "tcp-check",
    "ssl-hello-chk",
    "smtpchk",
    "mysql-check",
    "pgsql-check",
    "redis-check",
    "ldap-check",
    "spop-check",
    "log-health-checks",
    "external-check",
    "allbackups",
];

/// Lines that HAProxy alone needs, by their first word.
const PLAIN: [&str; 8] =
    ["backend", "frontend", "log", "log-tag", "description", "id", "hash-type", "backlog"];

/// What to use instead of lines that nobody is let in by, by the first words.
const INSTEAD: &[(&[&str], &str)] = &[
    (&["acl"], "means something only for lines with a condition, which are refused each"),
    (&["http-request", "redirect"], "use HAPROXY_{n}_REDIRECT_TO_HTTPS or _HTTP_BACKEND_REDIR"),
    (&["redirect"], "use HAPROXY_{n}_REDIRECT_TO_HTTPS or _HTTP_BACKEND_REDIR"),
    (&["http-request", "set-path"], "use HAPROXY_{n}_HTTP_BACKEND_PROXYPASS_PATH"),
    (&["http-request", "replace-path"], "use HAPROXY_{n}_HTTP_BACKEND_PROXYPASS_PATH"),
    (&["reqrep"], "use HAPROXY_{n}_HTTP_BACKEND_PROXYPASS_PATH"),
    (&["reqirep"], "use HAPROXY_{n}_HTTP_BACKEND_PROXYPASS_PATH"),
    (&["rspirep"], "use HAPROXY_{n}_HTTP_BACKEND_REVPROXY_PATH"),
    (&["rsprep"], "use HAPROXY_{n}_HTTP_BACKEND_REVPROXY_PATH"),
    (&["reqidel"], "use http-request del-header NAME"),
    (&["reqdel"], "use http-request del-header NAME"),
    (&["rspidel"], "use http-response del-header NAME"),
    (&["rspdel"], "use http-response del-header NAME"),
    (&["errorfile"], "use error_pages in a [route] of the configuration"),
    (&["errorloc"], "use error_pages in a [route] of the configuration"),
    (&["compression"], "there is no compression here; let the app compress"),
    (&["maxconn"], "use connections in [limits], or maxconn in BACKEND_SERVER_OPTIONS"),
    (&["fullconn"], "use maxconn in BACKEND_SERVER_OPTIONS"),
    (&["rate-limit"], "use rate_limit in a [route] of the configuration"),
    (&["option", "httplog"], "use [access_log]"),
    (&["option", "tcplog"], "use [access_log]"),
    (&["log-format"], "use [access_log]"),
    (&["capture"], "use [access_log]"),
    (&["stats"], "use [haproxy]"),
    (&["monitor-uri"], "use respond in a [route] of the configuration"),
    (&["server"], "use HAPROXY_{n}_BACKEND_SERVER_OPTIONS"),
    (&["default-server"], "use HAPROXY_{n}_BACKEND_SERVER_OPTIONS"),
];

/// Lines that keep somebody out or send somebody elsewhere, by the first words: without them more
/// would be let in than was meant.
const GUARDS: &[(&[&str], &str)] = &[
    (&["http-request", "deny"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["http-request", "reject"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["http-request", "tarpit"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["http-request", "silent-drop"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["http-request", "allow"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["http-request", "auth"], "use HAPROXY_{n}_AUTH"),
    (&["http-response", "deny"], "let the app not answer so"),
    (&["tcp-request"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["tcp-response"], "let the app not answer so"),
    (&["block"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["reqdeny"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["reqideny"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["reqtarpit"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["reqitarpit"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["reqallow"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["reqiallow"], "use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL"),
    (&["rspdeny"], "let the app not answer so"),
    (&["rspideny"], "let the app not answer so"),
    (&["bind"], "use HAPROXY_{n}_BIND_ADDR, _PORT, _SSL_CERT and _BIND_OPTIONS"),
    (&["use_backend"], "use HAPROXY_{n}_VHOST, _PATH and _BACKEND_WEIGHT, or a [route]"),
    (&["default_backend"], "use HAPROXY_{n}_VHOST, _PATH and _BACKEND_WEIGHT, or a [route]"),
    (&["http-request", "use-service"], "use a [route] of the configuration"),
    (&["dispatch"], "use a service of its own"),
];

/// Reads one line.
pub(super) fn read(
    extras: &mut Extras,
    words: &[&str],
    about: About,
    tell: &mut dyn FnMut(Refused),
) {
    if let Err((cost, what)) = one(extras, words, about) {
        tell(Refused::new(cost, words, &what));
    }
}

fn one(extras: &mut Extras, words: &[&str], about: About) -> Result<(), (Cost, String)> {
    let told = |what: String| (Cost::Told, what);
    match words {
        ["balance", rest @ ..] => extras.balance(rest).map_err(told),
        ["timeout", rest @ ..] => extras.timeout(rest).map_err(told),
        ["cookie", rest @ ..] => extras.cookie(rest).map_err(told),
        ["stick-table", rest @ ..] => extras.stick_table(rest).map_err(told),
        ["stick", rest @ ..] => extras.stick(rest).map_err(told),
        ["http-request", "set-header" | "add-header" | "del-header", ..] => {
            extras.request.read(&words[1..], false).map_err(told)
        }
        ["http-response", "set-header" | "add-header" | "del-header", ..] => {
            extras.response.read(&words[1..], true).map_err(told)
        }
        ["reqadd", rest @ ..] => extras.request.old(rest).map_err(told),
        ["rspadd", rest @ ..] => extras.response.old(rest).map_err(told),
        ["retries", count] => match count.parse() {
            Ok(count) => {
                extras.balance.retries = Some(count);
                Ok(())
            }
            Err(_) => Err(told("is no number of retries".into())),
        },
        // The lines of marathon-lb's own templates.
        ["mode", "{mode}"]
        | ["bind", "{bindAddr}:{servicePort}{sslCert}{bindOptions}"]
        | ["use_backend" | "default_backend", "{backend}"]
        | ["no", "log"]
        | ["no", "option", ..] => Ok(()),
        ["mode", mode] if matches!((*mode, about.http), ("http", true) | ("tcp", false)) => Ok(()),
        ["mode", ..] => Err((Cost::Port, "use HAPROXY_{n}_MODE".into())),
        ["option", option, ..] if PLAIN_OPTIONS.contains(option) => Ok(()),
        ["option", option, ..] if CHECK_OPTIONS.contains(option) => {
            extras.checks = true;
            Ok(())
        }
        ["http-check" | "tcp-check" | "external-check", ..] => {
            extras.checks = true;
            Ok(())
        }
        [first, ..] if PLAIN.contains(first) => Ok(()),
        _ => {
            let find = |table: &[(&[&str], &'static str)]| {
                let found = table.iter().find(|(start, _)| words.starts_with(start));
                found.map(|(_, instead)| *instead)
            };
            match (find(GUARDS), find(INSTEAD)) {
                (Some(instead), _) => Err((Cost::Port, instead.into())),
                (None, Some(instead)) => Err(told(instead.into())),
                (None, None) => Err(told("has no counterpart here".into())),
            }
        }
    }
}
