//! Runs on their way into the state, beside the loads.

use std::time::Duration;

use millrace_service::SharedClock;
use millrace_state::{RunLog, StateError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::record::{RunError, RunId, RunRecord, RunState};
use super::tracker::{About, Loaded, Tracker, Write, over};

/// An open run is written at most so often while it stands as it stood: whoever looks sees figures that are a
/// moment old.
const OPEN_EVERY: Duration = Duration::from_secs(10);

/// Words on their way. A state that is slower than this many of them loses the newest: a load never waits.
const QUEUE: usize = 64;

/// How long the last words may take when the connection is given up.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Tells the log what a connection does under one epoch.
pub(crate) struct Runs {
    tracker: Tracker,
    clock: SharedClock,
    sliced: bool,
    words: mpsc::Sender<Write>,
    writer: JoinHandle<()>,
}

impl Runs {
    /// `sliced`: what is loaded within a minute is a run; else all until [`Self::end`] is one.
    pub(crate) fn start(log: RunLog<RunRecord>, about: About, sliced: bool, clock: SharedClock) -> Self {
        let (words, heard) = mpsc::channel(QUEUE);
        let slot = about.job.clone().unwrap_or_else(|| "live".to_owned());
        let writer = Writer { log, slot, pending: None, told: None, complained: false };
        let writer = tokio::spawn(writer.write(heard));
        Self { tracker: Tracker::new(about), clock, sliced, words, writer }
    }

    /// The lease has been acquired anew.
    pub(crate) fn act_under(&mut self, epoch: u64) {
        let writes = self.tracker.act_under(epoch);
        self.send(writes);
    }

    /// A load begins.
    pub(crate) fn begin(&mut self) {
        let writes = self.tracker.begin(self.clock.now(), self.sliced);
        self.send(writes);
    }

    /// A load is durable.
    pub(crate) fn loaded(&mut self, load: Loaded) {
        let writes = self.tracker.loaded(self.clock.now(), load);
        self.send(writes);
    }

    /// Something went wrong.
    pub(crate) fn failed(&mut self, error: RunError) {
        let writes = self.tracker.failed(self.clock.now(), error, self.sliced);
        self.send(writes);
    }

    /// A wake-up is over.
    pub(crate) fn end(&mut self) {
        let writes = self.tracker.end();
        self.send(writes);
    }

    /// The run in hand.
    pub(crate) fn id(&self) -> Option<RunId> {
        self.tracker.id().cloned()
    }

    /// The connection is given up: what was said is written, within a bound.
    pub(crate) async fn finish(mut self) {
        self.end();
        drop(self.words);
        if tokio::time::timeout(LAST_WORDS, self.writer).await.is_err() {
            tracing::warn!("the state is too slow for the last runs; they are missing in the log");
        }
    }

    fn send(&self, writes: Vec<Write>) {
        for write in writes {
            if self.words.try_send(write).is_err() {
                tracing::debug!("the state is too slow for the log of runs");
            }
        }
    }
}

struct Writer {
    log: RunLog<RunRecord>,
    slot: String,
    pending: Option<RunRecord>,
    /// How the open run stood when it was written.
    told: Option<RunState>,
    /// It is said once that the state cannot be written.
    complained: bool,
}

impl Writer {
    async fn write(mut self, mut heard: mpsc::Receiver<Write>) {
        let left = self.take_over().await;
        self.note(left);
        let mut next = Instant::now();
        loop {
            let word = tokio::select! {
                biased;
                word = heard.recv() => word,
                () = tokio::time::sleep_until(next), if self.pending.is_some() => {
                    let written = self.put_open().await;
                    self.note(written);
                    next = Instant::now() + OPEN_EVERY;
                    continue;
                }
            };
            match word {
                Some(Write::Open(run)) => {
                    if self.told != Some(run.state) {
                        next = Instant::now();
                    }
                    self.pending = Some(run);
                }
                Some(Write::Close(run)) => {
                    (self.pending, self.told) = (None, None);
                    let written = self.log.close(&self.slot, run.id.as_str(), &run).await;
                    self.note(written);
                    next = Instant::now();
                }
                None => return,
            }
        }
    }

    /// Ends the run that a former process has left.
    async fn take_over(&self) -> Result<(), StateError> {
        let Some((id, run)) = self.log.open(&self.slot).await? else { return Ok(()) };
        self.log.close(&self.slot, &id, &over(run)).await
    }

    async fn put_open(&mut self) -> Result<(), StateError> {
        let Some(run) = self.pending.take() else { return Ok(()) };
        self.told = Some(run.state);
        self.log.put_open(&self.slot, run.id.as_str(), &run).await
    }

    fn note(&mut self, written: Result<(), StateError>) {
        match written {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                tracing::warn!(%error, "cannot write the log of runs");
                self.complained = true;
            }
            Err(_) => {}
        }
    }
}
