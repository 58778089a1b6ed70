//! Labels name listeners, which have to be there and of the right kind.

use super::document::{Document, Problem};
use super::tables::Config;
use crate::proxy::ListenerConfig;
use crate::suggest;

/// The table whose keys they are.
const TABLE: [&str; 2] = ["labels", "marathon-lb"];

/// Checks what `[labels.marathon-lb]` says of listeners.
pub(super) fn check(document: &Document<'_>, config: &Config, problems: &mut Vec<Problem>) {
    let Some(labels) = &config.labels.marathon_lb else { return };
    let mut problem = |key: &str, message: String| {
        problems.push(document.problem(&[TABLE[0], TABLE[1], key], message));
    };
    if labels.group.is_empty() {
        let message = "`group` is empty, and no service would be served; name groups, or write \
                       [\"*\"] for all";
        problem("group", message.to_owned());
    }
    if labels.bind.is_empty() {
        problem("bind", "`bind` is empty; write it as bind = [\"0.0.0.0\"]".to_owned());
    }
    for (key, name, kind) in [
        ("http", &labels.http, "http"),
        ("https", &labels.https, "https"),
        ("app_id", &labels.app_id, "http"),
    ] {
        let Some(name) = name else { continue };
        let known = config.listeners.get(&**name);
        match known.map(ListenerConfig::kind) {
            Some(found) if found == kind => {}
            Some(found) => problem(
                key,
                format!(
                    "[listener.{name}] is of the kind {found}; name one of [listener.NAME.{kind}]"
                ),
            ),
            // One that did not decode has been told.
            None if document.has(&["listener", name]) => {}
            None => {
                let known: Vec<&str> = config.listeners.keys().map(String::as_str).collect();
                let remedy = suggest::remedy(name, &known, "There are");
                problem(key, format!("there is no listener {name:?}{remedy}"));
            }
        }
    }
}
