//! Objects in objects as one flat object, for destinations whose properties are flat.

use serde_json::{Map, Value};

/// Joins the names of nested objects with dots: `{"a": {"b": 1}}` becomes `{"a.b": 1}`. Lists stay whole;
/// an empty object is left out.
pub(crate) fn flatten(object: Map<String, Value>) -> Map<String, Value> {
    let mut flat = Map::new();
    below("", object, &How { separator: ".", lists: false }, &mut flat);
    flat
}

/// [`flatten`] with another separator, and lists by the numbers of their elements, from 0:
/// `{"a": [{"b": 1}]}` becomes `{"a_0_b": 1}`.
pub(crate) fn flatten_lists(object: Map<String, Value>, separator: &str) -> Map<String, Value> {
    let mut flat = Map::new();
    below("", object, &How { separator, lists: true }, &mut flat);
    flat
}

struct How<'s> {
    separator: &'s str,
    lists: bool,
}

fn below(
    prefix: &str,
    fields: impl IntoIterator<Item = (String, Value)>,
    how: &How<'_>,
    flat: &mut Map<String, Value>,
) {
    for (name, value) in fields {
        let path = if prefix.is_empty() { name } else { format!("{prefix}{}{name}", how.separator) };
        match value {
            Value::Object(inner) => below(&path, inner, how, flat),
            Value::Array(elements) if how.lists => {
                let numbered =
                    elements.into_iter().enumerate().map(|(number, value)| (number.to_string(), value));
                below(&path, numbered.collect::<Vec<_>>(), how, flat);
            }
            value => {
                flat.insert(path, value);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_join_and_lists_stay() {
        let nested = json!({"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": null, "g": {}});
        let flat = flatten(nested.as_object().unwrap().clone());
        assert_eq!(Value::Object(flat), json!({"a.b.c": 1, "a.d": [{"e": 2}], "f": null}));
    }

    #[test]
    fn lists_are_numbered_where_they_cannot_stay() {
        let nested = json!({"a": {"b": [{"c": 1}, "x"], "d": []}, "e": 2});
        let flat = flatten_lists(nested.as_object().unwrap().clone(), "_");
        assert_eq!(Value::Object(flat), json!({"a_b_0_c": 1, "a_b_1": "x", "e": 2}));
    }
}
