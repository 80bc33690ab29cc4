//! The columns that a table will have, and where the values of each column of a block go.
//!
//! Three passes: first all blocks of the batch say what they ask for ([`Target::absorb`]); then, for what the columns
//! cannot hold even so, others are set beside them ([`Target::weigh`]); then the columns stand, and each block is
//! told where its values go ([`Target::fate`]).

use std::collections::BTreeMap;

use millrace_columnar::{Block, BlockColumn, TableSchema, widen};
use millrace_connector::{Dialect, SchemaChange, WriteMode};
use millrace_event_model::FieldType;

use super::exact::{Numbers, any_lost};
use super::{LOAD_TIME_COLUMNS, PlanError, Rules};
use crate::{Contract, Kind};

/// Standard columns of a table: they are made first where not all can be.
const FIRST: [&str; 5] = ["id", "received_at", "user_id", "anonymous_id", "timestamp"];

/// Where the values of a column go.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fate<'t> {
    /// Into the table's column, written as of this type. What cannot be converted is discarded.
    Column(FieldType),
    /// Into the table's column, but for values that it cannot hold whole: for those see [`Target::misfit`].
    Strict(FieldType),
    /// Nowhere: the table has no such column and gets none.
    None(Misfit<'t>),
}

/// What becomes of values that their column cannot hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Misfit<'t> {
    /// They go to this column of their own, of this type.
    Variant(&'t str, FieldType),
    /// Each is discarded, for this reason.
    Value(String),
    /// The row is discarded whole, for this reason.
    Row(String),
}

/// One table of a plan.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) table: &'a str,
    present: Option<&'a TableSchema>,
    rules: &'a Rules,
    /// The columns that the table will have.
    columns: TableSchema,
    /// Of those, which are there and get a wider type.
    widened: TableSchema,
    /// Columns of `string` or `float` that are written as `text`, `decimal` or `int`.
    written: TableSchema,
    /// What goes into columns of exact floats.
    numbers: BTreeMap<String, Numbers>,
    /// Names of columns for values of other types, by base column and type.
    variants: BTreeMap<(String, FieldType), String>,
}

impl<'a> Target<'a> {
    pub(super) fn new(table: &'a str, present: Option<&'a TableSchema>, rules: &'a Rules) -> Self {
        Self {
            table,
            present,
            rules,
            columns: present.cloned().unwrap_or_default(),
            widened: TableSchema::new(),
            written: TableSchema::new(),
            numbers: BTreeMap::new(),
            variants: BTreeMap::new(),
        }
    }

    /// Takes note of what a block asks for.
    ///
    /// # Errors
    /// [`PlanError::Frozen`].
    pub(super) fn absorb(&mut self, block: &Block, write: &WriteMode) -> Result<(), PlanError> {
        if self.is_frozen() && self.present.is_none() {
            return Err(self.frozen(None, format!("table {:?} is not there", self.table)));
        }
        let key = key_of(write);
        let load_time = LOAD_TIME_COLUMNS.map(|name| self.rules.stamp.name(name));
        let standard = FIRST.map(|name| self.rules.stamp.name(name));
        let is_first = |column: &&BlockColumn| {
            [key, &load_time, &standard].iter().any(|names| names.contains(&column.name))
        };
        let (first, rest): (Vec<_>, Vec<_>) = block.columns.iter().partition(is_first);
        first.into_iter().chain(rest).try_for_each(|column| self.absorb_column(column))
    }

    /// Of events the column's first type is asked for, and other values are discarded one by one; of records each
    /// type that a value has.
    fn absorb_column(&mut self, column: &BlockColumn) -> Result<(), PlanError> {
        let (name, first) = (&column.name, column.field_type);
        if self.rules.kind == Kind::Events {
            return self.absorb_type(name, first, column.values.is_some() || !column.misfits.is_empty());
        }
        self.absorb_type(name, first, column.values.is_some())?;
        misfit_types(column).into_iter().try_for_each(|own| self.absorb_type(name, own, true))
    }

