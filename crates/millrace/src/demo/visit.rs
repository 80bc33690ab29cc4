//! Looking at each stop of the river: sends the sample, then reads topics, lake and receiver.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_bus::Received;
use millrace_connector::Warehouse;
use millrace_event_model::topics::{CHANGES, EVENTS, OUTCOMES, RECORDS};
use millrace_event_model::{Disposition, Lane, Origin, Outcome, RecordBody};
use millrace_reverse_etl::RunReport;
use millrace_service::{Stop, Tasks};
use serde_json::{Map, Value};

use super::PATIENCE;
use super::config::{SYNC, WRITE_KEY};
use super::receiver::Receiver;
use super::sample::Sample;
use crate::commands::query;
use crate::commands::serve::Endpoints;
use crate::exit::Failure;
use crate::installation::Installation;
use crate::stages;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Rows of a table that are shown.
const SHOWN_ROWS: usize = 4;

/// What the demo has at hand while it looks.
pub(super) struct Visit<'i> {
    installation: &'i Installation,
    lake: Arc<dyn Warehouse>,
    ingest: String,
    receiver: Receiver,
}

/// How ingest answered, by status.
pub(super) type Answers = BTreeMap<u16, u64>;

/// What a topic holds.
pub(super) struct TopicCount {
    pub(super) topic: String,
    pub(super) records: u64,
    /// How many of each type or stream.
    pub(super) kinds: BTreeMap<String, u64>,
    /// Records that hold personal data of the sample in the clear.
    pub(super) in_the_clear: u64,
}

/// The columns and rows of a query.
pub(super) type Rows = (Vec<String>, Vec<Map<String, Value>>);

/// What the loader's books and tables say.
pub(super) struct Loaded {
    /// Items by source and how they ended.
    pub(super) books: BTreeMap<(String, String), u64>,
    /// Items that Kafka holds, by source.
    pub(super) received: BTreeMap<String, u64>,
    /// Rows of each table.
    pub(super) tables: Vec<(String, u64)>,
    /// A few rows of some tables, each under its title.
    pub(super) shown: Vec<(String, Rows)>,
    /// Cells with personal data of the sample in the clear.
    pub(super) in_the_clear: u64,
}

/// What deliver's outcomes and the receiver say.
pub(super) struct Delivered {
    pub(super) received: u64,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) at_receiver: u64,
    pub(super) retried: u64,
    pub(super) badly_signed: u64,
}

/// What reverse ETL published and what became of it.
pub(super) struct Synced {
    pub(super) first: RunReport,
    pub(super) again: RunReport,
    pub(super) changes: u64,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) at_receiver: u64,
    pub(super) example: Option<Value>,
}

impl<'i> Visit<'i> {
    pub(super) fn new(
        installation: &'i Installation,
        endpoints: &Endpoints,
        receiver: Receiver,
    ) -> Result<Self, Failure> {
        let address = endpoints.ingest.ok_or_else(|| Failure::Failed("ingest does not listen".to_owned()))?;
        let lake = installation.config.warehouses.first();
        let lake = lake.ok_or_else(|| Failure::Failed("the demo has no lake".to_owned()))?;
        let lake = installation.warehouse(lake)?;
        Ok(Self { installation, lake, ingest: format!("http://{address}"), receiver })
    }

    /// Sends the sample, and three requests that ingest must refuse.
    pub(super) async fn send(&self, sample: &Sample) -> Result<Answers, Failure> {
        let client = reqwest::Client::new();
        let mut answers = Answers::new();
        let refused: [(&str, &str, String); 3] = [
            ("no-such-key", "/v1/track", "{\"event\":\"x\",\"userId\":\"u\"}".to_owned()),
            (WRITE_KEY, "/v1/track", "{\"event\": not json".to_owned()),
            (WRITE_KEY, "/v1/track", format!("{{\"userId\":\"u\",\"event\":\"{}\"}}", "x".repeat(4_200_000))),
        ];
        let wanted = sample.requests.iter().map(|(path, body)| (WRITE_KEY, *path, body.to_string()));
        for (key, path, body) in wanted.chain(refused) {
            let request = client.post(format!("{}{path}", self.ingest)).basic_auth(key, Some("")).body(body);
            let response =
                request.send().await.map_err(|error| Failure::Failed(format!("ingest: {error}")))?;
            *answers.entry(response.status().as_u16()).or_default() += 1;
        }
        Ok(answers)
    }

