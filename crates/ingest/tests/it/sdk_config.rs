//! What SDKs fetch before they send.

use millrace_ingest::Limits;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::stack::{Stack, WEB, answer};

#[tokio::test(flavor = "multi_thread")]
async fn rudderstacks_sdks_learn_that_their_source_is_on_and_has_no_destinations_of_its_own() {
    let stack = Stack::start().await;
    let get = |path: &str| stack.http.get(format!("{}{path}", stack.url));
    for request in [
        get("/sourceConfig/?p=npm&v=3.34.1&build=modern&writeKey=WK").header("authorization", WEB),
        get("/sourceConfig?p=android&v=1.27.0&bv=1").header("authorization", WEB),
        get("/sourceConfig/?writeKey=WK"),
    ] {
        let (status, body, _) = answer(request).await;
        assert_eq!(status, StatusCode::OK);
        let config: Value = serde_json::from_str(&body).unwrap();
        let source = &config["source"];
        assert_eq!(
            (&source["id"], &source["enabled"], &source["writeKey"]),
            (&json!("web"), &json!(true), &json!("WK"))
        );
        assert_eq!(source["destinations"], json!([]));
        assert_eq!(source["config"]["statsCollection"]["errors"]["enabled"], json!(false));
        assert_eq!(source["config"]["statsCollection"]["metrics"]["enabled"], json!(false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_off_says_so_and_an_unknown_key_is_refused() {
    let stack = Stack::start().await;
    let get = |path: &str| stack.http.get(format!("{}{path}", stack.url));
    let (status, body, _) = answer(get("/sourceConfig/?writeKey=DISABLED")).await;
    let config: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &config["source"]["enabled"]), (StatusCode::OK, &json!(false)));
    // Android and iOS look for the text, and stop for good.
    let (status, body, _) = answer(get("/sourceConfig/?writeKey=NOPE")).await;
    assert_eq!((status.as_u16(), body.as_str()), (401, "invalid write key\n"));
    assert_eq!(answer(get("/sourceConfig/")).await.0.as_u16(), 401);
    let probe = stack.http.head(format!("{}/sourceConfig/?view=ad", stack.url));
    assert_eq!(
        answer(probe).await.0,
        StatusCode::OK,
        "the JavaScript SDK looks for ad blockers without a key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_sdk_is_told_to_send_to_us() {
    let stack = Stack::start().await;
    let get = |path: &str| stack.http.get(format!("{}{path}", stack.url));
    let (status, body, _) = answer(get("/v1/projects/WK/settings")).await;
    assert_eq!(status, StatusCode::OK);
    let settings: Value = serde_json::from_str(&body).unwrap();
    let integrations = settings["integrations"].as_object().unwrap();
    assert_eq!(integrations.len(), 1, "nothing else is to be loaded");
    let ours = &integrations["Segment.io"];
    let host = stack.url.trim_start_matches("http://");
    assert_eq!(
        (&ours["apiKey"], &ours["apiHost"], &ours["protocol"]),
        (&json!("WK"), &json!(format!("{host}/v1")), &json!("http"))
    );
    assert_eq!(answer(get("/v1/projects/NOPE/settings")).await.1, "invalid write key\n");
    assert_eq!(answer(get("/v1/projects/DISABLED/settings")).await.1, "source is disabled\n");

    let behind_a_proxy =
        Stack::start_as(|options| options.public_url = Some("https://events.example.com".to_owned())).await;
    let asked = behind_a_proxy.http.get(format!("{}/v1/projects/WK/settings", behind_a_proxy.url));
    let settings: Value = serde_json::from_str(&answer(asked).await.1).unwrap();
    let ours = &settings["integrations"]["Segment.io"];
    assert_eq!((&ours["apiHost"], &ours["protocol"]), (&json!("events.example.com/v1"), &json!("https")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sdks_measure_of_themselves_is_taken_and_dropped() {
    // Nobody needs a key for it, so it takes none of the memory that others need.
    let stack = Stack::start_with(Limits { bytes_in_flight: 0, ..Limits::default() }).await;
    for path in ["/v1/m", "/rsaMetrics"] {
        let sent = stack.http.post(format!("{}{path}", stack.url)).body(r#"{"series":[]}"#);
        assert_eq!(answer(sent).await.0, StatusCode::OK, "{path}");
    }
    // What is not here is refused in the way after which the JavaScript SDK goes on without it.
    for path in ["/rsaRequest", "/transform"] {
        let sent = stack.http.post(format!("{}{path}", stack.url)).body("{}");
        assert_eq!(answer(sent).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(stack.stored().await.is_empty());
}
