//! Kafka hangs, dies and comes back under load: clients always hear 200 or 503 in time, nothing that was
//! answered with 200 is lost, memory stays where it was, and ingest recovers by itself.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::edge::Edge;
use crate::http::Http;
use crate::kafka::Kafka;
use crate::load::{Clients, Load};
use crate::stack::{rounds, until};

/// Outages; `just outages` wants more, and longer ones.
const ROUNDS: usize = 3;
const SHORT: Duration = Duration::from_secs(8);
const LONG: Duration = Duration::from_secs(30);

/// A client hears its answer within this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Requests are refused this long into an outage, and then the process says that it is not ready.
const NOTICED_AFTER: Duration = Duration::from_secs(6);

/// Memory that an outage may take beyond the peak of an undisturbed time under the same load. The bounds are
/// 64 MiB in the producer and 128 MiB of bodies; this load, which waits for its answers, cannot fill them.
const GROWTH_KIB: u64 = 64 * 1024;

/// More connections and larger bodies than the broker's answers let through in an outage.
const CLIENTS: Clients = Clients { singles: 16, batches: 24, events: 60, padding: 600 };

/// Under load, undisturbed: long enough for every buffer to have been used.
const WARM_UP: Duration = Duration::from_secs(3);

const SAMPLED_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
enum Outage {
    /// SIGSTOP, and SIGCONT after this long.
    Hangs(Duration),
    /// SIGKILL, and a new start after this long.
    Dies(Duration),
}

#[test]
fn clients_hear_200_or_503_in_time_whatever_kafka_does() {
    let mut dice = Dice::new("broker_outage");
    let Some(kafka) = Kafka::start() else { return };
    let rounds = rounds(ROUNDS);
    let longest = if rounds > ROUNDS { LONG } else { SHORT };
    let mut edge = Edge::before(&kafka.brokers, &mut dice);
    let http = Http::new();
    let is_ready = || http.get(&edge.readiness()).is_some_and(|answer| answer.status == 200);
    until("ingest is ready", || is_ready().then_some(()));
    let load = Load::start(&edge.url(), CLIENTS);
    load.wait_for_acks();
    let (undisturbed, _) = watch(&edge, WARM_UP, &is_ready);
    println!("undisturbed: {} MiB at most", undisturbed / 1024);
    let mut peak = 0;
    for round in 1..=rounds {
        let outage = outage(round, longest, &mut dice);
        let (resident, unready) = match outage {
            Outage::Hangs(time) => {
                kafka.signal("STOP");
                let seen = watch(&edge, time, &is_ready);
                kafka.signal("CONT");
                seen
            }
            Outage::Dies(time) => {
                kafka.signal("KILL");
                let seen = watch(&edge, time, &is_ready);
                kafka.start_again();
                seen
            }
        };
        let over = Instant::now();
        load.wait_for_acks();
        let recovered = over.elapsed();
        until("ingest is ready again", || is_ready().then_some(()));
        println!(
            "round {round}: {outage:.1?}; not ready after {unready:.1?}, recovered in {recovered:.1?}, {} MiB at most, {} answered",
            resident / 1024,
            load.acked()
        );
        let (Outage::Hangs(time) | Outage::Dies(time)) = outage;
        assert!(time < NOTICED_AFTER || unready.is_some(), "ready all the time without a broker");
        peak = peak.max(resident);
    }
    let sent = load.stop();
    edge.stop();
    println!(
        "{rounds} outages; requests by answer: {:?}; answered after {:.2?} at most; {} MiB at most",
        sent.answers(),
        sent.longest(),
        peak / 1024
    );
    // Some may be stored twice: see `millrace_bus::Publisher`.
    sent.assert_stored(&edge.stored());
    assert!(sent.answers().keys().all(|status| matches!(status, 200 | 503)), "{:?}", sent.answers());
    assert!(sent.answers().contains_key(&503), "no outage was felt");
    assert_eq!(sent.without_retry_after(), 0);
    assert!(sent.longest() <= ANSWERED_WITHIN, "{:?}", sent.longest());
    assert!(peak <= undisturbed + GROWTH_KIB, "{undisturbed} KiB, and {peak} KiB in an outage");
}

/// Of both kinds, whatever the dice say; the first two long enough to be noticed.
fn outage(round: usize, longest: Duration, dice: &mut Dice) -> Outage {
    let mut time = dice.moment(longest);
    if round <= 2 {
        time = time.max(NOTICED_AFTER);
    }
    let hangs = match round {
        1 => true,
        2 => false,
        _ => dice.below(2) == 0,
    };
    if hangs { Outage::Hangs(time) } else { Outage::Dies(time) }
}

/// The most memory that ingest takes in this time, and after how long it says that it is not ready.
fn watch(edge: &Edge, time: Duration, is_ready: &impl Fn() -> bool) -> (u64, Option<Duration>) {
    let (began, mut peak, mut unready) = (Instant::now(), 0, None);
    while began.elapsed() < time {
        peak = peak.max(edge.resident_kib());
        if unready.is_none() && !is_ready() {
            unready = Some(began.elapsed());
        }
        sleep(SAMPLED_EVERY.min(time.saturating_sub(began.elapsed())));
    }
    (peak, unready)
}
