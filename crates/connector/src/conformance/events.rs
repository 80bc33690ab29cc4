//! Items for the kit: ordinary ones, and what clients send at their worst.

use chrono::TimeDelta;
use millrace_event_model::{Change, ChangeOp, Event, MessageId, PartitionKey, testing};
use serde_json::{Map, Value, json};

use crate::{Item, Payload};

/// Somebody who does something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Person {
    Ann,
    Ben,
    Cas,
}

/// An event of each kind.
pub(super) fn ordinary_of(person: Person) -> Vec<Item> {
    let number = person as u64;
    let of_kind = |kind: &str| {
        let mut fields = sample(person);
        fields.insert("type".to_owned(), json!(kind));
        event(number, fields)
    };
    ["identify", "track", "page", "screen", "group", "alias"].map(of_kind).into()
}

/// The first of them.
#[cfg(test)]
pub(super) fn ordinary_item() -> Item {
    event(1, sample(Person::Ann))
}

/// Item `seed`: an event or, one in four, a row of reverse ETL. The same for the same seed: fields missing,
/// null, of the wrong type, in other alphabets, huge.
pub(super) fn wild_item(seed: u64) -> Item {
    let fields = wild(seed);
    match seed % 8 {
        3 => change(seed, ChangeOp::Upsert, fields),
        7 => change(seed, ChangeOp::Delete, fields),
        _ => event(seed, fields),
    }
}

/// An event as it lies in Kafka.
fn event(number: u64, fields: Map<String, Value>) -> Item {
    let event = Event {
        event_type: fields.get("type").and_then(Value::as_str).unwrap_or_default().into(),
        message_id: MessageId(format!("m-{number}")),
        received_at: testing::moment() + TimeDelta::minutes(1),
        key: key(number),
        ..testing::event(&Value::Object(fields).to_string())
    };
    Item { id: event.idempotency_key(), key: event.key, payload: Payload::Event(event) }
}

fn change(number: u64, op: ChangeOp, fields: Map<String, Value>) -> Item {
    let change = Change { key: key(number), ..testing::change(op, &Value::Object(fields).to_string()) };
    Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) }
}

/// Each item is somebody else's, so that all of them may share a batch.
fn key(number: u64) -> PartitionKey {
    PartitionKey(u128::from(number).to_be_bytes())
}

/// The fields of an event with all that mappings usually ask for.
fn sample(person: Person) -> Map<String, Value> {
    let (name, number) = match person {
        Person::Ann => ("ann", 1),
        Person::Ben => ("ben", 2),
        Person::Cas => ("cas", 3),
    };
    let email = format!("{name}@example.com");
    let event = json!({
        "type": "identify",
        "event": "Order Completed",
        "name": "Home",
        "messageId": format!("m-{number}"),
        "userId": format!("u-{number}"),
        "anonymousId": format!("a-{number}"),
        "previousId": format!("p-{number}"),
        "groupId": format!("g-{number}"),
        "timestamp": "2023-11-14T22:13:20.678Z",
        "originalTimestamp": "2023-11-14T22:13:20.678Z",
        "traits": { "email": email, "phone": format!("+44207946001{number}"), "name": name, "plan": "pro" },
        "properties": { "revenue": 12.5, "currency": "EUR", "order_id": format!("o-{number}") },
        "context": {
            "ip": "192.0.2.1",
            "locale": "en-GB",
            "traits": { "email": email },
            "page": { "url": format!("https://example.com/{name}") },
        },
    });
    match event {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn wild(seed: u64) -> Map<String, Value> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
    let kinds = ["identify", "track", "page", "screen", "group", "alias", "TRACK", "merge", ""];
    let mut event = sample(Person::Ann);
    event.insert("type".to_owned(), json!(dice.pick(&kinds)));
    let names: Vec<String> = event.keys().filter(|name| *name != "type").cloned().collect();
    for name in names {
        match dice.below(4) {
            0 => {
                event.insert(name, dice.value(0));
            }
            1 => {
                event.remove(&name);
            }
            _ => {
                if let Some(Value::Object(fields)) = event.get_mut(&name) {
                    let inner: Vec<String> = fields.keys().cloned().collect();
                    for field in inner {
                        if dice.below(3) == 0 {
                            fields.insert(field, dice.value(0));
                        }
                    }
                    fields.insert(dice.text(), dice.value(0));
                }
            }
        }
    }
    event
}

/// A generator of numbers that is the same everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let at = usize::try_from(self.below(texts.len() as u64)).unwrap_or_default();
        texts.get(at).copied().unwrap_or_default()
    }

    fn text(&mut self) -> String {
        let texts = [
            "",
            " ",
            "a.b",
            "Größe",
            "عربى",
            "👩‍👩‍👧",
            "\u{0}\n\r\t",
            "<a>&\"'",
            "{{ 1/0 }}",
            "../../etc/passwd",
            "https://evil.example/",
            "2026-13-45T99:99:99Z",
            "+49 30 901820",
            "NaN",
        ];
        let text = self.pick(&texts);
        // A field this long is rare, and comes.
        if self.below(40) == 0 { text.repeat(4_000) } else { text.to_owned() }
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.below(9) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.next()),
            3 => json!(-1.5e300),
            4 => json!(i64::MIN),
            5 if depth < 4 => Value::Array((0..self.below(4)).map(|_| self.value(depth + 1)).collect()),
            6 if depth < 4 => {
                Value::Object((0..self.below(4)).map(|_| (self.text(), self.value(depth + 1))).collect())
            }
            _ => Value::String(self.text()),
        }
    }
}
