use millrace_bus::{CancellationToken, Follower, PublisherOptions};
use millrace_event_model::Control;
use millrace_event_model::topics::CONTROL;

use crate::cluster::{Cluster, DEADLINE};

fn word(number: usize) -> Control {
    Control::Resume {
        destination: format!("hook-{number}").parse().unwrap(),
        at: chrono::DateTime::UNIX_EPOCH,
    }
}

/// The words until it is current and has heard so many.
async fn hear(follower: &mut Follower<Control>, count: usize) -> Vec<Control> {
    let stop = CancellationToken::new();
    let mut words = Vec::new();
    let hear = async {
        while words.len() < count || !follower.is_current() {
            words.extend(follower.next(&stop).await.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, hear).await.expect("all words are heard");
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_what_was_said_and_then_what_is_said() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let topic = CONTROL.of(bus.workspace());
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        assert!(bus.follow(&topic).await.unwrap().is_current(), "nothing was said yet");

        let words: Vec<Control> = (0..2_500).map(word).collect();
        let _ = publisher.publish(&topic, &words).await.unwrap();
        let mut follower = bus.follow(&topic).await.unwrap();
        assert!(!follower.is_current());
        assert_eq!(hear(&mut follower, 0).await, words, "to the end, before it is current");

        let _ = publisher.publish(&topic, [&word(2_500)]).await.unwrap();
        assert_eq!(hear(&mut follower, 1).await, [word(2_500)]);
    }
}
