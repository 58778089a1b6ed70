//! Why a request goes where it goes: what the proxy's table decides, and what the catalog knows of
//! the services behind it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::publish::Tables;
use super::sight::Sight;
use crate::api;
use crate::proxy::explain::{Inquiry, explain};

/// A function that tells it.
pub(super) fn reasons(tables: &Arc<ArcSwap<Tables>>, sight: &Sight) -> api::UrlReasons {
    let (tables, sight) = (Arc::clone(tables), sight.clone());
    Arc::new(move |asked| {
        let mut headers = HeaderMap::new();
        for (name, value) in &asked.headers {
            let read =
                || Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?));
            let (name, value) = read().ok_or_else(|| format!("{name:?} is no header line"))?;
            headers.append(name, value);
        }
        let inquiry =
            Inquiry { url: &asked.url, method: &asked.method, headers, client: asked.client };
        let told = explain(&tables.load().proxy, &inquiry)?;
        let mut told = serde_json::to_value(told).map_err(|error| error.to_string())?;
        let listeners = told["listeners"].as_array_mut().into_iter().flatten();
        let routes = listeners.filter_map(|listener| listener["route"].as_object_mut());
        for route in routes {
            let upstreams = route.get_mut("upstreams").and_then(Value::as_array_mut);
            for upstream in upstreams.into_iter().flatten() {
                let service = upstream["service"].as_str().unwrap_or_default();
                let why = sight.why(service).and_then(|why| serde_json::to_value(why).ok());
                add_instances(upstream, why.unwrap_or_default());
            }
        }
        Ok(told)
    })
}

/// Adds what the catalog tells of the instances, each with its endpoint if it has one.
fn add_instances(upstream: &mut Value, mut why: Value) {
    let mut endpoints = upstream["endpoints"].take().as_array().cloned().unwrap_or_default();
    let mut instances = why["instances"].take().as_array().cloned().unwrap_or_default();
    for instance in &mut instances {
        let same = |endpoint: &Value| {
            endpoint["id"] == instance["id"] && endpoint["registry"] == instance["registry"]
        };
        if let Some(at) = endpoints.iter().position(same) {
            let mut endpoint = endpoints.swap_remove(at);
            instance["address"] = endpoint["address"].take();
            for key in ["weight", "in_flight", "latency_ms", "staying"] {
                instance[key] = endpoint[key].take();
            }
        }
    }
    // Instances of a service that stands in.
    for mut endpoint in endpoints {
        endpoint["eligible"] = (endpoint["staying"] != Value::Bool(true)).into();
        endpoint["reason"] = json!("of the service that stands in");
        instances.push(endpoint);
    }
    if let Some(upstream) = upstream.as_object_mut() {
        upstream.remove("endpoints");
        for key in ["known", "eligible", "backup", "registries", "problems"] {
            upstream.insert(key.to_owned(), why[key].take());
        }
        upstream.insert("instances".to_owned(), instances.into());
    }
}
