use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millrace_bus::{
    Bus, BusError, GroupEvent, GroupOptions, GroupReader, Positions, PublisherOptions, Range, Revocation,
    Start,
};
use millrace_event_model::Event;
use millrace_event_model::topics::EVENTS;

use crate::cluster::{Cluster, DEADLINE, events};
use crate::messages::{id, some_events, sorted_ids};

/// Short sessions, so that a member that is gone is soon missed. Six seconds is Kafka's least.
fn options(instance: Option<&str>) -> GroupOptions {
    GroupOptions {
        instance: instance.map(str::to_owned),
        session_timeout: Duration::from_secs(6),
        drain_timeout: Duration::from_secs(20),
        ..GroupOptions::new("deliver.hook")
    }
}

async fn publish(bus: &Bus, messages: &[Event]) {
    let publisher = bus.publisher(PublisherOptions::default()).unwrap();
    let _ = publisher.publish(&events(bus), messages).await.unwrap();
}

/// A member that keeps its positions itself, as deliver does.
struct Owner {
    reader: GroupReader<Event>,
    owned: BTreeSet<i32>,
    ids: Vec<String>,
    ranges: Vec<Range>,
}

impl Owner {
    fn join(bus: &Bus, options: GroupOptions) -> Self {
        let reader = bus.group(&events(bus), options).unwrap();
        Self { reader, owned: BTreeSet::new(), ids: Vec::new(), ranges: Vec::new() }
    }

    /// One event; a revocation is for the caller to finish.
    async fn step(&mut self, positions: &Positions, room: usize) -> Option<Revocation> {
        match self.reader.next(room).await.unwrap() {
            GroupEvent::Assigned(assignment) => {
                self.owned.extend(assignment.partitions());
                assignment.begin(positions, Start::Earliest).await.unwrap();
            }
            GroupEvent::Revoked(revocation) => {
                for partition in revocation.partitions() {
                    self.owned.remove(partition);
                }
                return Some(revocation);
            }
            GroupEvent::Records(batch) => {
                self.ids.extend(batch.records.iter().map(id));
                self.ranges.extend(&batch.ranges);
            }
        }
        None
    }

    async fn read(&mut self, count: usize) {
        let positions = Positions::new();
        let read = async {
            while self.ids.len() < count {
                drop(self.step(&positions, 100).await);
            }
        };
        tokio::time::timeout(DEADLINE, read).await.expect("all messages are read");
    }

    /// Where each partition is, by what was read.
    fn positions(&self) -> Positions {
        let mut positions = Positions::new();
        for range in &self.ranges {
            let position = positions.insert(range.partition, range.end);
            assert!(position.is_none_or(|position| position == range.start), "the ranges touch");
        }
        positions
    }

    fn sorted_ids(&self) -> Vec<String> {
        let mut ids = self.ids.clone();
        ids.sort();
        ids
    }
}

