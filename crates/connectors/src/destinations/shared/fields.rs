//! Fields that move from an event into a request: tables of (target, paths), read alike by all mappings.

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Value};

/// Where a value goes, and the paths it may come from: the first that says something counts.
pub(crate) type Line = (&'static str, &'static [&'static str]);

/// Where a person's id stands.
pub(crate) const USER_ID: &[&str] =
    &["userId", "traits.userId", "traits.id", "context.traits.userId", "context.traits.id"];

/// Where an e-mail address stands.
pub(crate) const EMAIL: &[&str] = &["traits.email", "context.traits.email", "properties.email"];

/// Where a phone number stands.
pub(crate) const PHONE: &[&str] = &["traits.phone", "context.traits.phone", "properties.phone"];

/// The first of the paths that says something: `null` and the empty text say nothing.
pub(crate) fn pick<'d>(document: &'d Document, paths: &[&str]) -> Option<&'d Value> {
    paths.iter().find_map(|path| document.get(path).filter(|value| says_something(value)))
}

/// [`pick`] as an id or name: a text, or a number written as one.
pub(crate) fn pick_text(document: &Document, paths: &[&str]) -> Option<String> {
    paths.iter().find_map(|path| document.get(path).filter(|value| says_something(value)).and_then(text))
}

/// Writes each line of the table that finds a value.
pub(crate) fn fill(target: &mut Map<String, Value>, document: &Document, table: &[Line]) {
    for (name, paths) in table {
        if let Some(value) = pick(document, paths) {
            target.insert((*name).to_owned(), value.clone());
        }
    }
}

/// Sets a field that has a value.
pub(crate) fn set(target: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        target.insert(name.to_owned(), value.into());
    }
}

/// A text as it stands, a number as its digits; nothing else names a thing.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Not `null` and not the empty text.
pub(crate) fn says_something(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

/// The value at a dotted path below an object, `null` among them.
pub(crate) fn at<'v>(object: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    let mut names = path.split('.');
    let mut value = object.get(names.next()?)?;
    for name in names {
        value = value.as_object()?.get(name)?;
    }
    Some(value)
}

/// Takes the value at a dotted path out of an object.
pub(crate) fn take(object: &mut Map<String, Value>, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => object.remove(path),
        Some((name, rest)) => take(object.get_mut(name)?.as_object_mut()?, rest),
    }
}

/// The object at a path; empty where there is none.
pub(crate) fn object(document: &Document, path: &str) -> Map<String, Value> {
    document.get(path).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// What is known about the person: `context.traits`, and over them `traits`.
pub(crate) fn traits(document: &Document) -> Map<String, Value> {
    let mut traits = object(document, "context.traits");
    traits.extend(object(document, "traits"));
    traits
}

/// The event says something under a destination's name in `integrations`, however that is capitalised.
pub(crate) fn integration<'d>(document: &'d Document, name: &str) -> Option<&'d Map<String, Value>> {
    let options = document.get("integrations")?.as_object()?;
    options.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?.1.as_object()
}

/// The item lacks something that the request cannot do without.
pub(crate) fn missing(what: &str) -> Reason {
    Reason::new("missing_field", format!("{what} is missing: send it, or leave such events out by `when`"))
}

/// The destination has no request for events of this type.
pub(crate) fn unsupported(event_type: &str) -> Reason {
    let known = ["identify", "track", "page", "screen", "group", "alias"];
    // Whatever else stands there is the client's text, and may be anything.
    let named = known.iter().find(|known| **known == event_type).copied().unwrap_or("of this type");
    Reason::new("unsupported_type", format!("an event {named} means nothing there: leave it out by `when`"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(fields: Value) -> Document {
        Document::complete(fields.as_object().unwrap().clone())
    }

    #[test]
    fn an_empty_text_says_nothing_and_false_does() {
        let document = document(json!({"a": "", "b": null, "c": {"d": false}, "n": 7}));
        assert_eq!(pick(&document, &["a", "b", "c.d"]), Some(&json!(false)));
        assert_eq!(pick_text(&document, &["a", "c.d", "n"]).as_deref(), Some("7"));
    }

    #[test]
    fn a_path_reads_and_takes_below_objects_alone() {
        let mut object = json!({"a": {"b": null, "c": 1}, "d": 2}).as_object().unwrap().clone();
        assert_eq!(at(&object, "a.b"), Some(&Value::Null));
        assert_eq!(take(&mut object, "a.c"), Some(json!(1)));
        assert_eq!(take(&mut object, "d.e"), None);
        assert_eq!(Value::Object(object), json!({"a": {"b": null}, "d": 2}));
    }

    #[test]
    fn traits_of_the_event_win_over_those_of_its_context() {
        let document = document(
            json!({"traits": {"a": 1}, "context": {"traits": {"a": 2, "b": 3}}, "integrations": {"All": true, "Braze": {"appId": "x"}}}),
        );
        assert_eq!(Value::Object(traits(&document)), json!({"a": 1, "b": 3}));
        assert_eq!(integration(&document, "BRAZE").unwrap()["appId"], "x");
        assert_eq!(integration(&document, "all"), None);
    }

    #[test]
    fn a_type_that_nobody_knows_is_not_quoted() {
        assert!(unsupported("alias").message.contains("alias"));
        assert!(!unsupported("4111 1111").message.contains("4111"));
    }
}
