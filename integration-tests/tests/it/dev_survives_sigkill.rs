//! `millrace dev` dies in the middle of a stream of requests, again and again: what it has answered with 200
//! is in the lake exactly once, and the webhook gets all of it, with few repeats.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::dice::Dice;
use crate::http::Http;
use crate::stack::{Dev, Site, until};

const CONFIG: &str = r#"
workspace: test
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: test-write-key }
warehouses:
  - { id: lake, kind: lake, settings: { url: "{dir}/lake" } }
destinations:
  - { id: hook, kind: webhook, settings: { url: "{receiver}", secret: "whsec_bWlsbHJhY2UgdGVzdHMsIG5vdCBhIHNlY3JldA==", allow_private: true } }
connections:
  - { from: web, to: lake, schema: web, schedule: 200ms }
  - { from: web, to: hook }
"#;

/// Deaths in the stream.
const ROUNDS: usize = 5;

/// It lives so long at most before it is killed, from its start on.
const LONGEST_LIFE: Duration = Duration::from_secs(3);

/// Events of one request, each of another person: their order does not hold up the webhook.
const EVENTS: usize = 40;

/// What a destination may have unfinished, and so repeat after a crash (`deliver`'s default).
const WINDOW: usize = 1_000;

/// For each event, the webhook-ids of its requests.
type Requests = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// A webhook that counts.
struct Receiver {
    url: String,
    requests: Requests,
    _runtime: Runtime,
}

impl Receiver {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let requests = Requests::default();
        let router = axum::Router::new().route("/in", post(take)).with_state(Arc::clone(&requests));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, requests, _runtime: runtime }
    }

    fn has_all(&self, events: &BTreeSet<String>) -> bool {
        let requests = self.requests.lock().unwrap();
        events.iter().all(|event| requests.contains_key(event))
    }

    fn events(&self) -> BTreeSet<String> {
        self.requests.lock().unwrap().keys().cloned().collect()
    }

    /// Requests beyond the first of each event. All of one event have the same webhook-id, by which a
    /// receiver knows it again.
    fn repeats(&self) -> usize {
        let requests = self.requests.lock().unwrap();
        let again = requests.values().map(|ids| {
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
            ids.len() - 1
        });
        again.sum()
    }
}

async fn take(State(requests): State<Requests>, headers: HeaderMap, body: String) -> StatusCode {
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap();
    let event = body["messageId"].as_str().unwrap().to_owned();
    requests.lock().unwrap().entry(event).or_default().push(id);
    StatusCode::OK
}

