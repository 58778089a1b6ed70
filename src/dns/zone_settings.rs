//! One `[dns.zone.NAME]` once it is checked, and what it lists.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::config::{Near, WhenEmpty, ZoneConfig};
use super::dialect::{self, Belonging, Dialect, Records};
use super::limits::networks;
use super::node::{Data, Mark};
use super::settings::{Unfit, holds};
use super::soa;
use super::stated::{owner_of, record};
use super::wire::Name;
use crate::catalog::locality::Localities;
use crate::catalog::model::{Instance, Service};
use crate::units::Period;

/// Longest time that DNS can state, in seconds (RFC 2181 §8).
const TTL_MAX: u64 = 0x7fff_ffff;
/// Most other domains of one zone.
const ALTERNATIVES_MAX: usize = 16;

/// One checked zone.
#[derive(Debug, Clone)]
pub struct ZoneSettings {
    /// Its domain.
    pub apex: Name,
    /// Its other domains, this one left out.
    pub others: Vec<Name>,
    /// Whether it is another domain of a zone: addresses and clients do not point at it.
    pub alternative: bool,
    /// Its naming scheme.
    pub dialect: &'static Dialect,
    /// Registries whose instances show; none: all.
    pub registries: Option<Vec<Arc<str>>>,
    /// TTL of its records, in seconds.
    pub ttl: u32,
    /// TTL of the names of nodes and addresses, in seconds.
    pub node_ttl: u32,
    /// TTL by service, or by the beginning of its name where the flag is set.
    pub service_ttl: Vec<(String, bool, u32)>,
    /// TTL of its negative answers, in seconds.
    pub negative_ttl: u32,
    /// How an empty service is spelled.
    pub when_empty: WhenEmpty,
    /// Who may ask; none: everybody.
    pub allow: Option<Vec<IpNet>>,
    /// Name below the apex that means the same as the apex (`dc1.consul` in `consul`).
    pub datacenter: Option<Name>,
    /// The label of that, when it was told: instances of other datacenters show below theirs only.
    pub own_datacenter: Option<Arc<str>>,
    /// Name below which every address has a name, spelled in hexadecimal (`addr.consul`).
    pub addresses: Option<Name>,
    /// Where a service belongs that does not tell.
    pub belongs: Arc<str>,
    /// Whether clients see the names of their own environments only.
    pub isolate: bool,
    /// Whether what is left out of a reply by UDP is told.
    pub truncate: bool,
    /// Most addresses in an answer.
    pub addresses_max: usize,
    /// Most records in an answer by UDP to a client without EDNS.
    pub udp_answers_max: usize,
    /// What is done with nearness.
    pub near: Near,
    /// Share of a service's instances in a locality that have to be eligible for it to be near.
    pub near_min: f64,
    /// Who is where.
    pub localities: Arc<Localities>,
    /// Records that the configuration states.
    pub stated: Arc<[(Name, Data)]>,
    /// The names that it has without any service.
    own_names: Arc<[Name]>,
}

