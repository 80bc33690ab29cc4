use millrace_broker::{BrokerError, EmbeddedBroker};
use millrace_bus::PublisherOptions;
use millrace_event_model::Event;

use crate::river::{bus, event, events, stored_ids};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acked_is_there_after_a_restart_in_the_same_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let messages: Vec<Event> = (0..300).map(event).collect();

    let first = EmbeddedBroker::start(dir.path(), None).unwrap();
    let before = bus(&first.bootstrap()).await;
    let publisher = before.publisher(PublisherOptions::default()).unwrap();
    let _ = publisher.publish(&events(&before), &messages).await.unwrap();
    let ids = stored_ids(&before).await;
    let identity = before.identity(events(&before).as_str()).await.unwrap();
    assert_eq!(ids.len(), messages.len());
    first.stop().await;

    let second = EmbeddedBroker::start(dir.path(), None).unwrap();
    let after = bus(&second.bootstrap()).await;
    assert_eq!(stored_ids(&after).await, ids);
    assert_eq!(after.identity(events(&after).as_str()).await.unwrap(), identity);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_folders_are_two_clusters() {
    let mut clusters = Vec::new();
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::start(dir.path(), None).unwrap();
        clusters.push(bus(&broker.bootstrap()).await.identity("t").await.unwrap().cluster);
        broker.stop().await;
    }
    assert_ne!(clusters[0], clusters[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_broker_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = EmbeddedBroker::start(dir.path(), None).unwrap();
    let error = EmbeddedBroker::start(dir.path(), None).unwrap_err();
    assert!(matches!(error, BrokerError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    first.stop().await;
    EmbeddedBroker::start(dir.path(), None).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let error = EmbeddedBroker::start(dir.path(), Some(port)).unwrap_err();
    assert!(matches!(error, BrokerError::PortInUse { port: named } if named == port), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_dropped_gives_up_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    drop(EmbeddedBroker::start(dir.path(), None).unwrap());
    drop(EmbeddedBroker::start(dir.path(), None).unwrap());
}
