//! The intent log of a connection: which load is under way, which is the last that is whole, and who may
//! write the next.
//!
//! Two sequences of generations share one numbering. `loads/<N>` holds what was *begun*: an intent (the
//! exact offset ranges of load N), or a fence (a loader with a higher epoch has taken over). `seals/<N>`
//! says that load N is whole, with the positions after it. Since a fence takes the next number of the
//! very sequence in which intents are written, a loader that was fenced off loses the race for its next
//! intent: there is no moment between "am I still the one?" and the write.
//!
//! From this follows all the rest. An intent is only written when the one before it is sealed, so at most
//! one is not, and that is the one to do again. Positions are carried forward in each seal, so that
//! resuming reads the last seal and the last few entries, however long the log is.

use std::collections::BTreeMap;

use millrace_connector::{ConnectorError, KafkaIdentity, OffsetRange, Positions, Replacement};
use millrace_event_model::ConnectionId;
use millrace_state::{Generations, StateError, Store};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{self, Result};
use crate::file_name::short;
use crate::files::LoadId;
use crate::sealers::Sealers;

/// How often taking over is tried again when other loaders write entries meanwhile.
const FENCE_ATTEMPTS: usize = 16;

/// Entries and seals that are kept below the last seal, to look at. Pruned once in as many loads, so that
/// listing the log stays cheap.
const KEPT: u64 = 64;

/// What `loads/<N>` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Made with the first entry of a log. It is part of the app id, so that a log that a person deleted
    /// and that began anew never takes the marks of the old one in the tables for its own.
    log: Uuid,
    epoch: u64,
    kafka: KafkaIdentity,
    begins: Begins,
    /// Tables that the load replaces. Kept here, since whoever does the load again has its records and nothing else:
    /// without them, some tables would be replaced and others not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replacements: Vec<Replacement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Begins {
    /// A loader took over.
    Fence,
    /// A load of these ranges.
    Load(Vec<OffsetRange>),
}

/// What `seals/<N>` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    kafka: KafkaIdentity,
    positions: Positions,
    #[serde(default)]
    sealers: Sealers,
}

/// What a loader knows between two loads. It is only valid as long as nobody else has written an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) epoch: u64,
    pub(crate) positions: Positions,
    /// The load that began and was not sealed.
    pub(crate) redo: Option<Intent>,
    log: Uuid,
    kafka: KafkaIdentity,
    sealers: Sealers,
    /// The last load that was sealed when this was read; 0: none.
    sealed: u64,
    next: u64,
}

/// A load that has been announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) number: u64,
    pub(crate) ranges: Vec<OffsetRange>,
    pub(crate) replacements: Vec<Replacement>,
}

impl Cursor {
    /// The first part of the app id under which tables remember load numbers.
    pub(crate) fn log_id(&self) -> Uuid {
        self.log
    }

    /// Loads below this number are whole.
    pub(crate) fn whole_below(&self) -> u64 {
        self.redo.as_ref().map_or(self.next, |intent| intent.number)
    }

    /// What this loader's plain files of a load are named by.
    pub(crate) fn load_id(&self, connection: &ConnectionId, intent: &Intent) -> LoadId {
        LoadId {
            connection: connection.clone(),
            log: short(&self.log),
            number: intent.number,
            epoch: self.epoch,
            ranges: intent.ranges.clone(),
        }
    }

    /// The load that was sealed last when the connection was resumed, and its sealer's epoch, if that loader may
    /// have died before it deleted what others had left of this load.
    pub(crate) fn perhaps_littered(&self, connection: &ConnectionId) -> Option<(LoadId, u64)> {
        let intent = Intent { number: self.sealed, ranges: Vec::new(), replacements: Vec::new() };
        let sealer = self.sealers.of(self.sealed)?;
        self.sealers.is_first(self.sealed).then(|| (self.load_id(connection, &intent), sealer))
    }
}

/// The loads of a connection that are whole, as an onlooker sees them.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    /// What file names keep of the log's id.
    pub(crate) log: String,
    /// All loads below this number are.
    pub(crate) below: u64,
    /// Whose attempts at them count.
    pub(crate) sealers: Sealers,
}

/// The log of one connection.
pub(crate) struct IntentLog {
    loads: Generations<Entry>,
    seals: Generations<Seal>,
    connection: String,
    /// For people, in the text of an error.
    url: String,
}

