//! The one consume loop: take a batch, make it durable, commit.
//!
//! # What is guaranteed
//! Each message of the topic takes effect **exactly once** where its effects and the positions are
//! committed as one: in one transaction, or under one sealed intent. A consumer that cannot do so applies
//! the messages of one batch again after a crash, and no others.
//!
//! The loop itself remembers nothing. Where reading goes on is asked of the consumer, which keeps the
//! positions with the data; Kafka's own group offsets play no part. A failure is handled as a crash is:
//! [`run`] returns, and whoever supervises calls it again, which begins with [`Consume::resume`].
//!
//! # When it dies
//! ```text
//!   resume ─▶ read ─▶ stage ─▶ commit ─▶ read ─▶ …
//!           ①       ②       ③    ④     ⑤
//! ```
//! 1. **Before the read**: nothing has happened. `a_crash_before_the_first_read_changes_nothing`
//! 2. **Batch read, not staged**: no position was moved; it is read again.
//!    `a_crash_after_the_read_reads_again`
//! 3. **Staged, not committed**: a transaction was rolled back, so the batch is read anew; or an intent
//!    was written with the batch's ranges, and [`Resume::unsealed`] brings exactly those ranges again, so
//!    that staging what is staged already changes nothing. `a_crash_before_the_commit_redoes_the_same_ranges`
//! 4. **In the commit**: it happened or it did not, whatever the client heard. Resuming asks the store.
//!    `a_commit_that_was_not_heard_of_is_not_done_twice`
//! 5. **After the commit**: reading goes on behind the batch. `a_crash_after_the_commit_repeats_nothing`
//!
//! A stop is none of these: the batch in hand is staged and committed first.
//! `a_stop_finishes_the_batch_in_hand`
//!
//! # One ahead
//! A consumer may let a commit go on behind [`Consume::commit`]: then the next batch is read and staged
//! meanwhile, and its own `commit` waits for the one before. So at most one batch is staged ahead, commits
//! keep their order, and after an error what was staged ahead is dropped with all else: `resume` brings it
//! again. [`Consume::settle`] is how the loop hears of the end of such a commit.
//! `a_commit_behind_the_loop_is_settled_while_it_waits`

use std::future::Future;

use millrace_event_model::topics::TopicName;
use millrace_event_model::wire::Message;
use tokio_util::sync::CancellationToken;

use crate::{Batch, BatchLimits, Bus, BusError, Positions, Range, Reader, Start};

/// A consumer that keeps its positions with its data.
pub trait Consume<M> {
    /// A batch that is ready to be committed.
    type Staged: Send;
    /// What goes wrong. After any error [`run`] returns.
    type Error: From<BusError>;

    /// What the store says of the past. Takes over from a predecessor that may have died anywhere, and
    /// fences off one that still lives.
    fn resume(&mut self) -> impl Future<Output = Result<Resume, Self::Error>> + Send;

    /// Makes the batch ready: parsed, uploaded, under an intent if the store has no transactions. It must
    /// have no effect that anyone can see yet, and staging the same ranges again must be harmless.
    fn stage(&mut self, batch: Batch<M>) -> impl Future<Output = Result<Self::Staged, Self::Error>> + Send;

    /// Makes the batch and its positions visible and durable as one; or begins to, once the commit before it
    /// has ended.
    fn commit(&mut self, staged: Self::Staged) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Nothing came within the wait. What the consumer has put off until more comes may be due by now.
    fn idle(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }

    /// Waits for the commit that goes on behind the loop, if one does. Dropped before its end, it can be called
    /// again. It is called while the loop waits for messages, and before [`run`] returns without an error.
    fn settle(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }
}

/// Where a consumer stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// The next offset of each partition that was ever committed, behind `unsealed` if there is any.
    pub positions: Positions,
    /// The ranges of a batch that was staged under an intent and not committed: they are redone first.
    pub unsealed: Vec<Range>,
}

/// Runs the loop until `stop`, or the first error. See the module's text.
///
/// # Errors
/// Whatever the consumer or the bus reports. Nothing is lost: call again, after a pause if it was
/// retryable.
pub async fn run<M: Message, C: Consume<M>>(
    bus: &Bus,
    topic: &TopicName<M>,
    start: Start,
    limits: &BatchLimits,
    consumer: &mut C,
    stop: &CancellationToken,
) -> Result<(), C::Error> {
    let resume = consumer.resume().await?;
    let mut reader = bus.reader(topic, &resume.positions, start)?;
    if !resume.unsealed.is_empty() {
        let batch = reader.read_ranges(&resume.unsealed).await?;
        let staged = consumer.stage(batch).await?;
        consumer.commit(staged).await?;
    }
    while !stop.is_cancelled() {
        let batch = next_batch(&mut reader, limits, consumer, stop).await?;
        if batch.is_empty() {
            consumer.idle().await?;
            continue;
        }
        let staged = consumer.stage(batch).await?;
        consumer.commit(staged).await?;
    }
    consumer.settle().await
}

/// Reads on while a commit goes on behind the loop.
async fn next_batch<M: Message, C: Consume<M>>(
    reader: &mut Reader<M>,
    limits: &BatchLimits,
    consumer: &mut C,
    stop: &CancellationToken,
) -> Result<Batch<M>, C::Error> {
    let mut reading = std::pin::pin!(reader.next_batch(limits, stop));
    tokio::select! {
        batch = &mut reading => return Ok(batch?),
        settled = consumer.settle() => settled?,
    }
    Ok(reading.await?)
}
