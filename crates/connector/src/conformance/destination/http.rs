//! What those destinations owe besides that speak HTTP: the vendor's part is played by a server that answers
//! by script.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::Finding;
use super::every::{NO_SAMPLE, PATIENCE, TOO_LONG, given_up, prepared, prepared_of, tells_none};
use crate::conformance::events::Person;
use crate::conformance::stub::{Reply, Seen, Stub};
use crate::{Destination, ErrorKind, HttpRequest, ItemOutcome, Prepared};

/// More hosts than this, and an event decides who is called.
const MAX_HOSTS: usize = 4;

/// A destination and the server that it sends to.
pub(super) struct Http<'t> {
    pub stub: &'t Stub,
    pub destination: &'t dyn Destination,
    pub secrets: &'t [String],
}

impl Http<'_> {
    /// A check whose credentials are refused, where it asks with them.
    pub(super) async fn credentials(&self) -> Finding {
        self.stub.clear();
        self.stub.otherwise(Reply::status(401));
        // A check that only reaches the vendor says nothing about credentials.
        match self.destination.check().await {
            Err(error) if error.kind != ErrorKind::Pause => {
                Finding::Broken("refused credentials are no reason to pause".to_owned())
            }
            _ => Finding::Kept,
        }
    }

    /// The bodies that came of the largest batch.
    pub(super) fn bodies(&self) -> Finding {
        let Some(one) = prepared(self.destination) else { return NO_SAMPLE };
        let size = one.requests.iter().map(|request| request.body.len()).sum::<usize>().max(1);
        let max_bytes = self.destination.limits().max_bytes;
        let largest = self.stub.seen().iter().map(|seen| seen.body.len()).max().unwrap_or_default();
        // What joins bodies, and what encodes them, adds a little to each.
        let allowed = max_bytes.saturating_add(max_bytes / 4).max(size.saturating_mul(4));
        match largest <= allowed {
            true => Finding::Kept,
            false => Finding::Broken(format!("a body of {largest} bytes, where {max_bytes} are allowed")),
        }
    }

    /// One item's requests are refused and those of others are not: it fails alone, wherever it stands in the
    /// batch. Where items share a request, how a vendor tells of each is its own.
    pub(super) async fn refused(&self) -> Finding {
        let people = [Person::Ann, Person::Ben, Person::Cas];
        let batch: Vec<Prepared> =
            people.iter().filter_map(|person| prepared_of(self.destination, *person)).collect();
        if batch.len() != people.len() {
            return NO_SAMPLE;
        }
        if batch.iter().skip(1).zip(&batch).any(|(one, other)| one.requests == other.requests) {
            return Finding::Skipped("different people make the same request");
        }
        if self.destination.limits().max_items < people.len() {
            return Finding::Skipped("each item goes by itself");
        }
        for (place, refused) in batch.iter().enumerate() {
            self.stub.clear();
            let _alone = self.destination.deliver(vec![refused.clone()]).await;
            let own = self.stub.seen();
            self.stub.clear();
            self.stub.refuse(own.clone());
            let outcomes = self.destination.deliver(batch.clone()).await;
            if !self.stub.seen().iter().any(|seen| own.iter().any(|own| own.asks_the_same(seen))) {
                return Finding::Skipped("items share a request: a test of the destination shows it");
            }
            let failed: Vec<bool> =
                outcomes.iter().map(|outcome| *outcome != ItemOutcome::Delivered).collect();
            let expected: Vec<bool> = (0..people.len()).map(|item| item == place).collect();
            if failed != expected {
                return Finding::Broken(format!("the item at {place} is refused: {outcomes:?}"));
            }
        }
        Finding::Kept
    }

    pub(super) async fn answers(&self) -> Finding {
        let Some(one) = prepared(self.destination) else { return NO_SAMPLE };
        let cases = [
            ("429 with Retry-After", Reply::status(429).header("retry-after", "7"), "throttled"),
            ("503", Reply::status(503), "transient"),
            ("401", Reply::status(401), "auth"),
            ("200", Reply::status(200), "delivered"),
        ];
        for (answer, reply, expected) in cases {
            self.stub.clear();
            self.stub.otherwise(reply);
            let outcomes = self.destination.deliver(vec![one.clone()]).await;
            let after = match &outcomes[..] {
                [ItemOutcome::Throttled { after, .. }] => *after == Some(Duration::from_secs(7)),
                _ => true,
            };
            let as_expected = outcomes.len() == 1 && outcomes.iter().all(|one| one.as_str() == expected);
            if !as_expected || !after {
                return Finding::Broken(format!("{answer} should be {expected}, and is {outcomes:?}"));
            }
        }
        Finding::Kept
    }

    /// Vendors that repeat what they were sent, in what goes wrong.
    pub(super) async fn echoes(&self) -> Finding {
        if self.secrets.is_empty() {
            return Finding::Skipped("no setting is a secret");
        }
        let Some(one) = prepared(self.destination) else { return NO_SAMPLE };
        let mut finding = Finding::Kept;
        for status in [400, 401, 403, 422, 500] {
            self.stub.clear();
            let echo = json!({"error": self.secrets.join(" "), "message": self.secrets.join(" ")});
            self.stub.otherwise(Reply::status(status).body(echo.to_string()));
            let mut told = format!("{:?}", self.destination.deliver(vec![one.clone()]).await);
            if let Err(error) = self.destination.check().await {
                told.push_str(&error.full());
            }
            finding = finding.and(tells_none(self.secrets, &told, &format!("after an answer {status}")));
        }
        finding
    }

    pub(super) async fn check_changes_nothing(&self) -> Finding {
        self.stub.clear();
        if let Err(error) = self.destination.check().await {
            return Finding::Broken(format!("the check fails: {}", error.full()));
        }
        let asked = self.stub.seen();
        let writes = |seen: &&Seen| !matches!(seen.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        let Some(write) = asked.iter().find(writes) else { return Finding::Kept };
        match write.json() {
            Value::Object(fields) if fields.is_empty() => Finding::Kept,
            Value::Array(items) if items.is_empty() => Finding::Kept,
            _ => {
                Finding::Skipped("the check asks with a body: whether that changes anything is the vendor's")
            }
        }
    }

    /// A vendor that takes the request and never answers.
    pub(super) async fn silence(&self) -> Finding {
        if self.destination.limits().timeout > PATIENCE {
            return TOO_LONG;
        }
        let Some(one) = prepared(self.destination) else { return NO_SAMPLE };
        self.stub.clear();
        self.stub.otherwise(Reply::never());
        given_up(self.destination, one).await.0
    }
}

pub(super) fn hosts(mapped: &[HttpRequest]) -> Finding {
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
