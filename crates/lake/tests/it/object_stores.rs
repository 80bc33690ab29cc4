//! What is particular to a lake in an object store.

use millrace_connector::{Warehouse, WriteMode};
use millrace_event_model::FieldType::{DateTime, String as Text};
use millrace_lake::LakeSettings;

use crate::rig::{
    With, connection, in_azure, in_s3, kafka, load, open_with, pause_code, query, rows, schema, text,
};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_live_loaders_on_an_object_store_the_older_is_refused() {
    for settings in [in_s3("fence"), in_azure("fence")].into_iter().flatten() {
        check_fence(&settings).await;
    }
}

async fn check_fence(settings: &LakeSettings) {
    let (older, newer) = (open_with(settings), open_with(settings));
    let columns = [("id", Text), ("received_at", DateTime)];
    let create = millrace_connector::SchemaChange::CreateTable {
        table: "tracks".to_owned(),
        columns: schema(&columns),
    };
    older.apply("web", &[create]).await.unwrap();
    older.resume(&connection(), 1, &kafka()).await.unwrap();
    let batch = |id: &str| rows(columns, vec![[text(id), millrace_columnar::Cell::DateTime(0)]]);
    older.load(load(0, 1).rows("tracks", batch("a"), WriteMode::Append).seen(&[1])).await.unwrap();
    newer.resume(&connection(), 2, &kafka()).await.unwrap();
    let stale = load(1, 2).rows("tracks", batch("stale"), WriteMode::Append);
    assert_eq!(pause_code(older.load(stale).await), "fenced_off");
    newer.load(load(1, 2).rows("tracks", batch("b"), WriteMode::Append).epoch(2)).await.unwrap();
    let found =
        query(&newer, "SELECT id FROM web.tracks WHERE millrace_date = '1970-01-01' ORDER BY id").await;
    assert_eq!(found.unwrap(), ["id=a", "id=b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_an_error_that_names_what_was_tried() {
    let Some(mut settings) = in_s3("missing") else { return };
    settings.url = "s3://no-such-bucket/lake".to_owned();
    let error = open_with(&settings).check().await.unwrap_err();
    assert!(error.full().contains("cannot write to the lake"), "{}", error.full());
}
