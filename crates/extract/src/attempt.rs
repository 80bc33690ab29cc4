//! One attempt at reading a source: finish what the last left, begin, read each stream, put barriers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use millrace_bus::{BatchLimits, Bus, BusError, Publisher, Start};
use millrace_connector::{ConnectorError, ReadRequest, SourceMessage};
use millrace_event_model::topics::TopicName;
use millrace_event_model::topics::{DEAD_LETTERS, MAX_EVENT_BYTES, RECORDS};
use millrace_event_model::wire::Message;
use millrace_event_model::{
    AttemptId, Barrier, DeadLetter, KeyHasher, PartitionKey, Reason, Record, RecordBody, Stage, StreamSpec,
};
use millrace_service::{SharedClock, Stop};
use millrace_state::{Generations, Lease, StateError, Store};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::recover::{Behind, Unfinished};
use crate::row::row_key;
use crate::service::{RunReport, StreamReport};
use crate::{Cursor, Error, SourceOptions, metrics};

/// Rows published at once. Larger chunks wait longer for their first row; smaller ones pay a round trip
/// to the broker more often.
const MAX_CHUNK_ROWS: usize = 2_000;
/// Bytes published at once: bounds the memory of an attempt.
const MAX_CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Rows between the source and the attempt. When it is full the source waits: that is the backpressure.
const MAX_WAITING_MESSAGES: usize = 1_024;
/// What one look behind the cursor reads at most.
const RECOVERY_BATCH: BatchLimits =
    BatchLimits { max_records: 5_000, max_bytes: 8 * 1024 * 1024, max_wait: Duration::from_millis(500) };
/// Kept, so that a person can see how a source moved; a cursor is about a kilobyte.
const KEPT_CURSORS: u64 = 20;

/// What an attempt works with.
pub(crate) struct Attempt {
    pub(crate) options: SourceOptions,
    pub(crate) bus: Bus,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) store: Store,
    pub(crate) keys: KeyHasher,
    pub(crate) clock: SharedClock,
    pub(crate) stop: Stop,
    pub(crate) lease: Lease,
    pub(crate) lease_ttl: Duration,
    pub(crate) cursor: Cursor,
    /// The generation under which the cursor was stored last.
    pub(crate) cursor_number: u64,
}

impl Attempt {
    /// Reads all streams once.
    ///
    /// # Errors
    /// The attempt counts up to its last barrier; the next goes on from there.
    pub(crate) async fn run(mut self) -> Result<RunReport, Error> {
        let result = self.read_all().await;
        let released = self.lease.release(self.clock.now()).await;
        let report = result?;
        released.map_err(|error| Error::State { source_id: self.options.id, error: Box::new(error) })?;
        Ok(report)
    }

    async fn read_all(&mut self) -> Result<RunReport, Error> {
        self.take_cursor().await?;
        self.finish_barriers().await?;
        self.begin().await?;
        let streams = self.streams().await?;
        let mut report =
            RunReport { source: self.options.id.clone(), attempt: self.lease.epoch(), streams: Vec::new() };
        for stream in streams {
            let spec = self.cursor.next_spec(&stream);
            report.streams.push(self.read_stream(spec).await?);
        }
        Ok(report)
    }

    fn topic(&self) -> TopicName<Record> {
        RECORDS.lane(self.bus.workspace(), &self.options.lane)
    }

    fn cursors(&self) -> Generations<Cursor> {
        Generations::new(self.store.child(&format!("sources/{}/cursor", self.options.id)))
    }

    /// Takes the cursor over and stores it again under the next number, which is the fence: whoever still
    /// reads the source under an older lease has lost that number, and with it the place of its next cursor.
    ///
    /// A source that is new stores where the topic ends now, so that a later recovery need not read what
    /// other sources wrote before.
    async fn take_cursor(&mut self) -> Result<(), Error> {
        if let Some(latest) = self.cursors().latest().await.map_err(|error| self.state_error(error))? {
            self.cursor_number = latest.number;
            return self.append_cursor(latest.value).await;
        }
        let watermarks =
            self.bus.watermarks(self.topic().as_str()).await.map_err(|error| self.bus_error(error))?;
        let after = watermarks.into_iter().map(|(partition, (_, high))| (partition, high)).collect();
        self.append_cursor(Cursor { after, ..Cursor::default() }).await
    }

