//! Clients that send without end, each event once, and remember which were answered with 200; and the
//! comparison with what Kafka holds in the end.
//!
//! A client waits for each answer before it sends more, and all its events are one person's, so that those
//! that were answered must stand in Kafka in the order of sending. What was not answered it does not send
//! again: whatever stands there twice was doubled behind its back, by the producer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::edge::Stored;
use crate::http::Http;
use crate::stack::{WRITE_KEY, until};

/// How long a client waits before it tries again to connect.
const REFUSED: Duration = Duration::from_millis(50);

/// Who sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clients {
    /// Clients that send one event after the other.
    pub(crate) singles: usize,
    /// Clients that send batches.
    pub(crate) batches: usize,
    /// Events of a batch, at most.
    pub(crate) events: u64,
    /// What each event has besides, in bytes.
    pub(crate) padding: usize,
}

/// What one client has sent and heard.
#[derive(Debug, Default)]
struct Heard {
    /// Events that it has sent: their numbers are below.
    sent: u64,
    /// The numbers of those that were answered with 200.
    acked: Vec<u64>,
    /// Requests by their answer; 0 is a connection that broke or could not be made.
    answers: BTreeMap<u16, u64>,
    /// The longest time to an answer.
    longest: Duration,
    /// Answers 503 that did not say when to come again.
    without_retry_after: u64,
}

/// All of it, while it goes on.
pub(crate) struct Load {
    clients: Clients,
    stop: Arc<AtomicBool>,
    heard: Vec<Arc<Mutex<Heard>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(ingest: &str, clients: Clients) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut load = Self { clients, stop, heard: Vec::new(), threads: Vec::new() };
        for number in 0..clients.singles + clients.batches {
            let heard = Arc::<Mutex<Heard>>::default();
            load.heard.push(Arc::clone(&heard));
            let (stop, ingest) = (Arc::clone(&load.stop), ingest.to_owned());
            load.threads.push(std::thread::spawn(move || {
                let http = Http::new();
                while !stop.load(Ordering::SeqCst) {
                    send(&http, &ingest, clients, number, &heard);
                }
            }));
        }
        load
    }

    fn acked_by_each(&self) -> Vec<usize> {
        self.heard.iter().map(|heard| heard.lock().unwrap().acked.len()).collect()
    }

    /// Events that were answered with 200.
    pub(crate) fn acked(&self) -> usize {
        self.acked_by_each().iter().sum()
    }

    /// Until every client has got a 200 that it had not when this was called.
    pub(crate) fn wait_for_acks(&self) {
        let before = self.acked_by_each();
        until("each client is answered with 200", || {
            let more = self.acked_by_each().iter().zip(&before).all(|(now, before)| now > before);
            more.then_some(())
        });
    }

    /// Lets each client finish the request in hand.
    pub(crate) fn stop(self) -> Sent {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let heard = self.heard.into_iter().map(|heard| Arc::into_inner(heard).unwrap().into_inner().unwrap());
        Sent { clients: self.clients, heard: heard.collect() }
    }
}

fn send(http: &Http, ingest: &str, clients: Clients, client: usize, heard: &Mutex<Heard>) {
    let first = heard.lock().unwrap().sent;
    let mut next = first + 1;
    let (path, body) = if client < clients.singles {
        ("/v1/track", event(clients, client, first))
    } else {
        // As many as it comes to: every size up to the largest has its turn.
        next = first + 1 + first * 7 % clients.events;
        let events: Vec<_> = (first..next).map(|number| event(clients, client, number)).collect();
        ("/v1/batch", format!("{{\"batch\":[{}]}}", events.join(" ,\n")))
    };
    heard.lock().unwrap().sent = next;
    let began = Instant::now();
    let answer = http.post(&format!("{ingest}{path}"), WRITE_KEY, body.into_bytes());
    let took = began.elapsed();
    let mut heard = heard.lock().unwrap();
    let status = answer.as_ref().map_or(0, |answer| answer.status);
    *heard.answers.entry(status).or_default() += 1;
    match answer {
        None => {
            drop(heard);
            return sleep(REFUSED);
        }
        Some(answer) if answer.status == 503 && answer.retry_after.is_none() => {
            heard.without_retry_after += 1;
        }
        Some(_) => {}
    }
    heard.longest = heard.longest.max(took);
    if status == 200 {
        heard.acked.extend(first..next);
    }
}

