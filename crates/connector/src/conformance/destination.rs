//! What every destination owes deliver, checked against a server that answers by script.
//!
//! A destination's tests call [`destination`] with its entry and settings that point at the server, and
//! [`broken`] on what comes of it; `millrace connectors test` shows the same to the author of a YAML file.
//! A promise that cannot be checked here says why it is skipped. What only one vendor does (which item of a
//! batch failed) is for the destination's own tests.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::events::{sample, wild};
use super::stub::{Reply, Stub};
use crate::{
    Context, Destination, DestinationEntry, Document, ErrorKind, HttpRequest, Item, ItemOutcome, Payload,
    Prepared,
};
use millrace_event_model::PartitionKey;

/// One promise, and whether it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// `D1` to `D12`.
    pub code: &'static str,
    /// What is promised.
    pub promise: &'static str,
    /// Whether it is kept.
    pub finding: Finding,
}

/// Whether a promise is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is.
    Kept,
    /// It is not.
    Broken(String),
    /// It could not be checked here, for this reason.
    Skipped(&'static str),
}

/// Events of every kind that are mapped.
const WILD_EVENTS: u64 = 1000;

/// No check may take longer: an operator waits for it.
const CHECK_TIME: Duration = Duration::from_secs(15);

/// More hosts than this, and an event decides who is called.
const MAX_HOSTS: usize = 4;

/// Checks all promises. `settings` are good ones for a vendor at this address (`http://127.0.0.1:port`).
pub async fn destination(entry: &DestinationEntry, settings: impl Fn(&str) -> Value) -> Vec<Promise> {
    let mut promises = vec![promise("D1", "settings are described, secrets marked", described(entry))];
    let stub = match Stub::start([]).await {
        Ok(stub) => stub,
        Err(error) => {
            let told = format!("no server on the loopback: {error}");
            promises.push(promise("D2", "check tells what is wrong", Finding::Broken(told)));
            return promises;
        }
    };
    let good = settings(stub.base());
    let context = Context { id: "conformance".to_owned(), work_dir: std::env::temp_dir() };
    let destination = match (entry.build)(&good, &context) {
        Ok(destination) => destination,
        Err(error) => {
            let told = format!("it cannot be made with the test's settings: {}", error.full());
            promises.push(promise("D2", "check tells what is wrong", Finding::Broken(told)));
            return promises;
        }
    };
    destination.ignore_rate();
    // Nobody listens on the port of a server that is gone.
    let gone = Stub::start([]).await.map(|stub| stub.base().to_owned()).unwrap_or_default();
    let unreachable = (entry.build)(&settings(&gone), &context).ok();
    let kit = Kit { stub, destination, secrets: secrets(entry, &good) };
    promises.push(promise("D2", "check tells what is wrong", kit.check(unreachable).await));
    let (mapped, wild) = kit.wild_events().await;
    promises.push(promise("D4", "whatever comes, no panic, and one outcome each", wild));
    promises.push(promise("D5", "no call is larger than the limits", kit.limits().await));
    promises.push(promise(
        "D6",
        "a partial failure reaches its items",
        Finding::Skipped("how a vendor tells it is its own: a test of the destination shows it"),
    ));
    promises.push(promise("D7", "429, 5xx and 401 are told apart", kit.answers().await));
    promises.push(promise("D8", "an item sent twice is the same request", kit.repeats()));
    let by_deliver = "deliver keeps it for all destinations, and its tests prove it";
    promises.push(promise("D9", "order is kept per key under retries", Finding::Skipped(by_deliver)));
    promises.push(promise("D10", "a crash loses nothing", Finding::Skipped(by_deliver)));
    promises.push(promise("D11", "no secret in what is told", kit.reasons().await));
    promises.push(promise("D12", "events do not decide who is called", hosts(&mapped)));
    promises
}

/// The promises that are broken, for an assertion.
#[must_use]
pub fn broken(promises: &[Promise]) -> Vec<&Promise> {
    promises.iter().filter(|one| matches!(one.finding, Finding::Broken(_))).collect()
}

fn promise(code: &'static str, promise: &'static str, finding: Finding) -> Promise {
    Promise { code, promise, finding }
}

