//! The expression language for those who bring functions of their own: connectors in YAML.

use std::collections::HashSet;
use std::fmt;

use minijinja::value::{Rest, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use crate::expression::{Compiled, ExpressionError, environment};

/// A function that expressions may use as a filter: `value | name(arguments)`. It is pure. The error says
/// what is wrong with the value, without the value.
pub type Function = fn(&Json, &[Json]) -> Result<Json, &'static str>;

/// The expression language with more functions. It is made once, as a `LazyLock`: what it compiles
/// borrows from it.
pub struct Language(Environment<'static>);

impl Language {
    /// The language with these functions beside those of [minijinja](https://docs.rs/minijinja).
    #[must_use]
    pub fn with(functions: &[(&'static str, Function)]) -> Self {
        let mut environment = environment();
        // What is null in the event is as good as missing, see [`Scope`].
        environment.add_test("none", |value: &Value| value.is_none() || value.is_undefined());
        for (name, function) in functions.iter().copied() {
            environment.add_filter(name, move |value: Value, arguments: Rest<Value>| {
                let arguments = arguments.iter().map(json).collect::<Result<Vec<_>, _>>()?;
                match function(&json(&value)?, &arguments) {
                    Ok(made) => Ok(Value::from(Serde(&made))),
                    Err(problem) => Err(Error::new(ErrorKind::InvalidOperation, problem)),
                }
            });
        }
        Self(environment)
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// It is none; the error says where.
    pub fn compile(&'static self, source: &str) -> Result<Expression, ExpressionError> {
        Ok(Expression(Compiled::within(&self.0, source)?))
    }

    /// Compiles a text with expressions in it: `https://{{ settings.region }}.example.com`.
    ///
    /// # Errors
    /// One of them is none, or has no end.
    pub fn template(&'static self, source: &str) -> Result<Template, ExpressionError> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((literal, after)) = rest.split_once("{{") {
            let at = source.len() - after.len();
            let Some((expression, behind)) = after.split_once("}}") else {
                let problem = "{{ has no }} behind it".to_owned();
                return Err(ExpressionError { problem, at: Some(at.saturating_sub(2)) });
            };
            push_literal(&mut parts, literal);
            let compiled = self
                .compile(expression)
                .map_err(|error| ExpressionError { at: Some(at + error.at.unwrap_or_default()), ..error })?;
            parts.push(Part::Expression(compiled, expression.trim().to_owned()));
            rest = behind;
        }
        push_literal(&mut parts, rest);
        Ok(Template(parts))
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Language")
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.to_owned()));
    }
}

/// A value of the language as JSON; what is undefined is null.
fn json(value: &Value) -> Result<Json, Error> {
    serde_json::to_value(value)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "a value is not one that JSON has"))
}

/// What expressions may name. Made once for all expressions about one thing.
///
/// A null in it is as good as missing: the language has no text for what is missing, and writes `None` for
/// null, so that `firstName ~ lastName` would tell a vendor of a Mr None.
#[derive(Clone)]
pub struct Scope(Value);

impl Scope {
    /// The fields of an object, and more names, which win.
    #[must_use]
    pub fn new(fields: &Map<String, Json>, more: &[(&str, &Json)]) -> Self {
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value));
        let pairs = fields.chain(more.iter().copied());
        Self(Value::from_pairs(pairs.map(|(name, value)| (name.to_owned(), of_json(value)))))
    }
}

/// JSON as a value of the language; what is null is undefined.
fn of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::UNDEFINED,
        Json::Array(list) => list.iter().map(of_json).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, value)| (name.to_owned(), of_json(value))))
        }
        other => Value::from(Serde(other)),
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scope")
    }
}

/// Why an expression has no value. It names no value of the scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluationError(String);

impl EvaluationError {
    fn of(error: &Error) -> Self {
        // The detail of our own functions holds no values; that of others may quote them.
        match (error.kind(), error.detail()) {
            (ErrorKind::InvalidOperation, Some(detail)) if !detail.contains(['"', '\'', '`']) => {
                Self(detail.to_owned())
            }
            (kind, _) => Self(kind.to_string()),
        }
    }
}

/// A compiled expression.
pub struct Expression(Compiled);

impl Expression {
    /// Its value; what is undefined is null.
    ///
    /// # Errors
    /// It fails, or runs too long.
    pub fn evaluate(&self, scope: &Scope) -> Result<Json, EvaluationError> {
        let value = self.0.evaluate(scope.0.clone()).map_err(|error| EvaluationError::of(&error))?;
        json(&value).map_err(|error| EvaluationError::of(&error))
    }

    /// What it reads: names, and paths where they are written out (`traits.email`).
    #[must_use]
    pub fn paths(&self) -> HashSet<String> {
        self.0.paths()
    }

    /// Whether it is true. One that fails is not.
    #[must_use]
    pub fn holds(&self, scope: &Scope) -> bool {
        self.0.evaluate(scope.0.clone()).is_ok_and(|value| value.is_true())
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expression")
    }
}

/// A text with expressions in it.
#[derive(Debug)]
pub struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Literal(String),
    /// With its source, for people.
    Expression(Expression, String),
}

