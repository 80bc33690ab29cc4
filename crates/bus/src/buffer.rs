//! What the poll thread and the owner of a [`crate::GroupReader`] share: a bounded buffer for each
//! partition, and the rebalances that the owner has not heard of yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::batch::Filling;
use crate::{BusError, GroupEvent, Positions, Received};

/// A partition with so many messages, or so many bytes of them, that the owner has not taken is full until half
/// of them are gone.
const BUFFERED_MESSAGES: usize = 256;
const BUFFERED_BYTES: usize = 1024 * 1024;

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
    partitions: BTreeMap<i32, Buffer<M>>,
    /// Those the owner takes nothing from.
    held: BTreeSet<i32>,
    /// The partition that was served last: the next one comes first.
    served: i32,
    failed: Option<BusError>,
    closing: bool,
    /// Messages have come that the owner was not woken for.
    untold: bool,
    /// The poll thread waits for the owner.
    waiting: bool,
}

struct Buffer<M> {
    records: VecDeque<Received<M>>,
    bytes: usize,
    /// The offset that comes next from Kafka.
    next: i64,
    /// Where the owner's next range begins.
    taken: i64,
    /// False while Kafka is told to send nothing.
    fetching: bool,
}

impl<M> Buffer<M> {
    fn is_full(&self) -> bool {
        self.records.len() >= BUFFERED_MESSAGES || self.bytes >= BUFFERED_BYTES
    }

    fn is_half_empty(&self) -> bool {
        self.records.len() <= BUFFERED_MESSAGES / 2 && self.bytes <= BUFFERED_BYTES / 2
    }
}

impl<M> Shared<M> {
    pub(crate) fn new(group: String) -> Self {
        let state = State {
            rebalances: VecDeque::new(),
            partitions: BTreeMap::new(),
            held: BTreeSet::new(),
            served: -1,
            failed: None,
            closing: false,
            untold: false,
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
        let filling = state.take_records(room);
        if state.waiting {
            self.taken.notify_one();
        }
        (!filling.is_empty()).then(|| Ok(GroupEvent::Records(filling.finish())))
    }

    pub(crate) fn hold(&self, partitions: &[i32], hold: bool) {
        let mut state = self.lock();
        for partition in partitions {
            if hold {
                state.held.insert(*partition);
            } else {
                state.held.remove(partition);
            }
        }
        drop(state);
        self.taken.notify_one();
        self.changed.notify_one();
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
            state.held.remove(partition);
        }
    }

    /// What comes next from a partition, if it is assigned.
    pub(crate) fn expected(&self, partition: i32) -> Option<i64> {
        self.lock().partitions.get(&partition).map(|buffer| buffer.next)
    }

    /// Whether its partition is full. The owner hears of it with the next [`Self::tell`].
    pub(crate) fn push(&self, received: Received<M>) -> bool {
        let mut state = self.lock();
        // Revoked meanwhile: its next owner reads it.
        let Some(buffer) = state.partitions.get_mut(&received.partition) else { return false };
        buffer.next = received.offset + 1;
        buffer.bytes += received.bytes();
        buffer.records.push_back(received);
        let is_full = buffer.is_full();
        state.untold = true;
        is_full
    }

    /// Wakes the owner, if there is something that it has not heard of.
    pub(crate) fn tell(&self) {
        if std::mem::take(&mut self.lock().untold) {
            self.changed.notify_one();
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
        let not_yet =
            |state: &mut State<M>| !state.closing && state.any_fetched(|buffer| !buffer.is_half_empty());
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
            } else if !buffer.fetching && buffer.is_half_empty() {
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
    fn any_fetched(&self, is_so: impl Fn(&Buffer<M>) -> bool) -> bool {
        let mut fetched = self
            .partitions
            .iter()
            .filter(|(partition, buffer)| buffer.fetching && !self.held.contains(partition));
        fetched.any(|(_, buffer)| is_so(buffer))
    }

    /// Each partition in turn gives what it has, beginning behind the one that was served last.
    fn take_records(&mut self, room: usize) -> Filling<M> {
        let mut filling = Filling::default();
        let served = self.served;
        let order: Vec<i32> = self
            .partitions
            .range(served + 1..)
            .chain(self.partitions.range(..=served))
            .map(|(partition, _)| *partition)
            .filter(|partition| !self.held.contains(partition))
            .collect();
        for partition in order {
            let Some(buffer) = self.partitions.get_mut(&partition) else { continue };
            while filling.len() < room {
                let Some(received) = buffer.records.pop_front() else { break };
                buffer.bytes -= received.bytes();
                let start = buffer.taken;
                buffer.taken = received.offset + 1;
                filling.push(received, start);
                self.served = partition;
            }
        }
        filling
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use millrace_event_model::wire::{DecodeError, WireRecord};

    use super::*;
    use crate::Batch;

    fn shared(partitions: &[i32]) -> Shared<()> {
        let shared = Shared::new("g".to_owned());
        shared.assigned(&partitions.iter().map(|partition| (*partition, 0)).collect());
        shared
    }

    fn push(shared: &Shared<()>, partition: i32, offsets: std::ops::Range<i64>) {
        for offset in offsets {
            shared.push(Received {
                partition,
                offset,
                appended_at: chrono::DateTime::UNIX_EPOCH,
                raw: WireRecord::default(),
                message: Err(DecodeError::MalformedKey),
            });
        }
    }

    fn take(shared: &Shared<()>, room: usize) -> Option<Batch<()>> {
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
        push(&shared, 0, 0..256);
        assert_eq!(shared.regulate(), (vec![0], vec![]));
        assert_eq!(shared.regulate(), (vec![], vec![]));
        take(&shared, 100).unwrap();
        assert_eq!(shared.regulate(), (vec![], vec![]));
        take(&shared, 28).unwrap();
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
        push(&shared, 0, 0..255);
        assert!(!waits(Duration::from_secs(60)), "it is not full");
        push(&shared, 0, 255..256);
        assert!(waits(Duration::from_millis(20)));
        std::thread::scope(|scope| {
            scope.spawn(|| while take(&shared, 10).is_some() {});
            assert!(!waits(Duration::from_secs(60)), "the owner has taken some");
        });
        push(&shared, 1, 0..256);
        shared.hold(&[1], true);
        assert!(!waits(Duration::from_secs(60)), "of those that are held nobody takes any");
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
        assert_eq!(shared.expected(0), None);
    }

    #[test]
    fn what_is_held_waits_in_order() {
        let shared = shared(&[0]);
        push(&shared, 0, 0..5);
        shared.hold(&[0], true);
        assert!(take(&shared, 100).is_none());
        push(&shared, 0, 5..7);
        shared.hold(&[0], false);
        let batch = take(&shared, 100).unwrap();
        assert_eq!((batch.ranges[0].start, batch.ranges[0].end), (0, 7));
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
