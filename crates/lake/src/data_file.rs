//! The Parquet files of a table: how they are written, and how they are read again without Delta's scan.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::parquet::arrow::ProjectionMask;
use deltalake_core::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake_core::parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use deltalake_core::parquet::basic::{Compression, ZstdLevel};
use deltalake_core::parquet::errors::ParquetError;
use deltalake_core::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use deltalake_core::parquet::file::properties::WriterProperties;
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::{DeltaResult, DeltaTable};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use millrace_columnar::arrow::datatypes::SchemaRef;
use millrace_state::object_store::path::Path;
use millrace_state::object_store::{ObjectStore, ObjectStoreExt};

/// A file is ended at about this size: replacing one row rewrites a file, so none is huge.
pub(crate) const FILE_BYTES: NonZeroU64 = NonZeroU64::new(64 * 1024 * 1024).unwrap();

/// A writer of files with these columns, which are some of the table's or all.
pub(crate) fn writer(table: &DeltaTable, schema: &SchemaRef) -> DeltaResult<DeltaWriter> {
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let config = WriterConfig::new(
        Arc::clone(schema),
        Vec::new(),
        Some(properties),
        Some(FILE_BYTES),
        None,
        table.snapshot()?.table_config().num_indexed_cols(),
        None,
    );
    Ok(DeltaWriter::new(table.object_store(), config))
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
