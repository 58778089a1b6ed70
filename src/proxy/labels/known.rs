//! The labels that have a meaning of their own, by name, and how they are found.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::wish::Labels;
use crate::catalog::model::Meta;

/// Labels of one port, without `HAPROXY_{n}_`.
pub(super) const KNOWN: [&str; 20] = [
    "AUTH",
    "BACKEND_HEALTHCHECK_PORT_INDEX",
    "BACKEND_NETWORK_ALLOWED_ACL",
    "BACKEND_WEIGHT",
    "BALANCE",
    "BIND_ADDR",
    "BIND_OPTIONS",
    "ENABLED",
    "GROUP",
    "HTTP_BACKEND_PROXYPASS_PATH",
    "HTTP_BACKEND_REDIR",
    "HTTP_BACKEND_REVPROXY_PATH",
    "MODE",
    "PATH",
    "PORT",
    "REDIRECT_TO_HTTPS",
    "SSL_CERT",
    "STICKY",
    "USE_HSTS",
    "VHOST",
];

/// Labels of an app, without `HAPROXY_`.
const OF_APPS: [&str; 7] = [
    "GROUP",
    "DEPLOYMENT_GROUP",
    "DEPLOYMENT_ALT_PORT",
    "DEPLOYMENT_COLOUR",
    "DEPLOYMENT_STARTED_AT",
    "DEPLOYMENT_TARGET_INSTANCES",
    "DEPLOYMENT_NEW_INSTANCES",
];

/// The largest index of a port.
const INDEX_MAX: usize = 999;

/// All labels of an app, by the index of the port.
#[derive(Debug, Default)]
pub(super) struct All<'a> {
    /// `HAPROXY_GROUP`.
    pub(super) group: Option<&'a str>,
    pub(super) ports: BTreeMap<usize, Labels<'a>>,
    /// Labels that there are none of.
    pub(super) unknown: Vec<&'a str>,
}

impl<'a> All<'a> {
    /// Those of an app's or a service's meta.
    pub(super) fn of(meta: &'a Meta) -> Self {
        let mut all = Self::default();
        // The keys are in order: those of labels stand together.
        let labels = meta.range::<str, _>((Bound::Included("HAPROXY_"), Bound::Unbounded));
        for (key, value) in labels.take_while(|(key, _)| key.starts_with("HAPROXY_")) {
            let name = &key["HAPROXY_".len()..];
            let indexed = name.split_once('_').and_then(|(index, name)| {
                let plain = index == "0" || !index.starts_with(['0', '+']);
                let index = index.parse().ok().filter(|index| *index <= INDEX_MAX && plain)?;
                Some((index, name))
            });
            match indexed {
                Some((index, name)) => {
                    all.ports.entry(index).or_default().insert(name, value);
                }
                None if name == "GROUP" => all.group = Some(value),
                None if OF_APPS.contains(&name) => {}
                None => all.unknown.push(key),
            }
        }
        all
    }
}

/// What marathon-lb takes for true and, beside what it takes for false, what is meant so.
pub(super) fn truth(text: &str) -> Option<bool> {
    match &*text.trim().to_ascii_lowercase() {
        "true" | "t" | "yes" | "y" if text.trim().len() == text.len() => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" | "" => Some(false),
        _ => None,
    }
}
