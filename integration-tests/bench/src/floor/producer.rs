//! librdkafka's producer in a loop: the same values, keys and headers as ingest's records, the same
//! settings, and as many messages under way as the generator's connections keep in ingest; or, for its
//! latency, as many messages a second as ingest is given.

use std::iter::Cycle;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use millrace_bus::ReplicationPolicy;
use millrace_event_model::topics::EVENTS;
use millrace_event_model::wire::{Message, WireRecord};
use millrace_event_model::{Event, KeyHasher, MessageId, rudder_id};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::gateway::{bus, lane, source};
use crate::latency::{Latencies, Latency};
use crate::process::Cpu;
use crate::workload::{WORKSPACE_KEY, WRITE_KEYS, Workload, scanner};

/// After the window, what is under way is waited for; in an open loop, a broker that is short of time may be seconds behind.
const FLUSH: Duration = Duration::from_secs(120);

/// What to produce, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct ProducerArgs {
    /// Whose events.
    #[arg(long)]
    workload: Workload,
    /// Kafka, `host:port`.
    #[arg(long)]
    brokers: String,
    /// Its topics are made if they are not there.
    #[arg(long)]
    workspace: String,
    /// Messages under way at most.
    #[arg(long)]
    in_flight: u64,
    /// As ingest's.
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
    /// Messages per second, in an open loop; without it the loop is closed.
    #[arg(long)]
    rate: Option<f64>,
    /// Sent and not measured.
    #[arg(long, default_value_t = 3.0)]
    warm_up_s: f64,
    /// The window of measurement.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProducerReport {
    pub(crate) seconds: f64,
    /// Acked in the window.
    pub(crate) events: u64,
    pub(crate) cpu: Cpu,
    /// In an open loop, from when a message was due to its acknowledgement.
    pub(crate) latency: Latency,
}

/// Produces, and prints the report as JSON.
pub(crate) fn run(args: &ProducerArgs) -> Result<(), BenchError> {
    let compression = args.workload.shape().compression;
    let topic = topic(args, compression)?;
    let records = records(args.workload)?;
    let acks = Arc::new(Acks {
        begin: Instant::now(),
        delivered: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        wake_at: AtomicU64::new(u64::MAX),
        sender: std::thread::current(),
        latencies: Mutex::new(Latencies::new()?),
    });
    let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", &args.brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", compression)
        .set("linger.ms", args.linger_ms.to_string())
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "1000000")
        .create_with_context(Deliveries(Arc::clone(&acks)))
        .map_err(BenchError::kafka("make the producer"))?;

    let mut sender =
        Sender { producer: &producer, topic, records: records.iter().cycle(), acks: &acks, sent: 0 };
    sender.send_for(args, args.warm_up_s, false)?;
    let (began, delivered, cpu) = (Instant::now(), acks.delivered(), Cpu::of(std::process::id())?);
    sender.send_for(args, args.seconds, true)?;
    let (seconds, events) = (began.elapsed().as_secs_f64(), acks.delivered() - delivered);
    let cpu = Cpu::of(std::process::id())?.since(cpu);
    producer.flush(FLUSH).map_err(BenchError::kafka("flush the producer"))?;
    if acks.failed.load(Ordering::Relaxed) > 0 {
        return Err(BenchError::Void("the producer's floor lost messages".to_owned()));
    }
    let report = ProducerReport { seconds, events, cpu, latency: acks.latencies().summary() };
    let json = serde_json::to_string(&report).map_err(|error| BenchError::Failed(error.to_string()))?;
    crate::print_line(&json);
    Ok(())
}

fn topic(args: &ProducerArgs, compression: &str) -> Result<String, BenchError> {
    let bus = bus(&args.brokers, &args.workspace, compression)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start the runtime"))?;
    runtime.block_on(bus.provision(&[lane()?], ReplicationPolicy::Single))?;
    Ok(EVENTS.lane(bus.workspace(), &lane()?).as_str().to_owned())
}

/// What sends, in a closed loop or in an open one.
struct Sender<'p> {
    producer: &'p ThreadedProducer<Deliveries>,
    topic: String,
    records: Cycle<slice::Iter<'p, Prepared>>,
    acks: &'p Acks,
    sent: u64,
}

