//! Every key of consul-template's configuration, with what stands behind it.

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Flag,
    Count,
    Fraction,
    /// A length of time as Go writes it.
    Span,
    /// Name of a signal; empty: none.
    Signal,
    /// Permissions, as a text in octal or as a number.
    Mode,
    /// A list of texts.
    Words,
    /// A text for the shell, or a list of words.
    Command,
    /// `"min:max"`, or a block.
    Wait,
    /// A block.
    Block(&'static [Key]),
    /// A block, or a text that stands for this key of it.
    BlockOr(&'static [Key], &'static str),
    /// A block, each time another one.
    Templates,
    /// Anything: not read.
    Any,
}

/// A key, and where its value goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The sections below this one, and the name there; several of them for one that was split.
    pub(super) to: &'static [&'static [&'static str]],
    pub(super) kind: Kind,
}

macro_rules! keys {
    ($($name:literal $(=> $([$($to:literal),+])+)? : $kind:expr),* $(,)?) => {
        &[$(Key { name: $name, to: keys!(@to $name $($([$($to),+])+)?), kind: $kind }),*]
    };
    (@to $name:literal) => { &[&[$name]] };
    (@to $name:literal $([$($to:literal),+])+) => { &[$(&[$($to),+]),+] };
}

/// The file as a whole. Keys of releases before 0.19 are known, and go where they went then.
pub(super) const TOP: &[Key] = keys! {
    "auth" => ["consul", "auth"]: Kind::Block(AUTH),
    "block_query_wait": Kind::Span,
    "consul": Kind::BlockOr(CONSUL, "address"),
    "deduplicate": Kind::Block(DEDUPLICATE),
    "default_delimiters": Kind::Block(DELIMITERS),
    "default_left_delimiter" => ["default_delimiters", "left"]: Kind::Text,
    "default_right_delimiter" => ["default_delimiters", "right"]: Kind::Text,
    "dump_signal": Kind::Signal,
    "err_on_failed_lookup": Kind::Flag,
    "exec": Kind::BlockOr(EXEC, "command"),
    "kill_signal": Kind::Signal,
    "log_file": Kind::BlockOr(LOG_FILE, "path"),
    "log_level": Kind::Text,
    "max_stale": Kind::Span,
    "nomad": Kind::Block(NOMAD),
    "once": Kind::Flag,
    "parse_only": Kind::Flag,
    "pid_file": Kind::Text,
    "reap": Kind::Flag,
    "reload_signal": Kind::Signal,
    "retry" => ["consul", "retry", "backoff"] ["consul", "retry", "max_backoff"]: Kind::Span,
    "ssl" => ["consul", "ssl"]: Kind::Block(SSL),
    "syslog": Kind::Block(SYSLOG),
    "telemetry": Kind::Block(TELEMETRY),
    "template": Kind::Templates,
    "template_error_fatal": Kind::Flag,
    "token" => ["consul", "token"]: Kind::Text,
    "vault": Kind::Block(VAULT),
    "wait": Kind::Wait,
};

/// `template { … }`.
pub(super) const TEMPLATE: &[Key] = keys! {
    "backup": Kind::Flag,
    "command": Kind::Command,
    "command_timeout": Kind::Span,
    "contents": Kind::Text,
    "create_dest_dirs": Kind::Flag,
    "destination": Kind::Text,
    "error_fatal": Kind::Flag,
    "error_on_missing_key": Kind::Flag,
    "exec": Kind::BlockOr(EXEC, "command"),
    "function_blacklist" => ["function_denylist"]: Kind::Words,
    "function_denylist": Kind::Words,
    "gid" => ["group"]: Kind::Text,
    "group": Kind::Text,
    "left_delimiter": Kind::Text,
    "perms": Kind::Mode,
    "right_delimiter": Kind::Text,
    "sandbox_path": Kind::Text,
    "source": Kind::Text,
    "uid" => ["user"]: Kind::Text,
    "user": Kind::Text,
    "wait": Kind::Wait,
};

const EXEC: &[Key] = keys! {
    "command": Kind::Command,
    "enabled": Kind::Flag,
    "env": Kind::Block(ENV),
    "kill_signal": Kind::Signal,
    "kill_timeout": Kind::Span,
    "reload_signal": Kind::Signal,
    "splay": Kind::Span,
    "timeout": Kind::Span,
};

