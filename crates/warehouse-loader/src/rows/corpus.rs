//! RudderStack's own cases, where their corpora are at hand: in the folder that `MILLRACE_CORPORA` names,
//! else in `../shared/corpora` beside the checkout. They are not part of this repository; without them
//! these tests say SKIPPED.
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

/// How many cases pass, by file and kind: all there are.
const FLOORS: [(&str, &str, usize); 7] = [
    ("postgres", "postgres", 215),
    ("deltalake", "lake", 215),
    ("rs", "redshift", 216),
    ("bq", "bigquery", 215),
    ("snowflake", "snowflake", 216),
    ("clickhouse", "clickhouse", 215),
    ("s3_datalake", "s3_datalake", 214),
];

/// The limit of the JavaScript transformer, which answered the cases.
const MAX_COLUMNS_OF_JS: u64 = 200;

/// Failing cases that are shown per provider.
const SHOWN: usize = 5;

fn cases(file: &str) -> Option<Vec<Value>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let folder = std::env::var_os("MILLRACE_CORPORA").map_or(beside, PathBuf::from);
    let Ok(bytes) = std::fs::read(folder.join("warehouse").join(file)) else {
        println!("SKIPPED {file}: not in {}", folder.display());
        return None;
    };
    // Case by case: two inputs hold lone surrogates, which no Rust text can.
    let document: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_slice(&bytes).unwrap();
    let raw: Vec<&serde_json::value::RawValue> = serde_json::from_str(document["cases"].get()).unwrap();
    Some(raw.iter().filter_map(|case| serde_json::from_str(case.get()).ok()).collect())
}

#[test]
fn events_make_the_rows_that_rudderstack_makes() {
    for (provider, kind, floor) in FLOORS {
        let Some(cases) = cases(&format!("events_js_{provider}.json")) else { continue };
        let failures: Vec<String> = cases.iter().filter_map(|case| difference(case, kind)).collect();
        let passed = cases.len() - failures.len();
        println!("{provider}: {passed} of {} cases pass", cases.len());
        for failure in failures.iter().take(SHOWN) {
            println!("  {failure}");
        }
        assert!(passed >= floor, "{provider}: {passed} cases pass, {floor} did before");
    }
}

/// What is wrong with the answer to one case.
fn difference(case: &Value, kind: &str) -> Option<String> {
    let name = case["case"].as_str().unwrap();
    let input = &case["input"];
    let expected = case["expected"].as_array().cloned().unwrap_or_default();
    let input = parse_object(input.to_string().as_bytes()).unwrap();
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
    let failures: Vec<String> = cases.iter().filter_map(name_difference).collect();
    println!("names: {} of {} cases pass", cases.len() - failures.len(), cases.len());
    assert_eq!(failures, Vec::<String>::new());
}

fn name_difference(case: &Value) -> Option<String> {
    let arguments = case["args"].as_array().unwrap();
    let text = arguments.last().and_then(Value::as_str);
    let found: Value = match (case["fn"].as_str().unwrap(), text) {
        ("transformColumnName", Some(text)) => names_of(&arguments[0]).column(text).into(),
        ("transformTableName", Some(text)) => names_of(&arguments[0]).table(text).into(),
        ("validTimestamp", text) => text.is_some_and(|text| parse_moment(text).is_some()).into(),
        ("isBlank", _) => is_blank(arguments.first()).into(),
        // By then a name has no other signs: words of other alphabets, and apostrophes, do not come up.
        ("words", Some(text)) if plain(text) => words(text, Digits::Apart).into(),
        ("wordsWithNumbers", Some(text)) if plain(text) => words(text, Digits::WithLetters).into(),
        ("snakeCase", Some(text)) if plain(text) => snake_case(text, Digits::Apart).into(),
        ("snakeCaseWithNumbers", Some(text)) if plain(text) => snake_case(text, Digits::WithLetters).into(),
        _ => return None,
    };
    (found != case["expected"]).then(|| format!("{}: {found}, not {}", case["case"], case["expected"]))
}

fn is_blank(value: Option<&Value>) -> bool {
    let list = serde_json::json!({"value": value}).to_string();
    datatype::is_blank(last(&parse_object(list.as_bytes()).unwrap(), "value").unwrap())
}

fn plain(text: &str) -> bool {
    text.is_ascii() && !text.contains('\'')
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
