//! What is told of forwarding: in the status, and about one name.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::key::Key;
use super::message::Age;
use super::{Forwarder, now};
use crate::dns::inquire::{rcode_word, read};
use crate::dns::settings::Settings;
use crate::dns::wire::Name;

/// Forwarding as it stands.
#[derive(Debug, Serialize)]
pub struct ForwardTold {
    /// Every upstream that is configured.
    pub upstreams: Vec<UpstreamTold>,
    /// Answers that are kept.
    pub cache_entries: usize,
    /// Bytes that they take.
    pub cache_bytes: usize,
    /// Queries under way.
    pub in_flight: usize,
}

/// How one upstream does.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamTold {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is taken for one that answers.
    pub up: bool,
    /// Since when it is not.
    #[serde(
        serialize_with = "crate::units::rfc3339_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub suspected_since: Option<SystemTime>,
    /// Exchanges that came to nothing, in a row.
    pub failures: u32,
    /// Mean time to an answer in milliseconds; the lowest is asked next. None: never asked.
    pub mean_ms: Option<f64>,
}

/// What becomes of questions for one name that is not ours.
#[derive(Debug, Serialize)]
pub struct NameTold {
    /// The forwarded domain that it is in; `.` where none has upstreams of its own.
    pub domain: String,
    /// Who is asked.
    pub upstreams: Vec<UpstreamTold>,
    /// What is kept of their answers, by the ways to ask (with signatures, unchecked).
    pub cached: Vec<CachedTold>,
}

/// One answer that is kept.
#[derive(Debug, Serialize)]
pub struct CachedTold {
    /// `fresh` or `stale`.
    pub state: &'static str,
    /// Response code.
    pub code: &'static str,
    /// Seconds since an upstream told it.
    pub age_seconds: u64,
    /// Seconds until it runs out; 0 when it has.
    pub left_seconds: u64,
    /// How often it was given.
    pub hits: u32,
    /// Its records as they would be given now, of types that have words here.
    pub answers: Vec<String>,
}

impl Forwarder {
    /// How forwarding stands; none when it is not configured.
    #[must_use]
    pub fn told(&self, settings: &Settings) -> Option<ForwardTold> {
        let forward = settings.forward.as_ref()?;
        let upstreams = self.upstreams(settings, |_| true);
        let state = self.0.state.lock(forward);
        let (cache_entries, cache_bytes) = state.cache.size();
        let in_flight = state.flights.len();
        Some(ForwardTold { upstreams, cache_entries, cache_bytes, in_flight })
    }

    /// What becomes of questions for `name` of type `qtype`; none when nobody is asked for it.
    #[must_use]
    pub fn told_of(&self, settings: &Settings, name: &Name, qtype: u16) -> Option<NameTold> {
        let forward = settings.forward.as_ref()?;
        let zone = forward.zone_of(name.wire())?;
        let upstreams = self.upstreams(settings, |address| zone.upstreams.contains(&address));
        let state = self.0.state.lock(forward);
        let mut cached = Vec::new();
        for (signed, unchecked) in [(false, false), (true, false), (false, true), (true, true)] {
            let key = Key::new(name.wire(), qtype, signed, unchecked);
            let Some(seen) = state.cache.see(&key, &forward.keep, now()) else { continue };
            let told = read(&seen.reply.plain(seen.age)).unwrap_or_default();
            let words = |(owner, ttl, data): (Name, u32, _)| format!("{owner} {ttl} {data}");
            cached.push(CachedTold {
                state: if matches!(seen.age, Age::Fresh(_)) { "fresh" } else { "stale" },
                code: rcode_word(Some(seen.reply.rcode)),
                age_seconds: seen.since,
                left_seconds: seen.left,
                hits: seen.hits,
                answers: told.answers.into_iter().map(words).collect(),
            });
        }
        Some(NameTold { domain: zone.apex.to_string(), upstreams, cached })
    }

    fn upstreams(
        &self,
        settings: &Settings,
        wanted: impl Fn(SocketAddr) -> bool,
    ) -> Vec<UpstreamTold> {
        let Some(forward) = &settings.forward else { return Vec::new() };
        let state = self.0.state.lock(forward);
        let told = state.upstreams.iter().filter(|upstream| wanted(upstream.address));
        told.map(|upstream| UpstreamTold {
            address: upstream.address,
            up: upstream.suspected.is_none(),
            suspected_since: upstream.suspected.map(|suspected| suspected.since),
            failures: upstream.failures,
            mean_ms: upstream.mean.map(|mean| (mean * 1e6).round() / 1e3),
        })
        .collect()
    }
}
