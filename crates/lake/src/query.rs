//! SQL over all tables of the lake, by DataFusion. Read only.
//!
//! Every query gets a catalog of its own: `schema.table` for what lies in the lake at that moment. A Delta
//! table is opened when the query names it and read at its version of then; plain Parquet is read as of the
//! loads that were sealed when the query began. A load that ends meanwhile changes nothing in the answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
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

use crate::columns::stored_schema;
use crate::error::Result;
use crate::files::{self, Files};
use crate::merge::recast;
use crate::partition::Partitioning;
use crate::sealed_files::SealedFiles;
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
    source: Source,
    /// Shared by all queries.
    memory: Arc<FairSpillPool>,
}

/// What is queried.
#[derive(Clone)]
pub(crate) enum Source {
    /// Delta tables.
    Delta(Arc<Tables>),
    /// Plain Parquet.
    Files(Arc<Files>),
}

impl Source {
    async fn schemas(&self) -> Result<BTreeMap<String, Vec<String>>> {
        match self {
            Self::Delta(tables) => tables.schemas().await,
            Self::Files(files) => files.schemas().await,
        }
    }
}

impl Queries {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, memory: Arc::new(FairSpillPool::new(QUERY_MEMORY)) }
    }

    /// Plans a query and begins to run it.
    pub(crate) async fn run(self: &Arc<Self>, sql: &str) -> Result<QueryStream> {
        let (queries, sql) = (Arc::clone(self), sql.to_owned());
        on_deep_stack(async move { queries.begin(&sql).await }).await
    }

    async fn begin(&self, sql: &str) -> Result<QueryStream> {
        let schemas = self.source.schemas().await?;
        let context = self.session(&schemas).await?;
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

    async fn session(&self, schemas: &BTreeMap<String, Vec<String>>) -> Result<SessionContext> {
        let memory = Arc::clone(&self.memory);
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(memory).build_arc().map_err(failed)?;
        if let Source::Files(files) = &self.source {
            let url = root_url(files)?;
            let sealed = SealedFiles::new(files.store().object_store(), files.view().await?);
            runtime.register_object_store(url.as_ref(), Arc::new(sealed));
        }
        // It has no catalog: that of the query holds the tables, which hold this.
        let scan = Arc::new(session_state(&runtime));
        let catalog = schemas.iter().map(|(name, tables)| {
            let schema = LakeSchema {
                name: name.clone(),
                names: tables.clone(),
                source: self.source.clone(),
                session: Arc::clone(&scan),
            };
            (name.clone(), Arc::new(schema) as Arc<dyn SchemaProvider>)
        });
        let catalog = LakeCatalog { schemas: catalog.collect() };
        let context = SessionContext::new_with_state(session_state(&runtime));
        context.register_catalog(CATALOG, Arc::new(catalog));
        Ok(context)
    }
}

/// The url of the bucket, or of the file system.
fn root_url(files: &Files) -> Result<ObjectStoreUrl> {
    let url = files.store().url();
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let bucket = rest.split('/').next().unwrap_or_default();
    ObjectStoreUrl::parse(format!("{scheme}://{bucket}")).map_err(failed)
}

/// A table of plain Parquet. Files that lack a column, or have a narrower one, are read as if they had it.
fn listing_table(
    files: &Files,
    table: &files::Table,
) -> std::result::Result<Arc<dyn TableProvider>, DataFusionError> {
    let root = root_url(files).map_err(|error| DataFusionError::External(error.into()))?;
    let url = ListingTableUrl::parse(format!("{}{}/", root.as_str(), table.path))?;
    let mut options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    if table.partitioned {
        let column = (Partitioning::COLUMN.to_owned(), DataType::Date32);
        options = options.with_table_partition_cols(vec![column]);
    }
    let config =
        ListingTableConfig::new(url).with_listing_options(options).with_schema(stored_schema(&table.columns));
    Ok(Arc::new(ListingTable::try_new(config)?))
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
    source: Source,
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
        let external = |error: ConnectorError| DataFusionError::External(error.into());
        let tables = match &self.source {
            Source::Delta(tables) => tables,
            Source::Files(files) => {
                let found = files.table(&name).await.map_err(external)?;
                return found.map(|table| listing_table(files, &table)).transpose();
            }
        };
        let opened = tables.latest(&name).await.map_err(external)?;
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
