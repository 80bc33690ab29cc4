//! What differs between warehouses as data: names, limits and reserved words. One row per kind that
//! `preview rows` knows, whether or not its connector is built in.

mod athena;
mod bigquery;
mod databricks;
mod postgres;
mod redshift;
mod snowflake;
mod sqlserver;

use millrace_event_model::FieldType;

/// The facts of a warehouse kind (warehouse schema rules §4 and §5).
#[derive(Debug)]
pub struct Dialect {
    /// The kind, as the config and `--warehouse` spell it.
    pub kind: &'static str,
    /// RudderStack's name of the destination, upper case: the key of `integrations.<NAME>.options`.
    pub rudder_name: &'static str,
    /// Identifiers are upper case (Snowflake).
    pub upper_case: bool,
    /// Bytes a column name is cut to before the reserved-word test, where the kind does that (PostgreSQL: 63).
    pub cut_before_reserved: Option<usize>,
    /// Bytes any name is cut to at last; `None` never cuts (data lakes).
    pub max_name_bytes: Option<usize>,
    /// A string of more than this many UTF-16 units is `text`; `None` knows no `text`.
    pub text_above: Option<usize>,
    /// Text may hold U+0000. Where it may not, it is left out, in keys too (PostgreSQL).
    pub holds_nul: bool,
    /// Columns of type `json` exist. Where they do not, JSON is a string.
    pub json_columns: bool,
    /// The destination's config may name JSON paths; events may always name them.
    pub json_paths_in_config: bool,
    /// The type of the column `rudder_event`, which holds the whole event.
    pub full_event: FieldType,
    /// A property `violationErrors` (what a tracking plan found) is `json`.
    pub violation_errors_as_json: bool,
    /// Tables have a column `loaded_at` beside `uuid_ts` (BigQuery).
    pub loaded_at: bool,
    /// It is a lake of plain files: `users` rows carry fewer columns, names are never cut.
    pub data_lake: bool,
    /// A column's type can be changed to a wider one in place.
    pub widens: bool,
    /// Columns of `float` are decimals without a bound, which hold every `decimal` too (PostgreSQL).
    pub exact_floats: bool,
    /// Digits in all and after the point that a `decimal` may have; `None` has no bound.
    pub decimal_digits: Option<(u8, u8)>,
    /// Columns that a table may have; `None` where nobody counts them.
    pub max_columns: Option<usize>,
    /// Words that get a `_` before them, upper case, sorted.
    pub reserved: &'static [&'static str],
}

impl Dialect {
    /// Whether a column of decimals holds these digits (`-12.340`), none of them lost. Zeros at either end do not
    /// count.
    #[must_use]
    pub fn holds_decimal(&self, digits: &str) -> bool {
        let Some((all, after_point)) = self.decimal_digits else { return true };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = whole.trim_start_matches(['-', '0']).len();
        let fraction = fraction.trim_end_matches('0').len();
        whole <= usize::from(all - after_point) && fraction <= usize::from(after_point)
    }
}

/// The dialect of a kind.
#[must_use]
pub fn dialect(kind: &str) -> Option<&'static Dialect> {
    DIALECTS.iter().find(|dialect| dialect.kind == kind)
}

/// All that are known now.
pub const DIALECTS: &[Dialect] = &[
    Dialect {
        kind: "postgres",
        rudder_name: "POSTGRES",
        widens: true,
        exact_floats: true,
        holds_nul: false,
        decimal_digits: None,
        max_columns: Some(1_600),
        cut_before_reserved: Some(63),
        json_columns: true,
        json_paths_in_config: true,
        full_event: FieldType::Json,
        violation_errors_as_json: true,
        reserved: postgres::RESERVED,
        ..SQL
    },
    Dialect {
        kind: "redshift",
        rudder_name: "RS",
        max_columns: Some(1_600),
        text_above: Some(512),
        json_columns: true,
        json_paths_in_config: true,
        full_event: FieldType::Text,
        reserved: redshift::RESERVED,
        ..SQL
    },
    Dialect {
        kind: "snowflake",
        rudder_name: "SNOWFLAKE",
        upper_case: true,
        json_columns: true,
        json_paths_in_config: true,
        full_event: FieldType::Json,
        violation_errors_as_json: true,
        reserved: snowflake::RESERVED,
        ..SQL
    },
    Dialect {
        kind: "bigquery",
        rudder_name: "BQ",
        max_columns: Some(10_000),
        json_paths_in_config: true,
        loaded_at: true,
        reserved: bigquery::RESERVED,
        ..SQL
    },
    Dialect { kind: "clickhouse", rudder_name: "CLICKHOUSE", max_columns: Some(1_000), ..SQL },
    Dialect { kind: "databricks", rudder_name: "DELTALAKE", reserved: databricks::RESERVED, ..SQL },
    Dialect { kind: "lake", rudder_name: "DELTALAKE", widens: true, reserved: databricks::RESERVED, ..SQL },
    Dialect {
        kind: "mssql",
        rudder_name: "MSSQL",
        max_columns: Some(1_024),
        json_columns: true,
        full_event: FieldType::Json,
        reserved: sqlserver::RESERVED,
        ..SQL
    },
    Dialect {
        kind: "synapse",
        rudder_name: "AZURE_SYNAPSE",
        max_columns: Some(1_024),
        json_columns: true,
        full_event: FieldType::Json,
        reserved: sqlserver::RESERVED,
        ..SQL
    },
    Dialect { kind: "s3_datalake", rudder_name: "S3_DATALAKE", reserved: athena::RESERVED, ..FILES },
    Dialect { kind: "gcs_datalake", rudder_name: "GCS_DATALAKE", reserved: bigquery::RESERVED, ..FILES },
    Dialect { kind: "azure_datalake", rudder_name: "AZURE_DATALAKE", reserved: sqlserver::RESERVED, ..FILES },
];

/// What most SQL warehouses have in common.
const SQL: Dialect = Dialect {
    kind: "",
    rudder_name: "",
    upper_case: false,
    cut_before_reserved: None,
    max_name_bytes: Some(127),
    text_above: None,
    holds_nul: true,
    json_columns: false,
    json_paths_in_config: false,
    full_event: FieldType::String,
    violation_errors_as_json: false,
    loaded_at: false,
    data_lake: false,
    widens: false,
    exact_floats: false,
    decimal_digits: Some((38, 9)),
    max_columns: None,
    reserved: &[],
};

/// What lakes of plain files have in common.
const FILES: Dialect = Dialect { max_name_bytes: None, data_lake: true, max_columns: Some(10_000), ..SQL };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_are_upper_case_sorted_and_unique() {
        for dialect in DIALECTS {
            let words = dialect.reserved;
            assert!(words.windows(2).all(|pair| pair[0] < pair[1]), "{}", dialect.kind);
            assert!(words.iter().all(|word| *word == word.to_uppercase()), "{}", dialect.kind);
        }
    }

    #[test]
    fn the_columns_of_every_event_are_reserved_words_of_no_database_but_those_that_refuse_them() {
        let escaped = |kind| dialect(kind).is_some_and(|known| known.reserved.contains(&"TIMESTAMP"));
        let kinds: Vec<_> = DIALECTS.iter().map(|known| known.kind).filter(|kind| escaped(kind)).collect();
        assert_eq!(kinds, ["s3_datalake"]);
    }
}
