//! The recorded cases of the gateway's protocol, where the corpora are at hand.

use std::path::{Path, PathBuf};

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::stack::Stack;

/// Cases whose state the runner does not make: they have tests of their own. A broker that is away is 503
/// here, which is meant.
fn is_elsewhere(case: &Value) -> bool {
    let name = case["name"].as_str().unwrap();
    ["rate limited", "suppressed user: 200, nothing stored", "store failure"].contains(&name)
}

/// What the corpus calls the source and the destination of the stage.
fn ours(name: &str, value: &str) -> String {
    match (name, value) {
        ("X-Rudder-Source-Id", "SRC") => "web".to_owned(),
        ("X-Rudder-Destination-Id", "DISABLED") => "off".to_owned(),
        (_, value) => value.to_owned(),
    }
}

pub(crate) fn corpora() -> Option<PathBuf> {
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
    let stack = Stack::start_as(|options| options.internal = true).await;
    let (mut passed, mut wrong) = (0, Vec::new());
    for case in cases {
        let response = request(&stack, case).send().await.unwrap();
        let status = u64::from(response.status().as_u16());
        let headers = response.headers().clone();
        let body = response.bytes().await.unwrap();
        let expected = &case["response"];
        let same_body = match expected["body"]["hex"].as_str() {
            Some(hex) => {
                hex == hexadecimal(&body)
                    && expected["body"]["content_type"] == headers["content-type"].to_str().unwrap()
            }
            None => expected["body"].as_str().unwrap().as_bytes() == body,
        };
        if expected["status"] == status && same_body {
            passed += 1;
        } else if !is_elsewhere(case) {
            wrong.push(format!("{}: {status} {body:?}", case["name"]));
        }
    }
    eprintln!("{passed} of {} cases", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn request(stack: &Stack, case: &Value) -> RequestBuilder {
    let request = &case["request"];
    let method: Method = request["method"].as_str().unwrap().parse().unwrap();
    let url = format!("{}{}", stack.url, request["path"].as_str().unwrap());
    let mut builder = stack.http.request(method, url);
    for (name, value) in request["headers"].as_object().unwrap() {
        builder = builder.header(name, ours(name, value.as_str().unwrap()));
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
