use millrace_bus::{Bus, BusError, KafkaSettings, ReplicationPolicy};
use millrace_event_model::Lane;
use millrace_event_model::topics::{self, EVENTS};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::cluster::{Cluster, events};

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_makes_what_is_missing_and_nothing_twice() {
    for cluster in Cluster::each() {
        let bus = cluster.bare_bus();
        let bulk: Lane = "bulk".parse().unwrap();
        bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
        bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
        bus.provision(&[Lane::main(), bulk.clone()], ReplicationPolicy::Single).await.unwrap();
        for spec in topics::ALL {
            for lane in [Lane::main(), bulk.clone()] {
                let name = spec.full_name(bus.workspace(), Some(&lane));
                let watermarks = bus.watermarks(&name).await.unwrap();
                assert_eq!(watermarks.len(), usize::try_from(spec.partitions).unwrap(), "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_provision_together() {
    for cluster in Cluster::each() {
        let bus = cluster.bare_bus();
        let lanes = [Lane::main()];
        let (one, two, three) = tokio::join!(
            bus.provision(&lanes, ReplicationPolicy::Single),
            bus.provision(&lanes, ReplicationPolicy::Single),
            bus.provision(&lanes, ReplicationPolicy::Single),
        );
        for result in [one, two, three] {
            result.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_another_partition_count_is_refused_by_name() {
    for cluster in Cluster::each() {
        let bus = cluster.bare_bus();
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", cluster.brokers()).create().unwrap();
        let name = events(&bus);
        let other = EVENTS.spec.partitions + 1;
        let topic = NewTopic::new(name.as_str(), other, TopicReplication::Fixed(1));
        for result in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            result.unwrap();
        }
        let error = bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap_err();
        assert!(matches!(&error, BusError::PartitionCount { actual, .. } if *actual == other), "{error}");
        assert!(error.to_string().contains(name.as_str()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_is_refused_where_acked_events_must_survive_a_broker() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let error = bus.provision(&[Lane::main()], ReplicationPolicy::Strict).await.unwrap_err();
        assert!(matches!(error, BusError::Unsafe { .. }), "{error}");
        bus.provision(&[Lane::main()], ReplicationPolicy::Accept).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_replicate_is_refused() {
    for cluster in Cluster::each() {
        let error =
            cluster.bare_bus().provision(&[Lane::main()], ReplicationPolicy::Strict).await.unwrap_err();
        assert!(matches!(error, BusError::Unsafe { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_decides_the_replication_that_was_accepted() {
    for cluster in Cluster::each() {
        cluster.bare_bus().provision(&[Lane::main()], ReplicationPolicy::Accept).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_waits_for_a_broker_that_is_late() {
    let mut cluster = Cluster::embedded();
    let bus = cluster.bare_bus();
    cluster.stop().await;
    let provisioning = tokio::spawn({
        let bus = bus.clone();
        async move { bus.provision(&[Lane::main()], ReplicationPolicy::Single).await }
    });
    // It has had time to fail; that it has not is the point.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!provisioning.is_finished());
    cluster.start_again();
    provisioning.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_gives_up_when_its_patience_ends() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let bus = Bus::new(KafkaSettings::new(nobody), "acme".parse().unwrap())
        .unwrap()
        .with_patience(std::time::Duration::from_millis(100));
    let error = bus.provision(&[], ReplicationPolicy::Single).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}