/// The text of a client's event: in turn plain, with white space and escapes where they need not be, with
/// what a JSON tree would lose, and large.
fn event(clients: Clients, client: usize, number: u64) -> String {
    let who = format!(r#""anonymousId":"client-{client}","messageId":"{client}-{number}""#);
    let padding = "x".repeat(clients.padding);
    match number % 4 {
        0 => format!(
            r#"{{"type":"track","event":"Ping",{who},"properties":{{"price":1.50,"padding":"{padding}"}}}}"#
        ),
        1 => format!(
            r#"{{ "type" : "tr\u0061ck", "event":"P\u0069ng" ,{who},  "properties":{{"text":"\ud83d\ude00 \\ \"ü\" \n","padding":"{padding}" }} }}"#
        ),
        2 => format!(
            r#"{{"event":"first","event":"Ping","type":"track",{who},"properties":{{"n":12345678901234567890123,"padding":"{padding}","":1e400}}}}"#
        ),
        _ => format!(
            r#"{{{who},"type":"track","event":"Ping","properties":{{"list":[[],{{}},"{padding}","{padding}"]}}}}"#
        ),
    }
}

/// What Kafka holds, beside what was answered.
struct Compared {
    wrong: Vec<String>,
    /// Events that it holds once more.
    doubled: usize,
}

/// What all clients have sent and heard.
pub(crate) struct Sent {
    clients: Clients,
    heard: Vec<Heard>,
}

impl Sent {
    /// Requests by their answer; 0 is a connection that broke or could not be made.
    pub(crate) fn answers(&self) -> BTreeMap<u16, u64> {
        let mut answers = BTreeMap::new();
        for (status, count) in self.heard.iter().flat_map(|heard| &heard.answers) {
            *answers.entry(*status).or_default() += count;
        }
        answers
    }

    /// The longest time to an answer.
    pub(crate) fn longest(&self) -> Duration {
        self.heard.iter().map(|heard| heard.longest).max().unwrap_or_default()
    }

    /// Answers 503 that did not say when to come again.
    pub(crate) fn without_retry_after(&self) -> u64 {
        self.heard.iter().map(|heard| heard.without_retry_after).sum()
    }

    /// Stops the test unless Kafka holds all that was answered with 200, byte by byte and each client's in its
    /// order, and nothing that was not sent. Returns how many events it holds twice.
    pub(crate) fn assert_stored(&self, stored: &[Stored]) -> usize {
        let Compared { wrong, doubled } = self.compare(stored);
        assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
        let sent: u64 = self.heard.iter().map(|heard| heard.sent).sum();
        let acked: usize = self.heard.iter().map(|heard| heard.acked.len()).sum();
        println!(
            "{sent} events made, {acked} answered with 200 and stored, {} stored without an answer, {doubled} stored twice",
            stored.len() - acked - doubled
        );
        doubled
    }

    fn compare(&self, stored: &[Stored]) -> Compared {
        let (mut wrong, mut doubled) = (Vec::new(), 0);
        let mut places: Vec<BTreeMap<u64, (i32, i64)>> = vec![BTreeMap::new(); self.heard.len()];
        for record in stored {
            let id = &record.message_id;
            let Some((client, number)) = self.sender(id) else {
                wrong.push(format!("{id} is stored, and nobody has sent it"));
                continue;
            };
            if record.body != event(self.clients, client, number) {
                wrong.push(format!("{id} is not stored as it was sent: {}", record.body));
            }
            // Of an event that stands there twice, the first counts: consumers drop the other.
            let place = (record.partition, record.offset);
            let first = places[client].entry(number).or_insert(place);
            if *first != place {
                doubled += 1;
                *first = place.min(*first);
            }
        }
        for (client, (heard, places)) in self.heard.iter().zip(&places).enumerate() {
            // In the order of sending, which is that of the numbers.
            let mut last: Option<(u64, (i32, i64))> = None;
            for number in &heard.acked {
                let Some(place) = places.get(number) else {
                    wrong.push(format!("{client}-{number} was answered with 200 and is not stored"));
                    continue;
                };
                if let Some((before, earlier)) = last
                    && (earlier.0 != place.0 || earlier.1 >= place.1)
                {
                    wrong.push(format!(
                        "{client}-{number} at {place:?} does not follow {client}-{before} at {earlier:?}"
                    ));
                }
                last = Some((*number, *place));
            }
        }
        Compared { wrong, doubled }
    }

    /// The client and the number of an event that was sent.
    fn sender(&self, message_id: &str) -> Option<(usize, u64)> {
        let (client, number) = message_id.split_once('-')?;
        let (client, number): (usize, u64) = (client.parse().ok()?, number.parse().ok()?);
        let heard = self.heard.get(client)?;
        (number < heard.sent).then_some((client, number))
    }
}

#[test]
fn what_is_lost_doubled_altered_or_out_of_order_is_noticed() {
    let clients = Clients { singles: 1, batches: 0, events: 1, padding: 3 };
    let heard = Heard { sent: 4, acked: vec![0, 1, 2], ..Heard::default() };
    let sent = Sent { clients, heard: vec![heard] };
    let stored = |number: u64, partition: i32, offset: i64| {
        let (message_id, body) = (format!("0-{number}"), event(clients, 0, number));
        Stored { partition, offset, message_id, body }
    };
    let whole = || vec![stored(0, 5, 10), stored(1, 5, 11), stored(3, 5, 12), stored(2, 5, 13)];
    let found = |alter: &dyn Fn(&mut Vec<Stored>)| {
        let mut stored = whole();
        alter(&mut stored);
        let Compared { wrong, doubled } = sent.compare(&stored);
        (wrong.len(), doubled)
    };
    assert_eq!(found(&|_| {}), (0, 0), "what was not answered may be stored, in any place");
    assert_eq!(found(&|stored| drop(stored.remove(1))), (1, 0), "lost");
    assert_eq!(found(&|all| all.push(stored(3, 5, 14))), (0, 1), "stored twice");
    assert_eq!(found(&|all| all.insert(0, stored(0, 5, 14))), (0, 1), "stored twice, the second seen first");
    assert_eq!(found(&|all| all.push(stored(4, 5, 14))), (1, 0), "never sent");
    assert_eq!(found(&|stored| stored[2].body.push(' ')), (1, 0), "altered");
    assert_eq!(found(&|stored| stored[0].offset = 12), (1, 0), "out of order");
    assert_eq!(found(&|stored| stored[3].partition = 6), (1, 0), "in another partition");
}
