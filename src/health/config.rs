//! `[health]`, and the settings that are compiled from it and from the services' checks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::asked::Asking;
use super::asked_config::FromRegistry;
use super::check::{Check, ChecksConfig, Identity, too_short};
use crate::net::proxy_protocol::Version;
use crate::units::{Period, Share};

/// `[health]`: what every check does that does not say otherwise.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Time from one start to the next.
    pub interval: Period,
    /// The same while the health is about to change. Default: no faster.
    pub fast_interval: Option<Period>,
    /// Longest time for one answer.
    pub timeout: Period,
    /// Successes in a row that make a failed instance healthy.
    pub rise: u32,
    /// Failures in a row that make a healthy instance fail.
    pub fall: u32,
    /// Share of the interval within which each start strays.
    pub jitter: Share,
    /// Most probes that are connected at a time; others wait and count as late.
    pub concurrency: usize,
    /// Most commands that run at a time; others wait and count as late.
    pub commands: usize,
    /// Whether services may ask for checks in their registry, and for how much.
    pub from_registry: FromRegistry,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interval: Period::from_secs(5),
            fast_interval: None,
            timeout: Period::from_secs(2),
            rise: 2,
            fall: 3,
            jitter: Share(0.1),
            concurrency: 500,
            commands: 16,
            from_registry: FromRegistry::No,
        }
    }
}

/// Something in the configuration that does not fit, at the key below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Path of the key from the top of the document.
    pub path: Vec<String>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Unfit {
    /// At `key` of the check of this kind; the service is put before it later.
    pub(super) fn below(kind: &str, key: &str, message: &str) -> Self {
        let path = ["check", kind, key].map(str::to_owned);
        let message = format!("check.{kind} {key}: {message}");
        Self { path: path.into(), message }
    }
}

/// What is checked, and how; ready to start.
#[derive(Debug)]
pub struct Settings {
    /// The checks of each service that has some. Equal ones are one.
    pub(super) services: BTreeMap<Arc<str>, Vec<Arc<Check>>>,
    /// How checks are made that services ask for themselves, if they may.
    pub(super) asking: Option<Asking>,
    pub(super) jitter: f64,
    pub(super) concurrency: usize,
    pub(super) commands: usize,
}

impl Default for Settings {
    /// Nothing is checked.
    fn default() -> Self {
        let health = HealthConfig::default();
        Self {
            services: BTreeMap::new(),
            asking: None,
            jitter: health.jitter.0,
            concurrency: health.concurrency,
            commands: health.commands,
        }
    }
}

impl Settings {
    /// Compiles the checks of all `services`; reads the files with certificates that they name,
    /// relative ones below `base_dir`. With each stands the header of the PROXY protocol that
    /// connections to its instances begin with.
    ///
    /// # Errors
    /// Every problem, with the path of its key.
    pub fn compile<'a>(
        health: &HealthConfig,
        services: impl IntoIterator<Item = (&'a str, &'a ChecksConfig, Option<Version>)>,
        base_dir: &Path,
    ) -> Result<Self, Vec<Unfit>> {
        let mut problems = health.problems();
        let mut known: BTreeMap<Identity, Arc<Check>> = BTreeMap::new();
        let mut compiled = BTreeMap::new();
        let mut announcing = BTreeMap::new();
        for (name, checks, announces) in services {
            announcing.extend(announces.map(|version| (Arc::from(name), version)));
            if checks.is_empty() {
                continue;
            }
            let mut found = Vec::new();
            let checks = checks.compile(health, base_dir, announces, &mut found);
            let checks = checks.into_iter().map(|check| {
                let same = known.entry(Arc::clone(&check.key));
                Arc::clone(same.or_insert_with(|| Arc::new(check)))
            });
            compiled.insert(Arc::from(name), checks.collect());
            problems.extend(found.into_iter().map(|mut unfit| {
                unfit.path.splice(0..0, ["service".to_owned(), name.to_owned()]);
                unfit
            }));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let asking = health.from_registry.limits().map(|limits| Asking {
            limits: *limits,
            health: health.clone(),
            announces: announcing,
        });
        Ok(Self {
            services: compiled,
            asking,
            jitter: health.jitter.0,
            concurrency: health.concurrency,
            commands: health.commands,
        })
    }

    /// Whether the instances of `service` have to pass checks of their own.
    #[must_use]
    pub fn checked(&self, service: &str) -> bool {
        self.services.contains_key(service)
    }
}

