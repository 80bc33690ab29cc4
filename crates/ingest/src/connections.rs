//! All open connections: what each is doing, since when, and which are cut.
//!
//! A connection's [`Phase`] costs two stores per request; one sweep a second looks at all of them. A timer
//! for each request would cost more than parsing its event.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use crate::Limits;

/// Time is counted in sweeps: phases need no clock.
const SWEEP: Duration = Duration::from_secs(1);

/// Between two looks at what is left while draining.
const DRAIN_SWEEP: Duration = Duration::from_millis(50);

/// In sweeps: while draining, a connection that has been made but has asked nothing is given at least a
/// second to do so.
const LAST_CHANCE: u32 = 2;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    /// Between requests.
    Idle,
    /// It has been made, and has sent no request yet: the TLS handshake, and the wait after it.
    Opening,
    /// Some bytes of a head are here.
    Head,
    /// In the handler, or after the last answer: both have bounds of their own.
    Busy,
}

/// A phase and the sweep in which it began, in one word: `sweep * 4 + phase`.
#[derive(Debug, Default)]
struct State(AtomicU32);

impl State {
    fn enter(&self, phase: Phase, sweep: u32) {
        self.0.store(sweep.wrapping_shl(2) | phase as u32, Ordering::Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.load(Ordering::Relaxed) & 3 == phase as u32
    }

    /// Sweeps since the phase began.
    fn age(&self, now: u32) -> u32 {
        (now.wrapping_shl(2).wrapping_sub(self.0.load(Ordering::Relaxed) & !3)) >> 2
    }
}

/// What each does, and the task that can be cut, once it is known.
type ById = HashMap<u64, (Arc<State>, Option<AbortHandle>)>;

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// Sweeps so far: the clock of phases.
    sweeps: AtomicU32,
    /// Answers say that the connection ends.
    closing: AtomicBool,
    open: Mutex<ById>,
    next: AtomicU64,
}

/// One of them; forgotten when dropped.
pub(crate) struct Open {
    pub(crate) id: u64,
    place: Place,
}

/// How a connection tells what it is doing.
#[derive(Clone)]
pub(crate) struct Place {
    state: Arc<State>,
    connections: Arc<Connections>,
}

impl Open {
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.place.connections.lock().remove(&self.id);
        metrics::gauge!("millrace_ingest_connections").decrement(1);
    }
}

impl Place {
    pub(crate) fn enter(&self, phase: Phase) {
        self.state.enter(phase, self.connections.sweeps.load(Ordering::Relaxed));
    }

    /// Whether the answer is to say that the connection ends.
    pub(crate) fn is_closing(&self) -> bool {
        self.connections.closing.load(Ordering::Relaxed)
    }
}

impl Connections {
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Place { state: Arc::default(), connections: Arc::clone(self) };
        place.enter(Phase::Opening);
        self.lock().insert(id, (Arc::clone(&place.state), None));
        metrics::gauge!("millrace_ingest_connections").increment(1);
        Open { id, place }
    }

    /// The connection may be gone by now: then there is nothing to remember.
    pub(crate) fn remember(&self, id: u64, task: AbortHandle) {
        if let Some((_, handle)) = self.lock().get_mut(&id) {
            *handle = Some(task);
        }
    }

    /// From now on, answers say that the connection ends.
    pub(crate) fn close_after_answers(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Cuts what takes too long, for ever.
    pub(crate) async fn sweep(&self, limits: &Limits) -> Infallible {
        let sweeps = |limit: Duration| u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        let (head, idle) = (sweeps(limits.head_timeout), sweeps(limits.idle_timeout));
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            let now = self.sweeps.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            // One more than the limit: the first sweep may come right after the phase began.
            let slow = self.cut(|state| state.is(Phase::Head) && state.age(now) > head);
            // Browsers and load balancers open connections that they may never need: no reason to warn.
            self.cut(|state| state.is(Phase::Opening) && state.age(now) > head);
            self.cut(|state| state.is(Phase::Idle) && state.age(now) > idle);
            if slow > 0 {
                metrics::counter!("millrace_ingest_slow_heads_total").increment(slow);
                tracing::warn!(
                    connections = slow,
                    "cut connections that were too slow to send a request's head"
                );
            }
        }
    }

    /// Cuts what waits for nothing, for ever. A connection that was made just before the listener went has
    /// its request on the way: it is answered.
    pub(crate) async fn close_idle(&self) -> Infallible {
        loop {
            let now = self.sweeps.load(Ordering::Relaxed);
            self.cut(|state| {
                state.is(Phase::Idle) || (state.is(Phase::Opening) && state.age(now) >= LAST_CHANCE)
            });
            tokio::time::sleep(DRAIN_SWEEP).await;
        }
    }

    pub(crate) fn cut_all(&self) {
        self.cut(|_| true);
    }

    /// Ends connections without a word; tells how many.
    fn cut(&self, which: impl Fn(&State) -> bool) -> u64 {
        let open = self.lock();
        let mut cut = 0;
        for (state, task) in open.values() {
            if let Some(task) = task.as_ref().filter(|_| which(state)) {
                task.abort();
                cut += 1;
            }
        }
        cut
    }

    fn lock(&self) -> MutexGuard<'_, ById> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that notices when a request's head begins.
pub(crate) struct Watched<S> {
    stream: S,
    place: Place,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, place: Place) -> Self {
        Self { stream, place }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let state = &self.place.state;
        if buffer.filled().len() > before && (state.is(Phase::Idle) || state.is(Phase::Opening)) {
            self.place.enter(Phase::Head);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_ages_by_sweeps_even_when_their_count_wraps() {
        let state = State::default();
        for (began, now, age) in [(0, 0, 0), (3, 10, 7), (u32::MAX, 2, 3)] {
            state.enter(Phase::Head, began);
            assert!(state.is(Phase::Head) && !state.is(Phase::Idle));
            assert_eq!(state.age(now), age, "from {began} to {now}");
        }
    }
}
