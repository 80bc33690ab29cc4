//! Ingest dies in the middle of its work, again and again: what it has answered with 200 is in Kafka.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::edge::Edge;
use crate::load::{Clients, Load};
use crate::stack::rounds;

/// Deaths; `just kill-ingest` wants more.
const ROUNDS: usize = 10;

/// A life at most, from its start or from its first answers on.
const LONGEST_LIFE: Duration = Duration::from_millis(1_500);

const CLIENTS: Clients = Clients { singles: 4, batches: 4, events: 60, padding: 100 };

#[test]
fn what_ingest_has_answered_is_in_kafka_however_often_it_is_killed() {
    let (mut dice, began) = (Dice::new("kill_ingest"), Instant::now());
    let rounds = rounds(ROUNDS);
    let mut edge = Edge::start(&mut dice);
    let load = Load::start(&edge.url(), CLIENTS);
    for _ in 0..rounds {
        // One of three dies soon after its start, if it has come so far.
        if dice.below(3) > 0 {
            load.wait_for_acks();
        }
        sleep(dice.moment(LONGEST_LIFE));
        edge.kill_and_start();
    }
    load.wait_for_acks();
    let sent = load.stop();
    edge.stop();
    println!(
        "{rounds} deaths in {:.0} s; requests by answer (0: none): {:?}",
        began.elapsed().as_secs_f64(),
        sent.answers()
    );
    let doubled = sent.assert_stored(&edge.stored());
    // The producer may double what shared a request with an event that timed out, which is answered 503.
    assert!(doubled == 0 || sent.answers().contains_key(&503), "{doubled} events are stored twice");
}
