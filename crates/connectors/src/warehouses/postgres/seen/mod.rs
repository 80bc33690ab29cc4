//! Ids of the messages that are loaded, for 28 days, at a cost that does not grow with their number.
//!
//! The ids of a load are one row of `seen_runs`, written in the load's transaction: a sorted [run](SortedRun) of 24
//! bytes an id. This process keeps a [`Sieve`] of each run of a connection, so that it answers by itself for
//! nearly every id that is new; of one that may be a duplicate it reads the block of the run in which the id
//! must lie. Runs are merged as [`compaction`] says, after a load and under its fence; a day is
//! forgotten as rows. ADR 0009 says why there is no table of ids with an index.
//!
//! What is [`known`] is what `resume` found and what this process loaded since: whoever else may load for
//! the connection has raised its fence, and then our loads are refused.

mod compaction;
mod known;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use futures::TryStreamExt;
use millrace_connector::seen::{Sieve, SortedRun, answer};
use millrace_connector::{ConnectorError, SeenId};
use millrace_event_model::ConnectionId;
use millrace_service::spawn_busy;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use self::compaction::{Facts, next_merge};
use self::known::{FILTER_BUDGET, Known, Question, Run};
use super::error::Failure;
use super::positions::{self, OwnTables};
use super::work::{Line, Work};

/// How long an id is known (design §2.2).
const WINDOW: TimeDelta = TimeDelta::days(28);

/// A day is forgotten when no moment of it is in the window any more.
const KEEP_DAYS: u64 = 29;

/// Ids whose filters fit into the budget, by the 18 bits that a filter takes of one.
const FILTERED_IDS: i64 = (FILTER_BUDGET / 9 * 4) as i64;

/// What is known of each connection that this process has asked for.
#[derive(Default)]
pub(super) struct SeenIds(Mutex<HashMap<ConnectionId, State>>);

#[derive(Default)]
struct State {
    known: Option<Arc<Known>>,
    /// Rises with whatever a reading that is under way may have missed.
    version: u64,
}

/// A question is asked anew where runs were merged between looking for them and reading them, which happens to
/// one of many. More often than this in a row it does not.
const MAX_ATTEMPTS: usize = 5;

/// The ids of a load, ready to be stored.
pub(super) struct NewRun {
    run: SortedRun,
    sieve: Sieve,
}

/// The run of a load as it was stored.
pub(super) struct Remembered(Option<Run>);

impl SeenIds {
    fn with<T>(&self, connection: &ConnectionId, act: impl FnOnce(&mut State) -> T) -> T {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(states.entry(connection.clone()).or_default())
    }

    /// Asks the server again: another loader may have been at work, or a load may or may not have succeeded.
    pub(super) fn forget(&self, connection: &ConnectionId) {
        self.with(connection, |state| *state = State { known: None, version: state.version + 1 });
    }

    /// What is known; `None`: what was read is out of date already.
    async fn known(
        &self,
        client: &Client,
        own: &OwnTables,
        connection: &ConnectionId,
    ) -> Result<Option<Arc<Known>>, Failure> {
        let (known, version) = self.with(connection, |state| (state.known.clone(), state.version));
        if known.is_some() {
            return Ok(known);
        }
        let read = Arc::new(read_known(client, own, connection).await?);
        Ok(self.with(connection, |state| {
            (state.version == version).then(|| state.known.get_or_insert(read).clone())
        }))
    }