    fn absorb_type(&mut self, name: &str, asked: FieldType, has_values: bool) -> Result<(), PlanError> {
        let Some(is) = self.columns.get(name).copied() else {
            return self.add(name, asked, has_values);
        };
        if self.takes(is, asked) {
            self.note_written(name, is, asked);
            return Ok(());
        }
        let is_new = !self.present.is_some_and(|present| present.contains_key(name));
        match self.rules.contract {
            Contract::Evolve => {
                let wide = widen::join(is, asked);
                // A column that is made anyway is one of floats at once, also where a later load would set them
                // beside it. All else is as if it came in two loads.
                let begins_wide = is_new && (is, wide) == (FieldType::Int, FieldType::Float);
                if begins_wide || widens_in_place(is, wide, self.rules.dialect) {
                    self.columns.insert(name.to_owned(), wide);
                    if !is_new {
                        self.widened.insert(name.to_owned(), wide);
                    }
                }
            }
            Contract::Freeze if has_values => {
                let what = format!("column {name:?} of table {:?} is {is} and gets {asked}", self.table);
                return Err(self.frozen(Some(name), what));
            }
            Contract::Freeze | Contract::DiscardRow | Contract::DiscardValue => {}
        }
        Ok(())
    }

    /// Looks at the values, now that all blocks were absorbed: makes columns for those of records that theirs cannot
    /// hold.
    ///
    /// # Errors
    /// [`PlanError::Frozen`].
    pub(super) fn weigh(&mut self, block: &Block, write: &WriteMode) -> Result<(), PlanError> {
        let dialect = self.rules.dialect;
        let sets_aside = self.rules.kind == Kind::Records && self.rules.contract == Contract::Evolve;
        let key = key_of(write);
        for column in &block.columns {
            let Some(is) = self.columns.get(&column.name).copied() else { continue };
            if dialect.exact_floats && is == FieldType::Float {
                self.numbers.entry(column.name.clone()).or_default().note(column);
            }
            // A key elsewhere would be none: its row could not be found again.
            if !sets_aside || key.contains(&column.name) {
                continue;
            }
            let first = column.values.is_some().then_some(column.field_type);
            for own in first.into_iter().chain(misfit_types(column)) {
                if !self.takes(is, own) || any_lost(block, column, own, is, dialect) {
                    self.add_variant(&column.name, own)?;
                }
            }
        }
        Ok(())
    }

    /// A column for values of a type that the column `name` cannot hold.
    fn add_variant(&mut self, name: &str, asked: FieldType) -> Result<(), PlanError> {
        let variant = variant_name(name, asked, self.rules.dialect);
        match self.columns.get(&variant).copied() {
            Some(own) => {
                let exact = self.rules.dialect.exact_floats && own == FieldType::Float;
                if exact && matches!(asked, FieldType::Int | FieldType::Decimal) {
                    self.written.insert(variant.clone(), asked);
                }
                self.note_written(&variant, own, asked);
            }
            None => self.add(&variant, asked, true)?,
        }
        self.variants.insert((name.to_owned(), asked), variant);
        Ok(())
    }

    /// A column that is not there.
    fn add(&mut self, name: &str, asked: FieldType, has_values: bool) -> Result<(), PlanError> {
        match self.rules.contract {
            Contract::Evolve if self.is_full() => {}
            Contract::Evolve => {
                self.columns.insert(name.to_owned(), asked);
            }
            // A column that no row fills is not missed.
            Contract::Freeze if has_values => {
                let what = format!("table {:?} has no column {name:?}", self.table);
                return Err(self.frozen(Some(name), what));
            }
            Contract::Freeze | Contract::DiscardRow | Contract::DiscardValue => {}
        }
        Ok(())
    }

