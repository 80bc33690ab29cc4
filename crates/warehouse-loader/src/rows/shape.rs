//! What the events of a connection look like, learned as they come: which column each path of keys becomes.
//!
//! A name costs more than a value: it is divided into words, joined, cut and looked up among the words that
//! the warehouse reserves. But events say the same names again and again. So a [`Shape`] is a tree of the keys
//! that were seen, each with its finished column; from the second time on a key is one look-up. The tree
//! only remembers: what a key becomes depends on nothing but its path.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use millrace_connector::WriteMode;
use millrace_event_model::Reason;

use super::Mapping;
use super::cells::{NameId, NameTable, NewCell, Pass, Typed};
use super::datatype::typed_text;
use super::names::Names;
use super::options::{JsonPaths, Naming};
use super::rules::{From, Kind, Rules, USERS, USERS_IN_DATABASES};

/// A key's place in the tree of a [`Shape`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

/// The objects of an event whose properties are columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Properties,
    UserProperties,
    Traits,
    Context,
    /// The context's traits as an identify event's own.
    ContextTraits,
}

impl Root {
    const ALL: [Self; 5] =
        [Self::Properties, Self::UserProperties, Self::Traits, Self::Context, Self::ContextTraits];

    fn path(self) -> &'static [&'static str] {
        match self {
            Self::Properties => &["properties"],
            Self::UserProperties => &["userProperties"],
            Self::Traits => &["traits"],
            Self::Context => &["context"],
            Self::ContextTraits => &["context", "traits"],
        }
    }

    /// What its columns' names begin with.
    fn prefix(self) -> &'static str {
        if self == Self::Context { "context_" } else { "" }
    }

    pub(super) fn node(self) -> NodeId {
        // The first nodes of every tree.
        NodeId(self as u32)
    }
}

/// A key at its place.
#[derive(Debug)]
pub(super) struct Node {
    /// The column that a value here becomes; none where nothing of the name is left, or rules set it.
    pub(super) column: Option<NameId>,
    /// Values here are JSON columns, whatever they are.
    pub(super) is_json: bool,
    /// Objects here may be a text that a client has spread letter by letter.
    pub(super) may_be_text: bool,
    /// The columns below are those of the context's traits.
    pub(super) is_context_traits: bool,
    /// How deep it is: the root's own keys are at 0.
    pub(super) depth: usize,
    /// The last pass that came by.
    pub(super) visited: Option<Pass>,
    /// From the event type down.
    path: Vec<Box<str>>,
    /// What the names of columns below begin with, in the client's spelling.
    prefix: String,
    children: HashMap<Box<str>, NodeId, RandomState>,
    /// The children in the order in which they came: most events have their keys in the same.
    in_order: Vec<NodeId>,
}

/// The columns of one kind of event under one naming.
#[derive(Debug)]
pub(super) struct Shape<'d> {
    pub(super) names: Names<'d>,
    pub(super) kind: Kind,
    pub(super) fixed: Fixed,
    json_paths: JsonPaths,
    nodes: Vec<Node>,
    events: HashMap<Box<str>, EventNames, RandomState>,
}

/// Columns and tables that do not depend on an event's keys.
#[derive(Debug)]
pub(super) struct Fixed {
    /// The rules of the event's own rows.
    pub(super) rules: Vec<(NameId, From)>,
    /// Those of `users`.
    pub(super) users_rules: Vec<(NameId, From)>,
    pub(super) id: NameId,
    pub(super) event: NameId,
    pub(super) record_id: NameId,
    pub(super) whole_event: NameId,
    /// Columns that are set at load, for every table.
    pub(super) at_load: Arc<[NameId]>,
    /// Where the event comes from and goes to.
    pub(super) surroundings: Vec<(NameId, Typed<'static>)>,
    /// `tracks`, `pages`…; for an `extract` event none.
    pub(super) table: Result<Arc<str>, Reason>,
    pub(super) users_table: Result<Arc<str>, Reason>,
    pub(super) append: Arc<WriteMode>,
    pub(super) merge_latest: Arc<WriteMode>,
}

/// The names that come of an event's.
#[derive(Debug, Clone)]
pub(super) struct EventNames {
    /// The value of the column `event` of track events.
    pub(super) event: Arc<str>,
    /// The event's own table; none for a blank name.
    pub(super) table: Option<Result<Arc<str>, Reason>>,
}

impl<'d> Shape<'d> {
    pub(super) fn new(kind: Kind, naming: &Naming, mapping: &Mapping<'d>, table: &mut NameTable) -> Self {
        let names = naming.names(&mapping.options, mapping.dialect);
        let json_paths = naming.json_paths(&mapping.options, mapping.dialect);
        let fixed = Fixed::new(kind, &names, mapping, table);
        let mut shape =
            Self { names, kind, fixed, json_paths, nodes: Vec::new(), events: HashMap::default() };
        for root in Root::ALL {
            let path = std::iter::once(kind.as_str()).chain(root.path().iter().copied());
            let path: Vec<Box<str>> = path.map(Into::into).collect();
            shape.nodes.push(Node {
                column: None,
                is_json: false,
                may_be_text: may_be_text(&path),
                is_context_traits: false,
                depth: 0,
                visited: None,
                path,
                prefix: root.prefix().to_owned(),
                children: HashMap::default(),
                in_order: Vec::new(),
            });
        }
        shape
    }

    /// How much it remembers.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() + self.events.len()
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        // Ids are made below, with their nodes.
        &mut self.nodes[id.0 as usize]
    }

