//! Arrow rows into a table by binary COPY, the fastest way in that PostgreSQL has.

use bytes::{BufMut, BytesMut};
use futures::SinkExt;
use millrace_columnar::arrow::array::RecordBatch;

use super::encode::Encoder;
use super::error::Failure;
use super::targets::Target;
use super::work::Work;

/// What is handed to the connection at once. Smaller chunks cost more wake-ups; larger ones hold up the
/// server, which parses while we encode the next.
const CHUNK_BYTES: usize = 64 << 10;

/// Signature, no flags, no extension.
/// <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS>
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Instead of a row's count of columns.
const END: i16 = -1;

/// Copies rows into a table whose columns are `targets`, in the order of the batches, which have one schema.
/// `table` and `columns` are quoted.
pub(super) async fn copy_rows(
    work: &mut Work<'_>,
    table: &str,
    columns: &str,
    targets: &[Target],
    batches: &[RecordBatch],
) -> Result<(), Failure> {
    let encoders: Vec<Encoder<'_>> =
        batches.iter().map(|rows| Encoder::new(table, rows, targets)).collect::<Result<_, _>>()?;
    let statement = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
    let failed = |error| Failure::of(error, &statement);
    let mut sink = Box::pin(work.copy_in(&statement).await?);
    let mut chunk = BytesMut::with_capacity(2 * CHUNK_BYTES);
    chunk.put_slice(HEADER);
    let mut sent = 0;
    for encoder in &encoders {
        for row in 0..encoder.rows() {
            encoder.put_row(row, &mut chunk)?;
            if chunk.len() >= CHUNK_BYTES {
                sent += chunk.len();
                sink.feed(chunk.split().freeze()).await.map_err(failed)?;
                chunk.reserve(2 * CHUNK_BYTES);
            }
        }
    }
    chunk.put_i16(END);
    sent += chunk.len();
    sink.send(chunk.freeze()).await.map_err(failed)?;
    sink.as_mut().finish().await.map_err(failed)?;
    work.note_bytes(sent);
    Ok(())
}
