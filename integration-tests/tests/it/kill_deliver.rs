//! The kill test of deliver: it dies again and again, at each of its crash points and at any moment, while
//! events keep coming and the receiver fails now and then. In the end every event was taken, each person's in
//! order, always under the same idempotency key, and no more than the windows of the deaths was sent twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::crash_points;
use crate::dice::Dice;
use crate::http::Http;
use crate::stack::{PATIENCE, PER_EVENT, Process, Site, WRITE_KEY, rounds, until, until_within};

const CONFIG: &str = r#"
workspace: test
kafka: { brokers: "{brokers}", replication: accept }
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: "${WRITE_KEY}" }
destinations:
  - { id: hook, kind: webhook, settings: { url: "{receiver}", allow_private: true } }
connections:
  - { from: web, to: hook }
"#;

/// Deaths at any moment; `just kill-deliver` wants more.
const ROUNDS: usize = 10;

/// A life at most, from its start or from its first request on.
const LONGEST_LIFE: Duration = Duration::from_millis(1_500);

/// The window of a webhook: what a death may repeat at most.
const WINDOW: usize = 1_000;

const PERSONS: usize = 60;

/// Events of each person in one batch.
const EACH: usize = 10;

/// As with a death at a crash point.
const SIGABRT: i32 = 6;

#[test]
fn what_was_acked_arrives_in_order_however_often_deliver_is_killed() {
    let mut dice = Dice::new("kill_deliver");
    let (began, at_random) = (Instant::now(), rounds(ROUNDS));
    let mut river = River::start();
    let points = crash_points::of_deliver();
    for (round, point) in points.iter().enumerate() {
        river.send();
        let at = format!("{}:{}", point.name, 1 + dice.below(3));
        let mut deliver = river.deliver(&format!("deliver-{round}"), &[("MILLRACE_CRASH_AT", &at)]);
        let ended = until(&format!("deliver dies at {at}"), || deliver.ended());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(SIGABRT), "{}", deliver.log());
    }
    for round in 0..at_random {
        river.send();
        let before = river.receiver.lock().unwrap().requests;
        let mut deliver = river.deliver(&format!("deliver-random-{round}"), &[]);
        // One of three dies soon after its start, if it has come so far.
        if dice.below(3) > 0 {
            until("deliver sends", || (river.receiver.lock().unwrap().requests > before).then_some(()));
        }
        sleep(dice.moment(LONGEST_LIFE));
        assert!(deliver.is_running(), "deliver ended by itself:\n{}", deliver.log());
        deliver.kill();
    }
    let deaths = points.len() + at_random;
    let mut deliver = river.deliver("deliver-last", &[]);
    let patience = PATIENCE + PER_EVENT * u32::try_from(river.sent).unwrap();
    until_within(patience, "all arrive", || {
        (river.receiver.lock().unwrap().taken.len() == river.sent).then_some(())
    });
    assert!(deliver.stop(), "{}", deliver.log());
    let after_all = river.receiver.lock().unwrap().requests;
    let mut deliver = river.deliver("deliver-again", &[]);
    // What it was to have is stored by now: it sends the next events and none of those before.
    river.send();
    until("the last arrive", || (river.receiver.lock().unwrap().taken.len() == river.sent).then_some(()));
    assert!(deliver.stop(), "{}", deliver.log());

    let received = river.receiver.lock().unwrap();
    let new = PERSONS * EACH;
    assert_eq!(
        received.requests - after_all,
        new + received.failed_after(after_all),
        "a stop repeats nothing"
    );
    let repeats: usize = received.taken.values().map(|times| times - 1).sum();
    println!(
        "{deaths} deaths, {} of them at random, {} events, {} requests, {} answered 503, {repeats} repeats: {:.0} s",
        at_random,
        river.sent,
        received.requests,
        received.failed.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(repeats <= deaths * WINDOW, "{repeats} repeats after {deaths} deaths");
    assert_eq!(received.disordered, Vec::<String>::new(), "each person's events came in order");
    assert!(received.keys.values().all(|keys| keys.len() == 1), "an event has one idempotency key");
    let letters = river.site.stdout_with(&["dead-letters", "list", "-o", "json"], &river.variables());
    assert_eq!(letters.trim(), "", "nothing was given up");
}

