//! What the scripted Consul knows, with the indexes that Consul would give it, and how it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// One instance, as Consul knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) at: SocketAddr,
    pub(crate) status: Status,
    pub(crate) tags: Vec<String>,
    /// For a passing instance, and for one that warns.
    pub(crate) weights: (u16, u16),
    /// Facts about it.
    pub(crate) meta: BTreeMap<String, String>,
    /// The output of its check, which is nobody's business.
    pub(crate) output: String,
}

/// What its check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Passing,
    Warning,
    Critical,
}

/// What it knows, and since when.
#[derive(Debug)]
pub(super) struct Catalog {
    services: BTreeMap<String, BTreeMap<String, Member>>,
    /// Index of the last change of each service, also of those that are gone.
    touched: BTreeMap<String, u64>,
    /// Index of the last change of a registration.
    registered: u64,
    /// Value, index of its creation, index of its last change.
    keys: BTreeMap<String, (String, u64, u64)>,
    keys_touched: u64,
    index: u64,
}

impl Catalog {
    /// It knows nothing, as after its first start.
    pub(super) fn new() -> Self {
        Self {
            services: BTreeMap::new(),
            touched: BTreeMap::new(),
            registered: 5,
            keys: BTreeMap::new(),
            keys_touched: 5,
            index: 5,
        }
    }

    pub(super) fn set(&mut self, service: &str, id: &str, member: Member) {
        self.index += 1;
        let known =
            self.services.entry(service.into()).or_default().insert(id.into(), member.clone());
        self.touched.insert(service.into(), self.index);
        // The list of names wakes up for registrations, not for checks.
        if known.is_none_or(|known| (known.tags, known.at) != (member.tags, member.at)) {
            self.registered = self.index;
        }
    }

    pub(super) fn remove(&mut self, service: &str, id: &str) {
        self.index += 1;
        let Some(members) = self.services.get_mut(service) else { return };
        members.remove(id);
        if members.is_empty() {
            self.services.remove(service);
        }
        self.touched.insert(service.into(), self.index);
        self.registered = self.index;
    }

    pub(super) fn key(&mut self, path: &str, value: Option<&str>) {
        self.index += 1;
        self.keys_touched = self.index;
        if let Some(value) = value {
            let created = self.keys.get(path).map_or(self.index, |(_, created, _)| *created);
            self.keys.insert(path.into(), (value.into(), created, self.index));
        } else {
            self.keys.remove(path);
        }
    }

    /// Status, index and body for a path; `filtered`: for a token that may see nothing.
    pub(super) fn tell(&self, path: &str, filtered: bool) -> (u16, u64, String) {
        if path == "/v1/catalog/services" {
            let tags = |members: &BTreeMap<String, Member>| {
                let all = members.values().flat_map(|member| member.tags.clone());
                all.collect::<BTreeSet<_>>().into_iter().collect::<Value>()
            };
            let shown = self.services.iter().filter(|_| !filtered);
            let names: serde_json::Map<_, _> =
                shown.map(|(name, members)| (name.clone(), tags(members))).collect();
            return (200, self.registered, Value::Object(names).to_string());
        }
        if let Some(name) = path.strip_prefix("/v1/health/service/") {
            let index = self.touched.get(name).copied().unwrap_or(self.registered);
            let members = self.services.get(name).filter(|_| !filtered);
            let rows = members.into_iter().flatten().map(|(id, member)| member.row(name, id));
            return (200, index, rows.collect::<Value>().to_string());
        }
        if let Some(prefix) = path.strip_prefix("/v1/kv/") {
            let shown = self.keys.iter().filter(|(path, _)| !filtered && path.starts_with(prefix));
            let rows: Vec<_> = shown
                .map(|(path, (value, created, changed))| {
                    json!({"Key": path, "Value": STANDARD.encode(value), "Flags": 0,
                        "CreateIndex": created, "ModifyIndex": changed, "LockIndex": 0})
                })
                .collect();
            let index = self.keys_touched;
            // A key that is not there is told of by its status (and by an index).
            let status = if rows.is_empty() { 404 } else { 200 };
            return (status, index, Value::Array(rows).to_string());
        }
        match path {
            "/v1/status/leader" => (200, self.index, "\"127.0.0.1:8300\"".into()),
            "/v1/agent/self" => {
                let told = json!({"Config": {"Datacenter": "dc1", "NodeName": "fake", "Version": "1.8.7"}});
                (200, self.index, told.to_string())
            }
            _ => (404, self.index, "no such path".into()),
        }
    }
}

impl Member {
    fn row(&self, service: &str, id: &str) -> Value {
        let status = match self.status {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
        };
        json!({
            "Node": {"ID": "", "Node": "n1", "Address": "127.0.0.1", "Datacenter": "dc1",
                "TaggedAddresses": null, "Meta": null, "CreateIndex": 5, "ModifyIndex": 5},
            "Service": {"ID": id, "Service": service, "Tags": self.tags, "Address": self.at.ip(),
                "TaggedAddresses": null, "Meta": self.meta, "Port": self.at.port(),
                "Weights": {"Passing": self.weights.0, "Warning": self.weights.1}},
            "Checks": [{"Node": "n1", "CheckID": format!("service:{id}"), "Name": "its check",
                "Status": status, "Notes": "", "Output": self.output, "ServiceID": id,
                "ServiceName": service, "ServiceTags": self.tags}],
        })
    }
}
