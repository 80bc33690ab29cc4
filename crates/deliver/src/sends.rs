//! What is in flight: each call of a connector is a task with a time limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_connector::{Destination, ItemOutcome, Prepared};
use millrace_event_model::Reason;
use tokio::task::{Id, JoinError, JoinSet};

use crate::flow::Ticket;

/// The calls under way. Dropping it aborts them.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    tasks: JoinSet<Vec<ItemOutcome>>,
    tickets: HashMap<Id, Vec<Ticket>>,
}

impl Sends {
    pub(crate) fn start(
        &mut self,
        destination: Arc<dyn Destination>,
        batch: Vec<(Ticket, Prepared)>,
        timeout: Duration,
    ) {
        let (tickets, prepared): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let task = self.tasks.spawn(async move {
            let call = destination.deliver(prepared);
            // No outcomes at all: each item is then tried again.
            tokio::time::timeout(timeout, call).await.unwrap_or_default()
        });
        self.tickets.insert(task.id(), tickets);
    }

    /// Calls under way.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The next call that has come back, one outcome for each ticket; `None` if none is under way. Dropping
    /// the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Vec<(Ticket, ItemOutcome)>> {
        let back = self.tasks.join_next_with_id().await?;
        Some(self.answers(back))
    }

    /// A call that has come back already, if one has.
    pub(crate) fn next_ready(&mut self) -> Option<Vec<(Ticket, ItemOutcome)>> {
        let back = self.tasks.try_join_next_with_id()?;
        Some(self.answers(back))
    }

    fn answers(&mut self, back: Result<(Id, Vec<ItemOutcome>), JoinError>) -> Vec<(Ticket, ItemOutcome)> {
        let (id, outcomes) = match back {
            Ok((id, outcomes)) => (id, outcomes),
            // The connector panicked; the panic hook has told where.
            Err(error) => (error.id(), Vec::new()),
        };
        let tickets = self.tickets.remove(&id).unwrap_or_default();
        // A connector that broke its contract, or took too long, has said nothing about these.
        let silence = || ItemOutcome::Transient {
            after: None,
            reason: Reason::new("no_outcome", "the connector did not say what happened"),
        };
        let outcomes = outcomes.into_iter().chain(std::iter::repeat_with(silence));
        tickets.into_iter().zip(outcomes).collect()
    }
}
