//! Whether a column holds a value whole, and as what numbers are written where it could hold them in several ways.

use millrace_columnar::arrow::array::AsArray;
use millrace_columnar::arrow::datatypes::Int64Type;
use millrace_columnar::{Block, BlockColumn, Cell};
use millrace_connector::Dialect;
use millrace_event_model::FieldType;

/// Up to here a float holds every whole number; further on, some.
const WHOLE_FLOATS: u64 = 1 << 53;

/// Whether the value would be converted to less than it was.
pub(super) fn loses(cell: &Cell, own: FieldType) -> bool {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    match (cell, own) {
        (Cell::Float(value), FieldType::Int) => value.fract() != 0.0,
        (Cell::Int(value), FieldType::Float) => i128::from(*value) != *value as f64 as i128,
        (Cell::DateTime(micros) | Cell::LocalDateTime(micros), FieldType::Date) => {
            micros % MICROS_PER_DAY != 0
        }
        _ => false,
    }
}

/// Whether the warehouse's decimals have too few digits for the value. It would round it, or refuse the whole load for
/// it again and again.
pub(super) fn is_beyond(cell: &Cell, own: FieldType, dialect: &Dialect) -> bool {
    match (cell, own) {
        (Cell::Decimal(digits), FieldType::Decimal) => !dialect.holds_decimal(digits),
        (Cell::Float(value), FieldType::Decimal) => !dialect.holds_decimal(&value.to_string()),
        _ => false,
    }
}

/// Whether a column of type `is`, which takes values of type `own`, cannot hold one of the block's.
pub(super) fn any_lost(
    block: &Block,
    column: &BlockColumn,
    own: FieldType,
    is: FieldType,
    dialect: &Dialect,
) -> bool {
    let may_lose = match (own, is) {
        // Exact floats hold every whole number, written as [`Numbers`] says.
        (FieldType::Int, FieldType::Float) => !dialect.exact_floats,
        (FieldType::Float, FieldType::Decimal) => dialect.decimal_digits.is_some(),
        _ => false,
    };
    if !may_lose {
        return false;
    }
    let mut cells = (0..block.len).map(|row| column.cell(row)).filter(|cell| cell.field_type() == Some(own));
    cells.any(|cell| loses(&cell, is) || is_beyond(&cell, is, dialect))
}

/// What goes into one column of exact floats, of which there are three ways to write a number.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    ints: bool,
    /// Whole numbers that are no floats.
    beyond_floats: bool,
    decimals: bool,
    others: bool,
}

impl Numbers {
    pub(super) fn note(&mut self, column: &BlockColumn) {
        if let Some(values) = &column.values {
            match column.field_type {
                FieldType::Int => {
                    let ints = values.as_primitive::<Int64Type>().values();
                    self.ints = true;
                    self.beyond_floats |= ints.iter().any(|value| value.unsigned_abs() > WHOLE_FLOATS);
                }
                FieldType::Decimal => self.decimals = true,
                _ => self.others = true,
            }
        }
        for (_, cell) in &column.misfits {
            match cell {
                Cell::Int(value) => {
                    self.ints = true;
                    self.beyond_floats |= value.unsigned_abs() > WHOLE_FLOATS;
                }
                Cell::Decimal(_) => self.decimals = true,
                _ => self.others = true,
            }
        }
    }

    /// The type that holds them all; whole numbers alone are written as they are.
    pub(super) fn written(&self) -> FieldType {
        match self {
            Self { decimals: true, .. } | Self { beyond_floats: true, others: true, .. } => {
                FieldType::Decimal
            }
            Self { ints: true, others: false, .. } => FieldType::Int,
            _ => FieldType::Float,
        }
    }
}
