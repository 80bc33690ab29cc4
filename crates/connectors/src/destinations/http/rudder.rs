//! RudderStack's HTTP destination: its mappings are pairs of JSONPaths and constants.

use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use crate::destinations::shared::rudder::{Config, settings};

/// Our settings, of their `Config`.
pub(super) fn translate(config: &Value) -> Result<Value, Reason> {
    let read = Config(config);
    let Some(url) = read.text("apiUrl") else { return Err(wrong("apiUrl is missing".to_owned())) };
    let mut map = Map::new();
    for (from, to) in pairs(config, "propertiesMapping", "from") {
        let target: Vec<String> = steps(to)?.iter().map(|step| step.replace('.', "\\.")).collect();
        map.insert(target.join("."), field(from)?);
    }
    let mut path = Vec::new();
    for (part, _) in pairs(config, "pathParams", "path") {
        path.push(json!(template(part)?));
    }
    let method = read.text("method").unwrap_or("POST").to_uppercase();
    let body = if map.is_empty() || matches!(method.as_str(), "GET" | "DELETE") { "none" } else { "map" };
    let format = read.text("format").unwrap_or("JSON").to_lowercase();
    let batched = read.on("isBatchingEnabled") && format == "json" && body == "map";
    let batch = batched.then(|| json!({ "max_items": batch_size(config) }));
    Ok(settings([
        ("url", Some(json!(url))),
        ("method", Some(json!(method))),
        ("auth", Some(auth(&read))),
        ("path", Some(Value::Array(path))),
        ("headers", Some(templates(config, "headers")?)),
        ("query", Some(templates(config, "queryParams")?)),
        ("body", Some(json!(body))),
        ("map", Some(Value::Object(map))),
        ("format", Some(json!(format))),
        ("xml_root", (format == "xml").then(|| json!(read.text("xmlRootKey").unwrap_or("root")))),
        ("batch", batch),
    ]))
}

/// RudderStack's own default.
const BATCH_SIZE: u64 = 100;

/// A number, or a text that is one.
fn batch_size(config: &Value) -> u64 {
    let size = config.get("maxBatchSize");
    let number = size.and_then(|size| size.as_u64().or_else(|| size.as_str()?.trim().parse().ok()));
    number.unwrap_or(BATCH_SIZE).max(1)
}

fn auth(read: &Config<'_>) -> Value {
    let text = |name: &str| read.text(name).unwrap_or_default();
    match text("auth") {
        "basicAuth" => json!({"type": "basic", "username": text("username"), "password": text("password")}),
        "bearerTokenAuth" => json!({"type": "bearer", "token": text("bearerToken")}),
        "apiKeyAuth" => json!({"type": "header", "name": text("apiKeyName"), "value": text("apiKeyValue")}),
        _ => json!({"type": "none"}),
    }
}

/// The filled-in entries of a list: the text under `main`, and that under `to`.
fn pairs<'c>(config: &'c Value, list: &str, main: &'c str) -> impl Iterator<Item = (&'c str, &'c str)> {
    let entries = config.get(list).and_then(Value::as_array).into_iter().flatten();
    let text =
        |entry: &'c Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().trim();
    entries.map(move |entry| (text(entry, main), text(entry, "to"))).filter(|(main, _)| !main.is_empty())
}

fn templates(config: &Value, list: &str) -> Result<Value, Reason> {
    let mut templates = Map::new();
    for (from, to) in pairs(config, list, "from") {
        templates.insert(steps(to)?.join("."), json!(template(from)?));
    }
    Ok(Value::Object(templates))
}

/// A JSONPath as an expression in a template; anything else as it stands.
fn template(from: &str) -> Result<String, Reason> {
    if !from.starts_with('$') {
        return Ok(from.trim_matches('\'').to_owned());
    }
    let steps = steps(from)?;
    let mut expression = String::new();
    for (number, step) in steps.iter().enumerate() {
        match number {
            0 => expression.push_str(step),
            // Names that are no identifiers stand in brackets.
            _ => expression.push_str(&format!("[{}]", Value::from(step.as_str()))),
        }
    }
    Ok(format!("{{{{ {expression} }}}}"))
}

/// A JSONPath as a path of ours; anything else as a constant.
fn field(from: &str) -> Result<Value, Reason> {
    if from.starts_with('$') {
        return Ok(json!({ "from": steps(from)?.join(".") }));
    }
    let constant = serde_json::from_str(from).unwrap_or_else(|_| json!(from.trim_matches('\'')));
    Ok(json!({ "value": constant }))
}

/// The names of a JSONPath such as `$.traits['first name']`. A text without `$` is one name.
fn steps(path: &str) -> Result<Vec<String>, Reason> {
    let Some(mut rest) = path.strip_prefix('$') else { return Ok(vec![path.to_owned()]) };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, behind) = step(rest).ok_or_else(|| {
            wrong(format!(
                "the JSONPath {path:?} is not one of names alone: write an expression in a YAML connector"
            ))
        })?;
        steps.push(step);
        rest = behind;
    }
    if steps.is_empty() {
        return Err(wrong(format!("the JSONPath {path:?} names nothing")));
    }
    Ok(steps)
}

fn step(path: &str) -> Option<(String, &str)> {
    if let Some(inner) = path.strip_prefix('[') {
        let (name, behind) = inner.split_once(']')?;
        let name = name.trim_matches(['\'', '"']);
        return (!name.contains(['*', '?', ':'])).then(|| (name.to_owned(), behind));
    }
    let inner = path.strip_prefix('.')?;
    if let Some(quoted) = inner.strip_prefix('\'') {
        let (name, behind) = quoted.split_once('\'')?;
        return Some((name.to_owned(), behind));
    }
    let end = inner.find(['.', '[']).unwrap_or(inner.len());
    let (name, behind) = inner.split_at(end);
    (!name.is_empty() && name != "*").then(|| (name.to_owned(), behind))
}

fn wrong(problem: String) -> Reason {
    Reason::new("invalid_settings", problem)
}