impl IntentLog {
    /// `store`: the folder of the connection.
    pub(crate) fn new(store: &Store, connection: &str) -> Self {
        Self {
            loads: Generations::new(store.child("loads")),
            seals: Generations::new(store.child("seals")),
            connection: connection.to_owned(),
            url: store.url(),
        }
    }

    /// Whether nothing was ever written.
    pub(crate) async fn is_new(&self) -> Result<bool> {
        Ok(self.loads.latest().await.map_err(unreadable)?.is_none())
    }

    /// Below which offsets all loads are sealed, as an onlooker sees it.
    pub(crate) async fn positions(&self) -> Result<Positions> {
        let seal = self.seals.latest().await.map_err(unreadable)?;
        Ok(seal.map(|seal| seal.value.positions).unwrap_or_default())
    }

    /// Raises the fence to `epoch` and says where to go on. A new log begins after `numbers_used`: the
    /// highest number that an older log, deleted since, may have left behind in file names.
    pub(crate) async fn resume(
        &self,
        epoch: u64,
        kafka: &KafkaIdentity,
        numbers_used: u64,
    ) -> Result<Cursor> {
        let (log, last) = self.fence(epoch, kafka, numbers_used).await?;
        // Only now: before the fence, another loader could still have sealed one load and begun another.
        let seal = self.seals.latest().await.map_err(unreadable)?;
        let sealed = seal.as_ref().map_or(0, |seal| seal.number);
        let redo = self.unsealed(last, sealed).await?;
        let (positions, sealers) =
            seal.map(|seal| (seal.value.positions, seal.value.sealers)).unwrap_or_default();
        let next = last.max(sealed) + 1;
        Ok(Cursor { epoch, positions, redo, log, kafka: kafka.clone(), sealers, sealed, next })
    }

    /// The number below which all loads are whole, as an onlooker sees it.
    pub(crate) async fn whole_below(&self) -> Result<u64> {
        let (next, begun) = self.seen_from_outside().await?;
        Ok(begun.map_or(next, |intent| intent.number))
    }

    /// Whether a load has begun and is not whole, as an onlooker sees it.
    pub(crate) async fn is_amid_a_load(&self) -> Result<bool> {
        let (_, begun) = self.seen_from_outside().await?;
        Ok(begun.is_some())
    }

    /// The number of the next entry, and the load that is not whole.
    async fn seen_from_outside(&self) -> Result<(u64, Option<Intent>)> {
        let last = self.loads.latest().await.map_err(unreadable)?.map_or(0, |entry| entry.number);
        let sealed = self.seals.latest().await.map_err(unreadable)?.map_or(0, |seal| seal.number);
        Ok((last.max(sealed) + 1, self.unsealed(last, sealed).await?))
    }

    /// As an onlooker sees it, if there is a log.
    pub(crate) async fn whole(&self) -> Result<Option<Whole>> {
        let Some(latest) = self.loads.latest().await.map_err(unreadable)? else { return Ok(None) };
        let below = self.whole_below().await?;
        // Read last, so that it knows of all loads below.
        let seal = self.seals.latest().await.map_err(unreadable)?;
        let sealers = seal.map(|seal| seal.value.sealers).unwrap_or_default();
        Ok(Some(Whole { log: short(&latest.value.log), below, sealers }))
    }

    /// Makes sure that the last entry is of this epoch, and returns the id of the log and its number.
    async fn fence(&self, epoch: u64, kafka: &KafkaIdentity, numbers_used: u64) -> Result<(Uuid, u64)> {
        for _ in 0..FENCE_ATTEMPTS {
            let latest = self.loads.latest().await.map_err(unreadable)?;
            self.check_kafka(latest.as_ref().map(|entry| (entry.number, &entry.value)), kafka).await?;
            let (log, number) = match latest {
                None => {
                    let seal = self.seals.latest().await.map_err(unreadable)?;
                    let sealed = seal.map_or(0, |seal| seal.number);
                    (Uuid::new_v4(), sealed.max(numbers_used) + 1)
                }
                Some(entry) if entry.value.epoch > epoch => {
                    return Err(self.fenced_off(epoch, entry.value.epoch));
                }
                Some(entry) if entry.value.epoch == epoch && entry.value.kafka == *kafka => {
                    return Ok((entry.value.log, entry.number));
                }
                Some(entry) => (entry.value.log, entry.number + 1),
            };
            let (kafka, replacements) = (kafka.clone(), Vec::new());
            let fence = Entry { log, epoch, kafka, begins: Begins::Fence, replacements };
            match self.loads.append(number, &fence).await {
                Ok(()) => return Ok((log, number)),
                Err(StateError::Lost { .. }) => {}
                Err(error) => return Err(error::state("cannot write a fence to the intent log", error)),
            }
        }
        let text = format!("other loaders of connection {} keep taking over", self.connection);
        Err(ConnectorError::retry("fence", text))
    }

