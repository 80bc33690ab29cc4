//! Which stream a table is of.
//!
//! Two streams whose names become one table (`Orders` and `orders`, or the `orders` of two sources in one schema) would
//! replace each other's rows: the full refresh of one would empty the table of the other. A source is read stream by
//! stream, so that neither its config nor a barrier tells of both. So the first that comes has the table for good;
//! the state keeps it, `warehouses/<warehouse>/<schema>/<table>`, so that it is the same after a restart and for every
//! connection. The rows of the other become dead letters that say what to do. Only streams that add their rows may share
//! a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_connector::WriteMode;
use millrace_event_model::{Reason, SourceId, StreamSpec};
use millrace_state::{Generations, StateError, Store};
use serde::{Deserialize, Serialize};

use super::table::StreamTable;
use crate::ConnectionOptions;

/// A stream that has a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    source: SourceId,
    stream: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// Its rows take the place of others.
    replaces: bool,
}

impl Owner {
    fn of(source: &SourceId, spec: &StreamSpec, table: &StreamTable) -> Self {
        Self {
            source: source.clone(),
            stream: spec.name.clone(),
            namespace: spec.namespace.clone(),
            replaces: table.write != WriteMode::Append,
        }
    }

    fn is_stream_of(&self, other: &Self) -> bool {
        (&self.source, &self.stream, &self.namespace) == (&other.source, &other.stream, &other.namespace)
    }

    fn shares_with(&self, other: &Self) -> bool {
        self.is_stream_of(other) || !(self.replaces || other.replaces)
    }

    /// The stream, as a person calls it.
    fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}.{}", self.stream),
            None => self.stream.clone(),
        }
    }
}

/// The owners of tables, by table.
pub(crate) type OwnersByTable = BTreeMap<String, Owner>;

/// The stream's table, or why it has none.
///
/// # Errors
/// Another stream has it.
pub(crate) fn table_of(
    source: &SourceId,
    spec: &StreamSpec,
    table: StreamTable,
    owners: &OwnersByTable,
) -> Result<StreamTable, Reason> {
    let own = Owner::of(source, spec, &table);
    match owners.get(&table.name).filter(|owner| !owner.shares_with(&own)) {
        Some(owner) => Err(refusal(&own, owner, &table.name)),
        None => Ok(table),
    }
}

fn refusal(own: &Owner, owner: &Owner, table: &str) -> Reason {
    let text = format!(
        "stream {:?} would be table {table:?}, which is that of stream {:?} of source {}, and they would replace \
         each other's rows; leave one of them out, or load the source into another schema",
        own.name(),
        owner.name(),
        owner.source
    );
    Reason::new("table_taken", text)
}

/// The owners of a schema's tables, as far as they were asked for.
pub(crate) struct Owners {
    source: SourceId,
    /// The folder of the warehouse's schema in the state.
    store: Store,
    known: Arc<OwnersByTable>,
}

impl Owners {
    /// `root` is that of the state.
    pub(crate) fn new(root: &Store, connection: &ConnectionOptions) -> Self {
        // A connection that does not say where to shares no schema that anybody knows of.
        let warehouse = connection.mapping.destination_id.as_deref().unwrap_or(connection.id.as_str());
        let store = root.child("warehouses").child(warehouse).child(&connection.schema);
        Self::of(connection.source.clone(), store)
    }

    fn of(source: SourceId, store: Store) -> Self {
        Self { source, store, known: Arc::default() }
    }

    pub(crate) fn known(&self) -> Arc<OwnersByTable> {
        Arc::clone(&self.known)
    }

    /// Takes the table of a stream where it is nobody's. Those of its lists go with it: no other stream's name becomes
    /// theirs, which have two underscores.
    pub(crate) async fn take(&mut self, spec: &StreamSpec, table: &StreamTable) -> Result<(), StateError> {
        let (own, table) = (Owner::of(&self.source, spec, table), table.name.as_str());
        if !self.known.contains_key(table)
            && let Some(kept) = self.kept(table).latest().await?
        {
            Arc::make_mut(&mut self.known).insert(table.to_owned(), kept.value);
        }
        match self.known.get(table) {
            Some(owner) if *owner == own || !owner.is_stream_of(&own) => Ok(()),
            // Its mode is another now, or it is the first.
            _ => self.keep(table, &own).await,
        }
    }

