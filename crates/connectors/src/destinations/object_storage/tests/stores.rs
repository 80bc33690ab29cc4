//! Files in a folder, and in the object stores that `MILLRACE_TEST_S3` and `MILLRACE_TEST_AZURE` name.

use std::io::Read;

use flate2::read::GzDecoder;
use millrace_connector::conformance::{self, Look, Place, Reply, Stub};

use super::*;
use crate::destinations::object_storage::entry;
use crate::destinations::trial::kept;

/// Paths of all files, and the lines of each.
async fn files(storage: &ObjectStorage) -> Vec<(String, Vec<Value>)> {
    let mut found = Vec::new();
    for path in storage.store.list("").await.unwrap() {
        let bytes = storage.store.get(&path).await.unwrap().unwrap();
        let mut text = String::new();
        GzDecoder::new(bytes.as_ref()).read_to_string(&mut text).unwrap();
        found.push((path, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()));
    }
    found
}

/// In whatever store.
async fn a_batch_is_a_file_for_each_hour_and_a_repetition_writes_over_it(storage: &ObjectStorage) {
    storage.check().await.unwrap();
    let items = items();
    deliver(storage, &items).await;
    let written = files(storage).await;
    let folder = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
    let folders: Vec<_> = written.iter().map(|(path, _)| folder(path)).collect();
    let hour = |hour| format!("source=web/date=2023-11-14/hour={hour}");
    assert_eq!(folders, [hour(22), hour(23), "sync=people/run=7".to_owned()]);
    let rows = &written[0].1;
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["messageId"], &rows[0]["properties"]["text"]), (&json!("m-1"), &json!("a\nb")));
    assert_eq!(written[2].1[0]["op"], "delete");

    deliver(storage, &items).await;
    assert_eq!(files(storage).await, written, "the same batch is the same files");
    deliver(storage, &items[..1]).await;
    assert_eq!(files(storage).await.len(), 4, "another batch is another file");
}

/// What every destination owes deliver, of one with these settings.
async fn deliver_gets_what_it_is_owed(settings: Value, nowhere: Value, refused: Option<Item>) {
    let there = storage(settings.clone());
    let mut codes = vec!["D1", "D2", "D4", "D5", "D8", "D13", "D14"];
    codes.extend(refused.is_some().then_some("D6"));
    let store = &there.store;
    let look: Look<'_> = Box::new(move || Box::pin(async move { store.list("").await.unwrap().join(" ") }));
    let secrets = vec!["secret-of-a-test".to_owned()];
    let place = Place { settings, nowhere, secrets, refused, look };
    kept(&conformance::any_destination(&entry(), place).await, &codes);
}

#[tokio::test]
async fn files_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let storage = in_folder(&folder.path().join("not/there/yet"), "ndjson");
    a_batch_is_a_file_for_each_hour_and_a_repetition_writes_over_it(&storage).await;

    // A file where the folder of the sync would be: its rows are refused, and no others.
    std::fs::create_dir(folder.path().join("files")).unwrap();
    std::fs::write(folder.path().join("files/sync=people"), "").unwrap();
    let at = |path: &str| json!({"url": folder.path().join(path).display().to_string()});
    deliver_gets_what_it_is_owed(at("files"), at("files/sync=people/raw"), Some(change())).await;
}

/// In a bucket there, and in one that is not.
async fn files_in(at: impl Fn(&str) -> Value, bucket: &str) {
    let folder = |name: &str| format!("{bucket}/{name}-{}", std::process::id());
    let files = storage(at(&folder("files")));
    a_batch_is_a_file_for_each_hour_and_a_repetition_writes_over_it(&files).await;
    deliver_gets_what_it_is_owed(at(&folder("kit")), at("no-such-bucket"), None).await;

    let missing = storage(at("no-such-bucket"));
    let item = event("m-1", 0, "{}");
    let prepared = Prepared::of(&item, missing.transform(&item).unwrap());
    let outcomes = missing.deliver(vec![prepared]).await;
    assert!(matches!(outcomes[..], [ItemOutcome::Config(_)]), "{outcomes:?}");
}

#[tokio::test]
async fn files_in_s3_and_a_bucket_that_is_not_there_pauses() {
    let Ok(s3) = std::env::var("MILLRACE_TEST_S3") else {
        eprintln!("SKIPPED: MILLRACE_TEST_S3 names no bucket (integration-tests/servers/s3.sh starts one)");
        return;
    };
    let (endpoint, bucket) = s3.rsplit_once('/').unwrap();
    let at = |path: &str| {
        json!({"url": format!("s3://{path}"), "allow_private": true, "storage_options": {
            "endpoint": endpoint, "allow_http": "true", "region": "us-east-1", "access_key_id": "test",
            "secret_access_key": "secret-of-a-test"}})
    };
    files_in(at, bucket).await;
}

/// No server of Google's XML that runs here can be had: what its client asks for is looked at, and the answers
/// are those that Google documents.
#[tokio::test]
async fn googles_client_writes_a_file_and_a_bucket_that_is_not_there_pauses() {
    let missing = || Reply::status(404).body("<Error><Code>NoSuchBucket</Code></Error>");
    let listed = "<ListBucketResult><Name>b</Name><Prefix></Prefix><KeyCount>0</KeyCount></ListBucketResult>";
    let written = Reply::status(200).header("etag", "\"1\"").header("x-goog-generation", "1");
    let google = Stub::start([Reply::status(200).body(listed), written, missing(), missing()]).await.unwrap();
    let key = json!({"gcs_base_url": google.base(), "disable_oauth": true, "client_email": "",
        "private_key": "", "private_key_id": ""});
    let options = json!({"service_account_key": key.to_string(), "allow_http": "true"});
    let files = storage(json!({"url": "gs://b/raw", "allow_private": true, "storage_options": options}));

    files.check().await.unwrap();
    deliver(&files, &items()[..1]).await;
    let put = google.seen().remove(1);
    let path = percent_encoding::percent_decode_str(&put.path).decode_utf8().unwrap().into_owned();
    assert_eq!(put.method, "PUT");
    assert!(path.starts_with("/b/raw/source=web/date=2023-11-14/hour=22/"), "{path}");
    let mut text = String::new();
    GzDecoder::new(put.body.as_ref()).read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 1);

    let prepared = Prepared::of(&items()[0], files.transform(&items()[0]).unwrap());
    let outcomes = files.deliver(vec![prepared]).await;
    assert!(matches!(outcomes[..], [ItemOutcome::Config(_)]), "{outcomes:?}");
    files.check().await.unwrap_err();
}

#[tokio::test]
async fn files_in_azure_and_a_container_that_is_not_there_pauses() {
    let Ok(container) = std::env::var("MILLRACE_TEST_AZURE") else {
        eprintln!(
            "SKIPPED: MILLRACE_TEST_AZURE names no container (integration-tests/servers/azure.sh starts one)"
        );
        return;
    };
    // Its account and key are known; where it listens is in AZURITE_BLOB_STORAGE_URL.
    let at = |path: &str| json!({"url": format!("az://{path}"), "storage_options": {"use_emulator": "true"}});
    files_in(at, &container).await;
}
