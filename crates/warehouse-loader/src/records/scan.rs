//! Which rows of an ELT source are real, decided by reading ahead.
//!
//! A row is real when the next barrier of its attempt follows before any record of a newer attempt, and void
//! when the newer record comes first (`event-model/src/record.rs`). Until one of the two has been read the row
//! is pending. So a reader goes ahead of the loads and notes, per partition, runs of rows and how they
//! ended; the rows themselves are not kept, and a stream of any length costs a few bytes per barrier and batch.
//!
//! The verdict on a row depends on nothing but the log behind it. So after a crash a new scan, from wherever
//! it starts, finds the same, and a load that is done again has the same rows.
//!
//! A full refresh swaps in when its last barrier, the complete one, stands on all partitions. All of them are
//! consumed by one load, which has the swap: then the stored positions say whether it has happened, and
//! no other memory is needed. Until the last partition has it, loads stop before it on the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_connector::{OffsetRange, Positions};
use millrace_event_model::{AttemptId, Barrier, LoadMode, Record, RecordBody, StreamSpec};

use crate::LoadLimits;
use crate::position::between;

/// What is known of a source's log ahead of the stored positions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scan {
    partitions: BTreeMap<i32, PartitionScan>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict<'a> {
    /// It is real; the barrier that made it so knew these streams.
    Real(&'a Arc<[StreamSpec]>),
    /// A newer attempt began before it became real.
    Void,
    /// Neither yet.
    Pending,
}

/// How far loads may go now, and whether the whole way must be one load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The positions after it.
    pub(crate) until: Positions,
    /// It consumes the complete barrier of a full refresh on all partitions: nothing may come between.
    pub(crate) at_once: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct PartitionScan {
    /// One past the last offset that was read.
    next: i64,
    /// Runs of rows in order of their offsets.
    runs: Vec<Run>,
    /// The first run that may be open: all before it have ended.
    open_from: usize,
    /// What was read at a time: the sizes of loads come from them.
    stretches: Vec<Stretch>,
    /// Complete barriers of full refreshes.
    completes: Vec<Complete>,
    /// The newest attempt of which anything was read.
    newest: Option<AttemptId>,
    /// The streams of the last barrier: the next one mostly has the same.
    last_streams: Arc<[StreamSpec]>,
}

#[derive(Debug, Clone, PartialEq)]
struct Stretch {
    /// One past its last offset.
    end: i64,
    bytes: usize,
}

/// Rows of one attempt with no record of the source between them.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    first: i64,
    last: i64,
    attempt: AttemptId,
    end: RunEnd,
}

#[derive(Debug, Clone, PartialEq)]
enum RunEnd {
    Open,
    Real(Arc<[StreamSpec]>),
    Void,
}

#[derive(Debug, Clone, PartialEq)]
struct Complete {
    offset: i64,
    id: BarrierId,
    streams: Arc<[StreamSpec]>,
}

type BarrierId = (AttemptId, u64);

impl Scan {
    /// Nothing read yet behind these positions, one for each partition of the topic.
    pub(crate) fn new(positions: &Positions) -> Self {
        let partitions = positions.iter().map(|(partition, next)| (*partition, PartitionScan::new(*next)));
        Self { partitions: partitions.collect() }
    }

    /// Takes note of a record of the source.
    pub(crate) fn observe(&mut self, partition: i32, offset: i64, record: &Record) {
        let Some(scan) = self.partitions.get_mut(&partition) else { return };
        scan.void_older_than(record.attempt);
        match &record.body {
            RecordBody::Row { .. } => scan.row(offset, record.attempt),
            RecordBody::Begin => {}
            RecordBody::Barrier(barrier) => scan.barrier(offset, record.attempt, barrier),
        }
    }

    /// Everything below `next` was read, whether it was the source's or not: so many bytes since the last
    /// call for the partition.
    pub(crate) fn advance(&mut self, partition: i32, next: i64, bytes: usize) {
        let Some(scan) = self.partitions.get_mut(&partition) else { return };
        if next > scan.next {
            scan.next = next;
            scan.stretches.push(Stretch { end: next, bytes });
        }
    }

