//! Arrow batches to Parquet and back, compressed with zstd, in bounded memory.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;

/// A Parquet file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The file itself.
    #[error("cannot open a Parquet file")]
    Open(#[from] std::io::Error),
    /// What is in it.
    #[error("cannot read or write Parquet")]
    Format(#[from] parquet::errors::ParquetError),
    /// A batch of it.
    #[error("cannot read a batch of Parquet")]
    Batch(#[from] arrow::error::ArrowError),
}

/// A row group is ended when it holds this much in memory: what the writer keeps is bounded by it, and a
/// reader still finds groups large enough to compress well.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Rows of one batch when reading: a few megabytes of usual rows.
const READ_ROWS: usize = 8 * 1024;

/// Writes batches of one schema.
pub struct ParquetWriter<W: Write + Send> {
    inner: ArrowWriter<W>,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// The schema has a type that Parquet has not, or the file cannot be written.
    pub fn new(out: W, schema: SchemaRef) -> Result<Self, ParquetError> {
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        Ok(Self { inner: ArrowWriter::try_new(out, schema, Some(properties))? })
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// The batch has another schema, or the file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.inner.write(batch)?;
        if self.inner.in_progress_size() >= ROW_GROUP_BYTES {
            self.inner.flush()?;
        }
        Ok(())
    }

    /// Ends the file and gives back what it was written to. A file that is not finished cannot be read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<W, ParquetError> {
        Ok(self.inner.into_inner()?)
    }
}

/// One file of these batches, in memory.
///
/// # Errors
/// The batches have not the schema, or it has a type that Parquet has not.
pub fn parquet_bytes(schema: SchemaRef, batches: &[RecordBatch]) -> Result<Bytes, ParquetError> {
    let mut writer = ParquetWriter::new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.finish()?.into())
}

/// Reads a file batch by batch.
pub struct ParquetReader {
    schema: SchemaRef,
    inner: ParquetRecordBatchReader,
}

impl ParquetReader {
    /// From memory.
    ///
    /// # Errors
    /// It is not Parquet.
    pub fn of_bytes(bytes: Bytes) -> Result<Self, ParquetError> {
        Self::new(bytes)
    }

    /// From a file on disk; only the batch being read is in memory.
    ///
    /// # Errors
    /// There is no such file, or it is not Parquet.
    pub fn open(path: &Path) -> Result<Self, ParquetError> {
        Self::new(File::open(path)?)
    }

    fn new<R: ChunkReader + 'static>(file: R) -> Result<Self, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let schema = builder.schema().clone();
        Ok(Self { schema, inner: builder.with_batch_size(READ_ROWS).build()? })
    }

    /// The schema as it was written, with the fields' metadata.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Iterator for ParquetReader {
    type Item = Result<RecordBatch, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.inner.next()?.map_err(ParquetError::from))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::tests::any_rows;
    use crate::{batch_of, rows_of, schema_of, table_schema_of};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rows_and_schema_survive_parquet((columns, rows) in any_rows()) {
            prop_assume!(!columns.is_empty());
            let batch = batch_of(&columns, &rows).unwrap();
            let bytes = parquet_bytes(schema_of(&columns), &[batch.clone(), batch]).unwrap();
            let reader = ParquetReader::of_bytes(bytes).unwrap();
            prop_assert_eq!(table_schema_of(&reader.schema()), columns);
            let read: Vec<_> = reader.flat_map(|batch| rows_of(&batch.unwrap()).unwrap()).collect();
            prop_assert_eq!(read, [rows.clone(), rows].concat());
        }
    }

    #[test]
    fn a_file_on_disk_is_read_batch_by_batch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let columns = crate::TableSchema::from([("n".to_owned(), millrace_event_model::FieldType::Int)]);
        let mut writer = ParquetWriter::new(File::create(&path).unwrap(), schema_of(&columns)).unwrap();
        let rows: Vec<_> =
            (0..20_000).map(|n| crate::Row::from([("n".to_owned(), crate::Cell::Int(n))])).collect();
        writer.write(&batch_of(&columns, &rows).unwrap()).unwrap();
        writer.finish().unwrap();
        let sizes: Vec<_> =
            ParquetReader::open(&path).unwrap().map(|batch| batch.unwrap().num_rows()).collect();
        assert_eq!(sizes, [8192, 8192, 3616]);
    }

    #[test]
    fn what_is_not_parquet_is_an_error() {
        assert!(ParquetReader::of_bytes(Bytes::from_static(b"not parquet")).is_err());
    }
}
