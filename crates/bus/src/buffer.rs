//! What the poll thread and the owner of a [`crate::GroupReader`] share: a bounded buffer for each
//! partition, and the rebalances that the owner has not heard of yet.
//!
//! Both sides bring and take many messages at a time: a lock and a wake-up for each would cost more than all else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_event_model::wire::Message;
use tokio::sync::Notify;

use crate::batch::Undecoded;
use crate::{Batch, BusError, GroupEvent, Positions, Range};

/// A partition with so many messages, or so many bytes of them, that the owner has not taken is full until half
/// of them are gone. It may have more by what the poll thread brings at once.
const BUFFERED_MESSAGES: usize = 512;
const BUFFERED_BYTES: usize = 1024 * 1024;

/// Offsets between two messages of a partition that follow on each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) partition: i32,
    /// The first that is not there.
    pub(crate) expected: i64,
    /// The first that is there again.
    pub(crate) found: i64,
}

/// The owner gets no more at once: decoding them takes about a millisecond.
const TAKEN_AT_ONCE: usize = 1_000;

/// What the poll thread and the owner share.
pub(crate) struct Shared<M> {
    group: String,
    state: Mutex<State<M>>,
    changed: Notify,
    /// The owner has taken some while the poll thread waited for that.
    taken: Condvar,
}

struct State<M> {
    rebalances: VecDeque<GroupEvent<M>>,
    /// The partitions that are assigned.
    partitions: BTreeMap<i32, Buffer>,
    /// The partition that was served last: the next one comes first.
    served: i32,
    failed: Option<BusError>,
    closing: bool,
    /// The poll thread waits for the owner.
    waiting: bool,
}

struct Buffer {
    records: VecDeque<Undecoded>,
    bytes: usize,
    /// The offset that comes next from Kafka.
    next: i64,
    /// Where the owner's next range begins.
    taken: i64,
    /// False while Kafka is told to send nothing.
    fetching: bool,
}

impl Buffer {
    fn is_full(&self) -> bool {
        self.records.len() >= BUFFERED_MESSAGES || self.bytes >= BUFFERED_BYTES
    }

    fn is_half_full(&self) -> bool {
        self.records.len() > BUFFERED_MESSAGES / 2 || self.bytes > BUFFERED_BYTES / 2
    }
}