    /// For each id, the content hash it was loaded with within the window before `now`.
    pub(super) async fn look_up(
        &self,
        client: &Client,
        own: &OwnTables,
        connection: &ConnectionId,
        ids: &[u128],
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>, Failure> {
        let first_day = (now - WINDOW).date_naive();
        let ids: Arc<[u128]> = ids.into();
        for _ in 0..MAX_ATTEMPTS {
            let Some(known) = self.known(client, own, connection).await? else { continue };
            let asked = ids.clone();
            let questions = blocking(move || known.questions(&asked, first_day)).await?;
            let mut found = vec![None; ids.len()];
            if questions.is_empty() || ask(client, own, connection, &questions, &ids, &mut found).await? {
                return Ok(found);
            }
            self.forget(connection);
        }
        let problem = format!("connection {connection}: runs of seen ids change faster than they are read");
        Err(ConnectorError::retry("seen_runs", problem).into())
    }

    /// Notes the run of a load that is committed, merges runs where it is time to, and forgets old days.
    ///
    /// # Errors
    /// Nothing is lost by failing: the load is committed, and the next one tries again.
    pub(super) async fn settle(
        &self,
        line: &mut Line,
        own: &OwnTables,
        load: (&ConnectionId, u64, NaiveDate),
        remembered: Remembered,
    ) -> Result<(), Failure> {
        let (connection, epoch, day) = load;
        // Unknown so far: then the first question reads it all, this run too.
        let Some(known) = self.with(connection, |state| {
            state.version += 1;
            state.known.clone()
        }) else {
            return Ok(());
        };
        let mut now = (*known).clone();
        if let Remembered(Some(run)) = remembered {
            now = now.with(run, &[]);
        }
        let first_kept = day.checked_sub_days(Days::new(KEEP_DAYS)).unwrap_or(NaiveDate::MIN);
        let chosen = next_merge(&now.facts(), day);
        if chosen.is_some() || now.has_before(first_kept) {
            let mut work = line.begin().await?;
            let number = positions::pass_fence(&mut work, own, connection, epoch).await?;
            if now.has_before(first_kept) {
                let delete =
                    format!("DELETE FROM {} WHERE connection = $1 AND day < $2", own.table("seen_runs"));
                work.execute(&delete, &[&number, &first_kept]).await?;
                now = now.since(first_kept);
            }
            if let Some(chosen) = chosen {
                let merged = merge(&mut work, own, number, &chosen).await?;
                now = now.with(merged, &chosen);
            }
            work.commit().await?;
        }
        self.with(connection, |state| state.known = Some(Arc::new(now)));
        Ok(())
    }
}

impl NewRun {
    /// `None`: there are no ids.
    pub(super) async fn of(ids: &[SeenId]) -> Result<Option<Self>, Failure> {
        if ids.is_empty() {
            return Ok(None);
        }
        let ids = ids.to_vec();
        Ok(Some(blocking(move || Self::from(SortedRun::of(ids))).await?))
    }
}

impl From<SortedRun> for NewRun {
    fn from(run: SortedRun) -> Self {
        let sieve = Sieve::of(&run);
        Self { run, sieve }
    }
}

/// Remembers ids, in the load's transaction.
pub(super) async fn remember(
    work: &mut Work<'_>,
    own: &OwnTables,
    connection: i32,
    new: Option<NewRun>,
    day: NaiveDate,
) -> Result<Remembered, Failure> {
    let Some(new) = new else { return Ok(Remembered(None)) };
    Ok(Remembered(Some(insert(work, own, connection, new, day).await?)))
}

async fn insert(
    work: &mut Work<'_>,
    own: &OwnTables,
    connection: i32,
    new: NewRun,
    day: NaiveDate,
) -> Result<Run, Failure> {
    let insert = format!(
        "INSERT INTO {} (connection, day, records, ids, filter, fences) VALUES ($1, $2, $3, $4, $5, $6)
         RETURNING run",
        own.table("seen_runs")
    );
    let records = new.run.len();
    let count = i32::try_from(records).unwrap_or(i32::MAX);
    let (filter, fences) = (new.sieve.filter_bytes(), new.sieve.fence_bytes());
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&connection, &day, &count, &new.run.as_bytes(), &filter, &fences];
    let row = work.query_opt(&insert, &parameters).await?;
    let run: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    work.note_bytes(new.run.as_bytes().len() + filter.len() + fences.len());
    Ok(Run { facts: Facts { run, day, records }, sieve: new.sieve })
}

/// Makes one run of several.
async fn merge(
    work: &mut Work<'_>,
    own: &OwnTables,
    connection: i32,
    chosen: &[i64],
) -> Result<Run, Failure> {
    let delete = format!(
        "DELETE FROM {} WHERE connection = $1 AND run = ANY($2) RETURNING run, day, ids",
        own.table("seen_runs")
    );
    let mut rows = Vec::with_capacity(chosen.len());
    for row in work.query(&delete, &[&connection, &chosen]).await? {
        rows.push((
            row.try_get::<_, i64>(0)?,
            row.try_get::<_, NaiveDate>(1)?,
            row.try_get::<_, Vec<u8>>(2)?,
        ));
    }
    let day = rows.first().map(|(_, day, _)| *day);
    let Some(day) = day.filter(|_| rows.len() == chosen.len()) else {
        return Err(
            ConnectorError::retry("seen_runs", "runs of seen ids are not those that were known").into()
        );
    };
    let merged = blocking(move || {
        rows.sort_by_key(|(run, _, _)| *run);
        let runs: Vec<SortedRun> = rows.into_iter().map(|(_, _, ids)| SortedRun::stored(ids)).collect();
        NewRun::from(SortedRun::merge(&runs))
    });
    insert(work, own, connection, merged.await?, day).await
}

