//! The generator: sends a workload's requests over connections that are kept, and counts what was acked.
//!
//! *Closed loop*: each connection sends its next request when the last was answered; this finds the most
//! that goes through. *Open loop*: requests are due at a fixed rate whatever the answers do, and latency
//! counts from when a request was due, not from when a connection was free for it. A server that stalls
//! thus shows in every request that it kept waiting (no coordinated omission).
//!
//! The window of measurement lies between two snapshots of counts and CPU times, after a warm-up.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::client::Client;
use crate::error::BenchError;
use crate::latency::{Latencies, Latency, Window};
use crate::process::Cpu;
use crate::workload::{self, Rendered, Workload};

/// What is due by the end of the window is sent within this; a server that is further behind does not
/// take the rate.
const CATCH_UP: Duration = Duration::from_secs(10);

/// What to send, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Which requests.
    #[arg(long)]
    pub(crate) workload: Workload,
    /// Who takes them.
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// Kept open all the time.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Sent, acked, and not measured.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) warm_up_s: f64,
    /// The window of measurement.
    #[arg(long, default_value_t = 8.0)]
    pub(crate) seconds: f64,
    /// Requests per second, in an open loop; without it the loop is closed.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// `name=pid`: a process whose CPU time in the window is reported.
    #[arg(long, value_parser = parse_watched)]
    pub(crate) watch: Vec<(String, u32)>,
}

fn parse_watched(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("use name=pid")?;
    let pid = pid.parse().map_err(|_| format!("{pid:?} is no process id"))?;
    Ok((name.to_owned(), pid))
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LoadReport {
    /// The window's length.
    pub(crate) seconds: f64,
    /// Answered as expected in the window.
    pub(crate) requests: u64,
    /// Acked in the window.
    pub(crate) events: u64,
    /// Acked from the first request to the last, warm-up included.
    pub(crate) acked_events: u64,
    /// Their content hash, 32 hexadecimal digits.
    pub(crate) acked_hash: String,
    /// Answers that were not the expected ones, by status; `broken` are connections.
    pub(crate) unexpected: BTreeMap<String, u64>,
    /// Due in an open loop and not sent in time.
    pub(crate) unsent: u64,
    /// Of the requests that were due, or sent, in the window.
    pub(crate) latency: Latency,
    /// In the window, by the name of the process; the generator is `load`.
    pub(crate) cpu: BTreeMap<String, Cpu>,
}

/// Sends, and prints the report as JSON.
pub(crate) fn run(args: &LoadArgs) -> Result<(), BenchError> {
    // One thread: it must not take what the server needs, and shares its counts without locks.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start the runtime"))?;
    let requests = workload::requests(args.workload, &args.target.to_string())?;
    let report = LocalSet::new().block_on(&runtime, drive(args, requests))?;
    let json = serde_json::to_string(&report).map_err(|error| BenchError::Failed(error.to_string()))?;
    crate::print_line(&json);
    Ok(())
}

async fn drive(args: &LoadArgs, requests: Vec<Rendered>) -> Result<LoadReport, BenchError> {
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        let client = Client::connect(args.target).await.map_err(BenchError::io("connect to the target"))?;
        clients.push(client);
    }
    let begin = Instant::now();
    let window = Window {
        from: begin + Duration::from_secs_f64(args.warm_up_s),
        to: begin + Duration::from_secs_f64(args.warm_up_s + args.seconds),
    };
    let pace = args.rate.map(|rate| Pace::start(begin, rate, window));
    let state = Rc::new(State::new(requests, window, pace)?);
    let tasks: Vec<_> =
        clients.into_iter().map(|client| tokio::task::spawn_local(send(Rc::clone(&state), client))).collect();

    tokio::time::sleep_until(window.from.into()).await;
    let before = Snapshot::take(&state, args)?;
    tokio::time::sleep_until(window.to.into()).await;
    let after = Snapshot::take(&state, args)?;
    for task in tasks {
        task.await.map_err(|error| BenchError::Failed(format!("a connection ended: {error}")))?;
    }
    Ok(state.report(&before, &after))
}

/// One connection, until nothing is left to send.
async fn send(state: Rc<State>, mut client: Client) {
    while let Some((number, from)) = state.next().await {
        let index = number % state.requests.len();
        let Some(request) = state.requests.get(index) else { return };
        match client.exchange(&request.bytes).await {
            Ok(status) => state.answered(index, status, from),
            Err(_) => state.unexpected("broken".to_owned()),
        }
    }
}

/// The open loop: lets requests go when they are due.
struct Pace {
    begin: Instant,
    rate: f64,
    /// How many will be due by the end of the window.
    total: usize,
    due: Arc<Semaphore>,
}

