//! Checks across tables, and the compiling of what the rooms need.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificates;
use super::document::{Document, Problem};
use super::labels;
use super::tables::Config;
use crate::api::AdminConfig;
use crate::api::haproxy::HaproxyConfig;
use crate::api::metadata::MetadataConfig;
use crate::catalog::assemble::{ServiceSettings, Settings};
use crate::catalog::locality::Localities;
use crate::dns;
use crate::health::{self, OnFailureConfig, OutlierConfig};
use crate::net;
use crate::proxy;
use crate::proxy::config::AccessLogConfig;
use crate::render::{Resource, ResourceConfig};

/// What the rooms compiled from a configuration that has no problem.
#[derive(Debug)]
pub struct Prepared {
    /// The node's name.
    pub node: Arc<str>,
    /// Settings by service, for the catalog.
    pub services: Arc<Settings>,
    /// What is checked, and how.
    pub health: Arc<health::Settings>,
    /// DNS, when it is configured.
    pub dns: Arc<dns::Settings>,
    /// Listeners and routes.
    pub proxy: Arc<proxy::Settings>,
    /// Certificates, and the listeners that speak TLS.
    pub tls: net::tls::Wanted,
    /// Templates, parsed.
    pub resources: Vec<Resource>,
}

/// Checks what concerns several tables and compiles the rooms' settings.
///
/// What stands in the document and did not decode is missing from `config`, and has been told:
/// whoever refers to it is not told that it is missing.
///
/// # Errors
/// Every problem, each at its key.
pub(super) fn check(document: &Document<'_>, config: &Config) -> Result<Prepared, Vec<Problem>> {
    let mut problems = Vec::new();
    ports_twice(document, config, &mut problems);
    services(document, config, &mut problems);
    zones(document, config, &mut problems);
    groups(document, config, &mut problems);
    for unsafe_admin in config.admin.iter().filter_map(AdminConfig::problem) {
        problems.push(document.problem(&["admin", "listen"], unsafe_admin));
    }
    if let Some((key, message)) = config.metadata.as_ref().and_then(MetadataConfig::problem) {
        problems.push(document.problem(&["metadata", key], message));
    }
    if let Some((key, message)) = config.haproxy.as_ref().and_then(HaproxyConfig::problem) {
        problems.push(document.problem(&["haproxy", key], message));
    }
    if let Some((keys, message)) = config.operations.problem() {
        let path: Vec<&str> = std::iter::once("operations").chain(keys.iter().copied()).collect();
        problems.push(document.problem(&path, message));
    }
    if let Some((key, message)) = config.sticky.problem() {
        problems.push(document.problem(&["sticky", key], message));
    }
    if let Some(message) = config.exec.as_ref().and_then(|exec| exec.env.problem()) {
        problems.push(document.problem(&["exec", "env"], message));
    }
    if config.node.workers == Some(0) {
        let message = "workers = 0 would carry nothing; leave it out for one per core";
        problems.push(document.problem(&["node", "workers"], message));
    }

    let node = node_name(config);
    let nothing = dns::DnsConfig::default();
    let localities = Arc::new(Localities::new(&config.localities, config.node.locality.as_deref()));
    let dns = config.dns.as_ref().unwrap_or(&nothing);
    let dns = dns::Settings::compile_in(dns, &node, &config.base_dir, &localities);
    let dns = dns.unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|unfit| {
            let path = unfit.path.iter().map(String::as_str);
            let path: Vec<&str> = std::iter::once("dns").chain(path).collect();
            document.problem(&path, unfit.message)
        }));
        dns::Settings::default()
    });
    let checks = config.services.iter();
    let checks = checks.map(|(name, service)| (&**name, &service.check, service.proxy_protocol));
    let health = health::Settings::compile(&config.health, checks, &config.base_dir);
    let health = health.unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|unfit| {
            let path: Vec<&str> = unfit.path.iter().map(String::as_str).collect();
            document.problem(&path, unfit.message)
        }));
        health::Settings::default()
    });
    let balances = config.services.iter();
    let balances =
        balances.map(|(name, service)| (name.clone(), service.balance(&config.base_dir))).collect();
    let mut routes = config.routes.clone();
    routes.retain(|_, route| {
        config.listeners.contains_key(&route.listener)
            || !document.has(&["listener", &route.listener])
    });
    for page in routes.values_mut().flat_map(|route| route.error_pages.values_mut()) {
        *page = config.base_dir.join(&*page);
    }
    for auth in routes.values_mut().filter_map(|route| route.basic_auth.as_mut()) {
        auth.users_file = auth.users_file.take().map(|file| config.base_dir.join(file));
    }
    labels::check(document, config, &mut problems);
    let proxy = proxy::Settings::compile(&config.listeners, &routes, &balances);
    let proxy = proxy.unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|unfit| {
            let mut path: Vec<&str> = unfit.path.iter().map(String::as_str).collect();
            path.extend(unfit.key);
            document.problem(&path, unfit.message)
        }));
        proxy::Settings::default()
    });
    let watched = config.services.iter().filter_map(|(name, service)| {
        Some((Arc::from(&**name), service.outlier.as_ref()?.failure_status))
    });
    let proxy = proxy
        .watching(watched)
        .at(config.node.locality.as_deref())
        .logging(config.access_log.as_ref())
        .labelled(&config.labels)
        .limited(proxy::limit::ProcessRules {
            requests: config.limits.requests,
            memory: config.limits.memory.map(|memory| memory.0),
        });
    access_logs(document, config, &mut problems);
    let tls = certificates::load(document, config, &mut problems);
    let mut resources = Vec::new();
    let mut destinations: BTreeMap<&Path, &str> = BTreeMap::new();
    // One of confd that is broken costs itself only: it is there, and says what is wrong with it.
    for broken in &config.installed.broken {
        let nowhere = ResourceConfig::new(broken.file.clone(), PathBuf::new());
        resources.push(Resource::broken(
            &broken.name,
            &nowhere,
            &config.base_dir,
            &broken.to_string(),
        ));
    }
    for (name, template) in &config.templates {
        let own = config.installed.templates.contains(name);
        if own {
            resources.push(of_confd(name, template, config, &mut destinations));
            continue;
        }
        if let Some(other) = destinations.insert(&template.destination, name) {
            let message = format!(
                "{} is the destination of [template.{other}] too; each writes a file of its own",
                template.destination.display()
            );
            problems.push(document.problem(&["template", name, "destination"], message));
        }
        if let Some((key, message)) = template.problem() {
            problems.push(document.problem(&["template", name, key], message));
        }
        if let Some(wanted) = &template.registry {
            known_registry(document, wanted, &["template", name, "registry"], &mut problems);
        }
        let key = if template.contents.is_some() { "contents" } else { "source" };
        match Resource::load(name, template, &config.base_dir) {
            Ok(resource) => resources.push(resource),
            Err(error) => {
                problems.push(document.problem(&["template", name, key], error.to_string()));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let asking = config.health.from_registry.limits().is_some();
    let services = config.services.iter().map(|(name, service)| {
        let settings = ServiceSettings {
            when_none_healthy: service.when_none_healthy,
            port: service.port,
            checked: health.checked(name),
            backup: service.backup.as_deref().map(Into::into),
        };
        (Arc::from(&**name), settings)
    });
    Ok(Prepared {
        node,
        services: Arc::new(services.collect::<Settings>().with_asking(asking)),
        health: Arc::new(health),
        dns: Arc::new(dns),
        proxy: Arc::new(proxy),
        tls,
        resources,
    })
}

/// The template called `name` of an installation of confd; one that cannot be, and why.
fn of_confd<'a>(
    name: &'a str,
    template: &'a ResourceConfig,
    config: &Config,
    destinations: &mut BTreeMap<&'a Path, &'a str>,
) -> Resource {
    let other = destinations.insert(&template.destination, name);
    let twice = other.map(|other| {
        let destination = template.destination.display();
        format!("{destination} is the destination of [template.{other}] too; take one of them away")
    });
    let unfit = || template.problem().map(|(key, message)| format!("`{key}`: {message}"));
    let why = match twice.or_else(unfit) {
        Some(why) => why,
        None => match Resource::load(name, template, &config.base_dir) {
            Ok(resource) => return resource,
            Err(error) => error.to_string(),
        },
    };
    Resource::broken(name, template, &config.base_dir, &why)
}

/// Each log of requests can be.
fn access_logs(document: &Document<'_>, config: &Config, problems: &mut Vec<Problem>) {
    let mut all = vec![(vec!["access_log"], config.access_log.as_ref())];
    for (name, listener) in &config.listeners {
        let own = listener.requests().and_then(|http| http.access_log.as_ref());
        all.push((vec!["listener", name, listener.kind(), "access_log"], own));
    }
    for (mut path, log) in all {
        if let Some((key, message)) = log.and_then(AccessLogConfig::problem) {
            path.push(key);
            problems.push(document.problem(&path, message));
        }
    }
}

/// The configured name, else the host's.
fn node_name(config: &Config) -> Arc<str> {
    config.node.name.as_deref().map_or_else(
        || rustix::system::uname().nodename().to_string_lossy().into_owned().into(),
        Into::into,
    )
}

/// Each address may be asked for once, by TCP and by UDP; a wildcard takes its port on every address.
fn ports_twice(document: &Document<'_>, config: &Config, problems: &mut Vec<Problem>) {
    let mut asked: Vec<(SocketAddr, Vec<&str>)> = Vec::new();
    let mut datagrams: Vec<(SocketAddr, Vec<&str>)> = Vec::new();
    for (name, listener) in &config.listeners {
        let kind = listener.kind();
        let asked = if kind == "udp" { &mut datagrams } else { &mut asked };
        for address in listener.bind() {
            asked.push((*address, vec!["listener", name, kind, "bind"]));
        }
    }
    for address in config.dns.iter().flat_map(|dns| &dns.listen) {
        asked.push((*address, vec!["dns", "listen"]));
        datagrams.push((*address, vec!["dns", "listen"]));
    }
    for (name, zone) in config.dns.iter().flat_map(|dns| &dns.zone) {
        if let Some(listen) = zone.http_listen {
            asked.push((listen, vec!["dns", "zone", name, "http_listen"]));
        }
    }
    for listen in config.metadata.iter().flat_map(|metadata| &metadata.listen.0) {
        asked.push((*listen, vec!["metadata", "listen"]));
    }
    for (key, listen) in config.haproxy.iter().flat_map(HaproxyConfig::listens) {
        asked.push((listen, vec!["haproxy", key]));
    }
    if let Some(listen) = config.admin.as_ref().and_then(|admin| admin.listen) {
        asked.push((listen, vec!["admin", "listen"]));
    }
    // What DNS asks for twice is told once.
    let dns_twice = |path: &[&str], taken: &[&str]| path == ["dns", "listen"] && path == taken;
    each_once(document, &asked, |_, _| true, problems);
    each_once(document, &datagrams, |path, taken| !dns_twice(path, taken), problems);
}

/// Tells of each address that is `asked` for twice.
fn each_once(
    document: &Document<'_>,
    asked: &[(SocketAddr, Vec<&str>)],
    counts: impl Fn(&[&str], &[&str]) -> bool,
    problems: &mut Vec<Problem>,
) {
    for (index, (address, path)) in asked.iter().enumerate() {
        let same_port = |other: &SocketAddr| {
            let wildcard = address.ip().is_unspecified() || other.ip().is_unspecified();
            address.port() != 0
                && address.port() == other.port()
                && address.is_ipv4() == other.is_ipv4()
                && (wildcard || address.ip() == other.ip())
        };
        let taken = |(other, by): &&(SocketAddr, Vec<&str>)| same_port(other) && counts(path, by);
        if let Some((other, taken)) = asked[..index].iter().find(taken) {
            let holder = taken.join(".");
            let message = format!("{address} is taken by {holder} ({other}); choose another port");
            problems.push(document.problem(path, message));
        }
    }
}

fn services(document: &Document<'_>, config: &Config, problems: &mut Vec<Problem>) {
    for (name, service) in &config.services {
        if service.port == Some(0) {
            let message = "port 0 is not between 1 and 65535";
            problems.push(document.problem(&["service", name, "port"], message));
        }
        if let Some((key, message)) = service.outlier.as_ref().and_then(OutlierConfig::problem) {
            problems.push(document.problem(&["service", name, "outlier", key], message));
        }
        if let Some((key, message)) = service.on_failure.as_ref().and_then(OnFailureConfig::problem)
        {
            problems.push(document.problem(&["service", name, "on_failure", key], message));
        }
        if let Some(circle) = circle(config, name) {
            let message =
                format!("the backups go in a circle: {circle}; the last one must stand for itself");
            problems.push(document.problem(&["service", name, "backup"], message));
        }
    }
}

/// The circle of backups that leads from `name` back to it, when there is one.
fn circle(config: &Config, name: &str) -> Option<String> {
    let mut path = vec![name];
    loop {
        let next = config.services.get(*path.last()?)?.backup.as_deref()?;
        if next == name {
            path.push(name);
            return Some(path.join(" -> "));
        }
        // Another circle, further on: those in it are told.
        if path.contains(&next) {
            return None;
        }
        path.push(next);
    }
}

/// A group has templates: one without is most often misspelt.
fn groups(document: &Document<'_>, config: &Config, problems: &mut Vec<Problem>) {
    // A template that did not decode may be the one.
    let undecoded = document.names("template").len() > config.templates.len();
    for name in config.groups.keys().filter(|_| !undecoded) {
        if !config.templates.values().any(|template| template.group.as_ref() == Some(name)) {
            let message = format!(
                "no template is of this group; write `group = \"{name}\"` in those that are"
            );
            problems.push(document.problem(&["group", name], message));
        }
    }
}

/// Zones and the metadata API show registries that are there.
fn zones(document: &Document<'_>, config: &Config, problems: &mut Vec<Problem>) {
    let mut shown: Vec<(Vec<&str>, &Vec<String>)> = Vec::new();
    for (name, zone) in config.dns.iter().flat_map(|dns| &dns.zone) {
        shown.extend(zone.registries.iter().map(|r| (vec!["dns", "zone", name, "registries"], r)));
    }
    let metadata = config.metadata.iter().flat_map(|metadata| &metadata.registries);
    shown.extend(metadata.map(|registries| (vec!["metadata", "registries"], registries)));
    for (path, registries) in shown {
        for wanted in registries {
            known_registry(document, wanted, &path, problems);
        }
    }
}

/// The registry that is named at `path` is there.
fn known_registry(
    document: &Document<'_>,
    wanted: &str,
    path: &[&str],
    problems: &mut Vec<Problem>,
) {
    if !document.has(&["registry", wanted]) {
        let known: Vec<String> =
            document.names("registry").into_iter().map(|(name, _)| name).collect();
        let message = format!(
            "there is no [registry.{wanted}]; there are: {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        problems.push(document.problem(path, message));
    }
}
