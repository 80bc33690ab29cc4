//! Queries, streamed as Arrow batches of bounded size.
//!
//! A query runs in a read-only transaction on a session of its own, through a portal: the server computes
//! rows as they are fetched, so memory stays flat however many there are. Dropping the stream cancels it.
//!
//! | PostgreSQL | Arrow |
//! |---|---|
//! | smallint, integer, bigint, oid | Int64 |
//! | real, double precision | Float64 |
//! | numeric(p, s) with p ≤ 38 | Decimal128(p, s) |
//! | other numeric | Float64, as our own float columns are; a whole number that no double is, is an error |
//! | boolean | Boolean |
//! | timestamptz | Timestamp(µs, UTC); infinities are null |
//! | timestamp | Timestamp(µs); infinities are null |
//! | date | Date32; infinities are null |
//! | text, varchar, char, name, enums | Utf8 |
//! | json, jsonb | Utf8, marked as `json` in the field's metadata |
//! | arrays, rows | Utf8, marked as `json`: what `to_jsonb` makes of them |
//! | bytea | Binary |
//! | all else (uuid, inet, interval, …) | Utf8, as the server prints it |

use std::sync::Arc;

use futures::stream;
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::datatypes::{Schema, SchemaRef};
use millrace_connector::{ConnectorError, QueryStream};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, Row, Statement, Transaction};

use super::client::Sessions;
use super::ddl::quote;
use super::error::{During, Failure};
use super::rows::{self, Decoder};

/// Rows of the first fetch, before their size is known.
const FIRST_FETCH: usize = 100;
/// What one batch is to hold.
const BATCH_BYTES: usize = 4 << 20;
/// The most rows of a batch, however small.
const MAX_FETCH: usize = 20_000;
/// Batches that wait for the reader: one, so that the server works while the reader does.
const WAITING_BATCHES: usize = 1;

/// What the stream gets; `None` is the end of the rows. A channel that closes without it was cut off: taken
/// for the end, it would make a sync believe that the missing rows are gone.
type Fetched = Option<Result<RecordBatch, ConnectorError>>;

type Batches = mpsc::Sender<Fetched>;

/// Starts a query.
pub(super) async fn run(sessions: &Sessions, sql: &str) -> Result<QueryStream, ConnectorError> {
    let what = sessions.doing("query of");
    let (client, permit) = sessions.for_query().await?;
    let tls = sessions.tls();
    let cancel = client.cancel_token();
    let sql = sql.trim().trim_end_matches(';').to_owned();
    let (started, start) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(WAITING_BATCHES);
    // Ends with the query or when the stream is dropped, whichever is first: `closed` below.
    tokio::spawn(async move {
        let dropped = sender.clone();
        tokio::select! {
            () = execute(client, &sql, &what, started, sender) => {}
            () = dropped.closed() => {
                // The session is closed now; this stops what the server is still computing.
                if let Err(error) = cancel.cancel_query(tls).await {
                    tracing::debug!(%error, "a dropped query could not be cancelled");
                }
            }
        }
        drop(permit);
    });
    let schema = start.await.map_err(|_| cut_off())??;
    let batches = stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(fetched) => fetched.map(|batch| (batch, Some(receiver))),
            None => Some((Err(cut_off()), None)),
        }
    });
    Ok(QueryStream { schema, batches: Box::pin(batches) })
}

fn cut_off() -> ConnectorError {
    ConnectorError::retry("cut_off", "the query was cut off in the middle")
}

async fn execute(
    mut client: Client,
    sql: &str,
    what: &str,
    started: oneshot::Sender<Result<SchemaRef, ConnectorError>>,
    batches: Batches,
) {
    let mut started = Some(started);
    let fetched = fetch(&mut client, sql, &mut started, &batches).await;
    let last = fetched.err().map(|failure| Err(failure.classify(During::Query, what)));
    // Nobody listens any more only if the stream was dropped.
    match (started, last) {
        (Some(started), Some(Err(error))) => drop(started.send(Err(error))),
        (_, last) => drop(batches.send(last).await),
    }
}

async fn fetch(
    client: &mut Client,
    sql: &str,
    started: &mut Option<oneshot::Sender<Result<SchemaRef, ConnectorError>>>,
    batches: &Batches,
) -> Result<(), Failure> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    let (statement, columns) = prepare(&transaction, sql).await?;
    let schema = schema_of(&columns);
    if let Some(started) = started.take() {
        let _ = started.send(Ok(schema.clone()));
    }
    let portal = transaction.bind(&statement, &[]).await?;
    let mut wanted = FIRST_FETCH;
    loop {
        let rows = transaction.query_portal(&portal, i32::try_from(wanted).unwrap_or(i32::MAX)).await?;
        if !rows.is_empty() {
            let batch = rows::to_batch(&rows, &columns, &schema)?;
            if batches.send(Some(Ok(batch))).await.is_err() {
                return Ok(());
            }
        }
        if rows.len() < wanted {
            return Ok(());
        }
        wanted = next_fetch(&rows);
    }
}

/// As many rows like these as fill a batch.
fn next_fetch(rows: &[Row]) -> usize {
    let bytes: usize = rows.iter().map(Row::raw_size_bytes).sum();
    let each = bytes / rows.len().max(1);
    (BATCH_BYTES / each.max(1)).clamp(1, MAX_FETCH)
}

fn schema_of(columns: &[(String, Decoder)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, decoder)| decoder.field(name));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The statement, and how each of its columns is read. Columns of types that have no Arrow type are
/// turned into text or JSON by the server: then the query becomes a subquery.
async fn prepare(
    transaction: &Transaction<'_>,
    sql: &str,
) -> Result<(Statement, Vec<(String, Decoder)>), Failure> {
    let statement = transaction.prepare(sql).await?;
    if statement.columns().is_empty() {
        // COPY … TO PROGRAM would be one, and a read-only transaction does not stop it.
        return Err(
            ConnectorError::reject("not_a_query", "the statement returns no rows: it is no query").into()
        );
    }
    if !statement.params().is_empty() {
        return Err(ConnectorError::reject(
            "parameters",
            "the query has parameters ($1), which nobody fills",
        )
        .into());
    }
    let columns: Vec<(String, Decoder)> = statement
        .columns()
        .iter()
        .map(|column| (column.name().to_owned(), Decoder::new(column.type_(), column.type_modifier())))
        .collect();
    if columns.iter().all(|(name, decoder)| decoder.cast(name).is_none()) {
        return Ok((statement, columns));
    }
    let statement = transaction.prepare(&wrap(sql, &columns)?).await?;
    Ok((statement, columns))
}

/// The same rows in the same order, with the columns that need it turned into text. The columns get names
/// of their own inside, since a query's names may be anything, twice the same even.
fn wrap(sql: &str, columns: &[(String, Decoder)]) -> Result<String, ConnectorError> {
    let inner: Vec<String> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    let mut outer = Vec::with_capacity(columns.len());
    for ((name, decoder), own) in columns.iter().zip(&inner) {
        let value = decoder.cast(own).unwrap_or_else(|| own.clone());
        outer.push(format!("{value} AS {}", quote(name)?));
    }
    // The line break ends a comment at the end of the query.
    Ok(format!("SELECT {} FROM ({sql}\n) AS q ({})", outer.join(", "), inner.join(", ")))
}
