//! What a load asks of the tables before it is made: columns that are missing, and tables to begin with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_columnar::TableSchema;
use millrace_connector::{Replacement, SchemaChange, TableSchemas};
use millrace_event_model::AuditEntry;
use millrace_event_model::topics::AUDIT;
use millrace_service::{crash_point, spawn_busy};

use super::{Prepared, Session};
use crate::{Error, Plan, PlanError, RowsByTable, Rules, Stamp, discards, drift, plan};

impl Session {
    /// Plans, makes what is missing, and looks whether it is there as planned.
    pub(super) async fn plan(&mut self, rows: RowsByTable, stamp: Stamp) -> Result<Plan, Error> {
        if rows.is_empty() {
            return Ok(Plan::default());
        }
        let existing = match self.tables.take() {
            Some(tables) => tables,
            None => self.describe().await?,
        };
        let existing = self.begin_as_the_model(existing, &rows, stamp).await?;
        let (known, dialect) = (Arc::clone(&existing), self.connection.warehouse.dialect());
        let (contract, kind) = (self.connection.contract, self.connection.kind);
        let rules = Rules { stamp, contract, kind, dialect };
        let planned = match spawn_busy(async move { plan(&known, rows, &rules) }).await? {
            Ok(planned) => planned,
            Err(error) => return Err(self.refuse(error).await),
        };
        if planned.changes.is_empty() {
            self.tables = Some(existing);
            return Ok(planned);
        }
        self.settle().await?;
        self.announce(drift::entries(&self.connection, &planned.changes, stamp.at)).await?;
        let (warehouse, schema) = (&self.connection.warehouse, &self.connection.schema);
        crash_point("before-ddl");
        warehouse.apply(schema, &planned.changes).await?;
        crash_point("after-ddl");
        // The same change would be another one from here on: somebody took back the first.
        self.announced.clear();
        let now = self.describe().await?;
        if !planned.fits(&now, dialect) {
            return Err(Error::TablesChanged { schema: schema.clone() });
        }
        tracing::info!(connection = %self.connection.id, changes = planned.changes.len(), "changed the schema");
        self.tables = Some(now);
        Ok(planned)
    }

    /// Of a rebuild: a table that is not there yet begins with the columns of the one whose place it will take, and
    /// gets those that came to that one since when rows ask for them. So the types are those that people know, and a
    /// contract judges what is new to them, not to the rebuild.
    async fn begin_as_the_model(
        &mut self,
        existing: Arc<TableSchemas>,
        rows: &RowsByTable,
        stamp: Stamp,
    ) -> Result<Arc<TableSchemas>, Error> {
        let Some(model) = self.model.clone() else { return Ok(existing) };
        let discards = stamp.name(discards::TABLE);
        let missing = |table: &&String| !existing.contains_key(*table);
        let asked = asked_beyond(&existing, rows);
        if asked.is_empty() && rows.keys().all(|table| existing.contains_key(table)) {
            return Ok(existing);
        }
        let mut model = self.connection.warehouse.describe(&model).await?;
        let begun = rows.keys().chain([&discards]).filter(missing).filter_map(|table| {
            let columns = model.remove(table)?;
            Some(SchemaChange::CreateTable { table: table.clone(), columns })
        });
        let mut changes: Vec<SchemaChange> = begun.collect();
        for (table, names) in asked {
            let Some(known) = model.remove(table) else { continue };
            let columns: TableSchema =
                known.into_iter().filter(|(name, _)| names.contains(name.as_str())).collect();
            if !columns.is_empty() {
                changes.push(SchemaChange::AddColumns { table: table.to_owned(), columns });
            }
        }
        if changes.is_empty() {
            return Ok(existing);
        }
        if existing.is_empty() {
            changes.insert(0, SchemaChange::CreateSchema);
        }
        self.settle().await?;
        self.connection.warehouse.apply(&self.connection.schema, &changes).await?;
        self.describe().await
    }

    /// A load of no items after which tables have the rows of others. First the changes that this asks for.
    pub(crate) async fn replace(
        &mut self,
        changes: &[SchemaChange],
        replacements: Vec<Replacement>,
    ) -> Result<(), Error> {
        if !changes.is_empty() {
            self.announce(drift::entries(&self.connection, changes, self.clock.now())).await?;
            self.connection.warehouse.apply(&self.connection.schema, changes).await?;
        }
        let mut staged = self.stage(Prepared::default()).await?;
        staged.load.replacements = replacements;
        self.commit(staged).await?;
        self.settle().await
    }

    /// A change that a contract refuses is drift too.
    async fn refuse(&mut self, error: PlanError) -> Error {
        let refusal = drift::refusal(&self.connection, &error, self.clock.now());
        match self.announce(refusal.into_iter().collect()).await {
            Ok(()) => error.into(),
            Err(not_said) => not_said,
        }
    }

    /// Says on the audit topic what is about to change; what was just said is not said again. Before the change:
    /// an entry may be repeated after a crash, but no change is without one.
    async fn announce(&mut self, entries: Vec<AuditEntry>) -> Result<(), Error> {
        let said: Vec<String> =
            entries.iter().map(|entry| format!("{} {}", entry.action, entry.subject)).collect();
        if entries.is_empty() || said == self.announced {
            return Ok(());
        }
        let topic = AUDIT.of(self.bus.workspace());
        let acked = self.publisher.publish(&topic, &entries).await?;
        tracing::debug!(connection = %self.connection.id, entries = acked.count(), "wrote to the audit topic");
        self.announced = said;
        Ok(())
    }

    async fn describe(&self) -> Result<Arc<TableSchemas>, Error> {
        Ok(Arc::new(self.connection.warehouse.describe(&self.connection.schema).await?))
    }
}

/// Columns that rows have values for and their tables lack, by table. Tables that are not there have none.
fn asked_beyond<'a>(existing: &TableSchemas, rows: &'a RowsByTable) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut asked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (table, parts) in rows {
        let Some(known) = existing.get(table) else { continue };
        let columns = parts.iter().flat_map(|part| &part.blocks).flat_map(|block| &block.columns);
        for column in columns.filter(|column| column.values.is_some() || !column.misfits.is_empty()) {
            if !known.contains_key(&column.name) {
                asked.entry(table).or_default().insert(&column.name);
            }
        }
    }
    asked
}