impl HealthConfig {
    fn problems(&self) -> Vec<Unfit> {
        let mut problems = Vec::new();
        let mut refuse = |key: &str, message: String| {
            let path = vec!["health".to_owned(), key.to_owned()];
            problems.push(Unfit { path, message: format!("{key}: {message}") });
        };
        for (key, period) in [
            ("interval", Some(self.interval)),
            ("fast_interval", self.fast_interval),
            ("timeout", Some(self.timeout)),
        ] {
            if let Some(message) = period.and_then(too_short) {
                refuse(key, message);
            }
        }
        for (key, zero) in [
            ("rise", self.rise == 0),
            ("fall", self.fall == 0),
            ("concurrency", self.concurrency == 0),
            ("commands", self.commands == 0),
        ] {
            if zero {
                refuse(key, "0 would never decide anything; at least 1".to_owned());
            }
        }
        if let Some(limits) = self.from_registry.limits() {
            for (key, message) in [
                ("max", (limits.max == 0).then(|| "0 lets nobody ask; write false".to_owned())),
                ("interval_min", too_short(limits.interval_min)),
                ("timeout_max", too_short(limits.timeout_max)),
            ] {
                if let Some(message) = message {
                    refuse("from_registry", format!("{key}: {message}"));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(health: &str, web: &str) -> Result<Settings, Vec<Unfit>> {
        let health: HealthConfig = toml::from_str(health).unwrap();
        let web: ChecksConfig = toml::from_str(web).unwrap();
        Settings::compile(&health, [("web", &web, None), ("web2", &web, None)], Path::new(""))
    }

    #[test]
    fn equal_checks_of_two_services_are_one_check() {
        let settings = compile("", "http = { path = \"/a\" }\ntcp = {}").unwrap();
        let (web, web2) = (&settings.services["web"], &settings.services["web2"]);
        assert_eq!(web.len(), 2);
        assert!(web.iter().zip(web2).all(|(a, b)| Arc::ptr_eq(a, b)));
        assert!(settings.checked("web") && !settings.checked("db"));
    }

    #[test]
    fn what_a_check_does_not_say_comes_from_the_defaults() {
        let settings = compile(
            "interval = \"4s\"\nfast_interval = \"1s\"\nfall = 9",
            "tcp = { fall = 1, timeout = \"1s\" }",
        );
        let times = settings.unwrap().services["web"][0].times;
        assert_eq!((times.interval.as_secs(), times.fast_interval.as_secs()), (4, 1));
        assert_eq!((times.timeout.as_secs(), times.rules.rise, times.rules.fall), (1, 2, 1));
    }

    #[test]
    fn every_problem_is_told_with_the_path_of_its_key() {
        let problems = compile(
            "interval = \"0s\"\nrise = 0\nconcurrency = 0",
            "tcp = { rise = 0, interval = \"1ms\", port = 0 }\nhttp = { status = \"2xx\" }\n\
             push = { ttl = \"0s\" }\nexec = { command = \" \" }",
        )
        .unwrap_err();
        let mut paths: Vec<_> = problems.iter().map(|problem| problem.path.join(".")).collect();
        paths.retain(|path| !path.starts_with("service.web2"));
        paths.sort();
        let want = [
            "health.concurrency",
            "health.interval",
            "health.rise",
            "service.web.check.exec.command",
            "service.web.check.http.status",
            "service.web.check.push.ttl",
            "service.web.check.tcp.interval",
            "service.web.check.tcp.port",
            "service.web.check.tcp.rise",
        ];
        assert_eq!(paths, want);
        let http = problems.iter().find(|problem| problem.path.ends_with(&["status".into()]));
        let told = &http.unwrap().message;
        assert!(told.starts_with("check.http status: \"2xx\" is no status code"), "{told}");
    }
}
