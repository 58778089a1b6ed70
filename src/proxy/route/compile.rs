//! Routes as they were written made into a table, or everything that is wrong with them.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::route_metrics::RouteHandle;
use super::begins::ANY_CASE_MAX;
use super::conditions::Common;
use super::matching::{Candidate, PathRule, Paths, RouteTable};
use super::{Route, ServiceRef, Split, Target, canonical, pattern};
use crate::catalog::model::parse_name;
use crate::proxy::config::{RespondConfig, RespondWhen, RouteConfig};
use crate::proxy::http::access::Access;
use crate::proxy::http::auth::Users;
use crate::proxy::http::edits::{Edits, Message};
use crate::proxy::http::error_page::Files;
use crate::proxy::http::location::LocationPrefix;
use crate::proxy::http::redirect::Redirect;
use crate::proxy::http::rewrite::PathEdits;
use crate::proxy::table::Unfit;

/// Most routes with an expression for the path that one host has: they are tried one by one.
pub(super) const PATTERNS_MAX: usize = 100;
/// Most routes with the same host and path: their conditions are tried one by one.
pub(super) const ALIKE_MAX: usize = 256;

/// Which hosts a route takes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) enum HostRule {
    /// This one, in lower case.
    Exact(Box<str>),
    /// The suffix, dot included.
    Below(Box<str>),
    /// All.
    Any,
}

type Drafts = HashMap<HostRule, Draft>;

/// The routes of one host on their way into the table.
#[derive(Debug, Default)]
struct Draft {
    routes: Vec<(PathRule, Candidate)>,
    /// Which of them have the same path.
    alike: HashMap<(u8, Box<str>), Vec<usize>>,
    patterns: usize,
}

impl RouteTable {
    /// Compiles routes given by name. Reads the files of error pages, whose paths are absolute by
    /// now; blocks on that.
    ///
    /// # Errors
    /// Everything that can't be, all at once.
    pub fn compile<'a>(
        routes: impl IntoIterator<Item = (&'a str, &'a RouteConfig)>,
    ) -> Result<Self, Vec<Unfit>> {
        let mut problems = Vec::new();
        let mut shared = Shared::default();
        let mut drafts = Drafts::new();
        for (name, config) in routes {
            let Some(one) = One::compile(name, config, None, &mut shared, &mut problems) else {
                continue;
            };
            if let Err(unfit) = drafts.entry(one.host).or_default().add(one.path, one.candidate) {
                problems.push(unfit);
            }
        }
        if problems.is_empty() { Ok(Self::of(drafts)) } else { Err(problems) }
    }

    fn of(drafts: Drafts) -> Self {
        let mut table = Self::default();
        for (host, Draft { routes, .. }) in drafts {
            let mut paths = Paths::default();
            let highest = routes.iter().map(|(_, route)| route.priority).max().unwrap_or_default();
            paths.fill(routes);
            match host {
                HostRule::Exact(name) => {
                    table.exact.insert(name, paths);
                }
                HostRule::Below(suffix) => {
                    let first = table.below.is_empty();
                    let before = if first { i32::MIN } else { table.below_highest };
                    table.below_highest = before.max(highest);
                    table.below.insert(suffix, paths);
                }
                HostRule::Any => table.any = paths,
            }
        }
        table
    }
}

/// What the routes of one listener share while they are compiled.
#[derive(Default)]
pub(super) struct Shared {
    files: Files,
    common: Common,
}

/// A route that was compiled, and where it belongs.
#[derive(Debug)]
pub(super) struct One {
    pub(super) host: HostRule,
    pub(super) path: PathRule,
    pub(super) candidate: Candidate,
}

