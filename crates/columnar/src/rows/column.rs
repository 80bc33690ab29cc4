//! One column of rows that are still coming.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder as _, ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use millrace_event_model::FieldType;

use super::{BlockColumn, CellRef};
use crate::batch::UTC;
use crate::{Cell, widen};

/// Values of the column's type in an Arrow array, which is as long as its last value needs; others beside it.
#[derive(Debug)]
pub(super) struct Column {
    field_type: FieldType,
    values: Option<Values>,
    misfits: Vec<(usize, Cell)>,
}

/// By their form in memory. Which of the text types it is, and whether a moment has a zone, says the column.
#[derive(Debug)]
enum Values {
    Int(Int64Builder),
    Float(Float64Builder),
    Boolean(BooleanBuilder),
    Moment(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Text(StringBuilder),
}

/// The most bytes that a text is expected to have: ids, names and addresses have fewer. A column of longer ones grows
/// by doubling, which copies what it has.
const ROOM_OF_A_TEXT: usize = 128;

/// By how many bytes texts are expected to be longer than the first where that is a short one.
const MORE_OF_A_TEXT: usize = 16;

/// Fills up with nulls to `$row`, and adds the value.
macro_rules! append {
    ($builder:expr, $row:expr, $value:expr) => {{
        let behind = $row - $builder.len();
        if behind > 0 {
            $builder.append_nulls(behind);
        }
        $builder.append_value($value);
    }};
}

/// Fills up with nulls to the end.
macro_rules! close {
    ($builder:expr, $len:expr) => {{
        let behind = $len - $builder.len();
        if behind > 0 {
            $builder.append_nulls(behind);
        }
        Arc::new($builder.finish()) as ArrayRef
    }};
}

impl Column {
    pub(super) fn new(field_type: FieldType) -> Self {
        Self { field_type, values: None, misfits: Vec::new() }
    }

    pub(super) fn field_type(&self) -> FieldType {
        self.field_type
    }

    /// Rows come in order: `row` is larger than that of any cell before. There will be about `room` of them.
    pub(super) fn push(&mut self, row: usize, cell: CellRef<'_>, room: usize) {
        if cell == CellRef::Null {
            return;
        }
        let values = self.values.get_or_insert_with(|| Values::new(self.field_type, room.max(row), cell));
        use FieldType as Of;
        match (values, cell, self.field_type) {
            (Values::Text(texts), CellRef::String(text), Of::String | Of::Text)
            | (Values::Text(texts), CellRef::Json(text), Of::Json)
            | (Values::Text(texts), CellRef::Decimal(text), Of::Decimal)
            | (Values::Text(texts), CellRef::Time(text), Of::Time)
            | (Values::Text(texts), CellRef::Uuid(text), Of::Uuid) => append!(texts, row, text),
            (Values::Int(ints), CellRef::Int(value), _) => append!(ints, row, value),
            (Values::Float(floats), CellRef::Float(value), _) => append!(floats, row, value),
            (Values::Boolean(bits), CellRef::Boolean(value), _) => append!(bits, row, value),
            (Values::Moment(moments), CellRef::DateTime(micros), Of::DateTime)
            | (Values::Moment(moments), CellRef::LocalDateTime(micros), Of::LocalDateTime) => {
                append!(moments, row, micros);
            }
            (Values::Date(dates), CellRef::Date(days), _) => append!(dates, row, days),
            (_, cell, _) => self.misfits.push((row, cell.to_cell())),
        }
    }

    /// Only to `text` does a column change its type ([`widen::union`]): what it holds by then of another form
    /// is set aside.
    pub(super) fn retype(&mut self, field_type: FieldType) {
        if field_type == self.field_type {
            return;
        }
        let stays = widen::is_text(self.field_type) && widen::is_text(field_type);
        if !stays && self.values.is_some() {
            let before =
                Self { field_type: self.field_type, ..std::mem::replace(self, Self::new(field_type)) };
            self.misfits = before.into_cells();
        }
        self.field_type = field_type;
    }

    fn into_cells(self) -> Vec<(usize, Cell)> {
        let len = self.values.as_ref().map_or(0, Values::len);
        let len = self.misfits.last().map_or(len, |(row, _)| len.max(row + 1));
        self.finish(String::new(), len).into_cells()
    }

    pub(super) fn finish(self, name: String, len: usize) -> BlockColumn {
        let values = self.values.map(|values| values.finish(len));
        let Self { field_type, misfits, .. } = self;
        BlockColumn { name, field_type, values, misfits }
    }
}

impl Values {
    /// Room for so many values, texts like the first and half as long again: memory that nothing is written to costs
    /// next to nothing, and to be too small by one byte costs a copy of the column.
    fn new(field_type: FieldType, room: usize, first: CellRef<'_>) -> Self {
        match field_type {
            FieldType::Int => Self::Int(Int64Builder::with_capacity(room)),
            FieldType::Float => Self::Float(Float64Builder::with_capacity(room)),
            FieldType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(room)),
            FieldType::DateTime => {
                Self::Moment(TimestampMicrosecondBuilder::with_capacity(room).with_timezone(UTC))
            }
            FieldType::LocalDateTime => Self::Moment(TimestampMicrosecondBuilder::with_capacity(room)),
            FieldType::Date => Self::Date(Date32Builder::with_capacity(room)),
            FieldType::String
            | FieldType::Text
            | FieldType::Json
            | FieldType::Decimal
            | FieldType::Time
            | FieldType::Uuid => {
                let first = first.text().map_or(0, str::len);
                let like_first = (first + (first / 2).max(MORE_OF_A_TEXT)).min(ROOM_OF_A_TEXT);
                Self::Text(StringBuilder::with_capacity(room, room * like_first))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Int(ints) => ints.len(),
            Self::Float(floats) => floats.len(),
            Self::Boolean(bits) => bits.len(),
            Self::Moment(moments) => moments.len(),
            Self::Date(dates) => dates.len(),
            Self::Text(texts) => texts.len(),
        }
    }

    fn finish(self, len: usize) -> ArrayRef {
        match self {
            Self::Int(mut ints) => close!(ints, len),
            Self::Float(mut floats) => close!(floats, len),
            Self::Boolean(mut bits) => close!(bits, len),
            Self::Moment(mut moments) => close!(moments, len),
            Self::Date(mut dates) => close!(dates, len),
            Self::Text(mut texts) => close!(texts, len),
        }
    }
}