/// Reads what is to be known of a connection. Sieves that are not there, or not sound, are made anew.
async fn read_known(client: &Client, own: &OwnTables, connection: &ConnectionId) -> Result<Known, Failure> {
    let table = own.table("seen_runs");
    // Filters of the newest runs only, as many as there is room for.
    let select = format!(
        "SELECT run, day, records, fences,
                CASE WHEN sum(records) OVER (ORDER BY day DESC, run DESC) <= $2 THEN filter END, filter IS NULL
         FROM {table} WHERE connection = (SELECT number FROM {} WHERE connection = $1)
         ORDER BY day DESC, run DESC",
        own.table("connections")
    );
    let parameters: [&(dyn ToSql + Sync); 2] = [&connection.as_str(), &FILTERED_IDS];
    let mut rows = pin!(client.query_raw(&select, parameters).await?);
    let (mut runs, mut without) = (Vec::new(), Vec::new());
    while let Some(row) = rows.try_next().await? {
        let (run, day, records): (i64, NaiveDate, i32) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let facts = Facts { run, day, records: usize::try_from(records).unwrap_or_default() };
        let (fences, filter): (Option<&[u8]>, Option<&[u8]>) = (row.try_get(3)?, row.try_get(4)?);
        let none_stored: bool = row.try_get(5)?;
        match fences.and_then(|fences| Sieve::stored(filter.filter(|_| !none_stored), fences, facts.records))
        {
            Some(sieve) => runs.push(Arc::new(Run { facts, sieve })),
            None => without.push(facts),
        }
    }
    for facts in without {
        runs.push(Arc::new(Run { facts, sieve: make_sieve(client, &table, facts).await? }));
    }
    Ok(Known::new(runs))
}

async fn make_sieve(client: &Client, table: &str, facts: Facts) -> Result<Sieve, Failure> {
    let select = format!("SELECT ids FROM {table} WHERE run = $1");
    let ids: Vec<u8> = client.query_one(&select, &[&facts.run]).await?.try_get(0)?;
    let new = blocking(move || NewRun::from(SortedRun::stored(ids))).await?;
    let store = format!("UPDATE {table} SET filter = $2, fences = $3 WHERE run = $1");
    client.execute(&store, &[&facts.run, &new.sieve.filter_bytes(), &new.sieve.fence_bytes()]).await?;
    Ok(new.sieve)
}

/// Reads slices of runs and notes what they say; false: not all of them are there any more.
async fn ask(
    client: &Client,
    own: &OwnTables,
    connection: &ConnectionId,
    questions: &[Question],
    ids: &[u128],
    found: &mut [Option<u64>],
) -> Result<bool, Failure> {
    let select = format!(
        "SELECT q.place, substring(r.ids FROM q.start FOR q.length)
         FROM unnest($2::bigint[], $3::integer[], $4::integer[]) WITH ORDINALITY AS q (run, start, length, place)
         JOIN {} r ON r.run = q.run
         WHERE r.connection = (SELECT number FROM {} WHERE connection = $1)",
        own.table("seen_runs"),
        own.table("connections")
    );
    let runs: Vec<i64> = questions.iter().map(|question| question.run).collect();
    let (starts, lengths): (Vec<i32>, Vec<i32>) = questions.iter().map(Question::bytes).unzip();
    let parameters: [&(dyn ToSql + Sync); 4] = [&connection.as_str(), &runs, &starts, &lengths];
    let mut rows = pin!(client.query_raw(&select, parameters).await?);
    let mut answers = 0;
    while let Some(row) = rows.try_next().await? {
        let place: i64 = row.try_get(0)?;
        let question = usize::try_from(place - 1).ok().and_then(|place| questions.get(place));
        if let Some(question) = question {
            answer(&question.slice, row.try_get(1)?, ids, found);
            answers += 1;
        }
    }
    Ok(answers == questions.len())
}

/// Work of more than a millisecond.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    spawn_busy(async move { work() }).await.map_err(|error| {
        ConnectorError::retry("stopped", "work on seen ids was cut off").caused_by(error).into()
    })
}
