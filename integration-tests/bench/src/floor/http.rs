//! A server on hyper, as ingest is one, that reads the body and answers `ok`.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use millrace_service::Stop;
use tokio::net::TcpListener;

use crate::error::BenchError;
use crate::gateway::stop_at_end_of_input;

/// Where it listens.
#[derive(Debug, clap::Args)]
pub(crate) struct HttpArgs {
    /// Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

pub(crate) fn run(args: &HttpArgs) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start the runtime"))?;
    runtime.block_on(async {
        let stop = Stop::new();
        stop_at_end_of_input(&stop);
        tokio::select! {
            served = serve(args.listen) => served,
            () = stop.requested() => Ok(()),
        }
    })
}

async fn serve(listen: SocketAddr) -> Result<(), BenchError> {
    let listener = TcpListener::bind(listen).await.map_err(BenchError::io("listen"))?;
    let address = listener.local_addr().map_err(BenchError::io("listen"))?;
    crate::print_line(&format!("listening {address}"));
    loop {
        let (stream, _) = listener.accept().await.map_err(BenchError::io("accept"))?;
        let _ = stream.set_nodelay(true);
        // Ends with its connection, and all of them with the process.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if bytes == 0 {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}
