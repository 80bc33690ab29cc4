//! One item to requests, by the actions of a file: pure.

use std::sync::Arc;

use bytes::Bytes;
use millrace_connector::{Document, HttpRequest, RequestBody};
use millrace_event_model::{ChangeOp, Reason};
use millrace_transform::{EvaluationError, Scope, Template};
use serde_json::{Map, Value};

use super::compile::{Compiled, CompiledAction};
use super::spec::{Format, OnNull};
use crate::http::{Mapper, path};

/// A file's actions with an instance's settings.
pub(super) struct DeclaredMapper {
    pub(super) compiled: Arc<Compiled>,
    pub(super) settings: Value,
    /// Without a slash at its end.
    pub(super) base_url: String,
    /// Headers and query of every request, credentials among them.
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
}

impl Mapper for DeclaredMapper {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let scope = Scope::new(document.fields(), &[("settings", &self.settings)]);
        // Paths read the very fields; they are only borrowed here.
        let fields = Value::Object(document.fields().clone());
        let mut requests = Vec::new();
        for action in self.compiled.actions.iter().filter(|action| action.takes(document.op(), &scope)) {
            if let Some((_, reason)) = action.reject.iter().find(|(when, _)| when.holds(&scope)) {
                return Err(Reason::new("rejected_by_rule", reason.as_str()));
            }
            requests.push(self.request(action, &fields, &scope)?);
        }
        Ok(requests)
    }

    fn takes_deletes(&self) -> bool {
        self.compiled.actions.iter().any(|action| action.deletes)
    }
}

impl DeclaredMapper {
    fn request(&self, action: &CompiledAction, fields: &Value, scope: &Scope) -> Result<HttpRequest, Reason> {
        let failed = |part: &str| {
            let (action, part) = (action.name.clone(), part.to_owned());
            move |error: EvaluationError| mapping_failed(&action, &part, &error.to_string())
        };
        let path = action.path.render_full(scope, percent_encoded).map_err(failed("request.path"))?;
        let path = path.map_err(|part| missing(&format!("{part:?}"), &action.name, "its path"))?;
        let mut request = HttpRequest::new(action.method.clone(), format!("{}{path}", self.base_url));
        request.headers.clone_from(&self.headers);
        request.query.clone_from(&self.query);
        let shared = self.compiled.headers.iter();
        let headers = rendered(shared.chain(&action.headers), scope).map_err(failed("headers"))?;
        request.headers.extend(headers);
        request.query.extend(rendered(action.query.iter(), scope).map_err(failed("request.query"))?);
        if action.format == Format::None {
            return Ok(request);
        }
        let body = match &action.body {
            Some(expression) => expression.evaluate(scope).map_err(failed("request.body"))?,
            None if action.whole => fields.clone(),
            None => mapped(action, fields, scope)?,
        };
        let mut with = Vec::with_capacity(action.with.len());
        for (name, expression) in &action.with {
            with.push((name.clone(), expression.evaluate(scope).map_err(failed("request.with"))?));
        }
        let (content_type, body) = written(action, body, with)?;
        request.body = body;
        if !request.headers.iter().any(|(name, _)| name == "content-type") {
            request.headers.push(("content-type".to_owned(), content_type.to_owned()));
        }
        Ok(request)
    }
}

impl CompiledAction {
    fn takes(&self, op: Option<ChangeOp>, scope: &Scope) -> bool {
        let of_its_kind = match op {
            None | Some(ChangeOp::Upsert) => self.upserts,
            Some(ChangeOp::Delete) => self.deletes,
        };
        of_its_kind && self.when.as_ref().is_none_or(|when| when.holds(scope))
    }
}

fn rendered<'t>(
    templates: impl Iterator<Item = &'t (String, Template)>,
    scope: &Scope,
) -> Result<Vec<(String, String)>, EvaluationError> {
    let mut pairs = Vec::new();
    for (name, template) in templates {
        if let Ok(text) = template.render(scope, str::to_owned)? {
            pairs.push((name.clone(), text));
        }
    }
    Ok(pairs)
}

/// The mapped object.
fn mapped(action: &CompiledAction, fields: &Value, scope: &Scope) -> Result<Value, Reason> {
    let mut body = Value::Object(Map::new());
    for (target, field) in &action.map {
        let value = field
            .value(fields, scope)
            .map_err(|problem| mapping_failed(&action.name, &target.join("."), &problem))?;
        if value.is_null() {
            if field.required {
                let target = target.join(".");
                let missed = field.source().unwrap_or_else(|| format!("a value for {target:?}"));
                return Err(missing(&missed, &action.name, &format!("{target:?}")));
            }
            if action.on_null == OnNull::Omit {
                continue;
            }
        }
        put(&mut body, target, value);
    }
    Ok(body)
}

fn put(body: &mut Value, target: &[String], value: Value) {
    let mut at = body;
    for name in target {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(fields) = at else { return };
        at = fields.entry(name.clone()).or_insert(Value::Null);
    }
    *at = value;
}

fn written(
    action: &CompiledAction,
    body: Value,
    with: Vec<(String, Value)>,
) -> Result<(&'static str, RequestBody), Reason> {
    match action.format {
        Format::None => Ok(("", RequestBody::None)),
        Format::Json => {
            let mut body = body;
            if let Some(array) = &action.array {
                let element = std::mem::take(&mut body);
                body = Value::Object(Map::new());
                path::put(&mut body, array, Value::Array(vec![element]));
            }
            if let Value::Object(fields) = &mut body {
                fields.extend(with);
            }
            let bytes = Bytes::from(body.to_string());
            let json = if body.is_array() { RequestBody::JsonArray(bytes) } else { RequestBody::Json(bytes) };
            Ok(("application/json", json))
        }
        Format::Form => {
            let Value::Object(fields) = body else {
                return Err(mapping_failed(&action.name, "request.body", "a form is made of an object"));
            };
            let text = |value: Value| match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            let fields = fields.into_iter().chain(with).map(|(name, value)| (name, text(value)));
            Ok(("application/x-www-form-urlencoded", RequestBody::Form(fields.collect())))
        }
        Format::Xml => {
            let text = crate::http::xml::document(&body)
                .map_err(|problem| mapping_failed(&action.name, "request.body", problem))?;
            Ok(("application/xml", RequestBody::Xml(text)))
        }
    }
}

/// What is missing, in the words of the event, and what it was needed for.
fn missing(missed: &str, action: &str, part: &str) -> Reason {
    Reason::new("missing_field", format!("{missed} is missing: action {action:?} needs it for {part}"))
}

fn mapping_failed(action: &str, part: &str, problem: &str) -> Reason {
    Reason::new("mapping_failed", format!("action {action:?}, {part:?}: {problem}"))
}

/// As a part of a path: only what RFC 3986 calls unreserved stays.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