    /// What the warehouse lacks of this table.
    pub(super) fn changes(&self) -> Vec<SchemaChange> {
        let table = self.table.to_owned();
        let Some(present) = self.present else {
            let create = SchemaChange::CreateTable { table, columns: self.columns.clone() };
            return if self.rules.contract == Contract::Evolve { vec![create] } else { Vec::new() };
        };
        let mut changes = Vec::new();
        let columns = widen::missing(&self.columns, present);
        if !columns.is_empty() {
            changes.push(SchemaChange::AddColumns { table: table.clone(), columns });
        }
        if !self.widened.is_empty() {
            changes.push(SchemaChange::WidenColumns { table, columns: self.widened.clone() });
        }
        changes
    }

    /// Why no row of the table can be loaded, where that is so.
    pub(super) fn refused(&self) -> Option<String> {
        let no_table = self.present.is_none() && self.rules.contract != Contract::Evolve;
        no_table.then(|| format!("{}: table {} is not there", self.rules.contract.as_str(), self.table))
    }

    /// Where the values of a block's column go.
    pub(super) fn fate(&self, column: &BlockColumn) -> Fate<'_> {
        let name = &column.name;
        let Some(is) = self.columns.get(name).copied() else {
            let reason = match self.rules.contract {
                Contract::Evolve => format!("table {} has as many columns as it may have", self.table),
                other => format!("{}: table {} has no column {name}", other.as_str(), self.table),
            };
            return Fate::None(self.refusal(reason));
        };
        let written = self.written(name, is);
        if self.rules.kind == Kind::Events { Fate::Column(written) } else { Fate::Strict(written) }
    }

    /// What becomes of values of a type that their column cannot hold whole.
    pub(super) fn misfit(&self, column: &str, own: FieldType) -> Misfit<'_> {
        if let Some(variant) = self.variants.get(&(column.to_owned(), own)) {
            return match self.columns.get(variant) {
                Some(is) => Misfit::Variant(variant, self.written(variant, *is)),
                None => Misfit::Value(format!("table {} is full", self.table)),
            };
        }
        let is = self.columns.get(column).copied().unwrap_or(own);
        let reason = format!("column {column} of table {} is {is}", self.table);
        self.refusal(match self.rules.contract {
            Contract::Evolve => reason,
            contract => format!("{}: {reason}", contract.as_str()),
        })
    }

    /// The columns for values of a block's column that it cannot hold itself.
    pub(super) fn variants_of(&self, column: &BlockColumn) -> Vec<(&str, FieldType)> {
        let types = std::iter::once(column.field_type).chain(misfit_types(column));
        let variants = types.filter_map(|own| match self.misfit(&column.name, own) {
            Misfit::Variant(variant, own) => Some((variant, own)),
            Misfit::Value(_) | Misfit::Row(_) => None,
        });
        variants.collect()
    }

    fn refusal(&self, reason: String) -> Misfit<'_> {
        if self.rules.contract == Contract::DiscardRow { Misfit::Row(reason) } else { Misfit::Value(reason) }
    }

    /// The type of a column that the table has or will have.
    pub(super) fn type_of(&self, column: &str) -> Option<FieldType> {
        self.columns.get(column).copied()
    }

    /// The type as of which the values of a column are written.
    fn written(&self, column: &str, is: FieldType) -> FieldType {
        if let Some(numbers) = self.numbers.get(column) {
            return numbers.written();
        }
        self.written.get(column).copied().unwrap_or(is)
    }

    /// Whether values of the asked type go into the column as it is. Of events all do, since what does not
    /// fit is discarded value by value; of records, where nothing is lost by it.
    fn takes(&self, is: FieldType, asked: FieldType) -> bool {
        if self.rules.kind == Kind::Events || widen::is_text(is) || is == FieldType::Json {
            return true;
        }
        let exact = self.rules.dialect.exact_floats;
        widen::join(is, asked) == is
            || (exact && is == FieldType::Float && asked == FieldType::Decimal)
            // One clock, UTC's: nothing is lost between the two.
            || (is == FieldType::LocalDateTime && asked == FieldType::DateTime)
    }

    fn note_written(&mut self, name: &str, is: FieldType, asked: FieldType) {
        let is_new = !self.present.is_some_and(|present| present.contains_key(name));
        let of_events = self.rules.kind == Kind::Events;
        if is_new && of_events {
            self.columns.insert(name.to_owned(), widen::union(is, asked));
        } else if is == FieldType::String && asked == FieldType::Text {
            self.written.insert(name.to_owned(), asked);
        }
    }

    pub(super) fn dialect(&self) -> &'static Dialect {
        self.rules.dialect
    }

    fn is_full(&self) -> bool {
        self.rules.dialect.max_columns.is_some_and(|most| self.columns.len() >= most)
    }

    fn is_frozen(&self) -> bool {
        self.rules.contract == Contract::Freeze
    }

    fn frozen(&self, column: Option<&str>, what: String) -> PlanError {
        PlanError::Frozen { table: self.table.to_owned(), column: column.map(str::to_owned), what }
    }
}

