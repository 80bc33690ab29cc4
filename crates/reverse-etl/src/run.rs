//! One run of a sync, as a timeline.
//!
//! | step | durable after it | a crash right after it |
//! |---|---|---|
//! | the lease is taken | the lease | another process takes over when it expires |
//! | outcomes since the last run are merged, the model is queried and compared | nothing | the next run does it again: `a_crash_before_the_intent_changes_nothing` |
//! | **intent**: the new snapshot is appended, with everything that will be published marked unknown | which rows may differ | all of them are sent again at once: `a_crash_after_the_intent_sends_everything_in_the_next_run` |
//! | the changes are published | the changes | they are sent again, under a higher run number, and are upserts and deletes of the same rows: `a_crash_while_publishing_repeats_and_loses_nothing` |
//! | **published**: the snapshot is appended again, with the time | that all outcomes will come | the next run waits for the outcomes |
//!
//! The intent comes before the first change. The other way round, a crash between the two would leave a
//! change at the destination that no snapshot knows of: should the row disappear or change back, nothing
//! would ever put it right (`whatever_is_lost_the_destination_converges` in `diff`).
//!
//! A run begins when each change of the one before has an outcome, or when these have taken longer than
//! the settle timeout (`a_run_waits_for_the_outcomes_of_the_one_before`,
//! `what_has_no_outcome_in_time_is_sent_again`); a run that did not come to *published* is not waited for,
//! since outcomes of what was not published never come. Appending a generation is the fence: a process
//! that lost its lease and goes on loses the append, and what it still publishes has a lower run number,
//! which deliver drops.

mod held;
mod model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millrace_bus::{Bus, Positions, Publisher};
use millrace_event_model::wire::WireRecord;
use millrace_event_model::{DeadLetter, KeyHasher, Stage, topics};
use millrace_service::{SharedClock, Stop, crash_point};
use millrace_state::{Generation, StateError, Store};
use serde::Serialize;

use crate::diff::Counts;
use crate::outcomes::Outcomes;
use crate::publish::Publication;
use crate::row::{Mapper, RejectedRow};
use crate::shard::{Merged, Shard};
use crate::snapshot::{Manifest, ShardFile, Snapshots};
use crate::spill::{PlanReader, PlanWriter, SHARDS, Spill};
use crate::{Error, Options, Sync, spill};
use held::Held;

/// What a run did, or what a plan would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RunReport {
    /// The number of the run; a higher one is newer.
    pub run: u64,
    /// Rows that the model gave.
    pub rows: u64,
    /// Changes that say "make it so".
    pub upserts: u64,
    /// Changes that say "remove it".
    pub deletes: u64,
    /// Rows for which nothing is published.
    pub unchanged: u64,
    /// Rows without a key, with the key of another, or too large; see the dead letters.
    pub rejected: u64,
    /// Among upserts and deletes: those that were published before without a known end.
    pub unknown_resent: u64,
}

/// What runs share.
pub(crate) struct Runner {
    pub(crate) options: Options,
    pub(crate) bus: Bus,
    pub(crate) publisher: Publisher,
    pub(crate) store: Store,
    pub(crate) hasher: KeyHasher,
    pub(crate) clock: SharedClock,
}

/// A run that is ready: all is compared and on local disk, and nothing of it is visible yet.
struct Prepared {
    folder: PathBuf,
    manifest: Manifest,
    report: RunReport,
    rejected: Vec<(u64, RejectedRow)>,
}

impl Runner {
    /// Runs a sync once. Waits, if need be, for the outcomes of the run before.
    pub(crate) async fn run(&self, sync: &Sync, stop: &Stop) -> Result<RunReport, Error> {
        let state = self.state_of(sync);
        let held = Held::acquire(&state, &self.options, &self.clock, stop).await?;
        let result = self.run_under_lease(sync, &state, held.epoch(), held.stop()).await;
        let was_lost = held.release(&self.clock).await;
        match result {
            Err(Error::Stopped | Error::State(StateError::Lost { .. })) if was_lost => Err(Error::LeaseLost),
            other => other,
        }
    }

    /// What a run would do now, without waiting and without leaving anything behind.
    pub(crate) async fn plan(&self, sync: &Sync, stop: &Stop) -> Result<RunReport, Error> {
        let state = self.state_of(sync);
        let latest = Snapshots::new(&state).latest().await?;
        let name = format!("plan-{}", uuid::Uuid::new_v4());
        let folder = self.options.work_dir.join(sync.id.as_str()).join(name);
        make_empty(&folder).await?;
        let planned = self.prepare(sync, latest.as_ref(), &folder, Purpose::Plan, stop).await;
        remove(&folder).await?;
        Ok(planned?.report)
    }

