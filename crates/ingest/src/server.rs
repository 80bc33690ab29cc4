//! Connections: accepted within a bound, cut when they hold a place without using it, drained at the end.
//!
//! HTTP itself is hyper's. What is here is what a server on the open internet needs around it. Each
//! connection has a [`Phase`] that costs two stores per request; one sweep a second looks at all of them and
//! cuts those that took too long over a request's head (slow loris) or said nothing for too long. A timer for
//! each request would cost more than parsing its event.
//!
//! Draining: from the order to stop each answer says `Connection: close`, so that no client reuses a
//! connection that is about to go; connections are still accepted for a moment, until load balancers have
//! heard; then idle ones are closed, and requests under way have until the end of the drain.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use millrace_service::Stop;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::Limits;
use crate::http::Response;

/// Time is counted in sweeps: phases need no clock.
const SWEEP: Duration = Duration::from_secs(1);

/// Between two looks at what is left while draining.
const DRAIN_SWEEP: Duration = Duration::from_millis(50);

/// After a failed accept, most likely for want of file descriptors, which a connection's end gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// SDKs send ten headers, proxies add as many.
const MAX_HEADERS: usize = 100;

/// A head beyond this is answered 431. Also the first step of reading a body.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Answers one request.
pub(crate) trait Handler: Send + Sync + 'static {
    /// `peer`: the other end of the connection.
    fn answer(
        self: Arc<Self>,
        peer: SocketAddr,
        request: hyper::Request<Incoming>,
    ) -> impl Future<Output = Response> + Send;
}

/// Accepts and serves until the stop is requested, then drains. What is left after `limits.drain` is cut.
pub(crate) async fn serve(
    listener: TcpListener,
    limits: &Limits,
    stop: &Stop,
    handler: Arc<impl Handler>,
) -> Drained {
    let connections = Arc::new(Connections::default());
    let slots = Arc::new(Semaphore::new(limits.connections));
    let tracker = TaskTracker::new();
    let accepting = accept(&listener, &slots, &connections, &tracker, handler);
    let lame_duck = async {
        stop.requested().await;
        connections.closing.store(true, Ordering::Relaxed);
        tokio::time::sleep(limits.lame_duck).await;
    };
    tokio::select! {
        never = accepting => match never {},
        never = connections.sweep(limits) => match never {},
        () = lame_duck => {}
    }
    drop(listener);
    tracker.close();
    let drained = async {
        tokio::select! {
            () = tracker.wait() => {}
            never = connections.close_idle() => match never {},
        }
    };
    match tokio::time::timeout(limits.drain, drained).await {
        Ok(()) => Drained::All,
        Err(_) => {
            let left = tracker.len();
            connections.cut_all();
            tracker.wait().await;
            Drained::Cut(left)
        }
    }
}

/// How the drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Every request was answered.
    All,
    /// So many connections were cut.
    Cut(usize),
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    connections: &Arc<Connections>,
    tracker: &TaskTracker,
    handler: Arc<impl Handler>,
) -> Infallible {
    let mut http = http1::Builder::new();
    // Phases take the place of hyper's timer, which costs an allocation per request.
    http.header_read_timeout(None).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES).half_close(false);
    loop {
        // At the bound the kernel's backlog waits, and beyond that the client.
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            // The semaphore is never closed.
            return std::future::pending().await;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = connections.open();
        let id = connection.id;
        let served = connection_task(stream, peer, http.clone(), connection, Arc::clone(&handler));
        let task = tracker.spawn(async move {
            served.await;
            drop(slot);
        });
        connections.remember(id, task.abort_handle());
    }
}

async fn connection_task(
    stream: TcpStream,
    peer: SocketAddr,
    http: http1::Builder,
    connection: Open,
    handler: Arc<impl Handler>,
) {
    // Answers are small: waiting to fill a packet would only add to each request's time.
    let _ = stream.set_nodelay(true);
    let state = Arc::clone(&connection.state);
    let io = TokioIo::new(Watched {
        stream,
        state: Arc::clone(&state),
        connections: Arc::clone(&connection.connections),
    });
    let connections = Arc::clone(&connection.connections);
    let service = service_fn(move |request| {
        state.enter(Phase::Busy, &connections);
        let answered = Arc::clone(&handler).answer(peer, request);
        let (state, connections) = (Arc::clone(&state), Arc::clone(&connections));
        async move {
            let mut response = answered.await;
            state.enter(Phase::Idle, &connections);
            if connections.closing.load(Ordering::Relaxed) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    // A client that goes away or breaks the protocol has been answered by hyper as far as that is possible.
    if let Err(error) = http.serve_connection(io, service).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Phase {
    /// Between requests.
    Idle,
    /// Some bytes of a head are here.
    Head,
    /// In the handler, which has its own bounds.
    Busy,
}

/// A phase and the sweep in which it began, in one word: `sweep * 4 + phase`.
#[derive(Debug, Default)]
struct State(AtomicU32);

impl State {
    fn enter(&self, phase: Phase, connections: &Connections) {
        let now = connections.sweeps.load(Ordering::Relaxed);
        self.0.store(now.wrapping_shl(2) | phase as u32, Ordering::Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.load(Ordering::Relaxed) & 3 == phase as u32
    }

    /// Sweeps since the phase began.
    fn age(&self, now: u32) -> u32 {
        (now.wrapping_shl(2).wrapping_sub(self.0.load(Ordering::Relaxed) & !3)) >> 2
    }
}

/// All open connections.
#[derive(Debug, Default)]
struct Connections {
    /// Sweeps so far: the clock of phases.
    sweeps: AtomicU32,
    /// Answers say that the connection ends.
    closing: AtomicBool,
    open: Mutex<HashMap<u64, (Arc<State>, Option<AbortHandle>)>>,
    next: AtomicU64,
}

/// One of them; forgotten when dropped.
struct Open {
    id: u64,
    state: Arc<State>,
    connections: Arc<Connections>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Connections {
    fn open(self: &Arc<Self>) -> Open {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State::default());
        state.enter(Phase::Idle, self);
        self.lock().insert(id, (Arc::clone(&state), None));
        Open { id, state, connections: Arc::clone(self) }
    }

    /// The connection may be gone by now: then there is nothing to remember.
    fn remember(&self, id: u64, task: AbortHandle) {
        if let Some((_, handle)) = self.lock().get_mut(&id) {
            *handle = Some(task);
        }
    }

    async fn sweep(&self, limits: &Limits) -> Infallible {
        let sweeps = |limit: Duration| u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        let (head, idle) = (sweeps(limits.head_timeout), sweeps(limits.idle_timeout));
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            let now = self.sweeps.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            // One more than the limit: the first sweep may come right after the phase began.
            let slow = self.cut(|state| state.is(Phase::Head) && state.age(now) > head);
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

    async fn close_idle(&self) -> Infallible {
        loop {
            self.cut(|state| state.is(Phase::Idle));
            tokio::time::sleep(DRAIN_SWEEP).await;
        }
    }

    fn cut_all(&self) {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (Arc<State>, Option<AbortHandle>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that notices when a request's head begins.
struct Watched {
    stream: TcpStream,
    state: Arc<State>,
    connections: Arc<Connections>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before && self.state.is(Phase::Idle) {
            self.state.enter(Phase::Head, &self.connections);
        }
        read
    }
}

impl AsyncWrite for Watched {
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
