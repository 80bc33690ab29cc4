//! What every destination owes, whatever it sends to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use millrace_event_model::PartitionKey;

use super::{Finding, Look};
use crate::conformance::events::{Person, ordinary_of, wild_item};
use crate::{Destination, HttpRequest, Item, ItemOutcome, Prepared};

/// Items of every kind that are mapped. The kit's own tests are about the kit, and need fewer.
const WILD_ITEMS: u64 = if cfg!(test) { 50 } else { 1000 };

/// No check may take longer: an operator waits for it.
const CHECK_TIME: Duration = Duration::from_secs(15);

/// What takes longer to give up is not waited for here.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

pub(super) const TOO_LONG: Finding = Finding::Skipped("it may take longer to give up than a test may wait");

pub(super) const NO_SAMPLE: Finding = Finding::Skipped("an ordinary event makes no request here");

/// A destination on trial.
pub(super) struct Every<'t> {
    pub destination: Arc<dyn Destination>,
    /// The same with settings that lead to nobody.
    pub nowhere: Option<Arc<dyn Destination>>,
    pub secrets: Vec<String>,
    /// What is on the other side now.
    pub look: Look<'t>,
}

impl Every<'_> {
    /// Besides the finding, what is said where nobody is.
    pub(super) async fn check(&self) -> (Finding, String) {
        let finding = |finding: Finding| (finding, String::new());
        if let Err(error) = self.destination.check().await {
            return finding(Finding::Broken(format!("all is well, and the check fails: {}", error.full())));
        }
        let Some(nowhere) = &self.nowhere else { return finding(Finding::Kept) };
        match tokio::time::timeout(CHECK_TIME, nowhere.check()).await {
            Err(_) => {
                let told = format!("nobody answers, and the check takes longer than {CHECK_TIME:?}");
                finding(Finding::Broken(told))
            }
            Ok(Ok(())) => finding(Finding::Broken("nobody answers, and the check is content".to_owned())),
            Ok(Err(error)) => (Finding::Kept, error.full()),
        }
    }

    /// Maps what clients may send at their worst, and sends what was mapped: the requests, whether each item
    /// has its outcome, and whether mapping did nothing but that.
    pub(super) async fn wild_items(&self) -> (Vec<HttpRequest>, Finding, Finding) {
        let before = (self.look)().await;
        let mut mapped = Vec::new();
        let mut batch = Vec::new();
        let mut pure = Finding::Kept;
        for seed in 0..WILD_ITEMS {
            let item = wild_item(seed);
            let map = || (self.destination.transform(&item), self.destination.transform(&item));
            let Ok((made, again)) = catch_unwind(AssertUnwindSafe(map)) else {
                return (mapped, Finding::Broken(format!("it panics on wild item {seed}")), pure);
            };
            if made != again {
                pure = Finding::Broken(format!("wild item {seed} is mapped in two ways"));
            }
            let Ok(requests) = made else { continue };
            if !requests.is_empty() {
                mapped.extend(requests.iter().cloned());
                batch.push(Prepared::of(&item, requests));
            }
        }
        if (self.look)().await != before {
            pure = Finding::Broken("mapping alone changes something there".to_owned());
        }
        (mapped, self.deliver_all(batch).await, pure)
    }

    async fn deliver_all(&self, mut batch: Vec<Prepared>) -> Finding {
        let max = self.destination.limits().max_items.clamp(1, 100);
        while !batch.is_empty() {
            let part: Vec<Prepared> = batch.drain(..max.min(batch.len())).collect();
            let count = part.len();
            let outcomes = self.destination.deliver(part).await.len();
            if outcomes != count {
                return Finding::Broken(format!("{count} items have {outcomes} outcomes"));
            }
        }
        Finding::Kept
    }

    /// A batch as large as deliver ever makes one is taken.
    pub(super) async fn limits(&self) -> Finding {
        let limits = self.destination.limits();
        if limits.max_items == 0 || limits.max_bytes == 0 || limits.concurrency == 0 {
            return Finding::Broken("its limits let nothing through".to_owned());
        }
        let Some(one) = prepared(self.destination.as_ref()) else { return NO_SAMPLE };
        let size = one.requests.iter().map(|request| request.body.len()).sum::<usize>().max(1);
        let count = limits.max_items.min(limits.max_bytes / size).clamp(1, 10_000);
        let batch = (0..count).map(|number| one_of_another(&one, number)).collect();
        let outcomes = self.destination.deliver(batch).await;
        let undelivered = outcomes.iter().filter(|outcome| **outcome != ItemOutcome::Delivered).count();
        match (outcomes.len(), undelivered) {
            (same, 0) if same == count => Finding::Kept,
            (same, _) if same == count => {
                Finding::Broken(format!("all is well, and {undelivered} of {count} items are not delivered"))
            }
            (other, _) => Finding::Broken(format!("{count} items have {other} outcomes")),
        }
    }

    /// An item that is refused fails alone, wherever it stands in a batch.
    pub(super) async fn refused(&self, refused: Option<Item>) -> Finding {
        let Some(refused) = refused else { return Finding::Skipped("no item is refused by itself there") };
        let Some(good) = prepared(self.destination.as_ref()) else { return NO_SAMPLE };
        let bad = match self.destination.transform(&refused) {
            Ok(requests) => Prepared::of(&refused, requests),
            Err(reason) => return Finding::Broken(format!("the test's item is not mapped: {reason:?}")),
        };
        if self.destination.limits().max_items < 3 {
            return Finding::Skipped("each item goes by itself");
        }
        for place in 0..3 {
            let mut batch: Vec<Prepared> = (0..2).map(|number| one_of_another(&good, number)).collect();
            batch.insert(place, bad.clone());
            let outcomes = self.destination.deliver(batch).await;
            let failed: Vec<bool> =
                outcomes.iter().map(|outcome| *outcome != ItemOutcome::Delivered).collect();
            let expected: Vec<bool> = (0..3).map(|item| item == place).collect();
            if failed != expected {
                return Finding::Broken(format!("the item at {place} is refused: {outcomes:?}"));
            }
        }
        Finding::Kept
    }

    pub(super) fn repeats(&self) -> Finding {
        match prepared(self.destination.as_ref()) {
            None => NO_SAMPLE,
            first
                if first.as_ref().map(|one| &one.requests)
                    == prepared(self.destination.as_ref()).as_ref().map(|one| &one.requests) =>
            {
                Finding::Kept
            }
            _ => Finding::Broken("the same item makes different requests".to_owned()),
        }
    }

    /// What was said where nobody is.
    pub(super) fn reasons(&self, told: &str) -> Finding {
        match self.secrets.is_empty() {
            true => Finding::Skipped("no setting is a secret"),
            false => tells_none(&self.secrets, told, "where nobody answers"),
        }
    }

    pub(super) async fn empty(&self) -> Finding {
        let before = (self.look)().await;
        let outcomes = self.destination.deliver(Vec::new()).await;
        match (outcomes.len(), (self.look)().await == before) {
            (0, true) => Finding::Kept,
            (0, false) => Finding::Broken("a batch without items changes something there".to_owned()),
            (many, _) => Finding::Broken(format!("a batch without items has {many} outcomes")),
        }
    }

    pub(super) async fn check_changes_nothing(&self) -> Finding {
        let before = (self.look)().await;
        let checked = self.destination.check().await;
        let after = (self.look)().await;
        match (checked, after == before) {
            (Err(error), _) => Finding::Broken(format!("the check fails: {}", error.full())),
            (Ok(()), false) => Finding::Broken(format!("before it {before}, after it {after}")),
            (Ok(()), true) => Finding::Kept,
        }
    }

    /// Where nobody is, an item is kept: it is tried again, or waits for a person. Besides the finding, what is
    /// said of it.
    pub(super) async fn nobody(&self) -> (Finding, String) {
        let Some(nowhere) = &self.nowhere else {
            return (Finding::Skipped("settings that lead nowhere are refused"), String::new());
        };
        let Some(one) = prepared(nowhere.as_ref()) else { return (NO_SAMPLE, String::new()) };
        given_up(nowhere.as_ref(), one).await
    }
}

