//! Our own tables in the warehouse: the fence and the positions.
//!
//! A load and a resume of one connection lock its row in `connections` to the end of their transaction, so
//! they come one after the other, and whichever loader has the lower epoch learns it there. Positions move
//! only from what the loader expects, in the transaction of the rows: a batch is in the tables if and only
//! if its positions are stored.

use millrace_connector::seen::MAX_RECORDS;
use millrace_connector::{ConnectorError, KafkaIdentity, OffsetRange, Positions, Resume};
use millrace_event_model::ConnectionId;
use tokio_postgres::{Client, Error};

use super::ddl::{self, quote, schema_exists};
use super::error::Failure;
use super::work::Work;

const SEEN_INDEX: &str = "seen_runs_by_day";

/// Where our own tables are.
#[derive(Debug, Clone)]
pub(super) struct OwnTables {
    /// Quoted.
    schema: String,
    /// As it is.
    schema_name: String,
    prefix: String,
}

impl OwnTables {
    /// # Errors
    /// `Reject`: the schema's name is no name.
    pub(super) fn new(schema: &str, prefix: &str) -> Result<Self, ConnectorError> {
        let prefix = prefix.replace('"', "\"\"");
        Ok(Self { schema: quote(schema)?, schema_name: schema.to_owned(), prefix })
    }

    /// The schema's name.
    pub(super) fn schema_name(&self) -> &str {
        &self.schema_name
    }

    /// One of our tables, quoted. `name` is a constant of ours.
    pub(super) fn table(&self, name: &str) -> String {
        format!("{}.{}", self.schema, self.local(name))
    }

    /// The same without its schema.
    fn local(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("\"{}{name}\"", self.prefix) }
    }

    /// Whether this, quoted, is the schema of our own tables.
    pub(super) fn is_in(&self, quoted_schema: &str) -> bool {
        self.schema == quoted_schema
    }

    /// The hidden table with the rows of a generation.
    pub(super) fn staged(&self, number: i64) -> String {
        self.table(&format!("staged_{number}"))
    }

    /// Makes them if they are not there. Asked first: `CREATE INDEX IF NOT EXISTS` locks the table before
    /// it looks, and would wait for every load under way.
    pub(super) async fn ensure(&self, client: &mut Client) -> Result<(), Error> {
        // The last of the statements, all of one transaction: where it is, all are.
        let made = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&self.table(SEEN_INDEX)]).await?;
        if made.try_get(0)? {
            return Ok(());
        }
        let mut statements = self.statements();
        if !schema_exists(client, &self.schema_name).await? {
            statements.insert(0, format!("CREATE SCHEMA IF NOT EXISTS {}", self.schema));
        }
        let seen = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&self.table("seen")]).await?;
        if seen.try_get(0)? {
            statements.extend(self.ids_become_runs());
        }
        ddl::run(client, &self.schema, &statements).await
    }

    /// Up to version 0.1 each id was a row of a table of its own.
    fn ids_become_runs(&self) -> [String; 3] {
        let (seen, runs) = (self.table("seen"), self.table("seen_runs"));
        [
            format!("LOCK TABLE {seen} IN ACCESS EXCLUSIVE MODE"),
            format!(
                "INSERT INTO {runs} (connection, day, records, ids)
                 SELECT connection, day, count(*), string_agg(uuid_send(id) || int8send(content), '' ORDER BY id)
                 FROM (SELECT *, (row_number() OVER (PARTITION BY connection, day ORDER BY id) - 1) / {MAX_RECORDS}
                       AS part FROM {seen}) AS parted
                 GROUP BY connection, day, part"
            ),
            format!("DROP TABLE {seen}"),
        ]
    }

    fn statements(&self) -> Vec<String> {
        let create = |name: &str, columns: &str| {
            format!("CREATE TABLE IF NOT EXISTS {} ({columns})", self.table(name))
        };
        vec![
            // The number stands for the name in `seen_runs`.
            create(
                "connections",
                "connection text PRIMARY KEY, number integer NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
                 epoch bigint NOT NULL, cluster text NOT NULL, topic text NOT NULL, topic_id text NOT NULL",
            ),
            create(
                "positions",
                "connection text NOT NULL, partition integer NOT NULL, next bigint NOT NULL,
                 PRIMARY KEY (connection, partition)",
            ),
            create(
                "counts",
                "connection text NOT NULL, source text NOT NULL, hour timestamptz NOT NULL,
                 disposition text NOT NULL, items bigint NOT NULL, conflicts bigint NOT NULL,
                 PRIMARY KEY (connection, source, hour, disposition)",
            ),
            create(
                "generations",
                "schema_name text NOT NULL, table_name text NOT NULL, generation bigint NOT NULL,
                 staged bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
                 PRIMARY KEY (schema_name, table_name, generation)",
            ),
            create(
                "seen_runs",
                "run bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY, connection integer NOT NULL,
                 day date NOT NULL, records integer NOT NULL, ids bytea NOT NULL, filter bytea, fences bytea",
            ),
            // Hashes are not compressed, and a value that is can only be read as a whole.
            format!(
                "ALTER TABLE {0} ALTER COLUMN ids SET STORAGE EXTERNAL, ALTER COLUMN filter SET STORAGE EXTERNAL",
                self.table("seen_runs")
            ),
            format!(
                "CREATE INDEX IF NOT EXISTS {} ON {} (connection, day)",
                self.local(SEEN_INDEX),
                self.table("seen_runs")
            ),
        ]
    }
}