    /// The place of a key below another. It is the object's `nth`, from 0.
    pub(super) fn child(&mut self, parent: NodeId, nth: usize, key: &str, table: &mut NameTable) -> NodeId {
        // Ids are made below, with their nodes.
        let outer = &self.nodes[parent.0 as usize];
        if let Some(guess) = outer.in_order.get(nth)
            && self.nodes[guess.0 as usize].path.last().is_some_and(|known| known.as_ref() == key)
        {
            return *guess;
        }
        if let Some(known) = outer.children.get(key) {
            return *known;
        }
        let node = self.new_node(parent, key, table);
        // Memory ends long before 32 bits do.
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        let outer = self.node(parent);
        outer.children.insert(key.into(), id);
        outer.in_order.push(id);
        id
    }

    fn new_node(&mut self, parent: NodeId, key: &str, table: &mut NameTable) -> Node {
        let dialect = self.names.dialect;
        let outer = self.node(parent);
        let depth = if (parent.0 as usize) < Root::ALL.len() { 0 } else { outer.depth + 1 };
        let name = format!("{}{key}", outer.prefix);
        let mut path = outer.path.clone();
        path.push(key.into());
        let is_json =
            self.json_paths.contains(&path) || (key == "violationErrors" && dialect.violation_errors_as_json);
        Node {
            column: self.column(&name).map(|column| table.id(&column)),
            is_json,
            may_be_text: may_be_text(&path),
            is_context_traits: name == "context_traits",
            depth,
            visited: None,
            path,
            prefix: format!("{name}_"),
            children: HashMap::default(),
            in_order: Vec::new(),
        }
    }

    fn column(&self, name: &str) -> Option<String> {
        let column = self.names.column(name);
        if column.is_empty() {
            return None;
        }
        let column = self.names.safe_column(&column);
        (!self.kind.reserves(&column)).then_some(column)
    }

    /// The names that come of an event's name.
    pub(super) fn event_names(&mut self, name: &str) -> EventNames {
        if let Some(known) = self.events.get(name) {
            return known.clone();
        }
        let event = self.names.table(name);
        let own = if self.kind == Kind::Extract { self.names.column(&event) } else { event.clone() };
        let is_blank = own.trim().is_empty();
        let table = (!is_blank).then(|| self.event_table(&own).map(Into::into));
        let names = EventNames { event: event.into(), table };
        self.events.insert(name.into(), names.clone());
        names
    }

    /// An event's own table must not be one of those that other events fill.
    fn event_table(&self, event: &str) -> Result<String, Reason> {
        let table = self.names.safe_table(&self.names.column(event))?;
        let taken = match table.to_lowercase().as_str() {
            // Always: their rows are keyed in another way.
            "users" | "identifies" => true,
            "tracks" | "pages" | "screens" | "aliases" | "groups" | "accounts" => self.names.escape_reserved,
            _ => false,
        };
        Ok(if taken { format!("_{table}") } else { table })
    }
}

/// `context.traits` wherever it stands, and a group's traits.
fn may_be_text(path: &[Box<str>]) -> bool {
    let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    path.ends_with(&["context", "traits"]) || path == ["group", "traits"]
}

impl Fixed {
    fn new(kind: Kind, names: &Names<'_>, mapping: &Mapping<'_>, table: &mut NameTable) -> Self {
        let mut id = |name: &str| table.id(&names.safe_column(name));
        let mut rules = |rules: &[Rules]| -> Vec<(NameId, From)> {
            rules.iter().copied().flatten().map(|(name, from)| (id(name), *from)).collect()
        };
        let own_rules = rules(&kind.rules());
        let users_rules =
            if names.dialect.data_lake { rules(&[USERS]) } else { rules(&[USERS_IN_DATABASES, USERS]) };
        let at_load = if names.dialect.loaded_at { &["uuid_ts", "loaded_at"][..] } else { &["uuid_ts"] };
        let merge_latest =
            WriteMode::MergeLatest { key: names.safe_column("id"), order: names.safe_column("received_at") };
        let safe_table = |name: &str| names.safe_table(name).map(Into::into);
        Self {
            rules: own_rules,
            users_rules,
            at_load: at_load.iter().map(|name| id(name)).collect(),
            id: id("id"),
            event: id("event"),
            record_id: id("record_id"),
            whole_event: id("rudder_event"),
            surroundings: surroundings(kind, names, mapping, table),
            table: safe_table(own_table(kind)),
            users_table: safe_table("users"),
            append: Arc::new(WriteMode::Append),
            merge_latest: Arc::new(merge_latest),
        }
    }
}

fn own_table(kind: Kind) -> &'static str {
    match kind {
        Kind::Track => "tracks",
        Kind::Identify => "identifies",
        Kind::Page => "pages",
        Kind::Screen => "screens",
        Kind::Group => "groups",
        Kind::Alias => "aliases",
        // Only into tables of its own.
        Kind::Extract => "",
    }
}

fn surroundings(
    kind: Kind,
    names: &Names<'_>,
    mapping: &Mapping<'_>,
    table: &mut NameTable,
) -> Vec<(NameId, Typed<'static>)> {
    let known = [
        ("context_sourceId", &mapping.source.id),
        ("context_sourceType", &mapping.source.source_type),
        ("context_destinationId", &mapping.destination_id),
        ("context_destinationType", &mapping.destination_type),
    ];
    let mut columns = Vec::new();
    for (name, value) in known {
        let Some(text) = value.as_deref().filter(|text| !text.is_empty()) else { continue };
        let column = names.safe_column(&names.column(name));
        if kind.reserves(&column) {
            continue;
        }
        let (field_type, cell) = typed_text(text.into(), names.dialect);
        let shared = match cell {
            NewCell::String(text) => NewCell::Shared(text.as_ref().into()),
            NewCell::DateTime(micros) => NewCell::DateTime(micros),
            // Text is one of the two.
            _ => continue,
        };
        columns.push((table.id(&column), (field_type, shared)));
    }
    columns
}