impl ZoneSettings {
    /// Whether `client` may ask.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allow.as_ref().is_none_or(|networks| holds(networks, client))
    }

    /// Whether instances of `registry` show in this zone.
    #[must_use]
    pub fn shows(&self, registry: &str) -> bool {
        self.registries.as_ref().is_none_or(|names| names.iter().any(|name| **name == *registry))
    }

    /// The same zone, showing the instances of all registries.
    pub(super) fn of_all_registries(&self) -> Self {
        Self { registries: None, ..self.clone() }
    }

    /// The records that `service` has here. The same for the same arguments.
    #[must_use]
    pub fn list(&self, service: &Service) -> Records {
        let mut records = Records::new(Mark { ttl: self.ttl_of(service), ..Mark::default() });
        if !self.localities.is_empty() && self.near != Near::Off {
            records.favour(self.favoured(service));
        }
        (self.dialect.list)(self, service, &mut records);
        if self.alternative {
            records.reverse.clear();
            records.views.clear();
        }
        records
    }

    /// The records that this zone has without any service: its name server, with the addresses
    /// that are listened on, what the dialect adds and what the configuration states.
    #[must_use]
    pub fn own_records(&self, listen: &[SocketAddr]) -> Records {
        let mut records = Records::new(Mark { ttl: self.ttl, ..Mark::default() });
        if let Some(server) = records.checked(self.apex.child(soa::SERVER)) {
            records.put(&self.apex, Data::Ns(server.clone()));
            records.put(&server, Data::Here);
            for addr in listen.iter().filter(|addr| !addr.ip().is_unspecified()) {
                records.put(&server, Data::address(addr.ip()));
            }
        }
        if let Some(addresses) = &self.addresses {
            records.put(addresses, Data::Here);
        }
        (self.dialect.own)(self, listen, &mut records);
        for (name, data) in &*self.stated {
            records.put(name, data.clone());
        }
        records
    }

    /// Whether `key` is a name that the zone has without any service.
    pub(super) fn is_own(&self, key: &[u8]) -> bool {
        self.own_names.iter().any(|name| name.wire() == key)
    }

    fn finished(mut self) -> Self {
        let own = self.own_records(&[]);
        self.own_names = own.in_zone().map(|(name, _)| name.clone()).collect();
        self
    }

    fn ttl_of(&self, service: &Service) -> u32 {
        let exact =
            self.service_ttl.iter().find(|(name, prefix, _)| !prefix && *name == *service.name);
        let longest = self
            .service_ttl
            .iter()
            .filter(|(name, prefix, _)| *prefix && service.name.starts_with(&**name))
            .max_by_key(|(name, ..)| name.len());
        exact.or(longest).map_or(self.ttl, |(.., ttl)| *ttl)
    }

    /// The localities where enough instances of `service` are eligible to be preferred there.
    fn favoured(&self, service: &Service) -> BTreeMap<Arc<str>, u16> {
        let mut counts: BTreeMap<&Arc<str>, (u32, u32)> = BTreeMap::new();
        let here = |instance: &&Arc<Instance>| self.shows(&instance.registry);
        for instance in service.instances.iter().filter(here) {
            if let Some(locality) = &instance.locality {
                counts.entry(locality).or_default().1 += 1;
            }
        }
        for instance in service.eligible.iter().filter(here) {
            if let Some(locality) = &instance.locality {
                counts.entry(locality).or_default().0 += 1;
            }
        }
        let enough = |(eligible, all): (u32, u32)| {
            eligible > 0 && f64::from(eligible) >= self.near_min * f64::from(all)
        };
        let favoured = counts.into_iter().filter(|(_, count)| enough(*count));
        favoured
            .map(|(name, _)| (Arc::clone(name), self.localities.number(name)))
            .filter(|(_, number)| *number != 0)
            .collect()
    }
}

