//! What differs between warehouses as data: names, limits and reserved words. One row per kind that
//! `preview rows` knows, whether or not its connector is built in.

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
    /// Columns of type `json` exist.
    pub json_columns: bool,
    /// It is a lake: `users` rows carry fewer columns, names are never cut.
    pub data_lake: bool,
    /// Words that get a `_` before them, upper case, sorted.
    pub reserved: &'static [&'static str],
}

/// The dialect of a kind.
#[must_use]
pub fn dialect(kind: &str) -> Option<&'static Dialect> {
    DIALECTS.iter().find(|dialect| dialect.kind == kind)
}

/// All that are known now.
const DIALECTS: &[Dialect] = &[
    Dialect {
        kind: "postgres",
        rudder_name: "POSTGRES",
        upper_case: false,
        cut_before_reserved: Some(63),
        max_name_bytes: Some(127),
        text_above: None,
        json_columns: true,
        data_lake: false,
        reserved: &[],
    },
    Dialect {
        kind: "lake",
        rudder_name: "DELTALAKE",
        upper_case: false,
        cut_before_reserved: None,
        max_name_bytes: Some(127),
        text_above: None,
        json_columns: false,
        data_lake: false,
        reserved: &[],
    },
];