fn all_partitions() -> usize {
    usize::try_from(EVENTS.spec.partitions).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_alone_reads_everything_from_where_it_says() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(500);
        publish(&bus, &messages).await;

        let mut owner = Owner::join(&bus, options(None));
        owner.read(messages.len()).await;

        assert_eq!(owner.owned.len(), all_partitions());
        assert_eq!(owner.sorted_ids(), sorted_ids(&messages));
        let positions = owner.positions();
        owner.reader.commit(&positions).await.unwrap();
        let partitions: Vec<i32> = positions.keys().copied().collect();
        assert_eq!(owner.reader.committed(&partitions).await.unwrap(), positions);
        owner.reader.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_waits_for_the_drain_and_no_message_is_read_twice() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(600);
        publish(&bus, &messages[..300]).await;
        let mut first = Owner::join(&bus, options(None));
        first.read(300).await;

        let mut second = Owner::join(&bus, options(None));
        let handed_over = first.positions();
        let none = Positions::new();
        let revocation = tokio::time::timeout(DEADLINE, async {
            loop {
                if let Some(revocation) = first.step(&none, 100).await {
                    return revocation;
                }
            }
        })
        .await
        .expect("the second member gets its share");
        assert!(!revocation.is_lost());
        // While the first one drains, the second has nothing.
        let early = tokio::time::timeout(Duration::from_secs(1), second.reader.next(100)).await;
        assert!(early.is_err(), "{early:?}");
        let committed: Positions = handed_over
            .iter()
            .filter(|(partition, _)| revocation.partitions().contains(partition))
            .map(|(partition, offset)| (*partition, *offset))
            .collect();
        first.reader.commit(&committed).await.expect("a commit in the drain is still the owner's");
        revocation.finish();

        publish(&bus, &messages[300..]).await;
        let both = async {
            while first.ids.len() + second.ids.len() < messages.len() {
                tokio::select! {
                    revoked = first.step(&none, 100) => drop(revoked),
                    revoked = second.step(&handed_over, 100) => drop(revoked),
                }
            }
        };
        tokio::time::timeout(DEADLINE, both).await.expect("both members read on");
        let mut ids = [first.ids.clone(), second.ids.clone()].concat();
        ids.sort();
        assert_eq!(ids, sorted_ids(&messages));
        assert!(first.owned.is_disjoint(&second.owned), "{:?} {:?}", first.owned, second.owned);
        assert_eq!(first.owned.len() + second.owned.len(), all_partitions());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_does_not_drain_holds_the_group_up_no_longer_than_its_bound() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        publish(&bus, &some_events(100)).await;
        let hasty = GroupOptions { drain_timeout: Duration::from_secs(1), ..options(None) };
        let mut first = Owner::join(&bus, hasty);
        first.read(100).await;
        let mut second = Owner::join(&bus, options(None));
        let none = Positions::new();
        let mut kept = Vec::new();
        let handed_over = first.positions();
        let taken_over = async {
            while second.owned.is_empty() {
                tokio::select! {
                    revoked = first.step(&none, 100) => kept.extend(revoked),
                    revoked = second.step(&handed_over, 100) => drop(revoked),
                }
            }
        };
        tokio::time::timeout(DEADLINE, taken_over).await.expect("the second member gets its share");
        assert!(!kept.is_empty(), "the first one never finished its drain");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_owner_is_fed_no_more_than_the_buffers_hold_and_misses_nothing() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        // More than the buffers of the few partitions that three people use.
        let messages: Vec<Event> = (0..6_000).map(|number| crate::messages::event(number, 3)).collect();
        publish(&bus, &messages).await;
        let mut owner = Owner::join(&bus, options(None));
        let none = Positions::new();
        while owner.owned.len() < all_partitions() {
            drop(owner.step(&none, 0).await);
        }
        let idle = tokio::time::timeout(Duration::from_secs(2), owner.reader.next(0)).await;
        assert!(idle.is_err(), "with no room there are no messages");
        owner.read(messages.len()).await;
        assert_eq!(owner.sorted_ids(), sorted_ids(&messages));
        owner.positions();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_is_back_in_time_disturbs_nobody() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        publish(&bus, &some_events(100)).await;
        let patient =
            |instance| GroupOptions { session_timeout: Duration::from_secs(45), ..options(Some(instance)) };
        let mut first = Owner::join(&bus, patient("one"));
        first.read(100).await;
        let mut second = Owner::join(&bus, patient("two"));
        let none = Positions::new();
        let settled = async {
            while second.owned.len() < all_partitions() / 2 || first.owned.len() > all_partitions() / 2 {
                tokio::select! {
                    revoked = first.step(&none, 100) => drop(revoked),
                    revoked = second.step(&none, 100) => drop(revoked),
                }
            }
        };
        tokio::time::timeout(DEADLINE, settled).await.expect("each has its share");
        let share = second.owned.clone();

        second.reader.close().await;
        let mut back = Owner::join(&bus, patient("two"));
        let returned = async {
            while back.owned.is_empty() {
                tokio::select! {
                    revoked = first.step(&none, 100) => assert!(revoked.is_none(), "the first one lost something"),
                    revoked = back.step(&none, 100) => drop(revoked),
                }
            }
        };
        tokio::time::timeout(DEADLINE, returned).await.expect("the second one is back");
        assert_eq!(back.owned, share);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_is_dropped_ends_the_membership() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let mut reader = bus.group(&events(&bus), options(None)).unwrap();
        let joined = tokio::time::timeout(DEADLINE, reader.next(1)).await.unwrap().unwrap();
        let GroupEvent::Assigned(assignment) = joined else { panic!("{joined:?}") };
        drop(assignment);
        let ended = tokio::time::timeout(DEADLINE, reader.next(1)).await.unwrap().unwrap_err();
        assert!(matches!(ended, BusError::GroupEnded { .. }), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_gone_is_said_before_anything_is_read() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let mut reader = bus.group(&events(&bus), options(None)).unwrap();
        let joined = tokio::time::timeout(DEADLINE, reader.next(1)).await.unwrap().unwrap();
        let GroupEvent::Assigned(assignment) = joined else { panic!("{joined:?}") };
        let ahead: BTreeMap<i32, i64> =
            assignment.partitions().iter().map(|partition| (*partition, 9)).collect();
        let error = assignment.begin(&ahead, Start::Earliest).await.unwrap_err();
        assert!(matches!(error, BusError::OffsetAhead { .. }), "{error}");
        assignment.begin(&Positions::new(), Start::Latest).await.unwrap();
        publish(&bus, &some_events(10)).await;
        let started = Instant::now();
        let event = tokio::time::timeout(DEADLINE, reader.next(1)).await.unwrap().unwrap();
        assert!(matches!(event, GroupEvent::Records(_)), "{event:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "messages come at once: {:?}", started.elapsed());
    }
}