fn described(entry: &DestinationEntry) -> Finding {
    let schema = (entry.schema)();
    if entry.summary.trim().is_empty() {
        return Finding::Broken("it has no summary".to_owned());
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Finding::Broken("its settings have no schema".to_owned());
    };
    for (name, property) in properties {
        if property.get("description").and_then(Value::as_str).unwrap_or_default().trim().len() < 4 {
            return Finding::Broken(format!("setting {name:?} has no description"));
        }
        let named_so = ["secret", "password", "api_key", "token", "access_key", "write_key"]
            .iter()
            .any(|word| name.ends_with(word));
        let text = property.get("type").is_none_or(|kind| kind == "string");
        if named_so && text && !is_secret(property, &schema) {
            return Finding::Broken(format!("setting {name:?} is not marked as a secret"));
        }
    }
    Finding::Kept
}

/// `writeOnly`, here or where a reference leads.
fn is_secret(property: &Value, schema: &Value) -> bool {
    let text = property.to_string();
    if text.contains("\"writeOnly\":true") {
        return true;
    }
    let definitions = schema.get("$defs").and_then(Value::as_object);
    definitions.is_some_and(|definitions| {
        definitions.iter().any(|(name, definition)| {
            text.contains(&format!("#/$defs/{name}\""))
                && definition.to_string().contains("\"writeOnly\":true")
        })
    })
}

/// The values of secret settings.
fn secrets(entry: &DestinationEntry, settings: &Value) -> Vec<String> {
    let schema = (entry.schema)();
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let secret = properties.iter().filter(|(_, property)| is_secret(property, &schema));
    secret.filter_map(|(name, _)| settings.get(name)?.as_str().map(str::to_owned)).collect()
}

/// A destination and the server that it sends to.
struct Kit {
    stub: Stub,
    destination: Arc<dyn Destination>,
    secrets: Vec<String>,
}

impl Kit {
    async fn check(&self, unreachable: Option<Arc<dyn Destination>>) -> Finding {
        self.stub.clear();
        if let Err(error) = self.destination.check().await {
            return Finding::Broken(format!("a vendor that answers 200 fails the check: {}", error.full()));
        }
        self.stub.otherwise(Reply::status(401));
        // A check that only reaches the vendor says nothing about credentials.
        if let Err(error) = self.destination.check().await
            && error.kind != ErrorKind::Pause
        {
            return Finding::Broken("refused credentials are no reason to pause".to_owned());
        }
        let Some(unreachable) = unreachable else { return Finding::Kept };
        match tokio::time::timeout(CHECK_TIME, unreachable.check()).await {
            Err(_) => {
                Finding::Broken(format!("nobody answers, and the check takes longer than {CHECK_TIME:?}"))
            }
            Ok(Ok(())) => Finding::Broken("nobody answers, and the check is content".to_owned()),
            Ok(Err(_)) => Finding::Kept,
        }
    }

    /// Maps what clients may send at their worst, and sends what was mapped.
    async fn wild_events(&self) -> (Vec<HttpRequest>, Finding) {
        self.stub.clear();
        let mut mapped = Vec::new();
        let mut batch = Vec::new();
        for seed in 0..WILD_EVENTS {
            let item = item(seed, wild(seed));
            let made = catch_unwind(AssertUnwindSafe(|| self.destination.transform(&item)));
            match made {
                Err(_) => return (mapped, Finding::Broken(format!("it panics on wild event {seed}"))),
                Ok(Ok(requests)) if !requests.is_empty() => {
                    mapped.extend(requests.iter().cloned());
                    batch.push(Prepared::of(&item, requests));
                }
                Ok(_) => {}
            }
        }
        let max = self.destination.limits().max_items.clamp(1, 100);
        while !batch.is_empty() {
            let part: Vec<Prepared> = batch.drain(..max.min(batch.len())).collect();
            let count = part.len();
            let outcomes = self.destination.deliver(part).await.len();
            if outcomes != count {
                let told = format!("{count} items have {outcomes} outcomes");
                return (mapped, Finding::Broken(told));
            }
        }
        (mapped, Finding::Kept)
    }

    /// A batch as large as deliver ever makes one.
    async fn limits(&self) -> Finding {
        self.stub.clear();
        let limits = self.destination.limits();
        let Some(one) = self.prepared() else { return NO_SAMPLE };
        let size = one.requests.iter().map(|request| request.body.len()).sum::<usize>().max(1);
        let count = limits.max_items.min(limits.max_bytes / size).clamp(1, 10_000);
        let batch = (0..count).map(|number| one_of_another(&one, number)).collect();
        let outcomes = self.destination.deliver(batch).await;
        let undelivered = outcomes.iter().filter(|outcome| **outcome != ItemOutcome::Delivered).count();
        let largest = self.stub.seen().iter().map(|seen| seen.body.len()).max().unwrap_or_default();
        // What joins bodies, and what encodes them, adds a little to each.
        let allowed = limits.max_bytes.saturating_add(limits.max_bytes / 4).max(size.saturating_mul(4));
        match (outcomes.len() == count, undelivered, largest <= allowed) {
            (true, 0, true) => Finding::Kept,
            (_, _, false) => {
                Finding::Broken(format!("a body of {largest} bytes, where {} are allowed", limits.max_bytes))
            }
            _ => Finding::Broken(format!(
                "{undelivered} of {count} items were not delivered to a vendor that answers 200"
            )),
        }
    }