impl Sender<'_> {
    fn send_for(&mut self, args: &ProducerArgs, seconds: f64, measured: bool) -> Result<(), BenchError> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < end {
            match args.rate {
                Some(rate) => self.send_due(rate, args.workload.shape().events_per_request(), measured)?,
                None => self.send_acked(args.in_flight)?,
            }
        }
        Ok(())
    }

    /// As many as have come back.
    fn send_acked(&mut self, in_flight: u64) -> Result<(), BenchError> {
        // Looks at the clock and the acks once for several messages.
        let room = in_flight - self.acks.under_way(self.sent);
        self.send(room, NOT_MEASURED)?;
        self.acks.wait_for_half(self.sent, in_flight);
        Ok(())
    }

    /// As many together as a request has.
    fn send_due(&mut self, rate: f64, together: f64, measured: bool) -> Result<(), BenchError> {
        let due = Duration::from_secs_f64(self.sent as f64 / rate);
        std::thread::sleep(due.saturating_sub(self.acks.begin.elapsed()));
        let due = if measured { due.as_micros() as usize } else { NOT_MEASURED };
        self.send(together as u64, due)
    }

    fn send(&mut self, count: u64, due: usize) -> Result<(), BenchError> {
        for prepared in self.records.by_ref().take(count as usize) {
            prepared.send(self.producer, &self.topic, due)?;
            self.sent += 1;
        }
        Ok(())
    }
}

/// In place of the microsecond at which a message was due.
const NOT_MEASURED: usize = 0;

/// A record whose headers are already in the library's form.
struct Prepared {
    record: WireRecord,
    headers: OwnedHeaders,
}

impl Prepared {
    fn send(
        &self,
        producer: &ThreadedProducer<Deliveries>,
        topic: &str,
        due: usize,
    ) -> Result<(), BenchError> {
        let mut base: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(topic, due).headers(self.headers.clone());
        base.key = self.record.key.as_deref();
        base.payload = self.record.value.as_deref();
        producer.send(base).map_err(|(error, _)| BenchError::Kafka { doing: "produce", source: error })
    }
}

/// What ingest would have stored.
fn records(workload: Workload) -> Result<Vec<Prepared>, BenchError> {
    let shape = workload.shape();
    let scanner = shape.masked.then(scanner);
    let keys = KeyHasher::new(&WORKSPACE_KEY);
    let mut prepared = Vec::new();
    for (number, sample) in shape.samples().into_iter().enumerate() {
        let user_id = sample.user_id.unwrap_or_default();
        let body = match &scanner {
            Some(scanner) => {
                scanner.scan(sample.json.as_bytes()).map_err(BenchError::corpus)?.body.into_owned()
            }
            None => sample.json.into_bytes(),
        };
        let event = Event {
            event_type: sample.event_type.into(),
            message_id: MessageId(sample.message_id),
            rudder_id: rudder_id(&user_id, &sample.anonymous_id),
            received_at: chrono::DateTime::UNIX_EPOCH,
            sent_at: None,
            request_ip: Some("127.0.0.1".into()),
            geo: None,
            source: source(number % WRITE_KEYS)?,
            policy: scanner.as_ref().map(|scanner| scanner.policy().version("strict").into()),
            traceparent: None,
            key: keys.person(&sample.anonymous_id, &user_id),
            body: body.into(),
        };
        let record = event.encode();
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value.as_ref()) });
        }
        prepared.push(Prepared { record, headers });
    }
    Ok(prepared)
}

/// Counts what comes back, and wakes the sender when half of what was under way has.
struct Acks {
    begin: Instant,
    delivered: AtomicU64,
    failed: AtomicU64,
    wake_at: AtomicU64,
    sender: Thread,
    latencies: Mutex<Latencies>,
}

impl Acks {
    fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    fn settled(&self) -> u64 {
        self.delivered() + self.failed.load(Ordering::Relaxed)
    }

    fn latencies(&self) -> MutexGuard<'_, Latencies> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self, sent: u64) -> u64 {
        sent - self.settled()
    }

    fn wait_for_half(&self, sent: u64, in_flight: u64) {
        /// Should a wake-up slip through between the two looks, this ends the wait.
        const AT_MOST: Duration = Duration::from_millis(5);
        let goal = sent - in_flight / 2;
        self.wake_at.store(goal, Ordering::Relaxed);
        if self.settled() < goal {
            std::thread::park_timeout(AT_MOST);
        }
    }
}

struct Deliveries(Arc<Acks>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// The microsecond at which the message was due.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        if due != NOT_MEASURED {
            let latency = self.0.begin.elapsed().saturating_sub(Duration::from_micros(due as u64));
            self.0.latencies().record(latency);
        }
        let settled = match result {
            Ok(_) => self.0.delivered.fetch_add(1, Ordering::Relaxed),
            Err((_, _)) => self.0.failed.fetch_add(1, Ordering::Relaxed),
        } + 1;
        if settled == self.0.wake_at.load(Ordering::Relaxed) {
            self.0.sender.unpark();
        }
    }
}
