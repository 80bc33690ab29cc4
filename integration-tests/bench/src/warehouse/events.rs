//! The events of the warehouse benchmark: nothing but tracks of one name, each of 571 bytes, each new.
//!
//! Its table has 16 columns: 13 that every event has (the four of its route, three of time from the client, two
//! from the server, ids and names) and three of its own. They are made from a seed as they are sent, since ten
//! millions do not repeat; what they add up to is known, so that a warehouse can be asked whether it has them.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use millrace_event_model::{Event, KeyHasher, MessageId, rudder_id};
use serde::{Deserialize, Serialize};

use crate::corpus::{People, SMALL_BYTES, product_name, token, uuid};
use crate::error::BenchError;
use crate::gateway::source;
use crate::workload::WORKSPACE_KEY;

/// Changing it changes every event.
const SEED: u64 = 20_261_128;

/// The table of all of them.
pub(crate) const TABLE: &str = "order_completed";

/// What the product's name is filled up with, so that the event has its size.
const FILL: &str = "{fill}";

/// What some events add up to, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) events: i64,
    pub(crate) quantity: i64,
    pub(crate) cents: i64,
    /// Characters of all names: escapes and text beyond ASCII were read rightly.
    pub(crate) characters: i64,
    /// The first eight characters of each id, as a number to the base 256 in two halves.
    pub(crate) ids: i64,
}

/// Makes one event after the other.
pub(crate) struct Events {
    rng: Rng,
    people: People,
    keys: KeyHasher,
    /// When the first was received.
    began: DateTime<Utc>,
    pub(crate) sums: Sums,
}

impl Events {
    /// Received from `began` on, 40 a millisecond.
    pub(crate) fn new(began: DateTime<Utc>) -> Self {
        Self {
            rng: Rng::with_seed(SEED),
            people: People::new(),
            keys: KeyHasher::new(&WORKSPACE_KEY),
            began,
            sums: Sums::default(),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Event, BenchError> {
        let rng = &mut self.rng;
        let (message_id, person) = (uuid(rng), self.people.pick(rng));
        let received_at = self.began + TimeDelta::milliseconds(self.sums.events / 40);
        let sent_at = received_at - TimeDelta::milliseconds(rng.i64(20..200));
        let original = sent_at - TimeDelta::milliseconds(rng.i64(0..2_000));
        let time = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let (cents, quantity, name) = (rng.i64(100..99_999), rng.i64(1..5), product_name(rng));
        let mut json = String::with_capacity(SMALL_BYTES);
        // Writing to a string does not fail.
        let _ = write!(
            json,
            r#"{{"type":"track","messageId":"{message_id}","anonymousId":"{}","originalTimestamp":"{}","sentAt":"{}","event":"Order Completed","properties":{{"price":{}.{:02},"quantity":{quantity},"name":"{name} {FILL}"}}}}"#,
            person.anonymous_id,
            time(original),
            time(sent_at),
            cents / 100,
            cents % 100,
        );
        let missing = SMALL_BYTES.saturating_sub(json.len() - FILL.len());
        let json = json.replace(FILL, &token(rng, missing));

        let characters = unescaped(name)? + 1 + missing;
        self.sums.events += 1;
        self.sums.quantity += quantity;
        self.sums.cents += cents;
        self.sums.characters += i64::try_from(characters).unwrap_or(i64::MAX);
        self.sums.ids += id_number(&message_id);
        Ok(Event {
            event_type: "track".into(),
            message_id: MessageId(message_id),
            rudder_id: rudder_id("", &person.anonymous_id),
            received_at,
            sent_at: Some(time(sent_at).into()),
            request_ip: None,
            geo: None,
            source: source(0)?,
            policy: None,
            traceparent: None,
            key: self.keys.person(&person.anonymous_id, ""),
            body: json.into(),
        })
    }
}

/// Characters of what stands in a JSON string.
fn unescaped(text: &str) -> Result<usize, BenchError> {
    let text: String = serde_json::from_str(&format!("\"{text}\""))
        .map_err(|error| BenchError::Failed(format!("the corpus holds {text}: {error}")))?;
    Ok(text.chars().count())
}

fn id_number(id: &str) -> i64 {
    let of = |range: std::ops::Range<usize>| {
        let bytes = id.as_bytes().get(range).unwrap_or_default();
        bytes.iter().fold(0, |number, byte| number * 256 + i64::from(*byte))
    };
    of(0..4) + of(4..8)
}

/// The question whose answer is the sums of what a table of events holds; the columns are of [`Sums`], and
/// `distinct` is how many ids there are. PostgreSQL and DataFusion understand it alike.
pub(crate) fn sums_of(table: &str) -> String {
    format!(
        "SELECT count(*) AS events, count(DISTINCT id) AS distinct_ids, \
         CAST(sum(quantity) AS BIGINT) AS quantity, \
         CAST(sum(round(CAST(price AS DOUBLE PRECISION) * 100)) AS BIGINT) AS cents, \
         CAST(sum(character_length(name)) AS BIGINT) AS characters, {} AS ids FROM {table}",
        id_sum()
    )
}

/// The same of the table of all tracks, which has no columns of the event's own.
pub(crate) fn sums_of_tracks(table: &str) -> String {
    format!("SELECT count(*) AS events, count(DISTINCT id) AS distinct_ids, {} AS ids FROM {table}", id_sum())
}

fn id_sum() -> String {
    let byte = |at: usize, weight: i64| format!("ascii(substr(id, {at}, 1)) * CAST({weight} AS BIGINT)");
    let bytes: Vec<String> = (0..8_usize).map(|at| byte(at + 1, 256_i64.pow(3 - (at % 4) as u32))).collect();
    format!("CAST(sum({}) AS BIGINT)", bytes.join(" + "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn events_are_new_have_one_size_and_add_up() {
        let mut events = Events::new(DateTime::UNIX_EPOCH);
        let mut ids = std::collections::BTreeSet::new();
        let (mut quantity, mut characters) = (0, 0);
        for _ in 0..2_000 {
            let event = events.next().unwrap();
            assert_eq!(event.body.len(), SMALL_BYTES);
            let json: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
            assert_eq!(json["messageId"], event.message_id.0);
            quantity += json["properties"]["quantity"].as_i64().unwrap();
            characters += json["properties"]["name"].as_str().unwrap().chars().count() as i64;
            ids.insert(event.message_id.0);
        }
        assert_eq!(ids.len(), 2_000);
        let sums = events.sums;
        assert_eq!((sums.events, sums.quantity, sums.characters), (2_000, quantity, characters));
        assert_eq!(id_number("00000001-"), 2 * 0x3030_3030 + 1);
    }
}
