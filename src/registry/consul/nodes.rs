//! The list of nodes out of Consul's catalog. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decode::{Wish, parse};
use super::members::{RawNode, add, node_of};
use crate::catalog::Problem;
use crate::catalog::model::{Node, parse_name};

/// The list of nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeList {
    /// The nodes by name. Id and datacenter are facts of theirs, `consul.id` and
    /// `consul.datacenter`.
    pub(super) nodes: BTreeMap<Arc<str>, Arc<Node>>,
    /// The datacenter that all of them are in.
    pub(super) datacenter: Option<Arc<str>>,
    /// Nodes, and facts about them, that are refused.
    pub(super) problems: Vec<Problem>,
}

/// Decodes `/v1/catalog/nodes`. Nodes equal to those in `last` are shared with it.
///
/// # Errors
/// When it is no such answer or has more nodes than instances are allowed: nothing in it counts.
pub(super) fn nodes(body: &[u8], wish: &Wish, last: Option<&NodeList>) -> Result<NodeList, String> {
    let listed: Vec<RawNode<'_>> = parse("nodes", body)?;
    if listed.len() > wish.instances_max {
        return Err(format!(
            "{} nodes, more than {}; raise `max_instances` of [registry.{}.consul]",
            listed.len(),
            wish.instances_max,
            wish.registry
        ));
    }
    let mut list = NodeList::default();
    for raw in listed {
        let place: Arc<str> = format!("node {:?}", raw.node).into();
        let mut refuse = |message: String| {
            let place = Arc::clone(&place);
            list.problems.push(Problem { place, message: message.into() });
        };
        let mut node = match node_of(&raw, &mut refuse) {
            Ok(node) => node,
            Err(why) => {
                refuse(why);
                continue;
            }
        };
        for (key, value) in [("consul.id", &raw.id), ("consul.datacenter", &raw.datacenter)] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                add(&mut node.meta, key, value, &mut refuse);
            }
        }
        if list.datacenter.is_none() {
            let told = raw.datacenter.as_deref().unwrap_or_default();
            list.datacenter = parse_name("datacenter", told).ok();
        }
        let known = last.and_then(|last| last.nodes.get(&node.name));
        let node = match known {
            Some(known) if **known == node => Arc::clone(known),
            _ => Arc::new(node),
        };
        list.nodes.insert(Arc::clone(&node.name), node);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(instances_max: usize) -> Wish {
        Wish {
            registry: "r".into(),
            tags: Vec::new(),
            address_tag: None,
            services_max: 10,
            instances_max,
            keys_max: 10,
        }
    }

    const TWO: &str = r#"[{"ID":"40e4","Node":"n1","Address":"10.0.0.1","Datacenter":"dc7",
        "TaggedAddresses":{"wan":"192.0.2.1"},"Meta":{"rack":"a"}},
        {"Node":"n 2","Address":"10.0.0.2"}]"#;

    #[test]
    fn a_node_is_read_with_its_facts_and_a_bad_one_costs_itself() {
        let list = nodes(TWO.as_bytes(), &wish(10), None).unwrap();
        assert_eq!(list.nodes.len(), 1);
        let meta = &list.nodes["n1"].meta;
        let facts: Vec<String> = meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            facts,
            ["consul.address.wan=192.0.2.1", "consul.datacenter=dc7", "consul.id=40e4", "rack=a"]
        );
        assert_eq!(list.datacenter.as_deref(), Some("dc7"));
        assert!(list.problems[0].message.contains("\"n 2\" contains ' '"), "{:?}", list.problems);
        let again = nodes(TWO.as_bytes(), &wish(10), Some(&list)).unwrap();
        assert!(Arc::ptr_eq(&again.nodes["n1"], &list.nodes["n1"]), "shared with before");
    }

    #[test]
    fn too_many_nodes_are_refused_as_a_whole_with_the_key_to_raise() {
        let why = nodes(TWO.as_bytes(), &wish(1), None).unwrap_err();
        assert!(why.contains("raise `max_instances` of [registry.r.consul]"), "{why}");
    }
}