    /// Finishes barriers that a killed attempt left on some partitions, or did not note in the cursor.
    async fn finish_barriers(&mut self) -> Result<(), Error> {
        let behind = self.behind_cursor().await?;
        let partitions = self.topic().spec().partitions;
        for Unfinished { attempt, barrier, mut after, missing } in
            behind.unfinished(self.cursor.barrier, partitions)
        {
            tracing::info!(source = %self.options.id, barrier = barrier.number, missing = missing.len(),
                "finishing a barrier that an earlier attempt left");
            for partition in missing {
                let record = self.record(attempt, RecordBody::Barrier(Box::new(barrier.clone())));
                after.insert(partition, self.publish_to(partition, &record).await? + 1);
            }
            self.store_cursor(&barrier, &after).await?;
        }
        Ok(())
    }

    async fn behind_cursor(&mut self) -> Result<Behind, Error> {
        let topic = self.topic();
        let watermarks = self.bus.watermarks(topic.as_str()).await.map_err(|error| self.bus_error(error))?;
        // What retention took held no barrier that could still be finished: its rows are gone too.
        let from: BTreeMap<i32, i64> = watermarks
            .iter()
            .map(|(partition, (low, _))| {
                (*partition, self.cursor.after.get(partition).copied().unwrap_or(0).max(*low))
            })
            .collect();
        let mut open: BTreeMap<i32, i64> = watermarks
            .iter()
            .filter(|(partition, (_, high))| from.get(partition).is_some_and(|start| start < high))
            .map(|(partition, (_, high))| (*partition, *high))
            .collect();
        let mut behind = Behind::default();
        let mut reader =
            self.bus.reader(&topic, &from, Start::Earliest).map_err(|error| self.bus_error(error))?;
        while !open.is_empty() {
            if self.stop.is_requested() {
                return Err(self.stopped());
            }
            self.renew_if_due().await?;
            let batch = reader
                .next_batch(&RECOVERY_BATCH, self.stop.token())
                .await
                .map_err(|error| self.bus_error(error))?;
            for received in batch.records {
                let Ok(record) = received.message else { continue };
                if record.source == self.options.id {
                    behind.observe(received.partition, received.offset, record);
                }
            }
            for range in batch.ranges {
                if open.get(&range.partition).is_some_and(|high| range.end >= *high) {
                    open.remove(&range.partition);
                }
            }
        }
        Ok(behind)
    }

    /// Tells every partition that whatever an older attempt left without a barrier is void.
    async fn begin(&self) -> Result<(), Error> {
        for partition in 0..self.topic().spec().partitions {
            self.publish_to(partition, &self.record(self.attempt(), RecordBody::Begin)).await?;
        }
        Ok(())
    }

    /// Asks the source for its streams, which may take longer than the lease.
    async fn streams(&mut self) -> Result<Vec<StreamSpec>, Error> {
        let source = Arc::clone(&self.options.source);
        let mut asking = source.streams();
        let mut renewal = tokio::time::interval(self.lease_ttl / 3);
        loop {
            tokio::select! {
                streams = &mut asking => return streams.map_err(|error| self.source_error(error)),
                _ = renewal.tick() => self.renew().await?,
                () = self.stop.requested() => return Err(self.stopped()),
            }
        }
    }

    async fn read_stream(&mut self, spec: StreamSpec) -> Result<StreamReport, Error> {
        let (sender, messages) = mpsc::channel(MAX_WAITING_MESSAGES);
        let request = ReadRequest { streams: vec![spec.clone()], state: self.cursor.state_for(&spec) };
        let source = Arc::clone(&self.options.source);
        let reading = tokio::spawn(async move { source.read(request, sender).await });
        // Dropping `messages` at the end of `publish_rows` tells the source to stop, whatever happened here.
        let published = self.publish_rows(&spec, messages).await;
        let read = reading.await.map_err(|error| {
            self.source_error(
                ConnectorError::retry("panicked", "the connector stopped unexpectedly").caused_by(error),
            )
        });
        let mut report = published?;
        read?.map_err(|error| self.source_error(error))?;
        self.barrier(&spec, None, true).await?;
        report.barriers += 1;
        Ok(report)
    }