/// A connection's row, locked.
struct Fence {
    number: i32,
    epoch: i64,
    kafka: KafkaIdentity,
}

async fn lock_fence(
    work: &mut Work<'_>,
    own: &OwnTables,
    connection: &ConnectionId,
) -> Result<Option<Fence>, Failure> {
    let select = format!(
        "SELECT number, epoch, cluster, topic, topic_id FROM {} WHERE connection = $1 FOR UPDATE",
        own.table("connections")
    );
    let Some(row) = work.query_opt(&select, &[&connection.as_str()]).await? else {
        return Ok(None);
    };
    let kafka = KafkaIdentity { cluster: row.try_get(2)?, topic: row.try_get(3)?, topic_id: row.try_get(4)? };
    Ok(Some(Fence { number: row.try_get(0)?, epoch: row.try_get(1)?, kafka }))
}

/// Raises the fence to `epoch` and reads how far the connection got.
pub(super) async fn resume(
    work: &mut Work<'_>,
    own: &OwnTables,
    connection: &ConnectionId,
    epoch: u64,
    kafka: &KafkaIdentity,
) -> Result<Resume, Failure> {
    let name = connection.as_str();
    let connections = own.table("connections");
    let mine = epoch.cast_signed();
    let insert = format!(
        "INSERT INTO {connections} (connection, epoch, cluster, topic, topic_id) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (connection) DO NOTHING"
    );
    work.execute(&insert, &[&name, &mine, &kafka.cluster, &kafka.topic, &kafka.topic_id]).await?;
    if let Some(fence) = lock_fence(work, own, connection).await? {
        if fence.kafka != *kafka {
            return Err(Failure::Known(other_kafka(own, connection, &fence.kafka, kafka)));
        }
        if fence.epoch > mine {
            return Err(Failure::Known(stale(connection, epoch, fence.epoch)));
        }
    }
    let raise = format!("UPDATE {connections} SET epoch = $2 WHERE connection = $1");
    work.execute(&raise, &[&name, &mine]).await?;
    let select = format!("SELECT partition, next FROM {} WHERE connection = $1", own.table("positions"));
    let mut positions = Positions::new();
    for row in work.query(&select, &[&name]).await? {
        positions.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(Resume { positions, redo: None })
}

/// How far a connection got, for an onlooker.
pub(super) async fn read(
    client: &tokio_postgres::Client,
    own: &OwnTables,
    connection: &ConnectionId,
) -> Result<Positions, Failure> {
    let table = own.table("positions");
    let made = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
    let mut positions = Positions::new();
    if !made.try_get::<_, bool>(0)? {
        return Ok(positions);
    }
    let select = format!("SELECT partition, next FROM {table} WHERE connection = $1");
    for row in client.query(&select, &[&connection.as_str()]).await? {
        positions.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(positions)
}

/// Passes the fence, or not, and returns the connection's number.
pub(super) async fn pass_fence(
    work: &mut Work<'_>,
    own: &OwnTables,
    connection: &ConnectionId,
    epoch: u64,
) -> Result<i32, Failure> {
    let Some(fence) = lock_fence(work, own, connection).await? else {
        return Err(Failure::Known(ConnectorError::pause(
            "not_resumed",
            format!("connection {connection} loads before it has resumed"),
        )));
    };
    if fence.epoch != epoch.cast_signed() {
        return Err(Failure::Known(stale(connection, epoch, fence.epoch)));
    }
    Ok(fence.number)
}

/// Moves the positions from what is expected to what comes next. Under the fence's lock.
pub(super) async fn advance(
    work: &mut Work<'_>,
    own: &OwnTables,
    connection: &ConnectionId,
    ranges: &[OffsetRange],
) -> Result<(), Failure> {
    let positions = own.table("positions");
    let partitions: Vec<i32> = ranges.iter().map(|range| range.partition).collect();
    let starts: Vec<i64> = ranges.iter().map(|range| range.start).collect();
    let ends: Vec<i64> = ranges.iter().map(|range| range.end).collect();
    // Those never read before are not there yet: for them any start is the expected one. They come
    // after the update, which must not see them.
    let update = format!(
        "UPDATE {positions} p SET next = r.finish
         FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS r (partition, start, finish)
         WHERE p.connection = $1 AND p.partition = r.partition AND p.next = r.start"
    );
    let insert = format!(
        "INSERT INTO {positions} (connection, partition, next) SELECT $1, r.partition, r.finish
         FROM unnest($2::integer[], $3::bigint[]) AS r (partition, finish)
         ON CONFLICT (connection, partition) DO NOTHING"
    );
    let name = connection.as_str();
    let moved = work.execute(&update, &[&name, &partitions, &starts, &ends]).await?;
    let first = work.execute(&insert, &[&name, &partitions, &ends]).await?;
    if moved + first == ranges.len() as u64 {
        return Ok(());
    }
    Err(Failure::Known(ConnectorError::pause(
        "position_moved",
        format!(
            "connection {connection}: the stored positions are not those that this batch starts at; \
             another loader has taken over, or the batch was loaded before"
        ),
    )))
}

fn stale(connection: &ConnectionId, mine: u64, stored: i64) -> ConnectorError {
    ConnectorError::pause(
        "stale_epoch",
        format!(
            "connection {connection}: a loader with epoch {stored} has taken over from this one with epoch {mine}"
        ),
    )
}

fn other_kafka(
    own: &OwnTables,
    connection: &ConnectionId,
    stored: &KafkaIdentity,
    now: &KafkaIdentity,
) -> ConnectorError {
    let describe = |kafka: &KafkaIdentity| {
        format!("topic {} (id {}) of cluster {}", kafka.topic, kafka.topic_id, kafka.cluster)
    };
    ConnectorError::pause(
        "other_kafka",
        format!(
            "connection {connection}: the stored positions belong to {}, but this is {}: offsets of one mean \
             nothing in the other. Point Millrace at the first again; or, to begin anew in the second, \
             delete the connection's rows from {} and {}",
            describe(stored),
            describe(now),
            own.table("connections"),
            own.table("positions"),
        ),
    )
}
