//! What marathon-lb is told that has no line in a configuration, each with its reason.

use super::plan::{APPS, HTTP, HTTPS};

/// Flags without a counterpart that nobody misses, each with its reason.
pub(super) const WITHOUT: &[(&str, &str)] = &[
    (
        "haproxy-config",
        "no configuration of HAProxy is written; `/_haproxy_getconfig` shows what is in force",
    ),
    ("command", "nothing is reloaded: labels take effect while running"),
    ("max-reload-retries", "nothing is reloaded"),
    ("reload-interval", "nothing is reloaded"),
    ("archive-versions", "no files are written; `/v1/history` tells what changed"),
    ("lru-cache-capacity", "the limits of [registry.marathon.marathon] are apps_max and tasks_max"),
    ("haproxy-map", "hosts and apps are looked up by hash in any case"),
    ("skip-validation", "every label is checked by itself, and costs its own app only"),
    ("skip-config-cleanup", "every label is checked by itself, and costs its own app only"),
    ("max-backoff", "the key is backoff_max in [registry.marathon.marathon]"),
    ("syslog-socket", "logs go to standard error; [access_log] knows syslog"),
    ("log-format", "logs have a format of their own"),
    ("log-level", "the flag is `portolan run --log-level`"),
    ("listening", "events come by the stream; nothing listens for them"),
    ("callback-url", "events come by the stream; delete the subscription in Marathon"),
    ("marathon-lb-url", "events come by the stream; delete the subscription in Marathon"),
];

/// Variables without a counterpart, each with its reason.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    (
        "HAPROXY_GLOBAL_DEFAULT_OPTIONS",
        "options of HAProxy have no counterpart as a whole; see docs/marathon-lb.md for those of labels",
    ),
    ("HAPROXY_SYSCTL_PARAMS", "set them for the host, by /etc/sysctl.d"),
    (
        "HAPROXY_RELOAD_SIGTERM_DELAY",
        "nothing is reloaded; `drain` in [limits] is how long what runs may go on at the end",
    ),
    (
        "PORTS",
        "ports are opened when apps ask for them; `ports` in [labels.marathon-lb] says which may be had",
    ),
    ("POLL_INTERVAL", "the key is resync in [registry.marathon.marathon]"),
];

/// What to use instead of a template of the whole balancer.
pub(super) fn instead(name: &str) -> String {
    match name.trim_start_matches("HAPROXY_") {
        "HEAD" => {
            "what it says of timeouts belongs into `timeouts` of the listeners and http_timeouts \
                   of [labels.marathon-lb], connections into [limits], statistics into [haproxy]"
                .into()
        }
        "HTTP_FRONTEND_HEAD" => {
            format!("what it says belongs into [listener.{HTTP}.http], its rules into [route.NAME]")
        }
        "HTTPS_FRONTEND_HEAD" => format!(
            "what it says belongs into [listener.{HTTPS}.https], its rules into [route.NAME]"
        ),
        "HTTP_FRONTEND_APPID_HEAD" => format!("what it says belongs into [listener.{APPS}.http]"),
        name => format!(
            "it is for all apps; what HAPROXY_{{n}}_{name} of an app may say is told in \
             docs/marathon-lb.md, and [service.NAME] says it for good"
        ),
    }
}
