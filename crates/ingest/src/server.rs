//! Connections: accepted within a bound, served by hyper over plain TCP or TLS, drained at the end.
//!
//! HTTP itself is hyper's. What is here is what a server on the open internet needs around it: the bounds
//! (`connections.rs` watches them), framing that has one meaning only, an end that loses no answer, and a
//! stop that resets nobody.
//!
//! Draining: from the order to stop each answer says `Connection: close`, so that no client reuses a
//! connection that is about to go; connections are still accepted for a moment, until load balancers have
//! heard, and those that wait in the kernel's backlog are taken before the listener goes; then idle ones are
//! closed, and requests under way have until the end of the drain.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use millrace_service::Stop;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::Limits;
use crate::connections::{Connections, Phase, Place, Watched};
use crate::http::{self, Response};
use crate::tls::Tls;

/// After a failed accept, most likely for want of file descriptors, which a connection's end gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// SDKs send ten headers, proxies add as many.
const MAX_HEADERS: usize = 100;

/// A head beyond this is answered 431, and trailers are not read. Also the first step of reading a body.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How long the other end may take to read the last answer and close.
const LINGER: Duration = Duration::from_secs(2);

/// What it may still send in that time: four bodies of the default limit.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Answers one request.
pub(crate) trait Handler: Send + Sync + 'static {
    /// `peer`: the other end of the connection.
    fn answer(
        self: Arc<Self>,
        peer: SocketAddr,
        request: hyper::Request<Incoming>,
    ) -> impl Future<Output = Response> + Send;
}

/// How the drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Every request was answered.
    All,
    /// So many connections were cut.
    Cut(usize),
}

/// Accepts and serves until the stop is requested, then drains. What is left after `limits.drain` is cut.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: &Limits,
    stop: &Stop,
    handler: Arc<impl Handler>,
) -> Drained {
    let mut http = http1::Builder::new();
    // Phases take the place of hyper's timer, which costs an allocation per request.
    http.header_read_timeout(None).max_headers(MAX_HEADERS).max_header_size(MAX_HEAD_BYTES);
    http.max_buf_size(MAX_HEAD_BYTES).half_close(false);
    let server = Server {
        http,
        tls,
        connections: Arc::default(),
        slots: Arc::new(Semaphore::new(limits.connections)),
        tracker: TaskTracker::new(),
        handler,
    };
    tokio::select! {
        drained = server.serve_and_drain(listener, limits, stop) => drained,
        never = server.connections.sweep(limits) => match never {},
    }
}

struct Server<H> {
    http: http1::Builder,
    tls: Option<Arc<Tls>>,
    connections: Arc<Connections>,
    slots: Arc<Semaphore>,
    tracker: TaskTracker,
    handler: Arc<H>,
}

impl<H: Handler> Server<H> {
    async fn serve_and_drain(&self, listener: TcpListener, limits: &Limits, stop: &Stop) -> Drained {
        let lame_duck = async {
            stop.requested().await;
            self.connections.close_after_answers();
            tokio::time::sleep(limits.lame_duck).await;
        };
        tokio::select! {
            never = self.accept(&listener) => match never {},
            () = lame_duck => {}
        }
        self.take_backlog(listener);
        self.tracker.close();
        let drained = async {
            tokio::select! {
                () = self.tracker.wait() => {}
                never = self.connections.close_idle() => match never {},
            }
        };
        if tokio::time::timeout(limits.drain, drained).await.is_ok() {
            return Drained::All;
        }
        let left = self.tracker.len();
        self.connections.cut_all();
        self.tracker.wait().await;
        Drained::Cut(left)
    }

