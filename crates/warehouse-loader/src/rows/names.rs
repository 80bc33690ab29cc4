//! Names of tables and columns: what a client called them, made safe for a warehouse
//! (warehouse schema rules §4).

use millrace_connector::Dialect;
use millrace_event_model::Reason;

use super::words::{Digits, snake_case};

/// How names are made for one event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) dialect: &'a Dialect,
    pub(super) digits: Digits,
    /// Only lower case and underscores, as Blendo did.
    pub(super) blendo: bool,
    /// Words that the warehouse reserves get a `_` before them.
    pub(super) escape_reserved: bool,
}

impl Names<'_> {
    /// A table's name out of an event's. Empty where nothing of the name is left.
    pub(super) fn table(&self, name: &str) -> String {
        if self.blendo {
            return name.to_lowercase().trim().to_owned();
        }
        plain(name, self.digits)
    }

    /// A column's name out of a property's, with its parents' before it. Empty where nothing of the name
    /// is left.
    pub(super) fn column(&self, name: &str) -> String {
        let column = if self.blendo { blendo_column(name) } else { plain(name, self.digits) };
        cut(column, self.dialect.cut_before_reserved)
    }

    /// The name as the warehouse takes it, for a table.
    pub(super) fn safe_table(&self, name: &str) -> Result<String, Reason> {
        self.safe(name).ok_or_else(|| Reason::new("empty_name", "Table name cannot be empty."))
    }

    /// The name as the warehouse takes it, for a column. Never empty for a name that is not.
    pub(super) fn safe_column(&self, name: &str) -> String {
        self.safe(name).unwrap_or_default()
    }

    fn safe(&self, name: &str) -> Option<String> {
        if name.is_empty() {
            return None;
        }
        let upper = name.to_uppercase();
        let name = if self.dialect.upper_case { upper.clone() } else { name.to_lowercase() };
        let name = cut(name, self.dialect.cut_before_reserved);
        let reserved = self.dialect.reserved.binary_search(&upper.as_str()).is_ok();
        let name = if reserved && self.escape_reserved { format!("_{name}") } else { name };
        Some(cut(name, self.dialect.max_name_bytes))
    }
}

impl<'a> Names<'a> {
    /// For streams of ELT, which have no options.
    fn of_streams(dialect: &'a Dialect) -> Self {
        Self { dialect, digits: Digits::WithLetters, blendo: false, escape_reserved: true }
    }
}

/// The name of an ELT stream's table. A name that is cut says so with a mark ([`marked`]), so that no two
/// streams meet in one table because their long names begin alike.
///
/// # Errors
/// Nothing of the name is left.
pub(crate) fn stream_table(dialect: &Dialect, stream: &str) -> Result<String, Reason> {
    let names = Names::of_streams(dialect);
    let table = names.safe_table(&names.table(stream))?;
    Ok(if is_cut(dialect, stream) { marked(dialect, &table, stream) } else { table })
}

/// What a field of an ELT stream is called of whose name nothing is left (`名`), before its mark.
const NAMELESS: &str = "field";

/// The name of an ELT field's column. As with tables, a name that is cut has a mark; so has one of which nothing is
/// left, since a source's field is never dropped.
pub(crate) fn stream_column(dialect: &Dialect, field: &str) -> String {
    let names = Names::of_streams(dialect);
    match names.safe(&names.column(field)) {
        Some(column) if is_cut(dialect, field) => marked(dialect, &column, field),
        Some(column) => column,
        None => marked(dialect, &names.safe_column(NAMELESS), field),
    }
}

/// The name of the table of a list in the rows of another, whose column it would be.
pub(crate) fn list_table(dialect: &Dialect, parent: &str, column: &str) -> String {
    let name = format!("{parent}__{column}");
    let fits = limit(dialect).is_none_or(|limit| name.len() <= limit);
    if fits { name } else { marked(dialect, &name, &name) }
}

fn is_cut(dialect: &Dialect, name: &str) -> bool {
    limit(dialect).is_some_and(|limit| plain(name, Digits::WithLetters).len() > limit)
}

fn limit(dialect: &Dialect) -> Option<usize> {
    dialect.cut_before_reserved.or(dialect.max_name_bytes)
}

/// Hexadecimal digits of a mark: among a million names that begin alike, two have the same mark once in ten
/// thousand times.
const MARK_DIGITS: usize = 8;

/// The name with a few digits of a hash of `whole`, which tells it from others that look like it.
pub(crate) fn marked(dialect: &Dialect, name: &str, whole: &str) -> String {
    let hash = blake3::hash(whole.as_bytes()).to_hex();
    let mark = hash.get(..MARK_DIGITS).unwrap_or_default();
    let mark = if dialect.upper_case { mark.to_uppercase() } else { mark.to_owned() };
    let room = limit(dialect).map(|limit| limit - MARK_DIGITS - 1);
    format!("{}_{mark}", cut(name.to_owned(), room))
}

