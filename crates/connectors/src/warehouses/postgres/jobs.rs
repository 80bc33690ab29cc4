//! What is left of a job when it is over: nothing.

use millrace_connector::ConnectorError;
use millrace_event_model::ConnectionId;

use super::ddl::{self, quote};
use super::error::Failure;
use super::positions::OwnTables;
use super::work::{Line, Work};

/// The tables that have rows of a connection under its name, in the order they are emptied; the fence goes last.
const BY_NAME: [&str; 3] = ["positions", "counts", "connections"];

/// Removes positions, fence, seen ids and books of a job, and the schema it worked in, in one transaction.
pub(super) async fn forget(
    line: &mut Line,
    own: &OwnTables,
    job: &ConnectionId,
    schema: Option<&str>,
) -> Result<(), Failure> {
    let schema = schema.map(|name| own_schema_of_a_job(own, name)).transpose()?;
    // Also where no load has ever been: then all that is said below is true of empty tables.
    own.ensure(&mut line.client).await?;
    let mut work = line.begin().await?;
    work.run(ddl::LOCK_TIMEOUT).await?;
    let name = job.as_str();
    let seen = format!(
        "DELETE FROM {} WHERE connection = (SELECT number FROM {} WHERE connection = $1)",
        own.table("seen_runs"),
        own.table("connections")
    );
    work.execute(&seen, &[&name]).await?;
    for table in BY_NAME {
        work.execute(&format!("DELETE FROM {} WHERE connection = $1", own.table(table)), &[&name]).await?;
    }
    if let Some((schema, quoted)) = schema {
        drop_schema(&mut work, own, schema, &quoted).await?;
    }
    work.commit().await?;
    Ok(())
}

/// A schema goes with all that is in it, so it must be one that only a job can have.
///
/// # Errors
/// `Reject`: it is the server's, everybody's, or that of our own tables.
fn own_schema_of_a_job<'a>(own: &OwnTables, name: &'a str) -> Result<(&'a str, String), ConnectorError> {
    let quoted = quote(name)?;
    if name == "public" || name == "information_schema" || name.starts_with("pg_") || own.is_in(&quoted) {
        return Err(ConnectorError::reject("schema", format!("schema {name:?} is no schema of a job")));
    }
    Ok((name, quoted))
}

async fn drop_schema(
    work: &mut Work<'_>,
    own: &OwnTables,
    schema: &str,
    quoted: &str,
) -> Result<(), Failure> {
    let staged = format!("DELETE FROM {} WHERE schema_name = $1 RETURNING staged", own.table("generations"));
    for row in work.query(&staged, &[&schema]).await? {
        work.run(&format!("DROP TABLE IF EXISTS {}", own.staged(row.try_get(0)?))).await?;
    }
    work.run(&format!("DROP SCHEMA IF EXISTS {quoted} CASCADE")).await
}
