//! A value of the metadata tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Number, Value};

/// A table: its keys in the order of their bytes.
pub(super) type Record = BTreeMap<Arc<str>, Node>;

/// One value. Cheap to clone; what a registry tells stays where it is until somebody looks into it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Flag(bool),
    Number(Number),
    Text(Arc<str>),
    List(Arc<[Self]>),
    Table(Arc<Record>),
    /// Something of the catalog, put together when it is looked into.
    Live(Live),
}

/// Something of the catalog, by its place in the chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Live {
    /// All containers.
    Containers,
    /// All services.
    Services,
    /// All stacks.
    Stacks,
    /// All hosts.
    Hosts,
    /// The containers of a service.
    Members(u32),
    /// The services of a stack.
    Within(u32),
    /// A container: its service, and which one of that.
    Container(u32, u32),
    /// A service.
    Service(u32),
    /// A stack.
    Stack(u32),
    /// A host.
    Host(u32),
}

impl Live {
    /// Whether it is one of the lists; else it is a table.
    pub(super) const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Containers
                | Self::Services
                | Self::Stacks
                | Self::Hosts
                | Self::Members(_)
                | Self::Within(_)
        )
    }
}

impl Node {
    /// A text.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// A text, or nothing.
    pub(super) fn maybe(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    /// A whole number.
    pub(super) fn number(number: impl Into<Number>) -> Self {
        Self::Number(number.into())
    }

    /// A list.
    pub(super) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// A table.
    pub(super) fn table(record: Record) -> Self {
        Self::Table(Arc::new(record))
    }

    /// What a file says. Recursion ends where the reader of the file ended it.
    pub(super) fn of(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Flag(flag),
            Value::Number(number) => Self::Number(whole(number)),
            Value::String(text) => Self::Text(text.into()),
            Value::Array(items) => Self::list(items.into_iter().map(Self::of)),
            Value::Object(entries) => {
                let entries = entries.into_iter();
                Self::table(entries.map(|(key, value)| (key.into(), Self::of(value))).collect())
            }
        }
    }

    /// Whether it is a list or a table.
    pub(super) const fn has_parts(&self) -> bool {
        matches!(self, Self::List(_) | Self::Table(_) | Self::Live(_))
    }

    /// Whether it is a list.
    pub(super) const fn is_list(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Live(live) => live.is_list(),
            _ => false,
        }
    }

    /// How a value without parts is written as text: nothing for null, numbers as C's `%f` writes
    /// them without the zeros at their end, as rancher-metadata does it.
    pub(super) fn plain(&self) -> Option<String> {
        match self {
            Self::Null => Some(String::new()),
            Self::Flag(flag) => Some(flag.to_string()),
            Self::Text(text) => Some(text.to_string()),
            Self::Number(number) if number.is_f64() => {
                let text = format!("{:.6}", number.as_f64().unwrap_or_default());
                Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
            }
            Self::Number(number) => Some(number.to_string()),
            Self::List(_) | Self::Table(_) | Self::Live(_) => None,
        }
    }
}

/// `100.0` is written as `100`, as Go does it: JSON knows no difference.
fn whole(number: Number) -> Number {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() <= EXACT => {
            Number::from(value as i64)
        }
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_parts_are_written_as_they_were_always_written() {
        for (json, want) in [
            ("null", ""),
            ("true", "true"),
            ("false", "false"),
            ("42", "42"),
            ("42.5", "42.5"),
            ("-0.25", "-0.25"),
            ("100.0", "100"),
            ("1073741824", "1073741824"),
            ("1073741824.7", "1073741824.7"),
            ("9007199254740993", "9007199254740993"),
            ("0.00000001", "0"),
            ("\"a b\"", "a b"),
            ("\"\"", ""),
        ] {
            let node = Node::of(serde_json::from_str(json).unwrap());
            assert_eq!(node.plain().unwrap(), want, "{json}");
        }
        assert_eq!(Node::of(serde_json::from_str("[]").unwrap()).plain(), None);
    }
}