impl Pace {
    /// On a thread of its own: timers of the runtime count in milliseconds, which is too coarse.
    fn start(begin: Instant, rate: f64, window: Window) -> Self {
        let due = Arc::new(Semaphore::new(0));
        let total = ((window.to - begin).as_secs_f64() * rate) as usize;
        let pace = Self { begin, rate, total, due: Arc::clone(&due) };
        std::thread::spawn(move || {
            let mut released = 0;
            while released < total {
                let now_due = ((begin.elapsed().as_secs_f64() * rate) as usize + 1).min(total);
                due.add_permits(now_due - released);
                released = now_due;
                let next = begin + Duration::from_secs_f64(released as f64 / rate);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        pace
    }
}

/// What the connections share; all of them are on one thread.
struct State {
    requests: Vec<Rendered>,
    window: Window,
    pace: Option<Pace>,
    next: Cell<usize>,
    answered: Cell<u64>,
    acked_events: Cell<u64>,
    /// How often each request was acked.
    acked: RefCell<Vec<u64>>,
    unexpected: RefCell<BTreeMap<String, u64>>,
    latencies: RefCell<Latencies>,
}

impl State {
    fn new(requests: Vec<Rendered>, window: Window, pace: Option<Pace>) -> Result<Self, BenchError> {
        Ok(Self {
            acked: RefCell::new(vec![0; requests.len()]),
            requests,
            window,
            pace,
            next: Cell::new(0),
            answered: Cell::new(0),
            acked_events: Cell::new(0),
            unexpected: RefCell::default(),
            latencies: RefCell::new(Latencies::new()?),
        })
    }

    /// The number of the next request, and when its latency begins; nothing after the end.
    async fn next(&self) -> Option<(usize, Instant)> {
        let Some(pace) = &self.pace else {
            let now = Instant::now();
            return (now < self.window.to).then(|| (self.next.replace(self.next.get() + 1), now));
        };
        let number = self.next.replace(self.next.get() + 1);
        let deadline = self.window.to + CATCH_UP;
        if number >= pace.total || Instant::now() >= deadline {
            return None;
        }
        // The permits are as many as the requests, so each gets one.
        pace.due.acquire().await.ok()?.forget();
        Some((number, pace.begin + Duration::from_secs_f64(number as f64 / pace.rate)))
    }

    fn answered(&self, index: usize, status: u16, from: Instant) {
        let Some(request) = self.requests.get(index) else { return };
        if status != request.status {
            return self.unexpected(status.to_string());
        }
        self.answered.set(self.answered.get() + 1);
        self.acked_events.set(self.acked_events.get() + request.events);
        if let Some(count) = self.acked.borrow_mut().get_mut(index) {
            *count += 1;
        }
        if self.window.has(from) {
            self.latencies.borrow_mut().record(from.elapsed());
        }
    }

    fn unexpected(&self, what: String) {
        *self.unexpected.borrow_mut().entry(what).or_default() += 1;
    }

    fn report(&self, before: &Snapshot, after: &Snapshot) -> LoadReport {
        let mut hash = 0_u128;
        for (request, count) in self.requests.iter().zip(self.acked.borrow().iter()) {
            hash = hash.wrapping_add(request.hash.wrapping_mul(u128::from(*count)));
        }
        let unexpected = self.unexpected.borrow().clone();
        let sent = self.answered.get() + unexpected.values().sum::<u64>();
        let due = self.pace.as_ref().map_or(sent, |pace| pace.total as u64);
        let cpu = after.cpu.iter().filter_map(|(name, cpu)| {
            let earlier = before.cpu.get(name)?;
            Some((name.clone(), cpu.since(*earlier)))
        });
        LoadReport {
            seconds: (after.at - before.at).as_secs_f64(),
            requests: after.answered - before.answered,
            events: after.acked_events - before.acked_events,
            acked_events: self.acked_events.get(),
            acked_hash: format!("{hash:032x}"),
            unexpected,
            unsent: due.saturating_sub(sent),
            latency: self.latencies.borrow().summary(),
            cpu: cpu.collect(),
        }
    }
}

/// One edge of the window.
struct Snapshot {
    at: Instant,
    answered: u64,
    acked_events: u64,
    cpu: BTreeMap<String, Cpu>,
}

impl Snapshot {
    fn take(state: &State, args: &LoadArgs) -> Result<Self, BenchError> {
        let mut cpu = BTreeMap::from([("load".to_owned(), Cpu::of(std::process::id())?)]);
        for (name, pid) in &args.watch {
            cpu.insert(name.clone(), Cpu::of(*pid)?);
        }
        Ok(Self {
            at: Instant::now(),
            answered: state.answered.get(),
            acked_events: state.acked_events.get(),
            cpu,
        })
    }
}
