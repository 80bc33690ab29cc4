//! The names that a config gives, and which of them may have been meant.

use super::de::closest;
use super::tree::{Node, Value};

/// The ids of each section, as written.
pub(super) struct Names {
    pub(super) sources: Vec<String>,
    pub(super) warehouses: Vec<String>,
    pub(super) destinations: Vec<String>,
    pub(super) policies: Vec<String>,
}

impl Names {
    pub(super) fn of(root: &Node) -> Self {
        let ids = |section: &str| {
            let id = |element: &Node| Some(element.get("id")?.text()?.text.clone());
            root.get(section).map(|list| list.elements().filter_map(id).collect()).unwrap_or_default()
        };
        let policies = match root.get("privacy").map(|node| &node.value) {
            Some(Value::Map(mapping)) => mapping.entries.iter().map(|(key, _)| key.name.clone()).collect(),
            _ => Vec::new(),
        };
        Self {
            sources: ids("sources"),
            warehouses: ids("warehouses"),
            destinations: ids("destinations"),
            policies,
        }
    }

    pub(super) fn targets(&self) -> Vec<String> {
        [self.warehouses.as_slice(), self.destinations.as_slice()].concat()
    }
}

/// What may have been meant by a name that leads nowhere, or what there is.
pub(super) fn suggest(name: &str, known: &[String], what: &str) -> Option<String> {
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Some(format!("the file has no {what}"));
    }
    match closest(name, &names) {
        Some(meant) => Some(format!("did you mean {meant:?}?")),
        None => Some(format!("the {what} are {}", names.join(", "))),
    }
}
