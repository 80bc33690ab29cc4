//! What every destination owes deliver, and what those that speak HTTP owe besides.
//!
//! The tests of an HTTP destination call [`destination`] with its entry and settings that point at a server
//! which answers by script; those of any other call [`any_destination`] with a [`Place`] of its kind. Both
//! end in `assert!(broken(&promises).is_empty())`; `millrace connectors test` shows the same to the author of
//! a YAML file. A promise that cannot be checked says why it is skipped. What only one vendor does (which
//! item of a batch failed) is for the destination's own tests.

mod every;
mod http;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use self::every::Every;
use self::http::Http;
use super::stub::Stub;
use crate::{Context, Destination, DestinationEntry, Item};

/// One promise, and whether it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// `D1` to `D15`.
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

impl Finding {
    /// Of two findings about one promise: the broken one, else the one that was checked.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Broken(told), _) | (_, Self::Broken(told)) => Self::Broken(told),
            (Self::Kept, _) | (_, Self::Kept) => Self::Kept,
            (skipped, Self::Skipped(_)) => skipped,
        }
    }
}

/// Tells what is on the other side now, in words that can be compared.
pub type Look<'t> = Box<dyn Fn() -> BoxFuture<'t, String> + Send + Sync + 't>;

/// What a destination sends to that speaks no HTTP: a folder, a topic.
pub struct Place<'t> {
    /// Settings that work.
    pub settings: Value,
    /// Settings that lead to where nothing can be written.
    pub nowhere: Value,
    /// What of the settings is never told.
    pub secrets: Vec<String>,
    /// An item that is refused there while others are taken; none where there is no such item.
    pub refused: Option<Item>,
    /// What is there now.
    pub look: Look<'t>,
}

/// Checks what every destination owes.
pub async fn any_destination(entry: &DestinationEntry, place: Place<'_>) -> Vec<Promise> {
    let mut promises = vec![described(entry)];
    let destination = match build(entry, &place.settings) {
        Ok(destination) => destination,
        Err(told) => {
            promises.push(check_tells(Finding::Broken(told)));
            return promises;
        }
    };
    let every = Every {
        destination,
        nowhere: build(entry, &place.nowhere).ok(),
        secrets: place.secrets,
        look: place.look,
    };
    let no_http = Finding::Skipped("it speaks no HTTP");
    let (check, mut told) = every.check().await;
    let (nobody, more) = every.nobody().await;
    told.push_str(&more);
    promises.push(check_tells(check));
    let (_, wild, pure) = every.wild_items().await;
    promises.push(whatever_comes(wild));
    promises.push(limits_kept(every.limits().await));
    promises.push(partial_failure(every.refused(place.refused).await));
    promises.push(promise("D7", "429, 5xx and 401 are told apart", no_http.clone()));
    promises.push(repeatable(pure.and(every.repeats())));
    promises.extend(kept_by_deliver());
    promises.push(no_secret(every.reasons(&told)));
    promises.push(promise("D12", "events do not decide who is called", no_http));
    promises.push(empty_batch(every.empty().await));
    promises.push(check_changes_nothing(every.check_changes_nothing().await));
    promises.push(not_waited_for(nobody));
    promises
}