/// Checks the zone called `name`: itself first, then one more for each other domain.
pub(super) fn check_zone(
    name: &str,
    config: &ZoneConfig,
    localities: &Arc<Localities>,
) -> Result<Vec<ZoneSettings>, Vec<Unfit>> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, message: String| {
        let message = format!("[dns.zone.{name:?}] {message}");
        problems.push(Unfit::new(&["zone", name, key], message));
    };
    let apex = domain(name).map_err(|error| refuse("", format!("is no domain: {error}")));
    let dialect = dialect::by_name(&config.dialect).map_err(|error| refuse("dialect", error));
    let (Ok(apex), Ok(dialect)) = (apex, dialect) else { return Err(problems) };

    let mut seconds = |key: &str, length: Option<Period>, usual: u32| {
        let Some(length) = length.map(|length| length.0) else { return usual };
        if length.as_secs() > TTL_MAX || length.subsec_nanos() != 0 {
            refuse(key, format!("{key} is not a whole number of seconds, as DNS counts them"));
        }
        length.as_secs().min(TTL_MAX) as u32
    };
    let ttl = seconds("ttl", config.ttl, dialect.ttl);
    let negative_ttl = seconds("negative_ttl", config.negative_ttl, dialect.negative_ttl);
    let node_ttl = seconds("node_ttl", config.node_ttl, ttl);
    let service_ttl = config.service_ttl.iter().map(|(name, length)| {
        let prefix = name.strip_suffix('*');
        let seconds = seconds("service_ttl", Some(*length), ttl);
        (prefix.unwrap_or(name).to_owned(), prefix.is_some(), seconds)
    });
    let service_ttl = service_ttl.collect();

    let allow = config.allow.as_deref().map(networks).transpose().unwrap_or_else(|error| {
        refuse("allow", format!("allow: {error}"));
        None
    });
    let mut datacenter = None;
    match (dialect.datacenter, &config.datacenter) {
        (None, Some(given)) => refuse(
            "datacenter",
            format!(
                "datacenter = {given:?}: the dialect {:?} has none; remove the key",
                dialect.name
            ),
        ),
        (None, None) => {}
        (Some(usual), given) => match apex.child(given.as_deref().unwrap_or(usual)) {
            Ok(below) => datacenter = Some(below),
            Err(error) => refuse("datacenter", format!("datacenter: {error}")),
        },
    }
    let mut belongs: Arc<str> = dialect.belongs.map_or("", |(_, usual)| usual).into();
    for (kind, key, given) in [
        (Belonging::Environment, "environment", &config.environment),
        (Belonging::Namespace, "namespace", &config.namespace),
        (Belonging::Framework, "framework", &config.framework),
    ] {
        let Some(given) = given else { continue };
        if dialect.belongs.is_some_and(|(own, _)| own == kind) {
            match apex.under(given) {
                Ok(_) => belongs = given.as_str().into(),
                Err(error) => refuse(key, format!("{key}: {error}")),
            }
        } else {
            let message = format!(
                "{key} = {given:?}: the dialect {:?} has none; remove the key",
                dialect.name
            );
            refuse(key, message);
        }
    }
    if let Some(listen) = config.http_listen.filter(|_| dialect.name != "mesos") {
        let message = format!(
            "http_listen = {listen}: the dialect {:?} has no HTTP API; remove the key",
            dialect.name
        );
        refuse("http_listen", message);
    }
    if config.isolate && !dialect.scopes {
        let message = format!(
            "isolate: the dialect {:?} knows no environments of clients; remove the key",
            dialect.name
        );
        refuse("isolate", message);
    }
    for (key, number) in
        [("a_record_limit", config.a_record_limit), ("udp_answer_limit", config.udp_answer_limit)]
    {
        if number == Some(0) {
            refuse(key, format!("{key} = 0 would leave no answer; leave it out for no limit"));
        }
    }
    let mut stated = Vec::new();
    for (owner, texts) in &config.records {
        match owner_of(&apex, owner) {
            Err(error) => refuse("records", format!("records: {error}")),
            Ok(owner) => {
                for text in texts {
                    match record(text) {
                        Ok(data) => stated.push((owner.clone(), data)),
                        Err(error) => refuse("records", format!("records: {error}")),
                    }
                }
            }
        }
    }
    let mut domains = vec![apex.clone()];
    let usual: Vec<String> = dialect.alternatives.iter().map(|name| (*name).to_owned()).collect();
    let alternatives = config.alternatives.as_ref().unwrap_or(&usual);
    for text in alternatives {
        match domain(text) {
            Ok(other) if !domains.contains(&other) => domains.push(other),
            // What the dialect adds of itself may be what the zone is called.
            Ok(_) if config.alternatives.is_none() => {}
            Ok(_) => refuse("alternatives", format!("alternatives: {text:?} is there twice")),
            Err(error) => refuse("alternatives", format!("alternatives: {error}")),
        }
    }
    if alternatives.len() > ALTERNATIVES_MAX {
        refuse("alternatives", format!("alternatives: there are more than {ALTERNATIVES_MAX}"));
    }
    let mut addresses = None;
    if let Some(label) = dialect.addresses {
        addresses = apex.child(label).map_err(|error| refuse("", error)).ok();
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let zone = ZoneSettings {
        others: domains[1..].to_vec(),
        alternative: false,
        dialect,
        registries: config
            .registries
            .as_ref()
            .map(|names| names.iter().map(|name| Arc::from(name.as_str())).collect()),
        ttl,
        node_ttl,
        service_ttl,
        negative_ttl,
        when_empty: config.when_empty,
        allow,
        datacenter,
        own_datacenter: config.datacenter.as_deref().map(Arc::from),
        addresses,
        belongs,
        isolate: config.isolate,
        truncate: config.truncate,
        addresses_max: config.a_record_limit.unwrap_or(usize::MAX),
        udp_answers_max: config.udp_answer_limit.unwrap_or(usize::MAX),
        near: config.near,
        near_min: config.near_min.0,
        localities: Arc::clone(localities),
        stated: stated.into(),
        own_names: Arc::default(),
        apex,
    }
    .finished();
    let others = domains[1..].iter().filter_map(|other| zone.renamed(other));
    Ok(std::iter::once(zone.clone()).chain(others).collect())
}

impl ZoneSettings {
    /// The same zone below another domain.
    fn renamed(&self, apex: &Name) -> Option<Self> {
        let moved = |name: &Name| name.moved(&self.apex, apex);
        let kept = |name: &Option<Name>| name.as_ref().and_then(moved);
        let stated: Option<Vec<_>> =
            self.stated.iter().map(|(name, data)| Some((moved(name)?, data.clone()))).collect();
        let others = std::iter::once(&self.apex).chain(&self.others);
        let renamed = Self {
            others: others.filter(|other| *other != apex).cloned().collect(),
            alternative: true,
            datacenter: kept(&self.datacenter),
            addresses: kept(&self.addresses),
            stated: stated?.into(),
            apex: apex.clone(),
            ..self.clone()
        };
        Some(renamed.finished())
    }
}

/// A domain that leaves room for the names that every zone has below it.
fn domain(text: &str) -> Result<Name, String> {
    let apex = Name::parse(text)?;
    if apex.wire().len() > 200 {
        return Err(format!("{text:?} leaves no room for names below it; use a shorter one"));
    }
    Ok(apex)
}
