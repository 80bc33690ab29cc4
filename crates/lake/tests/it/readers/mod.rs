//! What the lake wrote, read by programs of others: the same rows, values and types as its own query gives.
//!
//! `integration-tests/servers/readers.sh` brings them, and `MILLRACE_TEST_READERS` names the Python that has
//! them. Without it these tests say that they are skipped.

use std::path::Path;
use std::process::Command;

use millrace_columnar::{Cell, Row, batch_of};
use millrace_connector::{SchemaChange, Warehouse, WriteMode};
use millrace_event_model::FieldType;
use millrace_lake::Lake;

use crate::rig::{Rig, With, connection, kafka, load, open_with, schema, text};

/// The Python that has the readers, or none with a word on it.
fn python() -> Option<String> {
    let python = std::env::var("MILLRACE_TEST_READERS").ok();
    if python.is_none() {
        eprintln!("SKIPPED: MILLRACE_TEST_READERS names no Python with duckdb, pyarrow and deltalake");
    }
    python
}

/// The rows of a folder as a reader sees them, each a JSON object of texts, sorted.
fn read(python: &str, reader: &str, folder: &Path) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/readers/read.py");
    let output = Command::new(python).arg(script).arg(reader).arg(folder).output().unwrap();
    assert!(output.status.success(), "{reader}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

const COLUMNS: [(&str, FieldType); 12] = [
    ("amount", FieldType::Decimal),
    ("at", FieldType::LocalDateTime),
    ("clock", FieldType::Time),
    ("count", FieldType::Int),
    ("day", FieldType::Date),
    ("id", FieldType::String),
    ("json", FieldType::Json),
    ("key", FieldType::Uuid),
    ("long", FieldType::Text),
    ("paid", FieldType::Boolean),
    ("received_at", FieldType::DateTime),
    ("score", FieldType::Float),
];

/// 2026-11-24T12:00:00.000001Z.
const MOMENT: i64 = 1_795_521_600_000_001;

fn full_row() -> Row {
    let cells = [
        ("amount", Cell::Decimal("12345678901234567890.123456789".to_owned())),
        ("at", Cell::LocalDateTime(MOMENT)),
        ("clock", Cell::Time("23:59:59.5".to_owned())),
        ("count", Cell::Int(i64::MIN)),
        ("day", Cell::Date(-1)),
        ("id", text("a")),
        ("json", Cell::Json(r#"{"ü":[1,null]}"#.to_owned())),
        ("key", Cell::Uuid("01890a5d-ac96-774b-bcce-b302099a8057".to_owned())),
        ("long", text("Grüße 🚀\n\"quoted\"")),
        ("paid", Cell::Boolean(true)),
        ("received_at", Cell::DateTime(MOMENT)),
        ("score", Cell::Float(-1.5e300)),
    ];
    cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect()
}

/// What everybody is to read of two loads: a full row, and a row with an id and the next day alone.
const EXPECTED: [&str; 2] = [
    concat!(
        r#"{"amount": "decimal 12345678901234567890.123456789", "#,
        r#""at": "local 2026-11-24T12:00:00.000001", "clock": "text 23:59:59.5", "#,
        r#""count": "int -9223372036854775808", "day": "date 1969-12-31", "id": "text a", "#,
        r#""json": "text {\"ü\":[1,null]}", "key": "text 01890a5d-ac96-774b-bcce-b302099a8057", "#,
        r#""long": "text Grüße 🚀\n\"quoted\"", "millrace_date": "date 2026-11-24", "paid": "true", "#,
        r#""received_at": "moment 2026-11-24T12:00:00.000001+00:00", "score": "float -1.5e+300"}"#
    ),
    concat!(
        r#"{"amount": null, "at": null, "clock": null, "count": null, "#,
        r#""day": null, "id": "text b", "json": null, "key": null, "long": null, "millrace_date": "date 2026-11-25", "paid": null, "#,
        r#""received_at": "moment 2026-11-25T12:00:00.000001+00:00", "score": null}"#
    ),
];

/// Loads a row of every type, and one that has few columns, as two loads.
async fn load_two_days(lake: &Lake) {
    let create = SchemaChange::CreateTable { table: "tracks".to_owned(), columns: schema(&COLUMNS) };
    lake.apply("web", &[create]).await.unwrap();
    lake.resume(&connection(), 1, &kafka()).await.unwrap();
    let all = batch_of(&schema(&COLUMNS), &[full_row()]).unwrap();
    lake.load(load(0, 1).rows("tracks", all, WriteMode::Append)).await.unwrap();
    let few = [("id", FieldType::String), ("received_at", FieldType::DateTime)];
    let day = 86_400_000_000;
    let cells = vec![[text("b"), Cell::DateTime(MOMENT + day)]];
    lake.load(load(1, 2).rows("tracks", crate::rig::rows(few, cells), WriteMode::Append)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn others_read_the_same_rows_values_and_types_from_delta() {
    let Some(python) = python() else { return };
    let rig = Rig::new().await;
    load_two_days(&rig.lake).await;
    for reader in ["deltalake", "duckdb-delta"] {
        assert_eq!(read(&python, reader, &rig.folder.path().join("web/tracks")), EXPECTED, "{reader}");
    }
    let own = rig.query("SELECT * FROM web.tracks ORDER BY id").await;
    assert!(own[0].contains("amount=12345678901234567890.123456789"), "{}", own[0]);
    assert!(
        own[0].contains("millrace_date=2026-11-24") && own[1].contains("millrace_date=2026-11-25"),
        "{own:?}"
    );
    assert!(own[0].contains("key=01890a5d-ac96-774b-bcce-b302099a8057"), "{}", own[0]);
    assert_eq!(rig.lake.describe("web").await.unwrap()["tracks"], schema(&COLUMNS), "and its types are ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_read_what_was_merged_and_compacted() {
    let Some(python) = python() else { return };
    let rig = Rig::new().await;
    let columns =
        [("id", FieldType::String), ("plan", FieldType::String), ("received_at", FieldType::DateTime)];
    rig.create("users", &columns).await;
    let write = || WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    for n in 0..40 {
        let user = [text(&format!("u{}", n % 3)), text(&format!("p{n}")), Cell::DateTime(n)];
        rig.load(load(n, n + 1).rows("users", crate::rig::rows(columns, vec![user]), write())).await;
    }
    let expected: Vec<String> = [(0, 39), (1, 37), (2, 38)]
        .map(|(user, n)| {
            format!(
                "{{\"id\": \"text u{user}\", \"plan\": \"text p{n}\", \"received_at\": \"moment 1970-01-01T00:00:00.{n:06}+00:00\"}}"
            )
        })
        .into();
    for reader in ["deltalake", "duckdb-delta"] {
        assert_eq!(read(&python, reader, &rig.folder.path().join("web/users")), expected, "{reader}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_read_the_same_rows_values_and_types_from_plain_parquet() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let lake = open_with(&crate::plain::settings(folder.path()));
    load_two_days(&lake).await;
    for reader in ["pyarrow", "duckdb"] {
        assert_eq!(read(&python, reader, &folder.path().join("web/tracks")), EXPECTED, "{reader}");
    }
    let own = crate::rig::query(&lake, "SELECT * FROM web.tracks ORDER BY id").await.unwrap();
    assert!(own[0].contains("amount=12345678901234567890.123456789"), "{}", own[0]);
    assert_eq!(lake.describe("web").await.unwrap()["tracks"], schema(&COLUMNS), "and its types are ours");
}
