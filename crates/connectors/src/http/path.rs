//! Paths into JSON: names and numbers joined by dots; [`WHOLE`] is the value itself.

use serde_json::{Map, Value};

/// The path of the whole value.
pub(crate) const WHOLE: &str = ".";

/// The value at a path.
pub(crate) fn get<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if path == WHOLE {
        return Some(value);
    }
    let mut found = value;
    for name in path.split('.') {
        found = match found {
            Value::Object(fields) => fields.get(name)?,
            Value::Array(elements) => elements.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(found)
}

/// Takes the value at a path out. The whole leaves `null`.
pub(crate) fn take(value: &mut Value, path: &str) -> Option<Value> {
    if path == WHOLE {
        return Some(value.take());
    }
    let (parents, last) = path.rsplit_once('.').unwrap_or((WHOLE, path));
    let mut parent = value;
    if parents != WHOLE {
        for name in parents.split('.') {
            parent = parent.as_object_mut()?.get_mut(name)?;
        }
    }
    parent.as_object_mut()?.remove(last)
}

/// Puts a value at a path; what is no object on the way becomes one.
pub(crate) fn put(value: &mut Value, path: &str, new: Value) {
    if path == WHOLE {
        *value = new;
        return;
    }
    let mut at = value;
    for name in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(fields) = at else { return };
        at = fields.entry(name).or_insert(Value::Null);
    }
    *at = new;
}
