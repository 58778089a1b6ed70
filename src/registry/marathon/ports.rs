//! Which network an app has, and from that the ports of the app and of its tasks, before and after
//! 1.5. Pure; the order in which the places are looked at is marathon-lb's.

use std::sync::Arc;

use super::decode::{RawApp, RawPort, RawTask};
use super::fields::Number;
use crate::catalog::model::{Port, parse_name, parse_port};

/// Where the tasks of an app are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// On their agent, by ports that Marathon or Mesos gave them.
    Host,
    /// On their agent, by ports that lead into a bridge.
    Bridge,
    /// By an address of their own.
    Container,
}

/// Whether a port speaks TCP, UDP or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Both,
}

impl Protocol {
    /// Reads `tcp`, `udp`, `udp,tcp`; nothing is TCP.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let has = |wanted: &str| words().any(|word| word.eq_ignore_ascii_case(wanted));
        if let Some(other) = words()
            .find(|word| !word.eq_ignore_ascii_case("tcp") && !word.eq_ignore_ascii_case("udp"))
        {
            return Err(format!(
                "protocol {other:?} is neither `tcp` nor `udp`; it is taken as tcp"
            ));
        }
        Ok(match (has("tcp"), has("udp")) {
            (_, false) => Self::Tcp,
            (false, true) => Self::Udp,
            (true, true) => Self::Both,
        })
    }

    /// As the meta `marathon.protocols` has it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Both => "tcp+udp",
        }
    }
}

/// A port as an app defines it, by its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    /// The name of the port in the catalog, which no other has: the one it was given, else `port-N`.
    pub(super) name: Arc<str>,
    /// Whether it was given one.
    pub(super) named: bool,
    pub(super) protocol: Protocol,
    /// The port of the service, 0 when there is none.
    pub(super) service_port: u16,
    /// The port of a task, where tasks do not tell; 0 when there is none.
    number: u16,
    /// Whether it has a port on the agent too.
    on_host: bool,
}

/// The network of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) mode: Mode,
    pub(super) ports: Vec<Definition>,
    /// What is odd about it and costs nothing else.
    pub(super) problems: Vec<String>,
}

impl Layout {
    /// The network of `app`.
    ///
    /// # Errors
    /// When nobody could say where its tasks are reached.
    pub(super) fn of(app: &RawApp<'_>) -> Result<Self, String> {
        let mode = mode(app)?;
        let container = app.container.as_ref();
        let docker = container.and_then(|container| container.docker.as_ref());
        let mappings = filled(docker.and_then(|docker| docker.port_mappings.as_ref()))
            .or_else(|| filled(container.and_then(|container| container.port_mappings.as_ref())))
            .filter(|_| mode != Mode::Host);
        let discovery = app.ip_address.as_ref().and_then(|ip| ip.discovery.as_ref());
        let discovered = filled(discovery.and_then(|discovery| discovery.ports.as_ref()))
            .filter(|_| mode == Mode::Container);
        let defined = filled(app.port_definitions.as_ref());
        let listed: &[Option<Number>] = app.ports.as_deref().unwrap_or_default();

        let service_port = |index: usize| -> Result<u16, String> {
            let mapped = mappings.filter(|all| all.iter().any(|port| port.service_port.is_some()));
            let told = match (mapped, defined) {
                (Some(all), _) => all.get(index).and_then(|port| port.service_port),
                (None, Some(all)) => all.get(index).and_then(|port| port.port),
                (None, None) => listed.get(index).copied().flatten(),
            };
            number(told)
        };
        let mut out = Self { mode, ports: Vec::new(), problems: Vec::new() };
        let sources = discovered.or(mappings).or(defined);
        let len = sources
            .map_or(0, <[_]>::len)
            .max(if mappings.is_none() && discovered.is_none() { listed.len() } else { 0 });
        for index in 0..len {
            let port = sources.and_then(|all| all.get(index));
            let told = match (mode, discovered.is_some()) {
                (Mode::Container, true) => port.and_then(|port| port.number),
                _ if mappings.is_some() => port.and_then(|port| port.container_port),
                _ => {
                    let listed = listed.get(index).copied().flatten();
                    port.and_then(|port| port.port).or(listed)
                }
            };
            let (name, named) = out.name(index, port);
            let protocol = port.and_then(|port| port.protocol.as_deref()).unwrap_or_default();
            let protocol = Protocol::read(protocol).unwrap_or_else(|problem| {
                out.problems.push(format!("port {index}: {problem}"));
                Protocol::Tcp
            });
            out.ports.push(Definition {
                name,
                named,
                protocol,
                service_port: service_port(index)?,
                number: number(told)?,
                on_host: mode != Mode::Container || port.is_some_and(|p| p.host_port.is_some()),
            });
        }
        Ok(out)
    }

    /// A network of ports that are known.
    pub(super) const fn new(mode: Mode) -> Self {
        Self { mode, ports: Vec::new(), problems: Vec::new() }
    }

    /// Adds a port of a pod. Pods have no service ports.
    pub(super) fn add(&mut self, name: Option<&str>, protocol: Protocol, container: u16) {
        let (name, named) = self.free_name(self.ports.len(), name);
        let on_host = self.mode != Mode::Container;
        let (service_port, number) = (0, container);
        self.ports.push(Definition { name, named, protocol, service_port, number, on_host });
    }