    /// The ranges of the next load on the way from `from` to `until`: as much as the limits allow. None when
    /// nothing is left. A stretch that was read at once is taken as a whole, so a load is no larger than
    /// the limits unless those of reading were.
    pub(crate) fn next_load(
        &self,
        from: &Positions,
        until: &Positions,
        limits: LoadLimits,
    ) -> Vec<OffsetRange> {
        let (mut records, mut bytes) = (0, 0);
        let mut ranges = Vec::new();
        for way in between(from, until) {
            let Some(scan) = self.partitions.get(&way.partition) else { continue };
            let mut end = way.start;
            for stretch in scan.stretches.iter().filter(|stretch| stretch.end > way.start) {
                let next = stretch.end.min(way.end);
                let more = usize::try_from(next - end).unwrap_or(usize::MAX);
                let full = records + more > limits.max_records || bytes + stretch.bytes > limits.max_bytes;
                if next <= end || (full && records > 0) {
                    break;
                }
                end = next;
                records += more;
                bytes += stretch.bytes;
            }
            if end > way.start {
                ranges.push(OffsetRange { end, ..way });
            }
        }
        ranges
    }

    /// How far it was read.
    pub(crate) fn positions(&self) -> Positions {
        self.partitions.iter().map(|(partition, scan)| (*partition, scan.next)).collect()
    }

    /// What became of the row at this offset.
    pub(crate) fn verdict(&self, partition: i32, offset: i64) -> Verdict<'_> {
        let Some(scan) = self.partitions.get(&partition) else { return Verdict::Pending };
        let index = scan.runs.partition_point(|run| run.last < offset);
        match scan.runs.get(index).filter(|run| run.first <= offset).map(|run| &run.end) {
            Some(RunEnd::Real(streams)) => Verdict::Real(streams),
            Some(RunEnd::Void) => Verdict::Void,
            Some(RunEnd::Open) | None => Verdict::Pending,
        }
    }

    /// How far loads may go: every row below is decided.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut held = Positions::new();
        for id in self.complete_ids() {
            let places = self.places(id);
            if places.len() == self.partitions.len() && self.all_decided_below(&places) {
                let behind = places.iter().map(|(partition, offset)| (*partition, offset + 1)).collect();
                steps.push(Step { until: places, at_once: false });
                steps.push(Step { until: behind, at_once: true });
                continue;
            }
            if self.will_never_be_everywhere(id, &places) {
                continue;
            }
            held = places;
            break;
        }
        let until = self.partitions.iter().map(|(partition, scan)| {
            let free = scan.runs.get(scan.open_from).map_or(scan.next, |open| open.first);
            (*partition, held.get(partition).map_or(free, |held| free.min(*held)))
        });
        steps.push(Step { until: until.collect(), at_once: false });
        steps
    }

    /// The full refreshes that swap in with a load of these ranges.
    pub(crate) fn swaps(&self, ranges: &[OffsetRange]) -> Vec<StreamSpec> {
        let within = |partition: &i32, offset: &i64| {
            ranges
                .iter()
                .any(|range| range.partition == *partition && (range.start..range.end).contains(offset))
        };
        let mut swaps = Vec::new();
        for id in self.complete_ids() {
            let places = self.places(id);
            let everywhere = places.len() == self.partitions.len();
            if everywhere && places.iter().all(|(partition, offset)| within(partition, offset)) {
                let streams = self.streams_of(id);
                swaps.extend(streams.iter().filter(|spec| spec.mode == LoadMode::Overwrite).cloned());
            }
        }
        swaps
    }

    /// Whether all that these ranges hold was read and decided.
    pub(crate) fn has_decided(&self, ranges: &[OffsetRange]) -> bool {
        ranges.iter().all(|range| {
            let Some(scan) = self.partitions.get(&range.partition) else { return false };
            scan.next >= range.end && scan.is_decided_below(range.end)
        })
    }

    /// Forgets what lies below the positions: it is loaded.
    pub(crate) fn forget_below(&mut self, positions: &Positions) {
        for (partition, position) in positions {
            let Some(scan) = self.partitions.get_mut(partition) else { continue };
            scan.runs.retain(|run| run.last >= *position);
            scan.open_from = 0;
            scan.skip_ended();
            scan.stretches.retain(|stretch| stretch.end > *position);
            scan.completes.retain(|complete| complete.offset >= *position);
        }
    }

    fn complete_ids(&self) -> BTreeSet<BarrierId> {
        let all = self.partitions.values().flat_map(|scan| &scan.completes);
        all.map(|complete| complete.id).collect()
    }

    /// Where a complete barrier stands; the first place where it stands twice.
    fn places(&self, id: BarrierId) -> Positions {
        let place = |(partition, scan): (&i32, &PartitionScan)| {
            let complete = scan.completes.iter().find(|complete| complete.id == id)?;
            Some((*partition, complete.offset))
        };
        self.partitions.iter().filter_map(place).collect()
    }

    fn streams_of(&self, id: BarrierId) -> Arc<[StreamSpec]> {
        let mut all = self.partitions.values().flat_map(|scan| &scan.completes);
        all.find(|complete| complete.id == id)
            .map_or_else(|| Arc::from([]), |complete| complete.streams.clone())
    }

    fn all_decided_below(&self, places: &Positions) -> bool {
        places.iter().all(|(partition, offset)| {
            self.partitions.get(partition).is_some_and(|scan| scan.is_decided_below(*offset))
        })
    }

    /// A newer attempt begins only when the older one's last barrier stands everywhere, so a partition
    /// that has the newer and not the barrier never gets it: what stands is a repetition after a crash.
    fn will_never_be_everywhere(&self, id: BarrierId, places: &Positions) -> bool {
        let lacking = self.partitions.iter().filter(|(partition, _)| !places.contains_key(partition));
        lacking.map(|(_, scan)| scan.newest).any(|newest| newest > Some(id.0))
    }
}