    /// Offsets mean nothing in another cluster or topic. All entries of a log have one identity, so the
    /// latest speaks for them; before the first load there are no offsets, and any identity will do.
    async fn check_kafka(&self, latest: Option<(u64, &Entry)>, kafka: &KafkaIdentity) -> Result<()> {
        let seal = self.seals.latest().await.map_err(unreadable)?;
        let known = match (&seal, latest) {
            (Some(seal), _) => &seal.value.kafka,
            (None, Some((number, entry))) if self.unsealed(number, 0).await?.is_some() => &entry.kafka,
            _ => return Ok(()),
        };
        if known == kafka {
            return Ok(());
        }
        let text = format!(
            "the offsets of connection {} belong to topic {:?} (id {}) of Kafka cluster {:?}, but this is topic \
             {:?} (id {}) of cluster {:?}; point the connection at that cluster again, or, to read this topic \
             from its start, move {url}/loads and {url}/seals away: rows that were loaded stay",
            self.connection,
            known.topic,
            known.topic_id,
            known.cluster,
            kafka.topic,
            kafka.topic_id,
            kafka.cluster,
            url = self.url,
        );
        Err(ConnectorError::pause("kafka_identity", text))
    }

    /// The latest intent above the last seal, if there is one.
    async fn unsealed(&self, last: u64, sealed: u64) -> Result<Option<Intent>> {
        for number in (sealed + 1..=last).rev() {
            match self.loads.get(number).await.map_err(unreadable)? {
                Some(Entry { begins: Begins::Load(ranges), replacements, .. }) => {
                    return Ok(Some(Intent { number, ranges, replacements }));
                }
                Some(Entry { begins: Begins::Fence, .. }) => {}
                // Where a log begins above 1 there is nothing further down.
                None => break,
            }
        }
        Ok(None)
    }

    /// Announces a load. When this returns, exactly these ranges and replacements will become load N, whoever
    /// does it.
    pub(crate) async fn begin(
        &self,
        cursor: &Cursor,
        ranges: &[OffsetRange],
        replacements: &[Replacement],
    ) -> Result<Intent> {
        let (ranges, replacements) = (ranges.to_vec(), replacements.to_vec());
        let intent = Intent { number: cursor.next, ranges, replacements };
        let entry = Entry {
            log: cursor.log,
            epoch: cursor.epoch,
            kafka: cursor.kafka.clone(),
            begins: Begins::Load(intent.ranges.clone()),
            replacements: intent.replacements.clone(),
        };
        match self.loads.append(intent.number, &entry).await {
            Ok(()) => Ok(intent),
            Err(StateError::Lost { .. }) => {
                // The answer to a write that went through may be lost, and the request sent again.
                if self.loads.get(intent.number).await.map_err(unreadable)?.as_ref() == Some(&entry) {
                    return Ok(intent);
                }
                let latest = self.loads.latest().await.map_err(unreadable)?;
                let found = latest.map_or(cursor.epoch, |entry| entry.value.epoch);
                Err(self.fenced_off(cursor.epoch, found))
            }
            Err(error) => Err(error::state("cannot write an intent", error)),
        }
    }

    /// Whether a load that is done again is still to be done, and by this loader: nobody has taken over, and
    /// nobody has sealed it. It may be otherwise a moment later; asking only spares work for nothing.
    ///
    /// # Errors
    /// `fenced_off`, `done_by_another`, or the log cannot be read.
    pub(crate) async fn check_ours(&self, cursor: &Cursor, intent: &Intent) -> Result<()> {
        let latest = self.loads.latest().await.map_err(unreadable)?;
        let newest = latest.map_or(cursor.epoch, |entry| entry.value.epoch);
        if newest != cursor.epoch {
            return Err(self.fenced_off(cursor.epoch, newest));
        }
        let sealed = self.seals.latest().await.map_err(unreadable)?.map_or(0, |seal| seal.number);
        if sealed >= intent.number {
            return Err(self.done_by_another(intent));
        }
        Ok(())
    }