/// The columns by which rows replace each other.
pub(super) fn key_of(write: &WriteMode) -> &[String] {
    match write {
        WriteMode::Append | WriteMode::Stage { .. } => &[],
        WriteMode::Upsert { key } => key,
        WriteMode::MergeLatest { key, .. } => std::slice::from_ref(key),
    }
}

/// The types of the values that are not of the column's own.
fn misfit_types(column: &BlockColumn) -> Vec<FieldType> {
    let mut types = Vec::new();
    for own in column.misfits.iter().filter_map(|(_, cell)| cell.field_type()) {
        if !types.contains(&own) {
            types.push(own);
        }
    }
    types
}

/// Changes of a column's type that a server does in place and that lose nothing. Moments are not among them:
/// what a column without a zone meant, only its reader knows.
fn widens_in_place(is: FieldType, wide: FieldType, dialect: &Dialect) -> bool {
    let number = match (is, wide) {
        // Beyond 2^53 a binary float does not hold each integer.
        (FieldType::Int, FieldType::Float) | (FieldType::Float, FieldType::Decimal) => dialect.exact_floats,
        (FieldType::Int, FieldType::Decimal) | (FieldType::Date, FieldType::LocalDateTime) => true,
        _ => false,
    };
    dialect.widens && number
}

/// `<column>__v_<type>`, as dlt names it; the column's name is cut where the whole would be too long, and
/// then has its hash in it, so that two columns that begin alike stay apart.
fn variant_name(column: &str, own: FieldType, dialect: &Dialect) -> String {
    let spelled = |text: String| if dialect.upper_case { text.to_ascii_uppercase() } else { text };
    let suffix = spelled(format!("__v_{}", own.as_str()));
    let most =
        dialect.max_name_bytes.unwrap_or(usize::MAX).min(dialect.cut_before_reserved.unwrap_or(usize::MAX));
    if column.len() + suffix.len() <= most {
        return format!("{column}{suffix}");
    }
    let hash = spelled(format!("_{:08x}", twox_hash::XxHash32::oneshot(0, column.as_bytes())));
    let room = most.saturating_sub(suffix.len() + hash.len());
    let end = (0..=room.min(column.len())).rev().find(|end| column.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{hash}{suffix}", column.get(..end).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;

    use super::*;

    #[test]
    fn variants_of_long_names_that_begin_alike_stay_apart() {
        let postgres = dialect("postgres").unwrap();
        assert_eq!(variant_name("total", FieldType::String, postgres), "total__v_string");
        let (one, other) = (format!("{}a", "x".repeat(62)), format!("{}b", "x".repeat(62)));
        let names = [one, other].map(|name| variant_name(&name, FieldType::Boolean, postgres));
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.len() == 63 && name.ends_with("__v_boolean")), "{names:?}");
    }
}