impl PartitionScan {
    fn new(next: i64) -> Self {
        Self {
            next,
            runs: Vec::new(),
            open_from: 0,
            stretches: Vec::new(),
            completes: Vec::new(),
            newest: None,
            last_streams: Arc::from([]),
        }
    }

    fn void_older_than(&mut self, attempt: AttemptId) {
        self.newest = self.newest.max(Some(attempt));
        self.end_runs(|run| run.attempt < attempt, &RunEnd::Void);
    }

    fn row(&mut self, offset: i64, attempt: AttemptId) {
        match self.runs.last_mut() {
            // An open run of the same attempt goes on: a barrier or a newer attempt would have closed it.
            Some(run) if run.end == RunEnd::Open && run.attempt == attempt => run.last = offset,
            _ => self.runs.push(Run { first: offset, last: offset, attempt, end: RunEnd::Open }),
        }
    }

    fn barrier(&mut self, offset: i64, attempt: AttemptId, barrier: &Barrier) {
        if *self.last_streams != *barrier.streams {
            self.last_streams = barrier.streams.clone().into();
        }
        let streams = self.last_streams.clone();
        self.end_runs(|run| run.attempt == attempt, &RunEnd::Real(streams.clone()));
        if barrier.complete && streams.iter().any(|spec| spec.mode == LoadMode::Overwrite) {
            self.completes.push(Complete { offset, id: (attempt, barrier.number), streams });
        }
    }

    fn end_runs(&mut self, which: impl Fn(&Run) -> bool, end: &RunEnd) {
        for run in self.runs.iter_mut().skip(self.open_from) {
            if run.end == RunEnd::Open && which(run) {
                run.end = end.clone();
            }
        }
        self.skip_ended();
    }

    fn is_decided_below(&self, offset: i64) -> bool {
        self.runs.get(self.open_from).is_none_or(|open| open.first >= offset)
    }

    fn skip_ended(&mut self) {
        let ended = self.runs.iter().skip(self.open_from).take_while(|run| run.end != RunEnd::Open).count();
        self.open_from += ended;
    }
}

#[cfg(test)]
mod tests;
