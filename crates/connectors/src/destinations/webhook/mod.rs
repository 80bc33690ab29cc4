//! The webhook destination: each event or change is one signed POST. It is the connector to fork.
//!
//! A destination is three steps, each in its own file:
//! 1. `map`: what does one item look like over there? Pure, so `preview requests` shows the same.
//! 2. `client`: send it.
//! 3. `client::classify`: what does the answer mean? One `match` that reads as a table.
//!
//! There is nothing else. Retries, backoff, order, parking, dead letters, outcomes and metrics belong to
//! the `deliver` stage, which acts on the [`ItemOutcome`] alone. `config` is the reference page: its doc
//! comments become the JSON Schema. The receiver's side is Standard Webhooks
//! (<https://www.standardwebhooks.com>): any of its libraries verifies what is sent here.

mod client;
mod config;
mod map;
mod rudder;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_connector::{
    ConnectorError, Context, Destination, DestinationEntry, DisplayName, HttpRequest, Item, ItemOutcome,
    Limits, Prepared,
};
use millrace_event_model::Reason;
use millrace_service::{SharedClock, SystemClock};
use serde_json::Value;

use client::Client;
pub use config::{Headers, Method, Secrets, Settings, Timeout, WebhookUrl};
pub(in crate::destinations) use map::body;

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    DestinationEntry::new(
        "webhook",
        "One signed HTTP POST per event or change",
        || schemars::schema_for!(Settings).to_value(),
        |settings, context| Ok(Arc::new(Webhook::new(settings, context, Arc::new(SystemClock))?)),
    )
    .with_rudder("WEBHOOK", [DisplayName::new("Webhook")], rudder::translate)
}

/// POSTs under way at once. Order is kept per key by deliver, so this is about the receiver's patience.
const CONCURRENCY: usize = 16;

/// What deliver waits beyond the request's own timeout, so that it is the client who says what happened.
const GRACE: Duration = Duration::from_secs(5);

/// One configured webhook.
#[derive(Debug)]
pub struct Webhook {
    settings: Settings,
    client: Client,
}

impl Webhook {
    /// Reads the settings. Nothing is sent yet.
    ///
    /// # Errors
    /// `Pause`: the settings are not right, or name an address that the guard refuses.
    pub fn new(settings: &Value, context: &Context, clock: SharedClock) -> Result<Self, ConnectorError> {
        let settings = config::parse(settings, &context.id)?;
        let client = Client::new(&settings, clock)?;
        Ok(Self { settings, client })
    }
}

#[async_trait]
impl Destination for Webhook {
    async fn check(&self) -> Result<(), ConnectorError> {
        self.client.reach(&self.settings.url).await
    }

    fn unchecked(&self) -> Option<&'static str> {
        Some("it answers; whether it takes the events was not tried")
    }

    fn limits(&self) -> Limits {
        Limits::single(CONCURRENCY, self.settings.timeout.0 + GRACE)
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        Ok(vec![map::request(&self.settings, item)?])
    }

    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for prepared in &batch {
            outcomes.push(self.client.send_all(prepared).await);
        }
        outcomes
    }
}