impl One {
    /// Compiles one route, which the labels of the service `by` ask for or the configuration has; none
    /// when it can't be: `problems` tell why.
    pub(super) fn compile(
        name: &str,
        config: &RouteConfig,
        by: Option<&Arc<str>>,
        shared: &mut Shared,
        problems: &mut Vec<Unfit>,
    ) -> Option<Self> {
        let known = problems.len();
        let mut tell = |key, message| problems.push(unfit(name, Some(key), message));
        let host = host(config, &mut tell);
        let path = path(config, &mut tell);
        let conditions = shared.common.conditions(config, &mut tell);
        let target = target(name, config, problems);
        let mut tell = |key, message| problems.push(unfit(name, Some(key), message));
        timeouts(config, &mut tell);
        let route = Route {
            name: name.into(),
            by: by.cloned(),
            target: target.unwrap_or(NOWHERE),
            path_edits: PathEdits::compile(config, &mut tell),
            request_edits: edits(config, Message::Request, &mut tell),
            response_edits: edits(config, Message::Response, &mut tell),
            location: LocationPrefix::compile(config, &mut tell),
            access: Access::compile(&config.allow, &config.deny, &mut tell),
            users: Users::compile(config.basic_auth.as_ref(), &mut tell),
            error_pages: shared.files.pages(&config.error_pages, &mut tell),
            config: config.clone(),
            counters: RouteHandle::default(),
        };
        let (Some(host), Some(path)) = (host, path) else { return None };
        let candidate = Candidate { priority: config.priority, conditions, route: Arc::new(route) };
        (problems.len() == known).then_some(Self { host, path, candidate })
    }
}

/// What stands for a target that can't be; the table is refused then.
const NOWHERE: Target =
    Target::Respond(RespondConfig { status: 500, body: String::new(), when: RespondWhen::Always });

pub(in crate::proxy) fn unfit(route: &str, key: Option<&'static str>, message: String) -> Unfit {
    Unfit { path: ["route".into(), route.to_owned()], key, message }
}

impl Draft {
    /// Puts a route beside those of the same host, unless one of them makes it pointless.
    fn add(&mut self, path: PathRule, candidate: Candidate) -> Result<(), Unfit> {
        let name = &*candidate.route.name;
        let pattern = matches!(path, PathRule::Pattern(_));
        let alike = self.alike.entry(path.key()).or_default();
        let others = alike.iter().filter_map(|index| self.routes.get(*index));
        let pointless = others.map(|(_, other)| other).find(|other| {
            candidate.conditions == other.conditions && candidate.priority == other.priority
        });
        let message = if let Some(other) = pointless {
            format!(
                "matches the same requests as [route.{}]; give it a condition, or another \
                 `priority`, or take one of them away",
                other.route.name
            )
        } else if alike.len() >= ALIKE_MAX {
            format!(
                "is one of more than {ALIKE_MAX} routes with this host and path; split the path"
            )
        } else if pattern && self.patterns >= PATTERNS_MAX {
            format!(
                "is one of more than {PATTERNS_MAX} routes of this host with `path_regex`; write \
                 those that are plain as `path` or `path_exact`"
            )
        } else {
            alike.push(self.routes.len());
            self.patterns += usize::from(pattern);
            self.routes.push((path, candidate));
            return Ok(());
        };
        Err(unfit(name, None, message))
    }
}

impl PathRule {
    /// Equal for rules that take the same paths.
    pub(super) fn key(&self) -> (u8, Box<str>) {
        match self {
            Self::Exact(path) => (0, path.clone()),
            Self::Prefix(path) => (1, path.clone()),
            Self::Pattern(pattern) => (2, pattern.as_str().into()),
            Self::Begins(path, any_case) => (3 + u8::from(*any_case), path.clone()),
        }
    }
}