/// A broker and an ingest that stay, and a receiver.
struct River {
    receiver: Arc<Mutex<Received>>,
    http: Http,
    ingest: String,
    /// Events that were answered with 200.
    sent: usize,
    batches: usize,
    _runtime: tokio::runtime::Runtime,
    // In the order in which they are taken down: the folder last.
    _processes: Vec<Process>,
    site: Site,
}

/// What the receiver has seen.
#[derive(Default)]
struct Received {
    requests: usize,
    /// How often an event was answered with 200, by message id.
    taken: BTreeMap<String, usize>,
    /// The idempotency keys that it came under.
    keys: BTreeMap<String, BTreeSet<String>>,
    /// By person, the last number that was new.
    last: BTreeMap<String, u64>,
    /// Events that were taken for the first time after a later one of the same person.
    disordered: Vec<String>,
    /// Requests, by their number, that were answered with 503.
    failed: Vec<usize>,
}

impl Received {
    fn failed_after(&self, request: usize) -> usize {
        self.failed.iter().filter(|number| **number > request).count()
    }

    fn take(&mut self, key: String, event: &Value) -> StatusCode {
        self.requests += 1;
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let (id, person, number) =
            (text("messageId"), text("userId"), event["properties"]["n"].as_u64().unwrap());
        self.keys.entry(id.clone()).or_default().insert(key);
        // One request of twenty fails.
        if self.requests.is_multiple_of(20) {
            self.failed.push(self.requests);
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let times = self.taken.entry(id.clone()).or_default();
        *times += 1;
        if *times == 1 {
            let last = self.last.insert(person, number);
            if last.is_some_and(|last| last > number) {
                self.disordered.push(id);
            }
        }
        StatusCode::OK
    }
}

impl River {
    fn start() -> Self {
        let site = Site::new("");
        let folder = site.path().join("broker").display().to_string();
        let mut broker = site.start("broker", &["broker", "-o", "json", "-d", &folder]);
        let brokers = broker.first_line()["bootstrap"].as_str().unwrap().to_owned();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let receiver = Arc::<Mutex<Received>>::default();
        let router = axum::Router::new().fallback(take).with_state(Arc::clone(&receiver));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        site.write("millrace.yaml", &CONFIG.replace("{brokers}", &brokers).replace("{receiver}", &url));
        let ingest = site.start_with("ingest", &["ingest"], &[("WRITE_KEY", WRITE_KEY)]);
        let address = until("ingest listens", || {
            let log = ingest.log();
            let (_, rest) = log.split_once("receiving events address=")?;
            Some(rest.split_once(char::is_whitespace)?.0.to_owned())
        });
        Self {
            receiver,
            http: Http::new(),
            ingest: format!("http://{address}"),
            sent: 0,
            batches: 0,
            _runtime: runtime,
            _processes: vec![ingest, broker],
            site,
        }
    }

    /// Some events of each person.
    fn send(&mut self) {
        let mut batch = Vec::new();
        for each in 0..EACH {
            let number = self.batches * EACH + each;
            batch.extend((0..PERSONS).map(|person| {
                json!({
                    "type": "track", "event": "Step", "messageId": format!("p{person}-{number}"),
                    "userId": format!("p{person}"), "properties": {"n": number},
                })
            }));
        }
        let batch = json!({ "batch": batch });
        // On a busy machine Kafka may take too long, and ingest says so.
        until("ingest takes the events", || {
            (self.http.event(&self.ingest, "/v1/batch", &batch).status == 200).then_some(())
        });
        self.batches += 1;
        self.sent += PERSONS * EACH;
    }

    fn deliver(&self, name: &str, variables: &[(&str, &str)]) -> Process {
        let variables = [&self.variables()[..], variables].concat();
        self.site.start_with(name, &["deliver"], &variables)
    }

    fn variables(&self) -> [(&'static str, &'static str); 1] {
        [("WRITE_KEY", WRITE_KEY)]
    }
}

async fn take(State(received): State<Arc<Mutex<Received>>>, headers: HeaderMap, body: String) -> StatusCode {
    let key = headers["webhook-id"].to_str().unwrap().to_owned();
    let event: Value = serde_json::from_str(&body).unwrap();
    let status = received.lock().unwrap().take(key, &event);
    // Long enough that some are always under way.
    tokio::time::sleep(Duration::from_millis(3)).await;
    status
}
