//! Every template of marathon-lb by its name, and what becomes of it.

use super::extras::{About, Cost};

/// What a template is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Lines of a `frontend` or a `backend`.
    Lines,
    /// `server` lines.
    Server,
    /// Options of `server` lines.
    Checks,
    /// Refused as a whole: what that costs, and what to use instead.
    Refused(Cost, &'static str),
}

const ROUTES: &str = "conditions of routes are not taken over; use HAPROXY_{n}_VHOST, _PATH and \
                      _BACKEND_WEIGHT, or a [route] of the configuration. No virtual host is served \
                      for this port";
const REDIRECT: &str = "redirects are not taken over; use HAPROXY_{n}_REDIRECT_TO_HTTPS, which is \
                        done in marathon-lb's own way";
const REWRITE: &str = "rewriting is not taken over; use HAPROXY_{n}_HTTP_BACKEND_PROXYPASS_PATH, \
                       _REVPROXY_PATH and _REDIR, which are done in marathon-lb's own way";
const NETWORKS: &str = "conditions are not taken over; use HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL";
const USERS: &str = "lists of users are not taken over; use HAPROXY_{n}_AUTH, or basic_auth in a \
                     [route] of the configuration. No virtual host is served for this port";
const GLOBAL: &str = "is a template of the balancer, not of an app; marathon-lb passes over it";

use Cost::{App, Hosts, Port, Told};
use Kind::{Checks, Lines, Refused, Server};

/// Every template, without `HAPROXY_{n}_`, in order.
pub(super) const TEMPLATES: &[(&str, Kind)] = &[
    ("BACKEND_HEAD", Lines),
    ("BACKEND_HSTS_OPTIONS", Lines),
    ("BACKEND_HTTP_HEALTHCHECK_OPTIONS", Lines),
    ("BACKEND_HTTP_OPTIONS", Lines),
    ("BACKEND_REDIRECT_HTTP_TO_HTTPS", Refused(Told, REDIRECT)),
    ("BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH", Refused(Told, REDIRECT)),
    ("BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS", Checks),
    ("BACKEND_SERVER_OPTIONS", Server),
    ("BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS", Checks),
    ("BACKEND_STICKY_OPTIONS", Lines),
    ("BACKEND_TCP_HEALTHCHECK_OPTIONS", Lines),
    ("FRONTEND_BACKEND_GLUE", Lines),
    ("FRONTEND_HEAD", Lines),
    ("HEAD", Refused(Told, GLOBAL)),
    ("HTTPS_FRONTEND_ACL", Refused(Hosts, ROUTES)),
    ("HTTPS_FRONTEND_ACL_ONLY_WITH_PATH", Refused(Hosts, ROUTES)),
    ("HTTPS_FRONTEND_ACL_WITH_AUTH", Refused(Hosts, ROUTES)),
    ("HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH", Refused(Hosts, ROUTES)),
    ("HTTPS_FRONTEND_ACL_WITH_PATH", Refused(Hosts, ROUTES)),
    ("HTTPS_FRONTEND_AUTH_ACL_ONLY", Refused(Hosts, ROUTES)),
    ("HTTPS_FRONTEND_AUTH_REQUEST_ONLY", Refused(Hosts, ROUTES)),
    ("HTTPS_FRONTEND_HEAD", Refused(Told, GLOBAL)),
    ("HTTPS_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH", Refused(Hosts, ROUTES)),
    ("HTTPS_GROUPED_FRONTEND_HEAD", Refused(Told, GLOBAL)),
    ("HTTPS_GROUPED_VHOST_BACKEND_HEAD", Refused(Told, GLOBAL)),
    ("HTTPS_GROUPED_VHOST_FRONTEND_ACL", Refused(Told, GLOBAL)),
    ("HTTPS_GROUPED_VHOST_FRONTEND_HEAD", Refused(Told, GLOBAL)),
    ("HTTP_BACKEND_ACL_ALLOW_DENY", Refused(Told, GLOBAL)),
    ("HTTP_BACKEND_NETWORK_ALLOWED_ACL", Refused(Port, NETWORKS)),
    ("HTTP_BACKEND_PROXYPASS_GLUE", Refused(Told, REWRITE)),
    ("HTTP_BACKEND_REVPROXY_GLUE", Refused(Told, REWRITE)),
    ("HTTP_FRONTEND_ACL", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ACL_ONLY", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ACL_ONLY_WITH_PATH", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ACL_WITH_AUTH", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ACL_WITH_PATH", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_APPID_ACL", Refused(App, ROUTES_BY_APP)),
    ("HTTP_FRONTEND_APPID_HEAD", Refused(Told, GLOBAL)),
    ("HTTP_FRONTEND_HEAD", Refused(Told, GLOBAL)),
    ("HTTP_FRONTEND_ROUTING_ONLY", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH", Refused(Hosts, ROUTES)),
    ("HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH", Refused(Hosts, ROUTES)),
    ("MAP_HTTPS_FRONTEND_ACL", Refused(Hosts, ROUTES)),
    ("MAP_HTTP_FRONTEND_ACL", Refused(Hosts, ROUTES)),
    ("MAP_HTTP_FRONTEND_ACL_ONLY", Refused(Hosts, ROUTES)),
    ("MAP_HTTP_FRONTEND_APPID_ACL", Refused(App, ROUTES_BY_APP)),
    ("TCP_BACKEND_ACL_ALLOW_DENY", Refused(Told, GLOBAL)),
    ("TCP_BACKEND_NETWORK_ALLOWED_ACL", Refused(Port, NETWORKS)),
    ("USERLIST_HEAD", Refused(Hosts, USERS)),
];

const ROUTES_BY_APP: &str = "conditions of routes are not taken over; the app is not served by \
                             X-Marathon-App-Id";

/// What the template called `name` is.
pub(super) fn kind(name: &str) -> Option<Kind> {
    let found = TEMPLATES.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    TEMPLATES.get(found).map(|(_, kind)| *kind)
}

/// Whether marathon-lb looks at the template for a port of which that has been said.
pub(super) fn in_use(name: &str, about: About) -> bool {
    match name {
        "BACKEND_HSTS_OPTIONS" => about.http && about.hsts,
        "BACKEND_HTTP_OPTIONS" => about.http,
        "BACKEND_STICKY_OPTIONS" => about.sticky,
        "HTTP_BACKEND_NETWORK_ALLOWED_ACL" => about.http && about.networks,
        "TCP_BACKEND_NETWORK_ALLOWED_ACL" => !about.http && about.networks,
        "USERLIST_HEAD" => about.auth,
        _ if matches!(kind(name), Some(Refused(Hosts, _))) => about.hosts,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_in_order_so_that_each_is_found() {
        assert!(TEMPLATES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(TEMPLATES.iter().all(|(name, known)| kind(name) == Some(*known)));
        assert_eq!(kind("VHOST"), None);
    }
}