    /// Declares a load whole, moves the cursor past it, and returns the epoch under which it was sealed: that of
    /// another loader, if it did the same load and was first.
    pub(crate) async fn seal(&self, cursor: &mut Cursor, intent: &Intent) -> Result<u64> {
        let positions = positions_after(&cursor.positions, &intent.ranges);
        let sealers = cursor.sealers.with(intent.number, cursor.epoch);
        let mut seal = Seal { kafka: cursor.kafka.clone(), positions, sealers };
        match self.seals.append(intent.number, &seal).await {
            Ok(()) => {}
            Err(StateError::Lost { .. }) => {
                let found = self.seals.get(intent.number).await.map_err(unreadable)?;
                let same = |found: &Seal| found.kafka == seal.kafka && found.positions == seal.positions;
                seal = found.filter(same).ok_or_else(|| self.fenced_off(cursor.epoch, cursor.epoch))?;
            }
            Err(error) => return Err(error::state("cannot seal a load", error)),
        }
        let sealer = seal.sealers.of(intent.number).unwrap_or(cursor.epoch);
        cursor.positions = seal.positions;
        cursor.sealers = seal.sealers;
        cursor.redo = None;
        cursor.next = cursor.next.max(intent.number + 1);
        Ok(sealer)
    }

    /// Deletes old entries and seals now and then. Never the last seal nor anything after it.
    pub(crate) async fn prune(&self, sealed: u64) -> Result<()> {
        if !sealed.is_multiple_of(KEPT) {
            return Ok(());
        }
        let keep_from = sealed.saturating_sub(KEPT);
        let failed = |error| error::state("cannot prune the intent log", error);
        self.loads.prune(keep_from).await.map_err(failed)?;
        self.seals.prune(keep_from).await.map_err(failed)
    }

    /// Somebody else has sealed the load: whoever resumes goes on after it.
    pub(crate) fn done_by_another(&self, intent: &Intent) -> ConnectorError {
        let text = format!(
            "load {} of connection {} was completed by the loader that began it",
            intent.number, self.connection
        );
        ConnectorError::retry("done_by_another", text)
    }

    pub(crate) fn fenced_off(&self, epoch: u64, newer: u64) -> ConnectorError {
        let text = format!(
            "another loader of connection {} has taken over (its epoch is {newer}, this one's {epoch}); if \
             there is no other, the state folder was lost and its epochs began anew: the lake's are in {}/loads",
            self.connection, self.url
        );
        ConnectorError::pause("fenced_off", text)
    }
}

fn unreadable(error: StateError) -> ConnectorError {
    error::state("cannot read the intent log", error)
}

/// Whether each range begins where the last load ended. A partition that was never read may begin anywhere.
pub(crate) fn unexpected_range<'a>(
    positions: &Positions,
    ranges: &'a [OffsetRange],
) -> Option<&'a OffsetRange> {
    ranges.iter().find(|range| {
        range.end < range.start
            || positions.get(&range.partition).is_some_and(|&position| position != range.start)
    })
}

fn positions_after(before: &Positions, ranges: &[OffsetRange]) -> Positions {
    let after: BTreeMap<i32, i64> = ranges.iter().map(|range| (range.partition, range.end)).collect();
    let mut positions = before.clone();
    positions.extend(after);
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(partition: i32, start: i64, end: i64) -> OffsetRange {
        OffsetRange { partition, start, end }
    }

    #[test]
    fn a_range_begins_where_the_last_ended_unless_the_partition_is_new() {
        let positions = Positions::from([(0, 5)]);
        for good in [range(0, 5, 9), range(0, 5, 5), range(1, 77, 78)] {
            assert_eq!(unexpected_range(&positions, &[good]), None);
        }
        for bad in [range(0, 4, 9), range(0, 6, 9), range(0, 5, 4), range(1, 7, 6)] {
            assert_eq!(unexpected_range(&positions, &[range(2, 0, 1), bad]), Some(&bad));
        }
    }

    #[test]
    fn positions_of_partitions_that_were_not_read_stay() {
        let before = Positions::from([(0, 5), (1, 7)]);
        let after = positions_after(&before, &[range(1, 7, 9), range(2, 0, 3)]);
        assert_eq!(after, Positions::from([(0, 5), (1, 9), (2, 3)]));
    }
}
