//! A mapper, a profile and a client: the one implementation of the trait for all that speak HTTP.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use millrace_connector::{
    ConnectorError, Destination, Document, HttpRequest, Item, ItemOutcome, Limits, Prepared, Rate,
};
use millrace_event_model::{ChangeOp, Reason};
use millrace_service::SharedClock;
use tokio::sync::watch;

use super::Mapper;
use super::auth::{Credentials, REFUSED};
use super::call::{Call, Unsent, plan, plan_all};
use super::client::{Client, Reach};
use super::judge::{judge, unanswered};
use super::limiter::{LATE, Limiter, Promise};
use super::profile::{Check, Profile};

/// What deliver waits beyond the requests' own time-outs, so that it is the client who says what happened. More than
/// [`LATE`].
const GRACE: Duration = Duration::from_secs(5);
const _: () = assert!(LATE.as_millis() < GRACE.as_millis());

/// Items of which nothing was sent after so many rounds, since others of their keys come first, are left to the next
/// batch: all the others' outcomes wait for the last round.
const MOST_ROUNDS: usize = 8;

/// It was not this item's turn.
const NOT_SENT: ItemOutcome = ItemOutcome::NotSent { after: Duration::ZERO };

/// Calls that one batch has under way at once, where its requests are not alike.
const CALLS_AT_ONCE: usize = 4;

