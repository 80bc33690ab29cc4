//! The HTTP client by itself: the same bodies in the same requests, from memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::deliverer::EVENTS_HEADER;
use crate::error::BenchError;
use crate::warehouse::events::Events;

/// What to send.
#[derive(Debug, clap::Args)]
pub(crate) struct PostArgs {
    #[arg(long)]
    url: String,
    #[arg(long)]
    events: u64,
    /// Events in a request.
    #[arg(long)]
    batch: u64,
    /// Requests under way at once.
    #[arg(long)]
    concurrency: usize,
}

pub(crate) fn run(args: &PostArgs) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start the runtime"))?;
    runtime.block_on(post(args))
}

async fn post(args: &PostArgs) -> Result<(), BenchError> {
    millrace_service::install_tls();
    let mut events = Events::new(chrono::Utc::now());
    let mut body = Vec::new();
    for _ in 0..args.batch {
        body.extend_from_slice(&events.next()?.body);
        body.push(b'\n');
    }
    let (body, http) = (Bytes::from(body), reqwest::Client::new());
    let left = Arc::new(AtomicU64::new(args.events.div_ceil(args.batch)));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..args.concurrency {
        let (http, body, left, url, batch) =
            (http.clone(), body.clone(), Arc::clone(&left), args.url.clone(), args.batch);
        senders.spawn(async move {
            let one = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            while one().is_ok() {
                let answer = http.post(&url).header(EVENTS_HEADER, batch).body(body.clone()).send().await?;
                answer.error_for_status()?.bytes().await?;
            }
            Ok::<(), reqwest::Error>(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        let sent = sent.map_err(|error| BenchError::Failed(error.to_string()))?;
        sent.map_err(|error| BenchError::Failed(error.to_string()))?;
    }
    Ok(())
}
