//! One shard of a run: the old snapshot, the outcomes since and the model's rows come together. It takes
//! CPU and no I/O, so it runs on the blocking pool.

use std::collections::HashMap;

use bytes::Bytes;
use millrace_event_model::{ChangeOp, PartitionKey, Reason};

use crate::diff::{Counts, Effect, Ended, Known, Row, diff, settle};
use crate::row::{MappedRow, RejectedRow};
use crate::spill::Planned;
use crate::{Error, Mode, snapshot, spill};

/// What a shard is made of.
pub(crate) struct Shard {
    pub(crate) mode: Mode,
    pub(crate) run: u64,
    /// The snapshot's file with its path, if the shard had rows.
    pub(crate) old: Option<(String, Bytes)>,
    /// As `spill` wrote them.
    pub(crate) outcomes: Bytes,
    /// As `spill` wrote them.
    pub(crate) rows: Bytes,
}

/// What becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) counts: Counts,
    pub(crate) changes: Vec<Planned>,
    pub(crate) rejected: Vec<(u64, RejectedRow)>,
    /// Rows of the new snapshot.
    pub(crate) kept: u64,
    /// Its file; none where the old one can stay.
    pub(crate) file: Option<Bytes>,
}

impl Shard {
    pub(crate) fn merge(self) -> Result<Merged, Error> {
        let old = match self.old {
            Some((path, bytes)) => snapshot::decode(&path, bytes)?,
            None => Vec::new(),
        };
        let known = settle_all(old.clone(), spill::outcomes(self.outcomes)?);
        let mut mapped = spill::rows(self.rows)?;
        mapped.sort_by_key(|(number, row)| (row.key, *number));
        let rows: Vec<Row> = mapped
            .iter()
            .map(|(_, row)| Row {
                key: row.key,
                hash: row.hash,
                key_body: row.key_body.clone(),
                sendable: !row.too_large,
            })
            .collect();
        let mut kept = Vec::with_capacity(rows.len());
        let mut merged = Merged::default();
        merged.counts = diff(self.mode, self.run, known, &rows, |effect| match effect {
            Effect::Keep(key, known) => kept.push((key, known)),
            Effect::Delete { key, hash, key_body } => {
                merged.changes.push(Planned { op: ChangeOp::Delete, key, hash, body: key_body });
            }
            Effect::Upsert(place) => {
                if let Some((_, row)) = mapped.get(place) {
                    let (key, hash, body) = (row.key, row.hash, row.body.clone());
                    merged.changes.push(Planned { op: ChangeOp::Upsert, key, hash, body });
                }
            }
            Effect::Reject(place) => {
                if let Some((number, row)) = mapped.get(place) {
                    merged.rejected.push((*number, RejectedRow::new(reason_of(row), row.body.clone())));
                }
            }
        });
        merged.kept = kept.len() as u64;
        if kept != old {
            merged.file = Some(snapshot::encode(&kept)?);
        }
        Ok(merged)
    }
}

fn reason_of(row: &MappedRow) -> Reason {
    if row.too_large {
        return Reason::new("too_large", "the mapped row is larger than 900 KiB; map fewer columns");
    }
    Reason::new("duplicate_key", "another row of the model has the same key")
}

fn settle_all(
    known: Vec<(PartitionKey, Known)>,
    outcomes: Vec<(PartitionKey, Ended)>,
) -> Vec<(PartitionKey, Known)> {
    if outcomes.is_empty() {
        return known;
    }
    let mut by_key: HashMap<PartitionKey, Vec<Ended>> = HashMap::new();
    for (key, ended) in outcomes {
        by_key.entry(key).or_default().push(ended);
    }
    let settled = |(key, known): (PartitionKey, Known)| {
        let ends = by_key.get(&key).map(Vec::as_slice).unwrap_or_default();
        let known = ends.iter().try_fold(known, |known, ended| settle(known, *ended))?;
        Some((key, known))
    };
    known.into_iter().filter_map(settled).collect()
}
