//! A shop's events, without end: every type, client retries, ids that are used twice, personal data, values
//! that change their type, columns and tables that appear later, and events that a loader leaves out or
//! cannot load. It knows how each of them must end.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// People who take turns. Each has one anonymousId, so all that one does keeps its order.
const PEOPLE: u64 = 20;
/// Visits after which every column of the first has its type, and values may begin to change theirs.
pub(crate) const SETTLED: u64 = 4;
/// How many visits later a client sends again what was answered long ago.
const RETRIED_AFTER: u64 = 3;

/// How the items of a source must end, by the books' words, and the rows of some tables.
pub(crate) type Ends = BTreeMap<&'static str, u64>;

/// Promotions whose events have a table each; then they come round.
const PROMOTIONS: u64 = 800;

/// Makes one visit after the other.
#[derive(Default)]
pub(crate) struct Sample {
    /// The campaign of each visit so far: each campaign is a column of its own.
    visits: Vec<u64>,
    campaign: u64,
    /// Whether values have types that nobody has settled; see [`Self::with_conflicts`].
    unsettled: bool,
    conflicting: Vec<Conflicting>,
    ends: Ends,
    rows: BTreeMap<&'static str, u64>,
}

/// A value of a column whose type is that of whichever came first.
#[derive(Debug, Clone)]
pub(crate) struct Conflicting {
    /// The message id of its event.
    pub(crate) id: String,
    /// In the table of `Size Measured`.
    pub(crate) column: String,
    /// As it was sent.
    pub(crate) value: Value,
}

/// One visit's events on the way to a batch.
struct Visit<'s> {
    number: u64,
    events: Vec<Value>,
    sample: &'s mut Sample,
}

impl Sample {
    /// A sample that has columns besides whose first values differ in type within a few visits, so that the
    /// type depends on how events fall into loads: two warehouses then differ, and neither may lose a value.
    pub(crate) fn with_conflicts() -> Self {
        Self { unsettled: true, ..Self::default() }
    }

    /// All values of unsettled types.
    pub(crate) fn conflicting(&self) -> &[Conflicting] {
        &self.conflicting
    }

    /// From the next visit on there is a column that was not there before.
    pub(crate) fn add_column(&mut self) {
        self.campaign += 1;
    }

    /// The next visit: a body for `/v1/batch`.
    pub(crate) fn next(&mut self) -> Value {
        let number = self.visits.len() as u64;
        self.campaign += u64::from(number % 25 == 24);
        self.visits.push(self.campaign);
        let mut visit = Visit { number, events: Vec::new(), sample: self };
        visit.events();
        json!({"batch": visit.events})
    }

    /// How all that were made must end.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Events that were made.
    pub(crate) fn made(&self) -> u64 {
        self.ends.iter().filter(|(end, _)| **end != "conflicts").map(|(_, count)| count).sum()
    }

    /// Rows that the tables of all events of one type must have.
    pub(crate) fn rows(&self) -> &BTreeMap<&'static str, u64> {
        &self.rows
    }
}

