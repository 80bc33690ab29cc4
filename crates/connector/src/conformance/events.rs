//! Events for the kit: an ordinary one, and what clients send at their worst.

use serde_json::{Map, Value, json};

/// An event with all that mappings usually ask for.
pub(super) fn sample() -> Map<String, Value> {
    let event = json!({
        "type": "identify",
        "event": "Order Completed",
        "messageId": "m-1",
        "userId": "u-1",
        "anonymousId": "a-1",
        "groupId": "g-1",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "originalTimestamp": "2026-01-02T03:04:05.678Z",
        "traits": { "email": "ann@example.com", "phone": "+442079460018", "plan": "pro" },
        "properties": { "revenue": 12.5, "currency": "EUR", "order_id": "o-1" },
        "context": {
            "ip": "192.0.2.1",
            "locale": "en-GB",
            "traits": { "email": "ann@example.com" },
            "page": { "url": "https://example.com/x" },
        },
    });
    match event {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The same for the same seed: fields missing, null, of the wrong type, in other alphabets, huge.
pub(super) fn wild(seed: u64) -> Map<String, Value> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
    let kinds = ["identify", "track", "page", "screen", "group", "alias", "TRACK", "merge", ""];
    let mut event = sample();
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
