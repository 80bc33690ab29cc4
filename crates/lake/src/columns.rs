//! The columns of a Delta table as Millrace's types, and back.
//!
//! A decimal is Delta's `decimal(38, 9)`, so that others compute with it; a local time is `timestamp_ntz`; a
//! time, a UUID and JSON are strings whose field says what they are. The column a table is partitioned by is
//! none of its columns here: it is made of another when rows are written, and only queries see it.

use std::sync::Arc;

use deltalake_core::DeltaTable;
use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake_core::kernel::{StructField, StructType};
use millrace_columnar::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_columnar::{TableSchema, schema_of, table_schema_of};
use millrace_connector::TableName;
use millrace_event_model::FieldType;

use crate::error::{self, Result};
use crate::tables::display;

/// What a column of decimals holds; the dialect says the same ([`millrace_connector::Dialect`]).
const DECIMAL: DataType = DataType::Decimal128(38, 9);

/// The columns of an open table as Arrow has them, without the one it is partitioned by.
pub(crate) fn arrow_schema(name: &TableName, table: &DeltaTable) -> Result<SchemaRef> {
    let unreadable =
        |error| error::delta(format!("cannot read the columns of table {}", display(name)), error);
    let state = table.snapshot().map_err(unreadable)?;
    let kernel: &StructType = &state.schema();
    let schema: Schema = kernel.try_into_arrow().map_err(|error| {
        error::rows(format!("table {} has columns of unknown types", display(name)), error)
    })?;
    let partitions = state.metadata().partition_columns();
    let own = schema.fields().iter().filter(|field| !partitions.contains(field.name()));
    Ok(Arc::new(Schema::new(own.cloned().collect::<Vec<_>>())))
}

/// The columns of an open table.
pub(crate) fn columns_of(name: &TableName, table: &DeltaTable) -> Result<TableSchema> {
    Ok(table_schema_of(&*arrow_schema(name, table)?))
}

/// The Arrow schema of a table with these columns, as its files have it.
pub(crate) fn stored_schema(columns: &TableSchema) -> SchemaRef {
    let plain = schema_of(columns);
    let fields = plain.fields().iter().map(|field| {
        let decimal = columns.get(field.name()) == Some(&FieldType::Decimal);
        if decimal { Arc::new(Field::new(field.name(), DECIMAL, true)) } else { Arc::clone(field) }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The same as fields of Delta.
pub(crate) fn fields_of(name: &TableName, columns: &TableSchema) -> Result<Vec<StructField>> {
    let kernel: std::result::Result<StructType, _> = stored_schema(columns).as_ref().try_into_kernel();
    let kernel = kernel
        .map_err(|error| error::rows(format!("table {} cannot have these columns", display(name)), error))?;
    Ok(kernel.fields().cloned().collect())
}
