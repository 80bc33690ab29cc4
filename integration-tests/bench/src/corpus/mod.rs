//! The events that are sent: made from a seed, the same on every machine.
//!
//! Two sizes. **S** is a web event of 571 bytes with 16 flat columns; **L** is what SDKs of today send, 2 to
//! 3 KB with a nested context and a list of products. Both have the mix of a shop: 60 % track, 20 % page, 12 %
//! identify, 5 % screen, 2 % group, 1 % alias; 100,000 people by Zipf's law with exponent 1.05, 30 % of
//! the events with a user id; 8 % with text beyond ASCII, 2 % with escapes, 1 % with a message id that came
//! before; 15 % with personal data (`people.rs` says where).
//!
//! 0.1 % of what is sent is invalid; that is the workload's doing, since one bad event has its whole
//! batch refused.

mod large;
mod people;
mod small;
mod words;

use fastrand::Rng;
use sha2::{Digest, Sha256};

pub(crate) use people::People;
use people::Person;
pub(crate) use words::{product_name, token};

/// Changing it changes every event, and with them the figures.
const SEED: u64 = 20_261_124;

/// Distinct events. Enough that neither side answers from a cache.
const SMALL_EVENTS: usize = 20_000;
const LARGE_EVENTS: usize = 10_000;

/// The size of an S event in the published figures and in the targets.
pub(crate) const SMALL_BYTES: usize = 571;

/// Which of the two sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Size {
    /// 571 bytes, flat.
    S,
    /// 2 to 3 KB, nested.
    L,
}

/// One event as a client sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// One of RudderStack's types.
    pub(crate) event_type: &'static str,
    /// In the body.
    pub(crate) message_id: String,
    /// In the body, where there is one.
    pub(crate) user_id: Option<String>,
    /// In the body.
    pub(crate) anonymous_id: String,
    /// The event: a JSON object without white space.
    pub(crate) json: String,
}

/// What all events have, however large.
struct Facts {
    event_type: &'static str,
    message_id: String,
    person: Person,
    known: bool,
    original_timestamp: String,
    sent_at: String,
}

/// All events of one size.
pub(crate) fn events(size: Size) -> Vec<Sample> {
    let mut rng = Rng::with_seed(SEED);
    let people = People::new();
    let count = match size {
        Size::S => SMALL_EVENTS,
        Size::L => LARGE_EVENTS,
    };
    let mut samples: Vec<Sample> = Vec::with_capacity(count);
    for number in 0..count {
        let repeated = one_in_hundred(&mut rng, 1).then(|| samples.get(rng.usize(..number.max(1))));
        let message_id =
            repeated.flatten().map_or_else(|| uuid(&mut rng), |earlier| earlier.message_id.clone());
        let facts = facts(&mut rng, &people, number, message_id);
        let json = match size {
            Size::S => small::event(&mut rng, &facts),
            Size::L => large::event(&mut rng, &facts),
        };
        samples.push(Sample {
            event_type: facts.event_type,
            message_id: facts.message_id,
            user_id: facts.known.then_some(facts.person.user_id),
            anonymous_id: facts.person.anonymous_id,
            json,
        });
    }
    samples
}

/// SHA-256 over all events, a newline after each.
pub(crate) fn digest(samples: &[Sample]) -> String {
    let mut hasher = Sha256::new();
    for sample in samples {
        hasher.update(sample.json.as_bytes());
        hasher.update(b"\n");
    }
    hex::encode(hasher.finalize())
}

fn facts(rng: &mut Rng, people: &People, number: usize, message_id: String) -> Facts {
    let event_type = match rng.u32(..100) {
        0..60 => "track",
        60..80 => "page",
        80..92 => "identify",
        92..97 => "screen",
        97..99 => "group",
        _ => "alias",
    };
    // Whoever is identified has an id.
    let known = one_in_hundred(rng, 30) || event_type == "alias";
    let seconds = number as u64 / 40;
    let time = |millis: u64| {
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("2026-11-24T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    };
    let millis = rng.u64(..900);
    Facts {
        event_type,
        message_id,
        person: people.pick(rng),
        known,
        original_timestamp: time(millis),
        sent_at: time(millis + rng.u64(1..100)),
    }
}

/// True in `percent` of a hundred cases.
fn one_in_hundred(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(..100) < percent
}

fn pick<'t, T>(rng: &mut Rng, among: &'t [T]) -> &'t T {
    &among[rng.usize(..among.len())]
}

/// The form of a random UUID.
pub(crate) fn uuid(rng: &mut Rng) -> String {
    let number = rng.u128(..);
    let hex = format!("{number:032x}");
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Of the two sizes. Another digest makes the figures of before incomparable: raise them together.
    const DIGESTS: [(Size, &str); 2] = [
        (Size::S, "7460e45ab5ff885ba69055d507802dc9e7d05729f5ea25ab65aa7042dc7e81b3"),
        (Size::L, "441a5774f142e53d22689fd5f5c9f33d9a2811f75c9be44c5afbbf99217730e2"),
    ];

    #[test]
    fn the_corpus_is_the_one_that_the_figures_were_measured_with() {
        for (size, expected) in DIGESTS {
            assert_eq!(digest(&events(size)), expected, "{size:?}");
        }
    }

    #[test]
    fn events_have_the_sizes_and_shares_that_the_module_says() {
        for (size, least, most) in [(Size::S, SMALL_BYTES, SMALL_BYTES), (Size::L, 2_000, 3_000)] {
            let samples = events(size);
            let share = |what: &dyn Fn(&Sample) -> bool| {
                samples.iter().filter(|sample| what(sample)).count() as f64 / samples.len() as f64
            };
            for sample in &samples {
                let length = sample.json.len();
                assert!((least..=most).contains(&length), "{length}: {}", sample.json);
                let value: serde_json::Value = serde_json::from_str(&sample.json).unwrap();
                assert_eq!(value["type"], sample.event_type);
                assert_eq!(value["messageId"], *sample.message_id);
                assert_eq!(value["userId"].as_str(), sample.user_id.as_deref());
            }
            let near = |share: f64, expected: f64| (share - expected).abs() < 0.02;
            assert!(near(share(&|sample| sample.event_type == "track"), 0.60));
            assert!(near(share(&|sample| !sample.json.is_ascii()), 0.08));
            let ids: BTreeSet<_> = samples.iter().map(|sample| &sample.message_id).collect();
            assert!(near(ids.len() as f64 / samples.len() as f64, 0.99));
        }
    }
}
