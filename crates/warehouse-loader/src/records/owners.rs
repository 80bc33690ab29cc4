//! Which stream a table is of.
//!
//! Two streams whose names become one table (`Orders` and `orders`, or the `orders` of two sources in one schema) would
//! replace each other's rows: the full refresh of one would empty the table of the other. A source is read stream by
//! stream, so that neither its config nor a barrier tells of both. So the first that comes has the table for good;
//! the state keeps it, `warehouses/<warehouse>/<schema>/<table>`, so that it is the same after a restart and for every
//! connection. The rows of the other become dead letters that say what to do. Only streams that add their rows may share
//! a table, and from then on its owner may not come to replace rows either: they are not all its own.
//!
//! The record is a sequence of generations, of which each is written as the next of the one that was read: of two
//! connections that take a table at once, one finds out that it was second.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_connector::WriteMode;
use millrace_event_model::{Reason, SourceId, StreamSpec};
use millrace_state::{Generation, Generations, StateError, Store};
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
    /// Others have added rows to the table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
}

impl Owner {
    fn of(source: &SourceId, spec: &StreamSpec, table: &StreamTable) -> Self {
        Self {
            source: source.clone(),
            stream: spec.name.clone(),
            namespace: spec.namespace.clone(),
            replaces: table.write != WriteMode::Append,
            shared: false,
        }
    }

    fn is_stream_of(&self, other: &Self) -> bool {
        (&self.source, &self.stream, &self.namespace) == (&other.source, &other.stream, &other.namespace)
    }

    /// Whether the stream may write to the table of this owner.
    fn admits(&self, own: &Self) -> bool {
        match self.is_stream_of(own) {
            true => !(self.shared && own.replaces),
            false => !(self.replaces || own.replaces),
        }
    }

    /// What has to be kept before the stream writes to the table of this owner; `None`: it is kept already, or the
    /// stream may not.
    fn after(&self, own: &Self) -> Option<Self> {
        let after = match self.is_stream_of(own) {
            true => Self { shared: self.shared, ..own.clone() },
            false => Self { shared: true, ..self.clone() },
        };
        (self.admits(own) && after != *self).then_some(after)
    }

    /// The stream, as a person calls it.
    fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}.{}", self.stream),
            None => self.stream.clone(),
        }
    }
}

/// How often a record is read again because somebody else wrote it in between: each time needs another stream that
/// takes the same table. Then the load fails, and is made again.
const TAKE_ATTEMPTS: usize = 8;

/// The owners of tables, by table.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnersByTable {
    /// Of their records, in the state.
    folder: String,
    owners: BTreeMap<String, Owner>,
}

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
    match owners.owners.get(&table.name).filter(|owner| !owner.admits(&own)) {
        Some(owner) => Err(refusal(&own, owner, &table.name, &owners.folder)),
        None => Ok(table),
    }
}