/// Delivers to who does not answer. Besides the finding, what is said of it.
pub(super) async fn given_up(destination: &dyn Destination, one: Prepared) -> (Finding, String) {
    let limit = destination.limits().timeout;
    let came = tokio::time::timeout(limit.min(PATIENCE), destination.deliver(vec![one])).await;
    let Ok(outcomes) = came else {
        let late = format!("nobody answers, and a call takes longer than its {limit:?}");
        return (if limit <= PATIENCE { Finding::Broken(late) } else { TOO_LONG }, String::new());
    };
    let told = format!("{outcomes:?}");
    let finding = match &outcomes[..] {
        [
            ItemOutcome::Transient { .. }
            | ItemOutcome::Throttled { .. }
            | ItemOutcome::NotSent { .. }
            | ItemOutcome::OutOfTime(_)
            | ItemOutcome::Auth(_)
            | ItemOutcome::Config(_),
        ] => Finding::Kept,
        _ => Finding::Broken(format!("nobody answers, and the item is not kept: {told}")),
    };
    (finding, told)
}

/// The same of another person: so that all of them may be under way at once.
fn one_of_another(one: &Prepared, number: usize) -> Prepared {
    let key = PartitionKey((number as u128).to_be_bytes());
    Prepared { id: number.to_string().into(), key, ..one.clone() }
}

pub(super) fn tells_none(secrets: &[String], told: &str, when: &str) -> Finding {
    match secrets.iter().any(|secret| told.contains(secret.as_str())) {
        true => Finding::Broken(format!("a secret is told {when}")),
        false => Finding::Kept,
    }
}

/// The first of the ordinary events that makes a request, ready to send.
pub(super) fn prepared(destination: &dyn Destination) -> Option<Prepared> {
    prepared_of(destination, Person::Ann)
}

pub(super) fn prepared_of(destination: &dyn Destination, person: Person) -> Option<Prepared> {
    ordinary_of(person).into_iter().find_map(|item| {
        let requests = destination.transform(&item).ok().filter(|requests| !requests.is_empty())?;
        Some(Prepared::of(&item, requests))
    })
}
