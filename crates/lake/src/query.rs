//! SQL over all tables of the lake, by DataFusion. Read only.
//!
//! Every query gets a catalog of its own: `schema.table` for what lies in the lake at that moment, each
//! table opened when the query names it and read at its version of then, so that a load that commits
//! meanwhile changes nothing in the answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use millrace_columnar::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_connector::{ConnectorError, QueryStream, TableName};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::merge::recast;
use crate::tables::Tables;

/// What all queries of a lake together may hold in memory; sorts and joins beyond it go to temporary files.
const QUERY_MEMORY: usize = 1024 * 1024 * 1024;

/// Only what is used of it takes memory.
const PLANNER_STACK: usize = 64 * 1024 * 1024;

/// Names shown in the text of an error.
const NAMES_SHOWN: usize = 20;

const CATALOG: &str = "lake";
/// Where a name without a schema is looked for; no such schema exists, which makes the error a helpful one.
const DEFAULT_SCHEMA: &str = "public";

/// Runs queries over the tables.
pub(crate) struct Queries {
    tables: Arc<Tables>,
    runtime: Arc<RuntimeEnv>,
    /// What tables are scanned with. It has no catalog: that of a query holds the tables, which hold this.
    scan: Arc<SessionState>,
}

impl Queries {
    pub(crate) fn new(tables: Arc<Tables>) -> Result<Self> {
        let pool = Arc::new(FairSpillPool::new(QUERY_MEMORY));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().map_err(failed)?;
        let scan = Arc::new(session_state(&runtime));
        Ok(Self { tables, runtime, scan })
    }

    /// Plans a query and begins to run it.
    pub(crate) async fn run(self: &Arc<Self>, sql: &str) -> Result<QueryStream> {
        let (queries, sql) = (Arc::clone(self), sql.to_owned());
        on_deep_stack(async move { queries.begin(&sql).await }).await
    }

    async fn begin(&self, sql: &str) -> Result<QueryStream> {
        let schemas = self.tables.schemas().await?;
        let context = self.session(&schemas);
        let frame = self.plan(&context, sql, &schemas).await?;
        let schema = plain(frame.schema().as_arrow());
        let batches = frame.execute_stream().await.map_err(failed)?;
        let target = Arc::clone(&schema);
        let batches = batches.map(move |batch| {
            let batch = batch.map_err(failed)?;
            recast(&batch, &target).map_err(|error| failed(error.into()))
        });
        Ok(QueryStream { schema, batches: batches.boxed() })
    }

    async fn plan(
        &self,
        context: &SessionContext,
        sql: &str,
        schemas: &BTreeMap<String, Vec<String>>,
    ) -> Result<DataFrame> {
        let state = context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(invalid)?;
        if !is_query(&statement) {
            return Err(read_only());
        }
        for reference in state.resolve_table_references(&statement).map_err(invalid)? {
            check_reference(&reference, schemas)?;
        }
        let plan = state.statement_to_plan(statement).await.map_err(invalid)?;
        let options =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan).map_err(|error| read_only().caused_by(error))?;
        context.execute_logical_plan(plan).await.map_err(invalid)
    }

    fn session(&self, schemas: &BTreeMap<String, Vec<String>>) -> SessionContext {
        let catalog = schemas.iter().map(|(name, tables)| {
            let schema = LakeSchema {
                name: name.clone(),
                names: tables.clone(),
                tables: Arc::clone(&self.tables),
                session: Arc::clone(&self.scan),
            };
            (name.clone(), Arc::new(schema) as Arc<dyn SchemaProvider>)
        });
        let catalog = LakeCatalog { schemas: catalog.collect() };
        let context = SessionContext::new_with_state(session_state(&self.runtime));
        context.register_catalog(CATALOG, Arc::new(catalog));
        context
    }
}

fn session_state(runtime: &Arc<RuntimeEnv>) -> SessionState {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_runtime_env(Arc::clone(runtime))
        .build()
}

#[derive(Debug)]
struct LakeCatalog {
    schemas: BTreeMap<String, Arc<dyn SchemaProvider>>,
}

impl CatalogProvider for LakeCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.get(name).cloned()
    }
}

