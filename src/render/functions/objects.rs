//! The records that functions of the catalog give, with the fields that templates know.

use std::any::Any;

use super::super::engine::go::function::{Context, FunctionError, Signature};
use super::super::engine::go::types::{IntKind, Named, Type};
use super::super::engine::go::value::{Object, Value};

/// A kind of record: its type and the names of its fields, in the order in which they are printed.
#[derive(Debug)]
pub struct Shape {
    /// [`Type::Named`] for a struct, or a pointer to it.
    pub of: Type,
    /// The names of the fields.
    pub fields: &'static [&'static str],
}

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident, $inner:ident, $go:literal, [$($field:literal),* $(,)?]) => {
        static $inner: Named = Named { name: $go, underlying: Type::Struct("struct {…}") };
        $(#[$doc])*
        pub static $name: Shape = Shape {
            of: Type::Pointer(&Type::Named(&$inner)),
            fields: &[$($field),*],
        };
    };
}

shape!(
    /// A key of Consul's store.
    KEY_PAIR, KEY_PAIR_TYPE, "dependency.KeyPair",
    [
        "Path", "Key", "Value", "Exists", "CreateIndex", "ModifyIndex", "LockIndex", "Flags",
        "Session",
    ]
);
shape!(
    /// An instance of a service with its health.
    HEALTH_SERVICE, HEALTH_SERVICE_TYPE, "dependency.HealthService",
    [
        "Node", "NodeID", "NodeAddress", "NodeDatacenter", "NodeTaggedAddresses", "NodeMeta",
        "ServiceMeta", "Address", "ServiceTaggedAddresses", "ID", "Name", "Tags", "Checks",
        "Status", "Port", "Weights", "Namespace",
    ]
);
shape!(
    /// A check of an instance.
    HEALTH_CHECK, HEALTH_CHECK_TYPE, "api.HealthCheck",
    [
        "Node", "CheckID", "Name", "Status", "Notes", "Output", "ServiceID", "ServiceName",
        "ServiceTags", "Type",
    ]
);
shape!(
    /// How much traffic an instance takes.
    WEIGHTS, WEIGHTS_TYPE, "api.AgentWeights", ["Passing", "Warning"]
);
shape!(
    /// The name of a service with its tags.
    CATALOG_SNIPPET, CATALOG_SNIPPET_TYPE, "dependency.CatalogSnippet", ["Name", "Tags"]
);
shape!(
    /// A node.
    NODE, NODE_TYPE, "dependency.Node",
    ["ID", "Node", "Address", "Datacenter", "TaggedAddresses", "Meta"]
);
shape!(
    /// A node with what runs on it.
    CATALOG_NODE, CATALOG_NODE_TYPE, "dependency.CatalogNode", ["Node", "Services"]
);
shape!(
    /// A service of a [`CATALOG_NODE`].
    NODE_SERVICE, NODE_SERVICE_TYPE, "dependency.CatalogNodeService",
    ["ID", "Service", "Tags", "Meta", "Port", "Address", "EnableTagOverride"]
);

shape!(
    /// An address of a service that goes by a tag.
    SERVICE_ADDRESS, SERVICE_ADDRESS_TYPE, "api.ServiceAddress", ["Address", "Port"]
);

static KEY_VALUE_TYPE: Named =
    Named { name: "memkv.KVPair", underlying: Type::Struct("struct { Key string; Value string }") };

/// A key of confd's store.
pub static KEY_VALUE: Shape = Shape { of: Type::Named(&KEY_VALUE_TYPE), fields: &["Key", "Value"] };

static SRV_TYPE: Named = Named { name: "net.SRV", underlying: Type::Struct("struct {…}") };

/// An SRV record of confd's `lookupSRV`.
pub static SRV: Shape = Shape {
    of: Type::Pointer(&Type::Named(&SRV_TYPE)),
    fields: &["Target", "Port", "Priority", "Weight"],
};

/// A record of some [`Shape`].
pub struct Record {
    shape: &'static Shape,
    values: Vec<Value>,
}

impl Record {
    /// A record; fields that are not given are nil.
    pub fn new(shape: &'static Shape, given: &[(&str, Value)]) -> Self {
        let of = |field: &&str| {
            let found = given.iter().find(|(name, _)| name == field);
            found.map_or(Value::Nil, |(_, value)| value.clone())
        };
        Self { shape, values: shape.fields.iter().map(of).collect() }
    }

    /// The same as a value.
    pub fn value(shape: &'static Shape, given: &[(&str, Value)]) -> Value {
        Value::object(Self::new(shape, given))
    }

    /// A list of records of `shape`.
    pub fn list(shape: &'static Shape, items: Vec<Value>) -> Value {
        Value::list(&shape.of, items)
    }
}

impl Object for Record {
    fn type_of(&self) -> Type {
        self.shape.of
    }

    fn field(&self, name: &str) -> Option<Value> {
        let at = self.shape.fields.iter().position(|field| *field == name)?;
        self.values.get(at).cloned()
    }

    fn fields(&self) -> &[&'static str] {
        self.shape.fields
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A key of Consul's store as templates see it.
pub fn key_pair(path: &str, key: &str, value: &str) -> Value {
    let none = || Value::Uint(0, super::super::engine::go::types::UintKind::U64);
    Record::value(
        &KEY_PAIR,
        &[
            ("Path", path.into()),
            ("Key", key.into()),
            ("Value", value.into()),
            ("Exists", true.into()),
            ("CreateIndex", none()),
            ("ModifyIndex", none()),
            ("LockIndex", none()),
            ("Flags", none()),
            ("Session", "".into()),
        ],
    )
}

/// A key of confd's store.
pub fn key_value(key: &str, value: &str) -> Value {
    Record::value(&KEY_VALUE, &[("Key", key.into()), ("Value", value.into())])
}

/// A list of [`key_value`] records.
pub fn key_values(pairs: &[(String, String)]) -> Value {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| key_value(key, value)).collect();
    Record::list(&KEY_VALUE, pairs)
}

static TAGS: Named = Named { name: "dependency.ServiceTags", underlying: Type::STRINGS };

/// The type of the tags of a service.
pub static TAGS_TYPE: Type = Type::Named(&TAGS);

/// The tags of a service: a list of strings with the method `Contains`.
struct Tags(Value);

impl Object for Tags {
    fn type_of(&self) -> Type {
        TAGS_TYPE
    }

    fn method(&self, name: &str) -> Option<Signature> {
        (name == "Contains").then_some(Signature::new(&[Type::String], Type::Bool))
    }

    fn call(
        &self,
        _: &str,
        context: &mut Context<'_>,
        args: &[Value],
    ) -> Result<Value, FunctionError> {
        let Value::List(list) = &self.0 else { return Ok(false.into()) };
        context.spend(list.len() as u64)?;
        Ok(Value::Bool(list.iter().any(|tag| args.first() == Some(&tag))))
    }

    fn underlying(&self) -> Option<Value> {
        Some(self.0.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Tags as a value, in their order.
pub fn tags<T: Into<super::super::engine::go::text::Text>>(
    tags: impl IntoIterator<Item = T>,
) -> Value {
    Value::object(Tags(Value::strings(tags)))
}

/// `port` as `Port` of a record.
pub const fn port(port: u16) -> Value {
    Value::Int(port as i64, IntKind::Int)
}