    pub(super) async fn events_topic(&self, canaries: &[String]) -> Result<TopicCount, Failure> {
        let topic = EVENTS.lane(self.installation.bus.workspace(), &Lane::main());
        let all = self.installation.bus.read_all(&topic).await?;
        let mut kinds = BTreeMap::new();
        for event in all.iter().filter_map(|received| received.message.as_ref().ok()) {
            *kinds.entry(event.event_type.to_string()).or_default() += 1;
        }
        let in_the_clear = all.iter().filter(|received| holds_any(received, canaries)).count() as u64;
        Ok(TopicCount { topic: topic.as_str().to_owned(), records: all.len() as u64, kinds, in_the_clear })
    }

    /// Waits until every stream of the ELT source is complete in Kafka.
    pub(super) async fn records_topic(&self) -> Result<TopicCount, Failure> {
        until("the ELT source is read", || async {
            let topic = RECORDS.lane(self.installation.bus.workspace(), &Lane::main());
            let all = self.installation.bus.read_all(&topic).await?;
            let mut kinds = BTreeMap::new();
            let mut complete = BTreeSet::new();
            for record in all.into_iter().filter_map(|received| received.message.ok()) {
                match record.body {
                    RecordBody::Row { stream, .. } => *kinds.entry(stream).or_default() += 1,
                    RecordBody::Barrier(barrier) if barrier.complete => {
                        complete.extend(barrier.streams.into_iter().map(|stream| stream.name));
                    }
                    RecordBody::Barrier(_) | RecordBody::Begin => {}
                }
            }
            let records = kinds.values().sum();
            let topic = topic.as_str().to_owned();
            Ok((complete.len() == 2).then_some(TopicCount { topic, records, kinds, in_the_clear: 0 }))
        })
        .await
    }

    /// Waits until the books of the lake have an entry for every item that Kafka holds.
    pub(super) async fn loaded(&self, canaries: &[String]) -> Result<Loaded, Failure> {
        let events = self.events_topic(&[]).await?.records;
        let records = self.records_topic().await?.records;
        let received = BTreeMap::from([("web".to_owned(), events), ("crm".to_owned(), records)]);
        let books = until("everything is in the lake", || async {
            let books = self.books().await;
            let settled = received.iter().all(|(source, count)| {
                let ended: u64 =
                    books.iter().filter(|((other, _), _)| other == source).map(|(_, items)| items).sum();
                ended >= *count
            });
            Ok(settled.then_some(books))
        })
        .await?;
        // A full refresh is loaded first and swapped in when it is complete.
        let tables = until("every full refresh is swapped in", || async {
            let tables = self.tables().await?;
            let rows: u64 =
                tables.iter().filter(|(name, _)| name.starts_with("crm.")).map(|(_, rows)| rows).sum();
            Ok((rows == records).then_some(tables))
        })
        .await?;
        let mut in_the_clear = 0;
        for (table, _) in &tables {
            let rows = self.query(&format!("SELECT * FROM {table}"), 10_000).await?.1;
            let cells = rows.iter().flat_map(|row| row.values());
            in_the_clear += cells
                .filter(|cell| canaries.iter().any(|canary| cell.to_string().contains(canary)))
                .count() as u64;
        }
        let mut shown = Vec::new();
        for (title, sql) in [
            (
                "web.order_completed",
                "SELECT user_id, order_id, total, note, received_at FROM web.order_completed ORDER BY order_id",
            ),
            ("web.users", "SELECT id, plan, logins, email FROM web.users ORDER BY id"),
            (
                "web.rudder_discards (schema drift)",
                "SELECT table_name, column_name, column_value, reason FROM web.rudder_discards ORDER BY column_value",
            ),
            (
                "crm.customers",
                "SELECT id, company, seats, spend, active, updated_at FROM crm.customers ORDER BY id",
            ),
        ] {
            shown.push((title.to_owned(), self.query(sql, SHOWN_ROWS).await?));
        }
        Ok(Loaded { books, received, tables, shown, in_the_clear })
    }

    async fn tables(&self) -> Result<Vec<(String, u64)>, Failure> {
        let sql = "SELECT table_schema, table_name FROM information_schema.tables \
                   WHERE table_schema IN ('web', 'crm') ORDER BY 1 DESC, 2";
        let mut tables = Vec::new();
        for row in self.query(sql, 200).await?.1 {
            let table = format!("{}.{}", text(&row, "table_schema"), text(&row, "table_name"));
            let rows = self.query(&format!("SELECT count(*) AS n FROM {table}"), 1).await?.1;
            tables.push((table, rows.first().and_then(|row| row["n"].as_u64()).unwrap_or_default()));
        }
        Ok(tables)
    }

