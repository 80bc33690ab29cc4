//! The Parquet files of a table: how they are written, and how they are read again without Delta's scan.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake_core::parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use deltalake_core::parquet::arrow::{ArrowWriter, ProjectionMask};
use deltalake_core::parquet::basic::{Compression, ZstdLevel};
use deltalake_core::parquet::errors::ParquetError;
use deltalake_core::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use deltalake_core::parquet::file::properties::WriterProperties;
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::{DeltaResult, DeltaTable};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::datatypes::{Schema, SchemaRef};
use millrace_state::object_store::path::Path;
use millrace_state::object_store::prefix::PrefixStore;
use millrace_state::object_store::{ObjectStore, ObjectStoreExt};

use crate::partition::Partition;

/// A file is ended at about this size: replacing one row rewrites a file, so none is huge.
pub(crate) const FILE_BYTES: NonZeroU64 = NonZeroU64::new(64 * 1024 * 1024).unwrap();

/// Rows of one group of a file: a reader that wants some of the rows reads whole groups, and a writer has one
/// in memory.
const GROUP_ROWS: usize = 128 * 1024;

/// Rows that a writer of files is given at once. After each portion it looks whether the file is large enough, which is
/// then larger by less than one.
const ROWS_AT_ONCE: usize = 8 * 1024;

/// A column's dictionary is given up at so many bytes. What has few values is far below it. Ids are all different:
/// looking up each of them costs time, and made the files 1.6 % larger than they are without.
const DICTIONARY_BYTES: usize = 64 * 1024;

/// A page of a column is ended at about so many bytes. A page grows by doubling: in one of the library's 1 MiB all values
/// are copied once more, which cost 3 % of a load. Pages of 64 KiB made queries of all rows 5 % dearer.
const PAGE_BYTES: usize = 128 * 1024;

/// How files are written. zstd at its fastest: higher levels save a tenth of the bytes for twice the time.
pub(crate) fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_data_page_size_limit(PAGE_BYTES)
        .build()
}

/// A whole file of batches of one schema, in memory.
pub(crate) fn encode(batches: &[RecordBatch]) -> Result<Vec<u8>, ParquetError> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties()))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.into_inner()
}

/// A writer of files with these columns, which are some of the table's or all, in a partition.
pub(crate) fn writer(
    table: &DeltaTable,
    schema: &SchemaRef,
    partition: &Partition,
) -> DeltaResult<DeltaWriter> {
    let config = WriterConfig::new(
        Arc::clone(schema),
        Vec::new(),
        Some(properties()),
        Some(FILE_BYTES),
        Some(ROWS_AT_ONCE),
        table.snapshot()?.table_config().num_indexed_cols(),
        None,
    );
    let store: Arc<dyn ObjectStore> = match partition.folder() {
        None => table.object_store(),
        Some(folder) => Arc::new(PrefixStore::new(table.object_store(), folder.as_str())),
    };
    Ok(DeltaWriter::new(store, config))
}

/// Reads a file of a known size, or only some of its columns; a column that it lacks is left out. Only what
/// is asked for is read.
pub(crate) async fn read(
    table: &DeltaTable,
    path: &Path,
    size: u64,
    columns: Option<&[String]>,
) -> Result<ParquetRecordBatchStream<Reader>, ParquetError> {
    let reader = Reader { store: table.object_store(), path: path.clone(), size };
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
    if let Some(columns) = columns {
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().map(String::as_str));
        builder = builder.with_projection(mask);
    }
    builder.build()
}

/// Reads the parts of a file that Parquet asks for.
pub(crate) struct Reader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store.get_range(&self.path, range).map_err(ParquetError::from).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let size = self.size;
        let metadata = ParquetMetaDataReader::new().with_arrow_reader_options(options);
        async move { metadata.load_and_finish(self, size).await.map(Arc::new) }.boxed()
    }
}