    async fn run_under_lease(
        &self,
        sync: &Sync,
        state: &Store,
        epoch: u64,
        stop: &Stop,
    ) -> Result<RunReport, Error> {
        let snapshots = Snapshots::new(state);
        let latest = snapshots.latest().await?;
        let folder = self.options.work_dir.join(sync.id.as_str()).join("run");
        make_empty(&folder).await?;
        let purpose = Purpose::Run { epoch };
        let prepared = self.prepare(sync, latest.as_ref(), &folder, purpose, stop).await?;
        crash_point("sync-before-intent");
        self.intend(&snapshots, &prepared).await?;
        crash_point("sync-after-intent");
        self.publish(sync, &prepared, stop).await?;
        crash_point("sync-after-publish");
        let last = self.complete(&snapshots, &prepared).await?;
        snapshots.prune(last).await?;
        remove(&folder).await?;
        Ok(prepared.report)
    }

    /// Everything up to the intent.
    async fn prepare(
        &self,
        sync: &Sync,
        latest: Option<&Generation<Manifest>>,
        folder: &Path,
        purpose: Purpose,
        stop: &Stop,
    ) -> Result<Prepared, Error> {
        let before = latest.map(|latest| &latest.value);
        let run = latest.map_or(1, |latest| latest.number + 1);
        let waits = matches!(purpose, Purpose::Run { .. });
        let outcomes = self.gather_outcomes(sync, before, folder, waits, stop).await?;
        let mapper = Arc::new(Mapper::new(sync, self.hasher.clone())?);
        let limit = self.options.max_dead_letters;
        let model = model::spill_model(sync, mapper, folder, limit, stop).await?;
        let report =
            RunReport { run, rows: model.rows, rejected: model.rejected_rows, ..RunReport::default() };
        let manifest = Manifest { run, outcomes, shards: BTreeMap::new(), changes: 0, published_at: None };
        let mut prepared = Prepared { folder: folder.to_owned(), manifest, report, rejected: model.rejected };
        let mut plan = PlanWriter::create(folder)?;
        let snapshots = Snapshots::new(&self.state_of(sync));
        for shard in 0..SHARDS {
            if stop.is_requested() {
                return Err(Error::Stopped);
            }
            let old = before.and_then(|manifest| manifest.shards.get(&shard));
            let (merged, written) = merge(sync, run, shard, old, folder, &snapshots, plan).await?;
            plan = written;
            let file = match (&merged.file, purpose) {
                (None, _) => old.cloned(),
                (Some(bytes), Purpose::Run { epoch }) if merged.kept > 0 => {
                    Some(snapshots.write((run, epoch), shard, merged.kept, bytes.clone()).await?)
                }
                _ => None,
            };
            prepared.add(shard, file, merged, limit);
        }
        tokio::task::spawn_blocking(move || plan.finish()).await??;
        Ok(prepared)
    }

    /// Reads what has become of the last run's changes into files by shard, and returns up to where. With
    /// `waits`, only when all of it is known or the time for that is over.
    async fn gather_outcomes(
        &self,
        sync: &Sync,
        before: Option<&Manifest>,
        folder: &Path,
        waits: bool,
        stop: &Stop,
    ) -> Result<Positions, Error> {
        let from = before.map(|manifest| manifest.outcomes.clone()).unwrap_or_default();
        let mut outcomes = Outcomes::open(&self.bus, &sync.id, &from).await?;
        let mut spilled = Spill::new(folder, "outcomes");
        let mut ended = 0;
        loop {
            if stop.is_requested() {
                return Err(Error::Stopped);
            }
            let is_at_end = outcomes.is_at_end().await?;
            if is_at_end && (!waits || self.is_settled(before, ended)) {
                break;
            }
            for (key, end) in outcomes.next(stop).await? {
                ended += u64::from(before.is_some_and(|manifest| manifest.run == end.run));
                spilled.ended(key, end)?;
            }
        }
        tokio::task::spawn_blocking(move || spilled.finish()).await??;
        Ok(outcomes.positions())
    }

    /// Whether nothing more is to be waited for. An outcome that was stated twice may make it so too
    /// early: what has none yet is then sent again, which is harmless.
    fn is_settled(&self, before: Option<&Manifest>, ended: u64) -> bool {
        let Some(before) = before else { return true };
        let Some(published_at) = before.published_at else { return true };
        let waited = (self.clock.now() - published_at).to_std().unwrap_or_default();
        ended >= before.changes || waited >= self.options.settle_timeout
    }