fn refusal(own: &Owner, owner: &Owner, table: &str, folder: &str) -> Reason {
    let text = match own.is_stream_of(owner) {
        true => format!(
            "stream {:?} would replace the rows of table {table:?}, to which other streams have added theirs; let it \
             add its rows as before, or load the source into another schema; once nobody else writes to the table, \
             delete {folder}/{table} from the state to make it the stream's own",
            own.name()
        ),
        false => format!(
            "stream {:?} would be table {table:?}, which is that of stream {:?} of source {}, and they would replace \
             each other's rows; leave one of them out, or load the source into another schema; once the other is \
             gone for good, delete {folder}/{table} from the state to free the table",
            own.name(),
            owner.name(),
            owner.source
        ),
    };
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
        let folder = format!("warehouses/{warehouse}/{}", connection.schema);
        let store = root.child("warehouses").child(warehouse).child(&connection.schema);
        Self::of(connection.source.clone(), store, folder)
    }

    fn of(source: SourceId, store: Store, folder: String) -> Self {
        let known = OwnersByTable { folder, owners: BTreeMap::new() };
        Self { source, store, known: Arc::new(known) }
    }

    pub(crate) fn known(&self) -> Arc<OwnersByTable> {
        Arc::clone(&self.known)
    }

    /// Takes the table of a stream where it is nobody's. Those of its lists go with it: no other stream's name becomes
    /// theirs, which have two underscores.
    pub(crate) async fn take(&mut self, spec: &StreamSpec, table: &StreamTable) -> Result<(), StateError> {
        let (own, table) = (Owner::of(&self.source, spec, table), table.name.as_str());
        // The record of an owner that refuses is read each time: a person may have freed the table.
        let is_settled = |owner: &Owner| owner.admits(&own) && owner.after(&own).is_none();
        if self.known.owners.get(table).is_some_and(is_settled) {
            return Ok(());
        }
        let owner = self.owner_in_state(table, &own).await?;
        Arc::make_mut(&mut self.known).owners.insert(table.to_owned(), owner);
        Ok(())
    }

    /// The owner of the table from here on.
    async fn owner_in_state(&self, table: &str, own: &Owner) -> Result<Owner, StateError> {
        let mut lost = 0;
        for _ in 0..TAKE_ATTEMPTS {
            let latest = self.kept(table).latest().await?;
            lost = latest.as_ref().map_or(0, |latest| latest.number) + 1;
            if let Some(owner) = self.keep_after(table, latest, own).await? {
                return Ok(owner);
            }
        }
        Err(StateError::Lost { number: lost })
    }

    /// Writes what follows from the record as it was read. `None`: it is another now.
    async fn keep_after(
        &self,
        table: &str,
        latest: Option<Generation<Owner>>,
        own: &Owner,
    ) -> Result<Option<Owner>, StateError> {
        let (number, after) = match latest {
            None => (1, own.clone()),
            Some(Generation { number, value }) => match value.after(own) {
                None => return Ok(Some(value)),
                Some(after) => (number + 1, after),
            },
        };
        match self.kept(table).append(number, &after).await {
            // Somebody was faster, or a former self, whose write was not answered.
            Err(StateError::Lost { .. }) => Ok(None),
            written => written.map(|()| Some(after)),
        }
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

    fn owners_in(store: &Store) -> Owners {
        Owners::of(shop(), store.clone(), "warehouses/main/shop".to_owned())
    }

    /// Whether each of the streams, one after the other, gets its table; each asked by a process of its own.
    async fn got(specs: &[(SourceId, StreamSpec)]) -> Vec<bool> {
        let store = Store::in_memory();
        let mut got = Vec::new();
        for (source, spec) in specs {
            let mut owners = Owners { source: source.clone(), ..owners_in(&store) };
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
        let shared = [spec("a", Append), spec("A", Append), spec("a", Upsert), spec("a", Append)];
        let shared = shared.map(|spec| (shop(), spec));
        assert_eq!(got(&shared).await, [true, true, false, true], "but not once others have added rows");
    }

    #[tokio::test]
    async fn of_two_that_take_a_table_at_once_one_is_second() {
        let (one, other) = (spec("Orders", LoadMode::Overwrite), spec("orders", LoadMode::Overwrite));
        let (one_table, other_table) = (table(&one), table(&other));
        let store = Store::in_memory();
        let [mut first, mut second] = [owners_in(&store), owners_in(&store)];
        // It has read that the table is nobody's; then the first takes it.
        first.take(&one, &one_table).await.unwrap();
        let own = Owner::of(&shop(), &other, &other_table);
        assert_eq!(second.keep_after("orders", None, &own).await.unwrap(), None);
        second.take(&other, &other_table).await.unwrap();
        assert!(table_of(&shop(), &other, other_table, &second.known()).is_err());
        let record = second.kept("orders").latest().await.unwrap().unwrap();
        assert_eq!((record.number, record.value.stream.as_str()), (1, "Orders"));
    }

    #[tokio::test]
    async fn a_table_whose_record_was_deleted_is_anybodys() {
        let (one, other) = (spec("Orders", LoadMode::Overwrite), spec("orders", LoadMode::Overwrite));
        let store = Store::in_memory();
        let mut owners = owners_in(&store);
        owners.take(&one, &table(&one)).await.unwrap();
        let mut owners = owners_in(&store);
        owners.take(&other, &table(&other)).await.unwrap();
        assert!(table_of(&shop(), &other, table(&other), &owners.known()).is_err());
        for path in store.child("orders").list("").await.unwrap() {
            store.child("orders").delete(&path).await.unwrap();
        }
        owners.take(&other, &table(&other)).await.unwrap();
        assert!(table_of(&shop(), &other, table(&other), &owners.known()).is_ok());
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
        let mut owners = owners_in(&Store::in_memory());
        owners.take(&one, &table(&one)).await.unwrap();
        owners.take(&other, &table(&other)).await.unwrap();
        let reason = table_of(&shop(), &other, table(&other), &owners.known()).unwrap_err();
        assert_eq!(reason.code, "table_taken");
        let expected = "stream \"orders\" would be table \"orders\", which is that of stream \"Orders\" of source \
                        shop, and they would replace each other's rows; leave one of them out, or load the \
                        source into another schema; once the other is gone for good, delete \
                        warehouses/main/shop/orders from the state to free the table";
        assert_eq!(reason.message, expected);
    }
}
