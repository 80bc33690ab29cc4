//! Which sources may share a schema of a warehouse.

use std::collections::BTreeMap;

use super::super::tree::Node;
use super::super::{ConnectionConfig, SourceConfig, Target};
use super::Judge;

impl Judge<'_> {
    /// Events and ELT streams do not share a schema: a full refresh of a stream would take the place of the events in
    /// the table of its name, and who loads the one does not know of the other.
    pub(super) fn schemas(&mut self, connections: &[ConnectionConfig], sources: &[SourceConfig]) {
        let nodes = self.nodes("connections");
        let mut first = BTreeMap::new();
        for connection in connections {
            let Target::Warehouse { id, schema, .. } = &connection.to else { continue };
            let Some(source) = sources.iter().find(|source| source.id == connection.from) else { continue };
            let other = *first.entry((id, schema)).or_insert(source);
            if source.comes_by_http() == other.comes_by_http() {
                continue;
            }
            let (from, to) = (source.id.as_str(), id.as_str());
            let is_it = |node: &&Node| is_text(node, "from", from) && is_text(node, "to", to);
            let Some(node) = nodes.iter().find(is_it) else { continue };
            let message = format!(
                "{:?} and {from:?} share schema {schema:?} of {to:?}, and only one of them sends events",
                other.id.as_str()
            );
            let help = "a full refresh of a stream replaces the whole table of its name, events too: give one of \
                        them another `schema`";
            self.report(node, "schema", message, Some(help.to_owned()));
        }
    }
}

fn is_text(node: &Node, key: &str, expected: &str) -> bool {
    node.get(key).and_then(Node::text).is_some_and(|text| text.text == expected)
}
