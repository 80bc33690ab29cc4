//! One field of a mapping: where its value comes from and what is done to it.

use millrace_transform::{Expression, Function, Scope};
use serde_json::Value;

use super::functions;
use super::spec::{Field, FieldKind};
use crate::http::path;

/// A field whose expressions and functions have been found.
pub(super) struct CompiledField {
    from: Vec<String>,
    expression: Option<Expression>,
    value: Option<Value>,
    default: Option<Value>,
    apply: Vec<Function>,
    kind: Option<FieldKind>,
    omit: Vec<String>,
    pub(super) required: bool,
}

impl CompiledField {
    /// What is wrong is said with the key that it stands under.
    pub(super) fn new(
        field: &Field,
        compile: impl Fn(&str) -> Result<Expression, String>,
    ) -> Result<Self, (&'static str, String)> {
        let sources = usize::from(!field.from.is_empty())
            + usize::from(field.expr.is_some())
            + usize::from(field.value.is_some());
        if sources != 1 {
            return Err(("", "a field has one of from, expr and value".to_owned()));
        }
        let expression = field.expr.as_deref().map(compile).transpose().map_err(|told| ("expr", told))?;
        let mut apply = Vec::with_capacity(field.apply.len());
        for name in &field.apply {
            let function = functions::find(name);
            apply.push(function.ok_or_else(|| ("apply", format!("there is no function {name:?}")))?);
        }
        Ok(Self {
            from: field.from.clone(),
            expression,
            value: field.value.clone(),
            default: field.default.clone(),
            apply,
            kind: field.kind,
            omit: field.omit.clone(),
            required: field.required,
        })
    }

    /// Its value; `Null` where there is none, or a text that came out empty. The error names no value.
    pub(super) fn value(&self, fields: &Value, scope: &Scope) -> Result<Value, String> {
        let mut value = match (&self.expression, &self.value) {
            (Some(expression), _) => expression.evaluate(scope).map_err(|error| error.to_string())?,
            (None, Some(value)) => value.clone(),
            (None, None) => self.first(fields),
        };
        if let Value::Object(object) = &mut value {
            object.retain(|name, _| !self.omit.iter().any(|left_out| left_out == name));
        }
        for function in &self.apply {
            value = function(&value, &[])?;
        }
        if let Some(kind) = self.kind {
            value = convert(kind, &value);
        }
        // A fixed value is what it is.
        let missing = value.is_null() || self.value.is_none() && !says_something(&value);
        Ok(if missing { self.default.clone().unwrap_or(Value::Null) } else { value })
    }

    /// Where its value comes from, as it is written; `None` where that is no path.
    pub(super) fn source(&self) -> Option<String> {
        let paths = self.from.iter().map(|path| format!("{path:?}"));
        (!self.from.is_empty()).then(|| paths.collect::<Vec<_>>().join(" or "))
    }

    fn first(&self, fields: &Value) -> Value {
        let mut found = self.from.iter().filter_map(|at| path::get(fields, at));
        found.find(|value| says_something(value)).cloned().unwrap_or(Value::Null)
    }
}

/// `null` and the empty text say nothing.
fn says_something(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

fn convert(kind: FieldKind, value: &Value) -> Value {
    match kind {
        FieldKind::String => functions::string(value),
        FieldKind::Integer => functions::integer(value),
        FieldKind::Number => functions::number(value),
        FieldKind::Boolean => functions::boolean(value),
        FieldKind::UnixSeconds => functions::seconds(value),
        FieldKind::UnixMillis => functions::millis(value),
        FieldKind::Timestamp => functions::timestamp(value),
    }
}