    async fn intend(&self, snapshots: &Snapshots, prepared: &Prepared) -> Result<(), Error> {
        let nothing_to_publish = prepared.manifest.changes == 0;
        let published_at = nothing_to_publish.then(|| self.clock.now());
        let manifest = Manifest { published_at, ..prepared.manifest.clone() };
        Ok(snapshots.append(manifest.run, &manifest).await?)
    }

    async fn publish(&self, sync: &Sync, prepared: &Prepared, stop: &Stop) -> Result<(), Error> {
        let letters: Vec<DeadLetter> = prepared
            .rejected
            .iter()
            .map(|(number, row)| self.dead_letter(sync, prepared, *number, row))
            .collect();
        if !letters.is_empty() {
            let topic = topics::DEAD_LETTERS.of(self.bus.workspace());
            let acked = self.publisher.publish(&topic, &letters).await?;
            debug_assert_eq!(acked.count(), letters.len());
        }
        if prepared.manifest.changes == 0 {
            return Ok(());
        }
        let publication = Publication {
            sync: sync.id.clone(),
            run: prepared.manifest.run,
            destination: sync.destination.clone(),
            topic: topics::CHANGES.of(self.bus.workspace()),
            publisher: self.publisher.clone(),
            clock: Arc::clone(&self.clock),
            max_unsettled: self.options.max_unsettled,
            patience: self.options.settle_timeout,
        };
        let outcomes = Outcomes::open(&self.bus, &sync.id, &prepared.manifest.outcomes).await?;
        publication.publish(PlanReader::open(&prepared.folder)?, outcomes, stop).await
    }

    /// Notes that all is published, and returns the number of the last generation.
    async fn complete(&self, snapshots: &Snapshots, prepared: &Prepared) -> Result<u64, Error> {
        let run = prepared.manifest.run;
        if prepared.manifest.changes == 0 {
            return Ok(run);
        }
        let published_at = Some(self.clock.now());
        snapshots.append(run + 1, &Manifest { published_at, ..prepared.manifest.clone() }).await?;
        Ok(run + 1)
    }

    fn dead_letter(&self, sync: &Sync, prepared: &Prepared, number: u64, row: &RejectedRow) -> DeadLetter {
        DeadLetter {
            stage: Stage::ReverseEtl,
            subject: sync.id.to_string(),
            // A row was read from no topic: its run stands for it.
            topic: format!("syncs/{}/{}", sync.id, prepared.manifest.run),
            partition: 0,
            offset: i64::try_from(number).unwrap_or(i64::MAX),
            reason: row.reason.clone(),
            at: self.clock.now(),
            original: WireRecord::new(None, row.body.clone()),
        }
    }

    fn state_of(&self, sync: &Sync) -> Store {
        self.store.child("syncs").child(sync.id.as_str())
    }
}

/// What it is prepared for.
#[derive(Clone, Copy)]
enum Purpose {
    Run { epoch: u64 },
    Plan,
}

impl Prepared {
    fn add(&mut self, shard: usize, file: Option<ShardFile>, merged: Merged, max_dead_letters: usize) {
        let Counts { upserts, deletes, unchanged, rejected, unknown_resent } = merged.counts;
        self.report.upserts += upserts;
        self.report.deletes += deletes;
        self.report.unchanged += unchanged;
        self.report.rejected += rejected;
        self.report.unknown_resent += unknown_resent;
        self.manifest.changes += upserts + deletes;
        let room = max_dead_letters.saturating_sub(self.rejected.len());
        self.rejected.extend(merged.rejected.into_iter().take(room));
        if let Some(file) = file {
            self.manifest.shards.insert(shard, file);
        }
    }
}

/// Merges one shard and adds its changes to the plan.
async fn merge(
    sync: &Sync,
    run: u64,
    shard: usize,
    old: Option<&ShardFile>,
    folder: &Path,
    snapshots: &Snapshots,
    mut plan: PlanWriter,
) -> Result<(Merged, PlanWriter), Error> {
    let mode = sync.mode;
    let old = match old {
        Some(file) => Some((file.path.clone(), snapshots.read(file).await?)),
        None => None,
    };
    let folder = folder.to_owned();
    let merging = tokio::task::spawn_blocking(move || {
        let rows = spill::read(&folder, "rows", shard)?;
        let outcomes = spill::read(&folder, "outcomes", shard)?;
        let mut merged = Shard { mode, run, old, outcomes, rows }.merge()?;
        plan.write(&merged.changes)?;
        merged.changes = Vec::new();
        Ok::<_, Error>((merged, plan))
    });
    merging.await?
}

async fn make_empty(folder: &Path) -> Result<(), Error> {
    remove(folder).await?;
    Ok(tokio::fs::create_dir_all(folder).await?)
}

async fn remove(folder: &Path) -> Result<(), Error> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