    async fn answers(&self) -> Finding {
        let Some(one) = self.prepared() else { return NO_SAMPLE };
        let cases = [
            ("429 with Retry-After", Reply::status(429).header("retry-after", "7"), "throttled"),
            ("503", Reply::status(503), "transient"),
            ("401", Reply::status(401), "auth"),
            ("200", Reply::status(200), "delivered"),
        ];
        for (answer, reply, expected) in cases {
            self.stub.clear();
            self.stub.otherwise(reply);
            let outcome = self.destination.deliver(vec![one.clone()]).await.into_iter().next();
            let as_expected = match (&outcome, expected) {
                (Some(ItemOutcome::Throttled { after, .. }), "throttled") => {
                    *after == Some(Duration::from_secs(7))
                }
                (Some(ItemOutcome::Transient { .. }), "transient")
                | (Some(ItemOutcome::Auth(_)), "auth")
                | (Some(ItemOutcome::Delivered), "delivered") => true,
                _ => false,
            };
            if !as_expected {
                return Finding::Broken(format!("{answer} should be {expected}, and is {outcome:?}"));
            }
        }
        Finding::Kept
    }

    fn repeats(&self) -> Finding {
        let item = item(0, sample());
        match (self.destination.transform(&item), self.destination.transform(&item)) {
            (Ok(first), Ok(second)) if first == second => Finding::Kept,
            (Err(_), Err(_)) => NO_SAMPLE,
            _ => Finding::Broken("the same item makes different requests".to_owned()),
        }
    }

    /// Vendors that repeat what they were sent, in what goes wrong.
    async fn reasons(&self) -> Finding {
        if self.secrets.is_empty() {
            return Finding::Skipped("no setting is a secret");
        }
        let Some(one) = self.prepared() else { return NO_SAMPLE };
        for status in [400, 401, 403, 422, 500] {
            self.stub.clear();
            let echo = json!({"error": self.secrets.join(" "), "message": self.secrets.join(" ")});
            self.stub.otherwise(Reply::status(status).body(echo.to_string()));
            let mut told = format!("{:?}", self.destination.deliver(vec![one.clone()]).await);
            if let Err(error) = self.destination.check().await {
                told.push_str(&error.full());
            }
            if self.secrets.iter().any(|secret| told.contains(secret.as_str())) {
                return Finding::Broken(format!("a secret is told after an answer {status}"));
            }
        }
        Finding::Kept
    }

    /// An ordinary event, ready to send.
    fn prepared(&self) -> Option<Prepared> {
        let item = item(0, sample());
        let requests = self.destination.transform(&item).ok().filter(|requests| !requests.is_empty())?;
        Some(Prepared::of(&item, requests))
    }
}

/// The same of another person: so that all of them may be under way at once.
fn one_of_another(one: &Prepared, number: usize) -> Prepared {
    let key = PartitionKey((number as u128).to_be_bytes());
    Prepared { id: number.to_string(), key, ..one.clone() }
}

const NO_SAMPLE: Finding = Finding::Skipped("an ordinary event makes no request here");

fn item(number: u64, fields: Map<String, Value>) -> Item {
    Item {
        id: format!("conformance/{number}"),
        key: PartitionKey(u128::from(number).to_be_bytes()),
        payload: Payload::Document(Document::complete(fields)),
    }
}

fn hosts(mapped: &[HttpRequest]) -> Finding {
    let host = |request: &HttpRequest| {
        let (_, behind) = request.url.split_once("://")?;
        behind.split(['/', '?', '#']).next().map(str::to_owned)
    };
    let hosts: BTreeSet<String> = mapped.iter().filter_map(host).collect();
    match hosts.len() {
        0 => Finding::Skipped("nothing was mapped"),
        1..=MAX_HOSTS => Finding::Kept,
        many => Finding::Broken(format!("events made requests to {many} hosts")),
    }
}