/// One configured destination that speaks HTTP.
pub struct HttpDestination {
    mapper: Box<dyn Mapper>,
    profile: Profile,
    client: Client,
    credentials: Credentials,
    limiter: Option<Limiter>,
    ignores_rate: AtomicBool,
    /// Nothing more is begun.
    is_draining: watch::Sender<bool>,
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
        let limiter = profile.rate.map(|rate| Limiter::new(rate, clock.clone()));
        let client = Client::new(reach, clock)?;
        let credentials = Credentials::new(profile.signer.clone());
        let (ignores_rate, is_draining) = (AtomicBool::new(false), watch::Sender::new(false));
        Ok(Self { mapper, profile, client, credentials, limiter, ignores_rate, is_draining })
    }

    /// The requests that a batch makes if all goes well, joined and in the order of their sending.
    #[must_use]
    pub fn joined(&self, batch: Vec<Prepared>) -> Vec<HttpRequest> {
        plan_all(&self.profile, &unsent(batch), usize::MAX).into_iter().map(|call| call.request).collect()
    }

    /// The turns of a batch, where there is a rate. Items that there are none for are taken out of it, and
    /// their outcomes are the other half.
    fn promise(&self, left: &mut Vec<Unsent>) -> (Option<Promise<'_>>, Vec<(usize, ItemOutcome)>) {
        let limiter = self.limiter.as_ref().filter(|_| !self.ignores_rate.load(Ordering::Relaxed));
        let Some(limiter) = limiter else { return (None, Vec::new()) };
        let calls = plan_all(&self.profile, left, MOST_ROUNDS);
        let mut calls: Vec<usize> = calls.iter().filter_map(|call| call.items.first().copied()).collect();
        calls.sort_unstable();
        let promise = limiter.promise(calls.len(), self.profile.timeout);
        let Some(beyond) = calls.get(promise.granted) else { return (Some(promise), Vec::new()) };
        let not_sent = left.split_off(left.partition_point(|unsent| unsent.item < *beyond));
        let after = promise.after;
        let mut outcomes: Vec<_> =
            not_sent.iter().map(|unsent| (unsent.item, ItemOutcome::NotSent { after })).collect();
        let of_first = calls.iter().filter(|item| *item == beyond).count();
        if of_first > limiter.rate().most_in(self.profile.timeout)
            && let Some((_, outcome)) = outcomes.first_mut()
        {
            *outcome = ItemOutcome::Config(never_sent(of_first, limiter.rate(), self.profile.timeout));
        }
        (Some(promise), outcomes)
    }

    /// Sends a call when its turn has come, if there is time. `is_begun`: of one of its items something was sent.
    async fn call(
        &self,
        call: &Call,
        is_begun: bool,
        promise: Option<&Promise<'_>>,
        until: Until,
    ) -> Vec<ItemOutcome> {
        let begins_nothing = || !is_begun && *self.is_draining.borrow();
        let until = until.of_call(is_begun, promise.is_some());
        if begins_nothing() || Instant::now() >= until {
            return vec![NOT_SENT; call.items.len()];
        }
        // Before the turn: those that wait for a token together would go out together.
        let ready = match self.credentials.ready(&self.client, until).await {
            Ok(Some(ready)) => ready,
            Ok(None) => return vec![NOT_SENT; call.items.len()],
            Err(error) => return vec![unanswered(&error); call.items.len()],
        };
        let in_turn = match promise {
            Some(promise) => self.in_turn(promise, is_begun).await,
            None => !begins_nothing(),
        };
        if !in_turn || Instant::now() >= until {
            return vec![NOT_SENT; call.items.len()];
        }
        match self.credentials.send(&self.client, &call.request, &ready).await {
            Ok(answer) => judge(&self.profile, &answer, call),
            Err(error) => vec![unanswered(&error); call.items.len()],
        }
    }

    /// Waits for a call's turn; for one that begins an item, only until nothing more is to be begun.
    async fn in_turn(&self, promise: &Promise<'_>, is_begun: bool) -> bool {
        if is_begun {
            return promise.turn().await;
        }
        let mut is_draining = self.is_draining.subscribe();
        tokio::select! {
            biased;
            _ = is_draining.wait_for(|is_draining| *is_draining) => false,
            in_turn = promise.turn() => in_turn,
        }
    }

    /// Sends one call for each item that has something left, joined where they are alike. `begun`: the items of
    /// which something was sent.
    async fn round(
        &self,
        left: &mut [Unsent],
        begun: &HashSet<usize>,
        promise: Option<&Promise<'_>>,
        until: Until,
    ) -> Vec<(usize, ItemOutcome)> {
        let calls = plan(&self.profile, left);
        let sent = futures::stream::iter(calls).map(|call| async move {
            let is_begun = call.items.iter().any(|item| begun.contains(item));
            let outcomes = self.call(&call, is_begun, promise, until).await;
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
        let until = Instant::now() + self.profile.timeout;
        let Some(ready) = self.credentials.ready(&self.client, until).await? else {
            return Err(ConnectorError::retry("no_token", "others wait for a token for too long"));
        };
        let answer = self.credentials.send(&self.client, request, &ready).await?;
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

    fn unchecked(&self) -> Option<&'static str> {
        matches!(self.profile.check, Check::Reach(_))
            .then_some("it answers; whether it takes the credentials was not tried")
    }

    fn limits(&self) -> Limits {
        let Profile { max_items, max_bytes, max_wait, concurrency, timeout, rate, ordered, .. } =
            self.profile;
        // A call that begins just before the batch's time is over may take as long again.
        let timeout = timeout * 2 + GRACE;
        let together = ordered;
        Limits { max_items, max_bytes, max_wait, concurrency, timeout, rate, ordered, together }
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
        let started = Instant::now();
        let mut outcomes = vec![ItemOutcome::Delivered; batch.len()];
        let keys = batch.iter().map(|prepared| prepared.key).collect::<Vec<_>>();
        let mut left = unsent(batch);
        let (promise, not_sent) = self.promise(&mut left);
        for (item, outcome) in not_sent {
            if let Some(known) = outcomes.get_mut(item) {
                *known = outcome;
            }
        }
        let until = Until::of(&left, started, self.profile.timeout);
        // The first call of each item, then the second of those whose first went well, and so on.
        let mut begun = HashSet::new();
        for round in 1.. {
            if left.is_empty() {
                break;
            }
            let mut held = HashSet::new();
            for (item, outcome) in self.round(&mut left, &begun, promise.as_ref(), until).await {
                if !is_final(&outcome) {
                    held.extend(keys.get(item).copied());
                }
                if outcome != NOT_SENT {
                    begun.insert(item);
                }
                if let Some(known) = outcomes.get_mut(item) {
                    *known = outcome;
                }
            }
            left.retain_mut(|unsent| {
                let outcome = outcomes.get_mut(unsent.item);
                let Some(outcome) = outcome.filter(|outcome| **outcome == ItemOutcome::Delivered) else {
                    return false;
                };
                if unsent.is_done() {
                    return false;
                }
                let is_begun = begun.contains(&unsent.item);
                // One before it has to be tried again first, or the others' outcomes would wait for too many.
                let is_held = self.profile.ordered && held.contains(&unsent.key);
                if is_held || round >= MOST_ROUNDS && !is_begun {
                    *outcome = NOT_SENT;
                    return false;
                }
                true
            });
        }
        for item in begun {
            if let Some(outcome) = outcomes.get_mut(item).filter(|outcome| **outcome == NOT_SENT) {
                *outcome = part_sent();
            }
        }
        // The rest of the batch has taken some of the time that those without a turn have to wait.
        for outcome in &mut outcomes {
            if let ItemOutcome::NotSent { after } = outcome {
                *after = after.saturating_sub(started.elapsed());
            }
        }
        outcomes
    }

    fn ignore_rate(&self) {
        self.ignores_rate.store(true, Ordering::Relaxed);
    }

    fn drain(&self, is_draining: bool) {
        self.is_draining.send_replace(is_draining);
    }
}

/// Until when a batch's calls are begun.
#[derive(Clone, Copy)]
struct Until {
    /// Those of items of which nothing was sent.
    begin: Instant,
    /// The others.
    end: Instant,
}

impl Until {
    /// The calls of an item are made one after the other, in rounds: where there are several, each of the others is
    /// to have as much time as the first, and as much again is in reserve. An item that is not through by the end is
    /// sent again as a whole.
    fn of(batch: &[Unsent], started: Instant, timeout: Duration) -> Self {
        let most = batch.iter().map(Unsent::len).max().unwrap_or_default();
        let parts = if most > 1 { most + 1 } else { 1 };
        let begin = started + timeout / u32::try_from(parts).unwrap_or(u32::MAX);
        Self { begin, end: started + timeout }
    }

    /// Whoever has turns of a rate has them for all requests of an item, and takes them: those that are left would be
    /// nobody's.
    fn of_call(self, is_begun: bool, has_turns: bool) -> Instant {
        match (has_turns, is_begun) {
            (true, _) => self.end + LATE,
            (false, true) => self.end,
            (false, false) => self.begin,
        }
    }
}

/// The items that have something to send.
fn unsent(batch: Vec<Prepared>) -> Vec<Unsent> {
    let items = batch.into_iter().enumerate();
    let items = items.map(|(item, prepared)| Unsent::new(item, prepared));
    items.filter_map(|mut unsent| (!unsent.is_done()).then_some(unsent)).collect()
}

/// An item that the rate would never let through whole.
fn never_sent(requests: usize, rate: Rate, timeout: Duration) -> Reason {
    let Rate { calls, per } = rate;
    let told = format!(
        "an item makes {requests} requests, and the rate limit lets {calls} through in {per:?}: raise it, or the \
         time-out of {timeout:?} in which they have to be sent"
    );
    Reason::new("rate_too_low", told)
}

/// The rest of an item has to be sent, and all of it is sent again.
fn part_sent() -> ItemOutcome {
    ItemOutcome::OutOfTime(Reason::new(
        "part_sent",
        "some of the item's requests were sent, and there was no time for the others",
    ))
}

/// Whether the item is not sent again.
fn is_final(outcome: &ItemOutcome) -> bool {
    matches!(outcome, ItemOutcome::Delivered | ItemOutcome::Filtered(_) | ItemOutcome::Rejected(_))
}

impl fmt::Debug for HttpDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDestination").field("client", &self.client).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use millrace_event_model::PartitionKey;

    use super::*;

    #[test]
    fn turns_that_were_promised_are_taken_however_many_requests_an_item_has() {
        let (started, timeout) = (Instant::now(), Duration::from_secs(30));
        let requests = vec![HttpRequest::post("http://vendor.test"); 2];
        let prepared = Prepared { id: "1".to_owned().into(), key: PartitionKey([0; 16]), requests };
        let until = Until::of(&unsent(vec![prepared]), started, timeout);
        assert_eq!(until.of_call(false, false), started + Duration::from_secs(10));
        assert_eq!(until.of_call(true, false), started + timeout);
        for is_begun in [false, true] {
            assert_eq!(until.of_call(is_begun, true), started + timeout + LATE);
        }
    }
}