/// Runs of ASCII letters and digits, as snake case. Underscores at the front are the client's escape of
/// its own names and are kept; a digit at the front gets one.
fn plain(name: &str, digits: Digits) -> String {
    let letters = name.trim_start_matches('_');
    let front = name.get(..name.len() - letters.len()).unwrap_or_default();
    // Letters beyond ASCII divide words like any other sign, and so do apostrophes.
    let kept = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { ' ' };
    let snake = snake_case(&letters.chars().map(kept).collect::<String>(), digits);
    let digit_first = front.is_empty() && snake.starts_with(|first: char| first.is_ascii_digit());
    format!("{front}{}{snake}", if digit_first { "_" } else { "" })
}

fn blendo_column(name: &str) -> String {
    let kept = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '\\' | '$');
    let column: String =
        name.chars().map(|sign| if kept(sign) { sign.to_ascii_lowercase() } else { '_' }).collect();
    if column.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        return column;
    }
    format!("_{column}")
}

/// The first bytes of a name, without half a character.
fn cut(mut name: String, limit: Option<usize>) -> String {
    if let Some(limit) = limit {
        name.truncate(name.floor_char_boundary(limit));
    }
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::{DIALECTS, dialect};
    use proptest::prelude::*;

    use super::*;

    fn names(kind: &str) -> Names<'static> {
        Names::of_streams(dialect(kind).unwrap())
    }

    #[test]
    fn column_names_are_snake_case_of_ascii() {
        let names = names("postgres");
        assert_eq!(names.column("Order ID"), "order_id");
        assert_eq!(names.column("größe (cm)"), "gr_e_cm");
        assert_eq!(names.column("2fa"), "_2fa");
        assert_eq!(names.column("__internal"), "__internal");
        assert_eq!(names.column("€"), "");
        assert_eq!(names.column(&"x".repeat(80)), "x".repeat(63));
    }

    #[test]
    fn reserved_words_are_escaped_and_snowflake_shouts() {
        assert_eq!(names("postgres").safe_column("select"), "_select");
        assert_eq!(names("clickhouse").safe_column("select"), "select");
        assert_eq!(names("snowflake").safe_table("orders").unwrap(), "ORDERS");
        assert_eq!(names("snowflake").safe_table("table").unwrap(), "_TABLE");
        assert_eq!(Names { escape_reserved: false, ..names("postgres") }.safe_column("select"), "select");
        assert_eq!(names("postgres").safe_table("").unwrap_err().message, "Table name cannot be empty.");
    }

    #[test]
    fn long_names_are_cut_but_not_in_files() {
        assert_eq!(names("bigquery").safe_column(&"x".repeat(200)).len(), 127);
        assert_eq!(names("s3_datalake").safe_column(&"x".repeat(200)).len(), 200);
    }

    #[test]
    fn blendo_only_lowers_and_replaces() {
        let names = Names { blendo: true, ..names("redshift") };
        assert_eq!(names.table(" Order Placed "), "order placed");
        assert_eq!(names.column("Order ID$"), "order_id$");
        assert_eq!(names.column("1st"), "_1st");
    }

    #[test]
    fn streams_are_named_as_events_are() {
        let dialect = dialect("snowflake").unwrap();
        assert_eq!(stream_table(dialect, "public_OrderLines").unwrap(), "PUBLIC_ORDER_LINES");
        assert_eq!(stream_column(dialect, "from"), "_FROM");
    }

    #[test]
    fn fields_of_streams_whose_long_names_begin_alike_have_columns_of_their_own() {
        for known in DIALECTS {
            let column = |end: &str| stream_column(known, &format!("{}{end}", "Long".repeat(50)));
            assert_ne!(column("a"), column("b"), "{}", known.kind);
            assert!(limit(known).is_none_or(|limit| column("a").len() == limit), "{}", known.kind);
        }
        let postgres = dialect("postgres").unwrap();
        assert_eq!(stream_column(postgres, &"x".repeat(63)), "x".repeat(63));
        assert_ne!(stream_table(postgres, &"x".repeat(64)), stream_table(postgres, &"x".repeat(65)));
    }

    #[test]
    fn a_field_of_a_stream_of_whose_name_nothing_is_left_has_a_column_of_its_own() {
        let column = |field| stream_column(dialect("postgres").unwrap(), field);
        let [one, other, empty] = ["名", "字", ""].map(column);
        assert!(one.starts_with("field_") && one.len() == 14, "{one}");
        assert!(one != other && empty.starts_with("field_"), "{one}, {other}, {empty}");
        assert!(stream_column(dialect("snowflake").unwrap(), "名").starts_with("FIELD_"));
    }

    proptest! {
        #[test]
        fn a_name_once_made_stays_as_it_is(name in any::<String>()) {
            let names = names("databricks");
            let column = names.column(&name);
            prop_assert_eq!(names.column(&column), column);
        }

        #[test]
        fn every_dialect_takes_every_name(name in any::<String>()) {
            for dialect in DIALECTS {
                let names = Names { dialect, digits: Digits::Apart, blendo: false, escape_reserved: true };
                let safe = names.safe_column(&names.column(&name));
                prop_assert!(safe.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
            }
        }
    }
}
