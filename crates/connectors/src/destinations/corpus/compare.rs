//! Whether a request is the one a case expects.

use std::collections::{BTreeMap, BTreeSet};

use millrace_connector::{HttpRequest, RequestBody};
use reqwest::Url;
use serde_json::{Map, Value, json};

/// What differs, request by request; there are as many of the one as of the other.
pub(super) fn in_order(expected: &[&Value], made: &[HttpRequest], made_up: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, (expected, made)) in expected.iter().zip(made).enumerate() {
        found.extend(request(expected, made, made_up).into_iter().map(|text| format!("{number}: {text}")));
    }
    found
}

/// Whether each expected request has been made, and nothing else.
pub(super) fn are_in_any_order(expected: &[&Value], mut made: Vec<HttpRequest>, made_up: &[&str]) -> bool {
    for expected in expected {
        let same = made.iter().position(|made| request(expected, made, made_up).is_empty());
        let Some(place) = same else { return false };
        made.remove(place);
    }
    made.is_empty()
}

/// What differs. Headers count without case and order, parameters wherever they stand, numbers by value,
/// and text that is a JSON document by what it says. Content type and host are the client's matter.
fn request(expected: &Value, made: &HttpRequest, made_up: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    if expected["method"] != made.method {
        found.push(format!("method: {} instead of {}", made.method, expected["method"]));
    }
    let mut comparison = Comparison { made_up, found };
    let endpoint = expected["endpoint"].as_str().unwrap_or_default();
    let (url, query) = address(endpoint, pairs(&expected["params"]));
    let (made_url, made_query) = address(&made.url, made.query.clone());
    comparison.value("url", &url, &made_url);
    comparison.value("query", &query, &made_query);
    comparison.value("headers", &headers(pairs(&expected["headers"])), &headers(made.headers.clone()));
    comparison.value("body", &expected_body(&expected["body"]), &made_body(&made.body));
    comparison.found
}

/// A URL without its query, and all parameters.
fn address(url: &str, mut query: Vec<(String, String)>) -> (Value, Value) {
    let Ok(mut parsed) = Url::parse(url) else { return (json!(url), map(query)) };
    query.extend(parsed.query_pairs().into_owned());
    parsed.set_query(None);
    (json!(parsed.as_str()), map(query))
}

/// An object's fields as texts; what is null is not there.
fn pairs(object: &Value) -> Vec<(String, String)> {
    let fields = object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.clone(), text(value))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn map(pairs: Vec<(String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
}

fn headers(pairs: Vec<(String, String)>) -> Value {
    let named: BTreeMap<_, _> = pairs.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
    let ours = |name: &String| !matches!(name.as_str(), "content-type" | "host" | "user-agent");
    map(named.into_iter().filter(|(name, _)| ours(name)).collect())
}

/// The format that has something in it, and what. Compressed bodies count as what they hold.
fn expected_body(body: &Value) -> Value {
    let filled = |format: &str| body[format].as_object().filter(|fields| !fields.is_empty());
    if let Some(fields) = filled("JSON") {
        return json!({ "json": fields });
    }
    for (format, field) in [("JSON_ARRAY", "batch"), ("GZIP", "payload")] {
        if let Some(document) = filled(format) {
            let content = document.get(field).map(text).unwrap_or_default();
            return json!({ "json": serde_json::from_str::<Value>(&content).unwrap_or_default() });
        }
    }
    if let Some(document) = filled("XML") {
        return json!({ "xml": document.get("payload") });
    }
    filled("FORM").map_or(Value::Null, |fields| json!({ "form": form(fields) }))
}

/// A form's fields; a list of one is that one.
fn form(fields: &Map<String, Value>) -> Map<String, Value> {
    let one = |value: &Value| match value {
        Value::Array(list) if list.len() == 1 => json!(text(&list[0])),
        other => json!(text(other)),
    };
    fields.iter().map(|(name, value)| (name.clone(), one(value))).collect()
}

fn made_body(body: &RequestBody) -> Value {
    match body {
        RequestBody::None => Value::Null,
        RequestBody::Json(bytes) | RequestBody::JsonArray(bytes) => {
            match serde_json::from_slice::<Value>(bytes).unwrap() {
                // Theirs tell an empty object from no body as little.
                Value::Object(fields) if fields.is_empty() => Value::Null,
                document => json!({ "json": document }),
            }
        }
        RequestBody::Form(fields) if fields.is_empty() => Value::Null,
        RequestBody::Form(fields) => json!({ "form": map(fields.clone()) }),
        RequestBody::Xml(text) => json!({ "xml": text }),
    }
}

struct Comparison<'a> {
    made_up: &'a [&'a str],
    found: Vec<String>,
}

impl Comparison<'_> {
    fn value(&mut self, path: &str, expected: &Value, made: &Value) {
        match (expected, made) {
            (Value::Object(left), Value::Object(right)) => self.objects(path, left, right),
            (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
                for (number, (left, right)) in left.iter().zip(right).enumerate() {
                    self.value(&format!("{path}[{number}]"), left, right);
                }
            }
            (Value::Number(left), Value::Number(right)) if left.as_f64() == right.as_f64() => {}
            (Value::String(left), Value::String(right)) if left != right => {
                match (document(left), document(right)) {
                    // Their server puts a form's list into brackets, which the case does not show.
                    (Some(left @ Value::Object(_)), Some(Value::Array(list))) if list.len() == 1 => {
                        self.value(path, &left, &list[0]);
                    }
                    (Some(left), Some(right)) => self.value(path, &left, &right),
                    _ => self.found.push(format!("{path}: {made} instead of {expected}")),
                }
            }
            (expected, made) if expected == made => {}
            _ => self.found.push(format!("{path}: {made} instead of {expected}")),
        }
    }

    fn objects(&mut self, path: &str, expected: &Map<String, Value>, made: &Map<String, Value>) {
        let names: BTreeSet<&String> = expected.keys().chain(made.keys()).collect();
        for name in names {
            let path = format!("{path}.{name}");
            match (expected.get(name), made.get(name)) {
                (Some(_), Some(_)) if self.made_up.contains(&name.as_str()) => {}
                (Some(left), Some(right)) => self.value(&path, left, right),
                (Some(left), None) => self.found.push(format!("{path} is missing: {left}")),
                (None, Some(right)) => self.found.push(format!("{path} is too much: {right}")),
                (None, None) => {}
            }
        }
    }
}

/// The JSON object or list that a text is.
fn document(text: &str) -> Option<Value> {
    let parsed = serde_json::from_str::<Value>(text).ok();
    parsed.filter(|value| value.is_object() || value.is_array())
}
