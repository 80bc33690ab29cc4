//! JSON as XML, for APIs that want it.

use std::fmt::Write as _;

use serde_json::Value;

/// A document of an object with one field, the root element. Fields become elements, lists elements of the
/// same name one after the other.
///
/// # Errors
/// It is no such object, or a name is none of XML's.
pub(crate) fn document(value: &Value) -> Result<String, &'static str> {
    const FORM: &str = "XML is made of an object with one field, the root element";
    let mut fields = value.as_object().ok_or(FORM)?.iter();
    let (Some((root, content)), None) = (fields.next(), fields.next()) else { return Err(FORM) };
    let mut text = String::from(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
    element(&mut text, root, content)?;
    Ok(text)
}

fn element(text: &mut String, name: &str, value: &Value) -> Result<(), &'static str> {
    if !is_name(name) {
        return Err("a field's name cannot be the name of an XML element");
    }
    if let Value::Array(elements) = value {
        return elements.iter().try_for_each(|one| element(text, name, one));
    }
    let _written = write!(text, "<{name}>");
    match value {
        Value::Object(fields) => {
            for (inner, value) in fields {
                element(text, inner, value)?;
            }
        }
        Value::String(content) => escape(text, content),
        Value::Null => {}
        other => text.push_str(&other.to_string()),
    }
    let _written = write!(text, "</{name}>");
    Ok(())
}

fn is_name(name: &str) -> bool {
    let begins = |c: char| c.is_alphabetic() || c == '_';
    name.starts_with(begins) && name.chars().all(|c| begins(c) || c.is_numeric() || "-.".contains(c))
}

/// Control characters that XML 1.0 does not have are left out.
fn escape(text: &mut String, content: &str) {
    for c in content.chars() {
        match c {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '\t' | '\n' | '\r' => text.push(c),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_become_elements_and_text_is_escaped() {
        let value = json!({"order": {"id": 7, "line": [{"n": "a<b"}, {"n": "c&d"}], "none": null}});
        let expected = concat!(
            r#"<?xml version="1.0" encoding="UTF-8"?>"#,
            "<order><id>7</id><line><n>a&lt;b</n></line><line><n>c&amp;d</n></line><none></none></order>"
        );
        assert_eq!(document(&value).unwrap(), expected);
        assert!(document(&json!({"a": 1, "b": 2})).is_err());
        assert!(document(&json!({"a b><c": 1})).is_err());
    }
}
