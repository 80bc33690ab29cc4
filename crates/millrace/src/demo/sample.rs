//! What the demo sends: a day of a small shop, the same each time. All event types, client retries,
//! personal data in many places, and a property that changes its type (schema drift).

use serde_json::{Value, json};

/// People of the sample.
const PEOPLE: u64 = 60;
/// Orders each third person makes.
const ORDERS: u64 = 3;

/// Requests of the sample, and what a reader of the report should know of them.
pub(crate) struct Sample {
    /// Path and body of each request, in sending order.
    pub(crate) requests: Vec<(&'static str, Value)>,
    /// Personal data that stands in the requests and must not be found in any topic or table.
    pub(crate) canaries: Vec<String>,
}

/// Builds the sample.
pub(crate) fn sample() -> Sample {
    let mut requests = Vec::new();
    let mut canaries = Vec::new();
    for person in 1..=PEOPLE {
        let email = format!("person{person}@mail.example");
        let phone = format!("+49 151 2345{person:04}");
        requests.push(("/v1/identify", identify(person, &email, &phone)));
        canaries.push(email);
        canaries.push(phone);
        requests.push(("/v1/batch", visit(person)));
        if person % 3 == 0 {
            let card = "4111 1111 1111 1111";
            requests.push(("/v1/batch", orders(person, card)));
            canaries.push(card.to_owned());
        }
        if person % 10 == 0 {
            requests.push(("/v1/group", group(person)));
            requests.push(("/v1/alias", alias(person)));
            requests.push(("/v1/screen", screen(person)));
        }
    }
    // A client whose answer got lost sends the same events again.
    let retried: Vec<_> = requests.iter().step_by(11).cloned().collect();
    requests.extend(retried);
    canaries.sort_unstable();
    canaries.dedup();
    Sample { requests, canaries }
}

fn id(kind: &str, person: u64, number: u64) -> String {
    format!("{kind}-{person:04}-{number:02}")
}

fn at(person: u64, minute: u64) -> String {
    format!("2026-11-20T{:02}:{:02}:00.000Z", 6 + person % 16, minute % 60)
}

fn context(person: u64) -> Value {
    json!({
        "library": {"name": "demo", "version": "1.0.0"},
        "page": {"path": "/pricing", "url": format!("https://shop.example/pricing?ref={person}"), "title": "Pricing"},
        "locale": if person.is_multiple_of(2) { "de-DE" } else { "en-GB" },
    })
}

fn identify(person: u64, email: &str, phone: &str) -> Value {
    json!({
        "messageId": id("identify", person, 0),
        "userId": format!("user-{person}"),
        "anonymousId": format!("anon-{person}"),
        "originalTimestamp": at(person, 0),
        "context": {"traits": {"email": email, "phone": phone, "plan": plan(person), "seats": person % 9}, "locale": "en"},
        "traits": {"email": email, "plan": plan(person), "logins": person},
    })
}

fn plan(person: u64) -> &'static str {
    ["free", "team", "business"][(person % 3) as usize]
}

fn visit(person: u64) -> Value {
    let anonymous = format!("anon-{person}");
    json!({
        "sentAt": at(person, 5),
        "batch": [
            {"type": "page", "messageId": id("page", person, 1), "anonymousId": anonymous, "name": "Pricing",
             "properties": {"path": "/pricing", "referrer": "https://search.example/?q=millrace"},
             "originalTimestamp": at(person, 1), "context": context(person)},
            {"type": "track", "messageId": id("track", person, 2), "anonymousId": anonymous, "event": "Product Viewed",
             "properties": {"sku": format!("SKU-{}", person % 12), "price": 10 + person % 5, "inStock": true},
             "originalTimestamp": at(person, 2), "context": context(person)},
            {"type": "track", "messageId": id("track", person, 3), "anonymousId": anonymous, "event": "Search Performed",
             "properties": {"query": format!("boots size {person}"), "results": person % 50},
             "originalTimestamp": at(person, 3), "context": context(person)},
        ],
    })
}

/// `total` is a whole number at first, then has cents, and for one client it is text: schema drift.
fn orders(person: u64, card: &str) -> Value {
    let orders: Vec<_> = (0..ORDERS)
        .map(|number| {
            let total = match (person + number) % 5 {
                0 => json!(format!("about {}", person + number)),
                1 => json!(person + number),
                _ => json!((person + number) as f64 + 0.99),
            };
            json!({
                "type": "track", "messageId": id("order", person, number), "userId": format!("user-{person}"),
                "anonymousId": format!("anon-{person}"), "event": "Order Completed",
                "properties": {"orderId": format!("o-{person}-{number}"), "total": total, "currency": "EUR",
                    "items": [{"sku": "SKU-1", "quantity": number + 1}],
                    "note": format!("paid with {card}, thanks")},
                "originalTimestamp": at(person, 10 + number), "context": context(person),
            })
        })
        .collect();
    json!({"batch": orders, "sentAt": at(person, 30)})
}

fn group(person: u64) -> Value {
    json!({"messageId": id("group", person, 0), "userId": format!("user-{person}"), "groupId": format!("company-{}", person / 10),
        "traits": {"name": format!("Company {}", person / 10), "employees": person * 3}, "originalTimestamp": at(person, 40)})
}

fn alias(person: u64) -> Value {
    json!({"messageId": id("alias", person, 0), "userId": format!("user-{person}"), "previousId": format!("anon-{person}"),
        "originalTimestamp": at(person, 41)})
}

fn screen(person: u64) -> Value {
    json!({"messageId": id("screen", person, 0), "userId": format!("user-{person}"), "name": "Home",
        "properties": {"tab": "deals", "depth": person % 4}, "originalTimestamp": at(person, 42)})
}