const ENV: &[Key] = keys! {
    "allowlist": Kind::Words,
    "blacklist" => ["denylist"]: Kind::Words,
    "custom": Kind::Words,
    "denylist": Kind::Words,
    "pristine": Kind::Flag,
    "whitelist" => ["allowlist"]: Kind::Words,
};

pub(super) const WAIT: &[Key] = keys! {
    "enabled": Kind::Flag,
    "max": Kind::Span,
    "min": Kind::Span,
};

const AUTH: &[Key] = keys! {
    "enabled": Kind::Flag,
    "password": Kind::Text,
    "username": Kind::Text,
};

const RETRY: &[Key] = keys! {
    "attempts": Kind::Count,
    "backoff": Kind::Span,
    "enabled": Kind::Flag,
    "max_backoff": Kind::Span,
};

const SSL: &[Key] = keys! {
    "ca_cert": Kind::Text,
    "ca_cert_bytes": Kind::Text,
    "ca_path": Kind::Text,
    "cert": Kind::Text,
    "enabled": Kind::Flag,
    "key": Kind::Text,
    "server_name": Kind::Text,
    "verify": Kind::Flag,
};

const TRANSPORT: &[Key] = keys! {
    "dial_keep_alive": Kind::Span,
    "dial_timeout": Kind::Span,
    "disable_keep_alives": Kind::Flag,
    "idle_conn_timeout": Kind::Span,
    "max_conns_per_host": Kind::Count,
    "max_idle_conns": Kind::Count,
    "max_idle_conns_per_host": Kind::Count,
    "tls_handshake_timeout": Kind::Span,
};

const CONSUL: &[Key] = keys! {
    "address": Kind::Text,
    "auth": Kind::Block(AUTH),
    "enabled": Kind::Flag,
    "namespace": Kind::Text,
    "rate_limit": Kind::Any,
    "retry": Kind::Block(RETRY),
    "ssl": Kind::Block(SSL),
    "token": Kind::Text,
    "token_file": Kind::Text,
    "transport": Kind::Block(TRANSPORT),
};

const DEDUPLICATE: &[Key] = keys! {
    "block_query_wait": Kind::Span,
    "enabled": Kind::Flag,
    "max_stale": Kind::Span,
    "prefix": Kind::Text,
    "ttl": Kind::Span,
};

const DELIMITERS: &[Key] = keys! {
    "left": Kind::Text,
    "right": Kind::Text,
};

const LOG_FILE: &[Key] = keys! {
    "log_rotate_bytes": Kind::Count,
    "log_rotate_duration": Kind::Span,
    "log_rotate_max_files": Kind::Count,
    "path": Kind::Text,
};

const SYSLOG: &[Key] = keys! {
    "enabled": Kind::Flag,
    "facility": Kind::Text,
    "name": Kind::Text,
};

const TELEMETRY: &[Key] = keys! {
    "dogstatsd": Kind::Any,
    "metrics_prefix": Kind::Text,
    "prometheus": Kind::Block(PROMETHEUS),
    "stdout": Kind::Any,
};

const PROMETHEUS: &[Key] = keys! {
    "cache_period": Kind::Span,
    "port": Kind::Count,
    "reporting_interval": Kind::Span,
};

const VAULT: &[Key] = keys! {
    "address": Kind::Text,
    "client_user_agent": Kind::Text,
    "default_lease_duration": Kind::Span,
    "enabled": Kind::Flag,
    "grace": Kind::Span,
    "k8s_auth_role_name": Kind::Text,
    "k8s_service_account_token": Kind::Text,
    "k8s_service_account_token_path": Kind::Text,
    "k8s_service_mount_path": Kind::Text,
    "lease_renewal_threshold": Kind::Fraction,
    "namespace": Kind::Text,
    "renew" => ["renew_token"]: Kind::Flag,
    "renew_token": Kind::Flag,
    "retry": Kind::Block(RETRY),
    "ssl": Kind::Block(SSL),
    "token": Kind::Text,
    "transport": Kind::Block(TRANSPORT),
    "unwrap_token": Kind::Flag,
    "vault_agent_token_file": Kind::Text,
};

const NOMAD: &[Key] = keys! {
    "address": Kind::Text,
    "auth_password": Kind::Text,
    "auth_username": Kind::Text,
    "enabled": Kind::Flag,
    "namespace": Kind::Text,
    "retry": Kind::Block(RETRY),
    "ssl": Kind::Block(SSL),
    "token": Kind::Text,
    "transport": Kind::Block(TRANSPORT),
};
