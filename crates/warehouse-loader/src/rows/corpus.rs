//! RudderStack's own cases, where their corpora are at hand: in the folder that `MILLRACE_CORPORA` names,
//! else in `../shared/corpora` beside the checkout. They are not part of this repository; without them
//! these tests say SKIPPED. Each prints how many cases passed, failed and were left out, with the reason of
//! each that did not pass (docs/warehouse-schema.md).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::{Path, PathBuf};

use chrono::DateTime;
use millrace_connector::{DIALECTS, dialect};
use millrace_event_model::parse_moment;
use serde_json::Value;
use uuid::Uuid;

use super::message::last;
use super::names::Names;
use super::words::{Digits, snake_case, words};
use super::*;

/// The warehouses whose cases there are, by RudderStack's name of the file and ours, and how many there are:
/// fewer would mean that the corpus was not read.
const WAREHOUSES: [(&str, &str, usize); 7] = [
    ("postgres", "postgres", 215),
    ("deltalake", "lake", 215),
    ("rs", "redshift", 216),
    ("bq", "bigquery", 215),
    ("snowflake", "snowflake", 216),
    ("clickhouse", "clickhouse", 215),
    ("s3_datalake", "s3_datalake", 214),
];

/// The names of `names_js.json`.
const NAMES: usize = 643;

/// The cases of `rules_go.json`.
const GO_RULES: usize = 56;

/// The limit of the JavaScript transformer, which answered the cases.
const MAX_COLUMNS_OF_JS: u64 = 200;

/// What became of a case.
enum Outcome {
    Passed,
    /// With what differs.
    Failed(String),
    /// It says nothing of us, for this reason.
    LeftOut(String),
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    left_out: Vec<String>,
}

impl Tally {
    fn of(outcomes: impl Iterator<Item = Outcome>) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            match outcome {
                Outcome::Passed => tally.passed += 1,
                Outcome::Failed(what) => tally.failed.push(what),
                Outcome::LeftOut(why) => tally.left_out.push(why),
            }
        }
        tally
    }

    /// Prints the result, and holds the floor: of the cases that count, 99 in 100.
    fn report(&self, name: &str, all: usize) {
        let counted = self.passed + self.failed.len();
        let percent = self.passed as f64 / counted as f64 * 100.0;
        let left_out = self.left_out.len();
        println!("{name:12} {:4} of {counted:4} pass ({percent:.1} %), {left_out} left out", self.passed);
        self.failed.iter().for_each(|what| println!("  failed: {what}"));
        self.left_out.iter().for_each(|why| println!("  left out: {why}"));
        assert_eq!(counted + left_out, all, "{name}: not all cases were read");
        assert!(percent >= 99.0, "{name}: {percent:.1} % of the cases pass");
    }
}

/// The cases of a file, each apart: two inputs hold lone surrogates, which no Rust text can.
fn cases(file: &str) -> Option<Vec<Result<Value, serde_json::Error>>> {
    #[derive(serde::Deserialize)]
    struct File {
        cases: Vec<Box<serde_json::value::RawValue>>,
    }
    let file: File = serde_json::from_slice(&read(file)?).unwrap();
    Some(file.cases.iter().map(|case| serde_json::from_str(case.get())).collect())
}

fn read(file: &str) -> Option<Vec<u8>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let folder = std::env::var_os("MILLRACE_CORPORA").map_or(beside, PathBuf::from);
    let read = std::fs::read(folder.join("warehouse").join(file)).ok();
    if read.is_none() {
        println!("SKIPPED {file}: not in {}", folder.display());
    }
    read
}

#[test]
fn events_make_the_rows_that_rudderstack_makes() {
    for (provider, kind, all) in WAREHOUSES {
        let Some(cases) = cases(&format!("events_js_{provider}.json")) else { continue };
        Tally::of(cases.iter().map(|case| rows_outcome(case.as_ref().unwrap(), kind))).report(provider, all);
    }
}

fn rows_outcome(case: &Value, kind: &str) -> Outcome {
    difference(case, kind).map_or(Outcome::Passed, Outcome::Failed)
}