impl Visit<'_> {
    fn events(&mut self) {
        let number = self.number;
        let email = format!("person{}@mail.example", number % PEOPLE);
        let mut traits = json!({"plan": format!("plan-{}", number % 2), "logins": number, "email": email});
        if number.is_multiple_of(2) {
            // Said now and then: what was last said holds.
            traits["seats"] = json!(number);
        }
        self.loaded("identifies", event("identify", number, json!({"traits": traits})));
        self.loaded(
            "pages",
            event("page", number, json!({"name": "Pricing", "properties": {"path": "/pricing"}})),
        );
        self.loaded(
            "screens",
            event("screen", number, json!({"name": "Home", "properties": {"depth": number % 4}})),
        );
        let viewed = self.viewed(number);
        self.loaded("tracks", viewed);
        self.loaded("tracks", ordered(number));
        if self.sample.unsettled {
            self.measured();
        }
        if number.is_multiple_of(4) {
            self.loaded(
                "groups",
                event("group", number, json!({"groupId": "g1", "traits": {"employees": number}})),
            );
            self.loaded("aliases", event("alias", number, json!({"previousId": format!("old-{number}")})));
        }
        if number % 40 == 39 {
            // A table of its own.
            self.loaded(
                "tracks",
                event("track", number, json!({"event": format!("Promotion {}", number % PROMOTIONS)})),
            );
        }
        self.left_out();
        self.repeated();
    }

    fn left_out(&mut self) {
        if self.number.is_multiple_of(3) {
            // The config's `when` leaves it out.
            self.ends("filtered", event("track", self.number, json!({"event": "Heartbeat"})));
        }
        if self.number.is_multiple_of(5) {
            // Nobody knows the type.
            self.ends("rejected", event("wave", self.number, json!({})));
        }
    }

    fn repeated(&mut self) {
        let Some(earlier) = self.number.checked_sub(RETRIED_AFTER) else { return };
        if self.number.is_multiple_of(2) {
            let again = self.viewed(earlier);
            self.ends("duplicate", again);
            self.ends("duplicate", ordered(earlier));
        }
        if self.number % 7 == 6 {
            let mut other = self.viewed(earlier);
            other["properties"]["price"] = json!(-1);
            *self.sample.ends.entry("conflicts").or_default() += 1;
            self.ends("duplicate", other);
        }
    }

    /// What the visit of this number has looked at; the same again for a client that sends it again.
    fn viewed(&self, number: u64) -> Value {
        let mut properties = json!({"sku": format!("s{}", number % 12), "price": number, "in stock": true});
        if number >= SETTLED {
            // A column that comes later, and another with every campaign.
            properties["colour"] = json!("green");
            properties[format!("campaign {}", self.sample.visits[number as usize])] = json!(number);
        }
        event("track", number, json!({"event": "Product Viewed", "properties": properties}))
    }

    /// Two values in a column that is new every few visits.
    fn measured(&mut self) {
        let number = self.number;
        for turn in 0..2 {
            let value = match (number * 2 + turn) * 5 % 8 / 2 {
                0 => json!(number),
                1 => json!(format!("about {number}")),
                2 => json!(number.is_multiple_of(2)),
                _ => json!([number, "cm"]),
            };
            let column = format!("size_{}", number / 3);
            let own = json!({"event": "Size Measured", "properties": {&column: &value}});
            let mut measured = event("track", number, own);
            let id = format!("measured-{number}-{turn}");
            measured["messageId"] = json!(id);
            self.loaded("tracks", measured);
            self.sample.conflicting.push(Conflicting { id, column, value });
        }
    }

    fn loaded(&mut self, table: &'static str, event: Value) {
        *self.sample.rows.entry(table).or_default() += 1;
        self.ends("loaded", event);
    }

    fn ends(&mut self, end: &'static str, event: Value) {
        *self.sample.ends.entry(end).or_default() += 1;
        self.events.push(event);
    }
}

/// An event with what all have.
fn event(event_type: &str, number: u64, own: Value) -> Value {
    let person = number % PEOPLE;
    let mut event = json!({
        "type": event_type,
        "messageId": format!("{event_type}-{}-{number}", own["event"].as_str().unwrap_or_default()),
        "userId": format!("user-{person}"),
        "anonymousId": format!("anon-{person}"),
        "originalTimestamp": format!("2026-11-20T10:{:02}:{:02}.000Z", number / 60 % 60, number % 60),
        "context": {"locale": "en-GB", "library": {"name": "sample", "version": "1"}, "screen": {"width": 800 + person}},
    });
    event.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    event
}

/// `total` was a number with cents before it was a whole one, a text, or a list: schema drift.
fn ordered(number: u64) -> Value {
    let cents = json!(number as f64 + 0.99);
    let total = match number % 5 {
        _ if number < SETTLED => cents,
        0 => json!(format!("about {number}")),
        1 => json!(number),
        2 => json!([number, "EUR"]),
        _ => cents,
    };
    let note = "paid with 4111 1111 1111 1111, call +49 151 23456789";
    let properties = json!({"total": total, "note": note, "items": [{"sku": "s1", "quantity": number}]});
    event("track", number, json!({"event": "Order Completed", "properties": properties}))
}
