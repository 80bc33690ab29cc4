//! A workspace on a broker, and events for it.

use millrace_bus::{Bus, KafkaSettings, ReplicationPolicy};
use millrace_event_model::topics::{EVENTS, TopicName};
use millrace_event_model::{Event, KeyHasher, Lane, MessageId, testing};

pub(crate) async fn bus(brokers: &str) -> Bus {
    let bus = Bus::new(KafkaSettings::new(brokers), "acme".parse().unwrap()).unwrap();
    bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
    bus
}

pub(crate) fn events(bus: &Bus) -> TopicName<Event> {
    EVENTS.lane(bus.workspace(), &Lane::main())
}

/// About 500 bytes, as a small event is.
pub(crate) fn event(number: u64) -> Event {
    let person = format!("person-{}", number % 40);
    Event {
        message_id: MessageId(format!("m-{number}")),
        key: KeyHasher::new(&[7; 32]).person(&person, ""),
        ..testing::event(&format!(r#"{{"type":"track","pad":"{}"}}"#, "x".repeat(300)))
    }
}

/// The message ids that the broker holds, in the order of partitions and offsets.
pub(crate) async fn stored_ids(bus: &Bus) -> Vec<String> {
    let stored = bus.read_all(&events(bus)).await.unwrap();
    stored.into_iter().map(|received| received.message.unwrap().message_id.0).collect()
}