struct LakeSchema {
    name: String,
    names: Vec<String>,
    tables: Arc<Tables>,
    session: Arc<SessionState>,
}

impl std::fmt::Debug for LakeSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LakeSchema").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.names.clone()
    }

    async fn table(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let name = TableName { schema: self.name.clone(), table: name.to_owned() };
        let opened =
            self.tables.latest(&name).await.map_err(|error| DataFusionError::External(error.into()))?;
        let Some(table) = opened else { return Ok(None) };
        table.update_datafusion_session(self.session.as_ref())?;
        Ok(Some(table.table_provider().with_session(Arc::clone(&self.session)).await?))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

fn is_query(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => matches!(
            **statement,
            ast::Statement::Query(_)
                | ast::Statement::ExplainTable { .. }
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowColumns { .. }
        ),
        Statement::Explain(_) => true,
        _ => false,
    }
}

fn read_only() -> ConnectorError {
    ConnectorError::reject("read_only", "only queries can be run over the lake")
}

/// Plans on a thread of its own, since the planner calls itself as deep as the query is nested, and in
/// unoptimised code a sum of 300 columns is too deep for the stack of a usual thread.
async fn on_deep_stack<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let runtime = Handle::current();
    let (answer, answered) = oneshot::channel();
    let work = move || {
        // Nobody waits any more: the answer is not wanted.
        let _ = answer.send(runtime.block_on(future));
    };
    let thread = std::thread::Builder::new().name("lake-query".to_owned()).stack_size(PLANNER_STACK);
    thread.spawn(work).map_err(|error| {
        ConnectorError::retry("thread", "cannot start a thread for a query").caused_by(error)
    })?;
    match answered.await {
        Ok(result) => result,
        Err(error) => {
            Err(ConnectorError::reject("invalid_query", "the query cannot be planned").caused_by(error))
        }
    }
}

/// Says what there is when a query names what is not.
fn check_reference(reference: &TableReference, schemas: &BTreeMap<String, Vec<String>>) -> Result<()> {
    let table = reference.table();
    let schema = reference.schema().unwrap_or(DEFAULT_SCHEMA);
    if schema == "information_schema"
        || schemas.get(schema).is_some_and(|names| names.iter().any(|name| name == table))
    {
        return Ok(());
    }
    let text = match schemas.get(schema) {
        Some(names) => {
            format!("there is no table {table:?} in schema {schema:?}; there are: {}", shown(names.iter()))
        }
        None => {
            let having: Vec<String> = schemas
                .iter()
                .filter(|(_, names)| names.iter().any(|name| name == table))
                .map(|(schema, _)| format!("{schema}.{table}"))
                .collect();
            if having.is_empty() {
                format!(
                    "there is no table {reference}; a table is named schema.table, and the schemas are: {}",
                    shown(schemas.keys())
                )
            } else {
                format!("there is no table {reference}; did you mean {}", having.join(" or "))
            }
        }
    };
    Err(ConnectorError::reject("unknown_table", text))
}

fn shown<'a>(names: impl Iterator<Item = &'a String> + Clone) -> String {
    let total = names.clone().count();
    let mut text = names.take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if total == 0 {
        "none yet".clone_into(&mut text);
    }
    if total > NAMES_SHOWN {
        text.push_str(&format!(" and {} more", total - NAMES_SHOWN));
    }
    text
}

/// The schema without Arrow's view types, which not every reader of batches knows.
fn plain(schema: &Schema) -> SchemaRef {
    let plain_type = |data_type: &DataType| match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    };
    let fields = schema.fields().iter().map(|field| {
        Field::new(field.name(), plain_type(field.data_type()), field.is_nullable())
            .with_metadata(field.metadata().clone())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn failed(error: DataFusionError) -> ConnectorError {
    let error = error.find_root().to_string();
    ConnectorError::retry("query", format!("the query failed: {}", first_line(&error)))
}

fn invalid(error: DataFusionError) -> ConnectorError {
    let error = error.find_root().to_string();
    ConnectorError::reject("invalid_query", format!("invalid query: {}", first_line(&error)))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
