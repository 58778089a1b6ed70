//! Labels of apps: as meta of their service, and those that make two apps a pair. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use super::app::Group;
use super::checks::of_port;
use super::decode::RawCheck;
use super::fields::{Labels, Text};
use super::service::{absolute, service_name};
use crate::catalog::model::{META_VALUE_MAX, Meta, NAME_MAX, parse_text};

/// Labels as meta. One that cannot be is refused alone.
pub(super) fn labels(labels: Option<&Labels<'_>>, problems: &mut Vec<String>) -> Meta {
    let mut meta = Meta::new();
    for (key, value) in labels.iter().flat_map(|labels| &labels.0) {
        match label(key, value.as_ref()) {
            Ok((key, value)) => drop(meta.insert(key, value)),
            Err(problem) => problems.push(format!("label {:?}: {problem}", &**key)),
        }
    }
    meta
}

fn label(key: &str, value: Option<&Text<'_>>) -> Result<(Arc<str>, Arc<str>), String> {
    let value = value.ok_or("its value is no text; write it in quotes")?;
    if key.starts_with("marathon.") || key.starts_with("mesos.") {
        return Err("these names are for what Marathon itself says; choose another".into());
    }
    if key.is_empty() {
        return Err("it has no name".into());
    }
    let key = parse_text("its name", key, NAME_MAX)?;
    let value = parse_text("its value", &one_line(value), META_VALUE_MAX)?;
    Ok((key, value))
}

/// Text on one line: the catalog takes no control characters, and templates of HAProxy are full of
/// line ends. They are written as `\n`, tabs as `\t`.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(['\n', '\r', '\t']) {
        return text.into();
    }
    text.replace("\r\n", "\\n").replace(['\n', '\r'], "\\n").replace('\t', "\\t").into()
}

/// What an app is within a blue-green pair, by its labels.
pub(super) fn group(labels: Option<&Labels<'_>>, problems: &mut Vec<String>) -> Option<Group> {
    let of = |key: &str| {
        let mut all = labels.iter().flat_map(|labels| &labels.0);
        all.find(|(own, _)| &**own == key)?.1.as_deref().map(str::trim)
    };
    let id = of("HAPROXY_DEPLOYMENT_GROUP").filter(|id| !id.is_empty())?;
    let id = match absolute(id).and_then(|id| service_name(&id).map(|_| id)) {
        Ok(id) => id,
        Err(problem) => {
            problems.push(format!("label \"HAPROXY_DEPLOYMENT_GROUP\": {problem}"));
            return None;
        }
    };
    let mut number = |key: &str| {
        let text = of(key)?;
        let number = text.parse::<usize>();
        if number.is_err() {
            problems.push(format!("label {key:?}: {text:?} is no whole number"));
        }
        number.ok()
    };
    Some(Group {
        id,
        target: number("HAPROXY_DEPLOYMENT_TARGET_INSTANCES"),
        alternative: number("HAPROXY_DEPLOYMENT_ALT_PORT").and_then(|port| port.try_into().ok()),
        hybrid: of("HAPROXY_DEPLOYMENT_NEW_INSTANCES").is_some(),
        started_at: of("HAPROXY_DEPLOYMENT_STARTED_AT").unwrap_or_default().into(),
    })
}

/// Indexes of the ports that an HTTP check looks at, parted by commas. Of several checks of a port
/// the first counts; one with a port number of its own is for every port.
pub(super) fn http_checks(checks: &[RawCheck<'_>], ports: usize) -> String {
    let is_http = |index: &usize| {
        let check = of_port(checks, *index);
        let protocol = check.and_then(|check| check.protocol.as_deref()).unwrap_or_default();
        matches!(protocol, "HTTP" | "HTTPS" | "MESOS_HTTP" | "MESOS_HTTPS")
    };
    (0..ports).filter(is_http).map(|index| index.to_string()).collect::<Vec<_>>().join(",")
}