/// What is wrong with the answer to one case.
fn difference(case: &Value, kind: &str) -> Option<String> {
    let name = case["case"].as_str().unwrap();
    let expected = case["expected"].as_array().cloned().unwrap_or_default();
    let input = parse_object(case["input"].to_string().as_bytes()).unwrap();
    let mut mapping = Mapping::of_transformer_input(&input, dialect(kind).unwrap());
    let limit = case["env"]["WH_MAX_COLUMNS_IN_EVENT"].as_u64().unwrap_or(MAX_COLUMNS_OF_JS);
    mapping.options.max_columns = usize::try_from(limit).unwrap();
    // Ids and times that were made up are taken from the answer, which leaves nothing to a wildcard.
    let first = expected.first().cloned().unwrap_or_default();
    let made_up = ["id", "ID"].iter().find_map(|id| first["data"][id].as_str()?.strip_prefix("auto-"));
    let metadata = MessageMetadata {
        received_at: first["metadata"]["receivedAt"].as_str(),
        record_id: None,
        now: DateTime::UNIX_EPOCH,
        new_id: made_up.map_or(Uuid::nil(), |id| id.parse().unwrap()),
    };
    let rows = match rows_of_message(last(&input, "message").unwrap(), &metadata, mapping) {
        Ok(rows) => rows,
        Err(reason) => {
            let same = case["expected_error"].as_str() == Some(&reason.message);
            return (!same).then(|| format!("{name}: {}", reason.message));
        }
    };
    if let Some(error) = case["expected_error"].as_str() {
        return Some(format!("{name}: not refused with {error:?}"));
    }
    let tables: Vec<&str> = rows.iter().map(|row| row.table.as_str()).collect();
    let wanted: Vec<&str> = expected.iter().filter_map(|row| row["metadata"]["table"].as_str()).collect();
    if tables != wanted {
        return Some(format!("{name}: tables {tables:?}, not {wanted:?}"));
    }
    rows.iter().zip(&expected).find_map(|(row, expected)| {
        let types = serde_json::to_value(&row.columns).unwrap();
        let of_types = first_difference(&types, &expected["metadata"]["columns"]);
        let of_values = || first_difference(&Value::Object(row.values()), &expected["data"]);
        of_types.or_else(of_values).map(|what| format!("{name}: {}: {what}", row.table))
    })
}

fn first_difference(found: &Value, expected: &Value) -> Option<String> {
    let (found, expected) = (found.as_object().unwrap(), expected.as_object().unwrap());
    let names = found.keys().chain(expected.keys());
    names
        .map(|name| (name, found.get(name), expected.get(name)))
        .find(|(_, found, expected)| !same(*found, *expected))
        .map(|(name, found, expected)| format!("{name} is {found:?}, not {expected:?}"))
}

/// Equal; JSON in texts may have its keys in another order, and 3.0 is 3.
fn same(found: Option<&Value>, expected: Option<&Value>) -> bool {
    let (Some(found), Some(expected)) = (found, expected) else { return found == expected };
    if found == expected {
        return true;
    }
    let number = |value: &Value| value.as_f64();
    if let (Some(found), Some(expected)) = (number(found), number(expected)) {
        return found == expected;
    }
    let parsed = |value: &Value| value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    parsed(found).is_some_and(|found| Some(found) == parsed(expected))
}

#[test]
fn names_are_those_that_rudderstack_makes() {
    let Some(cases) = cases("names_js.json") else { return };
    let outcome = |case: &Result<Value, serde_json::Error>| match case {
        Ok(case) => name_outcome(case),
        Err(error) => Outcome::LeftOut(format!("half a character: {error}")),
    };
    Tally::of(cases.iter().map(outcome)).report("names", NAMES);
}

fn name_outcome(case: &Value) -> Outcome {
    let arguments = case["args"].as_array().unwrap();
    let first = arguments.first().unwrap_or(&Value::Null);
    let function = case["fn"].as_str().unwrap();
    // JavaScript takes nothing for the empty text.
    let text = |argument: &Value| argument.as_str().unwrap_or_default().to_owned();
    let of_words = function.starts_with("words") || function.starts_with("snakeCase");
    if of_words && first.is_object() {
        return Outcome::LeftOut(format!(
            "{}: an object's toString, of which JSON holds nothing",
            case["case"]
        ));
    }
    let found: Value = match function {
        "transformColumnName" => names_of(first).column(&text(&arguments[1])).into(),
        "transformTableName" => names_of(first).table(&text(&arguments[1])).into(),
        "validTimestamp" => first.as_str().is_some_and(|text| parse_moment(text).is_some()).into(),
        "isBlank" => is_blank(first).into(),
        "words" => words(&text(first), Digits::Apart).into(),
        "wordsWithNumbers" => words(&text(first), Digits::WithLetters).into(),
        "snakeCase" => snake_case(&text(first), Digits::Apart).into(),
        "snakeCaseWithNumbers" => snake_case(&text(first), Digits::WithLetters).into(),
        other => return Outcome::Failed(format!("there is no function {other}")),
    };
    if found == case["expected"] {
        return Outcome::Passed;
    }
    Outcome::Failed(format!("{}: {found}, not {}", case["case"], case["expected"]))
}