/// Checks what every destination owes, and those that speak HTTP besides. `settings` are good ones for a
/// vendor at this address (`http://127.0.0.1:port`).
pub async fn destination(entry: &DestinationEntry, settings: impl Fn(&str) -> Value) -> Vec<Promise> {
    let mut promises = vec![described(entry)];
    let (stub, gone) = match (Stub::start([]).await, Stub::start([]).await) {
        // Nobody listens on the port of a server that is gone.
        (Ok(stub), Ok(gone)) => (stub, gone.base().to_owned()),
        (Err(error), _) | (_, Err(error)) => {
            let told = format!("no server on the loopback: {error}");
            promises.push(check_tells(Finding::Broken(told)));
            return promises;
        }
    };
    let good = settings(stub.base());
    let destination = match build(entry, &good) {
        Ok(destination) => destination,
        Err(told) => {
            promises.push(check_tells(Finding::Broken(told)));
            return promises;
        }
    };
    let every = Every {
        destination: Arc::clone(&destination),
        nowhere: build(entry, &settings(&gone)).ok(),
        secrets: settings::secrets(entry, &good),
        look: Box::new(|| Box::pin(std::future::ready(format!("{} requests", stub.seen().len())))),
    };
    let http = Http { stub: &stub, destination: destination.as_ref(), secrets: &every.secrets };
    let (check, mut told) = every.check().await;
    let (nobody, more) = every.nobody().await;
    told.push_str(&more);
    promises.push(check_tells(check.and(http.credentials().await)));
    stub.clear();
    let (mapped, wild, pure) = every.wild_items().await;
    promises.push(whatever_comes(wild));
    stub.clear();
    promises.push(limits_kept(every.limits().await.and(http.bodies())));
    promises.push(partial_failure(http.refused().await));
    promises.push(promise("D7", "429, 5xx and 401 are told apart", http.answers().await));
    stub.clear();
    promises.push(repeatable(pure.and(every.repeats())));
    promises.extend(kept_by_deliver());
    promises.push(no_secret(every.reasons(&told).and(http.echoes().await)));
    promises.push(promise("D12", "events do not decide who is called", http::hosts(&mapped)));
    promises.push(empty_batch(every.empty().await));
    promises.push(check_changes_nothing(http.check_changes_nothing().await));
    promises.push(not_waited_for(nobody.and(http.silence().await)));
    promises
}

/// The promises that are broken, for an assertion.
#[must_use]
pub fn broken(promises: &[Promise]) -> Vec<&Promise> {
    promises.iter().filter(|one| matches!(one.finding, Finding::Broken(_))).collect()
}

fn build(entry: &DestinationEntry, settings: &Value) -> Result<Arc<dyn Destination>, String> {
    let context = Context { id: "conformance".to_owned(), work_dir: std::env::temp_dir() };
    let destination = (entry.build)(settings, &context)
        .map_err(|error| format!("it cannot be made with the test's settings: {}", error.full()))?;
    destination.ignore_rate();
    Ok(destination)
}

fn promise(code: &'static str, promise: &'static str, finding: Finding) -> Promise {
    Promise { code, promise, finding }
}

fn described(entry: &DestinationEntry) -> Promise {
    promise("D1", "settings are described, secrets marked", settings::described(entry))
}

fn check_tells(finding: Finding) -> Promise {
    promise("D2", "check tells what is wrong", finding)
}

fn whatever_comes(finding: Finding) -> Promise {
    promise("D4", "whatever comes, no panic, and one outcome each", finding)
}

fn limits_kept(finding: Finding) -> Promise {
    promise("D5", "no call is larger than the limits", finding)
}

fn partial_failure(finding: Finding) -> Promise {
    promise("D6", "a partial failure reaches its items", finding)
}

fn repeatable(finding: Finding) -> Promise {
    promise("D8", "an item sent twice is the same request", finding)
}

fn kept_by_deliver() -> [Promise; 2] {
    let elsewhere = Finding::Skipped("deliver keeps it for all destinations, and its tests prove it");
    [
        promise("D9", "order is kept per key under retries", elsewhere.clone()),
        promise("D10", "a crash loses nothing", elsewhere),
    ]
}

fn no_secret(finding: Finding) -> Promise {
    promise("D11", "no secret in what is told", finding)
}

fn empty_batch(finding: Finding) -> Promise {
    promise("D13", "an empty batch sends nothing", finding)
}

fn check_changes_nothing(finding: Finding) -> Promise {
    promise("D14", "a check changes nothing", finding)
}

fn not_waited_for(finding: Finding) -> Promise {
    promise("D15", "who does not answer is given up in time, and nothing is lost", finding)
}
