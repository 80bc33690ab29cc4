//! `millrace query`: SQL over a warehouse of the config.

use futures::TryStreamExt;
use millrace_columnar::JsonRows;
use millrace_connector::{ConnectorError, Warehouse};
use millrace_service::config::{Config, Mode, WarehouseConfig};
use serde_json::{Map, Value};

use crate::cli::{Output, Place};
use crate::exit::Failure;
use crate::installation::read_config;
use crate::output;

/// `millrace query [--warehouse ID] SQL`.
pub(crate) async fn run(
    place: &Place,
    warehouse: Option<&str>,
    limit: usize,
    sql: &str,
    output: Output,
) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let warehouse = open(pick(&config, warehouse)?, place)?;
    let (columns, rows, more) = rows(warehouse.as_ref(), sql, limit).await?;
    match output {
        Output::Json => rows.iter().for_each(|row| output::line(Value::Object(row.clone()).to_string())),
        Output::Text => output::line(text(&columns, &rows, more)),
    }
    Ok(())
}

/// A warehouse of the config, without Kafka or state.
pub(crate) fn open(
    warehouse: &WarehouseConfig,
    place: &Place,
) -> Result<std::sync::Arc<dyn Warehouse>, Failure> {
    millrace_service::install_tls();
    let id = warehouse.id.to_string();
    let context = millrace_connector::Context { work_dir: place.data_dir.join("work").join(&id), id };
    let settings = warehouse.settings.to_value();
    millrace_connectors::registry()
        .warehouse(&warehouse.kind, &settings, &context)
        .map_err(|error| Failure::Usage(error.full()))
}

fn pick<'c>(config: &'c Config, asked: Option<&str>) -> Result<&'c WarehouseConfig, Failure> {
    let names = || config.warehouses.iter().map(|one| one.id.as_str()).collect::<Vec<_>>().join(", ");
    match (asked, config.warehouses.as_slice()) {
        (Some(id), all) => all.iter().find(|one| one.id.as_str() == id).ok_or_else(|| {
            Failure::Usage(format!("there is no warehouse {id:?} in the config; there are: {}", names()))
        }),
        (None, [only]) => Ok(only),
        (None, []) => Err(Failure::Usage("the config has no warehouse".to_owned())),
        (None, _) => Err(Failure::Usage(format!("say which warehouse with --warehouse: {}", names()))),
    }
}

/// Runs a query and collects at most `limit` rows as JSON objects; the flag says whether there are more.
pub(crate) async fn rows(
    warehouse: &dyn Warehouse,
    sql: &str,
    limit: usize,
) -> Result<(Vec<String>, Vec<Map<String, Value>>, bool), ConnectorError> {
    let stream = warehouse.query(sql).await?;
    let columns = stream.schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut batches = stream.batches;
    let mut rows = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        let objects = JsonRows::new(&batch).map_err(unreadable)?;
        for row in objects.objects() {
            if rows.len() == limit {
                return Ok((columns, rows, true));
            }
            rows.push(row.map_err(unreadable)?);
        }
    }
    Ok((columns, rows, false))
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> ConnectorError {
    ConnectorError::reject("unreadable_row", "a row of the result cannot be shown").caused_by(error)
}

/// How many items the books of a warehouse hold: grows with each commit.
#[cfg(feature = "reverse-etl")]
pub(crate) async fn items_in_books(warehouse: &dyn Warehouse) -> Result<u64, ConnectorError> {
    let sql = "SELECT sum(items) AS items FROM _millrace.counts";
    let (_, rows, _) = rows(warehouse, sql, 1).await?;
    let items = rows.first().and_then(|row| row.get("items"));
    Ok(items.and_then(|items| items.as_u64().or_else(|| items.as_str()?.parse().ok())).unwrap_or_default())
}

fn text(columns: &[String], rows: &[Map<String, Value>], more: bool) -> String {
    let mut text = output::table_of(columns, rows);
    let note = if more { "the first " } else { "" };
    text.push_str(&format!("\n({note}{} {})", rows.len(), if rows.len() == 1 { "row" } else { "rows" }));
    text
}