    async fn keep(&mut self, table: &str, own: &Owner) -> Result<(), StateError> {
        let kept = self.kept(table);
        let number = kept.latest().await?.map_or(0, |latest| latest.number);
        let owner = match kept.append(number + 1, own).await {
            // A former self was faster, or its write was not answered.
            Err(StateError::Lost { .. }) => {
                kept.latest().await?.map_or_else(|| own.clone(), |latest| latest.value)
            }
            written => written.map(|()| own.clone())?,
        };
        Arc::make_mut(&mut self.known).insert(table.to_owned(), owner);
        Ok(())
    }

    fn kept(&self, table: &str) -> Generations<Owner> {
        Generations::new(self.store.child(table))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use millrace_event_model::LoadMode;
    use serde_json::json;

    use super::*;
    use crate::rows::Nested;

    fn spec(name: &str, mode: LoadMode) -> StreamSpec {
        let list = json!({"type": "array", "items": {"type": "integer"}});
        StreamSpec {
            name: name.to_owned(),
            namespace: None,
            json_schema: json!({"properties": {"id": {"type": "integer"}, "marks": list}}),
            primary_key: vec![vec!["id".to_owned()]],
            mode,
            generation: 0,
        }
    }

    fn table(spec: &StreamSpec) -> StreamTable {
        StreamTable::of(spec, dialect("lake").unwrap(), Nested::Tables).unwrap()
    }

    fn shop() -> SourceId {
        "shop".parse().unwrap()
    }

    /// Whether each of the streams, one after the other, gets its table; each asked by a process of its own.
    async fn got(specs: &[(SourceId, StreamSpec)]) -> Vec<bool> {
        let store = Store::in_memory();
        let mut got = Vec::new();
        for (source, spec) in specs {
            let mut owners = Owners::of(source.clone(), store.clone());
            owners.take(spec, &table(spec)).await.unwrap();
            got.push(table_of(source, spec, table(spec), &owners.known()).is_ok());
        }
        got
    }

    #[tokio::test]
    async fn the_first_stream_of_a_table_keeps_it_unless_both_only_add() {
        use LoadMode::{Append, Overwrite, Upsert};
        for (one, other, shared) in [
            (Overwrite, Overwrite, false),
            (Overwrite, Append, false),
            (Append, Overwrite, false),
            (Upsert, Upsert, false),
            (Append, Append, true),
        ] {
            let both = [spec("Orders", one), spec("orders", other), spec("Orders", one)];
            let both = both.map(|spec| (shop(), spec));
            assert_eq!(got(&both).await, [true, shared, true], "{one:?} and {other:?}");
        }
        let sources = [shop(), "crm".parse().unwrap(), shop()].map(|source| (source, spec("a", Overwrite)));
        assert_eq!(got(&sources).await, [true, false, true], "another source has the same stream");
        let changes = [spec("a", Append), spec("a", Overwrite), spec("A", Append)].map(|spec| (shop(), spec));
        assert_eq!(got(&changes).await, [true, true, false], "the owner may change its mode");
    }

    #[test]
    fn no_stream_has_the_table_of_a_list() {
        let lists = table(&spec("orders", LoadMode::Overwrite));
        let names: Vec<&str> = lists.with_lists().iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["orders", "orders__marks"]);
        assert_eq!(table(&spec("orders__marks", LoadMode::Overwrite)).name, "orders_marks");
    }

    #[tokio::test]
    async fn a_refusal_names_both_streams_and_says_what_to_do() {
        let (one, other) = (spec("Orders", LoadMode::Overwrite), spec("orders", LoadMode::Overwrite));
        let mut owners = Owners::of(shop(), Store::in_memory());
        owners.take(&one, &table(&one)).await.unwrap();
        owners.take(&other, &table(&other)).await.unwrap();
        let reason = table_of(&shop(), &other, table(&other), &owners.known()).unwrap_err();
        assert_eq!(reason.code, "table_taken");
        let expected = "stream \"orders\" would be table \"orders\", which is that of stream \"Orders\" of source \
                        shop, and they would replace each other's rows; leave one of them out, or load the source into another schema";
        assert_eq!(reason.message, expected);
    }
}