impl<M: Message> Shared<M> {
    pub(crate) fn new(group: String) -> Self {
        let state = State {
            rebalances: VecDeque::new(),
            partitions: BTreeMap::new(),
            served: -1,
            failed: None,
            closing: false,
            waiting: false,
        };
        Self { group, state: Mutex::new(state), changed: Notify::new(), taken: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when something may have come. One owner waits, so one permit is enough.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn take(&self, room: usize) -> Option<Result<GroupEvent<M>, BusError>> {
        let mut state = self.lock();
        if let Some(event) = state.rebalances.pop_front() {
            return Some(Ok(event));
        }
        if let Some(error) = state.failed.take() {
            return Some(Err(error));
        }
        if state.closing {
            let reason = "it has been left".to_owned();
            return Some(Err(BusError::GroupEnded { group: self.group.clone(), reason }));
        }
        let (messages, ranges, bytes) = state.take_records(room.min(TAKEN_AT_ONCE));
        if state.waiting && !state.any_fetched(Buffer::is_half_full) {
            self.taken.notify_one();
        }
        drop(state);
        if messages.is_empty() {
            return None;
        }
        let records = messages.into_iter().map(Undecoded::decode).collect();
        Some(Ok(GroupEvent::Records(Batch { records, ranges, bytes })))
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        // Whoever waits for an answer to these hears that none will come.
        state.rebalances.clear();
        self.taken.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    pub(crate) fn fail(&self, error: BusError) {
        let mut state = self.lock();
        state.failed = Some(error);
        state.closing = true;
        drop(state);
        self.changed.notify_one();
    }

    /// Dropped at once when the owner is gone, so that nobody waits for its answer.
    pub(crate) fn push_rebalance(&self, event: GroupEvent<M>) {
        let mut state = self.lock();
        if !state.closing {
            state.rebalances.push_back(event);
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(crate) fn assigned(&self, positions: &Positions) {
        let mut state = self.lock();
        for (partition, offset) in positions {
            let buffer =
                Buffer { records: VecDeque::new(), bytes: 0, next: *offset, taken: *offset, fetching: true };
            state.partitions.insert(*partition, buffer);
        }
    }

    /// What the owner has not taken of them is dropped: their next owner reads it again.
    pub(crate) fn revoked(&self, partitions: &[i32]) {
        let mut state = self.lock();
        for partition in partitions {
            state.partitions.remove(partition);
        }
    }

    /// Takes in what was polled, in its order, and wakes the owner. What is not assigned any more is for its next owner,
    /// and what was fetched twice, around a pause, is there already.
    ///
    /// `gapless`: messages must follow on each other. One that does not stays in `polled`, with all behind it, and is
    /// returned.
    pub(crate) fn push(&self, polled: &mut VecDeque<Undecoded>, gapless: bool) -> Option<Gap> {
        let mut state = self.lock();
        let mut taken = 0;
        let gap = loop {
            let Some(next) = polled.front() else { break None };
            let (partition, offset) = (next.partition, next.offset);
            let buffer = state.partitions.get_mut(&partition).filter(|buffer| buffer.next <= offset);
            if let Some(buffer) = &buffer
                && buffer.next < offset
                && gapless
            {
                break Some(Gap { partition, expected: buffer.next, found: offset });
            }
            let Some(message) = polled.pop_front() else { break None };
            if let Some(buffer) = buffer {
                buffer.next = offset + 1;
                buffer.bytes += message.bytes();
                buffer.records.push_back(message);
                taken += 1;
            }
        };
        drop(state);
        if taken > 0 {
            self.changed.notify_one();
        }
        gap
    }

    /// What the gap left out is not there in Kafka.
    pub(crate) fn pass(&self, gap: &Gap) {
        if let Some(buffer) = self.lock().partitions.get_mut(&gap.partition) {
            buffer.next = buffer.next.max(gap.found);
        }
    }

    /// Where a partition is full: returns when none of those that are fetched is more than half full, or after so
    /// long.
    pub(crate) fn wait_for_room(&self, patience: Duration) {
        let mut state = self.lock();
        if !state.any_fetched(Buffer::is_full) {
            return;
        }
        state.waiting = true;
        let not_yet = |state: &mut State<M>| !state.closing && state.any_fetched(Buffer::is_half_full);
        let waited = self.taken.wait_timeout_while(state, patience, not_yet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting = false;
    }

    /// The partitions that Kafka is to stop sending, and to send again.
    pub(crate) fn regulate(&self) -> (Vec<i32>, Vec<i32>) {
        let (mut full, mut drained) = (Vec::new(), Vec::new());
        for (partition, buffer) in &mut self.lock().partitions {
            if buffer.fetching && buffer.is_full() {
                buffer.fetching = false;
                full.push(*partition);
            } else if !buffer.fetching && !buffer.is_half_full() {
                buffer.fetching = true;
                drained.push(*partition);
            }
        }
        (full, drained)
    }

    pub(crate) fn positions(&self) -> Positions {
        self.lock().partitions.iter().map(|(partition, buffer)| (*partition, buffer.next)).collect()
    }
}

impl<M> State<M> {
    fn any_fetched(&self, is_so: impl Fn(&Buffer) -> bool) -> bool {
        self.partitions.values().filter(|buffer| buffer.fetching).any(is_so)
    }

    /// Each partition in turn gives what it has, beginning behind the one that was served last: the messages, their
    /// ranges by partition, and their bytes.
    fn take_records(&mut self, room: usize) -> (Vec<Undecoded>, Vec<Range>, usize) {
        let (mut messages, mut ranges, mut bytes) = (Vec::new(), Vec::new(), 0);
        let served = self.served;
        let order: Vec<i32> = self
            .partitions
            .range(served + 1..)
            .chain(self.partitions.range(..=served))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in order {
            let Some(buffer) = self.partitions.get_mut(&partition) else { continue };
            let count = buffer.records.len().min(room - messages.len());
            let Some(last) = count.checked_sub(1).and_then(|last| buffer.records.get(last)) else { continue };
            let range = Range { partition, start: buffer.taken, end: last.offset + 1 };
            buffer.taken = range.end;
            let taken = buffer.records.iter().take(count).map(Undecoded::bytes).sum::<usize>();
            buffer.bytes -= taken;
            bytes += taken;
            messages.extend(buffer.records.drain(..count));
            ranges.push(range);
            self.served = partition;
        }
        ranges.sort_unstable();
        (messages, ranges, bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use millrace_event_model::Progress;
    use millrace_event_model::wire::WireRecord;

    use super::*;

    fn shared(partitions: &[i32]) -> Shared<Progress> {
        let shared = Shared::new("g".to_owned());
        shared.assigned(&partitions.iter().map(|partition| (*partition, 0)).collect());
        shared
    }

    fn received(partition: i32, offset: i64) -> Undecoded {
        Undecoded { partition, offset, appended_at: chrono::DateTime::UNIX_EPOCH, raw: WireRecord::default() }
    }

    fn push(shared: &Shared<Progress>, partition: i32, offsets: std::ops::Range<i64>) {
        let mut polled = offsets.map(|offset| received(partition, offset)).collect();
        assert_eq!(shared.push(&mut polled, true), None);
        assert!(polled.is_empty());
    }

    fn take(shared: &Shared<Progress>, room: usize) -> Option<Batch<Progress>> {
        match shared.take(room)?.unwrap() {
            GroupEvent::Records(batch) => Some(batch),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_room_there_are_no_messages() {
        let shared = shared(&[0]);
        push(&shared, 0, 0..3);
        assert!(take(&shared, 0).is_none());
        assert_eq!(take(&shared, 9).unwrap().records.len(), 3);
        assert!(take(&shared, 9).is_none());
    }

    #[test]
    fn no_partition_waits_for_another_that_has_more() {
        let shared = shared(&[0, 1, 2]);
        push(&shared, 0, 0..200);
        push(&shared, 2, 0..1);
        let first = take(&shared, 10).unwrap();
        assert!(first.ranges.iter().all(|range| range.partition == 0));
        let second = take(&shared, 10).unwrap();
        assert_eq!(second.records[0].partition, 2, "the next in turn comes first");
        assert_eq!(second.ranges.iter().find(|range| range.partition == 0).unwrap().start, 10);
    }

    #[test]
    fn a_full_partition_is_not_fetched_until_it_is_half_empty() {
        let shared = shared(&[0, 1]);
        push(&shared, 0, 0..512);
        assert_eq!(shared.regulate(), (vec![0], vec![]));
        assert_eq!(shared.regulate(), (vec![], vec![]));
        take(&shared, 255).unwrap();
        assert_eq!(shared.regulate(), (vec![], vec![]));
        take(&shared, 1).unwrap();
        assert_eq!(shared.regulate(), (vec![], vec![0]));
    }

    #[test]
    fn a_full_partition_is_waited_for_and_no_longer_than_that() {
        let shared = shared(&[0, 1]);
        let waits = |patience: Duration| {
            let began = std::time::Instant::now();
            shared.wait_for_room(patience);
            began.elapsed() >= patience
        };
        push(&shared, 0, 0..511);
        assert!(!waits(Duration::from_secs(60)), "it is not full");
        push(&shared, 0, 511..512);
        assert!(waits(Duration::from_millis(20)));
        std::thread::scope(|scope| {
            scope.spawn(|| while take(&shared, 10).is_some() {});
            assert!(!waits(Duration::from_secs(60)), "the owner has taken some");
        });
    }

    #[test]
    fn what_is_revoked_is_left_to_its_next_owner() {
        let shared = shared(&[0, 1]);
        push(&shared, 0, 0..5);
        push(&shared, 1, 0..5);
        shared.revoked(&[0]);
        push(&shared, 0, 5..6);
        let batch = take(&shared, 100).unwrap();
        assert!(batch.records.iter().all(|record| record.partition == 1));
        assert_eq!(shared.positions(), [(1, 5)].into());
    }

    #[test]
    fn what_was_fetched_twice_is_taken_once_and_a_gap_is_not_passed_unasked() {
        let shared = shared(&[0, 1]);
        push(&shared, 0, 0..5);
        let mut polled: VecDeque<_> = [(0, 3), (0, 4), (0, 5), (0, 8), (1, 0)]
            .map(|(partition, offset)| received(partition, offset))
            .into();
        let gap = shared.push(&mut polled, true).unwrap();
        assert_eq!(gap, Gap { partition: 0, expected: 6, found: 8 });
        assert_eq!(polled.len(), 2, "what lies behind the gap is not lost");
        shared.pass(&gap);
        assert_eq!(shared.push(&mut polled, true), None);
        let batch = take(&shared, 100).unwrap();
        let offsets: Vec<_> = batch.records.iter().map(|record| (record.partition, record.offset)).collect();
        assert_eq!(
            offsets,
            [0, 1, 2, 3, 4, 5, 8].map(|offset| (0, offset)).into_iter().chain([(1, 0)]).collect::<Vec<_>>()
        );
        assert_eq!(batch.next_positions(), [(0, 9), (1, 1)].into());

        let mut compacted = [received(1, 7)].into();
        assert_eq!(shared.push(&mut compacted, false), None, "a compacted topic has gaps");
        assert_eq!(shared.positions(), [(0, 9), (1, 8)].into());
    }

    #[test]
    fn an_end_is_told_again_and_again() {
        let shared = shared(&[0]);
        shared.fail(BusError::QueueFull);
        assert!(matches!(shared.take(1), Some(Err(BusError::QueueFull))));
        for _ in 0..2 {
            assert!(matches!(shared.take(1), Some(Err(BusError::GroupEnded { .. }))));
        }
    }
}
