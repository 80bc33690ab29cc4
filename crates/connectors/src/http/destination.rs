//! A mapper, a profile and a client: the one implementation of the trait for all that speak HTTP.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use millrace_connector::{
    ConnectorError, Destination, Document, HttpRequest, Item, ItemOutcome, Limits, Prepared,
};
use millrace_event_model::{ChangeOp, Reason};
use millrace_service::SharedClock;

use super::Mapper;
use super::auth::{Credentials, REFUSED};
use super::call::{Call, Unsent, plan};
use super::client::{Client, Reach};
use super::judge::{judge, unanswered};
use super::profile::{Check, Profile};

/// What deliver waits beyond the requests' own time-outs, so that it is the client who says what happened.
const GRACE: Duration = Duration::from_secs(5);

/// Calls that one batch has under way at once, where its requests are not alike.
const CALLS_AT_ONCE: usize = 4;

/// One configured destination that speaks HTTP.
pub struct HttpDestination {
    mapper: Box<dyn Mapper>,
    profile: Profile,
    client: Client,
    credentials: Credentials,
}

impl HttpDestination {
    /// Puts it together. Nothing is sent yet.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(
        mapper: Box<dyn Mapper>,
        profile: Profile,
        reach: Reach,
        clock: SharedClock,
    ) -> Result<Self, ConnectorError> {
        let client = Client::new(reach, clock)?;
        let credentials = Credentials::new(profile.signer.clone());
        Ok(Self { mapper, profile, client, credentials })
    }

    async fn call(&self, call: &Call) -> Vec<ItemOutcome> {
        match self.credentials.send(&self.client, &call.request).await {
            Ok(answer) => judge(&self.profile, &answer, call),
            Err(error) => vec![unanswered(&error); call.items.len()],
        }
    }

    /// Sends one call for each item that has something left, joined where they are alike.
    async fn round(&self, left: &mut [Unsent], deadline: Instant) -> Vec<(usize, ItemOutcome)> {
        let calls = plan(&self.profile, left);
        let sent = futures::stream::iter(calls).map(|call| async move {
            if Instant::now() >= deadline {
                let reason = Reason::new("not_sent", "the batch's other calls took all of its time");
                let outcome = ItemOutcome::Transient { after: Some(Duration::ZERO), reason };
                return call.items.into_iter().map(|item| (item, outcome.clone())).collect();
            }
            let outcomes = self.call(&call).await;
            call.items.into_iter().zip(outcomes).collect::<Vec<_>>()
        });
        sent.buffered(CALLS_AT_ONCE).concat().await
    }
}

#[async_trait]
impl Destination for HttpDestination {
    async fn check(&self) -> Result<(), ConnectorError> {
        let (request, expect) = match &self.profile.check {
            Check::Reach(url) => return self.client.reach(url).await,
            Check::Ask { request, expect } => (request, expect),
        };
        let answer = self.credentials.send(&self.client, request).await?;
        let status = answer.status;
        let told = format!("{} answered the check with {status}", answer.host);
        match status {
            _ if expect.contains(&status) => Ok(()),
            200..=299 if expect.is_empty() => Ok(()),
            401 | 403 => Err(ConnectorError::pause(REFUSED, format!("{told}: the credentials are refused"))),
            408 | 425 | 429 | 500..=599 => Err(ConnectorError::retry(format!("http_{status}"), told)),
            _ => Err(ConnectorError::pause(format!("http_{status}"), format!("{told}: check the settings"))),
        }
    }

    fn limits(&self) -> Limits {
        let Profile { max_items, max_bytes, max_wait, concurrency, timeout, rate, ordered, .. } =
            self.profile;
        // A call that begins just before the batch's time is over may take as long again.
        Limits { max_items, max_bytes, max_wait, concurrency, timeout: timeout * 2 + GRACE, rate, ordered }
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        let document = Document::of(item)?;
        if document.op() == Some(ChangeOp::Delete) && !self.mapper.takes_deletes() {
            let told =
                "this destination cannot delete: the row stays there; delete it by hand, or use mode upsert";
            return Err(Reason::new("deletes_unsupported", told));
        }
        self.mapper.map(&document)
    }

    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        let deadline = Instant::now() + self.profile.timeout;
        let mut outcomes = vec![ItemOutcome::Delivered; batch.len()];
        let mut left: Vec<_> = batch
            .into_iter()
            .enumerate()
            .map(|(item, prepared)| Unsent::new(item, prepared.requests))
            .filter_map(|mut unsent| (!unsent.is_done()).then_some(unsent))
            .collect();
        // The first call of each item, then the second of those whose first went well, and so on.
        while !left.is_empty() {
            for (item, outcome) in self.round(&mut left, deadline).await {
                if let Some(known) = outcomes.get_mut(item) {
                    *known = outcome;
                }
            }
            left.retain_mut(|unsent| {
                !unsent.is_done() && outcomes.get(unsent.item) == Some(&ItemOutcome::Delivered)
            });
        }
        outcomes
    }
}

impl fmt::Debug for HttpDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDestination").field("client", &self.client).finish_non_exhaustive()
    }
}
