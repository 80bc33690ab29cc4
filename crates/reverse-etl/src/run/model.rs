//! Runs the model and spills its rows by shard.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use millrace_columnar::JsonRows;
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::datatypes::Schema;
use millrace_service::Stop;

use crate::row::{Mapper, RejectedRow};
use crate::spill::Spill;
use crate::{Error, Sync};

/// What the model gave, apart from the rows on disk.
pub(super) struct Model {
    pub(super) rows: u64,
    pub(super) rejected_rows: u64,
    /// The first of the rejected rows, with their numbers.
    pub(super) rejected: Vec<(u64, RejectedRow)>,
}

/// Rows on their way to disk. It moves to the blocking pool with each batch and back.
struct Spilling {
    mapper: Arc<Mapper>,
    spill: Spill,
    model: Model,
    limit: usize,
}

/// Queries the model. Each batch is on disk before the next is asked for.
pub(super) async fn spill_model(
    sync: &Sync,
    mapper: Arc<Mapper>,
    folder: &Path,
    max_dead_letters: usize,
    stop: &Stop,
) -> Result<Model, Error> {
    let mut query = sync.warehouse.query(&sync.model).await?;
    check_columns(&mapper, &query.schema)?;
    let mut spilling = Spilling {
        mapper,
        spill: Spill::new(folder, "rows"),
        model: Model { rows: 0, rejected_rows: 0, rejected: Vec::new() },
        limit: max_dead_letters,
    };
    loop {
        let next = tokio::select! {
            next = query.batches.next() => next,
            () = stop.requested() => return Err(Error::Stopped),
        };
        let Some(batch) = next else { break };
        let batch = batch?;
        spilling = tokio::task::spawn_blocking(move || spilling.add(&batch)).await??;
    }
    let Spilling { spill, model, .. } = spilling;
    tokio::task::spawn_blocking(move || spill.finish()).await??;
    Ok(model)
}

fn check_columns(mapper: &Mapper, schema: &Schema) -> Result<(), Error> {
    let missing = mapper.columns().find(|column| schema.index_of(column).is_err());
    let Some(column) = missing else { return Ok(()) };
    let columns = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
    Err(Error::MissingColumn { column: column.to_owned(), columns })
}

impl Spilling {
    fn add(mut self, batch: &RecordBatch) -> Result<Self, Error> {
        for object in JsonRows::new(batch)?.objects() {
            let number = self.model.rows;
            self.model.rows += 1;
            match self.mapper.map(&object?) {
                Ok(row) => self.spill.row(number, &row)?,
                Err(rejected) => {
                    self.model.rejected_rows += 1;
                    if self.model.rejected.len() < self.limit {
                        self.model.rejected.push((number, *rejected));
                    }
                }
            }
        }
        Ok(self)
    }
}
