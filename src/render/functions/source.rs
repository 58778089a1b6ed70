//! What functions ask of the world outside of a template: the catalog, and everything else.
//!
//! A query whose answer is not there yet gives the template an empty value; the evaluation's
//! [`super::Host`] remembers it, so that what a template needs is found out over several passes.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::engine::go::value::Value;
use super::query::ServiceQuery;

/// One question to the catalog. Two equal questions have the same answer within an evaluation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// `service`, `connect`: a list of [`super::objects::HEALTH_SERVICE`] records.
    Service(Arc<ServiceQuery>),
    /// `services`: a list of [`super::objects::CATALOG_SNIPPET`] records, of a datacenter.
    Services(String),
    /// `node`: a [`super::objects::CATALOG_NODE`] record or nil; name (empty: our own), datacenter.
    Node(String, String),
    /// `nodes`: a list of [`super::objects::NODE`] records; datacenter, `near`.
    Nodes(String, String),
    /// `datacenters`: a list of strings.
    Datacenters,
    /// `key`, `keyExists`, `keyOrDefault`: a [`super::objects::KEY_PAIR`] record, or nil when there
    /// is no such key; path, datacenter.
    Key(String, String),
    /// `ls`, `tree`: a list of [`super::objects::KEY_PAIR`] records with their whole path as `Path`
    /// and `Key` below the prefix, folders left out; prefix, datacenter.
    Tree(String, String),
    /// confd's keys: a list of [`super::objects::KEY_VALUE`] records, sorted by key; all of them.
    Store,
    /// `file`: the content of a watched file, a string.
    File(String),
    /// `generation`: the number of the snapshot, an integer.
    Generation,
    /// `stale`: whether a registry does not answer, a boolean.
    Stale,
}

/// What is known about a [`Query`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// The value that the query's kind tells.
    Ready(Value),
    /// Not known yet; it will be asked again.
    NotYet,
    /// There will be none: why, as an operator should read it.
    Failed(String),
}

/// Answers the questions of templates.
pub trait Source: Send + Sync {
    /// What is known now. Never waits.
    fn ask(&self, query: &Query) -> Answer;
}

/// The world beside the catalog. Whatever an implementation leaves out is refused, so that an empty
/// one permits nothing.
pub trait World: Send + Sync {
    /// The present time.
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    /// The local time zone.
    fn zone(&self) -> TimeZone {
        TimeZone::UTC
    }

    /// The value of an environment variable, `None` when it is not set.
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        Err(format!("the environment variable {name:?} may not be read here"))
    }

    /// The name of this host.
    fn hostname(&self) -> Result<String, String> {
        Err("the name of the host may not be asked here".into())
    }

    /// The addresses of `host`.
    fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        Err(format!("the host {host:?} may not be looked up here"))
    }

    /// Priority, weight, port and target of each SRV record of `name`.
    fn lookup_srv(&self, name: &str) -> Result<Vec<(u16, u16, u16, String)>, String> {
        Err(format!("the SRV records of {name:?} may not be looked up here"))
    }

    /// Name and address of each network interface.
    fn interfaces(&self) -> Result<Vec<(String, IpAddr)>, String> {
        Err("the network interfaces may not be asked here".into())
    }

    /// Whether a file is there.
    fn exists(&self, path: &Path) -> Result<bool, String> {
        Err(format!("{} may not be looked at here", path.display()))
    }

    /// The output of a command: at most 30 seconds and [`PLUGIN_OUTPUT_MAX`] bytes.
    fn run(&self, program: &str, _args: &[String]) -> Result<Vec<u8>, String> {
        Err(format!("{program:?} may not be run here"))
    }

    /// Writes a file; see [`FileToWrite`].
    fn write(&self, file: &FileToWrite) -> Result<(), String> {
        Err(format!("{} may not be written here", file.path))
    }
}

/// Most bytes that a plugin may print.
pub const PLUGIN_OUTPUT_MAX: usize = 1 << 20;

/// What `writeToFile` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileToWrite {
    /// Where; folders above it are made.
    pub path: String,
    /// Name or number of the owner; empty for nobody else than us.
    pub user: String,
    /// Name or number of the group; empty for none else than ours.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
    /// Whether to keep what is there and write behind it.
    pub append: bool,
    /// The content.
    pub content: Vec<u8>,
}

/// A world that permits nothing, as [`World`] is by itself; its time is the epoch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sealed;

impl World for Sealed {}

/// A catalog that knows nothing yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unheard;

impl Source for Unheard {
    fn ask(&self, _: &Query) -> Answer {
        Answer::NotYet
    }
}
