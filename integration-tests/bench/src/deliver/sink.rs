//! What is sent to: a server that reads bodies, counts, and answers by the first part of the path: `/well/…`
//! takes everything, `/slow/…` takes its time, `/dead/…` is broken, `/flaky/…` refuses one request of twenty.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use millrace_service::Stop;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::deliverer::EVENTS_HEADER;
use crate::error::BenchError;
use crate::gateway::stop_at_end_of_input;

/// How long `/slow/…` takes.
const SLOW: Duration = Duration::from_secs(2);

/// `/flaky/…` refuses one of so many, in turns with 429 and 500, and asks for a second.
const FLAKY_EVERY: u64 = 20;

/// The window in which the limit is looked at.
const WINDOW: Duration = Duration::from_secs(1);

/// Who answers with what was counted.
const STATS: &str = "/stats";

/// What came to one path.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) requests: u64,
    /// In requests that were taken.
    pub(crate) events: u64,
    pub(crate) refused: u64,
    /// From the first request to the last.
    pub(crate) seconds: f64,
    /// The most requests in any second, of a flaky path.
    pub(crate) busiest_second: usize,
}

#[derive(Default)]
struct Path {
    stats: Stats,
    first: Option<Instant>,
    /// Of a flaky path, when its requests came.
    times: Vec<Instant>,
}

type Paths = Arc<Mutex<BTreeMap<String, Path>>>;

/// Serves until its input ends.
pub(crate) fn run() -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start the runtime"))?;
    runtime.block_on(async {
        let stop = Stop::new();
        stop_at_end_of_input(&stop);
        tokio::select! {
            served = serve() => served,
            () = stop.requested() => Ok(()),
        }
    })
}

async fn serve() -> Result<(), BenchError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::io("listen"))?;
    let address = listener.local_addr().map_err(BenchError::io("listen"))?;
    crate::print_line(&format!("listening {address}"));
    let paths = Paths::default();
    loop {
        let (stream, _) = listener.accept().await.map_err(BenchError::io("accept"))?;
        let _ = stream.set_nodelay(true);
        let paths = Arc::clone(&paths);
        let service = service_fn(move |request| answer(Arc::clone(&paths), request));
        // Ends with its connection, and all of them with the process.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(paths: Paths, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if path == STATS {
        return Ok(Response::new(Full::new(Bytes::from(stats(&paths)))));
    }
    let events = request.headers().get(EVENTS_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let status = count(&paths, &path, events.unwrap_or(1));
    if path.starts_with("/slow/") {
        tokio::time::sleep(SLOW).await;
    }
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
    *response.status_mut() = status;
    if status != StatusCode::OK {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

fn count(paths: &Paths, path: &str, events: u64) -> StatusCode {
    let now = Instant::now();
    let mut paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
    if !paths.contains_key(path) {
        paths.insert(path.to_owned(), Path::default());
    }
    let Some(counted) = paths.get_mut(path) else { return StatusCode::INTERNAL_SERVER_ERROR };
    let stats = &mut counted.stats;
    stats.requests += 1;
    stats.seconds = (now - *counted.first.get_or_insert(now)).as_secs_f64();
    let status = match path.split('/').nth(1) {
        Some("dead") => StatusCode::SERVICE_UNAVAILABLE,
        Some("flaky") => {
            counted.times.push(now);
            match stats.requests % (2 * FLAKY_EVERY) {
                0 => StatusCode::TOO_MANY_REQUESTS,
                FLAKY_EVERY => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::OK,
            }
        }
        _ => StatusCode::OK,
    };
    match status {
        StatusCode::OK => stats.events += events,
        _ => stats.refused += 1,
    }
    status
}

fn stats(paths: &Paths) -> String {
    let paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
    let stats = paths.iter().map(|(path, counted)| {
        (path, Stats { busiest_second: busiest(&counted.times), ..counted.stats.clone() })
    });
    serde_json::to_string(&stats.collect::<BTreeMap<_, _>>()).unwrap_or_default()
}

/// The most that lie in one window. They come in the order of time.
fn busiest(times: &[Instant]) -> usize {
    let mut most = 0;
    for (number, time) in times.iter().enumerate() {
        let begin = times.partition_point(|other| *other + WINDOW <= *time);
        most = most.max(number + 1 - begin);
    }
    most
}