    async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            // At the bound the kernel's backlog waits, and beyond that the client.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                // The semaphore is never closed.
                return std::future::pending().await;
            };
            match listener.accept().await {
                Ok((stream, peer)) => self.start(stream, peer, slot),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Those who wait in the backlog think that they are connected: the kernel would reset them with the
    /// listener.
    fn take_backlog(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            let Ok((stream, peer)) = listener.accept() else { return };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.start(stream, peer, slot);
            }
        }
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        // Answers are small: waiting to fill a packet would only add to each request's time.
        let _ = stream.set_nodelay(true);
        let open = self.connections.open();
        let id = open.id;
        let place = open.place();
        let (http, handler, tls) = (self.http.clone(), Arc::clone(&self.handler), self.tls.clone());
        let task = self.tracker.spawn(async move {
            match tls {
                None => serve_stream(stream, peer, &http, place, handler).await,
                // Boxed: its state is large, and the plain path should not carry it.
                Some(tls) => Box::pin(serve_tls(&tls, stream, peer, &http, place, handler)).await,
            }
            drop((open, slot));
        });
        self.connections.remember(id, task.abort_handle());
    }
}

/// A handshake that takes too long is cut like a head that does.
async fn serve_tls(
    tls: &Tls,
    stream: TcpStream,
    peer: SocketAddr,
    http: &http1::Builder,
    place: Place,
    handler: Arc<impl Handler>,
) {
    match tls.acceptor().accept(stream).into_fallible().await {
        Ok(stream) => serve_stream(stream, peer, http, place, handler).await,
        Err((error, mut stream)) => {
            metrics::counter!("millrace_ingest_failed_handshakes_total").increment(1);
            tracing::debug!(%error, "a TLS handshake failed");
            // So that the alert, which says why, is read.
            linger(&mut stream).await;
        }
    }
}

async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: SocketAddr,
    http: &http1::Builder,
    place: Place,
    handler: Arc<impl Handler>,
) {
    let mut stream = Watched::new(stream, place.clone());
    let at_the_end = place.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        place.enter(Phase::Busy);
        let answered = match has_one_framing(&request) {
            true => Some(Arc::clone(&handler).answer(peer, request)),
            false => None,
        };
        let place = place.clone();
        async move {
            let mut close = place.is_closing();
            let mut response = match answered {
                Some(answered) => answered.await,
                None => {
                    close = true;
                    http::error(StatusCode::BAD_REQUEST, "where this request ends is not clear")
                }
            };
            let draining = place.is_closing();
            if !draining {
                place.enter(Phase::Idle);
            }
            // While draining it stays busy: what is idle is cut, and this answer is still to be written.
            if close || draining {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    // A client that goes away or breaks the protocol has been answered by hyper as far as that is possible.
    if let Err(error) = http.serve_connection(TokioIo::new(&mut stream), service).await {
        tracing::debug!(%error, "a connection ended early");
    }
    // It has a bound of its own, and is not idle: the last answer may be on its way.
    at_the_end.enter(Phase::Busy);
    linger(&mut stream).await;
}

/// Whether it can be read in one way only where the request ends. hyper refuses most of what could smuggle a
/// second request past a proxy, and closes after a request with both `Content-Length` and
/// `Transfer-Encoding`; but it takes any list of encodings that ends in `chunked`, and a `CONNECT` that asks
/// for a tunnel, which proxies read in various ways.
fn has_one_framing<B>(request: &hyper::Request<B>) -> bool {
    let mut encodings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let one_encoding = match (encodings.next(), encodings.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    one_encoding && request.method() != Method::CONNECT
}

/// Says that nothing more comes, and reads what the other end still sends: a socket that is closed before
/// all is read is reset, and the reset can overtake the last answer.
async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let until_closed = async {
        stream.shutdown().await?;
        let mut unwanted = vec![0; 16 * 1024];
        let mut total = 0;
        loop {
            let read = stream.read(&mut unwanted).await?;
            total += read;
            if read == 0 || total > LINGER_BYTES {
                return std::io::Result::Ok(());
            }
        }
    };
    // Whatever goes wrong: the connection is gone.
    let _ = tokio::time::timeout(LINGER, until_closed).await;
}
