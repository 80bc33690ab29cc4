//! What every process serves: `/metrics`, `/healthz`, `/readyz`.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::telemetry::MetricsHandle;
use crate::{Health, Stop};

/// How often histogram samples are moved into their buckets, for processes that nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the stop is requested and the requests under way are answered.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: MetricsHandle,
    stop: Stop,
) -> io::Result<()> {
    serve_router(listener, router(health, metrics.clone()), metrics, stop).await
}

/// Serves another router with more routes, such as the console's merged with [`router`].
///
/// # Errors
/// The listener failed.
pub async fn serve_router(
    listener: TcpListener,
    router: Router,
    metrics: MetricsHandle,
    stop: Stop,
) -> io::Result<()> {
    let stopped = stop.clone();
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stopped.requested().await })
        .into_future();
    tokio::pin!(server);
    loop {
        tokio::select! {
            ended = &mut server => return ended,
            () = tokio::time::sleep(UPKEEP_INTERVAL) => metrics.run_upkeep(),
        }
    }
}

/// What [`router`] serves. None of it may answer on a port that the world can reach.
pub const PATHS: [&str; 3] = [HEALTHZ, READYZ, METRICS];

const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";
const METRICS: &str = "/metrics";

/// The routes.
///
/// `/healthz` answers 200 while the process turns: restart it when it does not. `/readyz` answers 200
/// when all components are ready, else 503, each with its reason: send it no traffic.
pub fn router(health: Health, metrics: MetricsHandle) -> Router {
    Router::new()
        .route(HEALTHZ, get(|| async { json(StatusCode::OK, &serde_json::json!({ "status": "ok" })) }))
        .route(READYZ, get(move || readyz(health.clone())))
        .route(METRICS, get(move || render(metrics.clone())))
}

async fn readyz(health: Health) -> Response {
    let readiness = health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

async fn render(metrics: MetricsHandle) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics.render()).into_response()
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_says_whether_it_lives_and_is_ready_and_stops_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, stop) = (Health::default(), Stop::new());
        let loader = health.component("loader");
        let metrics = MetricsHandle::detached().unwrap();
        let server = tokio::spawn(serve(listener, health, metrics, stop.clone()));

        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        loader.not_ready("the warehouse is away");
        let waiting = get(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503"), "{waiting}");
        assert!(
            waiting.contains(r#""loader":{"ready":false,"reason":"the warehouse is away"}"#),
            "{waiting}"
        );
        loader.ready();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));

        stop.trigger();
        server.await.unwrap().unwrap();
    }
}
