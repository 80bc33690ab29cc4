//! What to publish, given what the destination is known to have and what the model says now. Pure.
//!
//! Laws, each a property test of the same name in `diff/tests.rs`:
//! - `delivered_changes_of_a_mirror_make_the_destination_equal_to_the_model`
//! - `a_run_without_change_publishes_nothing`
//! - `whatever_is_lost_the_destination_converges`: any part of a run's changes may be delivered, rejected
//!   or never heard of again; after one run in which all is delivered the destination equals the model
//! - `only_a_mirror_deletes`

use bytes::Bytes;
use millrace_event_model::{ChangeOp, Disposition, PartitionKey};

use crate::Mode;

/// What is known of a row at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) state: State,
    /// The mapped key columns as JSON, with which it can be deleted when it is gone from the model. Empty
    /// unless the sync is a mirror: they are personal data more often than not.
    pub(crate) key_body: Bytes,
}

/// How certain it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The destination has this version; for `update` and `insert` also: this version needs no sending.
    Clean(PartitionKey),
    /// This was published and how it ended is not known: the destination has it, or what it had before.
    Unknown { run: u64, op: ChangeOp, hash: PartitionKey },
    /// The last change of it was refused: the destination has an older version, or none.
    Unsent,
}

/// How a published change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) run: u64,
    pub(crate) hash: PartitionKey,
    pub(crate) disposition: Disposition,
}

/// What is known of a row once it is known how a change of it ended; none when it is gone there. An
/// outcome of another run or version than the last published says nothing any more.
pub(crate) fn settle(known: Known, ended: Ended) -> Option<Known> {
    let State::Unknown { run, op, hash } = known.state else { return Some(known) };
    if (run, hash) != (ended.run, ended.hash) {
        return Some(known);
    }
    match (ended.disposition, op) {
        // Filtered and suppressed: the destination does not want this version, so it need not come again.
        (
            Disposition::Delivered | Disposition::Duplicate | Disposition::Filtered | Disposition::Suppressed,
            ChangeOp::Upsert,
        ) => Some(Known { state: State::Clean(hash), ..known }),
        (
            Disposition::Delivered | Disposition::Duplicate | Disposition::Filtered | Disposition::Suppressed,
            ChangeOp::Delete,
        ) => None,
        (Disposition::Rejected | Disposition::Expired | Disposition::Superseded, _) => {
            Some(Known { state: State::Unsent, ..known })
        }
        // Only a warehouse loads.
        (Disposition::Loaded, _) => Some(known),
    }
}

/// A row of the model, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: PartitionKey,
    /// Of the mapped output and the mapping itself.
    pub(crate) hash: PartitionKey,
    /// See [`Known::key_body`].
    pub(crate) key_body: Bytes,
    /// Whether it can be published at all.
    pub(crate) sendable: bool,
}

/// What follows from comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The new snapshot has this row, in ascending order of keys.
    Keep(PartitionKey, Known),
    /// Publish the row at this place of the new rows.
    Upsert(usize),
    /// Publish a delete of this row.
    Delete { key: PartitionKey, hash: PartitionKey, key_body: Bytes },
    /// The row at this place of the new rows has the key of another, or cannot be published.
    Reject(usize),
}

/// How many rows went which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) upserts: u64,
    pub(crate) deletes: u64,
    /// Nothing is published for them.
    pub(crate) unchanged: u64,
    pub(crate) rejected: u64,
    /// Among the upserts and deletes: those that are sent again because it is not known how the last
    /// change of the row ended.
    pub(crate) unknown_resent: u64,
}

/// Compares what is known with the model's rows, both sorted by key; no key is known twice.
pub(crate) fn diff(
    mode: Mode,
    run: u64,
    known: Vec<(PartitionKey, Known)>,
    rows: &[Row],
    mut emit: impl FnMut(Effect),
) -> Counts {
    let mut counts = Counts::default();
    let mut known = known.into_iter().peekable();
    let mut first = 0;
    for group in rows.chunk_by(|left, right| left.key == right.key) {
        let place = first;
        first += group.len();
        let Some(row) = group.first() else { continue };
        while let Some((key, gone)) = known.next_if(|(key, _)| *key < row.key) {
            judge_gone(mode, run, key, gone, &mut counts, &mut emit);
        }
        let before = known.next_if(|(key, _)| *key == row.key).map(|(_, before)| before);
        if group.iter().all(|other| other.hash == row.hash && other.sendable) {
            reject(place + 1..place + group.len(), &mut counts, &mut emit);
            judge_row(mode, run, place, row, before, &mut counts, &mut emit);
            continue;
        }
        // Which of them is the row cannot be told, or it cannot be sent, so the destination keeps what it has.
        reject(place..place + group.len(), &mut counts, &mut emit);
        if let Some(before) = before {
            emit(Effect::Keep(row.key, before));
        }
    }
    for (key, gone) in known {
        judge_gone(mode, run, key, gone, &mut counts, &mut emit);
    }
    counts
}

fn reject(places: std::ops::Range<usize>, counts: &mut Counts, emit: &mut impl FnMut(Effect)) {
    for place in places {
        counts.rejected += 1;
        emit(Effect::Reject(place));
    }
}

fn judge_row(
    mode: Mode,
    run: u64,
    place: usize,
    row: &Row,
    before: Option<Known>,
    counts: &mut Counts,
    emit: &mut impl FnMut(Effect),
) {
    let state = before.map(|before| before.state);
    let send = match state {
        // How the last change ended is not known, or it was refused: in every mode it is sent.
        Some(State::Unknown { .. } | State::Unsent) => true,
        None => mode != Mode::Update,
        Some(State::Clean(hash)) if hash == row.hash => mode == Mode::Full,
        Some(State::Clean(_)) => mode != Mode::Insert,
    };
    let new_state = if send {
        counts.upserts += 1;
        counts.unknown_resent += u64::from(matches!(state, Some(State::Unknown { .. })));
        emit(Effect::Upsert(place));
        State::Unknown { run, op: ChangeOp::Upsert, hash: row.hash }
    } else {
        counts.unchanged += 1;
        State::Clean(row.hash)
    };
    emit(Effect::Keep(row.key, Known { state: new_state, key_body: row.key_body.clone() }));
}

/// A mirror deletes it, whatever its state: also where the destination may not have it. The other modes
/// forget it: should it come back, it is new. A row without key columns was kept by another mode.
fn judge_gone(
    mode: Mode,
    run: u64,
    key: PartitionKey,
    gone: Known,
    counts: &mut Counts,
    emit: &mut impl FnMut(Effect),
) {
    if mode != Mode::Mirror || gone.key_body.is_empty() {
        return;
    }
    counts.deletes += 1;
    counts.unknown_resent += u64::from(matches!(gone.state, State::Unknown { .. }));
    let hash = key;
    emit(Effect::Delete { key, hash, key_body: gone.key_body.clone() });
    let state = State::Unknown { run, op: ChangeOp::Delete, hash };
    emit(Effect::Keep(key, Known { state, ..gone }));
}

#[cfg(test)]
mod tests;
