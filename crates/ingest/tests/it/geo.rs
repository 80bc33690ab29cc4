//! Where clients are.

use std::path::Path;
use std::time::Duration;

use millrace_event_model::Geo;
use millrace_ingest::{GeoError, Locator};
use reqwest::StatusCode;
use tempfile::TempDir;

use crate::mmdb::{country, database, place};
use crate::stack::{STRICT, Stack, WEB, answer, eventually};

const OFTEN: Duration = Duration::from_millis(20);

/// A stack whose database knows these addresses, and the folder with it.
async fn located(known: &[u8]) -> (Stack, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("City.mmdb");
    std::fs::write(&file, known).unwrap();
    let locator = Locator::open(&file, OFTEN).unwrap();
    (Stack::start_as(|options| options.locator = Some(locator)).await, folder)
}

async fn send(stack: &Stack, key: &str, from: &str, event: &str) {
    let request = stack.post("/v1/track", key).header("x-forwarded-for", from.to_owned());
    assert_eq!(answer(request.body(event.to_owned())).await.0, StatusCode::OK);
}

/// The places of all events that are stored, by message id.
async fn places(stack: &Stack) -> Vec<(String, Option<String>)> {
    stack.events().await.into_iter().map(|(id, event)| (id, event.geo.map(String::from))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_says_where_its_client_is_as_far_as_the_policy_allows() {
    let known =
        [("203.0.113.7", place("Boxford")), ("2001:db8::1", country()), ("192.0.2.1", place("Abingdon"))];
    let (stack, _folder) = located(&database(&known)).await;
    let address = "203.0.113.7";
    send(&stack, WEB, address, r#"{"userId":"u","messageId":"1 whole"}"#).await;
    send(&stack, STRICT, address, r#"{"userId":"u","messageId":"2 strict"}"#).await;
    send(&stack, WEB, "2001:db8::1", r#"{"userId":"u","messageId":"3 country","context":{}}"#).await;
    send(&stack, WEB, "198.51.100.1", r#"{"userId":"u","messageId":"4 unknown"}"#).await;
    let own = r#"{"userId":"u","messageId":"5 of the context","context":{"ip":"192.0.2.1"}}"#;
    send(&stack, WEB, address, own).await;
    let own = r#"{"userId":"u","messageId":"6 its own","context":{"geo":{"country":"DE"}}}"#;
    send(&stack, WEB, address, own).await;
    let own = r#"{"userId":"u","messageId":"7 of the body","request_ip":"192.0.2.1","context":{"ip":""}}"#;
    send(&stack, WEB, address, own).await;

    let whole = |ip: &str, city: &str| {
        let rest = r#""country":"GB","region":"England","postal":"OX1","location":"51.750000,-1.250000","timezone":"Europe/London""#;
        Some(format!(r#"{{"ip":"{ip}","city":"{city}",{rest}}}"#))
    };
    let strict = r#"{"ip":"203.0.113.0","country":"GB","region":"England","timezone":"Europe/London"}"#;
    let expected = [
        ("1 whole", whole(address, "Boxford")),
        ("2 strict", Some(strict.to_owned())),
        ("3 country", Some(r#"{"ip":"2001:db8::1","country":"FR"}"#.to_owned())),
        ("4 unknown", None),
        ("5 of the context", whole("192.0.2.1", "Abingdon")),
        ("6 its own", None),
        ("7 of the body", whole("192.0.2.1", "Abingdon")),
    ];
    assert_eq!(places(&stack).await, expected.map(|(id, geo)| (id.to_owned(), geo)));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_batch_has_its_own_place() {
    let known = [("203.0.113.7", place("Boxford")), ("192.0.2.1", place("Abingdon"))];
    let (stack, _folder) = located(&database(&known)).await;
    let batch = r#"{"batch":[
        {"type":"track","userId":"u","messageId":"1"},
        {"type":"track","userId":"u","messageId":"2","context":{"ip":"192.0.2.1"}},
        {"type":"track","userId":"u","messageId":"3"}]}"#;
    let request = stack.post("/v1/batch", WEB).header("x-forwarded-for", "203.0.113.7").body(batch);
    assert_eq!(answer(request).await.0, StatusCode::OK);
    let cities: Vec<_> =
        stack.events().await.into_values().map(|event| event.place().unwrap().city.unwrap()).collect();
    assert_eq!(cities, ["Boxford", "Abingdon", "Boxford"]);
}

/// Where the next event is said to come from.
async fn city(stack: &Stack) -> Option<String> {
    let id = uuid::Uuid::new_v4().to_string();
    send(stack, WEB, "203.0.113.7", &format!(r#"{{"userId":"u","messageId":"{id}"}}"#)).await;
    stack.events().await[&id].place().and_then(|geo: Geo| geo.city)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_is_taken_and_a_broken_one_is_not() {
    let (stack, folder) = located(&database(&[("203.0.113.7", place("Boxford"))])).await;
    let replace = |content: &[u8]| {
        let fresh = folder.path().join("fresh");
        std::fs::write(&fresh, content).unwrap();
        std::fs::rename(fresh, folder.path().join("City.mmdb")).unwrap();
    };
    assert_eq!(city(&stack).await.as_deref(), Some("Boxford"));
    let second = database(&[("203.0.113.7", place("New Boxford"))]);
    replace(&second[..second.len() - 40]);
    tokio::time::sleep(OFTEN * 5).await;
    assert_eq!(city(&stack).await.as_deref(), Some("Boxford"), "half of a file is none");
    replace(&second);
    eventually("the new database is in use", async || city(&stack).await.as_deref() == Some("New Boxford"))
        .await;
    std::fs::remove_file(folder.path().join("City.mmdb")).unwrap();
    tokio::time::sleep(OFTEN * 5).await;
    assert_eq!(city(&stack).await.as_deref(), Some("New Boxford"), "without the file, too");
    assert!(stack.health.readiness().ready);
}

#[test]
fn what_is_no_database_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("City.mmdb");
    let open = |file: &Path| Locator::open(file, OFTEN).unwrap_err();
    assert!(matches!(open(&file), GeoError::Unreadable { .. }));
    let mut damaged = database(&[("203.0.113.7", place("Boxford"))]);
    damaged[3] = 0xff;
    for content in [&b""[..], b"text", &damaged] {
        std::fs::write(&file, content).unwrap();
        let error = open(&file);
        assert!(matches!(error, GeoError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains("City.mmdb"), "{error}");
    }
}