    fn name(&mut self, index: usize, port: Option<&RawPort<'_>>) -> (Arc<str>, bool) {
        self.free_name(index, port.and_then(|port| port.name.as_deref()))
    }

    /// The name of port `index`: the one that was given, if it is one and nobody else has it.
    fn free_name(&mut self, index: usize, given: Option<&str>) -> (Arc<str>, bool) {
        let given = given.filter(|name| !name.is_empty());
        let taken = |name: &str| self.ports.iter().any(|port| &*port.name == name);
        let problem = match given.map(|name| parse_name("port name", name)) {
            None => None,
            Some(Ok(name)) if !taken(&name) => return (name, true),
            Some(Ok(name)) => Some(format!("another port is called {name:?} too")),
            Some(Err(problem)) => Some(problem),
        };
        let mut own = format!("port-{index}");
        while taken(&own) {
            own.push('\'');
        }
        self.problems.extend(
            problem.map(|problem| format!("port {index}: {problem}; it is called {own:?}")),
        );
        (own.into(), false)
    }

    /// The port numbers of a task by index, 0 where it has none.
    ///
    /// # Errors
    /// When one of them is no port.
    pub(super) fn of_task(&self, task: &RawTask<'_>) -> Result<Vec<u16>, String> {
        let told = task.ports.as_deref().unwrap_or_default();
        let told: Vec<u16> = told.iter().map(|port| number(*port)).collect::<Result<_, _>>()?;
        if self.mode != Mode::Container && !told.is_empty() {
            return Ok(told);
        }
        let mut on_host = told.iter().copied();
        Ok(self
            .ports
            .iter()
            .map(|port| {
                let host = if port.on_host { on_host.next() } else { None };
                // A container port of 0 is whatever the port on the agent is.
                if port.number == 0 { host.unwrap_or(0) } else { port.number }
            })
            .collect())
    }

    /// The ports of an instance with these `numbers` by index, in that order: who names none means
    /// the port of index 0, as with marathon-lb.
    pub(super) fn ports(&self, numbers: &[u16]) -> Arc<[Port]> {
        let mut ports: Vec<Port> = Vec::with_capacity(numbers.len());
        for (index, number) in numbers.iter().enumerate().filter(|(_, number)| **number != 0) {
            let own = self.ports.get(index).map(|port| Arc::clone(&port.name));
            let name = own.unwrap_or_else(|| format!("port-{index}").into());
            if !ports.iter().any(|port| port.name == name) {
                ports.push(Port { name, number: *number });
            }
        }
        ports.into()
    }

    /// The port numbers of an instance with an address of its own, by index; where a port has no
    /// number of its own, that `on_host` under its name.
    pub(super) fn numbers(&self, on_host: impl Fn(&str) -> u16) -> Vec<u16> {
        let number = |port: &Definition| match port.number {
            0 => on_host(&port.name),
            number => number,
        };
        self.ports.iter().map(number).collect()
    }

    /// Something of every port by index, parted by commas.
    pub(super) fn joined(&self, of: impl Fn(&Definition) -> String) -> String {
        self.ports.iter().map(of).collect::<Vec<_>>().join(",")
    }
}

/// Numbers parted by commas.
pub(super) fn joined(numbers: &[u16]) -> String {
    numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

fn filled<'r, 'a>(ports: Option<&'r Vec<RawPort<'a>>>) -> Option<&'r [RawPort<'a>]> {
    ports.map(Vec::as_slice).filter(|ports| !ports.is_empty())
}

/// A port number, 0 for none.
pub(super) fn number(told: Option<Number>) -> Result<u16, String> {
    match told {
        None | Some(Number(0)) => Ok(0),
        Some(Number(number)) => parse_port(number),
    }
}

fn mode(app: &RawApp<'_>) -> Result<Mode, String> {
    let mut mode = if app.ip_address.is_some() { Mode::Container } else { Mode::Host };
    let docker = app.container.as_ref().and_then(|container| container.docker.as_ref());
    match docker.and_then(|docker| docker.network.as_deref()).unwrap_or_default() {
        "" | "HOST" | "NONE" => {}
        "BRIDGE" => mode = Mode::Bridge,
        "USER" => mode = Mode::Container,
        other => {
            return Err(format!(
                "its Docker network {other:?} is none of `HOST`, `BRIDGE`, `USER`"
            ));
        }
    }
    for network in app.networks.iter().flatten() {
        mode = network_mode(network.mode.as_deref())?;
    }
    Ok(mode)
}

/// The mode of an element of `networks`.
///
/// # Errors
/// When it is none that is known.
pub(super) fn network_mode(mode: Option<&str>) -> Result<Mode, String> {
    match mode.unwrap_or("container") {
        "host" => Ok(Mode::Host),
        "container/bridge" => Ok(Mode::Bridge),
        "container" => Ok(Mode::Container),
        other => Err(format!(
            "its network mode {other:?} is none of `host`, `container/bridge`, `container`"
        )),
    }
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