/// A client that sends without end, and sends again what was not answered, as the SDKs do.
struct Client {
    /// Where ingest listens now.
    ingest: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Sent>>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Sent {
    /// Ids of events that were answered with 200.
    acked: BTreeSet<String>,
    /// Events of requests that were sent more than once.
    repeated: usize,
}

impl Client {
    fn start(ingest: &str) -> Self {
        let (ingest, stop) = (Arc::new(Mutex::new(ingest.to_owned())), Arc::<AtomicBool>::default());
        let sent = Arc::<Mutex<Sent>>::default();
        let (address, stopped, tell) = (Arc::clone(&ingest), Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let http = Http::new();
            for request in 0.. {
                let ids: Vec<_> = (0..EVENTS).map(|event| format!("m-{request}-{event}")).collect();
                send(&http, &address, &ids, &tell);
                tell.lock().unwrap().acked.extend(ids);
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        Self { ingest, stop, sent, thread }
    }

    fn acked(&self) -> BTreeSet<String> {
        self.sent.lock().unwrap().acked.clone()
    }

    /// Until some more requests, all of the present life, are answered.
    fn wait_for_answers(&self) {
        let before = self.acked().len();
        let wanted = before + 5 * EVENTS;
        until("some more requests are answered", || (self.acked().len() >= wanted).then_some(()));
    }

    /// Finishes the request in hand.
    fn stop(self) -> Sent {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        Arc::into_inner(self.sent).unwrap().into_inner().unwrap()
    }
}

/// Sends until it is answered with 200.
fn send(http: &Http, address: &Mutex<String>, ids: &[String], sent: &Mutex<Sent>) {
    let event = |(number, id): (usize, &String)| json!({"type": "track", "event": "Ping", "messageId": id, "userId": format!("u{number}")});
    let body = json!({"batch": ids.iter().enumerate().map(event).collect::<Vec<_>>()}).to_string();
    let mut attempts = 0;
    until("a request is answered with 200", || {
        attempts += 1;
        let url = format!("{}/v1/batch", address.lock().unwrap());
        let answer = http.post(&url, crate::stack::WRITE_KEY, body.clone().into_bytes());
        answer.filter(|answer| answer.status == 200)
    });
    if attempts > 1 {
        sent.lock().unwrap().repeated += ids.len();
    }
}

#[test]
fn what_was_answered_survives_and_what_was_delivered_is_hardly_repeated() {
    let mut dice = Dice::new("dev_survives_sigkill");
    let (receiver, began) = (Receiver::new(), Instant::now());
    let site = Site::new(&CONFIG.replace("{receiver}", &receiver.url));
    let mut dev = site.dev();
    let client = Client::start(&dev.ingest);
    for round in 1..=ROUNDS {
        client.wait_for_answers();
        sleep(dice.moment(LONGEST_LIFE));
        dev.process.kill();
        println!("death {round}: {} events answered, {} repeats", client.acked().len(), receiver.repeats());
        dev = site.dev();
        client.ingest.lock().unwrap().clone_from(&dev.ingest);
    }
    client.wait_for_answers();
    let Sent { acked, repeated } = client.stop();
    println!("{} events, {repeated} sent again, {:.0} s", acked.len(), began.elapsed().as_secs_f64());

    until("the webhook has all", || receiver.has_all(&acked).then_some(()));
    assert_eq!(receiver.events(), acked, "and nothing else");
    let (repeats, allowed) = (receiver.repeats(), ROUNDS * WINDOW + repeated);
    assert!(repeats <= allowed, "{repeats} repeats, {allowed} allowed");

    let count = || site.query("SELECT count(*) AS n FROM web.ping").first().and_then(|row| row["n"].as_u64());
    until("the lake has all", || (count()? >= acked.len() as u64).then_some(()));
    until("nothing is unfinished", || is_settled(&dev).then_some(()));
    assert_in_lake_once(&site, &acked);

    // All is stored: a death now repeats nothing, and what comes later comes once.
    let repeats = receiver.repeats();
    dev.process.kill();
    let dev = site.dev();
    let (http, address, sent) = (Http::new(), Mutex::new(dev.ingest.clone()), Mutex::<Sent>::default());
    let last: Vec<_> = (0..EVENTS).map(|event| format!("last-{event}")).collect();
    send(&http, &address, &last, &sent);
    let all: BTreeSet<_> = acked.into_iter().chain(last).collect();
    until("the webhook has the last", || receiver.has_all(&all).then_some(()));
    until("nothing is unfinished", || is_settled(&dev).then_some(()));
    assert_eq!(receiver.repeats(), repeats, "committed offsets survive");
    until("the lake has the last", || (count()? >= all.len() as u64).then_some(()));
    assert_in_lake_once(&site, &all);
    println!("all compared after {:.0} s", began.elapsed().as_secs_f64());
}

/// Whether nothing is on its way to the webhook, and it is stored that all has arrived.
fn is_settled(dev: &Dev) -> bool {
    let metrics = Http::new().get(&format!("{}/metrics", dev.admin)).unwrap().body;
    let is_zero = |gauge: &str| {
        let line = format!("millrace_deliver_{gauge}_items{{destination=\"hook\"}} 0");
        metrics.lines().any(|of_metrics| of_metrics == line)
    };
    is_zero("unfinished") && is_zero("unstored")
}

fn assert_in_lake_once(site: &Site, ids: &BTreeSet<String>) {
    let rows = site.stdout(&["query", "-o", "json", "--limit", "1000000", "SELECT id FROM web.ping"]);
    let mut times = BTreeMap::<String, usize>::new();
    for line in rows.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        *times.entry(row["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "in the lake more than once: {doubled:?}");
    let lost: Vec<_> = ids.iter().filter(|id| !times.contains_key(*id)).collect();
    assert!(lost.is_empty(), "answered and not in the lake: {lost:?}");
    assert_eq!(times.len(), ids.len(), "and nothing else");
}
