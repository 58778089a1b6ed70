//! Ports that services ask for in the registry. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::config::RegistryPorts;
use super::route::ServiceRef;
use crate::catalog::model::{Service, parse_name, parse_port};

/// A listener whose ports the registry tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// Name of the listener.
    pub listener: Arc<str>,
    /// How services ask.
    pub rule: RegistryPorts,
    /// Whether clients come back to the endpoint that they had.
    pub sticky: bool,
}

/// A port that a service wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The port.
    pub port: u16,
    /// Who gets its connections.
    pub target: ServiceRef,
}

/// What `service` asks for by `rule`, each port once, and what it asks for that can't be, in words.
///
/// Asked for is by the service's own meta, by tags, and by the meta of its instances: that is where
/// Consul has it.
#[must_use]
pub fn asked(service: &Service, rule: &RegistryPorts) -> (Vec<Ask>, Vec<String>) {
    let key = &*rule.key;
    let of_tag = |tag: &'_ Arc<str>| -> Option<Arc<str>> {
        Some(tag.strip_prefix(key)?.strip_prefix('=')?.into())
    };
    let of_instances = service.instances.iter().filter_map(|instance| instance.meta.get(key));
    let values = service.meta.get(key).into_iter().chain(of_instances).cloned();
    // Every instance says the same, as a rule.
    let values: BTreeSet<Arc<str>> = values.chain(service.tags.iter().filter_map(of_tag)).collect();
    let (mut asks, mut problems) = (Vec::<Ask>::new(), Vec::new());
    for one in values.iter().flat_map(|value| value.split([',', ' '])).filter(|one| !one.is_empty())
    {
        match ask(service, one, rule) {
            Ok(ask) if asks.contains(&ask) => {}
            Ok(ask) if asks.iter().any(|known| known.port == ask.port) => {
                problems.push(format!("{key} = {one:?}: port {} is asked for twice", ask.port));
            }
            Ok(ask) => asks.push(ask),
            Err(problem) => problems.push(format!("{key} = {one:?}: {problem}")),
        }
    }
    (asks, problems)
}

fn ask(service: &Service, text: &str, rule: &RegistryPorts) -> Result<Ask, String> {
    let (port, name) = text.split_once(':').unwrap_or((text, ""));
    let port = port.parse().map_err(|_| {
        "is no port; write it as 3306, or 3306:mysql for the port of that name".to_owned()
    })?;
    let port = parse_port(port)?;
    if !rule.allows(port) {
        let allowed: Vec<String> = rule.allowed.iter().map(ToString::to_string).collect();
        return Err(format!("port {port} is not among those allowed ({})", allowed.join(", ")));
    }
    let target = if name.is_empty() {
        ServiceRef::parse(&service.name)
    } else {
        ServiceRef::parse(&format!("{}:{}", service.name, parse_name("port name", name)?))
    };
    Ok(Ask { port, target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::model::{Address, Instance, Meta};

    fn service(meta: &str, tags: &[&str], instances: &[&str]) -> Service {
        let told = |text: &str| -> Meta {
            let entry = (!text.is_empty()).then(|| ("portolan-port".into(), text.into()));
            entry.into_iter().collect()
        };
        let instances = instances.iter().enumerate().map(|(number, text)| {
            let address = Address::parse("10.0.0.1").unwrap();
            let bare = Instance::bare("test", &number.to_string(), address);
            Arc::new(Instance { meta: told(text), ..bare })
        });
        let instances: Arc<[_]> = instances.collect();
        Service {
            name: "db".into(),
            tags: tags.iter().map(|tag| Arc::from(*tag)).collect(),
            meta: Arc::new(told(meta)),
            eligible: Arc::clone(&instances),
            instances,
            problems: Arc::new([]),
        }
    }

    #[test]
    fn a_service_asks_by_its_meta_its_tags_and_its_instances() {
        for (case, meta, tags, instances, wanted) in [
            ("nothing", "", &[][..], &[][..], &[][..]),
            ("meta", "3306", &[], &[], &[(3306, "db")]),
            ("a port by name", "3306:mysql", &[], &[], &[(3306, "db:mysql")]),
            ("several", "3306, 8080:admin", &[], &[], &[(3306, "db"), (8080, "db:admin")]),
            ("a tag", "", &["blue", "portolan-port=3306"], &[], &[(3306, "db")]),
            ("another tag", "", &["portolan-portal=1", "portolan-port"], &[], &[]),
            ("instances", "", &[], &["3306", "3306", ""], &[(3306, "db")]),
            ("all of them", "1024", &["portolan-port=1025"], &["1026"], {
                &[(1024, "db"), (1025, "db"), (1026, "db")]
            }),
        ] {
            let (asks, problems) =
                asked(&service(meta, tags, instances), &RegistryPorts::default());
            let asks: Vec<_> = asks.iter().map(|ask| (ask.port, &*ask.target.key)).collect();
            assert_eq!((&*asks, problems.len()), (wanted, 0), "{case}: {problems:?}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_told_and_costs_nothing_else() {
        for (value, told) in [
            ("22", "port 22 is not among those allowed (1024-65535)"),
            ("0", "port 0 is not between 1 and 65535"),
            ("70000", "port 70000 is not between"),
            ("http", "is no port; write it as 3306"),
            ("99999999999999999999", "is no port"),
            ("3307:a b", "is no port"),
            ("3306:other", "port 3306 is asked for twice"),
        ] {
            let service = service("3306", &[&format!("portolan-port={value}")], &[]);
            let (asks, problems) = asked(&service, &RegistryPorts::default());
            assert!(asks.iter().any(|ask| ask.port == 3306), "{value}");
            assert!(problems.iter().any(|problem| problem.contains(told)), "{value}: {problems:?}");
        }
    }
}
