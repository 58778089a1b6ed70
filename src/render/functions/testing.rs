//! A small catalog, a small world, and templates over them, for tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::super::engine::go::types::{IntKind, Type};
use super::super::engine::go::value::Value;
use super::super::engine::go::{Limits, Options, Templates};
use super::objects::{
    CATALOG_NODE, CATALOG_SNIPPET, HEALTH_SERVICE, KEY_PAIR, NODE, Record, key_pair, key_values,
    port, tags,
};
use super::{Answer, Dialect, FileToWrite, Host, Query, Source, World, functions};

const KEYS: [(&str, &str); 5] = [
    ("app/db/host", "db1"),
    ("app/db/port", "5432"),
    ("app/empty", ""),
    ("app/name", "shop"),
    ("app/upstreams/a", "10.0.0.1:80"),
];

/// The catalog that `docs/templates.md` describes.
pub(super) struct Sample;

fn instance(node: &str, id: &str, address: &str, number: u16, shard: &str) -> Value {
    let meta = [("shard", shard), ("zone", "eu west")];
    let meta = meta.map(|(key, value)| (key.into(), value.into()));
    Record::value(
        &HEALTH_SERVICE,
        &[
            ("Node", node.into()),
            ("Address", address.into()),
            ("ServiceMeta", Value::map(&(Type::String, Type::String), meta.into())),
            ("ID", id.into()),
            ("Name", "web".into()),
            ("Tags", tags(["http", id])),
            ("Status", "passing".into()),
            ("Port", port(number)),
        ],
    )
}

impl Source for Sample {
    fn ask(&self, query: &Query) -> Answer {
        Answer::Ready(match query {
            Query::Service(query) if &*query.name == "later" => return Answer::NotYet,
            Query::Service(query) if &*query.name == "web" => Record::list(
                &HEALTH_SERVICE,
                vec![
                    instance("n1", "web1", "10.0.0.1", 80, "7"),
                    instance("n2", "web2", "10.0.0.2", 8080, "12"),
                ],
            ),
            Query::Service(_) => Record::list(&HEALTH_SERVICE, vec![]),
            Query::Services(_) => Record::list(
                &CATALOG_SNIPPET,
                vec![Record::value(
                    &CATALOG_SNIPPET,
                    &[("Name", "web".into()), ("Tags", tags(["http"]))],
                )],
            ),
            Query::Node(name, _) if name == "none" => Value::Nil,
            Query::Node(..) => Record::value(
                &CATALOG_NODE,
                &[("Node", node()), ("Services", Record::list(&HEALTH_SERVICE, vec![]))],
            ),
            Query::Nodes(..) => Record::list(&NODE, vec![node()]),
            Query::Datacenters => Value::strings(["dc1", "dc2"]),
            Query::Key(path, _) => {
                let found = KEYS.iter().find(|(key, _)| key == path);
                found.map_or(Value::Nil, |(key, value)| key_pair(key, key, value))
            }
            Query::Tree(prefix, _) => {
                let below = KEYS.iter().filter_map(|(key, value)| {
                    let rest = key.strip_prefix(prefix.as_str())?.trim_start_matches('/');
                    Some(key_pair(key, rest, value))
                });
                Record::list(&KEY_PAIR, below.collect())
            }
            Query::Store => key_values(&KEYS.map(|(key, value)| (format!("/{key}"), value.into()))),
            Query::File(path) if path == "/etc/motd" => "hello\n".into(),
            Query::Generation => Value::int(42),
            Query::Stale => false.into(),
            Query::File(path) => return Answer::Failed(format!("open {path}: no such file")),
        })
    }
}

fn node() -> Value {
    Record::value(&NODE, &[("Node", "n1".into()), ("Address", "10.0.0.1".into())])
}

/// A world where it is always the same time; commands repeat their arguments.
#[derive(Default)]
pub(super) struct Still {
    pub(super) written: Mutex<Vec<FileToWrite>>,
}

impl World for Still {
    fn now(&self) -> Timestamp {
        "2025-07-04T12:30:09.12Z".parse().unwrap()
    }

    fn zone(&self) -> TimeZone {
        TimeZone::fixed(Offset::from_seconds(7200).unwrap())
    }

    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        let variables = BTreeMap::from([("HOME", "/root"), ("EMPTY", "")]);
        Ok(variables.get(name).map(|value| (*value).to_owned()))
    }

    fn hostname(&self) -> Result<String, String> {
        Ok("host1".into())
    }

    fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        match host {
            "db" => Ok(["::1", "10.0.0.9", "10.0.0.8"].map(|ip| ip.parse().unwrap()).into()),
            _ => Err("no such host".into()),
        }
    }

    fn lookup_srv(&self, name: &str) -> Result<Vec<(u16, u16, u16, String)>, String> {
        match name {
            "_http._tcp.web" => Ok(vec![(1, 2, 81, "b.".into()), (1, 2, 80, "a.".into())]),
            _ => Err("no such host".into()),
        }
    }

    fn interfaces(&self) -> Result<Vec<(String, IpAddr)>, String> {
        let all = [
            ("lo", "127.0.0.1"),
            ("eth0", "10.0.0.5"),
            ("eth0", "fd00::5"),
            ("eth1", "203.0.113.7"),
        ];
        Ok(all.map(|(name, ip)| (name.into(), ip.parse().unwrap())).into())
    }

    fn exists(&self, path: &Path) -> Result<bool, String> {
        Ok(path == Path::new("/etc/motd"))
    }

    fn run(&self, program: &str, args: &[String]) -> Result<Vec<u8>, String> {
        match program {
            "echo" => Ok(format!("{}\n", args.join(" ")).into_bytes()),
            _ => Err(format!("exec {program:?}: executable file not found in $PATH")),
        }
    }

    fn write(&self, file: &FileToWrite) -> Result<(), String> {
        super::host::locked(&self.written).push(file.clone());
        Ok(())
    }
}

/// The output of `template` over the sample, or the error.
pub(super) fn render(dialect: Dialect, template: &str) -> Result<String, String> {
    let host = Host::new(Arc::new(Sample), Arc::new(Still::default()));
    render_with(dialect, template, &host)
}

/// The same with a host that can be looked at afterwards.
pub(super) fn render_with(dialect: Dialect, template: &str, host: &Host) -> Result<String, String> {
    let options = Options { functions: functions(dialect, &[]), ..Options::default() };
    let templates =
        Templates::parse("page", template, &options).map_err(|error| error.to_string())?;
    let data = Value::dict([
        ("n", Value::int(3)),
        ("i64", Value::Int(7, IntKind::I64)),
        ("f", Value::float(2.5)),
        ("list", Value::list(&Type::Any, vec!["b".into(), "a".into(), Value::int(1)])),
        ("words", Value::strings(["b", "a", "ccc"])),
    ]);
    let output = templates.execute(data, host, Limits::default());
    let output = output.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(output).unwrap())
}
