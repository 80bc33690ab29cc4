//! Objects in objects as one flat object, for destinations whose properties are flat.

use serde_json::{Map, Value};

/// Joins the names of nested objects with dots: `{"a": {"b": 1}}` becomes `{"a.b": 1}`. Lists stay whole;
/// an empty object is left out.
pub(crate) fn flatten(object: Map<String, Value>) -> Map<String, Value> {
    let mut flat = Map::new();
    below("", object, &mut flat);
    flat
}

fn below(prefix: &str, object: Map<String, Value>, flat: &mut Map<String, Value>) {
    for (name, value) in object {
        let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(inner) => below(&path, inner, flat),
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
}