fn is_blank(value: &Value) -> bool {
    let object = serde_json::json!({"value": value}).to_string();
    datatype::is_blank(last(&parse_object(object.as_bytes()).unwrap(), "value").unwrap())
}

fn names_of(options: &Value) -> Names<'static> {
    let provider = options["provider"].as_str().unwrap_or_default();
    let dialect = DIALECTS.iter().find(|one| one.rudder_name.eq_ignore_ascii_case(provider));
    Names {
        dialect: dialect.unwrap_or(&DIALECTS[1]),
        digits: if options["underscoreDivideNumbers"] == true { Digits::Apart } else { Digits::WithLetters },
        blendo: options["integrationOptions"]["useBlendoCasing"] == true,
        escape_reserved: true,
    }
}

#[test]
fn the_rules_of_the_go_transformer_hold() {
    let Some(cases) = cases("rules_go.json") else { return };
    Tally::of(cases.iter().map(|case| rule_outcome(case.as_ref().unwrap()))).report("rules", GO_RULES);
}

fn rule_outcome(case: &Value) -> Outcome {
    let (function, text) = (case["fn"].as_str().unwrap(), |field: &str| case[field].as_str().unwrap());
    let (found, expected) = match function {
        "IsRudderReservedColumn" => {
            let kind = rules::Kind::of(text("eventType"));
            (Value::from(kind.is_some_and(|kind| kind.reserves(text("columnName")))), &case["expected"])
        }
        "IsStringLikeObject" => (Value::from(letters(case).is_some()), &case["expected"]),
        "StringLikeObjectToString" => (Value::from(letters(case)), &case["expected"]),
        "ReservedKeywords" => {
            let column = names_of(&Value::Null).safe_column(text("keyword"));
            (Value::from(column.starts_with('_')), &case["isReserved"])
        }
        "ExtractRecordID" | "ExtractCloudRecordID" => (record_id(case), &case["expectedRecordID"]),
        // ExtractJSONPathInfo and the like: their answers are how Go keeps the paths.
        other => return Outcome::LeftOut(format!("{other}: {}", case["name"])),
    };
    if found == *expected {
        return Outcome::Passed;
    }
    Outcome::Failed(format!("{function}: {}: {found}, not {expected}", case["name"]))
}

fn letters(case: &Value) -> Option<String> {
    use sonic_rs::JsonContainerTrait;
    let object = parse_object(case["input"].to_string().as_bytes()).unwrap();
    flatten::letters_of(object.as_object().unwrap())
}

/// The column `id` of an event of a cloud source; null where it is refused.
fn record_id(case: &Value) -> Value {
    let mut message = case.get("message").cloned().unwrap_or_else(|| serde_json::json!({}));
    let always = case["fn"] == "ExtractRecordID";
    message["type"] = if always { "extract".into() } else { "track".into() };
    message["event"] = "e".into();
    message["messageId"] = case.get("fallbackValue").cloned().unwrap_or_default();
    let input = serde_json::json!({"message": message, "recordId": case["metadata"]["RecordID"]}).to_string();
    let input = parse_object(input.as_bytes()).unwrap();
    let metadata = MessageMetadata {
        received_at: None,
        record_id: last(&input, "recordId"),
        now: DateTime::UNIX_EPOCH,
        new_id: Uuid::nil(),
    };
    let mut mapping = Mapping::new(dialect("postgres").unwrap());
    mapping.source.category = Some("cloud".to_owned());
    let rows = rows_of_message(last(&input, "message").unwrap(), &metadata, mapping);
    rows.ok().and_then(|rows| rows.last()?.values().remove("id")).unwrap_or_default()
}

#[test]
fn the_words_that_each_warehouse_reserves_are_rudderstacks() {
    let Some(bytes) = read("reserved_tables_columns.json") else { return };
    let lists: std::collections::BTreeMap<String, Vec<String>> = serde_json::from_slice(&bytes).unwrap();
    for dialect in DIALECTS {
        let list = lists.get(dialect.rudder_name).unwrap();
        // Two of Redshift's end in blanks there, and so are never found.
        let mut words: Vec<&str> =
            list.iter().map(String::as_str).filter(|word| !word.ends_with(' ')).collect();
        words.sort_unstable();
        assert_eq!(dialect.reserved, words, "{}", dialect.kind);
    }
}
