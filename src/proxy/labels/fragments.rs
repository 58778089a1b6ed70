//! What a port wants, as routes and listeners.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::MarathonLbConfig;
use super::names::backend_name;
use super::target::App;
use super::wish::Wish;
use super::{AppRoute, Labelled, LabelledPort, Mode};
use crate::proxy::config::{
    HeaderEdits, HttpTimeouts, RedirectConfig, RewriteConfig, RouteConfig, RouteTimeouts,
    StickyConfig, TcpTimeouts,
};
use crate::proxy::route::ServiceRef;

/// Name of marathon-lb's cookie.
const COOKIE: &str = "mesosphere_server_id";

/// One port of an app, and what it wants.
pub(super) struct Port<'a> {
    pub(super) config: &'a MarathonLbConfig,
    pub(super) app: &'a App<'a>,
    pub(super) wish: &'a Wish,
    pub(super) target: ServiceRef,
}

impl Port<'_> {
    /// Adds what it wants to `labelled`.
    pub(super) fn add(&self, labelled: &mut Labelled) {
        for (listener, tls) in [(&self.config.http, false), (&self.config.https, true)] {
            if let Some(listener) = listener {
                self.hosts(listener, tls, labelled);
            }
        }
        // Of an app that has several ports the first that speaks HTTP.
        let first = labelled.apps.is_empty();
        if let Some(listener) = &self.config.app_id
            && self.wish.http
            && self.wish.by_app
            && first
        {
            labelled.apps.push(AppRoute {
                listener: Arc::clone(listener),
                app: self.app_id(),
                name: self.name("", listener),
                route: self.served(listener, None, false),
            });
        }
        if let Some(port) = self.wish.port {
            labelled.ports.push(self.own(port));
        }
        if !self.wish.extras.balance.is_empty() {
            let rule = self.wish.extras.balance.clone();
            labelled.rules.push((self.target.clone(), rule));
        }
    }

    fn app_id(&self) -> Arc<str> {
        self.app.id.to_lowercase().into()
    }

    /// The virtual hosts on a listener.
    fn hosts(&self, listener: &Arc<str>, tls: bool, labelled: &mut Labelled) {
        let wish = self.wish;
        for host in &wish.hosts {
            // Neither networks nor passwords are asked for before a client is sent to https.
            let base = if wish.redirect && !tls {
                let redirect = RedirectConfig {
                    status: Some(301),
                    scheme: Some("https".into()),
                    ..RedirectConfig::default()
                };
                RouteConfig {
                    listener: listener.to_string(),
                    redirect: Some(redirect),
                    ..RouteConfig::default()
                }
            } else {
                let auth = wish.auth.clone();
                RouteConfig { basic_auth: auth, ..self.served(listener, Some(host), tls) }
            };
            let base = RouteConfig { host: Some(host.clone()), priority: self.priority(), ..base };
            let mut push = |name: String, route: RouteConfig| {
                labelled.routes.push((Arc::clone(listener), name, route));
            };
            match &wish.paths {
                None => push(self.name(&format!("#{host}"), listener), base.clone()),
                Some(paths) => {
                    for path in &paths.begin {
                        let sign = if paths.any_case { "(-i)" } else { "" };
                        let route = RouteConfig {
                            path_begins: Some(path.clone()),
                            path_any_case: paths.any_case,
                            ..base.clone()
                        };
                        push(self.name(&format!("#{host}{path}{sign}"), listener), route);
                    }
                }
            }
            let root = wish.paths.as_ref().is_none_or(super::paths::Paths::root);
            if base.redirect.is_none()
                && root
                && let Some(route) = self.root(&base)
            {
                push(self.name(&format!("#{host}/="), listener), route);
            }
        }
    }

    /// The route that sends `/` elsewhere, if it does.
    fn root(&self, base: &RouteConfig) -> Option<RouteConfig> {
        let to = self.wish.root.as_ref()?;
        let redirect =
            RedirectConfig { status: Some(301), to: Some(to.clone()), ..RedirectConfig::default() };
        Some(RouteConfig {
            listener: base.listener.clone(),
            host: base.host.clone(),
            priority: base.priority,
            path_exact: Some("/".into()),
            redirect: Some(redirect),
            basic_auth: base.basic_auth.clone(),
            allow: base.allow.clone(),
            ..RouteConfig::default()
        })
    }

    /// The port of its own.
    fn own(&self, port: u16) -> LabelledPort {
        let wish = self.wish;
        let name: Arc<str> = backend_name(&self.app.id, port).into();
        let mode = if wish.http {
            let all = self.served(&name, None, wish.tls);
            let mut routes = Vec::new();
            for host in &wish.hosts {
                let base = RouteConfig { host: Some(host.clone()), ..all.clone() };
                if let Some(route) = self.root(&base) {
                    routes.push((self.plain_name(&format!("#{host}/=")), route));
                }
            }
            routes.push((self.plain_name(""), all));
            Mode::Http(self.http_timeouts(), routes)
        } else {
            Mode::Tcp(self.tcp_timeouts())
        };
        let tcp = !wish.http;
        LabelledPort {
            name,
            bind: wish.bind,
            port,
            target: self.target.clone(),
            mode,
            tls: wish.tls,
            allow: if tcp { wish.allow.clone() } else { Vec::new() },
            sticky: if tcp { self.by_source() } else { None },
        }
    }

    fn by_source(&self) -> Option<StickyConfig> {
        let source = self.wish.extras.source;
        source.map(|time| StickyConfig { source: Some(time), cookie: None })
    }

    /// A route to the tasks, with all that marathon-lb does in the backend.
    fn served(&self, listener: &str, host: Option<&str>, tls: bool) -> RouteConfig {
        let wish = self.wish;
        let mut request = wish.extras.request.of(tls);
        let rewrite = wish.pass.as_ref().map(|path| {
            // HAProxy is told the host that the label says, the first one where it is not known.
            if let Some(host) = host.or_else(|| wish.hosts.first().map(String::as_str)) {
                put_host(&mut request, host);
            }
            let pattern = format!("(?i)^{}/?(.*)", regex::escape(path.trim_end_matches('/')));
            RewriteConfig { pattern, with: "/$1".into() }
        });
        let sticky = wish.sticky.then(|| {
            let cookie = wish.extras.cookie.clone().unwrap_or_else(|| COOKIE.to_owned());
            StickyConfig { cookie: Some(cookie), source: None }
        });
        let timeouts = &wish.extras.timeouts;
        RouteConfig {
            listener: listener.to_owned(),
            service: Some(self.target.key.to_string()),
            rewrite,
            location_prefix: wish.back.clone(),
            request_headers: request,
            response_headers: wish.extras.response.of(tls),
            allow: wish.allow.clone(),
            sticky: sticky.or_else(|| self.by_source()),
            timeouts: RouteTimeouts {
                connect: timeouts.connect,
                read: timeouts.server,
                tunnel: timeouts.tunnel,
            },
            ..RouteConfig::default()
        }
    }

    fn http_timeouts(&self) -> HttpTimeouts {
        let told = &self.wish.extras.timeouts;
        let mut timeouts = self.config.http_timeouts.clone();
        timeouts.request_head = told.request.unwrap_or(timeouts.request_head);
        timeouts.idle = told.keep_alive.or(told.client).unwrap_or(timeouts.idle);
        timeouts
    }

    fn tcp_timeouts(&self) -> TcpTimeouts {
        let told = &self.wish.extras.timeouts;
        let mut timeouts = self.config.tcp_timeouts;
        timeouts.connect = told.connect.unwrap_or(timeouts.connect);
        // In HAProxy it takes the place of those of client and server once a connection is carried.
        timeouts.idle = told.tunnel.unwrap_or(timeouts.idle);
        timeouts
    }

    /// The largest weight first; of equal ones the more specific. A weight of 0 and one of 1, which
    /// marathon-lb gives to all that has a path, are the same, so that what is configured is not
    /// below what a label says by habit.
    fn priority(&self) -> i32 {
        if self.wish.weight > 0 { self.wish.weight - 1 } else { self.wish.weight }
    }

    /// A route's name, in marathon-lb's order: by the app's id, then by the port.
    fn plain_name(&self, behind: &str) -> String {
        let port = self.wish.port.unwrap_or(0);
        format!("{}#{port:05}{behind}", self.app.id)
    }

    fn name(&self, behind: &str, listener: &str) -> String {
        format!("{}@{listener}", self.plain_name(behind))
    }
}

fn put_host(edits: &mut HeaderEdits, host: &str) {
    let lines: &mut BTreeMap<String, String> = &mut edits.set;
    lines.retain(|name, _| !name.eq_ignore_ascii_case("host"));
    lines.insert("Host".into(), host.to_owned());
}