    async fn publish_rows(
        &mut self,
        spec: &StreamSpec,
        mut messages: mpsc::Receiver<SourceMessage>,
    ) -> Result<StreamReport, Error> {
        let mut report = StreamReport { stream: spec.name.clone(), rows: 0, oversize: 0, barriers: 0 };
        let mut chunk = Chunk::default();
        let mut renewal = tokio::time::interval(self.lease_ttl / 3);
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                _ = renewal.tick() => { self.renew().await?; continue }
                () = self.stop.requested() => return Err(self.stopped()),
            };
            match message {
                Some(SourceMessage::Record { stream, namespace, json, emitted_at }) => {
                    let json = self.masked(json)?;
                    let key = row_key(&self.keys, spec, &json).map_err(|error| {
                        self.source_error(ConnectorError::retry("malformed_row", error.to_string()))
                    })?;
                    if json.len() > MAX_EVENT_BYTES {
                        self.set_aside(&stream, &json).await?;
                        report.oversize += 1;
                        continue;
                    }
                    report.rows += 1;
                    let body = RecordBody::Row { stream, namespace, json };
                    chunk.push(Record {
                        source: self.options.id.clone(),
                        attempt: self.attempt(),
                        emitted_at,
                        key,
                        body,
                    });
                    if chunk.is_full() {
                        self.publish(&mut chunk).await?;
                    }
                }
                Some(SourceMessage::State(state)) => {
                    self.publish(&mut chunk).await?;
                    self.barrier(spec, Some(state), false).await?;
                    report.barriers += 1;
                }
                Some(SourceMessage::Log { level, message }) => self.tell(level, &message),
                None => {
                    self.publish(&mut chunk).await?;
                    return Ok(report);
                }
            }
        }
    }

    /// Passes on what the source says. Its running commentary is for whoever asks for it.
    fn tell(&self, level: &str, message: &str) {
        match level {
            "error" | "warn" => tracing::warn!(source = %self.options.id, "{message}"),
            _ => tracing::debug!(source = %self.options.id, "{message}"),
        }
    }

    /// Puts a barrier on every partition, then moves the cursor behind it.
    async fn barrier(
        &mut self,
        spec: &StreamSpec,
        state: Option<Value>,
        complete: bool,
    ) -> Result<(), Error> {
        // All rows are acked by now. A newer attempt may have begun before them: then they are void, this
        // renewal is lost, and no barrier says otherwise. Whose clock says what does not matter.
        self.renew().await?;
        let barrier =
            Barrier { number: self.cursor.barrier + 1, streams: vec![spec.clone()], state, complete };
        let record = self.record(self.attempt(), RecordBody::Barrier(Box::new(barrier.clone())));
        let mut after = BTreeMap::new();
        for partition in 0..self.topic().spec().partitions {
            millrace_service::crash_point("before-barrier");
            after.insert(partition, self.publish_to(partition, &record).await? + 1);
        }
        millrace_service::crash_point("before-cursor");
        self.store_cursor(&barrier, &after).await?;
        metrics::barrier(&self.options.id);
        Ok(())
    }

    async fn store_cursor(&mut self, barrier: &Barrier, after: &BTreeMap<i32, i64>) -> Result<(), Error> {
        self.append_cursor(self.cursor.passed(barrier, after)).await?;
        let keep_from = self.cursor_number.saturating_sub(KEPT_CURSORS);
        self.cursors().prune(keep_from).await.map_err(|error| self.state_error(error))
    }

    async fn append_cursor(&mut self, next: Cursor) -> Result<(), Error> {
        let number = self.cursor_number + 1;
        self.cursors().append(number, &next).await.map_err(|error| self.state_error(error))?;
        self.cursor_number = number;
        self.cursor = next;
        Ok(())
    }

    async fn publish(&self, chunk: &mut Chunk) -> Result<(), Error> {
        if chunk.rows.is_empty() {
            return Ok(());
        }
        let acked = self.publisher.publish(&self.topic(), &chunk.rows).await;
        metrics::rows(&self.options.id, acked.map_err(|error| self.bus_error(error))?.count() as u64);
        *chunk = Chunk::default();
        Ok(())
    }

    /// Publishes to one partition and returns the offset.
    async fn publish_to(&self, partition: i32, record: &Record) -> Result<i64, Error> {
        let acked = self.publisher.publish_to(&self.topic(), partition, record).await;
        Ok(acked.map_err(|error| self.bus_error(error))?.offset)
    }

    /// Keeps a row that no topic takes: its body in state, and a dead letter that says where.
    async fn set_aside(&self, stream: &str, json: &Bytes) -> Result<(), Error> {
        let hash = self.keys.row(stream, json).to_hex();
        let claim = format!("claims/{}/{hash}.json", self.options.id);
        self.store.put(&claim, json.clone()).await.map_err(|error| self.state_error(error))?;
        let letter = DeadLetter {
            stage: Stage::Extract,
            subject: self.options.id.to_string(),
            // It stands in no topic. Where it does stand tells it from others of its source.
            topic: format!("state:{claim}"),
            partition: -1,
            offset: -1,
            reason: Reason::new(
                "row_too_large",
                format!(
                    "a row of stream {stream:?} has {} bytes, the limit is {MAX_EVENT_BYTES}; its body is in state at {claim}",
                    json.len()
                ),
            ),
            at: self.clock.now(),
            original: self
                .record(
                    self.attempt(),
                    RecordBody::Row {
                        stream: stream.to_owned(),
                        namespace: None,
                        json: Bytes::from_static(b"{}"),
                    },
                )
                .encode(),
        };
        let letters = DEAD_LETTERS.of(self.bus.workspace());
        let acked = self.publisher.publish(&letters, [&letter]).await;
        metrics::oversize(&self.options.id, acked.map_err(|error| self.bus_error(error))?.count() as u64);
        Ok(())
    }

    /// The row with personal data masked as the source's policy says.
    fn masked(&self, json: Bytes) -> Result<Bytes, Error> {
        let Some(scanner) = &self.options.privacy else { return Ok(json) };
        let scanned = scanner.scan(&json).map_err(|error| Error::Privacy {
            source_id: self.options.id.clone(),
            problem: error.to_string(),
        })?;
        if scanned.findings.is_empty() {
            return Ok(json);
        }
        Ok(Bytes::from(scanned.body.into_owned()))
    }

    async fn renew_if_due(&mut self) -> Result<(), Error> {
        let third = chrono::Duration::from_std(self.lease_ttl / 3).unwrap_or_default();
        if self.lease.until() - self.clock.now() < third * 2 {
            return self.renew().await;
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let renewed = self.lease.renew(self.clock.now()).await;
        renewed.map_err(|error| self.state_error(error))
    }

    fn attempt(&self) -> AttemptId {
        AttemptId(self.lease.epoch())
    }

    fn record(&self, attempt: AttemptId, body: RecordBody) -> Record {
        let key = PartitionKey([0; 16]);
        Record {
            source: self.options.id.clone(),
            attempt,
            emitted_at: self.clock.now().with_timezone(&Utc),
            key,
            body,
        }
    }

    fn stopped(&self) -> Error {
        Error::Stopped { source_id: self.options.id.clone() }
    }

    fn source_error(&self, error: ConnectorError) -> Error {
        Error::Source { source_id: self.options.id.clone(), error: Box::new(error) }
    }

    fn bus_error(&self, error: BusError) -> Error {
        Error::Bus { source_id: self.options.id.clone(), error: Box::new(error) }
    }

    fn state_error(&self, error: StateError) -> Error {
        let source_id = self.options.id.clone();
        match error {
            StateError::Lost { .. } => Error::TakenOver { source_id },
            error => Error::State { source_id, error: Box::new(error) },
        }
    }
}

/// Rows that wait to be published together.
#[derive(Default)]
struct Chunk {
    rows: Vec<Record>,
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, record: Record) {
        if let RecordBody::Row { json, .. } = &record.body {
            self.bytes += json.len();
        }
        self.rows.push(record);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= MAX_CHUNK_ROWS || self.bytes >= MAX_CHUNK_BYTES
    }
}
