//! Events to publish, told apart by their message id.

use millrace_bus::Received;
use millrace_event_model::{Event, KeyHasher, MessageId, testing};

/// Event `number` of person `number % people`.
pub(crate) fn event(number: usize, people: usize) -> Event {
    let person = format!("person-{}", number % people);
    Event {
        message_id: MessageId(format!("m-{number:06}")),
        key: KeyHasher::new(&[7; 32]).person(&person, ""),
        ..testing::event(&format!(r#"{{"type":"track","event":"e","number":{number}}}"#))
    }
}

/// Events of fifty people, which is enough for every partition to have some.
pub(crate) fn some_events(count: usize) -> Vec<Event> {
    (0..count).map(|number| event(number, 50)).collect()
}

pub(crate) fn id(received: &Received<Event>) -> String {
    received.message.as_ref().unwrap().message_id.0.clone()
}

pub(crate) fn sorted_ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let mut ids: Vec<String> = events.into_iter().map(|event| event.message_id.0.clone()).collect();
    ids.sort();
    ids
}
