//! Files, settings, and what becomes of what is not written.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::future::{pending, ready};
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use futures::future::BoxFuture;
use millrace_columnar::ParquetReader;
use millrace_columnar::arrow::array::{Array, AsArray};
use millrace_columnar::arrow::datatypes::TimestampMicrosecondType;
use millrace_connector::{Context, Destination, Item, ItemOutcome, Payload, Prepared};
use millrace_event_model::{ChangeOp, Event, MessageId, testing};
use serde_json::{Value, json};

use super::{Deadlines, ObjectStorage, outcomes, rudder};

mod stores;

fn storage(settings: Value) -> ObjectStorage {
    let context = Context { id: "files".to_owned(), work_dir: "/nonexistent".into() };
    ObjectStorage::new(&settings, &context).unwrap()
}

fn in_folder(folder: &Path, format: &str) -> ObjectStorage {
    storage(json!({"url": folder.display().to_string(), "format": format}))
}

/// An event received so many hours after 2023-11-14T22:13:20Z.
fn event(id: &str, hours: i64, body: &str) -> Item {
    let event = Event {
        message_id: MessageId(id.to_owned()),
        received_at: testing::moment() + TimeDelta::hours(hours),
        ..testing::event(body)
    };
    Item { id: event.idempotency_key(), key: event.key, payload: Payload::Event(event) }
}

fn change() -> Item {
    let change = testing::change(ChangeOp::Delete, r#"{"userId":"u"}"#);
    Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) }
}

async fn deliver(storage: &ObjectStorage, items: &[Item]) {
    let prepared = |item: &Item| Prepared::of(item, storage.transform(item).unwrap());
    let outcomes = storage.deliver(items.iter().map(prepared).collect()).await;
    assert_eq!(outcomes, vec![ItemOutcome::Delivered; items.len()]);
}

fn items() -> [Item; 4] {
    let pretty = "{\n  \"event\": \"Seen\",\r\n  \"properties\": {\n\"text\": \"a\\nb\"}}";
    [event("m-1", 0, pretty), event("m-2", 1, "{}"), event("m-3", 0, r#"{"userId":"u"}"#), change()]
}

#[tokio::test]
async fn a_file_of_parquet_has_columns_and_the_whole_row() {
    let folder = tempfile::tempdir().unwrap();
    let storage = in_folder(folder.path(), "parquet");
    deliver(&storage, &items()).await;
    let paths = storage.store.list("").await.unwrap();
    assert!(paths.iter().all(|path| path.ends_with(".parquet")), "{paths:?}");
    let bytes = storage.store.get(&paths[0]).await.unwrap().unwrap();
    let batches: Vec<_> = ParquetReader::of_bytes(bytes).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!((batches.len(), batches[0].num_rows()), (1, 2));
    let text = |name: &str, row: usize| {
        let column = batches[0].column_by_name(name).unwrap().as_string::<i32>().clone();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    assert_eq!((text("event", 0).as_deref(), text("user_id", 1).as_deref()), (Some("Seen"), Some("u")));
    assert_eq!(text("user_id", 0), None);
    assert!(text("id", 0).unwrap().starts_with("web/"));
    let document: Value = serde_json::from_str(&text("document", 0).unwrap()).unwrap();
    assert_eq!(document["properties"]["text"], "a\nb");
    let received = batches[0].column_by_name("received_at").unwrap();
    assert_eq!(received.as_primitive::<TimestampMicrosecondType>().value(0), 1_700_000_000_000_000);
}

#[test]
fn rudderstacks_config_becomes_options_and_secrets_are_not_shown() {
    let config = json!({"bucketName": "b", "prefix": "/raw/", "accessKeyID": "AKIA", "accessKey": "hunter2"});
    let settings = rudder::settings(&config).unwrap();
    assert_eq!(settings["url"], "s3://b/raw");
    assert_eq!(settings["storage_options"], json!({"access_key_id": "AKIA", "secret_access_key": "hunter2"}));
    let context = Context { id: "files".to_owned(), work_dir: "/nonexistent".into() };
    let mut wrong = settings;
    wrong["storage_options"]["regoin"] = json!("eu");
    let error = ObjectStorage::new(&wrong, &context).unwrap_err().full();
    assert!(error.contains("regoin") && !error.contains("hunter2"), "{error}");
    assert!(rudder::settings(&json!({"bucketName": "b", "roleBasedAuth": true})).is_err());
}

/// What is said of settings that are refused.
fn refused(settings: &Value) -> String {
    let context = Context { id: "files".to_owned(), work_dir: "/nonexistent".into() };
    ObjectStorage::new(settings, &context).unwrap_err().full()
}

#[test]
fn memory_is_no_place_for_files() {
    for url in ["memory://", "memory:///raw"] {
        assert!(refused(&json!({ "url": url })).contains("memory:// keeps nothing"));
    }
}

#[test]
fn an_address_inside_is_no_endpoint_unless_it_is_opened() {
    let with = |option: &str, value: &str, private: Value| {
        json!({"url": "s3://bucket", "allow_private": private,
            "storage_options": {option: value, "region": "us-east-1", "skip_signature": "true"}})
    };
    for address in ["http://169.254.169.254", "http://2130706433/", "https://[::1]:9000"] {
        for option in ["endpoint", "AWS_ENDPOINT_URL", "metadata_endpoint"] {
            let told = refused(&with(option, address, json!(false)));
            assert!(told.contains(option) && told.contains("allow_private"), "{told}");
        }
    }
    let key = json!({"gcs_base_url": "http://10.0.0.5"}).to_string();
    let google = json!({"url": "gs://bucket", "storage_options": {"service_account_key": key}});
    assert!(refused(&google).contains("allow_private"));
    let proxied = refused(&with("proxy_url", "http://proxy.example.com", json!(true)));
    assert!(proxied.contains("storage_options.proxy_url is not taken"), "{proxied}");
    storage(with("endpoint", "http://10.1.0.5:9000", json!(["10.1.0.0/16"])));
    storage(with("endpoint", "https://s3.example.com", json!(false)));
}

#[tokio::test]
async fn what_is_written_in_time_is_delivered_and_the_rest_comes_back() {
    let written = || -> BoxFuture<'static, ItemOutcome> { Box::pin(ready(ItemOutcome::Delivered)) };
    let hanging = || -> BoxFuture<'static, ItemOutcome> { Box::pin(pending()) };
    let writes = || vec![(vec![1], hanging()), (vec![0, 3], written()), (vec![2], written())];
    let soon = Deadlines { begin: Duration::from_secs(600), finish: Duration::from_millis(20) };
    let came = outcomes(4, writes(), soon).await;
    let late = |outcome: &ItemOutcome| matches!(outcome, ItemOutcome::Transient { .. });
    assert_eq!(came.iter().map(late).collect::<Vec<_>>(), [false, true, false, false], "{came:?}");
    let none = Deadlines { begin: Duration::ZERO, finish: Duration::from_secs(600) };
    let came = outcomes(4, writes(), none).await;
    assert!(came.iter().all(late), "nothing is begun: {came:?}");
}

#[tokio::test]
async fn a_file_in_the_place_of_the_folder_pauses() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let storage = in_folder(&folder.path().join("file/raw"), "ndjson");
    let item = event("m-1", 0, "{}");
    let prepared = Prepared::of(&item, storage.transform(&item).unwrap());
    let outcomes = storage.deliver(vec![prepared]).await;
    assert!(
        matches!(&outcomes[..], [ItemOutcome::Config(why)] if why.code == "folder_unwritable"),
        "{outcomes:?}"
    );
}
