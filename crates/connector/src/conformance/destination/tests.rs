//! The kit finds each fault: a destination that writes to memory, and breaks one promise at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_event_model::Reason;
use serde_json::json;

use super::*;
use crate::conformance::events::ordinary_item;
use crate::{ConnectorError, HttpRequest, ItemOutcome, Limits, Payload, Prepared, RequestBody};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Undescribed,
    ContentCheck,
    WritingCheck,
    PanicsOnChanges,
    ForgetsOne,
    TakesFew,
    Reverses,
    MapsInTwoWays,
    WritesWhenMapping,
    WritesWithoutItems,
    TellsSecrets,
    Loses,
    Hangs,
}

const SECRET: &str = "secret-of-a-test";

struct Memory {
    rows: Arc<Mutex<Vec<Bytes>>>,
    reachable: bool,
    fault: Fault,
    mapped: AtomicU64,
}

impl Memory {
    fn write(&self, row: Bytes) {
        self.rows.lock().unwrap().push(row);
    }

    fn outcome(&self, prepared: &Prepared) -> ItemOutcome {
        let reason = |text: &str| Reason::new("memory", text);
        if !self.reachable {
            return match self.fault {
                Fault::Loses => ItemOutcome::Rejected(reason("nobody is there")),
                Fault::TellsSecrets => ItemOutcome::Config(reason(SECRET)),
                _ => ItemOutcome::Transient { after: None, reason: reason("nobody is there") },
            };
        }
        let body = &prepared.requests[0].body;
        if matches!(body, RequestBody::Json(bytes) if bytes.is_empty()) {
            return ItemOutcome::Rejected(reason("it is empty"));
        }
        if let RequestBody::Json(bytes) = body {
            self.write(bytes.clone());
        }
        ItemOutcome::Delivered
    }
}

#[async_trait]
impl Destination for Memory {
    async fn check(&self) -> Result<(), ConnectorError> {
        if self.fault == Fault::WritingCheck {
            self.write(Bytes::new());
        }
        match self.reachable || self.fault == Fault::ContentCheck {
            true => Ok(()),
            false => Err(ConnectorError::pause("memory", "nobody is there")),
        }
    }

    fn limits(&self) -> Limits {
        Limits { max_items: 100, ..Limits::single(1, Duration::from_millis(300)) }
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        let body = match &item.payload {
            Payload::Event(event) => event.body.clone(),
            Payload::Change(_) if self.fault == Fault::PanicsOnChanges => panic!("a change"),
            Payload::Change(change) => change.body.clone(),
            Payload::Document(_) => Bytes::new(),
        };
        if self.fault == Fault::WritesWhenMapping {
            self.write(body.clone());
        }
        let mut request = HttpRequest::new("PUT", "memory");
        if self.fault == Fault::MapsInTwoWays {
            request = request.query("n", self.mapped.fetch_add(1, Ordering::Relaxed).to_string());
        }
        Ok(vec![HttpRequest { body: RequestBody::Json(body), ..request }])
    }

    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        if self.fault == Fault::WritesWithoutItems && batch.is_empty() {
            self.write(Bytes::new());
        }
        if self.fault == Fault::Hangs && !self.reachable {
            std::future::pending::<()>().await;
        }
        let taken = if self.fault == Fault::TakesFew { 50 } else { usize::MAX };
        let many = || ItemOutcome::Oversize(Reason::new("memory", "it is too much"));
        let outcome = |(place, one)| if place < taken { self.outcome(one) } else { many() };
        let mut outcomes: Vec<ItemOutcome> = batch.iter().enumerate().map(outcome).collect();
        match self.fault {
            Fault::ForgetsOne if outcomes.len() > 1 => drop(outcomes.pop()),
            Fault::Reverses => outcomes.reverse(),
            _ => {}
        }
        outcomes
    }
}

fn entry(fault: Fault, rows: &Arc<Mutex<Vec<Bytes>>>) -> DestinationEntry {
    let description = if fault == Fault::Undescribed { "" } else { "Where it writes to." };
    let schema = json!({"properties": {"place": {"type": "string", "description": description}}});
    let rows = Arc::clone(rows);
    let build = move |settings: &Value, _: &Context| -> Result<Arc<dyn Destination>, ConnectorError> {
        let (rows, reachable) = (Arc::clone(&rows), settings["place"] == "here");
        Ok(Arc::new(Memory { rows, reachable, fault, mapped: AtomicU64::new(0) }))
    };
    DestinationEntry::new("memory", "Rows in memory", move || schema.clone(), build)
}

async fn codes(fault: Fault) -> Vec<&'static str> {
    let rows = Arc::new(Mutex::new(Vec::new()));
    let place = Place {
        settings: json!({"place": "here"}),
        nowhere: json!({"place": "nowhere"}),
        secrets: vec![SECRET.to_owned()],
        refused: Some(Item {
            payload: Payload::Document(crate::Document::complete(serde_json::Map::new())),
            ..ordinary_item()
        }),
        look: Box::new(|| Box::pin(std::future::ready(rows.lock().unwrap().len().to_string()))),
    };
    let promises = any_destination(&entry(fault, &rows), place).await;
    broken(&promises).iter().map(|promise| promise.code).collect()
}

#[tokio::test]
async fn each_fault_breaks_its_promise_and_no_other() {
    let cases: [(Fault, &[&str]); 14] = [
        (Fault::None, &[]),
        (Fault::Undescribed, &["D1"]),
        (Fault::ContentCheck, &["D2"]),
        (Fault::PanicsOnChanges, &["D4"]),
        // A count that is wrong is wrong wherever outcomes are counted.
        (Fault::ForgetsOne, &["D4", "D5", "D6"]),
        (Fault::TakesFew, &["D5"]),
        (Fault::Reverses, &["D6"]),
        (Fault::MapsInTwoWays, &["D8"]),
        (Fault::WritesWhenMapping, &["D8"]),
        (Fault::TellsSecrets, &["D11"]),
        (Fault::WritesWithoutItems, &["D13"]),
        (Fault::WritingCheck, &["D14"]),
        (Fault::Loses, &["D15"]),
        (Fault::Hangs, &["D15"]),
    ];
    for (fault, expected) in cases {
        assert_eq!(codes(fault).await, expected, "{fault:?}");
    }
}
