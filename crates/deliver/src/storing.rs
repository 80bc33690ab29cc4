//! A statement on its way into Kafka, while the engine goes on.

use std::sync::Arc;

use backon::{ExponentialBuilder, Retryable as _};
use futures::future::BoxFuture;
use millrace_bus::BusError;
use tokio::sync::watch;

use crate::books::Books;
use crate::ledger::{Place, Statement};
use crate::progress::Position;

/// Keeps trying while Kafka is away. Dropped before its end, what it was to store may or may not be stored;
/// either is harmless, see `books`.
pub(crate) struct Storing {
    work: BoxFuture<'static, Result<(), BusError>>,
    lows: Vec<(Place, i64)>,
    trouble: watch::Receiver<Option<String>>,
}

impl Storing {
    pub(crate) fn begin(books: &Arc<Books>, statement: Statement, positions: Vec<Position>) -> Self {
        let lows = positions.iter().map(|position| (position.place, position.low)).collect();
        let books = Arc::clone(books);
        let (tell, trouble) = watch::channel(None);
        let work = Box::pin(async move {
            let patience = ExponentialBuilder::new().with_jitter().without_max_times();
            let store = || books.store(&statement, &positions);
            let stored = store.retry(patience).when(BusError::is_retryable).notify(|error, _| {
                tracing::warn!(destination = %books.destination, %error, "outcomes cannot be stored; trying again");
                tell.send_replace(Some(format!("outcomes cannot be stored, so nothing more is read once the window is full: {error}")));
            });
            stored.await
        });
        Self { work, lows, trouble }
    }

    /// Why it takes so long, if Kafka has refused it.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }
}

/// The low offsets of what is stored, once it is. Waits for ever where nothing is on its way. Dropping the
/// future loses nothing; after its answer the statement is to be forgotten.
pub(crate) async fn done(storing: &mut Option<Storing>) -> Result<Vec<(Place, i64)>, BusError> {
    let Some(storing) = storing else { return std::future::pending().await };
    (&mut storing.work).await?;
    Ok(std::mem::take(&mut storing.lows))
}