    async fn books(&self) -> BTreeMap<(String, String), u64> {
        // The books are made with the first load: until then there are none.
        let sql = "SELECT source, disposition, sum(items) AS items FROM _millrace.counts GROUP BY 1, 2";
        let rows = self.query(sql, 1_000).await.map(|(_, rows)| rows).unwrap_or_default();
        let entry = |row: &Map<String, Value>| {
            ((text(row, "source"), text(row, "disposition")), row["items"].as_u64().unwrap_or_default())
        };
        rows.iter().map(entry).collect()
    }

    /// Waits until every event has an outcome of the webhook.
    pub(super) async fn delivered(&self) -> Result<Delivered, Failure> {
        let received = self.events_topic(&[]).await?.records;
        let outcomes = until("every event has an outcome of the webhook", || async {
            let outcomes = self.outcomes(|origin| !matches!(origin, Origin::Change { .. })).await?;
            Ok((outcomes.values().sum::<u64>() >= received).then_some(outcomes))
        })
        .await?;
        Ok(self.receiver.look(|at| Delivered {
            received,
            outcomes,
            at_receiver: at.accepted.keys().filter(|id| !is_of_sync(id)).count() as u64,
            retried: at.refused as u64,
            badly_signed: at.badly_signed as u64,
        }))
    }

    /// Runs the sync, waits for the outcomes of its changes, and runs it again: nothing has changed.
    pub(super) async fn synced(&self) -> Result<Synced, Failure> {
        let stop = Stop::new();
        let mut tasks = Tasks::new(stop.clone());
        let service = stages::reverse_etl(self.installation, &mut tasks, &stop).await?;
        let failed = |error: millrace_reverse_etl::Error| Failure::Failed(error.to_string());
        let first = service.run_once(SYNC, &stop).await.map_err(failed)?;
        let topic = CHANGES.of(self.installation.bus.workspace());
        let changes = self.installation.bus.read_all(&topic).await?.len() as u64;
        let outcomes = until("every change has an outcome", || async {
            let outcomes = self.outcomes(|origin| matches!(origin, Origin::Change { .. })).await?;
            Ok((outcomes.values().sum::<u64>() >= changes).then_some(outcomes))
        })
        .await?;
        let again = service.run_once(SYNC, &stop).await.map_err(failed)?;
        let (at_receiver, example) = self.receiver.look(|at| {
            let ours: Vec<_> = at.accepted.iter().filter(|(id, _)| is_of_sync(id)).collect();
            (ours.len() as u64, ours.first().map(|(_, body)| (*body).clone()))
        });
        Ok(Synced { first, again, changes, outcomes, at_receiver, example })
    }

    async fn outcomes(&self, of: impl Fn(&Origin) -> bool) -> Result<BTreeMap<&'static str, u64>, Failure> {
        let topic = OUTCOMES.of(self.installation.bus.workspace());
        let mut counts = BTreeMap::new();
        for outcome in
            self.installation.bus.read_all(&topic).await?.into_iter().filter_map(|one| one.message.ok())
        {
            if of(&outcome.origin) {
                *counts.entry(name(outcome.disposition)).or_default() += items(&outcome);
            }
        }
        Ok(counts)
    }

    async fn query(&self, sql: &str, limit: usize) -> Result<Rows, Failure> {
        let (columns, rows, _) = query::rows(self.lake.as_ref(), sql, limit).await?;
        Ok((columns, rows))
    }
}

fn items(outcome: &Outcome) -> u64 {
    match outcome.origin {
        Origin::Events { count, .. } => count,
        Origin::Event { .. } | Origin::Change { .. } => 1,
    }
}

fn name(disposition: Disposition) -> &'static str {
    disposition.as_str()
}

fn is_of_sync(webhook_id: &str) -> bool {
    webhook_id.strip_prefix(SYNC).is_some_and(|rest| rest.starts_with('/'))
}

fn holds_any<M>(received: &Received<M>, canaries: &[String]) -> bool {
    let value = received.raw.value.as_deref().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    canaries.iter().any(|canary| value.contains(canary))
}

fn text(row: &Map<String, Value>, column: &str) -> String {
    row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Looks again and again until there is an answer.
async fn until<T, F: Future<Output = Result<Option<T>, Failure>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        if let Some(answer) = look().await? {
            return Ok(answer);
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::Failed(format!(
                "after {} s it is still not true that {what}",
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