impl Template {
    /// The text, each value as `escape` writes it. `Err` within: the first expression whose value is missing
    /// or null, as it is written.
    ///
    /// # Errors
    /// An expression fails.
    pub fn render<'t>(
        &'t self,
        scope: &Scope,
        escape: fn(&str) -> String,
    ) -> Result<Result<String, &'t str>, EvaluationError> {
        self.write(scope, escape, |_| false)
    }

    /// As [`Self::render`], where the empty text is as good as missing.
    ///
    /// # Errors
    /// An expression fails.
    pub fn render_full<'t>(
        &'t self,
        scope: &Scope,
        escape: fn(&str) -> String,
    ) -> Result<Result<String, &'t str>, EvaluationError> {
        self.write(scope, escape, str::is_empty)
    }

    fn write<'t>(
        &'t self,
        scope: &Scope,
        escape: fn(&str) -> String,
        says_nothing: fn(&str) -> bool,
    ) -> Result<Result<String, &'t str>, EvaluationError> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Expression(expression, source) => match expression.evaluate(scope)? {
                    Json::Null => return Ok(Err(source)),
                    Json::String(value) if says_nothing(&value) => return Ok(Err(source)),
                    Json::String(value) => text.push_str(&escape(&value)),
                    other => text.push_str(&escape(&other.to_string())),
                },
            }
        }
        Ok(Ok(text))
    }

    /// What its expressions read, as [`Expression::paths`].
    #[must_use]
    pub fn paths(&self) -> HashSet<String> {
        let expressions = self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Expression(expression, _) => Some(expression),
        });
        expressions.flat_map(Expression::paths).collect()
    }

    /// The text, where what is missing is left out.
    ///
    /// # Errors
    /// An expression fails.
    pub fn fill(&self, scope: &Scope) -> Result<String, EvaluationError> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Expression(expression, _) => match expression.evaluate(scope)? {
                    Json::Null => {}
                    Json::String(value) => text.push_str(&value),
                    other => text.push_str(&other.to_string()),
                },
            }
        }
        Ok(text)
    }

    /// What stands behind its last expression.
    #[must_use]
    pub fn tail(&self) -> &str {
        match self.0.last() {
            Some(Part::Literal(literal)) => literal,
            _ => "",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::LazyLock;

    use serde_json::json;

    use super::*;

    static LANGUAGE: LazyLock<Language> = LazyLock::new(|| {
        Language::with(&[
            ("twice", |value, _| value.as_i64().map(|n| json!(n * 2)).ok_or("it is no number")),
            ("first_of", |value, more| Ok(if value.is_null() { more[0].clone() } else { value.clone() })),
        ])
    });

    fn scope() -> Scope {
        let fields = json!({"traits": {"n": 4, "plan": null}, "empty": "", "settings": "theirs"});
        Scope::new(fields.as_object().unwrap(), &[("settings", &json!({"region": "eu west"}))])
    }

    #[test]
    fn expressions_have_values_of_json() {
        let value = |source: &str| LANGUAGE.compile(source).unwrap().evaluate(&scope());
        for (source, expected) in [
            ("traits.n | twice", json!(8)),
            ("traits.plan or 'free'", json!("free")),
            ("traits.gone | first_of('x')", json!("x")),
            ("traits.gone.deeper", json!(null)),
            ("traits.plan ~ '/' ~ traits.gone ~ traits.n", json!("/4")),
            ("traits.plan is none and traits.gone is none and traits.n is not none", json!(true)),
            ("traits", json!({"n": 4, "plan": null})),
            ("{'a': [traits.n, settings.region]}", json!({"a": [4, "eu west"]})),
        ] {
            assert_eq!(value(source).unwrap(), expected, "{source}");
        }
        assert_eq!(value("settings.region | twice").unwrap_err().to_string(), "it is no number");
        let told = value("settings.region - 1").unwrap_err().to_string();
        assert!(!told.contains("eu west"), "{told}");
        assert!(!LANGUAGE.compile("settings.region - 1").unwrap().holds(&scope()));
    }

    #[test]
    fn a_template_is_text_with_escaped_values() {
        let render = |source: &str| {
            let template = LANGUAGE.template(source).unwrap();
            template.render(&scope(), |text| text.replace(' ', "%20")).unwrap().ok()
        };
        assert_eq!(render("a b/{{ settings.region }}/{{traits.n}}"), Some("a b/eu%20west/4".to_owned()));
        assert_eq!(render("x{{ traits.plan }}"), None, "a value is missing");
        assert_eq!(render("plain"), Some("plain".to_owned()));
        let full = LANGUAGE.template("{{ traits.n }}/{{empty }}").unwrap();
        assert_eq!(full.render_full(&scope(), str::to_owned).unwrap(), Err("empty"));
        assert_eq!(full.paths(), ["traits.n", "empty"].map(str::to_owned).into());
        let error = LANGUAGE.template("ab{{ 1 + }}").unwrap_err();
        assert!(error.at.is_some_and(|at| at > 3), "{error:?}");
        assert_eq!(LANGUAGE.template("ab{{ x").unwrap_err().at, Some(2));
    }
}