pub(in crate::proxy) fn host(
    config: &RouteConfig,
    tell: &mut dyn FnMut(&'static str, String),
) -> Option<HostRule> {
    let host = match config.host.as_deref() {
        None | Some("*") => return Some(HostRule::Any),
        Some(host) => host.to_ascii_lowercase(),
    };
    let name = host.strip_prefix('*').unwrap_or(&host);
    let what = if name.contains('*') || (name.len() < host.len() && !name.starts_with('.')) {
        "a '*' stands for whole labels at the front only, as in \"*.shop.example\""
    } else if name.contains(['/', ':', '@']) {
        "is no host name; leave out scheme, port and path"
    } else if name.trim_matches('.').is_empty() || name.len() > 255 {
        "is no host name: one has 1 to 255 bytes"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        "is no host name: letters, digits, '-', '_' and '.' only; others as they are in DNS (xn--…)"
    } else {
        let name = name.strip_suffix('.').unwrap_or(name);
        return Some(if host.starts_with('*') {
            HostRule::Below(name.into())
        } else {
            HostRule::Exact(name.into())
        });
    };
    tell("host", format!("{host:?}: {what}"));
    None
}

fn path(config: &RouteConfig, tell: &mut dyn FnMut(&'static str, String)) -> Option<PathRule> {
    let given: Vec<&'static str> = [
        ("path", config.path.is_some()),
        ("path_exact", config.path_exact.is_some()),
        ("path_regex", config.path_regex.is_some()),
        ("path_begins", config.path_begins.is_some()),
    ]
    .iter()
    .filter_map(|(key, given)| given.then_some(*key))
    .collect();
    if let [_, .., last] = given[..] {
        let all = "there is one of `path`, `path_exact`, `path_regex` and `path_begins`; keep one";
        tell(last, all.into());
        return None;
    }
    if config.path_any_case && config.path_begins.is_none() {
        tell("path_any_case", "is about `path_begins`, and there is none; take it away".into());
        return None;
    }
    let (key, read) = if let Some(path) = &config.path {
        let prefix = canonical(path).map(|path| path.trim_end_matches('/').into());
        ("path", prefix.map(PathRule::Prefix))
    } else if let Some(path) = &config.path_exact {
        ("path_exact", canonical(path).map(|path| PathRule::Exact(path.into())))
    } else if let Some(regex) = &config.path_regex {
        ("path_regex", pattern::whole(regex).map(PathRule::Pattern))
    } else if let Some(text) = &config.path_begins {
        ("path_begins", begins(text, config.path_any_case))
    } else {
        return Some(PathRule::Prefix("".into()));
    };
    read.map_err(|why| tell(key, why)).ok()
}

fn begins(text: &str, any_case: bool) -> Result<PathRule, String> {
    let text = canonical(text)?;
    if any_case && text.len() > ANY_CASE_MAX {
        let length = text.len();
        return Err(format!("has {length} bytes; with path_any_case {ANY_CASE_MAX} are the most"));
    }
    let text = if any_case { text.to_ascii_lowercase() } else { text };
    Ok(PathRule::Begins(text.into(), any_case))
}

/// Where it leads: exactly one key says so.
pub(in crate::proxy) fn target(
    name: &str,
    config: &RouteConfig,
    problems: &mut Vec<Unfit>,
) -> Option<Target> {
    let given: Vec<&str> = [
        ("service", config.service.is_some()),
        ("split", !config.split.is_empty()),
        ("respond", config.respond.is_some()),
        ("redirect", config.redirect.is_some()),
    ]
    .iter()
    .filter_map(|(key, given)| given.then_some(*key))
    .collect();
    if given.len() != 1 {
        let found = if given.is_empty() {
            "leads nowhere".to_owned()
        } else {
            format!("has `{}`", given.join("` and `"))
        };
        let message =
            format!("{found}; it needs exactly one of `service`, `split`, `respond`, `redirect`");
        problems.push(unfit(name, None, message));
        return None;
    }
    let read = if let Some(service) = &config.service {
        let named = parse_name("service", service);
        named.map(|_| Target::Service(ServiceRef::parse(service))).map_err(|why| ("service", why))
    } else if let Some(respond) = &config.respond {
        match respond.status {
            200..=599 => Ok(Target::Respond(respond.clone())),
            status => {
                Err(("respond", format!("respond.status = {status} is not between 200 and 599")))
            }
        }
    } else if let Some(redirect) = &config.redirect {
        Redirect::compile(redirect).map(Target::Redirect).map_err(|why| ("redirect", why))
    } else {
        Split::compile(&config.split).map(Target::Split).map_err(|why| ("split", why))
    };
    read.map_err(|(key, why)| problems.push(unfit(name, Some(key), why))).ok()
}

fn edits(
    config: &RouteConfig,
    message: Message,
    tell: &mut dyn FnMut(&'static str, String),
) -> Edits {
    let (key, edits) = match message {
        Message::Request => ("request_headers", &config.request_headers),
        Message::Response => ("response_headers", &config.response_headers),
    };
    Edits::compile(edits, message, &mut |what| tell(key, what))
}

fn timeouts(config: &RouteConfig, tell: &mut dyn FnMut(&'static str, String)) {
    let timeouts = &config.timeouts;
    for (name, period) in
        [("connect", timeouts.connect), ("read", timeouts.read), ("tunnel", timeouts.tunnel)]
    {
        if period.is_some_and(|period| period.0.is_zero()) {
            let what = format!("timeouts.{name} = 0 would end everything at once; leave it out");
            tell("timeouts", what);
        }
    }
}
